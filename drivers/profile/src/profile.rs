//! A profile as the program uses it: checked, complete, with OpenVPN's defaults filled in.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::path::{Path, PathBuf};

use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::{Framing, ReplayWindow};
use oxivpn_proto::config::{Keepalive, Mssfix, PullPolicy, Timing};
use oxivpn_proto::gremlin::Mask;
use oxivpn_proto::options::pushed::{RedirectFlags, Route4, Route6, Topology};
use oxivpn_proto::plane::Capabilities;
use oxivpn_proto::tls::rustls::TlsVersion;
use oxivpn_proto::tls::verify::PeerRules;
use oxivpn_proto::wrap::WrapConfig;
use zeroize::Zeroizing;

use crate::error::ProfileError;
use crate::finish::finish;
use crate::grammar::Lines;
use crate::keys;
use crate::load::{Files, reason};
use crate::reader::{Flow, Reader};
use crate::server::{ManagementOptions, Role, ScriptOptions, StatusOptions};
use crate::warn::{Origin, Warning};

/// Everything that a client, a server or a point-to-point peer needs to know.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Client, server or point-to-point peer.
    pub role: Role,
    /// Servers in the order written; at least one for a client.
    pub remotes: Vec<Remote>,
    /// How to go through them.
    pub retry: RetryPolicy,
    /// Where packets come from and go to.
    pub device: Device,
    /// The outer socket.
    pub socket: SocketOptions,
    /// User name and password.
    pub auth: AuthOptions,
    /// Addresses and routes.
    pub host: HostOptions,
    /// Logging.
    pub log: LogOptions,
    /// The process.
    pub process: ProcessOptions,
    /// Data channel and control channel settings that hold for all remotes.
    pub tunnel: TunnelOptions,
    /// Certificates and key.
    pub tls: TlsMaterial,
    /// `workers`, an option of this program alone: threads that move packets at most, one if the profile does not say; a
    /// client or peer has one for each direction at most. `None` is `auto`: as many as the host has processors.
    pub workers: Option<usize>,
    /// Scripts that clients, servers and peers have.
    pub scripts: ScriptOptions,
    /// `management`.
    pub management: Option<ManagementOptions>,
    /// `status`.
    pub status: Option<StatusOptions>,
    /// What was ignored or looks unsafe, in the order found.
    pub warnings: Vec<Warning>,
}

/// One server to try, with all that a `<connection>` block may set already resolved.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port, 1,194 if none is given.
    pub port: u16,
    /// UDP or TCP.
    pub protocol: Protocol,
    /// Which addresses of the host to use.
    pub family: Family,
    /// Local address and port to bind to; `None` leaves both to the system (`nobind`).
    pub bind: Option<Bind>,
    /// `server-poll-timeout`: give up on this address after so long without an answer, 120 s.
    pub poll_timeout: Duration,
    /// `connect-retry`: wait before the next attempt, 1 s, doubled with each round of all remotes ...
    pub retry_wait: Duration,
    /// ... up to this, 300 s.
    pub retry_wait_max: Duration,
    /// Protection of the control channel.
    pub wrap: WrapConfig,
    /// `tun-mtu`, 1,500.
    pub tun_mtu: u16,
    /// `tun-mtu-max`, 1,600 or `tun_mtu` if that is larger.
    pub tun_mtu_max: u16,
    /// `mssfix`.
    pub mssfix: Mssfix,
    /// `max-packet-size`, 1,250.
    pub max_packet_size: u16,
    /// `explicit-exit-notify`; always `None` for TCP.
    pub exit_notify: Option<u8>,
    /// `float`.
    pub float: bool,
    /// The line that named it.
    pub origin: Origin,
}

/// Outer transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// UDP.
    #[default]
    Udp,
    /// TCP as client.
    Tcp,
}

/// Address family of the outer transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Whatever the name resolves to (`udp`, `tcp-client`).
    #[default]
    Any,
    /// IPv4 only (`udp4`, ...).
    V4,
    /// IPv6 only (`udp6`, ...).
    V6,
}

/// `local`, `lport`, `bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Local address; `None` for any.
    pub address: Option<IpAddr>,
    /// Local port; 0 lets the system choose.
    pub port: u16,
    /// `bind ipv6only`.
    pub ipv6_only: bool,
}

