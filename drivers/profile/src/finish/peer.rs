//! What only one end of a point-to-point tunnel has.

use oxivpn_proto::wrap::WrapConfig;

use super::role::Kind;
use super::{expand, listen, remotes};
use crate::draft::Draft;
use crate::draft::server::End;
use crate::error::ProfileError;
use crate::load::Files;
use crate::profile::{Protocol, Remote};
use crate::server::PeerOptions;

pub(super) fn options(
    draft: &mut Draft,
    files: &dyn Files,
    server: bool,
) -> Result<(PeerOptions, Vec<Remote>), ProfileError> {
    let kind = Kind::Peer(server);
    expand::keepalive(draft, kind)?;
    let named = !draft.remotes.is_empty() || !draft.blocks.is_empty();
    let mut listen = listen::sockets(draft, kind)?;
    let tcp_server = draft.server.protocol.as_ref().is_some_and(|(word, _)| word.end == End::Server);
    check(draft, server, named, tcp_server)?;
    let tls_crypt_v2 = if server { super::server::wrap(draft, files)?.1 } else { None };
    if tls_crypt_v2.is_some() {
        // What is left protects those who don't have such a key.
        draft.wrap.crypt_v2 = None;
    }
    let remotes = if named { remotes::resolve(draft, files, kind)? } else { Vec::new() };
    let wrap = match remotes.first() {
        Some(remote) => remote.wrap.clone(),
        None => {
            let global = draft.wrap.clone();
            remotes::wrap(draft, files, &global)?
        }
    };
    if draft.connection.nobind {
        listen.clear();
    }
    let udp = listen.iter().all(|listen| listen.protocol == Protocol::Udp);
    let options = PeerOptions {
        server,
        listen,
        wrap,
        tls_crypt_v2,
        tun_mtu: draft.connection.tun_mtu,
        mssfix: draft.connection.mssfix,
        max_packet_size: draft.connection.max_packet_size,
        exit_notify: draft.connection.exit_notify.filter(|_| udp),
        float: draft.connection.float,
    };
    debug_assert!(!matches!((&options.wrap, server), (WrapConfig::TlsCryptV2 { .. }, true)));
    Ok((options, remotes))
}

fn check(draft: &Draft, server: bool, named: bool, tcp_server: bool) -> Result<(), ProfileError> {
    if !named && draft.connection.nobind {
        let text = "--nobind doesn't make sense unless used with --remote";
        return Err(ProfileError::whole(text, "Remove `nobind`, or add `remote HOST PORT`"));
    }
    if !named && !server {
        return Err(ProfileError::whole("The profile names no server", "Add a line `remote HOST PORT`"));
    }
    let Some((word, origin)) = &draft.server.protocol else { return Ok(()) };
    if !named && word.protocol == Protocol::Tcp && !tcp_server {
        let text = "--remote MUST be used in TCP Client mode".into();
        return Err(ProfileError::at(origin, text)
            .cure("Add `remote HOST PORT`, or write `proto tcp-server` to wait for the other side"));
    }
    if tcp_server && draft.remotes.len() + draft.blocks.len() > 1 {
        let text = "TCP server mode allows at most one --remote address".into();
        return Err(ProfileError::at(origin, text).cure("Keep one `remote`, or none to let anybody try"));
    }
    Ok(())
}
