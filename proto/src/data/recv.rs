//! The receiving half of a key.

use core::fmt;

use zeroize::Zeroizing;

use super::aead::Aead;
use super::replay::Replay;
use super::send::xor_front;
use super::usage::{Bounds, blocks};
use super::{NONCE_LEN, Span, TAG_LEN};
use crate::clock::Instant;
use crate::config::cipher::DataCipher;
use crate::config::params::ReplayWindow;
use crate::drops::DropReason;

/// Opens packets of one peer, key id and epoch, each at most once.
pub struct RecvKey {
    opener: Opener,
    replay: Replay,
    blocks: u64,
}

impl RecvKey {
    pub(super) fn new(opener: Opener, replay: ReplayWindow) -> Self {
        Self { opener, replay: Replay::new(replay), blocks: 0 }
    }

    /// Turns an opener that just authenticated its first packet into a key, reusing the memory of `replay`.
    pub(super) fn promoted(opener: Opener, mut replay: Replay) -> Self {
        replay.clear();
        Self { opener, replay, blocks: 0 }
    }

    /// Authenticates, decrypts and records a classic packet (`openvpn: crypto.c`,
    /// `openvpn_decrypt_aead`). The plaintext replaces the ciphertext; gives its range.
    ///
    /// `header_len` is 1 for P_DATA_V1 and 4 for P_DATA_V2.
    ///
    /// # Errors
    /// `Malformed`, `DataReplay`, `DataAuthentication`, or `KeyWorn` after too many failures.
    #[inline]
    pub fn open(&mut self, now: Instant, header_len: usize, packet: &mut [u8]) -> Result<Span, DropReason> {
        let classic = Layout::Classic { header_len };
        let id = classic.counter(packet)?;
        self.pre_check(now, id)?;
        let span = self.opener.open(classic, packet)?;
        self.record(now, id, span.len());
        Ok(span)
    }

    /// As [`open`](Self::open) for a packet of the epoch format, whose epoch is this key's.
    #[inline]
    pub(super) fn open_epoch(&mut self, now: Instant, packet: &mut [u8]) -> Result<Span, DropReason> {
        let id = Layout::Epoch.counter(packet)?;
        self.pre_check(now, id)?;
        let span = self.opener.open(Layout::Epoch, packet)?;
        self.record(now, id, span.len());
        Ok(span)
    }

    #[inline]
    fn pre_check(&self, now: Instant, id: u64) -> Result<(), DropReason> {
        if self.replay.check(now, id) { Ok(()) } else { Err(DropReason::DataReplay) }
    }

    /// After authentication.
    #[inline]
    pub(super) fn record(&mut self, now: Instant, id: u64, plain_len: usize) {
        let fresh = self.replay.accept(now, id);
        debug_assert!(fresh, "checked before");
        self.blocks += blocks(plain_len);
    }

    /// Blocks received plus highest packet id.
    pub(super) const fn used(&self) -> u64 {
        self.blocks + self.replay.highest()
    }

    /// Packets whose tag was wrong.
    pub(super) const fn forgeries(&self) -> u64 {
        self.opener.forgeries
    }

    pub(super) fn into_replay(self) -> Replay {
        self.replay
    }

    #[cfg(test)]
    pub(super) fn set_forgeries(&mut self, n: u64) {
        self.opener.forgeries = n;
    }
}

impl fmt::Debug for RecvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecvKey([redacted])")
    }
}

/// Where the parts of a packet are.
#[derive(Clone, Copy)]
pub(super) enum Layout {
    /// header, 4-byte id, tag, ciphertext. P_DATA_V1 (header of 1 byte) leaves the header unauthenticated.
    Classic { header_len: usize },
    /// header, 8-byte id, ciphertext, tag.
    Epoch,
}

impl Layout {
    /// The packet id, without its epoch. A packet must have at least one byte of ciphertext.
    #[inline]
    pub(super) fn counter(self, packet: &[u8]) -> Result<u64, DropReason> {
        match self {
            Self::Classic { header_len } => {
                if packet.len() <= header_len + 4 + TAG_LEN {
                    return Err(DropReason::Malformed);
                }
                Ok(read_be(&packet[header_len..header_len + 4]))
            }
            Self::Epoch => {
                if packet.len() <= 12 + TAG_LEN {
                    return Err(DropReason::Malformed);
                }
                Ok(read_be(&packet[6..12]))
            }
        }
    }

    /// The epoch in a packet of the epoch format.
    #[inline]
    pub(super) fn epoch(packet: &[u8]) -> Result<u16, DropReason> {
        packet.get(4..6).map(|b| u16::from_be_bytes([b[0], b[1]])).ok_or(DropReason::Malformed)
    }
}

#[inline]
fn read_be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, &b| n << 8 | u64::from(b))
}

/// A cipher that opens, with its count of forgeries, but without a replay window.
pub(super) struct Opener {
    aead: Aead,
    /// As in `SendKey`.
    iv: Zeroizing<[u8; NONCE_LEN]>,
    forgeries: u64,
    forgeries_hard: u64,
}

impl Opener {
    /// `forgeries` is what an opener of this key counted before.
    pub(super) fn new(
        cipher: DataCipher,
        material: &[u8],
        iv: Zeroizing<[u8; NONCE_LEN]>,
        bounds: &Bounds,
        forgeries: u64,
    ) -> Self {
        Self { aead: Aead::new(cipher, material), iv, forgeries, forgeries_hard: bounds.forgeries_hard }
    }

    /// Packets whose tag was wrong.
    pub(super) const fn forgeries(&self) -> u64 {
        self.forgeries
    }

    /// Authenticates and decrypts in place; gives the range of the plaintext.
    #[inline]
    pub(super) fn open(&mut self, layout: Layout, packet: &mut [u8]) -> Result<Span, DropReason> {
        if self.forgeries > self.forgeries_hard {
            return Err(DropReason::KeyWorn);
        }
        let len = packet.len();
        let mut nonce = *self.iv;
        let (opened, span) = match layout {
            Layout::Classic { header_len } => {
                let (front, data) = packet.split_at_mut(header_len + 4 + TAG_LEN);
                let (head, tag) = front.split_at(header_len + 4);
                xor_front(&mut nonce, &head[header_len..]);
                let aad = if header_len == 1 { &head[1..] } else { head };
                (self.aead.open(nonce, aad, tag, data), header_len + 4 + TAG_LEN..len)
            }
            Layout::Epoch => {
                let (aad, rest) = packet.split_at_mut(12);
                let (data, tag) = rest.split_at_mut(len - 12 - TAG_LEN);
                xor_front(&mut nonce, &aad[4..]);
                (self.aead.open(nonce, aad, tag, data), 12..len - TAG_LEN)
            }
        };
        if opened.is_err() {
            self.forgeries += 1;
            return Err(DropReason::DataAuthentication);
        }
        Ok(span)
    }
}
