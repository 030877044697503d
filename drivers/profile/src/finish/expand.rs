//! Options that stand for several others (`openvpn: helper.c`).

use core::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use oxivpn_proto::config::PingTimeout;
use oxivpn_proto::options::pushed::{Gateway, Route4, Target, Topology};
use oxivpn_proto::pool::expand::{self, ExpandError};
use oxivpn_proto::pool::range::Range4;

use super::role::Kind;
use crate::draft::Draft;
use crate::draft::server::{At, PoolLine, ServerLine};
use crate::error::ProfileError;
use crate::server::Pool4;
use crate::warn::Origin;

/// Addresses of a server.
pub(super) struct Addresses {
    pub(super) topology: Topology,
    pub(super) pool: Option<Pool4>,
    pub(super) pool6: Option<Ipv6Net>,
    pub(super) constraint: Option<Ipv4Net>,
}

/// Replaces `server-ipv6` and `server`.
pub(super) fn addresses(draft: &mut Draft) -> Result<Addresses, ProfileError> {
    let topology = *draft.host.topology.get_or_insert(Topology::Net30);
    let pool6 = pool6(draft)?;
    let mut constraint = draft.server.constraint;
    let pool = match (draft.server.server.clone(), draft.server.pool.clone()) {
        (Some((_, origin)), Some(_))
            if draft.server.server.as_ref().is_some_and(|(line, _)| !line.no_pool) =>
        {
            let text = "--server already defines an ifconfig-pool, so you can't also specify --ifconfig-pool explicitly";
            return Err(ProfileError::at(&origin, text.into())
                .cure("Remove `ifconfig-pool`, or write `server NETWORK NETMASK nopool`"));
        }
        (Some(server), own) => {
            let mut pool = server4(draft, topology, &server)?;
            if topology == Topology::Subnet {
                constraint = Some(net(server.0.network, server.0.netmask, &server.1)?);
            }
            if let Some(own) = own {
                pool = Some(explicit(draft, topology, &own)?);
            }
            pool
        }
        (None, Some(own)) => Some(explicit(draft, topology, &own)?),
        (None, None) => None,
    };
    Ok(Addresses { topology, pool, pool6, constraint })
}

/// `server-ipv6` or `ifconfig-ipv6-pool`.
fn pool6(draft: &mut Draft) -> Result<Option<Ipv6Net>, ProfileError> {
    let at = |origin: &Origin, text: &str, cure: &str| Err(ProfileError::at(origin, text.into()).cure(cure));
    let Some(((network, bits), origin)) = draft.server.server6.clone() else {
        let Some(((first, bits), origin)) = draft.server.pool6.clone() else { return Ok(None) };
        if draft.host.ifconfig_ipv6.is_none() {
            return at(
                &origin,
                "--ifconfig-ipv6-pool needs --ifconfig-ipv6",
                "Add `ifconfig-ipv6 ADDRESS/BITS` with the server's own address, or write `server-ipv6 NETWORK/BITS`",
            );
        }
        return Ok(Some(net6(first, bits, &origin)?));
    };
    if let Some((line, origin)) = &draft.server.server
        && line.no_pool
    {
        let text = "--server-ipv6 is incompatible with 'nopool' option";
        return at(origin, text, "Remove `nopool`, or write `ifconfig-ipv6` in place of `server-ipv6`");
    }
    if draft.server.pool6.is_some() {
        let text = "--server-ipv6 already defines an ifconfig-ipv6-pool, so you can't also specify \
                    --ifconfig-ipv6-pool explicitly";
        return at(&origin, text, "Remove `ifconfig-ipv6-pool`");
    }
    let expanded = expand::server_ipv6(net6(network, bits, &origin)?).map_err(|error| {
        ProfileError::at(&origin, format!("--server-ipv6 directive: {error}"))
            .cure("Write the network, such as `server-ipv6 fd00:8::/64`")
    })?;
    let own = expanded.own;
    draft.host.ifconfig_ipv6 = Some((own.addr(), own.prefix_len(), Some(expanded.remote)));
    draft.server.push.extend(expanded.push);
    Ok(Some(expanded.pool))
}

/// `server`.
fn server4(
    draft: &mut Draft,
    topology: Topology,
    (line, origin): &At<ServerLine>,
) -> Result<Option<Pool4>, ProfileError> {
    let together = draft.server.client_to_client;
    let expanded = expand::server(line.network, line.netmask, topology, line.no_pool, together);
    let expanded = expanded.map_err(|error| {
        ProfileError::at(origin, format!("--server directive {}", misfit(&error)))
            .cure("Write for example `server 10.8.0.0 255.255.255.0`")
    })?;
    draft.host.ifconfig = Some((expanded.own, expanded.remote_or_netmask));
    if let (None, Some(gateway)) = (draft.host.route_gateway, expanded.route_gateway) {
        draft.host.route_gateway = Some(gateway);
    }
    draft.host.routes.extend(expanded.route.map(|net| Route4 {
        network: Target::Address(net.network()),
        mask: net.netmask(),
        gateway: Gateway::Default,
        metric: None,
    }));
    draft.server.push.extend(expanded.push);
    Ok(expanded.pool.map(|range| Pool4 {
        first: range.first(),
        last: range.last(),
        network: expanded.network,
        own: expanded.own,
    }))
}

