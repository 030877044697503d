//! The epoch format's key ratchet (`openvpn: crypto_epoch.c`).
//!
//! Each direction has a chain of secrets `E(1)`, `E(2)`, ...; key and IV of an epoch come from its secret. A
//! sender steps forward by itself, a receiver follows what authenticates.

use std::collections::VecDeque;
use std::sync::Arc;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::recv::{Layout, Opener, RecvKey};
use super::send::{SendKey, SendKeyParts};
use super::usage::Bounds;
use super::{NONCE_LEN, Span};
use crate::clock::Instant;
use crate::config::cipher::DataCipher;
use crate::config::params::{DataFormat, ReplayWindow};
use crate::drops::DropReason;
use crate::wire::ids::KeyId;

/// Future receive keys held ready, which is also how far ahead of the peer a sender may be: OpenVPN 2.x has
/// 4, OpenVPN 3 has 16.
pub(super) const FUTURE: u16 = 4;

/// HKDF-Expand with OpenVPN's labels: `info = u16 length, u8 label length, "ovpn " label, u8 0`.
fn expand_label(secret: &[u8; 32], label: &[u8], out: &mut [u8]) {
    let length = (out.len() as u16).to_be_bytes();
    let label_len = [5 + label.len() as u8];
    Hkdf::<Sha256>::from_prk(secret)
        .and_then(|hkdf| {
            hkdf.expand_multi_info(&[&length, &label_len, b"ovpn ", label, &[0]], out)
                .map_err(|_| hkdf::InvalidPrkLength)
        })
        .expect("a 32-byte secret is long enough and the outputs are at most 32 bytes");
}

/// The secret of one epoch in one direction.
pub(super) struct Chain {
    secret: Zeroizing<[u8; 32]>,
    epoch: u16,
}

impl Chain {
    /// Epoch 1: the first 32 bytes of the direction's cipher slice, whatever the cipher's key length.
    pub(super) fn first(cipher_slice: &[u8; 64]) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(&cipher_slice[..32]);
        Self { secret, epoch: 1 }
    }

    fn advance(&mut self) {
        let mut next = Zeroizing::new([0; 32]);
        expand_label(&self.secret, b"datakey upd", &mut *next);
        self.secret = next;
        self.epoch += 1;
    }

    fn material(&self, cipher: DataCipher) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; NONCE_LEN]>) {
        let mut key = Zeroizing::new([0; 32]);
        expand_label(&self.secret, b"data_key", &mut key[..cipher.key_len()]);
        let mut iv = Zeroizing::new([0; NONCE_LEN]);
        expand_label(&self.secret, b"data_iv", &mut *iv);
        (key, iv)
    }
}

/// Makes the send key of each epoch.
pub(super) struct SendChain {
    chain: Chain,
    cipher: DataCipher,
    format: DataFormat,
    key: KeyId,
    counter_last: u64,
}

impl SendChain {
    pub(super) fn new(
        first: Chain,
        cipher: DataCipher,
        format: DataFormat,
        key: KeyId,
        bounds: &Bounds,
    ) -> Self {
        Self { chain: first, cipher, format, key, counter_last: bounds.epoch_counter_last }
    }

    pub(super) const fn epoch(&self) -> u16 {
        self.chain.epoch
    }

    /// The send key of the chain's epoch. A chain makes it once per epoch: the counter starts at 1.
    pub(super) fn make_key(&self) -> Arc<SendKey> {
        let (material, iv) = self.chain.material(self.cipher);
        Arc::new(SendKey::new(SendKeyParts {
            cipher: self.cipher,
            material: &*material,
            iv,
            format: self.format,
            key: self.key,
            epoch: self.chain.epoch,
            last: self.counter_last,
        }))
    }

    /// Steps forward to `epoch`, which must be later than the present one.
    pub(super) fn raise(&mut self, epoch: u16) -> Arc<SendKey> {
        debug_assert!(epoch > self.chain.epoch, "an epoch's counter would start over");
        while self.chain.epoch < epoch {
            self.chain.advance();
        }
        self.make_key()
    }
}

