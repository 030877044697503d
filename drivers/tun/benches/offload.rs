//! What it costs to take super-packets apart and to put them together, per packet: the least of many rounds, as other
//! work on the machine only adds. `cargo bench -p oxivpn-tun`.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Instant;

#[path = "../tests/packets/mod.rs"]
mod packets;

use oxivpn_tun::offload::{Coalescer, Offload, Split, VnetHeader};
use packets::{Packet, filler};

const SEGMENTS: usize = 46;
const MTU: usize = 1_400;

fn report(what: &str, packets: usize, mut round: impl FnMut()) {
    const ROUNDS: usize = 20;
    let best = (0..200)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..ROUNDS {
                round();
            }
            begun.elapsed()
        })
        .min()
        .unwrap();
    println!("{what:<60} {:>6.1} ns/packet", best.as_nanos() as f64 / (ROUNDS * packets) as f64);
}

fn super_packet(v6: bool, tcp: bool) -> (VnetHeader, Vec<u8>, Vec<Vec<u8>>) {
    let mut packet = Packet::new(v6, tcp);
    let segment = MTU - packet.headers();
    packet.payload = filler(SEGMENTS * segment, 1);
    (packet.vnet(segment as u16), packet.partial_bytes(), packet.segments(segment))
}

fn main() {
    let kinds =
        [("TCP over IPv4", false, true), ("TCP over IPv6", true, true), ("UDP over IPv4", false, false)];
    for (name, v6, tcp) in kinds {
        let (header, packet, _) = super_packet(v6, tcp);
        // As a tunnel lays them out: at odd distances, with room for its own header and tag.
        let mut out = vec![0; 9 + (SEGMENTS + 1) * (MTU + 25)];
        report(&format!("split, {name}"), SEGMENTS, || {
            let mut split = Split::new(black_box(&header), &packet).unwrap();
            let mut at = 9;
            while let Some(len) = split.write_next(&mut out[at..]) {
                at += len + 25;
            }
            black_box(&out);
        });
    }
    let (_, packet, _) = super_packet(false, true);
    let mut out = vec![0; MTU];
    report("(plain copy of the same)", SEGMENTS, || {
        for part in black_box(&packet).chunks(MTU) {
            out[..part.len()].copy_from_slice(part);
            black_box(&out);
        }
    });
    let one = packet[..MTU].to_vec();
    report("one plain packet", 1, || {
        black_box(Split::new(black_box(&VnetHeader::PLAIN), &one).unwrap().write_next(&mut out));
    });
    for (name, v6, tcp) in kinds {
        let (_, _, packets) = super_packet(v6, tcp);
        coalesce(&format!("coalesce, {name}, one flow"), &packets);
    }
    let mixed: Vec<Vec<u8>> = {
        let flows: Vec<Vec<Vec<u8>>> = (0..3)
            .map(|port| {
                let mut packet = Packet { ports: (port, 1), ..Packet::new(false, true) };
                let segment = MTU - packet.headers();
                packet.payload = filler(15 * segment, 1);
                packet.segments(segment)
            })
            .collect();
        (0..45).map(|at| flows[at % 3][at / 3].clone()).collect()
    };
    coalesce("coalesce, TCP over IPv4, three flows in turn", &mixed);
    let acks: Vec<Vec<u8>> = (0..SEGMENTS).map(|_| Packet::new(false, true).bytes()).collect();
    coalesce("coalesce, acknowledgements (never merged)", &acks);
}

fn coalesce(name: &str, packets: &[Vec<u8>]) {
    let slab = packets.concat();
    let mut coalescer = Coalescer::new(Offload::ALL);
    report(name, packets.len(), || {
        let mut at = 0;
        for packet in packets {
            assert!(coalescer.push(black_box(&slab), at..at + packet.len()));
            at += packet.len();
        }
        let flushed = coalescer.flush(&slab, |parts| {
            black_box(parts);
            Ok(())
        });
        black_box(flushed.written);
    });
}
