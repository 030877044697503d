//! Drawing a plan: each seed switches some features on and others off, so that rare pairs of them meet.

use core::time::Duration;

use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::Framing;
use oxivpn_proto::gremlin::Mask;

use super::{Cast, Fault, Item, Mishap, Plan, Shape, WrapKind, scene, size};
use crate::adversary::{Attack, Guise, Means};
use crate::host::Transfer;
use crate::link::Bursts;
use crate::machine::PlaneKind;
use crate::nat::NatKind;
use crate::pipe::PipeFaults;
use crate::seed::{Branch, Draws, Purpose, Rate, SeedTree};
use crate::tls::Kind as TlsKind;

pub(super) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Seeds of one plan's parts, each of its own, so that one more draw in one part leaves the others.
pub(super) struct Sheet {
    seeds: SeedTree,
}

impl Sheet {
    pub(super) fn draws(&self, part: u32, number: u64) -> Draws {
        self.seeds.draws(Purpose::Which, part, number)
    }
}

pub(super) fn draw(seed: u64) -> Plan {
    let sheet = Sheet { seeds: SeedTree::new(seed).branch(Branch::Plan, 0) };
    let mut shape = shape(&sheet);
    if let Some(plan) = scene::draw(&sheet, seed, &shape) {
        return plan;
    }
    let mut items = Vec::new();
    if sheet.draws(50, 0).hit(Rate::percent(10)) {
        // Nothing but an attack: whatever breaks then was broken by it.
        shape.stream = false;
        traffic(&sheet, &shape, &mut items);
        attacks(&sheet, &shape, &mut items);
        return Plan { seed, shape, items };
    }
    lines(&sheet, &shape, &mut items);
    events(&sheet, &shape, &mut items);
    traffic(&sheet, &shape, &mut items);
    transfers(&sheet, &shape, &mut items);
    if sheet.draws(40, 0).hit(Rate::percent(20)) && matches!(shape.cast, Cast::Server { .. }) {
        items.push(Item::Stranger);
    }
    gremlins(&sheet, &shape, &mut items);
    if !shape.stream && sheet.draws(51, 0).hit(Rate::percent(35)) {
        attacks(&sheet, &shape, &mut items);
    }
    Plan { seed, shape, items }
}

fn shape(sheet: &Sheet) -> Shape {
    let mut draws = sheet.draws(0, 0);
    let cast = match draws.below(3) {
        0 => Cast::Pair,
        _ => Cast::Server { clients: draws.between(1, 4) as u16 },
    };
    let wraps = [WrapKind::None, WrapKind::TlsAuth, WrapKind::TlsCrypt, WrapKind::TlsCryptV2];
    let wrap = *draws.pick(&wraps);
    let mut draws = sheet.draws(1, 0);
    let tls = if draws.hit(Rate::percent(8)) { TlsKind::Rustls } else { TlsKind::Fake };
    let stream = draws.hit(Rate::percent(20));
    let all = [DataCipher::Aes256Gcm, DataCipher::Aes128Gcm, DataCipher::ChaCha20Poly1305];
    let ciphers = match draws.below(4) {
        0 => all.to_vec(),
        n => vec![all[n as usize - 1]],
    };
    let mut plane =
        || if draws.hit(Rate::percent(60)) { PlaneKind::Local } else { *draws.pick(&PlaneKind::ALL) };
    let planes = [plane(), plane()];
    let framing = framing(sheet, planes);
    let mut draws = sheet.draws(2, 0);
    let renegs = [secs(10), secs(10), secs(15), secs(25), secs(3600), Duration::ZERO];
    let reneg = [*draws.pick(&renegs), *draws.pick(&renegs)];
    let reneg_packets = if draws.hit(Rate::percent(10)) { draws.between(50, 400) } else { 0 };
    let hand_window = *draws.pick(&[secs(8), secs(15), secs(30), secs(60)]);
    let tran_window = *draws.pick(&[secs(20), secs(60), secs(3600)]);
    let ping = *draws.pick(&[secs(2), secs(5)]);
    let ping_restart = *draws.pick(&[secs(15), secs(20), secs(30)]);
    let mut draws = sheet.draws(3, 0);
    let mut some = |percent| draws.hit(Rate::percent(percent));
    let (login, slow, token, client_to_client) = (some(30), some(30), some(40), some(40));
    let (duplicate_cn, fresh_sockets, exit_notify) = (some(10), some(70), some(40));
    let spare_data = !stream && some(25);
    let delay = *draws.pick(&[Duration::ZERO, millis(1), millis(10), millis(40), millis(150)]);
    Shape {
        cast,
        wrap,
        tls,
        stream,
        ciphers,
        framing,
        planes,
        reneg,
        reneg_packets,
        hand_window,
        tran_window,
        ping,
        ping_restart,
        login,
        login_delay: if slow { millis(3000) } else { Duration::ZERO },
        token: login && token,
        client_to_client,
        duplicate_cn,
        fixed: false,
        fresh_sockets,
        exit_notify,
        delay,
        faulty: secs(sheet.draws(4, 0).between(40, 160)),
        spare_data,
    }
}

