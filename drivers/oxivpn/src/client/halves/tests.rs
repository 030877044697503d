//! The plane in two threads, on sockets of the loopback, its device one end of a socket pair; the server is a table made
//! by hand.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket as Plain};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use oxivpn_net::{Family, UdpOptions, UdpSocket};
use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::{DataFormat, DataParams};
use oxivpn_proto::data::{HEADROOM, TAILROOM};
use oxivpn_proto::keys::data_key::{DataKey, KeyLimits, TlsRole};
use oxivpn_proto::wire::ids::{KeyId, PeerId};
use oxivpn_proto::{Deadline, StreamChange, StreamId};
use zeroize::Zeroizing;

use super::*;
use crate::clock;
use crate::lane::testing::written;
use crate::turn::{Control, Link as _, Ready, Turn};

const PATIENCE: Duration = Duration::from_secs(10);

/// Datagrams that a socket pair holds are ten at least.
const BURST: u16 = 5;

const fn peer(generation: u32) -> PeerRef {
    PeerRef { id: PeerId::from_low_bits(0), generation }
}

/// Those of either end: a peer found by its path has no inner addresses to keep to.
fn params(format: DataFormat) -> DataParams {
    DataParams { float: true, ..DataParams::new(DataCipher::Aes256Gcm, format) }
}

fn key(number: u8, role: TlsRole) -> DataKey {
    DataKey::new(Zeroizing::new([number; 256]), role, KeyLimits::default())
}

fn key_id(number: u8) -> KeyId {
    (0..number).fold(KeyId::FIRST, |id, _| id.next())
}

/// An IP packet that bears a number.
fn packet(number: u16) -> Vec<u8> {
    let mut packet = vec![0x5a; 100];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&100u16.to_be_bytes());
    packet[9] = 17;
    packet[20..22].copy_from_slice(&number.to_be_bytes());
    packet
}

/// In the place of the control machine.
#[derive(Default)]
struct Script {
    orders: VecDeque<Order>,
    reports: Vec<Report>,
    packets: Vec<(Path, Vec<u8>)>,
}

impl Control for Script {
    fn handle_datagram(&mut self, _now: Instant, path: Path, bytes: &mut [u8]) {
        self.packets.push((path, bytes.to_vec()));
    }

    fn handle_stream(&mut self, _now: Instant, _id: StreamId, _change: StreamChange) {}

