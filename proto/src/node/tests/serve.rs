//! A server node with client nodes, over links with faults, in virtual time.

mod broken;
mod decisions;
mod ecn;
mod guards;
mod midway;
mod rules;

use core::net::SocketAddr;
use core::ops::{Deref, DerefMut};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::config::server::{LoginPolicy, Rate, TlsCryptV2, TokenConfig};
use crate::event::login::TokenState;
use crate::fuzzing::net::{self, Host};
use crate::fuzzing::world::inner_packet;
use crate::limits::MAX_CONTROL_DATAGRAM;
use crate::wrap::tls_crypt_v2::{ClientKeyV2, ServerKeyV2};

/// What the server's application does.
struct Policy {
    verdict: fn(&crate::event::login::Login) -> Option<Verdict>,
    admit: fn(&crate::event::login::Admission) -> Result<(), String>,
    push: Vec<String>,
    rename: Option<&'static str>,
}

/// A server and clients 1, 2, ... whose addresses end in their number, and the server's application.
struct Net {
    net: net::Net,
    policy: Policy,
    /// Events of the server that the application has seen.
    seen: usize,
    /// Questions that the application has not answered.
    open: Vec<(LoginTicket, Box<crate::event::login::Login>)>,
}

impl Deref for Net {
    type Target = net::Net;

    fn deref(&self) -> &net::Net {
        &self.net
    }
}

impl DerefMut for Net {
    fn deref_mut(&mut self) -> &mut net::Net {
        &mut self.net
    }
}

