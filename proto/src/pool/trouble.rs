//! What can be wrong with addresses, in words.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::range::RangeError;

/// Why a client gets nothing. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// `disable`.
    #[error("client has been rejected due to 'disable' directive")]
    Disabled,
    /// Every address is lent.
    #[error("no free --ifconfig-pool addresses are available")]
    Exhausted,
    /// A fixed address is ours.
    #[error("the fixed address {0} of this client is the server's own; give it another one")]
    OwnAddress(IpAddr),
    /// A fixed address that no host can have.
    #[error("the fixed address {0} of this client is not the address of a host")]
    NoHost(IpAddr),
    /// `ifconfig-ipv6-push` without a far end, and we have no IPv6 address.
    #[error(
        "the fixed address {0} of this client has no far end: add it, or an ifconfig-ipv6 for the server"
    )]
    NoRemote6(Ipv6Net),
}

/// Something odd about a plan or a client that doesn't stop it. The text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Notice {
    /// Nothing says which IPv4 address this client has.
    #[error("no dynamic or static remote --ifconfig address is available for this client")]
    NoV4,
    /// The IPv4 address is fixed, and the pool has no IPv6 address left.
    #[error("no address of the IPv6 pool is left for this client; use ifconfig-ipv6-push")]
    NoV6,
    /// A fixed address that is not of the tunnel's network.
    #[error("primary virtual IP {address} violates tunnel network/netmask constraint ({network})")]
    Outside {
        /// The address.
        address: Ipv4Addr,
        /// The tunnel's.
        network: Ipv4Net,
    },
    /// Another client had this, and packets to it go here from now on.
    #[error("{net} was routed to '{from}', which loses it to this client")]
    TakenOver {
        /// Address or network.
        net: IpNet,
        /// Who had it.
        from: String,
    },
    /// More than `max-routes-per-client`.
    #[error("route quota ({most}) exceeded; further routes to this client are left out")]
    TooManyRoutes {
        /// The limit.
        most: usize,
    },
    /// A network that no client may have.
    #[error("{0} can't be a network behind a client; it is left out")]
    NotLearnable(IpNet),
    /// An option that would tear the message apart.
    #[error("the option '{0}' can't be pushed: it has a comma or a control character")]
    BadPush(String),
    /// The IPv6 pool is for fewer clients.
    #[error(
        "the IPv6 address pool ({v6}) is smaller than the IPv4 address pool ({v4}) and limits the number of clients"
    )]
    Pool6Smaller {
        /// Clients that the IPv4 pool has room for.
        v4: u32,
        /// Clients that the IPv6 pool has room for.
        v6: u32,
    },
    /// Clients would get addresses that are not of the tunnel's network, or not of hosts.
    #[error("the address pool {first} to {last} is not wholly of host addresses in {network}")]
    PoolOutside {
        /// First address.
        first: Ipv4Addr,
        /// Last address.
        last: Ipv4Addr,
        /// The tunnel's.
        network: Ipv4Net,
    },
}

/// Why a server can't have these addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A pool that can't be.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// A client would get our address.
    #[error("the server's own address {own} lies in its address pool {first} to {last}; shorten the pool")]
    OwnInPool {
        /// Our address.
        own: Ipv4Addr,
        /// First address of the pool.
        first: Ipv4Addr,
        /// Last address of the pool.
        last: Ipv4Addr,
    },
    /// A client would get our IPv6 address.
    #[error(
        "the server's own address {own} lies in its IPv6 address pool, which begins at {first}; let it begin later"
    )]
    OwnInPool6 {
        /// Our address.
        own: Ipv6Addr,
        /// First address of the pool.
        first: Ipv6Addr,
    },
    /// `topology subnet` with a pool, and no netmask for its clients.
    #[error("the address pool has no netmask for its clients: add it to ifconfig-pool, or add an ifconfig")]
    NoNetmask,
    /// `topology p2p` with a pool, and no address for the far end.
    #[error("the address pool has no far end for its clients with topology p2p: add an ifconfig")]
    NoOwn,
    /// An IPv6 pool, and no address of our own.
    #[error("the IPv6 address pool needs an address of the server: add an ifconfig-ipv6")]
    NoOwn6,
    /// An option that would tear the message apart.
    #[error("the option '{0}' can't be pushed: it has a comma or a control character")]
    BadPush(String),
}

/// Two owners of one address or network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// It is ours.
    #[error("the fixed address {address} of '{name}' is the server's own")]
    Own {
        /// Of whom.
        name: String,
        /// The address.
        address: IpAddr,
    },
    /// It is of two names.
    #[error("both '{other}' and '{name}' are given {net}")]
    Twice {
        /// Who came second.
        name: String,
        /// Who came first.
        other: String,
        /// Address or network.
        net: IpNet,
    },
}
