//! tls-crypt-v2: keys of clients, wrapped for the server (`openvpn: doc/tls-crypt-v2.txt`).

use core::fmt;
use core::time::Duration;

use zeroize::Zeroizing;

use super::pem::{Label, decode};
use super::static_key::{KEY_LEN, KeyFileError, StaticKey};
use super::tls_crypt::{CryptKey, TAG};
use crate::drops::DropReason;
use crate::limits::MAX_WKC;

/// Length field at the end of a wrapped key.
const LEN_FIELD: usize = 2;

/// Shortest wrapped key: tag, key and length field.
const MIN_WKC: usize = TAG + KEY_LEN + LEN_FIELD;

/// Longest metadata, its type byte included.
pub const MAX_METADATA: usize = MAX_WKC - MIN_WKC;

/// Length of the server's key.
pub const SERVER_KEY_LEN: usize = 128;

/// A client's key file: the client key and its wrapped copy (WKc), which only the server can open.
pub struct ClientKeyV2 {
    key: StaticKey,
    wrapped: Vec<u8>,
}

impl ClientKeyV2 {
    /// Reads the PEM of a `OpenVPN tls-crypt-v2 client key`.
    pub fn from_pem(text: &str) -> Result<Self, KeyFileError> {
        let bytes = decode(text, Label::ClientKeyV2)?;
        let Some((key, wrapped)) = bytes.split_first_chunk::<KEY_LEN>() else {
            return Err(Label::ClientKeyV2.error(format_args!(
                "there are {} bytes, fewer than the {KEY_LEN} of the key alone",
                bytes.len()
            )));
        };
        if wkc_len(wrapped) != Some(wrapped.len()) {
            return Err(Label::ClientKeyV2.error(format_args!(
                "the wrapped key has {} bytes, which is not the length that it states at its end",
                wrapped.len()
            )));
        }
        Ok(Self { key: StaticKey::from_slice(key), wrapped: wrapped.to_vec() })
    }

    /// The client key.
    pub const fn key(&self) -> &StaticKey {
        &self.key
    }

    /// The wrapped client key with its length field, as appended to packets.
    pub fn wrapped(&self) -> &[u8] {
        &self.wrapped
    }
}

impl fmt::Debug for ClientKeyV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKeyV2([redacted])")
    }
}

/// The server's key, which wraps and unwraps the keys of clients.
pub struct ServerKeyV2 {
    key: CryptKey,
}

/// What a wrapped client key holds.
#[derive(Debug)]
pub struct UnwrappedKey {
    /// The client's tls-crypt key.
    pub key: StaticKey,
    /// Type byte and data, or nothing.
    pub metadata: Vec<u8>,
}

impl ServerKeyV2 {
    /// A key from its bytes: `cipher[64] hmac[64]`.
    pub fn new(bytes: &[u8; SERVER_KEY_LEN]) -> Self {
        let slots = bytes.as_chunks().0;
        Self { key: CryptKey::new(&slots[0], &slots[1]) }
    }

    /// Reads the PEM of a `OpenVPN tls-crypt-v2 server key`.
    pub fn from_pem(text: &str) -> Result<Self, KeyFileError> {
        let bytes = decode(text, Label::ServerKeyV2)?;
        let Ok(key) = bytes.as_slice().try_into() else {
            return Err(Label::ServerKeyV2
                .error(format_args!("there are {} bytes, not {SERVER_KEY_LEN}", bytes.len())));
        };
        Ok(Self::new(key))
    }

    /// Wraps a client's key; `None` if `metadata` is longer than [`MAX_METADATA`].
    pub fn wrap(&self, client: &StaticKey, metadata: &[u8]) -> Option<Vec<u8>> {
        let len = MIN_WKC + metadata.len();
        if len > MAX_WKC {
            return None;
        }
        let len_field = (len as u16).to_be_bytes();
        let tag = self.key.tag(&[&len_field, client.expose(), metadata]);
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(tag.as_bytes());
        out.extend_from_slice(client.expose());
        out.extend_from_slice(metadata);
        self.key.apply(tag.as_bytes(), &mut out[TAG..]);
        out.extend_from_slice(&len_field);
        Some(out)
    }

    /// Opens a wrapped key as cut off by [`split_wkc`].
    pub fn unwrap(&self, wkc: &[u8]) -> Result<UnwrappedKey, DropReason> {
        if wkc_len(wkc) != Some(wkc.len()) {
            return Err(DropReason::Malformed);
        }
        let (tag, rest) = wkc.split_at(TAG);
        let (text, len_field) = rest.split_at(rest.len() - LEN_FIELD);
        let mut text = Zeroizing::new(text.to_vec());
        self.key.apply(tag, &mut text);
        if !self.key.tag(&[len_field, &text]).matches(tag) {
            return Err(DropReason::WrapAuthentication);
        }
        let (key, metadata) = text.split_first_chunk::<KEY_LEN>().ok_or(DropReason::Malformed)?;
        Ok(UnwrappedKey { key: StaticKey::from_slice(key), metadata: metadata.to_vec() })
    }
}

impl fmt::Debug for ServerKeyV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKeyV2([redacted])")
    }
}

/// When a client's key was made, as its metadata tell (`openvpn: tls_crypt.c`, `tls_crypt_v2_check_client_key_age`).
pub(super) struct MetadataTime(u64);

impl MetadataTime {
    /// Type byte of a time.
    const KIND: u8 = 1;

    /// The time in `metadata`: type 1 and 8 bytes of seconds since 1970. There is none in other types.
    pub(super) fn find(metadata: &[u8]) -> Option<Self> {
        let (&Self::KIND, time) = metadata.split_first()? else { return None };
        Some(Self(u64::from_be_bytes(time.try_into().ok()?)))
    }

    /// Metadata with a time.
    pub(super) fn to_metadata(unix: Duration) -> [u8; 9] {
        let mut out = [Self::KIND; 9];
        out[1..].copy_from_slice(&unix.as_secs().to_be_bytes());
        out
    }

    /// Whether more than `age` passed until `unix`. A time to come is no age.
    pub(super) fn is_older_than(&self, age: Duration, unix: Duration) -> bool {
        Duration::from_secs(self.0).checked_add(age).is_some_and(|end| end < unix)
    }
}

/// Parts a packet with an appended client key into the packet proper and the wrapped key.
pub fn split_wkc(datagram: &mut [u8]) -> Result<(&mut [u8], &[u8]), DropReason> {
    let len = wkc_len(datagram).ok_or(DropReason::Malformed)?;
    let at = datagram.len().checked_sub(len).ok_or(DropReason::Malformed)?;
    let (packet, wkc) = datagram.split_at_mut(at);
    Ok((packet, wkc))
}

/// Length of the wrapped key at the end of `bytes` by its own length field, if that is a legal one.
fn wkc_len(bytes: &[u8]) -> Option<usize> {
    let field = bytes.last_chunk::<LEN_FIELD>()?;
    let len = usize::from(u16::from_be_bytes(*field));
    (MIN_WKC..=MAX_WKC).contains(&len).then_some(len)
}

#[cfg(test)]
mod tests;
