//! What the short forms of a server's configuration stand for: `server`, `server-ipv6`, `keepalive`.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};

use super::range::{MAX_SLOTS, Range4, RangeError};
use crate::options::pushed::Topology;

/// Longest `ping` and `ping-restart` (`openvpn: ping.h`, `PING_TIMEOUT_MAX`): a day.
const MAX_PING: Duration = Duration::from_hours(24);

/// What `server` sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server4 {
    /// Network of the tunnel.
    pub network: Ipv4Net,
    /// `ifconfig`: our own address.
    pub own: Ipv4Addr,
    /// `ifconfig`: with `topology subnet` the netmask, else the far end.
    pub remote_or_netmask: Ipv4Addr,
    /// `ifconfig-pool`; none with `nopool`.
    pub pool: Option<Range4>,
    /// `route` on the server: without `topology subnet` the device doesn't bring the network with it.
    pub route: Option<Ipv4Net>,
    /// `route-gateway` on the server, unless another one is given.
    pub route_gateway: Option<Ipv4Addr>,
    /// To be pushed after what the configuration pushes.
    pub push: Vec<String>,
}

/// `server NETWORK NETMASK [nopool]` for a tun device (`openvpn: helper.c`, `helper_client_server`).
///
/// # Errors
/// [`ExpandError`].
pub fn server(
    network: Ipv4Addr,
    netmask: Ipv4Addr,
    topology: Topology,
    nopool: bool,
    client_to_client: bool,
) -> Result<Server4, ExpandError> {
    let net = Ipv4Net::with_netmask(network, netmask).map_err(|_| ExpandError::Netmask(netmask))?;
    if net.trunc() != net {
        return Err(ExpandError::HostBits { network: net, cure: net.trunc().network() });
    }
    let bits = net.prefix_len();
    if bits < 16 {
        return Err(ExpandError::TooWide(net));
    }
    if bits > 29 {
        return Err(ExpandError::TooNarrow(net));
    }
    let host = |n: u32| Ipv4Addr::from(u32::from(network) + n);
    let broadcast = u32::from(net.broadcast());
    let own = host(1);
    let subnet = topology == Topology::Subnet;
    // The last /30 stays free, unless there are but two.
    let reserve = match (subnet, bits) {
        (true, _) => 1,
        (false, 29) => 0,
        (false, _) => 4,
    };
    let first = host(if subnet { 2 } else { 4 });
    let pool = Range4::new(first, Ipv4Addr::from(broadcast - reserve), topology == Topology::Net30);
    let pool = match pool {
        _ if nopool => None,
        Err(RangeError::TooSmall { .. }) => {
            return Err(ExpandError::NoRoom { network: net, topology: word(topology) });
        }
        pool => Some(pool?),
    };
    let mut push = Vec::new();
    if subnet {
        push.push(format!("route-gateway {own}"));
    } else if client_to_client {
        push.push(format!("route {network} {netmask}"));
    } else if topology == Topology::Net30 {
        push.push(format!("route {own}"));
    }
    push.push(format!("topology {}", word(topology)));
    Ok(Server4 {
        network: net,
        own,
        remote_or_netmask: if subnet { netmask } else { host(2) },
        pool,
        route: (!subnet).then_some(net),
        route_gateway: subnet.then(|| host(2)),
        push,
    })
}

const fn word(topology: Topology) -> &'static str {
    match topology {
        Topology::Net30 => "net30",
        Topology::P2p => "p2p",
        Topology::Subnet => "subnet",
    }
}

/// What `server-ipv6` sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server6 {
    /// `ifconfig-ipv6`: our own address, with the prefix length of the link.
    pub own: Ipv6Net,
    /// `ifconfig-ipv6`: the far end.
    pub remote: Ipv6Addr,
    /// `ifconfig-ipv6-pool`: its first address, and the prefix length.
    pub pool: Ipv6Net,
    /// To be pushed after what the configuration pushes, and before what [`Server4`] pushes.
    pub push: Vec<String>,
}

/// `server-ipv6 NETWORK/BITS` (`openvpn: helper.c`, `helper_client_server`).
///
/// # Errors
/// [`ExpandError`].
pub fn server_ipv6(network: Ipv6Net) -> Result<Server6, ExpandError> {
    let bits = network.prefix_len();
    if !(64..=124).contains(&bits) {
        return Err(ExpandError::Prefix6(network));
    }
    // Host bits are taken as they are: all three addresses count from there.
    let host = |n: u128| {
        let address = Ipv6Addr::from(u128::from(network.addr()).wrapping_add(n));
        network
            .contains(&address)
            .then_some(address)
            .ok_or_else(|| ExpandError::HostBits6 { network, cure: network.trunc() })
    };
    let with_bits = |address| Ipv6Net::new_assert(address, bits);
    Ok(Server6 {
        own: with_bits(host(1)?),
        remote: host(2)?,
        pool: with_bits(host(if bits < 112 { 0x1000 } else { 2 })?),
        push: vec!["tun-ipv6".to_owned()],
    })
}

