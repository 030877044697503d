//! What server and profile want of the host, put together for `oxivpn-host`.

use core::net::{IpAddr, Ipv4Addr};

use oxivpn_host::plan::{
    Ifconfig, Ifconfig6, Redirect, RouteGateway, RouteOption, RouteOption6, Surroundings, Topology,
    VpnOptions,
};
use oxivpn_profile::profile::HostOptions;
use oxivpn_proto::options::pushed::{self, Gateway, Pushed, RedirectFlags, Route4, Route6, Target};

/// The options for the host, and what had to be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Input of [`oxivpn_host::plan::build`].
    pub options: VpnOptions,
    /// The same before `ifconfig-noexec` and `route-noexec` took away what scripts are to do.
    pub told: VpnOptions,
    /// One line for each thing that is not done, for the log.
    pub warnings: Vec<String>,
}

/// Puts the profile's own options and the pushed ones together: a pushed single value wins over the profile's,
/// routes add up (`openvpn: options.c`, `pull` scope).
pub fn wanted(local: &HostOptions, pushed: &[Pushed], around: &Surroundings, has_script: bool) -> Wanted {
    let mut wanted = Wanted::default();
    let mut dns = Vec::new();
    wanted.take_local(local);
    // The gateway must be known before routes that name it.
    for option in pushed {
        wanted.take_value(option);
    }
    for route in &local.routes {
        wanted.take_route(route, false, around);
    }
    for route in &local.routes6 {
        wanted.take_route6(route);
    }
    for option in pushed {
        match option {
            Pushed::Route(route) => wanted.take_route(route, true, around),
            Pushed::RouteIpv6(route) => wanted.take_route6(route),
            Pushed::DhcpOption(words) => dns.push(format!("dhcp-option {}", words.join(" "))),
            Pushed::Dns(words) => dns.push(format!("dns {}", words.join(" "))),
            _ => {}
        }
    }
    // A script gets them as `foreign_option_N`.
    if !dns.is_empty() && !has_script {
        wanted.warnings.push(format!(
            "the server's DNS settings are not applied to this host: {}. Apply them by hand (resolvectl dns DEVICE \
             ADDRESS, or /etc/resolv.conf)",
            dns.join(", ")
        ));
    }
    wanted.told = wanted.options.clone();
    wanted.restrict(local);
    wanted
}

impl Wanted {
    fn take_local(&mut self, local: &HostOptions) {
        let options = &mut self.options;
        options.ifconfig = local.ifconfig.map(|(local, remote_or_mask)| Ifconfig { local, remote_or_mask });
        options.ifconfig6 =
            local.ifconfig_ipv6.map(|(local, prefix, remote)| Ifconfig6 { local, prefix, remote });
        options.topology = local.topology.map(topology).unwrap_or_default();
        options.route_gateway = local.route_gateway;
        options.route_metric = local.route_metric;
        options.redirect = local.redirect.map(redirect);
        if local.block_ipv6 {
            self.warn_block_ipv6();
        }
    }

    fn take_value(&mut self, option: &Pushed) {
        let options = &mut self.options;
        match option {
            Pushed::Ifconfig(local, remote_or_mask) => {
                options.ifconfig = Some(Ifconfig { local: *local, remote_or_mask: *remote_or_mask });
            }
            Pushed::IfconfigIpv6(local, prefix, remote) => {
                options.ifconfig6 = Some(Ifconfig6 { local: *local, prefix: *prefix, remote: *remote });
            }
            Pushed::Topology(value) => options.topology = topology(*value),
            Pushed::RouteGateway(Some(gateway)) => options.route_gateway = Some(*gateway),
            Pushed::RouteGateway(None) => self.warnings.push(
                "route-gateway dhcp has no meaning for a layer 3 tunnel; routes go to the tunnel itself"
                    .into(),
            ),
            Pushed::RouteMetric(metric) => options.route_metric = Some(*metric),
            Pushed::RedirectGateway(flags) => options.redirect = Some(redirect(*flags)),
            Pushed::BlockIpv6 => self.warn_block_ipv6(),
            _ => {}
        }
    }

