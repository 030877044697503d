//! Packets that nobody sent.

use oxivpn_proto::wire::ack::AckList;
use oxivpn_proto::wire::control::ControlBody;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::wire::ids::{KeyId, MessageId, SessionId};
use oxivpn_proto::wire::opcode::Opcode;

use crate::seed::Draws;

/// What looks like the start of something, behind message ids: a fatal TLS alert, and a ClientHello.
const STARTS: [&[u8]; 2] = [&[21, 3, 3, 0, 2, 2, 40], &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]];

/// Opcodes of resets. The first three are those that begin a session.
const RESETS: [Opcode; 5] = [
    Opcode::HardResetClientV2,
    Opcode::HardResetClientV3,
    Opcode::HardResetClientV2,
    Opcode::HardResetServerV2,
    Opcode::SoftResetV1,
];

fn random(draws: &mut Draws, least: u64, most: u64) -> Vec<u8> {
    let mut bytes = vec![0; draws.between(least, most) as usize];
    draws.fill(&mut bytes);
    bytes
}

/// The packet with up to four flipped bits, or without its end.
pub(super) fn spoil(draws: &mut Draws, cut: bool, bytes: &[u8]) -> Vec<u8> {
    let mut spoiled = bytes.to_vec();
    if cut {
        spoiled.truncate(draws.below(bytes.len() as u64) as usize);
        return spoiled;
    }
    for _ in 0..draws.between(1, 4) {
        // Half of the flips are in the headers, where they matter.
        let most = if draws.below(2) == 0 { 30.min(bytes.len()) } else { bytes.len() };
        let bit = draws.below(most as u64 * 8) as usize;
        if let Some(byte) = spoiled.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
    }
    spoiled
}

/// A reset with a random session id, in the form that an unprotected one has, or with random bytes behind it.
pub(super) fn reset(draws: &mut Draws) -> Vec<u8> {
    reset_of(draws, &RESETS)
}

/// A packet that begins a session.
pub(super) fn first(draws: &mut Draws) -> Vec<u8> {
    reset_of(draws, &RESETS[..2])
}

fn reset_of(draws: &mut Draws, choices: &[Opcode]) -> Vec<u8> {
    let key = KeyId::from_low_bits(if draws.below(4) == 0 { draws.below(8) as u8 } else { 0 });
    let opcode = *draws.pick(choices);
    let mut bytes = vec![opcode.header(key)];
    bytes.extend(random(draws, 8, 8));
    if draws.below(3) == 0 {
        bytes.extend(random(draws, 0, 120));
    } else {
        bytes.extend([0; 5]);
    }
    bytes
}

/// A control packet or an acknowledgement under the session ids of sender and receiver. `heard` is a true packet of
/// the same direction.
pub(super) fn control(draws: &mut Draws, (own, other): ([u8; 8], Option<[u8; 8]>), heard: &[u8]) -> Vec<u8> {
    let opcodes = [
        Opcode::ControlV1,
        Opcode::ControlV1,
        Opcode::AckV1,
        Opcode::AckV1,
        Opcode::SoftResetV1,
        Opcode::HardResetServerV2,
        Opcode::HardResetClientV2,
        Opcode::ControlWkcV1,
    ];
    let opcode = *draws.pick(&opcodes);
    let keys = if draws.below(2) == 0 { 2 } else { 8 };
    let key = KeyId::from_low_bits(draws.below(keys) as u8);
    let mut bytes = vec![opcode.header(key)];
    bytes.extend(own);
    if draws.below(4) == 0 {
        // The frame of a protected packet, with another content.
        bytes.extend(heard.iter().skip(9).take(40));
        bytes.extend(random(draws, 0, 100));
        return bytes;
    }
    let mut acks = AckList::EMPTY;
    for _ in 0..draws.below(9) {
        let id = message(draws);
        acks.push(id);
    }
    let remote_session = other.and_then(SessionId::new).filter(|_| !acks.is_empty());
    let message = (opcode != Opcode::AckV1).then(|| message(draws));
    let mut payload = match draws.below(3) {
        0 => heard.get(14..).unwrap_or_default().to_vec(),
        n => STARTS[n as usize - 1].to_vec(),
    };
    payload.extend(random(draws, 0, 200));
    ControlBody { acks, remote_session, message, payload: &payload }.emit(&mut bytes);
    bytes
}

