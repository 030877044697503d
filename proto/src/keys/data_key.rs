//! Data channel key material on its one way from the key exchange to a data plane.

use core::fmt;
use core::sync::atomic::AtomicU16;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Which slot of the key block a side sends with: the TLS client sends with the first half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRole {
    /// TLS client: encrypts with slot 0, decrypts with slot 1.
    Client,
    /// TLS server: encrypts with slot 1, decrypts with slot 0.
    Server,
}

/// The 256-byte key block of one key negotiation ("key2") with our role in it.
///
/// It is neither `Clone` nor printable, and ends in exactly one data plane: if each worker built its own
/// cipher from shared key bytes, each would start its packet counter at the same value and repeat nonces. Two planes
/// of which one seals and the other opens share it by [`DataKey::split`].
pub struct DataKey {
    /// Boxed, so that moving the key doesn't leave copies of it on the stack.
    block: Box<Zeroizing<[u8; 256]>>,
    role: TlsRole,
    limits: KeyLimits,
    part: Part,
}

/// Which directions a key is for.
#[derive(Clone)]
pub(crate) enum Part {
    /// Both.
    Whole,
    /// Sealing alone. The number is the epoch that the other part has seen the peer in.
    Sealing(Arc<AtomicU16>),
    /// Opening alone.
    Opening(Arc<AtomicU16>),
}

/// Configured limits of one key (`reneg-bytes`, `reneg-pkts`); 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Bytes in both directions together.
    pub bytes: u64,
    /// Packets in both directions together.
    pub packets: u64,
}

impl DataKey {
    /// Takes a derived key block over. Layout: `cipher0[64] hmac0[64] cipher1[64] hmac1[64]`.
    pub fn new(block: Zeroizing<[u8; 256]>, role: TlsRole, limits: KeyLimits) -> Self {
        Self { block: Box::new(block), role, limits, part: Part::Whole }
    }

    /// Parts the key: the first part seals only, the second opens only. Neither has the bytes of the other, so that
    /// no packet id can be used twice. What is sealed follows the epochs that the other part sees. Each part holds
    /// [`limits`](Self::limits) against what it does itself.
    #[must_use]
    pub fn split(self) -> (Self, Self) {
        let (send, recv) = self.halves();
        let seen = Arc::new(AtomicU16::new(0));
        let part = |other: usize, part| {
            let mut block = self.block.clone();
            block[other..other + 128].fill(0);
            Self { block, role: self.role, limits: self.limits, part }
        };
        (part(recv, Part::Sealing(seen.clone())), part(send, Part::Opening(seen)))
    }

    /// Which directions it is for.
    pub(crate) const fn part(&self) -> &Part {
        &self.part
    }

    /// Where the bytes of the sending and of the receiving direction begin.
    const fn halves(&self) -> (usize, usize) {
        match self.role {
            TlsRole::Client => (0, 128),
            TlsRole::Server => (128, 0),
        }
    }

    /// Configured limits.
    pub const fn limits(&self) -> KeyLimits {
        self.limits
    }

    /// Gives the key bytes out, for a plane outside of this process (a kernel). Whoever calls this takes
    /// over the duty to never seal two packets under one packet id.
    pub fn expose(self) -> RawDataKey {
        let (send, recv) = self.halves();
        RawDataKey { send: self.half(send), recv: self.half(recv) }
    }

    fn half(&self, at: usize) -> KeyHalf {
        let mut half = KeyHalf { cipher: Zeroizing::new([0; 64]), hmac: Zeroizing::new([0; 64]) };
        half.cipher.copy_from_slice(&self.block[at..at + 64]);
        half.hmac.copy_from_slice(&self.block[at + 64..at + 128]);
        half
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey([redacted])")
    }
}

/// Exposed key bytes of both directions.
pub struct RawDataKey {
    /// Seals what we send.
    pub send: KeyHalf,
    /// Opens what we receive.
    pub recv: KeyHalf,
}

/// Key bytes of one direction; each use takes as many from the start as it needs.
pub struct KeyHalf {
    /// Cipher key, and the first epoch's secret.
    pub cipher: Zeroizing<[u8; 64]>,
    /// HMAC key, and the implicit part of the nonce.
    pub hmac: Zeroizing<[u8; 64]>,
}

impl fmt::Debug for RawDataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawDataKey([redacted])")
    }
}

impl fmt::Debug for KeyHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHalf([redacted])")
    }
}
