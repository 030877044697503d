//! One relation to a peer: handshake, renegotiation, messages, keepalive.
//!
//! A session owns the control channel protection, the current `Exchange` (one key negotiation) and the
//! `Slots` with the data keys that resulted from earlier ones. Its phases:
//!
//! ```text
//! Connecting ──first exchange active──► Configuring ──PUSH_REPLY──► Up ──close()──► Leaving
//!      └──────────────┴───────────── any failure ──────────┴───► Dying ──last packets out──► Dead
//! ```

mod configure;
mod exchange;
mod input;
mod keepalive;
pub(crate) mod message;
mod negotiate;
mod slots;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::Instant;
use crate::config::{ClientConfig, Credentials};
use crate::deadline::{Deadline, Timer};
use crate::directive::{Directive, PeerRef};
use crate::drops::DropCounters;
use crate::entropy::{Entropy, EntropyStream, Purpose};
use crate::error::ConnectError;
use crate::event::{CloseCause, Event};
use crate::handle::SessionHandle;
use crate::keys::data_key::TlsRole;
use crate::keys::method2::ClientSource;
use crate::limits::{MAX_ACKS, MAX_PIGGYBACK_ACKS, MAX_USER_PASS};
use crate::options::push_reply::PushAccumulator;
use crate::path::Path;
use crate::plane::Capabilities;
use crate::reliable::{AckDebt, ReliableSend};
use crate::wire::control::ControlBody;
use crate::wire::ids::{KeyId, PeerId, SessionId};
use crate::wire::opcode::Opcode;
use crate::wrap::{Wrap, WrapConfig};
use exchange::{Exchange, Failure, Greeting, Sizes, State};
use keepalive::Keepalive;
use negotiate::Agreed;
use slots::Slots;

/// Beyond all deadlines.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// The time of a call, on both time lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Monotonic.
    pub(crate) at: Instant,
    /// Since 1970.
    pub(crate) unix: Duration,
}

impl Now {
    /// Seconds since 1970 as the wire has them (until 2106).
    fn unix_seconds(self) -> u32 {
        u32::try_from(self.unix.as_secs()).unwrap_or(u32::MAX)
    }
}

/// What a session is made of.
pub(crate) struct Setup {
    pub(crate) handle: SessionHandle,
    pub(crate) peer: PeerRef,
    pub(crate) path: Path,
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) capabilities: Capabilities,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) entropy: Entropy,
}

#[derive(Debug)]
enum Phase {
    Connecting,
    Configuring(Configuring),
    Up,
    Leaving(Leaving),
    Dying(CloseCause),
    Dead,
}

#[derive(Debug)]
struct Configuring {
    next_request: Instant,
    give_up: Instant,
}

#[derive(Debug)]
struct Leaving {
    until: Instant,
    /// When to announce the exit on the data channel again, if it isn't announced on the control channel.
    next_exit: Option<Instant>,
}

/// One relation to a server.
pub(crate) struct Session {
    handle: SessionHandle,
    peer: PeerRef,
    path: Path,
    config: Arc<ClientConfig>,
    capabilities: Capabilities,
    credentials: Option<Credentials>,
    key_entropy: EntropyStream,
    jitter: EntropyStream,
    own_id: Option<PeerId>,
    local: SessionId,
    remote: Option<SessionId>,
    wrap: Wrap,
    /// Wraps all key-ids but 0, once negotiated.
    dynamic_wrap: Option<Wrap>,
    resend_wkc: bool,
    started: Instant,
    exchange: Exchange,
    /// The exchange before, until the new key is in use: a server that missed our last ack goes on sending,
    /// and can't follow to the next key before it has it.
    previous: Option<Exchange>,
    /// Whether TLS of the current exchange was reported.
    tls_reported: bool,
    renegotiate_at: Option<Instant>,
    phase: Phase,
    push: PushAccumulator,
    agreed: Option<Agreed>,
    exit_notify: Option<u8>,
    slots: Slots,
    keepalive: Keepalive,
    drops: DropCounters,
    directives: VecDeque<Directive>,
    events: VecDeque<Event>,
    body: Vec<u8>,
    packet: Vec<u8>,
}

