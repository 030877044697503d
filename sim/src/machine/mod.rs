//! A node under test: the product's own [`Node`] and data plane, and the application beside them.

mod app;
mod plane;
pub mod role;
mod watch;

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use oxivpn_proto::config::NodeConfig;
use oxivpn_proto::data::{Forward, HEADROOM, Opened, Payload, Slot, TAILROOM};
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::wrap::WrapConfig;
use oxivpn_proto::{
    Anchor, Directive, DropCounters, DropReason, Instant, Node, Path, PeerRef, Report, StreamChange, StreamId,
};

use xxhash_rust::xxh3::xxh3_64;

use crate::seed::{Purpose, SeedTree};
use crate::tls::Stream;
use crate::trace::{MachineId, What};
use app::App;
pub use app::{Ends, Tunnel};
use plane::Plane;
use role::Role;
use watch::Watch;

/// Unix time at the start of every world: 2026-01-01.
pub const CALENDAR: Duration = Duration::from_secs(1_767_225_600);

/// Orders and reports that one drain may move at most.
const MAX_ROUNDS: usize = 10_000;

/// Calls of `handle_timeout` until nothing is due any more.
const MAX_TIMEOUTS: usize = 64;

/// What the world has to do for a machine.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send a packet.
    Send { path: Path, bytes: Vec<u8> },
    /// Open a byte stream.
    Dial { id: StreamId },
    /// Close a byte stream.
    HangUp { id: StreamId },
    /// Take another socket, so another port.
    FreshSocket,
    /// An inner packet came out of the tunnel.
    Inner(Vec<u8>),
    /// A control message came, with this number.
    Message(u64),
    /// Somebody from there showed that it is there, and has a session now.
    Incoming(SocketAddr),
    /// For the tape.
    News(What),
}

/// Which data plane a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaneKind {
    /// The product's plain plane.
    Local,
    /// As the Linux `ovpn` module.
    Kernel,
    /// As worker threads of a program.
    Workers,
    /// With delays and losses drawn by the seed.
    Drawn,
}

impl PlaneKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Local, Self::Kernel, Self::Workers, Self::Drawn];
}

/// A node, its data plane and its application.
pub struct Machine {
    id: MachineId,
    role: Role,
    kind: PlaneKind,
    seeds: SeedTree,
    boots: u64,
    node: Node,
    plane: Plane,
    watch: Watch,
    app: App,
    actions: VecDeque<Action>,
    /// Drop counters of nodes and planes before the last start.
    drops: DropCounters,
    /// Byte streams that take nothing more now. A packet for them must not be sealed: on a stream every packet-id
    /// has to arrive.
    congested: BTreeSet<StreamId>,
    /// Where packets are sealed; as long as the longest so far.
    buffer: Vec<u8>,
    /// Where control packets are written.
    datagram: Vec<u8>,
    /// Whether its control channel is wrapped.
    wrapped: bool,
    /// Control packets that came since the last start, by hash.
    seen: BTreeSet<u64>,
    /// What its TLS draws from; away while it runs.
    stream: Option<Stream>,
}

impl Machine {
    /// A machine that is switched on at `now`. `skew` is what its calendar is off by, in seconds.
    pub(crate) fn new(
        id: MachineId,
        role: Role,
        kind: PlaneKind,
        seeds: &SeedTree,
        now: Instant,
        skew: i64,
    ) -> Self {
        let seeds = seeds.clone();
        let (node, plane) = Self::make(&role, kind, &seeds, 0, now, skew);
        let stream = Stream::new(seeds.draws(Purpose::Secret, 1, 0).seed());
        let mut machine = Self {
            id,
            kind,
            boots: 0,
            watch: Watch::new(!plane.capabilities().synchronous),
            app: App::new(&role),
            seeds,
            node,
            plane,
            actions: VecDeque::new(),
            drops: DropCounters::default(),
            congested: BTreeSet::new(),
            buffer: Vec::new(),
            datagram: Vec::new(),
            wrapped: is_wrapped(&role),
            role,
            seen: BTreeSet::new(),
            stream: Some(stream),
        };
        machine.run(|machine| machine.start(now));
        machine
    }