impl Host {
    fn count(&self, name: &str) -> usize {
        self.events.iter().filter(|event| format!("{event:?}").starts_with(name)).count()
    }
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
        Self {
            net: net::Net::new(seed, Capabilities::USERSPACE, Duration::ZERO, PATH),
            policy: Policy {
                verdict: |_| Some(Verdict::Accept),
                admit: |_| Ok(()),
                push: vec!["ping 10".into()],
                rename: None,
            },
            seen: 0,
            open: Vec::new(),
        }
    }

    fn join(&mut self, number: u8, config: ClientConfig, login: Option<Credentials>) {
        self.join_as(number, 100 + number, Capabilities::USERSPACE, config, login);
    }

    /// The client begins anew at its address, without a word.
    fn restart(&mut self, number: u8, config: ClientConfig, login: Option<Credentials>) {
        self.join_as(number, 222, Capabilities::USERSPACE, config, login);
    }

    fn join_as(
        &mut self,
        number: u8,
        seed: u8,
        capabilities: Capabilities,
        config: ClientConfig,
        login: Option<Credentials>,
    ) {
        self.seat(number, seed, capabilities, |node, now| {
            node.connect(now, PATH, Arc::new(config), login).unwrap()
        });
    }

    /// The `tls-client` of a tunnel between two.
    fn join_peer(&mut self, number: u8, config: PeerConfig) {
        self.seat(number, number, Capabilities::USERSPACE, |node, now| {
            node.connect_peer(now, PATH, Arc::new(config)).unwrap()
        });
    }

    fn seat(
        &mut self,
        number: u8,
        seed: u8,
        capabilities: Capabilities,
        begin: impl FnOnce(&mut Node, Instant) -> SessionHandle,
    ) {
        let path = self.address(number, 0);
        let mut host = Host::new([seed; 32], self.now, path, capabilities, Duration::ZERO);
        host.session = Some(begin(&mut host.node, self.now));
        self.clients.insert(number, host);
        self.drain();
    }

    fn at_server<T>(&mut self, act: impl FnOnce(&mut Node, Instant) -> T) -> T {
        act(&mut self.net.server.node, self.net.now)
    }

    fn at_client(&mut self, number: u8, act: impl FnOnce(&mut Node, Instant, SessionHandle)) {
        let client = self.net.clients.get_mut(&number).unwrap();
        act(&mut client.node, self.net.now, client.session.unwrap());
    }

    fn drain(&mut self) {
        loop {
            let busy = self.net.drain();
            if !self.decide() && !busy {
                return;
            }
        }
    }

    /// The application's part; whether anything was done.
    fn decide(&mut self) -> bool {
        let news = self.net.server.events.split_off(self.seen);
        let acted = !news.is_empty();
        let now = self.now;
        for event in news {
            let Self { net, policy, open, .. } = self;
            match event {
                Event::Login(ticket, login) => match (policy.verdict)(&login) {
                    Some(verdict) => net.server.node.answer_login(now, ticket, verdict),
                    None => open.push((ticket, login)),
                },
                Event::Admit(ticket, admission) => {
                    let client = net.clients.iter().find(|(_, client)| client.path == admission.path);
                    let number = client.map_or(0, |(&number, _)| number);
                    let inner: IpNet = format!("10.8.0.{number}/32").parse().unwrap();
                    let settings = ClientSettings {
                        push: policy.push.clone(),
                        routes: vec![inner],
                        username: policy.rename.map(str::to_owned),
                        ..ClientSettings::default()
                    };
                    let decision = (policy.admit)(&admission).map(|()| settings);
                    net.server.node.admit(now, ticket, decision);
                }
                event => net.server.events.push(event),
            }
        }
        self.seen = self.server.events.len();
        acted
    }

    fn step(&mut self, end: Instant) -> bool {
        let stepped = self.net.step(end);
        if stepped {
            self.drain();
        }
        stepped
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    fn up(&mut self, number: u8, within: Duration) -> bool {
        let end = self.now + within;
        while self.clients[&number].peer.is_none() && self.step(end) {}
        self.clients[&number].peer.is_some()
    }

    /// An inner packet from a client's own address.
    fn send_up(&mut self, number: u8, mark: u32) {
        assert!(self.net.send_up(number, &inner(mark, 12, number)), "packet {mark} can't be sealed");
    }

    fn send_down(&mut self, number: u8, mark: u32) {
        assert!(self.net.send_down(&inner(mark, 16, number)), "packet {mark} is for nobody");
    }

    /// A sealed packet of a client.
    fn sealed(&mut self, number: u8, inner: &[u8]) -> Vec<u8> {
        let now = self.now;
        let client = self.clients.get_mut(&number).unwrap();
        client.seal(now, client.peer.unwrap(), inner).unwrap()
    }

    /// Client 1 comes up, and a renegotiation of the server fails later on.
    fn lame(seed: u8) -> (Self, SessionHandle) {
        let (server, client) = pairs().remove(2);
        let mut net = Self::new(server, seed);
        net.policy.push.push("ping-restart 0".into());
        net.join(1, client, None);
        assert!(net.up(1, secs(1)));
        net.run(secs(15));
        net.faults = Faults { drop: 100, control_only: true, ..Faults::default() };
        let session = net.server.session.unwrap();
        net.at_server(|node, now| node.renegotiate(now, session));
        net.drain();
        net.run(secs(70));
        net.faults = Faults::default();
        assert!(net.server.node.is_lame(session));
        assert!(net.server.closed().is_empty(), "{:?}", net.server.closed());
        (net, session)
    }

    /// Packets go through in both directions.
    fn assert_alive(&mut self, number: u8, why: &str) {
        let before = (self.server.inner.len(), self.clients[&number].inner.len());
        self.send_up(number, 1);
        self.send_down(number, 2);
        self.run(secs(1));
        let after = (self.server.inner.len(), self.clients[&number].inner.len());
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{why}: {:?}", self.server.plane.drops());
    }
}

