//! What a machine is, and how the application beside its node behaves.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use oxivpn_proto::config::server::ServerConfig;
use oxivpn_proto::config::{ClientConfig, Credentials, PeerConfig};
use oxivpn_proto::pool::AddressPlan;

/// What a machine is.
#[derive(Clone, Debug)]
pub enum Role {
    /// A server.
    Server(Arc<ServerRole>),
    /// A client of a server.
    Client(Arc<ClientRole>),
    /// One end of a point-to-point tunnel.
    Peer(Arc<PeerRole>),
}

/// A server and its application.
#[derive(Clone, Debug)]
pub struct ServerRole {
    /// For [`Node::listen`](oxivpn_proto::Node::listen).
    pub config: ServerConfig,
    /// Inner addresses.
    pub plan: AddressPlan,
    /// Whether clients may talk to each other.
    pub client_to_client: bool,
    /// Whether each client has an inner address by its name, `ifconfig-push`.
    pub fixed: bool,
    /// What it says to logins that it is asked about.
    pub login: LoginAnswer,
}

/// How a server's application answers a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoginAnswer {
    /// An answer comes so late, at most; drawn anew for each question.
    pub delay: Duration,
    /// Passwords that are not this are refused: a number that [`password`] makes one of.
    pub secret: u64,
}

/// The password that goes with a [`LoginAnswer::secret`].
pub fn password(secret: u64) -> String {
    format!("secret-{secret:x}")
}

/// A client and its application: connects, and connects again whenever its session ends.
#[derive(Clone, Debug)]
pub struct ClientRole {
    /// For [`Node::connect`](oxivpn_proto::Node::connect).
    pub config: Arc<ClientConfig>,
    /// Where the server is.
    pub server: SocketAddr,
    /// Whether it connects by TCP.
    pub stream: bool,
    /// User name and password.
    pub credentials: Option<Credentials>,
    /// How it goes on after the end of a session.
    pub retry: Retry,
}

/// How a client goes on after the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Pause before the first attempt.
    pub first: Duration,
    /// The pause doubles with each failed attempt up to this.
    pub last: Duration,
    /// Whether each attempt has a new socket, so another port (`nobind`).
    pub fresh_socket: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), last: Duration::from_secs(10), fresh_socket: true }
    }
}

/// One end of a point-to-point tunnel.
#[derive(Clone, Debug)]
pub struct PeerRole {
    /// For [`Node::connect_peer`](oxivpn_proto::Node::connect_peer) or
    /// [`Node::listen_peer`](oxivpn_proto::Node::listen_peer).
    pub config: PeerConfig,
    /// Where the other end is, if this one calls it (`tls-client`).
    pub calls: Option<SocketAddr>,
    /// Whether the tunnel is over TCP.
    pub stream: bool,
    /// Inner addresses: ours and the other end's.
    pub inner: (IpAddr, IpAddr),
    /// How the calling end goes on after the end of a session.
    pub retry: Retry,
}

impl Role {
    /// The name of the kind.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Server(_) => "server",
            Self::Client(_) => "client",
            Self::Peer(_) => "peer",
        }
    }

    /// Whom this machine calls, by what transport and how persistently; `None` if it is called.
    pub fn calls(&self) -> Option<(SocketAddr, bool, Retry)> {
        match self {
            Self::Server(_) => None,
            Self::Client(client) => Some((client.server, client.stream, client.retry)),
            Self::Peer(peer) => peer.calls.map(|remote| (remote, peer.stream, peer.retry)),
        }
    }
}
