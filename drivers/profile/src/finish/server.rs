//! What only a server has (`openvpn: options.c`, `options_postprocess_verify_ce`).

use core::time::Duration;
use std::sync::Arc;

use oxivpn_proto::config::server::{LoginPolicy, TlsCryptV2};
use oxivpn_proto::keys::token;

use super::role::Kind;
use super::{expand, listen, remotes, scripts, text};
use crate::draft::server::{At, TokenLine};
use crate::draft::{Draft, Source};
use crate::error::ProfileError;
use crate::load::{Files, reason};
use crate::profile::Protocol;
use crate::server::{ClientCert, Listen, ServerOptions, TokenOptions};
use crate::warn::Origin;

pub(super) fn options(draft: &mut Draft, files: &dyn Files) -> Result<ServerOptions, ProfileError> {
    let addresses = expand::addresses(draft)?;
    expand::keepalive(draft, Kind::Server)?;
    let listen = listen::sockets(draft, Kind::Server)?;
    check(draft, &listen)?;
    let login = login(draft)?;
    let (wrap, tls_crypt_v2) = wrap(draft, files)?;
    let token = token(draft, files)?;
    let client_config_dir = client_config_dir(draft, files)?;
    let tmp_dir = tmp_dir(draft, files)?;
    let udp = listen.iter().any(|listen| listen.protocol == Protocol::Udp);
    let server = &draft.server;
    Ok(ServerOptions {
        listen,
        multihome: server.multihome,
        wrap,
        tls_crypt_v2,
        tls_crypt_v2_verify: scripts::words(draft, "tls-crypt-v2-verify")?,
        max_packet_size: draft.connection.max_packet_size,
        tun_mtu: draft.connection.tun_mtu,
        mssfix: draft.connection.mssfix,
        topology: addresses.topology,
        pool: addresses.pool,
        pool6: addresses.pool6,
        pool_persist: server.persist.as_ref().map(|((file, every), _)| (draft.path(file), *every)),
        push_constraint: addresses.constraint,
        push: server.push.clone(),
        client_config_dir,
        ccd_exclusive: server.ccd_exclusive.is_some(),
        client_to_client: server.client_to_client,
        duplicate_cn: server.duplicate_cn,
        max_clients: server.max_clients,
        max_routes_per_client: server.max_routes,
        connect_freq: server.connect_freq.as_ref().map(|(rate, _)| *rate),
        connect_freq_initial: Some(server.connect_freq_initial),
        login,
        username_as_common_name: server.username_as_common_name.is_some(),
        client_cert: client_cert(draft),
        token,
        auth_verify: scripts::words(draft, "auth-user-pass-verify")?.map(|words| (words, server.verify_via)),
        client_connect: scripts::words(draft, "client-connect")?,
        client_disconnect: scripts::words(draft, "client-disconnect")?,
        client_crresponse: scripts::words(draft, "client-crresponse")?,
        learn_address: scripts::words(draft, "learn-address")?,
        tmp_dir,
        require_tls_ekm: server.require_tls_ekm,
        tcp_queue_limit: server.queue_limit,
        exit_notify: match draft.connection.exit_notify {
            None => 0,
            Some(_) if !udp => 0,
            Some(2) => 2,
            Some(_) => 1,
        },
        route_gateway: draft.host.route_gateway,
    })
}

pub(super) fn client_cert(draft: &Draft) -> ClientCert {
    draft.server.client_cert.as_ref().map_or(ClientCert::Require, |(wanted, _)| *wanted)
}

/// What contradicts itself.
fn check(draft: &mut Draft, listen: &[Listen]) -> Result<(), ProfileError> {
    let at = |origin: &Origin, text: &str, cure: &str| Err(ProfileError::at(origin, text.into()).cure(cure));
    let server = &draft.server;
    if let (Some((_, origin)), None, None, None, None) =
        (&server.persist, &server.server, &server.server6, &server.pool, &server.pool6)
    {
        return at(
            origin,
            "--ifconfig-pool-persist must be used with --ifconfig-pool or --ifconfig-ipv6-pool",
            "Add `server NETWORK NETMASK`, or remove the line",
        );
    }
    if let (Some(origin), None) = (&server.ccd_exclusive, &server.client_config_dir) {
        let text = "--ccd-exclusive must be used with --client-config-dir";
        return at(origin, text, "Add `client-config-dir DIRECTORY`, or remove the line");
    }
    if let (Some((_, origin)), true) =
        (&server.connect_freq, listen.iter().all(|listen| listen.protocol == Protocol::Tcp))
    {
        return at(
            origin,
            "--connect-freq only works with --mode server --proto udp.  Try --max-clients instead",
            "Remove the line",
        );
    }
    if !draft.policy.filters.is_empty() {
        draft.note("--pull-filter ignored for --mode server; remove the line");
    }
    if draft.connection.exit_notify.is_some() && listen.iter().all(|listen| listen.protocol == Protocol::Tcp)
    {
        draft.note("explicit-exit-notify is ignored for TCP, where clients see the end of the connection");
    }
    Ok(())
}

