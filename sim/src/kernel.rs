//! A data plane with a kernel's semantics.
//!
//! A [`FakeKernel`] is the product's own [`Table`] behind a queue: what the kernel does with packets is done at once,
//! what the control machine orders is carried out some time later, and what it is told comes later still, or never.
//! That is how the `ovpn` module of Linux looks through netlink.
//!
//! # What may be lost
//!
//! A request over netlink has an answer, so these always arrive, in order:
//!
//! - `Applied`, for each order;
//! - `Activity`, the answer to `AskActivity`;
//! - `PeerLost` as the answer to any order for a peer that the kernel gave up by itself (`ENOENT`).
//!
//! All else are multicast notifications, which a full socket buffer drops ([`KernelQuirks::notice_loss`]). What the
//! core makes of that:
//!
//! | Report | If it is lost |
//! |---|---|
//! | `FirstReceive` | the new key sends when its time has come; an exchange ends by its last acknowledgement |
//! | `KeyWorn` | the key goes on until `reneg-sec`, or until it is spent; it is told once per key and reason |
//! | `KeySpent` | nothing is sent until the next renegotiation, and without `reneg-sec` never again |
//! | `Floated` | control packets go where the peer was, and the next renegotiation fails |
//! | `PeerExit` | the session ends by `ping-restart`, if there is one |
//! | `PeerLost` | the next order for it has that answer; with pings or timeouts one comes soon |
//!
//! So a driver must notice that something was dropped (`ENOBUFS`) and look what the kernel has: who was moved, which
//! keys are spent, which peers are gone. That is [`KernelQuirks::resync`]. The other three can't be found out, and
//! stay lost.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use oxivpn_proto::config::params::ReplayWindow;
use oxivpn_proto::data::{Forward, Opened, SealError, Sealed, Slot, Table};
use oxivpn_proto::plane::{Capabilities, DataPlane};
use oxivpn_proto::report::Totals;
use oxivpn_proto::wire::ids::KeyId;
use oxivpn_proto::{Directive, DropCounters, DropReason, Instant, Order, Path, PeerRef, Report, Transmit};

use crate::{Purpose, Rate, SeedTree};

/// The window of the kernel modules, whatever is configured (`linux: drivers/net/ovpn/pktid.h`).
const REPLAY: ReplayWindow = ReplayWindow { packets: 2048, time: Duration::from_secs(30) };

/// How a kernel differs from a plane in the same process. Delays are drawn anew for each message, between the two
/// times; messages of a kind don't overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelQuirks {
    /// What it can do. Never synchronous.
    pub capabilities: Capabilities,
    /// From an order to the time it is carried out.
    pub order_delay: (Duration, Duration),
    /// From then to the time its answer arrives.
    pub answer_delay: (Duration, Duration),
    /// From an event to the time it is told.
    pub notice_delay: (Duration, Duration),
    /// How many notifications are lost.
    pub notice_loss: Rate,
    /// After this time the driver has noticed a loss and found out what it could; `None` if it never does.
    pub resync: Option<Duration>,
    /// Tells that the peer uses a key.
    pub tells_first_receive: bool,
    /// Tells that a key should be replaced soon. The end of a key is always told.
    pub tells_worn: bool,
    /// Understands exit notices in the data channel.
    pub tells_exit: bool,
    /// Sends to the new address of a peer as soon as that is authenticated, and tells that it did.
    pub moves_peers: bool,
    /// Changes the MSS of connections in the tunnel.
    pub clamps_mss: bool,
}

impl KernelQuirks {
    /// The module in Linux since 6.16, on a machine that has little to do.
    pub const OVPN: Self = Self {
        capabilities: Capabilities {
            synchronous: false,
            epoch: false,
            data_v1: false,
            data_v2: true,
            asymmetric_ids: false,
            framing: false,
            ecn: false,
        },
        order_delay: (Duration::from_micros(20), Duration::from_micros(500)),
        answer_delay: (Duration::from_micros(20), Duration::from_micros(200)),
        notice_delay: (Duration::from_micros(50), Duration::from_millis(2)),
        notice_loss: Rate::NEVER,
        resync: Some(Duration::from_millis(100)),
        tells_first_receive: false,
        tells_worn: false,
        tells_exit: false,
        moves_peers: true,
        clamps_mss: false,
    };

    /// All that the core can use, but late, as worker threads would do it.
    pub const WORKERS: Self = Self {
        capabilities: Capabilities { synchronous: false, ..Capabilities::USERSPACE },
        tells_first_receive: true,
        tells_worn: true,
        tells_exit: true,
        moves_peers: false,
        clamps_mss: true,
        ..Self::OVPN
    };

