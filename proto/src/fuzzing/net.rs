//! A server node with client nodes and their data planes, with links and a clock between them, for tests and fuzzers.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::ledger::Ledger;
use super::world::Faults;
use crate::clock::{Anchor, Instant};
use crate::config::NodeConfig;
use crate::data::{HEADROOM, Opened, Payload, Slot, TAILROOM};
use crate::directive::{Order, PeerRef};
use crate::entropy::{Entropy, EntropyStream, Purpose};
use crate::event::{CloseCause, Event};
use crate::handle::SessionHandle;
use crate::limits::{MAX_CONTROL_DATAGRAM, MAX_EVENTS, MAX_STATELESS_REPLIES};
use crate::node::Node;
use crate::path::{Path, StreamId};
use crate::plane::local::LocalPlane;
use crate::plane::{Capabilities, DataPlane as _};
use crate::report::Report;
use crate::wire::data::{Peek, peek};

const DELAY: Duration = Duration::from_millis(10);

/// What one drain of one session can yield at most: two full windows with acks, pings, and an alert.
const MAX_BURST: usize = 64;

/// Events of one session that are never dropped, on top of [`MAX_EVENTS`].
const MAX_ESSENTIAL_EVENTS: usize = 64;

/// Packets in flight; the oldest are lost beyond it.
const MAX_IN_FLIGHT: usize = 300;

/// A node and its data plane, which may lag behind.
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) plane: LocalPlane,
    pub(crate) ledger: Ledger,
    /// Where others see it.
    pub(crate) path: Path,
    /// A client's session, and the last one that came up.
    pub(crate) session: Option<SessionHandle>,
    /// The last one that came up, in the data plane.
    pub(crate) peer: Option<PeerRef>,
    /// What its application was told.
    pub(crate) events: Vec<Event>,
    /// Inner packets that arrived.
    pub(crate) inner: Vec<Vec<u8>>,
    synchronous: bool,
    lag: Duration,
    waiting: VecDeque<(Instant, Order)>,
}

impl Host {
    pub(crate) fn new(
        seed: [u8; 32],
        now: Instant,
        path: Path,
        capabilities: Capabilities,
        lag: Duration,
    ) -> Self {
        let anchor = Anchor::new(now, Duration::from_secs(1_700_000_000));
        Self {
            node: Node::new(Arc::new(NodeConfig { capabilities }), seed, anchor),
            plane: LocalPlane::new(),
            ledger: Ledger::default(),
            path,
            session: None,
            peer: None,
            events: Vec::new(),
            inner: Vec::new(),
            synchronous: capabilities.synchronous,
            lag,
            waiting: VecDeque::new(),
        }
    }

    /// Moves everything out of the machines: directives, transmits, events, in this order. Whether there was
    /// anything.
    fn drain(&mut self, now: Instant, sent: &mut Vec<(Path, Vec<u8>)>) -> bool {
        let before = (sent.len(), self.events.len(), self.ledger.last());
        for round in 0.. {
            assert!(round <= MAX_BURST, "orders and reports chase each other");
            if !self.carry_out(now) {
                break;
            }
        }
        let sessions = self.node.sessions();
        let mut out = [0; MAX_CONTROL_DATAGRAM];
        while let Some(transmit) = self.node.poll_transmit(now, &mut out) {
            sent.push((transmit.path, out[..transmit.len].to_vec()));
        }
        while let Some(transmit) = self.plane.poll_transmit(now, &mut out) {
            sent.push((transmit.path, out[..transmit.len].to_vec()));
        }
        let burst = sent.len() - before.0;
        assert!(burst <= MAX_BURST * sessions + MAX_STATELESS_REPLIES, "{burst} packets at once");
        while let Some(event) = self.node.poll_event() {
            if let Event::Established { session, peer, .. } = event {
                (self.session, self.peer) = (Some(session), Some(peer));
            }
            self.events.push(event);
        }
        assert!(self.events.len() - before.1 <= MAX_EVENTS + MAX_ESSENTIAL_EVENTS);
        before != (sent.len(), self.events.len(), self.ledger.last())
    }

    /// Orders to the plane and news from it; whether there were any.
    fn carry_out(&mut self, now: Instant) -> bool {
        let mut busy = false;
        while let Some(order) = self.node.poll_directive() {
            busy = true;
            self.ledger.enter(&order);
            self.waiting.push_back((now + self.lag, order));
        }
        while self.waiting.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, order)) = self.waiting.pop_front() else { break };
            busy = true;
            let seq = order.seq;
            self.plane.apply(now, order);
            if !self.synchronous {
                self.node.handle_report(now, Report::Applied(seq));
            }
        }
        while let Some(report) = self.plane.poll_report() {
            busy = true;
            self.node.handle_report(now, report);
        }
        busy
    }

    fn next(&self) -> Option<Instant> {
        let order = self.waiting.front().map(|(due, _)| *due);
        [order, self.node.deadline().map(|deadline| deadline.at)].into_iter().flatten().min()
    }

    fn deliver(&mut self, now: Instant, from: Path, packet: &mut [u8]) {
        if !matches!(peek(packet), Peek::Data(_)) {
            return self.node.handle_datagram(now, from, packet);
        }
        if let Ok(Opened { payload: Payload::Packet(inner), .. }) = self.plane.open(now, from, packet) {
            self.inner.push(inner.to_vec());
        }
    }

    /// Seals an inner packet; `None` if it can't be.
    pub(crate) fn seal(&mut self, now: Instant, peer: PeerRef, inner: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = vec![0; HEADROOM + inner.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + inner.len()].copy_from_slice(inner);
        let sealed = self.plane.seal(now, peer, &mut Slot::new(&mut buffer, HEADROOM, inner.len())).ok()?;
        Some(buffer[sealed.start..sealed.start + sealed.len].to_vec())
    }

    /// How its sessions ended so far.
    pub(crate) fn closed(&self) -> Vec<&CloseCause> {
        let mut causes = Vec::new();
        for event in &self.events {
            if let Event::Closed { cause, .. } = event {
                causes.push(cause);
            }
        }
        causes
    }
}