    fn warn_block_ipv6(&mut self) {
        self.warnings.push(
            "block-ipv6 is not done: IPv6 traffic may leave beside the tunnel. Block it with a firewall rule"
                .into(),
        );
    }

    fn take_route(&mut self, route: &Route4, pushed: bool, around: &Surroundings) {
        let network = match &route.network {
            Target::Address(address) => Some(*address),
            Target::VpnGateway => self.vpn_gateway(),
            Target::NetGateway => around.default.as_ref().and_then(|gateway| v4(gateway.via)),
            Target::RemoteHost => v4(around.remote),
            Target::Name(name) => {
                let why = match pushed {
                    false => "the name has no IPv4 address; check it, or write the address",
                    true => "pushed host names are not looked up; have the server push the address",
                };
                self.warnings.push(format!("route to {name} is left out: {why}"));
                return;
            }
        };
        let Some(network) = network else {
            self.warnings.push(format!("a route is left out: {:?} is not known", route.network));
            return;
        };
        let gateway = match route.gateway {
            Gateway::Default | Gateway::Vpn => RouteGateway::Vpn,
            Gateway::Net => RouteGateway::Net,
            Gateway::RemoteHost => RouteGateway::RemoteHost,
            Gateway::Address(address) => RouteGateway::Addr(address),
        };
        self.options.routes.push(RouteOption { network, netmask: route.mask, gateway, metric: route.metric });
    }

    fn take_route6(&mut self, route: &Route6) {
        let Ok(network) = ipnet::Ipv6Net::new(route.network, route.bits) else {
            self.warnings
                .push(format!("route-ipv6 {}/{} is left out: no such prefix", route.network, route.bits));
            return;
        };
        if matches!(route.gateway, Gateway::Net | Gateway::RemoteHost) {
            self.warnings.push(format!(
                "route-ipv6 {network} by a gateway outside of the tunnel is left out: set it by hand"
            ));
            return;
        }
        let gateway = match route.gateway {
            Gateway::Address(address) => Some(address),
            _ => None,
        };
        self.options.routes6.push(RouteOption6 { network, gateway, metric: route.metric });
    }

    fn vpn_gateway(&self) -> Option<Ipv4Addr> {
        self.options.route_gateway.or_else(|| match self.options.topology {
            Topology::Subnet => None,
            Topology::Net30 | Topology::P2p => self.options.ifconfig.map(|pair| pair.remote_or_mask),
        })
    }

    /// `ifconfig-noexec` and `route-noexec`.
    fn restrict(&mut self, local: &HostOptions) {
        if local.no_addresses {
            (self.options.ifconfig, self.options.ifconfig6) = (None, None);
        }
        if local.no_routes {
            self.options.routes.clear();
            self.options.routes6.clear();
            self.options.redirect = None;
        }
    }
}

const fn v4(address: Option<IpAddr>) -> Option<Ipv4Addr> {
    match address {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    }
}

const fn topology(topology: pushed::Topology) -> Topology {
    match topology {
        pushed::Topology::Net30 => Topology::Net30,
        pushed::Topology::P2p => Topology::P2p,
        pushed::Topology::Subnet => Topology::Subnet,
    }
}

