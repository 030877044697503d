use core::time::Duration;

use proptest::prelude::*;

use super::*;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn second(n: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(n)
}

fn nat(kind: NatKind) -> Nat {
    Nat::new(kind, addr("203.0.113.5:0").ip(), &SeedTree::new(1))
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Out {
        private: usize,
        remote: usize,
    },
    /// To a port that was in use so many steps ago.
    In {
        remote: usize,
        back: usize,
    },
    Wait(u64),
    Rebind,
    Move(u8),
}

const PRIVATE: [&str; 4] = ["10.0.0.1:5000", "10.0.0.2:5000", "10.0.0.1:6000", "10.0.0.3:80"];
const REMOTE: [&str; 5] =
    ["192.0.2.1:1194", "192.0.2.1:443", "192.0.2.2:1194", "192.0.2.2:443", "[2001:db8::1]:443"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..PRIVATE.len(), 0..REMOTE.len()).prop_map(|(private, remote)| Step::Out { private, remote }),
        8 => (0..REMOTE.len(), 0..6usize).prop_map(|(remote, back)| Step::In { remote, back }),
        4 => (0..25u64).prop_map(Step::Wait),
        1 => Just(Step::Rebind),
        1 => (5..8u8).prop_map(Step::Move),
    ]
}

fn kind() -> impl Strategy<Value = NatKind> {
    let scope = || prop_oneof![Just(Scope::Any), Just(Scope::Address), Just(Scope::AddressAndPort)];
    let ports = prop_oneof![Just(Ports::Preserved), Just(Ports::Random)];
    let refresh = prop_oneof![Just(Refresh::Outbound), Just(Refresh::BothWays)];
    let lifetime = prop_oneof![Just(Duration::MAX), Just(Duration::from_secs(60))];
    (scope(), scope(), ports, refresh, 5..40u64, lifetime).prop_map(
        |(mapping, filter, ports, refresh, timeout, lifetime)| {
            let timeout = Duration::from_secs(timeout);
            NatKind { mapping, filter, ports, refresh, timeout, lifetime, capacity: 1000 }
        },
    )
}

/// A packet that passed.
struct Passed {
    at: Instant,
    out: bool,
    private: SocketAddr,
    remote: SocketAddr,
    port: u16,
}

/// Knows all packets that passed since the translator was started, and derives everything from that.
struct Model {
    kind: NatKind,
    log: Vec<Passed>,
}

impl Model {
    fn same(scope: Scope, a: SocketAddr, b: SocketAddr) -> bool {
        match scope {
            Scope::Any => true,
            Scope::Address => a.ip() == b.ip(),
            Scope::AddressAndPort => a == b,
        }
    }

    /// The packets of the living mapping that `private` uses to `remote`.
    fn life(&self, now: Instant, private: SocketAddr, remote: SocketAddr) -> Vec<&Passed> {
        let mut life: Vec<&Passed> = Vec::new();
        let dead = |life: &[&Passed], now: Instant| {
            let keeps = |p: &&&Passed| p.out || self.kind.refresh == Refresh::BothWays;
            let last = life.iter().rfind(keeps).map_or(Instant::ZERO, |p| p.at);
            let made = life.first().map_or(Instant::ZERO, |p| p.at);
            now - last >= self.kind.timeout || now - made >= self.kind.lifetime
        };
        // What comes in belongs to the mapping that had its port then; that is the one with the same port.
        for passed in self.log.iter().filter(|p| p.private == private) {
            let mine = if passed.out {
                Self::same(self.kind.mapping, passed.remote, remote)
            } else {
                life.first().is_some_and(|first| first.port == passed.port)
            };
            let dead = dead(&life, passed.at);
            if mine && dead {
                life.clear();
            }
            // A dead mapping lets nothing in: its port has another owner by then.
            if mine && (passed.out || !dead) {
                life.push(passed);
            }
        }
        if dead(&life, now) {
            life.clear();
        }
        life
    }

    /// All living mappings, each as its packets.
    fn lives(&self, now: Instant) -> Vec<Vec<&Passed>> {
        let out = self.log.iter().filter(|p| p.out);
        let lives = out.map(|p| self.life(now, p.private, p.remote)).filter(|life| !life.is_empty());
        lives.collect()
    }

