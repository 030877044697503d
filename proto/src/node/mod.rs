//! The one composition of the machines: endpoint, sessions and timers behind a single drain.

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
use crate::event::Event;
use crate::event::login::{AdmitTicket, LoginTicket, Verdict};
use crate::handle::SessionHandle;
use crate::limits::MAX_EVENTS;
use crate::path::{Path, StreamChange, StreamId};
use crate::report::Report;
use crate::session::{Now, Session, Setup};
use crate::transmit::Transmit;
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
    sessions: BTreeMap<SessionHandle, Entry>,
    by_peer: BTreeMap<PeerRef, SessionHandle>,
    schedule: Schedule,
    peer_ids: PeerIds,
    next_handle: u64,
    /// Sessions that may have something to transmit.
    ready: BTreeSet<SessionHandle>,
    orders: VecDeque<Order>,
    last_order: u64,
    applied: u64,
    events: VecDeque<Event>,
    drops: DropCounters,
}

struct Entry {
    session: Session,
    /// Nothing of this session is sent before the data plane has carried this order out: the key must be
    /// installed before the message leaves that lets the peer use it.
    gate: u64,
}

impl Node {
    /// A node without sessions. `seed` must be secret and never used twice.
    pub fn new(config: Arc<NodeConfig>, seed: [u8; 32], anchor: Anchor) -> Self {
        Self {
            config,
            entropy: Entropy::new(seed),
            anchor,
            endpoint: Endpoint::default(),
            sessions: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            schedule: Schedule::default(),
            peer_ids: PeerIds::default(),
            next_handle: 0,
            ready: BTreeSet::new(),
            orders: VecDeque::new(),
            last_order: 0,
            applied: 0,
            events: VecDeque::new(),
            drops: DropCounters::default(),
        }
    }

    // Inputs

