//! A server node with client nodes, over links with faults, in virtual time.

mod guards;
mod rules;

use core::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::config::server::{LoginPolicy, Rate, TlsCryptV2, TokenConfig};
use crate::data::{HEADROOM, Opened, Payload, Slot, TAILROOM};
use crate::entropy::{EntropyStream, Purpose};
use crate::event::login::TokenState;
use crate::fuzzing::world::inner_packet;
use crate::limits::MAX_CONTROL_DATAGRAM;
use crate::plane::local::LocalPlane;
use crate::wire::data::{Peek, peek};
use crate::wrap::tls_crypt_v2::{ClientKeyV2, ServerKeyV2};

const DELAY: Duration = Duration::from_millis(10);

/// One machine with its plane.
struct Host {
    node: Node,
    plane: LocalPlane,
    session: Option<SessionHandle>,
    peer: Option<PeerRef>,
    events: Vec<Event>,
    inner: Vec<Vec<u8>>,
    /// Where the others are, as this host sees it; a client's own address is its number.
    path: Path,
}

impl Host {
    fn new(seed: u8, now: Instant, path: Path) -> Self {
        Self::with(seed, now, path, Capabilities::USERSPACE)
    }

    fn with(seed: u8, now: Instant, path: Path, capabilities: Capabilities) -> Self {
        let anchor = Anchor::new(now, secs(1_700_000_000));
        let config = Arc::new(NodeConfig { capabilities });
        Self {
            node: Node::new(config, [seed; 32], anchor),
            plane: LocalPlane::new(),
            session: None,
            peer: None,
            events: Vec::new(),
            inner: Vec::new(),
            path,
        }
    }

    fn closed(&self) -> Vec<&CloseCause> {
        let mut causes = Vec::new();
        for event in &self.events {
            if let Event::Closed { cause, .. } = event {
                causes.push(cause);
            }
        }
        causes
    }

    fn count(&self, name: &str) -> usize {
        self.events.iter().filter(|event| format!("{event:?}").starts_with(name)).count()
    }
}

/// What the server's application does.
struct Policy {
    verdict: fn(&crate::event::login::Login) -> Option<Verdict>,
    push: Vec<String>,
}

/// A server and clients 1, 2, ... whose address ends in their number.
struct Net {
    now: Instant,
    server: Host,
    clients: BTreeMap<u16, Host>,
    faults: Faults,
    rng: EntropyStream,
    link: BTreeMap<(Instant, u64), (u16, bool, Vec<u8>)>,
    sequence: u64,
    policy: Policy,
    /// Questions that the application has not answered.
    open: Vec<(LoginTicket, Box<crate::event::login::Login>)>,
    names: BTreeMap<SessionHandle, PeerRef>,
}

fn server_config(wrap: WrapConfig) -> ServerConfig {
    let mut config = ServerConfig::new(wrap, Arc::new(FakeFactory::new()));
    config.channel.timing.reneg = Duration::ZERO;
    // The certificates of these tests bear one name.
    config.duplicate_cn = true;
    config
}

fn client_config(wrap: WrapConfig) -> ClientConfig {
    let mut config = config(wrap);
    config.channel.timing.reneg = Duration::ZERO;
    config
}

fn v2_keys() -> (TlsCryptV2, Arc<ClientKeyV2>) {
    let server = ServerKeyV2::new(&[0x5a; 128]);
    let wrapped = server.wrap(&key(), &[0, 7]).unwrap();
    let text = STANDARD.encode([key().expose().as_slice(), &wrapped].concat());
    let label = "OpenVPN tls-crypt-v2 client key";
    let pem = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
    let key = Arc::new(server);
    (TlsCryptV2 { key, force_cookie: false, max_age: None }, Arc::new(ClientKeyV2::from_pem(&pem).unwrap()))
}

