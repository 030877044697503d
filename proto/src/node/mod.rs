//! The one composition of the machines: endpoint, sessions and timers behind a single drain.

mod attempts;
mod door;
mod peers;
mod schedule;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ipnet::IpNet;

use crate::clock::{Anchor, Instant};
use crate::config::server::{ClientSettings, ServerConfig};
use crate::config::{ClientConfig, Credentials, NodeConfig, PeerConfig};
use crate::deadline::Deadline;
use crate::directive::{Directive, Order, PeerRef};
use crate::drops::{DropCounters, DropReason};
use crate::endpoint::{Endpoint, Route};
use crate::entropy::Entropy;
use crate::error::ConnectError;
use crate::event::login::{AdmitTicket, LoginTicket, Verdict};
use crate::event::{CloseCause, Event};
use crate::handle::SessionHandle;
use crate::limits::MAX_EVENTS;
use crate::path::{Path, StreamChange, StreamId};
use crate::report::Report;
use crate::session::output::Scratch;
use crate::session::{Now, Session, Setup};
use crate::transmit::Transmit;
use crate::wire::ids::SessionId;
use door::Door;
use peers::PeerIds;
use schedule::Schedule;

/// All control machines of one program. See the [crate page](crate) for the loop around it.
///
/// Every call with `now` may create outputs. After it, drain [`poll_directive`](Self::poll_directive), then
/// [`poll_transmit`](Self::poll_transmit), then [`poll_event`](Self::poll_event), each until `None`, and sleep
/// until [`deadline`](Self::deadline).
pub struct Node {
    config: Arc<NodeConfig>,
    entropy: Entropy,
    anchor: Anchor,
    endpoint: Endpoint,
    door: Door,
    sessions: BTreeMap<SessionHandle, Entry>,
    by_peer: BTreeMap<PeerRef, SessionHandle>,
    schedule: Schedule,
    peer_ids: PeerIds,
    next_handle: u64,
    /// Sessions that may have something to transmit.
    ready: BTreeSet<SessionHandle>,
    /// Sessions that wait for an order to be carried out, by its number.
    held: BTreeSet<(u64, SessionHandle)>,
    orders: VecDeque<Order>,
    last_order: u64,
    applied: u64,
    events: VecDeque<Event>,
    drops: DropCounters,
    scratch: Scratch,
}

struct Entry {
    session: Session,
    /// Nothing of this session is sent before the data plane has carried this order out: the key must be
    /// installed before the message leaves that lets the peer use it.
    gate: u64,
    /// Its number in the data plane goes on under its successor.
    succeeded: bool,
    /// Who wanted to begin anew at its path, unanswered so far.
    caller: Option<SessionId>,
}

impl Node {
    /// A node without sessions. `seed` must be secret and never used twice.
    pub fn new(config: Arc<NodeConfig>, seed: [u8; 32], anchor: Anchor) -> Self {
        Self {
            config,
            entropy: Entropy::new(seed),
            anchor,
            endpoint: Endpoint::default(),
            door: Door::default(),
            sessions: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            schedule: Schedule::default(),
            peer_ids: PeerIds::default(),
            next_handle: 0,
            ready: BTreeSet::new(),
            held: BTreeSet::new(),
            orders: VecDeque::new(),
            last_order: 0,
            applied: 0,
            events: VecDeque::new(),
            drops: DropCounters::default(),
            scratch: Scratch::default(),
        }
    }

    // Inputs

