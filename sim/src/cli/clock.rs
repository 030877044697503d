//! How much CPU time a thread used: what real time says little about where many programs share a machine.

use core::time::Duration;

/// CPU time of the calling thread so far. Where the system doesn't tell, real time since some moment.
#[cfg(target_os = "linux")]
pub(super) fn cpu() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of the calling thread so far. Where the system doesn't tell, real time since some moment.
#[cfg(not(target_os = "linux"))]
pub(super) fn cpu() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;

    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// A time for people: `340 ms`, `12.3 s`, `4 min 10 s`, `8 h 0 min`.
pub(super) fn words(time: Duration) -> String {
    let (millis, seconds) = (time.as_millis(), time.as_secs());
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{} s", millis % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// So many each second, with one decimal; `-` for no time.
pub(super) fn rate(many: u64, time: Duration) -> String {
    match time.as_micros() {
        0 => "-".to_owned(),
        micros => {
            let tenths = u128::from(many) * 10_000_000 / micros;
            format!("{}.{}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(words(Duration::from_millis(12_345)), "12.3 s");
        assert_eq!(words(Duration::from_secs(8 * 3600 + 90)), "8 h 1 min");
        assert_eq!(rate(25, Duration::from_millis(500)), "50.0");
        assert_eq!(rate(25, Duration::ZERO), "-");
    }

    #[test]
    fn a_busy_thread_uses_time() {
        let start = cpu();
        let mut sum = 0_u64;
        while cpu() == start {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(cpu() > start);
    }
}
