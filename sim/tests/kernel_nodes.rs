//! A server and a client with real TLS over data planes that lag behind and lose their news.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "common/tls.rs"]
mod tls;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use oxivpn_proto::config::server::{ClientSettings, ServerConfig};
use oxivpn_proto::config::{ClientConfig, NodeConfig, PingTimeout};
use oxivpn_proto::data::{HEADROOM, Payload, Slot, TAILROOM};
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::plane::DataPlane as _;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::wrap::WrapConfig;
use oxivpn_proto::{Anchor, CloseCause, DropReason, Event, Instant, Node, Path, PeerRef, Report};
use oxivpn_sim::kernel::{FakeKernel, KernelQuirks};
use oxivpn_sim::{Branch, Rate, SeedTree};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(10);

fn server_path() -> Path {
    Path::udp(0, SocketAddr::from(([192, 0, 2, 1], 1194)))
}

/// Where the server sees the client at its place `place`.
fn client_path(place: u8) -> Path {
    Path::udp(0, SocketAddr::from(([198, 51, 100, place], 1194)))
}

/// News that never arrive.
type Deaf = fn(&Report) -> bool;

struct Machine {
    node: Node,
    kernel: FakeKernel,
    deaf: Deaf,
    peer: Option<PeerRef>,
    closed: Vec<CloseCause>,
    keys: usize,
    got: u64,
}

impl Machine {
    fn new(quirks: KernelQuirks, seeds: &SeedTree, index: u8, deaf: Deaf) -> Self {
        let kernel = FakeKernel::new(quirks, &seeds.branch(Branch::Plane, index.into()));
        let config = Arc::new(NodeConfig { capabilities: kernel.capabilities() });
        let anchor = Anchor::new(Instant::ZERO, Duration::from_secs(1_767_225_600));
        let node = Node::new(config, [index + 1; 32], anchor);
        Self { node, kernel, deaf, peer: None, closed: Vec::new(), keys: 0, got: 0 }
    }

    fn next(&self) -> Option<Instant> {
        let node = self.node.deadline().map(|deadline| deadline.at);
        [node, self.kernel.deadline()].into_iter().flatten().min()
    }

    fn drain(&mut self, now: Instant) -> Vec<(Path, Vec<u8>)> {
        self.node.handle_timeout(now);
        self.kernel.handle_timeout(now);
        loop {
            while let Some(order) = self.node.poll_directive() {
                self.kernel.apply(now, order);
            }
            let Some(report) = self.kernel.poll_report() else { break };
            if !(self.deaf)(&report) {
                self.node.handle_report(now, report);
            }
        }
        let (mut sent, mut out) = (Vec::new(), [0; MAX_CONTROL_DATAGRAM]);
        while let Some(transmit) = self.node.poll_transmit(now, &mut out) {
            sent.push((transmit.path, out[..transmit.len].to_vec()));
        }
        while let Some(transmit) = self.kernel.poll_transmit(now, &mut out) {
            sent.push((transmit.path, out[..transmit.len].to_vec()));
        }
        while let Some(event) = self.node.poll_event() {
            match event {
                Event::Established { peer, .. } => self.peer = Some(peer),
                Event::Closed { cause, .. } => self.closed.push(cause),
                Event::Rekeyed { .. } => self.keys += 1,
                Event::Admit(ticket, _) => {
                    let routes = vec!["10.8.0.2/32".parse().unwrap()];
                    let push = vec!["ping 5".into(), "ping-restart 30".into()];
                    let settings = ClientSettings { push, routes, ..ClientSettings::default() };
                    self.node.admit(now, ticket, Ok(settings));
                }
                _ => {}
            }
        }
        sent
    }

    fn take(&mut self, now: Instant, from: Path, packet: &mut [u8]) {
        if !matches!(peek(packet), Peek::Data(_)) {
            self.node.handle_datagram(now, from, packet);
        } else if let Ok(opened) = self.kernel.open(now, from, packet)
            && matches!(opened.payload, Payload::Packet(_))
        {
            self.got += 1;
        }
    }

