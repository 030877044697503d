//! What option lines say about servers, peers, scripts and the management interface.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use oxivpn_proto::config::server::Rate;

use super::Source;
use crate::profile::{Family, Protocol};
use crate::server::{ClientCert, VerifyVia};
use crate::warn::Origin;

/// A value and the line that gave it.
pub(crate) type At<T> = (T, Origin);

/// Which end of a TCP connection a `proto` word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `udp`, which has no ends.
    Both,
    /// `tcp` alone.
    Open,
    /// `tcp-client`.
    Client,
    /// `tcp-server`.
    Server,
}

/// A `proto` word.
#[derive(Clone, Debug)]
pub(crate) struct ProtocolWord {
    pub(crate) protocol: Protocol,
    pub(crate) family: Family,
    pub(crate) end: End,
}

/// `local`.
#[derive(Clone, Debug)]
pub(crate) struct LocalLine {
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: Option<u16>,
    pub(crate) protocol: Option<ProtocolWord>,
    pub(crate) origin: Origin,
}

/// `ifconfig-pool`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLine {
    pub(crate) first: Ipv4Addr,
    pub(crate) last: Ipv4Addr,
    pub(crate) netmask: Option<Ipv4Addr>,
}

/// `server`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerLine {
    pub(crate) network: Ipv4Addr,
    pub(crate) netmask: Ipv4Addr,
    pub(crate) no_pool: bool,
}

/// `auth-gen-token`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenLine {
    pub(crate) lifetime: Duration,
    pub(crate) renewal: Option<Duration>,
    pub(crate) external: bool,
}

/// Options of servers.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each option")]
pub(crate) struct ServerDraft {
    /// `client`.
    pub(crate) client: Option<Origin>,
    /// `mode server`.
    pub(crate) mode: Option<Origin>,
    pub(crate) tls_server: Option<Origin>,
    pub(crate) server: Option<At<ServerLine>>,
    pub(crate) server6: Option<At<(Ipv6Addr, u8)>>,
    /// `port` or `lport`.
    pub(crate) port: Option<u16>,
    pub(crate) locals: Vec<LocalLine>,
    pub(crate) protocol: Option<At<ProtocolWord>>,
    /// `tcp-server` anywhere.
    pub(crate) tcp_server: Option<At<String>>,
    pub(crate) pool: Option<At<PoolLine>>,
    pub(crate) pool6: Option<At<(Ipv6Addr, u8)>>,
    pub(crate) persist: Option<At<(String, Duration)>>,
    pub(crate) constraint: Option<Ipv4Net>,
    pub(crate) push: Vec<String>,
    pub(crate) client_config_dir: Option<At<String>>,
    pub(crate) ccd_exclusive: Option<Origin>,
    pub(crate) client_to_client: bool,
    pub(crate) duplicate_cn: bool,
    pub(crate) max_clients: usize,
    pub(crate) max_routes: usize,
    pub(crate) connect_freq: Option<At<Rate>>,
    pub(crate) connect_freq_initial: Rate,
    pub(crate) keepalive: Option<At<(u32, u32)>>,
    /// `ping`, `ping-restart`, `ping-exit`.
    pub(crate) ping: Option<Origin>,
    pub(crate) tcp_nodelay: bool,
    pub(crate) multihome: bool,
    pub(crate) queue_limit: usize,
    /// `None` is `auto`.
    pub(crate) workers: Option<usize>,
    pub(crate) force_cookie: bool,
    pub(crate) max_age: Option<Duration>,
    pub(crate) client_cert: Option<At<ClientCert>>,
    pub(crate) username_as_common_name: Option<Origin>,
    pub(crate) login_optional: Option<Origin>,
    pub(crate) token: Option<At<TokenLine>>,
    pub(crate) token_secret: Option<Source>,
    pub(crate) verify_via: VerifyVia,
    pub(crate) require_tls_ekm: bool,
    pub(crate) tmp_dir: Option<At<String>>,
    pub(crate) dh: Option<At<String>>,
}

impl Default for ServerDraft {
    fn default() -> Self {
        Self {
            client: None,
            mode: None,
            tls_server: None,
            server: None,
            server6: None,
            port: None,
            locals: Vec::new(),
            protocol: None,
            tcp_server: None,
            pool: None,
            pool6: None,
            persist: None,
            constraint: None,
            push: Vec::new(),
            client_config_dir: None,
            ccd_exclusive: None,
            client_to_client: false,
            duplicate_cn: false,
            max_clients: 1024,
            max_routes: 256,
            connect_freq: None,
            connect_freq_initial: Rate { events: 100, period: Duration::from_secs(10) },
            keepalive: None,
            ping: None,
            tcp_nodelay: false,
            multihome: false,
            queue_limit: 64,
            workers: Some(1),
            force_cookie: false,
            max_age: None,
            client_cert: None,
            username_as_common_name: None,
            login_optional: None,
            token: None,
            token_secret: None,
            verify_via: VerifyVia::File,
            require_tls_ekm: false,
            tmp_dir: None,
            dh: None,
        }
    }
}

/// Scripts by option name, each with its command line as written.
#[derive(Debug)]
pub(crate) struct ScriptDraft {
    pub(crate) security: u8,
    pub(crate) commands: BTreeMap<&'static str, At<String>>,
    pub(crate) down_pre: bool,
    pub(crate) up_restart: bool,
}

impl Default for ScriptDraft {
    fn default() -> Self {
        Self { security: 1, commands: BTreeMap::new(), down_pre: false, up_restart: false }
    }
}

/// `management` and what changes it.
#[derive(Debug, Default)]
pub(crate) struct ManagementDraft {
    /// Address, port or `unix`, password file.
    pub(crate) listen: Option<At<(String, String, Option<Source>)>>,
    /// The first line that means nothing without `management`.
    pub(crate) modifier: Option<Origin>,
    /// `management-client-user` or `-group`.
    pub(crate) restricted: Option<Origin>,
    /// All others, ready but for the address.
    pub(crate) options: crate::server::ManagementOptions,
}
