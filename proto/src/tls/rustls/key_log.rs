//! Secrets of sessions, handed out.

use core::fmt;
use std::sync::Arc;

/// Is given label, client random and secret, as they stand in a line of the NSS key log format.
pub type KeyLog = Arc<dyn Fn(&str, &[u8], &[u8]) + Send + Sync>;

/// A [`KeyLog`] for rustls.
pub(super) struct Secrets(pub(super) KeyLog);

impl rustls::KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        (self.0)(label, client_random, secret);
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets([redacted])")
    }
}
