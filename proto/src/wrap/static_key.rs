//! 2048-bit static key files (`openvpn: crypto.c`, `read_key_file`).

use core::fmt;

use zeroize::Zeroizing;

/// A static key: `cipher0[64] hmac0[64] cipher1[64] hmac1[64]`.
pub struct StaticKey {
    bytes: Zeroizing<[u8; 256]>,
}

impl StaticKey {
    /// A key from its bytes.
    pub const fn new(bytes: Zeroizing<[u8; 256]>) -> Self {
        Self { bytes }
    }

    /// Reads the text of a key file (`-----BEGIN OpenVPN Static key V1-----` and hex digits).
    pub fn from_text(text: &str) -> Result<Self, KeyFileError> {
        let _ = text;
        todo!()
    }

    /// The key bytes.
    pub fn expose(&self) -> &[u8; 256] {
        &self.bytes
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticKey([redacted])")
    }
}

/// `key-direction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyDirection {
    /// Not set: both sides use the first HMAC key.
    #[default]
    Bidirectional,
    /// 0, customary for servers.
    Normal,
    /// 1, customary for clients.
    Inverse,
}

/// Digest of `tls-auth` (option `auth`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HmacDigest {
    /// SHA1, OpenVPN's default.
    #[default]
    Sha1,
    /// SHA224.
    Sha224,
    /// SHA256.
    Sha256,
    /// SHA384.
    Sha384,
    /// SHA512.
    Sha512,
}

impl HmacDigest {
    /// By OpenVPN's name, in any case and with the synonyms `SHA-256`, `SHA2-256` and the like.
    pub fn from_name(name: &str) -> Option<Self> {
        let _ = name;
        todo!()
    }

    /// Output length in bytes.
    pub const fn output_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Canonical name, as in the options string.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha224 => "SHA224",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
        }
    }
}

/// Why a key file can't be used. The text is for a person; it names what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFileError(pub String);

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeyFileError {}
