//! Which peer a packet belongs to.

use super::*;

/// A packet from a client with key block `seed`, with this id in its header (or none).
fn from_client(seed: u8, format: DataFormat) -> Vec<u8> {
    let mut c = Table::new();
    add(&mut c, peer(0), udp(1194), params(format, true));
    install(&mut c, peer(0), KEY, data(seed, TlsRole::Client, KeyLimits::default()));
    seal(&mut c, peer(0), &ip([10, 0, 0, seed], [10, 0, 0, 99]))
}

fn from_server(seed: u8, format: DataFormat) -> Vec<u8> {
    let mut s = Table::new();
    add(&mut s, peer(0), udp(5000), params(format, false));
    install(&mut s, peer(0), KEY, data(seed, TlsRole::Server, KeyLimits::default()));
    seal(&mut s, peer(0), &ip([10, 0, 0, 1], [10, 0, 0, 2]))
}

/// Clients 1 and 2 at ports 5001 and 5002, with inner addresses 10.0.0.1 and .2 and key blocks 1 and 2; client 2 may
/// float.
fn two_clients() -> Table {
    let mut s = Table::new();
    for id in [1, 2] {
        let float = id == 2;
        add(&mut s, peer(id), udp(5000 + id as u16), DataParams { float, ..params(v2(id), false) });
        install(&mut s, peer(id), KEY, data(id as u8, TlsRole::Server, KeyLimits::default()));
        route(&mut s, peer(id), &format!("10.0.0.{id}/32"));
    }
    reports(&mut s);
    s
}

fn who(result: Result<(PeerRef, Option<Vec<u8>>), DropReason>) -> Result<u32, DropReason> {
    result.map(|(p, _)| p.id.get())
}

#[test]
fn a_server_finds_clients_by_id_or_without_one_by_path() {
    let mut s = two_clients();
    assert_eq!(who(open(&mut s, udp(5001), &from_client(1, v2(1)))), Ok(1));
    assert_eq!(who(open(&mut s, udp(5002), &from_client(2, DataFormat::V1))), Ok(2));
    let mut s = two_clients();
    assert_eq!(who(open(&mut s, udp(5001), &from_client(1, DataFormat::V2(PeerId::UNDEFINED)))), Ok(1));
    // Unknown ids don't fall back to the path, packets without id have nothing else.
    assert_eq!(who(open(&mut s, udp(5001), &from_client(1, v2(77)))), Err(DropReason::UnknownPeer));
    assert_eq!(who(open(&mut s, udp(9), &from_client(1, DataFormat::V1))), Err(DropReason::UnknownPath));
    // Someone else's id doesn't help.
    assert_eq!(who(open(&mut s, udp(5002), &from_client(1, v2(2)))), Err(DropReason::DataAuthentication));
}

#[test]
fn only_a_peer_that_may_float_is_heard_from_elsewhere() {
    let mut s = two_clients();
    assert_eq!(who(open(&mut s, udp(9), &from_client(1, v2(1)))), Err(DropReason::UnknownPath));
    assert_eq!(
        who(open(&mut s, Path::Stream(StreamId(1)), &from_client(2, v2(2)))),
        Err(DropReason::UnknownPath)
    );
    let mut forged = from_client(2, v2(2));
    forged[30] ^= 1;
    assert_eq!(who(open(&mut s, udp(9), &forged)), Err(DropReason::DataAuthentication));
    assert_eq!(reports(&mut s), [], "nothing moves before a packet authenticates");
    let mut c = Table::new();
    add(&mut c, peer(0), udp(1194), params(v2(2), true));
    install(&mut c, peer(0), KEY, data(2, TlsRole::Client, KeyLimits::default()));
    for _ in 0..2 {
        let packet = seal(&mut c, peer(0), &ip([10, 0, 0, 2], [2; 4]));
        assert_eq!(who(open(&mut s, udp(9), &packet)), Ok(2));
        // A replay from a third place moves nobody.
        assert_eq!(who(open(&mut s, udp(10), &packet)), Err(DropReason::DataReplay));
    }
    let first = Report::FirstReceive { peer: peer(2), key: KEY };
    let floated = Report::Floated { peer: peer(2), to: udp(9) };
    assert_eq!(reports(&mut s), [first, floated], "told once");
    s.apply(NOW, Directive::MovePeer { peer: peer(2), path: udp(9) });
    assert_eq!(who(open(&mut s, udp(9), &seal(&mut c, peer(0), &ip([10, 0, 0, 2], [2; 4])))), Ok(2));
    assert_eq!(reports(&mut s), []);
    let mut buf = [1; 200];
    let sealed = s.seal(NOW, peer(2), &mut Slot::new(&mut buf, HEADROOM, 4)).unwrap();
    assert_eq!(sealed.path, udp(9));
}