/// Server and client sides of each protection.
fn pairs() -> Vec<(ServerConfig, ClientConfig)> {
    let (v2, client_key) = v2_keys();
    let mut pairs: Vec<_> = wraps()
        .into_iter()
        .map(|wrap| match wrap {
            WrapConfig::TlsCryptV2 { .. } => {
                let mut server = server_config(WrapConfig::None);
                server.tls_crypt_v2 = Some(v2.clone());
                (server, client_config(WrapConfig::TlsCryptV2 { key: client_key.clone() }))
            }
            _ => (server_config(wrap.clone()), client_config(wrap)),
        })
        .collect();
    // Old and new clients side by side.
    let (_, client) = pairs.pop().unwrap();
    let mut both = server_config(WrapConfig::TlsCrypt { key: key() });
    both.tls_crypt_v2 = Some(v2.clone());
    let mut alone = server_config(WrapConfig::None);
    alone.tls_crypt_v2 = Some(v2);
    pairs.push((alone, client.clone()));
    pairs.push((both.clone(), client));
    pairs.push((both, client_config(WrapConfig::TlsCrypt { key: key() })));
    pairs
}

impl Net {
    fn new(config: ServerConfig, seed: u8) -> Self {
        let mut net = Self::silent(seed);
        net.server.node.listen(Arc::new(config));
        net
    }