impl Session {
    /// Starts connecting: the first packet is ready to be polled.
    pub(crate) fn connect(now: Now, setup: Setup) -> Result<Self, ConnectError> {
        let Setup { handle, peer, path, config, capabilities, credentials, entropy } = setup;
        let fits = |text: &str| text.len() < MAX_USER_PASS;
        if credentials.as_ref().is_some_and(|c| !fits(&c.username) || !fits(&c.password)) {
            return Err(ConnectError::CredentialsTooLong);
        }
        let local = draw_session_id(&mut entropy.fork(Purpose::SessionId, 0));
        let own_id = capabilities.asymmetric_ids.then(|| {
            let id = entropy.fork(Purpose::PeerId, 0).below(u64::from(PeerId::UNDEFINED.get()));
            PeerId::from_low_bits(id as u32)
        });
        let mut key_entropy = entropy.fork(Purpose::KeyMethod, 0);
        let parts = ExchangeParts {
            config: &config,
            capabilities,
            path: &path,
            own_id,
            credentials: credentials.as_ref(),
            entropy: &mut key_entropy,
        };
        let reset = match config.channel.wrap {
            WrapConfig::TlsCryptV2 { .. } => Opcode::HardResetClientV3,
            WrapConfig::None | WrapConfig::TlsAuth { .. } | WrapConfig::TlsCrypt { .. } => {
                Opcode::HardResetClientV2
            }
        };
        let exchange = parts.start(now, KeyId::FIRST, reset)?;
        let wrap =
            Wrap::new(&config.channel.wrap, TlsRole::Client, now.unix_seconds(), config.channel.replay);
        Ok(Self {
            handle,
            peer,
            path,
            capabilities,
            credentials,
            key_entropy,
            jitter: entropy.fork(Purpose::Jitter, 0),
            own_id,
            local,
            remote: None,
            wrap,
            dynamic_wrap: None,
            resend_wkc: false,
            started: now.at,
            exchange,
            previous: None,
            tls_reported: false,
            renegotiate_at: None,
            phase: Phase::Connecting,
            push: PushAccumulator::new(),
            agreed: None,
            exit_notify: config.channel.exit_notify,
            slots: Slots::new(peer),
            keepalive: Keepalive::new(now.at, config.channel.keepalive),
            drops: DropCounters::default(),
            directives: VecDeque::new(),
            events: VecDeque::new(),
            body: Vec::new(),
            packet: Vec::new(),
            config,
        })
    }

    pub(crate) fn path(&self) -> Path {
        self.path
    }

    pub(crate) fn peer(&self) -> PeerRef {
        self.peer
    }

