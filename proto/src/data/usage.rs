//! How much a key was used, and when that is too much.

use crate::config::cipher::DataCipher;

/// Limits of one key. Constants of the protocol; tests take smaller ones to see the edges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Packets plus 16-byte blocks of one direction under one key, `None` without a limit
    /// (`openvpn: crypto.c`, `cipher_get_aead_limits`).
    pub(super) usage: Option<u64>,
    /// Classic packet id from which on a new key is asked for (`openvpn: packet_id.h`, `PACKET_ID_WRAP_TRIGGER`).
    pub(super) id_soft: u64,
    /// Last classic packet id.
    pub(super) id_last: u64,
    /// Last counter of an epoch.
    pub(super) epoch_counter_last: u64,
    /// More failed tags than this ask for a new key.
    pub(super) forgeries_soft: u64,
    /// More failed tags than this end the key.
    pub(super) forgeries_hard: u64,
    /// Sending epoch from which on a new key is asked for.
    pub(super) epoch_soft: u16,
    /// Last epoch that we send or receive. OpenVPN 2.x refuses later ones as "future" epochs
    /// (`openvpn: crypto_epoch.c`, `epoch_lookup_decrypt_key`: `UINT16_MAX - 4 - 1`).
    pub(super) epoch_last: u16,
}

impl Bounds {
    pub(super) const fn of(cipher: DataCipher) -> Self {
        Self {
            usage: cipher.usage_limit(),
            id_soft: 0xff00_0000,
            id_last: 0xffff_ffff,
            epoch_counter_last: (1 << 48) - 1,
            forgeries_soft: 1 << 35,
            forgeries_hard: 1 << 36,
            epoch_soft: 0xf000,
            epoch_last: u16::MAX - 5,
        }
    }

    /// Whether this usage is so near to the limit that a classic key should be replaced
    /// (`openvpn: ssl.c`, `tls_get_limit_aead`: 7/8).
    pub(super) fn usage_worn(&self, used: u64) -> bool {
        self.usage.is_some_and(|limit| used >= limit / 8 * 7)
    }

    /// Whether this usage is beyond the limit, so that an epoch ends.
    pub(super) fn usage_over(&self, used: u64) -> bool {
        self.usage.is_some_and(|limit| used > limit)
    }
}

/// 16-byte blocks that so many bytes make.
#[inline]
pub(super) const fn blocks(bytes: usize) -> u64 {
    bytes.div_ceil(16) as u64
}
