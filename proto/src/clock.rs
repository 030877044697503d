//! Time as the core sees it: a monotonic [`Instant`] that the caller supplies with every call, and an
//! [`Anchor`] that ties it to the calendar. Nothing in this crate reads a clock.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point on the caller's monotonic time line, in nanoseconds since a start the caller chose.
///
/// It should count time spent in suspend, so that a peer which expired while a laptop slept is noticed on
/// wake-up (`CLOCK_BOOTTIME` on Linux).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The start of the time line.
    pub const ZERO: Self = Self(0);

    /// An instant `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`, or zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at the end of the time line (584 years).
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, rhs: Self) -> Duration {
        self.saturating_since(rhs)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1000)
    }
}

/// The one link between monotonic time and the calendar: what Unix time it was at some [`Instant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    at: Instant,
    unix: Duration,
}

impl Anchor {
    /// States that at `at` the Unix time was `unix` (time since 1970-01-01 UTC).
    pub const fn new(at: Instant, unix: Duration) -> Self {
        Self { at, unix }
    }

    /// Unix time at `now`, as time since 1970-01-01 UTC.
    pub fn unix_at(&self, now: Instant) -> Duration {
        if now >= self.at { self.unix + (now - self.at) } else { self.unix.saturating_sub(self.at - now) }
    }
}
