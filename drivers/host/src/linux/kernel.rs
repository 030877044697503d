//! Typed rtnetlink operations: links, addresses, routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_core::{Emitable, NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RouteProtocol,
    RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::IpVersion;
use super::netlink::{Netlink, Refusal};
use crate::plan::{Address, Removal};

pub(super) const MAIN_TABLE: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// State of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) mtu: Option<u32>,
    pub(super) txqueuelen: Option<u32>,
}

/// A route with its interface resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct KernelRoute {
    pub(super) dest: IpNet,
    pub(super) via: Option<IpAddr>,
    pub(super) index: Option<u32>,
    pub(super) metric: Option<u32>,
    pub(super) table: u32,
    pub(super) onlink: bool,
}

/// A way out as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) via: Option<IpAddr>,
    pub(super) index: u32,
    pub(super) onlink: bool,
}

/// What to set of an interface.
#[derive(Debug, Clone, Copy)]
pub(super) enum LinkSetting {
    Up(bool),
    Mtu(u32),
    TxQueueLen(u32),
}

pub(super) fn link_by_name(netlink: &mut Netlink, name: &str) -> Result<Option<Link>, Refusal> {
    // The kernel refuses longer names with ERANGE; there is no such interface either way.
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Ok(None);
    }
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link(netlink, message)
}

pub(super) fn link_by_index(netlink: &mut Netlink, index: u32) -> Result<Option<Link>, Refusal> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    link(netlink, message)
}

fn link(netlink: &mut Netlink, message: LinkMessage) -> Result<Option<Link>, Refusal> {
    let answer = match netlink.get(RouteNetlinkMessage::GetLink(message)) {
        Err(refusal) if refusal.errno() == libc::ENODEV => return Ok(None),
        answer => answer?,
    };
    let Some(RouteNetlinkMessage::NewLink(message)) = answer else { return Ok(None) };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: None,
        txqueuelen: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = Some(mtu),
            LinkAttribute::TxQueueLen(packets) => link.txqueuelen = Some(packets),
            _ => {}
        }
    }
    Ok(Some(link))
}

pub(super) fn set_link(netlink: &mut Netlink, index: u32, setting: LinkSetting) -> Result<(), Refusal> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match setting {
        LinkSetting::Up(up) => {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        LinkSetting::Mtu(mtu) => message.attributes.push(LinkAttribute::Mtu(mtu)),
        LinkSetting::TxQueueLen(packets) => message.attributes.push(LinkAttribute::TxQueueLen(packets)),
    }
    netlink.change(RouteNetlinkMessage::SetLink(message), 0)
}

pub(super) fn add_address(netlink: &mut Netlink, index: u32, address: &Address) -> Result<(), Refusal> {
    netlink
        .change(RouteNetlinkMessage::NewAddress(address_message(index, address)), NLM_F_CREATE | NLM_F_EXCL)
}

pub(super) fn delete_address(netlink: &mut Netlink, index: u32, address: &Address) -> Result<(), Refusal> {
    netlink.change(RouteNetlinkMessage::DelAddress(address_message(index, address)), 0)
}

fn address_message(index: u32, address: &Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(address.ip);
    message.header.index = index;
    message.header.prefix_len = address.prefix;
    message.attributes.push(AddressAttribute::Local(address.ip));
    message.attributes.push(AddressAttribute::Address(address.peer.unwrap_or(address.ip)));
    if let (IpAddr::V4(ip), None, 0..=30) = (address.ip, address.peer, address.prefix)
        && let Ok(network) = Ipv4Net::new(ip, address.prefix)
    {
        message.attributes.push(AddressAttribute::Broadcast(network.broadcast()));
    }
    message
}

/// Adds a route. `EEXIST` means that this very route is there already; a route to the same destination by another way
/// is no obstacle, and the new one goes before it.
pub(super) fn add_route(netlink: &mut Netlink, route: &KernelRoute) -> Result<(), Refusal> {
    let mut message = route_message(route);
    message.header.kind = RouteType::Unicast;
    message.header.protocol = RouteProtocol::Boot;
    let linked = route.via.is_none() && route.dest.addr().is_ipv4();
    message.header.scope = if linked { RouteScope::Link } else { RouteScope::Universe };
    netlink.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE)
}

/// Deletes the route that [`add_route`] added. `ESRCH` means that it is gone.
pub(super) fn delete_route(netlink: &mut Netlink, route: &KernelRoute) -> Result<(), Refusal> {
    let mut message = route_message(route);
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::NoWhere;
    netlink.change(RouteNetlinkMessage::DelRoute(message), 0)
}

fn route_message(route: &KernelRoute) -> RouteMessage {
    let dest = route.dest.trunc();
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(dest.addr());
    message.header.destination_prefix_length = dest.prefix_len();
    message.header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    if route.onlink {
        message.header.flags = RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    if u8::try_from(route.table).is_err() {
        attributes.push(RouteAttribute::Table(route.table));
    }
    if dest.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(dest.addr().into()));
    }
    match (dest, route.via) {
        (IpNet::V4(_), Some(IpAddr::V6(via))) => attributes.push(RouteAttribute::Via(RouteVia::Inet6(via))),
        (_, Some(via)) => attributes.push(RouteAttribute::Gateway(via.into())),
        (_, None) => {}
    }
    if let Some(index) = route.index {
        attributes.push(RouteAttribute::Oif(index));
    }
    if let Some(metric) = route.metric.filter(|&metric| metric > 0) {
        attributes.push(RouteAttribute::Priority(metric));
    }
    message
}

