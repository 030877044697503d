//! A datagram link in one direction, as a state machine.
//!
//! Packets carry a tag of the caller's choice, such as the pair of their addresses. A link without faults draws
//! nothing. What happens to the n-th packet depends on the seed and on n, not on the packet's size or on other
//! faults, so that two transfers over equal links lose the same ones.
//!
//! ```
//! use core::time::Duration;
//!
//! use oxivpn_proto::Instant;
//! use oxivpn_sim::link::{Bursts, Faults, Link};
//! use oxivpn_sim::{Rate, SeedTree};
//!
//! // A slow line: 1 Mbit/s, room for 3,000 bytes, and bad times in which half of all packets go.
//! let (worsen, recover) = (Rate::percent(1), Rate::percent(20));
//! let bursts = Bursts { worsen, recover, good: Rate::NEVER, bad: Rate::percent(50) };
//! let faults = Faults { rate: 1_000_000, queue: 3_000, bursts, ..Faults::NONE };
//! let mut link = Link::new(faults, &SeedTree::new(7), 0);
//!
//! // Each takes the line for 10 ms. The first is on its way, the second waits; there is no room for more.
//! for n in 0..4 {
//!     link.send(Instant::ZERO, vec![n; 1_250], "to the server");
//! }
//! assert_eq!(link.deadline(), Some(Instant::ZERO + Duration::from_millis(10)));
//! assert_eq!((link.in_flight(), link.counters().overflowed), (2, 2));
//! ```
//!
//! A line is cut, and later it heals:
//!
//! ```
//! # use core::time::Duration;
//! # use oxivpn_proto::Instant;
//! # use oxivpn_sim::{SeedTree, link::{Faults, Link}};
//! # let mut link = Link::new(Faults::NONE, &SeedTree::new(7), 0);
//! # let second = |n| Instant::ZERO + Duration::from_secs(n);
//! link.set_faults(second(1), Faults::BLACK_HOLE);
//! link.send(second(1), vec![1], ());
//! link.set_faults(second(2), Faults::NONE);
//! link.send(second(2), vec![2], ());
//! assert_eq!(link.poll(second(2)), Some(((), vec![2])));
//! assert_eq!(link.poll(second(2)), None);
//! ```

use core::time::Duration;
use std::collections::VecDeque;

use oxivpn_proto::Instant;

use crate::seed::{Draws, Purpose, Rate, SeedTree};

mod faults;

pub use faults::{Bursts, Counters, Faults};

/// How many old packets a link remembers to replay them.
const MEMORY: usize = 64;

