use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use tun_rs::{DeviceBuilder, SyncDevice};

use super::queues::SuperPackets;
use super::sys;
use crate::{OpenError, Options};

const NODE: &str = "/dev/net/tun";

/// A layer-3 packet source and sink; see the crate's documentation.
///
/// All methods take `&self`, and the kernel serializes reads and writes of one descriptor packet by packet, so a
/// device may be shared between threads.
pub struct Device {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Set for each device that was opened with offload, and shared by all queues of its interface.
    pub(super) super_packets: Option<Arc<SuperPackets>>,
}

pub(super) enum Kind {
    Named(SyncDevice),
    /// A descriptor from outside. `File` reads and writes it without asking what it is, so that the end of a
    /// datagram socket pair serves as well as a TUN queue.
    Given(File),
    Null,
}

impl Device {
    /// Opens the interface that `options` name, making it if there is none.
    ///
    /// The interface is not brought up. It has no packet information header. Unless the options ask for more, it has no
    /// virtio-net header and one queue; an offload mask that another program left on a persistent interface is
    /// cleared.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. A setting that is refused closes the device again.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let wanted = options.kernel_name()?;
        // The dependency would make a missing device node by mknod; a library has no business doing so unasked.
        if let Err(source) = std::fs::metadata(NODE) {
            return Err(OpenError::NoDriver { source });
        }
        let mut builder = DeviceBuilder::new().inherit_enable_state();
        if let Some(name) = wanted {
            builder = builder.name(name);
        }
        builder = builder.with(|linux| {
            linux.offload(options.offload).multi_queue(options.multi_queue);
        });
        let multi_queue = options.multi_queue;
        let device = builder.build_sync().map_err(|source| match source.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO | libc::ENOENT) => OpenError::NoDriver { source },
            Some(libc::EINVAL) if wanted.is_some() => {
                OpenError::Queues { name: wanted.unwrap_or("tun").to_owned(), multi_queue, source }
            }
            _ => OpenError::Open { name: wanted.unwrap_or("tun").to_owned(), source },
        })?;
        let name = device
            .name()
            .map_err(|source| OpenError::Open { name: wanted.unwrap_or("tun").to_owned(), source })?;
        let mut device = Self { kind: Kind::Named(device), name, super_packets: None };
        if options.offload {
            device.start_offload()?;
        }
        device.configure(options)?;
        Ok(device)
    }

    fn configure(&self, options: &Options) -> Result<(), OpenError> {
        let step = |setting, result: io::Result<()>| {
            result.map_err(|source| OpenError::Setting { name: self.name.clone(), setting, source })
        };
        let Kind::Named(device) = &self.kind else { return Ok(()) };
        step("non-blocking", device.set_nonblocking(true))?;
        if let Some(mtu) = options.mtu {
            step("mtu", device.set_mtu(mtu))?;
        }
        if let Some(packets) = options.txqueuelen {
            step("txqueuelen", device.set_tx_queue_len(packets))?;
        }
        if let Some(uid) = options.owner {
            step("owner", sys::set_owner(device.as_fd(), uid))?;
        }
        if let Some(gid) = options.group {
            step("group", sys::set_group(device.as_fd(), gid))?;
        }
        if let Some(persist) = options.persist {
            step("persist", self.set_persist(persist))?;
        }
        Ok(())
    }

    /// Takes over a descriptor that is already attached to a TUN interface, or one end of an `AF_UNIX` socket pair
    /// of type `SOCK_DGRAM` or `SOCK_SEQPACKET`, and makes it non-blocking and close-on-exec.
    ///
    /// A TUN queue must carry plain packets (`IFF_NO_PI`, no `IFF_VNET_HDR`). The kernel does not tell whether
    /// `IFF_NO_PI` is set, so that part is the caller's duty.
    ///
    /// # Errors
    ///
    /// [`OpenError::Descriptor`] for a layer-2 interface, one with a virtio-net header, and what has no packets
    /// (files, pipes, stream sockets); [`OpenError::Setting`] if
    /// the descriptor cannot be made non-blocking.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, OpenError> {
        let name = match sys::tun_interface(fd.as_fd()) {
            Ok(interface) if interface.flags & libc::IFF_TAP != 0 => {
                return Err(OpenError::Descriptor { why: "it is a layer-2 (tap) device" });
            }
            Ok(interface) if interface.flags & libc::IFF_VNET_HDR != 0 => {
                return Err(OpenError::Descriptor {
                    why: "its packets carry a virtio-net header (IFF_VNET_HDR)",
                });
            }
            Ok(interface) => interface.name,
            Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                return Err(OpenError::Descriptor { why: "it is a tun descriptor attached to no interface" });
            }
            Err(_) if sys::keeps_packets_apart(fd.as_fd()) => format!("fd{}", fd.as_raw_fd()),
            Err(_) => {
                return Err(OpenError::Descriptor {
                    why: "it is neither a tun device nor a socket that keeps packets apart (SOCK_DGRAM, SOCK_SEQPACKET)",
                });
            }
        };
        sys::set_nonblocking_cloexec(fd.as_fd()).map_err(|source| OpenError::Setting {
            name: name.clone(),
            setting: "non-blocking",
            source,
        })?;
        Ok(Self { kind: Kind::Given(File::from(fd)), name, super_packets: None })
    }

    /// A device that is never readable and swallows every packet written to it.
    pub fn null() -> Self {
        Self { kind: Kind::Null, name: "null".to_owned(), super_packets: None }
    }

    /// The interface's name as the kernel gave it when the device was opened; `null` for a null device, `fdN` for a
    /// given descriptor that is no TUN queue.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether an interface of the kernel stands behind this device, one that can have addresses and routes.
    pub fn has_interface(&self) -> bool {
        match &self.kind {
            Kind::Named(_) => true,
            Kind::Given(file) => sys::tun_interface(file.as_fd()).is_ok(),
            Kind::Null => false,
        }
    }

    /// The descriptor to poll; `None` for a null device.
    pub fn as_raw_fd(&self) -> Option<RawFd> {
        self.as_fd().map(|fd| fd.as_raw_fd())
    }

    /// The descriptor, borrowed for as long as the device lives; `None` for a null device.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            Kind::Named(device) => Some(device.as_fd()),
            Kind::Given(file) => Some(file.as_fd()),
            Kind::Null => None,
        }
    }

    /// The interface's MTU in bytes.
    ///
    /// # Errors
    ///
    /// The kernel's, or [`ErrorKind::Unsupported`] if this device was not opened by name.
    pub fn mtu(&self) -> io::Result<u16> {
        self.named("mtu")?.mtu()
    }

    /// Sets the interface's MTU in bytes.
    ///
    /// # Errors
    ///
    /// The kernel's (`EPERM`, `EINVAL`), or [`ErrorKind::Unsupported`] if this device was not opened by name.
    pub fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        self.named("mtu")?.set_mtu(mtu)
    }

    /// Sets the interface's transmit queue length in packets.
    ///
    /// # Errors
    ///
    /// The kernel's, or [`ErrorKind::Unsupported`] if this device was not opened by name.
    pub fn set_txqueuelen(&self, packets: u32) -> io::Result<()> {
        self.named("txqueuelen")?.set_tx_queue_len(packets)
    }

    /// Brings the interface up or down.
    ///
    /// # Errors
    ///
    /// The kernel's, or [`ErrorKind::Unsupported`] if this device was not opened by name.
    pub fn set_up(&self, up: bool) -> io::Result<()> {
        self.named("state")?.enabled(up)
    }

    /// Makes the interface outlive its last descriptor, or vanish with it (`TUNSETPERSIST`).
    ///
    /// # Errors
    ///
    /// The kernel's, or [`ErrorKind::Unsupported`] if no TUN interface stands behind this device.
    pub fn set_persist(&self, persist: bool) -> io::Result<()> {
        match self.as_fd() {
            Some(fd) if self.has_interface() => sys::set_persist(fd, persist),
            _ => Err(unsupported("persist")),
        }
    }

    pub(super) fn named(&self, what: &str) -> io::Result<&SyncDevice> {
        match &self.kind {
            Kind::Named(device) => Ok(device),
            Kind::Given(_) | Kind::Null => Err(unsupported(what)),
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("name", &self.name).field("fd", &self.as_raw_fd()).finish()
    }
}

pub(super) fn unsupported(what: &str) -> io::Error {
    io::Error::new(
        ErrorKind::Unsupported,
        format!(
            "{what} can be changed only on a device that was opened by name; set it where the device was made"
        ),
    )
}
