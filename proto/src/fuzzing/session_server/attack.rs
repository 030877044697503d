//! What somebody on the way, or with the key of the control channel's protection, can do.

use super::super::net::Net;
use super::super::script::{Script, some_path};
use crate::clock::Instant;
use crate::config::ClientConfig;
use crate::config::params::ReplayWindow;
use crate::keys::data_key::TlsRole;
use crate::path::Path;
use crate::wire::ids::SessionId;
use crate::wire::opcode::Opcode;
use crate::wrap::replay::ReplayId;
use crate::wrap::{Wrap, WrapConfig};

/// When a packet arrives, with its sequence; the client's path, whether to the server, and the packet.
type Flying = ((Instant, u64), (Path, bool, Vec<u8>));

/// Takes a packet in flight off the link.
fn pick(net: &mut Net, n: u8) -> Option<Flying> {
    let count = net.link.len();
    let at = *net.link.keys().nth(usize::from(n).checked_rem(count)?)?;
    net.link.remove_entry(&at)
}

/// Does something to a packet in flight.
pub(super) fn tamper(net: &mut Net, script: &mut Script<'_>) {
    let (kind, n) = (script.byte(), script.byte());
    let Some((at, (path, to_server, mut packet))) = pick(net, n) else { return };
    match kind % 6 {
        0 => {}
        1 => net.deliver(path, to_server, &mut packet),
        2 => {
            net.deliver(path, to_server, &mut packet.clone());
            net.link.insert(at, (path, to_server, packet));
        }
        3 => {
            let place = usize::from(script.word()) % packet.len();
            packet[place] ^= script.byte();
            net.deliver(path, to_server, &mut packet);
        }
        4 => {
            let len = usize::from(script.word()) % (packet.len() + 1);
            net.deliver(path, to_server, &mut packet[..len]);
        }
        // It comes from somewhere else.
        _ => {
            let from = somewhere(net, script);
            net.deliver(from, true, &mut packet);
        }
    }
}

/// A client's path, or another one.
fn somewhere(net: &Net, script: &mut Script<'_>) -> Path {
    let n = script.byte();
    match net.clients.get(&(n % 8)) {
        Some(client) if n < 128 => client.path,
        _ => some_path(script),
    }
}

/// Changes the inside of a client's packet in flight, with the key of the control channel's protection.
pub(super) fn forge(net: &mut Net, config: &ClientConfig, script: &mut Script<'_>) {
    let (kind, n) = (script.byte(), script.byte());
    let Some((at, (path, to_server, packet))) = pick(net, n) else { return };
    let wrap = &config.channel.wrap;
    let forged = if to_server { reseal(net.now, wrap, &packet, kind, script) } else { None };
    match forged {
        Some(mut forged) if kind & 0x80 == 0 => net.deliver(path, true, &mut forged),
        Some(forged) => drop(net.link.insert(at, (path, true, forged))),
        None => drop(net.link.insert(at, (path, to_server, packet))),
    }
}

/// The same packet id and another body.
fn reseal(
    now: Instant,
    config: &WrapConfig,
    packet: &[u8],
    kind: u8,
    script: &mut Script<'_>,
) -> Option<Vec<u8>> {
    let (opcode, _) = Opcode::parse(*packet.first()?).ok()?;
    let own = match config {
        WrapConfig::TlsCryptV2 { key } if opcode.has_wkc() => key.wrapped().len(),
        _ => 0,
    };
    let (sealed, client_key) = packet.split_at_checked(packet.len().checked_sub(own)?)?;
    let at = match config {
        WrapConfig::TlsAuth { .. } => 9 + 64,
        _ => 9,
    };
    let id = sealed.get(at..at + 8).and_then(|id| Some(ReplayId::from_bytes(id.try_into().ok()?)));
    let id = id.unwrap_or(ReplayId { time: 1, id: 1 });
    let mut plain = sealed.to_vec();
    let mut server = Wrap::new(config, TlsRole::Server, 1, ReplayWindow::DEFAULT);
    let verified = server.open(now, &mut plain).ok()?;
    let (mut header, session, mut body) = (verified.header(), verified.session(), verified.body().to_vec());
    match kind % 4 {
        0 => header = script.byte(),
        1 => body = script.block().to_vec(),
        2 => body.truncate(usize::from(script.word()) % (body.len() + 1)),
        _ => {
            let place = usize::from(script.word()).checked_rem(body.len())?;
            body[place] ^= script.byte();
        }
    }
    let mut out = Vec::new();
    let client = Wrap::new(config, TlsRole::Client, 1, ReplayWindow::DEFAULT);
    client.seal_as(id, header, session, &body, &mut out);
    out.extend_from_slice(client_key);
    Some(out)
}

/// Any bytes from anywhere.
pub(super) fn inject(net: &mut Net, script: &mut Script<'_>) {
    let from = somewhere(net, script);
    let before = net.server.inner.len();
    net.deliver(from, true, &mut script.block().to_vec());
    assert_eq!(net.server.inner.len(), before, "a datagram that nobody sealed was accepted");
}

/// A well-formed packet of somebody with the key, as a client that may be known.
pub(super) fn seal(net: &mut Net, config: &ClientConfig, script: &mut Script<'_>) {
    let from = somewhere(net, script);
    let (header, who) = (script.byte(), script.byte());
    let known = net.link.values().find(|(path, to_server, _)| *to_server && *path == from);
    let session = known.and_then(|(.., packet)| SessionId::new(packet.get(1..9)?.try_into().ok()?));
    let stranger = SessionId::new([who | 1; 8]);
    let Some(session) = session.filter(|_| who < 128).or(stranger) else { return };
    let mut wrap = Wrap::new(&config.channel.wrap, TlsRole::Client, 1_700_000_000, ReplayWindow::DEFAULT);
    let mut packet = Vec::new();
    wrap.seal(1_700_000_000 + u32::from(who & 3), header, session, script.block(), &mut packet);
    net.deliver(from, true, &mut packet);
}
