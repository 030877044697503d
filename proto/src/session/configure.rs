//! From an active key exchange to a tunnel that is up, and what is said on the control channel.

use core::time::Duration;

use super::exchange::State;
use super::handover::Handover;
use super::message::ControlMessage;
use super::negotiate::{Agreed, agree};
use super::side::Side;
use super::{Admitting, Configuring, Now, Phase, Session};
use crate::config::Credentials;
use crate::drops::DropReason;
use crate::event::{CloseCause, Event};
use crate::keys::data_key::{DataKey, KeyLimits};
use crate::keys::ekm;
use crate::limits::MAX_USER_PASS;
use crate::options::push_reply::{PushError, PushReply, PushState};
use crate::options::pushed::Pushed;
use crate::tls::TlsFailure;
use crate::wire::ids::KeyId;
use crate::wrap::Wrap;

/// Pause before the first PUSH_REQUEST: a server that knows `IV_PROTO` bit 2 doesn't wait for it.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
const NEXT_REQUEST: Duration = Duration::from_secs(5);

impl Session {
    /// The current exchange became active.
    pub(super) fn on_exchange_active(&mut self, now: Now) {
        self.renegotiate_at = Some(self.draw_renegotiation(now));
        if self.exchange.key() != KeyId::FIRST {
            // Who came along to this key is through with the one before.
            self.previous = None;
            // It was given up for want of acks, and came through nevertheless.
            self.lame_until = None;
            self.take_next_key(now);
            return self.promote_in_time(now);
        }
        if !matches!(self.phase, Phase::Connecting) {
            return;
        }
        let give_up = now.at + self.channel().timing.hand_window;
        match self.side {
            Side::Client(_) => {
                self.phase =
                    Phase::Configuring(Configuring { next_request: now.at + FIRST_REQUEST, give_up });
                self.events.push_back(Event::AwaitingConfig(self.handle));
            }
            Side::Server(ref server) => {
                // The verdict may have been put off before.
                let give_up =
                    server.question.as_ref().map_or(give_up, |question| give_up.max(question.until));
                self.phase = Phase::Admitting(Admitting { asked: false, give_up });
                self.go_on_admitting(now);
            }
            Side::Peer(_) => self.come_up_as_peer(now),
        }
    }

    /// Installs the key of a renegotiation as soon as both sides' messages are through, for receiving: the other
    /// side may have all of ours and use it before we know.
    pub(super) fn take_next_key(&mut self, now: Now) {
        let key = self.exchange.key();
        let ready = key != KeyId::FIRST && self.exchange.state() >= State::GotKey && self.is_granted();
        if !ready || self.slots.knows(key) || !matches!(self.phase, Phase::Up) {
            return;
        }
        match self.derive() {
            Ok(data) => {
                self.install(now, data);
                if self.exchange.state() == State::Active {
                    self.promote_in_time(now);
                }
                self.push_token(now);
            }
            Err(failure) => self.fail(CloseCause::Tls(failure)),
        }
    }

    pub(super) fn ask_for_configuration(&mut self, now: Now) {
        let Phase::Configuring(configuring) = &mut self.phase else { return };
        if configuring.give_up <= now.at {
            self.fail(CloseCause::NoPushReply);
        } else if configuring.next_request <= now.at {
            configuring.next_request = now.at + NEXT_REQUEST;
            self.send_message(now, "PUSH_REQUEST");
        }
    }

    pub(super) fn handle_record(&mut self, now: Now, record: &[u8]) {
        for message in ControlMessage::parse_record(record) {
            if matches!(self.phase, Phase::Dying(_) | Phase::Dead) {
                return;
            }
            match message {
                Some(message) => self.handle_message(now, message),
                None => self.count(DropReason::ControlMessage),
            }
        }
    }

    fn handle_message(&mut self, now: Now, message: ControlMessage) {
        match &self.side {
            Side::Client(_) => self.handle_server_message(now, message),
            Side::Server(_) => self.handle_client_message(now, message),
            Side::Peer(_) => match message {
                ControlMessage::Exit => self.fail(CloseCause::PeerExit),
                _ => self.count(DropReason::ControlMessage),
            },
        }
    }

