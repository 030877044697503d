//! One relation to a peer: handshake, renegotiation, messages, keepalive.
//!
//! A session owns the control channel protection, the current `Exchange` (one key negotiation) and the
//! `Slots` with the data keys that resulted from earlier ones. Its phases:
//!
//! ```text
//! Connecting ──first exchange active──► Configuring (client) ──PUSH_REPLY came──► Up ──close()──► Leaving
//!      │                           └──► Admitting (server) ──PUSH_REPLY sent──►─┘                  │
//!      └────────────────────────────────── any failure ──────────────► Dying ──last packets out──► Dead
//! ```
//!
//! A point-to-point peer goes from Connecting to Up. What differs by side is in `side`.

mod admit;
mod configure;
mod exchange;
mod framing;
mod handover;
mod hello;
mod input;
mod keepalive;
pub(crate) mod message;
pub(crate) mod negotiate;
mod offer;
pub(crate) mod output;
mod peer;
mod push;
pub(crate) mod side;
mod slots;
mod start;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::Instant;
use crate::config::ChannelConfig;
use crate::directive::{Directive, PeerRef};
use crate::drops::{DropCounters, DropReason};
use crate::entropy::Entropy;
use crate::event::{CloseCause, Event};
use crate::handle::SessionHandle;
use crate::path::Path;
use crate::plane::Capabilities;
use crate::tls::TlsFailureKind;
use crate::wire::ids::{KeyId, PeerId, SessionId};
use crate::wrap::Wrap;
use crate::wrap::static_key::StaticKey;
use exchange::{Exchange, Failure, State};
use keepalive::Keepalive;
use negotiate::Agreed;
use side::Side;
use slots::Slots;
pub(crate) use start::{Accepted, Setup};

/// Beyond all deadlines.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// How long a last message may take to arrive (`openvpn: push.c`, `schedule_exit`).
const LAST_WORD: Duration = Duration::from_secs(5);

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

#[derive(Debug)]
enum Phase {
    Connecting,
    Configuring(Configuring),
    Admitting(Admitting),
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

/// A server's client on its way in.
#[derive(Debug)]
struct Admitting {
    /// Its configuration was asked for.
    asked: bool,
    give_up: Instant,
}

#[derive(Debug)]
struct Leaving {
    /// What it ends with.
    cause: CloseCause,
    until: Instant,
    /// When to announce the exit on the data channel again, if it isn't announced on the control channel.
    next_exit: Option<Instant>,
}

/// One relation to a peer.
pub(crate) struct Session {
    handle: SessionHandle,
    peer: PeerRef,
    path: Path,
    side: Side,
    capabilities: Capabilities,
    entropy: Entropy,
    /// Negotiations begun; each draws its secrets from a stream of its own.
    negotiations: u64,
    own_id: Option<PeerId>,
    /// Whether the other side began.
    came_in: bool,
    local: SessionId,
    remote: Option<SessionId>,
    wrap: Wrap,
    /// Static key that the dynamic tls-crypt is derived with.
    base_key: Option<Arc<StaticKey>>,
    /// Wraps all key-ids but 0, once negotiated.
    dynamic_wrap: Option<Box<Wrap>>,
    resend_wkc: bool,
    started: Instant,
    exchange: Box<Exchange>,
    /// The exchange before, until the new key is in use: a server that missed our last ack goes on sending,
    /// and can't follow to the next key before it has it.
    previous: Option<Box<Exchange>>,
    /// Whether TLS of the current exchange was reported.
    tls_reported: bool,
    renegotiate_at: Option<Instant>,
    /// The control channel is dead, and the keys live on until then (`openvpn: ssl.c`, lame duck session). If it broke
    /// after its handshake, the next negotiation revives it, by whichever side. If a negotiation failed, only a new
    /// session helps; unless nothing but acks was missing, and the other side uses the new key.
    lame_until: Option<Instant>,
    phase: Phase,
    agreed: Option<Agreed>,
    exit_notify: Option<u8>,
    slots: Slots,
    keepalive: Keepalive,
    drops: Option<Box<DropCounters>>,
    directives: VecDeque<Directive>,
    events: VecDeque<Event>,
}

impl Session {
    pub(crate) fn path(&self) -> Path {
        self.path
    }

    /// The other side's session id, if it came to us: packets of others at its path are not for this session.
    pub(crate) fn listened_to(&self) -> Option<SessionId> {
        self.came_in.then_some(self.remote).flatten()
    }

    /// When it began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Whether the tunnel is up, or was and is being left.
    pub(crate) fn is_up(&self) -> bool {
        self.agreed.is_some() && !self.is_dead()
    }

    /// How far its newest negotiation is, by OpenVPN's numbers from 3 to 7 (`openvpn: ssl_common.h`, `S_PRE_START` to
    /// `S_ACTIVE`).
    pub(crate) fn progress(&self) -> u8 {
        match self.exchange.state() {
            State::Reset => 3,
            State::Handshake => 4,
            State::SentKey => 5,
            State::Asked | State::GotKey => 6,
            State::Active => 7,
        }
    }

    pub(crate) fn peer(&self) -> PeerRef {
        self.peer
    }

    /// Drops so far; most sessions have none.
    pub(crate) fn drops(&self) -> Option<&DropCounters> {
        self.drops.as_deref()
    }

    fn count(&mut self, reason: DropReason) {
        self.drops.get_or_insert_default().count(reason);
    }

    fn channel(&self) -> &ChannelConfig {
        self.side.channel()
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead)
    }