/// How to go through the remotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// `remote-random`: shuffle the list first.
    pub shuffle: bool,
    /// `remote-random-hostname`: put a random label in front of each host name.
    pub random_hostname: bool,
    /// `resolv-retry`: how long to go on resolving a name; `None` for ever.
    pub resolve: Option<Duration>,
    /// `connect-retry-max`: how many times to go through the whole list; `None` for ever.
    pub rounds: Option<u32>,
    /// `persist-remote-ip`: use the address found before again after a restart by `USR1`.
    pub keep_address: bool,
}

/// Where packets come from and go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Which device.
    pub kind: DeviceKind,
    /// `txqueuelen`.
    pub queue_len: Option<u32>,
    /// `persist-tun`: keep the device over restarts by `USR1`.
    pub persist: bool,
}

/// Kind of device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A TUN device with this name, or with a free `tunN` (`dev tun`).
    Tun(Option<String>),
    /// An open TUN descriptor, by number (`dev fd:5`).
    Descriptor(i32),
    /// No device: packets are thrown away (`dev null`).
    Null,
}

/// The outer socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// `sndbuf` in bytes; `None` leaves the system's default.
    pub send_buffer: Option<u32>,
    /// `rcvbuf` in bytes.
    pub receive_buffer: Option<u32>,
    /// `mark`: Linux firewall mark.
    pub mark: Option<u32>,
    /// `bind-dev`: interface or VRF.
    pub bind_device: Option<String>,
    /// `socket-flags TCP_NODELAY`.
    pub tcp_nodelay: bool,
}

/// User name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthOptions {
    /// Where they come from.
    pub source: CredentialSource,
    /// `auth-nocache`: ask again for each connection.
    pub no_cache: bool,
    /// `auth-retry`.
    pub retry: AuthRetry,
    /// `static-challenge`: something more to ask for, each time.
    pub challenge: Option<StaticChallenge>,
}

/// A question that goes with the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticChallenge {
    /// What to ask.
    pub text: String,
    /// Whether the answer may be seen while it is typed.
    pub echo: bool,
    /// Whether the answer follows the password without more ado, rather than in base64 after `SCRV1`.
    pub concat: bool,
}

/// Where user name and password come from.
#[derive(Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// Not asked for.
    None,
    /// The terminal (`auth-user-pass` alone).
    Prompt,
    /// A file or an inline block.
    Given {
        /// User name.
        username: String,
        /// Password; `None` if the file has only one line: ask for it.
        password: Option<Zeroizing<String>>,
    },
}

impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Prompt => "Prompt",
            Self::Given { .. } => "Given([redacted])",
        })
    }
}

/// `auth-retry`: what to do after AUTH_FAILED.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthRetry {
    /// Leave.
    #[default]
    None,
    /// Try again with the same.
    NoInteract,
    /// Ask again.
    Interact,
}

/// Addresses and routes that the profile itself wants; pushed ones come on top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostOptions {
    /// `ifconfig LOCAL REMOTE-OR-MASK`.
    pub ifconfig: Option<(Ipv4Addr, Ipv4Addr)>,
    /// `ifconfig-ipv6 LOCAL/BITS [REMOTE]`.
    pub ifconfig_ipv6: Option<(Ipv6Addr, u8, Option<Ipv6Addr>)>,
    /// `ifconfig-noexec`: do not set addresses.
    pub no_addresses: bool,
    /// `topology`; `None` for the default, which is net30.
    pub topology: Option<Topology>,
    /// `route`, in order.
    pub routes: Vec<Route4>,
    /// `route-ipv6`, in order.
    pub routes6: Vec<Route6>,
    /// `route-gateway ADDRESS`.
    pub route_gateway: Option<Ipv4Addr>,
    /// `route-ipv6-gateway`.
    pub route_ipv6_gateway: Option<Ipv6Addr>,
    /// `route-metric`.
    pub route_metric: Option<u32>,
    /// `route-delay`: wait after connecting before routes are set.
    pub route_delay: Option<Duration>,
    /// `route-noexec`: do not set routes.
    pub no_routes: bool,
    /// `redirect-gateway` or `redirect-private`.
    pub redirect: Option<RedirectFlags>,
    /// `block-ipv6`.
    pub block_ipv6: bool,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// `verb`, 0 to 11; 1 by default.
    pub verbosity: u8,
    /// `mute`: at most so many messages of one category in a row; 0 for no limit.
    pub mute: u32,
    /// `suppress-timestamps`.
    pub no_timestamps: bool,
    /// `machine-readable-output`.
    pub machine_readable: bool,
    /// `log` or `log-append`.
    pub file: Option<LogFile>,
    /// `mute-replay-warnings`.
    pub mute_replay: bool,
}