/// A server and clients by number.
pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) server: Host,
    pub(crate) clients: BTreeMap<u8, Host>,
    pub(crate) faults: Faults,
    rng: EntropyStream,
    /// Packets in flight by arrival and sequence: the client's path, whether to the server.
    pub(crate) link: BTreeMap<(Instant, u64), (Path, bool, Vec<u8>)>,
    sequence: u64,
}

impl Net {
    pub(crate) fn new(seed: u8, capabilities: Capabilities, lag: Duration, server_path: Path) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        Self {
            now,
            server: Host::new([seed; 32], now, server_path, capabilities, lag),
            clients: BTreeMap::new(),
            faults: Faults::default(),
            rng: Entropy::new([seed; 32]).fork(Purpose::Jitter, 77),
            link: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Where the server sees the client with this number, at one of its addresses.
    pub(crate) fn address(&self, client: u8, place: u8) -> Path {
        if self.server.path.is_stream() {
            return Path::Stream(StreamId(u64::from(client) << 8 | u64::from(place)));
        }
        Path::udp(0, SocketAddr::from(([10, 9, place, client], 1194)))
    }

    fn hit(&mut self, percent: u64) -> bool {
        percent > 0 && self.rng.below(100) < percent
    }

    /// Sends a packet between the server and the client at `client`.
    pub(crate) fn put(&mut self, client: Path, to_server: bool, mut packet: Vec<u8>) {
        let Some(first) = packet.first() else { return };
        let spared = self.faults.control_only && matches!(first >> 3, 6 | 9);
        let faults = if spared { Faults::default() } else { self.faults };
        if self.hit(faults.drop) {
            return;
        }
        if self.hit(faults.corrupt) {
            let at = self.rng.below(packet.len() as u64) as usize;
            packet[at] ^= 1 << self.rng.below(8);
        }
        for _ in 0..1 + usize::from(self.hit(faults.duplicate)) {
            let late = if self.hit(faults.reorder) { self.rng.below(200) } else { 0 };
            self.sequence += 1;
            let at = self.now + DELAY + Duration::from_millis(late);
            self.link.insert((at, self.sequence), (client, to_server, packet.clone()));
        }
        while self.link.len() > MAX_IN_FLIGHT {
            self.link.pop_first();
        }
    }

    /// Drains all machines once; whether there was anything.
    pub(crate) fn drain(&mut self) -> bool {
        let (mut down, mut up) = (Vec::new(), Vec::new());
        self.server.node.handle_timeout(self.now);
        let mut busy = self.server.drain(self.now, &mut down);
        for client in self.clients.values_mut() {
            let mut sent = Vec::new();
            client.node.handle_timeout(self.now);
            busy |= client.drain(self.now, &mut sent);
            up.extend(sent.into_iter().map(|(_, packet)| (client.path, packet)));
        }
        down.into_iter().for_each(|(path, packet)| self.put(path, false, packet));
        up.into_iter().for_each(|(path, packet)| self.put(path, true, packet));
        busy
    }

    /// Gives a packet to its receiver.
    pub(crate) fn deliver(&mut self, client: Path, to_server: bool, packet: &mut [u8]) {
        let (now, from) = (self.now, self.server.path);
        if to_server {
            self.server.deliver(now, client, packet);
        } else if let Some(client) = self.clients.values_mut().find(|other| other.path == client) {
            client.deliver(now, from, packet);
        }
    }

    /// Goes to the next thing that happens before `end`; `false` if there is none. Drain afterwards.
    pub(crate) fn step(&mut self, end: Instant) -> bool {
        let arrival = self.link.first_key_value().map(|((at, _), _)| *at);
        let hosts = self.clients.values().chain([&self.server]);
        let next = hosts.filter_map(Host::next).chain(arrival).min().filter(|&at| at <= end);
        let Some(next) = next else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next)
            && let Some((_, (client, to_server, mut packet))) = self.link.pop_first()
        {
            self.deliver(client, to_server, &mut packet);
        }
        true
    }

    /// A packet of a client's own inner address, `10.8.0.number`; `false` if it can't be sealed.
    pub(crate) fn send_up(&mut self, number: u8, inner: &[u8]) -> bool {
        let Some(client) = self.clients.get_mut(&number) else { return false };
        let path = client.path;
        let sealed = client.peer.and_then(|peer| client.seal(self.now, peer, inner));
        let Some(packet) = sealed else { return false };
        self.put(path, true, packet);
        true
    }

    /// A packet to whoever has the inner address in it; `false` if nobody has.
    pub(crate) fn send_down(&mut self, inner: &[u8]) -> bool {
        let Some(peer) = self.server.plane.lookup(inner) else { return false };
        let path = self.server.plane.peer_path(peer);
        let (Some(path), Some(packet)) = (path, self.server.seal(self.now, peer, inner)) else {
            return false;
        };
        self.put(path, false, packet);
        true
    }
}
