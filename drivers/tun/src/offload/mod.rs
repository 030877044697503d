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
//!
//! # Use
//!
//! ```no_run
//! use oxivpn_tun::offload::{Coalescer, Split};
//! use oxivpn_tun::{Device, Options};
//!
//! let device = Device::open(&Options::new("tun").offload(true))?;
//!
//! // From the device: each packet goes to its final place, here with room for a header of 24 bytes and a tag of 16.
//! let (mut read, mut out) = (vec![0; 65_535], vec![0; 256 * 1024]);
//! let (header, len) = device.read(&mut read)?;
//! let mut at = 24;
//! let mut split = Split::new(&header, &read[..len])?;
//! while let Some(len) = split.write_next(&mut out[at..]) {
//!     // seal out[at..at + len] in place
//!     at += len + 16 + 24;
//! }
//! assert!(split.next_len().is_none(), "out is too small for all: send what is there and go on");
//!
//! // To the device: what was decrypted in place is pushed where it lies.
//! let slab: &[u8] = &out;
//! let mut coalescer = Coalescer::new(device.offload());
//! for place in [24..1_424, 1_464..2_864] {
//!     if !coalescer.push(slab, place.clone()) {
//!         let _ = coalescer.flush(slab, |parts| device.write(parts));
//!         assert!(coalescer.push(slab, place));
//!     }
//! }
//! let flushed = coalescer.flush(slab, |parts| device.write(parts));
//! println!("{} packets in {} writes, {} refused", flushed.written, flushed.writes, flushed.refused);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The same code serves every device. One without offload (a plain interface, a given descriptor, none) reads packets
//! with [`VnetHeader::PLAIN`], each of which is split into itself, and has [`Offload::NONE`], with which a coalescer
//! writes each packet alone.
//!
//! # What degrades, and how
//!
//! * Before Linux 6.2 there is no UDP offload: [`Offload::udp`] is false, and datagrams come and go one by one.
//! * A kernel that refuses the mask altogether gives [`Offload::NONE`]; [`Device::read`](crate::Device::read) and
//!   [`Device::write`](crate::Device::write) work all the same.
//! * More than 16 flows in one batch: those opened first merge less. Nothing is lost or reordered.
//! * IP options, extension headers, fragments and wrong checksums: such packets go alone. A fragment, or a packet whose
//!   ports cannot be read, also ends the merging of all that came before it, as it may be of any of those flows.
//! * Super-packets beyond 64 KiB (`gso_max_size` raised by hand, "BIG TCP") are refused by [`Split::new`]: leave it at
//!   65,536.
//!
//! # Figures
//!
//! `cargo bench -p oxivpn-tun`; 46 packets of 1,400 bytes, one thread, a Xeon of the Sapphire Rapids class with two
//! virtual cores that had other work as well, Linux 6.18, code for plain x86-64 (SSE2).
//!
//! | per packet | ns |
//! |---|---|
//! | [`Split`], TCP or UDP | 63 to 90 |
//! | `gso_split` of tun-rs 2.8, in the same runs | 106 |
//! | copying 1,400 bytes and nothing else | 18 to 23 |
//! | [`Coalescer`] with the checksum verified, one flow or three in turn | 67 to 81 |
//! | [`Coalescer`], acknowledgements, which are never merged | 17 |
//!
//! Between two devices in two namespaces, 300 MiB of TCP each way at once, the pumping thread needs 903 ns of CPU for a
//! KiB with offload and 7,093 without, which has the kernel's side of all reads and writes in it.
//!
//! What lost, for the sum of 1,348 bytes: 64-bit lanes (44 to 65 ns), an add-with-carry chain (51), plain 64-bit
//! additions of 32-bit words (54), signed 16-bit products (67 to 85), against 29 to 39 for the 32-bit lanes that are
//! used. With the copy: `memcpy` and then the sum (54 to 73), the same in blocks of 256 bytes (76 to 120), 64-bit lanes
//! fused with the copy (98 to 150), against 45 to 60 for 32-bit lanes fused with it.

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