/// `log` or `log-append`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Path, relative ones already joined with `cd`.
    pub path: PathBuf,
    /// Append rather than truncate.
    pub append: bool,
}

/// The process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessOptions {
    /// `cd`: working directory. All paths of the profile are already resolved against it.
    pub directory: Option<PathBuf>,
    /// `writepid`.
    pub pid_file: Option<PathBuf>,
    /// `nice`: scheduling priority, -20 to 19.
    pub nice: Option<i32>,
    /// `remap-usr1`: what an internal restart becomes.
    pub remap_usr1: Option<RestartAs>,
    /// `tls-exit`: leave when TLS negotiation fails.
    pub tls_exit: bool,
    /// `daemon`: go to the background and log to syslog under this name, unless `log` says otherwise.
    pub daemon: Option<String>,
    /// `syslog`: log to syslog under this name.
    pub syslog: Option<String>,
    /// `user`: become this user once the sockets and the device are open.
    pub user: Option<String>,
    /// `group`.
    pub group: Option<String>,
    /// `chroot`: after start.
    pub chroot: Option<PathBuf>,
    /// `setenv` and `setenv-safe` (whose names get the prefix `OPENVPN_`), in order.
    pub environment: Vec<(String, String)>,
    /// `gremlin`: faults at random, for tests.
    pub gremlin: Option<GremlinOptions>,
    /// `data-format`: the newest framing of data packets that is offered to the other side.
    pub data_format: NewestFormat,
    /// `ecn off`, an option of our own: congestion marks stay inside, and those outside are lost (RFC 6040,
    /// compatibility mode). Otherwise they are passed on if the other side does so too.
    pub without_ecn: bool,
}

/// `data-format`, an option of our own: for networks that mistake a newer framing, and to compare them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewestFormat {
    /// `v1`: P_DATA_V1, without peer-id, so that a client can't change its address.
    V1,
    /// `v2`: P_DATA_V2.
    V2,
    /// `epoch`: whatever both sides know.
    #[default]
    Epoch,
}

impl NewestFormat {
    /// What is left of a plane's capabilities.
    #[must_use]
    pub const fn narrow(self, capabilities: Capabilities) -> Capabilities {
        let Capabilities { epoch, data_v2, asymmetric_ids, .. } = capabilities;
        let (may_v2, may_epoch) = match self {
            Self::V1 => (false, false),
            Self::V2 => (true, false),
            Self::Epoch => (true, true),
        };
        Capabilities {
            epoch: epoch && may_epoch,
            data_v2: data_v2 && may_v2,
            asymmetric_ids: asymmetric_ids && may_v2,
            ..capabilities
        }
    }
}

/// `gremlin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GremlinOptions {
    /// Which faults; not empty.
    pub mask: Mask,
    /// Makes the faults those of another run; an addition of our own. `None`: to be drawn.
    pub seed: Option<u64>,
}

impl ProcessOptions {
    /// What `data-format` and `ecn` leave of a plane's capabilities.
    #[must_use]
    pub const fn narrow(&self, capabilities: Capabilities) -> Capabilities {
        let capabilities = self.data_format.narrow(capabilities);
        Capabilities { ecn: capabilities.ecn && !self.without_ecn, ..capabilities }
    }

    /// Where a path that is used after `chroot` lies until then; the same without `chroot`.
    pub fn before_chroot(&self, path: &Path) -> PathBuf {
        match &self.chroot {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.into(),
        }
    }
}

/// `remap-usr1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartAs {
    /// SIGHUP: read the profile again.
    Hup,
    /// SIGTERM: leave.
    Term,
}

