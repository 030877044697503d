//! Packets from one worker to another.
//!
//! A packet comes to the worker whose socket, connection or queue it came on. If its peer belongs to another one, it is
//! copied into a [`Parcel`] for that one, and the parcel of a turn changes hands at the turn's end: one lock for all of
//! it, and the receiver is woken once. There the packets are opened and sealed where they lie. All packets of a flow
//! come on one socket or queue, so that they take one way and keep their order.

use core::ops::Range;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use oxivpn_net::{Ecn, UdpSocket};
use oxivpn_proto::{Path, PeerRef};
use oxivpn_tun::offload::VnetHeader;

use crate::lane::Inbox;
use crate::lane::mail::lock;

/// Parcels that may wait to be fetched. One more fills up at their sender meanwhile, and what finds no room there is
/// dropped.
const MAX_PARCELS: usize = 2;

/// Packets in a parcel.
const MAX_PACKETS: usize = 2048;

/// What a packet is, and what is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A data packet that came here, and the mark of its outer header: to be opened.
    Sealed(Path, Ecn),
    /// A packet of the device or of another client, as the device gave it: to be sealed for this peer.
    Inner(PeerRef, VnetHeader),
    /// As before, for all peers but the one it came from.
    All(Option<PeerRef>, VnetHeader),
}

/// Packets, one after the other in one buffer.
pub(super) struct Parcel {
    pub(super) slab: Inbox,
    items: Vec<(Item, Range<usize>)>,
    /// So many were taken out.
    taken: usize,
}

impl Default for Parcel {
    fn default() -> Self {
        Self { slab: Inbox::with_room(UdpSocket::BATCH), items: Vec::new(), taken: 0 }
    }
}

impl Parcel {
    fn push(&mut self, item: Item, packet: &[u8]) -> bool {
        if self.items.len() == MAX_PACKETS {
            return false;
        }
        let Some(at) = self.slab.put(packet) else { return false };
        self.items.push((item, at));
        true
    }

    /// The next packet that was not taken out yet, and where in the slab it lies.
    pub(super) fn take(&mut self) -> Option<(Item, Range<usize>)> {
        let next = self.items.get(self.taken).cloned();
        self.taken += usize::from(next.is_some());
        next
    }

    /// Whether [`take`](Self::take) has nothing more.
    pub(super) const fn is_done(&self) -> bool {
        self.taken == self.items.len()
    }

    fn clear(&mut self) {
        self.slab.clear();
        self.items.clear();
        self.taken = 0;
    }
}

/// The way from one worker to another.
#[derive(Default)]
pub(super) struct Hatch {
    /// How many parcels wait.
    waiting: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    full: VecDeque<Parcel>,
    empty: Vec<Parcel>,
    /// The sender has a parcel that found no room.
    stuck: bool,
}

/// Makes another worker look.
type Wake = Box<dyn Fn() + Send>;

/// A worker's ends of the ways to and from all others.
pub(super) struct Handover {
    to: Vec<Departing>,
    from: Vec<Arriving>,
    wakes: Vec<Wake>,
}

#[derive(Default)]
struct Departing {
    hatch: Arc<Hatch>,
    /// What is gathered; made with the first packet.
    parcel: Option<Parcel>,
}

#[derive(Default)]
struct Arriving {
    hatch: Arc<Hatch>,
    parcels: VecDeque<Parcel>,
    /// What was worked off, to be used again.
    empty: Vec<Parcel>,
}

/// All ways between workers: `[i][j]` leads from `i` to `j`.
pub(super) fn hatches(count: usize) -> Vec<Vec<Arc<Hatch>>> {
    (0..count).map(|_| (0..count).map(|_| Arc::default()).collect()).collect()
}

