//! Numbers of peers in the data plane.

use std::collections::{BTreeSet, VecDeque};

use crate::directive::PeerRef;
use crate::wire::ids::PeerId;

/// Gives out numbers, those that came back first. A number comes back only after the data plane has carried its removal
/// out, and each use has a generation of its own, so late reports can't hit the wrong peer.
#[derive(Debug, Default)]
pub(super) struct PeerIds {
    /// The lowest number that was never given out.
    next: u32,
    free: BTreeSet<u32>,
    /// Numbers that wait for the order with this sequence number.
    leaving: VecDeque<(u64, u32)>,
    generation: u32,
}

impl PeerIds {
    pub(super) fn take(&mut self) -> PeerRef {
        let id = self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.generation = self.generation.wrapping_add(1);
        PeerRef { id: PeerId::from_low_bits(id), generation: self.generation }
    }

    /// The same number for another use.
    pub(super) fn renew(&mut self, peer: PeerRef) -> PeerRef {
        self.generation = self.generation.wrapping_add(1);
        PeerRef { id: peer.id, generation: self.generation }
    }

    /// The peer is removed by the order with number `seq`, or needed none (`None`).
    pub(super) fn release(&mut self, peer: PeerRef, seq: Option<u64>) {
        match seq {
            Some(seq) => self.leaving.push_back((seq, peer.id.get())),
            None => {
                self.free.insert(peer.id.get());
            }
        }
    }

    pub(super) fn on_applied(&mut self, seq: u64) {
        while let Some(&(_, id)) = self.leaving.front().filter(|(waiting, _)| *waiting <= seq) {
            self.leaving.pop_front();
            self.free.insert(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_rests_until_its_removal_is_carried_out() {
        let mut ids = PeerIds::default();
        let (a, b) = (ids.take(), ids.take());
        assert_eq!((a.id.get(), b.id.get()), (0, 1));
        ids.release(a, Some(7));
        ids.release(b, None);
        ids.on_applied(6);
        assert_eq!(ids.take().id.get(), 1);
        ids.on_applied(7);
        let again = ids.take();
        assert_eq!(again.id, a.id);
        assert_ne!(again.generation, a.generation);
    }
}
