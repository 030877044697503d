//! A server node, its application and its data plane, with clients: the input is a script of what links, clients,
//! strangers, application, data plane and clock do.
//!
//! ```text
//! 5 bytes setup | operations: u8 kind, arguments
//! ```
//!
//! A block of bytes is a length byte and so many bytes. Numbers that are too large wrap around.

mod attack;
mod setup;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::mole::{self, Words};
use super::net::{Host, Net};
use super::script::{Script, report, some_path};
use super::world::{Faults, inner_packet, secs};
use crate::clock::Instant;
use crate::config::server::ClientSettings;
use crate::directive::PeerRef;
use crate::event::Event;
use crate::event::login::{AdmitTicket, LoginTicket, Verdict};
use crate::handle::SessionHandle;
use crate::path::StreamChange;
use crate::report::Report;
use setup::Setup;

/// Operations of one input.
const MAX_OPERATIONS: usize = 150;

/// Things that may happen while time passes, in all operations together, and once more at the end.
const MAX_STEPS: usize = 3000;

/// Clients at one time.
const CLIENTS: u8 = 4;

/// What a server's application may say in earnest.
const WORDS: [&str; 12] = [
    "RESTART",
    "RESTART,[N]",
    "HALT,maintenance",
    "AUTH_FAILED",
    "AUTH_FAILED,TEMP[backoff 9]:later",
    "AUTH_PENDING,timeout 30",
    "INFO,hello",
    "INFO_PRE,CR_TEXT:E:code",
    "PUSH_REPLY,ping 1",
    "EXIT",
    "",
    "CRV1:R,E:aWQ=:dXNlcjE=:code",
];

/// What a client may say.
const REPLIES: [&[u8]; 8] = [
    b"PUSH_REQUEST\0",
    b"PUSH_REQUEST\0PUSH_REQUEST\0EXIT\0",
    b"CR_RESPONSE,eA==\0",
    b"EXIT\0",
    b"INFO,hello\0",
    b"PUSH_REPLY,ping 1\0",
    b"AUTH_FAILED\0",
    b"HALT",
];

/// Peer info that a client may have.
const INFO: [&[u8]; 6] = [
    b"IV_VER=2.4.0\nIV_PROTO=2\nIV_NCP=2\n",
    b"IV_PROTO=990\nIV_CIPHERS=AES-128-GCM\nID=7\n",
    b"IV_PROTO=8190\nIV_CIPHERS=AES-256-CBC:CHACHA20-POLY1305\nIV_MTU=1600\nID=ffffff\n",
    b"IV_PROTO=4294967295\nIV_CIPHERS=BF-CBC\nIV_MTU=99999\nID=-1\n",
    b"IV_PROTO=26\nIV_CIPHERS=AES-256-GCM\nUV_X=1\nIV_HWADDR=00:00:00:00:00:00\n",
    b"",
];

/// What the application does with questions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Accept,
    /// It thinks, and answers when the script says so.
    Hold,
    Deny,
}

