//! News from the core: log lines, and what to do about them.

use std::net::SocketAddr;

use anyhow::Result;
use oxivpn_proto::config::params::{DataFormat, DataParams};
use oxivpn_proto::event::{CloseCause, Event};
use oxivpn_proto::options::pushed::Pushed;
use oxivpn_proto::tls::PeerIdentity;
use oxivpn_proto::wire::ids::KeyId;
use oxivpn_proto::{Instant, Path, PeerRef, SessionHandle};

use super::connect::text;
use super::{Client, Phase, explain};
use crate::manage::{Notice, State};
use crate::say;

/// What was negotiated, as [`Event::Established`] brings it.
pub(super) struct Established {
    pub(super) peer: PeerRef,
    params: DataParams,
    pub(super) tun_mtu: u16,
    flags: String,
}

impl Client {
    pub(super) fn on_event(&mut self, now: Instant, event: Event) -> Result<()> {
        match event {
            Event::Reached { remote, .. } => {
                self.attempt.reached = true;
                let sid = format!("{remote:?}");
                let (front, back) = sid.split_at(sid.len() / 2);
                say!(self.log, Detail, "TLS: Initial packet from {}, sid={front} {back}", self.remote_text());
                self.tell_plain(now, State::Auth);
            }
            Event::Incoming { session, path, .. } => self.on_incoming(session, path),
            Event::PeerNegotiated { summary, .. } => {
                say!(self.log, Info, "P2P mode NCP negotiation result: {summary}");
            }
            Event::PushReply { text, .. } => {
                say!(self.log, Detail, "PUSH: Received control message: '{text}'");
            }
            Event::TlsReady { peer, description, key, .. } => self.on_tls(peer, &description, key)?,
            Event::AwaitingConfig(_) => {
                self.tell_plain(now, State::GetConfig);
                say!(self.log, Detail, "SENT CONTROL [{}]: 'PUSH_REQUEST' (status=1)", self.server());
            }
            Event::Configure { options, ignored, .. } => self.on_configure(now, options, &ignored),
            Event::Established { session, peer, params, tun_mtu, flags } => {
                self.on_point_established(session);
                self.rise(now, Established { peer, params, tun_mtu, flags })?;
            }
            Event::Rekeyed { key, .. } => {
                say!(self.log, Detail, "Data Channel: key {} is in use", key.get());
            }
            Event::Floated { to: to @ Path::Datagram { remote, .. }, .. } => {
                self.follow(to);
                say!(self.log, Info, "NOTE: server address changed to {}", text(remote));
                self.tell_address()?;
            }
            Event::Token { username, token, .. } => {
                self.notify(&Notice::AuthToken(&token));
                let fallback = self.attempt.username.clone();
                self.vault.set_token(username, fallback.as_deref(), token);
            }
            Event::Message { text, .. } => {
                say!(self.log, Info, "{}: Received control message: {text}", self.server());
                self.tell_message(now, &text);
            }
            Event::Warning { text, .. } => say!(self.log, Warn, "WARNING: {text}"),
            Event::Closed { session, cause } => self.on_closed(now, session, &cause),
            _ => {}
        }
        Ok(())
    }

    fn server(&self) -> &str {
        self.attempt.server.as_deref().unwrap_or("UNDEF")
    }

    fn remote_text(&self) -> String {
        self.address().map_or_else(|| "UNDEF".to_owned(), text)
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.path.link().map(crate::link::Transport::remote).or_else(|| self.servers.address())
    }

    fn on_tls(&mut self, peer: Option<PeerIdentity>, description: &str, key: KeyId) -> Result<()> {
        self.attempt.tls_done = true;
        if let Some(peer) = peer {
            for certificate in &peer.chain {
                say!(self.log, Info, "VERIFY OK: {certificate}");
            }
            self.tell_identity(&peer);
            self.attempt.server = peer.common_name;
        }
        say!(self.log, Info, "Control Channel: {description}");
        if key == KeyId::FIRST {
            say!(self.log, Info, "[{}] Peer Connection Initiated with {}", self.server(), self.remote_text());
            self.tell_address()?;
        }
        Ok(())
    }

