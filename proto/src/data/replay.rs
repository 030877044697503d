//! Which packet ids were seen.
//!
//! A bitmap over the newest ids, as OpenVPN 3 and the kernel modules keep it, instead of the list of arrival
//! times of 2.x; a 2.x peer can't tell the difference (`openvpn: packet_id.c`, `openvpn3: packet_id_data.hpp`).

use core::time::Duration;

use crate::clock::Instant;
use crate::config::params::ReplayWindow;

/// Smallest window in packets, whatever smaller one is configured: parallel senders need it, and accepting
/// a late packet that was never seen costs nothing. With the word that is being entered it fills 256 bytes.
pub const MIN_WINDOW: u32 = 2048 - 64;

/// Seen packet ids of one key and direction. Id 0 is never accepted.
///
/// Time bound: if nothing was accepted for the configured time, everything up to the highest id counts as
/// seen from then on. A configured window of 0 demands strict order: each id is the last one plus one,
/// beginning anywhere.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Bit `id % (64 * words)` says whether `id` was seen. A power of two of words, at least one more than
    /// the window needs, so that the word being entered never holds ids of the window.
    words: Box<[u64]>,
    window: u64,
    highest: u64,
    floor: u64,
    last_accept: Option<Instant>,
    idle: Duration,
}

impl Replay {
    /// An empty window.
    pub fn new(config: ReplayWindow) -> Self {
        let window = if config.packets == 0 { 0 } else { config.packets.clamp(MIN_WINDOW, 65_536) };
        let words = if window == 0 { 0 } else { (window as usize).div_ceil(64) + 1 };
        let words = if words == 0 { 0 } else { words.next_power_of_two() };
        Self {
            words: vec![0; words].into_boxed_slice(),
            window: window.into(),
            highest: 0,
            floor: 0,
            last_accept: None,
            idle: config.time,
        }
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.words.fill(0);
        self.highest = 0;
        self.floor = 0;
        self.last_accept = None;
    }

    /// Highest accepted id, 0 if none.
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether `id` would be accepted. Changes nothing, so it may be asked before authentication.
    #[inline]
    pub fn check(&self, now: Instant, id: u64) -> bool {
        if id == 0 || id == u64::MAX {
            return false;
        }
        if self.window == 0 {
            return self.highest == 0 || id == self.highest + 1;
        }
        if id > self.highest {
            return true;
        }
        if self.highest - id >= self.window || id <= self.floor(now) {
            return false;
        }
        let (word, bit) = self.place(id);
        self.words[word] & bit == 0
    }

    /// Records `id` as seen, if it is acceptable. Only for packets that authenticated.
    #[inline]
    pub fn accept(&mut self, now: Instant, id: u64) -> bool {
        if !self.check(now, id) {
            return false;
        }
        self.floor = self.floor(now);
        self.last_accept = Some(now);
        if self.window == 0 {
            self.highest = id;
            return true;
        }
        if id > self.highest {
            self.enter(id);
            self.highest = id;
        }
        let (word, bit) = self.place(id);
        self.words[word] |= bit;
        true
    }

    /// Clears the words between the one of the highest id and the one of `id`.
    #[inline]
    fn enter(&mut self, id: u64) {
        let (from, to) = (self.highest / 64, id / 64);
        let mask = self.words.len() as u64 - 1;
        let count = (to - from).min(self.words.len() as u64);
        for word in to - count + 1..=to {
            self.words[(word & mask) as usize] = 0;
        }
    }

    #[inline]
    fn floor(&self, now: Instant) -> u64 {
        match self.last_accept {
            Some(last) if self.idle != Duration::ZERO && now - last >= self.idle => self.highest,
            _ => self.floor,
        }
    }

    #[inline]
    fn place(&self, id: u64) -> (usize, u64) {
        ((id / 64) as usize & (self.words.len() - 1), 1 << (id % 64))
    }
}

#[cfg(test)]
mod tests;

#[cfg(kani)]
mod proofs {
    use super::*;

    /// No id is accepted twice, whatever comes in between.
    #[kani::proof]
    #[kani::unwind(70)]
    fn never_twice() {
        let mut replay = Replay::new(ReplayWindow { packets: 64, time: Duration::ZERO });
        let (a, b): (u64, u64) = (kani::any(), kani::any());
        let now = Instant::ZERO;
        if replay.accept(now, a) {
            replay.accept(now, b);
            assert!(!replay.accept(now, a));
        }
    }
}
