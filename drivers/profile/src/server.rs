//! What only servers and point-to-point tunnels have.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::path::PathBuf;

use ipnet::{Ipv4Net, Ipv6Net};
use oxivpn_proto::config::server::{LoginPolicy, Rate, TlsCryptV2};
use oxivpn_proto::options::pushed::Topology;
use oxivpn_proto::tls::rustls::ClientCertMode;
use oxivpn_proto::wrap::WrapConfig;
use zeroize::Zeroizing;

use crate::profile::{Family, Protocol};
use crate::warn::Origin;

/// Which of the three a profile describes.
#[derive(Clone, Debug)]
pub enum Role {
    /// `client`, or `tls-client` with `pull`.
    Client,
    /// `mode server`, which `server` implies.
    Server(Box<ServerOptions>),
    /// `tls-client` or `tls-server` without either.
    Peer(PeerOptions),
}

/// A point-to-point tunnel. A `tls-client` has remotes; a `tls-server` may have one, which is then the only address
/// that it talks to.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// `tls-server` rather than `tls-client`.
    pub server: bool,
    /// Where to listen; also where the packets of a UDP `tls-client` leave from. Empty with `nobind`, and for TCP
    /// unless it is `tcp-server`.
    pub listen: Vec<Listen>,
    /// Protection of the control channel.
    pub wrap: WrapConfig,
    /// `tls-crypt-v2` of a `tls-server`.
    pub tls_crypt_v2: Option<TlsCryptV2>,
    /// `tun-mtu`.
    pub tun_mtu: u16,
    /// `mssfix`.
    pub mssfix: oxivpn_proto::config::Mssfix,
    /// `max-packet-size`.
    pub max_packet_size: u16,
    /// `explicit-exit-notify`; always `None` for TCP.
    pub exit_notify: Option<u8>,
    /// `float`: any address may be the other side's if its packets are authentic.
    pub float: bool,
}

/// A server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// `local`, `port`, `proto`: one or more sockets.
    pub listen: Vec<Listen>,
    /// `multihome`: answers leave from the address that was asked.
    pub multihome: bool,
    /// `tls-auth`, `tls-crypt` or none.
    pub wrap: WrapConfig,
    /// `tls-crypt-v2`.
    pub tls_crypt_v2: Option<TlsCryptV2>,
    /// `tls-crypt-v2-verify`: command line.
    pub tls_crypt_v2_verify: Option<Vec<String>>,
    /// `max-packet-size`.
    pub max_packet_size: u16,
    /// `tun-mtu`.
    pub tun_mtu: u16,
    /// `mssfix`.
    pub mssfix: oxivpn_proto::config::Mssfix,
    /// `topology`; `net30` if none is given, as OpenVPN 2.6 has it.
    pub topology: Topology,
    /// `server`, resolved to a pool; or `ifconfig-pool`.
    pub pool: Option<Pool4>,
    /// `server-ipv6` or `ifconfig-ipv6-pool`: first address and prefix length.
    pub pool6: Option<Ipv6Net>,
    /// `ifconfig-pool-persist`: file, and how often it is written; zero means it is only read.
    pub pool_persist: Option<(PathBuf, Duration)>,
    /// `ifconfig-push-constraint`, or the network of `server` with `topology subnet`: what `ifconfig-push` may give.
    pub push_constraint: Option<Ipv4Net>,
    /// `push`, in order, with what `server`, `server-ipv6` and `keepalive` add.
    pub push: Vec<String>,
    /// `client-config-dir`; with `chroot` as it is called in there.
    pub client_config_dir: Option<PathBuf>,
    /// `ccd-exclusive`.
    pub ccd_exclusive: bool,
    /// `client-to-client`.
    pub client_to_client: bool,
    /// `duplicate-cn`.
    pub duplicate_cn: bool,
    /// `max-clients`.
    pub max_clients: usize,
    /// `max-routes-per-client`.
    pub max_routes_per_client: usize,
    /// `connect-freq`.
    pub connect_freq: Option<Rate>,
    /// `connect-freq-initial`.
    pub connect_freq_initial: Option<Rate>,
    /// Whether clients give user name and password.
    pub login: LoginPolicy,
    /// `username-as-common-name`.
    pub username_as_common_name: bool,
    /// `verify-client-cert`.
    pub client_cert: ClientCert,
    /// `auth-gen-token`.
    pub token: Option<TokenOptions>,
    /// `auth-user-pass-verify`: command line, and how the password gets there.
    pub auth_verify: Option<(Vec<String>, VerifyVia)>,
    /// `client-connect`, `client-disconnect`, `client-crresponse`, `learn-address`: command lines.
    pub client_connect: Option<Vec<String>>,
    /// As above.
    pub client_disconnect: Option<Vec<String>>,
    /// As above.
    pub client_crresponse: Option<Vec<String>>,
    /// As above.
    pub learn_address: Option<Vec<String>>,
    /// `tmp-dir`; with `chroot` as it is called in there. The system's directory if none is given.
    pub tmp_dir: PathBuf,
    /// `force-tls-key-material-export`.
    pub require_tls_ekm: bool,
    /// `tcp-queue-limit`: packets that wait for a slow TCP client.
    pub tcp_queue_limit: usize,
    /// `explicit-exit-notify`: 1 tells clients to come back when the server ends, 2 to go to the next server.
    pub exit_notify: u8,
    /// `route-gateway`.
    pub route_gateway: Option<Ipv4Addr>,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `None` is any address.
    pub address: Option<IpAddr>,
    /// Port; 0 lets the system choose.
    pub port: u16,
    /// UDP or TCP.
    pub protocol: Protocol,
    /// `Any` without address means dual stack.
    pub family: Family,
    /// `bind ipv6only`.
    pub ipv6_only: bool,
    /// The line that named it.
    pub origin: Origin,
}

