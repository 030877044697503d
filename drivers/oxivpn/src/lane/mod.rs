//! Packets in batches between device, data plane and network; the building blocks of [`turn`](crate::turn) and of the
//! server's packet threads.
//!
//! ```text
//!  device ── super-packet ──► staging ── cut, copied once ──► Outbox, sealed in place ── run ──► network
//!  device ◄── super-packet ── Merger  ◄── opened in place ─── Inbox  ◄──────── joined datagrams ── network
//! ```
//!
//! A kernel that can, gives and takes up to 64 KiB of one connection at once on both sides, so that its cost per call
//! is shared by some 45 packets. On the way out the copy that cuts a super-packet also sums its checksums, and sealed
//! packets lie back to back, as the kernel wants them for one call, and a stream. On the way in nothing is copied:
//! payloads are gathered from where they were opened. Nothing is allocated, and no lock is taken.
//!
//! Where both ends heed them, congestion marks go from the inner header to the outer one and back (RFC 6040): a
//! super-packet, a run and what the kernel joins have one mark each.

pub mod inbox;
pub(crate) mod mail;
mod merger;
pub mod outbox;
mod pace;
#[cfg(test)]
pub(crate) mod testing;
mod uplink;

pub use inbox::Inbox;
pub(crate) use merger::{Merger, heed_mark};
pub use outbox::Outbox;
pub(crate) use pace::Pace;
pub use pace::Rest;
pub(crate) use uplink::Uplink;

/// Largest packet that a device gives at once, in bytes.
pub const MAX_SUPER: usize = 65_535;
