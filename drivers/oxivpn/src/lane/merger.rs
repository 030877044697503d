//! Network to device.

use core::ops::Range;
use std::io;

use oxivpn_tun::offload::{Coalescer, Offload};

use crate::turn::{Device, Traffic};

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
