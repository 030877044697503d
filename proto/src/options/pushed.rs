//! Options that a server may push, typed; profile files share the ones that exist there too.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use zeroize::Zeroizing;

/// One pushed option.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pushed {
    /// `ifconfig LOCAL REMOTE-OR-MASK`.
    Ifconfig(Ipv4Addr, Ipv4Addr),
    /// `ifconfig-ipv6 LOCAL/BITS [REMOTE]`.
    IfconfigIpv6(Ipv6Addr, u8, Option<Ipv6Addr>),
    /// `topology`.
    Topology(Topology),
    /// `route`.
    Route(Route4),
    /// `route-ipv6`.
    RouteIpv6(Route6),
    /// `route-gateway ADDRESS`; `None` stands for `dhcp`.
    RouteGateway(Option<Ipv4Addr>),
    /// `route-ipv6-gateway`.
    RouteIpv6Gateway(Ipv6Addr),
    /// `route-metric`.
    RouteMetric(u32),
    /// `redirect-gateway` or, with `private`, `redirect-private`.
    RedirectGateway(RedirectFlags),
    /// `dhcp-option TYPE VALUE..`, as words.
    DhcpOption(Vec<String>),
    /// `dns ..`, as words.
    Dns(Vec<String>),
    /// `block-ipv6`.
    BlockIpv6,
    /// `block-outside-dns`.
    BlockOutsideDns,
    /// `ping`.
    Ping(Duration),
    /// `ping-restart`.
    PingRestart(Duration),
    /// `ping-exit`.
    PingExit(Duration),
    /// `inactive SECONDS [BYTES]`.
    Inactive(Duration, u64),
    /// `session-timeout`.
    SessionTimeout(Duration),
    /// `explicit-exit-notify [N]`.
    ExitNotify(u8),
    /// `tun-mtu`.
    TunMtu(u16),
    /// `peer-id`, -1 meaning none.
    PeerId(Option<u32>),
    /// `cipher`, as written.
    Cipher(String),
    /// `key-derivation tls-ekm`.
    KeyDerivationEkm,
    /// `protocol-flags`, as words.
    ProtocolFlags(Vec<String>),
    /// `auth-token`.
    AuthToken(Token),
    /// `auth-token-user`, decoded.
    AuthTokenUser(String),
    /// `sndbuf`.
    SendBuffer(u32),
    /// `rcvbuf`.
    ReceiveBuffer(u32),
    /// `comp-lzo` or `compress`: the whole line.
    Compression(Vec<String>),
    /// `setenv-safe NAME VALUE`.
    SetenvSafe(String, String),
    /// `echo` or `parameter`: text for user interfaces.
    Echo(String),
    /// Known, legal, and without meaning here (`persist-tun`, `register-dns`, `ping-timer-rem`, ...).
    NoEffect(String),
}

/// A session token; redacted when printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub Zeroizing<String>);

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// `topology`: how tunnel addresses are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Topology {
    /// A /30 for each client; what a client assumes if nothing is pushed.
    #[default]
    Net30,
    /// Point to point addresses.
    P2p,
    /// One subnet for all.
    Subnet,
}

/// Where a route goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gateway<A> {
    /// Left out or `default`: `route-gateway`, or the other end of the tunnel.
    #[default]
    Default,
    /// `vpn_gateway`.
    Vpn,
    /// `net_gateway`: the gateway that was there before.
    Net,
    /// `remote_host`: the server's address.
    RemoteHost,
    /// An address.
    Address(A),
}

/// `route NETWORK [NETMASK] [GATEWAY] [METRIC]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route4 {
    /// Network.
    pub network: Target,
    /// Netmask; all ones if left out.
    pub mask: Ipv4Addr,
    /// Gateway.
    pub gateway: Gateway<Ipv4Addr>,
    /// Metric; `route-metric` if left out.
    pub metric: Option<u32>,
}

/// What a `route` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(Ipv4Addr),
    /// `vpn_gateway`.
    VpnGateway,
    /// `net_gateway`.
    NetGateway,
    /// `remote_host`.
    RemoteHost,
    /// A host name; pushed ones need `allow-pull-fqdn`.
    Name(String),
}

/// `route-ipv6 NETWORK/BITS [GATEWAY] [METRIC]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route6 {
    /// Network.
    pub network: Ipv6Addr,
    /// Prefix length.
    pub bits: u8,
    /// Gateway.
    pub gateway: Gateway<Ipv6Addr>,
    /// Metric; `route-metric` if left out.
    pub metric: Option<u32>,
}

/// Flags of `redirect-gateway`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each word of the option")]
pub struct RedirectFlags {
    /// `redirect-private`: everything but the default route itself.
    pub private: bool,
    /// `def1`.
    pub def1: bool,
    /// `local`.
    pub local: bool,
    /// `autolocal`.
    pub autolocal: bool,
    /// `bypass-dhcp`.
    pub bypass_dhcp: bool,
    /// `bypass-dns`.
    pub bypass_dns: bool,
    /// `block-local`.
    pub block_local: bool,
    /// `ipv6`.
    pub ipv6: bool,
    /// `!ipv4`.
    pub not_ipv4: bool,
}
