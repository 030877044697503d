//! Congestion marks between a worker and its clients (RFC 6040).

use oxivpn_net::Ecn;

use super::*;

/// A socket for batches.
fn marking() -> (UdpSocket, SocketAddr) {
    let local = Some("127.0.0.1:0".parse().unwrap());
    let options = UdpOptions { local, offload: true, ..UdpOptions::new(Family::V4) };
    let socket = UdpSocket::bind(&options).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Two workers with a client on each; whether marks are copied to outer headers.
struct Marks {
    lab: Lab,
    at: [SocketAddr; 2],
    sockets: [UdpSocket; 2],
    clients: [Client; 2],
}

impl Marks {
    fn new(ecn: bool, client_to_client: bool) -> Self {
        let (first, second) = (marking(), marking());
        let at = [first.1, second.1];
        let endpoint = |(socket, _)| Endpoints { sockets: vec![socket], listeners: Vec::new() };
        let mut lab = Lab::of(vec![endpoint(first), endpoint(second)], client_to_client, None);
        let sockets = [marking().0, marking().0];
        let clients = [0, 1].map(|n| Client::new(n, Path::udp(0, at[n as usize]), DataFormat::V2));
        for (n, socket) in sockets.iter().enumerate() {
            socket.hear_ecn().unwrap();
            let path = Path::udp(n as u16, socket.local_addr().unwrap());
            lab.add_with(n as u32, path, DataParams { ecn, ..params(n as u32, true, DataFormat::V2) });
        }
        Self { lab, at, sockets, clients }
    }

    /// Client `n` sends a packet to worker `worker`, and a router on the way marks it so.
    fn send(&mut self, n: usize, worker: usize, outer: Ecn, packet: &[u8]) {
        let sealed = self.clients[n].seal(packet);
        self.sockets[n].send_many(&sealed, sealed.len(), self.at[worker], None, outer).unwrap();
    }

    /// Datagrams that client `n` gets, opened, each with its outer mark.
    fn get(&mut self, n: usize, count: usize) -> Vec<(Ecn, Vec<u8>)> {
        let (mut got, mut buf) = (Vec::new(), vec![0; 65_535]);
        while got.len() < count {
            match self.sockets[n].recv_many(&mut buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
                Ok(received) => {
                    let opened = received.datagrams(&mut buf).map(|one| self.clients[n].open(one.to_vec()));
                    got.extend(opened.map(|packet| (received.ecn, packet)));
                }
            }
        }
        got
    }
}

/// A packet with these ECN bits.
fn marked(from: u8, to: u8, len: usize, ecn: Ecn) -> Vec<u8> {
    let mut packet = packet(from, to, len);
    packet[1] = 0xb8 | ecn.bits();
    packet
}

#[test]
fn what_leaves_bears_the_mark_of_what_is_in_it() {
    use Ecn::{Ce, Ect0, Ect1, NotEct};
    for ecn in [true, false] {
        let mut marks = Marks::new(ecn, false);
        let order = [NotEct, Ect0, Ect0, Ce, Ect1, NotEct, NotEct, Ect0];
        for mark in order {
            for client in [2, 3] {
                marks.lab.device.send(&marked(1, client, 300, mark)).unwrap();
            }
        }
        for n in [0, 1] {
            let expected = order.map(|mark| {
                let outer = if ecn { mark } else { NotEct };
                (outer, marked(1, n as u8 + 2, 300, mark))
            });
            assert_eq!(marks.get(n, order.len()), expected, "client {n}");
        }
    }
}

#[test]
fn a_mark_on_the_way_reaches_the_device() {
    use Ecn::{Ce, Ect0, NotEct};
    let mut marks = Marks::new(true, false);
    // The packets of the second client are handed over to its worker.
    for (n, worker, address) in [(0, 0, 2), (1, 1, 3), (1, 0, 3)] {
        for (outer, inner, expected) in
            [(Ce, Ect0, Ce), (Ect0, Ect0, Ect0), (NotEct, Ect0, Ect0), (Ce, Ce, Ce), (NotEct, Ce, Ce)]
        {
            marks.send(n, worker, outer, &marked(address, 1, 90, inner));
            let mut got = marks.lab.delivered();
            assert_eq!(Ecn::from_bits(got[1]), expected, "{outer:?} {inner:?}");
            let whole = marked(address, 1, 90, inner);
            got[1] = whole[1];
            got[10..12].copy_from_slice(&whole[10..12]);
            assert_eq!(got, whole);
        }
        // Its sender knows drops only.
        marks.send(n, worker, Ce, &marked(address, 1, 91, NotEct));
        marks.send(n, worker, NotEct, &marked(address, 1, 92, NotEct));
        assert_eq!(marks.lab.delivered(), marked(address, 1, 92, NotEct));
    }
    let totals = marks.lab.totals();
    assert_eq!(totals.drops.get(DropReason::Congestion), 3);
    assert_eq!(totals.traffic.congested, 3);
}

/// Nobody who says nothing of marks puts them where a router could add its own.
#[test]
fn marks_are_not_asked_for_without_a_peer_that_knows_of_them() {
    let mut marks = Marks::new(false, false);
    for (n, address) in [(0, 2), (1, 3)] {
        marks.send(n, n, Ecn::Ce, &marked(address, 1, 90, Ecn::Ect0));
        assert_eq!(marks.lab.delivered(), marked(address, 1, 90, Ecn::Ect0));
    }
}

#[test]
fn a_mark_goes_on_from_client_to_client() {
    let mut marks = Marks::new(true, true);
    for _ in 0..3 {
        marks.send(0, 0, Ecn::Ce, &marked(2, 3, 200, Ecn::Ect0));
        marks.send(0, 0, Ecn::Ect0, &marked(2, 3, 200, Ecn::Ect0));
        let got = marks.get(1, 2);
        let bits = got.iter().map(|(outer, packet)| (*outer, Ecn::from_bits(packet[1])));
        assert_eq!(bits.collect::<Vec<_>>(), [(Ecn::Ce, Ecn::Ce), (Ecn::Ect0, Ecn::Ect0)]);
    }
}

/// `ecn off`.
#[test]
fn sockets_that_are_not_asked_lose_marks_and_nothing_else() {
    let ((first, at), sender) = (udp(), marking().0);
    let mut lab = Lab::new(vec![first], Vec::new(), false);
    let mut client = Client::new(0, Path::udp(0, at), DataFormat::V2);
    lab.add(0, Path::udp(0, sender.local_addr().unwrap()), DataFormat::V2);
    for inner in [Ecn::NotEct, Ecn::Ect0, Ecn::Ce] {
        let sealed = client.seal(&marked(2, 1, 80, inner));
        sender.send_many(&sealed, sealed.len(), at, None, Ecn::Ce).unwrap();
        assert_eq!(lab.delivered(), marked(2, 1, 80, inner));
    }
    assert_eq!(lab.totals().traffic.congested, 0);
}
