//! A server with clients: the input is a script of what links, clients, strangers, application and clock do.
//!
//! ```text
//! 2 bytes setup | operations: u8 kind, arguments
//! ```
//!
//! A block of bytes is a length byte and so many bytes. Numbers that are too large wrap around.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::ledger::Ledger;
use super::script::Script;
use super::world::{config, key, secs};
use crate::clock::{Anchor, Instant};
use crate::config::params::ReplayWindow;
use crate::config::server::{ClientSettings, LoginPolicy, Rate, ServerConfig, TokenConfig};
use crate::config::{Credentials, NodeConfig, PingTimeout};
use crate::data::{HEADROOM, Slot, TAILROOM};
use crate::event::Event;
use crate::event::login::{AdmitTicket, LoginTicket, Verdict};
use crate::handle::SessionHandle;
use crate::keys::data_key::TlsRole;
use crate::limits::MAX_CONTROL_DATAGRAM;
use crate::node::Node;
use crate::path::Path;
use crate::plane::local::LocalPlane;
use crate::plane::{Capabilities, DataPlane as _};
use crate::tls::fake::FakeFactory;
use crate::wire::data::{Peek, peek};
use crate::wire::ids::SessionId;
use crate::wrap::static_key::{HmacDigest, KeyDirection};
use crate::wrap::{Wrap, WrapConfig};

const MAX_OPERATIONS: usize = 200;
const MAX_IN_FLIGHT: usize = 200;
const MAX_CLIENTS: usize = 3;

/// Deliveries and timeouts, in all operations together.
const MAX_STEPS: usize = 3000;

const UNIX: u64 = 1_700_000_000;

struct Machine {
    node: Node,
    plane: LocalPlane,
    ledger: Ledger,
}

impl Machine {
    fn new(seed: u8, now: Instant) -> Self {
        let node = Arc::new(NodeConfig { capabilities: Capabilities::USERSPACE });
        let node = Node::new(node, [seed; 32], Anchor::new(now, secs(UNIX)));
        Self { node, plane: LocalPlane::new(), ledger: Ledger::default() }
    }

    fn take(&mut self, now: Instant, from: Path, packet: &mut [u8]) -> bool {
        if matches!(peek(packet), Peek::Data(_)) {
            return self.plane.open(now, from, packet).is_ok();
        }
        self.node.handle_datagram(now, from, packet);
        false
    }

    fn outgoing(&mut self, now: Instant) -> Vec<(Path, Vec<u8>)> {
        loop {
            while let Some(order) = self.node.poll_directive() {
                self.ledger.enter(&order);
                self.plane.apply(now, order);
            }
            let Some(report) = self.plane.poll_report() else { break };
            self.node.handle_report(now, report);
        }
        let (mut sent, mut out) = (Vec::new(), [0; MAX_CONTROL_DATAGRAM]);
        loop {
            let transmit = self.node.poll_transmit(now, &mut out);
            let Some(transmit) = transmit.or_else(|| self.plane.poll_transmit(now, &mut out)) else {
                return sent;
            };
            sent.push((transmit.path, out[..transmit.len].to_vec()));
        }
    }
}

struct Client {
    machine: Machine,
    session: Option<SessionHandle>,
    /// Its session id on the wire, as strangers see it.
    id: Option<SessionId>,
}

/// A packet in flight.
struct Packet {
    client: u8,
    to_server: bool,
    bytes: Vec<u8>,
}

struct Yard {
    now: Instant,
    steps: usize,
    wrap: WrapConfig,
    insider: Wrap,
    asks: bool,
    server: Machine,
    clients: BTreeMap<u8, Client>,
    link: VecDeque<Packet>,
    logins: VecDeque<(SessionHandle, LoginTicket)>,
    admissions: VecDeque<AdmitTicket>,
    /// Sessions of the server that have not ended; whether an answer let them in.
    live: BTreeMap<SessionHandle, bool>,
    established: BTreeSet<SessionHandle>,
    joined: u8,
    came_up: usize,
}

