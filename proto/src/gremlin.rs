//! OpenVPN's gremlin: faults at random between a machine and its network (`openvpn: gremlin.c`).
//!
//! A [`Gremlin`] decides about each packet that comes from the network or is to leave for it. It has the levels,
//! probabilities and durations of OpenVPN's, and a seed: the same calls with the same seed have the same faults.
//!
//! ```
//! use oxivpn_proto::Instant;
//! use oxivpn_proto::gremlin::{Gremlin, Mask};
//!
//! let mut gremlin = Gremlin::new(Mask::from(1632), [7; 32], Instant::ZERO);
//! let mut packet = vec![0x40, 1, 2, 3];
//! if gremlin.incoming(Instant::ZERO, &mut packet) {
//!     println!("{packet:?} arrives, perhaps as it was sent");
//! }
//! ```
//!
//! What differs from OpenVPN's:
//!
//! - Outages follow a timetable that begins with the gremlin. OpenVPN's look at the clock only when there is a packet.
//! - Each kind of fault has draws of its own, so that more packets of one direction leave the faults of the other as
//!   they were.
//! - The copies in one burst of a [packet flood](Gremlin::packet_flood) are the same in both; each burst is another.

use core::time::Duration;

use crate::clock::Instant;
use crate::entropy::{Entropy, EntropyStream, Purpose};

/// One packet of this many is lost, by level from 1 (`drop_freq`).
const DROP: [u64; 3] = [500, 100, 50];

/// One packet of this many is damaged, by level from 1 (`corrupt_freq`).
const CORRUPT: [u64; 3] = [500, 100, 50];

/// Seconds that the network works, from and to, by level from 1 (`up_low`, `up_high`).
const UP: [(u64, u64); 3] = [(60, 600), (10, 60), (5, 10)];

/// Seconds that it doesn't (`down_low`, `down_high`).
const DOWN: [(u64, u64); 3] = [(5, 10), (10, 60), (10, 120)];

/// Packets in a burst and bytes in each, by level from 1 (`packet_flood_data`).
const FLOOD: [(u32, usize); 3] = [(10, 100), (10, 1500), (100, 1500)];

/// Time between two bursts.
const FLOOD_EVERY: Duration = Duration::from_secs(1);

/// Which faults, and how many; level 0 is none.
///
/// As a number it is the argument of OpenVPN's `gremlin` option. Bits that have no meaning are ignored, as there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// 1 to 7: how far a session gets before it is ended (bits 0 to 2). Carried out by whoever owns the sessions, see
    /// [`Node::sessions_at`](crate::Node::sessions_at).
    pub connection_flood: u8,
    /// 1 to 3: random packets for all clients of a server, every second (bits 3 and 4).
    pub packet_flood: u8,
    /// 1 to 3: damaged packets (bits 5 and 6).
    pub corrupt: u8,
    /// 1 to 3: times without any network (bits 7 and 8).
    pub up_down: u8,
    /// 1 to 3: lost packets (bits 9 and 10).
    pub drop: u8,
}

impl Mask {
    /// The most that OpenVPN's does to a network: lost and damaged packets and outages on level 3, no floods.
    pub const STRONGEST: Self =
        Self { connection_flood: 0, packet_flood: 0, corrupt: 3, up_down: 3, drop: 3 };

    /// Whether there are no faults at all.
    pub fn is_empty(self) -> bool {
        u32::from(self) == 0
    }
}

impl From<u32> for Mask {
    fn from(bits: u32) -> Self {
        let field = |shift: u32, mask: u32| (bits >> shift & mask) as u8;
        Self {
            connection_flood: field(0, 7),
            packet_flood: field(3, 3),
            corrupt: field(5, 3),
            up_down: field(7, 3),
            drop: field(9, 3),
        }
    }
}

impl From<Mask> for u32 {
    /// A level that is too high counts as the highest.
    fn from(mask: Mask) -> Self {
        let field = |level: u8, most: u8, shift: Self| Self::from(level.min(most)) << shift;
        field(mask.connection_flood, 7, 0)
            | field(mask.packet_flood, 3, 3)
            | field(mask.corrupt, 3, 5)
            | field(mask.up_down, 3, 7)
            | field(mask.drop, 3, 9)
    }
}

