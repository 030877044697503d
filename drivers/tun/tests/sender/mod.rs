//! Senders whose packets can be merged, but for those that are changed.

use proptest::prelude::*;

use crate::packets::{CWR, DF, FIN, PSH, Packet, SYN, filler};

/// What makes a packet differ from the one that was expected.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    None,
    Payload(usize),
    Tos(u8),
    Ttl,
    DontFragment,
    Fragment,
    Id,
    Label,
    Window,
    Ack,
    Flags(u8),
    Gap,
    Repeat,
    TcpOption,
    IpOption,
    Checksum,
    HeaderChecksum,
    NoChecksum,
    Trailer,
    Cut(usize),
    Noise,
}

pub(crate) fn any_change() -> impl Strategy<Value = Change> {
    use Change::*;
    prop_oneof![
        60 => Just(None),
        4 => prop_oneof![Just(0), 1..1_400usize].prop_map(Payload),
        2 => (0..4u8).prop_map(Tos),
        4 => prop_oneof![Just(PSH), Just(FIN), Just(SYN), Just(CWR), Just(0x40), Just(4), Just(0x20)].prop_map(Flags),
        1 => Just(Ttl), 1 => Just(DontFragment), 1 => Just(Fragment), 1 => Just(Id), 1 => Just(Label),
        1 => Just(Window), 1 => Just(Ack), 1 => Just(Gap), 1 => Just(Repeat), 1 => Just(TcpOption),
        1 => Just(IpOption), 3 => Just(Checksum), 1 => Just(HeaderChecksum), 1 => Just(NoChecksum),
        1 => Just(Trailer), 1 => (0..80usize).prop_map(Cut), 1 => Just(Noise),
    ]
}

/// A sender of packets, some of which are changed.
pub(crate) struct Sender {
    next: Packet,
    size: usize,
}

impl Sender {
    pub(crate) fn new(index: u8, size: usize, v6: bool, tcp: bool) -> Self {
        let mut next = Packet::new(v6, tcp);
        // Some flows have their addresses in common, some their ports.
        next.hosts = (1 + index % 3, 9);
        next.ports.0 += u16::from(index / 2);
        if index.is_multiple_of(5) {
            next.tcp_options.clear();
        }
        Self { next, size }
    }

    pub(crate) fn send(&mut self, change: Change, seed: u32) -> Vec<u8> {
        let mut packet = self.next.clone();
        packet.payload = filler(self.size, seed);
        match change {
            Change::Payload(len) => packet.payload = filler(len, seed),
            Change::Tos(ecn) => packet.tos = ecn,
            Change::Ttl => packet.ttl -= 1,
            Change::DontFragment => packet.fragment ^= DF,
            Change::Fragment => packet.fragment = 0x2000,
            Change::Id => packet.id = seed as u16,
            Change::Label => packet.label ^= 1,
            Change::Window => packet.window += 1,
            Change::Ack => packet.ack += 1,
            Change::Flags(flag) => packet.flags |= flag,
            Change::Gap => packet.seq = packet.seq.wrapping_add(1),
            Change::Repeat => packet.seq = packet.seq.wrapping_sub(1_000),
            Change::TcpOption => packet.tcp_options = vec![1, 1, 8, 10, 0, 0, 1, 3, 0, 0, 3, 4],
            Change::IpOption if packet.v6 => {
                packet.ip_options = vec![if packet.tcp { 6 } else { 17 }, 0, 1, 4, 0, 0, 0, 0]
            }
            Change::IpOption => packet.ip_options = vec![1; 4],
            _ => {}
        }
        let len = u32::try_from(packet.payload.len()).unwrap();
        self.next.seq = packet.seq.wrapping_add(len);
        self.next.id = packet.id.wrapping_add(1);
        self.next.ack = packet.ack;
        let mut bytes = packet.bytes();
        match change {
            Change::Checksum => {
                let last = bytes.len() - 1;
                bytes[last] ^= 0x10;
            }
            Change::HeaderChecksum if !packet.v6 => bytes[10] ^= 1,
            Change::NoChecksum => bytes[packet.checksum_at()..][..2].fill(0),
            Change::Trailer => bytes.extend([0, 0, 0]),
            Change::Cut(len) => bytes.truncate(len),
            Change::Noise => bytes = filler(usize::from(seed as u8), seed),
            _ => {}
        }
        bytes
    }
}