/// `data` is a script.
pub fn run(data: &[u8]) {
    play(data);
}

/// How many sessions were established.
fn play(data: &[u8]) -> usize {
    let mut script = Script::new(data);
    let mut yard = Yard::new(script.byte(), script.byte());
    yard.join(1);
    for _ in 0..MAX_OPERATIONS {
        if script.is_empty() {
            break;
        }
        yard.operate(&mut script);
        yard.drain();
    }
    yard.finish();
    yard.came_up
}

fn address(client: u8) -> Path {
    Path::udp(0, SocketAddr::from(([10, 0, 0, client], 1194)))
}

fn server_address() -> Path {
    Path::udp(0, SocketAddr::from(([192, 0, 2, 1], 1194)))
}

impl Yard {
    fn new(flags: u8, timing: u8) -> Self {
        let wrap = match flags & 3 {
            0 => WrapConfig::None,
            1 => WrapConfig::TlsAuth {
                key: key(),
                direction: KeyDirection::Bidirectional,
                digest: HmacDigest::Sha256,
            },
            _ => WrapConfig::TlsCrypt { key: key() },
        };
        let mut config = ServerConfig::new(wrap.clone(), Arc::new(FakeFactory::new()));
        config.max_clients = MAX_CLIENTS;
        config.ask_login = flags & 4 != 0;
        config.login =
            [LoginPolicy::None, LoginPolicy::Optional, LoginPolicy::Required, LoginPolicy::Optional]
                [usize::from(flags >> 3 & 3)];
        config.duplicate_cn = flags & 0x20 == 0;
        config.username_as_common_name = flags & 0x40 != 0;
        config.token = (flags & 0x80 != 0).then(|| TokenConfig {
            lifetime: Some(secs(300)),
            renewal: secs(60),
            external: timing & 0x80 != 0,
            secret: Zeroizing::new([9; 32]),
        });
        if timing & 0x40 != 0 {
            config.connect_rate = Some(Rate { events: 3, period: secs(10) });
        }
        let pick = |shift: u8, choice: [u64; 4]| choice[usize::from(timing >> shift & 3)];
        config.channel.timing.reneg = secs(pick(0, [3600, 0, 4, 60]));
        config.channel.timing.hand_window = secs(pick(2, [60, 600, 5, 1]));
        config.channel.timing.reneg_packets = pick(4, [0, 0, 3, 1]);
        config.channel.keepalive.timeout = Some(PingTimeout::Restart(secs(120)));
        let now = Instant::from_nanos(1_000_000_000);
        let mut server = Machine::new(1, now);
        let insider = Wrap::new(&wrap, TlsRole::Client, UNIX as u32 + 1000, ReplayWindow::DEFAULT);
        let asks = config.ask_login;
        server.node.listen(Arc::new(config));
        Self {
            now,
            steps: 0,
            wrap,
            insider,
            asks,
            server,
            clients: BTreeMap::new(),
            link: VecDeque::new(),
            logins: VecDeque::new(),
            admissions: VecDeque::new(),
            live: BTreeMap::new(),
            established: BTreeSet::new(),
            joined: 0,
            came_up: 0,
        }
    }

    /// A client at an address, which may have been another's.
    fn join(&mut self, number: u8) {
        self.joined = self.joined.wrapping_add(1);
        let mut machine = Machine::new(self.joined.wrapping_add(50), self.now);
        let (username, password) = ("alice".into(), Zeroizing::new("secret".into()));
        let login = (number != 2).then_some(Credentials { username, password, is_token: false });
        let config = Arc::new(config(self.wrap.clone()));
        let session = machine.node.connect(self.now, server_address(), config, login).ok();
        self.clients.insert(number, Client { machine, session, id: None });
        self.drain();
    }