/// What `keepalive` sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// `ping`.
    pub ping: Duration,
    /// `ping-restart`; a server waits twice as long as its clients, so that they notice first.
    pub restart: Duration,
    /// To be pushed, after what [`Server4`] pushes. Empty unless this is a server.
    pub push: Vec<String>,
}

/// `keepalive INTERVAL TIMEOUT`, both in whole seconds (`openvpn: helper.c`, `helper_keepalive`).
///
/// # Errors
/// [`ExpandError::Keepalive`], [`ExpandError::KeepaliveLong`].
pub fn keepalive(ping: u32, restart: u32, server: bool) -> Result<Keepalive, ExpandError> {
    if u64::from(ping) * 2 > restart.into() {
        return Err(ExpandError::Keepalive { ping, restart });
    }
    let longest = MAX_PING.as_secs() / if server { 2 } else { 1 };
    if u64::from(restart) > longest {
        return Err(ExpandError::KeepaliveLong { restart, longest });
    }
    let seconds = |n: u32| Duration::from_secs(n.into());
    Ok(Keepalive {
        ping: seconds(ping),
        restart: seconds(restart) * if server { 2 } else { 1 },
        push: if server {
            vec![format!("ping {ping}"), format!("ping-restart {restart}")]
        } else {
            Vec::new()
        },
    })
}

