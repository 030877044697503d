//! Which thread runs which worker.
//!
//! A worker is what packets belong to: its sockets, its queue of the device, its table. There is a thread for each, but
//! one thread runs all of them while it can: a wait that ends for several workers is one wait, and packets are cheapest
//! where many were waited for at once. When that thread has too much to do, each of two takes its part of the workers,
//! then each of four, and so on; when they have little to do, as many as are needed go on. A worker goes from thread to
//! thread as a whole and between two turns, with its descriptors open, so that nothing is lost or overtaken.

use core::time::Duration;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use oxivpn_proto::Instant;

use super::engine::Engine;
use super::{News, Shared};
use crate::lane::Pace;
use crate::lane::mail::lock;
use crate::{clock, sys};

/// How often a thread looks at what it has spent.
const GLANCE: Duration = Duration::from_millis(100);

/// Part of a processor's time, in hundredths, above which a thread gives some of its workers away.
const MUCH: u32 = 60;

/// A thread that waited for less than this part of the time, in hundredths, is behind, though others may have had the
/// processor.
const RARE: u32 = 10;

/// How long there must be little to do before workers come together again.
const QUIET: Duration = Duration::from_secs(1);

/// What a thread would have to do then, at most, in hundredths.
const LITTLE: u32 = 35;

/// With more workers it is cheaper to ask which of them has something to read than to look at all.
const FEW: usize = 2;

/// A worker, and what its thread knows of it.
struct Unit {
    engine: Engine,
    /// There may be something to do.
    is_ready: bool,
    /// The thread's poll watches that of the worker.
    is_watched: bool,
    _ending: Ending,
}

/// Tells that a worker is over, whatever the reason.
struct Ending {
    shared: Arc<Shared>,
    alive: Arc<AtomicUsize>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
        self.shared.news.send(News::Ended);
    }
}

/// What all threads share.
pub(super) struct Roster {
    /// Workers on their way from one thread to another.
    places: Vec<Mutex<Option<Unit>>>,
    /// How many those are.
    moving: AtomicUsize,
    /// Threads with workers: thread `n` has the workers whose number modulo this is `n`.
    active: AtomicUsize,
    /// Workers that have not ended.
    alive: Arc<AtomicUsize>,
    /// A thread has ended, so what is left for it would be stuck.
    is_over: AtomicBool,
    /// CPU time that each thread has spent, in nanoseconds, as it last looked.
    spent: Vec<AtomicU64>,
    wakers: Vec<Waker>,
    shared: Vec<Arc<Shared>>,
}

