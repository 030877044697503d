//! Two workers with an address of their own each, so that a test says which of them gets a packet.

use super::*;

/// Sockets of both workers, and their addresses.
fn two_sockets() -> (Vec<Endpoints>, [SocketAddr; 2]) {
    let sockets = [udp(), udp()];
    let addresses = [sockets[0].1, sockets[1].1];
    let endpoint = |(socket, _)| Endpoints { sockets: vec![socket], listeners: Vec::new() };
    (sockets.map(endpoint).into(), addresses)
}

/// Two workers, with a client on each.
struct Pair {
    lab: Lab,
    at: [SocketAddr; 2],
    sockets: [Plain; 2],
    clients: [Client; 2],
}

impl Pair {
    fn new(client_to_client: bool) -> Self {
        let (endpoints, at) = two_sockets();
        let mut lab = Lab::of(endpoints, client_to_client, None);
        let sockets = [plain(), plain()];
        let clients = [0, 1].map(|n| Client::new(n, Path::udp(0, at[n as usize]), DataFormat::V2));
        for (n, socket) in sockets.iter().enumerate() {
            lab.add(n as u32, Path::udp(n as u16, socket.local_addr().unwrap()), DataFormat::V2);
        }
        Self { lab, at, sockets, clients }
    }

    /// Client `n` sends a packet to worker `worker`.
    fn send(&mut self, n: usize, worker: usize, packet: &[u8]) {
        let sealed = self.clients[n].seal(packet);
        self.sockets[n].send_to(&sealed, self.at[worker]).unwrap();
    }

    /// What client `n` gets.
    fn get(&mut self, n: usize) -> Vec<u8> {
        self.clients[n].open(recv(&self.sockets[n]))
    }

    fn passed(&mut self) -> [Passed; 2] {
        self.lab.totals().shares.try_into().unwrap()
    }
}

/// A packet that bears its number.
fn numbered(from: u8, to: u8, number: u32) -> Vec<u8> {
    let mut packet = packet(from, to, 100);
    packet[28..32].copy_from_slice(&number.to_be_bytes());
    packet
}

#[test]
fn packets_of_the_device_reach_clients_of_both_in_order() {
    let mut pair = Pair::new(false);
    // No more than a socket's buffer holds if it is read late.
    for number in 0..100 {
        for client in [2, 3] {
            pair.lab.device.send(&numbered(1, client, number)).unwrap();
        }
    }
    for number in 0..100 {
        assert_eq!(pair.get(0), numbered(1, 2, number));
        assert_eq!(pair.get(1), numbered(1, 3, number));
    }
    for n in [0, 1] {
        let reply = numbered(n as u8 + 2, 1, 7);
        pair.send(n, n, &reply);
        assert_eq!(pair.lab.delivered(), reply);
    }
    let [zero, one] = pair.passed();
    assert_eq!(zero, Passed { packets: 201, handed: 100, refused: 0 });
    assert_eq!(one, Passed { packets: 1, handed: 0, refused: 0 });
    let totals = pair.lab.totals();
    assert_eq!((totals.traffic.device_read, totals.traffic.device_write), (20_000, 200));
    assert_eq!(totals.drops.iter().count(), 0, "{:?}", totals.drops);
}

#[test]
fn clients_of_different_workers_reach_each_other_in_order() {
    let mut pair = Pair::new(true);
    for number in 0..200 {
        pair.send(0, 0, &numbered(2, 3, number));
        pair.send(1, 1, &numbered(3, 2, number));
        assert_eq!(pair.get(0), numbered(3, 2, number));
        assert_eq!(pair.get(1), numbered(2, 3, number));
    }
    // Nobody has the address of another worker's client.
    pair.send(0, 0, &packet(3, 1, 60));
    pair.send(1, 1, &packet(2, 3, 60));
    pair.send(0, 0, &packet(2, 3, 61));
    assert_eq!(pair.get(1), packet(2, 3, 61));
    pair.send(1, 1, &packet(3, 1, 62));
    assert_eq!(pair.lab.delivered(), packet(3, 1, 62));
    assert_eq!(pair.lab.totals().drops.get(DropReason::InnerSource), 2);
    let handed = pair.passed().map(|passed| passed.handed);
    assert_eq!(handed, [201, 200]);
}

