//! Packets merged and taken apart again must be the packets that went in.

#![expect(clippy::unwrap_used, reason = "tests")]

mod packets;
mod sender;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use oxivpn_tun::offload::{CAPACITY, Coalescer, Flushed, Gso, MAX_PARTS, Offload, Split, VnetHeader};
use packets::{Packet, filler};
use proptest::collection::vec;
use proptest::prelude::*;
use sender::{Sender, any_change};

/// Packets in one buffer with gaps between them.
#[derive(Default)]
struct Slab {
    bytes: Vec<u8>,
    places: Vec<std::ops::Range<usize>>,
}

impl Slab {
    fn of(packets: &[Vec<u8>]) -> Self {
        let mut slab = Self::default();
        for (index, packet) in packets.iter().enumerate() {
            slab.bytes.resize(slab.bytes.len() + index % 5 + 1, 0xee);
            let start = slab.bytes.len();
            slab.bytes.extend(packet);
            slab.places.push(start..slab.bytes.len());
        }
        slab
    }
}

/// Each write as one header and one packet.
fn coalesce(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    let slab = Slab::of(packets);
    let mut writes = Vec::new();
    for place in &slab.places {
        assert!(coalescer.push(&slab.bytes, place.clone()));
    }
    let flushed = coalescer.flush(&slab.bytes, |parts| {
        assert!(parts.len() <= MAX_PARTS);
        assert!(parts[1..].iter().all(|part| !part.is_empty() || packets.iter().any(Vec::is_empty)));
        let header = VnetHeader::parse(parts[0].first_chunk().unwrap()).unwrap();
        writes.push((header, parts[1..].iter().flat_map(|part| part.iter().copied()).collect()));
        Ok(())
    });
    assert_eq!((flushed.written, flushed.writes, flushed.refused), (packets.len(), writes.len(), 0));
    assert!(flushed.refusal.is_none() && flushed.fatal.is_none() && coalescer.is_empty());
    writes
}

fn split(writes: &[(VnetHeader, Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (header, packet) in writes {
        if packet.is_empty() {
            packets.push(Vec::new());
            continue;
        }
        let mut split = Split::new(header, packet).unwrap();
        while let Some(len) = split.next_len() {
            let mut out = vec![0; len];
            split.write_next(&mut out).unwrap();
            packets.push(out);
        }
    }
    packets
}

/// What tells flows apart, as far as the packet says; fragments belong to all flows of their addresses.
fn flow(packet: &[u8]) -> Vec<u8> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.len() >= 20 => [&packet[9..10], &packet[12..20]].concat(),
        Some(6) if packet.len() > 40 => {
            let protocol = if packet[6] == 0 { packet[40] } else { packet[6] };
            [&[protocol], &packet[8..40]].concat()
        }
        _ => Vec::new(),
    }
}

fn ports(packet: &[u8]) -> Option<[u8; 4]> {
    let at = match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet[0] == 0x45 && packet.len() >= 24 && packet[6] & 0x3f == 0 && packet[7] == 0 => 20,
        Some(6) if packet.len() >= 44 && matches!(packet[6], 6 | 17) => 40,
        _ => return None,
    };
    packet[at..].first_chunk().copied()
}