/// What was done so far, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets from the network that it was asked about.
    pub incoming: u64,
    /// Packets to the network that it was asked about.
    pub outgoing: u64,
    /// Packets from the network that were lost one by one.
    pub incoming_dropped: u64,
    /// Packets to the network that were lost one by one.
    pub outgoing_dropped: u64,
    /// Packets of both directions that were lost because the network was down.
    pub down: u64,
    /// Packets from the network that were damaged.
    pub corrupted: u64,
    /// Random packets that were made, copies included.
    pub flooded: u64,
}

/// The network's next change.
#[derive(Clone, Copy, Debug)]
struct Outages {
    up: bool,
    next: Instant,
}

/// The faults of one machine.
#[derive(Debug)]
pub struct Gremlin {
    mask: Mask,
    /// `None`: always up.
    outages: Option<Outages>,
    flood_at: Option<Instant>,
    outage_draws: EntropyStream,
    incoming_draws: EntropyStream,
    outgoing_draws: EntropyStream,
    corrupt_draws: EntropyStream,
    flood_draws: EntropyStream,
    counts: Counts,
}

impl Gremlin {
    /// A gremlin that begins at `now`; `seed` decides all that is left open by `mask`.
    pub fn new(mask: Mask, seed: [u8; 32], now: Instant) -> Self {
        let entropy = Entropy::new(seed);
        let draws = |index| entropy.fork(Purpose::Gremlin, index);
        let mut outage_draws = draws(0);
        let outages = of_level(&UP, mask.up_down)
            .map(|range| Outages { up: true, next: now + seconds(&mut outage_draws, range) });
        Self {
            mask,
            outages,
            flood_at: of_level(&FLOOD, mask.packet_flood).map(|_| now + FLOOD_EVERY),
            outage_draws,
            incoming_draws: draws(1),
            outgoing_draws: draws(2),
            corrupt_draws: draws(3),
            flood_draws: draws(4),
            counts: Counts::default(),
        }
    }

    /// What it was made with.
    pub const fn mask(&self) -> Mask {
        self.mask
    }

    /// What it did so far.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the network is up. Time must not go back from call to call, here and in all that takes it.
    pub fn is_up(&mut self, now: Instant) -> bool {
        let (Some(outages), Some(up), Some(down)) =
            (&mut self.outages, of_level(&UP, self.mask.up_down), of_level(&DOWN, self.mask.up_down))
        else {
            return true;
        };
        while outages.next <= now {
            outages.up = !outages.up;
            let range = if outages.up { up } else { down };
            outages.next = outages.next + seconds(&mut self.outage_draws, range);
        }
        outages.up
    }

    /// When the network changes next, as of the last call; `None` if it is always up.
    pub fn next_change(&self) -> Option<Instant> {
        self.outages.map(|outages| outages.next)
    }

    /// A packet came from the network: whether it is delivered, and as what. Nothing is left to deliver of a packet
    /// whose last byte was cut off.
    pub fn incoming(&mut self, now: Instant, packet: &mut Vec<u8>) -> bool {
        if !self.lets_in(now) {
            return false;
        }
        if self.damages() {
            corrupt(&mut self.corrupt_draws, packet);
        }
        !packet.is_empty()
    }

