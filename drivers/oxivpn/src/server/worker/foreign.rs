//! Packets whose peer belongs to another worker, and what others hand over to this one.

use core::ops::Range;

use oxivpn_proto::{Instant, Path, PeerRef};
use oxivpn_tun::offload::VnetHeader;

use super::engine::Engine;
use super::handover::{Item, Parcel};

/// Where a packet lies.
#[derive(Clone, Debug)]
pub(super) enum Lies {
    /// Where the device is read to, so many bytes.
    Staged(usize),
    /// In the inbox.
    Received(Range<usize>),
}

impl Lies {
    /// Number of bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Staged(len) => *len,
            Self::Received(at) => at.len(),
        }
    }
}

impl Engine {
    /// The worker that has this peer, unless that is this one or nobody.
    #[inline]
    pub(super) fn elsewhere(&mut self, peer: PeerRef) -> Option<usize> {
        if self.share.is_alone() {
            return None;
        }
        self.directory.owner(peer).filter(|owner| *owner != self.share.me)
    }

    /// The worker that has the peer that a data packet seems to be from, unless that is this one or nobody.
    #[inline]
    pub(super) fn sender_elsewhere(&mut self, path: Path, at: Range<usize>) -> Option<usize> {
        if self.share.is_alone() {
            return None;
        }
        let peer = self.plane.sender(path, &self.inbox.slab()[at])?;
        self.elsewhere(peer)
    }

    /// All other workers.
    pub(super) fn others(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        let me = self.share.me;
        (0..self.share.count).filter(move |worker| *worker != me)
    }

    /// Hands a packet over at the end of this turn.
    pub(super) fn hand(&mut self, to: usize, item: Item, lies: &Lies) {
        let packet = match lies {
            Lies::Staged(len) => &self.staging[..*len],
            Lies::Received(at) => &self.inbox.slab()[at.clone()],
        };
        match self.handover.push(to, item, packet) {
            true => self.passed.handed += 1,
            false => self.passed.refused += 1,
        }
    }

    /// To all clients of all workers but the one it came from.
    pub(super) fn spread_everywhere(
        &mut self,
        now: Instant,
        from: Option<PeerRef>,
        header: &VnetHeader,
        lies: &Lies,
    ) {
        for to in self.others() {
            self.hand(to, Item::All(from, *header), lies);
        }
        self.spread(now, from, header, lies);
    }

    /// Takes what others have handed over, as long as there is room for what is sealed.
    pub(super) fn take_handed(&mut self, now: Instant) {
        if self.share.is_alone() {
            return;
        }
        self.handover.look();
        for from in 0..self.share.count {
            while self.out.has_room()
                && let Some(mut parcel) = self.handover.take(from)
            {
                self.unpack(now, &mut parcel);
                self.handover.back(from, parcel);
            }
        }
    }

    /// Opens and seals the packets of a parcel where they lie: its slab is the inbox meanwhile.
    fn unpack(&mut self, now: Instant, parcel: &mut Parcel) {
        core::mem::swap(&mut self.inbox, &mut parcel.slab);
        while self.out.has_room()
            && let Some((item, at)) = parcel.take()
        {
            match item {
                Item::Sealed(path, ecn) => self.take_data(now, path, ecn, at),
                Item::Inner(peer, header) => self.seal(now, peer, &header, &Lies::Received(at)),
                Item::All(from, header) => self.spread(now, from, &header, &Lies::Received(at)),
            }
            self.make_room();
        }
        self.flush_merger();
        core::mem::swap(&mut self.inbox, &mut parcel.slab);
    }
}
