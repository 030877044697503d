//! Where things lie in an IP packet.

use super::OffloadError;
use super::checksum::Sum;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
/// Where TCP has its checksum, in bytes from the start of its header.
pub(super) const TCP_CHECKSUM: usize = 16;
/// The same for UDP.
pub(super) const UDP_CHECKSUM: usize = 6;
pub(super) const UDP_HEADER: usize = 8;

/// An IP header that was found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ip {
    pub(super) v6: bool,
    /// The protocol behind all extension headers.
    pub(super) protocol: u8,
    /// Where that protocol's header begins: the length of all IP headers.
    pub(super) transport: usize,
    /// Whether this is a part of a packet only.
    pub(super) fragment: bool,
    /// The length of the packet by its own header.
    pub(super) total: usize,
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

impl Ip {
    /// Neither options nor extension headers.
    pub(super) fn is_bare(&self) -> bool {
        self.transport == if self.v6 { 40 } else { 20 }
    }

    /// Reads the IP headers of a packet, which then is at least `transport` bytes long.
    #[inline]
    pub(super) fn parse(packet: &[u8]) -> Result<Self, OffloadError> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::parse_v4(packet),
            Some(6) => Self::parse_v6(packet),
            _ => Err(OffloadError::Malformed("neither IPv4 nor IPv6")),
        }
    }

    fn parse_v4(packet: &[u8]) -> Result<Self, OffloadError> {
        let transport = usize::from(packet[0] & 15) * 4;
        if transport < 20 || packet.len() < transport {
            return Err(OffloadError::Malformed("no whole IPv4 header"));
        }
        let fragment = u16_at(packet, 6) & 0x3fff != 0;
        let total = u16_at(packet, 2).into();
        Ok(Self { v6: false, protocol: packet[9], transport, fragment, total })
    }

    fn parse_v6(packet: &[u8]) -> Result<Self, OffloadError> {
        if packet.len() < 40 {
            return Err(OffloadError::Malformed("no whole IPv6 header"));
        }
        let total = 40 + usize::from(u16_at(packet, 4));
        let mut ip = Self { v6: true, protocol: packet[6], transport: 40, fragment: false, total };
        loop {
            // RFC 8200, 4; the authentication header counts in words of four bytes.
            let (unit, fixed) = match ip.protocol {
                0 | 43 | 60 | 135 | 139 | 140 => (8, 8),
                51 => (4, 8),
                44 => (0, 8),
                _ => return Ok(ip),
            };
            let Some(&[next, len, ref rest @ ..]) = packet.get(ip.transport..) else {
                return Err(OffloadError::Malformed("no whole IPv6 extension header"));
            };
            let size = fixed + unit * usize::from(len);
            if rest.len() + 2 < size {
                return Err(OffloadError::Malformed("no whole IPv6 extension header"));
            }
            if ip.protocol == 44 {
                ip.fragment = true;
                // Behind all fragments but the first lies no header.
                ip.protocol = next;
                ip.transport += size;
                return Ok(ip);
            }
            ip.protocol = next;
            ip.transport += size;
        }
    }

    /// The sum of the pseudo header less its length field, with the addresses of the IP header.
    pub(super) fn pseudo(&self, packet: &[u8]) -> Sum {
        let addresses = if self.v6 { 8..40 } else { 12..20 };
        Sum::of(&packet[addresses]).and_u16(self.protocol.into())
    }

    /// Whether the checksum of a TCP segment or UDP datagram that is here whole is right.
    #[inline]
    pub(super) fn checksum_holds(&self, packet: &[u8]) -> bool {
        let transport = &packet[self.transport..];
        self.pseudo(packet).and_u16(transport.len() as u16).and(Sum::of(transport)).fold() == 0xffff
    }
}

/// The length of a TCP header that is here whole.
pub(super) fn tcp_header(transport: &[u8]) -> Result<usize, OffloadError> {
    match transport.get(12).map(|offset| usize::from(offset >> 4) * 4) {
        Some(len) if (20..=transport.len()).contains(&len) => Ok(len),
        _ => Err(OffloadError::Malformed("no whole TCP header")),
    }
}

/// The checksum of an IPv4 header whose checksum field is zero; zero if the field has the right one.
#[inline]
pub(super) fn header_checksum(header: &[u8]) -> u16 {
    Sum::of(header).checksum()
}
