//! What a run came to.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;

/// Counts and times of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Clients that were begun.
    pub(super) begun: u64,
    /// Clients that came up.
    pub(super) up: u64,
    /// Those that are up at the end.
    pub(super) alive: u64,
    /// Second keys in use.
    pub(super) rekeyed: u64,
    /// From the first packet of the first client to the last client's coming up.
    pub(super) span: Duration,
    /// Time from first packet to PUSH_REPLY of each client.
    pub(super) times: Vec<Duration>,
    /// How clients ended that should not have.
    pub(super) failures: BTreeMap<String, u64>,
}

impl Report {
    /// The time within which this part of the clients came up.
    fn quantile(&self, sorted: &[Duration], part: f64) -> f64 {
        debug_assert_eq!(sorted.len(), self.times.len());
        let at = ((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1);
        sorted.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    fn rate(&self) -> f64 {
        if self.span.is_zero() { 0.0 } else { self.up as f64 / self.span.as_secs_f64() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| self.quantile(&sorted, part));
        let failed: u64 = self.failures.values().sum();
        writeln!(
            f,
            "clients: {} begun, {} came up, {} are up, {failed} failed",
            self.begun, self.up, self.alive
        )?;
        writeln!(f, "connections: {:.1} per second over {:.2} s", self.rate(), self.span.as_secs_f64())?;
        writeln!(
            f,
            "time to connect: half within {p50:.1} ms, 99 % within {p99:.1} ms, all within {max:.1} ms"
        )?;
        writeln!(f, "second keys: {}", self.rekeyed)?;
        for (cause, count) in &self.failures {
            writeln!(f, "failed: {count} x {cause}")?;
        }
        write!(
            f,
            "load begun={} up={} alive={} failed={failed} rekeyed={} seconds={:.3} p50_ms={p50:.2} p99_ms={p99:.2}",
            self.begun,
            self.up,
            self.alive,
            self.rekeyed,
            self.span.as_secs_f64(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_clients() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        let report = Report { begun: 201, up: 200, span: Duration::from_secs(2), times, ..Report::default() };
        let text = report.to_string();
        assert!(text.contains("100.0 per second over 2.00 s"), "{text}");
        assert!(text.ends_with("p50_ms=100.00 p99_ms=198.00"), "{text}");
    }

    #[test]
    fn nobody_up_is_no_division_by_zero() {
        assert!(Report::default().to_string().contains("0 came up"));
    }
}