#[test]
fn a_client_finds_its_server_by_path_whatever_the_id() {
    for format in [DataFormat::V1, v2(0), v2(42), DataFormat::V2(PeerId::UNDEFINED)] {
        let mut c = client(v2(3));
        assert_eq!(who(open(&mut c, udp(1194), &from_server(0, format))), Ok(0));
    }
    // The id of a peer that is found by path opens no other way in.
    let mut c = client(v2(3));
    assert_eq!(who(open(&mut c, udp(9), &from_server(0, v2(0)))), Err(DropReason::UnknownPeer));
}

#[test]
fn a_single_floating_server_is_heard_from_anywhere() {
    let floating = DataParams { float: true, ..params(v2(3), true) };
    let mut c = Table::new();
    add(&mut c, peer(0), udp(1194), floating);
    install(&mut c, peer(0), KEY, data(0, TlsRole::Client, KeyLimits::default()));
    assert_eq!(who(open(&mut c, udp(9), &from_server(0, v2(42)))), Ok(0));
    assert!(reports(&mut c).contains(&Report::Floated { peer: peer(0), to: udp(9) }));
    // With two of them nobody could say which.
    add(&mut c, peer(1), udp(1195), floating);
    assert_eq!(who(open(&mut c, udp(9), &from_server(0, v2(42)))), Err(DropReason::UnknownPeer));
    c.apply(NOW, Directive::RemovePeer { peer: peer(1) });
    assert_eq!(who(open(&mut c, udp(9), &from_server(0, v2(42)))), Err(DropReason::DataReplay));
}

#[test]
fn a_stream_names_its_peer() {
    let mut s = Table::new();
    let path = Path::Stream(StreamId(7));
    add(&mut s, peer(3), path, params(v2(3), false));
    install(&mut s, peer(3), KEY, data(0, TlsRole::Server, KeyLimits::default()));
    route_all(&mut s, peer(3));
    assert_eq!(who(open(&mut s, path, &from_client(0, v2(99)))), Ok(3));
}

#[test]
fn what_is_no_data_packet_is_dropped() {
    let mut c = client(v2(3));
    for (bytes, reason) in [
        (&[][..], DropReason::Malformed),
        (&[0x48, 0, 0], DropReason::Malformed),
        (&[0x20, 1, 2, 3, 4, 5, 6, 7, 8, 9], DropReason::UnexpectedOpcode),
        (&[0xff, 1, 2, 3, 4, 5], DropReason::UnknownOpcode),
        (&[0x4f, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0], DropReason::NoKey),
        (&[0x48, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0], DropReason::Malformed),
    ] {
        assert_eq!(open(&mut c, udp(1194), bytes), Err(reason), "{bytes:x?}");
    }
    let mut e = client(DataFormat::Epoch(PeerId::from_low_bits(3)));
    assert_eq!(open(&mut e, udp(1194), &[0x30; 60]), Err(DropReason::UnexpectedOpcode));
}

