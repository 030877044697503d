use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{error, fmt};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    Address, Dev, Gateway, Ifconfig, Plan, Redirect, Removal, Route, RouteGateway, RouteOption, Surroundings,
    Topology, VpnOptions,
};

/// The metric of the host route that keeps an IPv6 server reachable (route.c, `init_route_ipv6_list`).
const BYPASS6_METRIC: u32 = 1;

/// What [`build`] made of the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The plan.
    pub plan: Plan,
    /// What was left out of it and why, one line each, for the log.
    pub warnings: Vec<String>,
}

/// Why no plan can be made: the interface's own address is unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The second word of `ifconfig` is to be a netmask and is none.
    Netmask {
        /// Our address.
        local: Ipv4Addr,
        /// The word that is no netmask.
        mask: Ipv4Addr,
    },
    /// The prefix length of `ifconfig-ipv6` is above 128.
    Prefix6 {
        /// Our address.
        local: Ipv6Addr,
        /// The prefix length.
        prefix: u8,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netmask { local, mask } => write!(
                f,
                "ifconfig {local} {mask}: with topology subnet the second word must be a netmask such as \
                 255.255.255.0; if it is the far end's address, the topology should be net30 or p2p"
            ),
            Self::Prefix6 { local, prefix } => {
                write!(f, "ifconfig-ipv6 {local}/{prefix}: the prefix length must be 0 to 128")
            }
        }
    }
}

impl error::Error for PlanError {}

/// Derives the plan from the options, as OpenVPN does (init.c, `do_init_route_list`; route.c, `init_route_list`,
/// `redirect_default_route_to_vpn`; tun.c, `do_ifconfig`).
///
/// Routes by a gateway inside the tunnel's own network are pinned to the tunnel's interface; OpenVPN leaves that to
/// the kernel, which gives the same result unless the two networks overlap.
///
/// # Errors
///
/// [`PlanError`] if the interface cannot be given its address. Routes that cannot be made are left out with a
/// warning.
pub fn build(options: &VpnOptions, around: &Surroundings) -> Result<Built, PlanError> {
    let mut builder = Builder {
        options,
        around,
        plan: Plan {
            interface: options.interface.clone(),
            mtu: options.mtu,
            txqueuelen: options.txqueuelen,
            ..Plan::default()
        },
        warnings: Vec::new(),
    };
    builder.addresses()?;
    if let Some(redirect) = options.redirect.as_ref().filter(|redirect| redirect.ipv4) {
        builder.redirect4(*redirect);
    }
    for route in &options.routes {
        builder.route4(route);
    }
    builder.routes6();
    Ok(Built { plan: builder.plan, warnings: builder.warnings })
}

struct Builder<'a> {
    options: &'a VpnOptions,
    around: &'a Surroundings,
    plan: Plan,
    warnings: Vec<String>,
}

