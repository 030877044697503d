use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

/// The VPN options that concern the host, as pushed by the server or given locally. Pure input of
/// [`build`](super::build()).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VpnOptions {
    /// `ifconfig`.
    pub ifconfig: Option<Ifconfig>,
    /// `ifconfig-ipv6`.
    pub ifconfig6: Option<Ifconfig6>,
    /// `topology`. It decides what the second word of `ifconfig` means.
    pub topology: Topology,
    /// `tun-mtu` in bytes.
    pub mtu: Option<u32>,
    /// `txqueuelen` in packets.
    pub txqueuelen: Option<u32>,
    /// `route`, in the order given.
    pub routes: Vec<RouteOption>,
    /// `route-ipv6`, in the order given.
    pub routes6: Vec<RouteOption6>,
    /// `route-gateway`: what `vpn_gateway` stands for, in place of the far end of `ifconfig`.
    pub route_gateway: Option<Ipv4Addr>,
    /// `route-metric`: for routes without a metric of their own. 0 counts as unset, as OpenVPN has it.
    pub route_metric: Option<u32>,
    /// `route-table`: for routes without a table of their own.
    pub route_table: Option<u32>,
    /// `redirect-gateway`, `redirect-private`; `None` if neither is given.
    pub redirect: Option<Redirect>,
    /// The kernel's name of the tunnel's interface.
    pub interface: String,
}

/// `ifconfig local second`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ifconfig {
    /// Our address in the tunnel.
    pub local: Ipv4Addr,
    /// The netmask with [`Topology::Subnet`], else the far end's address.
    pub remote_or_mask: Ipv4Addr,
}

/// `ifconfig-ipv6 local/prefix remote`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ifconfig6 {
    /// Our address in the tunnel.
    pub local: Ipv6Addr,
    /// Prefix length of the on-link network.
    pub prefix: u8,
    /// The far end's address; of no use on a layer-3 device, where routes need no gateway.
    pub remote: Option<Ipv6Addr>,
}

/// `topology`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Topology {
    /// Each client has a /30 of its own. OpenVPN's default until a server pushes something else.
    #[default]
    Net30,
    /// Point to point.
    P2p,
    /// All in one subnet.
    Subnet,
}

/// The gateway word of `route`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteGateway {
    /// Nothing, `default` or `vpn_gateway`: the tunnel's far end.
    #[default]
    Vpn,
    /// `net_gateway`: the default gateway outside the tunnel.
    Net,
    /// `remote_host`: the VPN server's own address.
    RemoteHost,
    /// An address.
    Addr(Ipv4Addr),
}

/// `route network netmask gateway metric`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteOption {
    /// Network address; host bits are cleared.
    pub network: Ipv4Addr,
    /// Netmask; 255.255.255.255 if none was given.
    pub netmask: Ipv4Addr,
    /// Gateway.
    pub gateway: RouteGateway,
    /// Metric; `None` takes [`VpnOptions::route_metric`].
    pub metric: Option<u32>,
}

/// `route-ipv6 network/bits gateway metric`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteOption6 {
    /// Network; host bits are cleared.
    pub network: Ipv6Net,
    /// Gateway, if any was given. OpenVPN ignores it on a layer-3 device, and so does [`build`](super::build()).
    pub gateway: Option<Ipv6Addr>,
    /// Metric; `None` takes [`VpnOptions::route_metric`].
    pub metric: Option<u32>,
}

/// `redirect-gateway flags`, or `redirect-private flags` with `reroute` false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one per flag of the option, freely combined")]
pub struct Redirect {
    /// Redirect IPv4. False with `!ipv4`.
    pub ipv4: bool,
    /// `ipv6`: redirect IPv6 too.
    pub ipv6: bool,
    /// Send everything through the tunnel; false for `redirect-private`, which only protects the way to the server.
    pub reroute: bool,
    /// `def1`: override the default route by two halves instead of replacing it.
    pub def1: bool,
    /// `local`: the server is on our own network, so it needs no host route.
    pub local: bool,
    /// `autolocal`: find out whether it is.
    pub autolocal: bool,
}

impl Redirect {
    /// `redirect-gateway` without flags.
    pub fn gateway() -> Self {
        Self { ipv4: true, ipv6: false, reroute: true, def1: false, local: false, autolocal: false }
    }
}

/// What [`build`](super::build()) must know of the host and the connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The VPN server's address, as connected to.
    pub remote: Option<std::net::IpAddr>,
    /// The way to an IPv4 `remote` outside the tunnel, or else the IPv4 default route: from
    /// [`Host::gateway_to`](crate::Host::gateway_to).
    pub to_remote: Option<Gateway>,
    /// The way to an IPv6 `remote` outside the tunnel.
    pub to_remote6: Option<Gateway>,
    /// The IPv4 default route outside the tunnel: from [`Host::default_gateway`](crate::Host::default_gateway).
    pub default: Option<Gateway>,
}

/// A way out of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The next hop; `None` if the destination is on the link itself.
    pub via: Option<std::net::IpAddr>,
    /// Index of the interface.
    pub ifindex: u32,
    /// Name of the interface.
    pub name: String,
    /// The next hop is reachable on the interface although no route says so, as with the /32 addresses of many cloud
    /// providers.
    pub onlink: bool,
}
