//! A server with many peers.

use super::*;
use crate::data::Forward;

/// A server with the inner addresses 10.8.0.1 and fd00::1, and clients 1 to 3 with 10.8.0.1x and fd00::1x at ports
/// 5001 to 5003; 10.1.0.0/16 and fd01::/64 are behind client 2. All may float. Client 3 knows no peer-id.
fn server_of_three() -> Table {
    let mut s = Table::new();
    s.serve(&["10.8.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
    for id in 1..=3 {
        let old = id == 3;
        let format = if old { DataFormat::V1 } else { v2(id) };
        let params = DataParams { float: !old, ..params(format, old) };
        add(&mut s, peer(id), udp(5000 + id as u16), params);
        install(&mut s, peer(id), KEY, data(id as u8, TlsRole::Server, KeyLimits::default()));
        route(&mut s, peer(id), &format!("10.8.0.1{id}/32"));
        route(&mut s, peer(id), &format!("fd00::1{id}/128"));
    }
    route(&mut s, peer(2), "10.1.0.0/16");
    route(&mut s, peer(2), "fd01::/64");
    s
}

/// The table of one of those clients.
fn client_of(id: u32) -> Table {
    let mut c = Table::new();
    let format = if id == 3 { DataFormat::V1 } else { v2(id) };
    add(&mut c, peer(0), udp(1194), params(format, true));
    install(&mut c, peer(0), KEY, data(id as u8, TlsRole::Client, KeyLimits::default()));
    c
}

fn comes_from(s: &mut Table, c: &mut Table, port: u16, packet: &[u8]) -> Result<u32, DropReason> {
    open(s, udp(port), &seal(c, peer(0), packet)).map(|(p, _)| p.id.get())
}

#[test]
fn a_client_sends_from_its_own_addresses_only() {
    let mut s = server_of_three();
    let mut clients = [1, 2, 3].map(client_of);
    let v4 = |source: &str| ip(source.parse::<Ipv4Addr>().unwrap().octets(), [10, 8, 0, 1]);
    let v6 = |source| ip6(source, "fd00::1");
    for (packet, owner) in [
        (v4("10.8.0.11"), 1),
        (v4("10.8.0.12"), 2),
        (v4("10.8.0.13"), 3),
        (v4("10.1.2.3"), 2),
        (v6("fd00::11"), 1),
        (v6("fd00::13"), 3),
        (v6("fd01::9"), 2),
        // Nobody's: the server's own, unknown ones, none, groups, and IPv6 addresses of a link, as OpenVPN has it.
        (v4("10.8.0.1"), 0),
        (v6("fd00::1"), 0),
        (v4("10.8.0.99"), 0),
        (v4("0.0.0.0"), 0),
        (v4("224.0.0.1"), 0),
        (v4("255.255.255.255"), 0),
        (v6("fd00::99"), 0),
        (v6("::"), 0),
        (v6("fe80::1"), 0),
        (v6("ff02::1"), 0),
    ] {
        for (i, client) in clients.iter_mut().enumerate() {
            let id = i as u32 + 1;
            let expected = if owner == id { Ok(id) } else { Err(DropReason::InnerSource) };
            assert_eq!(comes_from(&mut s, client, 5000 + id as u16, &packet), expected, "{packet:?}");
        }
    }
}

#[test]
fn packets_between_clients_find_their_way() {
    let s = server_of_three();
    let v4 = |to: &str| ip([10, 8, 0, 11], to.parse::<Ipv4Addr>().unwrap().octets());
    let v6 = |to| ip6("fd00::11", to);
    for (packet, expected) in [
        (v4("10.8.0.12"), Forward::Peer(peer(2))),
        (v4("10.1.255.255"), Forward::Peer(peer(2))),
        (v4("10.8.0.13"), Forward::Peer(peer(3))),
        (v6("fd00::13"), Forward::Peer(peer(3))),
        (v6("fd01::13"), Forward::Peer(peer(2))),
        (v4("10.8.0.1"), Forward::Device),
        (v6("fd00::1"), Forward::Device),
        (v4("192.0.2.1"), Forward::Device),
        (v4("10.8.0.11"), Forward::Device),
        (v4("224.0.0.251"), Forward::All),
        (v4("255.255.255.255"), Forward::Device),
        (v6("ff02::fb"), Forward::All),
        (vec![0x45], Forward::Device),
    ] {
        assert_eq!(s.forward(peer(1), &packet), expected, "{packet:?}");
    }
}

#[test]
fn nobody_gets_what_is_the_servers_or_a_groups() {
    let mut s = server_of_three();
    for net in ["10.8.0.1/32", "fd00::1/128", "0.0.0.0/0", "::/0"] {
        route(&mut s, peer(1), net);
    }
    assert_eq!(s.lookup(&ip([1; 4], [9; 4])), Some(peer(1)));
    assert_eq!(s.lookup(&ip([1; 4], [10, 8, 0, 1])), None);
    assert_eq!(s.lookup(&ip6("::1", "fd00::1")), None);
    assert_eq!(s.forward(peer(2), &ip([10, 8, 0, 12], [10, 8, 0, 1])), Forward::Device);
    assert_eq!(s.forward(peer(2), &ip([10, 8, 0, 12], [224, 0, 0, 1])), Forward::All);
    assert_eq!(s.forward(peer(2), &ip([10, 8, 0, 12], [9; 4])), Forward::Peer(peer(1)));
    let mut c = client_of(1);
    assert_eq!(comes_from(&mut s, &mut c, 5001, &ip([10, 8, 0, 1], [9; 4])), Err(DropReason::InnerSource));
    // They stay the server's when the client is gone.
    s.apply(NOW, Directive::RemovePeer { peer: peer(1) });
    route(&mut s, peer(2), "10.8.0.1/32");
    assert_eq!(s.lookup(&ip([1; 4], [10, 8, 0, 1])), None);
}

#[test]
fn a_client_without_routes_gets_nothing_through() {
    for old in [false, true] {
        let mut s = Table::new();
        s.serve(&[]);
        add(&mut s, peer(1), udp(5001), params(v2(1), old));
        install(&mut s, peer(1), KEY, data(1, TlsRole::Server, KeyLimits::default()));
        let packet = ip([10, 8, 0, 11], [10, 8, 0, 1]);
        assert_eq!(comes_from(&mut s, &mut client_of(1), 5001, &packet), Err(DropReason::InnerSource));
        assert_eq!(s.lookup(&packet), None);
    }
}

#[test]
fn old_and_new_clients_share_a_table() {
    let mut s = server_of_three();
    let (mut new, mut old) = (client_of(1), client_of(3));
    let from_new = ip([10, 8, 0, 11], [10, 8, 0, 1]);
    let from_old = ip([10, 8, 0, 13], [10, 8, 0, 1]);
    assert_eq!(comes_from(&mut s, &mut new, 5001, &from_new), Ok(1));
    assert_eq!(comes_from(&mut s, &mut old, 5003, &from_old), Ok(3));
    // A new one is known by its id, the old one by where it is, and nothing else.
    assert_eq!(comes_from(&mut s, &mut new, 5003, &from_new), Err(DropReason::DataAuthentication));
    assert_eq!(comes_from(&mut s, &mut new, 9, &from_new), Ok(1));
    assert_eq!(comes_from(&mut s, &mut old, 9, &from_old), Err(DropReason::UnknownPath));
    let floated = |r: &Report| matches!(r, Report::Floated { .. });
    let floats: Vec<_> = reports(&mut s).into_iter().filter(floated).collect();
    assert_eq!(floats, [Report::Floated { peer: peer(1), to: udp(9) }]);
    for (id, format) in [(1, 9), (3, 6)] {
        assert_eq!(seal(&mut s, peer(id), &from_new)[0] >> 3, format);
    }
}

#[test]
fn a_restarted_client_keeps_the_path_when_its_old_session_goes() {
    for old in [false, true] {
        let mut s = Table::new();
        let mut c = client_of(2);
        for id in [1, 2] {
            let format = if old { DataFormat::V1 } else { v2(id) };
            add(&mut s, peer(id), udp(5000), params(format, old));
            install(&mut s, peer(id), KEY, data(id as u8, TlsRole::Server, KeyLimits::default()));
        }
        route_all(&mut s, peer(2));
        let packet = ip([10, 8, 0, 12], [10, 8, 0, 1]);
        assert_eq!(comes_from(&mut s, &mut c, 5000, &packet), Ok(2));
        s.apply(NOW, Directive::RemovePeer { peer: peer(1) });
        assert_eq!(comes_from(&mut s, &mut c, 5000, &packet), Ok(2));
        // Packets without an id are found by the path, which is still its own.
        let unnamed = from_v1(2, &packet);
        assert_eq!(open(&mut s, udp(5000), &unnamed).map(|(p, _)| p), Ok(peer(2)));
        assert_eq!(s.peer_path(peer(2)), Some(udp(5000)));
        assert_eq!(s.peer_path(peer(1)), None);
    }
    // The same when the old one moves away.
    let mut s = Table::new();
    for id in [1, 2] {
        add(&mut s, peer(id), udp(5000), params(DataFormat::V1, true));
        install(&mut s, peer(id), KEY, data(id as u8, TlsRole::Server, KeyLimits::default()));
        route_all(&mut s, peer(id));
    }
    s.apply(NOW, Directive::MovePeer { peer: peer(1), path: udp(5001) });
    let packet = ip([10, 8, 0, 12], [10, 8, 0, 1]);
    assert_eq!(open(&mut s, udp(5000), &from_v1(2, &packet)).map(|(p, _)| p), Ok(peer(2)));
    assert_eq!(s.peer_path(peer(1)), Some(udp(5001)));
}

/// A packet without id from a client with key block `seed`, its 100th.
fn from_v1(seed: u8, packet: &[u8]) -> Vec<u8> {
    let mut c = Table::new();
    add(&mut c, peer(0), udp(1194), params(DataFormat::V1, true));
    install(&mut c, peer(0), KEY, data(seed, TlsRole::Client, KeyLimits::default()));
    (0..100).map(|_| seal(&mut c, peer(0), packet)).collect::<Vec<_>>().pop().unwrap()
}

#[test]
fn usage_counts_everything() {
    let (mut c, mut s) = (client_of(1), server_of_three());
    let packet = ip([10, 8, 0, 11], [10, 8, 0, 1]);
    comes_from(&mut s, &mut c, 5001, &packet).unwrap();
    c.apply(NOW, Directive::SendPing { peer: peer(0) });
    let mut out = [0; MAX_OWN_PACKET];
    let ping = c.poll_transmit(&mut out).unwrap().len;
    open(&mut s, udp(5001), &out[..ping]).unwrap();
    let (bytes, packets) = (64 + ping as u64, 2);
    let sent = Totals { tx_packets: packets, tx_bytes: bytes, ..Totals::default() };
    assert_eq!(c.usage(peer(0)), Some(sent));
    let received = Totals { rx_packets: packets, rx_bytes: bytes, ..Totals::default() };
    assert_eq!(s.usage(peer(1)), Some(received));
    // What was dropped for its source was received all the same.
    comes_from(&mut s, &mut c, 5001, &ip([1; 4], [2; 4])).unwrap_err();
    assert_eq!(s.usage(peer(1)).unwrap().rx_packets, 3);
    assert_eq!(s.usage(peer(9)), None);
}

#[test]
fn news_of_ten_thousand_peers_stay_bounded() {
    const PEERS: u32 = 10_000;
    let mut s = Table::new();
    for id in 0..PEERS {
        let path = Path::udp(0, SocketAddr::from((Ipv4Addr::from(id), 1)));
        add(&mut s, peer(id), path, DataParams { float: true, ..params(v2(id), false) });
        install(&mut s, peer(id), KEY, data(0, TlsRole::Server, KeyLimits::default()));
    }
    let from = |id: u32, port: u16| Path::udp(0, SocketAddr::from((Ipv4Addr::from(id), port)));
    let mut clients: Vec<_> = (0..PEERS).map(client_of_block_0).collect();
    for port in 1..=3 {
        for id in 0..PEERS {
            let packet = seal(&mut clients[id as usize], peer(0), &inner::PING);
            assert!(open(&mut s, from(id, port), &packet).is_ok());
        }
        if port == 1 {
            let news = reports(&mut s);
            assert_eq!(news.len() as u32, PEERS, "the first packet of each");
            assert!(news.iter().all(|r| matches!(r, Report::FirstReceive { .. })));
        }
    }
    // Nobody drains: what a peer can cause any number of times stops, and comes with a later packet.
    let news = reports(&mut s);
    assert_eq!(news.len(), 1024);
    assert_eq!(news[7], Report::Floated { peer: peer(7), to: from(7, 2) });
    let packet = seal(&mut clients[9_999], peer(0), &inner::PING);
    assert!(open(&mut s, from(9_999, 4), &packet).is_ok());
    assert_eq!(reports(&mut s), [Report::Floated { peer: peer(9_999), to: from(9_999, 4) }]);
}

#[test]
fn whoever_moves_with_each_packet_is_told_now_and_then() {
    let mut s = Table::new();
    add(&mut s, peer(0), udp(1), DataParams { float: true, ..params(v2(0), false) });
    install(&mut s, peer(0), KEY, data(0, TlsRole::Server, KeyLimits::default()));
    let mut client = client_of_block_0(0);
    let mut moves = Vec::new();
    for n in 0..1000_u64 {
        let (now, port) = (NOW + Duration::from_millis(n), 1 + (n % 2) as u16);
        let mut packet = seal(&mut client, peer(0), &inner::PING);
        assert!(s.open(now, udp(port), &mut packet).is_ok());
        for report in reports(&mut s) {
            if let Report::Floated { peer, to } = report {
                moves.push(to);
                s.apply(now, Directive::MovePeer { peer, path: to });
            }
        }
    }
    assert_eq!(moves.len(), 4);
}

fn client_of_block_0(id: u32) -> Table {
    let mut c = Table::new();
    add(&mut c, peer(0), udp(1194), params(v2(id), true));
    install(&mut c, peer(0), KEY, data(0, TlsRole::Client, KeyLimits::default()));
    c
}