impl Handover {
    /// The ends of worker `me`. `wakes` has one for each worker.
    pub(super) fn new(hatches: &[Vec<Arc<Hatch>>], me: usize, wakes: Vec<Wake>) -> Self {
        let to = hatches.get(me).into_iter().flatten();
        let from = hatches.iter().filter_map(|row| row.get(me));
        Self {
            to: to.map(|hatch| Departing { hatch: hatch.clone(), ..Departing::default() }).collect(),
            from: from.map(|hatch| Arriving { hatch: hatch.clone(), ..Arriving::default() }).collect(),
            wakes,
        }
    }

    /// Takes a packet for worker `to` along, if there is room; whether there was.
    pub(super) fn push(&mut self, to: usize, item: Item, packet: &[u8]) -> bool {
        let Some(Departing { hatch, parcel }) = self.to.get_mut(to) else { return false };
        let parcel = parcel.get_or_insert_with(|| lock(&hatch.state).empty.pop().unwrap_or_default());
        parcel.push(item, packet)
    }

    /// Gives away what was [`push`](Self::push)ed. To be called once a turn, and after each wake.
    pub(super) fn send(&mut self) {
        for (Departing { hatch, parcel }, wake) in self.to.iter_mut().zip(&self.wakes) {
            if parcel.is_none() {
                continue;
            }
            let mut state = lock(&hatch.state);
            state.stuck = state.full.len() == MAX_PARCELS;
            if !state.stuck {
                state.full.extend(parcel.take());
                hatch.waiting.store(state.full.len(), Ordering::SeqCst);
                drop(state);
                wake();
            }
        }
    }

    /// Looks for packets from others. To be called after each wake. A way whose packets have not all been taken out is
    /// left alone, so that it fills up and its sender drops what is too much.
    pub(super) fn look(&mut self) {
        for (Arriving { hatch, parcels, empty }, wake) in self.from.iter_mut().zip(&self.wakes) {
            if !parcels.is_empty() || hatch.waiting.load(Ordering::SeqCst) == 0 {
                continue;
            }
            let mut state = lock(&hatch.state);
            core::mem::swap(&mut state.full, parcels);
            state.empty.append(empty);
            hatch.waiting.store(0, Ordering::SeqCst);
            let stuck = core::mem::take(&mut state.stuck);
            drop(state);
            if stuck {
                wake();
            }
        }
    }

    /// Whether there is something to take, once it was looked for.
    pub(super) fn has_parcels(&self) -> bool {
        self.from.iter().any(|from| !from.parcels.is_empty() || from.hatch.waiting.load(Ordering::SeqCst) > 0)
    }

    /// The next parcel from the worker `from`, which is to be given [`back`](Self::back).
    pub(super) fn take(&mut self, from: usize) -> Option<Parcel> {
        self.from.get_mut(from)?.parcels.pop_front()
    }

    /// Gives a parcel back: to be gone on with if packets are left, or to be used again.
    pub(super) fn back(&mut self, from: usize, mut parcel: Parcel) {
        let Some(from) = self.from.get_mut(from) else { return };
        if parcel.is_done() {
            parcel.clear();
            from.empty.push(parcel);
        } else {
            from.parcels.push_front(parcel);
        }
    }
}

#[cfg(test)]
mod tests {
    use oxivpn_proto::StreamId;
    use oxivpn_proto::wire::ids::PeerId;

    use super::*;

    const ITEM: Item = Item::Sealed(Path::Stream(StreamId(1)), Ecn::Ce);
    const ALL: Item =
        Item::All(Some(PeerRef { id: PeerId::from_low_bits(7), generation: 1 }), VnetHeader::PLAIN);

    /// Two workers, and how often each was woken.
    fn pair() -> ([Handover; 2], [Arc<AtomicUsize>; 2]) {
        let wakes = [Arc::<AtomicUsize>::default(), Arc::default()];
        let ways = hatches(2);
        let wake = |counter: &Arc<AtomicUsize>| -> Wake {
            let counter = counter.clone();
            Box::new(move || _ = counter.fetch_add(1, Ordering::SeqCst))
        };
        let ends = [0, 1].map(|me| Handover::new(&ways, me, wakes.iter().map(wake).collect()));
        (ends, wakes)
    }

