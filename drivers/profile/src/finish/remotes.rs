//! The list of servers, each with the options of its `<connection>` block and its key for the control channel.

use std::sync::Arc;

use oxivpn_proto::wrap::WrapConfig;
use oxivpn_proto::wrap::static_key::{HmacDigest, KeyFileError, StaticKey};
use oxivpn_proto::wrap::tls_crypt_v2::{ClientKeyV2, ServerKeyV2};

use super::role::Kind;
use super::text;
use crate::draft::{Connection, Draft, RemoteLine, Source, WrapDraft};
use crate::error::ProfileError;
use crate::load::Files;
use crate::profile::{Bind, Protocol, Remote};

const DEFAULT_PORT: u16 = 1194;

pub(super) fn resolve(draft: &mut Draft, files: &dyn Files, kind: Kind) -> Result<Vec<Remote>, ProfileError> {
    let global = draft.wrap.clone();
    let shared = wrap(draft, files, &global)?;
    let connections = connections(draft)?;
    let mut remotes = Vec::new();
    for (connection, line) in connections {
        let own =
            if connection.wrap.is_empty() { shared.clone() } else { wrap(draft, files, &connection.wrap)? };
        let remote = remote(kind, &connection, &line, own)?;
        if draft.protocol_force.is_none_or(|forced| forced == remote.protocol) {
            remotes.push(remote);
        }
    }
    if remotes.is_empty() {
        return Err(ProfileError::whole(
            "proto-force leaves no remote",
            "Remove `proto-force`, or name a server of that protocol with `remote HOST PORT PROTO`",
        ));
    }
    let stream = |remote: &Remote| remote.protocol == Protocol::Tcp;
    if draft.connection.exit_notify.is_some() && remotes.iter().all(stream) {
        draft
            .note("explicit-exit-notify is ignored for TCP, where the server sees the end of the connection");
    }
    Ok(remotes)
}

/// Blocks if there are any, else the remotes with the settings outside of blocks.
fn connections(draft: &mut Draft) -> Result<Vec<(Connection, RemoteLine)>, ProfileError> {
    let blocks = std::mem::take(&mut draft.blocks);
    if !blocks.is_empty() {
        if let Some(line) = draft.remotes.first() {
            let origin = line.origin.clone();
            draft.warn(
                &origin,
                "`remote` outside of <connection> blocks is ignored as there are blocks; give it a block of its own",
            );
        }
        return Ok(blocks
            .into_iter()
            .filter_map(|block| block.remote.clone().map(|line| (block, line)))
            .collect());
    }
    if draft.remotes.is_empty() {
        return Err(ProfileError::whole("The profile names no server", "Add a line `remote HOST PORT`"));
    }
    let remotes = draft.remotes.clone();
    Ok(remotes.into_iter().map(|line| (draft.connection.clone(), line)).collect())
}

fn remote(
    kind: Kind,
    connection: &Connection,
    line: &RemoteLine,
    wrap: WrapConfig,
) -> Result<Remote, ProfileError> {
    let (protocol, family) =
        line.protocol.map_or((connection.protocol, connection.family), |(protocol, family)| {
            // A protocol word that leaves the family open doesn't widen `proto udp4`.
            let open = family == crate::profile::Family::Any;
            (protocol, if open { connection.family } else { family })
        });
    Ok(Remote {
        host: line.host.clone(),
        port: line.port.or(connection.remote_port).unwrap_or(DEFAULT_PORT),
        protocol,
        family,
        bind: bind(connection, kind, protocol)?,
        poll_timeout: connection.poll_timeout,
        retry_wait: connection.retry_wait,
        retry_wait_max: connection.retry_wait_max,
        wrap,
        tun_mtu: connection.tun_mtu,
        tun_mtu_max: connection.tun_mtu_max.max(connection.tun_mtu),
        mssfix: connection.mssfix,
        max_packet_size: connection.max_packet_size,
        exit_notify: connection.exit_notify.filter(|_| protocol == Protocol::Udp),
        float: connection.float,
        origin: line.origin.clone(),
    })
}

