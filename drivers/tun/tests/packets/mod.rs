//! Packets made field by field, with checksums taken the slow way: what the offload tests compare with.

#![allow(dead_code, reason = "each test program uses its own part")]

use oxivpn_tun::offload::{Gso, VnetHeader};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
pub(crate) const CWR: u8 = 128;

/// A TCP segment or UDP datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) v6: bool,
    pub(crate) tcp: bool,
    pub(crate) hosts: (u8, u8),
    pub(crate) ports: (u16, u16),
    pub(crate) tos: u8,
    pub(crate) label: u32,
    pub(crate) ttl: u8,
    /// IPv4 flags and fragment offset.
    pub(crate) fragment: u16,
    pub(crate) id: u16,
    /// IPv4 options, or whole IPv6 extension headers behind hop-by-hop options.
    pub(crate) ip_options: Vec<u8>,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) tcp_options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DF: u16 = 0x4000;

impl Packet {
    pub(crate) fn new(v6: bool, tcp: bool) -> Self {
        Self {
            v6,
            tcp,
            hosts: (1, 2),
            ports: (443, 50_000),
            tos: 0,
            label: 0x1_2345,
            ttl: 64,
            fragment: if tcp { DF } else { 0 },
            id: 0xfff0,
            ip_options: Vec::new(),
            seq: 0xffff_f000,
            ack: 77,
            flags: ACK,
            window: 501,
            tcp_options: vec![1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4],
            payload: Vec::new(),
        }
    }

    pub(crate) fn transport(&self) -> usize {
        if self.v6 { 40 + self.ip_options.len() } else { 20 + self.ip_options.len() }
    }

    fn transport_header(&self) -> usize {
        if self.tcp { 20 + self.tcp_options.len() } else { 8 }
    }

    pub(crate) fn headers(&self) -> usize {
        self.transport() + self.transport_header()
    }

    /// Where the transport's checksum lies in the packet.
    pub(crate) fn checksum_at(&self) -> usize {
        self.transport() + if self.tcp { 16 } else { 6 }
    }

    fn addresses(&self) -> Vec<u8> {
        let host = |host| match self.v6 {
            true => [[0xfd; 8], [0, 0, 0, 0, 0, 0, 0, host]].concat(),
            false => vec![10, 8, 0, host],
        };
        [host(self.hosts.0), host(self.hosts.1)].concat()
    }

    fn network_header(&self) -> Vec<u8> {
        let protocol = if self.tcp { 6 } else { 17 };
        let payload = self.headers() - self.transport() + self.payload.len();
        let mut header = Vec::new();
        if self.v6 {
            let len = u16::try_from(payload + self.ip_options.len()).unwrap();
            header.extend((6 << 28 | u32::from(self.tos) << 20 | self.label).to_be_bytes());
            header.extend(len.to_be_bytes());
            header.extend([if self.ip_options.is_empty() { protocol } else { 0 }, self.ttl]);
            header.extend(self.addresses());
            header.extend(&self.ip_options);
        } else {
            let words = u8::try_from(self.transport() / 4).unwrap();
            header.extend([0x40 | words, self.tos]);
            header.extend(u16::try_from(self.transport() + payload).unwrap().to_be_bytes());
            header.extend(self.id.to_be_bytes());
            header.extend(self.fragment.to_be_bytes());
            header.extend([self.ttl, protocol, 0, 0]);
            header.extend(self.addresses());
            header.extend(&self.ip_options);
            let checksum = !sum(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        header
    }

    /// The transport header with a checksum field of zero.
    fn transport_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        if self.tcp {
            bytes.extend(self.seq.to_be_bytes());
            bytes.extend(self.ack.to_be_bytes());
            bytes.extend([u8::try_from(self.transport_header() / 4).unwrap() << 4, self.flags]);
            bytes.extend(self.window.to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(&self.tcp_options);
        } else {
            bytes.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
            bytes.extend([0; 2]);
        }
        bytes.extend(&self.payload);
        bytes
    }

    fn pseudo(&self, len: usize) -> Vec<u8> {
        let mut bytes = self.addresses();
        bytes.extend(u32::try_from(len).unwrap().to_be_bytes());
        bytes.extend([0, 0, 0, if self.tcp { 6 } else { 17 }]);
        bytes
    }

    /// The packet with all checksums.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut transport = self.transport_bytes();
        let mut checksum = !sum(&[self.pseudo(transport.len()), transport.clone()].concat());
        if checksum == 0 && !self.tcp {
            checksum = 0xffff;
        }
        let at = self.checksum_at() - self.transport();
        transport[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        [self.network_header(), transport].concat()
    }

    /// The packet with the sum of its pseudo header where the checksum should be, as the kernel has it before hardware.
    pub(crate) fn partial_bytes(&self) -> Vec<u8> {
        let mut transport = self.transport_bytes();
        let partial = sum(&self.pseudo(transport.len()));
        let at = self.checksum_at() - self.transport();
        transport[at..at + 2].copy_from_slice(&partial.to_be_bytes());
        [self.network_header(), transport].concat()
    }

    /// Changes the last two bytes of payload, which has even length, so that the checksum comes out as zero: UDP sends
    /// 0xffff then.
    pub(crate) fn zero_checksum(&mut self) {
        let end = self.payload.len() - 2;
        self.payload[end..].fill(0);
        let mut bytes = self.bytes();
        let at = self.checksum_at();
        let wanted = [bytes[at], bytes[at + 1]];
        self.payload[end..].copy_from_slice(&wanted);
        bytes = self.bytes();
        assert_eq!(bytes[at..at + 2], if self.tcp { [0, 0] } else { [0xff, 0xff] });
    }

    /// The header that a kernel would put before this super-packet.
    pub(crate) fn vnet(&self, segment: u16) -> VnetHeader {
        VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso: match (self.tcp, self.v6) {
                (true, false) => Gso::TcpV4,
                (true, true) => Gso::TcpV6,
                (false, _) => Gso::UdpL4,
            },
            ecn: self.flags & CWR != 0,
            header_len: u16::try_from(self.headers()).unwrap(),
            segment_size: segment,
            csum_start: u16::try_from(self.transport()).unwrap(),
            csum_offset: u16::try_from(self.checksum_at() - self.transport()).unwrap(),
        }
    }

    /// The packets of this super-packet, each made from its fields.
    pub(crate) fn segments(&self, size: usize) -> Vec<Vec<u8>> {
        let count = self.payload.len().div_ceil(size).max(1);
        (0..count)
            .map(|index| {
                let begin = index * size;
                let end = self.payload.len().min(begin + size);
                let mut part = Self { payload: self.payload[begin..end].to_vec(), ..self.clone() };
                part.seq = part.seq.wrapping_add(u32::try_from(begin).unwrap());
                part.id = part.id.wrapping_add(u16::try_from(index).unwrap());
                if index > 0 {
                    part.flags &= !CWR;
                }
                if index + 1 < count {
                    part.flags &= !(FIN | PSH);
                }
                part.bytes()
            })
            .collect()
    }
}

/// RFC 1071, 1, pair by pair.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Bytes that differ from place to place.
pub(crate) fn filler(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect()
}
