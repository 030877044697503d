//! Offload and queues, which are settings of the interface that its queues share.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::device::{Device, Kind};
use super::sys;
use crate::OpenError;
use crate::offload::Offload;

const TCP: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
const UDP: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// What was agreed with the kernel. The queue of an interface that lets go of it last clears the offload mask, which
/// would outlive the queues on a persistent interface: whoever opens it next without offload would be given
/// super-packets without a header.
#[derive(Debug)]
pub(super) struct SuperPackets {
    offload: Offload,
    mask: libc::c_uint,
}

impl Device {
    /// Agrees with the kernel on super-packets, after the interface was opened with a virtio-net header.
    ///
    /// The dependency has set a mask by now, but one without `TUN_F_TSO_ECN`: the kernel then segments by itself each
    /// super-packet whose first segment has CWR.
    pub(super) fn start_offload(&mut self) -> Result<(), OpenError> {
        let Kind::Named(device) = &self.kind else { return Ok(()) };
        let fd = device.as_fd();
        let refused = |source| OpenError::Setting { name: self.name.clone(), setting: "offload", source };
        sys::set_plain_vnet_header(fd).map_err(refused)?;
        let all = Offload::ALL;
        let tries = [
            (all, TCP | UDP | libc::TUN_F_TSO_ECN),
            (Offload { udp: false, ..all }, TCP | libc::TUN_F_TSO_ECN),
            (Offload { udp: false, ..all }, TCP),
        ];
        // With no mask at all there is a header still, but each packet comes alone.
        let (offload, mask) =
            tries.into_iter().find(|(_, mask)| sys::set_offload(fd, *mask).is_ok()).unwrap_or_default();
        self.super_packets = Some(Arc::new(SuperPackets { offload, mask }));
        Ok(())
    }

    /// Which super-packets this device takes and gives; [`Offload::NONE`] unless it was opened with
    /// [`Options::offload`](crate::Options::offload).
    pub fn offload(&self) -> Offload {
        self.super_packets.as_ref().map_or(Offload::NONE, |agreed| agreed.offload)
    }

    /// Opens another queue of this interface, which must have been opened with
    /// [`Options::multi_queue`](crate::Options::multi_queue). The kernel gives all packets of one flow to one queue,
    /// and takes packets at each. The new queue is attached and has the same offload.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] if the interface has one queue only or was not opened by name; otherwise the
    /// kernel's (`EPERM`; `E2BIG` beyond 256 queues).
    pub fn add_queue(&self) -> io::Result<Self> {
        let device = self.named("the number of queues")?.try_clone()?;
        device.set_nonblocking(true)?;
        if let Some(agreed) = &self.super_packets {
            // The dependency has set its own mask again.
            sys::set_offload(device.as_fd(), agreed.mask)?;
        }
        let (name, super_packets) = (self.name.clone(), self.super_packets.clone());
        Ok(Self { kind: Kind::Named(device), name, super_packets })
    }

    /// Detaches this queue, so that its interface gives its packets to the other queues, or attaches it again. What
    /// waits in a queue when it is detached is lost, and detaching takes milliseconds, for which the kernel keeps other
    /// changes of interfaces waiting. A detached queue has nothing to read ([`io::ErrorKind::WouldBlock`]), but still
    /// takes packets. While it is attached, answers come to the queue that their questions were written to.
    ///
    /// # Errors
    ///
    /// The kernel's: `EINVAL` if the queue is attached or detached already, or if the interface has one queue only.
    /// [`io::ErrorKind::Unsupported`] if no TUN interface stands behind this device.
    pub fn set_attached(&self, attached: bool) -> io::Result<()> {
        sys::set_attached(self.named("queues")?.as_fd(), attached)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let last = self.super_packets.take().and_then(Arc::into_inner);
        if let (Some(_), Kind::Named(device)) = (last, &self.kind) {
            // Nobody is left to tell of a failure.
            let _ = sys::set_offload(device.as_fd(), 0);
        }
    }
}