    fn silent(seed: u8) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        Self {
            now,
            server: Host::new(seed, now, PATH),
            clients: BTreeMap::new(),
            faults: Faults::default(),
            rng: Entropy::new([seed; 32]).fork(Purpose::Jitter, 77),
            link: BTreeMap::new(),
            sequence: 0,
            policy: Policy { verdict: |_| Some(Verdict::Accept), push: vec!["ping 10".into()] },
            open: Vec::new(),
            names: BTreeMap::new(),
        }
    }

    fn address(client: u16) -> Path {
        Path::udp(0, SocketAddr::from(([10, 9, (client >> 8) as u8, client as u8], 1194)))
    }

    fn number(path: Path) -> u16 {
        let Some(SocketAddr::V4(address)) = path.remote() else { panic!("{path:?}") };
        let [_, _, high, low] = address.ip().octets();
        u16::from_be_bytes([high, low])
    }

    fn join(&mut self, number: u16, config: ClientConfig, login: Option<Credentials>) {
        let mut host = Host::new(100 + number as u8, self.now, PATH);
        host.session = Some(host.node.connect(self.now, PATH, Arc::new(config), login).unwrap());
        self.clients.insert(number, host);
        self.drain();
    }

    fn hit(&mut self, percent: u64) -> bool {
        percent > 0 && self.rng.below(100) < percent
    }

    fn put(&mut self, client: u16, to_server: bool, mut packet: Vec<u8>) {
        let spared = self.faults.control_only && matches!(packet[0] >> 3, 6 | 9);
        let faults = if spared { Faults::default() } else { self.faults };
        if self.hit(faults.drop) {
            return;
        }
        if self.hit(faults.corrupt) {
            let at = self.rng.below(packet.len() as u64) as usize;
            packet[at] ^= 1 << self.rng.below(8);
        }
        for _ in 0..1 + usize::from(self.hit(faults.duplicate)) {
            let late = if self.hit(faults.reorder) { self.rng.below(200) } else { 0 };
            self.sequence += 1;
            let at = self.now + DELAY + Duration::from_millis(late);
            self.link.insert((at, self.sequence), (client, to_server, packet.clone()));
        }
    }

    fn drain(&mut self) {
        loop {
            let mut sent = Vec::new();
            drain_host(&mut self.server, self.now, &mut |path, bytes| {
                sent.push((Self::number(path), false, bytes));
            });
            for (&number, host) in &mut self.clients {
                drain_host(host, self.now, &mut |_, bytes| sent.push((number, true, bytes)));
            }
            let quiet = sent.is_empty();
            for (number, to_server, packet) in sent {
                self.put(number, to_server, packet);
            }
            if !self.decide() && quiet {
                return;
            }
        }
    }

    /// The application's part; whether anything was done.
    fn decide(&mut self) -> bool {
        let mut acted = false;
        while let Some(event) = self.server.node.poll_event() {
            acted = true;
            match event {
                Event::Login(ticket, login) => match (self.policy.verdict)(&login) {
                    Some(verdict) => self.server.node.answer_login(self.now, ticket, verdict),
                    None => self.open.push((ticket, login)),
                },
                Event::Admit(ticket, admission) => {
                    let client = Self::number(admission.path);
                    let inner: IpNet = format!("10.8.{}.{}/32", client >> 8, client & 255).parse().unwrap();
                    let settings = ClientSettings {
                        push: self.policy.push.clone(),
                        routes: vec![inner],
                        ..ClientSettings::default()
                    };
                    self.server.node.admit(self.now, ticket, Ok(settings));
                }
                Event::Established { session, peer, .. } => {
                    self.names.insert(session, peer);
                    self.server.peer = Some(peer);
                    self.server.session = Some(session);
                    self.server.events.push(event);
                }
                event => self.server.events.push(event),
            }
        }
        acted
    }

    fn step(&mut self, end: Instant) -> bool {
        let arrival = self.link.first_key_value().map(|((at, _), _)| *at);
        let timers = self.clients.values().chain([&self.server]).filter_map(|host| host.node.deadline());
        let next = timers.map(|deadline| deadline.at).chain(arrival).min();
        let Some(next) = next.filter(|&at| at <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next)
            && let Some((_, (client, to_server, mut packet))) = self.link.pop_first()
        {
            if to_server {
                deliver(&mut self.server, self.now, Self::address(client), &mut packet);
            } else if let Some(host) = self.clients.get_mut(&client) {
                let path = host.path;
                deliver(host, self.now, path, &mut packet);
            }
        }
        self.server.node.handle_timeout(self.now);
        self.clients.values_mut().for_each(|host| host.node.handle_timeout(self.now));
        self.drain();
        true
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    fn up(&mut self, number: u16, within: Duration) -> bool {
        let end = self.now + within;
        while self.clients[&number].peer.is_none() && self.step(end) {}
        self.clients[&number].peer.is_some()
    }

    /// An inner packet from a client's own address.
    fn send_up(&mut self, number: u16, mark: u32) {
        let mut inner = inner_packet(mark);
        inner[12..16].copy_from_slice(&[10, 8, (number >> 8) as u8, number as u8]);
        let host = self.clients.get_mut(&number).unwrap();
        let packet = seal(host, self.now, host.peer.unwrap(), &inner);
        self.put(number, true, packet);
    }

    fn send_down(&mut self, number: u16, mark: u32) {
        let mut inner = inner_packet(mark);
        inner[16..20].copy_from_slice(&[10, 8, (number >> 8) as u8, number as u8]);
        let peer = self.server.plane.lookup(&inner).unwrap();
        let packet = seal(&mut self.server, self.now, peer, &inner);
        self.put(number, false, packet);
    }

    /// Packets go through in both directions.
    fn assert_alive(&mut self, number: u16, why: &str) {
        let before = (self.server.inner.len(), self.clients[&number].inner.len());
        self.send_up(number, 1);
        self.send_down(number, 2);
        self.run(secs(1));
        let after = (self.server.inner.len(), self.clients[&number].inner.len());
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{why}: {:?}", self.server.plane.drops());
    }
}

fn drain_host(host: &mut Host, now: Instant, send: &mut dyn FnMut(Path, Vec<u8>)) {
    loop {
        while let Some(order) = host.node.poll_directive() {
            host.plane.apply(now, order);
        }
        let Some(report) = host.plane.poll_report() else { break };
        host.node.handle_report(now, report);
    }
    let mut out = [0; MAX_CONTROL_DATAGRAM];
    while let Some(transmit) = host.node.poll_transmit(now, &mut out) {
        send(transmit.path, out[..transmit.len].to_vec());
    }
    while let Some(transmit) = host.plane.poll_transmit(now, &mut out) {
        send(transmit.path, out[..transmit.len].to_vec());
    }
    if host.session.is_some() || !host.events.is_empty() {
        take_client_events(host);
    }
}

/// A server's events are for its application.
fn take_client_events(host: &mut Host) {
    if !host.node.is_listening() {
        while let Some(event) = host.node.poll_event() {
            if let Event::Established { peer, .. } = event {
                host.peer = Some(peer);
            }
            host.events.push(event);
        }
    }
}

