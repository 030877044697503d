//! The sending half of a key.

use core::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::aead::Aead;
use super::slot::Slot;
use super::{NONCE_LEN, Span, front_overhead, tail_overhead};
use crate::config::cipher::DataCipher;
use crate::config::params::DataFormat;
use crate::wire::data::DataHeader;
use crate::wire::ids::KeyId;

/// Why a packet was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// No such peer, or the id belongs to another generation by now.
    #[error("no such peer")]
    NoPeer,
    /// The peer has no key to send with yet.
    #[error("no key to send with")]
    NoKey,
    /// The key's packet ids are used up.
    #[error(transparent)]
    Spent(#[from] KeySpent),
    /// Too little free room around the payload: see [`HEADROOM`](super::HEADROOM).
    #[error("too little room around the payload")]
    NoRoom,
    /// The payload is empty, or longer than the cipher takes.
    #[error("payload is empty or too long")]
    BadLength,
}

/// The packet ids of a key are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packet ids of this key are used up")]
pub struct KeySpent;

/// The counter alone on its cache lines: workers that seal with the same key write it, and read the rest.
#[repr(align(128))]
struct Padded(AtomicU64);

/// Seals packets of one peer, key id and epoch. Immutable but for the packet counter.
pub struct SendKey {
    aead: Aead,
    /// Classic: 4 zero bytes and the 8-byte implicit IV. Epoch: the 12-byte IV. Either way the packet id is
    /// XORed into its front.
    iv: Zeroizing<[u8; NONCE_LEN]>,
    format: DataFormat,
    header: [u8; 4],
    /// Upper 16 bits of the packet id in the epoch format, else 0.
    epoch: u16,
    last: u64,
    next: Padded,
}

/// What makes a [`SendKey`].
pub(super) struct SendKeyParts<'a> {
    pub(super) cipher: DataCipher,
    pub(super) material: &'a [u8],
    pub(super) iv: Zeroizing<[u8; NONCE_LEN]>,
    pub(super) format: DataFormat,
    pub(super) key: KeyId,
    pub(super) epoch: u16,
    /// Last usable counter.
    pub(super) last: u64,
}

impl SendKey {
    pub(super) fn new(parts: SendKeyParts<'_>) -> Self {
        let header = match parts.format {
            DataFormat::V1 => DataHeader::v1(parts.key),
            DataFormat::V2(peer) | DataFormat::Epoch(peer) => DataHeader::v2(parts.key, peer),
        };
        Self {
            aead: Aead::new(parts.cipher, parts.material),
            iv: parts.iv,
            format: parts.format,
            header: header.to_bytes(),
            epoch: parts.epoch,
            last: parts.last,
            next: Padded(AtomicU64::new(1)),
        }
    }

    /// Takes the next `n` packet ids, all or none.
    ///
    /// # Errors
    /// [`KeySpent`] if fewer than `n` are left.
    pub fn permit(self: &Arc<Self>, n: u32) -> Result<SendPermit, KeySpent> {
        let mut first = self.next.0.load(Ordering::Relaxed);
        loop {
            let end = first + u64::from(n);
            if end > self.last + 1 {
                return Err(KeySpent);
            }
            // Relaxed: ids only have to be unique, they order no other memory.
            match self.next.0.compare_exchange_weak(first, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(SendPermit { key: Arc::clone(self), next: first, end }),
                Err(now) => first = now,
            }
        }
    }

    /// A permit without ids, to name the key.
    pub(super) fn empty_permit(self: &Arc<Self>) -> SendPermit {
        let next = self.next.0.load(Ordering::Relaxed);
        SendPermit { key: Arc::clone(self), next, end: next }
    }

    /// The epoch, 0 for a classic key.
    pub(super) const fn epoch(&self) -> u16 {
        self.epoch
    }

    #[cfg(test)]
    pub(super) fn skip_to(&self, counter: u64) {
        self.next.0.store(counter, Ordering::Relaxed);
    }

