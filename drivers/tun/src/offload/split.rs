//! One read of a device to packets.

use super::checksum::Sum;
use super::ip::{self, Ip, TCP, TCP_CHECKSUM, UDP, UDP_CHECKSUM, UDP_HEADER, put_u16, u16_at, u32_at};
use super::{Gso, OffloadError, VnetHeader};

const FIN_PSH: u16 = 0x09;
const CWR: u16 = 0x80;

/// Takes what [`Device::read`](crate::Device::read) gave apart, packet by packet, each written straight to the place
/// where it is wanted.
///
/// The payload is read once: copied and summed in one go. Each packet has right lengths, IPv4 id (counted up from the
/// first), sequence number, flags and checksums. FIN and PSH are in the last packet only, CWR in the first only. A
/// packet that is no super-packet comes out as one packet, its checksum completed if the header asks for that and
/// otherwise byte for byte.
#[derive(Debug, Clone)]
pub struct Split<'a> {
    /// All headers, then the payload that is still to come. The headers are those of the super-packet.
    headers: &'a [u8],
    rest: &'a [u8],
    /// Packets written so far.
    index: u16,
    done: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Verbatim,
    /// The checksum at `field` over all from `start` on is to be completed.
    Checksum {
        start: usize,
        field: usize,
    },
    Super(Super),
}

/// What the packets of a super-packet have in common.
#[derive(Debug, Clone, Copy)]
struct Super {
    ip: Ip,
    tcp: bool,
    segment: usize,
    /// Of the IPv4 header less what differs.
    network: Sum,
    /// Of pseudo header and transport header less what differs.
    transport: Sum,
    /// Whether the transport has a checksum at all.
    summed: bool,
}

impl<'a> Split<'a> {
    /// Looks at a packet that came with `header`.
    ///
    /// The length of the headers is taken from the packet: kernels that forward a super-packet put other numbers into
    /// [`VnetHeader::header_len`].
    ///
    /// # Errors
    ///
    /// [`OffloadError::Malformed`] if header and packet do not fit together. A super-packet that was cut because the
    /// buffer it was read into is too small is one of these.
    #[inline]
    pub fn new(header: &VnetHeader, packet: &'a [u8]) -> Result<Self, OffloadError> {
        if packet.is_empty() {
            return Err(OffloadError::Malformed("an empty packet"));
        }
        if header.gso != Gso::None {
            return Self::new_super(header, packet);
        }
        let kind = if header.needs_checksum() {
            let start = usize::from(header.csum_start);
            let field = start + usize::from(header.csum_offset);
            if field + 2 > packet.len() || !header.csum_offset.is_multiple_of(2) {
                return Err(OffloadError::Malformed("the checksum lies outside of the packet"));
            }
            Kind::Checksum { start, field }
        } else {
            Kind::Verbatim
        };
        Ok(Self { headers: &[], rest: packet, index: 0, done: false, kind })
    }

    fn new_super(header: &VnetHeader, packet: &'a [u8]) -> Result<Self, OffloadError> {
        let ip = Ip::parse(packet)?;
        let (protocol, field) = match header.gso {
            Gso::TcpV4 | Gso::TcpV6 => (TCP, TCP_CHECKSUM),
            Gso::UdpL4 | Gso::None => (UDP, UDP_CHECKSUM),
        };
        if ip.protocol != protocol
            || ip.fragment
            || header.gso == (if ip.v6 { Gso::TcpV4 } else { Gso::TcpV6 })
        {
            return Err(OffloadError::Malformed("the packet is not of the kind its header says"));
        }
        if ip.total > packet.len() || ip.total < ip.transport {
            return Err(OffloadError::Malformed("the packet is not as long as its IP header says"));
        }
        let segment = usize::from(header.segment_size);
        if segment == 0 {
            return Err(OffloadError::Malformed("segments without size"));
        }
        let packet = &packet[..ip.total];
        let transport = &packet[ip.transport..];
        let tcp = protocol == TCP;
        let transport_header = if tcp { ip::tcp_header(transport)? } else { UDP_HEADER };
        if transport.len() < transport_header {
            return Err(OffloadError::Malformed("no whole UDP header"));
        }
        if header.needs_checksum()
            && (usize::from(header.csum_start), usize::from(header.csum_offset)) != (ip.transport, field)
        {
            return Err(OffloadError::Malformed("the checksum is not where the transport has it"));
        }
        let (headers, rest) = packet.split_at(ip.transport + transport_header);
        let shared = Super {
            ip,
            tcp,
            segment,
            network: network_sum(&ip, headers),
            transport: transport_sum(header, &ip, headers, transport.len()),
            summed: tcp || header.needs_checksum() || u16_at(transport, field) != 0,
        };
        Ok(Self { headers, rest, index: 0, done: false, kind: Kind::Super(shared) })
    }