fn deliver(host: &mut Host, now: Instant, from: Path, packet: &mut [u8]) {
    if !matches!(peek(packet), Peek::Data(_)) {
        return host.node.handle_datagram(now, from, packet);
    }
    if let Ok(Opened { payload: Payload::Packet(inner), .. }) = host.plane.open(now, from, packet) {
        host.inner.push(inner.to_vec());
    }
}

fn seal(host: &mut Host, now: Instant, peer: PeerRef, inner: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; HEADROOM + inner.len() + TAILROOM];
    buffer[HEADROOM..HEADROOM + inner.len()].copy_from_slice(inner);
    let sealed = host.plane.seal(now, peer, &mut Slot::new(&mut buffer, HEADROOM, inner.len())).unwrap();
    buffer[sealed.start..sealed.start + sealed.len].to_vec()
}

fn login(name: &str, password: &str) -> Option<Credentials> {
    let password = Zeroizing::new(password.to_owned());
    Some(Credentials { username: name.into(), password, is_token: false })
}

#[test]
fn every_wrap_lets_clients_in_and_carries_packets() {
    for (n, (server, client)) in pairs().into_iter().enumerate() {
        let mut net = Net::new(server, n as u8);
        for number in 1..=3 {
            net.join(number, client.clone(), None);
            assert!(
                net.up(number, secs(1)),
                "pair {n}: {:?} {:?}",
                net.server.events,
                net.server.node.drops()
            );
        }
        net.run(secs(15));
        for number in 1..=3 {
            net.assert_alive(number, &format!("pair {n}, client {number}"));
        }
        assert_eq!(net.server.count("Established"), 3, "pair {n}");
        assert_eq!(net.server.node.drops().iter().count(), 0, "pair {n}: {:?}", net.server.node.drops());
    }
}

#[test]
fn bad_links_delay_and_never_break() {
    for seed in 0..40 {
        let all = pairs();
        let (mut server, mut client) = all[seed as usize % all.len()].clone();
        for timing in [&mut server.channel.timing, &mut client.channel.timing] {
            timing.hand_window = secs(600);
            timing.server_poll = secs(600);
        }
        let mut net = Net::new(server, seed);
        net.faults = Faults { drop: 20, duplicate: 10, reorder: 30, corrupt: 5, control_only: false };
        net.join(1, client, None);
        assert!(net.up(1, secs(600)), "seed {seed}: {:?} {:?}", net.server.events, net.server.node.drops());
        net.faults = Faults::default();
        net.run(secs(60));
        net.assert_alive(1, &format!("seed {seed}"));
    }
}

#[test]
fn renegotiations_from_either_side_lose_no_data() {
    for seed in 0..24u8 {
        let all = pairs();
        let (mut server, mut client) = all[seed as usize % all.len()].clone();
        for timing in [&mut server.channel.timing, &mut client.channel.timing] {
            timing.hand_window = secs(20);
        }
        let mut net = Net::new(server, seed);
        net.join(1, client, None);
        assert!(net.up(1, secs(2)), "seed {seed}");
        net.run(secs(2));
        net.faults = Faults { drop: 10, duplicate: 5, reorder: 10, corrupt: 0, control_only: true };
        for tick in 0..600u32 {
            net.send_up(1, tick);
            net.send_down(1, tick);
            if tick % 20 == 10 {
                if seed % 3 != 1 {
                    let session = net.server.session.unwrap();
                    net.server.node.renegotiate(net.now, session);
                }
                if seed % 3 != 0 {
                    let host = net.clients.get_mut(&1).unwrap();
                    host.node.renegotiate(net.now, host.session.unwrap());
                }
                net.drain();
            }
            net.run(Duration::from_millis(300));
        }
        net.faults = Faults::default();
        net.run(secs(3));
        let got = (net.server.inner.len(), net.clients[&1].inner.len());
        assert_eq!(
            got,
            (600, 600),
            "seed {seed}: {:?} {:?}",
            net.server.node.drops(),
            net.server.plane.drops()
        );
        assert!(net.server.count("Rekeyed") >= 3, "seed {seed}: {}", net.server.count("Rekeyed"));
    }
}

