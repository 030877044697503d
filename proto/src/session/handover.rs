//! When one data key takes over from another.
//!
//! A key that has a successor has two ends, both counted from the beginning of the successor's negotiation:
//!
//! | end | time | `openvpn: ssl.c` |
//! |---|---|---|
//! | it sends no more, if the other side wasn't seen with the new key before | `hand-window`, half of `reneg-sec` at most | `auth_deferred_expire_window`, `tls_select_encryption_key` |
//! | packets under it are not taken any more | `tran-window` | `key_state_soft_reset`, `lame_duck_must_die` |
//!
//! A packet is lost if one side sends it under a key that the other has not got yet, or not any more. OpenVPN leaves it
//! to its user to set the first time well below the second. Here three rules keep them apart, whatever is set:
//!
//! - Sending ends after half of `tran-window`: the other side takes no more after its own, mostly as long as ours.
//! - It goes on until [`LAST_ACK`] after the negotiation at least: only our last ack gives the other side the new key.
//! - Once the new key sends, packets under the old are taken for [`LINGER`] at least: the other side sends them until it
//!   sees the new one, and what it sent before is on its way.
//!
//! These are times on this side of the data plane. A plane that carries orders out late adds a rule of order, which the
//! node keeps: a control packet does not leave before the keys are as the session ordered.

use core::time::Duration;

use crate::clock::Instant;
use crate::config::Timing;

/// Time for our last ack of a negotiation to arrive, with two retransmissions.
const LAST_ACK: Duration = Duration::from_secs(10);

/// Time for the other side to see the new key and to follow.
const LINGER: Duration = Duration::from_secs(15);

/// The ends of a key whose successor is being negotiated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handover {
    began: Instant,
    sends: Duration,
    is_taken: Duration,
}

impl Handover {
    /// For a negotiation that began at `began`.
    pub(crate) fn new(began: Instant, timing: &Timing) -> Self {
        let sends = match timing.reneg.is_zero() {
            true => timing.hand_window,
            false => timing.hand_window.min(timing.reneg / 2),
        };
        Self { began, sends: sends.min(timing.tran_window / 2), is_taken: timing.tran_window }
    }

    /// When the new key sends in any case; its negotiation ended at `now`.
    pub(crate) fn takes_over(&self, now: Instant) -> Instant {
        (self.began + self.sends).max(now + LAST_ACK)
    }

    /// When the old key is forgotten; the new one sends from `now` on.
    pub(crate) fn forgets(&self, now: Instant) -> Instant {
        (self.began + self.is_taken).max(now + LINGER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn handover(hand: u64, reneg: u64, tran: u64) -> Handover {
        let [hand_window, reneg, tran_window] = [hand, reneg, tran].map(Duration::from_secs);
        Handover::new(at(1000), &Timing { hand_window, reneg, tran_window, ..Timing::default() })
    }

    #[test]
    fn sending_ends_by_the_shortest_of_three_windows() {
        for (hand, reneg, tran, ends) in
            [(60, 3600, 3600, 60), (60, 0, 3600, 60), (60, 100, 3600, 50), (60, 100, 80, 40), (60, 0, 20, 10)]
        {
            let handover = handover(hand, reneg, tran);
            assert_eq!(handover.takes_over(at(1000)), at(1000 + ends), "{hand} {reneg} {tran}");
            assert_eq!(handover.forgets(at(1001)), at(1000 + tran.max(16)), "{hand} {reneg} {tran}");
        }
    }

    #[test]
    fn what_took_long_leaves_time_for_the_other_side() {
        let handover = handover(60, 0, 60);
        assert_eq!(handover.takes_over(at(1019)), at(1030));
        assert_eq!(handover.takes_over(at(1055)), at(1065));
        assert_eq!(handover.forgets(at(1030)), at(1060));
        assert_eq!(handover.forgets(at(1065)), at(1080));
    }
}
