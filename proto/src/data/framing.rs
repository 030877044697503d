//! Compression framing without compression (`openvpn: compstub.c`). Pings and exit notices have it, too.

use super::send::SealError;
use super::slot::Slot;
use crate::config::params::Framing;
use crate::report::Misframed;

/// Not compressed (`openvpn: comp.h`).
const PLAIN: u8 = 0xfa;

/// Not compressed, and the first byte of the payload is at the end.
const PLAIN_SWAP: u8 = 0xfb;

/// LZO, LZO swapped (of OpenVPN 3), Snappy and LZ4, in the place of [`PLAIN`] and [`PLAIN_SWAP`].
const COMPRESSED: core::ops::RangeInclusive<u8> = 0x66..=0x69;

/// Escape of the second version; the byte behind it says of what.
const V2: u8 = 0x50;

/// Behind [`V2`]: not compressed.
const V2_PLAIN: u8 = 0;

/// What OpenVPN 2 writes instead of [`V2_PLAIN`], its own number of the algorithm, and what no release of it takes.
const V2_PLAIN_OF_SENDERS: u8 = 10;

/// Behind [`V2`]: LZ4, LZO, Snappy.
const V2_COMPRESSED: core::ops::RangeInclusive<u8> = 1..=3;

impl Framing {
    /// Bytes in front of an IP packet.
    pub(super) const fn front(self) -> usize {
        match self {
            Self::Stub => 1,
            Self::None | Self::Swap | Self::StubV2 => 0,
        }
    }

    /// Bytes behind an IP packet.
    pub(super) const fn tail(self) -> usize {
        match self {
            Self::Swap => 1,
            Self::None | Self::Stub | Self::StubV2 => 0,
        }
    }

    /// Bytes that it adds to an IP packet (`openvpn: mtu.c`, `frame_calculate_payload_overhead`).
    pub const fn overhead(self) -> usize {
        self.front() + self.tail()
    }

    /// Puts it around the slot's payload.
    #[inline]
    pub(super) fn add(self, slot: &mut Slot<'_>) -> Result<(), SealError> {
        if matches!(self, Self::None) {
            return Ok(());
        }
        let first = *slot.payload().first().ok_or(SealError::BadLength)?;
        match self {
            Self::None => {}
            Self::Stub => slot.grow_front(&[PLAIN])?,
            Self::Swap => {
                slot.grow_back(first)?;
                slot.payload_mut()[0] = PLAIN_SWAP;
            }
            Self::StubV2 if first == V2 => slot.grow_front(&[V2, V2_PLAIN])?,
            Self::StubV2 => {}
        }
        Ok(())
    }

    /// Takes it off a decrypted payload. Gives how many bytes of it are to be left out in front and behind.
    #[inline]
    pub(super) fn strip(self, payload: &mut [u8]) -> Result<(usize, usize), Misframed> {
        match (self, &mut *payload) {
            (Self::None, _) => Ok((0, 0)),
            (Self::Stub, [PLAIN, ..]) => Ok((1, 0)),
            (Self::Swap, [PLAIN_SWAP]) => Ok((0, 1)),
            (Self::Swap, [first @ PLAIN_SWAP, .., last]) => {
                *first = *last;
                Ok((0, 1))
            }
            (Self::Stub | Self::Swap, [byte, ..]) if COMPRESSED.contains(byte) => Err(Misframed::Compressed),
            (Self::StubV2, [V2, V2_PLAIN | V2_PLAIN_OF_SENDERS, ..]) => Ok((2, 0)),
            (Self::StubV2, [V2, byte, ..]) if V2_COMPRESSED.contains(byte) => Err(Misframed::Compressed),
            (Self::StubV2, [first, ..]) if *first != V2 => Ok((0, 0)),
            (_, payload) => Err(Misframed::Other(payload.first().copied().unwrap_or_default())),
        }
    }
}

/// What a payload without framing that nobody knows seems to be: framed.
pub(super) fn suspect(payload: &[u8]) -> Option<Misframed> {
    match *payload {
        [byte @ (PLAIN | PLAIN_SWAP), ..] => Some(Misframed::Other(byte)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