    /// Takes a control packet from `path`; `bytes` is clobbered. A data packet is counted and dropped.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, bytes: &mut [u8]) {
        match self.endpoint.route(&path, bytes) {
            Route::Session(handle) => {
                self.with(now, handle, |session, now| session.handle_datagram(now, bytes))
            }
            Route::Stranger => self.knock(now, path, bytes),
            Route::Data => self.drops.count(DropReason::DataAtControl),
            Route::Drop(reason) => {
                self.drops.count(reason);
                self.distrust(now, path, reason);
            }
        }
    }

    /// What came on a byte stream belongs to no session: those that are there end. `false` if there are none.
    fn distrust(&mut self, now: Instant, path: Path, reason: DropReason) -> bool {
        let at_path = [self.endpoint.challenger(&path), self.endpoint.find(&path)];
        for handle in at_path.into_iter().flatten().filter(|_| path.is_stream()) {
            self.with(now, handle, |session, _| session.distrust(reason));
        }
        at_path != [None; 2]
    }

    /// Takes news about a byte stream.
    pub fn handle_stream(&mut self, now: Instant, id: StreamId, change: StreamChange) {
        let StreamChange::Closed = change;
        let path = Path::Stream(id);
        for handle in [self.endpoint.challenger(&path), self.endpoint.find(&path)].into_iter().flatten() {
            self.with(now, handle, |session, _| session.handle_stream_closed());
        }
    }

    /// Takes news from the data plane. News of peers that are gone has no effect.
    pub fn handle_report(&mut self, now: Instant, report: Report) {
        let peer = match report {
            Report::Applied(seq) => {
                self.on_applied(seq);
                return;
            }
            Report::FirstReceive { peer, .. }
            | Report::KeyWorn { peer, .. }
            | Report::KeySpent { peer, .. }
            | Report::Floated { peer, .. }
            | Report::PeerExit { peer }
            | Report::Misframed { peer, .. }
            | Report::PeerLost { peer }
            | Report::Activity { peer, .. } => peer,
        };
        let Some(&handle) = self.by_peer.get(&peer) else { return };
        if let Report::Floated { to, .. } = report {
            self.on_floated(now, handle, to, report);
        } else {
            self.with(now, handle, |session, now| session.handle_report(now, report));
        }
    }

    /// A session moves unless another client has that path or it is at its end.
    fn on_floated(&mut self, now: Instant, handle: SessionHandle, to: Path, report: Report) {
        let path_of = |node: &Self| node.sessions.get(&handle).map(|entry| entry.session.path());
        let Some(before) = path_of(self) else { return };
        let same_client =
            |a: SessionHandle, b: SessionHandle| match (self.sessions.get(&a), self.sessions.get(&b)) {
                (Some(a), Some(b)) => a.session.is_same_client(&b.session),
                _ => false,
            };
        if let Some(other) = self.endpoint.find(&to).filter(|&other| other != handle)
            && same_client(handle, other)
        {
            self.with(now, other, |session, _| session.abort(CloseCause::Replaced));
        }
        let remote = self.sessions.get(&handle).and_then(|entry| entry.session.listened_to());
        if !self.endpoint.insert(to, handle, remote) {
            return self.with(now, handle, |session, _| session.stay());
        }
        self.with(now, handle, |session, now| session.handle_report(now, report));
        let left = if path_of(self) == Some(to) { before } else { to };
        self.endpoint.remove(&left, handle);
    }

    /// Does what is due; a call too early has no effect.
    pub fn handle_timeout(&mut self, now: Instant) {
        // Each session once: whoever is due again at once waits for the next call.
        let due: Vec<SessionHandle> = self.schedule.due(now).collect();
        for handle in due {
            self.with(now, handle, |session, now| session.handle_timeout(now));
        }
    }

    // Commands

    /// Starts a session with the server at `path`.
    pub fn connect(
        &mut self,
        now: Instant,
        path: Path,
        config: Arc<ClientConfig>,
        credentials: Option<Credentials>,
    ) -> Result<SessionHandle, ConnectError> {
        self.initiate(now, path, |now, setup| Session::connect(now, setup, config, credentials))
    }

    /// Starts the `tls-client` side of a point-to-point tunnel with the peer at `path`.
    pub fn connect_peer(
        &mut self,
        now: Instant,
        path: Path,
        config: Arc<PeerConfig>,
    ) -> Result<SessionHandle, ConnectError> {
        self.initiate(now, path, |now, setup| Session::connect_peer(now, setup, config))
    }

    fn initiate(
        &mut self,
        now: Instant,
        path: Path,
        start: impl FnOnce(Now, Setup) -> Result<Session, ConnectError>,
    ) -> Result<SessionHandle, ConnectError> {
        if self.endpoint.find(&path).is_some() {
            return Err(ConnectError::PathInUse);
        }
        let handle = self.create(now, path, start)?;
        let inserted = self.endpoint.insert(path, handle, None);
        debug_assert!(inserted, "the path was free");
        self.settle(handle);
        Ok(handle)
    }

    /// Makes a session that is in no index of paths yet.
    fn create(
        &mut self,
        now: Instant,
        path: Path,
        start: impl FnOnce(Now, Setup) -> Result<Session, ConnectError>,
    ) -> Result<SessionHandle, ConnectError> {
        let handle = SessionHandle(self.next_handle);
        let peer = self.peer_ids.take();
        let capabilities = self.config.capabilities.on(&path);
        let entropy = self.entropy.child(self.next_handle);
        self.next_handle += 1;
        match start(self.now(now), Setup { handle, peer, path, capabilities, entropy }) {
            Ok(session) => {
                self.by_peer.insert(peer, handle);
                self.sessions.insert(handle, Entry { session, gate: 0, succeeded: false, caller: None });
                Ok(handle)
            }
            Err(error) => {
                self.peer_ids.release(peer, None);
                Err(error)
            }
        }
    }

    /// Takes clients from now on, or takes them by another configuration. Sessions that exist go on by the one
    /// they began with.
    pub fn listen(&mut self, config: Arc<ServerConfig>) {
        self.door.open_for_clients(&self.entropy, config);
    }

    /// Takes a peer from now on: the `tls-server` side of a point-to-point tunnel. A newer connection of the
    /// peer replaces the one before as soon as it is authenticated.
    pub fn listen_peer(&mut self, config: Arc<PeerConfig>) {
        self.door.open_for_peer(&self.entropy, config);
    }

    /// Takes nobody any more.
    pub fn stop_listening(&mut self) {
        self.door.close();
    }

    /// Answers an [`Event::Login`].
    #[expect(clippy::needless_pass_by_value, reason = "an answer uses the ticket up")]
    pub fn answer_login(&mut self, now: Instant, ticket: LoginTicket, verdict: Verdict) {
        self.with(now, ticket.session, |session, now| session.answer_login(now, &ticket, verdict));
    }

    /// Tells a client that the answer to its login will take up to `timeout`, and waits as long; the ticket stays
    /// good. `method` is what follows `INFO_PRE,` (`CR_TEXT:..`, `WEB_AUTH:..`), empty for nothing.
    pub fn defer_login(&mut self, now: Instant, ticket: &LoginTicket, timeout: Duration, method: &str) {
        self.with(now, ticket.session, |session, now| session.defer_login(now, ticket, timeout, method));
    }

    /// Answers an [`Event::Admit`]: the client's settings, or the text after `AUTH_FAILED,`. Who is let in takes the
    /// place of others, see [`replace`](Self::replace).
    #[expect(clippy::needless_pass_by_value, reason = "an answer uses the ticket up")]
    pub fn admit(&mut self, now: Instant, ticket: AdmitTicket, settings: Result<ClientSettings, String>) {
        if let Ok(settings) = &settings {
            self.replace(now, &ticket, settings);
        }
        self.with(now, ticket.session, |session, now| session.admit(now, settings));
    }

    /// The client will be let in with these settings: ends older sessions of its name, unless `duplicate-cn` allows
    /// them, and whoever was at its address; which ones. [`admit`](Self::admit) does that itself. Before it is for who
    /// must know what ends first. Unlike OpenVPN, a client that is refused replaces nobody.
    pub fn replace(
        &mut self,
        now: Instant,
        ticket: &AdmitTicket,
        settings: &ClientSettings,
    ) -> Vec<SessionHandle> {
        let now = self.now(now);
        match self.sessions.get_mut(&ticket.session) {
            Some(entry) if entry.session.is_admissible() => {
                entry.session.rename(now, settings.username.as_deref());
                self.replace_others(ticket.session)
            }
            _ => Vec::new(),
        }
    }

    /// Sends options to a client that is up (`PUSH_UPDATE`), if it understands that; whether it does.
    pub fn push_update(&mut self, now: Instant, session: SessionHandle, options: &[String]) -> bool {
        let mut sent = false;
        self.with(now, session, |session, now| sent = session.push_update(now, options));
        sent
    }

    /// Changes the inner addresses of a client.
    pub fn set_routes(&mut self, now: Instant, session: SessionHandle, routes: Vec<IpNet>) {
        self.with(now, session, |session, _| session.set_routes(routes));
    }

    /// Sends a control message as it is (`INFO,..`, `INFO_PRE,..`), once the control channel stands.
    pub fn send_message(&mut self, now: Instant, session: SessionHandle, text: &str) {
        self.with(now, session, |session, now| session.send_message(now, text));
    }

    /// Sends a last control message (`RESTART,..`, `HALT,..`, `AUTH_FAILED,..`) and ends the session with
    /// [`CloseCause::Local`] when it has been acknowledged, or after five seconds.
    pub fn dismiss(&mut self, now: Instant, session: SessionHandle, message: &str) {
        self.with(now, session, |session, now| session.dismiss(now, message, CloseCause::Local));
    }

    /// Leaves: announces it where configured, then ends with [`CloseCause::Local`]. Unknown handles are ignored.
    pub fn close(&mut self, now: Instant, session: SessionHandle) {
        self.with(now, session, |session, now| session.close(now));
    }

    /// Ends a session at once without a word to the peer; also ends in [`Event::Closed`].
    pub fn abort(&mut self, now: Instant, session: SessionHandle) {
        self.with(now, session, |session, _| session.abort(CloseCause::Local));
    }

    /// Starts a renegotiation now, unless one is under way or the tunnel is not up.
    pub fn renegotiate(&mut self, now: Instant, session: SessionHandle) {
        self.with(now, session, |session, now| session.renegotiate(now));
    }

    // Outputs

    /// The next order for the data plane. Drain these before transmits.
    pub fn poll_directive(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Writes the next control packet into `out`, which must hold
    /// [`MAX_CONTROL_DATAGRAM`](crate::limits::MAX_CONTROL_DATAGRAM) bytes. Not calling it while a socket
    /// is full is all the backpressure that is needed.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        debug_assert!(out.len() >= crate::limits::MAX_CONTROL_DATAGRAM, "the buffer is too small");
        if let Some(transmit) = self.door.poll_reply(out) {
            return Some(transmit);
        }
        let now = self.now(now);
        while let Some(&handle) = self.ready.first() {
            let Some(entry) = self.sessions.get_mut(&handle) else {
                self.ready.remove(&handle);
                continue;
            };
            let path = entry.session.path();
            let len = entry.session.poll_transmit(now, &mut self.scratch, out);
            if len.is_none() {
                self.ready.remove(&handle);
            }
            self.collect(handle);
            if let Some(len) = len {
                return Some(Transmit { path, len });
            }
        }
        None
    }

    /// The next piece of news.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and drain; `None` if nothing is pending.
    pub fn deadline(&self) -> Option<Deadline> {
        self.schedule.next()
    }

    // Getters

    /// How control packets were dropped so far, in all sessions together.
    pub fn drops(&self) -> DropCounters {
        let mut sum = self.drops.clone();
        self.sessions.values().filter_map(|entry| entry.session.drops()).for_each(|drops| sum.merge(drops));
        sum
    }

    /// As [`drops`](Self::drops), without those of sessions that are there. Costs nothing however many there are.
    pub const fn drops_outside(&self) -> &DropCounters {
        &self.drops
    }

    /// How many sessions there are, in whatever phase.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The sessions whose newest negotiation got as far as `level`, by OpenVPN's numbers: 3 begun (and so all), 4 TLS
    /// handshake, 5 own keys sent, 6 the peer's received, 7 all acknowledged. To [abort](Self::abort) them is what a
    /// [gremlin](crate::gremlin::Mask::connection_flood) does.
    pub fn sessions_at(&self, level: u8) -> Vec<SessionHandle> {
        let reached = |(handle, entry): (&SessionHandle, &Entry)| {
            (!entry.session.is_dead() && entry.session.progress() >= level).then_some(*handle)
        };
        self.sessions.iter().filter_map(reached).collect()
    }

    /// Whether a session has lost its control channel, and lives on the keys it has until the other side comes back.
    pub fn is_lame(&self, session: SessionHandle) -> bool {
        self.sessions.get(&session).is_some_and(|entry| entry.session.is_lame())
    }

    /// Whether it takes clients or a peer.
    pub fn is_listening(&self) -> bool {
        self.door.is_open()
    }

    fn now(&self, at: Instant) -> Now {
        Now { at, unix: self.anchor.unix_at(at) }
    }

    /// Calls a session and collects what comes of it.
    fn with(&mut self, now: Instant, handle: SessionHandle, call: impl FnOnce(&mut Session, Now)) {
        let now = self.now(now);
        if let Some(entry) = self.sessions.get_mut(&handle) {
            call(&mut entry.session, now);
            self.settle(handle);
        }
    }

    /// After a call: the session may have something to send.
    fn settle(&mut self, handle: SessionHandle) {
        self.ready.insert(handle);
        self.collect(handle);
    }

    /// Moves a session's outputs into the node's queues, and the session out if it is dead.
    fn collect(&mut self, handle: SessionHandle) {
        let Some(entry) = self.sessions.get_mut(&handle) else { return };
        let mut removal = None;
        while let Some(directive) = entry.session.poll_directive() {
            self.last_order += 1;
            match directive {
                // What is sent next may let the peer use the new key, or forget the one that sent before.
                Directive::InstallKey { .. } | Directive::PromoteKey { .. } => entry.gate = self.last_order,
                Directive::RemovePeer { .. } => removal = Some(self.last_order),
                _ => {}
            }
            self.orders.push_back(Order { seq: self.last_order, directive });
        }
        let held = !self.config.capabilities.synchronous && entry.gate > self.applied;
        let gate = entry.gate;
        let (dead, deadline) = (entry.session.is_dead(), entry.session.deadline(held));
        self.collect_events(handle);
        if dead {
            return self.bury(handle, removal);
        }
        if held {
            // `on_applied` comes back to it.
            self.ready.remove(&handle);
            self.held.insert((gate, handle));
        }
        self.schedule.set(handle, deadline);
    }

    /// Who enters replaces others first.
    fn collect_events(&mut self, handle: SessionHandle) {
        while let Some(event) = self.sessions.get_mut(&handle).and_then(|entry| entry.session.poll_event()) {
            match &event {
                Event::PeerNegotiated { .. } | Event::Established { .. } => {
                    self.replace_others(handle);
                }
                Event::Login(_, login) if login.identity.is_some() => self.door.know(handle),
                Event::Admit(..) => self.door.know(handle),
                _ => {}
            }
            if self.events.len() < MAX_EVENTS || !event.is_informative() {
                self.events.push_back(event);
            }
        }
    }

    /// Ends older sessions of the same client, and whoever else was at its path.
    fn replace_others(&mut self, handle: SessionHandle) -> Vec<SessionHandle> {
        let mut ended = Vec::new();
        let Some(entry) = self.sessions.get(&handle) else { return ended };
        let (path, name) = (entry.session.path(), entry.session.common_name().to_owned());
        let at_path = self.endpoint.find(&path).filter(|&other| other != handle);
        let same_name = match entry.session.listened_to() {
            Some(_) => self.door.enter(handle, name),
            None => None,
        };
        if let Some(other) = at_path {
            self.succeed(other, handle);
        }
        for other in [at_path, same_name].into_iter().flatten() {
            if let Some(entry) = self.sessions.get_mut(&other) {
                entry.session.abort(CloseCause::Replaced);
                self.collect(other);
                ended.push(other);
            }
        }
        ended
    }

    /// A client that begins anew at its address may not notice that its server did: OpenVPN's takes no second
    /// configuration, and goes on with the peer-id of the first. So the same client keeps its number.
    fn succeed(&mut self, old: SessionHandle, new: SessionHandle) {
        let (Some(before), Some(after)) = (self.sessions.get(&old), self.sessions.get(&new)) else { return };
        if !before.session.is_up() || !after.session.can_succeed(&before.session) {
            return;
        }
        let own = after.session.peer();
        let peer = self.peer_ids.renew(before.session.peer());
        if let Some(before) = self.sessions.get_mut(&old) {
            before.succeeded = true;
        }
        if let Some(after) = self.sessions.get_mut(&new) {
            after.session.succeed(peer);
        }
        self.by_peer.remove(&own);
        self.peer_ids.release(own, None);
        self.by_peer.insert(peer, new);
    }

    fn bury(&mut self, handle: SessionHandle, removal: Option<u64>) {
        let Some(Entry { session, succeeded, .. }) = self.sessions.remove(&handle) else { return };
        self.schedule.set(handle, None);
        self.ready.remove(&handle);
        let (path, peer) = (session.path(), session.peer());
        if let Some(drops) = session.drops() {
            self.drops.merge(drops);
        }
        self.endpoint.remove(&path, handle);
        self.door.leave(handle, &session);
        self.by_peer.remove(&peer);
        if !succeeded {
            self.peer_ids.release(peer, removal);
        }
        if self.config.capabilities.synchronous {
            self.peer_ids.on_applied(self.last_order);
        }
    }

    fn on_applied(&mut self, seq: u64) {
        self.applied = self.applied.max(seq);
        self.peer_ids.on_applied(seq);
        while let Some(&(gate, handle)) = self.held.first().filter(|(gate, _)| *gate <= self.applied) {
            self.held.remove(&(gate, handle));
            self.settle(handle);
        }
    }
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}
