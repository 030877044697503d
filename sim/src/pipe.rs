//! A byte stream between two machines, as a state machine: what TCP gives to an application, without TCP.
//!
//! Bytes arrive in order, unchanged and once, in chunks of any length and after times of any length, until an
//! end closes or the stream is reset.
//!
//! ```
//! use core::time::Duration;
//!
//! use oxivpn_proto::Instant;
//! use oxivpn_sim::{End, Pipe, PipeFaults, Rate, SeedTree};
//!
//! let delay = Duration::from_millis(20);
//! let faults = PipeFaults { delay, chunks: Rate::ALWAYS, buffer: 10, ..PipeFaults::NONE };
//! let mut pipe = Pipe::new(faults, &SeedTree::new(7), 0);
//!
//! // Ten bytes fit, then the writer has to wait for the reader.
//! assert_eq!(pipe.write(Instant::ZERO, End::A, b"hello, world"), 10);
//! assert_eq!(pipe.room(End::A), 0);
//!
//! let arrival = pipe.deadline().unwrap();
//! assert_eq!(arrival, Instant::ZERO + delay);
//! let mut got = Vec::new();
//! while let Some(chunk) = pipe.poll_read(arrival, End::B) {
//!     got.extend(chunk);
//! }
//! assert_eq!(got, b"hello, wor");
//!
//! // The other end learns of an orderly end when all is read.
//! pipe.write(arrival, End::A, b"ld");
//! pipe.close(arrival, End::A);
//! assert!(!pipe.is_closed(End::B));
//! let arrival = arrival + delay;
//! while let Some(chunk) = pipe.poll_read(arrival, End::B) {
//!     got.extend(chunk);
//! }
//! assert!(pipe.is_closed(End::B) && !pipe.is_reset() && got == b"hello, world");
//! ```

use core::time::Duration;

use oxivpn_proto::Instant;

use crate::seed::{Rate, SeedTree};

mod lane;

use lane::Lane;

/// An end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Who opened it.
    A,
    /// Who accepted it.
    B,
}

impl End {
    /// The end on the far side.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What a stream does to bytes. Reads and writes are drawn for one by one, in each direction on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeFaults {
    /// Time that every byte takes.
    pub delay: Duration,
    /// Up to so much more, at random for each write. What is written later arrives later.
    pub jitter: Duration,
    /// Reads that give a part of what has arrived: often a single byte or a few.
    pub chunks: Rate,
    /// Bytes written and not yet read in one direction; for more, the writer has to wait.
    pub buffer: usize,
    /// Reads before which the direction stands still.
    pub stall: Rate,
    /// The longest time it stands still.
    pub stall_for: Duration,
    /// Writes that reset the stream when they would arrive.
    pub reset: Rate,
    /// Nothing arrives, in both directions, until there are other faults.
    pub blocked: bool,
}

impl PipeFaults {
    /// A perfect stream: at once and in one piece.
    pub const NONE: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        chunks: Rate::NEVER,
        buffer: 128 * 1024,
        stall: Rate::NEVER,
        stall_for: Duration::from_secs(5),
        reset: Rate::NEVER,
        blocked: false,
    };

    /// A stream on which nothing arrives.
    pub const BLOCKED: Self = Self { blocked: true, ..Self::NONE };
}

/// What happened to the bytes of one direction. At any time
/// `written == read + discarded + in transit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes taken from the writer.
    pub written: u64,
    /// Bytes given to the reader.
    pub read: u64,
    /// Bytes thrown away: the stream was reset, or the reader had closed.
    pub discarded: u64,
    /// How often the direction stood still.
    pub stalls: u64,
}

/// Carries bytes in both directions.
#[derive(Clone, Debug)]
pub struct Pipe {
    faults: PipeFaults,
    /// From [`End::A`] to [`End::B`], and back.
    lanes: [Lane; 2],
    /// By end: whether it is over for it.
    closed: [bool; 2],
    /// When the stream is going to be reset.
    resets: Option<Instant>,
    reset: bool,
}

impl Pipe {
    /// An open stream. `index`, below 2^31, tells the streams of one simulation apart.
    pub fn new(faults: PipeFaults, seeds: &SeedTree, index: u32) -> Self {
        let lanes = [index << 1, index << 1 | 1].map(|index| Lane::new(seeds, index));
        Self { faults, lanes, closed: [false; 2], resets: None, reset: false }
    }