    pub(crate) fn drops(&self) -> &DropCounters {
        &self.drops
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead)
    }

    pub(crate) fn poll_directive(&mut self) -> Option<Directive> {
        self.directives.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Starts a renegotiation as soon as the tunnel is up, none is under way, and the last key is in use.
    /// Before that the server may still be without it, and couldn't follow.
    pub(crate) fn renegotiate(&mut self, now: Now) {
        if !matches!(self.phase, Phase::Up) || self.exchange.state() != State::Active {
            return;
        }
        match self.slots.settles_at() {
            Some(at) if at > now.at => self.renegotiate_at = Some(at),
            _ => self.start_renegotiation(now),
        }
    }

    fn start_renegotiation(&mut self, now: Now) {
        let parts = ExchangeParts {
            config: &self.config,
            capabilities: self.capabilities,
            path: &self.path,
            own_id: self.own_id,
            credentials: self.credentials.as_ref(),
            entropy: &mut self.key_entropy,
        };
        match parts.start(now, self.exchange.key().next(), Opcode::SoftResetV1) {
            Ok(exchange) => {
                self.previous = Some(core::mem::replace(&mut self.exchange, exchange));
                self.tls_reported = false;
                self.renegotiate_at = None;
                let ends = now.at + self.config.channel.timing.tran_window;
                if let Some(key) = self.slots.rotate(ends, &mut self.directives) {
                    self.on_promoted(key);
                }
            }
            Err(ConnectError::Tls(failure)) => self.fail(CloseCause::Tls(failure)),
            Err(_) => self.fail(CloseCause::Protocol("the key exchange message became too long")),
        }
    }

    /// Leaves, with an announcement where configured.
    pub(crate) fn close(&mut self, now: Now) {
        let notify = self.exit_notify.filter(|&n| n > 0 && !self.path.is_stream());
        let (Phase::Up, Some(seconds)) = (&self.phase, notify) else {
            if !matches!(self.phase, Phase::Leaving(_)) {
                self.fail(CloseCause::Local);
            }
            return;
        };
        let until = now.at + Duration::from_secs(seconds.into());
        let by_control =
            self.agreed.is_some_and(|agreed| agreed.flags.cc_exit) && self.exchange.state() == State::Active;
        let next_exit = (!by_control).then_some(now.at);
        self.phase = Phase::Leaving(Leaving { until, next_exit });
        if by_control {
            self.send_message(now, "EXIT");
        }
        self.leave(now);
    }

    /// Ends at once.
    pub(crate) fn abort(&mut self) {
        self.finish(CloseCause::Local);
    }

    /// Goes on leaving; ends early when the server has acknowledged the announcement.
    fn leave(&mut self, now: Now) {
        let Phase::Leaving(leaving) = &mut self.phase else { return };
        let acknowledged = leaving.next_exit.is_none() && self.exchange.is_flushed();
        if acknowledged || leaving.until <= now.at {
            self.fail(CloseCause::Local);
        } else if leaving.next_exit.is_some_and(|at| at <= now.at) {
            leaving.next_exit = Some(now.at + Duration::from_secs(1));
            self.directives.push_back(Directive::SendExit { peer: self.peer });
        }
    }

    /// Sends a control message.
    fn send_message(&mut self, now: Now, text: &str) {
        let sizes = self.sizes();
        if let Err(failure) = self.exchange.send_message(now.at, text, sizes) {
            self.fail(failure.into());
        }
    }

    /// Begins to end: what is still to be said (acks, an alert) goes out, then the session is dead. Who is
    /// leaving anyway ends because of that, whatever else happens on the way.
    fn fail(&mut self, cause: CloseCause) {
        match self.phase {
            Phase::Dying(_) | Phase::Dead => {}
            Phase::Leaving(_) => self.phase = Phase::Dying(CloseCause::Local),
            Phase::Connecting | Phase::Configuring(_) | Phase::Up => self.phase = Phase::Dying(cause),
        }
    }

    fn finish(&mut self, cause: CloseCause) {
        if self.is_dead() {
            return;
        }
        self.phase = Phase::Dead;
        if self.agreed.is_some() {
            self.directives.push_back(Directive::RemovePeer { peer: self.peer });
        }
        self.events.push_back(Event::Closed { session: self.handle, cause });
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        let timing = self.config.channel.timing;
        if self.exchange.state() != State::Active {
            let unreached = self.remote.is_none();
            if unreached && now.at >= self.started + timing.server_poll.min(timing.hand_window) {
                let poll_is_shorter = timing.server_poll < timing.hand_window;
                self.fail(if poll_is_shorter { CloseCause::ServerPoll } else { CloseCause::HandWindow });
            } else if now.at >= self.exchange.started() + timing.hand_window {
                self.fail(CloseCause::HandWindow);
            }
        }
        match &mut self.phase {
            Phase::Configuring(_) => self.ask_for_configuration(now),
            Phase::Up if self.renegotiate_at.is_some_and(|at| at <= now.at) => self.renegotiate(now),
            Phase::Leaving(_) => self.leave(now),
            Phase::Connecting | Phase::Up | Phase::Dying(_) | Phase::Dead => {}
        }
        if let Some(key) = self.slots.handle_timeout(now.at, &mut self.directives) {
            self.on_promoted(key);
        }
        if matches!(self.phase, Phase::Connecting | Phase::Configuring(_) | Phase::Up)
            && let Some(action) = self.keepalive.handle_timeout(now.at)
        {
            self.act(action);
        }
    }

    /// When to call `handle_timeout`, or to poll a transmit. What can't be sent yet (`held`) must not wake
    /// anybody.
    pub(crate) fn deadline(&self, held: bool) -> Option<Deadline> {
        let at = |at, why| Some(Deadline { at, why });
        let timing = &self.config.channel.timing;
        let phase = match &self.phase {
            Phase::Dead => return None,
            Phase::Dying(_) if held => return None,
            Phase::Dying(_) => return at(self.started, Timer::Transmit),
            Phase::Configuring(Configuring { next_request, give_up, .. }) => {
                Deadline::earliest(at(*next_request, Timer::PushRequest), at(*give_up, Timer::PushTimeout))
            }
            Phase::Up => {
                self.renegotiate_at.filter(|&due| due < NEVER).and_then(|due| at(due, Timer::Renegotiate))
            }
            Phase::Leaving(Leaving { until, next_exit }) => {
                at(next_exit.map_or(*until, |due| due.min(*until)), Timer::Leave)
            }
            Phase::Connecting => None,
        };
        let negotiation = match (self.exchange.state(), self.remote) {
            (State::Active, _) => None,
            (_, None) if timing.server_poll < timing.hand_window => {
                at(self.started + timing.server_poll, Timer::ServerPoll)
            }
            _ => at(self.exchange.started() + timing.hand_window, Timer::HandWindow),
        };
        let retransmit = self.exchange.retransmit_at().filter(|_| !held);
        let retransmit = retransmit.and_then(|due| at(due, Timer::Retransmit));
        let keepalive = match self.phase {
            Phase::Leaving(_) => None,
            _ => self.keepalive.deadline(),
        };
        [phase, negotiation, retransmit, keepalive, self.slots.deadline()].into_iter().flatten().min()
    }

    /// Writes the next control packet to `out`; its length.
    pub(crate) fn poll_transmit(&mut self, now: Now, out: &mut [u8]) -> Option<usize> {
        if self.is_dead() {
            return None;
        }
        let Some(header) = self.next_packet(now) else {
            if let Phase::Dying(cause) = &self.phase {
                let cause = cause.clone();
                self.finish(cause);
            }
            return None;
        };
        let (opcode, key) = header;
        self.packet.clear();
        let wrap = match &mut self.dynamic_wrap {
            Some(dynamic) if key != KeyId::FIRST => dynamic,
            _ => &mut self.wrap,
        };
        wrap.seal(now.unix_seconds(), opcode.header(key), self.local, &self.body, &mut self.packet);
        self.keepalive.on_control_sent(now.at);
        out.get_mut(..self.packet.len())?.copy_from_slice(&self.packet);
        Some(self.packet.len())
    }

    /// Builds the body of the next packet: a reliable one with acks riding on it, else acks alone.
    fn next_packet(&mut self, now: Now) -> Option<(Opcode, KeyId)> {
        let key = self.exchange.key();
        // SoftEther drops plain packets with more than four acks (`openvpn: ssl.c`, `calc_control_channel_frame_overhead`).
        let plain = matches!(self.config.channel.wrap, WrapConfig::None) && self.agreed.is_none();
        let alone = if plain { MAX_PIGGYBACK_ACKS } else { MAX_ACKS };
        let remote = self.remote;
        self.body.clear();
        if let Some(previous) = self.previous.as_mut() {
            let (key, (_, acks)) = (previous.key(), previous.reliable());
            if acks.pending() {
                acks_body(acks, alone, remote).emit(&mut self.body);
                return Some((Opcode::AckV1, key));
            }
        }
        let (send, acks) = self.exchange.reliable();
        if let Some(outgoing) = send.poll(now.at) {
            let acks = if remote.is_some() { acks.take(MAX_PIGGYBACK_ACKS) } else { Default::default() };
            let body = ControlBody {
                acks,
                remote_session: remote,
                message: Some(outgoing.message),
                payload: outgoing.payload,
            };
            body.emit(&mut self.body);
            return Some((outgoing.opcode, key));
        }
        if !acks.pending() || remote.is_none() {
            return None;
        }
        acks_body(acks, alone, remote).emit(&mut self.body);
        Some((Opcode::AckV1, key))
    }

    /// How much fits a packet (`openvpn: ssl.c`, `calc_control_channel_frame_overhead`). As there, outer
    /// headers count as those of UDP even on TCP, and the base wrap counts even when the dynamic one is in use.
    fn sizes(&self) -> Sizes {
        let outer = match self.path {
            Path::Datagram { remote, .. } if remote.is_ipv4() => 28,
            Path::Datagram { .. } | Path::Stream(_) => 48,
        };
        let header = 1 + 8 + (1 + 8 + 4 * MAX_PIGGYBACK_ACKS) + 4;
        let used = outer + header + self.wrap.overhead();
        let payload = usize::from(self.config.channel.max_packet_size).saturating_sub(used).max(16);
        let resend_wkc =
            (self.resend_wkc && self.exchange.key() == KeyId::FIRST).then(|| self.wrap.client_key_len());
        Sizes { payload, resend_wkc }
    }

    /// A further key sends from now on.
    fn on_promoted(&mut self, key: KeyId) {
        if key == self.exchange.key() {
            self.previous = None;
        }
        self.events.push_back(Event::Rekeyed { session: self.handle, key });
    }
}

