//! What goes through the tunnel and what the host looks like meanwhile.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use anyhow::{Context, Result, ensure};
use oxivpn_tests::{
    matrix::Cell,
    netns::{OUTSIDE_V4, SERVER_V4, Side},
    openvpn::{Release, Transport, inline},
    ping::Ping,
    process::poll,
    scenario::{Scenario, Tunnel},
};

/// Accepts one user with one password, which OpenVPN passes in the environment.
const VERIFY: &str = "#!/bin/sh\n[ \"$username\" = \"alice\" ] && [ \"$password\" = \"correct horse\" ]\n";

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for topology in ["net30", "subnet"] {
        cells.extend(Cell::for_each_release(&format!("tunnel::topology::{topology}"), move |release| {
            Scenario::new(release)?.server(format!("topology {topology}")).connected(|tunnel| {
                tunnel.ping_both_ways()?;
                tunnel.leave()
            })
        }));
    }
    for transport in Transport::ALL {
        for size in [56, 1_400, 2_000, 8_000] {
            let name = format!("tunnel::ping-{size}::{}", transport.name());
            cells.extend(Cell::for_each_release(&name, move |release| {
                Scenario::new(release)?.transport(transport).connected(|tunnel| {
                    tunnel.ping_size(size, false)?;
                    tunnel.ping_size(size, true)
                })
            }));
        }
    }
    cells.extend(Cell::for_each_release("tunnel::static-address", static_address));
    cells.extend(Cell::for_each_release("tunnel::mtu-pushed", mtu));
    cells.extend(Cell::for_each_release("tunnel::user-password::file", |release| {
        user_password(release, false)
    }));
    cells.extend(Cell::for_each_release("tunnel::user-password::inline", |release| {
        user_password(release, true)
    }));
    cells.extend(Cell::for_each_release("tunnel::routes::pushed", pushed_routes));
    cells.extend(Cell::for_each_release("tunnel::routes::local", local_routes));
    cells.extend(Cell::for_each_release("tunnel::routes::nopull", nopull));
    cells.extend(Cell::for_each_release("tunnel::routes::many-pushed", many_routes));
    cells.extend(Cell::for_each_release("tunnel::redirect-gateway", redirect_gateway));
    cells
}

fn static_address(release: Release) -> Result<()> {
    Scenario::new(release)?
        .server("client-config-dir .")
        .prepare(|lab| {
            fs::write(
                lab.dir().join("client"),
                "ifconfig-push 10.8.0.77 255.255.255.0\npush \"route 192.0.2.1\"\n",
            )?;
            Ok(())
        })
        .connected(|tunnel| {
            ensure!(
                tunnel.address(Side::Client, false)? == "10.8.0.77",
                "the client has not its own address"
            );
            expect_route(tunnel, "192.0.2.1", None)?;
            tunnel.ping_both_ways()
        })
}

fn mtu(release: Release) -> Result<()> {
    Scenario::new(release)?.server("tun-mtu 1400").server("push \"tun-mtu 1400\"").connected(|tunnel| {
        let state = tunnel.lab.state(Side::Client)?;
        let devices = state.addresses.as_array().context("no devices")?;
        let mtu = devices.iter().find(|d| d["ifname"].as_str().is_some_and(|n| n.starts_with("tun")));
        ensure!(mtu.is_some_and(|d| d["mtu"] == 1400), "the tun device has not the pushed MTU: {mtu:?}");
        tunnel.ping_size(2_000, false)
    })
}

fn user_password(release: Release, inlined: bool) -> Result<()> {
    const CREDENTIALS: &str = "alice\ncorrect horse\n";
    let option =
        if inlined { inline("auth-user-pass", CREDENTIALS) } else { "auth-user-pass credentials".into() };
    with_verify_script(Scenario::new(release)?)
        .client(option)
        .prepare(|lab| Ok(fs::write(lab.dir().join("credentials"), CREDENTIALS)?))
        .connected(|tunnel| {
            let line = "(?i)username/password authentication (deferred|succeeded).*'alice'";
            tunnel.server()?.process.wait_for(line, Duration::from_secs(2))?;
            ensure!(
                !tunnel.client.process.log().contains("correct horse"),
                "the password is in the client's log"
            );
            tunnel.ping_both_ways()
        })
}