/// `ifconfig-pool FIRST LAST [NETMASK]`, inclusive. With net30 the range is of whole /30 networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool4 {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address.
    pub last: Ipv4Addr,
    /// Network of the tunnel; with `topology subnet` clients get its mask.
    pub network: Ipv4Net,
    /// Our own address in it.
    pub own: Ipv4Addr,
}

/// `verify-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCert {
    /// Clients need a certificate.
    #[default]
    Require,
    /// It is checked if there is one.
    Optional,
    /// None is asked for.
    None,
}

impl From<ClientCert> for ClientCertMode {
    fn from(mode: ClientCert) -> Self {
        match mode {
            ClientCert::Require => Self::Require,
            ClientCert::Optional => Self::Optional,
            ClientCert::None => Self::None,
        }
    }
}

/// `auth-gen-token` and `auth-gen-token-secret`.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    /// Life over all renewals.
    pub lifetime: Option<Duration>,
    /// How often it is renewed.
    pub renewal: Duration,
    /// `external-auth`.
    pub external: bool,
    /// HMAC key of the file; `None` draws one at start.
    pub secret: Option<Zeroizing<[u8; 32]>>,
}

/// Second word of `auth-user-pass-verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyVia {
    /// Environment; needs `script-security 3`.
    Env,
    /// A temporary file whose name is the last argument.
    File,
}

/// Scripts of clients, servers and peers alike; each is a command line, program first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptOptions {
    /// `script-security`, 0 to 3; 1 by default.
    pub security: u8,
    /// `up`.
    pub up: Option<Vec<String>>,
    /// `down`.
    pub down: Option<Vec<String>>,
    /// `down-pre`.
    pub down_pre: bool,
    /// `up-restart`.
    pub up_restart: bool,
    /// `route-up`.
    pub route_up: Option<Vec<String>>,
    /// `route-pre-down`.
    pub route_pre_down: Option<Vec<String>>,
    /// `ipchange`.
    pub ipchange: Option<Vec<String>>,
    /// `tls-verify`.
    pub tls_verify: Option<Vec<String>>,
}

/// The management interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each option")]
pub struct ManagementOptions {
    /// Where it listens.
    pub listen: ManagementAddress,
    /// `management-client`: connect there instead.
    pub connect: bool,
    /// Third word of `management`: what must be typed first.
    pub password: Option<Zeroizing<String>>,
    /// `management-query-passwords`.
    pub query_passwords: bool,
    /// `management-hold`.
    pub hold: bool,
    /// `management-signal`.
    pub signal: bool,
    /// `management-forget-disconnect`.
    pub forget_disconnect: bool,
    /// `management-client-auth`.
    pub client_auth: bool,
    /// `management-up-down`.
    pub up_down: bool,
    /// `management-log-cache`: lines kept, 250.
    pub log_cache: usize,
    /// `management-client-user`, `management-client-group`.
    pub client_user: Option<String>,
    /// As above.
    pub client_group: Option<String>,
}

/// Address of the management interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagementAddress {
    /// TCP.
    Tcp(IpAddr, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl Default for ManagementAddress {
    fn default() -> Self {
        Self::Tcp(IpAddr::V6(Ipv6Addr::LOCALHOST), 0)
    }
}

/// `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusOptions {
    /// File.
    pub path: PathBuf,
    /// How often it is written, 60 s.
    pub every: Duration,
    /// `status-version`, 1 to 3.
    pub version: u8,
}