    /// Takes a control packet from `path`; `bytes` is clobbered. A data packet is counted and dropped.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, bytes: &mut [u8]) {
        match self.endpoint.route(&path, bytes) {
            Route::Session(handle) => {
                self.with(now, handle, |session, now| session.handle_datagram(now, bytes))
            }
            Route::Data => self.drops.count(DropReason::DataAtControl),
            Route::Drop(reason) => self.drops.count(reason),
        }
    }

    /// Takes news about a byte stream.
    pub fn handle_stream(&mut self, now: Instant, id: StreamId, change: StreamChange) {
        let StreamChange::Closed = change;
        if let Some(handle) = self.endpoint.find(&Path::Stream(id)) {
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

    /// A session moves unless another has that path or it is at its end.
    fn on_floated(&mut self, now: Instant, handle: SessionHandle, to: Path, report: Report) {
        let path_of = |node: &Self| node.sessions.get(&handle).map(|entry| entry.session.path());
        let Some(before) = path_of(self) else { return };
        if !self.endpoint.insert(to, handle) {
            return;
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
        if self.endpoint.find(&path).is_some() {
            return Err(ConnectError::PathInUse);
        }
        let handle = SessionHandle(self.next_handle);
        let peer = self.peer_ids.take();
        let setup = Setup {
            handle,
            peer,
            path,
            config,
            capabilities: self.config.capabilities,
            credentials,
            entropy: self.entropy.child(self.next_handle),
        };
        self.next_handle += 1;
        let session = match Session::connect(self.now(now), setup) {
            Ok(session) => session,
            Err(error) => {
                self.peer_ids.release(peer, None);
                return Err(error);
            }
        };
        let inserted = self.endpoint.insert(path, handle);
        debug_assert!(inserted, "the path was free");
        self.by_peer.insert(peer, handle);
        self.sessions.insert(handle, Entry { session, gate: 0 });
        self.settle(handle);
        Ok(handle)
    }

    /// Starts the `tls-client` side of a point-to-point tunnel with the peer at `path`.
    pub fn connect_peer(
        &mut self,
        _now: Instant,
        _path: Path,
        _config: Arc<PeerConfig>,
    ) -> Result<SessionHandle, ConnectError> {
        Err(ConnectError::PathInUse)
    }

    /// Takes clients from now on, or takes them by another configuration. Sessions that exist go on by the one
    /// they began with.
    pub fn listen(&mut self, _config: Arc<ServerConfig>) {}

    /// Takes a peer from now on: the `tls-server` side of a point-to-point tunnel. A newer connection of the
    /// peer replaces the one before as soon as it is authenticated.
    pub fn listen_peer(&mut self, _config: Arc<PeerConfig>) {}

    /// Takes nobody any more.
    pub fn stop_listening(&mut self) {}

    /// Answers an [`Event::Login`].
    pub fn answer_login(&mut self, _now: Instant, _ticket: LoginTicket, _verdict: Verdict) {}

    /// Tells a client that the answer to its login will take up to `timeout`, and waits as long; the ticket stays
    /// good. `method` is what follows `INFO_PRE,` (`CR_TEXT:..`, `WEB_AUTH:..`), empty for nothing.
    pub fn defer_login(&mut self, _now: Instant, _ticket: &LoginTicket, _timeout: Duration, _method: &str) {}

    /// Answers an [`Event::Admit`]: the client's settings, or the text after `AUTH_FAILED,`.
    pub fn admit(&mut self, _now: Instant, _ticket: AdmitTicket, _settings: Result<ClientSettings, String>) {}

    /// Sends options to a client that is up (`PUSH_UPDATE`), if it understands that; whether it does.
    pub fn push_update(&mut self, _now: Instant, _session: SessionHandle, _options: &[String]) -> bool {
        false
    }

    /// Changes the inner addresses of a client.
    pub fn set_routes(&mut self, _now: Instant, _session: SessionHandle, _routes: Vec<IpNet>) {}

    /// Sends a control message as it is (`INFO,..`, `INFO_PRE,..`), once the control channel stands.
    pub fn send_message(&mut self, _now: Instant, _session: SessionHandle, _text: &str) {}

    /// Sends a last control message (`RESTART,..`, `HALT,..`, `AUTH_FAILED,..`) and ends the session with
    /// [`CloseCause::Local`](crate::CloseCause::Local) when it has been acknowledged, or after five seconds.
    pub fn dismiss(&mut self, _now: Instant, _session: SessionHandle, _message: &str) {}

    /// Leaves: announces it where configured, then ends with
    /// [`CloseCause::Local`](crate::CloseCause::Local). Unknown handles are ignored.
    pub fn close(&mut self, now: Instant, session: SessionHandle) {
        self.with(now, session, |session, now| session.close(now));
    }

    /// Ends a session at once without a word to the peer; also ends in [`Event::Closed`].
    pub fn abort(&mut self, now: Instant, session: SessionHandle) {
        self.with(now, session, |session, _| session.abort());
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
        let (now, synchronous, applied) = (self.now(now), self.config.capabilities.synchronous, self.applied);
        let mut from = SessionHandle(0);
        while let Some(&handle) = self.ready.range(from..).next() {
            from = SessionHandle(handle.0 + 1);
            let Some(entry) = self.sessions.get_mut(&handle) else {
                self.ready.remove(&handle);
                continue;
            };
            if !synchronous && entry.gate > applied {
                continue;
            }
            let path = entry.session.path();
            let len = entry.session.poll_transmit(now, out);
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
        self.sessions.values().for_each(|entry| sum.merge(entry.session.drops()));
        sum
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
                Directive::InstallKey { .. } => entry.gate = self.last_order,
                Directive::RemovePeer { .. } => removal = Some(self.last_order),
                _ => {}
            }
            self.orders.push_back(Order { seq: self.last_order, directive });
        }
        while let Some(event) = entry.session.poll_event() {
            if self.events.len() < MAX_EVENTS || !event.is_informative() {
                self.events.push_back(event);
            }
        }
        if !entry.session.is_dead() {
            let held = !self.config.capabilities.synchronous && entry.gate > self.applied;
            // `on_applied` comes back to what is held.
            self.schedule.set(handle, entry.session.deadline(held));
            return;
        }
        self.schedule.set(handle, None);
        self.ready.remove(&handle);
        let (path, peer) = (entry.session.path(), entry.session.peer());
        self.drops.merge(entry.session.drops());
        self.sessions.remove(&handle);
        self.endpoint.remove(&path, handle);
        self.by_peer.remove(&peer);
        self.peer_ids.release(peer, removal);
        if self.config.capabilities.synchronous {
            self.peer_ids.on_applied(self.last_order);
        }
    }

    fn on_applied(&mut self, seq: u64) {
        let before = self.applied;
        self.applied = before.max(seq);
        self.peer_ids.on_applied(seq);
        let released: Vec<SessionHandle> = self
            .sessions
            .iter()
            .filter(|(_, entry)| before < entry.gate && entry.gate <= seq)
            .map(|(&h, _)| h)
            .collect();
        released.into_iter().for_each(|handle| self.settle(handle));
    }
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Node").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}
