//! Replay ids of wrapped control packets: a `(time, id)` pair that only grows (`openvpn: packet_id.c`).

use core::time::Duration;
use std::collections::VecDeque;

use crate::clock::Instant;
use crate::config::params::ReplayWindow;

/// Wire length of a [`ReplayId`].
pub const REPLAY_ID_LEN: usize = 8;

/// Largest `replay-window`; bounds what a receiver keeps.
const MAX_WINDOW: u32 = 65536;

/// How often late packets are looked over for their age (`openvpn: packet_id.h`, `SEQ_REAP_INTERVAL`).
const REAP_INTERVAL: Duration = Duration::from_secs(5);

/// Long form packet id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplayId {
    /// Unix time in seconds at which the sender's counter started.
    pub time: u32,
    /// Counter, from 1.
    pub id: u32,
}

impl ReplayId {
    /// Wire bytes: id, then time.
    pub const fn to_bytes(self) -> [u8; REPLAY_ID_LEN] {
        ((self.id as u64) << 32 | self.time as u64).to_be_bytes()
    }

    /// From wire bytes.
    pub const fn from_bytes(bytes: [u8; REPLAY_ID_LEN]) -> Self {
        let both = u64::from_be_bytes(bytes);
        Self { time: both as u32, id: (both >> 32) as u32 }
    }
}

/// Counter of sent packets.
#[derive(Clone, Debug)]
pub(super) struct SendCounter {
    last: ReplayId,
}

impl SendCounter {
    /// The first packet has the id after `preset`.
    pub(super) const fn new(unix_seconds: u32, preset: u32) -> Self {
        Self { last: ReplayId { time: unix_seconds, id: preset } }
    }

    /// Id of the next packet. When the counter is used up it starts over under a later time, even if the
    /// clock stands still: no pair occurs twice.
    pub(super) fn next(&mut self, unix_seconds: u32) -> ReplayId {
        self.last = match self.last.id.checked_add(1) {
            Some(id) => ReplayId { id, ..self.last },
            None => ReplayId { time: unix_seconds.max(self.last.time.saturating_add(1)), id: 1 },
        };
        self.last
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Unseen,
    Seen(Instant),
    /// Too old, or older in sequence than one that is.
    Expired,
}

/// Window over received ids. To be asked only about packets that are authenticated.
#[derive(Debug)]
pub struct ReplayGuard {
    window: ReplayWindow,
    highest: Option<ReplayId>,
    /// Index 0 is the highest id; at most `window.packets` long.
    slots: VecDeque<Slot>,
    last_reap: Instant,
}

impl ReplayGuard {
    /// A window that has seen nothing.
    pub const fn new(window: ReplayWindow) -> Self {
        let packets = if window.packets > MAX_WINDOW { MAX_WINDOW } else { window.packets };
        Self {
            window: ReplayWindow { packets, time: window.time },
            highest: None,
            slots: VecDeque::new(),
            last_reap: Instant::ZERO,
        }
    }

    /// Takes note of `id` and tells whether it is new. A later time starts a new series.
    pub fn accept(&mut self, now: Instant, id: ReplayId) -> bool {
        self.reap(now);
        let fresh = id.id != 0 && self.is_new(id);
        if fresh {
            self.record(now, id);
        }
        fresh
    }

    fn is_new(&self, id: ReplayId) -> bool {
        let Some(highest) = self.highest else { return true };
        if id.time != highest.time {
            return id.time > highest.time && (self.window.packets > 0 || id.id == 1);
        }
        if self.window.packets == 0 {
            return highest.id.checked_add(1) == Some(id.id);
        }
        match highest.id.checked_sub(id.id) {
            None => true,
            Some(back) => self.slots.get(back as usize) == Some(&Slot::Unseen),
        }
    }

    fn record(&mut self, now: Instant, id: ReplayId) {
        let window = self.window.packets;
        let start = match self.highest {
            Some(h) if h.time == id.time && id.id.saturating_sub(window) <= h.id => h.id,
            _ => {
                self.slots.clear();
                id.id.saturating_sub(window)
            }
        };
        for _ in start..id.id {
            if self.slots.len() >= window as usize {
                self.slots.pop_back();
            }
            if window > 0 {
                self.slots.push_front(Slot::Unseen);
            }
        }
        let highest = start.max(id.id);
        self.highest = Some(ReplayId { time: id.time, id: highest });
        if let Some(slot) = self.slots.get_mut((highest - id.id) as usize) {
            *slot = Slot::Seen(now);
        }
    }

    /// Once an id that arrived more than `window.time` ago is met, it and all before it are closed.
    fn reap(&mut self, now: Instant) {
        if self.window.time.is_zero() || now - self.last_reap < REAP_INTERVAL {
            return;
        }
        self.last_reap = now;
        let limit = self.window.time;
        let old = |slot: &Slot| match *slot {
            Slot::Seen(at) => now - at > limit,
            Slot::Expired => true,
            Slot::Unseen => false,
        };
        if let Some(first) = self.slots.iter().position(old) {
            self.slots
                .iter_mut()
                .skip(first)
                .take_while(|s| **s != Slot::Expired)
                .for_each(|s| *s = Slot::Expired);
        }
    }
}

#[cfg(test)]
mod tests;