#[test]
fn strangers_leave_no_trace() {
    let (server, _) = pairs().remove(0);
    let mut net = Net::new(server, 1);
    for n in 0..20_000u32 {
        let mut reset = vec![7 << 3; 1];
        reset.extend_from_slice(&u64::from(n + 1).to_be_bytes());
        reset.extend_from_slice(&[0, 0, 0, 0, 0]);
        let path = Path::udp(0, SocketAddr::from((n.to_be_bytes(), 9)));
        net.server.node.handle_datagram(net.now, path, &mut reset);
        let mut out = [0; MAX_CONTROL_DATAGRAM];
        let mut answers = 0;
        while net.server.node.poll_transmit(net.now, &mut out).is_some() {
            answers += 1;
        }
        assert!(answers <= 1);
    }
    assert_eq!(net.server.node.sessions(), 0);
    assert!(net.server.node.deadline().is_none());
    assert_eq!(net.server.node.drops().get(DropReason::RateLimited), 20_000 - 100);
}

#[test]
fn a_client_that_restarts_at_its_old_address_replaces_itself() {
    for (n, (server, client)) in pairs().into_iter().enumerate() {
        let mut net = Net::new(server, n as u8);
        net.join(1, client.clone(), None);
        assert!(net.up(1, secs(1)));
        net.run(secs(2));
        // The same address, without a word.
        let mut again = Host::new(222, net.now, PATH);
        again.session = Some(again.node.connect(net.now, PATH, Arc::new(client), None).unwrap());
        net.clients.insert(1, again);
        net.drain();
        assert!(net.up(1, secs(5)), "pair {n}: {:?}", net.server.node.drops());
        net.run(secs(1));
        assert_eq!(net.server.closed(), [&CloseCause::Replaced], "pair {n}");
        assert_eq!(net.server.node.sessions(), 1);
        net.assert_alive(1, &format!("pair {n}"));
    }
}

#[test]
fn one_name_is_in_once_unless_duplicates_are_allowed() {
    for duplicates in [false, true] {
        let (mut server, client) = pairs().remove(2);
        server.duplicate_cn = duplicates;
        server.login = LoginPolicy::Required;
        server.username_as_common_name = true;
        let mut net = Net::new(server, 5);
        for number in 1..=2 {
            net.join(number, client.clone(), login("alice", "secret"));
            assert!(net.up(number, secs(2)));
        }
        net.run(secs(2));
        let expected: &[&CloseCause] = if duplicates { &[] } else { &[&CloseCause::Replaced] };
        assert_eq!(net.server.closed(), expected);
        net.assert_alive(2, "the newer");
    }
}

#[test]
fn a_refused_client_is_told_why() {
    let (mut server, client) = pairs().remove(1);
    server.login = LoginPolicy::Required;
    server.ask_login = true;
    let mut net = Net::new(server, 5);
    net.policy.verdict = |login| {
        let right = login.password.as_ref().is_some_and(|password| password.as_str() == "right");
        Some(if right { Verdict::Accept } else { Verdict::Deny("wrong password".into()) })
    };
    net.join(1, client.clone(), login("bob", "wrong"));
    net.run(secs(8));
    let expected = CloseCause::AuthFailed { reason: "wrong password".into(), was_token: false };
    assert_eq!(net.clients[&1].closed(), [&expected]);
    assert_eq!(net.server.closed(), [&CloseCause::Denied("wrong password".into())]);
    net.join(2, client.clone(), login("bob", "right"));
    assert!(net.up(2, secs(2)));
    net.join(3, client, None);
    net.run(secs(8));
    let expected = CloseCause::AuthFailed { reason: String::new(), was_token: false };
    assert_eq!(net.clients[&3].closed(), [&expected], "a password is demanded");
    assert_eq!(net.server.node.sessions(), 1);
}

