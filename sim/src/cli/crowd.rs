//! Worlds on all cores.

use core::cell::{Cell, RefCell};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::panic;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use oxivpn_sim::plan::{Cast, Item, Plan};
use oxivpn_sim::report::html::Seed;
use oxivpn_sim::storm::{self, Outcome};
use oxivpn_sim::trace::Keep;

use super::clock::cpu;

thread_local! {
    /// Whether this thread is in a world, whose panics are violations.
    static IN_WORLD: Cell<bool> = const { Cell::new(false) };
    /// Where the last of them was.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes panics of worlds silent, since they are reported as violations. Once for the whole program.
pub(super) fn quiet_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if IN_WORLD.get() {
            PANIC.set(info.location().map(ToString::to_string));
        } else {
            before(info);
        }
    }));
}

/// Runs a plan; a violation that is a panic says where it was.
pub(super) fn play(plan: &Plan, keep: Keep) -> Outcome {
    IN_WORLD.set(true);
    let mut outcome = storm::run(plan, keep);
    IN_WORLD.set(false);
    if let Some(violation) = &mut outcome.violation
        && let Some(place) = PANIC.take()
    {
        violation.what = format!("{} at {place}", violation.what);
    }
    outcome
}

/// How long many worlds took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effort {
    /// CPU time of all threads.
    pub(super) cpu: Duration,
    /// Real time.
    pub(super) real: Duration,
}

/// Runs all seeds, and calls `each` with what came of them, in any order.
pub(super) fn run(seeds: &Range<u64>, jobs: usize, mut each: impl FnMut(Seed)) -> Effort {
    let start = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let used = Mutex::new(Duration::ZERO);
    let (results, ran) = mpsc::sync_channel(64);
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, used, results) = (&next, &used, results.clone());
            scope.spawn(move || {
                // A world never leaves the thread that made it.
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || results.send(one(seed)).is_err() {
                        break;
                    }
                }
                *used.lock().unwrap_or_else(PoisonError::into_inner) += cpu();
            });
        }
        drop(results);
        ran.into_iter().for_each(&mut each);
    });
    let cpu = used.into_inner().unwrap_or_else(PoisonError::into_inner);
    Effort { cpu, real: start.elapsed() }
}

/// What came of one seed.
fn one(seed: u64) -> Seed {
    let start = cpu();
    let plan = Plan::draw(seed);
    let outcome = play(&plan, Keep::Hash);
    let hits = outcome.hits(&plan);
    let mut line = summary(&plan, &outcome);
    line.faults = hits.into_iter().map(|(name, times)| (name.to_owned(), times)).collect();
    drop(outcome);
    line.real = cpu().saturating_sub(start);
    line
}

/// A run as a line of the page of many.
pub(super) fn summary(plan: &Plan, outcome: &Outcome) -> Seed {
    Seed {
        seed: plan.seed,
        plan: format!("{}; {} items", plan.shape, plan.items.len()),
        kinds: kinds(plan),
        failure: outcome.violation.as_ref().map(|violation| violation.what.clone()),
        virtual_time: outcome.lasted,
        hash: outcome.digest,
        ..Seed::default()
    }
}

/// What a plan is of each kind.
fn kinds(plan: &Plan) -> Vec<(String, String)> {
    let shape = &plan.shape;
    let cast = match shape.cast {
        Cast::Pair => "point to point".to_owned(),
        Cast::Server { clients: 1 } => "server, 1 client".to_owned(),
        Cast::Server { clients } => format!("server, {clients} clients"),
    };
    let reneg = shape.reneg.iter().filter(|reneg| !reneg.is_zero()).min();
    let some = |wanted: fn(&Item) -> bool| plan.items.iter().any(wanted);
    let switch = |on: bool| if on { "yes" } else { "no" }.to_owned();
    let kinds = [
        ("machines", cast),
        ("transport", if shape.stream { "tcp" } else { "udp" }.to_owned()),
        ("wrap", format!("{:?}", shape.wrap)),
        ("tls", format!("{:?}", shape.tls)),
        ("plane of the hub", format!("{:?}", shape.planes[0])),
        ("plane of callers", format!("{:?}", shape.planes[1])),
        ("reneg-sec", reneg.map_or_else(|| "never".to_owned(), |reneg| format!("{:>4}", reneg.as_secs()))),
        ("behind a NAT", switch(some(|item| matches!(item, Item::Nat { .. })))),
        ("faulty lines", switch(some(|item| matches!(item, Item::Line { .. })))),
        ("events", switch(some(|item| matches!(item, Item::Event { .. } | Item::Spell { .. })))),
        ("login", switch(shape.login)),
        ("data spared", switch(shape.spare_data)),
    ];
    kinds.into_iter().map(|(kind, value)| (kind.to_owned(), value)).collect()
}