    /// Does what `faults` say from now on. Stalls end, and a reset that was to come does not.
    pub fn set_faults(&mut self, now: Instant, faults: PipeFaults) {
        self.advance(now);
        self.faults = faults;
        self.resets = None;
        self.lanes.iter_mut().for_each(Lane::move_on);
    }

    /// What the stream does now.
    pub const fn faults(&self) -> &PipeFaults {
        &self.faults
    }

    /// Takes bytes from the program at `end`. Returns how many: fewer than there are if there is no room, none
    /// if the stream is over for it.
    pub fn write(&mut self, now: Instant, end: End, bytes: &[u8]) -> usize {
        self.advance(now);
        if self.closed[end as usize] {
            return 0;
        }
        let lane = &mut self.lanes[end as usize];
        let (taken, reset) = lane.write(now, &self.faults, bytes);
        if self.closed[end.other() as usize] {
            lane.discard();
        }
        self.resets = [self.resets, reset].into_iter().flatten().min();
        taken
    }

    /// The next bytes for the program at `end`. None if nothing has arrived, or nothing will ever:
    /// [`is_closed`](Self::is_closed) tells.
    pub fn poll_read(&mut self, now: Instant, end: End) -> Option<Vec<u8>> {
        self.advance(now);
        if self.closed[end as usize] {
            return None;
        }
        match self.lanes[end.other() as usize].read(now, &self.faults) {
            Ok(chunk) => Some(chunk),
            Err(over) => {
                if over {
                    self.shut(now, end);
                }
                None
            }
        }
    }

    /// How many bytes a write at `end` would take now.
    pub const fn room(&self, end: End) -> usize {
        if self.closed[end as usize] { 0 } else { self.lanes[end as usize].room(&self.faults) }
    }

    /// The program at `end` is done: it writes and reads no more. What it has written arrives; what is under
    /// way to it is thrown away.
    pub fn close(&mut self, now: Instant, end: End) {
        self.advance(now);
        self.shut(now, end);
    }

    /// Breaks the stream for both ends. What is under way is lost.
    pub fn reset(&mut self, now: Instant) {
        self.advance(now);
        if self.closed == [true; 2] {
            return;
        }
        self.closed = [true; 2];
        self.resets = None;
        self.reset = true;
        self.lanes.iter_mut().for_each(Lane::discard);
    }

    /// Whether the stream is over for `end`: it has closed, it has read all that an other end that closed had
    /// written, or there was a reset. As of the last call with a time.
    pub const fn is_closed(&self, end: End) -> bool {
        self.closed[end as usize]
    }

    /// Whether the stream was reset before both ends knew its end.
    pub const fn is_reset(&self) -> bool {
        self.reset
    }

    /// When one of the ends should read next, for bytes or because it is over. In the past as long as a program
    /// leaves something unread.
    pub fn deadline(&self) -> Option<Instant> {
        let ends = [End::A, End::B].map(|end| self.readable(end));
        let resets = self.resets.filter(|_| !self.faults.blocked);
        ends.into_iter().chain([resets]).flatten().min()
    }

    /// When the program at `end` has something to read, or finds that the other end has closed.
    pub fn readable(&self, end: End) -> Option<Instant> {
        if self.closed[end as usize] {
            return None;
        }
        self.lanes[end.other() as usize].next(&self.faults)
    }

    /// What happened to what the program at `end` wrote.
    pub const fn counters(&self, end: End) -> &Counters {
        &self.lanes[end as usize].counters
    }

    /// Bytes from `end` that were not read yet.
    pub const fn in_transit(&self, end: End) -> usize {
        self.lanes[end as usize].held()
    }

    fn advance(&mut self, now: Instant) {
        if let Some(at) = self.resets.filter(|at| *at <= now && !self.faults.blocked) {
            self.resets = None;
            self.reset(at);
        }
    }

    fn shut(&mut self, now: Instant, end: End) {
        if self.closed[end as usize] {
            return;
        }
        self.closed[end as usize] = true;
        self.lanes[end as usize].finish(now, &self.faults);
        self.lanes[end.other() as usize].discard();
        if self.closed == [true; 2] {
            // Nobody is left to see a reset.
            self.resets = None;
        }
    }
}

#[cfg(test)]
mod tests;