/// What was said and done so far, to compare with.
struct Record {
    marks: [BTreeSet<u32>; 2],
    next_mark: u32,
    steps: usize,
    policy: Policy,
    /// Questions, answered or not; answers to any of them may come at any time.
    logins: Vec<(SessionHandle, u32)>,
    /// Sessions of which a login was accepted.
    accepted: BTreeSet<SessionHandle>,
    admits: Vec<SessionHandle>,
    /// Sessions that the application heard of, those that are gone, and the tunnels of the others.
    sessions: Vec<SessionHandle>,
    closed: BTreeSet<SessionHandle>,
    once: BTreeSet<(&'static str, SessionHandle)>,
    peers: BTreeMap<SessionHandle, PeerRef>,
    words: BTreeMap<u8, Words>,
    /// Kinds of events.
    heard: BTreeSet<&'static str>,
}

impl Record {
    fn new() -> Self {
        Self {
            marks: [BTreeSet::new(), BTreeSet::new()],
            next_mark: 0,
            steps: MAX_STEPS,
            policy: Policy::Accept,
            logins: Vec::new(),
            accepted: BTreeSet::new(),
            admits: Vec::new(),
            sessions: Vec::new(),
            closed: BTreeSet::new(),
            once: BTreeSet::new(),
            peers: BTreeMap::new(),
            words: BTreeMap::new(),
            heard: BTreeSet::new(),
        }
    }
}

/// One run.
struct Play {
    setup: Setup,
    net: Net,
    record: Record,
}

/// `data` is a script.
pub fn run(data: &[u8]) {
    play(data);
}

/// The kinds of events that the server's application was told.
fn play(data: &[u8]) -> BTreeSet<&'static str> {
    let mut script = Script::new(data);
    let setup = Setup::read(&mut script);
    let mut net = setup.net();
    net.server.node.listen(Arc::new(setup.server()));
    let mut play = Play { setup, net, record: Record::new() };
    play.drain();
    for _ in 0..MAX_OPERATIONS {
        if script.is_empty() {
            break;
        }
        play.operate(&mut script);
        play.drain();
    }
    play.finish();
    play.record.heard
}

impl Play {
    fn operate(&mut self, script: &mut Script<'_>) {
        let kind = script.byte() % 34;
        match kind {
            0 => self.pass(Duration::from_millis(u64::from(script.byte()) * 10)),
            1 => self.pass(secs(script.byte().into())),
            // As after a suspend: nothing was served in between.
            2 => self.net.now = self.net.now + secs(script.long() % 1_000_000),
            3..=6 => attack::tamper(&mut self.net, script),
            7 | 8 => attack::forge(&mut self.net, &self.setup.client(), script),
            9 => attack::inject(&mut self.net, script),
            10 => attack::seal(&mut self.net, &self.setup.client(), script),
            11..=19 => self.on_client(kind, script),
            20..=26 => self.on_session(kind, script),
            27..=30 => self.answer(kind, script),
            31 => {
                let report = self.report(script);
                self.net.server.node.handle_report(self.net.now, report);
            }
            32 => {
                self.record.policy =
                    [Policy::Accept, Policy::Hold, Policy::Deny][usize::from(script.byte() % 3)]
            }
            _ => match script.byte() % 4 {
                0 => self.net.server.node.stop_listening(),
                1 => self.net.server.node.listen(Arc::new(self.setup.server())),
                _ => {
                    let (now, node) = (self.net.now, &mut self.net.server.node);
                    if let Some(client) = self.net.clients.get(&(script.byte() % CLIENTS))
                        && let crate::Path::Stream(id) = client.path
                    {
                        node.handle_stream(now, id, StreamChange::Closed);
                    }
                }
            },
        }
    }

    /// Something that a client does.
    fn on_client(&mut self, kind: u8, script: &mut Script<'_>) {
        let (now, number) = (self.net.now, script.byte() % CLIENTS);
        if kind <= 12 {
            let words = Words::default();
            let mole = (kind == 12).then(|| words.clone());
            self.record.words.insert(number, words);
            return self.setup.join(&mut self.net, number, script.byte(), mole);
        }
        let place = self.net.address(number, script.byte() % 4);
        let taken = self.net.clients.values().any(|other| other.path == place);
        let Some(client) = self.net.clients.get_mut(&number) else { return };
        let Some(session) = client.session else { return };
        let node = &mut client.node;
        match kind {
            13 => node.renegotiate(now, session),
            14 => node.close(now, session),
            // Its machine is switched off.
            15 => drop(self.net.clients.remove(&number)),
            16 if !taken => client.path = place,
            16 => {}
            17 => {
                if let Some(words) = self.record.words.get(&number) {
                    let text = match script.byte() {
                        n @ 0..64 => REPLIES[usize::from(n) % REPLIES.len()].to_vec(),
                        n @ 64..128 => {
                            let info = INFO[usize::from(n) % INFO.len()];
                            mole::hello([b"V4,dev-type tun", b"user1", b"secret", info])
                        }
                        128..192 => {
                            mole::hello([script.block(), script.block(), script.block(), script.block()])
                        }
                        _ => script.block().to_vec(),
                    };
                    words.push(&text);
                }
            }
            18 => node.send_message(now, session, "INFO,x"),
            _ => self.send_inner(number),
        }
    }

