//! What storm asks of a healed world beyond being up: each check is here because a bug could pass all others.

use core::time::Duration;

use oxivpn_proto::DropReason;

use crate::link::Faults;
use crate::machine::PlaneKind;
use crate::plan::{Built, Fault, Item, Mishap, Plan};
use crate::seed::Rate;
use crate::storm;
use crate::trace::MachineId;
use crate::world::{Happening, SiteFaults, SiteId, World};

/// Time that a handshake needs at most once all packets arrive.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// All callers renegotiate, and at the beginning no control packet gets through in one or both directions. The new
/// key has to come nevertheless, in the same session.
pub(crate) fn renegotiate(built: &mut Built, plan: &Plan) {
    let Built { world, hub, callers, .. } = built;
    let (hub, mut callers) = (*hub, callers.clone());
    let shape = &plan.shape;
    let hole = shape.hand_window / 6;
    let count = |world: &World, callers: &[MachineId]| -> Vec<_> {
        callers.iter().map(|&caller| (world.deeds(caller).calls, world.deeds(caller).keys)).collect()
    };
    // What began while there were faults comes to an end.
    if !world.run_for(shape.hand_window) {
        return;
    }
    // Where a renegotiation failed, the hub waits for the caller to begin anew, or has given the session up already.
    let whole =
        |caller| storm::is_up(world, hub, caller) && !world.machine(hub).is_lame(&world.tape().name(caller));
    callers.retain(|&caller| whole(caller));
    let before = count(world, &callers);
    let clear = Faults { delay: shape.delay, ..Faults::NONE };
    let dark = Faults { loss: Rate::ALWAYS, ..clear };
    let (up, down) = [(dark, dark), (dark, clear), (clear, dark)][(plan.seed % 3) as usize];
    // Data goes on; otherwise it may prove the new key.
    let lines = |up, down| SiteFaults { up, down, spare_data: true };
    for &caller in callers.iter() {
        world.happen(Happening::Renegotiate(caller));
        world.happen(Happening::Lines(SiteId(caller.0), lines(up, down)));
    }
    if !world.run_for(hole) {
        return;
    }
    for &caller in callers.iter() {
        world.happen(Happening::Lines(SiteId(caller.0), lines(clear, clear)));
    }
    let deadline = world.now() + 2 * shape.hand_window + HANDSHAKE;
    loop {
        if !world.run_for(Duration::from_millis(500)) {
            return;
        }
        let now = count(world, &callers);
        let pairs = || callers.iter().zip(before.iter().zip(&now));
        if let Some((&caller, _)) = pairs().find(|(_, (before, now))| before.0 != now.0) {
            return world.violate(Some(caller), "it fell while it renegotiated on a healed network".into());
        }
        let waits = pairs().find(|(_, (before, now))| before.1 == now.1);
        let Some((&caller, _)) = waits else { return };
        if world.now() >= deadline {
            return world.violate(Some(caller), "no new key on a healed network".into());
        }
    }
}

/// At rest: nothing is left of what was, and what happened has a cause.
pub(crate) fn rest(built: &mut Built, plan: &Plan) {
    let Built { world, hub, callers, .. } = built;
    let machines: Vec<MachineId> = world.machines().map(|machine| machine.id()).collect();
    let often = plan.shape.reneg.iter().any(|every| !every.is_zero() && *every < Duration::from_secs(3600));
    let settles =
        !often && plan.shape.reneg_packets == 0 && plan.shape.tran_window <= Duration::from_secs(60);
    let calm = is_calm(plan);
    let spoils = plan.items.iter().any(spoils);
    for id in machines {
        let machine = world.machine(id);
        let (idle, keys, ends) = (machine.idle_peers(), machine.most_keys(), machine.ends());
        if idle > 0 {
            return world.violate(Some(id), format!("{idle} peers in the data plane without a tunnel"));
        }
        if settles && keys > 1 {
            return world.violate(Some(id), format!("{keys} keys of one peer long after tran-window"));
        }
        if ends.tls > 0 && !spoils {
            return world.violate(Some(id), format!("TLS broke {} times, without corruption", ends.tls));
        }
        let falls = calm && (callers.contains(&id) && machine.calls() > 1 || id == *hub && ends.silence > 0);
        if falls {
            return world.violate(Some(id), "a tunnel fell in a calm world".into());
        }
    }
    if let Some((id, drops)) = replays(plan, world) {
        return world
            .violate(Some(id), format!("{drops} packets dropped for DataReplay, which nothing explains"));
    }
    leave(built, plan);
}

/// Packets dropped as replays where no line makes copies.
fn replays(plan: &Plan, world: &World) -> Option<(MachineId, u64)> {
    let copies = |item: &Item| {
        let copies = |fault: &Fault| matches!(fault, Fault::Duplication(_) | Fault::Replay(..));
        match item {
            Item::Line { fault, .. } | Item::Spell { fault, .. } => copies(fault) || fault.spoils(),
            Item::Attack { .. } | Item::Gremlin { .. } => true,
            _ => false,
        }
    };
    let once = world.machines().all(|machine| machine.calls() <= 1 && machine.boots() == 0);
    if !once || plan.items.iter().any(copies) {
        return None;
    }
    let mut drops =
        world.machines().map(|machine| (machine.id(), machine.drops().get(DropReason::DataReplay)));
    drops.find(|(_, drops)| *drops > 0)
}

/// Who leaves and says so is gone at the other end at once.
fn leave(built: &mut Built, plan: &Plan) {
    let Built { world, hub, callers, .. } = built;
    // A kernel doesn't know the message.
    if !plan.shape.exit_notify || plan.shape.stream || plan.shape.planes[0] != PlaneKind::Local {
        return;
    }
    world.expect_ends();
    // Who lost its control channel hears nothing.
    callers.retain(|&caller| !world.machine(*hub).is_lame(&world.tape().name(caller)));
    let before = world.machine(*hub).ends().exits;
    callers.iter().for_each(|&caller| world.happen(Happening::Leave(caller)));
    if !world.run_for(Duration::from_secs(2)) {
        return;
    }
    let heard = world.machine(*hub).ends().exits - before;
    if heard != callers.len() as u64 {
        world.violate(Some(*hub), format!("{heard} exits heard of {}", callers.len()));
    }
}

fn spoils(item: &Item) -> bool {
    match item {
        Item::Line { fault, .. } | Item::Spell { fault, .. } => fault.spoils(),
        Item::Stranger | Item::Gremlin { .. } | Item::Attack { .. } => true,
        _ => false,
    }
}

/// Whether nothing keeps packets from arriving, apart from addresses that change.
fn is_calm(plan: &Plan) -> bool {
    plan.items.iter().all(|item| match item {
        Item::Traffic { .. } | Item::Transfer { .. } | Item::Nat { .. } | Item::Stranger => true,
        Item::Line { fault, .. } => {
            matches!(
                fault,
                Fault::Duplication(_) | Fault::Reordering(..) | Fault::Replay(..) | Fault::Jitter(_)
            )
        }
        Item::Event { what, .. } => match what {
            Mishap::Renegotiate(_) => true,
            Mishap::Rebind(_) | Mishap::Renumber(_) => !plan.shape.stream,
            _ => false,
        },
        Item::Spell { .. } | Item::Streams(_) | Item::Gremlin { .. } | Item::Attack { .. } => false,
    })
}
