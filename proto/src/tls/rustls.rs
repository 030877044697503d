//! TLS by rustls on memory buffers; the only file that names rustls.

use core::time::Duration;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use zeroize::Zeroizing;

use super::{TlsFactory, TlsFailure, TlsSession};
use crate::tls::verify::PeerRules;

/// Material and settings of TLS sessions, not yet checked. Certificates and keys are in DER.
pub struct TlsOptions {
    /// Trusted certificates with a name for messages ("ca file, certificate 2"); may be empty if
    /// `rules.fingerprints` is not.
    pub ca: Vec<Vec<u8>>,
    /// Our own certificate, leaf first, then intermediates; empty if we have none.
    pub certs: Vec<Vec<u8>>,
    /// Our private key: PKCS#8, PKCS#1 or SEC1 DER.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// What the peer's certificate must fulfil beside the chain.
    pub rules: PeerRules,
    /// `tls-version-min`.
    pub min_version: TlsVersion,
    /// `tls-version-max`.
    pub max_version: TlsVersion,
    /// `tls-cipher`: allowed TLS 1.2 suites by OpenSSL or IANA name; empty for all.
    pub suites12: Vec<String>,
    /// `tls-ciphersuites`: allowed TLS 1.3 suites; empty for all.
    pub suites13: Vec<String>,
    /// `tls-groups`; empty for all.
    pub groups: Vec<String>,
}

/// TLS protocol versions that exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

/// Makes rustls sessions.
pub struct RustlsFactory {
    _private: (),
}

impl RustlsFactory {
    /// Checks `options` and builds a factory with the ciphers, groups and randomness of `provider`.
    pub fn new(options: TlsOptions, provider: Arc<CryptoProvider>) -> Result<Self, TlsFailure> {
        let _ = (options, provider);
        todo!()
    }
}

impl TlsFactory for RustlsFactory {
    fn client(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        let _ = unix;
        todo!()
    }
}
