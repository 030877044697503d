//! Addresses, routes, DNS, and what of them is taken from the server (man section vpn-network, client).

use std::time::Duration;

use oxivpn_proto::config::FilterAction;
use oxivpn_proto::options::values;

use super::{Entry, MANY, honoured, not_built, quiet, structural, warned};
use crate::draft::{Draft, Fault};
use crate::grammar::Line;

const DNS: &str = "is ignored: name servers of the host are not set; set them by hand, with `resolvectl dns DEVICE ADDRESS` or resolvconf";

pub(super) const ENTRIES: &[Entry] = &[
    honoured("topology net30|p2p|subnet", 1, 1, |d, l| {
        d.host.topology = Some(values::topology(l.first()?)?);
        Ok(())
    }),
    honoured("ifconfig LOCAL REMOTE|NETMASK", 2, 2, |d, l| {
        let remote = values::address4(l.word(1).ok_or(Fault::Parameters)?)?;
        let local = values::address4(l.first()?)?;
        if local == remote {
            return Err(Fault::Value(
                "local and remote/netmask --ifconfig addresses must be different".into(),
            ));
        }
        d.host.ifconfig = Some((local, remote));
        Ok(())
    }),
    honoured("ifconfig-ipv6 LOCAL/BITS [REMOTE]", 1, 2, |d, l| {
        d.host.ifconfig_ipv6 = Some(values::ifconfig_ipv6(&l.strs())?);
        Ok(())
    }),
    honoured("ifconfig-noexec", 0, 0, |d, _| {
        d.host.no_addresses = true;
        Ok(())
    }),
    quiet("ifconfig-nowarn"),
    honoured("route NETWORK [NETMASK] [GATEWAY] [METRIC]", 1, 4, |d, l| {
        d.host.routes.push(values::route4(&l.strs())?);
        Ok(())
    }),
    honoured("route-ipv6 NETWORK/BITS [GATEWAY] [METRIC]", 1, 3, |d, l| {
        d.host.routes6.push(values::route6(&l.strs())?);
        Ok(())
    }),
    honoured("route-gateway ADDRESS", 1, 1, |d, l| {
        if l.first()? == "dhcp" {
            return Err(Fault::Refused(
                "`route-gateway dhcp` needs a tap device, which is not built yet".into(),
                "Write the gateway's address".into(),
            ));
        }
        d.host.route_gateway = Some(values::address4(l.first()?)?);
        Ok(())
    }),
    honoured("route-ipv6-gateway ADDRESS", 1, 1, |d, l| {
        d.host.route_ipv6_gateway = Some(values::address6(l.first()?)?);
        Ok(())
    }),
    honoured("route-metric METRIC", 1, 1, |d, l| {
        d.host.route_metric = Some(values::integer(l.first()?)?);
        Ok(())
    }),
    honoured("route-delay [SECONDS] [WINDOW]", 0, 2, |d, l| {
        l.word(1).map(values::seconds).transpose()?;
        d.host.route_delay = Some(l.word(0).map_or(Ok(Duration::ZERO), values::seconds)?);
        Ok(())
    })
    .not_server("--route-delay cannot be used with --mode server", "Remove the line"),
    quiet("route-method"),
    not_built(
        "route-table",
        "another routing table",
        "Write `route-noexec` and add routes with `ip route add .. table N`",
    ),
    honoured("route-noexec", 0, 0, |d, _| {
        d.host.no_routes = true;
        Ok(())
    }),
    honoured("route-nopull", 0, 0, |d, _| {
        d.policy.no_routes = true;
        Ok(())
    }),
    quiet("max-routes"),
    honoured("redirect-gateway [FLAG]..", 0, MANY, |d, l| redirect(d, l, false)).not_server(
        "--redirect-gateway cannot be used with --mode server (however --push \"redirect-gateway\" is fine)",
        "Write `push \"redirect-gateway def1\"` to send clients' traffic here",
    ),
    honoured("redirect-private [FLAG]..", 0, MANY, |d, l| redirect(d, l, true)).not_server(
        "--redirect-gateway cannot be used with --mode server (however --push \"redirect-gateway\" is fine)",
        "Write `push \"redirect-gateway def1\"` to send clients' traffic here",
    ),
    warned(
        "allow-pull-fqdn",
        "is ignored: names in pushed routes are not looked up; have the server push addresses",
    ),
    warned(
        "allow-recursive-routing",
        "is ignored: packets to the server are not looked for inside of the tunnel; remove the line",
    ),
    honoured("pull-filter accept|ignore|reject TEXT", 2, 2, |d, l| {
        let action = match l.first()? {
            "accept" => FilterAction::Accept,
            "ignore" => FilterAction::Ignore,
            "reject" => FilterAction::Reject,
            other => return Err(Fault::Value(format!("Unknown --pull-filter type: {other}"))),
        };
        d.policy.filters.push((action, l.word(1).ok_or(Fault::Parameters)?.into()));
        Ok(())
    }),
    warned("dhcp-option", DNS),
    warned("dns", DNS),
    warned(
        "block-outside-dns",
        "is ignored: it blocks other name servers on Windows only; set up the firewall where that matters",
    ),
    honoured("block-ipv6", 0, 0, |d, _| {
        d.host.block_ipv6 = true;
        Ok(())
    }),
    quiet("register-dns"),
    honoured("dns-updown disable", 1, 1, |_, l| match l.first()? {
        "disable" => Ok(()),
        _ => Err(Fault::Refused(
            "programs that set name servers are not built yet".into(),
            "Set name servers by hand, and write `dns-updown disable` or remove the line".into(),
        )),
    }),
    not_built(
        "client-nat",
        "address translation inside of the client",
        "Translate with `nft` on the tunnel device",
    ),
    structural("ignore-unknown-option"),
    quiet("echo"),
    quiet("parameter"),
];

fn redirect(draft: &mut Draft, line: &Line, private: bool) -> Result<(), Fault> {
    let new = values::redirect(private, &line.strs())?;
    let Some(old) = draft.host.redirect else {
        draft.host.redirect = Some(new);
        return Ok(());
    };
    draft.warn(
        &line.origin,
        "redirect-gateway and redirect-private stand here more than once, their flags are added up; write one line",
    );
    draft.host.redirect = Some(oxivpn_proto::options::pushed::RedirectFlags {
        private: old.private && new.private,
        def1: old.def1 || new.def1,
        local: old.local || new.local,
        autolocal: old.autolocal || new.autolocal,
        bypass_dhcp: old.bypass_dhcp || new.bypass_dhcp,
        bypass_dns: old.bypass_dns || new.bypass_dns,
        block_local: old.block_local || new.block_local,
        ipv6: old.ipv6 || new.ipv6,
        not_ipv4: old.not_ipv4 || new.not_ipv4,
    });
    Ok(())
}
