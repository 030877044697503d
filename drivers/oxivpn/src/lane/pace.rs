//! When a loop lets packets gather before it looks for them.
//!
//! A peer that sends its datagrams one by one, as OpenVPN does, wakes a loop that is faster than itself for each of
//! them: four system calls a packet, and never two packets that could be joined for the device. So a loop waits a
//! moment while datagrams come densely, as network cards do before they interrupt. A thin flow is not kept waiting, and
//! neither is one whose datagrams come in batches anyway.
//!
//! Our CPU per GB of one TCP stream from OpenVPN 2.6, to that of its process (two cores with both ends and the load):
//! 0.50 to 0.55 without a rest, 0.33 to 0.38 with one that gathers 16 datagrams in at most 300 us, which is what one call
//! receives, and 0.23 to 0.30 with 64 in at most 500 us, in which the device gets pieces three times as large. Up to
//! 700 us gain nothing more, nor do 16 datagrams at a time, however long the rest. Neither made the stream slower.

use core::time::Duration;

use oxivpn_proto::Instant;

/// Datagrams that a rest is meant to gather: as many as a loop receives before it opens them.
const GATHERED: u32 = 64;

/// Longest rest. One that long gathers [`GATHERED`] datagrams at some 1.4 Gbit/s of full ones.
const LONGEST: Duration = Duration::from_micros(500);

/// What the kernel adds to a sleep by default (`prctl(2)`, `PR_SET_TIMERSLACK`).
const SLACK: Duration = Duration::from_micros(50);

/// A shorter sleep costs more than it gains.
const SHORTEST: Duration = Duration::from_micros(10);

/// Datagrams farther apart than this are answered at once.
const DENSE: Duration = Duration::from_micros(100);

/// Of so many rests, all but one end without a question to the kernel what can be read: something can.
const ASKED: u8 = 8;

/// A flow that paused so long begins anew.
const PAUSE: Duration = Duration::from_millis(1);

/// What a loop does well to do before it waits for its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// How long to sleep.
    pub time: Duration,
    /// Whether to take all descriptors for readable then, and not to wait for them.
    pub blind: bool,
}

/// The pace of what one loop receives.
#[derive(Debug)]
pub(crate) struct Pace {
    at: Instant,
    singles: u64,
    /// Smoothed time from one to the next.
    gap: Duration,
    rests: u8,
}

impl Default for Pace {
    fn default() -> Self {
        Self { at: Instant::ZERO, singles: 0, gap: PAUSE, rests: 0 }
    }
}

impl Pace {
    /// What to do before the next look at the descriptors, after a turn at `now`. `singles` is how many datagrams ever
    /// came that the kernel had not joined with others.
    pub(crate) fn rest(&mut self, now: Instant, singles: u64) -> Option<Rest> {
        if singles < self.singles {
            // Somebody has left the loop, and what he received is no longer told.
            *self = Self { at: now, singles, ..Self::default() };
        }
        let since = now - self.at;
        if since >= PAUSE {
            self.gap = PAUSE;
        }
        let new = u32::try_from(singles - self.singles).unwrap_or(u32::MAX);
        if new > 0 {
            self.gap = (self.gap * 7 + since.min(PAUSE) / new) / 8;
            (self.at, self.singles) = (now, singles);
        }
        if self.gap > DENSE {
            return None;
        }
        let time = (self.gap * GATHERED).min(LONGEST).checked_sub(SLACK)?;
        if time < SHORTEST {
            return None;
        }
        self.rests = (self.rests + 1) % ASKED;
        Some(Rest { time, blind: self.rests != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// Feeds `wakes` turns with `each` singles, `gap` apart; the last answer.
    fn feed(pace: &mut Pace, now: &mut Instant, wakes: u32, gap: Duration, each: u64) -> Option<Duration> {
        let mut rest = None;
        for _ in 0..wakes {
            *now = *now + gap;
            rest = pace.rest(*now, pace.singles + each).map(|rest| rest.time);
        }
        rest
    }

    fn start() -> (Pace, Instant) {
        (Pace::default(), Instant::ZERO + Duration::from_secs(5))
    }

    #[test]
    fn dense_single_datagrams_are_let_gather_and_still_are_when_they_come_together() {
        let (mut pace, mut now) = start();
        let rest = feed(&mut pace, &mut now, 100, micros(5), 1).unwrap();
        assert!((micros(250)..micros(300)).contains(&rest), "{rest:?}");
        // As they now come after a rest.
        let rest = feed(&mut pace, &mut now, 100, micros(320), 64).unwrap();
        assert!((micros(250)..micros(300)).contains(&rest), "{rest:?}");
        assert_eq!(feed(&mut pace, &mut now, 100, micros(50), 1), Some(LONGEST - SLACK));
    }

    #[test]
    fn what_is_thin_or_joined_or_just_began_is_not_kept_waiting() {
        let (mut pace, mut now) = start();
        assert_eq!(feed(&mut pace, &mut now, 200, micros(150), 1), None, "thin");
        assert_eq!(feed(&mut pace, &mut now, 200, micros(30), 0), None, "joined");
        let (mut pace, mut now) = start();
        assert_eq!(feed(&mut pace, &mut now, 10, micros(10), 1), None, "a burst");
        assert!(feed(&mut pace, &mut now, 100, micros(10), 1).is_some());
        now = now + PAUSE;
        assert_eq!(pace.rest(now, pace.singles), None, "over");
        assert_eq!(feed(&mut pace, &mut now, 1, micros(10), 1), None, "a new one");
    }

    #[test]
    fn fewer_than_before_is_a_new_beginning() {
        let (mut pace, mut now) = start();
        assert!(feed(&mut pace, &mut now, 100, micros(10), 1).is_some());
        now = now + micros(10);
        assert_eq!(pace.rest(now, 3), None);
        assert!(feed(&mut pace, &mut now, 100, micros(10), 1).is_some());
    }

    #[test]
    fn now_and_then_a_rest_ends_with_a_question() {
        let (mut pace, mut now) = start();
        feed(&mut pace, &mut now, 100, micros(10), 1);
        let blind = (0..3 * ASKED).filter(|_| {
            now = now + micros(10);
            pace.rest(now, pace.singles + 1).unwrap().blind
        });
        assert_eq!(blind.count(), usize::from(3 * (ASKED - 1)));
    }
}
