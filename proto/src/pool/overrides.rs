//! What a file of `client-config-dir`, a `client-connect` script or the management interface says about one client.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::config::params::Framing;

/// Settings of one client, from one source. Several sources are applied in order: what a later one says replaces what
/// an earlier one said, and its routes and edits of the push list are added (`openvpn: multi.c`,
/// `multi_connection_established`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOverrides {
    /// `disable`: this client may not connect.
    pub disable: bool,
    /// `ifconfig-push`: a fixed IPv4 address instead of one of the pool.
    pub ifconfig_push: Option<IfconfigPush>,
    /// `ifconfig-ipv6-push`: a fixed IPv6 address.
    pub ifconfig_ipv6_push: Option<Ifconfig6Push>,
    /// `iroute`: networks behind this client.
    pub iroutes: Vec<Ipv4Net>,
    /// `iroute-ipv6`: the same for IPv6.
    pub iroutes6: Vec<Ipv6Net>,
    /// `push`, `push-remove`, `push-reset`, in order.
    pub push: Vec<PushEdit>,
    /// `session-timeout`; zero for none.
    pub session_timeout: Option<Duration>,
    /// `inactive`: how long, and how many bytes in that time count as activity. A zero time is for never.
    pub inactive: Option<(Duration, u64)>,
    /// `override-username`: the user name that counts from now on (2.7).
    pub override_username: Option<String>,
    /// `comp-lzo`, `compress`: compression framing of this side; the client's has to be pushed.
    pub framing: Option<Framing>,
}

/// `ifconfig-push LOCAL REMOTE-OR-NETMASK [ALIAS]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfconfigPush {
    /// Address of the client, as the server sees it.
    pub local: Ipv4Addr,
    /// With `topology subnet` the netmask, else the far end.
    pub remote_or_netmask: Ipv4Addr,
    /// What the client is told instead of `local`, if some device in between translates.
    pub alias: Option<Ipv4Addr>,
}

/// `ifconfig-ipv6-push LOCAL/BITS [REMOTE]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ifconfig6Push {
    /// Address of the client, with the prefix length of its link.
    pub local: Ipv6Net,
    /// The far end; the server's own IPv6 address if it isn't given.
    pub remote: Option<Ipv6Addr>,
}

/// A change of the list of pushed options for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEdit {
    /// `push TEXT`: added at the end.
    Add(String),
    /// `push-remove PREFIX`: what begins with this is not pushed. `ifconfig` and `ifconfig-ipv6` name the address of
    /// the client.
    Remove(String),
    /// `push-reset`: nothing is pushed of what came before, `topology` and `route-gateway` included; the client's
    /// addresses and what is negotiated stay.
    Reset,
}