#[test]
fn a_slow_verdict_stalls_nobody_and_no_verdict_is_a_no() {
    let (mut server, mut client) = pairs().remove(0);
    client.channel.timing.reneg = secs(3600);
    server.ask_login = true;
    server.login = LoginPolicy::Optional;
    server.channel.timing.reneg = secs(3600);
    let mut net = Net::new(server, 5);
    net.policy.verdict = |login| (login.username.as_deref() != Some("slow")).then_some(Verdict::Accept);
    net.join(1, client.clone(), login("slow", "x"));
    net.run(secs(2));
    net.join(2, client.clone(), login("fast", "x"));
    assert!(net.up(2, secs(1)));
    let (ticket, _) = net.open.pop().unwrap();
    net.server.node.defer_login(net.now, &ticket, secs(100), "CR_TEXT:E:code");
    net.run(secs(80));
    assert!(net.clients[&1].closed().is_empty(), "{:?}", net.clients[&1].events);
    let said = format!("{:?}", net.clients[&1].events);
    assert!(said.contains("AUTH_PENDING") && said.contains("INFO_PRE,CR_TEXT:E:code"), "{said}");
    net.server.node.answer_login(net.now, ticket, Verdict::Accept);
    net.drain();
    assert!(net.up(1, secs(1)));
    net.join(3, client, login("slow", "x"));
    net.run(secs(70));
    assert!(net.server.closed().contains(&&CloseCause::Unanswered), "{:?}", net.server.closed());
    let expected = CloseCause::AuthFailed { reason: String::new(), was_token: false };
    assert_eq!(net.clients[&3].closed(), [&expected]);
}

#[test]
fn tokens_replace_the_password_and_are_renewed() {
    let (mut server, client) = pairs().remove(2);
    server.ask_login = true;
    server.login = LoginPolicy::Required;
    server.token = Some(TokenConfig {
        lifetime: Some(secs(600)),
        renewal: secs(120),
        external: false,
        secret: Zeroizing::new([9; 32]),
    });
    let mut net = Net::new(server, 5);
    net.policy.verdict = |login| {
        assert_eq!(login.token.as_ref().map(|token| token.state), Some(TokenState::Initial));
        Some(Verdict::Accept)
    };
    net.join(1, client, login("carol", "pw"));
    assert!(net.up(1, secs(1)));
    let tokens = |net: &Net| net.clients[&1].count("Token");
    assert_eq!(tokens(&net), 1);
    net.run(secs(130));
    assert_eq!(tokens(&net), 2, "renewed by time");
    // Only a token gets through a renegotiation from now on.
    net.policy.verdict = |_| Some(Verdict::Deny(String::new()));
    let session = net.server.session.unwrap();
    net.server.node.renegotiate(net.now, session);
    net.run(secs(20));
    assert_eq!(tokens(&net), 3, "renewed with the key: {:?}", net.clients[&1].events);
    net.assert_alive(1, "after the renegotiation");
    net.run(secs(500));
    net.server.node.renegotiate(net.now, session);
    net.run(secs(10));
    let expired = CloseCause::AuthFailed { reason: "SESSION: token expired".into(), was_token: true };
    assert_eq!(net.clients[&1].closed(), [&expired]);
}

#[test]
fn a_failed_renegotiation_leaves_the_old_key_alive() {
    let (server, client) = pairs().remove(2);
    let mut net = Net::new(server, 5);
    net.join(1, client, None);
    assert!(net.up(1, secs(1)));
    net.run(secs(15));
    net.faults = Faults { drop: 100, control_only: true, ..Faults::default() };
    let session = net.server.session.unwrap();
    net.server.node.renegotiate(net.now, session);
    net.drain();
    net.run(secs(70));
    net.faults = Faults::default();
    assert!(net.server.closed().is_empty(), "{:?}", net.server.closed());
    net.assert_alive(1, "lame duck");
    net.run(secs(3600));
    assert_eq!(net.server.closed(), [&CloseCause::HandWindow]);
}