    fn handle_report(&mut self, _now: Instant, report: Report) {
        self.reports.push(report);
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_directive(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    fn poll_transmit(&mut self, _now: Instant, _out: &mut [u8]) -> Option<Transmit> {
        None
    }

    fn deadline(&self) -> Option<Deadline> {
        None
    }
}

/// The other end.
struct Server {
    socket: Plain,
    plane: LocalPlane,
    client: SocketAddr,
}

impl Server {
    fn order(&mut self, directive: Directive) {
        self.plane.apply(Instant::ZERO, Order { seq: 1, directive });
    }

    fn send(&mut self, peer: PeerRef, number: u16) -> usize {
        let mut cell = [0; HEADROOM + 100 + TAILROOM];
        cell[HEADROOM..HEADROOM + 100].copy_from_slice(&packet(number));
        let sealed = Plane::seal(&mut self.plane, Instant::ZERO, peer, &mut cell, HEADROOM, 100).unwrap();
        let datagram = &cell[sealed.start..sealed.start + sealed.len];
        self.socket.send_to(datagram, self.client).unwrap()
    }

    /// The next packet, in the clear.
    fn recv(&mut self) -> Vec<u8> {
        let mut buf = [0; 2048];
        let len = self.socket.recv(&mut buf).unwrap();
        let from = Path::udp(0, self.client);
        match Plane::open(&mut self.plane, Instant::ZERO, from, &mut buf[..len]).unwrap() {
            Payload::Packet(packet) => packet.to_vec(),
            Payload::Handled => Vec::new(),
        }
    }
}

struct Lab {
    turn: Turn<Transport, Tun, Halves, Script>,
    wakes: Receiver<()>,
    device: UnixDatagram,
    seq: u64,
    /// Lives as long as somebody may wake us.
    alive: Weak<()>,
}

impl Lab {
    fn new() -> Self {
        let (wake, wakes) = channel();
        let life = Arc::new(());
        let alive = Arc::downgrade(&life);
        let wake = move || {
            let _ = (&life, wake.send(()));
        };
        let (near, device) = UnixDatagram::pair().unwrap();
        device.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut turn = Turn::new(Script::default(), Halves::parted(None, Arc::new(wake)));
        turn.set_device(Tun::from(oxivpn_tun::Device::from_fd(OwnedFd::from(near)).unwrap()));
        Self { turn, wakes, device, seq: 0, alive }
    }

    /// Makes a socket, with a server that it is for, and a peer with a key.
    fn connect(&mut self, generation: u32, number: u16, format: DataFormat) -> Server {
        let socket = Plain::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let path = Path::udp(number, socket.local_addr().unwrap());
        let client = self.open("127.0.0.1:0".parse().unwrap(), path);
        let mut server = Server { socket, plane: LocalPlane::new(), client };
        let peer = peer(generation);
        self.order(Directive::AddPeer { peer, path, params: params(format) });
        server.order(Directive::AddPeer { peer, path: Path::udp(0, client), params: params(format) });
        self.install(&mut server, peer, 0);
        self.order(Directive::PromoteKey { peer, key: KeyId::FIRST });
        server.order(Directive::PromoteKey { peer, key: KeyId::FIRST });
        self.settle();
        self.turn.set_peer(Some(peer));
        server
    }

    /// A link bound to `local`, in two threads; its address.
    fn open(&mut self, local: SocketAddr, path: Path) -> SocketAddr {
        let Path::Datagram { socket: number, remote, .. } = path else { panic!("no datagrams") };
        let options = UdpOptions { local: Some(local), offload: true, ..UdpOptions::new(Family::V4) };
        let socket = UdpSocket::bind(&options).unwrap();
        let local = socket.local_addr().unwrap();
        let device = self.turn.device().map(Tun::writer);
        let link = self.turn.plane.part(Transport::udp(socket, number, remote), device).unwrap();
        assert!(link.is_relay());
        self.turn.set_link(link);
        local
    }

    fn install(&mut self, server: &mut Server, peer: PeerRef, number: u8) {
        let install = |role| Directive::InstallKey { peer, key: key_id(number), data: key(number + 1, role) };
        self.order(install(TlsRole::Client));
        server.order(install(TlsRole::Server));
    }

    fn order(&mut self, directive: Directive) {
        self.seq += 1;
        self.turn.control.orders.push_back(Order { seq: self.seq, directive });
    }

    fn step(&mut self) {
        let link_read = self.turn.plane.has_packets();
        let ready = Ready { link_read, link_write: true, device_read: true };
        while self.turn.turn(clock::now(), ready).again {}
    }

    /// Takes what comes until `wanted` finds what it looks for.
    fn until<T>(&mut self, mut wanted: impl FnMut(&mut Script) -> Option<T>) -> T {
        loop {
            self.step();
            if let Some(found) = wanted(&mut self.turn.control) {
                return found;
            }
            self.wakes.recv_timeout(PATIENCE).unwrap();
        }
    }

    /// Until both halves have carried out all orders.
    fn settle(&mut self) {
        let seq = self.seq;
        self.until(|script| script.reports.contains(&Report::Applied(seq)).then_some(()));
    }

    fn delivered(&self) -> Vec<u8> {
        written(&self.device)
    }

    /// Packets in, in order.
    fn inward(&self, server: &mut Server, peer: PeerRef, numbers: core::ops::Range<u16>) {
        for number in numbers.clone() {
            server.send(peer, number);
        }
        for number in numbers {
            assert_eq!(self.delivered(), packet(number));
        }
    }

    /// Packets out, in order.
    fn outward(&mut self, server: &mut Server, numbers: core::ops::Range<u16>) {
        for number in numbers.clone() {
            self.device.send(&packet(number)).unwrap();
        }
        self.step();
        for number in numbers {
            assert_eq!(server.recv(), packet(number));
        }
    }
}

#[test]
fn packets_pass_both_ways_in_order_and_are_counted_once() {
    for format in [DataFormat::V1, DataFormat::V2(peer(1).id), DataFormat::Epoch(peer(1).id)] {
        let mut lab = Lab::new();
        let mut server = lab.connect(1, 4, format);
        for start in (0..1000).step_by(BURST.into()) {
            lab.inward(&mut server, peer(1), start..start + BURST);
            lab.outward(&mut server, start..start + BURST);
        }
        let bytes = server.send(peer(1), 7);
        lab.delivered();
        let totals = lab.turn.plane.totals();
        assert_eq!(totals.traffic.device_write, 1001 * 100);
        assert_eq!(totals.traffic.link_read, 1001 * bytes as u64);
        assert_eq!(totals.traffic.authentic, totals.traffic.link_read);
        let own = lab.turn.traffic();
        assert_eq!((own.link_read, own.device_write, own.device_read), (0, 0, 1000 * 100));
        lab.until(|script| {
            let first = Report::FirstReceive { peer: peer(1), key: KeyId::FIRST };
            script.reports.contains(&first).then_some(())
        });
    }
}

#[test]
fn control_packets_reach_the_main_thread_in_order() {
    let mut lab = Lab::new();
    let server = lab.connect(1, 4, DataFormat::V2(peer(1).id));
    let path = Path::udp(4, server.socket.local_addr().unwrap());
    for number in 0..200u8 {
        server.socket.send_to(&[0x38, number], server.client).unwrap();
        server.socket.send_to(&[0xff, number], server.client).unwrap();
        let wanted = usize::from(number) + 1;
        lab.until(|script| (script.packets.len() == wanted).then_some(()));
    }
    let expected: Vec<_> = (0..200).map(|number| (path, vec![0x38, number])).collect();
    assert_eq!(lab.turn.control.packets, expected);
    let totals = lab.turn.plane.totals();
    assert!(totals.drops.get(DropReason::UnknownOpcode) >= 199);
    assert_eq!((lab.turn.traffic().link_read, totals.control_dropped), (0, 0));
}

#[test]
fn a_flood_of_control_packets_is_bounded_and_counted() {
    let mut lab = Lab::new();
    let mut server = lab.connect(1, 4, DataFormat::V2(peer(1).id));
    // The main thread does nothing meanwhile.
    while lab.turn.plane.totals().control_dropped == 0 {
        for _ in 0..64 {
            server.socket.send_to(&[0x38; 1000], server.client).unwrap();
        }
    }
    lab.inward(&mut server, peer(1), 0..1);
    lab.step();
    let taken = lab.turn.control.packets.len();
    assert!((100..1024).contains(&taken), "{taken}");
}

#[test]
fn new_keys_lose_nothing() {
    let mut lab = Lab::new();
    let mut server = lab.connect(1, 4, DataFormat::V2(peer(1).id));
    let peer = peer(1);
    for (number, start) in (1..=6).zip((0..).step_by(4 * usize::from(BURST))) {
        lab.install(&mut server, peer, number);
        lab.settle();
        // The other side may use it from now on.
        server.order(Directive::PromoteKey { peer, key: key_id(number) });
        lab.inward(&mut server, peer, start..start + BURST);
        lab.outward(&mut server, start..start + BURST);
        lab.order(Directive::PromoteKey { peer, key: key_id(number) });
        lab.inward(&mut server, peer, start + BURST..start + 2 * BURST);
        lab.outward(&mut server, start + BURST..start + 2 * BURST);
        lab.order(Directive::RetireKey { peer, key: key_id(number - 1) });
        server.order(Directive::RetireKey { peer, key: key_id(number - 1) });
        lab.outward(&mut server, start + 2 * BURST..start + 3 * BURST);
        lab.settle();
        lab.inward(&mut server, peer, start + 2 * BURST..start + 3 * BURST);
    }
    assert_eq!(lab.turn.plane.totals().drops, oxivpn_proto::DropCounters::default());
    assert_eq!(*lab.turn.drops(), oxivpn_proto::DropCounters::default());
}

#[test]
fn a_peer_that_moves_is_followed() {
    let mut lab = Lab::new();
    let mut server = lab.connect(1, 4, DataFormat::V2(peer(1).id));
    server.socket = Plain::bind("127.0.0.1:0").unwrap();
    server.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let there = Path::udp(4, server.socket.local_addr().unwrap());
    lab.inward(&mut server, peer(1), 0..1);
    let floated = Report::Floated { peer: peer(1), to: there };
    lab.until(|script| script.reports.contains(&floated).then_some(()));
    lab.order(Directive::MovePeer { peer: peer(1), path: there });
    lab.settle();
    lab.outward(&mut server, 0..3);
    lab.inward(&mut server, peer(1), 1..4);
}

#[test]
fn activity_is_that_of_both_and_orders_are_applied_in_turn() {
    let mut lab = Lab::new();
    let mut server = lab.connect(1, 4, DataFormat::V2(peer(1).id));
    lab.inward(&mut server, peer(1), 0..3);
    lab.outward(&mut server, 0..2);
    lab.turn.control.reports.clear();
    // Asked twice before there is an answer.
    lab.order(Directive::AskActivity { peer: peer(1) });
    lab.order(Directive::SendPing { peer: peer(1) });
    lab.order(Directive::AskActivity { peer: peer(1) });
    lab.settle();
    assert_eq!(server.recv(), Vec::<u8>::new(), "a ping");
    let reports = &lab.turn.control.reports;
    let answers: Vec<(u64, u64)> = reports
        .iter()
        .filter_map(|report| match report {
            Report::Activity { totals, .. } => Some((totals.rx_packets, totals.tx_packets)),
            _ => None,
        })
        .collect();
    assert_eq!(answers, [(3, 2)]);
    let applied = |report: &&Report| matches!(report, Report::Applied(_));
    assert!(reports.iter().filter(applied).count() <= 2, "{reports:?}");
    lab.order(Directive::AskActivity { peer: peer(1) });
    lab.until(|script| {
        script.reports.iter().filter(|r| matches!(r, Report::Activity { .. })).nth(1).map(drop)
    });
}

#[test]
fn another_link_has_nothing_of_the_one_before() {
    let mut lab = Lab::new();
    let mut old = lab.connect(1, 4, DataFormat::V2(peer(1).id));
    lab.inward(&mut old, peer(1), 0..2);
    old.socket.send_to(&[0x38, 1], old.client).unwrap();
    while !lab.turn.plane.has_packets() {
        lab.wakes.recv_timeout(PATIENCE).unwrap();
    }
    lab.turn.take_link();
    assert!(!lab.turn.plane.has_packets());
    lab.order(Directive::RemovePeer { peer: peer(1) });
    lab.settle();
    // Nobody holds the socket any more.
    drop(Plain::bind(old.client).unwrap());
    let mut new = lab.connect(2, 5, DataFormat::V2(peer(2).id));
    // The same address may be another client's now; the other server's keys don't fit.
    let client = core::mem::replace(&mut old.client, new.client);
    assert_ne!(client, new.client);
    old.plane = LocalPlane::new();
    lab.inward(&mut new, peer(2), 0..4);
    lab.outward(&mut new, 0..4);
    assert!(lab.turn.control.packets.is_empty());
}

#[test]
fn a_device_goes_when_it_is_taken() {
    let mut lab = Lab::new();
    let mut server = lab.connect(1, 4, DataFormat::V2(peer(1).id));
    lab.inward(&mut server, peer(1), 0..1);
    lab.turn.plane.set_device(None);
    lab.turn.take_device();
    assert!(lab.device.send(&packet(0)).is_err(), "somebody holds the device");
    server.send(peer(1), 1);
    while lab.turn.plane.totals().drops.get(DropReason::NotUp) == 0 {
        std::thread::yield_now();
    }
    let (near, device) = UnixDatagram::pair().unwrap();
    device.set_read_timeout(Some(PATIENCE)).unwrap();
    let tun = Tun::from(oxivpn_tun::Device::from_fd(OwnedFd::from(near)).unwrap());
    lab.turn.plane.set_device(Some(&tun));
    lab.turn.set_device(tun);
    lab.device = device;
    lab.inward(&mut server, peer(1), 2..4);
    lab.outward(&mut server, 2..4);
}

#[test]
fn the_thread_ends_with_the_plane() {
    let mut lab = Lab::new();
    let mut server = lab.connect(1, 4, DataFormat::V2(peer(1).id));
    lab.inward(&mut server, peer(1), 0..1);
    assert!(lab.alive.strong_count() > 0);
    let Lab { turn, alive, .. } = lab;
    drop(turn);
    assert_eq!(alive.strong_count(), 0);
}

#[test]
fn peers_on_a_connection_stay_in_one_piece() {
    let mut lab = Lab::new();
    // A peer of datagrams, so that there is a thread.
    let _server = lab.connect(1, 4, DataFormat::V2(peer(1).id));
    let (peer, path) = (peer(2), Path::Stream(StreamId(3)));
    let data = DataFormat::V2(peer.id);
    lab.order(Directive::AddPeer { peer, path, params: params(data) });
    lab.order(Directive::InstallKey { peer, key: KeyId::FIRST, data: key(1, TlsRole::Client) });
    lab.order(Directive::PromoteKey { peer, key: KeyId::FIRST });
    lab.order(Directive::AskActivity { peer });
    lab.settle();
    let is_answer = |report: &Report| matches!(report, Report::Activity { peer: of, .. } if *of == peer);
    assert!(lab.turn.control.reports.iter().any(is_answer));
    let mut far = LocalPlane::new();
    for directive in [
        Directive::AddPeer { peer, path, params: params(data) },
        Directive::InstallKey { peer, key: KeyId::FIRST, data: key(1, TlsRole::Server) },
        Directive::PromoteKey { peer, key: KeyId::FIRST },
    ] {
        far.apply(Instant::ZERO, Order { seq: 1, directive });
    }
    let mut cell = [0x45; HEADROOM + 100 + TAILROOM];
    let sealed = Plane::seal(&mut far, Instant::ZERO, peer, &mut cell, HEADROOM, 100).unwrap();
    let datagram = &mut cell[sealed.start..sealed.start + sealed.len];
    let opened = Plane::open(&mut lab.turn.plane, Instant::ZERO, path, datagram).unwrap();
    assert!(matches!(opened, Payload::Packet(_)));
}
