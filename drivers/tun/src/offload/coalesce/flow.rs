//! What a packet is to the coalescer.

use super::super::Offload;
use super::super::ip::{self, Ip, TCP, UDP, UDP_CHECKSUM, UDP_HEADER, u16_at, u32_at};

const ACK: u8 = 0x10;
pub(super) const PSH: u8 = 0x08;
const DF: u8 = 0x40;

/// Addresses, ports and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    ports: u32,
    tcp: bool,
    v6: bool,
    /// IPv4 has both in the first.
    addresses: [u64; 4],
}

/// A packet with payload that may be merged with others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) ip: Ip,
    pub(super) tcp: bool,
    pub(super) push: bool,
    /// Bytes of all headers, and of what follows.
    pub(super) headers: usize,
    pub(super) payload: usize,
    pub(super) seq: u32,
}

/// What to do with a packet.
pub(super) enum Class {
    /// It is of no flow that is ever open.
    Other,
    /// It may be of any flow.
    Unclear,
    /// It is of this flow but goes alone.
    Unmergeable(Flow),
    Segment(Flow, Segment),
}

impl Segment {
    /// IPv6 and TCP with all options.
    pub(super) const MOST_HEADERS: usize = 40 + 60;

    /// Of an item that is never merged.
    pub(super) const NONE: Self = Self {
        ip: Ip { v6: false, protocol: 0, transport: 0, fragment: false, total: 0 },
        tcp: false,
        push: false,
        headers: 0,
        payload: 0,
        seq: 0,
    };

    /// Whether `packet`, of the same flow, is what a split would give as packet `index` after this one, which is
    /// `first`. Checksums are not looked at.
    #[inline]
    pub(super) fn is_followed(&self, first: &[u8], packet: &[u8], segment: &Self, index: u16) -> bool {
        if segment.headers != self.headers || segment.payload > self.payload {
            return false;
        }
        let same = |range: std::ops::Range<usize>| first[range.clone()] == packet[range];
        let network = if self.ip.v6 {
            // Traffic class and flow label; hop limit.
            u32_at(first, 0) == u32_at(packet, 0) && first[7] == packet[7]
        } else {
            let id = u16_at(first, 4).wrapping_add(index);
            // TOS; flags; TTL. The id of a packet that must not be fragmented says nothing (RFC 6864, 4.1).
            first[1] == packet[1]
                && u16_at(first, 6) == u16_at(packet, 6)
                && first[8] == packet[8]
                && (id == u16_at(packet, 4) || packet[6] & DF != 0)
        };
        if !network || !self.tcp {
            return network;
        }
        let at = self.ip.transport;
        // Acknowledgement; data offset and reserved bits; window; urgent pointer and options.
        segment.seq == self.seq.wrapping_add(u32::from(index).wrapping_mul(self.payload as u32))
            && u32_at(first, at + 8) == u32_at(packet, at + 8)
            && first[at + 12] == packet[at + 12]
            && u16_at(first, at + 14) == u16_at(packet, at + 14)
            && same(at + 18..self.headers)
    }
}

/// Looks at a packet of any content.
#[inline]
pub(super) fn classify(packet: &[u8], offload: Offload) -> Class {
    if offload == Offload::NONE {
        return Class::Other;
    }
    let Ok(ip) = Ip::parse(packet) else { return Class::Unclear };
    let tcp = match ip.protocol {
        TCP if offload.tcp => true,
        UDP if offload.udp => false,
        _ if ip.fragment => return Class::Unclear,
        _ => return Class::Other,
    };
    let transport = &packet[ip.transport..];
    if ip.fragment || !ip.is_bare() || transport.len() < 4 {
        return Class::Unclear;
    }
    let flow = Flow::of(&ip, tcp, packet);
    match Segment::of(ip, tcp, packet) {
        Some(segment) => Class::Segment(flow, segment),
        None => Class::Unmergeable(flow),
    }
}

impl Flow {
    #[inline]
    fn of(ip: &Ip, tcp: bool, packet: &[u8]) -> Self {
        let word = |at: usize| packet[at..].first_chunk::<8>().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        let addresses = if ip.v6 { [word(8), word(16), word(24), word(32)] } else { [word(12), 0, 0, 0] };
        Self { ports: u32_at(packet, ip.transport), tcp, v6: ip.v6, addresses }
    }
}

impl Segment {
    /// `None` if the packet goes alone whatever came before it.
    #[inline]
    fn of(ip: Ip, tcp: bool, packet: &[u8]) -> Option<Self> {
        if ip.total != packet.len() || (!ip.v6 && ip::header_checksum(&packet[..ip.transport]) != 0) {
            return None;
        }
        let transport = &packet[ip.transport..];
        let (len, push, seq) = if tcp {
            let len = ip::tcp_header(transport).ok()?;
            let flags = transport[13];
            if flags & !PSH != ACK {
                return None;
            }
            (len, flags & PSH != 0, u32_at(transport, 4))
        } else {
            let whole = transport.len() > UDP_HEADER && usize::from(u16_at(transport, 4)) == transport.len();
            if !whole || u16_at(transport, UDP_CHECKSUM) == 0 {
                return None;
            }
            (UDP_HEADER, false, 0)
        };
        let payload = transport.len() - len;
        let headers = ip.transport + len;
        (payload != 0).then_some(Self { ip, tcp, push, headers, payload, seq })
    }
}