/// A packet with the client's inner address at `at`.
fn inner(mark: u32, at: usize, number: u8) -> [u8; 24] {
    let mut inner = inner_packet(mark);
    inner[at..at + 4].copy_from_slice(&[10, 8, 0, number]);
    inner
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
                    net.at_server(|node, now| node.renegotiate(now, session));
                }
                if seed % 3 != 0 {
                    net.at_client(1, Node::renegotiate);
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
fn a_short_transition_window_loses_no_data() {
    for (n, (mut server, mut client)) in pairs().into_iter().enumerate() {
        for timing in [&mut server.channel.timing, &mut client.channel.timing] {
            timing.hand_window = secs(60);
            timing.tran_window = secs(20);
        }
        let mut net = Net::new(server, n as u8);
        net.join(1, client, None);
        assert!(net.up(1, secs(2)), "pair {n}");
        net.at_client(1, Node::renegotiate);
        net.drain();
        for tick in 0..200u32 {
            net.send_up(1, tick);
            net.send_down(1, tick);
            net.run(Duration::from_millis(400));
        }
        assert_eq!((net.server.inner.len(), net.clients[&1].inner.len()), (200, 200), "pair {n}");
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
        net.at_server(|node, now| node.handle_datagram(now, path, &mut reset));
        let mut out = [0; MAX_CONTROL_DATAGRAM];
        let mut answers = 0;
        while net.at_server(|node, now| node.poll_transmit(now, &mut out)).is_some() {
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
        net.restart(1, client, None);
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
    net.at_server(|node, now| node.defer_login(now, &ticket, secs(100), "CR_TEXT:E:code"));
    net.run(secs(80));
    assert!(net.clients[&1].closed().is_empty(), "{:?}", net.clients[&1].events);
    let said = format!("{:?}", net.clients[&1].events);
    assert!(said.contains("AUTH_PENDING") && said.contains("INFO_PRE,CR_TEXT:E:code"), "{said}");
    net.at_server(|node, now| node.answer_login(now, ticket, Verdict::Accept));
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
    net.at_server(|node, now| node.renegotiate(now, session));
    net.run(secs(20));
    assert_eq!(tokens(&net), 3, "renewed with the key: {:?}", net.clients[&1].events);
    net.assert_alive(1, "after the renegotiation");
    net.run(secs(500));
    net.at_server(|node, now| node.renegotiate(now, session));
    net.run(secs(10));
    let expired = CloseCause::AuthFailed { reason: "SESSION: token expired".into(), was_token: true };
    assert_eq!(net.clients[&1].closed(), [&expired]);
}

#[test]
fn a_failed_renegotiation_leaves_the_old_key_alive() {
    let (mut net, _) = Net::lame(5);
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
    let (elsewhere, stranger) = (net.address(77, 0), net.address(78, 0));
    // A recorded packet from somewhere else is a replay, a changed one is not authentic.
    let inner = inner(9, 12, 1);
    let packet = net.sealed(1, &inner);
    let mut forged = packet.clone();
    *forged.last_mut().unwrap() ^= 1;
    net.deliver(stranger, true, &mut forged);
    net.drain();
    assert_eq!(net.server.count("Floated"), 0);
    net.deliver(elsewhere, true, &mut packet.clone());
    net.drain();
    assert_eq!(net.server.count("Floated"), 1);
    let mut replay = packet;
    net.deliver(stranger, true, &mut replay);
    net.drain();
    assert_eq!(net.server.count("Floated"), 1);
    // Another client's address can't be had.
    let mut packet = net.sealed(1, &inner);
    let other = net.address(2, 0);
    net.deliver(other, true, &mut packet);
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
    net.at_client(1, Node::abort);
    let session = net.server.session.unwrap();
    net.at_server(|node, now| node.dismiss(now, session, "RESTART"));
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
        net.join_peer(1, config(crate::keys::data_key::TlsRole::Client));
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
        let (peer, path) = (net.server.peer.unwrap(), net.address(1, 0));
        let packet = net.server.seal(now, peer, &inner).unwrap();
        net.put(path, false, packet);
        assert!(net.net.send_up(1, &inner));
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
        let name = format!("client {number}");
        net.join_as(number, 100 + number, classic, client.clone(), login(&name, "x"));
        assert!(net.up(number, secs(1)));
    }
    let number = |net: &Net| net.server.peer.unwrap().id;
    assert_eq!(number(&net).get(), 1);
    for (round, name) in ["client 2", "somebody else"].into_iter().enumerate() {
        net.join_as(2, 200 + round as u8, classic, client.clone(), login(name, "x"));
        assert!(net.up(2, secs(5)), "{:?}", net.server.events);
        net.run(secs(1));
        net.assert_alive(2, name);
        assert_eq!(number(&net).get(), 1 + round as u32, "{name}");
        assert_eq!(net.server.node.sessions(), 2);
    }
    net.assert_alive(1, "the other client");
}

#[test]
fn a_handshake_is_not_given_up_at_once_for_another_from_its_address() {
    let (server, client) = pairs().remove(0);
    let mut net = Net::new(server, 5);
    net.join(1, client.clone(), None);
    net.run(Duration::from_millis(35));
    assert_eq!((net.server.node.sessions(), net.server.count("Established")), (1, 0));
    // The client gives up and begins anew from the same address.
    net.restart(1, client, None);
    net.run(secs(1));
    assert!(net.server.node.drops().get(DropReason::UnderWay) > 0);
    assert!(net.server.closed().is_empty());
    assert!(net.up(1, secs(9)), "{:?}", net.server.node.drops());
    assert_eq!(net.server.closed(), [&CloseCause::Replaced]);
}
