//! Why a device could not be opened.

use std::{error, fmt, io};

/// Why [`Device::open`](crate::Device::open) or [`Device::from_fd`](crate::Device::from_fd) failed. The text names
/// the device, the kernel's message and what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// No interface can have this name.
    Name {
        /// The name that was asked for.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The kernel has no TUN driver, or the process cannot see its device node.
    NoDriver {
        /// The error met on `/dev/net/tun`.
        source: io::Error,
    },
    /// The kernel refused to make or open the interface.
    Open {
        /// The name that was asked for; `tun` if the kernel was to choose.
        name: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel refused to open an interface of this name as what was asked for: it is no TUN interface, or has one
    /// queue where several were asked for ([`Options::multi_queue`](crate::Options::multi_queue)), or the reverse.
    Queues {
        /// The name that was asked for.
        name: String,
        /// Whether several queues were asked for.
        multi_queue: bool,
        /// The kernel's error.
        source: io::Error,
    },
    /// The interface is open but a setting was refused.
    Setting {
        /// The interface's name.
        name: String,
        /// The setting: `mtu`, `txqueuelen`, `persist`, `owner`, `group`, `non-blocking`, `offload`.
        setting: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The descriptor given is not a layer-3 packet device without headers.
    Descriptor {
        /// What it is instead.
        why: &'static str,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, why } => {
                write!(f, "cannot name a tun device {name:?}: {why}; choose another name")
            }
            Self::NoDriver { source } => write!(
                f,
                "cannot reach the tun driver at /dev/net/tun: {source}; load it with `modprobe tun`, and in a \
                 container pass the device in (`--device /dev/net/tun`)"
            ),
            Self::Open { name, source } => {
                write!(f, "cannot open tun device {name:?}: {source}{}", cure(source))
            }
            Self::Queues { name, multi_queue: true, source } => write!(
                f,
                "cannot open tun device {name:?} with several queues: {source}; an interface of this name exists that \
                 is no multi-queue tun device: make it anew (ip link del {name}; ip tuntap add dev {name} mode tun \
                 multi_queue), open it with one queue, or choose another name"
            ),
            Self::Queues { name, multi_queue: false, source } => write!(
                f,
                "cannot open tun device {name:?}: {source}; an interface of this name exists that is no single-queue \
                 tun device: open it with several queues if it was made for that, or choose another name"
            ),
            Self::Setting { name, setting, source } => {
                write!(f, "cannot set {setting} of tun device {name:?}: {source}{}", cure(source))
            }
            Self::Descriptor { why } => write!(
                f,
                "the descriptor given is not usable: {why}; open it as a tun queue with IFF_TUN|IFF_NO_PI and \
                 without IFF_VNET_HDR, or use one end of an AF_UNIX socket pair"
            ),
        }
    }
}

impl error::Error for OpenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::NoDriver { source }
            | Self::Open { source, .. }
            | Self::Queues { source, .. }
            | Self::Setting { source, .. } => Some(source),
            Self::Name { .. } | Self::Descriptor { .. } => None,
        }
    }
}

fn cure(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "; it needs root or CAP_NET_ADMIN, or an interface made for this user beforehand (ip tuntap add dev NAME \
             mode tun user USER)"
        }
        Some(libc::EBUSY) => "; another process has this interface open: stop it or choose another name",
        Some(libc::EINVAL) => "; the value is out of range: choose another",
        _ => "",
    }
}