/// Finds the route of the main table that matches, the one of the lowest metric if there are several, as bytes for
/// [`remove`] and [`restore`].
pub(super) fn find(netlink: &mut Netlink, removal: &Removal) -> Result<Option<Vec<u8>>, Refusal> {
    let version = if removal.dest.addr().is_ipv4() { IpVersion::V4 } else { IpVersion::V6 };
    let matching = main_table(netlink, version)?
        .into_iter()
        .filter(|route| destination(route) == Some(removal.dest.trunc()))
        .filter(|route| ways(route).first().is_some_and(|way| way.via == removal.via))
        .min_by_key(metric);
    Ok(matching.map(|mut route| {
        route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
        // What the kernel reports of a live route and does not take back.
        route.header.flags &= RouteFlags::Onlink;
        let mut bytes = vec![0; route.buffer_len()];
        route.emit(&mut bytes);
        bytes
    }))
}

/// Deletes the route of these bytes.
pub(super) fn remove(netlink: &mut Netlink, route: &[u8]) -> Result<(), Refusal> {
    netlink.change(RouteNetlinkMessage::DelRoute(parse(route)?), 0)
}

/// Adds the route of these bytes again. `EEXIST` means that another took its place.
pub(super) fn restore(netlink: &mut Netlink, route: &[u8]) -> Result<(), Refusal> {
    netlink.change(RouteNetlinkMessage::NewRoute(parse(route)?), NLM_F_CREATE | NLM_F_EXCL)
}

/// The way of the route of these bytes.
pub(super) fn way_of(route: &[u8]) -> Option<Way> {
    ways(&parse(route).ok()?).into_iter().next()
}

fn parse(route: &[u8]) -> Result<RouteMessage, Refusal> {
    RouteMessage::parse(route)
        .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string()).into())
}

/// The ways of the default routes in the main table, best metric first.
pub(super) fn default_ways(netlink: &mut Netlink, version: IpVersion) -> Result<Vec<Way>, Refusal> {
    let mut routes = main_table(netlink, version)?;
    routes.retain(|route| {
        route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast
    });
    routes.sort_by_key(metric);
    Ok(routes.iter().flat_map(ways).collect())
}

/// The way the kernel would send a packet to `dest`; `None` if it would send it nowhere.
pub(super) fn way_to(netlink: &mut Netlink, dest: IpAddr) -> Result<Option<Way>, Refusal> {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(dest);
    message.header.destination_prefix_length = IpNet::from(dest).prefix_len();
    // The routing table's entry instead of the decision made from it: it alone has the onlink flag.
    message.header.flags = RouteFlags::FibMatch;
    message.attributes.push(RouteAttribute::Destination(dest.into()));
    let answer = match netlink.get(RouteNetlinkMessage::GetRoute(message)) {
        Err(refusal) if [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ESRCH].contains(&refusal.errno()) => {
            return Ok(None);
        }
        answer => answer?,
    };
    Ok(match answer {
        Some(RouteNetlinkMessage::NewRoute(route)) => ways(&route).into_iter().next(),
        _ => None,
    })
}

fn main_table(netlink: &mut Netlink, version: IpVersion) -> Result<Vec<RouteMessage>, Refusal> {
    let mut request = RouteMessage::default();
    request.header.address_family = match version {
        IpVersion::V4 => AddressFamily::Inet,
        IpVersion::V6 => AddressFamily::Inet6,
    };
    let routes = netlink.dump(&RouteNetlinkMessage::GetRoute(request))?;
    Ok(routes
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) if table(&route) == MAIN_TABLE => Some(route),
            _ => None,
        })
        .collect())
}

fn table(route: &RouteMessage) -> u32 {
    let long = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    long.unwrap_or_else(|| route.header.table.into())
}

fn metric(route: &RouteMessage) -> u32 {
    let metric = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    metric.unwrap_or(0)
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    let prefix = route.header.destination_prefix_length;
    let dest = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(dest) => ip_of(dest),
        _ => None,
    });
    match (dest, route.header.address_family) {
        (Some(ip), _) => IpNet::new(ip, prefix).ok(),
        (None, AddressFamily::Inet) => Some(Ipv4Net::new(Ipv4Addr::UNSPECIFIED, prefix).ok()?.into()),
        (None, AddressFamily::Inet6) => Some(Ipv6Net::new(Ipv6Addr::UNSPECIFIED, prefix).ok()?.into()),
        (None, _) => None,
    }
}

/// All next hops of a route. A route without an interface (unreachable, blackhole) has none.
fn ways(route: &RouteMessage) -> Vec<Way> {
    let hops = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    if let Some(hops) = hops {
        let way = |hop: &netlink_packet_route::route::RouteNextHop| Way {
            via: next_hop(&hop.attributes),
            index: hop.interface_index,
            onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
        };
        return hops.iter().map(way).collect();
    }
    let index = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let onlink = route.header.flags.contains(RouteFlags::Onlink);
    index.map(|index| Way { via: next_hop(&route.attributes), index, onlink }).into_iter().collect()
}

fn next_hop(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(gateway) => ip_of(gateway),
        RouteAttribute::Via(RouteVia::Inet6(via)) => Some((*via).into()),
        RouteAttribute::Via(RouteVia::Inet(via)) => Some((*via).into()),
        _ => None,
    })
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn family_of(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