    fn handle_server_message(&mut self, now: Now, message: ControlMessage) {
        match message {
            ControlMessage::PushReply(text) => self.handle_push_reply(now, &text),
            ControlMessage::AuthFailed(reason) => {
                let Side::Client(client) = &self.side else { return };
                let was_token = client.credentials.as_ref().is_some_and(|c| c.is_token);
                self.fail(CloseCause::AuthFailed { reason, was_token });
            }
            ControlMessage::AuthTemporary { backoff, advance, reason } => {
                self.fail(CloseCause::AuthTemporary { backoff, advance, reason });
            }
            ControlMessage::AuthPending(seconds) => {
                self.extend_waiting(seconds);
                let timeout = seconds.map(|seconds| format!(",timeout {seconds}")).unwrap_or_default();
                let text = format!("AUTH_PENDING{timeout}");
                self.events.push_back(Event::Message { session: self.handle, text });
            }
            ControlMessage::Restart { keep_credentials, advance, reason } => {
                self.fail(CloseCause::Restart { keep_credentials, advance, reason });
            }
            ControlMessage::Halt(reason) => self.fail(CloseCause::Halt { reason }),
            ControlMessage::Info(text) => {
                self.events.push_back(Event::Message { session: self.handle, text })
            }
            ControlMessage::Exit => self.fail(CloseCause::PeerExit),
            ControlMessage::PushRequest | ControlMessage::ChallengeResponse(_) | ControlMessage::Unknown => {
                self.count(DropReason::ControlMessage)
            }
        }
    }

    /// `AUTH_PENDING[,timeout N]` moves the end of waiting, in either direction
    /// (`openvpn: push.c`, `parse_auth_pending_keywords`).
    fn extend_waiting(&mut self, seconds: Option<u32>) {
        let timing = self.channel().timing;
        let Some(active_at) = self.exchange.active_at() else { return };
        if let Phase::Configuring(configuring) = &mut self.phase {
            let most = (timing.reneg / 2).max(timing.hand_window);
            let asked = seconds.map_or(timing.hand_window, |n| Duration::from_secs(n.into()));
            configuring.give_up = active_at + asked.min(most);
        }
    }

    fn handle_push_reply(&mut self, now: Now, text: &str) {
        self.events.push_back(Event::PushReply {
            session: self.handle,
            text: format!("PUSH_REPLY{}", without_tokens(text)),
        });
        let Side::Client(client) = &mut self.side else { return };
        match client.push.feed(text, &client.config.pull) {
            Ok(PushState::More) => {}
            Ok(PushState::Complete(reply)) if matches!(self.phase, Phase::Configuring(_)) => {
                self.come_up(now, reply);
            }
            // A later one brings a renewed token and nothing else that could still be taken.
            Ok(PushState::Complete(reply)) => {
                if self.take_token(&reply.options).is_err() {
                    self.count(DropReason::ControlMessage);
                }
            }
            Err(PushError::Rejected(option)) => self.fail(CloseCause::RejectedOption(option)),
            Err(PushError::TooLarge) => {
                self.fail(CloseCause::Push(
                    "the server pushes more options than any client could need".into(),
                ));
            }
        }
    }

    /// The configuration is complete: agree, derive the first key, and hand it all out.
    fn come_up(&mut self, now: Now, reply: PushReply) {
        let PushReply { options, mut ignored } = reply;
        let (Some(hello), Side::Client(client)) = (self.exchange.hello(), &self.side) else { return };
        let agreement = agree(&client.config, self.capabilities, &self.path, hello, &options);
        let (agreed, not_obeyed) = match agreement {
            Ok(agreed) => agreed,
            Err(cause) => return self.fail(cause),
        };
        ignored.extend(not_obeyed);
        self.agreed = Some(agreed);
        if !self.take_first_key(now, agreed) {
            return;
        }
        let Agreed { params, flags, tun_mtu } = agreed;
        self.keepalive.start(now.at, &options);
        for option in &options {
            if let Pushed::ExitNotify(n) = *option {
                self.exit_notify = Some(n);
            }
        }
        if let Err(refusal) = self.take_token(&options) {
            ignored.push(refusal);
        }
        self.phase = Phase::Up;
        let session = self.handle;
        self.events.push_back(Event::Configure { session, options, ignored });
        let flags = flags.to_string();
        self.events.push_back(Event::Established { session, peer: self.peer, params, tun_mtu, flags });
    }

