//! Super-packets: many packets of one flow in one read or one write.
//!
//! With [`Options::offload`](crate::Options::offload) the kernel hands over up to 64 KiB of a TCP stream, or of a UDP
//! sender's burst, as one packet with one header, and takes the like. A tunnel must carry real packets, so:
//!
//! * [`Split`] makes packets of what [`Device::read`](crate::Device::read) gave;
//! * [`Coalescer`] makes super-packets of decrypted packets for [`Device::write`](crate::Device::write).
//!
//! Both are pure: no device, no I/O, no clock, no allocation per packet. What they do with a packet depends on its
//! bytes alone, and whatever the bytes are, they answer with packets or with an [`OffloadError`].

mod checksum;
mod coalesce;
mod header;
mod ip;
mod split;

use std::fmt;

pub use coalesce::{CAPACITY, Coalescer, Flushed, MAX_PARTS};
pub use header::{Gso, VnetHeader};
pub use split::Split;

/// Which super-packets a device takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// TCP over IPv4 and IPv6 (`TUN_F_TSO4`, `TUN_F_TSO6`).
    pub tcp: bool,
    /// UDP over IPv4 and IPv6 (`TUN_F_USO4`, `TUN_F_USO6`; Linux 6.2 and later).
    pub udp: bool,
}

impl Offload {
    /// One packet is one packet.
    pub const NONE: Self = Self { tcp: false, udp: false };
    /// All there is.
    pub const ALL: Self = Self { tcp: true, udp: true };
}

/// Why a packet with its [`VnetHeader`] cannot be taken apart. It says something of this packet only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffloadError {
    /// The header has a kind of super-packet that was never asked for (`gso_type`).
    Kind(u8),
    /// The packet does not hold what its header or its own fields say.
    Malformed(&'static str),
}

impl fmt::Display for OffloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "super-packets of kind {kind:#04x} are unknown"),
            Self::Malformed(what) => write!(f, "malformed super-packet: {what}"),
        }
    }
}

impl std::error::Error for OffloadError {}
