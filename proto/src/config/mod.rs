//! Configuration with every field typed and every combination legal.

pub mod cipher;
pub mod params;
pub mod server;

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::keys::data_key::TlsRole;
use crate::plane::Capabilities;
use crate::tls::TlsFactory;
use crate::wrap::WrapConfig;
use cipher::DataCipher;
use params::{Framing, ReplayWindow};

/// What holds for a whole node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// What the data plane can do.
    pub capabilities: Capabilities,
}

/// What every kind of session needs, whichever side it is.
#[derive(Clone)]
pub struct ChannelConfig {
    /// Protection of the control channel.
    pub wrap: WrapConfig,
    /// Makes TLS sessions.
    pub tls: Arc<dyn TlsFactory>,
    /// Allowed data channel ciphers, in order (`data-ciphers`).
    pub ciphers: Vec<DataCipher>,
    /// Cipher for a peer that cannot negotiate (`data-ciphers-fallback`).
    pub fallback: Option<DataCipher>,
    /// Name of the `auth` digest, for the options string; `SHA1` by default.
    pub auth_name: String,
    /// Timers of the control channel.
    pub timing: Timing,
    /// Keepalive; a client's may be changed by what is pushed.
    pub keepalive: Keepalive,
    /// Largest control packet with IP and UDP headers (`max-packet-size`), 154 to 2,048.
    pub max_packet_size: u16,
    /// Compression framing (`comp-lzo`, `compress`); a client's may be changed by what is pushed, a server's for one
    /// client by what is decided about it.
    pub framing: Framing,
    /// Window for control and data packets.
    pub replay: ReplayWindow,
    /// What we tell about ourselves.
    pub peer_info: PeerInfo,
    /// Inner MTU (`tun-mtu`).
    pub tun_mtu: u16,
    /// TCP MSS clamp.
    pub mssfix: Mssfix,
    /// `explicit-exit-notify`: how long to announce leaving, in seconds. UDP only.
    pub exit_notify: Option<u8>,
    /// `float`: follow the peer when authenticated packets come from another address.
    pub float: bool,
}

impl fmt::Debug for ChannelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelConfig")
            .field("wrap", &self.wrap)
            .field("ciphers", &self.ciphers)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

impl ChannelConfig {
    /// OpenVPN's defaults around the two things that have none.
    pub fn new(wrap: WrapConfig, tls: Arc<dyn TlsFactory>) -> Self {
        Self {
            wrap,
            tls,
            ciphers: vec![DataCipher::Aes256Gcm, DataCipher::Aes128Gcm, DataCipher::ChaCha20Poly1305],
            fallback: None,
            auth_name: "SHA1".into(),
            timing: Timing::default(),
            keepalive: Keepalive::default(),
            max_packet_size: 1250,
            framing: Framing::None,
            replay: ReplayWindow::DEFAULT,
            peer_info: PeerInfo::default(),
            tun_mtu: 1500,
            mssfix: Mssfix::Default,
            exit_notify: None,
            float: false,
        }
    }
}

/// What a client wants of one connection. Shared by reference: it doesn't change.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What every kind of session needs.
    pub channel: ChannelConfig,
    /// How pushed options are filtered.
    pub pull: PullPolicy,
    /// Largest MTU a server may push (`tun-mtu-max`).
    pub tun_mtu_max: u16,
    /// Whether a server may push an algorithm (`comp-lzo yes`, `compress lz4`) and not only framing, as with
    /// `allow-compression asym`. Packets are framed for it then, and those that are compressed are dropped.
    pub allow_compression: bool,
}

impl ClientConfig {
    /// OpenVPN's defaults around the two things that have none.
    pub fn new(wrap: WrapConfig, tls: Arc<dyn TlsFactory>) -> Self {
        let channel = ChannelConfig::new(wrap, tls);
        Self { channel, pull: PullPolicy::default(), tun_mtu_max: 1600, allow_compression: false }
    }
}