    /// One of many kernels: fast or slow, with or without losses and abilities.
    pub fn drawn(seeds: &SeedTree) -> Self {
        let mut draws = seeds.draws(Purpose::Which, 0, 0);
        let longest = *draws.pick(&[0, 1, 10, 100]);
        let mut delay = || {
            let high = draws.time(Duration::ZERO, Duration::from_millis(longest));
            (draws.time(Duration::ZERO, high), high)
        };
        let (order_delay, answer_delay, notice_delay) = (delay(), delay(), delay());
        let half = Rate::percent(50);
        let notice_loss = *draws.pick(&[Rate::NEVER, Rate::percent(1), Rate::percent(20)]);
        Self {
            capabilities: Capabilities {
                synchronous: false,
                epoch: draws.hit(half),
                data_v1: draws.hit(half),
                data_v2: true,
                asymmetric_ids: draws.hit(half),
                framing: true,
                ecn: false,
            },
            order_delay,
            answer_delay,
            notice_delay,
            notice_loss,
            resync: Some(draws.time(Duration::ZERO, Duration::from_secs(1))),
            tells_first_receive: draws.hit(half),
            tells_worn: draws.hit(half),
            tells_exit: draws.hit(half),
            moves_peers: draws.hit(half),
            clamps_mss: draws.hit(half),
        }
    }
}

/// What a kernel did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelStats {
    /// Orders carried out.
    pub orders: u64,
    /// Notifications sent.
    pub notices: u64,
    /// Of them, those that were lost.
    pub lost: u64,
    /// Keys that were overwritten since a peer has room for two. The core should never cause that.
    pub overwritten: u64,
}

/// A data plane that carries orders out later; see the [module](self).
///
/// After each call drain [`poll_transmit`](Self::poll_transmit), then [`poll_report`](DataPlane::poll_report), and call
/// [`handle_timeout`](Self::handle_timeout) at [`deadline`](Self::deadline).
pub struct FakeKernel {
    table: Table,
    quirks: KernelQuirks,
    seeds: SeedTree,
    orders: Line<Order>,
    answers: Line<Report>,
    notices: Line<Report>,
    /// What the control machine may have now.
    ready: VecDeque<Report>,
    /// What a look at the kernel would show, and when the driver looks.
    unseen: Vec<Report>,
    look: Option<Instant>,
    peers: BTreeMap<PeerRef, Keys>,
    /// Peers that it forgot by itself, and the control machine doesn't know of that yet.
    given_up: BTreeSet<PeerRef>,
    stats: KernelStats,
}

/// The two places for keys: one that sends, and another.
#[derive(Clone, Copy, Default)]
struct Keys {
    primary: Option<KeyId>,
    secondary: Option<KeyId>,
}

/// Messages that arrive later, in order.
struct Line<T> {
    index: u32,
    delay: (Duration, Duration),
    sent: u64,
    waiting: VecDeque<(Instant, T)>,
}

impl<T> Line<T> {
    const fn new(index: u32, delay: (Duration, Duration)) -> Self {
        Self { index, delay, sent: 0, waiting: VecDeque::new() }
    }

    fn push(&mut self, now: Instant, seeds: &SeedTree, message: T) {
        self.sent += 1;
        let delay = seeds.draws(Purpose::Jitter, self.index, self.sent).time(self.delay.0, self.delay.1);
        let before = self.waiting.back().map_or(now, |(due, _)| *due);
        self.waiting.push_back((before.max(now + delay), message));
    }

    fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    fn pop(&mut self, now: Instant) -> Option<T> {
        if self.deadline()? > now {
            return None;
        }
        self.waiting.pop_front().map(|(_, message)| message)
    }
}

/// Whose news it is, if it is about a peer.
const fn subject(report: &Report) -> Option<PeerRef> {
    match report {
        Report::FirstReceive { peer, .. }
        | Report::KeyWorn { peer, .. }
        | Report::KeySpent { peer, .. }
        | Report::Floated { peer, .. }
        | Report::PeerExit { peer }
        | Report::Misframed { peer, .. }
        | Report::PeerLost { peer }
        | Report::Activity { peer, .. } => Some(*peer),
        _ => None,
    }
}

