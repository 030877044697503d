//! A client's side of the management interface, and its status file.

use oxivpn_profile::profile::{Family, Protocol, Remote, StaticChallenge};
use oxivpn_proto::Instant;
use oxivpn_proto::event::CloseCause;
use oxivpn_proto::options::pushed::Pushed;

use super::credentials::Missing;
use super::{Client, Phase, Signal, Then};
use crate::manage::{
    Answer, Challenge, Entered, Manage, Moment, Notice, Question, Request, State, StateDetails,
};
use crate::status::{Snapshot, TunnelStatus, render};
use crate::{clock, say};

/// The kind of the question for user name and password.
const AUTH: &str = "Auth";

impl Client {
    /// From here the interface watches and steers this client.
    pub fn set_manage(&mut self, manage: Option<Manage>) {
        self.manage = manage;
    }

    /// Takes the interface back, for the next client.
    pub const fn take_manage(&mut self) -> Option<Manage> {
        self.manage.take()
    }

    /// The descriptor of the interface became ready.
    pub const fn manage_ready(&mut self) {
        if let Some(manage) = &mut self.manage {
            manage.ready();
        }
    }

    /// Whether the interface asks for user name and password, so that no terminal is needed.
    pub(super) fn asks_elsewhere(&self) -> bool {
        self.manage.as_ref().is_some_and(Manage::asks_passwords)
    }

    /// The state changed.
    pub(super) fn tell_state(&mut self, now: Instant, state: State, details: &StateDetails<'_>) {
        if let Some(manage) = &mut self.manage {
            manage.state(moment(now), state, details);
        }
    }

    /// The state changed, and there is no more to say.
    pub(super) fn tell_plain(&mut self, now: Instant, state: State) {
        self.tell_state(now, state, &StateDetails::default());
    }

    /// A restart or the end, with OpenVPN's word for the reason.
    pub(super) fn tell_end(&mut self, now: Instant, exiting: bool, detail: &str) {
        let state = if exiting { State::Exiting } else { State::Reconnecting };
        self.tell_state(now, state, &StateDetails { detail, ..StateDetails::default() });
    }

    /// The tunnel is about to stand, or stands (`result`).
    pub(super) fn tell_tunnel(&mut self, now: Instant, state: State, result: &str) {
        if self.manage.is_none() {
            return;
        }
        let mut details = StateDetails { detail: result, ..StateDetails::default() };
        for option in &self.attempt.pushed {
            match option {
                Pushed::Ifconfig(local, _) => details.ip4 = Some(*local),
                Pushed::IfconfigIpv6(local, ..) => details.ip6 = Some(*local),
                _ => {}
            }
        }
        if state == State::Connected {
            details.remote = self.address();
            details.local = self.attempt.bound;
        }
        self.tell_state(now, state, &details);
    }

    pub(super) fn notify(&mut self, notice: &Notice<'_>) {
        if let Some(manage) = &mut self.manage {
            manage.notify(notice);
        }
    }

    /// What `up` and `down` scripts are told, for `management-up-down`.
    pub(super) fn tell_up_down(&mut self, word: &str) {
        let Some(manage) = &mut self.manage else { return };
        let env: Vec<(String, String)> =
            self.around.all().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        manage.notify(&Notice::UpDown { word, env: &env });
    }

    /// `echo` options of the server.
    pub(super) fn echo_pushed(&mut self, now: Instant) {
        let Some(manage) = &mut self.manage else { return };
        for option in &self.attempt.pushed {
            if let Pushed::Echo(text) = option {
                manage.echo(moment(now), text);
            }
        }
    }

    /// What a control message for people means to the interface.
    pub(super) fn tell_message(&mut self, now: Instant, text: &str) {
        if let Some(rest) = text.strip_prefix("INFO_PRE,").or_else(|| text.strip_prefix("INFO,")) {
            self.notify(&Notice::InfoMessage(rest));
        } else if let Some(rest) = text.strip_prefix("AUTH_PENDING") {
            let detail = rest.strip_prefix(',').unwrap_or_default();
            self.tell_state(now, State::AuthPending, &StateDetails { detail, ..StateDetails::default() });
        }
    }

    /// A refused login.
    pub(super) fn tell_cause(&mut self, cause: &CloseCause) {
        let (CloseCause::AuthFailed { reason, .. } | CloseCause::AuthTemporary { reason, .. }) = cause else {
            return;
        };
        let reason = Some(reason.as_str()).filter(|reason| !reason.is_empty());
        self.notify(&Notice::VerificationFailed { kind: AUTH, reason });
    }

    /// Whether to wait for `hold release` rather than for `pause` seconds.
    pub(super) fn holds(&mut self, seconds: u64) -> bool {
        self.manage.as_mut().is_some_and(|manage| manage.hold(seconds))
    }

    /// Whether user name or password have to be asked for at the interface first; asks.
    pub(super) fn asks(&mut self) -> bool {
        if self.asked.is_some() || !self.asks_elsewhere() {
            return false;
        }
        let Some(missing) = self.vault.missing() else { return false };
        let challenge = self.profile.auth.challenge.clone();
        let challenge =
            challenge.map(|StaticChallenge { text, echo, concat }| Challenge { text, echo, concat });
        let question = Question { kind: AUTH.to_owned(), username: missing == Missing::Both, challenge };
        if let Some(manage) = &mut self.manage {
            manage.ask(question);
        }
        true
    }

