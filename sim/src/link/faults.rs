//! What a link does to packets, and what it did.

use core::time::Duration;

use crate::seed::Rate;

/// What a link does to packets. Each fault is drawn for each packet on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Time that every packet takes.
    pub delay: Duration,
    /// Up to so much more, at random. Packets queue behind each other, so jitter alone reorders nothing.
    pub jitter: Duration,
    /// What the line carries, in bits per second; 0 for any number.
    pub rate: u64,
    /// Bytes that wait for a line that is busy; what comes when they are so many, vanishes. Has a meaning with
    /// a `rate` only. A line that is free takes a packet of any size.
    pub queue: usize,
    /// Bytes that the line adds to each packet, such as IP and UDP headers. They count for `rate`, `queue` and
    /// `mtu`.
    pub overhead: usize,
    /// Packets that vanish, each on its own.
    pub loss: Rate,
    /// Packets that vanish because the line has a bad time.
    pub bursts: Bursts,
    /// Packets that arrive twice.
    pub duplication: Rate,
    /// Packets that are held back, so that later ones may overtake them.
    pub reordering: Rate,
    /// The longest time a packet is held back.
    pub hold: Duration,
    /// Packets with which an older one arrives once more, as it was sent. Also one that was lost may come so.
    pub replay: Rate,
    /// How much later than its packet a replayed one arrives, at most.
    pub replay_after: Duration,
    /// Packets in which bits are flipped.
    pub corruption: Rate,
    /// The most bits that are flipped in one packet.
    pub flips: u8,
    /// Packets that lose a part of their end, at most all of them.
    pub truncation: Rate,
    /// Longer packets vanish, bytes. Nobody is told: a black hole for path MTU discovery.
    pub mtu: usize,
    /// Packets in flight; further ones vanish.
    pub capacity: usize,
}

impl Faults {
    /// A perfect link: at once, in order, unchanged.
    pub const NONE: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        rate: 0,
        queue: 128 * 1024,
        overhead: 0,
        loss: Rate::NEVER,
        bursts: Bursts::NONE,
        duplication: Rate::NEVER,
        reordering: Rate::NEVER,
        hold: Duration::from_millis(100),
        replay: Rate::NEVER,
        replay_after: Duration::from_secs(60),
        corruption: Rate::NEVER,
        flips: 1,
        truncation: Rate::NEVER,
        mtu: 65_535,
        capacity: 65_536,
    };

    /// A link on which nothing arrives. In one of two directions, it makes a one-way partition.
    pub const BLACK_HOLE: Self = Self { loss: Rate::ALWAYS, ..Self::NONE };
}

/// Loss that comes in bursts: a line with good and bad times (Gilbert and Elliott's model). It starts good, and
/// before each packet it may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// How often a good line turns bad.
    pub worsen: Rate,
    /// How often a bad line turns good. A burst is `1 / recover` packets long on average.
    pub recover: Rate,
    /// Packets that a good line loses.
    pub good: Rate,
    /// Packets that a bad line loses.
    pub bad: Rate,
}

impl Bursts {
    /// A line that is always good and loses nothing.
    pub const NONE: Self =
        Self { worsen: Rate::NEVER, recover: Rate::ALWAYS, good: Rate::NEVER, bad: Rate::NEVER };
}

/// What happened to packets; a fault counts only if it changed something. At any time
/// `sent + duplicated + replayed == lost + burst_lost + too_big + overflowed + delivered + in flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets given to the link.
    pub sent: u64,
    /// Packets that the receiver got, copies included.
    pub delivered: u64,
    /// Packets lost by `loss`.
    pub lost: u64,
    /// Packets lost by `bursts` only.
    pub burst_lost: u64,
    /// Packets longer than `mtu`.
    pub too_big: u64,
    /// Packets and copies for which there was no room, in the queue or in flight.
    pub overflowed: u64,
    /// Copies made at once.
    pub duplicated: u64,
    /// Old packets sent once more.
    pub replayed: u64,
    /// Delivered packets that another one, sent later, had overtaken; replayed ones don't count.
    pub reordered: u64,
    /// Packets with flipped bits.
    pub corrupted: u64,
    /// Packets cut short.
    pub truncated: u64,
}

impl Counters {
    /// Packets that did not arrive and never will.
    pub const fn dropped(&self) -> u64 {
        self.lost + self.burst_lost + self.too_big + self.overflowed
    }
}
