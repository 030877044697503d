use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The state wanted on the host: one interface with its settings and addresses, and routes.
///
/// Comparing is by value: applying an equal plan again changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The tunnel's interface, which must exist.
    pub interface: String,
    /// Interface MTU in bytes; `None` leaves it.
    pub mtu: Option<u32>,
    /// Transmit queue length in packets; `None` leaves it.
    pub txqueuelen: Option<u32>,
    /// Addresses of the interface.
    pub addresses: Vec<Address>,
    /// Existing routes to take out of the way, before the routes below are added. They come back on undo.
    pub removals: Vec<Removal>,
    /// Routes, added in this order.
    pub routes: Vec<Route>,
}

/// One address of the tunnel's interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Our own address.
    pub ip: IpAddr,
    /// Prefix length of the on-link network; of the peer's address if there is one.
    pub prefix: u8,
    /// The far end of a point-to-point link. The kernel makes the on-link route to it instead of to `ip`'s network.
    pub peer: Option<IpAddr>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "{} peer {peer}/{}", self.ip, self.prefix),
            None => write!(f, "{}/{}", self.ip, self.prefix),
        }
    }
}

/// The interface that a route uses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Dev {
    /// The plan's interface.
    Tunnel,
    /// The interface of this name.
    ByName(String),
    /// The interface of this index.
    ByIndex(u32),
    /// Whichever reaches the gateway; the kernel decides.
    None,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Destination network; host bits are ignored.
    pub dest: IpNet,
    /// Next hop, of the same IP version as the destination.
    pub via: Option<IpAddr>,
    /// Interface.
    pub dev: Dev,
    /// Metric; `None` is the kernel's default, 0 for IPv4 and 1,024 for IPv6.
    pub metric: Option<u32>,
    /// Routing table; `None` is `main`.
    pub table: Option<u32>,
    /// Take the next hop as reachable on the interface even if no route says so.
    pub onlink: bool,
}

impl Route {
    /// A route to `dest` through the plan's interface, without a gateway.
    pub fn through_tunnel(dest: impl Into<IpNet>) -> Self {
        Self { dest: dest.into(), via: None, dev: Dev::Tunnel, metric: None, table: None, onlink: false }
    }

    /// A route to `dest` by the gateway `via`; the kernel finds the interface.
    pub fn by_gateway(dest: impl Into<IpNet>, via: IpAddr) -> Self {
        Self { dest: dest.into(), via: Some(via), dev: Dev::None, metric: None, table: None, onlink: false }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dest)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        match &self.dev {
            Dev::Tunnel => f.write_str(" dev <tunnel>")?,
            Dev::ByName(name) => write!(f, " dev {name}")?,
            Dev::ByIndex(index) => write!(f, " dev #{index}")?,
            Dev::None => {}
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        if let Some(table) = self.table {
            write!(f, " table {table}")?;
        }
        Ok(())
    }
}

/// An existing route of the main table to take away while the plan holds: the one of the lowest
/// metric with this destination and next hop. None there is not an error.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Removal {
    /// Destination network.
    pub dest: IpNet,
    /// Next hop; `None` matches only a route without one.
    pub via: Option<IpAddr>,
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dest)?;
        self.via.map_or(Ok(()), |via| write!(f, " via {via}"))
    }
}