/// Most tunnels have none; the kernel does none that changes IP packets.
fn framing(sheet: &Sheet, planes: [PlaneKind; 2]) -> Framing {
    let mut draws = sheet.draws(5, 0);
    match draws.below(8) {
        0 => Framing::StubV2,
        1 | 2 if !planes.contains(&PlaneKind::Kernel) => *draws.pick(&[Framing::Stub, Framing::Swap]),
        _ => Framing::None,
    }
}

fn lines(sheet: &Sheet, shape: &Shape, items: &mut Vec<Item>) {
    let mut draws = sheet.draws(10, 0);
    // How bad it is in all: some worlds are nearly healthy, which is where quiet bugs show.
    let badness = *draws.pick(&[0, 1, 1, 2, 2, 3]);
    for site in 0..size(shape) {
        for up in [false, true] {
            let line = u32::from(site) * 2 + u32::from(up);
            for (number, fault) in faults(&sheet.draws(11, line.into()), badness).into_iter().enumerate() {
                if !sheet.draws(12 + line, number as u64).hit(Rate::percent(25)) {
                    continue;
                }
                items.push(Item::Line { site, up, fault });
            }
        }
    }
    for site in 1..size(shape) {
        let mut draws = sheet.draws(100, site.into());
        if draws.hit(Rate::percent(50)) {
            items.push(Item::Nat { site, kind: *draws.pick(&NatKind::ALL) });
        }
    }
    if shape.stream && sheet.draws(101, 0).hit(Rate::percent(70)) {
        let mut draws = sheet.draws(102, 0);
        let faults = PipeFaults {
            delay: shape.delay,
            jitter: millis(draws.below(50)),
            chunks: Rate::percent(draws.between(5, 100) as u32),
            buffer: draws.between(2000, 60_000) as usize,
            stall: Rate::millionths(draws.between(100, 10_000) as u32),
            stall_for: millis(draws.between(100, 8000)),
            reset: Rate::millionths(draws.below(300) as u32),
            ..PipeFaults::NONE
        };
        items.push(Item::Streams(faults));
    }
}

/// One of each fault, of a strength that goes with `badness`.
fn faults(draws: &Draws, badness: u32) -> Vec<Fault> {
    if badness == 0 {
        return Vec::new();
    }
    let mut draws = draws.clone();
    let mut upto =
        |percent: u64| Rate::millionths(draws.between(1000, percent * 10_000 * u64::from(badness)) as u32);
    let (loss, copies, hold, flip, cut, again) = (upto(8), upto(5), upto(8), upto(4), upto(3), upto(4));
    let bursts =
        Bursts { worsen: upto(1), recover: Rate::percent(10), good: Rate::NEVER, bad: Rate::percent(80) };
    vec![
        Fault::Loss(loss),
        Fault::Bursts(bursts),
        Fault::Duplication(copies),
        Fault::Reordering(hold, millis(draws.between(1, 400) * u64::from(badness))),
        Fault::Corruption(flip, draws.between(1, 8) as u8),
        Fault::Truncation(cut),
        Fault::Replay(again, secs(draws.between(1, 60))),
        Fault::Jitter(millis(draws.between(1, 60))),
        Fault::Slow(draws.between(200, 20_000) * 1000, draws.between(3000, 60_000) as usize),
    ]
}

fn events(sheet: &Sheet, shape: &Shape, items: &mut Vec<Item>) {
    let machines = size(shape);
    let count = sheet.draws(200, 0).below(4);
    for number in 0..count {
        let mut draws = sheet.draws(201, number);
        let at = draws.time(secs(5), shape.faulty);
        let who = draws.below(machines.into()) as u16;
        let caller = 1 + draws.below(u64::from(machines) - 1) as u16;
        let short = millis(draws.between(100, 40_000));
        let what = match draws.below(10) {
            0 | 1 => Mishap::Crash(who, short),
            2 => Mishap::Sleep(who, short),
            3 => Mishap::Skew(who, draws.between(0, 7200) as i64 - 3600),
            4 => Mishap::Rebind(caller),
            5 => Mishap::Renumber(caller),
            6 if shape.stream => Mishap::BreakStreams(who),
            6 | 7 => Mishap::Renegotiate(who),
            8 => Mishap::Leave(caller),
            _ => {
                let fault = if draws.hit(Rate::percent(70)) { Fault::BlackHole } else { Fault::Mtu(600) };
                items.push(Item::Spell {
                    site: who,
                    up: draws.hit(Rate::percent(50)),
                    fault,
                    at,
                    lasts: short,
                });
                continue;
            }
        };
        items.push(Item::Event { at, what });
    }
}

