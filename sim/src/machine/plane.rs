//! The data planes that a machine can have.

use core::net::IpAddr;

use oxivpn_proto::data::{Forward, Opened, SealError, Sealed, Slot};
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::plane::{Capabilities, DataPlane};
use oxivpn_proto::{DropCounters, DropReason, Instant, Order, Path, PeerRef, Report, Transmit};

use super::PlaneKind;
use crate::kernel::{FakeKernel, KernelQuirks};
use crate::seed::{Branch, SeedTree};

/// A data plane of a machine.
pub(super) enum Plane {
    /// The product's plain plane.
    Local(Box<LocalPlane>),
    /// A kernel's, or worker threads': it works later.
    Kernel(Box<FakeKernel>),
}

macro_rules! either {
    ($self:expr, $plane:ident => $call:expr) => {
        match $self {
            Self::Local($plane) => $call,
            Self::Kernel($plane) => $call,
        }
    };
}

impl Plane {
    pub(super) fn new(kind: PlaneKind, seeds: &SeedTree, boots: u64) -> Self {
        let seeds = seeds.branch(Branch::Plane, boots as u32);
        let kernel = |quirks| Self::Kernel(Box::new(FakeKernel::new(quirks, &seeds)));
        match kind {
            PlaneKind::Local => Self::Local(Box::default()),
            PlaneKind::Kernel => kernel(KernelQuirks::OVPN),
            PlaneKind::Workers => kernel(KernelQuirks::WORKERS),
            PlaneKind::Drawn => kernel(KernelQuirks::drawn(&seeds)),
        }
    }

    pub(super) fn serve(&mut self, own: &[IpAddr]) {
        either!(self, plane => plane.serve(own));
    }

    pub(super) fn lookup(&self, packet: &[u8]) -> Option<PeerRef> {
        either!(self, plane => plane.lookup(packet))
    }

    pub(super) fn forward(&self, from: PeerRef, packet: &[u8]) -> Forward {
        either!(self, plane => plane.forward(from, packet))
    }

    pub(super) fn seal(
        &mut self,
        now: Instant,
        peer: PeerRef,
        slot: &mut Slot<'_>,
    ) -> Result<Sealed, SealError> {
        either!(self, plane => plane.seal(now, peer, slot))
    }

    pub(super) fn open<'b>(
        &mut self,
        now: Instant,
        from: Path,
        bytes: &'b mut [u8],
    ) -> Result<Opened<'b>, DropReason> {
        either!(self, plane => plane.open(now, from, bytes))
    }

    pub(super) fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        either!(self, plane => plane.poll_transmit(now, out))
    }

    pub(super) fn peer_path(&self, peer: PeerRef) -> Option<Path> {
        either!(self, plane => plane.peer_path(peer))
    }

    pub(super) fn drops(&self) -> &DropCounters {
        either!(self, plane => plane.drops())
    }

    pub(super) fn apply(&mut self, now: Instant, order: Order) {
        either!(self, plane => plane.apply(now, order));
    }

    pub(super) fn poll_report(&mut self) -> Option<Report> {
        either!(self, plane => plane.poll_report())
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        either!(self, plane => plane.capabilities())
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Local(_) => None,
            Self::Kernel(kernel) => kernel.deadline(),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Local(_) => {}
            Self::Kernel(kernel) => kernel.handle_timeout(now),
        }
    }
}
