//! News from the core about clients.

use oxivpn_proto::config::params::{DataFormat, DataParams};
use oxivpn_proto::config::server::LoginPolicy;
use oxivpn_proto::config::{Keepalive, PingTimeout};
use oxivpn_proto::event::{CloseCause, Event};
use oxivpn_proto::tls::PeerIdentity;
use oxivpn_proto::wire::ids::KeyId;
use oxivpn_proto::{Instant, Path, PeerRef, SessionHandle};

use super::worker::Command;
use super::{Server, words};
use crate::log::Level;
use crate::{clock, say};

impl Server {
    pub(super) fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Incoming { session, path, remote } => {
                let Some(address) = self.address_of(path) else {
                    // Its connection is gone already.
                    return self.node.abort(now, session);
                };
                self.clients.insert(session, path, address, clock::unix());
                if let Path::Stream(id) = path {
                    self.connections.claim(id);
                }
                if self.log.shows(Level::Debug) {
                    let sid = format!("{remote:?}");
                    let (front, back) = sid.split_at(sid.len() / 2);
                    let (real, address) = (words::real(address), words::address(address));
                    say!(self.log, Debug, "{real} TLS: Initial packet from {address}, sid={front} {back}");
                }
            }
            Event::Unwelcome(id) => self.shed(now, id),
            Event::TlsReady { session, peer, description, key } => {
                self.on_tls(session, peer.as_ref(), &description, key);
            }
            Event::Login(ticket, login) => self.on_login(now, ticket, login),
            Event::Admit(ticket, admission) => self.on_admit(now, ticket, admission),
            Event::Pushed { session, text } => {
                if let Some(client) = self.clients.get(session) {
                    let (prefix, name) = (&client.prefix, client.shown_name());
                    say!(self.log, Detail, "{prefix}SENT CONTROL [{name}]: '{text}' (status=1)");
                }
            }
            Event::Established { session, peer, params, flags, .. } => {
                self.on_established(session, peer, &params, &flags);
            }
            Event::ControlLost { session, cause } => {
                if let Some(client) = self.clients.get(session) {
                    let prefix = &client.prefix;
                    say!(self.log, Info, "{prefix}TLS Error: {cause}; data goes on under the present key");
                }
            }
            Event::Floated { session, to } => self.on_floated(session, to),
            Event::ChallengeResponse { session, response } => self.on_response(now, session, &response),
            Event::Message { session, text } => {
                if let Some(client) = self.clients.get(session) {
                    say!(self.log, Info, "{}PUSH: Received control message: '{text}'", client.prefix);
                }
            }
            Event::Warning { session, text } => {
                if let Some(client) = self.clients.get(session) {
                    say!(self.log, Warn, "{}WARNING: {text}", client.prefix);
                }
            }
            Event::Closed { session, cause } => self.on_closed(now, session, &cause),
            _ => {}
        }
    }

    fn on_tls(&mut self, session: SessionHandle, peer: Option<&PeerIdentity>, description: &str, key: KeyId) {
        let Some(client) = self.clients.get_mut(session) else { return };
        let prefix = &client.prefix;
        if let Some(peer) = peer {
            for warning in &peer.warnings {
                say!(self.log, Warn, "{prefix}{warning}");
            }
            for certificate in &peer.chain {
                say!(self.log, Notice, "{prefix}VERIFY OK: {certificate}");
            }
        }
        if key == KeyId::FIRST {
            // Told with the name, once it is sure.
            client.description = Some(description.into());
        } else {
            say!(self.log, Notice, "{prefix}Control Channel: {description}");
        }
    }

    fn on_established(&mut self, session: SessionHandle, peer: PeerRef, params: &DataParams, flags: &str) {
        self.clients.set_peer(session, peer);
        let Some(client) = self.clients.get_mut(session) else { return };
        client.cipher = Some(params.cipher);
        let (prefix, cipher) = (&client.prefix, params.cipher);
        let id = match params.format {
            DataFormat::V2(_) | DataFormat::Epoch(_) => format!(", peer-id: {}", peer.id.get()),
            DataFormat::V1 => String::new(),
        };
        let framing = params.framing.name().map(|name| format!(", compression: '{name}'"));
        let framing = framing.unwrap_or_default();
        say!(self.log, Notice, "{prefix}Data Channel: cipher '{cipher}'{id}{framing}");
        let timers = timers(&self.config.channel.keepalive);
        if !timers.is_empty() {
            say!(self.log, Notice, "{prefix}Timers: {}", timers.join(", "));
        }
        if !flags.is_empty() {
            say!(self.log, Notice, "{prefix}Protocol options: protocol-flags {flags}");
        }
        self.tell_established(session);
    }

    fn on_floated(&mut self, session: SessionHandle, to: Path) {
        let Some(remote) = self.address_of(to) else { return };
        let Some(client) = self.clients.get(session) else { return };
        let (from, name) = (words::address(client.remote), client.shown_name().to_owned());
        let peer = client.peer.map_or(0, |peer| peer.id.get());
        say!(
            self.log,
            Info,
            "{}peer {peer} ({name}) floated from {from} to {}",
            client.prefix,
            words::address(remote)
        );
        self.clients.move_to(session, to, remote);
    }

    /// The outer address at the other end of a path.
    pub(super) fn address_of(&self, path: Path) -> Option<std::net::SocketAddr> {
        match path {
            Path::Datagram { remote, .. } => Some(remote),
            Path::Stream(id) => self.connections.remote(id),
        }
    }

    pub(super) fn on_closed(&mut self, now: Instant, session: SessionHandle, cause: &CloseCause) {
        self.logins.remove(&session);
        self.forget_manage_config(session);
        if let Some(pending) = self.admissions.remove(&session) {
            self.addressing.give_back(pending.into_lease());
        }
        let Some(mut client) = self.clients.remove(session) else { return };
        // Nobody was asked: there was nothing to ask about.
        if let CloseCause::Denied(_) = cause
            && client.logins == 0
            && !client.connected
            && self.config.login == LoginPolicy::Required
        {
            say!(
                self.log,
                Info,
                "{}TLS Error: Auth Username/Password was not provided by peer",
                client.prefix
            );
        }
        let ending = words::ending(cause, client.shown_name(), self.config.channel.timing.hand_window);
        for line in &ending.lines {
            say!(self.log, Info, "{}{line}", client.prefix);
        }
        if let Some(signal) = ending.signal {
            say!(self.log, Info, "{}{signal}", client.prefix);
        }
        if let Path::Stream(id) = client.path
            && self.connections.close(now, id)
        {
            self.commands.push(Command::Close(id));
        }
        self.forget(&client);
        if let Some(lease) = client.lease.take_if(|_| !client.connected) {
            self.addressing.give_back(lease);
        }
        match client.peer {
            // Its last sums are on their way.
            Some(peer) => {
                self.leaving_order.push_back((self.last_order, peer));
                self.leaving.insert(peer, client);
            }
            None => self.on_gone(client),
        }
    }

    /// The client is gone and its sums are known.
    pub(super) fn on_gone(&mut self, mut client: super::clients::Client) {
        if client.connected {
            self.tell_disconnect(&client);
        }
        // Whoever was asked about a login hears of its end, also if nothing came of it.
        if client.logins > 0 {
            self.tell_gone(&client);
        }
        if let Some(lease) = client.lease.take() {
            self.addressing.give_back(lease);
        }
    }
}

/// As in `ping 10, ping-restart 120`.
fn timers(keepalive: &Keepalive) -> Vec<String> {
    let seconds = |name: &str, time: core::time::Duration| format!("{name} {}", time.as_secs());
    let timeout = keepalive.timeout.map(|timeout| match timeout {
        PingTimeout::Restart(time) => seconds("ping-restart", time),
        PingTimeout::Exit(time) => seconds("ping-exit", time),
    });
    let ping = keepalive.ping.map(|time| seconds("ping", time));
    let inactive = keepalive.inactive.map(|(time, _)| seconds("inactive", time));
    let session = keepalive.session.map(|time| seconds("session-timeout", time));
    [ping, timeout, inactive, session].into_iter().flatten().collect()
}