#[test]
fn a_client_floats_and_nobody_takes_its_place_unauthenticated() {
    let (mut server, client) = pairs().remove(2);
    server.login = LoginPolicy::Required;
    let mut net = Net::new(server, 5);
    net.join(1, client.clone(), login("one", "x"));
    net.join(2, client, login("two", "x"));
    assert!(net.up(1, secs(1)) && net.up(2, secs(1)));
    net.run(secs(1));
    let (elsewhere, stranger) = (Net::address(77), Net::address(78));
    // A recorded packet from somewhere else is a replay, a changed one is not authentic.
    let mut inner = inner_packet(9);
    inner[12..16].copy_from_slice(&[10, 8, 0, 1]);
    let now = net.now;
    let host = net.clients.get_mut(&1).unwrap();
    let packet = seal(host, now, host.peer.unwrap(), &inner);
    let mut forged = packet.clone();
    *forged.last_mut().unwrap() ^= 1;
    deliver(&mut net.server, now, stranger, &mut forged);
    net.drain();
    assert_eq!(net.server.count("Floated"), 0);
    deliver(&mut net.server, now, elsewhere, &mut packet.clone());
    net.drain();
    assert_eq!(net.server.count("Floated"), 1);
    let mut replay = packet;
    deliver(&mut net.server, now, stranger, &mut replay);
    net.drain();
    assert_eq!(net.server.count("Floated"), 1);
    // Another client's address can't be had.
    let host = net.clients.get_mut(&1).unwrap();
    let mut packet = seal(host, now, host.peer.unwrap(), &inner);
    deliver(&mut net.server, now, Net::address(2), &mut packet);
    net.drain();
    assert_eq!(net.server.count("Floated"), 1);
    net.assert_alive(2, "the other client");
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let (mut server, client) = pairs().remove(0);
    server.max_clients = 2;
    server.connect_rate = Some(Rate { events: 3, period: secs(1000) });
    let mut net = Net::new(server, 5);
    for number in 1..=2 {
        net.join(number, client.clone(), None);
        assert!(net.up(number, secs(1)));
    }
    net.join(3, client.clone(), None);
    net.run(secs(2));
    assert!(net.server.node.drops().get(DropReason::Full) > 0);
    assert_eq!(net.server.node.sessions(), 2);
    let host = net.clients.get_mut(&1).unwrap();
    host.node.abort(net.now, host.session.unwrap());
    let session = net.server.session.unwrap();
    net.server.node.dismiss(net.now, session, "RESTART");
    net.drain();
    net.run(secs(10));
    assert_eq!(net.server.node.sessions(), 1);
    assert!(matches!(net.clients[&2].closed()[..], [CloseCause::Restart { .. }]));
    net.join(4, client, None);
    net.run(secs(2));
    assert!(net.server.node.drops().get(DropReason::RateLimited) > 0, "{:?}", net.server.node.drops());
}

#[test]
fn two_peers_find_each_other_in_every_wrap() {
    let (v2, client_key) = v2_keys();
    for (n, wrap) in wraps().into_iter().enumerate() {
        let wrap = match wrap {
            WrapConfig::TlsCryptV2 { .. } => WrapConfig::TlsCryptV2 { key: client_key.clone() },
            wrap => wrap,
        };
        let config = |role| {
            let by_v2 = matches!(wrap, WrapConfig::TlsCryptV2 { .. });
            let server = role == crate::keys::data_key::TlsRole::Server;
            let wrap = if by_v2 && server { WrapConfig::None } else { wrap.clone() };
            let mut channel = config(wrap).channel;
            channel.timing.reneg = secs(20);
            let tls_crypt_v2 = (by_v2 && server).then(|| v2.clone());
            PeerConfig { channel, role, tls_crypt_v2, remote: None }
        };
        let mut net = Net::silent(n as u8);
        net.server.node.listen_peer(Arc::new(config(crate::keys::data_key::TlsRole::Server)));
        let mut host = Host::new(9, net.now, PATH);
        let client = Arc::new(config(crate::keys::data_key::TlsRole::Client));
        host.session = Some(host.node.connect_peer(net.now, PATH, client).unwrap());
        net.clients.insert(1, host);
        net.drain();
        assert!(net.up(1, secs(2)), "{n}: {:?} {:?}", net.server.events, net.server.node.drops());
        net.run(secs(100));
        assert!(net.clients[&1].count("Rekeyed") >= 3, "{n}: {:?}", net.clients[&1].events);
        for event in net.server.events.iter().chain(&net.clients[&1].events) {
            if let Event::PeerNegotiated { summary, .. } = event {
                let expected = "TLS_export=1, DATA_v2=1, peer-id ";
                assert!(summary.starts_with(expected) && summary.ends_with("epoch=1, cipher=AES-256-GCM"));
            }
        }
        assert_eq!(net.server.count("PeerNegotiated") + net.clients[&1].count("PeerNegotiated"), 2);
        let (now, inner) = (net.now, inner_packet(3));
        let peer = net.server.peer.unwrap();
        let packet = seal(&mut net.server, now, peer, &inner);
        net.put(1, false, packet);
        let host = net.clients.get_mut(&1).unwrap();
        let packet = seal(host, now, host.peer.unwrap(), &inner);
        net.put(1, true, packet);
        net.run(secs(1));
        assert_eq!((net.server.inner.len(), net.clients[&1].inner.len()), (1, 1), "{n}");
    }
}