    /// Does something with the machine; all calls that reach its node go through here.
    pub(crate) fn run<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        match self.stream.take() {
            Some(mut stream) => {
                let result = stream.enter(|| work(self));
                self.stream = Some(stream);
                result
            }
            None => work(self),
        }
    }

    /// Switched off and on again: all state is lost, and nobody was told.
    pub(crate) fn restart(&mut self, now: Instant, skew: i64) {
        self.boots += 1;
        self.drops = self.drops();
        (self.node, self.plane) = Self::make(&self.role, self.kind, &self.seeds, self.boots, now, skew);
        self.watch = Watch::new(!self.plane.capabilities().synchronous);
        self.app.reset(&self.role);
        self.actions.clear();
        self.seen.clear();
        self.congested.clear();
        self.run(|machine| machine.start(now));
    }

    fn make(
        role: &Role,
        kind: PlaneKind,
        seeds: &SeedTree,
        boots: u64,
        now: Instant,
        skew: i64,
    ) -> (Node, Plane) {
        let mut plane = Plane::new(kind, seeds, boots);
        if let Role::Server(server) = role {
            let own = [server.plan.own.map(IpAddr::V4), server.plan.own6.map(|net| IpAddr::V6(net.addr()))];
            plane.serve(&own.into_iter().flatten().collect::<Vec<_>>());
        }
        let unix = CALENDAR + (now - Instant::ZERO);
        let offset = Duration::from_secs(skew.unsigned_abs());
        let unix = if skew < 0 { unix.saturating_sub(offset) } else { unix + offset };
        let config = NodeConfig { capabilities: plane.capabilities() };
        let seed = seeds.draws(Purpose::Secret, 0, boots).seed();
        (Node::new(Arc::new(config), seed, Anchor::new(now, unix)), plane)
    }

    fn start(&mut self, now: Instant) {
        self.news(What::Started);
        match &self.role {
            Role::Server(server) => self.node.listen(Arc::new(server.config.clone())),
            Role::Peer(peer) if peer.calls.is_none() => self.node.listen_peer(Arc::new(peer.config.clone())),
            Role::Client(_) | Role::Peer(_) => self.app.call_at(now),
        }
        self.handle_timeout(now);
    }

    /// What it is.
    pub const fn role(&self) -> &Role {
        &self.role
    }

    /// How often it was switched on again.
    pub const fn boots(&self) -> u64 {
        self.boots
    }

    /// Its number.
    pub const fn id(&self) -> MachineId {
        self.id
    }

    /// Takes a packet from the network; whether it was a data packet that was opened.
    pub(crate) fn handle_packet(&mut self, now: Instant, path: Path, mut bytes: Vec<u8>) -> bool {
        if !matches!(peek(&bytes), Peek::Data(_)) {
            self.take_control(now, path, &mut bytes);
            self.drain(now);
            return false;
        }
        let opened = match self.plane.open(now, path, &mut bytes) {
            Ok(Opened { peer, payload: Payload::Packet(inner) }) => Ok((peer, Some(inner.to_vec()))),
            Ok(Opened { peer, .. }) => Ok((peer, None)),
            Err(reason) => Err(reason),
        };
        let taken = opened.is_ok();
        match opened {
            Ok((peer, inner)) => {
                self.watch.opened(Some(peer), path);
                if let Some(inner) = inner {
                    self.take_inner(now, peer, inner);
                }
            }
            Err(
                DropReason::NotIp | DropReason::Framing | DropReason::Compressed | DropReason::InnerSource,
            ) => self.watch.opened(None, path),
            Err(_) => {}
        }
        self.drain(now);
        taken
    }

    /// Where a tunnel's data goes.
    pub(crate) fn path(&self, peer: PeerRef) -> Option<Path> {
        self.plane.peer_path(peer)
    }

    /// A wrapped packet has an id of its own: a copy of one that was taken is stopped by its wrap, not by what comes
    /// behind.
    fn take_control(&mut self, now: Instant, path: Path, bytes: &mut [u8]) {
        if !self.wrapped {
            return self.node.handle_datagram(now, path, bytes);
        }
        let hash = xxh3_64(bytes);
        let again = self.seen.contains(&hash);
        let before = self.node.drops();
        self.node.handle_datagram(now, path, bytes);
        let after = self.node.drops();
        if again {
            let duplicates = |drops: &DropCounters| drops.get(DropReason::Duplicate);
            self.check(duplicates(&before) == duplicates(&after), || {
                "a copy of a control packet got through its wrap".into()
            });
        }
        // One that was dropped may have come before there was a session to take it.
        if before == after {
            self.seen.insert(hash);
        }
    }

    fn take_inner(&mut self, now: Instant, from: PeerRef, inner: Vec<u8>) {
        if let Role::Server(server) = &self.role
            && server.client_to_client
            && let Forward::Peer(to) = self.plane.forward(from, &inner)
        {
            self.seal(now, to, &inner);
            return;
        }
        self.actions.push_back(Action::Inner(inner));
    }

    /// A byte stream was closed by the other end or by the network.
    pub(crate) fn handle_stream_closed(&mut self, now: Instant, id: StreamId) {
        self.node.handle_stream(now, id, StreamChange::Closed);
        self.drain(now);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..MAX_TIMEOUTS {
            self.plane.handle_timeout(now);
            self.node.handle_timeout(now);
            self.run_application(now);
            self.drain(now);
            if self.deadline().is_none_or(|at| at > now) {
                return;
            }
        }
        self.violation(now, format!("still due after {MAX_TIMEOUTS} calls: {:?}", self.node.deadline()));
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let node = self.node.deadline().map(|deadline| deadline.at);
        [node, self.plane.deadline(), self.app.deadline()].into_iter().flatten().min()
    }

    /// Sends an inner packet to whom it belongs; whether there is anybody and it was sealed.
    pub(crate) fn send_inner(&mut self, now: Instant, inner: &[u8]) -> bool {
        let Some(peer) = self.plane.lookup(inner) else { return false };
        let sent = self.seal(now, peer, inner);
        self.drain(now);
        sent
    }

    /// A byte stream is full, or has room again.
    pub(crate) fn set_congested(&mut self, id: StreamId, full: bool) {
        if full {
            self.congested.insert(id);
        } else {
            self.congested.remove(&id);
        }
    }

    /// Starts a renegotiation of all its tunnels.
    pub(crate) fn renegotiate(&mut self, now: Instant) {
        let sessions: Vec<_> = self.app.tunnels.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.node.renegotiate(now, session));
        self.drain(now);
    }

    /// Leaves all its tunnels in an orderly way.
    pub(crate) fn leave(&mut self, now: Instant) {
        let sessions: Vec<_> = self.app.tunnels.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.node.close(now, session));
        self.drain(now);
    }

    fn seal(&mut self, now: Instant, peer: PeerRef, inner: &[u8]) -> bool {
        if let Some(Path::Stream(id)) = self.plane.peer_path(peer)
            && self.congested.contains(&id)
        {
            return false;
        }
        let mut buffer = core::mem::take(&mut self.buffer);
        let len = HEADROOM + inner.len() + TAILROOM;
        buffer.resize(buffer.len().max(len), 0);
        buffer[HEADROOM..HEADROOM + inner.len()].copy_from_slice(inner);
        let sealed = self.plane.seal(now, peer, &mut Slot::new(&mut buffer[..len], HEADROOM, inner.len()));
        if let Ok(sealed) = &sealed {
            let bytes = buffer[sealed.start..sealed.start + sealed.len].to_vec();
            // A plane that works later may have a peer for a while that isn't there any more.
            let known = self.app.peer_is_known(peer) || !self.plane.capabilities().synchronous;
            self.check(known, || format!("sealed for {peer:?}, which is unknown"));
            let verdict = self.watch.sealed(peer, &bytes);
            self.judge(verdict);
            self.actions.push_back(Action::Send { path: sealed.path, bytes });
        }
        self.buffer = buffer;
        sealed.is_ok()
    }

    /// The next thing to do for it.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How packets were dropped, over all starts.
    pub fn drops(&self) -> DropCounters {
        let mut sum = self.drops.clone();
        sum.merge(&self.node.drops());
        sum.merge(self.plane.drops());
        sum
    }

    /// Whether the control channel of a tunnel is gone, see [`Node::is_lame`].
    pub fn is_lame(&self, name: &str) -> bool {
        let mut tunnels = self.tunnels().filter(|(_, tunnel)| tunnel.name.is_empty() || tunnel.name == name);
        tunnels.any(|(session, _)| self.node.is_lame(session))
    }

    /// Sessions at its node, in whatever phase.
    pub fn sessions(&self) -> usize {
        self.node.sessions()
    }

    /// Peers in the data plane that no tunnel belongs to.
    pub(crate) fn idle_peers(&self) -> usize {
        self.watch.peers().filter(|&peer| !self.app.peer_is_known(peer)).count()
    }

    /// The most keys that a peer in the data plane has; 0 if it isn't known.
    pub(crate) fn most_keys(&self) -> usize {
        self.watch.most_keys()
    }

    /// Moves everything out of the machines, in the order that the core asks for.
    fn drain(&mut self, now: Instant) {
        for _ in 0..MAX_ROUNDS {
            let mut busy = self.exchange(now);
            busy |= self.transmit(now);
            while let Some(event) = self.node.poll_event() {
                busy = true;
                self.handle_event(now, event);
            }
            if !busy {
                return;
            }
        }
        self.violation(now, "orders, reports and events chase each other".into());
    }

    /// Orders to the plane and news from it; whether there were any.
    fn exchange(&mut self, now: Instant) -> bool {
        let mut busy = false;
        while let Some(order) = self.node.poll_directive() {
            busy = true;
            let verdict = self.watch.enter(order.seq, &order.directive);
            self.judge(verdict);
            self.note_order(&order.directive);
            self.plane.apply(now, order);
        }
        while let Some(report) = self.plane.poll_report() {
            busy = true;
            match report {
                Report::Applied(seq) => self.watch.applied(seq),
                Report::Floated { peer, to } => {
                    let verdict = self.watch.floated(peer, to);
                    self.judge(verdict);
                }
                _ => {}
            }
            self.node.handle_report(now, report);
        }
        busy
    }

    fn transmit(&mut self, now: Instant) -> bool {
        let mut busy = false;
        let mut out = core::mem::take(&mut self.datagram);
        out.resize(MAX_CONTROL_DATAGRAM, 0);
        while let Some(transmit) = self.node.poll_transmit(now, &mut out) {
            busy = true;
            self.actions.push_back(Action::Send { path: transmit.path, bytes: out[..transmit.len].to_vec() });
        }
        while let Some(transmit) = self.plane.poll_transmit(now, &mut out) {
            busy = true;
            let bytes = out[..transmit.len].to_vec();
            let peer = self.watch.peers().find(|&peer| self.plane.peer_path(peer) == Some(transmit.path));
            if let Some(peer) = peer {
                let verdict = self.watch.sealed(peer, &bytes);
                self.judge(verdict);
            }
            self.actions.push_back(Action::Send { path: transmit.path, bytes });
        }
        self.datagram = out;
        busy
    }

    fn note_order(&mut self, order: &Directive) {
        let what = match *order {
            Directive::InstallKey { peer, key, .. } => {
                What::KeyInstalled { peer: peer.id.get(), key: key.get() }
            }
            Directive::PromoteKey { peer, key } => What::KeyPromoted { peer: peer.id.get(), key: key.get() },
            Directive::RetireKey { peer, key } => What::KeyRetired { peer: peer.id.get(), key: key.get() },
            Directive::RemovePeer { peer } => What::PeerRemoved { peer: peer.id.get() },
            _ => return,
        };
        self.news(what);
    }

    fn news(&mut self, what: What) {
        self.actions.push_back(Action::News(what));
    }

    fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.news(What::Violation(otherwise()));
        }
    }

    fn judge(&mut self, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.news(What::Violation(what));
        }
    }

    fn violation(&mut self, now: Instant, what: String) {
        self.news(What::Violation(format!("{now:?}: {what}")));
    }
}

fn is_wrapped(role: &Role) -> bool {
    let (channel, v2) = match role {
        Role::Server(server) => (&server.config.channel, server.config.tls_crypt_v2.is_some()),
        Role::Client(client) => (&client.config.channel, false),
        Role::Peer(peer) => (&peer.config.channel, peer.config.tls_crypt_v2.is_some()),
    };
    v2 || !matches!(channel.wrap, WrapConfig::None)
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("id", &self.id)
            .field("role", &self.role.name())
            .finish_non_exhaustive()
    }
}