    /// The data key of the current exchange, by exporter or PRF as agreed.
    pub(super) fn derive(&mut self) -> Result<DataKey, TlsFailure> {
        let timing = self.channel().timing;
        let limits = KeyLimits { bytes: timing.reneg_bytes, packets: timing.reneg_packets };
        let by_exporter = self.agreed.is_some_and(|agreed| agreed.flags.tls_ekm);
        let by_prf = match self.remote.filter(|_| !by_exporter) {
            Some(remote) => self.exchange.derive_prf(self.local, remote),
            None => None,
        };
        let block = match by_prf {
            Some(block) => block,
            None => ekm::export_block(self.exchange.tls(), ekm::DATA_KEYS)?,
        };
        Ok(DataKey::new(block, self.side.tls_role(), limits))
    }

    /// Sets the dynamic tls-crypt up, once, from the first key's TLS connection.
    pub(super) fn protect_renegotiations(&mut self, now: Now, agreed: Agreed) -> Result<(), TlsFailure> {
        if agreed.flags.dyn_tls_crypt {
            let exported = ekm::export_block(self.exchange.tls(), ekm::DYNAMIC_TLS_CRYPT)?;
            let wrap = Wrap::dynamic(
                self.base_key.as_deref().or_else(|| self.channel().wrap.static_key()),
                &exported,
                self.side.tls_role(),
                now.unix_seconds(),
                self.channel().replay,
            );
            self.dynamic_wrap = Some(Box::new(wrap));
        }
        Ok(())
    }

    /// The key of the current exchange, which is active, sends in any case when its time has come.
    fn promote_in_time(&mut self, now: Now) {
        let handover = Handover::new(self.exchange.started(), &self.channel().timing);
        self.slots.promote_by(self.exchange.key(), handover.takes_over(now.at));
    }

    /// Installs the key of the current exchange; to send with it is for later, unless it is the first.
    pub(super) fn install(&mut self, now: Now, data: DataKey) {
        let key = self.exchange.key();
        if let Some(key) = self.slots.install(now.at, key, data, &mut self.directives) {
            self.on_promoted(key);
        }
        self.exchange.settle();
    }

    /// Takes a token for renegotiations and reconnects, unless it would make those impossible. The error is a
    /// line for the log.
    fn take_token(&mut self, options: &[Pushed]) -> Result<(), String> {
        let mut username = None;
        let mut token = None;
        for option in options {
            match option {
                Pushed::AuthToken(text) => token = Some(text.0.clone()),
                Pushed::AuthTokenUser(name) => username = Some(name.clone()),
                _ => {}
            }
        }
        let Some(token) = token else { return Ok(()) };
        if token.len() >= MAX_USER_PASS || username.as_ref().is_some_and(|name| name.len() >= MAX_USER_PASS) {
            return Err(format!(
                "auth-token: token or user name is longer than {} bytes; the password stays in use",
                MAX_USER_PASS - 1
            ));
        }
        let Side::Client(client) = &mut self.side else { return Ok(()) };
        let name = username.clone().or_else(|| client.credentials.as_ref().map(|c| c.username.clone()));
        if let Some(name) = name {
            client.credentials =
                Some(Credentials { username: name, password: token.clone(), is_token: true });
        }
        self.events.push_back(Event::Token { session: self.handle, username, token });
        Ok(())
    }
}

/// A control message without the values of `auth-token` options (`openvpn: ssl_verify.c`,
/// `sanitize_control_message`).
pub(super) fn without_tokens(text: &str) -> String {
    // Wherever the word stands: quotes and blanks may come before it.
    let hide = |option: &str| match option.contains("auth-token") && !option.starts_with("auth-token-user ") {
        true => "auth-token".into(),
        false => option.to_owned(),
    };
    text.split(',').map(hide).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::without_tokens;

    #[test]
    fn tokens_stay_out_of_the_log() {
        let push = ",ping 2,auth-token SESS_ID_AT_secret,auth-token-user bm9ib2R5,peer-id 1";
        assert_eq!(without_tokens(push), ",ping 2,auth-token,auth-token-user bm9ib2R5,peer-id 1");
        assert_eq!(without_tokens(", auth-token a,\"auth-token\" b"), ",auth-token,auth-token");
    }
}
