//! The management interface of a server.

use std::collections::BTreeMap;
use std::os::fd::RawFd;

use ipnet::IpNet;
use oxivpn_profile::Disk;
use oxivpn_profile::profile::Protocol;
use oxivpn_proto::event::login::Login;
use oxivpn_proto::pool::{ClientOverrides, Lease};
use oxivpn_proto::wire::ids::KeyId;
use oxivpn_proto::{Instant, Path, SessionHandle};

use super::Server;
use super::clients::Client;
use super::worker::Command;
use crate::client::Signal;
use crate::manage::{Answer, ClientNews, Manage, Moment, Notice, Request, State, StateDetails, Victim};
use crate::scripts::Environment;
use crate::status;
use crate::{clock, say};

/// The interface, and what it waits for.
#[derive(Default)]
pub(super) struct Managed {
    pub(super) manage: Option<Manage>,
    /// A request that is answered with fresh sums.
    waits: Option<Waits>,
    /// Counters of clients are due.
    counts: bool,
    /// What `client-auth` said about clients that are not admitted yet.
    configs: BTreeMap<SessionHandle, ClientOverrides>,
}

#[derive(Clone, Copy)]
enum Waits {
    Status(u8),
    Load,
}

impl Server {
    /// From here the interface watches and steers this server.
    pub fn set_manage(&mut self, manage: Manage) {
        self.managed.manage = Some(manage);
        self.tell_state(State::AssignIp, "");
        self.tell_state(State::Connected, "SUCCESS");
    }

    /// Takes the interface back, for the next server.
    pub const fn take_manage(&mut self) -> Option<Manage> {
        self.managed.manage.take()
    }

    /// What to watch for reading and writing, and a number that changes when it is another one, perhaps under the same
    /// number: see [`Manage::descriptor`].
    pub fn descriptor(&self) -> (Option<RawFd>, u64) {
        self.managed.manage.as_ref().map_or((None, 0), Manage::descriptor)
    }

    /// The descriptor of the interface became ready.
    pub const fn manage_ready(&mut self) {
        if let Some(manage) = &mut self.managed.manage {
            manage.ready();
        }
    }

    pub(super) fn manage_deadline(&self) -> Option<Instant> {
        self.managed.manage.as_ref().and_then(Manage::deadline)
    }

    /// The state of the server changed.
    pub(super) fn tell_state(&mut self, state: State, detail: &str) {
        let plan = self.addressing.plan();
        let details = StateDetails {
            detail,
            ip4: plan.own,
            ip6: plan.own6.map(|own| own.addr()),
            ..StateDetails::default()
        };
        if let Some(manage) = &mut self.managed.manage {
            manage.state(moment(clock::now()), state, &details);
        }
    }

    /// Does what the interface asks for.
    pub(super) fn poll_manage(&mut self, now: Instant) {
        while let Some(request) = self.managed.manage.as_mut().and_then(|manage| manage.poll(moment(now))) {
            let answer = self.on_request(now, request);
            if let (Some(answer), Some(manage)) = (answer, &mut self.managed.manage) {
                manage.answer(answer);
            }
            self.drain(now);
        }
    }