    /// Something that the application does with a session, which may be gone.
    fn on_session(&mut self, kind: u8, script: &mut Script<'_>) {
        let (now, node) = (self.net.now, &mut self.net.server.node);
        let back = usize::from(script.byte() % 8);
        let Some(&session) = self.record.sessions.iter().rev().nth(back) else { return };
        match kind {
            20 => node.renegotiate(now, session),
            21 => node.dismiss(now, session, WORDS[usize::from(script.byte()) % WORDS.len()]),
            22 if script.byte() < 128 => node.abort(now, session),
            22 => node.close(now, session),
            23 => {
                let _ = node.push_update(now, session, &push(script));
            }
            24 => node.set_routes(now, session, routes(script)),
            25 => node.send_message(now, session, WORDS[usize::from(script.byte()) % WORDS.len()]),
            _ => node.dismiss(now, session, &String::from_utf8_lossy(script.block())),
        }
    }

    /// Answers to questions that were asked, or were not.
    fn answer(&mut self, kind: u8, script: &mut Script<'_>) {
        let (now, node) = (self.net.now, &mut self.net.server.node);
        let (back, other) = (usize::from(script.byte() % 8), script.byte());
        let login = self.record.logins.iter().rev().nth(back).copied();
        let ticket = login.map(|(session, serial)| LoginTicket {
            session,
            serial: serial.wrapping_add(u32::from(other < 8)),
        });
        match (kind, ticket) {
            (27, Some(ticket)) => {
                let verdict = match other % 4 {
                    0 | 1 => Verdict::Accept,
                    2 => Verdict::Deny(WORDS[usize::from(script.byte()) % WORDS.len()].into()),
                    _ => Verdict::Drop,
                };
                if verdict == Verdict::Accept && self.record.logins.contains(&(ticket.session, ticket.serial))
                {
                    self.record.accepted.insert(ticket.session);
                }
                node.answer_login(now, ticket, verdict);
            }
            (28, Some(ticket)) => {
                let method = String::from_utf8_lossy(script.block()).into_owned();
                node.defer_login(now, &ticket, secs(script.long()), &method);
            }
            (29 | 30, _) => {
                let sessions = if other < 192 { &self.record.admits } else { &self.record.sessions };
                let Some(&session) = sessions.iter().rev().nth(back) else { return };
                let settings = match other % 8 {
                    0 => Err(String::from_utf8_lossy(script.block()).into_owned()),
                    _ => Ok(settings(script)),
                };
                node.admit(now, AdmitTicket { session }, settings);
            }
            _ => {}
        }
    }

    fn send_inner(&mut self, number: u8) {
        for (end, at) in [(0, 12), (1, 16)] {
            self.record.next_mark += 1;
            let mut inner = inner_packet(self.record.next_mark);
            inner[at..at + 4].copy_from_slice(&[10, 8, 0, number]);
            let sent = if end == 0 { self.net.send_up(number, &inner) } else { self.net.send_down(&inner) };
            if sent {
                self.record.marks[end].insert(self.record.next_mark);
            }
        }
    }

    fn report(&self, script: &mut Script<'_>) -> Report {
        let known = |who| self.record.peers.values().nth(usize::from(who % 4)).copied();
        report(script, known, |script, key| {
            let client = self.net.clients.get(&(key.get() % CLIENTS)).map(|client| client.path);
            client.unwrap_or_else(|| some_path(script))
        })
    }

    /// Lets time pass as long as the budget lasts.
    fn pass(&mut self, time: Duration) {
        let end = self.net.now + time;
        self.pass_until(end, |_| false);
    }

    fn pass_until(&mut self, end: Instant, done: impl Fn(&Net) -> bool) {
        while self.record.steps > 0 && !done(&self.net) && self.net.step(end) {
            self.record.steps -= 1;
            self.drain();
        }
    }