    fn on_configure(&mut self, now: Instant, options: Vec<Pushed>, ignored: &[String]) {
        for option in ignored {
            say!(
                self.log,
                Warn,
                "Options error: Unrecognized option or missing or extra parameter(s) in [PUSH-OPTIONS]: {option}. \
                 It is ignored; tell the server's administrator, or silence it with `pull-filter ignore`"
            );
        }
        self.attempt.pushed = options;
        self.echo_pushed(now);
    }

    pub(super) fn tell_parameters(&self, news: &Established) {
        let cipher = news.params.cipher;
        let peer = match news.params.format {
            DataFormat::V2(id) | DataFormat::Epoch(id) => format!(", peer-id: {}", id.get()),
            DataFormat::V1 => String::new(),
        };
        let framing = news.params.framing.name().map(|name| format!(", compression: '{name}'"));
        say!(self.log, Notice, "Data Channel: cipher '{cipher}'{peer}{}", framing.unwrap_or_default());
        let timers: Vec<String> = self
            .attempt
            .pushed
            .iter()
            .filter_map(|option| match option {
                Pushed::Ping(time) => Some(format!("ping {}", time.as_secs())),
                Pushed::PingRestart(time) => Some(format!("ping-restart {}", time.as_secs())),
                Pushed::PingExit(time) => Some(format!("ping-exit {}", time.as_secs())),
                Pushed::Inactive(time, _) => Some(format!("inactive {}", time.as_secs())),
                Pushed::SessionTimeout(time) => Some(format!("session-timeout {}", time.as_secs())),
                _ => None,
            })
            .collect();
        if !timers.is_empty() {
            say!(self.log, Notice, "Timers: {}", timers.join(", "));
        }
        let mut protocol = Vec::new();
        if let Some(seconds) = self.current_config().channel.exit_notify {
            protocol.push(format!("explicit-exit-notify {seconds}"));
        }
        if !news.flags.is_empty() {
            protocol.push(format!("protocol-flags {}", news.flags));
        }
        if !protocol.is_empty() {
            say!(self.log, Notice, "Protocol options: {}", protocol.join(", "));
        }
    }

    fn on_closed(&mut self, now: Instant, session: SessionHandle, cause: &CloseCause) {
        if let Phase::Listening { session: Some(current) } = self.phase
            && current == session
        {
            if !self.goes_on_listening(cause) {
                self.on_lost(now, cause);
            }
            return;
        }
        match self.phase {
            Phase::Closing { handle, then, .. } if handle == session => self.after(now, then),
            Phase::Session { handle } if handle == session => self.on_lost(now, cause),
            _ => {}
        }
    }

    /// The session ended without us wanting it.
    fn on_lost(&mut self, now: Instant, cause: &CloseCause) {
        let drops = self.new_drops();
        let remote = self.remote_text();
        let config = self.current_config();
        let attempt = explain::Attempt {
            remote: &remote,
            protocol: self.profile.remotes[self.servers.current()].protocol,
            wrap: &config.channel.wrap,
            reached: self.attempt.reached,
            tls_done: self.attempt.tls_done,
            hand_window: config.channel.timing.hand_window,
            poll_timeout: config.channel.timing.server_poll,
            drops: &drops,
            complaint: self.attempt.complaint.as_deref(),
            ciphers: &config.channel.ciphers,
            server: self.attempt.server.as_deref(),
        };
        for line in explain::lines(cause, &attempt) {
            say!(self.log, Error, "{line}");
        }
        self.tell_cause(cause);
        let verdict = self.retry.judge(cause);
        self.vault.forget(verdict.credentials);
        self.act(now, verdict.action, "soft", verdict.reason);
    }

    /// Control packets dropped since this attempt began.
    fn new_drops(&self) -> oxivpn_proto::DropCounters {
        let mut new = oxivpn_proto::DropCounters::default();
        for (reason, count) in self.path.control.drops().iter() {
            for _ in self.attempt.drops.get(reason)..count.min(self.attempt.drops.get(reason) + 1000) {
                new.count(reason);
            }
        }
        new
    }
}
