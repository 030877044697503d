//! What arrives: control packets and reports of the data plane.

use super::exchange::State;
use super::framing;
use super::keepalive::Action;
use super::{Now, Phase, Session};
use crate::directive::Directive;
use crate::drops::DropReason;
use crate::event::{CloseCause, Event};
use crate::keys::data_key::TlsRole;
use crate::reliable::Accept;
use crate::report::Report;
use crate::wire::control::{ControlBody, EarlyNegotiation};
use crate::wire::ids::{KeyId, MessageId, SessionId};
use crate::wire::opcode::Opcode;

impl Session {
    /// Takes a control packet; `bytes` is clobbered.
    pub(crate) fn handle_datagram(&mut self, now: Now, bytes: &mut [u8]) {
        if matches!(self.phase, Phase::Dying(_) | Phase::Dead) {
            return;
        }
        match self.receive(now, bytes) {
            Ok(()) => self.advance(now),
            Err(reason) => {
                self.count(reason);
                self.distrust(reason);
            }
        }
    }

    /// A packet at the session's path was dropped. A datagram may be anybody's, but on a byte stream there is nobody
    /// else: what the other side can't have sent ends the session (`openvpn: forward.c`, `check_tls_errors_co`). Unlike
    /// OpenVPN, not what a peer may send that is late, or thinks otherwise about keys.
    pub(crate) fn distrust(&mut self, reason: DropReason) {
        let junk = match reason {
            DropReason::Malformed
            | DropReason::UnknownOpcode
            | DropReason::UnexpectedOpcode
            | DropReason::WrapAuthentication
            | DropReason::WrapReplay
            | DropReason::TooManyAcks
            | DropReason::Cookie => true,
            // A peer's first reset may answer to nothing yet.
            DropReason::WrongSessionId | DropReason::WrongAckSessionId => self.remote.is_some(),
            _ => false,
        };
        if junk && self.path.is_stream() && !self.is_lame() {
            self.fail(CloseCause::Protocol(
                "there is something else than packets of this session on the stream",
            ));
        }
    }

    /// Takes the packet that made this session, whose protection was checked before.
    pub(crate) fn handle_first(&mut self, now: Now, opcode: Opcode, body: &[u8]) {
        let result = ControlBody::parse(opcode, body)
            .and_then(|body| self.take_body(now, opcode, KeyId::FIRST, &body));
        match result {
            Ok(()) => self.advance(now),
            Err(reason) => self.count(reason),
        }
    }

    fn receive(&mut self, now: Now, bytes: &mut [u8]) -> Result<(), DropReason> {
        let (opcode, key) = Opcode::parse(*bytes.first().ok_or(DropReason::Malformed)?)?;
        // A negotiation that failed has taken its number; a key that stood can have a successor.
        let revives = opcode == Opcode::SoftResetV1 && key == self.exchange.key().next();
        if self.lame_until.is_some() && !(revives && self.exchange.state() == State::Active) {
            return Err(DropReason::WrongSessionId);
        }
        let server = self.side.tls_role() == TlsRole::Server;
        match opcode {
            Opcode::SoftResetV1 | Opcode::ControlV1 | Opcode::AckV1 => {}
            Opcode::HardResetServerV2 if !server => {}
            Opcode::HardResetClientV2 | Opcode::HardResetClientV3 | Opcode::ControlWkcV1 if server => {}
            _ => return Err(DropReason::UnexpectedOpcode),
        }
        let wrap = match &mut self.dynamic_wrap {
            Some(dynamic) if key != KeyId::FIRST => dynamic,
            _ => &mut self.wrap,
        };
        let (local, remote) = (self.local, self.remote);
        let verified = wrap.open_if(now.at, bytes, |session, body| {
            admit(local, remote, session, opcode, &ControlBody::parse(opcode, body)?)
        })?;
        let body = ControlBody::parse(opcode, verified.body())?;
        if remote.is_none() {
            self.meet(now, verified.session(), &body)?;
        }
        self.take_body(now, opcode, key, &body)
    }