/// Why a short form has no meaning. The text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// Not ones, then zeros.
    #[error("'{0}' is not a netmask")]
    Netmask(Ipv4Addr),
    /// The network has bits that the mask doesn't cover.
    #[error("{} is no network with the netmask {}; use {cure}", network.addr(), network.netmask())]
    HostBits {
        /// As given.
        network: Ipv4Net,
        /// The network that this address is in.
        cure: Ipv4Addr,
    },
    /// More than [`MAX_SLOTS`] addresses.
    #[error(
        "the network {0} is too large: at most {MAX_SLOTS} addresses are possible, \
         so the netmask must be 255.255.0.0 (/16) or longer"
    )]
    TooWide(Ipv4Net),
    /// A /30 or smaller.
    #[error("the network {0} is too small: the netmask must be 255.255.255.248 (/29) or shorter")]
    TooNarrow(Ipv4Net),
    /// No pool fits beside our own address.
    #[error(
        "the network {network} has no room for two clients with topology {topology}; \
         use a larger network, or topology subnet"
    )]
    NoRoom {
        /// The network.
        network: Ipv4Net,
        /// How addresses are laid out.
        topology: &'static str,
    },
    /// A prefix length that OpenVPN doesn't take.
    #[error("the prefix of {0} must have 64 to 124 bits")]
    Prefix6(Ipv6Net),
    /// Addresses counted from there leave the network.
    #[error("{network} leaves no room for addresses behind it; use {cure}")]
    HostBits6 {
        /// As given.
        network: Ipv6Net,
        /// The network that this address is in.
        cure: Ipv6Net,
    },
    /// The pool that follows can't be.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The timeout is shorter than two intervals.
    #[error(
        "the timeout of keepalive ({restart} s) must be at least twice its interval ({ping} s); \
         10 60 is a good choice"
    )]
    Keepalive {
        /// Interval in seconds.
        ping: u32,
        /// Timeout in seconds.
        restart: u32,
    },
    /// Longer than a day, or half a day on a server.
    #[error("the timeout of keepalive ({restart} s) must not be longer than {longest} s here")]
    KeepaliveLong {
        /// Timeout in seconds.
        restart: u32,
        /// The limit in seconds.
        longest: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn expand(network: &str, netmask: &str, topology: Topology) -> Result<Server4, ExpandError> {
        server(v4(network), v4(netmask), topology, false, false)
    }

    /// Rows of the table in OpenVPN's source and manual.
    #[test]
    fn server_expands_as_the_manual_says() {
        use Topology::{Net30, P2p, Subnet};
        let push = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (topology, c2c, far, (first, last, size), route, pushes) in [
            (
                Net30,
                false,
                "10.8.0.2",
                ("10.8.0.4", "10.8.0.251", 62),
                true,
                push(&["route 10.8.0.1", "topology net30"]),
            ),
            (
                Net30,
                true,
                "10.8.0.2",
                ("10.8.0.4", "10.8.0.251", 62),
                true,
                push(&["route 10.8.0.0 255.255.255.0", "topology net30"]),
            ),
            (P2p, false, "10.8.0.2", ("10.8.0.4", "10.8.0.251", 248), true, push(&["topology p2p"])),
            (
                P2p,
                true,
                "10.8.0.2",
                ("10.8.0.4", "10.8.0.251", 248),
                true,
                push(&["route 10.8.0.0 255.255.255.0", "topology p2p"]),
            ),
            (
                Subnet,
                false,
                "255.255.255.0",
                ("10.8.0.2", "10.8.0.254", 253),
                false,
                push(&["route-gateway 10.8.0.1", "topology subnet"]),
            ),
            (
                Subnet,
                true,
                "255.255.255.0",
                ("10.8.0.2", "10.8.0.254", 253),
                false,
                push(&["route-gateway 10.8.0.1", "topology subnet"]),
            ),
        ] {
            let server = server(v4("10.8.0.0"), v4("255.255.255.0"), topology, false, c2c).unwrap();
            assert_eq!((server.own, server.remote_or_netmask), (v4("10.8.0.1"), v4(far)));
            let pool = server.pool.unwrap();
            assert_eq!((pool.first(), pool.last(), pool.size()), (v4(first), v4(last), size), "{topology:?}");
            assert_eq!(server.route, route.then_some(server.network));
            assert_eq!(server.route_gateway, (!route).then(|| v4("10.8.0.2")));
            assert_eq!(server.push, pushes);
        }
        // Edges of what is possible.
        let wide = expand("10.8.0.0", "255.255.0.0", Subnet).unwrap().pool.unwrap();
        assert_eq!((wide.last(), wide.size()), (v4("10.8.255.254"), 65_533));
        for topology in [P2p, Subnet] {
            assert!(expand("10.8.0.8", "255.255.255.248", topology).unwrap().pool.is_some());
        }
        let none = server(v4("10.8.0.0"), v4("255.255.255.248"), Net30, true, false).unwrap();
        assert_eq!(none.pool, None);
    }

    #[test]
    fn server_says_what_is_wrong() {
        use Topology::{Net30, Subnet};
        for (network, netmask, topology, text) in [
            ("10.8.0.0", "255.0.255.0", Subnet, "'255.0.255.0' is not a netmask"),
            (
                "10.8.0.5",
                "255.255.255.0",
                Subnet,
                "10.8.0.5 is no network with the netmask 255.255.255.0; use 10.8.0.0",
            ),
            (
                "10.0.0.0",
                "255.254.0.0",
                Subnet,
                "the network 10.0.0.0/15 is too large: at most 65536 addresses are possible, so the netmask must be 255.255.0.0 (/16) or longer",
            ),
            (
                "10.8.0.0",
                "255.255.255.252",
                Subnet,
                "the network 10.8.0.0/30 is too small: the netmask must be 255.255.255.248 (/29) or shorter",
            ),
            (
                "10.8.0.0",
                "255.255.255.248",
                Net30,
                "the network 10.8.0.0/29 has no room for two clients with topology net30; use a larger network, or topology subnet",
            ),
        ] {
            assert_eq!(expand(network, netmask, topology).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn server_ipv6_expands_as_the_manual_says() {
        for (network, own, remote, pool) in [
            ("2001:db8::/64", "2001:db8::1/64", "2001:db8::2", "2001:db8::1000/64"),
            ("2001:db8::/111", "2001:db8::1/111", "2001:db8::2", "2001:db8::1000/111"),
            ("2001:db8::/112", "2001:db8::1/112", "2001:db8::2", "2001:db8::2/112"),
            ("2001:db8::1/64", "2001:db8::2/64", "2001:db8::3", "2001:db8::1001/64"),
            ("2001:db8::10/124", "2001:db8::11/124", "2001:db8::12", "2001:db8::12/124"),
        ] {
            let server = server_ipv6(network.parse().unwrap()).unwrap();
            assert_eq!((server.own, server.remote), (own.parse().unwrap(), remote.parse().unwrap()));
            assert_eq!(
                (server.pool, &server.push[..]),
                (pool.parse().unwrap(), &["tun-ipv6".to_owned()][..])
            );
        }
        let error = |network: &str| server_ipv6(network.parse().unwrap()).unwrap_err().to_string();
        assert_eq!(error("2001:db8::/48"), "the prefix of 2001:db8::/48 must have 64 to 124 bits");
        assert_eq!(
            error("2001:db8::e/124"),
            "2001:db8::e/124 leaves no room for addresses behind it; use 2001:db8::/124"
        );
    }

    #[test]
    fn keepalive_is_doubled_on_a_server() {
        let s = Duration::from_secs;
        let server = keepalive(10, 60, true).unwrap();
        assert_eq!((server.ping, server.restart), (s(10), s(120)));
        assert_eq!(server.push, ["ping 10", "ping-restart 60"]);
        let client = keepalive(10, 60, false).unwrap();
        assert_eq!((client.ping, client.restart, client.push.len()), (s(10), s(60), 0));
        assert!(keepalive(30, 60, true).is_ok());
        let error = |ping, restart, server| keepalive(ping, restart, server).unwrap_err().to_string();
        assert_eq!(
            error(31, 60, true),
            "the timeout of keepalive (60 s) must be at least twice its interval (31 s); 10 60 is a good choice"
        );
        assert_eq!(
            error(10, 43_201, true),
            "the timeout of keepalive (43201 s) must not be longer than 43200 s here"
        );
        assert!(keepalive(10, 86_400, false).is_ok());
    }
}