/// Settings of the protocol that hold for all remotes.
#[derive(Clone, Debug)]
pub struct TunnelOptions {
    /// `data-ciphers`, in order.
    pub ciphers: Vec<DataCipher>,
    /// `data-ciphers-fallback`.
    pub fallback: Option<DataCipher>,
    /// `auth`, canonical name.
    pub auth_name: String,
    /// `comp-lzo`, `compress`, `allow-compression`.
    pub compression: CompressionOptions,
    /// Timers; `server_poll` is the first remote's.
    pub timing: Timing,
    /// Keepalive before anything is pushed.
    pub keepalive: Keepalive,
    /// `replay-window`.
    pub replay: ReplayWindow,
    /// `pull-filter`, `route-nopull`.
    pub pull: PullPolicy,
    /// `push-peer-info`: tell the server more about this machine.
    pub push_peer_info: bool,
    /// `IV_GUI_VER`, `IV_SSO` and, with `push-peer-info`, `UV_*` of `setenv`.
    pub peer_info: Vec<(String, String)>,
}

/// `comp-lzo`, `compress`, `allow-compression`. Nothing is ever compressed or decompressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompressionOptions {
    /// How data packets are framed.
    pub framing: Framing,
    /// Whether a server may push an algorithm; packets that it compresses are dropped.
    pub allow: bool,
    /// `compress migrate`: a server gets its clients off compression.
    pub migrate: bool,
}

/// Certificates and key, in DER, and what is demanded of the server.
#[derive(Clone)]
pub struct TlsMaterial {
    /// `ca`.
    pub ca: Vec<Vec<u8>>,
    /// `cert`, leaf first, and `extra-certs`.
    pub certs: Vec<Vec<u8>>,
    /// `key`.
    pub key: PrivateKey,
    /// `askpass FILE`.
    pub passphrase: Option<Zeroizing<String>>,
    /// What the server's certificate must fulfil.
    pub rules: PeerRules,
    /// Where `crl-verify` found what is revoked, unless it stands in the profile itself.
    pub revocation: Option<RevocationSource>,
    /// `tls-version-min`.
    pub min_version: TlsVersion,
    /// `tls-version-max`.
    pub max_version: TlsVersion,
    /// `tls-cipher`.
    pub suites12: Vec<String>,
    /// `tls-ciphersuites`.
    pub suites13: Vec<String>,
    /// `tls-groups`.
    pub groups: Vec<String>,
}

/// What `crl-verify` names; a server reads it again when it has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationSource {
    /// A file with lists in PEM, or a directory with files named after serial numbers.
    pub path: PathBuf,
    /// It is a directory.
    pub directory: bool,
}

impl RevocationSource {
    /// The lists in DER, and the serial numbers.
    pub fn read(&self, files: &dyn Files) -> Result<(Vec<Vec<u8>>, Vec<String>), ProfileError> {
        let refused = |why: String, cure: &str| {
            ProfileError::whole(format!("crl-verify: {}: {why}", self.path.display()), cure)
        };
        let unreadable = |error| {
            let (why, cure) = reason(&error);
            refused(why, cure)
        };
        if self.directory {
            let names = files.list(&self.path).map_err(unreadable)?;
            return Ok((Vec::new(), keys::serials(names)));
        }
        let bytes = files.read(&self.path).map_err(unreadable)?;
        let lists = keys::revocation_lists(&String::from_utf8_lossy(&bytes));
        Ok((lists.map_err(|(why, cure)| refused(why, &cure))?, Vec::new()))
    }
}

/// `key`.
#[derive(Clone)]
pub enum PrivateKey {
    /// None given.
    None,
    /// PKCS#8, PKCS#1 or SEC1 DER.
    Plain(Zeroizing<Vec<u8>>),
    /// Encrypted PKCS#8 DER.
    Encrypted(Zeroizing<Vec<u8>>),
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("ca", &self.ca.len())
            .field("certs", &self.certs.len())
            .field("key", &self.key)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Plain(_) => "Plain([redacted])",
            Self::Encrypted(_) => "Encrypted([redacted])",
        })
    }
}

impl Profile {
    /// Reads a profile from memory. `name` stands in messages as the file's name; files that the profile
    /// names are read by `files`, relative to the current directory or `cd`, as OpenVPN does.
    pub fn from_text(name: &str, text: &str, files: &dyn Files) -> Result<Self, ProfileError> {
        let mut reader = Reader::new(files);
        match reader.text(Lines::new(name, text), 1) {
            Ok(Flow::Next) => finish(reader.draft, files),
            Ok(Flow::Help | Flow::Version) => {
                Err(ProfileError::whole("`help` and `version` belong to the command line", "Remove the line"))
            }
            Err(error) => Err(ProfileError { warnings: reader.draft.warnings, ..error }),
        }
    }
}