    /// An inner packet from `10.8.0.from` to `10.8.0.to`.
    fn send(&mut self, now: Instant, from: u8, to: u8) -> Option<(Path, Vec<u8>)> {
        let mut buffer = [0; HEADROOM + 20 + TAILROOM];
        let inner = &mut buffer[HEADROOM..HEADROOM + 20];
        inner[0] = 0x45;
        inner[3] = 20;
        inner[12..].copy_from_slice(&[10, 8, 0, from, 10, 8, 0, to]);
        let sealed = self.kernel.seal(now, self.peer?, &mut Slot::new(&mut buffer, HEADROOM, 20)).ok()?;
        Some((sealed.path, buffer[sealed.start..sealed.start + sealed.len].to_vec()))
    }
}

struct Net {
    now: Instant,
    /// Server and client.
    machines: [Machine; 2],
    place: u8,
    link: BTreeMap<(Instant, u64), (usize, Path, Vec<u8>)>,
    sequence: u64,
    /// Inner packets that were to be sent, by each side.
    sent: [u64; 2],
}

impl Net {
    fn new(quirks: KernelQuirks, seed: u64, deaf: Deaf) -> Self {
        let seeds = SeedTree::new(seed);
        let mut server = ServerConfig::new(WrapConfig::None, tls::factory("server"));
        server.channel.timing.reneg = Duration::ZERO;
        server.channel.keepalive.ping = Some(5 * SECOND);
        server.channel.keepalive.timeout = Some(PingTimeout::Restart(60 * SECOND));
        let mut client = ClientConfig::new(WrapConfig::None, tls::factory("client-p256"));
        client.channel.timing.reneg = 10 * SECOND;
        let mut machines = [0, 1].map(|index| Machine::new(quirks, &seeds, index, deaf));
        machines[0].node.listen(Arc::new(server));
        machines[1].node.connect(Instant::ZERO, server_path(), Arc::new(client), None).unwrap();
        Self { now: Instant::ZERO, machines, place: 1, link: BTreeMap::new(), sequence: 0, sent: [0; 2] }
    }

    fn put(&mut self, from: usize, (path, packet): (Path, Vec<u8>)) {
        // Packets to a place where the client isn't any more are lost.
        let (to, seen) = if from == 0 {
            if path != client_path(self.place) {
                return;
            }
            (1, server_path())
        } else {
            (0, client_path(self.place))
        };
        self.sequence += 1;
        self.link.insert((self.now + DELAY, self.sequence), (to, seen, packet));
    }

    fn settle(&mut self) {
        for side in 0..2 {
            for packet in self.machines[side].drain(self.now) {
                self.put(side, packet);
            }
        }
    }

    /// Both sides send a packet every 100 ms.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut tick = self.now;
        loop {
            self.settle();
            let arrival = self.link.first_key_value().map(|((at, _), _)| *at);
            let deadlines = self.machines.iter().filter_map(Machine::next);
            let next = deadlines.chain(arrival).chain([tick]).min().unwrap();
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if arrival.is_some_and(|at| at <= self.now)
                && let Some((_, (to, from, mut packet))) = self.link.pop_first()
            {
                self.machines[to].take(self.now, from, &mut packet);
            } else if tick <= self.now {
                tick = self.now + 100 * MS;
                for (side, (from, to)) in [(1, 2), (2, 1)].into_iter().enumerate() {
                    if self.machines[side].peer.is_some() {
                        self.sent[side] += 1;
                        let packet = self.machines[side].send(self.now, from, to);
                        packet.into_iter().for_each(|packet| self.put(side, packet));
                    }
                }
            }
        }
    }

    /// Inner packets that did not arrive, from the server and from the client; the last one may be on its way.
    fn lost(&self) -> [u64; 2] {
        [self.sent[0] - self.machines[1].got, self.sent[1] - self.machines[0].got]
    }

    fn closed(&self) -> [&[CloseCause]; 2] {
        self.machines.each_ref().map(|machine| machine.closed.as_slice())
    }
}

fn none(_: &Report) -> bool {
    false
}

/// Everything takes between 50 and 100 ms.
fn slow(quirks: KernelQuirks) -> KernelQuirks {
    let delay = (50 * MS, 100 * MS);
    KernelQuirks { order_delay: delay, answer_delay: delay, notice_delay: delay, ..quirks }
}

