//! Questions of a server to its application. Each comes with a ticket; the session waits for the answer until
//! its `hand-window` ends, and no other session waits with it.

use core::fmt;

use zeroize::Zeroizing;

use crate::handle::SessionHandle;
use crate::path::Path;
use crate::tls::PeerIdentity;
use crate::wire::ids::KeyId;

/// May this client in, or go on? Asked for the first and for each further key.
pub struct Login {
    /// Which session.
    pub session: SessionHandle,
    /// Where it comes from.
    pub path: Path,
    /// [`KeyId::FIRST`] for a new connection, another one for a renegotiation.
    pub key: KeyId,
    /// The client's certificate.
    pub identity: Option<PeerIdentity>,
    /// Its common name; the user name with `username-as-common-name`, empty without both.
    pub common_name: String,
    /// User name, as sent.
    pub username: Option<String>,
    /// Password, as sent; also a token or the answer to a challenge (`SCRV1:`, `CRV1::`). It may be empty, and who is
    /// asked must not take that for a proof.
    pub password: Option<Zeroizing<String>>,
    /// Set if `auth-gen-token` is on: what came of the token, if the password is one.
    pub token: Option<Token>,
    /// Peer-info lines of the client.
    pub peer_info: String,
    /// Metadata of its tls-crypt-v2 key: a type byte and data.
    pub metadata: Option<Vec<u8>>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("session", &self.session)
            .field("path", &self.path)
            .field("key", &self.key)
            .field("common_name", &self.common_name)
            .finish_non_exhaustive()
    }
}

/// A token of ours that a client brought, or that it will get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The session id in it, 16 characters of base64: constant over renewals (`session_id` for scripts).
    pub session: String,
    /// What it is worth.
    pub state: TokenState,
}

/// What a token is worth (`session_state` for scripts; `openvpn: auth_token.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// The password is no token.
    Initial,
    /// A token for this user name.
    Authenticated,
    /// For this user name, but too old.
    Expired,
    /// Not one of ours, or changed.
    Invalid,
    /// A token for an empty user name.
    AuthenticatedEmptyUser,
    /// For an empty user name, and too old.
    ExpiredEmptyUser,
}

impl TokenState {
    /// Whether the user name may still be the client's. A token for an empty name is good for no other one.
    pub const fn proves_name(self) -> bool {
        !matches!(self, Self::AuthenticatedEmptyUser | Self::ExpiredEmptyUser)
    }

    /// As scripts get it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initial => "Initial",
            Self::Authenticated => "Authenticated",
            Self::Expired => "Expired",
            Self::Invalid => "Invalid",
            Self::AuthenticatedEmptyUser => "AuthenticatedEmptyUser",
            Self::ExpiredEmptyUser => "ExpiredEmptyUser",
        }
    }
}

/// The right to answer one [`Login`], once. A ticket of a session that is gone, or of an older question, has no
/// effect.
#[derive(Debug, PartialEq, Eq)]
pub struct LoginTicket {
    pub(crate) session: SessionHandle,
    pub(crate) serial: u32,
}

/// The answer to a [`Login`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it in.
    Accept,
    /// Refuse it with `AUTH_FAILED`: the text after the comma, empty for none. A dynamic challenge is
    /// `CRV1:flags:state:user:text`, a temporary failure `TEMP[flags]:text`.
    Deny(String),
    /// As `Deny`, and the keys that the client has from earlier logins are taken from it at once, not when it has been
    /// told (`openvpn: ssl_verify.c`, `tls_deauthenticate`).
    Revoke(String),
    /// End the session without a word, as after a certificate that was refused.
    Drop,
}

/// A client that was let in and waits for its configuration.
#[derive(Debug)]
pub struct Admission {
    /// Which session.
    pub session: SessionHandle,
    /// Where it comes from.
    pub path: Path,
    /// Its certificate.
    pub identity: Option<PeerIdentity>,
    /// As in [`Login`].
    pub common_name: String,
    /// User name, as sent.
    pub username: Option<String>,
    /// Peer-info lines of the client.
    pub peer_info: String,
}

/// The right to answer one [`Admission`], once.
#[derive(Debug, PartialEq, Eq)]
pub struct AdmitTicket {
    pub(crate) session: SessionHandle,
}

impl LoginTicket {
    /// Whose question it is.
    pub const fn session(&self) -> SessionHandle {
        self.session
    }
}

impl AdmitTicket {
    /// Whose question it is.
    pub const fn session(&self) -> SessionHandle {
        self.session
    }
}