    fn take_body(
        &mut self,
        now: Now,
        opcode: Opcode,
        key: KeyId,
        body: &ControlBody<'_>,
    ) -> Result<(), DropReason> {
        self.keepalive.on_control_received(now.at);
        if self.previous.as_ref().is_some_and(|previous| previous.key() == key) {
            return self.receive_late(now, opcode, body);
        }
        self.select_exchange(now, opcode, key, body)?;
        self.exchange.acknowledge(&body.acks);
        let Some(message) = body.message else { return Ok(()) };
        if opcode.is_reset() {
            if message != MessageId(0) {
                return Err(DropReason::Malformed);
            }
            self.exchange.on_peer_reset(now.at);
        }
        match self.exchange.accept(message, opcode, body.payload) {
            Accept::New => Ok(()),
            Accept::Duplicate => {
                self.count(DropReason::Duplicate);
                Ok(())
            }
            Accept::OutOfWindow => Err(DropReason::OutOfWindow),
        }
    }

    /// A packet of the exchange before: it is acknowledged, and messages in it are read.
    fn receive_late(&mut self, now: Now, opcode: Opcode, body: &ControlBody<'_>) -> Result<(), DropReason> {
        let sizes = self.sizes();
        let Some(previous) = &mut self.previous else { return Err(DropReason::WrongKeyId) };
        let accept = body.message.map(|message| previous.accept(message, opcode, body.payload));
        if previous.advance(now.at, sizes).is_err() {
            // The current key is what counts.
            self.previous = None;
            return Err(DropReason::WrongKeyId);
        }
        let records: Vec<_> = core::iter::from_fn(|| previous.pop_record()).collect();
        for record in records {
            self.handle_record(now, &record);
        }
        match accept {
            Some(Accept::Duplicate) => Err(DropReason::Duplicate),
            Some(Accept::OutOfWindow) => Err(DropReason::OutOfWindow),
            Some(Accept::New) | None => Ok(()),
        }
    }

    /// The first packet of the server introduces its session id.
    fn meet(&mut self, now: Now, remote: SessionId, body: &ControlBody<'_>) -> Result<(), DropReason> {
        let early = EarlyNegotiation::parse(body.payload)?;
        self.resend_wkc = early.resend_wkc;
        self.remote = Some(remote);
        self.keepalive.on_control_received(now.at);
        self.events.push_back(Event::Reached { session: self.handle, remote });
        Ok(())
    }

    /// Finds the negotiation a packet belongs to; a soft reset with the next key-id starts one.
    fn select_exchange(
        &mut self,
        now: Now,
        opcode: Opcode,
        key: KeyId,
        body: &ControlBody<'_>,
    ) -> Result<(), DropReason> {
        if key == self.exchange.key() {
            let stray_reset = match opcode {
                Opcode::HardResetServerV2 | Opcode::HardResetClientV2 | Opcode::HardResetClientV3 => {
                    key != KeyId::FIRST
                }
                Opcode::SoftResetV1 => key == KeyId::FIRST,
                _ => false,
            };
            return if stray_reset { Err(DropReason::UnexpectedOpcode) } else { Ok(()) };
        }
        let starts = opcode == Opcode::SoftResetV1 && body.message == Some(MessageId(0));
        if !starts || key != self.exchange.key().next() {
            return Err(DropReason::WrongKeyId);
        }
        // Who starts the next key has this one: only its acks of our last packets were lost.
        if self.exchange.conclude(now.at) {
            self.on_exchange_active(now);
        }
        if self.exchange.state() != State::Active {
            return Err(DropReason::WrongKeyId);
        }
        match &mut self.phase {
            Phase::Up => {
                self.start_renegotiation(now);
                Ok(())
            }
            Phase::Leaving(leaving) => {
                // From now on the server reads no control message under the present key; an exit on the data
                // channel still reaches it.
                leaving.next_exit.get_or_insert(now.at);
                self.leave(now);
                Err(DropReason::WrongKeyId)
            }
            Phase::Connecting
            | Phase::Configuring(_)
            | Phase::Admitting(_)
            | Phase::Dying(_)
            | Phase::Dead => Err(DropReason::WrongKeyId),
        }
    }

    /// Goes on with the handshake and reads messages.
    pub(super) fn advance(&mut self, now: Now) {
        let sizes = self.sizes();
        if let Err(failure) = self.exchange.advance(now.at, sizes) {
            return self.fail_exchange(now, failure.into());
        }
        if !self.tls_reported && self.exchange.state() >= State::SentKey {
            self.tls_reported = true;
            let key = self.exchange.key();
            let tls = self.exchange.tls();
            let (peer, description) = (tls.peer(), tls.description().unwrap_or_default());
            self.events.push_back(Event::TlsReady { session: self.handle, peer, description, key });
        }
        if self.exchange.state() == State::Asked {
            self.answer_client(now);
        }
        self.take_next_key(now);
        if self.exchange.state() == State::Active && self.renegotiate_at.is_none() {
            self.on_exchange_active(now);
        }
        while let Some(record) = self.exchange.pop_record() {
            self.handle_record(now, &record);
        }
        if matches!(self.phase, Phase::Leaving(_)) {
            self.leave(now);
        }
    }