/// What makes the key of an epoch to come. The ready key is ten times as large, and almost all peers stay in their
/// first epoch.
struct Future {
    material: Zeroizing<[u8; 32]>,
    iv: Zeroizing<[u8; NONCE_LEN]>,
    /// Packets whose tag was wrong.
    forgeries: u64,
}

impl Future {
    fn new(chain: &Chain, cipher: DataCipher) -> Self {
        let (material, iv) = chain.material(cipher);
        Self { material, iv, forgeries: 0 }
    }

    fn opener(&self, cipher: DataCipher, bounds: &Bounds) -> Opener {
        Opener::new(cipher, &*self.material, self.iv.clone(), bounds, self.forgeries)
    }
}

/// The receive keys around the peer's epoch.
pub(super) struct EpochReceiver {
    /// At the latest epoch that has a key.
    chain: Chain,
    cipher: DataCipher,
    bounds: Bounds,
    epoch: u16,
    current: RecvKey,
    /// Boxed, as almost no peer ever has one.
    retiring: Option<Box<(u16, RecvKey)>>,
    /// Epochs `epoch + 1..`, without gaps.
    future: VecDeque<Future>,
    replay: ReplayWindow,
}

impl EpochReceiver {
    pub(super) fn new(first: Chain, cipher: DataCipher, replay: ReplayWindow, bounds: &Bounds) -> Self {
        let opener = Future::new(&first, cipher).opener(cipher, bounds);
        let current = RecvKey::new(opener, replay);
        let mut this = Self {
            epoch: first.epoch,
            chain: first,
            cipher,
            bounds: *bounds,
            current,
            retiring: None,
            future: VecDeque::with_capacity(FUTURE.into()),
            replay,
        };
        this.refill();
        this
    }

    /// Epoch of the newest packet that authenticated; 1 before the first.
    pub(super) const fn epoch(&self) -> u16 {
        self.epoch
    }

    pub(super) const fn current(&self) -> &RecvKey {
        &self.current
    }

    #[cfg(test)]
    pub(super) const fn current_mut(&mut self) -> &mut RecvKey {
        &mut self.current
    }

    pub(super) fn into_current(self) -> RecvKey {
        self.current
    }

    /// Opens a packet with the key of its epoch and moves on if that was a future one. Nothing changes
    /// before the packet has authenticated.
    pub(super) fn open(&mut self, now: Instant, packet: &mut [u8]) -> Result<Span, DropReason> {
        let epoch = Layout::epoch(packet)?;
        if epoch == self.epoch {
            return self.current.open_epoch(now, packet);
        }
        if let Some((retiring, key)) = self.retiring.as_deref_mut()
            && *retiring == epoch
        {
            return key.open_epoch(now, packet);
        }
        let ahead = epoch.checked_sub(self.epoch).filter(|&n| n > 0).ok_or(DropReason::WrongEpoch)?;
        let counter = Layout::Epoch.counter(packet)?;
        let future = self.future.get_mut(usize::from(ahead) - 1).ok_or(DropReason::WrongEpoch)?;
        // An empty window refuses only this; strict order may begin anywhere.
        if counter == 0 {
            return Err(DropReason::DataReplay);
        }
        let mut opener = future.opener(self.cipher, &self.bounds);
        let opened = opener.open(Layout::Epoch, packet);
        future.forgeries = opener.forgeries();
        let span = opened?;
        self.advance(ahead, opener);
        self.current.record(now, counter, span.len());
        Ok(span)
    }

    /// Makes the key `ahead` of the current one current. Skipped epochs are lost for good.
    fn advance(&mut self, ahead: u16, opener: Opener) {
        self.future.drain(..usize::from(ahead));
        let memory = self.retiring.take().map(|retiring| retiring.1.into_replay());
        let next = match memory {
            Some(window) => RecvKey::promoted(opener, window),
            None => RecvKey::new(opener, self.replay),
        };
        let old = core::mem::replace(&mut self.current, next);
        self.retiring = Some(Box::new((self.epoch, old)));
        self.epoch += ahead;
        self.refill();
    }

    fn refill(&mut self) {
        while self.future.len() < FUTURE.into() && self.chain.epoch < self.bounds.epoch_last {
            self.chain.advance();
            self.future.push_back(Future::new(&self.chain, self.cipher));
        }
    }
}

#[cfg(test)]
mod tests;