impl Builder<'_> {
    fn addresses(&mut self) -> Result<(), PlanError> {
        if let Some(Ifconfig { local, remote_or_mask }) = self.options.ifconfig {
            let (prefix, peer) = match self.options.topology {
                Topology::Subnet => {
                    let prefix = ipnet::ipv4_mask_to_prefix(remote_or_mask)
                        .map_err(|_| PlanError::Netmask { local, mask: remote_or_mask })?;
                    (prefix, None)
                }
                Topology::Net30 | Topology::P2p => (32, Some(remote_or_mask.into())),
            };
            self.plan.addresses.push(Address { ip: local.into(), prefix, peer });
        }
        if let Some(v6) = self.options.ifconfig6 {
            if v6.prefix > 128 {
                return Err(PlanError::Prefix6 { local: v6.local, prefix: v6.prefix });
            }
            self.plan.addresses.push(Address { ip: v6.local.into(), prefix: v6.prefix, peer: None });
        }
        Ok(())
    }

    /// What `vpn_gateway` stands for.
    fn vpn_gateway(&self) -> Option<Ipv4Addr> {
        let far_end = self.options.ifconfig.filter(|_| self.options.topology != Topology::Subnet);
        self.options.route_gateway.or_else(|| far_end.map(|ifconfig| ifconfig.remote_or_mask))
    }

    fn redirect4(&mut self, redirect: Redirect) {
        let endpoint = self.vpn_gateway();
        if redirect.reroute && endpoint.is_none() {
            self.warnings.push(
                "redirect-gateway left out for IPv4: no gateway inside the tunnel is known; the server should push \
                 route-gateway or ifconfig"
                    .to_owned(),
            );
            return;
        }
        let remote4 = match self.around.remote {
            Some(IpAddr::V4(remote)) => Some(remote),
            _ => None,
        };
        let to_remote = self.around.to_remote.as_ref();
        if let Some(remote) = remote4.filter(|_| !redirect.local) {
            let Some(gateway) = to_remote else {
                self.warnings.push(format!(
                    "redirect-gateway left out for IPv4: there is no route to the server {remote} outside the tunnel; \
                     give redirect-gateway the flag \"local\" if the server needs none"
                ));
                return;
            };
            let skip = is_own_host(gateway) || (redirect.autolocal && gateway.via.is_none());
            if !skip {
                self.push(gateway.route(Ipv4Net::from(remote).into()));
            }
        }
        let Some(endpoint) = endpoint.filter(|_| redirect.reroute) else { return };
        if redirect.def1 {
            for half in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(128, 0, 0, 0)] {
                self.push_by(Ipv4Net::new_assert(half, 1), endpoint);
            }
        } else {
            let everything = Ipv4Net::default();
            if let Some(default) = &self.around.default {
                self.plan.removals.push(Removal { dest: everything.into(), via: default.via });
            }
            self.push_by(everything, endpoint);
        }
    }

    fn route4(&mut self, route: &RouteOption) {
        let RouteOption { network, netmask, gateway, metric } = *route;
        let Ok(dest) = Ipv4Net::with_netmask(network, netmask) else {
            self.leave_out(&format!("route {network} {netmask}"), "the second word is no netmask");
            return;
        };
        let dest = IpNet::from(dest.trunc());
        let made = match gateway {
            RouteGateway::Vpn => self.vpn_gateway().map(|via| self.by(dest, via)).ok_or(
                "no gateway inside the tunnel is known: the server should push route-gateway, or the route needs a \
                 gateway of its own",
            ),
            RouteGateway::Addr(via) => Ok(self.by(dest, via)),
            RouteGateway::Net => self
                .around
                .default
                .as_ref()
                .map(|default| default.route(dest))
                .ok_or("net_gateway is unknown: this host has no IPv4 default route"),
            RouteGateway::RemoteHost => match self.around.remote {
                Some(IpAddr::V4(remote)) => Ok(self.by(dest, remote)),
                _ => Err("remote_host is unknown: the server is not reached over IPv4"),
            },
        };
        match made {
            Ok(route) => {
                let metric = metric.or_else(|| self.route_metric());
                self.push(Route { metric, table: self.options.route_table, ..route });
            }
            Err(why) => self.leave_out(&format!("route {dest}"), why),
        }
    }

    fn routes6(&mut self) {
        let mut wanted: Vec<(Ipv6Net, Option<u32>)> =
            self.options.routes6.iter().map(|route| (route.network.trunc(), route.metric)).collect();
        if self.options.redirect.is_some_and(|redirect| redirect.ipv6 && redirect.reroute) {
            if self.options.ifconfig6.is_some() {
                wanted.extend(whole_internet6().map(|network| (network, None)));
            } else {
                self.warnings.push(
                    "redirect-gateway left out for IPv6: the tunnel has no IPv6 address; the server should push \
                     ifconfig-ipv6"
                        .to_owned(),
                );
            }
        }
        let mut covers_remote = false;
        for (network, metric) in wanted {
            covers_remote |=
                matches!(self.around.remote, Some(IpAddr::V6(remote)) if network.contains(&remote));
            let metric = metric.or_else(|| self.route_metric());
            self.push(Route { metric, table: self.options.route_table, ..Route::through_tunnel(network) });
        }
        if covers_remote {
            self.bypass6();
        }
    }

    /// Keeps the way to an IPv6 server outside the tunnel when a route into the tunnel covers it.
    fn bypass6(&mut self) {
        let Some(IpAddr::V6(remote)) = self.around.remote else { return };
        match &self.around.to_remote6 {
            Some(gateway) if is_own_host(gateway) => {}
            Some(gateway) => {
                let host = gateway.route(Ipv6Net::from(remote).into());
                // Before the routes that would otherwise swallow the tunnel's own packets for a moment.
                self.plan.routes.insert(0, Route { metric: Some(BYPASS6_METRIC), ..host });
            }
            None => self.warnings.push(format!(
                "a route into the tunnel covers the server's own address {remote}, and there is no other way to it: \
                 expect the connection to break; push a narrower route-ipv6"
            )),
        }
    }

    /// `route-metric`; OpenVPN takes 0 as "none given".
    fn route_metric(&self) -> Option<u32> {
        self.options.route_metric.filter(|&metric| metric != 0)
    }

    fn push_by(&mut self, dest: Ipv4Net, via: Ipv4Addr) {
        let route = self.by(dest.into(), via);
        self.push(route);
    }

    /// A route by `via`, pinned to the tunnel if `via` is on the tunnel's link.
    fn by(&self, dest: IpNet, via: Ipv4Addr) -> Route {
        let on_tunnel = self.plan.addresses.iter().any(|address| match (address.peer, address.ip) {
            (Some(peer), _) => peer == IpAddr::V4(via),
            (None, IpAddr::V4(ip)) => {
                Ipv4Net::new(ip, address.prefix).is_ok_and(|network| network.contains(&via))
            }
            (None, IpAddr::V6(_)) => false,
        });
        let dev = if on_tunnel { Dev::Tunnel } else { Dev::None };
        Route { dev, ..Route::by_gateway(dest, via.into()) }
    }

    fn push(&mut self, route: Route) {
        if !self.plan.routes.contains(&route) {
            self.plan.routes.push(route);
        }
    }

    fn leave_out(&mut self, what: &str, why: &str) {
        self.warnings.push(format!("{what} left out: {why}"));
    }
}

impl Gateway {
    /// A route to `dest` by this way.
    pub fn route(&self, dest: IpNet) -> Route {
        Route {
            dest,
            via: self.via,
            dev: Dev::ByName(self.name.clone()),
            metric: None,
            table: None,
            onlink: self.onlink,
        }
    }
}

/// Whether the destination is an address of this very host, to which no route need be kept.
fn is_own_host(gateway: &Gateway) -> bool {
    gateway.via.is_none() && gateway.name == "lo"
}

/// The global unicast and unique local networks, each more specific than a default route (init.c,
/// `do_init_route_ipv6_list`).
fn whole_internet6() -> impl Iterator<Item = Ipv6Net> {
    [(0, 3), (0x2000, 4), (0x3000, 4), (0xfc00, 7)]
        .into_iter()
        .map(|(first, prefix)| Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), prefix))
}