    /// As [`incoming`](Self::incoming), for a packet that lies in a buffer where it can't grow. One that is damaged is
    /// delivered from `scratch`, all others where they are.
    pub fn incoming_in_place<'a>(
        &mut self,
        now: Instant,
        packet: &'a mut [u8],
        scratch: &'a mut Vec<u8>,
    ) -> Option<&'a mut [u8]> {
        if !self.lets_in(now) {
            return None;
        }
        if !self.damages() {
            return Some(packet).filter(|packet| !packet.is_empty());
        }
        scratch.clear();
        scratch.extend_from_slice(packet);
        corrupt(&mut self.corrupt_draws, scratch);
        Some(scratch.as_mut_slice()).filter(|packet| !packet.is_empty())
    }

    /// A packet is to leave: whether it does. It is never damaged here.
    pub fn outgoing(&mut self, now: Instant) -> bool {
        self.counts.outgoing += 1;
        if !self.is_up(now) {
            self.counts.down += 1;
            return false;
        }
        let lost = flip(&mut self.outgoing_draws, of_level(&DROP, self.mask.drop));
        self.counts.outgoing_dropped += u64::from(lost);
        !lost
    }

    /// When the next burst of random packets is due; `None` if there are none.
    pub const fn flood_deadline(&self) -> Option<Instant> {
        self.flood_at
    }

    /// Fills `packet` with a random inner packet of at most `limit` bytes, and says how often it is to be sent to each
    /// client; 0 if it is not time for that. A burst that was missed is not made up for.
    pub fn packet_flood(&mut self, now: Instant, limit: usize, packet: &mut Vec<u8>) -> u32 {
        let (Some((count, len)), Some(_)) =
            (of_level(&FLOOD, self.mask.packet_flood), self.flood_at.filter(|at| *at <= now))
        else {
            return 0;
        };
        self.flood_at = Some(now + FLOOD_EVERY);
        packet.clear();
        packet.resize(len.min(limit), 0);
        self.flood_draws.fill(packet);
        self.counts.flooded += u64::from(count);
        count
    }

    fn lets_in(&mut self, now: Instant) -> bool {
        self.counts.incoming += 1;
        if !self.is_up(now) {
            self.counts.down += 1;
            return false;
        }
        let lost = flip(&mut self.incoming_draws, of_level(&DROP, self.mask.drop));
        self.counts.incoming_dropped += u64::from(lost);
        !lost
    }

    fn damages(&mut self) -> bool {
        let damaged = flip(&mut self.corrupt_draws, of_level(&CORRUPT, self.mask.corrupt));
        self.counts.corrupted += u64::from(damaged);
        damaged
    }
}

/// The entry for a level; none for level 0. A level that is too high counts as the highest.
fn of_level<T: Copy>(levels: &[T; 3], level: u8) -> Option<T> {
    levels.get(usize::from(level.min(3)).checked_sub(1)?).copied()
}

/// True once in `one_of` times (`flip`).
fn flip(draws: &mut EntropyStream, one_of: Option<u64>) -> bool {
    one_of.is_some_and(|one_of| draws.below(one_of) == 0)
}

/// A whole number of seconds in the range, both ends included (`roll`).
fn seconds(draws: &mut EntropyStream, (low, high): (u64, u64)) -> Duration {
    Duration::from_secs(low + draws.below(high - low + 1))
}

/// A number below `bound`, which is small.
fn index(draws: &mut EntropyStream, bound: usize) -> usize {
    usize::try_from(draws.below(bound as u64)).unwrap_or(0)
}

/// Damages a packet once, and again as often as a coin says (`corrupt_gremlin`).
fn corrupt(draws: &mut EntropyStream, packet: &mut Vec<u8>) {
    while !packet.is_empty() {
        let byte = draws.below(256) as u8;
        let damage = Damage::draw(draws, packet.len());
        damage.apply(byte, packet);
        if !flip(draws, Some(2)) {
            return;
        }
    }
}

/// What is done to a packet that isn't empty; the numbers are OpenVPN's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// 0: another first byte.
    First,
    /// 1: another last byte.
    Last,
    /// 2: another byte at this place.
    At(usize),
    /// 3: one byte more.
    Append,
    /// 4: one byte less.
    CutOne,
    /// 5: this many bytes less, all but one at most.
    Cut(usize),
}

impl Damage {
    fn draw(draws: &mut EntropyStream, len: usize) -> Self {
        match draws.below(6) {
            0 => Self::First,
            1 => Self::Last,
            2 => Self::At(index(draws, len)),
            3 => Self::Append,
            4 => Self::CutOne,
            _ => Self::Cut(index(draws, len)),
        }
    }

    fn apply(self, byte: u8, packet: &mut Vec<u8>) {
        let last = packet.len().saturating_sub(1);
        let mut set = |at: usize| packet.get_mut(at).into_iter().for_each(|place| *place = byte);
        match self {
            Self::First => set(0),
            Self::Last => set(last),
            Self::At(at) => set(at),
            Self::Append => packet.push(byte),
            Self::CutOne => packet.truncate(last),
            Self::Cut(less) => packet.truncate(packet.len().saturating_sub(less)),
        }
    }
}

#[cfg(test)]
mod tests;