/// One end of a point-to-point tunnel: TLS without `pull` and without `mode server`.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// What every kind of session needs.
    pub channel: ChannelConfig,
    /// `tls-client` or `tls-server`.
    pub role: TlsRole,
    /// Keys of a `tls-server` for clients with tls-crypt-v2, as in [`ServerConfig`](server::ServerConfig).
    pub tls_crypt_v2: Option<server::TlsCryptV2>,
    /// The only address that a `tls-server` answers to; `None` for any (no `remote`, or `float`).
    pub remote: Option<SocketAddr>,
}

/// User name and password, or a session token in place of the password.
#[derive(Clone)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: Zeroizing<String>,
    /// Whether the password is a token that the server gave (`auth-token`).
    pub is_token: bool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}

/// Timers of the control channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `hand-window`: time for one key negotiation, 60 s.
    pub hand_window: Duration,
    /// `tran-window`: life of an old key, 3,600 s.
    pub tran_window: Duration,
    /// `tls-timeout`: first retransmission, 2 s.
    pub tls_timeout: Duration,
    /// `server-poll-timeout`: time for the first answer, 120 s.
    pub server_poll: Duration,
    /// `reneg-sec`: zero means never on our own, 3,600 s.
    pub reneg: Duration,
    /// Second argument of `reneg-sec`: the earliest time, drawn at random up to `reneg`.
    pub reneg_min: Option<Duration>,
    /// `reneg-bytes`; 0 means no limit.
    pub reneg_bytes: u64,
    /// `reneg-pkts`; 0 means no limit.
    pub reneg_packets: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            hand_window: Duration::from_secs(60),
            tran_window: Duration::from_secs(3600),
            tls_timeout: Duration::from_secs(2),
            server_poll: Duration::from_secs(120),
            reneg: Duration::from_secs(3600),
            reneg_min: None,
            reneg_bytes: 0,
            reneg_packets: 0,
        }
    }
}

/// Ping settings; zero or `None` means off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// `ping`: send one after this time without sending.
    pub ping: Option<Duration>,
    /// `ping-restart` or `ping-exit`: give up after this time without receiving.
    pub timeout: Option<PingTimeout>,
    /// `inactive`: leave after this time with less than so many bytes of tunnel data.
    pub inactive: Option<(Duration, u64)>,
    /// `session-timeout`: leave after this time.
    pub session: Option<Duration>,
}

/// What to do when nothing arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingTimeout {
    /// `ping-restart`; zero switches the default of 120 s off.
    Restart(Duration),
    /// `ping-exit`.
    Exit(Duration),
}

/// `pull-filter` and `route-nopull`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullPolicy {
    /// Filters in order; the first whose text is a prefix of the option decides.
    pub filters: Vec<(FilterAction, String)>,
    /// Ignore pushed routes and DNS settings.
    pub no_routes: bool,
}

/// What a matching `pull-filter` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterAction {
    /// Take the option.
    Accept,
    /// Drop the option.
    Ignore,
    /// Give the connection up.
    Reject,
}

/// What is told to the server about this program (`IV_*`, `UV_*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerInfo {
    /// `IV_VER`.
    pub version: String,
    /// `IV_PLAT`: linux, win, mac, ...
    pub platform: String,
    /// Further lines without newline (`IV_GUI_VER=..`, `UV_X=..`); names are checked by the caller.
    pub extra: Vec<(String, String)>,
}

/// `mssfix`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mssfix {
    /// OpenVPN 2.6's default: 1492 with outer headers for a `tun-mtu` of 1500, else fixed at `tun-mtu`.
    #[default]
    Default,
    /// `mssfix 0`.
    Off,
    /// `mssfix N`: size without outer IP and UDP headers.
    Link(u16),
    /// `mssfix N mtu`: size with them.
    Mtu(u16),
    /// `mssfix N fixed`: size of the inner packet.
    Fixed(u16),
}
