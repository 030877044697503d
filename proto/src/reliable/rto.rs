//! When a packet is sent again.

use core::time::Duration;

/// Waits of T, 2T, 4T and so on, without an end: what bounds retransmission is `hand-window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    initial: Duration,
    next: Duration,
}

/// Shortest wait, so that a timeout of zero can't make a busy loop.
const MIN_WAIT: Duration = Duration::from_millis(1);

impl Backoff {
    /// Starts at `initial` (`tls-timeout`).
    pub fn new(initial: Duration) -> Self {
        let initial = initial.max(MIN_WAIT);
        Self { initial, next: initial }
    }

    /// The wait after a transmission; the one after that is twice as long.
    pub fn advance(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2);
        wait
    }

    /// Starts over.
    pub const fn reset(&mut self) {
        self.next = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_and_saturates() {
        let mut b = Backoff::new(Duration::from_secs(2));
        let waits: Vec<u64> = (0..5).map(|_| b.advance().as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32]);
        for _ in 0..200 {
            b.advance();
        }
        assert_eq!(b.advance(), Duration::MAX);
        b.reset();
        assert_eq!(b.advance(), Duration::from_secs(2));
        assert!(Backoff::new(Duration::ZERO).advance() > Duration::ZERO);
    }
}