    fn woken(wakes: &[Arc<AtomicUsize>; 2]) -> [usize; 2] {
        [0, 1].map(|n| wakes[n].swap(0, Ordering::SeqCst))
    }

    /// Everything that is there from the other one.
    fn drain(end: &mut Handover, from: usize) -> Vec<(Item, Vec<u8>)> {
        let mut got = Vec::new();
        end.look();
        while let Some(mut parcel) = end.take(from) {
            while let Some((item, at)) = parcel.take() {
                got.push((item, parcel.slab.slab()[at].to_vec()));
            }
            end.back(from, parcel);
        }
        got
    }

    #[test]
    fn a_turn_is_one_parcel_and_one_wake() {
        let ([mut zero, mut one], wakes) = pair();
        assert!(drain(&mut one, 0).is_empty());
        assert!(zero.push(1, ITEM, b"first") && zero.push(1, ALL, b""));
        assert!(drain(&mut one, 0).is_empty(), "the turn has not ended");
        zero.send();
        zero.send();
        assert_eq!(woken(&wakes), [0, 1]);
        assert_eq!(drain(&mut one, 0), [(ITEM, b"first".to_vec()), (ALL, Vec::new())]);
        assert!(drain(&mut one, 0).is_empty() && drain(&mut zero, 1).is_empty());
        assert_eq!(woken(&wakes), [0, 0]);
    }

    #[test]
    fn packets_keep_their_order_however_late_they_are_fetched() {
        let ([mut zero, mut one], _) = pair();
        let mut sent = 0_u32;
        let mut got = Vec::new();
        for turns in [1, 3, 9, 40, 2] {
            for _ in 0..turns {
                for _ in 0..turns {
                    assert!(zero.push(1, ITEM, &sent.to_be_bytes()));
                    sent += 1;
                }
                zero.send();
            }
            // What was stuck leaves when the receiver has looked, and wakes.
            got.extend(drain(&mut one, 0));
            zero.send();
            got.extend(drain(&mut one, 0));
        }
        let numbers = got.iter().map(|(_, bytes)| u32::from_be_bytes(bytes[..].try_into().unwrap()));
        assert!(numbers.eq(0..sent));
        let spare = lock(&one.from[0].hatch.state).empty.len() + one.from[0].empty.len();
        assert!(spare <= 2 * MAX_PARCELS + 1, "{spare} parcels were made");
    }

    #[test]
    fn a_way_is_bounded_and_recovers_by_itself() {
        let ([mut zero, mut one], wakes) = pair();
        let fill = |zero: &mut Handover| {
            let mut taken = 0;
            while zero.push(1, ITEM, &[7; 1400]) {
                taken += 1;
                if taken % 100 == 0 {
                    zero.send();
                }
            }
            zero.send();
            taken
        };
        let taken = fill(&mut zero);
        assert!((100 * MAX_PARCELS + 200..MAX_PACKETS).contains(&taken), "{taken}");
        assert!(!zero.push(1, ITEM, &[7; 1400]) && zero.push(0, ITEM, b"others have ways of their own"));
        assert_eq!(woken(&wakes), [0, MAX_PARCELS]);
        // What was begun is finished before anything new is fetched.
        one.look();
        assert_eq!(woken(&wakes), [1, 0], "the sender may go on");
        let mut parcel = one.take(0).unwrap();
        assert!(parcel.take().is_some());
        one.back(0, parcel);
        assert!(one.has_parcels());
        zero.send();
        assert_eq!(drain(&mut one, 0).len(), 100 * MAX_PARCELS - 1);
        assert_eq!(drain(&mut one, 0).len(), taken - 100 * MAX_PARCELS);
        assert!(zero.push(1, ITEM, b"") && !one.has_parcels());
        let tiny = (0..).take_while(|_| zero.push(1, ITEM, b"")).count();
        assert_eq!(tiny, MAX_PACKETS - 1);
    }
}
