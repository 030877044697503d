//! A worker on real sockets of the loopback, its device one end of a socket pair; clients are tables made by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket as Plain};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use oxivpn_net::tcp::ListenOptions;
use oxivpn_net::{Family, SocketSettings, UdpOptions};
use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::{DataFormat, DataParams};
use oxivpn_proto::data::{HEADROOM, Opened, Payload, Slot, TAILROOM};
use oxivpn_proto::keys::data_key::{DataKey, KeyLimits, TlsRole};
use oxivpn_proto::plane::DataPlane;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::wire::ids::{KeyId, PeerId};
use oxivpn_proto::{Directive, DropReason, Instant, Path, PeerRef};
use zeroize::Zeroizing;

use super::engine::stream_limits;
use super::*;
use crate::lane::mail::lock;
use crate::lane::testing::written;

const PATIENCE: Duration = Duration::from_secs(10);

fn peer(number: u32) -> PeerRef {
    PeerRef { id: PeerId::from_low_bits(number), generation: 1 }
}

fn params(number: u32, server: bool, format: fn(PeerId) -> DataFormat) -> DataParams {
    DataParams {
        by_path: !server,
        float: true,
        ..DataParams::new(DataCipher::Aes256Gcm, format(PeerId::from_low_bits(number)))
    }
}

fn key(number: u32, role: TlsRole) -> DataKey {
    DataKey::new(Zeroizing::new([number as u8 + 1; 256]), role, KeyLimits::default())
}

/// 10.0.0.`n`
fn inner(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

fn packet(from: u8, to: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; len];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    packet[9] = 17;
    packet[12..16].copy_from_slice(&inner(from).octets());
    packet[16..20].copy_from_slice(&inner(to).octets());
    packet
}

/// One client: its table and its address.
struct Client {
    number: u32,
    plane: LocalPlane,
    server: Path,
}

impl Client {
    fn new(number: u32, server: Path, format: fn(PeerId) -> DataFormat) -> Self {
        let mut plane = LocalPlane::new();
        let peer = peer(number);
        for directive in [
            Directive::AddPeer { peer, path: server, params: params(number, false, format) },
            Directive::InstallKey { peer, key: KeyId::FIRST, data: key(number, TlsRole::Client) },
            Directive::PromoteKey { peer, key: KeyId::FIRST },
        ] {
            plane.apply(Instant::ZERO, Order { seq: 1, directive });
        }
        Self { number, plane, server }
    }

    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut cell = vec![0; HEADROOM + packet.len() + TAILROOM];
        cell[HEADROOM..HEADROOM + packet.len()].copy_from_slice(packet);
        let mut slot = Slot::new(&mut cell, HEADROOM, packet.len());
        let sealed = self.plane.seal(Instant::ZERO, peer(self.number), &mut slot).unwrap();
        cell[sealed.start..sealed.start + sealed.len].to_vec()
    }

    fn open(&mut self, mut datagram: Vec<u8>) -> Vec<u8> {
        match self.plane.open(Instant::ZERO, self.server, &mut datagram).unwrap() {
            Opened { payload: Payload::Packet(packet), .. } => packet.to_vec(),
            Opened { payload: Payload::Handled, .. } => Vec::new(),
        }
    }
}

struct Lab {
    crew: Crew,
    wakes: Receiver<()>,
    device: UnixDatagram,
    seq: u64,
    news: Vec<News>,
    packets: Vec<(Path, Vec<u8>)>,
}

impl Lab {
    fn new(sockets: Vec<UdpSocket>, listeners: Vec<Listener>, client_to_client: bool) -> Self {
        Self::with_faults(sockets, listeners, client_to_client, None)
    }

    fn with_faults(
        sockets: Vec<UdpSocket>,
        listeners: Vec<Listener>,
        client_to_client: bool,
        faults: Option<Arc<Faults>>,
    ) -> Self {
        Self::of(vec![Endpoints { sockets, listeners }], client_to_client, faults)
    }

