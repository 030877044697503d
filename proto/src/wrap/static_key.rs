//! 2048-bit static key files (`openvpn: crypto.c`, `read_key_file`).

use core::fmt;

use zeroize::Zeroizing;

use super::pem::{Label, section};

/// Length of a static key.
pub const KEY_LEN: usize = 256;

/// A static key: `cipher0[64] hmac0[64] cipher1[64] hmac1[64]`.
pub struct StaticKey {
    bytes: Zeroizing<[u8; KEY_LEN]>,
}

impl StaticKey {
    /// A key from its bytes.
    pub const fn new(bytes: Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self { bytes }
    }

    /// Reads the text of a key file (`-----BEGIN OpenVPN Static key V1-----` and hex digits). Text around
    /// the key and digits beyond 2048 bits are ignored.
    pub fn from_text(text: &str) -> Result<Self, KeyFileError> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        let mut digits = 0;
        let mut odd_line = None;
        for (number, line) in section(text, Label::StaticKey)? {
            let before = digits;
            for c in line.chars().filter(|c| !c.is_ascii_whitespace()) {
                let Some(digit) = c.to_digit(16) else {
                    let what = format_args!("line {number} has {c:?} among the hex digits");
                    return Err(Label::StaticKey.error(what));
                };
                if let Some(byte) = bytes.get_mut(digits / 2) {
                    *byte = *byte << 4 | digit as u8;
                }
                digits += 1;
            }
            if (digits - before) % 2 != 0 {
                odd_line.get_or_insert(number);
            }
        }
        let odd = odd_line.filter(|_| digits % 2 != 0);
        match (digits / 2, odd) {
            (KEY_LEN.., _) => Ok(Self { bytes }),
            (_, Some(line)) => Err(Label::StaticKey.error(format_args!(
                "there are {digits} hex digits, an odd number; line {line} lacks one or has one too many"
            ))),
            (128, None) => Err(Label::StaticKey.error(
                "this is a 1024-bit key of the time before OpenVPN 2.0, a 2048-bit key is needed on both sides",
            )),
            (n, None) => Err(Label::StaticKey
                .error(format_args!("there are {n} bytes of key, but {KEY_LEN} are needed"))),
        }
    }

    /// Copies key bytes without a trace elsewhere.
    pub(crate) fn from_slice(key: &[u8; KEY_LEN]) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        bytes.copy_from_slice(key);
        Self { bytes }
    }

    /// Bytes `cipher<n>[64]`; `n` is 0 or 1.
    pub(super) fn cipher_slot(&self, n: usize) -> &[u8; 64] {
        self.slot(2 * n)
    }

    /// Bytes `hmac<n>[64]`; `n` is 0 or 1.
    pub(super) fn hmac_slot(&self, n: usize) -> &[u8; 64] {
        self.slot(2 * n + 1)
    }

    fn slot(&self, quarter: usize) -> &[u8; 64] {
        &self.bytes.as_chunks().0[quarter]
    }

    /// This key combined with other bytes by exclusive or.
    pub(super) fn xor(&self, other: &[u8; KEY_LEN]) -> Self {
        let mut bytes = self.bytes.clone();
        bytes.iter_mut().zip(other).for_each(|(a, b)| *a ^= b);
        Self { bytes }
    }

    /// The key bytes.
    pub fn expose(&self) -> &[u8; KEY_LEN] {
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
    /// All digests.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// By OpenVPN's name, in any case and with the synonyms `SHA-256`, `SHA2-256` and the like.
    pub fn from_name(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let plain = upper.strip_prefix("RSA-").unwrap_or(&upper);
        Some(match plain {
            "SHA1" | "SHA-1" => Self::Sha1,
            "SHA224" | "SHA-224" | "SHA2-224" => Self::Sha224,
            "SHA256" | "SHA-256" | "SHA2-256" => Self::Sha256,
            "SHA384" | "SHA-384" | "SHA2-384" => Self::Sha384,
            "SHA512" | "SHA-512" | "SHA2-512" => Self::Sha512,
            _ => return None,
        })
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

#[cfg(test)]
mod tests;
