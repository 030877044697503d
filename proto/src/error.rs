//! Errors that are the caller's: what is asked of the machines can't be done.

use crate::tls::TlsFailure;

/// Why a connection can't even begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Another session already uses this path.
    #[error("another session already uses this address")]
    PathInUse,
    /// TLS settings are unusable.
    #[error("{0}")]
    Tls(TlsFailure),
    /// User name or password is too long for the protocol.
    #[error("user name or password is longer than {} bytes", crate::limits::MAX_USER_PASS - 1)]
    CredentialsTooLong,
    /// Peer info (`setenv UV_*`, `push-peer-info`) makes the key exchange message too long.
    #[error(
        "peer info is too long: the key exchange message exceeds {} bytes",
        crate::limits::MAX_TLS_PLAINTEXT
    )]
    PeerInfoTooLong,
}