    /// The answer, if there is one and it is known.
    fn on_request(&mut self, now: Instant, request: Request) -> Option<Answer> {
        let done = |done: bool| Some(if done { Answer::Done } else { Answer::Failed });
        match request {
            Request::Status { version } => self.wait_for_sums(Waits::Status(version)),
            Request::LoadStats => self.wait_for_sums(Waits::Load),
            Request::Clients => Some(Answer::Count(self.clients.admitted())),
            Request::Kill(victim) => Some(Answer::Count(self.kill(now, &victim))),
            Request::ClientKill { cid, message } => {
                let session = self.clients.session_of_cid(cid);
                if let Some(session) = session {
                    self.node.dismiss(now, session, message.as_deref().unwrap_or("RESTART"));
                }
                done(session.is_some())
            }
            Request::ClientAuth { cid, kid, lines } => done(self.let_in(now, cid, kid, lines)),
            Request::ClientDeny { cid, kid, reason, client_reason } => {
                let Some(session) = self.clients.session_of_cid(cid) else { return done(false) };
                if let Some(client) = self.clients.get(session) {
                    say!(
                        self.log,
                        Info,
                        "{}MULTI: connection rejected: {reason}, CLI:{}",
                        client.prefix,
                        client_reason.as_deref().unwrap_or("[NULL]")
                    );
                }
                done(self.on_manage_verdict(now, session, kid, Err(client_reason.unwrap_or_default())))
            }
            Request::ClientPending { cid, kid, extra, timeout } => {
                let session = self.clients.session_of_cid(cid);
                done(
                    session.is_some_and(|session| self.on_manage_pending(now, session, kid, timeout, &extra)),
                )
            }
            Request::PushUpdate { cid, options } => done(self.push_update(now, cid, &options)),
            Request::RemoteCount => Some(Answer::Count(0)),
            Request::Remotes { .. } => Some(Answer::Lines(Vec::new())),
            Request::CrResponse(_) => done(false),
            Request::Signal { signal, .. } => {
                self.signal(now, signal);
                None
            }
            Request::Verb(verb) => {
                self.log.set_verb(verb);
                None
            }
            Request::Mute(mute) => {
                self.log.set_mute(mute);
                None
            }
            Request::ByteCounts => {
                self.managed.counts = true;
                self.commands.extend([Command::AskUsage, Command::AskTotals]);
                None
            }
            // Questions to a client only.
            Request::HoldRelease | Request::Entered(_) | Request::ForgetPasswords | Request::AuthRetry(_) => {
                None
            }
        }
    }

    fn wait_for_sums(&mut self, waits: Waits) -> Option<Answer> {
        self.managed.waits = Some(waits);
        self.commands.extend([Command::AskUsage, Command::AskTotals]);
        None
    }

    /// Fresh sums are there.
    pub(super) fn manage_totals(&mut self) {
        let answer = match self.managed.waits.take() {
            Some(Waits::Status(version)) => Some(Answer::Text(status::render(&self.snapshot(), version))),
            Some(Waits::Load) => Some(Answer::Load {
                clients: self.clients.admitted(),
                received: self.totals.traffic.link_read,
                sent: self.totals.traffic.link_write + self.control_sent,
            }),
            None => None,
        };
        let counts = core::mem::take(&mut self.managed.counts);
        let Some(manage) = &mut self.managed.manage else { return };
        if let Some(answer) = answer {
            manage.answer(answer);
        }
        if counts {
            for (_, client) in self.clients.iter().filter(|(_, client)| client.connected) {
                let (cid, received, sent) = (client.cid, client.received(), client.sent());
                manage.notify(&Notice::ByteCountClient { cid, received, sent });
            }
        }
    }

    /// Ends sessions; how many.
    fn kill(&mut self, now: Instant, victim: &Victim) -> usize {
        let sessions = match victim {
            Victim::Name(name) => self.clients.named(name),
            Victim::Address { protocol, address } => {
                let meant = |client: &Client| {
                    let of = match client.path {
                        Path::Stream(_) => Protocol::Tcp,
                        Path::Datagram { .. } => Protocol::Udp,
                    };
                    client.remote == *address && protocol.is_none_or(|protocol| protocol == of)
                };
                self.clients.iter().filter(|(_, client)| meant(client)).map(|(session, _)| session).collect()
            }
        };
        for session in &sessions {
            self.node.dismiss(now, *session, "RESTART");
        }
        sessions.len()
    }

    fn let_in(&mut self, now: Instant, cid: u64, kid: u64, lines: Option<Vec<String>>) -> bool {
        let Some(session) = self.clients.session_of_cid(cid) else { return false };
        if let Some(lines) = lines {
            let file = oxivpn_profile::ccd::parse(&Disk, "client-auth", &lines.join("\n"));
            if let Some(client) = self.clients.get(session) {
                for problem in &file.problems {
                    say!(self.log, Warn, "{}{problem}", client.prefix);
                }
            }
            self.managed.configs.insert(session, file.overrides);
        }
        self.on_manage_verdict(now, session, kid, Ok(()))
    }

