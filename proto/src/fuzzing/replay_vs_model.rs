//! The replay window against a plain set of all ids.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::clock::Instant;
use crate::config::params::ReplayWindow;
use crate::data::replay::{MIN_WINDOW, Replay};

struct Model {
    window: u64,
    idle: Duration,
    seen: BTreeSet<u64>,
    highest: u64,
    floor: u64,
    last: Option<Instant>,
}

impl Model {
    fn accept(&mut self, now: Instant, id: u64) -> bool {
        let idle = self.last.is_some_and(|last| self.idle > Duration::ZERO && now - last >= self.idle);
        let floor = if idle { self.highest } else { self.floor };
        let good = if self.window == 0 {
            id != 0 && (self.highest == 0 || id == self.highest + 1)
        } else {
            id != 0 && id > floor && id + self.window > self.highest && !self.seen.contains(&id)
        };
        if good {
            self.floor = floor;
            self.last = Some(now);
            self.highest = self.highest.max(id);
            self.seen.insert(id);
        }
        good
    }
}

/// First byte: configuration. Then operations of 4 bytes: kind, two bytes of a number, time step.
pub fn run(data: &[u8]) {
    let Some((&head, ops)) = data.split_first() else { return };
    let packets = [0, 64, 3000, 65_536][usize::from(head & 3)];
    let time = Duration::from_secs([0, 15][usize::from(head >> 2 & 1)]);
    let mut window = Replay::new(ReplayWindow { packets, time });
    let mut model = Model {
        window: if packets == 0 { 0 } else { packets.max(MIN_WINDOW).into() },
        idle: time,
        seen: BTreeSet::new(),
        highest: 0,
        floor: 0,
        last: None,
    };
    let mut now = Instant::ZERO;
    for op in ops.chunks_exact(4) {
        let number = u64::from(u16::from_le_bytes([op[1], op[2]]));
        if op[3] > 250 {
            now = now + Duration::from_secs(u64::from(op[3] - 240));
        }
        let id = match op[0] % 6 {
            0 => model.highest + 1,
            1 => model.highest + 1 + number % 70,
            2 => model.highest + number,
            3 => model.highest.saturating_sub(number % 70),
            4 => model.highest.saturating_sub(number),
            _ => number,
        };
        let asked = window.check(now, id);
        let expected = model.accept(now, id);
        assert_eq!(asked, expected, "check {id} with highest {}", model.highest);
        assert_eq!(window.accept(now, id), expected, "accept {id}");
        assert_eq!(window.highest(), model.highest);
        assert!(!window.check(now, id) || !expected, "{id} twice");
    }
}