#[test]
fn a_client_that_begins_anew_at_its_address_keeps_its_number() {
    let (mut server, client) = pairs().remove(0);
    server.login = LoginPolicy::Required;
    let mut net = Net::new(server, 5);
    // Without `ID=` the client has to be told a number.
    let classic = Capabilities { asymmetric_ids: false, ..Capabilities::USERSPACE };
    for number in 1..=2 {
        let mut host = Host::with(100 + number as u8, net.now, PATH, classic);
        let name = format!("client {number}");
        let config = Arc::new(client.clone());
        host.session = Some(host.node.connect(net.now, PATH, config, login(&name, "x")).unwrap());
        net.clients.insert(number, host);
        net.drain();
        assert!(net.up(number, secs(1)));
    }
    let number = |net: &Net| net.server.peer.unwrap().id;
    assert_eq!(number(&net).get(), 1);
    for (round, name) in ["client 2", "somebody else"].into_iter().enumerate() {
        let mut again = Host::with(200 + round as u8, net.now, PATH, classic);
        let config = Arc::new(client.clone());
        again.session = Some(again.node.connect(net.now, PATH, config, login(name, "x")).unwrap());
        net.clients.insert(2, again);
        net.drain();
        assert!(net.up(2, secs(5)), "{:?}", net.server.events);
        net.run(secs(1));
        net.assert_alive(2, name);
        assert_eq!(number(&net).get(), 1 + round as u32, "{name}");
        assert_eq!(net.server.node.sessions(), 2);
    }
    net.assert_alive(1, "the other client");
}

#[test]
fn a_name_without_password_is_no_name() {
    let (mut server, client) = pairs().remove(0);
    server.login = LoginPolicy::Optional;
    server.ask_login = true;
    server.username_as_common_name = true;
    let mut net = Net::new(server, 5);
    net.policy.verdict = |login| {
        assert!(login.username.is_none() && login.password.is_none() && login.common_name != "root");
        Some(Verdict::Accept)
    };
    net.join(1, client, login("root", ""));
    assert!(net.up(1, secs(1)));
}

#[test]
fn a_handshake_is_not_given_up_at_once_for_another_from_its_address() {
    let (server, client) = pairs().remove(0);
    let mut net = Net::new(server, 5);
    net.join(1, client.clone(), None);
    net.run(Duration::from_millis(35));
    assert_eq!((net.server.node.sessions(), net.server.count("Established")), (1, 0));
    // The client gives up and begins anew from the same address.
    let mut again = Host::new(222, net.now, PATH);
    again.session = Some(again.node.connect(net.now, PATH, Arc::new(client), None).unwrap());
    net.clients.insert(1, again);
    net.drain();
    net.run(secs(1));
    assert!(net.server.node.drops().get(DropReason::UnderWay) > 0);
    assert!(net.server.closed().is_empty());
    assert!(net.up(1, secs(9)), "{:?}", net.server.node.drops());
    assert_eq!(net.server.closed(), [&CloseCause::Replaced]);
}