    fn operate(&mut self, script: &mut Script<'_>) {
        let now = self.now;
        match script.byte() % 24 {
            0 => self.pass(Duration::from_millis(u64::from(script.byte()) * 10)),
            1 => self.pass(secs(script.byte().into())),
            2..=4 => self.carry(usize::from(script.byte() % 16) + 1),
            5 => self.tamper(script),
            6 | 7 => self.forge(script),
            8 => self.stranger(script),
            9 => self.answer(script.byte()),
            10 => self.admit(script),
            11 => self.join(script.byte() % 4 + 1),
            12 => {
                if let (Some(session), node) = (self.pick(script.byte()), &mut self.server.node) {
                    node.renegotiate(now, session);
                }
            }
            13 => self.of_client(script.byte(), |node, session| node.renegotiate(now, session)),
            14 => self.of_client(script.byte(), |node, session| node.close(now, session)),
            15 => self.of_client(script.byte(), |node, session| node.abort(now, session)),
            16 => self.say(script),
            17 => {
                if let Some(session) = self.pick(script.byte()) {
                    self.server.node.dismiss(now, session, "RESTART");
                }
            }
            18 => {
                if let Some(session) = self.pick(script.byte()) {
                    self.server.node.abort(now, session);
                }
            }
            19 | 20 => self.data(script.byte()),
            21 => {
                if let Some((_, ticket)) = self.logins.front() {
                    self.server.node.defer_login(now, ticket, secs(script.byte().into()), "CR_TEXT:E:code");
                }
            }
            22 => self.of_client(script.byte(), |node, session| {
                node.send_message(now, session, "CR_RESPONSE,c2VjcmV0");
            }),
            _ => self.now = now + secs(script.long() % 10_000_000),
        }
    }

    fn of_client(&mut self, number: u8, act: impl FnOnce(&mut Node, SessionHandle)) {
        if let Some(client) = self.clients.get_mut(&(number % 4 + 1))
            && let Some(session) = client.session
        {
            act(&mut client.machine.node, session);
        }
    }

    fn pick(&self, n: u8) -> Option<SessionHandle> {
        let count = self.live.len();
        (count > 0).then(|| self.live.keys().nth(usize::from(n) % count).copied()).flatten()
    }

    /// The application's verdict on the oldest or newest question.
    fn answer(&mut self, kind: u8) {
        let next = if kind & 8 == 0 { self.logins.pop_front() } else { self.logins.pop_back() };
        let Some((session, ticket)) = next else { return };
        let verdict = match kind % 4 {
            0 => Verdict::Deny("no".into()),
            1 => Verdict::Drop,
            _ => Verdict::Accept,
        };
        if verdict == Verdict::Accept
            && let Some(granted) = self.live.get_mut(&session)
        {
            *granted = true;
        }
        self.server.node.answer_login(self.now, ticket, verdict);
    }

    fn admit(&mut self, script: &mut Script<'_>) {
        let kind = script.byte();
        let Some(ticket) = self.admissions.pop_front() else { return };
        let settings = match kind % 4 {
            0 => Err("full".into()),
            1 => Ok(ClientSettings {
                push: vec![String::from_utf8_lossy(script.block()).into_owned(); usize::from(kind >> 4)],
                ..ClientSettings::default()
            }),
            _ => {
                let inner = format!("10.8.0.{}/32", kind >> 2).parse();
                let push = vec!["ifconfig 10.8.0.2 255.255.255.0".into(), "ping 10".into()];
                let inactive = (kind & 0x80 != 0).then_some((secs(5), 100));
                Ok(ClientSettings {
                    push,
                    routes: inner.into_iter().collect(),
                    inactive,
                    ..ClientSettings::default()
                })
            }
        };
        self.server.node.admit(self.now, ticket, settings);
    }

    fn say(&mut self, script: &mut Script<'_>) {
        let Some(session) = self.pick(script.byte()) else { return };
        let text = String::from_utf8_lossy(script.block()).into_owned();
        if script.byte() & 1 == 0 {
            self.server.node.send_message(self.now, session, &text);
        } else {
            self.server.node.push_update(self.now, session, &[text]);
        }
    }