/// Nine renegotiations, after which nothing is lost and nobody left.
fn assert_lossless(quirks: KernelQuirks, seed: u64, deaf: Deaf, why: &str) {
    let mut net = Net::new(quirks, seed, deaf);
    net.run(5 * SECOND);
    let before = net.lost();
    assert!(before.iter().all(|&lost| lost < 20), "{why}: {before:?}");
    net.run(95 * SECOND);
    assert_eq!(net.lost(), before, "{why}");
    assert_eq!(net.closed(), [&[]; 2], "{why}");
    for machine in &net.machines {
        assert!(machine.keys >= 8, "{why}: {} renegotiations", machine.keys);
        assert_eq!(machine.kernel.drops().get(DropReason::NoKey), 0, "{why}");
        assert_eq!(machine.kernel.stats().overwritten, 0, "{why}");
    }
}

#[test]
fn renegotiations_lose_nothing_whatever_the_kernel() {
    let [ovpn, workers] = [KernelQuirks::OVPN, KernelQuirks::WORKERS];
    for (name, quirks) in
        [("ovpn", ovpn), ("workers", workers), ("slow ovpn", slow(ovpn)), ("slow workers", slow(workers))]
    {
        assert_lossless(quirks, 1, none, name);
    }
    for seed in 0..10 {
        let quirks = KernelQuirks::drawn(&SeedTree::new(seed));
        assert_lossless(quirks, seed, none, &format!("seed {seed}: {quirks:?}"));
    }
}

#[test]
fn most_news_can_be_missed() {
    let news: [(&str, Deaf); 3] = [
        ("FirstReceive", |report| matches!(report, Report::FirstReceive { .. })),
        ("KeyWorn", |report| matches!(report, Report::KeyWorn { .. })),
        ("PeerExit", |report| matches!(report, Report::PeerExit { .. })),
    ];
    for (name, deaf) in news {
        assert_lossless(slow(KernelQuirks::WORKERS), 1, deaf, name);
    }
}

#[test]
fn a_plane_that_never_says_what_its_peer_does_is_given_up() {
    let silent: Deaf = |report| matches!(report, Report::Activity { .. });
    let mut net = Net::new(slow(KernelQuirks::WORKERS), 1, silent);
    net.run(50 * SECOND);
    assert_eq!(net.closed(), [&[]; 2]);
    net.run(90 * SECOND);
    assert!(net.closed().concat().contains(&CloseCause::PlaneSilent), "{:?}", net.closed());
}

#[test]
fn a_move_that_is_found_out_late_does_no_harm() {
    let lost = KernelQuirks { notice_loss: Rate::ALWAYS, ..KernelQuirks::OVPN };
    let never = KernelQuirks { resync: None, ..lost };
    let told = [KernelQuirks::OVPN, KernelQuirks::WORKERS, slow(KernelQuirks::OVPN), lost];
    for (number, quirks) in told.into_iter().chain([never]).enumerate() {
        let mut net = Net::new(quirks, 1, none);
        net.run(25 * SECOND);
        let before = net.lost();
        net.place = 2;
        net.run(100 * SECOND);
        let lost: u64 = net.lost().iter().sum::<u64>() - before.iter().sum::<u64>();
        if quirks.resync.is_some() {
            assert!(lost < 5, "{number}: {lost}");
            assert_eq!(net.closed(), [&[]; 2], "{number}");
        } else {
            assert_eq!(net.closed()[1], [CloseCause::HandWindow], "control packets go where the client was");
        }
    }
}

#[test]
fn a_peer_that_the_kernel_gave_up_ends_its_session() {
    let silent = KernelQuirks { notice_loss: Rate::ALWAYS, resync: None, ..KernelQuirks::OVPN };
    for (quirks, within) in [(KernelQuirks::OVPN, SECOND), (silent, 6 * SECOND)] {
        let mut net = Net::new(quirks, 1, none);
        net.run(25 * SECOND);
        let (now, server) = (net.now, &mut net.machines[0]);
        server.kernel.give_up(now, server.peer.unwrap());
        net.run(within);
        assert_eq!(net.closed()[0], [CloseCause::PingRestart], "{quirks:?}");
    }
}