    /// Whether all that are meant, and at least one, took it.
    fn push_update(&mut self, now: Instant, cid: Option<u64>, options: &str) -> bool {
        let options: Vec<String> = options.split(',').map(|option| option.trim().to_owned()).collect();
        let sessions: Vec<SessionHandle> = match cid {
            Some(cid) => self.clients.session_of_cid(cid).into_iter().collect(),
            None => self
                .clients
                .iter()
                .filter(|(_, client)| client.connected)
                .map(|(session, _)| session)
                .collect(),
        };
        let mut taken = 0;
        for session in &sessions {
            taken += usize::from(self.node.push_update(now, *session, &options));
        }
        taken > 0 && (cid.is_none() || taken == sessions.len())
    }

    /// Whether the interface has a say in logins.
    pub(super) fn manage_decides(&self) -> bool {
        self.profile.management.as_ref().is_some_and(|options| options.client_auth)
    }

    /// Asks about a login.
    pub(super) fn ask_manage(&mut self, session: SessionHandle, kid: u64, login: &Login, env: &Environment) {
        let Some(client) = self.clients.get(session) else { return };
        let cid = client.cid;
        let mut env = env.clone();
        env.set("password", login.password.as_ref().map_or("", |password| password.as_str()));
        let news = if login.key == KeyId::FIRST {
            ClientNews::Connect { cid, kid }
        } else {
            ClientNews::Reauth { cid, kid }
        };
        self.tell_client(news, &env);
    }

    fn tell_client(&mut self, news: ClientNews<'_>, env: &Environment) {
        let clients = self.clients.admitted();
        let Some(manage) = &mut self.managed.manage else { return };
        let all = env.iter().chain(self.hooks.scripts.base().iter());
        // Only borrowed: there may be a password among them.
        let env: Vec<(&str, &str)> = all.collect();
        manage.notify(&Notice::Client { news, clients, env: &env });
    }

    /// What `client-auth` said about a client.
    pub(super) fn take_manage_config(&mut self, session: SessionHandle) -> Option<ClientOverrides> {
        self.managed.configs.remove(&session)
    }

    /// Tells of the addresses of a client.
    pub(super) fn tell_addresses(&mut self, session: SessionHandle, lease: &Lease) {
        let Some(client) = self.clients.get(session).filter(|_| self.manage_decides()) else { return };
        let cid = client.cid;
        let own = |net: &IpNet| {
            lease.v4().is_some_and(|v4| net.addr() == v4.local)
                || lease.v6().is_some_and(|(own, _)| net.addr() == own.addr())
        };
        for net in lease.nets() {
            let primary = own(net);
            let address =
                if primary { net.addr().to_string() } else { format!("{}/{}", net.network(), net.netmask()) };
            self.tell_client(ClientNews::Address { cid, address: &address, primary }, &Environment::new());
        }
    }

    /// Tells of a tunnel that stands.
    pub(super) fn tell_established(&mut self, session: SessionHandle) {
        let Some(client) = self.clients.get(session).filter(|_| self.manage_decides()) else { return };
        let (cid, env) = (client.cid, self.client_env(client));
        self.tell_client(ClientNews::Established { cid }, &env);
    }

    /// Tells of a client that is gone.
    pub(super) fn tell_gone(&mut self, client: &Client) {
        if self.manage_decides() {
            let env = self.gone_env(client);
            self.tell_client(ClientNews::Disconnect { cid: client.cid }, &env);
        }
    }

    /// Forgets what was said about a client that never came in.
    pub(super) fn forget_manage_config(&mut self, session: SessionHandle) {
        self.managed.configs.remove(&session);
    }

    /// Tells of an answer to a challenge.
    pub(super) fn tell_response(&mut self, session: SessionHandle, response: &str) {
        let Some(client) = self.clients.get(session).filter(|_| self.manage_decides()) else { return };
        let (cid, kid) = (client.cid, client.logins);
        let env = self.client_env(client);
        self.tell_client(ClientNews::CrResponse { cid, kid, response }, &env);
    }

    /// Tells that the server ends or begins anew.
    pub(super) fn tell_end(&mut self, signal: Signal) {
        let state = match signal {
            Signal::Int | Signal::Term => State::Exiting,
            Signal::Hup | Signal::Usr1 | Signal::Usr2 => State::Reconnecting,
        };
        self.tell_state(state, signal.name());
    }
}

pub(crate) fn moment(now: Instant) -> Moment {
    Moment { now, unix: clock::unix().as_secs() }
}