/// A control packet under a session id that nobody has, which breaks the handshake or the session of whoever takes it.
pub(super) fn blind(draws: &mut Draws) -> Vec<u8> {
    let opcode = *draws.pick(&[Opcode::ControlV1, Opcode::ControlV1, Opcode::SoftResetV1]);
    let key = KeyId::from_low_bits(draws.below(4) as u8);
    let mut bytes = vec![opcode.header(key)];
    bytes.extend(random(draws, 8, 8));
    let message = Some(if opcode == Opcode::SoftResetV1 { MessageId(0) } else { message(draws) });
    let payload: &[u8] = if opcode == Opcode::SoftResetV1 { &[] } else { STARTS[0] };
    ControlBody { acks: AckList::EMPTY, remote_session: None, message, payload }.emit(&mut bytes);
    bytes
}

/// The first packet of an unprotected session, with its id.
pub(super) fn begin(draws: &mut Draws) -> Option<(SessionId, Vec<u8>)> {
    let own = SessionId::new(random(draws, 8, 8).try_into().ok()?)?;
    let body =
        ControlBody { acks: AckList::EMPTY, remote_session: None, message: Some(MessageId(0)), payload: &[] };
    Some((own, packet(Opcode::HardResetClientV2, own, &body)))
}

/// The third packet of an unprotected session, if `heard` is the second.
pub(super) fn third(own: SessionId, heard: &[u8]) -> Option<Vec<u8>> {
    let (opcode, _) = Opcode::parse(*heard.first()?).ok()?;
    if opcode != Opcode::HardResetServerV2 {
        return None;
    }
    let other = SessionId::new(heard.get(1..9)?.try_into().ok()?)?;
    let body = ControlBody::parse(opcode, heard.get(9..)?).ok()?;
    if body.remote_session != Some(own) {
        return None;
    }
    let acks = AckList::from_iter([body.message?]);
    let body = ControlBody { acks, remote_session: Some(other), message: None, payload: &[] };
    Some(packet(Opcode::AckV1, own, &body))
}

fn packet(opcode: Opcode, own: SessionId, body: &ControlBody<'_>) -> Vec<u8> {
    let mut bytes = vec![opcode.header(KeyId::FIRST)];
    bytes.extend(own.as_bytes());
    body.emit(&mut bytes);
    bytes
}

/// Mostly such as a session has.
fn message(draws: &mut Draws) -> MessageId {
    MessageId(if draws.below(8) == 0 { draws.below(1 << 32) as u32 } else { draws.below(24) as u32 })
}

/// A data packet with the header of a true one, or almost that.
pub(super) fn data(draws: &mut Draws, heard: &[u8]) -> Vec<u8> {
    let Peek::Data(header) = peek(heard) else { return Vec::new() };
    // The packet-id behind the header, too: a larger one would move a window that trusts it.
    let mut bytes: Vec<u8> = heard.iter().copied().take(header.len + 4).collect();
    if let Some(first) = bytes.first_mut().filter(|_| draws.below(4) == 0) {
        *first ^= draws.below(8) as u8;
    }
    let at = header.len + draws.below(4) as usize;
    if let Some(id) = bytes.get_mut(at).filter(|_| draws.below(2) == 0) {
        *id = id.wrapping_add(draws.between(1, 255) as u8);
    }
    bytes.extend(random(draws, 0, 200));
    bytes
}

/// Anything.
pub(super) fn garbage(draws: &mut Draws) -> Vec<u8> {
    random(draws, 0, 1500)
}