    /// Carries out what the interface asks for. Whether there was anything.
    pub(super) fn serve(&mut self, now: Instant) -> bool {
        let mut busy = false;
        while let Some(request) = self.manage.as_mut().and_then(|manage| manage.poll(moment(now))) {
            busy = true;
            if let Some(answer) = self.on_request(now, request)
                && let Some(manage) = &mut self.manage
            {
                manage.answer(answer);
            }
        }
        busy
    }

    /// The answer, if the request wants one.
    fn on_request(&mut self, now: Instant, request: Request) -> Option<Answer> {
        match request {
            Request::Status { version } => return Some(Answer::Text(render(&self.snapshot(), version))),
            Request::LoadStats => {
                let traffic = self.traffic();
                let (received, sent) = (traffic.link_read, traffic.link_write);
                return Some(Answer::Load { clients: 0, received, sent });
            }
            Request::RemoteCount => return Some(Answer::Count(self.profile.remotes.len())),
            Request::Remotes { from, to } => return Some(Answer::Lines(self.remote_lines(from, to))),
            Request::CrResponse(text) => {
                let Phase::Session { handle } = self.phase else { return Some(Answer::Failed) };
                self.path.control.send_message(now, handle, &format!("CR_RESPONSE,{}", text.as_str()));
                return Some(Answer::Done);
            }
            Request::Signal { signal, soft: None } => self.signal(now, signal),
            Request::Signal { signal, soft: Some(reason) } => self.soft_signal(now, signal, reason),
            Request::HoldRelease => {
                if matches!(self.phase, Phase::Holding) {
                    self.phase = Phase::Pausing { until: now };
                }
            }
            Request::Entered(entered) => self.on_entered(now, entered),
            Request::ForgetPasswords => {
                self.asked = None;
                self.vault.forget(crate::retry::Forget::All);
            }
            Request::AuthRetry(mode) => self.retry.set_auth(mode),
            Request::ByteCounts => {
                let traffic = self.traffic();
                self.notify(&Notice::ByteCount { received: traffic.link_read, sent: traffic.link_write });
            }
            // The rest is for servers, and answered by the interface itself.
            _ => return Some(Answer::Failed),
        }
        None
    }

    fn on_entered(&mut self, now: Instant, entered: Entered) {
        if entered.kind == AUTH && matches!(self.phase, Phase::Asking) {
            self.asked = Some(self.vault.enter(entered.username, entered.password));
            self.phase = Phase::Pausing { until: now };
        }
    }

    /// A signal that nobody sent, such as of `management-signal`.
    fn soft_signal(&mut self, now: Instant, signal: Signal, reason: &'static str) {
        if matches!(self.phase, Phase::Over(_) | Phase::Ending | Phase::Closing { .. }) {
            return;
        }
        let exiting = matches!(signal, Signal::Int | Signal::Term);
        if exiting {
            self.leave(now, &format!("soft,{reason}"), signal.name());
        } else {
            say!(self.log, Info, "{}[soft,{reason}] received, process restarting", signal.name());
            self.tell_end(now, false, reason);
            self.end_session(now, if signal == Signal::Hup { Then::Reload } else { Then::Restart });
        }
    }

    /// Servers `from..to`, as in `0,vpn.example.com,1194,udp,enabled`.
    fn remote_lines(&self, from: usize, to: usize) -> Vec<String> {
        let remotes = self.profile.remotes.iter().enumerate();
        let chosen = remotes.take(to).skip(from);
        chosen
            .map(|(index, remote)| {
                format!("{index},{},{},{},enabled", remote.host, remote.port, protocol(remote))
            })
            .collect()
    }

    /// The sums, for status files and `status`.
    pub(super) fn snapshot(&self) -> Snapshot {
        let traffic = self.traffic();
        Snapshot::Tunnel(TunnelStatus {
            unix: clock::unix().as_secs(),
            device_read: traffic.device_read,
            device_write: traffic.device_write,
            link_read: traffic.link_read,
            link_write: traffic.link_write,
            authentic: traffic.authentic,
        })
    }

    /// Writes the status file if it is time.
    pub(super) fn write_status(&mut self, now: Instant, at_once: bool) {
        if !self.status.as_ref().is_some_and(|file| at_once || file.is_due(now)) {
            return;
        }
        let snapshot = self.snapshot();
        let Some(file) = &mut self.status else { return };
        if let Err(error) = file.write(now, &snapshot) {
            say!(self.log, Warn, "WARNING: cannot write the status file: {error}");
        }
    }
}

/// As in the profile (`openvpn: socket.c`, `proto_names`).
const fn protocol(remote: &Remote) -> &'static str {
    match (remote.protocol, remote.family) {
        (Protocol::Udp, Family::Any) => "udp",
        (Protocol::Udp, Family::V4) => "udp4",
        (Protocol::Udp, Family::V6) => "udp6",
        (Protocol::Tcp, Family::Any) => "tcp-client",
        (Protocol::Tcp, Family::V4) => "tcp4-client",
        (Protocol::Tcp, Family::V6) => "tcp6-client",
    }
}

fn moment(now: Instant) -> Moment {
    Moment { now, unix: clock::unix().as_secs() }
}
