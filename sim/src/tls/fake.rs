//! A TLS without public-key work, for networks with adversaries.
//!
//! It has the manners of TLS: flights of realistic and varying sizes, messages cut into records anywhere, alerts, an
//! exporter, and two courses of a handshake:
//!
//! | as | flights |
//! |---|---|
//! | TLS 1.3 | hello; hello, certificate, finished; certificate, finished |
//! | TLS 1.2 | hello; hello, certificate; certificate, finished; finished |
//!
//! The key exchange is a secret that all factories of a world share, and the adversary has not: both hellos under it
//! make the keys. From the server's hello on each record is sealed with ChaCha20-Poly1305 under its number, so that one
//! that is changed, missing, repeated or made up is fatal. Certificates are real ones; that a sender has the key
//! of his is shown by a MAC over the transcript, whose key the sender and those who trust the CA can derive.

mod flights;
mod records;
mod session;

use core::time::Duration;
use std::sync::Arc;

use oxivpn_proto::tls::rustls::TlsVersion;
use oxivpn_proto::tls::{TlsFactory, TlsFailure, TlsSession};

use self::flights::Paper;
use self::records::Secret;
use self::session::Session;
use super::certs::{self, Identity, Root};

/// Makes sessions of either side.
pub(super) struct FakeFactory(Arc<Setup>);

/// What the sessions of a factory have in common.
struct Setup {
    /// What all of a world have, in place of a key exchange.
    world: Secret,
    own: Paper,
    own_root: Secret,
    trusted: Root,
    trusted_root: Secret,
    trusted_der: Vec<u8>,
    /// Whose course a server takes.
    version: TlsVersion,
}

impl FakeFactory {
    /// Machines of one world give the same `secret`.
    pub(super) fn new(secret: &[u8; 32], own: &Identity, trusted: Root, version: TlsVersion) -> Self {
        Self(Arc::new(Setup {
            world: Secret::new(secret),
            own: Paper::of(own),
            own_root: flights::root_secret(own.root),
            trusted,
            trusted_root: flights::root_secret(trusted),
            trusted_der: certs::ca(trusted),
            version,
        }))
    }
}

impl TlsFactory for FakeFactory {
    fn client(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        Ok(Box::new(Session::client(self.0.clone(), unix)))
    }

    fn server(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        Ok(Box::new(Session::server(self.0.clone(), unix)))
    }
}

#[cfg(test)]
mod tests;
