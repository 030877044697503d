//! TLS as memory buffers behind a small trait.

pub mod facts;
#[cfg(any(test, fuzzing, feature = "fuzzing"))]
pub(crate) mod fake;
pub mod rustls;
pub mod verify;

#[cfg(test)]
mod tests;

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use zeroize::Zeroizing;

/// How far a TLS session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPhase {
    /// Handshake under way.
    Handshaking,
    /// Application data may flow and keys may be exported.
    Ready,
    /// Closed by the peer or failed.
    Closed,
}

/// One TLS connection over memory buffers.
pub trait TlsSession: Send {
    /// Takes TLS bytes from the peer, in order, cut anywhere.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsFailure>;

    /// Appends TLS bytes for the peer to `out`, also an alert after a failure; returns how many.
    fn drain(&mut self, out: &mut Vec<u8>) -> usize;

    /// Appends the plaintext of exactly one received record to `out`; `false` if there is none.
    ///
    /// Record boundaries matter: OpenVPN sends one message per record.
    fn read_record(&mut self, out: &mut Zeroizing<Vec<u8>>) -> bool;

    /// Seals `bytes` as one record, to be drained.
    fn write_record(&mut self, bytes: &[u8]) -> Result<(), TlsFailure>;

    /// Exports keying material without context (RFC 5705, RFC 8446).
    fn export(&mut self, label: &str, out: &mut [u8]) -> Result<(), TlsFailure>;

    /// The peer's identity once its certificate was accepted.
    fn peer(&self) -> Option<PeerIdentity>;

    /// How far it is.
    fn phase(&self) -> TlsPhase;

    /// Protocol version, cipher suite and key type for a log line, such as
    /// `TLSv1.3, cipher TLS_AES_256_GCM_SHA384`; `None` before the handshake is done.
    fn description(&self) -> Option<String>;

    /// Tells that the key negotiation is over: all that only the handshake needed is given up, to make an idle
    /// session small. Afterwards a session may have no [`peer`](Self::peer) and no
    /// [`description`](Self::description) any more, and [`export`](Self::export) may fail.
    fn settle(&mut self) {}
}

/// Makes TLS sessions, one for each key negotiation.
pub trait TlsFactory: Send + Sync {
    /// A new session as TLS client. `unix` is the calendar time to judge certificates by.
    fn client(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure>;

    /// A new session as TLS server.
    fn server(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure>;
}

/// Who the peer is, by its leaf certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// Subject as OpenVPN writes it: `C=US, O=Example, CN=host`.
    pub subject: String,
    /// Common name, if there is one.
    pub common_name: Option<String>,
    /// SHA-256 of the DER certificate.
    pub fingerprint: [u8; 32],
    /// One line for each certificate from the root down: `depth=1, CN=ca`, for the log.
    pub chain: Vec<String>,
    /// Lines for the log about what was let pass, as `VERIFY WARNING: ...` for a CRL that is missing.
    pub warnings: Vec<String>,
    /// The certificates in DER, the leaf first; see [`facts`](facts::facts).
    pub certificates: Arc<[Vec<u8>]>,
}

/// Why TLS failed, for a person: the message names certificate, reason and cure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFailure {
    /// What kind of failure.
    pub kind: TlsFailureKind,
    /// One or two sentences.
    pub message: String,
}

/// Kinds of TLS failure that a caller may treat differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TlsFailureKind {
    /// The peer's certificate was refused by us.
    Certificate,
    /// The peer sent a fatal alert.
    Alert,
    /// No common version, suite or group.
    Incompatible,
    /// The peer broke the protocol.
    Protocol,
    /// Our own certificate, key or settings are unusable.
    Local,
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TlsFailure {}
