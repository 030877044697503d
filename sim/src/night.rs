//! A night with the gremlin: few networks, for a long time, on lines that are as bad as OpenVPN's own fault injector
//! makes them.

use core::time::Duration;

use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::gremlin::Mask;

use crate::nat::NatKind;
use crate::plan::{Built, Cast, Fault, Item, Plan, Shape, build};
use crate::seed::Rate;
use crate::storm;
use crate::tls::Kind as TlsKind;
use crate::trace::Keep;
use crate::truth::Tally;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

/// How a night was.
#[derive(Debug)]
pub struct Night {
    /// What kind of night.
    pub name: &'static str,
    /// What went wrong, if anything did.
    pub failure: Option<String>,
    /// How long it was.
    pub lasted: Duration,
    /// Sessions that came up, of all who call.
    pub sessions: u64,
    /// Keys that the hub's data plane sent with.
    pub keys: u64,
    /// Probes sealed, and those of them that arrived, answers included.
    pub probes: (u64, u64),
    /// Packets that the gremlins lost or damaged, of those they saw.
    pub hit: (u64, u64),
    /// Equal for equal nights.
    pub digest: u64,
    /// The world in the morning.
    pub built: Built,
}

fn shape(cast: Cast) -> Shape {
    Shape {
        cast,
        tls: TlsKind::Rustls,
        ciphers: vec![DataCipher::Aes256Gcm, DataCipher::ChaCha20Poly1305],
        reneg: [10 * SECOND, 3600 * SECOND],
        ping: 5 * SECOND,
        ..Shape::default()
    }
}

fn traffic(from: u16, to: u16, every: Duration) -> Item {
    Item::Traffic { from, to, every, size: (64, 64), ask: true, forged: false }
}

/// Two ends of a tunnel, `reneg-sec 10`, the gremlin at its strongest at one and without its outages at the other, ten
/// pings a second in both directions.
pub fn pair(seed: u64, lasts: Duration, keep: Keep) -> Night {
    let mut shape = shape(Cast::Pair);
    // Longer than the longest outage, so that one session has to live through them.
    shape.ping_restart = 150 * SECOND;
    shape.reneg = [10 * SECOND; 2];
    shape.faulty = lasts;
    // Outages at one end are enough: two ends that go down on their own are seldom up together.
    let steady = Mask { up_down: 0, ..Mask::STRONGEST };
    let items = vec![
        Item::Gremlin { machine: 0, mask: Mask::STRONGEST },
        Item::Gremlin { machine: 1, mask: steady },
        traffic(0, 1, SECOND / 10),
        traffic(1, 0, SECOND / 10),
    ];
    spend("pair", &Plan { seed, shape, items }, keep)
}

/// A server and clients behind all kinds of translators, a ping a second each, lines that lose and spoil packets.
pub fn crowd(seed: u64, clients: u16, lasts: Duration, keep: Keep) -> Night {
    let mut shape = shape(Cast::Server { clients });
    shape.reneg = [60 * SECOND, 3600 * SECOND];
    shape.faulty = lasts;
    let mut items = Vec::new();
    for client in 1..=clients {
        let kind = NatKind::ALL[usize::from(client) % NatKind::ALL.len()];
        items.push(Item::Nat { site: client, kind });
        items.push(traffic(client, 0, SECOND));
        for up in [false, true] {
            items.push(Item::Line { site: client, up, fault: Fault::Loss(Rate::percent(1)) });
            items.push(Item::Line { site: client, up, fault: Fault::Corruption(Rate::percent(1), 4) });
            items.push(Item::Line { site: client, up, fault: Fault::Jitter(Duration::from_millis(10)) });
        }
    }
    spend("crowd", &Plan { seed, shape, items }, keep)
}

fn spend(name: &'static str, plan: &Plan, keep: Keep) -> Night {
    let mut built = build(plan, keep);
    let start = built.world.now();
    built.world.run_until(start + plan.shape.faulty);
    let lasted = built.world.now() - start;
    let hit = damage(&built.world);
    if built.world.violations().is_empty() {
        let healed = built.world.now();
        built.world.heal();
        storm::recover(&mut built, plan, healed);
        morning(&mut built, plan);
    }
    let world = &built.world;
    let sum = |counted: fn(&Tally) -> u64| world.tallies().map(|(_, tally)| counted(&tally)).sum();
    let deeds = |id| world.deeds(id);
    Night {
        name,
        failure: world.violations().first().map(ToString::to_string),
        lasted,
        sessions: built.callers.iter().map(|&caller| deeds(caller).tunnels).sum(),
        keys: deeds(built.hub).keys,
        probes: (sum(|tally| tally.sent), sum(|tally| tally.arrived)),
        hit,
        digest: world.digest(),
        built,
    }
}

/// Whether renegotiations go on: six times are planned, and each caller has two at least.
fn morning(built: &mut Built, plan: &Plan) {
    let keys = |built: &Built| built.world.deeds(built.hub).keys;
    let before = keys(built);
    if !built.world.run_for(6 * plan.shape.reneg[0]) {
        return;
    }
    let (gained, callers) = (keys(built) - before, built.callers.len() as u64);
    if gained < 2 * callers {
        let what = format!("in the morning {gained} new keys of {callers} who call");
        built.world.violate(Some(built.hub), what);
    }
}

/// Packets that gremlins or lines lost or damaged, and those that they saw.
fn damage(world: &World) -> (u64, u64) {
    let gremlins = world.machines().filter_map(|machine| world.gremlin(machine.id())).map(|gremlin| {
        let c = gremlin.counts();
        (c.incoming_dropped + c.outgoing_dropped + c.down + c.corrupted, c.incoming + c.outgoing)
    });
    let lines = world.lines().map(|c| (c.dropped() + c.corrupted + c.truncated, c.sent));
    gremlins.chain(lines).fold((0, 0), |(hit, seen), (h, s)| (hit + h, seen + s))
}