/// Whether and how clients log in.
fn login(draft: &mut Draft) -> Result<LoginPolicy, ProfileError> {
    let asks =
        draft.scripts.commands.contains_key("auth-user-pass-verify") || draft.management.options.client_auth;
    let without_cert = draft.server.client_cert.clone().filter(|(wanted, _)| *wanted != ClientCert::Require);
    if !asks {
        let needing = [
            ("verify-client-cert none|optional", without_cert.map(|(_, origin)| origin)),
            ("username-as-common-name", draft.server.username_as_common_name.clone()),
            ("auth-user-pass-optional", draft.server.login_optional.clone()),
        ];
        for (name, origin) in needing {
            if let Some(origin) = origin {
                let text = format!(
                    "--{name} must be used with --management-client-auth, an --auth-user-pass-verify script, or plugin"
                );
                return Err(ProfileError::at(&origin, text).cure(
                    "Add `auth-user-pass-verify \"COMMAND\" via-file` or `management-client-auth`, or remove the line",
                ));
            }
        }
        return Ok(LoginPolicy::None);
    }
    if let Some((_, origin)) = without_cert {
        draft.warn(
            &origin,
            "POTENTIALLY DANGEROUS OPTION --verify-client-cert none|optional may accept clients which do not present a \
             certificate",
        );
    }
    Ok(if draft.server.login_optional.is_some() { LoginPolicy::Optional } else { LoginPolicy::Required })
}

type Wrap = (oxivpn_proto::wrap::WrapConfig, Option<TlsCryptV2>);

pub(super) fn wrap(draft: &mut Draft, files: &dyn Files) -> Result<Wrap, ProfileError> {
    let mut global = draft.wrap.clone();
    let source = global.crypt_v2.take();
    let wrap = remotes::wrap(draft, files, &global)?;
    let Some(source) = source else { return Ok((wrap, None)) };
    let key = Arc::new(remotes::server_key(draft, files, &source)?);
    let (force_cookie, max_age) = (draft.server.force_cookie, draft.server.max_age);
    Ok((wrap, Some(TlsCryptV2 { key, force_cookie, max_age })))
}

fn token(draft: &mut Draft, files: &dyn Files) -> Result<Option<TokenOptions>, ProfileError> {
    let source = draft.server.token_secret.clone();
    let Some(line) = draft.server.token.clone() else {
        if let Some(source) = source {
            draft.warn(
                &source.origin,
                "auth-gen-token-secret is ignored without `auth-gen-token`; add that or remove the line",
            );
        }
        return Ok(None);
    };
    let renewal = renewal(draft, &line)?;
    let secret = match source {
        None => None,
        Some(source) => Some(token_secret(draft, files, &source)?),
    };
    let (line, _) = line;
    let lifetime = (!line.lifetime.is_zero()).then_some(line.lifetime);
    Ok(Some(TokenOptions { lifetime, renewal, external: line.external, secret }))
}

fn renewal(draft: &Draft, (line, origin): &At<TokenLine>) -> Result<Duration, ProfileError> {
    let timing = &draft.timing;
    if timing.reneg.is_zero() {
        let text = "--auth-gen-token needs a non-infinite --renegotiate_seconds setting".into();
        return Err(ProfileError::at(origin, text).cure("Remove `reneg-sec 0`"));
    }
    let least = timing.hand_window * 2;
    if line.renewal.is_some_and(|renewal| renewal < least) {
        let text = format!(
            "--auth-gen-token renewal time needs to be at least two times --hand-window ({})",
            timing.hand_window.as_secs()
        );
        let cure = format!("Write {} or more as second word, or leave it out", least.as_secs());
        return Err(ProfileError::at(origin, text).cure(cure));
    }
    Ok(line.renewal.unwrap_or(timing.reneg))
}

fn token_secret(
    draft: &mut Draft,
    files: &dyn Files,
    source: &Source,
) -> Result<zeroize::Zeroizing<[u8; 32]>, ProfileError> {
    let text = text(draft, files, "auth-gen-token-secret", source, true)?;
    token::secret_from_pem(&text).map_err(|error| {
        ProfileError::at(&source.origin, format!("auth-gen-token-secret: {error}"))
            .cure("Make the file with `--genkey auth-token FILE`")
    })
}

fn client_config_dir(draft: &Draft, files: &dyn Files) -> Result<Option<std::path::PathBuf>, ProfileError> {
    let Some((name, origin)) = &draft.server.client_config_dir else { return Ok(None) };
    let (path, outside) = draft.path_inside(name);
    readable(files, &outside, "client-config-dir", origin)?;
    Ok(Some(path))
}

fn tmp_dir(draft: &Draft, files: &dyn Files) -> Result<std::path::PathBuf, ProfileError> {
    let Some((name, origin)) = &draft.server.tmp_dir else { return Ok(std::env::temp_dir()) };
    let (path, outside) = draft.path_inside(name);
    readable(files, &outside, "tmp-dir", origin)?;
    Ok(path)
}

fn readable(
    files: &dyn Files,
    path: &std::path::Path,
    option: &str,
    origin: &Origin,
) -> Result<(), ProfileError> {
    match files.list(path) {
        Ok(_) => Ok(()),
        Err(error) => {
            let (why, cure) = reason(&error);
            let text = format!("--{option} fails with '{}': {why}", path.display());
            Err(ProfileError::at(origin, text).cure(cure))
        }
    }
}