#[test]
fn routes_choose_the_peer_and_bind_it() {
    let mut s = two_clients();
    assert_eq!(s.lookup(&ip([1; 4], [10, 8, 0, 1])), None);
    route(&mut s, peer(1), "10.8.0.1/32");
    route(&mut s, peer(2), "10.8.0.0/24");
    route(&mut s, peer(2), "fd00::/64");
    assert_eq!(s.lookup(&ip([1; 4], [10, 8, 0, 1])), Some(peer(1)));
    assert_eq!(s.lookup(&ip([1; 4], [10, 8, 0, 2])), Some(peer(2)));
    assert_eq!(s.lookup(&ip6("::1", "fd00::9")), Some(peer(2)));
    for nowhere in [ip([1; 4], [10, 9, 0, 1]), ip6("::1", "fd01::1"), vec![], vec![0x45; 10]] {
        assert_eq!(s.lookup(&nowhere), None);
    }
    let mut c = Table::new();
    add(&mut c, peer(0), udp(1194), params(v2(1), true));
    install(&mut c, peer(0), KEY, data(1, TlsRole::Client, KeyLimits::default()));
    let mut from =
        |s: &mut Table, source| who(open(s, udp(5001), &seal(&mut c, peer(0), &ip(source, [9; 4]))));
    assert_eq!(from(&mut s, [10, 8, 0, 1]), Ok(1));
    assert_eq!(from(&mut s, [10, 8, 0, 2]), Err(DropReason::InnerSource));
    assert_eq!(from(&mut s, [1, 1, 1, 1]), Err(DropReason::InnerSource));
    // Without addresses of its own it may send from none.
    route(&mut s, peer(2), "10.8.0.1/32");
    assert_eq!(s.lookup(&ip([1; 4], [10, 8, 0, 1])), Some(peer(2)));
    s.apply(NOW, Directive::RemoveRoute { peer: peer(1), inner: "10.8.0.1/32".parse().unwrap() });
    assert_eq!(s.lookup(&ip([1; 4], [10, 8, 0, 1])), Some(peer(2)), "it isn't peer 1's any more");
    assert_eq!(from(&mut s, [10, 8, 0, 1]), Err(DropReason::InnerSource));
    s.apply(NOW, Directive::RemovePeer { peer: peer(2) });
    assert_eq!(s.lookup(&ip([1; 4], [10, 8, 0, 1])), None);
}

#[test]
fn a_client_sends_everything_to_its_server() {
    let mut c = client(v2(3));
    assert_eq!(c.lookup(&ip([1; 4], [8, 8, 8, 8])), Some(peer(0)));
    assert_eq!(c.lookup(&ip6("::1", "2001:db8::1")), Some(peer(0)));
    add(&mut c, peer(1), udp(1195), params(v2(4), true));
    assert_eq!(c.lookup(&ip([1; 4], [8, 8, 8, 8])), None, "two servers need routes");
    c.apply(NOW, Directive::RemovePeer { peer: peer(0) });
    assert_eq!(c.lookup(&ip([1; 4], [8, 8, 8, 8])), Some(peer(1)));
}

/// The last claim wins, and who lost an address can't take it back out of the table (`openvpn: multi.c`,
/// `multi_learn_addr`).
#[test]
fn an_address_that_changed_hands_stays_with_its_new_owner() {
    for (net, inside) in [("10.8.0.0/24", ip([1; 4], [10, 8, 0, 1])), ("fd00::/64", ip6("::1", "fd00::9"))] {
        let mut s = two_clients();
        let remove = |id| Directive::RemoveRoute { peer: peer(id), inner: net.parse().unwrap() };
        route(&mut s, peer(1), net);
        route(&mut s, peer(2), net);
        s.apply(NOW, remove(1));
        assert_eq!(s.lookup(&inside), Some(peer(2)), "{net}");
        s.apply(NOW, remove(2));
        assert_eq!(s.lookup(&inside), None, "{net}");
    }
}

#[test]
fn who_moves_or_leaves_keeps_no_path() {
    let mut s = two_clients();
    s.apply(NOW, Directive::MovePeer { peer: peer(1), path: udp(9) });
    assert_eq!(s.paths.len(), 2);
    // Two at one path: the later one is found by it, and stays so when the other leaves.
    s.apply(NOW, Directive::MovePeer { peer: peer(2), path: udp(9) });
    s.apply(NOW, Directive::RemovePeer { peer: peer(1) });
    assert_eq!(s.paths.len(), 1);
    assert_eq!(who(open(&mut s, udp(9), &from_client(2, DataFormat::V1))), Ok(2));
    s.apply(NOW, Directive::RemovePeer { peer: peer(2) });
    assert!(s.paths.is_empty() && s.ids.is_empty() && s.entries.is_empty());
}