    pub(crate) fn poll_directive(&mut self) -> Option<Directive> {
        let next = self.directives.pop_front();
        if next.is_none() && self.directives.capacity() > 0 {
            self.directives = VecDeque::new();
        }
        next
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        let next = self.events.pop_front();
        if next.is_none() && self.events.capacity() > 0 {
            self.events = VecDeque::new();
        }
        next
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
        let heard = self.exchange.state() == State::Active && self.lame_until.is_none();
        let by_control = heard && self.agreed.is_some_and(|agreed| agreed.flags.cc_exit);
        let next_exit = (!by_control).then_some(now.at);
        self.phase = Phase::Leaving(Leaving { cause: CloseCause::Local, until, next_exit });
        if by_control {
            self.send_message(now, "EXIT");
        }
        self.leave(now);
    }

    /// Ends at once.
    pub(crate) fn abort(&mut self, cause: CloseCause) {
        self.finish(cause);
    }

    /// Sends a last message and ends when it has been acknowledged, or in [`LAST_WORD`].
    pub(crate) fn dismiss(&mut self, now: Now, message: &str, cause: CloseCause) {
        if matches!(self.phase, Phase::Leaving(_) | Phase::Dying(_) | Phase::Dead) {
            return;
        }
        // In a renegotiation the message follows as soon as there is a channel for it.
        let unheard = self.exchange.state() < State::GotKey && self.exchange.key() == KeyId::FIRST;
        if unheard || self.lame_until.is_some() {
            return self.fail(cause);
        }
        self.phase = Phase::Leaving(Leaving { cause, until: now.at + LAST_WORD, next_exit: None });
        self.send_message(now, message);
    }

    /// Goes on leaving; ends early when the server has acknowledged the announcement.
    fn leave(&mut self, now: Now) {
        let Phase::Leaving(leaving) = &mut self.phase else { return };
        let acknowledged = leaving.next_exit.is_none()
            && self.exchange.state() == State::Active
            && self.exchange.is_flushed();
        if acknowledged || leaving.until <= now.at {
            let cause = leaving.cause.clone();
            self.phase = Phase::Dying(cause);
        } else if leaving.next_exit.is_some_and(|at| at <= now.at) {
            leaving.next_exit = Some(now.at + Duration::from_secs(1));
            self.directives.push_back(Directive::SendExit { peer: self.peer });
        }
    }

    /// Sends a control message.
    pub(crate) fn send_message(&mut self, now: Now, text: &str) {
        if self.lame_until.is_some() || matches!(self.phase, Phase::Dying(_) | Phase::Dead) {
            return;
        }
        let sizes = self.sizes();
        if let Err(failure) = self.exchange.send_message(now.at, text, sizes) {
            self.fail(failure.into());
        }
    }

    /// Begins to end: what is still to be said (acks, an alert) goes out, then the session is dead. Who is
    /// leaving anyway ends because of that, whatever else happens on the way.
    fn fail(&mut self, cause: CloseCause) {
        let cause = match &self.phase {
            Phase::Dying(_) | Phase::Dead => return,
            Phase::Leaving(leaving) => leaving.cause.clone(),
            Phase::Connecting | Phase::Configuring(_) | Phase::Admitting(_) | Phase::Up => cause,
        };
        self.phase = Phase::Dying(cause);
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

    /// Whether the control channel is gone while the data keys live on.
    pub(crate) const fn is_lame(&self) -> bool {
        self.lame_until.is_some()
    }

    /// The current negotiation failed, or what stood is broken. If there is a key, data may go on under it.
    fn fail_exchange(&mut self, now: Now, cause: CloseCause) {
        // After the handshake only records that the peer didn't make are a break; what it says itself counts.
        let stood = self.exchange.state() == State::Active;
        let forged = matches!(&cause, CloseCause::Tls(failure) if failure.kind == TlsFailureKind::Protocol);
        let up = matches!(self.phase, Phase::Up) && (forged || !stood);
        if !up || !self.side.waits_for_return() || !self.slots.is_usable() {
            return self.fail(cause);
        }
        let since = if stood { now.at } else { self.exchange.started() };
        self.lame_until = Some(since + self.channel().timing.tran_window);
        self.previous = None;
        if !stood {
            self.renegotiate_at = None;
        }
        if self.lame_until.is_some_and(|until| until <= now.at) {
            return self.fail(cause);
        }
        self.events.push_back(Event::ControlLost { session: self.handle, cause });
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        let timing = self.channel().timing;
        if let Some(until) = self.lame_until {
            if until <= now.at {
                self.fail(CloseCause::HandWindow);
            }
        } else if self.exchange.state() != State::Active {
            let unreached = self.remote.is_none();
            if unreached && now.at >= self.started + timing.server_poll.min(timing.hand_window) {
                let poll_is_shorter = timing.server_poll < timing.hand_window;
                self.fail(if poll_is_shorter { CloseCause::ServerPoll } else { CloseCause::HandWindow });
            } else if now.at >= self.exchange.started() + timing.hand_window {
                self.fail_exchange(now, CloseCause::HandWindow);
            }
        }
        match &mut self.phase {
            Phase::Configuring(_) => self.ask_for_configuration(now),
            Phase::Admitting(admitting) if admitting.give_up <= now.at => self.fail(CloseCause::Unanswered),
            Phase::Up if self.renegotiate_at.is_some_and(|at| at <= now.at) => self.renegotiate(now),
            Phase::Leaving(_) => self.leave(now),
            Phase::Connecting | Phase::Admitting(_) | Phase::Up | Phase::Dying(_) | Phase::Dead => {}
        }
        self.serve_timeout(now);
        if let Some(key) = self.slots.handle_timeout(now.at, &mut self.directives) {
            self.on_promoted(key);
        }
        if matches!(self.phase, Phase::Connecting | Phase::Configuring(_) | Phase::Admitting(_) | Phase::Up)
            && let Some(action) = self.keepalive.handle_timeout(now.at)
        {
            self.act(action);
        }
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

#[cfg(test)]
mod tests;
