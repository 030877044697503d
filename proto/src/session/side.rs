//! What differs by side: a client pulls, a server pushes, a peer does neither.

use core::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::clock::Instant;
use crate::config::server::{ClientSettings, ServerConfig};
use crate::config::{ChannelConfig, ClientConfig, Credentials, PeerConfig};
use crate::keys::data_key::TlsRole;
use crate::keys::token::Series;
use crate::options::push_reply::PushAccumulator;
use crate::tls::PeerIdentity;
use crate::wire::ids::KeyId;

/// The side that a session is on.
pub(crate) enum Side {
    /// Connects and pulls.
    Client(Box<ClientSide>),
    /// Was connected to and pushes.
    Server(Box<ServerSide>),
    /// Either end of a point-to-point tunnel.
    Peer(Arc<PeerConfig>),
}

impl Side {
    pub(super) fn channel(&self) -> &ChannelConfig {
        match self {
            Self::Client(client) => &client.config.channel,
            Self::Server(server) => &server.config.channel,
            Self::Peer(config) => &config.channel,
        }
    }

    pub(super) fn tls_role(&self) -> TlsRole {
        match self {
            Self::Client(_) => TlsRole::Client,
            Self::Server(_) => TlsRole::Server,
            Self::Peer(config) => config.role,
        }
    }

    /// Whether a session whose renegotiation failed lives on until its last key ends, for the other side to
    /// come back meanwhile. A client comes back itself, at once.
    pub(super) fn waits_for_return(&self) -> bool {
        match self {
            Self::Client(_) => false,
            Self::Server(_) => true,
            Self::Peer(config) => config.role == TlsRole::Server,
        }
    }
}

pub(crate) struct ClientSide {
    pub(super) config: Arc<ClientConfig>,
    pub(super) credentials: Option<Credentials>,
    pub(super) push: PushAccumulator,
}

pub(crate) struct ServerSide {
    pub(super) config: Arc<ServerConfig>,
    /// Where the client is, for the questions.
    pub(super) metadata: Option<Vec<u8>>,
    pub(super) common_name: String,
    pub(super) username: Option<String>,
    /// The application calls it by another user name than it does itself.
    pub(super) renamed: Option<Renamed>,
    /// Who it was at its first login; it can't become somebody else.
    pub(super) locked: Option<Locked>,
    pub(super) question: Option<Question>,
    pub(super) last_question: u32,
    /// The key for which the client was let in.
    pub(super) granted: Option<KeyId>,
    pub(super) token: Option<TokenLife>,
    /// A token to be pushed.
    pub(super) new_token: Option<Zeroizing<String>>,
    pub(super) settings: Option<ClientSettings>,
    /// Routes it has in the data plane.
    pub(super) routes: Vec<IpNet>,
    /// It asked for its configuration, or doesn't need to.
    pub(super) requested: bool,
    /// It takes PUSH_UPDATE.
    pub(super) takes_updates: bool,
}

/// `override-username` (`openvpn: multi.c`, `override_locked_username`).
pub(crate) struct Renamed {
    /// The name that the client sent.
    pub(super) sent: Option<String>,
    /// The one in its place.
    pub(super) name: String,
}

/// What may not change over renegotiations (`openvpn: ssl_verify.c`, `tls_lock_*`).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Locked {
    pub(super) common_name: String,
    pub(super) username: Option<String>,
    pub(super) fingerprint: Option<[u8; 32]>,
}

impl Locked {
    pub(super) fn new(common_name: &str, username: Option<&str>, identity: Option<&PeerIdentity>) -> Self {
        Self {
            common_name: common_name.to_owned(),
            username: username.map(str::to_owned),
            fingerprint: identity.map(|identity| identity.fingerprint),
        }
    }

    /// Clients that show neither certificate nor name can't be told apart, and so are never the same.
    pub(super) fn names_somebody(&self) -> bool {
        self.username.as_deref().is_some_and(|name| !name.is_empty()) || self.fingerprint.is_some()
    }
}

/// A login that waits for its verdict.
#[derive(Debug)]
pub(crate) struct Question {
    pub(super) serial: u32,
    pub(super) until: Instant,
    /// Answers to challenges that the client gave so far.
    pub(super) responses: u8,
}

/// The token of one client over its renewals.
pub(crate) struct TokenLife {
    pub(super) series: Series,
    /// The name that it is bound to, empty if that is not verified.
    pub(super) username: String,
    pub(super) renew_at: Option<Instant>,
}

impl ClientSide {
    pub(super) fn new(config: Arc<ClientConfig>, credentials: Option<Credentials>) -> Self {
        Self { config, credentials, push: PushAccumulator::new() }
    }
}

impl ServerSide {
    pub(super) fn new(config: Arc<ServerConfig>, metadata: Option<Vec<u8>>) -> Self {
        Self {
            config,
            metadata,
            common_name: String::new(),
            username: None,
            renamed: None,
            locked: None,
            question: None,
            last_question: 0,
            granted: None,
            token: None,
            new_token: None,
            settings: None,
            routes: Vec::new(),
            requested: false,
            takes_updates: false,
        }
    }
}

/// Whether a peer may come from `remote`.
pub(crate) fn welcomes(config: &PeerConfig, remote: Option<SocketAddr>) -> bool {
    match (config.remote, remote) {
        (Some(only), Some(remote)) => config.channel.float || only == remote,
        (None, _) | (Some(_), None) => true,
    }
}
