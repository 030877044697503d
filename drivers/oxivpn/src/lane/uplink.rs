//! Device to network.

use oxivpn_net::{Ecn, ecn};
use oxivpn_proto::data::Outgoing;
use oxivpn_proto::drops::DropCounters;
use oxivpn_proto::{DropReason, Instant, PeerRef};
use oxivpn_tun::offload::{Split, VnetHeader};

use super::Outbox;
use crate::gremlin::Faults;
use crate::turn::{Plane, Traffic, leaves};

/// What it takes to seal what a device gave.
pub(crate) struct Uplink<'a, P> {
    pub(crate) plane: &'a mut P,
    pub(crate) out: &'a mut Outbox,
    pub(crate) drops: &'a mut DropCounters,
    pub(crate) traffic: &'a mut Traffic,
    pub(crate) faults: Option<&'a Faults>,
}

impl<P: Plane> Uplink<'_, P> {
    /// Cuts `packet`, which was read with `header`, and seals each piece for `peer` at its place in the outbox.
    #[inline]
    pub(crate) fn take(&mut self, now: Instant, peer: PeerRef, header: &VnetHeader, packet: &[u8]) {
        let Some(outgoing) = self.plane.outgoing(peer) else {
            return self.drops.count(DropReason::UnknownPeer);
        };
        let Ok(mut split) = Split::new(header, packet) else {
            return self.drops.count(DropReason::Malformed);
        };
        // All pieces have the header of the whole.
        let mark = if outgoing.ecn { ecn::encapsulate(ecn::of_packet(packet)) } else { Ecn::NotEct };
        while let Some(len) = split.next_len() {
            if !self.seal(now, peer, (&outgoing, mark), len, |out| split.write_next(out).is_some()) {
                // The rest found no room either: the link is slower than the pieces are many.
                self.traffic.full += 1;
                return;
            }
        }
    }

    /// Seals one packet of `len` bytes, which `write` puts in its place. Whether there was room.
    #[inline]
    fn seal(
        &mut self,
        now: Instant,
        peer: PeerRef,
        (outgoing, mark): (&Outgoing, Ecn),
        len: usize,
        write: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        let Outgoing { path, front, tail, .. } = *outgoing;
        let front = if path.is_stream() { front + 2 } else { front };
        let Some(cell) = self.out.reserve(front + len + tail) else { return false };
        if !write(&mut cell[front..front + len]) {
            self.drops.count(DropReason::Malformed);
            return true;
        }
        match self.plane.seal(now, peer, cell, front, len) {
            Ok(sealed) if leaves(self.faults, now) => {
                self.traffic.link_write += sealed.len as u64;
                self.out.commit_marked(sealed.path, mark, sealed.start, sealed.len);
            }
            Ok(_) => {}
            Err(reason) => self.drops.count(reason),
        }
        true
    }
}