    /// The length in bytes of the packet that comes next; `None` after the last.
    #[inline]
    pub fn next_len(&self) -> Option<usize> {
        let payload = match &self.kind {
            Kind::Super(shared) => shared.segment.min(self.rest.len()),
            _ => self.rest.len(),
        };
        (!self.done).then_some(self.headers.len() + payload)
    }

    /// Writes the next packet to the start of `out` and returns its length in bytes.
    ///
    /// `None` after the last packet, and if `out` is shorter than [`Split::next_len`]; then nothing is written and
    /// the packet stays the next one.
    #[inline]
    pub fn write_next(&mut self, out: &mut [u8]) -> Option<usize> {
        let len = self.next_len()?;
        let out = out.get_mut(..len)?;
        let (payload, rest) = self.rest.split_at(len - self.headers.len());
        match &self.kind {
            Kind::Verbatim => out.copy_from_slice(payload),
            &Kind::Checksum { start, field } => {
                let (before, summed) = payload.split_at(start);
                out[..start].copy_from_slice(before);
                let checksum = Sum::copy(summed, &mut out[start..]).checksum();
                put_u16(out, field, not_zero(checksum));
            }
            Kind::Super(shared) => {
                let (headers, place) = out.split_at_mut(self.headers.len());
                headers.copy_from_slice(self.headers);
                let sum = Sum::copy(payload, place);
                shared.finish(headers, self.index, payload.len(), sum, rest.is_empty());
            }
        }
        self.rest = rest;
        self.index = self.index.wrapping_add(1);
        self.done = rest.is_empty();
        Some(len)
    }
}

impl Super {
    /// Makes the headers those of packet `index`, whose payload has the sum `payload`.
    #[inline]
    fn finish(&self, headers: &mut [u8], index: u16, len: usize, payload: Sum, last: bool) {
        let total = headers.len() + len;
        let (network, transport) = headers.split_at_mut(self.ip.transport);
        if self.ip.v6 {
            put_u16(network, 4, (total - 40) as u16);
        } else {
            let id = u16_at(network, 4).wrapping_add(index);
            put_u16(network, 2, total as u16);
            put_u16(network, 4, id);
            put_u16(network, 10, self.network.and_u16(total as u16).and_u16(id).checksum());
        }
        let transport_len = (total - self.ip.transport) as u16;
        let sum = self.transport.and(payload).and_u16(transport_len);
        if self.tcp {
            let sent = u32::from(index).wrapping_mul(self.segment as u32);
            let seq = u32_at(transport, 4).wrapping_add(sent);
            let mut flags = u16_at(transport, 12);
            if !last {
                flags &= !FIN_PSH;
            }
            if index != 0 {
                flags &= !CWR;
            }
            transport[4..8].copy_from_slice(&seq.to_be_bytes());
            put_u16(transport, 12, flags);
            put_u16(transport, TCP_CHECKSUM, sum.and_u32(seq).and_u16(flags).checksum());
        } else {
            put_u16(transport, 4, transport_len);
            if self.summed {
                put_u16(transport, UDP_CHECKSUM, not_zero(sum.and_u16(transport_len).checksum()));
            }
        }
    }
}

/// Of an IPv4 header less length, id and checksum.
fn network_sum(ip: &Ip, headers: &[u8]) -> Sum {
    if ip.v6 {
        return Sum::ZERO;
    }
    let mut ends = [0; 8];
    ends[..2].copy_from_slice(&headers[..2]);
    ends[2..6].copy_from_slice(&headers[6..10]);
    Sum::of(&ends).and(Sum::of(&headers[12..ip.transport]))
}

/// Of the pseudo header less its length, and of the transport header less what differs between packets.
fn transport_sum(header: &VnetHeader, ip: &Ip, headers: &[u8], len: usize) -> Sum {
    let transport = &headers[ip.transport..];
    let (field, fields) = if ip.protocol == TCP {
        // Ports, acknowledgement, window, urgent pointer and options.
        let fields =
            Sum::of(&transport[..4]).and(Sum::of(&transport[8..12])).and(Sum::of(&transport[14..16]));
        (TCP_CHECKSUM, fields.and(Sum::of(&transport[18..])))
    } else {
        (UDP_CHECKSUM, Sum::of(&transport[..4]))
    };
    if header.needs_checksum() {
        // The sum of the pseudo header as the sender has it, which knows the last stop of a source route.
        fields.and_u16(u16_at(transport, field)).less_u16(len as u16)
    } else {
        fields.and(ip.pseudo(headers))
    }
}

/// A checksum of zero means that there is none.
fn not_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}