/// Carries datagrams in one direction.
#[derive(Clone, Debug)]
pub struct Link<T = ()> {
    faults: Faults,
    seeds: SeedTree,
    index: u32,
    counters: Counters,
    /// Number of the next packet.
    next: u64,
    /// By arrival, and those of the same time by entry.
    flight: VecDeque<Flying<T>>,
    /// When the line is free.
    free: Instant,
    /// Arrival of the packet that the next one queues behind.
    tail: Instant,
    /// One more than the highest number delivered.
    frontier: u64,
    /// Whether the line has a bad time.
    bad: bool,
    /// The last packets sent, if they may come once more.
    memory: VecDeque<(T, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct Flying<T> {
    arrival: Instant,
    /// Number of the packet; none if it is a replayed one.
    number: Option<u64>,
    tag: T,
    bytes: Vec<u8>,
}

impl<T: Clone> Link<T> {
    /// An empty link. `index` tells the links of one simulation apart.
    pub fn new(faults: Faults, seeds: &SeedTree, index: u32) -> Self {
        Self {
            faults,
            seeds: seeds.clone(),
            index,
            counters: Counters::default(),
            next: 0,
            flight: VecDeque::new(),
            free: Instant::ZERO,
            tail: Instant::ZERO,
            frontier: 0,
            bad: false,
            memory: VecDeque::new(),
        }
    }

    /// Does to packets sent from now on what `faults` say. Packets in flight arrive as before, and new ones may
    /// overtake them. The line is free and has a good time.
    pub fn set_faults(&mut self, now: Instant, faults: Faults) {
        self.faults = faults;
        (self.free, self.tail) = (now, now);
        self.bad = false;
        if faults.replay == Rate::NEVER {
            self.memory.clear();
        }
    }

    /// Counts packets from zero again: what happens to the next one is what happened to the first. For comparing
    /// transfers that come after different beginnings.
    pub const fn rewind(&mut self) {
        (self.next, self.frontier) = (0, 0);
        self.bad = false;
    }

    /// What the link does now.
    pub const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Takes a packet.
    pub fn send(&mut self, now: Instant, bytes: Vec<u8>, tag: T) {
        let number = self.next;
        self.next += 1;
        self.counters.sent += 1;
        // Drawn for each packet, also for one that vanishes anyway: the fate of later ones depends on it.
        let burst = self.burst(number);
        self.remember(&bytes, &tag);
        let size = bytes.len() + self.faults.overhead;
        if size > self.faults.mtu {
            self.counters.too_big += 1;
            return;
        }
        let Some(departure) = self.depart(now, size) else {
            self.counters.overflowed += 1;
            return;
        };
        if self.fault(Purpose::Loss, number, self.faults.loss).is_some() {
            self.counters.lost += 1;
            return;
        }
        if burst {
            self.counters.burst_lost += 1;
            return;
        }
        let bytes = self.spoil(number, bytes);
        let copy = self.fault(Purpose::Duplication, number, self.faults.duplication).is_some();
        let copy = copy.then(|| (bytes.clone(), tag.clone()));
        self.enter(departure, number, Purpose::Jitter, (bytes, tag));
        if let Some(copy) = copy {
            self.counters.duplicated += 1;
            self.enter(departure, number, Purpose::CopyJitter, copy);
        }
        self.replay(departure, number);
    }

    /// The next packet that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<(T, Vec<u8>)> {
        self.flight.front().filter(|first| first.arrival <= now)?;
        let Flying { number, tag, bytes, .. } = self.flight.pop_front()?;
        self.counters.delivered += 1;
        if let Some(number) = number {
            if number < self.frontier {
                // The second copy of the newest packet was overtaken by nothing.
                self.counters.reordered += u64::from(number + 1 != self.frontier);
            } else {
                self.frontier = number + 1;
            }
        }
        Some((tag, bytes))
    }

    /// When the next packet arrives.
    pub fn deadline(&self) -> Option<Instant> {
        self.flight.front().map(|first| first.arrival)
    }

    /// What happened so far.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many packets are under way.
    pub fn in_flight(&self) -> usize {
        self.flight.len()
    }

    /// Whether the fault that comes with `rate` happens to a packet, and if so, the draws for its details.
    fn fault(&self, purpose: Purpose, number: u64, rate: Rate) -> Option<Draws> {
        if rate == Rate::NEVER {
            return None;
        }
        let mut draws = self.seeds.draws(purpose, self.index, number);
        draws.hit(rate).then_some(draws)
    }

    /// Whether the packet is lost in a burst.
    fn burst(&mut self, number: u64) -> bool {
        let Bursts { worsen, recover, good, bad } = self.faults.bursts;
        if worsen == Rate::NEVER && good == Rate::NEVER {
            return false;
        }
        let mut draws = self.seeds.draws(Purpose::Weather, self.index, number);
        self.bad ^= draws.hit(if self.bad { recover } else { worsen });
        draws.hit(if self.bad { bad } else { good })
    }

    /// When the line has sent so many bytes that come now; none if there is no room in its queue.
    fn depart(&mut self, now: Instant, size: usize) -> Option<Instant> {
        const BITS: u128 = 8 * 1_000_000_000;
        if self.faults.rate == 0 {
            return Some(now);
        }
        let rate = u128::from(self.faults.rate);
        let waiting = ((self.free - now).as_nanos() * rate).div_ceil(BITS);
        if waiting > 0 && waiting + size as u128 > self.faults.queue as u128 {
            return None;
        }
        let took = u64::try_from((size as u128 * BITS).div_ceil(rate)).unwrap_or(u64::MAX);
        self.free = self.free.max(now) + Duration::from_nanos(took);
        Some(self.free)
    }

    fn spoil(&mut self, number: u64, mut bytes: Vec<u8>) -> Vec<u8> {
        if let Some(mut draws) = self.fault(Purpose::Truncation, number, self.faults.truncation)
            && !bytes.is_empty()
        {
            bytes.truncate(draws.below(bytes.len() as u64) as usize);
            self.counters.truncated += 1;
        }
        if let Some(mut draws) = self.fault(Purpose::Corruption, number, self.faults.corruption)
            && !bytes.is_empty()
        {
            flip(&mut bytes, self.faults.flips, &mut draws);
            self.counters.corrupted += 1;
        }
        bytes
    }

    fn enter(&mut self, departure: Instant, number: u64, jitter: Purpose, (bytes, tag): (Vec<u8>, T)) {
        let mut late = Duration::ZERO;
        if self.faults.jitter > Duration::ZERO {
            let mut draws = self.seeds.draws(jitter, self.index, number);
            late = Duration::from_nanos(draws.below(nanos(self.faults.jitter)));
        }
        let mut arrival = self.tail.max(departure + self.faults.delay + late);
        if let Some(mut draws) = self.fault(Purpose::Reordering, number, self.faults.reordering) {
            arrival = arrival + Duration::from_nanos(1 + draws.below(nanos(self.faults.hold)));
        } else {
            self.tail = arrival;
        }
        self.fly(Flying { arrival, number: Some(number), tag, bytes });
    }

    fn remember(&mut self, bytes: &[u8], tag: &T) {
        if self.faults.replay == Rate::NEVER {
            return;
        }
        if self.memory.len() > MEMORY {
            self.memory.pop_front();
        }
        self.memory.push_back((tag.clone(), bytes.to_vec()));
    }

    /// Sends one of the packets before the last once more.
    fn replay(&mut self, departure: Instant, number: u64) {
        let Some(mut draws) = self.fault(Purpose::Replay, number, self.faults.replay) else { return };
        let old = self.memory.len().saturating_sub(1);
        let which = draws.below(old as u64) as usize;
        let late = Duration::from_nanos(draws.below(nanos(self.faults.replay_after)));
        let Some((tag, bytes)) = self.memory.get(which).filter(|_| old > 0).cloned() else { return };
        self.counters.replayed += 1;
        if bytes.len() + self.faults.overhead > self.faults.mtu {
            self.counters.too_big += 1;
            return;
        }
        let arrival = departure + self.faults.delay + late;
        self.fly(Flying { arrival, number: None, tag, bytes });
    }

    fn fly(&mut self, flying: Flying<T>) {
        if self.flight.len() >= self.faults.capacity {
            self.counters.overflowed += 1;
            return;
        }
        // Nearly always the last.
        match self.flight.back() {
            Some(last) if last.arrival > flying.arrival => {
                let place = self.flight.partition_point(|other| other.arrival <= flying.arrival);
                self.flight.insert(place, flying);
            }
            Some(_) | None => self.flight.push_back(flying),
        }
    }
}

/// Flips between one and `most` bits, no bit twice.
fn flip(bytes: &mut [u8], most: u8, draws: &mut Draws) {
    let bits = bytes.len() * 8;
    let mut flipped = Vec::new();
    let first = draws.below(bits as u64) as usize;
    let count = if most > 1 { 1 + draws.below(u64::from(most)) as usize } else { 1 };
    let mut bit = first;
    while flipped.len() < count.min(bits) {
        if !flipped.contains(&bit) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            flipped.push(bit);
        }
        bit = draws.below(bits as u64) as usize;
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
