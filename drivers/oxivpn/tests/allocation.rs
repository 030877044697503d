//! No allocation per packet: two packet paths over real data planes, in front of a counting allocator.
//!
//! The first rounds may allocate, as reports find their place in a queue then; from there on a round must not, whatever
//! it moves. What the kernel would do is done by memory that was reserved before, see `rig`.

#![expect(clippy::unwrap_used, reason = "a test, with helpers of other tests")]

use allocation_counter::{AllocationInfo, measure};
use oxivpn_proto::config::params::DataFormat;
use oxivpn_tun::offload::{Offload, VnetHeader};

#[path = "../../tun/tests/packets/mod.rs"]
mod packets;
#[path = "../examples/lane_workload/rig.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod rig;

use packets::{ACK, Packet, SYN, filler};
use rig::{PEER, Shape, Tunnel};

const WARM_UP: usize = 3;
const ROUNDS: usize = 20;
const SEGMENT: u16 = 1360;
/// Smaller than what [`traffic`] asks for.
const MSS: u16 = 1300;

/// What a device gives: super-packets of TCP and UDP up to 64 KiB, small packets one by one, large ones, a SYN.
fn traffic() -> Vec<(VnetHeader, Vec<u8>)> {
    let mut all = Vec::new();
    for (v6, tcp) in [(false, true), (true, true), (false, false)] {
        let mut packet = Packet::new(v6, tcp);
        packet.payload = filler(65_535 - packet.headers() - 40, 1);
        all.push((packet.vnet(SEGMENT), packet.partial_bytes()));
    }
    for n in 0..40 {
        let flow = Packet { ports: (1000 + n % 20, 80), ..Packet::new(n % 2 == 0, n % 3 != 0) };
        all.push((VnetHeader::PLAIN, Packet { payload: filler(usize::from(n), 3), ..flow.clone() }.bytes()));
        all.push((VnetHeader::PLAIN, Packet { payload: filler(1340, 3), ..flow }.bytes()));
    }
    let options = [&[2, 4], &1460u16.to_be_bytes()[..]].concat();
    let syn = Packet { flags: SYN, tcp_options: options, ..Packet::new(false, true) };
    assert_ne!(syn.flags, ACK);
    all.push((VnetHeader::PLAIN, syn.bytes()));
    all
}

/// How many packets these are on the wire.
fn pieces(traffic: &[(VnetHeader, Vec<u8>)]) -> u64 {
    traffic
        .iter()
        .map(|(header, packet)| match header.segment_size {
            0 => 1,
            size => (packet.len() - usize::from(header.header_len)).div_ceil(size.into()) as u64,
        })
        .sum()
}

fn shapes() -> impl Iterator<Item = Shape> {
    let formats = [DataFormat::V1, DataFormat::V2(PEER.id), DataFormat::Epoch(PEER.id)];
    formats.into_iter().flat_map(|format| {
        [false, true].into_iter().flat_map(move |stream| {
            [(None, Offload::ALL), (Some(MSS), Offload::ALL), (Some(MSS), Offload::NONE)]
                .map(|(mss, offload)| Shape { format, stream, mss, offload, half: false })
                .into_iter()
                .flat_map(|shape| [shape, Shape { half: true, ..shape }])
        })
    })
}

#[test]
fn no_turn_allocates() {
    let traffic = traffic();
    let sent = pieces(&traffic);
    for shape in shapes() {
        let mut tunnel = Tunnel::new(shape, traffic.clone());
        for _ in 0..WARM_UP {
            tunnel.round();
        }
        let rounds = |tunnel: &mut Tunnel| {
            for _ in 0..ROUNDS {
                tunnel.round();
            }
        };
        let found = measure(|| rounds(&mut tunnel));
        assert_eq!(found, AllocationInfo::default(), "{shape:?}");
        // It did what it should: nothing was lost, and all came out.
        let all = sent * (WARM_UP + ROUNDS) as u64;
        for (end, usage) in [&tunnel.near, &tunnel.far].map(|end| (end, end.plane.usage(PEER).unwrap())) {
            assert!(end.drops().iter().all(|(_, count)| count == 0), "{shape:?}: {:?}", end.drops());
            assert_eq!((end.traffic().full, end.traffic().device_refused), (0, 0));
            assert_eq!(usage.tx_packets + usage.rx_packets, all, "{shape:?}");
        }
        let device = tunnel.far.device().unwrap();
        let writes = device.writes as u64;
        if shape.offload == Offload::NONE {
            assert_eq!(writes, all, "{shape:?}");
        } else {
            assert!(writes < all / 2 + all / 10, "{writes} writes for {all} packets, {shape:?}");
        }
        let mss = &device.last[device.last.len() - 2..];
        assert_eq!(mss, shape.mss.unwrap_or(1460).to_be_bytes(), "{shape:?}");
    }
}

#[test]
fn a_turn_that_allocates_is_seen() {
    let traffic = traffic();
    let shape = shapes().next().unwrap();
    let mut tunnel = Tunnel::new(shape, traffic.clone());
    for _ in 0..WARM_UP {
        tunnel.round();
    }
    tunnel.near.device().unwrap().wasteful.set(true);
    let found = measure(|| tunnel.round());
    assert_eq!(found.count_total, traffic.len() as u64);
    assert_eq!(found.bytes_total, 100 * traffic.len() as u64);
}