/// A client that pulls, or that connects by TCP, binds only if it is told to (`openvpn: options.c`,
/// `options_postprocess_mutate_ce`).
fn bind(connection: &Connection, kind: Kind, protocol: Protocol) -> Result<Option<Bind>, ProfileError> {
    if connection.nobind {
        let clash = match connection {
            Connection { bind: true, .. } => Some("--bind and --nobind can't be used together"),
            Connection { lport: true, .. } => {
                Some("--lport and --nobind don't make sense when used together")
            }
            Connection { local: Some(Some(_)), .. } => {
                Some("--local and --nobind don't make sense when used together")
            }
            _ => None,
        };
        return match clash {
            Some(text) => Err(ProfileError::whole(text, "Remove one of the two lines")),
            None => Ok(None),
        };
    }
    let always = kind != Kind::Client && protocol == Protocol::Udp;
    if !always && !connection.bind && !connection.lport && connection.local.is_none() {
        return Ok(None);
    }
    Ok(Some(Bind {
        address: connection.local.flatten(),
        port: connection.local_port.unwrap_or(DEFAULT_PORT),
        ipv6_only: connection.ipv6_only,
    }))
}

pub(super) fn wrap(
    draft: &mut Draft,
    files: &dyn Files,
    wrap: &WrapDraft,
) -> Result<WrapConfig, ProfileError> {
    match (&wrap.auth, &wrap.crypt, &wrap.crypt_v2) {
        (None, None, None) => Ok(WrapConfig::None),
        (Some(source), None, None) => {
            let digest = match &draft.ciphers.auth {
                None => HmacDigest::default(),
                Some((name, origin)) => HmacDigest::from_name(name).ok_or_else(|| {
                    ProfileError::at(origin, format!("auth {name} cannot be used with tls-auth"))
                        .cure("Write SHA1, SHA224, SHA256, SHA384, or SHA512 on both sides, or use tls-crypt")
                })?,
            };
            let text = text(draft, files, "tls-auth", source, true)?;
            let key = StaticKey::from_text(&text).map_err(|error| bad_key("tls-auth", source, &error))?;
            Ok(WrapConfig::TlsAuth { key: Arc::new(key), direction: wrap.direction, digest })
        }
        (None, Some(source), None) => {
            let text = text(draft, files, "tls-crypt", source, true)?;
            let key = StaticKey::from_text(&text).map_err(|error| bad_key("tls-crypt", source, &error))?;
            Ok(WrapConfig::TlsCrypt { key: Arc::new(key) })
        }
        (None, None, Some(source)) => {
            let text = text(draft, files, "tls-crypt-v2", source, true)?;
            let key =
                ClientKeyV2::from_pem(&text).map_err(|error| bad_key("tls-crypt-v2", source, &error))?;
            Ok(WrapConfig::TlsCryptV2 { key: Arc::new(key) })
        }
        (auth, crypt, crypt_v2) => {
            let last = crypt_v2.as_ref().or(crypt.as_ref()).or(auth.as_ref());
            let text = "--tls-crypt-v2, --tls-crypt, and --tls-auth are mutually exclusive in client mode"
                .to_string();
            let error = match last {
                Some(source) => ProfileError::at(&source.origin, text),
                None => ProfileError::whole(text, ""),
            };
            Err(error.cure("Keep the one that the server has"))
        }
    }
}

/// The server's key of tls-crypt-v2.
pub(crate) fn server_key(
    draft: &mut Draft,
    files: &dyn Files,
    source: &Source,
) -> Result<ServerKeyV2, ProfileError> {
    let text = text(draft, files, "tls-crypt-v2", source, true)?;
    ServerKeyV2::from_pem(&text).map_err(|error| {
        let client = text.contains("-----BEGIN OpenVPN tls-crypt-v2 client key-----");
        let text =
            if client { "this is the key of a client, not of a server".into() } else { error.to_string() };
        ProfileError::at(&source.origin, format!("tls-crypt-v2: {text}"))
            .cure("Make the server's key with `--genkey tls-crypt-v2-server FILE` and name that file")
    })
}

fn bad_key(option: &str, source: &Source, error: &KeyFileError) -> ProfileError {
    ProfileError::at(&source.origin, format!("{option}: {error}"))
        .cure(format!("Copy the {option} key of the server's operator again, unchanged"))
}
