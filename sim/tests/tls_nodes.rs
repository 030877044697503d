//! A client and a server node over both kinds of the simulator's TLS: each byte is the same in a second run.

#![expect(clippy::unwrap_used, reason = "a test")]

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use oxivpn_proto::config::server::{ClientSettings, ServerConfig};
use oxivpn_proto::config::{ClientConfig, NodeConfig};
use oxivpn_proto::data::{HEADROOM, Payload, Slot, TAILROOM};
use oxivpn_proto::directive::PeerRef;
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::plane::{Capabilities, DataPlane as _};
use oxivpn_proto::tls::TlsFactory;
use oxivpn_proto::tls::rustls::TlsVersion;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::wrap::WrapConfig;
use oxivpn_proto::{Anchor, CloseCause, Event, Instant, Node, Path, SessionHandle};
use oxivpn_sim::Rate;
use oxivpn_sim::tls::{Authority, KeyLog, Kind, Stream, TlsFaults};

const DELAY: Duration = Duration::from_millis(10);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A node with its plane and its randomness.
struct Machine {
    node: Node,
    plane: LocalPlane,
    stream: Stream,
    session: Option<SessionHandle>,
    peer: Option<PeerRef>,
    events: Vec<&'static str>,
    closed: Option<CloseCause>,
    inner: Vec<Vec<u8>>,
    /// Where the other end is.
    path: Path,
}

impl Machine {
    fn new(seed: u8, now: Instant, port: u16) -> Self {
        let anchor = Anchor::new(now, secs(1_767_225_600));
        let config = Arc::new(NodeConfig { capabilities: Capabilities::USERSPACE });
        Self {
            node: Node::new(config, [seed; 32], anchor),
            plane: LocalPlane::new(),
            stream: Stream::new([seed; 32]),
            session: None,
            peer: None,
            events: Vec::new(),
            closed: None,
            inner: Vec::new(),
            path: Path::udp(0, SocketAddr::from(([192, 0, 2, 1], port))),
        }
    }

    /// What the node does, it does with the randomness of this machine.
    fn run(&mut self, what: impl FnOnce(&mut Node)) {
        self.stream.enter(|| what(&mut self.node));
    }

    /// Everything it has to send.
    fn drain(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        loop {
            while let Some(order) = self.node.poll_directive() {
                self.plane.apply(now, order);
            }
            let Some(report) = self.plane.poll_report() else { break };
            self.run(|node| node.handle_report(now, report));
        }
        let mut out = [0; MAX_CONTROL_DATAGRAM];
        while let Some(transmit) = self.stream.enter(|| self.node.poll_transmit(now, &mut out)) {
            sent.push(out[..transmit.len].to_vec());
        }
        while let Some(transmit) = self.plane.poll_transmit(now, &mut out) {
            sent.push(out[..transmit.len].to_vec());
        }
        while let Some(event) = self.node.poll_event() {
            match event {
                Event::Admit(ticket, _) => {
                    let routes = vec!["10.8.0.2/32".parse().unwrap()];
                    let settings = ClientSettings { routes, ..ClientSettings::default() };
                    self.run(|node| node.admit(now, ticket, Ok(settings)));
                    sent.extend(self.drain(now));
                }
                Event::Established { session, peer, .. } => {
                    (self.session, self.peer) = (Some(session), Some(peer));
                    self.events.push("established");
                }
                Event::Rekeyed { .. } => self.events.push("rekeyed"),
                Event::Closed { cause, .. } => self.closed = Some(cause),
                _ => {}
            }
        }
        sent
    }

    fn deliver(&mut self, now: Instant, packet: &mut [u8]) {
        let path = self.path;
        if !matches!(peek(packet), Peek::Data(_)) {
            self.run(|node| node.handle_datagram(now, path, packet));
        } else if let Ok(opened) = self.plane.open(now, path, packet)
            && let Payload::Packet(inner) = opened.payload
        {
            self.inner.push(inner.to_vec());
        }
    }

    fn seal(&mut self, now: Instant, inner: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; HEADROOM + inner.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + inner.len()].copy_from_slice(inner);
        let slot = &mut Slot::new(&mut buffer, HEADROOM, inner.len());
        let sealed = self.plane.seal(now, self.peer.unwrap(), slot).unwrap();
        buffer[sealed.start..sealed.start + sealed.len].to_vec()
    }
}

/// Client and server, in this order, and a line between them.
struct World {
    now: Instant,
    machines: [Machine; 2],
    line: BTreeMap<(Instant, usize), (usize, Vec<u8>)>,
    /// All that went over the line: when, from whom, what.
    sent: Vec<(Instant, usize, Vec<u8>)>,
}