    /// With a worker for each of `endpoints`, the first of which reads the device.
    pub(super) fn of(endpoints: Vec<Endpoints>, client_to_client: bool, faults: Option<Arc<Faults>>) -> Self {
        let (near, device) = UnixDatagram::pair().unwrap();
        device.set_read_timeout(Some(PATIENCE)).unwrap();
        let own = vec![inner(1).into()];
        let common = Common { mtu: 1500, own, client_to_client, max_streams: 8, stream_queue: 4, faults };
        let (tx, wakes) = channel();
        let mut crew = Crew::start(&common, endpoints, move || _ = tx.send(())).unwrap();
        let tun = oxivpn_tun::Device::from_fd(OwnedFd::from(near)).unwrap();
        crew.set_device(Some(tun.into()));
        Self { crew, wakes, device, seq: 0, news: Vec::new(), packets: Vec::new() }
    }

    fn order(&mut self, directive: Directive) {
        self.seq += 1;
        self.crew.command(Command::Order(Order { seq: self.seq, directive }));
    }

    /// Makes a peer with the address 10.0.0.(`number` + 2).
    fn add(&mut self, number: u32, path: Path, format: fn(PeerId) -> DataFormat) {
        self.add_with(number, path, params(number, true, format));
    }

    fn add_with(&mut self, number: u32, path: Path, params: DataParams) {
        let peer = peer(number);
        self.order(Directive::AddPeer { peer, path, params });
        self.order(Directive::InstallKey { peer, key: KeyId::FIRST, data: key(number, TlsRole::Server) });
        self.order(Directive::PromoteKey { peer, key: KeyId::FIRST });
        let net = ipnet::Ipv4Net::from(inner(number as u8 + 2));
        self.order(Directive::AddRoute { peer, inner: net.into() });
        let seq = self.seq;
        self.wait(|news| matches!(news, News::Report(Report::Applied(applied)) if *applied == seq));
    }

    fn look(&mut self) {
        let (mut news, mut packets) = (Vec::new(), self.crew.packets());
        self.crew.take(&mut news, &mut packets);
        self.news.append(&mut news);
        let packets = packets.iter_mut().flat_map(Packets::iter_mut);
        self.packets.extend(packets.map(|(path, bytes)| (path, bytes.to_vec())));
    }

    /// Waits for news of this kind.
    fn wait(&mut self, wanted: impl Fn(&News) -> bool) -> News {
        loop {
            self.look();
            if let Some(at) = self.news.iter().position(&wanted) {
                return self.news.remove(at);
            }
            self.wakes.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("only {:?}", self.news));
        }
    }

    fn wait_packet(&mut self) -> (Path, Vec<u8>) {
        loop {
            self.look();
            if !self.packets.is_empty() {
                return self.packets.remove(0);
            }
            self.wakes.recv_timeout(PATIENCE).unwrap();
        }
    }

    fn totals(&mut self) -> Totals {
        self.crew.command(Command::AskTotals);
        match self.wait(|news| matches!(news, News::Totals(_))) {
            News::Totals(totals) => *totals,
            _ => unreachable!(),
        }
    }

    fn delivered(&self) -> Vec<u8> {
        written(&self.device)
    }
}