/// A server that asks for the user name `alice` and the password `correct horse`.
pub(crate) fn with_verify_script(scenario: Scenario) -> Scenario {
    scenario.server("script-security 3").server("auth-user-pass-verify ./verify.sh via-env").prepare(|lab| {
        let script = lab.dir().join("verify.sh");
        fs::write(&script, VERIFY)?;
        Ok(fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?)
    })
}

fn pushed_routes(release: Release) -> Result<()> {
    Scenario::new(release)?
        .server("push \"route 192.0.2.0 255.255.255.0\"")
        .server("push \"route 198.51.100.7 255.255.255.255 vpn_gateway 321\"")
        .server("push \"route-ipv6 2001:db8:77::/48\"")
        .server("push \"route-metric 55\"")
        .connected(|tunnel| {
            expect_route(tunnel, "192.0.2.0/24", Some(55))?;
            expect_route(tunnel, "198.51.100.7", Some(321))?;
            expect_route(tunnel, "2001:db8:77::/48", None)?;
            tunnel.leave()
        })
}

fn local_routes(release: Release) -> Result<()> {
    Scenario::new(release)?
        .client("route 192.0.2.0 255.255.255.0 vpn_gateway 12")
        .client("route 198.51.100.0 255.255.255.0 net_gateway")
        .client("route-ipv6 2001:db8:88::/48")
        .connected(|tunnel| {
            expect_route(tunnel, "192.0.2.0/24", Some(12))?;
            expect_route(tunnel, "2001:db8:88::/48", None)?;
            let routes = tunnel.lab.ip(Side::Client, "route show 198.51.100.0/24")?;
            ensure!(routes.contains("via 10.9.0.254"), "net_gateway is not the host's own gateway: {routes}");
            tunnel.leave()
        })
}

fn nopull(release: Release) -> Result<()> {
    Scenario::new(release)?.server("push \"route 192.0.2.0 255.255.255.0\"").client("route-nopull").connected(
        |tunnel| {
            tunnel.ping_both_ways()?;
            let state = tunnel.lab.state(Side::Client)?;
            ensure!(state.tunnel_route("192.0.2.0/24").is_none(), "route-nopull took a pushed route");
            Ok(())
        },
    )
}

/// More routes than one PUSH_REPLY holds: the server continues it in further messages.
fn many_routes(release: Release) -> Result<()> {
    let mut scenario = Scenario::new(release)?;
    for n in 0..80 {
        scenario = scenario.server(format!("push \"route 172.20.{n}.0 255.255.255.0\""));
    }
    scenario.connected(|tunnel| {
        for n in 0..80 {
            expect_route(tunnel, &format!("172.20.{n}.0/24"), None)?;
        }
        tunnel.leave()
    })
}

fn redirect_gateway(release: Release) -> Result<()> {
    Scenario::new(release)?.server("push \"redirect-gateway def1\"").connected(|tunnel| {
        expect_route(tunnel, "0.0.0.0/1", None)?;
        expect_route(tunnel, "128.0.0.0/1", None)?;
        let to_outside = tunnel.lab.ip(Side::Client, &format!("route get {OUTSIDE_V4}"))?;
        ensure!(!to_outside.contains("dev eth0"), "the Internet is not behind the tunnel: {to_outside}");
        let to_server = tunnel.lab.ip(Side::Client, &format!("route get {SERVER_V4}"))?;
        ensure!(to_server.contains("dev eth0"), "the server is behind its own tunnel: {to_server}");
        Ping::new(tunnel.lab.ns(Side::Client), OUTSIDE_V4).all()?;
        tunnel.ping_both_ways()?;
        tunnel.leave()
    })
}

fn expect_route(tunnel: &Tunnel, destination: &str, metric: Option<u64>) -> Result<()> {
    let mut shown = String::new();
    let found = poll(Duration::from_secs(2), || {
        let state = tunnel.lab.state(Side::Client)?;
        shown = state.routes.to_string();
        Ok(state.tunnel_route(destination).cloned())
    })?;
    let route = found.with_context(|| format!("no route to {destination} through the tunnel in {shown}"))?;
    if let Some(metric) = metric {
        ensure!(route["metric"] == metric, "{destination} has not the metric {metric}: {route}");
    }
    Ok(())
}
