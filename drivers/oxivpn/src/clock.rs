//! The clock; the only file that reads one.

use core::time::Duration;

use oxivpn_proto::{Anchor, Instant};

use crate::sys;

/// The present on the time line of the core: time since boot, which goes on in suspend, so that a peer which
/// expired while a laptop slept is noticed on wake-up.
pub fn now() -> Instant {
    Instant::from_nanos(u64::try_from(sys::boottime().as_nanos()).unwrap_or(u64::MAX))
}

/// Unix time: time since 1970-01-01 UTC.
pub fn unix() -> Duration {
    sys::realtime()
}

/// Ties both together.
pub fn anchor() -> Anchor {
    Anchor::new(now(), unix())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_the_anchor_fits() {
        let first = now();
        let anchor = anchor();
        let second = now();
        assert!(first <= second && first > Instant::ZERO);
        let difference = anchor.unix_at(second).abs_diff(unix());
        assert!(difference < Duration::from_secs(5), "{difference:?}");
    }
}
