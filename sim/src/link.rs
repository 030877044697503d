//! A datagram link in one direction, as a state machine.

use core::time::Duration;
use std::collections::BTreeMap;

use oxivpn_proto::Instant;

use crate::seed::{Purpose, Rate, SeedTree};

/// What a link does to packets. Each fault is drawn for each packet on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Time that every packet takes.
    pub delay: Duration,
    /// Up to so much more, at random. Packets queue behind each other, so jitter alone reorders nothing.
    pub jitter: Duration,
    /// Packets that vanish.
    pub loss: Rate,
    /// Packets that arrive twice.
    pub duplication: Rate,
    /// Packets that are held back, so that later ones may overtake them.
    pub reordering: Rate,
    /// The longest time a packet is held back.
    pub hold: Duration,
    /// Packets in which one bit is flipped.
    pub corruption: Rate,
    /// Packets that lose a part of their end, at most all of them.
    pub truncation: Rate,
    /// Longer packets vanish, bytes.
    pub mtu: usize,
    /// Packets in flight; further ones vanish.
    pub capacity: usize,
}

impl Faults {
    /// A perfect link: at once, in order, unchanged.
    pub const NONE: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: Rate::NEVER,
        duplication: Rate::NEVER,
        reordering: Rate::NEVER,
        hold: Duration::from_millis(100),
        corruption: Rate::NEVER,
        truncation: Rate::NEVER,
        mtu: 65_535,
        capacity: 65_536,
    };

    /// A link on which nothing arrives.
    pub const BLACK_HOLE: Self = Self { loss: Rate::ALWAYS, ..Self::NONE };
}

/// What happened to packets; a fault counts only if it changed something. At any time
/// `sent + duplicated == lost + too_big + overflowed + delivered + in flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets given to the link.
    pub sent: u64,
    /// Packets that the receiver got, copies included.
    pub delivered: u64,
    /// Packets lost by `loss`.
    pub lost: u64,
    /// Packets longer than `mtu`.
    pub too_big: u64,
    /// Packets and copies for which there was no room.
    pub overflowed: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Delivered packets that another one, sent later, had overtaken.
    pub reordered: u64,
    /// Packets with a flipped bit.
    pub corrupted: u64,
    /// Packets cut short.
    pub truncated: u64,
}

/// Carries datagrams in one direction.
#[derive(Clone, Debug)]
pub struct Link {
    faults: Faults,
    seeds: SeedTree,
    index: u32,
    counters: Counters,
    /// By arrival and entry; the number of the packet and its bytes.
    flight: BTreeMap<(Instant, u64), (u64, Vec<u8>)>,
    entries: u64,
    /// Arrival of the packet that the next one queues behind.
    tail: Instant,
    /// One more than the highest number delivered.
    frontier: u64,
}

impl Link {
    /// An empty link. `index` tells the links of one simulation apart.
    pub fn new(faults: Faults, seeds: &SeedTree, index: u32) -> Self {
        Self {
            faults,
            seeds: seeds.clone(),
            index,
            counters: Counters::default(),
            flight: BTreeMap::new(),
            entries: 0,
            tail: Instant::ZERO,
            frontier: 0,
        }
    }

    /// Takes a packet.
    pub fn send(&mut self, now: Instant, bytes: &[u8]) {
        let number = self.counters.sent;
        self.counters.sent += 1;
        if bytes.len() > self.faults.mtu {
            self.counters.too_big += 1;
            return;
        }
        if self.seeds.draws(Purpose::Loss, self.index, number).hit(self.faults.loss) {
            self.counters.lost += 1;
            return;
        }
        let bytes = self.spoil(number, bytes);
        let copy = self.seeds.draws(Purpose::Duplication, self.index, number).hit(self.faults.duplication);
        if copy {
            self.counters.duplicated += 1;
            self.enter(now, number, Purpose::Jitter, bytes.clone());
            self.enter(now, number, Purpose::CopyJitter, bytes);
        } else {
            self.enter(now, number, Purpose::Jitter, bytes);
        }
    }

    /// The next packet that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        let first = self.flight.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let (number, bytes) = first.remove();
        self.counters.delivered += 1;
        if number < self.frontier {
            // The second copy of the newest packet was overtaken by nothing.
            self.counters.reordered += u64::from(number + 1 != self.frontier);
        } else {
            self.frontier = number + 1;
        }
        Some(bytes)
    }

    /// When the next packet arrives.
    pub fn deadline(&self) -> Option<Instant> {
        self.flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// What happened so far.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many packets are under way.
    pub fn in_flight(&self) -> usize {
        self.flight.len()
    }

    fn spoil(&mut self, number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let mut draws = self.seeds.draws(Purpose::Truncation, self.index, number);
        if draws.hit(self.faults.truncation) && !bytes.is_empty() {
            bytes.truncate(draws.below(bytes.len() as u64) as usize);
            self.counters.truncated += 1;
        }
        let mut draws = self.seeds.draws(Purpose::Corruption, self.index, number);
        if draws.hit(self.faults.corruption) && !bytes.is_empty() {
            let bit = draws.below(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
            self.counters.corrupted += 1;
        }
        bytes
    }

    fn enter(&mut self, now: Instant, number: u64, jitter: Purpose, bytes: Vec<u8>) {
        if self.flight.len() >= self.faults.capacity {
            self.counters.overflowed += 1;
            return;
        }
        let mut draws = self.seeds.draws(jitter, self.index, number);
        let late = Duration::from_nanos(draws.below(nanos(self.faults.jitter)));
        let mut arrival = self.tail.max(now + self.faults.delay + late);
        let mut draws = self.seeds.draws(Purpose::Reordering, self.index, number);
        if draws.hit(self.faults.reordering) {
            arrival = arrival + Duration::from_nanos(1 + draws.below(nanos(self.faults.hold)));
        } else {
            self.tail = arrival;
        }
        self.entries += 1;
        self.flight.insert((arrival, self.entries), (number, bytes));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