fn udp() -> (UdpSocket, SocketAddr) {
    let options = UdpOptions { local: Some("127.0.0.1:0".parse().unwrap()), ..UdpOptions::new(Family::V4) };
    let socket = UdpSocket::bind(&options).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn plain() -> Plain {
    let socket = Plain::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn recv(socket: &Plain) -> Vec<u8> {
    let mut buf = vec![0; 2048];
    let (len, _) = socket.recv_from(&mut buf).unwrap();
    buf.truncate(len);
    buf
}

#[test]
fn packets_pass_both_ways_on_the_socket_they_belong_to() {
    let ((first, _), (second, at)) = (udp(), udp());
    let mut lab = Lab::new(vec![first, second], Vec::new(), false);
    let socket = plain();
    let here = Path::udp(1, socket.local_addr().unwrap());
    let mut client = Client::new(0, Path::udp(0, at), DataFormat::V2);
    lab.add(0, here, DataFormat::V2);
    socket.send_to(&client.seal(&packet(2, 1, 100)), at).unwrap();
    assert_eq!(lab.delivered(), packet(2, 1, 100));
    lab.wait(|news| matches!(news, News::Report(Report::FirstReceive { .. })));
    for len in [20, 1000, 1500] {
        lab.device.send(&packet(1, 2, len)).unwrap();
        assert_eq!(client.open(recv(&socket)), packet(1, 2, len));
    }
    // Nobody has this address.
    lab.device.send(&packet(1, 77, 40)).unwrap();
    // Not the client's own address.
    socket.send_to(&client.seal(&packet(9, 1, 60)), at).unwrap();
    socket.send_to(&client.seal(&packet(2, 1, 61)), at).unwrap();
    assert_eq!(lab.delivered(), packet(2, 1, 61));
    let totals = lab.totals();
    assert_eq!(totals.drops.get(DropReason::NoRoute), 1);
    assert_eq!(totals.drops.get(DropReason::InnerSource), 1);
    assert_eq!(totals.traffic.device_write, 161);
    assert_eq!(totals.traffic.device_read, 20 + 1000 + 1500 + 40);
}

#[test]
fn control_packets_go_to_the_control_thread_with_their_path() {
    let (socket, at) = udp();
    let mut lab = Lab::new(vec![socket], Vec::new(), false);
    let client = plain();
    client.send_to(&[0x38, 1, 2, 3], at).unwrap();
    client.send_to(&[0xff, 1, 2, 3], at).unwrap();
    client.send_to(&[0x20, 4], at).unwrap();
    let path = Path::udp(0, client.local_addr().unwrap());
    assert_eq!(lab.wait_packet(), (path, vec![0x38, 1, 2, 3]));
    assert_eq!(lab.wait_packet(), (path, vec![0x20, 4]));
    assert_eq!(lab.totals().drops.get(DropReason::UnknownOpcode), 1);
}

#[test]
fn a_flood_of_control_packets_is_bounded_and_counted() {
    let (socket, at) = udp();
    let mut lab = Lab::new(vec![socket], Vec::new(), false);
    let client = plain();
    let mut sent = 0;
    // Nobody takes the packets meanwhile.
    loop {
        for _ in 0..64 {
            client.send_to(&[0x38; 1000], at).unwrap();
            sent += 64_000;
        }
        lab.crew.command(Command::AskTotals);
        let totals = loop {
            let mut news = Vec::new();
            lab.crew.shared(0).news.take(&mut news);
            if let Some(News::Totals(totals)) = news.pop() {
                break totals;
            }
            lab.wakes.recv_timeout(PATIENCE).unwrap();
        };
        if totals.control_dropped > 0 {
            break;
        }
        assert!(sent < 100_000_000, "nothing is dropped");
    }
    lab.look();
    assert!(!lab.packets.is_empty() && lab.packets.len() < 1024, "{}", lab.packets.len());
}

#[test]
fn clients_reach_each_other_without_the_device() {
    let (socket, at) = udp();
    let mut lab = Lab::new(vec![socket], Vec::new(), true);
    let (one, two) = (plain(), plain());
    let mut first = Client::new(0, Path::udp(0, at), DataFormat::V2);
    let mut second = Client::new(1, Path::udp(0, at), DataFormat::Epoch);
    lab.add(0, Path::udp(0, one.local_addr().unwrap()), DataFormat::V2);
    lab.add(1, Path::udp(0, two.local_addr().unwrap()), DataFormat::Epoch);
    for len in [20, 1500] {
        one.send_to(&first.seal(&packet(2, 3, len)), at).unwrap();
        assert_eq!(second.open(recv(&two)), packet(2, 3, len));
        two.send_to(&second.seal(&packet(3, 2, len)), at).unwrap();
        assert_eq!(first.open(recv(&one)), packet(3, 2, len));
    }
    one.send_to(&first.seal(&packet(2, 1, 44)), at).unwrap();
    assert_eq!(lab.delivered(), packet(2, 1, 44));
    assert_eq!(lab.totals().traffic.device_write, 44);
}

#[test]
fn multicast_goes_to_all_but_its_sender() {
    let group = |mut packet: Vec<u8>| {
        packet[16..20].copy_from_slice(&[224, 0, 0, 251]);
        packet
    };
    for client_to_client in [false, true] {
        let (socket, at) = udp();
        let mut lab = Lab::new(vec![socket], Vec::new(), client_to_client);
        let sockets = [plain(), plain(), plain()];
        let mut clients = [0, 1, 2].map(|n| Client::new(n, Path::udp(0, at), DataFormat::V2));
        for (n, socket) in sockets.iter().enumerate() {
            lab.add(n as u32, Path::udp(0, socket.local_addr().unwrap()), DataFormat::V2);
        }
        let announced = group(packet(1, 0, 70));
        lab.device.send(&announced).unwrap();
        for (client, socket) in clients.iter_mut().zip(&sockets) {
            assert_eq!(client.open(recv(socket)), announced);
        }
        let asked = group(packet(2, 0, 71));
        sockets[0].send_to(&clients[0].seal(&asked), at).unwrap();
        assert_eq!(lab.delivered(), asked);
        // The next thing that each hears.
        let last = group(packet(1, 0, 72));
        lab.device.send(&last).unwrap();
        assert_eq!(clients[0].open(recv(&sockets[0])), last, "it does not hear itself");
        for n in [1, 2] {
            if client_to_client {
                assert_eq!(clients[n].open(recv(&sockets[n])), asked);
            }
            assert_eq!(clients[n].open(recv(&sockets[n])), last);
        }
    }
}

#[test]
fn clients_on_connections_reach_each_other_and_their_sums_are_told() {
    let (listener, at) = listener();
    let mut lab = Lab::new(Vec::new(), vec![listener], true);
    let (mut one, mut two) = (TcpStream::connect(at).unwrap(), TcpStream::connect(at).unwrap());
    two.set_read_timeout(Some(PATIENCE)).unwrap();
    let ids = [accepted(&mut lab), accepted(&mut lab)];
    let mut first = Client::new(0, Path::Stream(StreamId(0)), DataFormat::Epoch);
    let mut second = Client::new(1, Path::Stream(StreamId(0)), DataFormat::Epoch);
    lab.add(0, Path::Stream(ids[0]), DataFormat::Epoch);
    lab.add(1, Path::Stream(ids[1]), DataFormat::Epoch);
    // What follows a packet in the buffer stays whole when that is sealed for the other one.
    let wire: Vec<u8> =
        [700, 701, 1500].iter().flat_map(|&len| frame(&first.seal(&packet(2, 3, len)))).collect();
    one.write_all(&wire).unwrap();
    for len in [700, 701, 1500] {
        assert_eq!(second.open(read_frame(&mut two)), packet(2, 3, len));
    }
    lab.crew.command(Command::AskUsage);
    lab.totals();
    lab.order(Directive::RemovePeer { peer: peer(0) });
    let seq = lab.seq;
    lab.wait(|news| matches!(news, News::Report(Report::Applied(applied)) if *applied == seq));
    let told: Vec<(PeerRef, u64)> = lab
        .news
        .iter()
        .filter_map(|news| match news {
            News::Usage(peer, totals) => Some((*peer, totals.rx_packets + totals.tx_packets)),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().all(|(_, packets)| *packets == 3), "{told:?}");
    assert_eq!(told[2].0, peer(0));
}

#[test]
fn a_client_that_moves_is_reported_and_answered_after_the_order() {
    let (socket, at) = udp();
    let mut lab = Lab::new(vec![socket], Vec::new(), false);
    let (before, after) = (plain(), plain());
    let mut client = Client::new(5, Path::udp(0, at), DataFormat::V2);
    lab.add(5, Path::udp(0, before.local_addr().unwrap()), DataFormat::V2);
    after.send_to(&client.seal(&packet(7, 1, 50)), at).unwrap();
    assert_eq!(lab.delivered(), packet(7, 1, 50));
    let news = lab.wait(|news| matches!(news, News::Report(Report::Floated { .. })));
    let News::Report(Report::Floated { peer: who, to }) = news else { unreachable!() };
    assert_eq!((who, to), (peer(5), Path::udp(0, after.local_addr().unwrap())));
    lab.order(Directive::MovePeer { peer: who, path: to });
    let seq = lab.seq;
    lab.wait(|news| matches!(news, News::Report(Report::Applied(applied)) if *applied == seq));
    lab.device.send(&packet(1, 7, 90)).unwrap();
    assert_eq!(client.open(recv(&after)), packet(1, 7, 90));
}

fn listener() -> (Listener, SocketAddr) {
    let (_, queue_limit) = stream_limits(4, 1500);
    let options = ListenOptions {
        local: Some("127.0.0.1:0".parse().unwrap()),
        socket: SocketSettings { sndbuf: Some(4096), ..SocketSettings::default() },
        queue_limit,
        ..ListenOptions::new(Family::V4)
    };
    let listener = Listener::bind(&options).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut frame = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut frame).unwrap();
    frame
}

fn accepted(lab: &mut Lab) -> StreamId {
    match lab.wait(|news| matches!(news, News::Accepted { .. })) {
        News::Accepted { id, .. } => id,
        _ => unreachable!(),
    }
}

#[test]
fn connections_carry_both_kinds_of_packets_and_tell_their_end() {
    let (listener, at) = listener();
    let mut lab = Lab::new(Vec::new(), vec![listener], true);
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let id = accepted(&mut lab);
    let mut client = Client::new(0, Path::Stream(StreamId(0)), DataFormat::Epoch);
    lab.add(0, Path::Stream(id), DataFormat::Epoch);
    // Cut at every place.
    let wire = [frame(&[0x38, 7]), frame(&client.seal(&packet(2, 1, 300))), frame(&[0x20; 9])].concat();
    for chunk in wire.chunks(41) {
        stream.write_all(chunk).unwrap();
        stream.flush().unwrap();
    }
    assert_eq!(lab.wait_packet(), (Path::Stream(id), vec![0x38, 7]));
    assert_eq!(lab.wait_packet(), (Path::Stream(id), vec![0x20; 9]));
    assert_eq!(lab.delivered(), packet(2, 1, 300));
    lab.device.send(&packet(1, 2, 1500)).unwrap();
    let datagram = read_frame(&mut stream);
    assert_eq!(client.open(datagram), packet(1, 2, 1500));
    lab.crew.command(Command::Frame(id, vec![0x28; 33]));
    assert_eq!(read_frame(&mut stream), [0x28; 33]);
    // Two in a row, one of them to itself, which the host of the device has to send back.
    let both = [frame(&client.seal(&packet(2, 2, 200))), frame(&client.seal(&packet(2, 1, 210)))].concat();
    stream.write_all(&both).unwrap();
    assert_eq!(lab.delivered(), packet(2, 2, 200));
    assert_eq!(lab.delivered(), packet(2, 1, 210));
    drop(stream);
    let news = lab.wait(|news| matches!(news, News::Closed(_)));
    assert!(matches!(news, News::Closed(closed) if closed == id));
}

#[test]
fn a_slow_connection_loses_packets_before_they_are_sealed_and_never_frames() {
    let (listener, at) = listener();
    let mut lab = Lab::new(Vec::new(), vec![listener], false);
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let id = accepted(&mut lab);
    let mut client = Client::new(0, Path::Stream(StreamId(0)), DataFormat::V2);
    lab.add(0, Path::Stream(id), DataFormat::V2);
    // The client reads nothing until packets are dropped.
    let mut sent = 0;
    while lab.totals().traffic.full == 0 {
        for _ in 0..16 {
            lab.device.send(&packet(1, 2, 1400)).unwrap();
            sent += 1;
        }
        assert!(sent < 100_000, "nothing is dropped");
    }
    lab.crew.command(Command::Frame(id, vec![0x28; 33]));
    let mut data = 0;
    loop {
        let frame = read_frame(&mut stream);
        if frame == [0x28; 33] {
            break;
        }
        // No packet id is missing: each opens although the window is small.
        assert_eq!(client.open(frame), packet(1, 2, 1400));
        data += 1;
    }
    assert!(data < sent, "{data} of {sent}");
    // The client is heard again.
    lab.crew.command(Command::Close(id));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn nonsense_ends_a_connection_and_too_many_are_refused() {
    let (listener, at) = listener();
    let mut lab = Lab::new(Vec::new(), vec![listener], false);
    let mut stream = TcpStream::connect(at).unwrap();
    let id = accepted(&mut lab);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(matches!(lab.wait(|news| matches!(news, News::Closed(_))), News::Closed(closed) if closed == id));
    let many: Vec<TcpStream> = (0..9).map(|_| TcpStream::connect(at).unwrap()).collect();
    lab.wait(|news| matches!(news, News::Refused(_)));
    assert_eq!(many.len(), 9);
}

#[test]
fn a_data_packet_that_does_not_open_ends_its_connection() {
    let (listener, at) = listener();
    let mut lab = Lab::new(Vec::new(), vec![listener], false);
    let mut stream = TcpStream::connect(at).unwrap();
    let id = accepted(&mut lab);
    let path = Path::Stream(id);
    lab.add(0, path, DataFormat::V2);
    let mut client = Client::new(0, path, DataFormat::V2);
    let frame = |packet: &[u8]| [&u16::try_from(packet.len()).unwrap().to_be_bytes(), packet].concat();
    let first = client.seal(&packet(2, 1, 60));
    stream.write_all(&frame(&first)).unwrap();
    assert_eq!(lab.delivered(), packet(2, 1, 60));
    // For a key that nobody has: dropped, and that is all.
    let mut other = client.seal(&packet(2, 1, 61));
    other[0] ^= 1;
    stream.write_all(&frame(&other)).unwrap();
    stream.write_all(&frame(&client.seal(&packet(2, 1, 62)))).unwrap();
    assert_eq!(lab.delivered(), packet(2, 1, 62));
    stream.write_all(&frame(&first)).unwrap();
    assert!(matches!(lab.wait(|news| matches!(news, News::Closed(_))), News::Closed(closed) if closed == id));
    let drops = lab.totals().drops;
    assert_eq!((drops.get(DropReason::DataReplay), drops.get(DropReason::NoKey)), (1, 1));
}

#[test]
fn connections_wait_while_the_control_thread_is_behind() {
    let (listener, at) = listener();
    let mut lab = Lab::new(Vec::new(), vec![listener], false);
    // Nobody takes the news of those that are refused, until the kernel's queue is full, too.
    let (mut taken, begun) = (0, std::time::Instant::now());
    let waiting = loop {
        let refused = TcpStream::connect_timeout(&at, Duration::from_millis(200)).is_err();
        taken += usize::from(!refused);
        let waiting = lab.crew.shared(0).news.len();
        // A connection may be refused only because the worker did not get to run for so long.
        let is_full = refused && (waiting >= 4096 || begun.elapsed() > PATIENCE);
        if is_full || taken == 20_000 {
            break waiting;
        }
    };
    assert!((4096..4096 + 2 * crate::turn::BATCH).contains(&waiting), "{waiting} of {taken}");
    lab.look();
    lab.news.clear();
    // It goes on by itself.
    lab.wait(|news| matches!(news, News::Refused(_)));
}

#[test]
fn a_device_that_goes_away_is_told() {
    let (socket, _) = udp();
    let mut lab = Lab::new(vec![socket], Vec::new(), false);
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(oxivpn_tun::Device::from_fd(OwnedFd::from(near)).is_err(), "a stream is no device");
    drop(far);
    lab.crew.set_device(None);
    lab.device.set_nonblocking(true).unwrap();
    // The worker's end closes with the command.
    lab.totals();
    assert_eq!(lab.device.send(&[0x45]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    lab.crew.command(Command::Stop);
    lab.wait(|news| matches!(news, News::Ended));
}

#[test]
fn faults_on_purpose_reach_datagrams_and_connections() {
    let ((socket, at), (listener, tcp_at)) = (udp(), listener());
    let faults = Faults::quiet(1536, 1);
    let mut lab = Lab::with_faults(vec![socket], vec![listener], true, Some(faults.clone()));
    let (one, mut two) = (plain(), TcpStream::connect(tcp_at).unwrap());
    two.set_read_timeout(Some(PATIENCE)).unwrap();
    let id = accepted(&mut lab);
    let mut first = Client::new(0, Path::udp(0, at), DataFormat::V2);
    let mut second = Client::new(1, Path::Stream(StreamId(0)), DataFormat::V2);
    lab.add(0, Path::udp(0, one.local_addr().unwrap()), DataFormat::V2);
    lab.add(1, Path::Stream(id), DataFormat::V2);
    // Few at a time, so that the sockets lose none.
    let total = 2000;
    let mut through = 0;
    for sent in (10..=total).step_by(10) {
        (0..10).for_each(|_| _ = one.send_to(&first.seal(&packet(2, 3, 100)), at).unwrap());
        let since = std::time::Instant::now();
        while faults.counts().outgoing + faults.counts().incoming_dropped < sent {
            assert!(since.elapsed() < PATIENCE, "after {sent}: {:?}", faults.counts());
            std::thread::yield_now();
        }
        while through < faults.counts().outgoing - faults.counts().outgoing_dropped {
            assert_eq!(second.open(read_frame(&mut two)), packet(2, 3, 100));
            through += 1;
        }
    }
    let counts = faults.counts();
    assert_eq!((counts.incoming, counts.outgoing), (total, total - counts.incoming_dropped));
    for count in [counts.incoming_dropped, counts.outgoing_dropped] {
        assert!((total / 100..total / 25).contains(&count), "{counts:?}");
    }
}

#[test]
fn random_packets_for_all_clients() {
    let (socket, at) = udp();
    let faults = Faults::quiet(8, 1);
    let mut lab = Lab::with_faults(vec![socket], Vec::new(), false, Some(faults));
    let sockets = [plain(), plain()];
    let mut clients = [0, 1].map(|number| Client::new(number, Path::udp(0, at), DataFormat::V2));
    for (number, socket) in (0..).zip(&sockets) {
        lab.add(number, Path::udp(0, socket.local_addr().unwrap()), DataFormat::V2);
    }
    // Authentic, whatever they are inside; and after a second once more.
    for (client, socket) in clients.iter_mut().zip(&sockets) {
        for _ in 0..20 {
            let mut datagram = recv(socket);
            assert_eq!(datagram.len(), client.seal(&packet(2, 1, 100)).len());
            let opened = client.plane.open(Instant::ZERO, client.server, &mut datagram);
            assert!(matches!(opened, Ok(_) | Err(DropReason::NotIp)), "{opened:?}");
        }
    }
}

mod ecn;
mod several;
