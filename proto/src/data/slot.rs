//! A packet in the caller's buffer, with room around it for what encryption adds.

use super::send::SealError;
use super::{Span, TAG_LEN, front_overhead, tail_overhead};
use crate::config::params::DataFormat;
use crate::path::Path;
use crate::wire::ids::PeerId;

/// Bytes to leave free in front of a payload: enough for every layout, legacy ones and a proxy header
/// included (10 SOCKS5, 2 length, 4 header, 64 HMAC, 16 IV, 4 packet id, 4 fragment, 1 compression).
pub const HEADROOM: usize = 128;

/// Bytes to leave free behind a payload: the tag of the epoch format, or the padding of a block cipher.
pub const TAILROOM: usize = 32;

const _: () = {
    let all = [DataFormat::V1, DataFormat::V2(PeerId::UNDEFINED), DataFormat::Epoch(PeerId::UNDEFINED)];
    let mut i = 0;
    while i < all.len() {
        // 2 bytes escape of compression framing, 2 bytes length prefix on a stream, 10 bytes of a SOCKS5 datagram.
        assert!(front_overhead(all[i]) + 2 + 2 + 10 <= HEADROOM);
        // 1 byte of compression framing.
        assert!(tail_overhead(all[i]) < TAILROOM);
        i += 1;
    }
};

/// A payload with free room on both sides, over the caller's bytes.
///
/// ```text
/// |<---- headroom ---->|<---- payload ---->|<- tailroom ->|
/// ```
#[derive(Debug)]
pub struct Slot<'a> {
    buf: &'a mut [u8],
    start: usize,
    len: usize,
}

impl<'a> Slot<'a> {
    /// A slot whose payload is `buf[start..start + len]`. [`HEADROOM`] bytes in front and [`TAILROOM`]
    /// behind are always enough; with less, sealing answers `SealError::NoRoom` if the layout needs more.
    ///
    /// # Panics
    /// If the payload is not inside of `buf`.
    pub fn new(buf: &'a mut [u8], start: usize, len: usize) -> Self {
        assert!(start <= buf.len() && len <= buf.len() - start, "payload lies outside of the buffer");
        Self { buf, start, len }
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.buf[self.start..self.start + self.len]
    }

    /// The payload, to change.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..self.start + self.len]
    }

    /// Free bytes in front.
    pub const fn headroom(&self) -> usize {
        self.start
    }

    /// Free bytes behind.
    pub const fn tailroom(&self) -> usize {
        self.buf.len() - self.start - self.len
    }

    /// Puts `bytes` in front of the payload; they belong to it from now on.
    #[inline]
    pub(super) fn grow_front(&mut self, bytes: &[u8]) -> Result<(), SealError> {
        let start = self.start.checked_sub(bytes.len()).ok_or(SealError::NoRoom)?;
        self.buf[start..self.start].copy_from_slice(bytes);
        self.start = start;
        self.len += bytes.len();
        Ok(())
    }

    /// Puts `byte` behind the payload; it belongs to it from now on.
    #[inline]
    pub(super) fn grow_back(&mut self, byte: u8) -> Result<(), SealError> {
        *self.buf.get_mut(self.start + self.len).ok_or(SealError::NoRoom)? = byte;
        self.len += 1;
        Ok(())
    }

    /// The bytes in front, the payload and the tag behind, disjoint. `None` if there is no room.
    #[inline]
    pub(super) fn parts(&mut self, front: usize, tail: usize) -> Option<Parts<'_>> {
        let begin = self.start.checked_sub(front)?;
        let packet = self.buf.get_mut(begin..self.start + self.len + tail)?;
        let (front_bytes, rest) = packet.split_at_mut(front);
        let (payload, tail_bytes) = rest.split_at_mut(self.len);
        Some(Parts {
            front: front_bytes,
            payload,
            tail: tail_bytes,
            span: begin..begin + front + self.len + tail,
        })
    }
}

/// A slot cut at the borders of the payload.
pub(super) struct Parts<'a> {
    pub(super) front: &'a mut [u8],
    pub(super) payload: &'a mut [u8],
    pub(super) tail: &'a mut [u8],
    /// Where the whole packet lies in the slot's buffer.
    pub(super) span: Span,
}

/// A sealed packet: `len` bytes at `start` of the slot's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Where to send it.
    pub path: Path,
    /// First byte in the slot's buffer.
    pub start: usize,
    /// Number of bytes.
    pub len: usize,
}

const _: () = assert!(TAG_LEN <= TAILROOM);
