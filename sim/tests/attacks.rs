//! All attacks at once on networks that are healthy otherwise, for each protection of the control channel.

use core::time::Duration;

use oxivpn_sim::adversary::{Attack, Guise, Means};
use oxivpn_sim::machine::PlaneKind;
use oxivpn_sim::plan::{Cast, Item, Plan, Shape, WrapKind};
use oxivpn_sim::storm;
use oxivpn_sim::tls::Kind;
use oxivpn_sim::trace::Keep;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn means() -> Vec<Means> {
    let mut all = vec![Means::Control, Means::Reflection];
    for (one, other) in [(false, false), (false, true), (true, false), (true, true)] {
        all.push(Means::Spoil { cut: one, before: other });
        for guise in [Guise::True, Guise::Port, Guise::Any] {
            all.push(Means::Replay { data: one, guise, prompt: other });
        }
    }
    for guise in [Guise::True, Guise::Port, Guise::Any] {
        all.extend([Means::Resets(guise), Means::Data(guise), Means::Garbage(guise)]);
    }
    all
}

fn plan(seed: u64, cast: Cast, wrap: WrapKind) -> Plan {
    let shape = Shape {
        cast,
        wrap,
        tls: Kind::Fake,
        stream: false,
        planes: [PlaneKind::Local; 2],
        reneg: [secs(10), secs(3600)],
        hand_window: secs(15),
        tran_window: secs(60),
        ping: secs(2),
        ping_restart: secs(15),
        delay: Duration::from_millis(10),
        faulty: secs(40),
        ..Plan::draw(seed).shape
    };
    let mut items = Vec::new();
    for (from, to) in [(0, 1), (1, 0)] {
        let every = Duration::from_millis(200);
        items.push(Item::Traffic { from, to, every, size: (40, 900), ask: true, forged: false });
    }
    let mut attack = |means, every, at, lasts| {
        let attack = Attack { number: items.len() as u32, site: 1, means, every };
        items.push(Item::Attack { attack, at: secs(at), lasts: secs(lasts) });
    };
    for means in means() {
        attack(means, Duration::from_millis(50), 0, 40);
    }
    attack(Means::FirstPackets, Duration::from_micros(400), 5, 4);
    Plan { seed, shape, items }
}

/// Nobody who has no key ends a tunnel, moves it, takes data from it, or makes a machine grow. Without protection
/// of the control channel tunnels may end, and come back.
#[test]
fn an_attack_from_the_first_packet_on_hurts_nobody() {
    for cast in [Cast::Pair, Cast::Server { clients: 2 }] {
        for wrap in [WrapKind::None, WrapKind::TlsAuth, WrapKind::TlsCrypt, WrapKind::TlsCryptV2] {
            let plan = plan(7, cast, wrap);
            assert!(plan.is_healthy() && plan.is_attacked());
            let outcome = storm::run(&plan, Keep::Hash);
            assert!(outcome.violation.is_none(), "{:?}\n{plan}", outcome.violation);
            let (packets, sessions) = outcome.built.world.attacked();
            assert!(packets > 20_000, "{packets}");
            let most = if wrap == WrapKind::None { 64 } else { 8 };
            assert!(sessions <= most, "{sessions} sessions, {wrap:?}");
        }
    }
}
