use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::collections::BTreeSet;

use super::*;
use crate::path::StreamId;

const SECOND: Duration = Duration::from_secs(1);
/// The middle of a slot of 30 s.
const NOW: Instant = Instant::from_nanos(1_000_005_000_000_000);

fn cookies() -> Cookies {
    Cookies::new(&[7; 32], Duration::from_secs(60))
}

fn id(n: u8) -> SessionId {
    SessionId::new([n; 8]).unwrap()
}

fn v4(last: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, last), port).into()
}

/// Paths that differ in one thing from another.
fn paths() -> Vec<Path> {
    let datagram = |socket, remote, local| Path::Datagram { socket, remote, local };
    let v6 = |scope| SocketAddr::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 0, scope));
    let mapped = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), 1));
    vec![
        datagram(0, v4(1, 1), None),
        datagram(1, v4(1, 1), None),
        datagram(0, v4(2, 1), None),
        datagram(0, v4(1, 2), None),
        datagram(0, v4(1, 1), Some(Ipv4Addr::LOCALHOST.into())),
        datagram(0, v4(1, 1), Some(Ipv6Addr::LOCALHOST.into())),
        datagram(0, mapped, None),
        datagram(0, v6(0), None),
        datagram(0, v6(1), None),
        datagram(0, v6(1), Some(Ipv6Addr::LOCALHOST.into())),
        Path::Stream(StreamId(0)),
        Path::Stream(StreamId(1)),
    ]
}

#[test]
fn every_part_of_the_path_and_the_clients_id_counts() {
    let cookies = cookies();
    let mut seen = BTreeSet::new();
    for path in paths() {
        for client in [id(1), id(2)] {
            let ours = cookies.make(NOW, &path, client);
            assert!(seen.insert(ours), "{path:?}");
            for other in paths() {
                for other_client in [id(1), id(2)] {
                    let same = other == path && other_client == client;
                    assert_eq!(cookies.check(NOW, &other, other_client, ours), same, "{path:?} {other:?}");
                }
            }
        }
    }
    let stranger = Cookies::new(&[8; 32], Duration::from_secs(60));
    let path = paths()[0];
    assert!(!cookies.check(NOW, &path, id(1), stranger.make(NOW, &path, id(1))));
}

#[test]
fn the_flow_label_may_change() {
    let with = |flow| Path::udp(0, SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, flow, 0).into());
    assert_eq!(cookies().make(NOW, &with(1), id(1)), cookies().make(NOW, &with(2), id(1)));
}

#[test]
fn an_id_lasts_for_its_slot_and_two_more() {
    let (cookies, path) = (cookies(), paths()[0]);
    let slot = NOW.as_nanos() / 30_000_000_000;
    let start = Instant::from_nanos(slot * 30_000_000_000);
    let last = Duration::from_nanos(1);
    let end = start + 90 * SECOND;
    for made in [start, start + SECOND, Instant::from_nanos((start + 30 * SECOND).as_nanos() - 1)] {
        let ours = cookies.make(made, &path, id(1));
        assert!(cookies.check(made, &path, id(1), ours));
        assert!(cookies.check(Instant::from_nanos(end.as_nanos() - 1), &path, id(1), ours));
        assert!(!cookies.check(end, &path, id(1), ours));
        assert!(
            !cookies.check(Instant::from_nanos(start.as_nanos() - 1), &path, id(1), ours),
            "of the future"
        );
    }
    let first = cookies.make(Instant::ZERO, &path, id(1));
    assert!(cookies.check(Instant::ZERO + last, &path, id(1), first));
}

#[test]
fn odd_hand_windows_work() {
    for window in [Duration::ZERO, SECOND, Duration::from_millis(1500), Duration::MAX] {
        let cookies = Cookies::new(&[7; 32], window);
        let ours = cookies.make(NOW, &paths()[0], id(1));
        assert!(cookies.check(NOW, &paths()[0], id(1), ours), "{window:?}");
    }
}

#[test]
fn the_longest_path_fits() {
    let remote = SocketAddrV6::new(Ipv6Addr::LOCALHOST, u16::MAX, u32::MAX, u32::MAX).into();
    let path = Path::Datagram { socket: u16::MAX, remote, local: Some(Ipv6Addr::LOCALHOST.into()) };
    assert_eq!(encode(&path).1, MAX_PATH);
}