const fn redirect(flags: RedirectFlags) -> Redirect {
    Redirect {
        ipv4: !flags.not_ipv4,
        ipv6: flags.ipv6,
        reroute: !flags.private,
        def1: flags.def1,
        local: flags.local,
        autolocal: flags.autolocal,
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn route(network: Target) -> Route4 {
        Route4 { network, mask: ip("255.255.255.0"), gateway: Gateway::Default, metric: None }
    }

    #[test]
    fn pushed_values_win_and_routes_add_up() {
        let local = HostOptions {
            ifconfig: Some((ip("10.1.0.2"), ip("10.1.0.1"))),
            route_metric: Some(5),
            routes: vec![route(Target::Address(ip("192.168.1.0")))],
            ..HostOptions::default()
        };
        let pushed = [
            Pushed::Topology(pushed::Topology::Subnet),
            Pushed::Ifconfig(ip("10.8.0.2"), ip("255.255.255.0")),
            Pushed::RouteGateway(Some(ip("10.8.0.1"))),
            Pushed::Route(route(Target::Address(ip("192.168.2.0")))),
            Pushed::RouteIpv6(Route6 {
                network: "fd00::".parse::<Ipv6Addr>().unwrap(),
                bits: 64,
                gateway: Gateway::Default,
                metric: Some(7),
            }),
        ];
        let Wanted { options, warnings, .. } = wanted(&local, &pushed, &Surroundings::default(), false);
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(
            options.ifconfig,
            Some(Ifconfig { local: ip("10.8.0.2"), remote_or_mask: ip("255.255.255.0") })
        );
        assert_eq!(options.topology, Topology::Subnet);
        assert_eq!((options.route_gateway, options.route_metric), (Some(ip("10.8.0.1")), Some(5)));
        let networks: Vec<Ipv4Addr> = options.routes.iter().map(|route| route.network).collect();
        assert_eq!(networks, [ip("192.168.1.0"), ip("192.168.2.0")]);
        assert_eq!(options.routes6[0].metric, Some(7));
    }

    #[test]
    fn special_targets_become_addresses() {
        let around = Surroundings { remote: Some("203.0.113.9".parse().unwrap()), ..Surroundings::default() };
        let pushed = [
            Pushed::Route(route(Target::RemoteHost)),
            Pushed::Route(route(Target::VpnGateway)),
            Pushed::Ifconfig(ip("10.8.0.6"), ip("10.8.0.5")),
        ];
        let Wanted { options, warnings, .. } = wanted(&HostOptions::default(), &pushed, &around, false);
        let networks: Vec<Ipv4Addr> = options.routes.iter().map(|route| route.network).collect();
        assert_eq!(networks, [ip("203.0.113.9"), ip("10.8.0.5")]);
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn what_is_left_out_is_named_once() {
        let pushed = [
            Pushed::DhcpOption(vec!["DNS".into(), "10.8.0.1".into()]),
            Pushed::DhcpOption(vec!["DOMAIN".into(), "example.net".into()]),
            Pushed::Route(route(Target::Name("intra.example.net".into()))),
            Pushed::Route(route(Target::NetGateway)),
        ];
        let Wanted { options, warnings, .. } =
            wanted(&HostOptions::default(), &pushed, &Surroundings::default(), false);
        assert!(options.routes.is_empty());
        assert_eq!(warnings.len(), 3, "{warnings:#?}");
        assert!(warnings[0].contains("intra.example.net") && warnings[0].contains("push the address"));
        assert!(warnings[2].contains("dhcp-option DNS 10.8.0.1, dhcp-option DOMAIN example.net"));
    }

    #[test]
    fn noexec_leaves_the_host_alone() {
        let local = HostOptions { no_addresses: true, no_routes: true, ..HostOptions::default() };
        let pushed = [
            Pushed::Ifconfig(ip("10.8.0.2"), ip("255.255.255.0")),
            Pushed::Route(route(Target::Address(ip("10.0.0.0")))),
            Pushed::RedirectGateway(RedirectFlags { def1: true, ..RedirectFlags::default() }),
        ];
        let Wanted { options, .. } = wanted(&local, &pushed, &Surroundings::default(), false);
        assert_eq!(options, VpnOptions::default());
    }

    #[test]
    fn redirect_flags_keep_their_meaning() {
        let flags = RedirectFlags { def1: true, not_ipv4: true, ipv6: true, ..RedirectFlags::default() };
        let Wanted { options, .. } = wanted(
            &HostOptions::default(),
            &[Pushed::RedirectGateway(flags)],
            &Surroundings::default(),
            false,
        );
        let expected = Redirect { ipv4: false, ipv6: true, def1: true, ..Redirect::gateway() };
        assert_eq!(options.redirect, Some(expected));
        let private = RedirectFlags { private: true, ..RedirectFlags::default() };
        let Wanted { options, .. } = wanted(
            &HostOptions::default(),
            &[Pushed::RedirectGateway(private)],
            &Surroundings::default(),
            false,
        );
        assert_eq!(options.redirect.map(|redirect| redirect.reroute), Some(false));
    }
}
