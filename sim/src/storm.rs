//! One world from its first packet to its verdict: faults, then a healed network, then everybody must be well.

use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};

use oxivpn_proto::{DropReason, Instant};

use crate::link::Counters;
use crate::machine::Machine;
use crate::nat;
use crate::plan::{Built, Cast, Fault, Item, Mishap, Plan, build};
use crate::trace::{Keep, MachineId};
use crate::verdict;
use crate::world::{Flow, Violation, World};

/// Probes that must be answered in a row before a tunnel counts as well.
const PROBES: u64 = 3;

/// What came of a plan.
#[derive(Debug)]
pub struct Outcome {
    /// The first broken invariant.
    pub violation: Option<Violation>,
    /// Equal for equal runs.
    pub digest: u64,
    /// How much time passed in the world.
    pub lasted: Duration,
    /// How long after the healing everybody was well.
    pub recovered: Duration,
    /// The world in its last state.
    pub built: Built,
}

impl Outcome {
    /// How often each fault hit, and how often each thing happened that the plan has. Names are always the same, in
    /// the same order.
    pub fn hits(&self, plan: &Plan) -> Vec<(&'static str, u64)> {
        let world = &self.built.world;
        let lines = |counted: fn(&Counters) -> u64| world.lines().map(counted).sum::<u64>();
        let nats = |counted: fn(&nat::Counters) -> u64| world.nats().map(|nat| counted(nat.counters())).sum();
        let events = |wanted: fn(&Mishap) -> bool| {
            let happened =
                |item: &&Item| matches!(item, Item::Event { at, what } if wanted(what) && *at < self.lasted);
            plan.items.iter().filter(happened).count() as u64
        };
        let items = |wanted: fn(&Item) -> bool| plan.items.iter().filter(|item| wanted(item)).count() as u64;
        let (stalls, resets) = world.stream_troubles();
        vec![
            ("lost", lines(|c| c.lost)),
            ("lost in a burst", lines(|c| c.burst_lost)),
            ("too big", lines(|c| c.too_big)),
            ("queue full", lines(|c| c.overflowed)),
            ("duplicated", lines(|c| c.duplicated)),
            ("reordered", lines(|c| c.reordered)),
            ("corrupted", lines(|c| c.corrupted)),
            ("truncated", lines(|c| c.truncated)),
            ("replayed", lines(|c| c.replayed)),
            ("kept out by a NAT", nats(|c| c.filtered + c.unknown)),
            ("nobody there", world.lost_on_the_way()),
            ("stream stalled", stalls),
            ("stream reset", resets),
            ("spell", items(|item| matches!(item, Item::Spell { .. }))),
            ("crash", events(|what| matches!(what, Mishap::Crash(..)))),
            ("sleep", events(|what| matches!(what, Mishap::Sleep(..)))),
            ("clock jump", events(|what| matches!(what, Mishap::Skew(..)))),
            ("NAT rebound", events(|what| matches!(what, Mishap::Rebind(_)))),
            ("new address", events(|what| matches!(what, Mishap::Renumber(_)))),
            ("leave", events(|what| matches!(what, Mishap::Leave(_)))),
            ("forged sender", items(|item| matches!(item, Item::Traffic { forged: true, .. }))),
            ("stranger", items(|item| matches!(item, Item::Stranger))),
        ]
    }
}

/// Runs a plan to its end, or to the first broken invariant. A panic of the core is one, too.
pub fn run(plan: &Plan, keep: Keep) -> Outcome {
    let mut built = build(plan, keep);
    let start = built.world.now();
    // What is left behind is looked at, not run.
    let played = catch_unwind(AssertUnwindSafe(|| play(plan, &mut built)));
    let (well, healed) = played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        built.world.violate(None, format!("panic: {text}"));
        (built.world.now(), built.world.now())
    });
    let violation = built.world.violations().first().cloned();
    let lasted = built.world.now() - start;
    Outcome { violation, digest: built.world.digest(), lasted, recovered: well - healed, built }
}

/// Faults, healing, verdict. Returns when everybody was well again, and when the healing was.
fn play(plan: &Plan, built: &mut Built) -> (Instant, Instant) {
    let start = built.world.now();
    let mut healed = start;
    if built.world.run_until(start + plan.shape.faulty) {
        healed = built.world.now();
        built.world.heal();
        recover(built, plan, healed);
    }
    let well = built.world.now();
    if built.world.violations().is_empty() {
        built.world.note("all are well".into());
    }
    let checks: [fn(&mut Built, &Plan); 3] = [verdict::renegotiate, judge, verdict::rest];
    for check in checks {
        if built.world.violations().is_empty() {
            check(built, plan);
        }
    }
    (well, healed)
}

