//! Rate limits as token buckets (`openvpn: reflect_filter.c`, `otime.h`).

use core::time::Duration;

use crate::clock::Instant;
use crate::config::server::Rate;

/// A bucket of `rate.events` tokens that refills in `rate.period`; it starts full.
///
/// It is kept as the time at which the bucket will be full again, so that it needs neither a timer nor a count.
/// At most twice `rate.events` tokens go out in one period: a full bucket and what flows in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    full_at: Instant,
    /// Time for all tokens to flow in.
    period: Duration,
    /// Time for one token to flow in.
    token: Duration,
}

impl Bucket {
    pub(crate) fn new(rate: Rate) -> Self {
        let token = rate.period / rate.events.max(1);
        // The period is made of whole tokens, so that a full bucket holds all of them in spite of rounding.
        Self { full_at: Instant::ZERO, period: token * rate.events.max(1), token }
    }

    /// Takes a token; `false` if there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.token;
        let there = full_at - now <= self.period;
        if there {
            self.full_at = full_at;
        }
        there
    }

    /// Puts a token back that was taken.
    pub(crate) fn give_back(&mut self) {
        let nanos = u64::try_from(self.token.as_nanos()).unwrap_or(u64::MAX);
        self.full_at = Instant::from_nanos(self.full_at.as_nanos().saturating_sub(nanos));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(bucket: &mut Bucket, now: Instant, tries: usize) -> usize {
        (0..tries).filter(|_| bucket.take(now)).count()
    }

    #[test]
    fn gives_all_at_once_and_then_as_they_flow_in() {
        let mut bucket = Bucket::new(Rate { events: 100, period: 10 * SECOND });
        let start = Instant::ZERO + 5 * SECOND;
        assert_eq!(taken(&mut bucket, start, 1000), 100);
        assert_eq!(taken(&mut bucket, start + SECOND / 11, 10), 0);
        assert_eq!(taken(&mut bucket, start + SECOND / 10, 10), 1);
        assert_eq!(taken(&mut bucket, start + 2 * SECOND, 1000), 19);
        assert_eq!(taken(&mut bucket, start + 2000 * SECOND, 1000), 100);
    }

    #[test]
    fn tokens_come_back_but_never_more_than_were_there() {
        let mut bucket = Bucket::new(Rate { events: 3, period: SECOND });
        let now = Instant::ZERO + 100 * SECOND;
        assert_eq!(taken(&mut bucket, now, 10), 3);
        bucket.give_back();
        assert_eq!(taken(&mut bucket, now, 10), 1);
        (0..50).for_each(|_| bucket.give_back());
        assert_eq!(taken(&mut bucket, now, 10), 3);
    }

    #[test]
    fn odd_rates_hold() {
        for (events, period) in [(1, SECOND), (3, SECOND), (7, 10 * SECOND), (1_000_000, SECOND)] {
            let mut bucket = Bucket::new(Rate { events, period });
            assert_eq!(
                taken(&mut bucket, Instant::ZERO, events as usize + 1000),
                events as usize,
                "{events}"
            );
        }
        let mut none = Bucket::new(Rate { events: 0, period: SECOND });
        assert_eq!(taken(&mut none, Instant::ZERO, 10), 1);
        let mut time_stands_still = Bucket::new(Rate { events: 5, period: Duration::ZERO });
        assert_eq!(taken(&mut time_stands_still, Instant::ZERO, 10), 10);
    }
}
