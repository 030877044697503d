//! Log lines that strangers cause: so many, and then their number.

use core::time::Duration;

use oxivpn_proto::Instant;

/// Lines in each [`PERIOD`].
const LINES: u32 = 100;

const PERIOD: Duration = Duration::from_secs(10);

/// What was said in this period.
#[derive(Debug)]
pub(super) struct Ration {
    begun: Instant,
    said: u32,
    held: u64,
}

impl Default for Ration {
    fn default() -> Self {
        Self { begun: Instant::ZERO, said: 0, held: 0 }
    }
}

impl Ration {
    /// Whether another line may be said, with the number of those that were not.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        if now >= self.begun + PERIOD {
            (self.begun, self.said) = (now, 0);
        }
        if self.said == LINES {
            self.held += 1;
            return None;
        }
        self.said += 1;
        Some(core::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_rationed_and_the_rest_is_counted() {
        let mut ration = Ration::default();
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        for (seconds, before) in [(5, 0), (16, 900), (26, 900)] {
            let said: Vec<u64> = (0..1000).filter_map(|_| ration.take(at(seconds))).collect();
            assert_eq!((said.len(), said[0], said[1]), (100, before, 0));
        }
    }
}