impl From<Failure> for CloseCause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Tls(failure) => Self::Tls(failure),
            Failure::Protocol(text) => Self::Protocol(text),
        }
    }
}

/// A packet of nothing but acks.
fn acks_body(acks: &mut AckDebt, most: usize, remote_session: Option<SessionId>) -> ControlBody<'static> {
    ControlBody { acks: acks.take(most), remote_session, message: None, payload: &[] }
}

fn draw_session_id(entropy: &mut EntropyStream) -> SessionId {
    loop {
        let mut bytes = [0; 8];
        entropy.fill(&mut bytes);
        if let Some(id) = SessionId::new(bytes) {
            return id;
        }
    }
}

/// What an exchange is started from.
struct ExchangeParts<'a> {
    config: &'a ClientConfig,
    capabilities: Capabilities,
    path: &'a Path,
    own_id: Option<PeerId>,
    credentials: Option<&'a Credentials>,
    entropy: &'a mut EntropyStream,
}

impl ExchangeParts<'_> {
    fn start(self, now: Now, key: KeyId, reset: Opcode) -> Result<Exchange, ConnectError> {
        let tls = self.config.channel.tls.client(now.unix).map_err(ConnectError::Tls)?;
        let greeting = Greeting {
            source: ClientSource::generate(self.entropy),
            options: negotiate::options_string(self.config, self.path),
            login: self.credentials.map(|c| (c.username.clone(), c.password.clone())),
            peer_info: negotiate::peer_info(self.config, self.capabilities, self.own_id),
        };
        let send = ReliableSend::new(self.config.channel.timing.tls_timeout);
        Exchange::start(now.at, key, reset, send, tls, greeting).ok_or(ConnectError::PeerInfoTooLong)
    }
}