    /// Takes news of the data plane about this session's peer.
    pub(crate) fn handle_report(&mut self, now: Now, report: Report) {
        if self.agreed.is_none() || matches!(self.phase, Phase::Dying(_) | Phase::Dead) {
            return;
        }
        match report {
            Report::FirstReceive { key, .. } => {
                // Who uses the key has all that we sent for it.
                if key == self.exchange.key() && self.exchange.conclude(now.at) {
                    self.on_exchange_active(now);
                }
                if self.slots.on_first_receive(now.at, key, &mut self.directives) {
                    self.on_promoted(key);
                }
            }
            Report::KeyWorn { key, .. } => self.replace_key(now, key),
            Report::KeySpent { key, .. } => {
                if let Some(key) = self.slots.on_spent(now.at, key, &mut self.directives) {
                    self.on_promoted(key);
                }
                self.replace_key(now, key);
            }
            Report::Floated { to, .. } => {
                self.path = to;
                self.directives.push_back(Directive::MovePeer { peer: self.peer, path: to });
                self.events.push_back(Event::Floated { session: self.handle, to });
            }
            Report::Misframed { found, .. } => {
                let expected = self.agreed.map(|agreed| agreed.params.framing).unwrap_or_default();
                let text = framing::warning(expected, found);
                self.events.push_back(Event::Warning { session: self.handle, text });
            }
            Report::PeerExit { .. } => self.fail(CloseCause::PeerExit),
            Report::PeerLost { .. } => self.fail(CloseCause::PingRestart),
            Report::Activity { last_rx, last_tx, totals, .. } => {
                if let Some(action) = self.keepalive.on_activity(now.at, last_rx, last_tx, totals) {
                    self.act(action);
                }
            }
            Report::Applied(_) => {}
        }
    }

    /// May not move. A plane that moves peers by itself has done it, and takes it back.
    pub(crate) fn stay(&mut self) {
        if self.agreed.is_some() && !matches!(self.phase, Phase::Dying(_) | Phase::Dead) {
            self.directives.push_back(Directive::MovePeer { peer: self.peer, path: self.path });
        }
    }

    /// Renegotiates for want of `key`, unless a newer one is there or on its way.
    fn replace_key(&mut self, now: Now, key: KeyId) {
        if key == self.exchange.key() {
            self.renegotiate(now);
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Ask => self.directives.push_back(Directive::AskActivity { peer: self.peer }),
            Action::Ping => self.directives.push_back(Directive::SendPing { peer: self.peer }),
            // A last packet might wait for that plane, too.
            Action::Close(CloseCause::PlaneSilent) => self.finish(CloseCause::PlaneSilent),
            Action::Close(cause) => self.fail(cause),
        }
    }

    /// The byte stream under the session ended; if that was due to what came before, the first cause stands.
    pub(crate) fn handle_stream_closed(&mut self) {
        self.finish(match &self.phase {
            Phase::Dying(cause) => cause.clone(),
            Phase::Leaving(leaving) => leaving.cause.clone(),
            Phase::Connecting | Phase::Configuring(_) | Phase::Admitting(_) | Phase::Up | Phase::Dead => {
                CloseCause::StreamClosed
            }
        });
    }
}

/// Whether a packet is of this session by the ids in it. Before the server's id is known, only a reset that
/// acknowledges ours is.
fn admit(
    local: SessionId,
    remote: Option<SessionId>,
    sender: SessionId,
    opcode: Opcode,
    body: &ControlBody<'_>,
) -> Result<(), DropReason> {
    if body.remote_session.is_some_and(|id| id != local) {
        return Err(DropReason::WrongAckSessionId);
    }
    // Not so a peer's, which sends its reset as soon as it starts.
    let first = opcode == Opcode::HardResetServerV2 && body.message == Some(MessageId(0));
    match remote {
        Some(remote) if remote == sender => Ok(()),
        None if first && body.remote_session.is_some() => Ok(()),
        None if first => Err(DropReason::WrongAckSessionId),
        Some(_) | None => Err(DropReason::WrongSessionId),
    }
}