impl Roster {
    /// Starts a thread for each of `engines`, the first of which runs all of them.
    pub(super) fn start(engines: Vec<Engine>) -> io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let count = engines.len();
        let alive = Arc::new(AtomicUsize::new(count));
        let polls = engines.iter().map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let wakers = polls.iter().map(|poll| Waker::new(poll.registry(), Token(count)));
        let wakers = wakers.collect::<io::Result<Vec<_>>>()?;
        let shared: Vec<_> = engines.iter().map(|engine| engine.shared.clone()).collect();
        let place = |engine: Engine| {
            let _ending = Ending { shared: engine.shared.clone(), alive: alive.clone() };
            Mutex::new(Some(Unit { engine, is_ready: true, is_watched: false, _ending }))
        };
        let roster = Arc::new(Self {
            places: engines.into_iter().map(place).collect(),
            moving: AtomicUsize::new(count),
            active: AtomicUsize::new(1),
            alive: alive.clone(),
            is_over: AtomicBool::new(false),
            spent: polls.iter().map(|_| AtomicU64::new(0)).collect(),
            wakers,
            shared,
        });
        let mut threads = Vec::with_capacity(count);
        for (me, poll) in polls.into_iter().enumerate() {
            let name = if count == 1 { "packets".into() } else { format!("packets{me}") };
            let runner = Runner::new(me, roster.clone(), poll);
            match std::thread::Builder::new().name(name).spawn(move || runner.run()) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    roster.end();
                    threads.into_iter().for_each(|thread| drop(thread.join()));
                    return Err(error);
                }
            }
        }
        Ok((roster, threads))
    }

    /// Changes how many threads have workers, unless that is no longer `from`.
    pub(super) fn change(&self, from: usize, to: usize) {
        if self.active.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.wake();
        }
    }

    /// Makes all threads look. One that has a single worker waits for that one's descriptors only.
    fn wake(&self) {
        for waker in &self.wakers {
            // Fails if the thread looks anyway.
            let _ = waker.wake();
        }
        self.shared.iter().for_each(|shared| shared.commands.wake_anyway());
    }

    /// Ends all threads.
    fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn goes_on(&self) -> bool {
        self.alive.load(Ordering::SeqCst) > 0 && !self.is_over.load(Ordering::SeqCst)
    }

    /// Leaves a worker for the thread that is to have it, which looks once it is woken.
    fn leave(&self, unit: Unit) {
        if let Some(place) = self.places.get(unit.engine.share.me) {
            *lock(place) = Some(unit);
            self.moving.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Takes the worker `number`, if it was left.
    fn take(&self, number: usize) -> Option<Unit> {
        let unit = lock(self.places.get(number)?).take()?;
        self.moving.fetch_sub(1, Ordering::SeqCst);
        Some(unit)
    }
}

/// With the first thread end all, be it that it panicked.
struct Watch(Arc<Roster>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A thread.
struct Runner {
    me: usize,
    roster: Arc<Roster>,
    poll: Poll,
    units: Vec<Unit>,
    /// Threads with workers when they were last given out.
    active: usize,
    pace: Pace,
    meter: Meter,
}

impl Runner {
    fn new(me: usize, roster: Arc<Roster>, poll: Poll) -> Self {
        let meter = Meter::new(clock::now(), roster.spent.len());
        Self { me, roster, poll, units: Vec::new(), active: 0, pace: Pace::default(), meter }
    }

    /// Moves packets until all workers were told to stop.
    fn run(mut self) {
        let _watch = Watch(self.roster.clone());
        let mut events = Events::with_capacity(256);
        let mut is_blind = false;
        let mut begun = None;
        self.sort();
        while self.roster.goes_on() {
            if !is_blind && !self.wait(&mut events) {
                return;
            }
            self.sort();
            let now = clock::now();
            if let Some(begun) = begun.filter(|_| !is_blind) {
                self.meter.waited += now - begun;
            }
            for unit in &mut self.units {
                if core::mem::take(&mut unit.is_ready) || unit.engine.is_busy() {
                    unit.engine.turn(now);
                }
            }
            self.units.retain(|unit| !unit.engine.stopped);
            begun = (self.roster.places.len() > 1).then(|| self.look_around());
            is_blind = self.rest(now);
        }
    }

    /// Gives away what another thread is to have, and takes what this one is to have.
    fn sort(&mut self) {
        let active = self.roster.active.load(Ordering::SeqCst);
        if active == self.active && self.roster.moving.load(Ordering::SeqCst) == 0 {
            return;
        }
        let me = self.me;
        let leaving: Vec<_> = self.units.extract_if(.., |unit| unit.engine.share.me % active != me).collect();
        let gives = !leaving.is_empty();
        for mut unit in leaving {
            self.watch(&mut unit, false);
            self.roster.leave(unit);
        }
        if gives {
            self.roster.wake();
        }
        for number in (0..self.roster.places.len()).filter(|number| number % active == me) {
            self.units.extend(self.roster.take(number));
        }
        let mut units = core::mem::take(&mut self.units);
        let several = units.len() > 1;
        for unit in &mut units {
            unit.is_ready = true;
            self.watch(unit, several);
        }
        self.units = units;
        if active != self.active {
            self.meter.restart(clock::now());
        }
        self.active = active;
    }

    /// Lets this thread's poll watch that of a worker, or not.
    fn watch(&self, unit: &mut Unit, wanted: bool) {
        if wanted == unit.is_watched {
            return;
        }
        let fd = unit.engine.poll.as_raw_fd();
        let (registry, mut source) = (self.poll.registry(), SourceFd(&fd));
        let token = Token(unit.engine.share.me);
        let done = match wanted {
            true => registry.register(&mut source, token, Interest::READABLE),
            false => registry.deregister(&mut source),
        };
        match done {
            Ok(()) => unit.is_watched = wanted,
            Err(error) => unit.engine.broken(format!("cannot watch a worker: {error}")),
        }
    }

    /// Waits for something to do, unless there is something already; whether that could be done.
    fn wait(&mut self, events: &mut Events) -> bool {
        let is_busy = self.units.iter().any(|unit| unit.is_ready || unit.engine.is_busy());
        let until = self.units.iter().filter_map(|unit| unit.engine.flood_deadline()).min();
        // Whether all have little to do is to be seen though there be nothing to do here.
        let glance = (self.me == 0 && self.active > 1).then_some(QUIET);
        let timeout = match is_busy {
            true => Some(Duration::ZERO),
            false => until.map(|at| at - clock::now()).into_iter().chain(glance).min(),
        };
        if let [unit] = &mut self.units[..] {
            unit.is_ready = true;
            return unit.engine.wait(events, timeout).is_ok();
        }
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                let text = format!("cannot wait for packets: {error}");
                self.units.iter_mut().for_each(|unit| unit.engine.broken(text.clone()));
                return false;
            }
            _ => {}
        }
        for Token(number) in events.iter().map(mio::event::Event::token) {
            if let Some(unit) = self.units.iter_mut().find(|unit| unit.engine.share.me == number) {
                unit.is_ready = true;
            }
        }
        let due = until.is_some_and(|at| at <= clock::now());
        for unit in self.units.iter_mut() {
            unit.is_ready |= due;
            // One with more notices than were asked for does not tell of them again.
            while unit.is_ready {
                match unit.engine.wait(events, Some(Duration::ZERO)) {
                    Ok(()) if events.iter().count() == events.capacity() => {}
                    Ok(()) => break,
                    Err(()) => return false,
                }
            }
        }
        true
    }

    /// Sleeps if that makes the next turn cheaper; whether all descriptors are then taken for readable.
    fn rest(&mut self, now: Instant) -> bool {
        if self.units.iter().any(|unit| unit.engine.is_busy()) {
            return false;
        }
        let singles = self.units.iter().map(|unit| unit.engine.singles()).sum();
        let Some(rest) = self.pace.rest(now, singles) else { return false };
        if self.units.iter().any(|unit| unit.engine.out.is_blocked()) {
            return false;
        }
        std::thread::sleep(rest.time);
        let is_blind = rest.blind
            && self.units.len() <= FEW
            && self.units.iter().all(|unit| unit.engine.streams.is_empty());
        if is_blind {
            self.meter.waited += rest.time;
            for unit in &mut self.units {
                unit.engine.take_for_readable();
                unit.is_ready = true;
            }
        }
        is_blind
    }

    /// Sees now and then whether this thread has too much to do, and if it is the first one, whether all have little.
    /// The time.
    fn look_around(&mut self) -> Instant {
        let now = clock::now();
        if now - self.meter.since < GLANCE {
            return now;
        }
        let spent = sys::thread_time();
        self.roster.spent[self.me]
            .store(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let is_behind = self.meter.glance(now, spent);
        if is_behind && self.units.len() > 1 {
            self.roster.change(self.active, (2 * self.active).min(self.roster.places.len()));
        } else if self.me == 0 && self.active > 1 {
            let fewer = self.active.div_ceil(2);
            if self.meter.is_quiet(now, fewer, &self.roster.spent) {
                self.roster.change(self.active, fewer);
            }
        }
        now
    }
}

/// What a thread spends.
struct Meter {
    since: Instant,
    spent: Duration,
    /// Time waited since then.
    waited: Duration,
    /// Since when it is seen whether there is little to do, and what each thread had spent then, in nanoseconds.
    quiet_since: Instant,
    before: Vec<u64>,
}

impl Meter {
    fn new(now: Instant, threads: usize) -> Self {
        let (spent, waited) = (Duration::ZERO, Duration::ZERO);
        Self { since: now, spent, waited, quiet_since: now, before: vec![0; threads] }
    }

    /// Other threads have workers now.
    fn restart(&mut self, now: Instant) {
        (self.since, self.spent, self.waited) = (now, sys::thread_time(), Duration::ZERO);
        self.quiet_since = now;
        // Not known, and not less than what will be seen.
        self.before.fill(u64::MAX);
    }

    /// Whether the time since the last glance was not enough, when the thread has spent `spent` in all its life.
    fn glance(&mut self, now: Instant, spent: Duration) -> bool {
        let passed = now - self.since;
        let used = spent.saturating_sub(self.spent);
        let is_behind = used * 100 > passed * MUCH || self.waited * 100 < passed * RARE;
        (self.since, self.spent, self.waited) = (now, spent, Duration::ZERO);
        is_behind
    }

    /// Whether so many threads would have done all that was done lately, when all have spent `spent` in their lives.
    fn is_quiet(&mut self, now: Instant, threads: usize, spent: &[AtomicU64]) -> bool {
        let passed = now - self.quiet_since;
        if passed < QUIET {
            return false;
        }
        let spent: Vec<u64> = spent.iter().map(|spent| spent.load(Ordering::Relaxed)).collect();
        let is_known = self.before.first() != Some(&u64::MAX);
        let used = spent.iter().zip(&self.before).map(|(now, then)| now.saturating_sub(*then));
        let all = Duration::from_nanos(used.sum());
        (self.quiet_since, self.before) = (now, spent);
        is_known && all * 100 < passed * LITTLE * u32::try_from(threads).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    const fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_thread_is_behind_when_it_computes_much_or_hardly_waits() {
        let mut meter = Meter::new(at(0), 1);
        meter.waited = millis(12);
        assert!(!meter.glance(at(20), millis(8)), "it waits");
        meter.waited = millis(7);
        assert!(meter.glance(at(40), millis(8 + 13)), "it computes");
        assert!(meter.glance(at(60), millis(21 + 4)), "others have the processor");
        meter.waited = millis(18);
        assert!(!meter.glance(at(80), millis(25 + 2)));
    }

    #[test]
    fn workers_come_together_when_all_threads_had_little_to_do_for_long() {
        let spent = |list: [u64; 2]| list.map(|ms| AtomicU64::new(ms * 1_000_000));
        let mut meter = Meter::new(at(0), 2);
        meter.restart(at(0));
        assert!(!meter.is_quiet(at(1000), 1, &spent([500, 900])), "not known yet");
        assert!(!meter.is_quiet(at(1900), 1, &spent([500, 900])), "not long enough");
        assert!(!meter.is_quiet(at(2000), 1, &spent([700, 1060])), "0.36 s in one");
        assert!(meter.is_quiet(at(3000), 1, &spent([900, 1200])), "0.34 s");
        assert!(meter.is_quiet(at(4000), 2, &spent([1200, 1590])), "0.69 s for two threads");
    }
}
