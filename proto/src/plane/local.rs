//! The plain plane: one [`Table`], called directly.

use super::{Capabilities, DataPlane};
use crate::clock::Instant;
use crate::data::{Opened, SealError, Sealed, Slot, Table};
use crate::directive::{Order, PeerRef};
use crate::drops::{DropCounters, DropReason};
use crate::path::Path;
use crate::report::Report;
use crate::transmit::Transmit;

/// A data plane in the caller's thread. Orders are carried out when [`apply`](DataPlane::apply) returns.
///
/// After each call drain [`poll_transmit`](Self::poll_transmit), then [`poll_report`](DataPlane::poll_report).
#[derive(Default)]
pub struct LocalPlane {
    table: Table,
}

impl LocalPlane {
    /// A plane without peers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The peer that an inner packet belongs to, see [`Table::lookup`].
    #[inline]
    pub fn lookup(&self, packet: &[u8]) -> Option<PeerRef> {
        self.table.lookup(packet)
    }

    /// Encrypts a payload in place, see [`Table::seal`].
    ///
    /// # Errors
    /// As [`Table::seal`].
    #[inline]
    pub fn seal(&mut self, now: Instant, peer: PeerRef, slot: &mut Slot<'_>) -> Result<Sealed, SealError> {
        self.table.seal(now, peer, slot)
    }

    /// Decrypts a data packet in place, see [`Table::open`].
    ///
    /// # Errors
    /// As [`Table::open`].
    #[inline]
    pub fn open<'b>(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &'b mut [u8],
    ) -> Result<Opened<'b>, DropReason> {
        self.table.open(now, from, datagram)
    }

    /// The next packet that the plane made by itself (pings, exit notices), written to the start of `out`,
    /// which must hold [`MAX_OWN_PACKET`](crate::data::table::MAX_OWN_PACKET) bytes.
    pub fn poll_transmit(&mut self, _now: Instant, out: &mut [u8]) -> Option<Transmit> {
        self.table.poll_transmit(out)
    }

    /// Counts of dropped packets.
    pub const fn drops(&self) -> &DropCounters {
        self.table.drops()
    }

    /// Adds a packet that the caller dropped on its way to this plane ([`DropReason::NoRoute`]).
    pub fn count_drop(&mut self, reason: DropReason) {
        self.table.count_drop(reason);
    }
}

impl DataPlane for LocalPlane {
    fn apply(&mut self, now: Instant, order: Order) {
        self.table.apply(now, order.directive);
    }

    fn poll_report(&mut self) -> Option<Report> {
        self.table.poll_report()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::USERSPACE
    }
}