impl FakeKernel {
    /// A kernel without peers.
    pub fn new(quirks: KernelQuirks, seeds: &SeedTree) -> Self {
        let quirks = KernelQuirks {
            capabilities: Capabilities { synchronous: false, ..quirks.capabilities },
            ..quirks
        };
        Self {
            table: Table::new(),
            quirks,
            seeds: seeds.clone(),
            orders: Line::new(0, quirks.order_delay),
            answers: Line::new(1, quirks.answer_delay),
            notices: Line::new(2, quirks.notice_delay),
            ready: VecDeque::new(),
            unseen: Vec::new(),
            look: None,
            peers: BTreeMap::new(),
            given_up: BTreeSet::new(),
            stats: KernelStats::default(),
        }
    }

    /// Makes this the plane of a server with these inner addresses, see [`Table::serve`].
    pub fn serve(&mut self, own: &[IpAddr]) {
        self.table.serve(own);
    }

    // Packets

    /// The peer that an inner packet belongs to, see [`Table::lookup`].
    pub fn lookup(&self, packet: &[u8]) -> Option<PeerRef> {
        self.table.lookup(packet)
    }

    /// Where an opened packet goes if clients may talk to each other, see [`Table::forward`].
    pub fn forward(&self, from: PeerRef, packet: &[u8]) -> Forward {
        self.table.forward(from, packet)
    }

    /// Encrypts a payload in place, see [`Table::seal`].
    ///
    /// # Errors
    /// As [`Table::seal`].
    pub fn seal(&mut self, now: Instant, peer: PeerRef, slot: &mut Slot<'_>) -> Result<Sealed, SealError> {
        let sealed = self.table.seal(now, peer, slot);
        self.collect(now);
        sealed
    }

