//! What the core wants sent: metadata only, the bytes are in the caller's buffer.

use crate::path::Path;

/// One control packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to send it.
    pub path: Path,
    /// Number of bytes at the start of the caller's buffer.
    pub len: usize,
}
