//! One change of the kernel's state: how it is made, taken back, and told.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::kernel::{self, KernelRoute, LinkSetting, MAIN_TABLE};
use super::netlink::{Netlink, Refusal};
use crate::HostError;
use crate::plan::{Address, Dev, Removal, Route};

/// A change, with everything that is needed to take it back in another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Item {
    Up {
        link: LinkRef,
    },
    Mtu {
        link: LinkRef,
        mtu: u32,
        before: u32,
    },
    TxQueueLen {
        link: LinkRef,
        packets: u32,
        before: u32,
    },
    Address {
        link: LinkRef,
        address: Address,
    },
    /// `index` is the interface the route is pinned to, if any.
    Route {
        route: Route,
        index: Option<u32>,
    },
    /// `message` is the removed route as the kernel described it.
    Removal {
        removal: Removal,
        message: Vec<u8>,
    },
}

/// An interface by index, with its name to recognize an index that was given to another interface since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinkRef {
    pub(super) index: u32,
    pub(super) name: String,
}

/// How the kernel took a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// It was so already.
    Exists,
}

impl Item {
    /// Whether both ask for the same state, whatever was there before.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mtu { link: a, mtu: x, .. }, Self::Mtu { link: b, mtu: y, .. })
            | (Self::TxQueueLen { link: a, packets: x, .. }, Self::TxQueueLen { link: b, packets: y, .. }) => {
                a == b && x == y
            }
            (Self::Removal { removal: a, .. }, Self::Removal { removal: b, .. }) => a == b,
            _ => self == other,
        }
    }

    /// Makes the change.
    pub(super) fn make(&self, netlink: &mut Netlink) -> Result<Outcome, HostError> {
        let result = match self {
            Self::Up { link } => kernel::set_link(netlink, link.index, LinkSetting::Up(true)),
            Self::Mtu { link, mtu, .. } => kernel::set_link(netlink, link.index, LinkSetting::Mtu(*mtu)),
            Self::TxQueueLen { link, packets, .. } => {
                kernel::set_link(netlink, link.index, LinkSetting::TxQueueLen(*packets))
            }
            Self::Address { link, address } => kernel::add_address(netlink, link.index, address),
            Self::Route { route, index } => kernel::add_route(netlink, &kernel_route(route, *index)),
            Self::Removal { message, .. } => kernel::remove(netlink, message),
        };
        match result {
            Ok(()) => Ok(Outcome::Done),
            Err(refusal) if refusal.errno() == libc::EEXIST => Ok(Outcome::Exists),
            // Somebody else took the route away in between: it is out of the way, which is all that was wanted.
            Err(refusal) if matches!(self, Self::Removal { .. }) && refusal.errno() == libc::ESRCH => {
                Ok(Outcome::Exists)
            }
            Err(refusal) => Err(refusal.to(self.to_string())),
        }
    }

    /// Takes the change back; `Exists` if there was nothing left to take back.
    pub(super) fn unmake(&self, netlink: &mut Netlink) -> Result<Outcome, HostError> {
        let refused = |refusal: Refusal| refusal.to(format!("take back \"{self}\""));
        if let Some(link) = self.link() {
            // The interface is gone, and everything of it with it; or it is another one of the same index.
            let present = kernel::link_by_index(netlink, link.index).map_err(refused)?;
            if present.is_none_or(|present| present.name != link.name) {
                return Ok(Outcome::Exists);
            }
        }
        let result = match self {
            Self::Up { link } => kernel::set_link(netlink, link.index, LinkSetting::Up(false)),
            Self::Mtu { link, before, .. } => {
                kernel::set_link(netlink, link.index, LinkSetting::Mtu(*before))
            }
            Self::TxQueueLen { link, before, .. } => {
                kernel::set_link(netlink, link.index, LinkSetting::TxQueueLen(*before))
            }
            Self::Address { link, address } => kernel::delete_address(netlink, link.index, address),
            Self::Route { route, index } => kernel::delete_route(netlink, &kernel_route(route, *index)),
            Self::Removal { message, .. } => kernel::restore(netlink, message),
        };
        let gone = match self {
            Self::Route { .. } => &[libc::ESRCH, libc::ENODEV, libc::ENETDOWN][..],
            Self::Removal { .. } => &[libc::EEXIST],
            _ => &[libc::ENODEV, libc::EADDRNOTAVAIL],
        };
        match result {
            Ok(()) => Ok(Outcome::Done),
            Err(refusal) if gone.contains(&refusal.errno()) => Ok(Outcome::Exists),
            Err(refusal) => Err(refused(refusal)),
        }
    }

    /// Whether the plan can hold without it. An address that fails makes the tunnel useless; a route that fails costs
    /// one destination.
    pub(super) fn is_optional(&self) -> bool {
        matches!(self, Self::Route { .. } | Self::Removal { .. })
    }

    fn link(&self) -> Option<&LinkRef> {
        match self {
            Self::Up { link }
            | Self::Mtu { link, .. }
            | Self::TxQueueLen { link, .. }
            | Self::Address { link, .. } => Some(link),
            Self::Route { .. } | Self::Removal { .. } => None,
        }
    }

    /// What was done, in the past tense of the log: the inverse of [`fmt::Display`].
    pub(super) fn undone(&self) -> String {
        match self {
            Self::Up { link } => format!("set interface {} down", link.name),
            Self::Mtu { link, before, .. } => format!("set mtu of {} to {before}", link.name),
            Self::TxQueueLen { link, before, .. } => format!("set txqueuelen of {} to {before}", link.name),
            Self::Address { link, address } => format!("remove address {address} from {}", link.name),
            Self::Route { route, .. } => format!("remove route {route}"),
            Self::Removal { removal, .. } => format!("restore route {removal}"),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { link } => write!(f, "set interface {} up", link.name),
            Self::Mtu { link, mtu, .. } => write!(f, "set mtu of {} to {mtu}", link.name),
            Self::TxQueueLen { link, packets, .. } => {
                write!(f, "set txqueuelen of {} to {packets}", link.name)
            }
            Self::Address { link, address } => write!(f, "add address {address} to {}", link.name),
            Self::Route { route, .. } => write!(f, "add route {route}"),
            Self::Removal { removal, .. } => write!(f, "remove route {removal}"),
        }
    }
}

fn kernel_route(route: &Route, index: Option<u32>) -> KernelRoute {
    KernelRoute {
        dest: route.dest,
        via: route.via,
        index,
        metric: route.metric,
        table: route.table.unwrap_or(MAIN_TABLE),
        onlink: route.onlink,
    }
}

/// The route as it is journalled and told: the interface by name.
pub(super) fn named(route: &Route, tunnel: &str) -> Route {
    let dev = match &route.dev {
        Dev::Tunnel => Dev::ByName(tunnel.to_owned()),
        other => other.clone(),
    };
    Route { dev, ..route.clone() }
}
