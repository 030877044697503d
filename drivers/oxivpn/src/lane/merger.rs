//! Network to device.

use core::ops::Range;
use std::io;

use oxivpn_net::{Ecn, ecn};
use oxivpn_proto::DropReason;
use oxivpn_proto::drops::DropCounters;
use oxivpn_tun::offload::{Coalescer, Offload};

use crate::turn::{Device, Traffic};

/// Passes on to an opened packet what its outer header says of congestion. Whether it may go on; if not, it was counted.
#[inline]
pub(crate) fn heed_mark(
    outer: Ecn,
    packet: &mut [u8],
    drops: &mut DropCounters,
    traffic: &mut Traffic,
) -> bool {
    if outer == Ecn::NotEct {
        return true;
    }
    let was_marked = ecn::of_packet(packet) == Ecn::Ce;
    let goes_on = ecn::decapsulate_packet(outer, packet);
    if !goes_on {
        drops.count(DropReason::Congestion);
    } else if outer == Ecn::Ce && !was_marked {
        traffic.congested += 1;
    }
    goes_on
}

/// Opened packets on their way to the device, which stay where they were opened until they are written.
pub(crate) struct Merger {
    coalescer: Coalescer,
}

impl Merger {
    /// For a device that takes what `offload` says.
    pub(crate) fn new(offload: Offload) -> Self {
        Self { coalescer: Coalescer::new(offload) }
    }

    /// Takes the packet at `at` of `slab`; writes to `device` what must go before. Fails only if the device is gone.
    #[inline]
    pub(crate) fn push<D: Device>(
        &mut self,
        slab: &[u8],
        at: Range<usize>,
        device: &mut D,
        traffic: &mut Traffic,
    ) -> io::Result<()> {
        traffic.device_write += at.len() as u64;
        if !self.coalescer.push(slab, at.clone()) {
            self.flush(slab, device, traffic)?;
            // An empty one takes any packet.
            let _ = self.coalescer.push(slab, at);
        }
        Ok(())
    }

    /// Writes everything. Fails only if the device is gone.
    pub(crate) fn flush<D: Device>(
        &mut self,
        slab: &[u8],
        device: &mut D,
        traffic: &mut Traffic,
    ) -> io::Result<()> {
        let flushed = self.coalescer.flush(slab, |parts| device.write(parts));
        traffic.device_refused += flushed.refused as u64;
        flushed.fatal.map_or(Ok(()), Err)
    }
}
