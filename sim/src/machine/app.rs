//! The application beside a node: it answers questions, gives out addresses, and calls again.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::collections::BTreeMap;

use oxivpn_proto::event::login::{LoginTicket, Verdict};
use oxivpn_proto::options::pushed::Pushed;
use oxivpn_proto::pool::{Addressing, ClientOverrides, IfconfigPush, Lease};
use oxivpn_proto::{CloseCause, Event, Instant, Path, PeerRef, SessionHandle, StreamId};

use super::role::{Role, password};
use super::{Action, Machine};
use crate::seed::Purpose;
use crate::trace::What;

/// What stands before the number of a control message.
const MESSAGE: &str = "message ";

/// Byte streams are numbered so that those of the two directions never meet.
const ACCEPTED: u64 = 1 << 32;

/// What an application knows.
pub(super) struct App {
    addressing: Option<Addressing>,
    pub(super) tunnels: BTreeMap<SessionHandle, Tunnel>,
    /// Sessions whose client was let in, but which are not up yet.
    guests: BTreeMap<SessionHandle, (String, Lease)>,
    /// Answers to logins, by when they are given.
    answers: BTreeMap<(Instant, u64), (LoginTicket, Verdict)>,
    asked: u64,
    /// The session of the calling side.
    session: Option<SessionHandle>,
    /// Byte streams that sessions are on.
    lines: BTreeMap<SessionHandle, StreamId>,
    call_at: Option<Instant>,
    /// Attempts since the tunnel was up.
    failed: u32,
    calls: u64,
    streams: u64,
    accepted: u64,
    /// How sessions ended, over all starts.
    pub(super) ends: Ends,
    /// Inner address, once it is known.
    pub(super) address: Option<IpAddr>,
}

/// How sessions ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Nothing was heard for `ping-restart`.
    pub silence: u64,
    /// TLS broke.
    pub tls: u64,
    /// The other end said that it leaves.
    pub exits: u64,
}

/// A tunnel that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// In the data plane.
    pub peer: PeerRef,
    /// Common name of the other end; empty at a client.
    pub name: String,
    /// Inner address of the client, at a server.
    pub address: Option<IpAddr>,
    /// When it came up.
    pub since: Instant,
}

impl App {
    pub(super) fn new(role: &Role) -> Self {
        let addressing = match role {
            Role::Server(server) => {
                Addressing::new(server.plan.clone()).ok().map(|(addressing, _)| addressing)
            }
            Role::Client(_) | Role::Peer(_) => None,
        };
        Self {
            addressing,
            tunnels: BTreeMap::new(),
            guests: BTreeMap::new(),
            answers: BTreeMap::new(),
            asked: 0,
            session: None,
            lines: BTreeMap::new(),
            call_at: None,
            failed: 0,
            calls: 0,
            streams: 0,
            accepted: 0,
            ends: Ends::default(),
            address: own_address(role),
        }
    }

    /// After a restart. Ports and streams are not used again.
    pub(super) fn reset(&mut self, role: &Role) {
        let (calls, asked, streams, accepted) = (self.calls, self.asked, self.streams, self.accepted);
        *self = Self { calls, asked, streams, accepted, ends: self.ends, ..Self::new(role) };
    }

    pub(super) fn call_at(&mut self, at: Instant) {
        self.call_at = Some(at);
    }

    fn note_line(&mut self, session: SessionHandle, path: Path) {
        if let Path::Stream(id) = path {
            self.lines.insert(session, id);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let answer = self.answers.first_key_value().map(|((at, _), _)| *at);
        [answer, self.call_at].into_iter().flatten().min()
    }

    pub(super) fn peer_is_known(&self, peer: PeerRef) -> bool {
        self.tunnels.values().any(|tunnel| tunnel.peer == peer)
    }
}

/// `ifconfig-push` of a name that ends in a number.
fn fixed_address(name: &str) -> ClientOverrides {
    let number = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(u8::MAX);
    let local = Ipv4Addr::new(10, 8, 200, number);
    let remote_or_netmask = Ipv4Addr::new(255, 255, 0, 0);
    ClientOverrides {
        ifconfig_push: Some(IfconfigPush { local, remote_or_netmask, alias: None }),
        ..ClientOverrides::default()
    }
}

fn own_address(role: &Role) -> Option<IpAddr> {
    match role {
        Role::Server(server) => server.plan.own.map(IpAddr::V4),
        Role::Client(_) => None,
        Role::Peer(peer) => Some(peer.inner.0),
    }
}

impl Machine {
    /// Its inner address, if it has one now.
    pub fn address(&self) -> Option<IpAddr> {
        self.app.address
    }

    /// The tunnels that are up.
    pub fn tunnels(&self) -> impl Iterator<Item = (SessionHandle, &Tunnel)> + '_ {
        self.app.tunnels.iter().map(|(&session, tunnel)| (session, tunnel))
    }

    /// How often it has called.
    pub fn calls(&self) -> u64 {
        self.app.calls
    }

    /// How its sessions ended so far.
    pub fn ends(&self) -> Ends {
        self.app.ends
    }

    /// Sends a numbered control message to a client.
    pub(crate) fn send_message(&mut self, now: Instant, session: SessionHandle, number: u64) {
        self.node.send_message(now, session, &format!("INFO,{MESSAGE}{number}"));
        self.drain(now);
    }

    /// Takes a stream that another machine opened.
    pub(crate) fn accept(&mut self) -> StreamId {
        self.app.accepted += 1;
        StreamId(ACCEPTED + self.app.accepted)
    }

