//! tls-crypt-v2: keys of clients, wrapped for the server (`openvpn: doc/tls-crypt-v2.txt`).

use core::fmt;

use super::static_key::{KeyFileError, StaticKey};

/// A client's key file: the client key and its wrapped copy (WKc), which only the server can open.
pub struct ClientKeyV2 {
    key: StaticKey,
    wrapped: Vec<u8>,
}

impl ClientKeyV2 {
    /// Reads the PEM of a `OpenVPN tls-crypt-v2 client key`.
    pub fn from_pem(text: &str) -> Result<Self, KeyFileError> {
        let _ = text;
        todo!()
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