/// OpenVPN's words for a network that no server can have.
fn misfit(error: &ExpandError) -> String {
    match error {
        ExpandError::Netmask(_) | ExpandError::HostBits { .. } => {
            format!("network/netmask combination is invalid: {error}")
        }
        ExpandError::TooWide(_) => format!(
            "netmask allows for too many host addresses (subnet must be 255.255.0.0 (/16) or higher): {error}"
        ),
        ExpandError::TooNarrow(_) => {
            format!(
                "when used with --dev tun must define a subnet of 255.255.255.248 (/29) or lower: {error}"
            )
        }
        other => format!("leaves no pool: {other}"),
    }
}

/// `ifconfig-pool`, with `ifconfig` or beside `server .. nopool`.
fn explicit(draft: &Draft, topology: Topology, (line, origin): &At<PoolLine>) -> Result<Pool4, ProfileError> {
    let at = |text: String, cure: &str| Err(ProfileError::at(origin, text).cure(cure));
    if line.netmask.is_some() && topology != Topology::Subnet {
        let text = "The third parameter to --ifconfig-pool (netmask) is only valid in --dev tap mode or with --topology \
                    subnet";
        return at(text.into(), "Remove it, or write `topology subnet`");
    }
    let Some((own, second)) = draft.host.ifconfig else {
        let text = "--ifconfig-pool needs --ifconfig: the server has no address of its own";
        return at(
            text.into(),
            "Add `ifconfig ADDRESS NETMASK`, or write `server NETWORK NETMASK` in their place",
        );
    };
    let (first, last) = (line.first, line.last);
    let network = if topology == Topology::Subnet {
        net(own, line.netmask.unwrap_or(second), origin)?.trunc()
    } else {
        around(own, first, last)
    };
    if !network.contains(&first) || !network.contains(&last) {
        let text = format!("--ifconfig-pool {first} {last} is not in the server's own network {network}");
        return at(text, "Choose addresses of that network, or give a larger one to `ifconfig`");
    }
    if (first..=last).contains(&own) {
        let text =
            format!("--ifconfig-pool {first} {last} has two owners of an address: {own} is the server's own");
        return at(text, "Leave it out of the pool");
    }
    Range4::new(first, last, topology == Topology::Net30).map_err(|error| {
        let text = format!("--ifconfig-pool {first} {last} is too small or too large: {error}");
        ProfileError::at(origin, text).cure("Give another range; net30 takes four addresses for each client")
    })?;
    Ok(Pool4 { first, last, network, own })
}

/// The smallest network that has all three.
fn around(a: Ipv4Addr, b: Ipv4Addr, c: Ipv4Addr) -> Ipv4Net {
    let differing = (u32::from(a) ^ u32::from(b)) | (u32::from(a) ^ u32::from(c));
    let bits = differing.leading_zeros().min(32) as u8;
    Ipv4Net::new_assert(a, bits).trunc()
}

fn net(address: Ipv4Addr, netmask: Ipv4Addr, origin: &Origin) -> Result<Ipv4Net, ProfileError> {
    Ipv4Net::with_netmask(address, netmask).map_err(|_| {
        ProfileError::at(origin, format!("'{netmask}' is not a netmask")).cure(
            "Write one such as 255.255.255.0; with `topology subnet` it is the second word of `ifconfig`",
        )
    })
}

fn net6(address: Ipv6Addr, bits: u8, origin: &Origin) -> Result<Ipv6Net, ProfileError> {
    Ipv6Net::new(address, bits)
        .map_err(|error| ProfileError::at(origin, error.to_string()).cure("Write ADDRESS/BITS"))
}

/// `keepalive`: a server waits twice as long as its clients, and pushes what they need. A client's is left as it
/// stands; what is pushed replaces it anyway.
pub(super) fn keepalive(draft: &mut Draft, kind: Kind) -> Result<(), ProfileError> {
    if kind == Kind::Client {
        return Ok(());
    }
    if let Some(((ping, restart), origin)) = draft.server.keepalive.clone() {
        if let Some(other) = &draft.server.ping {
            let text = "--keepalive conflicts with --ping, --ping-exit, or --ping-restart";
            return Err(ProfileError::at(other, text.into())
                .cure("Remove this line; if you use --keepalive, you don't need it"));
        }
        let expanded = expand::keepalive(ping, restart, kind == Kind::Server).map_err(|error| {
            let text = match error {
                ExpandError::Keepalive { ping, restart } => format!(
                    "The second parameter to --keepalive (restart timeout={restart}) must be at least twice the value of \
                     the first parameter (ping interval={ping})"
                ),
                other => format!("keepalive: {other}"),
            };
            ProfileError::at(&origin, text).cure("A ratio of 1:5 or 1:6 is better; write `keepalive 10 60`")
        })?;
        draft.keepalive.ping = Some(expanded.ping);
        draft.keepalive.timeout = Some(PingTimeout::Restart(expanded.restart));
        draft.server.push.extend(expanded.push);
    }
    if kind == Kind::Server && draft.server.tcp_nodelay {
        draft.server.push.push("socket-flags TCP_NODELAY".into());
    }
    Ok(())
}
