//! Data channel ciphers by their OpenVPN names.

use core::fmt;

/// An AEAD data channel cipher.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum DataCipher {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-192-GCM.
    Aes192Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// CHACHA20-POLY1305.
    ChaCha20Poly1305,
}

impl DataCipher {
    /// All ciphers.
    pub const ALL: [Self; 4] = [Self::Aes256Gcm, Self::Aes128Gcm, Self::Aes192Gcm, Self::ChaCha20Poly1305];

    /// The cipher with this name. Case doesn't matter (`openvpn: ssl_ncp.c`).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(name))
    }

    /// The canonical name, as in `IV_CIPHERS` and in pushed options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Aes192Gcm => "AES-192-GCM",
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "CHACHA20-POLY1305",
        }
    }

    /// Key length in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes192Gcm => 24,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Limit of packets plus 16-byte blocks under one key, `None` if the cipher has no such limit
    /// (`openvpn: crypto.c`, `cipher_get_aead_limits`).
    pub const fn usage_limit(self) -> Option<u64> {
        match self {
            Self::Aes128Gcm | Self::Aes192Gcm | Self::Aes256Gcm => Some((1 << 36) - 1),
            Self::ChaCha20Poly1305 => None,
        }
    }
}

impl fmt::Display for DataCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
