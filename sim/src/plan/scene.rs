//! Scenes: some seeds put the machines where a certain kind of bug would show, which is too rare otherwise.

use core::time::Duration;

use super::draw::{Sheet, millis, secs, traffic};
use super::{Cast, Fault, Item, Mishap, Plan, Shape, WrapKind, size};
use crate::adversary::{Attack, Means};
use crate::machine::PlaneKind;
use crate::seed::Rate;

/// What a scene makes of a shape and adds to it.
type Scene = fn(&Sheet, &mut Shape, &mut Vec<Item>);

const SCENES: [Scene; 6] = [late_plane, taken_addresses, messages, comings_and_goings, blind, rival];

/// The plan of a seed that has a scene.
pub(super) fn draw(sheet: &Sheet, seed: u64, shape: &Shape) -> Option<Plan> {
    let mut draws = sheet.draws(70, 0);
    if !draws.hit(Rate::percent(12)) {
        return None;
    }
    let scene = draws.pick(&SCENES);
    let mut shape = Shape { stream: false, ..shape.clone() };
    let mut items = Vec::new();
    scene(sheet, &mut shape, &mut items);
    Some(Plan { seed, shape, items })
}

fn clients(sheet: &Sheet, least: u64, most: u64) -> Cast {
    Cast::Server { clients: sheet.draws(71, 0).between(least, most) as u16 }
}

/// New keys while a data plane is slow and the network is quick; the control channel loses packets, data doesn't.
fn late_plane(sheet: &Sheet, shape: &mut Shape, items: &mut Vec<Item>) {
    let mut draws = sheet.draws(72, 0);
    let slow = PlaneKind::Drawn;
    shape.planes = *draws.pick(&[[slow, PlaneKind::Local], [PlaneKind::Local, slow], [slow, slow]]);
    shape.reneg = [secs(10); 2];
    (shape.delay, shape.spare_data) = (*draws.pick(&[Duration::ZERO, millis(1)]), true);
    (shape.login_delay, shape.token) = (Duration::ZERO, false);
    for site in 1..size(shape) {
        for up in [false, true] {
            let loss = Rate::percent(draws.below(20) as u32);
            items.push(Item::Line { site, up, fault: Fault::Loss(loss) });
        }
        for (from, to) in [(0, site), (site, 0)] {
            let every = millis(draws.between(5, 30));
            items.push(Item::Traffic { from, to, every, size: (40, 200), ask: false, forged: false });
        }
    }
}

/// A client has its address by its name, and comes again while its old session still stands beside the new one, which
/// then ends.
fn taken_addresses(sheet: &Sheet, shape: &mut Shape, items: &mut Vec<Item>) {
    let mut draws = sheet.draws(72, 0);
    shape.cast = clients(sheet, 1, 3);
    (shape.fixed, shape.duplicate_cn, shape.fresh_sockets) = (true, true, true);
    shape.ping_restart = secs(15);
    shape.faulty = secs(draws.between(80, 120));
    traffic(sheet, shape, items);
    for caller in 1..size(shape) {
        let at = draws.time(secs(5), secs(25));
        items.push(Item::Event { at, what: Mishap::Crash(caller, draws.time(secs(1), secs(5))) });
    }
}

/// Control messages cross with the first packet of a renegotiation, so they arrive under the key before, or are sent
/// while it goes on.
fn messages(sheet: &Sheet, shape: &mut Shape, items: &mut Vec<Item>) {
    let mut draws = sheet.draws(72, 0);
    shape.cast = clients(sheet, 1, 3);
    shape.delay = *draws.pick(&[millis(10), millis(40), millis(150)]);
    traffic(sheet, shape, items);
    let mut at = secs(10);
    while at + secs(10) < shape.faulty {
        for caller in 1..size(shape) {
            items.push(Item::Event { at, what: Mishap::Renegotiate(caller) });
            for _ in 0..4 {
                let within = shape.delay * *draws.pick(&[1, 1, 10]);
                let at = at + draws.time(Duration::ZERO, within);
                items.push(Item::Event { at, what: Mishap::Message(caller) });
            }
        }
        at += draws.time(secs(3), secs(20));
    }
}

/// Clients leave and come again all the time, at a server with a slow data plane.
fn comings_and_goings(sheet: &Sheet, shape: &mut Shape, items: &mut Vec<Item>) {
    let mut draws = sheet.draws(72, 0);
    shape.cast = clients(sheet, 3, 5);
    shape.planes[0] = PlaneKind::Drawn;
    (shape.login, shape.login_delay, shape.token) = (false, Duration::ZERO, false);
    shape.delay = *draws.pick(&[Duration::ZERO, millis(1)]);
    traffic(sheet, shape, items);
    let often = shape.faulty.as_millis() as u64 / 300;
    for _ in 0..often {
        let at = draws.time(secs(2), shape.faulty);
        let who = draws.between(1, u64::from(size(shape)) - 1) as u16;
        items.push(Item::Event { at, what: Mishap::Leave(who) });
    }
}

/// Nothing protects the control channel but the session ids, and who attacks doesn't know them.
fn blind(sheet: &Sheet, shape: &mut Shape, items: &mut Vec<Item>) {
    let every = millis(sheet.draws(72, 0).between(5, 200));
    attack(sheet, shape, items, (Means::Blind, every));
}

/// Nothing protects the control channel, and somebody begins sessions in the name of a client that waits for the answer
/// to its login.
fn rival(sheet: &Sheet, shape: &mut Shape, items: &mut Vec<Item>) {
    let mut draws = sheet.draws(72, 0);
    shape.cast = clients(sheet, 1, 3);
    (shape.login, shape.login_delay, shape.token) = (true, millis(3000), false);
    shape.delay = *draws.pick(&[Duration::ZERO, millis(1), millis(10), millis(40)]);
    attack(sheet, shape, items, (Means::Rival, millis(draws.between(100, 500))));
}

fn attack(sheet: &Sheet, shape: &mut Shape, items: &mut Vec<Item>, (means, every): (Means, Duration)) {
    shape.wrap = WrapKind::None;
    traffic(sheet, shape, items);
    items.retain(|item| !matches!(item, Item::Traffic { forged: true, .. }));
    let site = sheet.draws(73, 0).between(1, u64::from(size(shape)) - 1) as u16;
    let attack = Attack { number: 0, site, means, every };
    // Who has not been heard yet can't be attacked.
    items.push(Item::Attack { attack, at: secs(1), lasts: shape.faulty });
}