    /// Decrypts a data packet in place, see [`Table::open`].
    ///
    /// # Errors
    /// As [`Table::open`].
    pub fn open<'b>(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &'b mut [u8],
    ) -> Result<Opened<'b>, DropReason> {
        let opened = self.table.open(now, from, datagram);
        // The field alone: what was opened borrows only the datagram.
        self.collect(now);
        opened
    }

    /// The next packet that the kernel made by itself, see [`Table::poll_transmit`].
    pub fn poll_transmit(&mut self, _now: Instant, out: &mut [u8]) -> Option<Transmit> {
        self.table.poll_transmit(out)
    }

    // Time

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn deadline(&self) -> Option<Instant> {
        let lines = [self.orders.deadline(), self.answers.deadline(), self.notices.deadline(), self.look];
        lines.into_iter().flatten().min()
    }

    /// Carries out what is due, and makes due news ready for [`poll_report`](DataPlane::poll_report).
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(order) = self.orders.pop(now) {
            self.stats.orders += 1;
            self.carry_out(now, order);
        }
        if self.look.is_some_and(|look| look <= now) {
            self.look = None;
            let peers = &self.peers;
            // Of those that are gone, only that.
            self.unseen.retain(|report| {
                matches!(report, Report::PeerLost { .. })
                    || subject(report).is_some_and(|peer| peers.contains_key(&peer))
            });
            for report in self.unseen.drain(..) {
                self.answers.push(now, &self.seeds, report);
            }
        }
        while let Some(report) = self.answers.pop(now) {
            self.ready.push_back(report);
        }
        while let Some(report) = self.notices.pop(now) {
            self.ready.push_back(report);
        }
    }

    /// The kernel forgets a peer by itself, as it does when a TCP connection breaks.
    pub fn give_up(&mut self, now: Instant, peer: PeerRef) {
        if self.peers.remove(&peer).is_some() {
            self.table.apply(now, Directive::RemovePeer { peer });
            self.given_up.insert(peer);
            self.notify(now, Report::PeerLost { peer });
            self.handle_timeout(now);
        }
    }

    // Questions

    /// All data packets of a peer, see [`Table::usage`].
    pub fn usage(&self, peer: PeerRef) -> Option<Totals> {
        self.table.usage(peer)
    }

    /// Where a peer's packets go, see [`Table::peer_path`].
    pub fn peer_path(&self, peer: PeerRef) -> Option<Path> {
        self.table.peer_path(peer)
    }

    /// Counts of dropped packets.
    pub const fn drops(&self) -> &DropCounters {
        self.table.drops()
    }

    /// Adds a packet that the caller dropped on its way to this plane ([`DropReason::NoRoute`]).
    pub fn count_drop(&mut self, reason: DropReason) {
        self.table.count_drop(reason);
    }

    /// What it did.
    pub const fn stats(&self) -> &KernelStats {
        &self.stats
    }

    /// How it differs.
    pub const fn quirks(&self) -> &KernelQuirks {
        &self.quirks
    }

    fn carry_out(&mut self, now: Instant, order: Order) {
        let Order { seq, directive } = order;
        let peer = directive.peer();
        if matches!(directive, Directive::RemovePeer { .. }) {
            self.given_up.remove(&peer);
            self.peers.remove(&peer);
        } else if self.given_up.contains(&peer) {
            self.answers.push(now, &self.seeds, Report::PeerLost { peer });
        }
        let directive = self.translate(now, directive);
        self.table.apply(now, directive);
        self.collect_answers(now);
        self.answers.push(now, &self.seeds, Report::Applied(seq));
    }

    /// What the kernel makes of an order.
    fn translate(&mut self, now: Instant, directive: Directive) -> Directive {
        match directive {
            Directive::AddPeer { peer, path, mut params } => {
                params.replay = REPLAY;
                params.mss = params.mss.filter(|_| self.quirks.clamps_mss);
                // An id has one user; the table forgets the one before, too.
                self.peers.retain(|other, _| other.id != peer.id || other.generation > peer.generation);
                self.peers.entry(peer).or_default();
                Directive::AddPeer { peer, path, params }
            }
            Directive::InstallKey { peer, key, data } => {
                if let Some(keys) = self.peers.get_mut(&peer) {
                    if keys.primary.is_none() || keys.primary == Some(key) {
                        keys.primary = Some(key);
                    } else if let Some(old) = keys.secondary.replace(key)
                        && old != key
                    {
                        self.stats.overwritten += 1;
                        self.table.apply(now, Directive::RetireKey { peer, key: old });
                    }
                }
                Directive::InstallKey { peer, key, data }
            }
            Directive::PromoteKey { peer, key } => {
                if let Some(keys) = self.peers.get_mut(&peer)
                    && keys.secondary == Some(key)
                {
                    core::mem::swap(&mut keys.primary, &mut keys.secondary);
                }
                Directive::PromoteKey { peer, key }
            }
            Directive::RetireKey { peer, key } => {
                if let Some(keys) = self.peers.get_mut(&peer) {
                    keys.primary = keys.primary.filter(|&other| other != key);
                    keys.secondary = keys.secondary.filter(|&other| other != key);
                }
                Directive::RetireKey { peer, key }
            }
            other => other,
        }
    }

    /// After an order: an answer among the news of the table is one to it.
    fn collect_answers(&mut self, now: Instant) {
        while let Some(report) = self.table.poll_report() {
            match report {
                Report::Activity { .. } => self.answers.push(now, &self.seeds, report),
                _ => self.take_news(now, report),
            }
        }
    }

    /// After a packet.
    fn collect(&mut self, now: Instant) {
        let mut any = false;
        while let Some(report) = self.table.poll_report() {
            any = true;
            self.take_news(now, report);
        }
        if any {
            self.handle_timeout(now);
        }
    }

    fn take_news(&mut self, now: Instant, report: Report) {
        let quirks = &self.quirks;
        let told = match report {
            Report::FirstReceive { .. } => quirks.tells_first_receive,
            Report::KeyWorn { .. } => quirks.tells_worn,
            Report::PeerExit { .. } => quirks.tells_exit,
            _ => true,
        };
        if let Report::Floated { peer, to } = report
            && quirks.moves_peers
        {
            self.table.apply(now, Directive::MovePeer { peer, path: to });
        }
        if told {
            self.notify(now, report);
        }
    }

    fn notify(&mut self, now: Instant, report: Report) {
        self.stats.notices += 1;
        if !self.seeds.draws(Purpose::Loss, 2, self.stats.notices).hit(self.quirks.notice_loss) {
            self.notices.push(now, &self.seeds, report);
            return;
        }
        self.stats.lost += 1;
        let same = |other: &Report| {
            subject(other) == subject(&report)
                && core::mem::discriminant(other) == core::mem::discriminant(&report)
        };
        match report {
            // Where it is now is all that a look shows.
            Report::Floated { .. } | Report::PeerLost { .. } => self.unseen.retain(|other| !same(other)),
            Report::KeySpent { .. } => {}
            _ => return,
        }
        self.unseen.push(report);
        if let Some(resync) = self.quirks.resync {
            self.look.get_or_insert(now + resync);
        }
    }
}

impl DataPlane for FakeKernel {
    fn apply(&mut self, now: Instant, order: Order) {
        self.orders.push(now, &self.seeds, order);
        self.handle_timeout(now);
    }

    fn poll_report(&mut self) -> Option<Report> {
        self.ready.pop_front()
    }

    fn capabilities(&self) -> Capabilities {
        self.quirks.capabilities
    }
}

impl fmt::Debug for FakeKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeKernel")
            .field("quirks", &self.quirks)
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
