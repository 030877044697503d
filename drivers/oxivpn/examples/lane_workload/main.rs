//! One part of the data path, over and over: what `cargo run -p oxivpn-tests --bin instructions` runs under callgrind.
//!
//! `lane_workload` lists the parts; `lane_workload PART N` does one N times for a batch of [`BATCH`] packets. What is
//! made ready beforehand is the same for every N up to [`MOST`], so the difference of two runs is the part alone.
//! Functions called `kernel_*` stand for the kernel.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::env::args;
use std::hint::black_box;

use oxivpn::turn::{HEADROOM, Plane, TAILROOM};
use oxivpn_proto::Path;
use oxivpn_proto::config::params::DataFormat;
use oxivpn_proto::keys::data_key::TlsRole;
use oxivpn_tun::offload::{Coalescer, Offload, Split, VnetHeader};

#[path = "../../../tun/tests/packets/mod.rs"]
mod packets;
#[allow(dead_code, reason = "the test of allocations uses the rest")]
mod rig;

use packets::{Packet, filler};
use rig::{NOW, PEER, Shape, Tunnel, plane};

/// Packets in a batch: a super-packet of 64 KiB less what does not fill a segment.
const BATCH: usize = 45;
const SEGMENT: usize = 1360;
/// The same with headers: 20 bytes of IPv4, 32 of TCP.
const PACKET: usize = SEGMENT + 52;
/// Batches in one run, at most.
const MOST: usize = 64;

const V1: DataFormat = DataFormat::V1;
const V2: DataFormat = DataFormat::V2(PEER.id);
const EPOCH: DataFormat = DataFormat::Epoch(PEER.id);

/// Does something for so many batches.
type Part = fn(usize);

const PARTS: &[(&str, Part)] = &[
    ("seal, P_DATA_V1", |n| seal(V1, n)),
    ("seal, P_DATA_V2", |n| seal(V2, n)),
    ("seal, epoch keys", |n| seal(EPOCH, n)),
    ("open, P_DATA_V1", |n| open(V1, n)),
    ("open, P_DATA_V2", |n| open(V2, n)),
    ("open, epoch keys", |n| open(EPOCH, n)),
    ("split, TCP in segments of 1,360 bytes", |n| split(&super_packet(), n)),
    ("split, a packet of 1,412 bytes", |n| split(&singles(), n)),
    ("coalesce, 45 TCP segments of 1,360 bytes", |n| coalesce(&super_packet(), n)),
    ("coalesce, 45 acknowledgements, which stay alone", |n| coalesce(&acknowledgements(), n)),
    ("uplink, super-packets, P_DATA_V2 over UDP", |n| uplink(V2, false, super_packet(), n)),
    ("uplink, super-packets, epoch keys over UDP", |n| uplink(EPOCH, false, super_packet(), n)),
    ("uplink, super-packets, P_DATA_V2 over TCP", |n| uplink(V2, true, super_packet(), n)),
    ("uplink, 45 single packets, P_DATA_V2 over UDP", |n| uplink(V2, false, singles(), n)),
    ("downlink, super-packets, P_DATA_V2 over UDP", |n| downlink(V2, false, super_packet(), n)),
    ("downlink, super-packets, epoch keys over UDP", |n| downlink(EPOCH, false, super_packet(), n)),
    ("downlink, super-packets, P_DATA_V2 over TCP", |n| downlink(V2, true, super_packet(), n)),
    ("downlink, 45 acknowledgements, P_DATA_V2 over UDP", |n| downlink(V2, false, acknowledgements(), n)),
];

fn main() {
    let words: Vec<String> = args().skip(1).collect();
    let [part, batches] = &words[..] else {
        for (name, _) in PARTS {
            println!("{name}");
        }
        return;
    };
    let (_, run) = PARTS.iter().find(|(name, _)| name == part).unwrap();
    let batches = batches.parse().unwrap();
    assert!(batches <= MOST, "at most {MOST}");
    run(batches);
}

/// Packets as a device gives them.
type Packets = Vec<(VnetHeader, Vec<u8>)>;

