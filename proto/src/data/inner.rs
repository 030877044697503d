//! What a decrypted payload is.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Payload of a ping (`openvpn: ping.c`). Only exactly these bytes are a ping.
pub(super) const PING: [u8; 16] =
    [0x2a, 0x18, 0x7b, 0xf3, 0x64, 0x1e, 0xb4, 0xcb, 0x07, 0xed, 0x2d, 0x0a, 0x98, 0x1f, 0xc7, 0x48];

/// How an OCC message begins; its opcode follows (`openvpn: occ.c`).
const OCC_MAGIC: [u8; 16] =
    [0x28, 0x7f, 0x34, 0x6b, 0xd4, 0xef, 0x7a, 0x81, 0x2d, 0x56, 0xb8, 0xd3, 0xaf, 0xc5, 0x45, 0x9c];

/// OCC opcode: the sender leaves.
const OCC_EXIT: u8 = 6;

/// An OCC EXIT message.
pub(super) const EXIT: [u8; 17] = {
    let mut bytes = [OCC_EXIT; 17];
    let mut i = 0;
    while i < 16 {
        bytes[i] = OCC_MAGIC[i];
        i += 1;
    }
    bytes
};

/// Kinds of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inner {
    /// For the tun device.
    Ip,
    /// Shows that the peer is there.
    Ping,
    /// The peer leaves.
    Exit,
    /// Another OCC message; none needs an answer where the options were exchanged by TLS.
    Occ,
    /// Nothing that a tun device takes.
    Other,
}

/// Recognises a payload.
#[inline]
pub(super) fn classify(payload: &[u8]) -> Inner {
    match payload.first().map(|b| b >> 4) {
        Some(4) if payload.len() >= 20 => Inner::Ip,
        Some(6) if payload.len() >= 40 => Inner::Ip,
        Some(_) if payload == PING => Inner::Ping,
        Some(_) => match payload.strip_prefix(&OCC_MAGIC) {
            Some([OCC_EXIT, ..]) => Inner::Exit,
            Some([_, ..]) => Inner::Occ,
            _ => Inner::Other,
        },
        None => Inner::Other,
    }
}

/// Source address of an IP packet, `None` if the header is cut short.
pub(super) fn source(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 12, 8)
}

/// Destination address of an IP packet.
pub(super) fn destination(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 16, 24)
}

/// Whether an inner packet is for a group.
pub fn is_multicast(packet: &[u8]) -> bool {
    destination(packet).is_some_and(|to| to.is_multicast())
}

/// Whether this is a multicast address, or the broadcast address.
pub(super) const fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_multicast() || a.is_broadcast(),
        IpAddr::V6(a) => a.is_multicast(),
    }
}

fn address(packet: &[u8], v4_at: usize, v6_at: usize) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => {
            let bytes: [u8; 4] = packet[v4_at..v4_at + 4].try_into().ok()?;
            Some(Ipv4Addr::from(bytes).into())
        }
        6 if packet.len() >= 40 => {
            let bytes: [u8; 16] = packet[v6_at..v6_at + 16].try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}