    pub(super) fn run_application(&mut self, now: Instant) {
        while self.app.answers.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            if let Some((_, (ticket, verdict))) = self.app.answers.pop_first() {
                self.node.answer_login(now, ticket, verdict);
            }
        }
        if self.app.call_at.is_some_and(|at| at <= now) {
            self.app.call_at = None;
            self.call(now);
        }
    }

    fn call(&mut self, now: Instant) {
        let Some((remote, stream, retry)) = self.role.calls() else { return };
        let path = if stream {
            self.app.streams += 1;
            let id = StreamId(self.app.streams);
            self.actions.push_back(Action::Dial { id });
            Path::Stream(id)
        } else {
            if retry.fresh_socket && self.app.calls > 0 {
                self.actions.push_back(Action::FreshSocket);
            }
            Path::udp(0, remote)
        };
        self.app.calls += 1;
        let session = match &self.role {
            Role::Client(client) => {
                self.node.connect(now, path, client.config.clone(), client.credentials.clone())
            }
            Role::Peer(peer) => self.node.connect_peer(now, path, std::sync::Arc::new(peer.config.clone())),
            Role::Server(_) => return,
        };
        match session {
            Ok(session) => {
                self.news(What::Connecting { session: session.get() });
                self.app.session = Some(session);
                self.app.note_line(session, path);
            }
            Err(error) => self.judge(Err(format!("connect: {error}"))),
        }
    }

    pub(super) fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Incoming { session, path, .. } => {
                self.actions.extend(path.remote().map(Action::Incoming));
                self.app.note_line(session, path);
                // Packets of a session that is over may begin one with the same ids, to which they are new.
                self.seen.clear();
            }
            Event::Login(ticket, login) => {
                let Role::Server(server) = &self.role else { return };
                let right = password(server.login.secret);
                let good = login.password.as_ref().is_some_and(|given| **given == right);
                let verdict = if good { Verdict::Accept } else { Verdict::Deny(String::new()) };
                let mut draws = self.seeds.draws(Purpose::When, 1, self.app.asked);
                let at = now + draws.time(Duration::ZERO, server.login.delay);
                self.app.asked += 1;
                self.app.answers.insert((at, self.app.asked), (ticket, verdict));
                self.run_application(now);
            }
            Event::Admit(ticket, client) => {
                let Some(addressing) = &mut self.app.addressing else { return };
                let fixed = matches!(&self.role, Role::Server(server) if server.fixed);
                let overrides = fixed.then(|| fixed_address(&client.common_name));
                let settings = match addressing.admit(&client.common_name, overrides.as_slice()) {
                    Ok((granted, lease)) => {
                        self.app.guests.insert(client.session, (client.common_name, lease));
                        Ok(granted.settings)
                    }
                    Err(refusal) => Err(refusal.to_string()),
                };
                self.node.admit(now, ticket, settings);
            }
            Event::Configure { options, .. } => {
                self.app.address = options.iter().find_map(|option| match option {
                    Pushed::Ifconfig(local, _) => Some(IpAddr::V4(*local)),
                    _ => None,
                });
            }
            Event::Established { session, peer, params, flags, .. } => {
                let guest = self.app.guests.get(&session);
                let name = guest.map(|(name, _)| name.clone()).unwrap_or_default();
                let address = guest.and_then(|(_, lease)| lease.v4()).map(|v4| IpAddr::V4(v4.local));
                if let Role::Server(server) = &self.role {
                    let twice = self.app.tunnels.values().any(|tunnel| tunnel.name == name);
                    let holds = !twice || server.config.duplicate_cn;
                    self.check(holds, || format!("{name} has two tunnels"));
                }
                self.app.failed = 0;
                self.app.tunnels.insert(session, Tunnel { peer, name, address, since: now });
                let summary = format!("{:?} {flags}", params.cipher);
                self.news(What::Established { session: session.get(), summary });
            }
            Event::Floated { session, to } => {
                self.news(What::Floated { session: session.get(), to: format!("{to:?}") });
            }
            Event::Rekeyed { session, key } => {
                self.news(What::Note(format!("session {}: new key {}", session.get(), key.get())));
            }
            Event::Message { text, .. } => {
                let number = text.rsplit(MESSAGE).next().and_then(|number| number.parse().ok());
                self.actions.extend(number.map(Action::Message));
            }
            Event::Closed { session, cause } => self.closed(now, session, &cause),
            _ => {}
        }
    }

    fn closed(&mut self, now: Instant, session: SessionHandle, cause: &CloseCause) {
        self.news(What::Closed { session: session.get(), cause: cause.to_string() });
        self.app.tunnels.remove(&session);
        match cause {
            CloseCause::PingRestart => self.app.ends.silence += 1,
            CloseCause::Tls(_) => self.app.ends.tls += 1,
            CloseCause::PeerExit => self.app.ends.exits += 1,
            _ => {}
        }
        if let Some((_, lease)) = self.app.guests.remove(&session)
            && let Some(addressing) = &mut self.app.addressing
        {
            addressing.give_back(lease);
        }
        if let Some(id) = self.app.lines.remove(&session) {
            self.actions.push_back(Action::HangUp { id });
        }
        if self.app.session != Some(session) {
            return;
        }
        self.app.session = None;
        if matches!(self.role, Role::Client(_)) {
            self.app.address = None;
        }
        let Some((.., retry)) = self.role.calls() else { return };
        let pause = (retry.first * (1 << self.app.failed.min(8))).min(retry.last);
        self.app.failed += 1;
        // As programs do: not all at the same moment.
        let jitter = self.seeds.draws(Purpose::Jitter, 0, self.app.calls).time(Duration::ZERO, pause / 4);
        self.app.call_at(now + pause + jitter);
    }
}
