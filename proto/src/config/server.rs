//! What a server wants, and what it decides about one client.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use ipnet::IpNet;
use zeroize::Zeroizing;

use super::ChannelConfig;
use super::params::Framing;
use crate::tls::TlsFactory;
use crate::wrap::WrapConfig;
use crate::wrap::tls_crypt_v2::ServerKeyV2;

/// A server with many clients. Shared by reference: it doesn't change while sessions live by it.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// What every kind of session needs. `wrap` is none, tls-auth or tls-crypt.
    pub channel: ChannelConfig,
    /// tls-crypt-v2; accepted beside `channel.wrap` if that is tls-auth or tls-crypt, else demanded.
    pub tls_crypt_v2: Option<TlsCryptV2>,
    /// `max-clients`: sessions at one time, 1,024.
    pub max_clients: usize,
    /// `connect-freq-initial`: first packets that are answered, 100 in 10 s.
    pub initial_rate: Option<Rate>,
    /// `connect-freq`: sessions that are begun, unlimited.
    pub connect_rate: Option<Rate>,
    /// Whether clients must give user name and password.
    pub login: LoginPolicy,
    /// Ask the application about each login, also at renegotiations ([`Event::Login`](crate::Event::Login)).
    /// Without it a valid certificate is enough.
    pub ask_login: bool,
    /// Ask also if the login has a valid token: there is more to be looked at than the password.
    pub ask_with_token: bool,
    /// `username-as-common-name`.
    pub username_as_common_name: bool,
    /// `duplicate-cn`: several sessions under one common name.
    pub duplicate_cn: bool,
    /// `auth-gen-token`.
    pub token: Option<TokenConfig>,
    /// `force-tls-key-material-export`: refuse clients that can only do the PRF.
    pub require_tls_ekm: bool,
    /// `compress migrate`: clients whose configuration has a compression option are told to frame packets only, in the
    /// form that costs least of those they know.
    pub migrate_compression: bool,
}

impl ServerConfig {
    /// OpenVPN's defaults around the two things that have none.
    pub fn new(wrap: WrapConfig, tls: Arc<dyn TlsFactory>) -> Self {
        Self {
            channel: ChannelConfig { float: true, ..ChannelConfig::new(wrap, tls) },
            tls_crypt_v2: None,
            max_clients: 1024,
            initial_rate: Some(Rate { events: 100, period: Duration::from_secs(10) }),
            connect_rate: None,
            login: LoginPolicy::None,
            ask_login: false,
            ask_with_token: false,
            username_as_common_name: false,
            duplicate_cn: false,
            token: None,
            require_tls_ekm: false,
            migrate_compression: false,
        }
    }
}

/// `tls-crypt-v2` of a server.
#[derive(Clone)]
pub struct TlsCryptV2 {
    /// Unwraps the clients' keys.
    pub key: Arc<ServerKeyV2>,
    /// `force-cookie`: refuse clients that cannot send their key twice, for whom state must be kept after one
    /// packet.
    pub force_cookie: bool,
    /// `tls-crypt-v2-max-age`: refuse keys that are older than this, or bear no date.
    pub max_age: Option<Duration>,
}

impl fmt::Debug for TlsCryptV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsCryptV2")
            .field("force_cookie", &self.force_cookie)
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

/// So many events in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least 1.
    pub events: u32,
    /// In how long, more than zero.
    pub period: Duration,
}

/// Whether clients give user name and password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginPolicy {
    /// They are ignored.
    #[default]
    None,
    /// They are looked at if both are there (`auth-user-pass-optional`).
    Optional,
    /// They must be there.
    Required,
}

/// `auth-gen-token`.
#[derive(Clone)]
pub struct TokenConfig {
    /// Life of a token over all its renewals; `None` for no limit.
    pub lifetime: Option<Duration>,
    /// How often tokens are renewed; one that is older than twice this has expired.
    pub renewal: Duration,
    /// `external-auth`: ask the application even if the token is valid.
    pub external: bool,
    /// HMAC key: bytes 64 to 96 of `auth-gen-token-secret`, or random for each start of the program.
    pub secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for TokenConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenConfig")
            .field("lifetime", &self.lifetime)
            .field("renewal", &self.renewal)
            .field("external", &self.external)
            .finish_non_exhaustive()
    }
}

/// What one client gets, decided by the application when it has been authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// Options to push, in order, each as in a profile: addresses, routes, DNS, `ping`. The core adds what it
    /// negotiates itself (`peer-id`, `cipher`, `protocol-flags`, `tun-mtu`, `auth-token`).
    pub push: Vec<String>,
    /// Inner addresses of this client: packets to them go there, and only they may be sources of packets
    /// from there. Nothing else gets through.
    pub routes: Vec<IpNet>,
    /// `session-timeout` for this client.
    pub session_timeout: Option<Duration>,
    /// `inactive` for this client.
    pub inactive: Option<(Duration, u64)>,
    /// `override-username`: the name that counts in the place of the one that the client sends, also at renegotiations
    /// and in tokens. No effect on a server that asks nobody for names.
    pub username: Option<String>,
    /// `comp-lzo` or `compress` for this client. The client has to be told by `push`, unless it is configured so.
    pub framing: Option<Framing>,
}