impl World {
    fn new(client: Arc<dyn TlsFactory>, server: Arc<dyn TlsFactory>, seed: u8) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let machines = [Machine::new(seed, now, 1194), Machine::new(seed + 1, now, 40000)];
        let mut world = Self { now, machines, line: BTreeMap::new(), sent: Vec::new() };
        let [one, other] = &mut world.machines;
        let mut server = ServerConfig::new(WrapConfig::None, server);
        let mut client = ClientConfig::new(WrapConfig::None, client);
        server.channel.timing.reneg = Duration::ZERO;
        client.channel.timing.reneg = Duration::ZERO;
        let path = one.path;
        other.run(|node| node.listen(Arc::new(server)));
        one.run(|node| assert!(node.connect(now, path, Arc::new(client), None).is_ok()));
        world.drain();
        world
    }

    fn send(&mut self, from: usize, packet: Vec<u8>) {
        self.line.insert((self.now + DELAY, self.sent.len()), (from, packet.clone()));
        self.sent.push((self.now, from, packet));
    }

    fn drain(&mut self) {
        loop {
            let sent = [0, 1].map(|from| self.machines[from].drain(self.now));
            if sent.iter().all(Vec::is_empty) {
                return;
            }
            for (from, packets) in sent.into_iter().enumerate() {
                packets.into_iter().for_each(|packet| self.send(from, packet));
            }
        }
    }

    fn go(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.line.first_key_value().map(|((at, _), _)| *at);
            let timers =
                self.machines.iter().filter_map(|machine| machine.node.deadline()).map(|timer| timer.at);
            let Some(next) = timers.chain(arrival).min().filter(|&at| at <= end) else { break };
            self.now = self.now.max(next);
            if arrival == Some(next)
                && let Some((_, (from, mut packet))) = self.line.pop_first()
            {
                self.machines[1 - from].deliver(self.now, &mut packet);
            }
            let now = self.now;
            self.machines.iter_mut().for_each(|machine| machine.run(|node| node.handle_timeout(now)));
            self.drain();
        }
        self.now = end;
    }

    /// A packet each way arrives.
    fn assert_alive(&mut self, what: &str) {
        let before = [0, 1].map(|at| self.machines[at].inner.len());
        for from in [0, 1] {
            let mut inner = [0; 24];
            inner[0] = 0x45;
            // From the client's inner address, or to it.
            inner[12 + 4 * from..16 + 4 * from].copy_from_slice(&[10, 8, 0, 2]);
            let packet = self.machines[from].seal(self.now, &inner);
            self.send(from, packet);
        }
        self.go(secs(1));
        assert_eq!([0, 1].map(|at| self.machines[at].inner.len()), before.map(|n| n + 1), "{what}");
    }
}

fn authorities() -> Vec<(String, Authority)> {
    let mut all = Vec::new();
    for kind in [Kind::Fake, Kind::Rustls] {
        for version in [TlsVersion::V12, TlsVersion::V13] {
            all.push((format!("{kind:?} {version:?}"), Authority::new(kind, [9; 32]).with_version(version)));
        }
    }
    all
}

/// Connects, establishes, renegotiates once from the side `by`, and says all that was sent.
fn play(what: &str, authority: &Authority, seed: u8, by: usize) -> Vec<(Instant, usize, Vec<u8>)> {
    let mut world = World::new(authority.client("client1"), authority.server(), seed);
    world.go(secs(3));
    let closed = world.machines.iter().map(|machine| &machine.closed).collect::<Vec<_>>();
    assert!(world.machines.iter().all(|machine| machine.peer.is_some()), "{what}: {closed:?}");
    world.assert_alive(what);
    let (now, session) = (world.now, world.machines[by].session.unwrap());
    world.machines[by].run(|node| node.renegotiate(now, session));
    world.drain();
    // No packet shows the client that the server has the new key, so it waits before it sends with it.
    world.go(secs(90));
    world.assert_alive(what);
    for (n, machine) in world.machines.iter().enumerate() {
        assert_eq!(machine.events, ["established", "rekeyed"], "{what}: machine {n}");
    }
    world.sent
}

#[test]
fn equal_seeds_send_equal_bytes() {
    for (what, authority) in authorities() {
        for by in [0, 1] {
            let first = play(&what, &authority, 1, by);
            assert!(first.len() > 20, "{what}: {}", first.len());
            assert_eq!(first, play(&what, &authority.clone(), 1, by), "{what}");
            let other = play(&what, &authority, 7, by);
            assert!(
                first.iter().zip(&other).all(|(a, b)| a.2 != b.2),
                "{what}: no packet is as with another seed"
            );
        }
    }
}

#[test]
fn worlds_on_threads_don_t_meet() {
    for (what, authority) in authorities() {
        let alone = [1, 3].map(|seed| play(&what, &authority, seed, 0));
        let threads = [1, 3].map(|seed| {
            let (what, authority) = (what.clone(), authority.clone());
            std::thread::spawn(move || play(&what, &authority, seed, 0))
        });
        assert_eq!(threads.map(|thread| thread.join().unwrap()), alone, "{what}");
    }
}

#[test]
fn strangers_and_faults_end_sessions_and_hurt_no_other() {
    for (what, authority) in authorities() {
        let always = |silence, alert| TlsFaults { silence, alert, ..TlsFaults::NONE };
        let (never, always_) = (Rate::NEVER, Rate::ALWAYS);
        let pairs = [
            (authority.stranger(), authority.server()),
            (authority.client("client1"), authority.strange_server()),
            (authority.client("client1"), authority.faulty_server(always(always_, never))),
            (authority.client("client1"), authority.faulty_server(always(never, always_))),
        ];
        for (n, (client, server)) in pairs.into_iter().enumerate() {
            let mut world = World::new(client, server, 1);
            world.go(secs(70));
            let [client, server] = &world.machines;
            assert!(client.peer.is_none() && server.peer.is_none(), "{what}, {n}");
            match (n, &client.closed) {
                (0 | 1 | 3, Some(CloseCause::Tls(_))) | (2, Some(CloseCause::HandWindow)) => {}
                (_, cause) => panic!("{what}, {n}: {cause:?}"),
            }
        }
    }
}

#[test]
fn a_capture_gets_the_secrets() {
    let log = KeyLog::default();
    let authority = Authority::new(Kind::Rustls, [9; 32]).with_key_log(&log);
    play("logged", &authority, 1, 0);
    // Two handshakes with five secrets each.
    assert_eq!(log.take().lines().count(), 10);
}