#[test]
fn a_client_that_moves_to_another_socket_stays_with_its_worker() {
    let mut pair = Pair::new(false);
    pair.send(1, 1, &packet(3, 1, 50));
    assert_eq!(pair.lab.delivered(), packet(3, 1, 50));
    let replayed = pair.clients[1].seal(&packet(3, 1, 51));
    pair.sockets[1].send_to(&replayed, pair.at[0]).unwrap();
    assert_eq!(pair.lab.delivered(), packet(3, 1, 51));
    let news = pair.lab.wait(|news| matches!(news, News::Report(Report::Floated { .. })));
    let News::Report(Report::Floated { peer: who, to }) = news else { unreachable!() };
    assert_eq!((who, to), (peer(1), Path::udp(0, pair.sockets[1].local_addr().unwrap())));
    pair.lab.order(Directive::MovePeer { peer: who, path: to });
    let seq = pair.lab.seq;
    pair.lab.wait(|news| matches!(news, News::Report(Report::Applied(applied)) if *applied == seq));
    // One replay window for both ways.
    pair.sockets[1].send_to(&replayed, pair.at[1]).unwrap();
    for number in 0..100 {
        pair.send(1, 0, &numbered(3, 1, number));
        assert_eq!(pair.lab.delivered(), numbered(3, 1, number));
        pair.lab.device.send(&numbered(1, 3, number)).unwrap();
        assert_eq!(pair.get(1), numbered(1, 3, number));
    }
    assert_eq!(pair.lab.totals().drops.get(DropReason::DataReplay), 1);
    // An id that nobody has goes nowhere.
    pair.sockets[0].send_to(&[0x48, 0, 9, 9, 0, 0, 0, 1, 5, 5, 5, 5], pair.at[0]).unwrap();
    pair.send(0, 0, &packet(2, 1, 80));
    assert_eq!(pair.lab.delivered(), packet(2, 1, 80));
    assert_eq!(pair.passed().map(|passed| passed.handed), [201, 0]);
    assert_eq!(pair.lab.totals().drops.get(DropReason::UnknownPeer), 1);
}

#[test]
fn multicast_reaches_the_clients_of_all_workers() {
    let group = |from, len| {
        let mut packet = packet(from, 0, len);
        packet[16..20].copy_from_slice(&[224, 0, 0, 251]);
        packet
    };
    let mut pair = Pair::new(true);
    pair.lab.device.send(&group(1, 70)).unwrap();
    assert_eq!([pair.get(0), pair.get(1)], [group(1, 70), group(1, 70)]);
    for (from, to) in [(0, 1), (1, 0)] {
        let asked = group(from as u8 + 2, 71 + from);
        pair.send(from, from, &asked);
        assert_eq!(pair.lab.delivered(), asked);
        assert_eq!(pair.get(to), asked);
    }
    // The next thing that each hears: nobody hears himself.
    pair.lab.device.send(&group(1, 80)).unwrap();
    assert_eq!([pair.get(0), pair.get(1)], [group(1, 80), group(1, 80)]);
}

#[test]
fn a_worker_that_is_behind_costs_packets_which_are_counted() {
    let mut pair = Pair::new(false);
    pair.lab.crew.roster().change(1, 2);
    // The thread that had both has seen it when it has answered.
    pair.passed();
    let behind = lock(&pair.lab.crew.shared(1).packets);
    // It wants to pass this on, and waits.
    pair.sockets[1].send_to(&[0x38; 50], pair.at[1]).unwrap();
    for _ in 0..3000 {
        pair.lab.device.send(&packet(1, 3, 1400)).unwrap();
    }
    pair.lab.device.send(&packet(1, 2, 90)).unwrap();
    let reached = pair.clients[0].open(recv(&pair.sockets[0]));
    assert_eq!(reached, packet(1, 2, 90), "others are not held up");
    drop(behind);
    let [zero, _] = pair.passed();
    assert_eq!((zero.packets, zero.handed + zero.refused), (3001, 3000));
    assert!(zero.refused > 1000 && zero.handed > 250, "{zero:?}");
    assert_eq!(pair.lab.wait_packet().0, Path::udp(1, pair.sockets[1].local_addr().unwrap()));
    // It goes on.
    while pair.lab.device.send(&packet(1, 3, 91)).is_ok() {
        let mut got = recv(&pair.sockets[1]);
        // Of those that were sealed, the socket here may have lost more than a replay window holds.
        if got.len() < 200 {
            got = pair.clients[1].open(got);
            assert_eq!(got, packet(1, 3, 91));
            break;
        }
    }
}