    /// Does something to a packet in flight.
    fn tamper(&mut self, script: &mut Script<'_>) {
        let (kind, pick) = (script.byte(), usize::from(script.byte()));
        let count = self.link.len();
        let Some(mut packet) = (count > 0).then(|| self.link.remove(pick % count)).flatten() else { return };
        let place = usize::from(script.word());
        match kind % 5 {
            0 => {}
            1 => self.deliver(packet),
            2 => {
                let Packet { client, to_server, ref bytes } = packet;
                self.link.push_back(Packet { client, to_server, bytes: bytes.clone() });
                self.deliver(packet);
            }
            3 => {
                let at = place % packet.bytes.len();
                packet.bytes[at] ^= script.byte();
                self.deliver(packet);
            }
            _ => {
                packet.bytes.truncate(place % (packet.bytes.len() + 1));
                self.deliver(packet);
            }
        }
    }

    /// A control packet under the right keys, in the name of a client or of nobody.
    fn forge(&mut self, script: &mut Script<'_>) {
        let (header, who) = (script.byte(), script.byte());
        let number = who % 4 + 1;
        let id = self.clients.get(&number).and_then(|client| client.id).filter(|_| who & 0x80 == 0);
        let Some(id) = id.or_else(|| SessionId::new([5; 8])) else { return };
        let mut packet = Vec::new();
        self.insider.seal(UNIX as u32 + 1000, header, id, script.block(), &mut packet);
        let from = if who & 0x40 == 0 { address(number) } else { address(99) };
        self.server.take(self.now, from, &mut packet);
    }

    /// Bytes that nobody sealed.
    fn stranger(&mut self, script: &mut Script<'_>) {
        let from = address(script.byte() % 8);
        let mut bytes = script.block().to_vec();
        let opened = self.server.take(self.now, from, &mut bytes);
        assert!(!opened, "a datagram that nobody sealed was accepted");
    }

    /// Inner packets from a client.
    fn data(&mut self, who: u8) {
        let number = who % 4 + 1;
        let Some(client) = self.clients.get_mut(&number) else { return };
        let mut inner = [0; 24];
        inner[0] = 0x45;
        inner[12..16].copy_from_slice(&[10, 8, 0, who >> 2]);
        let Some(peer) = client.machine.plane.lookup(&inner) else { return };
        let mut buffer = [0; HEADROOM + 24 + TAILROOM];
        buffer[HEADROOM..HEADROOM + 24].copy_from_slice(&inner);
        if let Ok(sealed) =
            client.machine.plane.seal(self.now, peer, &mut Slot::new(&mut buffer, HEADROOM, 24))
        {
            let bytes = buffer[sealed.start..sealed.start + sealed.len].to_vec();
            self.link.push_back(Packet { client: number, to_server: true, bytes });
        }
    }

    fn deliver(&mut self, mut packet: Packet) {
        self.steps += 1;
        if packet.to_server {
            self.server.take(self.now, address(packet.client), &mut packet.bytes);
        } else if let Some(client) = self.clients.get_mut(&packet.client) {
            client.machine.take(self.now, server_address(), &mut packet.bytes);
        }
        self.drain();
    }

    fn carry(&mut self, count: usize) {
        for _ in 0..count {
            match self.link.pop_front() {
                Some(packet) if self.steps < MAX_STEPS => self.deliver(packet),
                _ => return,
            }
        }
    }