/// Without the IPv4 id of what must not be fragmented, which means nothing.
fn comparable(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.len() >= 20
        && packet[0] >> 4 == 4
        && packet[6] & 0x40 != 0
        && packets::sum(&packet[..20]) == 0xffff
    {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// Protocol and addresses; ports, if the packet tells.
type Key = (Vec<u8>, Option<[u8; 4]>);

/// For each flow its packets in order, and between them those that may be of any flow with these addresses.
fn by_flow(packets: &[Vec<u8>]) -> BTreeMap<Key, Vec<u64>> {
    let mut flows = BTreeMap::new();
    let keys: Vec<_> = packets.iter().map(|packet| (flow(packet), ports(packet))).collect();
    let hashes: Vec<_> = packets.iter().map(|packet| hash(&comparable(packet))).collect();
    for key in &keys {
        let mine = hashes
            .iter()
            .zip(&keys)
            .filter(|(_, other)| other.0 == key.0 && (other.1 == key.1 || other.1.is_none()));
        flows.entry(key.clone()).or_insert_with(|| mine.map(|(hash, _)| *hash).collect());
    }
    flows
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn what_was_merged_comes_apart_the_same(
        flows in vec((prop_oneof![Just(1_348usize), Just(1), 2..1_400usize], any::<bool>(), any::<bool>()), 1..20),
        sent in vec((any::<prop::sample::Index>(), any_change(), any::<u32>()), 1..CAPACITY),
        runs in any::<bool>(),
        (tcp, udp) in any::<(bool, bool)>(),
    ) {
        let mut senders: Vec<Sender> = flows
            .iter()
            .enumerate()
            .map(|(index, &(size, v6, tcp))| Sender::new(index as u8, size, v6, tcp))
            .collect();
        let packets: Vec<Vec<u8>> = sent
            .iter()
            .enumerate()
            .map(|(index, (choice, change, seed))| {
                // Half of the cases have long runs of one flow.
                let choice = if runs { index / 20 % senders.len() } else { choice.index(senders.len()) };
                senders[choice].send(*change, *seed)
            })
            .collect();
        let offload = Offload { tcp, udp };
        let mut coalescer = Coalescer::new(offload);
        // Twice, so that what is left over from the first time would be seen.
        for _ in 0..2 {
            let writes = coalesce(&mut coalescer, &packets);
            for (header, packet) in &writes {
                match header.gso {
                    Gso::None => prop_assert_eq!(header, &VnetHeader::PLAIN),
                    Gso::TcpV4 | Gso::TcpV6 => prop_assert!(tcp),
                    Gso::UdpL4 => prop_assert!(udp),
                }
                prop_assert!(packet.len() <= 65_535);
            }
            if offload == Offload::NONE {
                prop_assert_eq!(writes.len(), packets.len());
            }
            let apart = split(&writes);
            prop_assert_eq!(apart.len(), packets.len());
            prop_assert_eq!(by_flow(&apart), by_flow(&packets));
        }
    }

    #[test]
    fn nothing_makes_it_panic(
        packets in vec((any::<bool>(), any::<bool>(), any::<[(u8, u8); 4]>(), 0..200usize), 1..40),
    ) {
        let packets: Vec<Vec<u8>> = packets
            .into_iter()
            .map(|(v6, tcp, damage, len)| {
                let mut bytes = Packet { payload: vec![1; 60], ..Packet::new(v6, tcp) }.bytes();
                for (at, value) in damage {
                    let at = usize::from(at) % bytes.len();
                    bytes[at] = value;
                }
                bytes.truncate(len);
                bytes
            })
            .collect();
        coalesce(&mut Coalescer::new(Offload::ALL), &packets);
    }
}

fn train(first: &Packet, count: usize, size: usize) -> Vec<Vec<u8>> {
    Packet { payload: filler(count * size, 9), ..first.clone() }.segments(size)
}

#[test]
fn a_train_of_packets_is_one_write() {
    for (v6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut packets = train(&Packet::new(v6, tcp), 40, 1_348);
        let last = packets.last_mut().unwrap();
        *last = {
            let mut short = Packet::new(v6, tcp);
            short.payload = filler(40 * 1_348 - 7, 9);
            short.segments(1_348).pop().unwrap()
        };
        let writes = coalesce(&mut Coalescer::new(Offload::ALL), &packets);
        assert_eq!(writes.len(), 1, "v6 {v6}, tcp {tcp}");
        let header = Packet::new(v6, tcp).vnet(1_348);
        assert_eq!(writes[0].0, header);
        let whole = Packet { payload: filler(40 * 1_348 - 7, 9), ..Packet::new(v6, tcp) };
        assert_eq!(writes[0].1, whole.partial_bytes(), "as the kernel would have made it");
    }
}

#[test]
fn limits_of_the_kernel_are_kept() {
    let sizes = |packets: &[Vec<u8>]| -> Vec<usize> {
        let writes = coalesce(&mut Coalescer::new(Offload::ALL), packets);
        writes.iter().map(|write| split(std::slice::from_ref(write)).len()).collect()
    };
    // 48 segments of 1,348 bytes and 52 of headers are 64,756 bytes.
    assert_eq!(sizes(&train(&Packet::new(false, true), 49, 1_348)[..]), [48, 1]);
    assert_eq!(sizes(&train(&Packet::new(true, true), 200, 10)), [128, 72]);
    assert_eq!(sizes(&train(&Packet::new(true, false), 100, 10)), [64, 36]);
}

#[test]
fn flows_that_are_mixed_are_merged_each() {
    let trains: Vec<Vec<Vec<u8>>> = (0..5)
        .map(|flow| train(&Packet { ports: (flow, 9), ..Packet::new(flow % 2 == 0, true) }, 30, 1_000))
        .collect();
    let mixed: Vec<Vec<u8>> = (0..150).map(|at| trains[at % 5][at / 5].clone()).collect();
    let writes = coalesce(&mut Coalescer::new(Offload::ALL), &mixed);
    assert_eq!(writes.len(), 5);
    assert_eq!(split(&writes), trains.concat());
}

#[test]
fn acknowledgements_between_data_close_the_flow_only() {
    let flow = Packet::new(false, true);
    let data = train(&flow, 6, 500);
    let ack = Packet { seq: flow.seq, ..flow }.bytes();
    let mixed = [&data[..3], &[ack], &data[3..]].concat();
    let writes = coalesce(&mut Coalescer::new(Offload::ALL), &mixed);
    assert_eq!(writes.len(), 3);
    assert_eq!(split(&writes), mixed);
}

#[test]
fn a_wrong_checksum_is_never_healed() {
    let packets = train(&Packet::new(true, true), 9, 700);
    for bad in 0..packets.len() {
        let mut packets = packets.clone();
        packets[bad][200] ^= 1;
        let writes = coalesce(&mut Coalescer::new(Offload::ALL), &packets);
        let alone = writes.iter().filter(|(_, packet)| *packet == packets[bad]);
        assert_eq!(alone.map(|(header, _)| *header).collect::<Vec<_>>(), [VnetHeader::PLAIN]);
        assert!(writes.len() <= 3);
        assert_eq!(split(&writes), packets);
    }
}

#[test]
fn a_failed_write_loses_its_own_packets_and_a_fatal_one_all_that_follow() {
    let flows: Vec<Vec<u8>> = (0..4)
        .flat_map(|port| train(&Packet { ports: (port, 1), ..Packet::new(false, true) }, 5, 100))
        .collect();
    let slab = Slab::of(&flows);
    let run = |errors: [Option<i32>; 4]| -> (Flushed, usize) {
        let mut coalescer = Coalescer::new(Offload::ALL);
        for place in &slab.places {
            assert!(coalescer.push(&slab.bytes, place.clone()));
        }
        let mut calls = 0;
        let flushed = coalescer.flush(&slab.bytes, |_| {
            calls += 1;
            errors[calls - 1].map_or(Ok(()), |code| Err(io::Error::from_raw_os_error(code)))
        });
        (flushed, calls)
    };
    let (flushed, calls) = run([None, Some(libc::EIO), Some(libc::EINVAL), None]);
    assert_eq!((calls, flushed.written, flushed.writes, flushed.refused), (4, 10, 2, 10));
    assert_eq!(flushed.refusal.unwrap().raw_os_error(), Some(libc::EIO));
    assert!(flushed.fatal.is_none());
    let (flushed, calls) = run([None, Some(libc::EBADFD), None, None]);
    assert_eq!((calls, flushed.written, flushed.writes, flushed.refused), (2, 5, 1, 15));
    assert_eq!(flushed.fatal.unwrap().raw_os_error(), Some(libc::EBADFD));
}

#[test]
fn a_full_coalescer_says_so_and_takes_more_after_a_flush() {
    let packets = train(&Packet::new(false, true), CAPACITY, 20);
    let slab = Slab::of(&packets);
    let mut coalescer = Coalescer::new(Offload::NONE);
    for place in &slab.places {
        assert!(coalescer.push(&slab.bytes, place.clone()));
    }
    assert!(!coalescer.push(&slab.bytes, 0..1));
    assert_eq!(coalescer.flush(&slab.bytes, |_| Ok(())).written, CAPACITY);
    assert!(coalescer.push(&slab.bytes, slab.places[0].clone()));
}

/// Such a checksum would hold, were it not for its meaning.
#[test]
fn datagrams_without_checksum_stay_without() {
    for v6 in [false, true] {
        let mut packet = Packet::new(v6, false);
        packet.payload = filler(500, 6);
        packet.zero_checksum();
        let whole = packet.bytes();
        let mut none = whole.clone();
        none[packet.checksum_at()..][..2].fill(0);
        packet.id += 1;
        let next = packet.bytes();
        packet.id += 1;
        let last = packet.bytes();
        let packets = [whole, next, none, last];
        let writes = coalesce(&mut Coalescer::new(Offload::ALL), &packets);
        assert_eq!((writes.len(), split(&writes)), (3, packets.to_vec()));
    }
}