#[test]
fn usage_is_told_once_by_whoever_has_the_peer() {
    let mut pair = Pair::new(false);
    for n in [0, 1] {
        pair.send(n, n, &packet(n as u8 + 2, 1, 60));
        pair.lab.delivered();
    }
    pair.lab.crew.command(Command::AskUsage);
    pair.lab.totals();
    pair.lab.order(Directive::RemovePeer { peer: peer(1) });
    let seq = pair.lab.seq;
    pair.lab.wait(|news| matches!(news, News::Report(Report::Applied(applied)) if *applied == seq));
    let mut told: Vec<(PeerRef, u64)> = pair
        .lab
        .news
        .iter()
        .filter_map(|news| match news {
            News::Usage(peer, totals) => Some((*peer, totals.rx_packets)),
            _ => None,
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, [(peer(0), 1), (peer(1), 1), (peer(1), 1)]);
}

#[test]
fn connections_belong_to_the_worker_that_took_them() {
    let (listeners, addresses): (Vec<_>, Vec<_>) = [listener(), listener()].into_iter().unzip();
    let ((socket, udp_at), (other, _)) = (udp(), udp());
    let endpoints = listeners.into_iter().zip([socket, other]);
    let endpoints =
        endpoints.map(|(listener, socket)| Endpoints { sockets: vec![socket], listeners: vec![listener] });
    let mut lab = Lab::of(endpoints.collect(), true, None);
    let mut streams: Vec<TcpStream> =
        addresses.iter().map(|address| TcpStream::connect(address).unwrap()).collect();
    let mut ids = [accepted(&mut lab), accepted(&mut lab)];
    ids.sort_unstable();
    assert_eq!(ids.map(|id| share::worker_of_stream(id, 2)), [0, 1]);
    let plain = plain();
    let by_stream = Path::Stream(StreamId(0));
    let paths = [by_stream, by_stream, Path::udp(0, udp_at)];
    let mut clients = [0, 1, 2].map(|n| Client::new(n, paths[n as usize], DataFormat::Epoch));
    lab.add(0, Path::Stream(ids[0]), DataFormat::Epoch);
    lab.add(1, Path::Stream(ids[1]), DataFormat::Epoch);
    lab.add(2, Path::udp(0, plain.local_addr().unwrap()), DataFormat::Epoch);
    for (id, stream) in ids.iter().zip(&mut streams) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        lab.crew.command(Command::Frame(*id, vec![0x28; 33]));
        assert_eq!(read_frame(stream), [0x28; 33]);
        stream.write_all(&frame(&[0x38, 7])).unwrap();
        assert_eq!(lab.wait_packet(), (Path::Stream(*id), vec![0x38, 7]));
    }
    for len in [60, 1400, 61] {
        plain.send_to(&clients[2].seal(&packet(4, 3, len)), udp_at).unwrap();
        assert_eq!(clients[1].open(read_frame(&mut streams[1])), packet(4, 3, len));
        streams[1].write_all(&frame(&clients[1].seal(&packet(3, 2, len)))).unwrap();
        assert_eq!(clients[0].open(read_frame(&mut streams[0])), packet(3, 2, len));
        streams[0].write_all(&frame(&clients[0].seal(&packet(2, 1, len)))).unwrap();
        assert_eq!(lab.delivered(), packet(2, 1, len));
    }
    lab.crew.command(Command::Close(ids[1]));
    assert_eq!(streams[1].read(&mut [0; 9]).unwrap(), 0);
    // Eight at one time, of both together.
    let many: Vec<TcpStream> = (0..8).map(|n| TcpStream::connect(addresses[n % 2]).unwrap()).collect();
    lab.wait(|news| matches!(news, News::Refused(_)));
    assert_eq!(many.len(), 8);
}

#[test]
fn random_packets_reach_the_clients_of_all_workers() {
    let (endpoints, at) = two_sockets();
    let mut lab = Lab::of(endpoints, false, Some(Faults::quiet(8, 1)));
    let sockets = [plain(), plain()];
    let mut clients = [0, 1].map(|n| Client::new(n, Path::udp(0, at[n as usize]), DataFormat::V2));
    for (n, socket) in sockets.iter().enumerate() {
        lab.add(n as u32, Path::udp(n as u16, socket.local_addr().unwrap()), DataFormat::V2);
    }
    for (client, socket) in clients.iter_mut().zip(&sockets) {
        for _ in 0..20 {
            let opened = client.plane.open(Instant::ZERO, client.server, &mut recv(socket)).map(drop);
            assert!(matches!(opened, Ok(()) | Err(DropReason::NotIp)), "{opened:?}");
        }
    }
}

#[test]
fn one_that_ends_is_told_and_all_stop() {
    let mut pair = Pair::new(false);
    pair.lab.crew.shared(1).commands.send(Command::Stop);
    pair.lab.wait(|news| matches!(news, News::Ended));
    // Does not wait for ever.
    drop(pair);
}

#[test]
fn workers_change_threads_and_nothing_is_lost_or_overtaken() {
    let mut pair = Pair::new(false);
    let mut sent = 0;
    for round in 0..200 {
        // In the midst of packets, and back before all have heard of it.
        let (from, to) = if round % 2 == 0 { (1, 2) } else { (2, 1) };
        for number in 0..6 {
            pair.send(number % 2, number % 2, &numbered(number as u8 % 2 + 2, 1, sent + number as u32));
            if number == round % 6 {
                pair.lab.crew.roster().change(from, to);
            }
        }
        for number in [0, 2, 4, 1, 3, 5] {
            pair.lab.device.send(&numbered(1, number % 2 + 2, sent + u32::from(number))).unwrap();
        }
        let mut delivered: Vec<_> = (0..6).map(|_| pair.lab.delivered()).collect();
        // Each flow in order, in whatever order the flows.
        delivered.sort_by_key(|packet| packet[15]);
        for (packet, number) in delivered.iter().zip([0, 2, 4, 1, 3, 5]) {
            assert_eq!(packet, &numbered(number % 2 + 2, 1, sent + u32::from(number)), "round {round}");
        }
        for number in [0, 2, 4, 1, 3, 5] {
            let expected = numbered(1, number % 2 + 2, sent + u32::from(number));
            assert_eq!(pair.get(usize::from(number) % 2), expected, "round {round}");
        }
        sent += 6;
    }
}
