//! The data channel: keys, packets and the table that finds the peer of a packet. No clock, no control
//! state; the caller gives buffers and the time.

mod aead;
mod entry;
mod epoch;
mod framing;
mod inner;
mod key_slot;
pub mod mss;
mod recv;
pub mod replay;
mod routes;
mod send;
pub mod slot;
pub mod table;
mod usage;

pub use inner::is_multicast;
pub use recv::RecvKey;
pub use send::{KeySpent, SealError, SendKey, SendPermit};
pub use slot::{HEADROOM, Sealed, Slot, TAILROOM};
pub use table::{Forward, Opened, Outgoing, Payload, Table};

use core::ops::Range;
use std::sync::Arc;

use crate::config::params::{DataFormat, DataParams};
use crate::keys::data_key::DataKey;
use crate::wire::ids::KeyId;

/// Bytes of an AEAD tag.
pub(crate) const TAG_LEN: usize = 16;

/// Bytes of an AEAD nonce.
pub(crate) const NONCE_LEN: usize = 12;

/// Bytes in front of the ciphertext (`openvpn: crypto.c`, `openvpn_encrypt_aead`).
pub(crate) const fn front_overhead(format: DataFormat) -> usize {
    match format {
        DataFormat::V1 => 1 + 4 + TAG_LEN,
        DataFormat::V2(_) => 4 + 4 + TAG_LEN,
        DataFormat::Epoch(_) => 4 + 8,
    }
}

/// Bytes behind the ciphertext.
pub(crate) const fn tail_overhead(format: DataFormat) -> usize {
    match format {
        DataFormat::V1 | DataFormat::V2(_) => 0,
        DataFormat::Epoch(_) => TAG_LEN,
    }
}

/// Bytes that a data packet adds to its payload, [`Framing`](crate::config::params::Framing) left out.
pub const fn overhead(format: DataFormat) -> usize {
    front_overhead(format) + tail_overhead(format)
}

impl DataKey {
    /// Makes the two classic (32-bit packet id) keys of `params.cipher` from the key block. `key` and
    /// `params.format` go into the header of every packet sealed. Payloads are those between the ciphers: framing
    /// (`params.framing`) is put around and taken off by [`Table`] only.
    ///
    /// With [`DataFormat::Epoch`] the keys are those of epoch 1; only [`Table`] moves on to later epochs.
    pub fn into_keys(self, key: KeyId, params: &DataParams) -> (Arc<SendKey>, RecvKey) {
        let (send, recv) = key_slot::split(self, key, params, &usage::Bounds::of(params.cipher));
        (send.into_key(), recv.into_key())
    }
}

/// Part of a datagram or slot, as plain numbers so that it outlives the borrow.
pub(crate) type Span = Range<usize>;
