use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;

use zeroize::Zeroizing;

use super::*;
use crate::config::params::{DataFormat, Framing};
use crate::data::{HEADROOM, KeySpent, TAILROOM};
use crate::keys::data_key::{KeyLimits, TlsRole};
use crate::path::StreamId;
use crate::report::{Totals, Wear};

mod demux;
mod framed;
mod limits;
mod many;

const NOW: Instant = Instant::ZERO;
const KEY: KeyId = KeyId::FIRST;

fn udp(port: u16) -> Path {
    Path::udp(0, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn peer(id: u32) -> PeerRef {
    PeerRef { id: PeerId::from_low_bits(id), generation: 1 }
}

fn params(format: DataFormat, by_path: bool) -> DataParams {
    DataParams { by_path, ..DataParams::new(DataCipher::Aes128Gcm, format) }
}

fn v2(id: u32) -> DataFormat {
    DataFormat::V2(PeerId::from_low_bits(id))
}

/// A key block made from a seed.
fn data(seed: u8, role: TlsRole, limits: KeyLimits) -> DataKey {
    DataKey::new(Zeroizing::new(core::array::from_fn(|i| i as u8 ^ seed)), role, limits)
}

fn add(table: &mut Table, peer: PeerRef, path: Path, params: DataParams) {
    table.apply(NOW, Directive::AddPeer { peer, path, params });
}

fn install(table: &mut Table, peer: PeerRef, key: KeyId, data: DataKey) {
    table.apply(NOW, Directive::InstallKey { peer, key, data });
    table.apply(NOW, Directive::PromoteKey { peer, key });
}

fn route(table: &mut Table, peer: PeerRef, net: &str) {
    table.apply(NOW, Directive::AddRoute { peer, inner: net.parse().unwrap() });
}

/// Lets a peer be the source and destination of anything.
fn route_all(table: &mut Table, peer: PeerRef) {
    route(table, peer, "0.0.0.0/0");
    route(table, peer, "::/0");
}

/// A client's table with one server at port 1194, found by path.
fn client(format: DataFormat) -> Table {
    let mut table = Table::new();
    add(&mut table, peer(0), udp(1194), params(format, true));
    install(&mut table, peer(0), KEY, data(0, TlsRole::Client, KeyLimits::default()));
    table
}

/// A server's table with client 3 at port 5000; its packets carry the id.
fn server(format: DataFormat) -> Table {
    let mut table = Table::new();
    add(&mut table, peer(3), udp(5000), params(format, false));
    install(&mut table, peer(3), KEY, data(0, TlsRole::Server, KeyLimits::default()));
    route_all(&mut table, peer(3));
    table
}

fn ip(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x45;
    packet[3] = 40;
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet
}

fn ip6(source: &str, destination: &str) -> Vec<u8> {
    let mut packet = vec![0; 48];
    packet[0] = 0x60;
    packet[5] = 8;
    packet[8..24].copy_from_slice(&source.parse::<core::net::Ipv6Addr>().unwrap().octets());
    packet[24..40].copy_from_slice(&destination.parse::<core::net::Ipv6Addr>().unwrap().octets());
    packet
}

fn try_seal(table: &mut Table, to: PeerRef, payload: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut buf = vec![0; HEADROOM + payload.len() + TAILROOM];
    buf[HEADROOM..HEADROOM + payload.len()].copy_from_slice(payload);
    let sealed = table.seal(NOW, to, &mut Slot::new(&mut buf, HEADROOM, payload.len()))?;
    Ok(buf[sealed.start..sealed.start + sealed.len].to_vec())
}

fn seal(table: &mut Table, to: PeerRef, payload: &[u8]) -> Vec<u8> {
    try_seal(table, to, payload).unwrap()
}

/// Opens a packet; `None` for the payload means that the table handled it.
fn open(table: &mut Table, from: Path, packet: &[u8]) -> Result<(PeerRef, Option<Vec<u8>>), DropReason> {
    let mut packet = packet.to_vec();
    let before = DropReason::ALL.iter().map(|&r| table.drops().get(r)).sum::<u64>();
    let result = table.open(NOW, from, &mut packet).map(|o| match o.payload {
        Payload::Packet(bytes) => (o.peer, Some(bytes.to_vec())),
        Payload::Handled => (o.peer, None),
    });
    let after = DropReason::ALL.iter().map(|&r| table.drops().get(r)).sum::<u64>();
    assert_eq!(after - before, u64::from(result.is_err()), "every dropped packet is counted once");
    result
}

fn reports(table: &mut Table) -> Vec<Report> {
    core::iter::from_fn(|| table.poll_report()).collect()
}

#[test]
fn packets_cross_in_both_directions_and_formats() {
    for format in [DataFormat::V1, v2(3), DataFormat::Epoch(PeerId::from_low_bits(3))] {
        let (mut c, mut s) = (client(format), server(format));
        for round in 0..200u8 {
            let there = ip([10, 0, 0, 2], [10, 0, 0, round]);
            let packet = seal(&mut c, peer(0), &there);
            assert_eq!(open(&mut s, udp(5000), &packet), Ok((peer(3), Some(there))));
            let back = ip([10, 0, 0, round], [10, 0, 0, 2]);
            let packet = seal(&mut s, peer(3), &back);
            assert_eq!(open(&mut c, udp(1194), &packet), Ok((peer(0), Some(back))));
        }
        assert_eq!(reports(&mut c), [Report::FirstReceive { peer: peer(0), key: KEY }]);
        assert_eq!(reports(&mut s), [Report::FirstReceive { peer: peer(3), key: KEY }]);
    }
}

#[test]
fn a_stale_generation_neither_seals_nor_obeys() {
    let mut s = server(v2(3));
    let newer = PeerRef { generation: 2, ..peer(3) };
    add(&mut s, newer, udp(6000), params(v2(3), false));
    assert_eq!(try_seal(&mut s, peer(3), &[1]), Err(SealError::NoPeer));
    // The new use of the id has no key of the old one.
    assert_eq!(try_seal(&mut s, newer, &[1]), Err(SealError::NoKey));
    install(&mut s, newer, KEY, data(1, TlsRole::Server, KeyLimits::default()));
    s.apply(NOW, Directive::RetireKey { peer: peer(3), key: KEY });
    s.apply(NOW, Directive::MovePeer { peer: peer(3), path: udp(7) });
    s.apply(NOW, Directive::AskActivity { peer: peer(3) });
    s.apply(NOW, Directive::RemovePeer { peer: peer(3) });
    add(&mut s, peer(3), udp(8), params(v2(3), false));
    assert!(try_seal(&mut s, newer, &[1]).is_ok());
    assert_eq!(reports(&mut s), []);
    s.apply(NOW, Directive::RemovePeer { peer: newer });
    assert_eq!(try_seal(&mut s, newer, &[1]), Err(SealError::NoPeer));
}

#[test]
fn keys_change_without_losing_a_packet() {
    let (mut c, mut s) = (client(v2(3)), server(v2(3)));
    let second = KEY.next();
    let late = seal(&mut c, peer(0), &ip([1; 4], [2; 4]));
    s.apply(
        NOW,
        Directive::InstallKey {
            peer: peer(3),
            key: second,
            data: data(9, TlsRole::Server, KeyLimits::default()),
        },
    );
    assert_eq!(seal(&mut s, peer(3), &[1])[0] & 7, 0, "installed, not promoted");
    install(&mut c, peer(0), second, data(9, TlsRole::Client, KeyLimits::default()));
    let early = seal(&mut c, peer(0), &ip([1; 4], [2; 4]));
    assert_eq!(early[0] & 7, 1);
    assert!(open(&mut s, udp(5000), &early).is_ok());
    assert!(open(&mut s, udp(5000), &late).is_ok());
    assert_eq!(reports(&mut s), [second, KEY].map(|key| Report::FirstReceive { peer: peer(3), key }));
    s.apply(NOW, Directive::RetireKey { peer: peer(3), key: KEY });
    assert_eq!(open(&mut s, udp(5000), &late), Err(DropReason::NoKey));
    // The retired key was the sending one.
    assert_eq!(try_seal(&mut s, peer(3), &[1]), Err(SealError::NoKey));
}

#[test]
fn a_key_that_was_taken_over_from_opens_and_never_seals_again() {
    for format in [v2(3), DataFormat::Epoch(PeerId::from_low_bits(3))] {
        let (mut c, mut s) = (client(format), server(format));
        let late = seal(&mut c, peer(0), &ip([1; 4], [2; 4]));
        install(&mut s, peer(3), KEY.next(), data(9, TlsRole::Server, KeyLimits::default()));
        assert!(open(&mut s, udp(5000), &late).is_ok());
        s.apply(NOW, Directive::PromoteKey { peer: peer(3), key: KEY });
        assert_eq!(try_seal(&mut s, peer(3), &[1]), Err(SealError::NoKey));
        s.apply(NOW, Directive::PromoteKey { peer: peer(3), key: KEY.next() });
        assert_eq!(try_seal(&mut s, peer(3), &[1]), Err(SealError::NoKey));
    }
}

#[test]
fn pings_and_exit_notices_cross() {
    for format in [DataFormat::V1, v2(3), DataFormat::Epoch(PeerId::from_low_bits(3))] {
        let (mut c, mut s) = (client(format), server(format));
        c.apply(NOW, Directive::SendPing { peer: peer(0) });
        c.apply(NOW, Directive::SendExit { peer: peer(0) });
        c.apply(NOW, Directive::SendExit { peer: peer(0) });
        c.apply(NOW, Directive::RemovePeer { peer: peer(0) });
        let mut out = [0; MAX_OWN_PACKET];
        assert_eq!(c.poll_transmit(&mut out[..20]), None, "too small a buffer loses nothing");
        for _ in 0..3 {
            let t = c.poll_transmit(&mut out).unwrap();
            assert_eq!(t.path, udp(1194));
            assert_eq!(open(&mut s, udp(5000), &out[..t.len]), Ok((peer(3), None)));
        }
        assert_eq!(c.poll_transmit(&mut out), None);
        assert_eq!(
            reports(&mut s),
            [Report::FirstReceive { peer: peer(3), key: KEY }, Report::PeerExit { peer: peer(3) }]
        );
    }
}

#[test]
fn payloads_are_told_apart() {
    let mut request = inner::EXIT;
    request[16] = 0;
    let mut long_ping = inner::PING.to_vec();
    long_ping.push(0);
    for (payload, expected) in [
        (inner::PING.to_vec(), Ok(())),
        (request.to_vec(), Ok(())),
        (long_ping, Err(DropReason::NotIp)),
        (inner::EXIT[..16].to_vec(), Err(DropReason::NotIp)),
        (ip([1; 4], [2; 4])[..19].to_vec(), Err(DropReason::NotIp)),
        (ip6("::1", "::2")[..39].to_vec(), Err(DropReason::NotIp)),
        (vec![0x55; 60], Err(DropReason::NotIp)),
    ] {
        let (mut c, mut s) = (client(v2(3)), server(v2(3)));
        let packet = seal(&mut c, peer(0), &payload);
        assert_eq!(open(&mut s, udp(5000), &packet), expected.map(|()| (peer(3), None)), "{payload:x?}");
    }
    let (mut c, mut s) = (client(v2(3)), server(v2(3)));
    let packet = seal(&mut c, peer(0), &ip6("::1", "::2"));
    assert_eq!(open(&mut s, udp(5000), &packet), Ok((peer(3), Some(ip6("::1", "::2")))));
}

#[test]
fn bad_slots_are_refused() {
    let mut c = client(v2(3));
    assert_eq!(try_seal(&mut c, peer(0), &[]), Err(SealError::BadLength));
    let mut buf = [1; 100];
    let mut slot = Slot::new(&mut buf, 23, 50);
    assert_eq!(c.seal(NOW, peer(0), &mut slot), Err(SealError::NoRoom));
    let mut e = client(DataFormat::Epoch(PeerId::from_low_bits(3)));
    let mut slot = Slot::new(&mut buf, 12, 73);
    assert_eq!(e.seal(NOW, peer(0), &mut slot), Err(SealError::NoRoom));
    let mut slot = Slot::new(&mut buf, 12, 72);
    assert_eq!(e.seal(NOW, peer(0), &mut slot).map(|s| (s.start, s.len)), Ok((0, 100)));
}

#[test]
fn activity_tells_times_and_sums() {
    let (mut c, mut s) = (client(v2(3)), server(v2(3)));
    c.apply(NOW, Directive::AskActivity { peer: peer(0) });
    let none = Totals::default();
    assert_eq!(
        reports(&mut c),
        [Report::Activity { peer: peer(0), last_rx: NOW, last_tx: NOW, totals: none, key_totals: none }]
    );
    let (t1, t2) = (NOW + Duration::from_secs(1), NOW + Duration::from_secs(2));
    let mut buf = [0x45; HEADROOM + 40 + TAILROOM];
    c.seal(t1, peer(0), &mut Slot::new(&mut buf, HEADROOM, 40)).unwrap();
    let mut packet = seal(&mut s, peer(3), &ip([1; 4], [2; 4]));
    c.open(t2, udp(1194), &mut packet).unwrap();
    // What doesn't authenticate is no activity.
    assert!(c.open(t2 + Duration::from_secs(1), udp(1194), &mut packet).is_err());
    let second = KEY.next();
    let next = data(9, TlsRole::Client, KeyLimits::default());
    c.apply(NOW, Directive::InstallKey { peer: peer(0), key: second, data: next });
    let totals = Totals { rx_packets: 1, rx_bytes: 64, tx_packets: 1, tx_bytes: 64 };
    for (promoted, key_totals) in [(KEY, totals), (second, none)] {
        c.apply(NOW, Directive::PromoteKey { peer: peer(0), key: promoted });
        c.apply(NOW, Directive::AskActivity { peer: peer(0) });
        let activity = Report::Activity { peer: peer(0), last_rx: t2, last_tx: t1, totals, key_totals };
        assert_eq!(reports(&mut c).last(), Some(&activity));
    }
}

#[test]
fn pings_and_exit_notices_are_no_tunnel_traffic() {
    let (mut c, mut s) = (client(v2(3)), server(v2(3)));
    for order in [Directive::SendPing { peer: peer(0) }, Directive::SendExit { peer: peer(0) }] {
        c.apply(NOW, order);
        let mut out = [0; MAX_OWN_PACKET];
        let len = c.poll_transmit(&mut out).unwrap().len;
        assert_eq!(open(&mut s, udp(5000), &out[..len]), Ok((peer(3), None)));
    }
    for (table, peer) in [(&mut c, peer(0)), (&mut s, peer(3))] {
        table.apply(NOW, Directive::AskActivity { peer });
        let news = reports(table);
        let Some(Report::Activity { totals, key_totals, .. }) = news.last() else { panic!("{news:?}") };
        assert_eq!(*totals, Totals::default());
        assert_eq!(key_totals.rx_packets + key_totals.tx_packets, 2, "the key wears all the same");
    }
}

#[test]
fn the_mss_is_clamped_on_both_ways() {
    let mut syn = ip([10, 0, 0, 1], [10, 0, 0, 2]);
    syn[9] = 6;
    syn.extend([2, 4, 0x05, 0xb4]);
    syn[3] = 44;
    (syn[32], syn[33]) = (6 << 4, 2);
    let mss = |p: &[u8]| u16::from_be_bytes([p[42], p[43]]);
    for (ours, theirs, expected) in [(Some(1300), None, 1300), (None, Some(1200), 1200), (None, None, 1460)] {
        let (mut c, mut s) = (Table::new(), Table::new());
        add(&mut c, peer(0), udp(1194), DataParams { mss: ours, ..params(v2(3), true) });
        install(&mut c, peer(0), KEY, data(0, TlsRole::Client, KeyLimits::default()));
        add(&mut s, peer(3), udp(5000), DataParams { mss: theirs, ..params(v2(3), false) });
        install(&mut s, peer(3), KEY, data(0, TlsRole::Server, KeyLimits::default()));
        route_all(&mut s, peer(3));
        let packet = seal(&mut c, peer(0), &syn);
        let (_, opened) = open(&mut s, udp(5000), &packet).unwrap();
        assert_eq!(mss(&opened.unwrap()), expected);
    }
}