/// Everybody has to be up within the plan's patience, and to be heard in both directions.
pub(crate) fn recover(built: &mut Built, plan: &Plan, healed: Instant) {
    let deadline = healed + plan.patience();
    let (hub, callers) = (built.hub, built.callers.clone());
    let every = Duration::from_millis(500);
    for &caller in &callers {
        for (from, to) in [(caller, hub), (hub, caller)] {
            let flow = Flow { from, to, every, size: (60, 600), ask: true, forged: false, until: deadline };
            built.world.add_flow(flow);
        }
    }
    let world = &mut built.world;
    let count = |world: &World| -> Vec<u64> {
        let ways = callers.iter().flat_map(|&caller| [(caller, hub), (hub, caller)]);
        ways.map(|(from, to)| world.tally(from, to).answered).collect()
    };
    while world.now() < deadline {
        let before = count(world);
        if !world.run_for(every * (PROBES as u32 + 1)) {
            return;
        }
        let well = count(world).iter().zip(&before).all(|(now, before)| now - before >= PROBES);
        if well && callers.iter().all(|&caller| is_up(world, hub, caller)) {
            return;
        }
    }
    for &caller in &callers {
        let (there, back) = (world.tally(caller, hub), world.tally(hub, caller));
        if !is_up(world, hub, caller)
            || there.last + 4 * every < world.now()
            || back.last + 4 * every < world.now()
        {
            let what = format!(
                "{:?} after the healing it is not well: up {}, last heard at {:?}, last hears at {:?}",
                world.now() - healed,
                is_up(world, hub, caller),
                there.last,
                back.last
            );
            return world.violate(Some(caller), what);
        }
    }
}

pub(crate) fn is_up(world: &World, hub: MachineId, caller: MachineId) -> bool {
    let name = world.tape().name(caller);
    let is_it = |machine: &Machine| {
        machine.tunnels().any(|(_, tunnel)| tunnel.name.is_empty() || tunnel.name == name)
    };
    world.machine(caller).tunnels().next().is_some() && is_it(world.machine(hub))
}

/// What must hold in the end, and at all times before.
fn judge(built: &mut Built, plan: &Plan) {
    let Built { world, hub, callers, strangers, .. } = built;
    for &stranger in strangers.iter() {
        if world.machine(stranger).tunnels().next().is_some() {
            return world.violate(Some(stranger), "a stranger is in".into());
        }
    }
    if plan.shape.cast == Cast::Pair && world.machine(*hub).tunnels().count() > 1 {
        let what = format!("{} tunnels with one peer", world.machine(*hub).tunnels().count());
        return world.violate(Some(*hub), what);
    }
    // Sessions that nobody needs any more are gone after a while, whatever there was.
    let rest = 2 * plan.patience() + plan.shape.tran_window.min(Duration::from_secs(120));
    let crowd = callers.len() + strangers.len();
    if !world.run_for(rest) {
        return;
    }
    // With a healthy network for so long a transfer gets done, however often its connection broke before.
    if let Some(late) = world.transfers().iter().find(|transfer| !transfer.done) {
        let what = format!("its transfer to machine {} is not through, try {}", late.to.0, late.tries);
        return world.violate(Some(late.from), what);
    }
    let sessions = world.machine(*hub).sessions();
    let most = if plan.shape.duplicate_cn { 3 * crowd } else { 2 * crowd };
    if sessions > most {
        return world.violate(Some(*hub), format!("{sessions} sessions for {crowd} who call"));
    }
    let forbidden = forbidden(plan, world);
    let drops: Vec<_> = world.machines().map(|machine| (machine.id(), machine.drops())).collect();
    for (id, drops) in drops {
        for &reason in &forbidden {
            if drops.get(reason) > 0 {
                let what =
                    format!("{} packets dropped for {reason:?}, which nothing explains", drops.get(reason));
                return world.violate(Some(id), what);
            }
        }
    }
}

/// Reasons to drop a packet that this plan gives no cause for.
fn forbidden(plan: &Plan, world: &World) -> Vec<DropReason> {
    let spoils = |item: &Item| match item {
        Item::Line { fault, .. } | Item::Spell { fault, .. } => fault.spoils(),
        Item::Stranger | Item::Gremlin { .. } | Item::Attack { .. } => true,
        _ => false,
    };
    let mut forbidden = vec![DropReason::DataAtControl];
    // Packets of an earlier session or negotiation that come late are under keys that the next one doesn't have.
    let late = |item: &Item| matches!(item, Item::Line { fault: Fault::Replay(..), .. });
    let once = !plan.items.iter().any(late)
        && world.machines().all(|machine| machine.calls() <= 1 && machine.boots() == 0);
    if once && !plan.items.iter().any(spoils) {
        forbidden.extend([
            DropReason::WrapAuthentication,
            DropReason::DataAuthentication,
            DropReason::Malformed,
        ]);
        forbidden.extend([DropReason::TooManyAcks, DropReason::EarlyNegotiation, DropReason::UnknownOpcode]);
        forbidden.extend([DropReason::NotIp, DropReason::Framing, DropReason::Compressed]);
        forbidden.push(DropReason::ClientKey);
    }
    if !plan.items.iter().any(|item| matches!(item, Item::Traffic { forged: true, .. })) {
        forbidden.push(DropReason::InnerSource);
    }
    forbidden
}