    fn out(&mut self, now: Instant, private: SocketAddr, remote: SocketAddr, port: u16) {
        let life = self.life(now, private, remote);
        if let Some(first) = life.first() {
            assert_eq!(port, first.port, "a living mapping keeps its port");
        } else {
            let lives = self.lives(now);
            let taken = |port| lives.iter().any(|life| life[0].port == port);
            assert!(!taken(port), "{port} has another owner");
            match self.kind.ports {
                Ports::Preserved if !taken(private.port()) => assert_eq!(port, private.port()),
                Ports::Preserved | Ports::Random => assert!(port >= FIRST_PORT),
            }
        }
        self.log.push(Passed { at: now, out: true, private, remote, port });
    }

    fn inward(&mut self, now: Instant, remote: SocketAddr, port: u16, got: Option<SocketAddr>) {
        let lives = self.lives(now);
        let life = lives.iter().find(|life| life[0].port == port);
        let knows = |p: &&Passed| {
            let keeps = p.out || self.kind.refresh == Refresh::BothWays;
            keeps && now - p.at < self.kind.timeout && Self::same(self.kind.filter, p.remote, remote)
        };
        let expected = life.filter(|life| life.iter().any(knows)).map(|life| life[0].private);
        assert_eq!(got, expected);
        if let Some(private) = got {
            self.log.push(Passed { at: now, out: false, private, remote, port });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// All rules at once against the model: who shares a port, who gets in, what expires when, which port.
    #[test]
    fn the_rules_hold(kind in kind(), steps in prop::collection::vec(step(), 1..60)) {
        let (mut nat, mut model) = (nat(kind), Model { kind, log: Vec::new() });
        let (mut now, mut used, mut counts) = (second(1000), vec![5000], [0; 2]);
        for step in steps {
            match step {
                Step::Out { private, remote } => {
                    counts[0] += 1;
                    let (private, remote) = (addr(PRIVATE[private]), addr(REMOTE[remote]));
                    let outside = nat.outbound(now, private, remote);
                    assert_eq!(outside.ip(), nat.public());
                    model.out(now, private, remote, outside.port());
                    used.push(outside.port());
                }
                Step::In { remote, back } => {
                    counts[1] += 1;
                    let port = used[used.len().saturating_sub(back + 1)];
                    let remote = addr(REMOTE[remote]);
                    let got = nat.inbound(now, remote, SocketAddr::new(nat.public(), port));
                    model.inward(now, remote, port, got);
                }
                Step::Wait(seconds) => now = now + Duration::from_secs(seconds),
                Step::Rebind => {
                    nat.rebind(now);
                    model.log.clear();
                }
                Step::Move(last) => nat.set_public(IpAddr::from([203, 0, 113, last])),
            }
        }
        let c = nat.counters();
        assert_eq!([c.outbound, c.inbound + c.filtered + c.unknown], counts);
    }

    /// A flood of flows takes no more room than there is, and what is live keeps a port of its own.
    #[test]
    fn the_table_is_bounded(flows in prop::collection::vec((0..200u16, 0..50u16), 1..300), capacity in 0..20usize) {
        let mut nat = nat(NatKind { capacity, ..NatKind::symmetric() });
        for (n, (private, remote)) in (0..).zip(flows) {
            let private = SocketAddr::from(([10, 0, 0, 1], 1000 + private));
            let remote = SocketAddr::from(([192, 0, 2, 1], 1000 + remote));
            let outside = nat.outbound(second(n / 20), private, remote);
            prop_assert_eq!(nat.inbound(second(n / 20), remote, outside), Some(private));
            prop_assert!(nat.mappings() <= capacity.max(1) && nat.ports.len() == nat.mappings());
        }
    }
}

#[test]
fn presets_are_what_their_names_say() {
    let client = addr("10.0.0.2:5000");
    let [server, sibling, stranger] = ["192.0.2.1:1194", "192.0.2.1:443", "198.51.100.7:1194"].map(addr);
    // Who gets in, whether a second destination sees the same port, and whether it is the private one.
    let expected = [
        ("full cone", [true, true, true], true, true),
        ("restricted", [true, true, false], true, true),
        ("port restricted", [true, false, false], true, true),
        ("symmetric", [true, false, false], false, false),
        ("carrier grade", [true, false, false], true, false),
    ];
    for (kind, (name, let_in, same, preserved)) in NatKind::ALL.into_iter().zip(expected) {
        assert_eq!(kind.name(), Some(name));
        let mut nat = nat(kind);
        let outside = nat.outbound(second(0), client, server);
        let got = [server, sibling, stranger].map(|from| nat.inbound(second(1), from, outside).is_some());
        assert_eq!(got, let_in, "{name}");
        assert_eq!(nat.outbound(second(1), client, stranger) == outside, same, "{name}");
        assert_eq!(outside.port() == client.port(), preserved, "{name}");
    }
}

#[test]
fn expiry_depends_on_direction() {
    let (client, server) = (addr("10.0.0.2:5000"), addr("192.0.2.1:1194"));
    for (kind, expires) in [(NatKind::port_restricted(), true), (NatKind::restricted(), false)] {
        let mut nat = nat(kind);
        let outside = nat.outbound(second(0), client, server);
        // Packets in, ten seconds apart.
        let last = (1..).map(|n| second(n * 10)).take(30);
        let last = last.take_while(|at| nat.inbound(*at, server, outside).is_some()).last();
        assert_eq!(last, Some(second(if expires { 20 } else { 300 })), "{kind:?}");
    }
}

#[test]
fn a_carrier_moves_a_flow_that_is_busy() {
    let (client, server) = (addr("10.0.0.2:5000"), addr("192.0.2.1:1194"));
    let mut nat = nat(NatKind::carrier_grade());
    let seen: Vec<_> = (0..180).map(|n| nat.outbound(second(n * 10), client, server)).collect();
    let changes = (1..180).filter(|&n| seen[n] != seen[n - 1]).collect::<Vec<_>>();
    assert_eq!(changes, [60, 120]);
    // Not so one that keeps it.
    let mut nat = Nat::new(NatKind::restricted(), nat.public(), &SeedTree::new(1));
    assert!((0..180).all(|n| nat.outbound(second(n * 10), client, server).port() == 5000));
}

#[test]
fn a_rebinding_changes_random_ports_and_forgets_who_was_let_in() {
    let (client, server) = (addr("10.0.0.2:5000"), addr("192.0.2.1:1194"));
    let mut nat = nat(NatKind::symmetric());
    let before = nat.outbound(second(0), client, server);
    nat.rebind(second(1));
    assert_eq!((nat.inbound(second(1), server, before), nat.counters().unknown), (None, 1));
    let after = nat.outbound(second(2), client, server);
    assert_ne!(before, after);
    // The old public address leads nowhere, the new one with the same port does.
    nat.set_public(addr("203.0.113.6:0").ip());
    assert_eq!(nat.inbound(second(3), server, after), None);
    assert_eq!(nat.inbound(second(3), server, SocketAddr::new(nat.public(), after.port())), Some(client));
}

#[test]
fn who_is_let_in_is_bounded_too() {
    let client = addr("10.0.0.2:5000");
    let mut nat = nat(NatKind::port_restricted());
    let remote = |n: u16| SocketAddr::from(([192, 0, 2, 1], 1000 + n));
    let count = MAX_PERMITS as u16 + 10;
    let outside =
        (0..count).map(|n| nat.outbound(second(u64::from(n / 10)), client, remote(n))).last().unwrap();
    let gone = (0..count).filter(|&n| nat.inbound(second(10), remote(n), outside).is_none());
    assert_eq!(gone.collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
}

#[test]
fn the_seed_decides_the_ports() {
    let ports = |seed| {
        let mut nat = Nat::new(NatKind::symmetric(), addr("203.0.113.5:0").ip(), &SeedTree::new(seed));
        let client = addr("10.0.0.2:5000");
        let remote = |n: u16| SocketAddr::from(([192, 0, 2, 1], 1000 + n));
        (0..20).map(|n| nat.outbound(second(0), client, remote(n)).port()).collect::<Vec<_>>()
    };
    assert_eq!(ports(1), ports(1));
    assert_ne!(ports(1), ports(2));
}