fn super_packet() -> Packets {
    let packet = Packet { payload: filler(BATCH * SEGMENT, 1), ..Packet::new(false, true) };
    vec![(packet.vnet(SEGMENT as u16), packet.partial_bytes())]
}

fn singles() -> Packets {
    let packet = Packet { payload: filler(SEGMENT, 1), ..Packet::new(false, true) };
    vec![(VnetHeader::PLAIN, packet.bytes()); BATCH]
}

fn acknowledgements() -> Packets {
    vec![(VnetHeader::PLAIN, Packet::new(false, true).bytes()); BATCH]
}

fn peer() -> Path {
    Path::udp(0, ([192, 0, 2, 1], 1194).into())
}

fn seal(format: DataFormat, batches: usize) {
    let mut plane = plane(TlsRole::Client, format, peer(), None, false);
    let mut cell = vec![0x45; HEADROOM + PACKET + TAILROOM];
    for _ in 0..batches * BATCH {
        let sealed = Plane::seal(&mut plane, black_box(NOW), PEER, &mut cell, HEADROOM, PACKET);
        assert!(black_box(sealed).is_ok());
    }
}

fn open(format: DataFormat, batches: usize) {
    let mut sender = plane(TlsRole::Server, format, peer(), None, false);
    let mut cells: Vec<(Vec<u8>, usize, usize)> = (0..MOST * BATCH)
        .map(|_| {
            let mut cell = vec![0x45; HEADROOM + PACKET + TAILROOM];
            let sealed = Plane::seal(&mut sender, NOW, PEER, &mut cell, HEADROOM, PACKET).unwrap();
            (cell, sealed.start, sealed.start + sealed.len)
        })
        .collect();
    let mut plane = plane(TlsRole::Client, format, peer(), None, false);
    for (cell, start, end) in &mut cells[..batches * BATCH] {
        let opened = Plane::open(&mut plane, black_box(NOW), peer(), &mut cell[*start..*end]);
        assert!(black_box(opened).is_ok());
    }
}

fn split(packets: &Packets, batches: usize) {
    let mut out = vec![0; packets[0].1.len()];
    for _ in 0..batches {
        for (header, packet) in packets {
            let mut split = Split::new(black_box(header), packet).unwrap();
            while split.write_next(&mut out).is_some() {
                black_box(&mut out);
            }
        }
    }
}

fn coalesce(packets: &Packets, batches: usize) {
    let (mut slab, mut places) = (Vec::new(), Vec::new());
    for (header, packet) in packets {
        let mut split = Split::new(header, packet).unwrap();
        while let Some(len) = split.next_len() {
            let start = slab.len();
            slab.resize(start + len, 0);
            split.write_next(&mut slab[start..]);
            places.push(start..start + len);
        }
    }
    let mut coalescer = Coalescer::new(Offload::ALL);
    for _ in 0..batches {
        for place in &places {
            assert!(coalescer.push(black_box(&slab), place.clone()));
        }
        let flushed = coalescer.flush(&slab, |parts| {
            black_box(parts);
            Ok(())
        });
        assert_eq!(flushed.written, BATCH);
    }
}

fn uplink(format: DataFormat, stream: bool, packets: Packets, batches: usize) {
    let mut tunnel =
        Tunnel::new(Shape { format, stream, mss: None, offload: Offload::ALL, half: false }, packets);
    for _ in 0..batches {
        tunnel.up();
    }
    assert_eq!(tunnel.near.plane.usage(PEER).unwrap().tx_packets, (batches * BATCH) as u64);
}

fn downlink(format: DataFormat, stream: bool, packets: Packets, batches: usize) {
    let mut tunnel =
        Tunnel::new(Shape { format, stream, mss: None, offload: Offload::ALL, half: false }, packets);
    let mut cables: Vec<_> = (0..MOST)
        .map(|_| {
            tunnel.up();
            tunnel.sent().clone()
        })
        .collect();
    for cable in &mut cables[..batches] {
        tunnel.down(cable);
    }
    assert_eq!(tunnel.far.plane.usage(PEER).unwrap().rx_packets, (batches * BATCH) as u64);
}
