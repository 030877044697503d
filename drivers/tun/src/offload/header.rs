//! `struct virtio_net_hdr`, which stands before each packet of a device with offload.

use super::OffloadError;

/// What kind of super-packet follows (`gso_type` less the ECN bit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gso {
    /// One packet.
    #[default]
    None,
    /// TCP segments over IPv4 (`VIRTIO_NET_HDR_GSO_TCPV4`).
    TcpV4,
    /// TCP segments over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`).
    TcpV6,
    /// UDP datagrams of one size over either (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    UdpL4,
}

/// The header before a packet: linux/virtio_net.h, `struct virtio_net_hdr`, in the host's byte order as a TUN device
/// has it unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    /// `VIRTIO_NET_HDR_F_*`; see [`VnetHeader::NEEDS_CHECKSUM`].
    pub flags: u8,
    /// What follows.
    pub gso: Gso,
    /// The first segment has the TCP flag CWR, which the others do not get (`VIRTIO_NET_HDR_GSO_ECN`).
    pub ecn: bool,
    /// Bytes of all headers. A hint: kernels that forward a super-packet put other numbers here.
    pub header_len: u16,
    /// Bytes of payload in each segment but the last.
    pub segment_size: u16,
    /// Where the checksum begins, in bytes from the start of the packet: the transport header.
    pub csum_start: u16,
    /// Where the checksum is stored, in bytes from `csum_start`.
    pub csum_offset: u16,
}

const ECN: u8 = 0x80;

impl VnetHeader {
    /// Bytes on the wire.
    pub const LEN: usize = 10;

    /// Before a packet that is one packet with all its checksums.
    pub const PLAIN: Self = Self {
        flags: 0,
        gso: Gso::None,
        ecn: false,
        header_len: 0,
        segment_size: 0,
        csum_start: 0,
        csum_offset: 0,
    };

    /// Flag: the checksum field holds the sum of the pseudo header only (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
    pub const NEEDS_CHECKSUM: u8 = 1;

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`OffloadError::Kind`] for kinds of super-packets that this crate never asks the kernel for.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, OffloadError> {
        let [flags, kind, fields @ ..] = *bytes;
        let gso = match kind & !ECN {
            0 => Gso::None,
            1 => Gso::TcpV4,
            4 => Gso::TcpV6,
            5 => Gso::UdpL4,
            _ => return Err(OffloadError::Kind(kind)),
        };
        let field = |at: usize| u16::from_ne_bytes([fields[at], fields[at + 1]]);
        Ok(Self {
            flags,
            gso,
            ecn: kind & ECN != 0,
            header_len: field(0),
            segment_size: field(2),
            csum_start: field(4),
            csum_offset: field(6),
        })
    }

    /// The header as the kernel reads it.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let kind = match self.gso {
            Gso::None => 0,
            Gso::TcpV4 => 1,
            Gso::TcpV6 => 4,
            Gso::UdpL4 => 5,
        };
        let mut bytes = [0; Self::LEN];
        bytes[0] = self.flags;
        bytes[1] = kind | if self.ecn { ECN } else { 0 };
        bytes[2..4].copy_from_slice(&self.header_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.segment_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
        bytes
    }

    /// Whether the checksum field waits for its completion.
    pub fn needs_checksum(&self) -> bool {
        self.flags & Self::NEEDS_CHECKSUM != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_kernel_has_them() {
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso: Gso::TcpV6,
            ecn: true,
            header_len: 0x0102,
            segment_size: 0x0304,
            csum_start: 0x0506,
            csum_offset: 0x0708,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes[..2], [1, 0x84]);
        let fields: Vec<u16> = bytes[2..].chunks(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect();
        assert_eq!(fields, [0x0102, 0x0304, 0x0506, 0x0708]);
        assert_eq!(VnetHeader::parse(&bytes), Ok(header));
        assert_eq!(VnetHeader::PLAIN.to_bytes(), [0; 10]);
    }

    #[test]
    fn unknown_kinds_are_refused() {
        for kind in 0..=u8::MAX {
            let parsed = VnetHeader::parse(&[0, kind, 0, 0, 0, 0, 0, 0, 0, 0]);
            match kind & 0x7f {
                0 | 1 | 4 | 5 => assert_eq!(parsed.map(|header| header.to_bytes()[1]), Ok(kind)),
                _ => assert_eq!(parsed, Err(OffloadError::Kind(kind))),
            }
        }
    }
}
