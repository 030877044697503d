//! When a loop lets packets gather before it looks for them.
//!
//! A peer that sends its datagrams one by one, as OpenVPN does, wakes a loop that is faster than itself for each of
//! them: four system calls a packet, and never two packets that could be joined for the device. So a loop waits a
//! moment while datagrams come densely, as network cards do before they interrupt. A thin flow is not kept waiting, and
//! neither is one whose datagrams come in batches anyway.
//!
//! Our CPU per GB of one TCP stream from OpenVPN 2.6, to that of its process (two cores with both ends and the load):
//! 0.50 to 0.55 without a rest, 0.41 to 0.50 with one of 50 us where datagrams come at most 40 us apart, 0.36 to 0.40
//! with 100 to 150 us, 0.31 to 0.38 with 250 to 300 us; longer ones gain nothing, nor do they for datagrams 100 us apart.
//! None of them made the stream slower.

use core::time::Duration;

use oxivpn_proto::Instant;

/// Datagrams that a rest is meant to gather: as many as one system call receives.
const GATHERED: u32 = 16;

/// Longest rest. One that long gathers [`GATHERED`] datagrams at some 200 Mbit/s of full ones.
const LONGEST: Duration = Duration::from_micros(300);

/// What the kernel adds to a sleep by default (`prctl(2)`, `PR_SET_TIMERSLACK`).
const SLACK: Duration = Duration::from_micros(50);

/// A shorter sleep costs more than it gains.
const SHORTEST: Duration = Duration::from_micros(10);

/// Receptions farther apart than this are answered at once.
const DENSE: Duration = Duration::from_micros(60);

/// A flow that paused so long begins anew.
const PAUSE: Duration = Duration::from_millis(1);

/// The pace of what one loop receives.
#[derive(Debug)]
pub(crate) struct Pace {
    at: Instant,
    receptions: u64,
    /// Smoothed time from one reception to the next.
    gap: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { at: Instant::ZERO, receptions: 0, gap: PAUSE }
    }
}

impl Pace {
    /// How long to sleep before the next look at the descriptors, after a turn at `now`. `receptions` is how many there
    /// ever were; what the kernel joined, or one read of a stream, is one.
    pub(crate) fn rest(&mut self, now: Instant, receptions: u64) -> Option<Duration> {
        let since = now - self.at;
        if since >= PAUSE {
            self.gap = PAUSE;
        }
        let new = u32::try_from(receptions - self.receptions).unwrap_or(u32::MAX);
        if new > 0 {
            self.gap = (self.gap * 7 + since.min(PAUSE) / new) / 8;
            (self.at, self.receptions) = (now, receptions);
        }
        if self.gap > DENSE {
            return None;
        }
        let rest = (self.gap * GATHERED).min(LONGEST);
        rest.checked_sub(SLACK).filter(|rest| *rest >= SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// Feeds `wakes` turns with `each` receptions, `gap` apart; the last answer.
    fn feed(pace: &mut Pace, now: &mut Instant, wakes: u32, gap: Duration, each: u64) -> Option<Duration> {
        let mut rest = None;
        for _ in 0..wakes {
            *now = *now + gap;
            rest = pace.rest(*now, pace.receptions + each);
        }
        rest
    }

    fn start() -> (Pace, Instant) {
        (Pace::default(), Instant::ZERO + Duration::from_secs(5))
    }

    #[test]
    fn dense_single_datagrams_are_let_gather_and_still_are_when_they_come_together() {
        let (mut pace, mut now) = start();
        let rest = feed(&mut pace, &mut now, 100, micros(12), 1).unwrap();
        assert!((micros(120)..micros(160)).contains(&rest), "{rest:?}");
        // As they now come after a rest.
        let rest = feed(&mut pace, &mut now, 100, micros(192), 16).unwrap();
        assert!((micros(120)..micros(160)).contains(&rest), "{rest:?}");
        assert_eq!(feed(&mut pace, &mut now, 100, micros(50), 1), Some(LONGEST - SLACK));
    }

    #[test]
    fn what_is_thin_or_in_batches_or_just_began_is_not_kept_waiting() {
        let (mut pace, mut now) = start();
        assert_eq!(feed(&mut pace, &mut now, 200, micros(100), 1), None, "thin");
        let (mut pace, mut now) = start();
        assert_eq!(feed(&mut pace, &mut now, 200, micros(30), 16), None, "in batches");
        let (mut pace, mut now) = start();
        assert_eq!(feed(&mut pace, &mut now, 10, micros(10), 1), None, "a burst");
        assert!(feed(&mut pace, &mut now, 100, micros(10), 1).is_some());
        now = now + PAUSE;
        assert_eq!(pace.rest(now, pace.receptions), None, "over");
        assert_eq!(feed(&mut pace, &mut now, 1, micros(10), 1), None, "a new one");
    }
}
