//! One direction of a byte stream.

use core::time::Duration;
use std::collections::VecDeque;

use oxivpn_proto::Instant;

use super::{Counters, PipeFaults};
use crate::seed::{Draws, Purpose, Rate, SeedTree};

#[derive(Clone, Debug)]
pub(super) struct Lane {
    seeds: SeedTree,
    /// Tells the lanes of a simulation apart.
    index: u32,
    /// Under way, by arrival.
    segments: VecDeque<(Instant, Vec<u8>)>,
    /// Arrived and not yet read.
    arrived: VecDeque<u8>,
    /// Arrival of the last segment.
    tail: Instant,
    /// Arrival of the writer's last word.
    end: Option<Instant>,
    /// Nothing is read before.
    stalled: Instant,
    /// Whether it was drawn if there is a stall before the next chunk.
    looked: bool,
    /// Bytes under way or arrived.
    held: usize,
    writes: u64,
    chunks: u64,
    pub(super) counters: Counters,
}

impl Lane {
    pub(super) fn new(seeds: &SeedTree, index: u32) -> Self {
        Self {
            seeds: seeds.clone(),
            index,
            segments: VecDeque::new(),
            arrived: VecDeque::new(),
            tail: Instant::ZERO,
            end: None,
            stalled: Instant::ZERO,
            looked: false,
            held: 0,
            writes: 0,
            chunks: 0,
            counters: Counters::default(),
        }
    }

    /// Takes as many bytes as there is room for. Also returns when the stream is reset, if it is because of them.
    pub(super) fn write(
        &mut self,
        now: Instant,
        faults: &PipeFaults,
        bytes: &[u8],
    ) -> (usize, Option<Instant>) {
        let taken = &bytes[..bytes.len().min(self.room(faults))];
        if taken.is_empty() {
            return (0, None);
        }
        let number = self.writes;
        self.writes += 1;
        let arrival = self.arrival(now, faults, number);
        self.tail = arrival;
        self.segments.push_back((arrival, taken.to_vec()));
        self.held += taken.len();
        self.counters.written += taken.len() as u64;
        let reset = faults.reset != Rate::NEVER && self.draws(Purpose::Reset, number).hit(faults.reset);
        (taken.len(), reset.then_some(arrival))
    }

    pub(super) const fn room(&self, faults: &PipeFaults) -> usize {
        if self.end.is_some() { 0 } else { faults.buffer.saturating_sub(self.held) }
    }

    /// Nothing is written any more.
    pub(super) fn finish(&mut self, now: Instant, faults: &PipeFaults) {
        if self.end.is_none() {
            self.end = Some(self.arrival(now, faults, self.writes));
        }
    }

    /// The next chunk, or whether there will never be one.
    pub(super) fn read(&mut self, now: Instant, faults: &PipeFaults) -> Result<Vec<u8>, bool> {
        let next = self.next(faults);
        if next.is_none_or(|at| at > now) {
            return Err(false);
        }
        if self.held == 0 {
            return Err(true);
        }
        if self.stalls(now, faults) {
            return Err(false);
        }
        while let Some((at, bytes)) = self.segments.front()
            && *at <= now
        {
            self.arrived.extend(bytes);
            self.segments.pop_front();
        }
        let len = self.chunk(faults);
        let (front, back) = self.arrived.as_slices();
        let mut chunk = Vec::with_capacity(len);
        chunk.extend_from_slice(&front[..len.min(front.len())]);
        chunk.extend_from_slice(&back[..len - chunk.len()]);
        self.arrived.drain(..len);
        self.held -= len;
        self.chunks += 1;
        self.looked = false;
        self.counters.read += len as u64;
        Ok(chunk)
    }

    /// When there is something to read, or the end is seen.
    pub(super) fn next(&self, faults: &PipeFaults) -> Option<Instant> {
        if faults.blocked {
            return None;
        }
        let at = if self.arrived.is_empty() {
            self.segments.front().map(|(at, _)| *at).or(self.end)?
        } else {
            Instant::ZERO
        };
        Some(at.max(self.stalled))
    }

    /// Throws away what was not read.
    pub(super) fn discard(&mut self) {
        self.counters.discarded += self.held as u64;
        self.held = 0;
        self.segments.clear();
        self.arrived.clear();
    }

    /// Ends a stall.
    pub(super) const fn move_on(&mut self) {
        self.stalled = Instant::ZERO;
    }

    pub(super) const fn held(&self) -> usize {
        self.held
    }

    fn arrival(&self, now: Instant, faults: &PipeFaults, number: u64) -> Instant {
        let mut late = Duration::ZERO;
        if faults.jitter > Duration::ZERO {
            late = self.draws(Purpose::Jitter, number).time(Duration::ZERO, faults.jitter);
        }
        self.tail.max(now + faults.delay + late)
    }

    fn stalls(&mut self, now: Instant, faults: &PipeFaults) -> bool {
        if self.looked || faults.stall == Rate::NEVER {
            return false;
        }
        self.looked = true;
        let mut draws = self.draws(Purpose::Stall, self.chunks);
        if !draws.hit(faults.stall) {
            return false;
        }
        let time = draws.time(Duration::from_nanos(1), faults.stall_for);
        self.stalled = now + time;
        self.counters.stalls += 1;
        true
    }

    /// How many of the bytes that arrived are read now.
    fn chunk(&self, faults: &PipeFaults) -> usize {
        let all = self.arrived.len();
        if faults.chunks == Rate::NEVER {
            return all;
        }
        let mut draws = self.draws(Purpose::Chunk, self.chunks);
        if !draws.hit(faults.chunks) {
            return all;
        }
        // Single bytes and parts of a length field matter as much as halves of packets.
        let most = *draws.pick(&[1, 16, all, all]);
        draws.between(1, most.min(all) as u64) as usize
    }

    fn draws(&self, purpose: Purpose, number: u64) -> Draws {
        self.seeds.draws(purpose, self.index, number)
    }
}