fn gremlins(sheet: &Sheet, shape: &Shape, items: &mut Vec<Item>) {
    let mut draws = sheet.draws(60, 0);
    if shape.stream || !draws.hit(Rate::percent(15)) {
        return;
    }
    let machine = draws.below(size(shape).into()) as u16;
    let mut level = || draws.below(4) as u8;
    let mask = Mask { corrupt: level(), up_down: level(), drop: level(), ..Mask::default() };
    items.push(Item::Gremlin { machine, mask });
}

fn attacks(sheet: &Sheet, shape: &Shape, items: &mut Vec<Item>) {
    for number in 0..sheet.draws(52, 0).between(1, 4) {
        let mut draws = sheet.draws(53, number);
        let site = draws.between(1, u64::from(size(shape)) - 1) as u16;
        let at = draws.time(Duration::ZERO, shape.faulty);
        let (mut lasts, mut every) = (secs(draws.between(5, 100)), millis(draws.between(2, 400)));
        let guise = *draws.pick(&[Guise::True, Guise::Port, Guise::Any]);
        let (one, other) = (draws.below(2) == 0, draws.below(2) == 0);
        let means = match draws.below(10) {
            0 | 1 => Means::Replay { data: one, guise, prompt: other },
            2 | 3 => Means::Spoil { cut: one, before: other },
            4 => Means::Resets(guise),
            5 => Means::Control,
            6 => Means::Data(guise),
            7 => {
                // Some 10,000 in a few seconds.
                (lasts, every) = (secs(4), Duration::from_micros(draws.between(300, 600)));
                Means::FirstPackets
            }
            8 => {
                (lasts, every) = (secs(4), Duration::from_micros(draws.between(500, 2000)));
                Means::Garbage(guise)
            }
            _ => Means::Reflection,
        };
        let attack = Attack { number: number as u32, site, means, every };
        items.push(Item::Attack { attack, at, lasts });
    }
}

pub(super) fn traffic(sheet: &Sheet, shape: &Shape, items: &mut Vec<Item>) {
    let machines = size(shape);
    for caller in 1..machines {
        for (direction, (from, to)) in [(caller, 0), (0, caller)].into_iter().enumerate() {
            let mut draws = sheet.draws(300 + direction as u32, caller.into());
            let every = millis(draws.between(80, 1500));
            let largest = *draws.pick(&[60, 500, 1200, 1400]);
            let ask = draws.hit(Rate::percent(50));
            items.push(Item::Traffic { from, to, every, size: (40, largest), ask, forged: false });
        }
        let mut draws = sheet.draws(302, caller.into());
        if draws.hit(Rate::percent(10)) && matches!(shape.cast, Cast::Server { .. }) {
            items.push(Item::Traffic {
                from: caller,
                to: 0,
                every: secs(1),
                size: (40, 200),
                ask: true,
                forged: true,
            });
        }
        let other = 1 + draws.below(u64::from(machines) - 1) as u16;
        if other != caller && shape.client_to_client {
            items.push(Item::Traffic {
                from: caller,
                to: other,
                every: millis(700),
                size: (40, 900),
                ask: true,
                forged: false,
            });
        }
    }
}

fn transfers(sheet: &Sheet, shape: &Shape, items: &mut Vec<Item>) {
    let mut draws = sheet.draws(500, 0);
    if !draws.hit(Rate::percent(25)) {
        return;
    }
    for number in 0..draws.between(1, 2) {
        let mut draws = sheet.draws(501, number);
        let caller = 1 + draws.below(u64::from(size(shape)) - 1) as u16;
        let (from, to) = if draws.hit(Rate::percent(70)) { (caller, 0) } else { (0, caller) };
        let at = draws.time(Duration::ZERO, shape.faulty);
        let mut amount = || if draws.hit(Rate::percent(75)) { draws.between(1, 150_000) } else { 0 };
        let bytes = Transfer { upload: amount(), download: amount() };
        items.push(Item::Transfer { from, to, at, bytes });
    }
}