    /// Seals in place under packet id `counter` (`openvpn: crypto.c`, `openvpn_encrypt_aead`).
    #[inline]
    fn seal(&self, counter: u64, slot: &mut Slot<'_>) -> Result<Span, SealError> {
        let parts =
            slot.parts(front_overhead(self.format), tail_overhead(self.format)).ok_or(SealError::NoRoom)?;
        let mut nonce = *self.iv;
        // First the additional data as it will stand in the packet, at most header and long packet id.
        let mut aad = [0; 12];
        let aad = match self.format {
            DataFormat::V1 => {
                aad[..4].copy_from_slice(&(counter as u32).to_be_bytes());
                &aad[..4]
            }
            DataFormat::V2(_) => {
                aad[..4].copy_from_slice(&self.header);
                aad[4..8].copy_from_slice(&(counter as u32).to_be_bytes());
                &aad[..8]
            }
            DataFormat::Epoch(_) => {
                aad[..4].copy_from_slice(&self.header);
                aad[4..].copy_from_slice(&(u64::from(self.epoch) << 48 | counter).to_be_bytes());
                &aad[..]
            }
        };
        let id = match self.format {
            DataFormat::V1 => aad,
            DataFormat::V2(_) | DataFormat::Epoch(_) => &aad[4..],
        };
        xor_front(&mut nonce, id);
        let tag = self.aead.seal(nonce, aad, parts.payload).map_err(|_| SealError::BadLength)?;
        match self.format {
            DataFormat::V1 => {
                parts.front[0] = self.header[0];
                parts.front[1..5].copy_from_slice(aad);
                parts.front[5..].copy_from_slice(&tag);
            }
            DataFormat::V2(_) => {
                parts.front[..8].copy_from_slice(aad);
                parts.front[8..].copy_from_slice(&tag);
            }
            DataFormat::Epoch(_) => {
                parts.front.copy_from_slice(aad);
                parts.tail.copy_from_slice(&tag);
            }
        }
        Ok(parts.span)
    }
}

/// XORs `id` into the first bytes of `nonce`.
#[inline]
pub(super) fn xor_front(nonce: &mut [u8; NONCE_LEN], id: &[u8]) {
    for (n, b) in nonce.iter_mut().zip(id) {
        *n ^= b;
    }
}

impl fmt::Debug for SendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendKey([redacted])")
    }
}

/// The right to seal some packets, each under an id of its own. Not `Clone`: an id is used once. Ids that
/// are left over on drop are never used.
#[derive(Debug)]
pub struct SendPermit {
    key: Arc<SendKey>,
    next: u64,
    end: u64,
}

impl SendPermit {
    /// How many packets it still seals.
    pub const fn remaining(&self) -> u64 {
        self.end - self.next
    }

    /// Cuts the first `n` ids off into a permit of their own, for another thread.
    ///
    /// # Panics
    /// If fewer than `n` are left.
    #[must_use]
    pub fn split(&mut self, n: u32) -> Self {
        assert!(u64::from(n) <= self.remaining(), "permit has only {} ids left", self.remaining());
        let first = self.next;
        self.next += u64::from(n);
        Self { key: Arc::clone(&self.key), next: first, end: self.next }
    }

    /// Encrypts the slot's payload in place and puts header, packet id and tag around it. Gives the range of
    /// the packet in the slot's buffer.
    ///
    /// # Errors
    /// [`SealError::Spent`] if no id is left in the permit, [`SealError::NoRoom`], [`SealError::BadLength`].
    #[inline]
    pub fn seal(&mut self, slot: &mut Slot<'_>) -> Result<Span, SealError> {
        if slot.payload().is_empty() {
            return Err(SealError::BadLength);
        }
        if self.next == self.end {
            return Err(KeySpent.into());
        }
        let counter = self.next;
        self.next += 1;
        self.key.seal(counter, slot)
    }

    /// The key it belongs to.
    pub(super) fn key(&self) -> &Arc<SendKey> {
        &self.key
    }

    /// Id of the last sealed packet; 0 before the first of the key.
    pub(super) const fn last_used(&self) -> u64 {
        self.next - 1
    }
}

#[cfg(test)]
mod tests;
