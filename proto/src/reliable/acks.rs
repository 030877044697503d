//! Acks that we owe, and those that are repeated for good measure.

use crate::limits::MAX_ACKS;
use crate::wire::ack::AckList;
use crate::wire::ids::MessageId;

/// Acks not sent yet, and the most recently sent ones, which fill the ack blocks of later packets
/// (`openvpn: reliable.c`, `copy_acks_to_mru`).
#[derive(Clone, Copy, Debug, Default)]
pub struct AckDebt {
    pending: AckList,
    recent: AckList,
}

impl AckDebt {
    /// No debt.
    pub const fn new() -> Self {
        Self { pending: AckList::EMPTY, recent: AckList::EMPTY }
    }

    /// Notes that `id` arrived. `false` if as many as possible are pending already and `id` is not among
    /// them: it then stays without ack until the peer repeats the packet.
    pub fn owe(&mut self, id: MessageId) -> bool {
        self.pending.contains(id) || self.pending.push(id)
    }

    /// Whether an ack waits that was not sent yet.
    pub const fn pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The ack block of the next packet, with at most `max` ids: fresh ones first, then repeated ones, the
    /// most recent first. What it holds is no longer pending.
    pub fn take(&mut self, max: usize) -> AckList {
        let max = max.min(MAX_ACKS);
        let ids = self.pending.as_slice();
        let (fresh, later) = ids.split_at(ids.len().min(max));
        let repeated = self.recent.as_slice().iter().filter(|id| !fresh.contains(id));
        self.recent = fresh.iter().chain(repeated).copied().collect();
        self.pending = later.iter().copied().collect();
        self.recent.as_slice().iter().take(max).copied().collect()
    }

    /// How many ids [`Self::take`] would give.
    pub fn peek_len(&self, max: usize) -> usize {
        let mut copy = *self;
        copy.take(max).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: AckList) -> Vec<u32> {
        list.as_slice().iter().map(|id| id.0).collect()
    }

    #[test]
    fn fresh_before_repeated() {
        let mut debt = AckDebt::new();
        for id in 0..4 {
            assert!(debt.owe(MessageId(id)));
            assert_eq!(debt.peek_len(4), id as usize + 1);
            assert_eq!(ids(debt.take(4)), (0..=id).rev().collect::<Vec<_>>());
            assert!(!debt.pending());
        }
        assert!(debt.owe(MessageId(4)));
        assert_eq!(ids(debt.take(4)), [4, 3, 2, 1]);
        assert_eq!(ids(debt.take(8)), [4, 3, 2, 1, 0]);
        assert!(debt.owe(MessageId(1)));
        assert_eq!(ids(debt.take(8)), [1, 4, 3, 2, 0]);
    }

    #[test]
    fn what_does_not_fit_stays_pending() {
        let mut debt = AckDebt::new();
        for id in 0..8 {
            assert!(debt.owe(MessageId(id)));
        }
        assert!(!debt.owe(MessageId(8)));
        assert!(debt.owe(MessageId(7)));
        assert_eq!(ids(debt.take(4)), [0, 1, 2, 3]);
        assert!(debt.pending());
        assert_eq!(ids(debt.take(8)), [4, 5, 6, 7, 0, 1, 2, 3]);
        assert!(!debt.pending());
        assert_eq!(debt.peek_len(0), 0);
        assert_eq!(debt.peek_len(99), 8);
    }
}