    /// Drains all machines and plays the application, until there is nothing left to do.
    fn drain(&mut self) {
        for round in 0.. {
            assert!(round < 64, "machines and application chase each other");
            let busy = self.net.drain();
            self.inspect();
            if !busy {
                break;
            }
        }
        let deadline = self.net.server.node.deadline();
        assert!(deadline.is_none_or(|deadline| deadline.at > self.net.now), "drained, and yet {deadline:?}");
        let sessions = self.net.server.node.sessions();
        assert!(sessions <= self.setup.max_clients(), "{sessions} sessions");
    }

    /// What holds after every drain; takes the news out of the net, and answers questions.
    fn inspect(&mut self) {
        for event in core::mem::take(&mut self.net.server.events) {
            self.on_event(event);
        }
        let clients = self.net.clients.values_mut().map(|client| (1, client));
        for (end, host) in clients.chain([(0, &mut self.net.server)]) {
            for packet in host.inner.drain(..) {
                let mark = packet.last_chunk().map(|bytes| u32::from_be_bytes(*bytes)).unwrap_or_default();
                assert!(self.record.marks[end].remove(&mark), "packet {mark} arrived twice, or from nowhere");
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let (now, node, record) = (self.net.now, &mut self.net.server.node, &mut self.record);
        let asks = self.setup.asks();
        let mut said = |session, name| {
            assert!(!record.closed.contains(&session), "{name} after the end");
            record.heard.insert(name);
            if !record.sessions.contains(&session) {
                record.sessions.push(session);
            }
        };
        match event {
            Event::Login(ticket, login) => {
                said(ticket.session, "Login");
                assert!(asks, "a question that nobody wanted");
                assert_eq!(login.session, ticket.session);
                record.logins.push((ticket.session, ticket.serial));
                match record.policy {
                    Policy::Accept => {
                        record.accepted.insert(ticket.session);
                        node.answer_login(now, ticket, Verdict::Accept);
                    }
                    Policy::Deny => node.answer_login(now, ticket, Verdict::Deny("no".into())),
                    Policy::Hold => {}
                }
            }
            Event::Admit(ticket, admission) => {
                said(ticket.session, "Admit");
                assert!(record.once.insert(("Admit", ticket.session)), "asked twice");
                // By a token nobody comes in at first: no client has one when it begins.
                assert!(!asks || record.accepted.contains(&ticket.session), "let in without a verdict");
                record.admits.push(ticket.session);
                let number = self.net.clients.iter().find(|(_, client)| client.path == admission.path);
                let settings = usual(number.map_or(99, |(&number, _)| number));
                match record.policy {
                    Policy::Accept => node.admit(now, ticket, Ok(settings)),
                    Policy::Deny => node.admit(now, ticket, Err("no".into())),
                    Policy::Hold => {}
                }
            }
            Event::Established { session, peer, .. } => {
                said(session, "Established");
                assert!(record.once.insert(("Established", session)), "up twice");
                assert!(record.once.contains(&("Admit", session)), "up without leave");
                record.peers.insert(session, peer);
            }
            Event::Closed { session, .. } => {
                said(session, "Closed");
                record.closed.insert(session);
                record.peers.remove(&session);
            }
            Event::TlsReady { session, .. } => said(session, "TlsReady"),
            Event::Rekeyed { session, .. } => said(session, "Rekeyed"),
            Event::ControlLost { session, .. } => said(session, "ControlLost"),
            Event::Floated { session, .. } => said(session, "Floated"),
            Event::Incoming { session, .. } => said(session, "Incoming"),
            Event::Pushed { session, .. } => said(session, "Pushed"),
            Event::ChallengeResponse { session, .. } => said(session, "ChallengeResponse"),
            Event::Reached { session, .. } => said(session, "Reached"),
            Event::Warning { session, .. } => said(session, "Warning"),
            Event::Unwelcome(_) => {}
            other => panic!("no event of a server: {other:?}"),
        }
    }

    /// On good links with a willing application everybody comes up or learns why not, and a new client comes up.
    fn finish(&mut self) {
        self.net.faults = Faults::default();
        self.record.policy = Policy::Accept;
        let now = self.net.now;
        for (session, serial) in core::mem::take(&mut self.record.logins) {
            self.record.accepted.insert(session);
            self.net.server.node.answer_login(now, LoginTicket { session, serial }, Verdict::Accept);
        }
        for session in core::mem::take(&mut self.record.admits) {
            self.net.server.node.admit(now, AdmitTicket { session }, Ok(usual(99)));
        }
        self.net.server.node.listen(Arc::new(self.setup.server()));
        self.drain();
        self.record.steps = MAX_STEPS * 4;
        self.pass_until(now + secs(4000), |net| net.clients.values().all(is_decided));
        for (number, client) in &self.net.clients {
            assert!(is_decided(client), "client {number} is neither up nor closed");
        }
        self.close_all();
        self.net.clients.clear();
        self.net.link.clear();
        self.net.now = self.net.now + secs(100);
        self.drain();
        self.setup.join(&mut self.net, CLIENTS, 0, None);
        self.drain();
        self.record.steps = MAX_STEPS;
        self.pass_until(self.net.now + secs(5), |net| is_decided(&net.clients[&CLIENTS]));
        let client = &self.net.clients.get(&CLIENTS);
        assert!(client.is_some_and(|client| client.peer.is_some()), "{:?}", self.net.server.node.drops());
        self.pass(secs(3));
        self.send_inner(CLIENTS);
        self.pass(secs(3));
        let lost = self.record.marks.iter().any(|marks| marks.contains(&self.record.next_mark));
        assert!(!lost, "the tunnel carries nothing");
        self.close_all();
        assert!(
            self.net.server.ledger.is_empty(),
            "a session is over and its peer is still in the data plane"
        );
    }

    fn close_all(&mut self) {
        for session in self.record.sessions.clone() {
            self.net.server.node.abort(self.net.now, session);
        }
        self.drain();
        assert_eq!(self.net.server.node.sessions(), 0, "a session that nobody heard of");
        assert_eq!(self.net.server.node.deadline(), None, "nobody is there, and yet a deadline");
    }
}

/// It came up, or learned why not.
fn is_decided(client: &Host) -> bool {
    client.peer.is_some() || !client.closed().is_empty()
}

fn usual(number: u8) -> ClientSettings {
    let inner = format!("10.8.0.{number}/32").parse().expect("a network");
    ClientSettings { push: vec!["ping 10".into()], routes: vec![inner], ..ClientSettings::default() }
}

/// Options of any length and number.
fn push(script: &mut Script<'_>) -> Vec<String> {
    let (count, width) = (usize::from(script.byte()), usize::from(script.byte()));
    let text = String::from_utf8_lossy(script.block()).into_owned();
    let line = format!("{text}{}", "x".repeat(width * 8));
    let words =
        ["ping 10", "ifconfig 10.8.0.2 255.255.255.0", "peer-id 7", "cipher AES-128-GCM", "auth-token x"];
    let word = words[count % words.len()].to_owned();
    core::iter::once(word).chain(core::iter::repeat_n(line, count % 64)).collect()
}

fn routes(script: &mut Script<'_>) -> Vec<ipnet::IpNet> {
    let nets = script.block().chunks(2);
    nets.filter_map(|net| format!("10.8.{}.0/{}", net[0], net.last()? % 33).parse().ok()).collect()
}

fn settings(script: &mut Script<'_>) -> ClientSettings {
    let (push, routes) = (push(script), routes(script));
    let time = script.byte();
    let session_timeout = (time & 1 != 0).then(|| secs(script.long()));
    let inactive = (time & 2 != 0).then(|| (secs(script.long()), script.long()));
    ClientSettings { push, routes, session_timeout, inactive, ..ClientSettings::default() }
}

#[cfg(test)]
mod tests;