    /// Carries all packets and lets time pass, as long as the budget lasts.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.steps < MAX_STEPS {
            self.carry(MAX_STEPS);
            let machines = self.clients.values().map(|client| &client.machine).chain([&self.server]);
            let next =
                machines.filter_map(|machine| machine.node.deadline()).map(|deadline| deadline.at).min();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            self.steps += 1;
            self.now = self.now.max(next);
            self.drain();
        }
        self.now = self.now.max(end);
    }

    /// Whatever is due and has to go out, until all are silent.
    fn drain(&mut self) {
        self.server.node.handle_timeout(self.now);
        for client in self.clients.values_mut() {
            client.machine.node.handle_timeout(self.now);
        }
        loop {
            let mut sent = Vec::new();
            for (path, bytes) in self.server.outgoing(self.now) {
                let client = match path.remote() {
                    Some(SocketAddr::V4(remote)) => remote.ip().octets()[3],
                    _ => 0,
                };
                sent.push(Packet { client, to_server: false, bytes });
            }
            for (&number, client) in &mut self.clients {
                for (_, bytes) in client.machine.outgoing(self.now) {
                    client.id =
                        bytes.get(1..9).and_then(|id| SessionId::new(id.try_into().ok()?)).or(client.id);
                    sent.push(Packet { client: number, to_server: true, bytes });
                }
                while client.machine.node.poll_event().is_some() {}
            }
            let heard = self.listen();
            if sent.is_empty() && !heard {
                break;
            }
            self.link.extend(sent);
        }
        while self.link.len() > MAX_IN_FLIGHT {
            self.link.pop_front();
        }
        assert!(
            self.server.node.sessions() <= MAX_CLIENTS * 2 + 1,
            "{} sessions",
            self.server.node.sessions()
        );
    }

    /// What the server tells its application; whether it was anything.
    fn listen(&mut self) -> bool {
        let mut heard = false;
        while let Some(event) = self.server.node.poll_event() {
            heard = true;
            match event {
                Event::Incoming { session, .. } => {
                    assert!(self.live.insert(session, false).is_none(), "a session began twice");
                }
                Event::Login(ticket, login) => {
                    assert!(self.asks, "a question that nobody wanted");
                    self.logins.push_back((login.session, ticket));
                }
                Event::Admit(ticket, admission) => {
                    let granted = self.live.get(&admission.session);
                    assert!(
                        granted.is_some_and(|granted| *granted || !self.asks),
                        "let in without a verdict"
                    );
                    self.admissions.push_back(ticket);
                }
                Event::Established { session, .. } => {
                    assert!(self.live.contains_key(&session), "established after its end");
                    assert!(self.established.insert(session), "established twice");
                    self.came_up += 1;
                }
                Event::Closed { session, .. } => {
                    assert!(self.live.remove(&session).is_some(), "closed twice, or never begun");
                    self.established.remove(&session);
                }
                _ => {}
            }
        }
        heard
    }

    /// Ends everything and sees that nothing is left.
    fn finish(&mut self) {
        self.server.node.stop_listening();
        while let Some((&session, _)) = self.live.first_key_value() {
            self.server.node.abort(self.now, session);
            self.drain();
            assert!(!self.live.contains_key(&session), "a session was ended and did not say so");
        }
        assert_eq!(self.server.node.sessions(), 0);
        assert_eq!(self.server.node.deadline(), None, "nobody is there and yet it wants to be called");
        assert!(self.server.ledger.is_empty(), "nobody is there and yet a peer is in the data plane");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// Clients come in, are let in by the application, renegotiate, send data and leave.
    const LIFE: [u8; 34] = [
        1, 2, 9, 2, 1, 1, 10, 10, 1, 2, 19, 8, 1, 1, 12, 0, 1, 2, 9, 2, 1, 2, 11, 1, 1, 2, 9, 2, 10, 14, 1,
        5, 14, 0,
    ];

    #[test]
    fn a_whole_life() {
        for flags in 0..=255 {
            let came_up = super::play(&[&[flags, 0][..], &LIFE].concat());
            assert!(came_up >= 1, "setup {flags}: {came_up}");
        }
    }

    proptest! {
        #[test]
        fn random_scripts(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::run(&data);
        }

        #[test]
        fn random_scripts_after_a_good_start(
            setup in any::<[u8; 2]>(),
            data in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            super::run(&[&setup[..], &LIFE[..12], &data].concat());
        }
    }
}
