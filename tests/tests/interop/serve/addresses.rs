//! Addresses and routes of clients, and what passes between them.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use oxivpn_tests::{
    matrix::Cell,
    netns::{SERVER_SECOND_V4, SERVER_SECOND_V6},
    openvpn::{Release, Transport},
    ping::Ping,
    process::poll,
    serve::{Guest, Service, Serving, all, both, passes},
};

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for topology in ["net30", "subnet", "p2p"] {
        cells.push(Cell::new(format!("serve::topology::{topology}"), move || {
            Service::new()?.line(format!("topology {topology}")).guests(all()).connected(|serving| {
                distinct(serving)?;
                serving.ping_all()?;
                serving.stop()
            })
        }));
    }
    for transport in Transport::ALL {
        cells.push(Cell::new(format!("serve::big-pings::{}", transport.name()), move || {
            Service::new()?.transport(transport).guests(all()).connected(|serving| {
                for visit in &serving.visits {
                    for size in [1_400, 2_000, 8_000] {
                        serving.ping_size(&visit.name, "server", size, false)?;
                        serving.ping_size("server", &visit.name, size, true)?;
                    }
                }
                Ok(())
            })
        }));
    }
    cells.push(Cell::new("serve::ipv6-only-inside", || {
        Service::new()?.line("!server").guests(both()).connected(|serving| {
            serving.visits.iter().try_for_each(|v| serving.ping_size(&v.name, "server", 56, true))
        })
    }));
    cells.push(Cell::new("serve::ccd::ifconfig-push", static_address));
    cells.push(Cell::new("serve::ccd::iroute", || iroute(Service::new()?, false)));
    cells.push(Cell::new("serve::client-to-client::ccd-and-iroute", || iroute(Service::new()?, true)));
    cells.push(Cell::new("serve::ccd::push-remove-and-reset", push_remove));
    cells.push(Cell::new("serve::ccd::default", default_file));
    cells.push(Cell::new("serve::client-to-client::off", strangers));
    cells.push(Cell::new("serve::spoofed-source", spoofed));
    cells.push(Cell::new("serve::pool-persist", persist));
    cells.push(Cell::new("serve::pool::exhausted", exhausted));
    cells.push(Cell::new("serve::many-pushed-routes", many_routes));
    cells.push(Cell::new("serve::mtu", mtu));
    cells.push(Cell::new("serve::sockets::multihome", multihome));
    for (name, transport, protos) in [
        ("udp", Transport::Udp4, ["proto udp6", "proto udp"]),
        ("tcp", Transport::Tcp4, ["proto tcp6-server", "proto tcp-server"]),
    ] {
        for proto in protos {
            let name = format!("serve::sockets::dual-stack::{name}::{}", proto.replace(' ', "-"));
            cells.push(Cell::new(name, move || dual_stack(transport, proto)));
        }
    }
    cells.push(Cell::new("serve::sockets::udp-and-tcp", || udp_and_tcp(Service::new()?)));
    cells.push(Cell::new("serve::sockets::one-address", one_address));
    cells
}

/// No two clients have the same address.
fn distinct(serving: &Serving) -> Result<()> {
    for v6 in [false, true] {
        let addresses = serving.visits.iter().map(|v| serving.address(&v.name, v6));
        let mut addresses = addresses.collect::<Result<Vec<_>>>()?;
        addresses.sort();
        let all = addresses.len();
        addresses.dedup();
        ensure!(addresses.len() == all, "shared addresses: {addresses:?}");
    }
    Ok(())
}

fn static_address() -> Result<()> {
    Service::new()?
        .line("client-config-dir ccd")
        .file("ccd/alice", "ifconfig-push 10.8.0.77 255.255.255.0\nifconfig-ipv6-push fd08::77/64 fd08::1\n")
        .file("ccd/bob", "push \"route 192.0.2.1\"\n# remark\n\n;another\n")
        .guests(all())
        .connected(|serving| {
            ensure!(serving.address("alice", false)? == "10.8.0.77", "alice has not her own address");
            ensure!(serving.address("alice", true)? == "fd08::77", "alice has not her own IPv6 address");
            let state = serving.star.state(serving.ns("bob")?)?;
            ensure!(state.tunnel_route("192.0.2.1").is_some(), "bob has not the route of his file");
            let state = serving.star.state(serving.ns("carol")?)?;
            ensure!(state.tunnel_route("192.0.2.1").is_none(), "carol has bob's route");
            distinct(serving)?;
            serving.ping_all()?;
            serving.ping_size("server", "alice", 56, true)
        })
}

/// A network behind `alice`, reached from the server and, with client-to-client, from the others, which reach each
/// other as well.
pub(super) fn iroute(mut service: Service, client_to_client: bool) -> Result<()> {
    if client_to_client {
        service = service.line("client-to-client");
    }
    service
        .line("client-config-dir ccd")
        .line("route 192.168.77.0 255.255.255.0")
        .line("route-ipv6 2001:db8:77::/48")
        .line("push \"route 192.168.77.0 255.255.255.0\"")
        .line("push \"route-ipv6 2001:db8:77::/48\"")
        .file(
            "ccd/alice",
            "iroute 192.168.77.0 255.255.255.0\niroute-ipv6 2001:db8:77::/48\n\
             ifconfig-push 10.8.0.50 255.255.255.0\nifconfig-ipv6-push fd08::50/64\n",
        )
        .guests(all())
        .prepare(|star| {
            star.ip(star.client(0), "addr add 192.168.77.1/32 dev lo")?;
            star.ip(star.client(0), "addr add 2001:db8:77::1/128 dev lo nodad").map(drop)
        })
        .connected(|serving| {
            let host = ["192.168.77.1", "2001:db8:77::1"];
            serving.ping_all()?;
            for host in host {
                Ping::new(serving.ns("server")?, host).all().context("the server to the network of alice")?;
            }
            // A client does not get the route to what is behind itself.
            let own = serving.star.state(serving.ns("alice")?)?;
            ensure!(
                own.tunnel_route("192.168.77.0/24").is_none(),
                "alice was given the route to her own network"
            );
            for (from, to) in [("bob", "carol"), ("carol", "bob"), ("bob", "alice"), ("alice", "carol")] {
                if client_to_client {
                    serving.ping(from, to)?;
                    serving.ping_size(from, to, 56, true)?;
                    serving.ping_size(from, to, 2_000, false)?;
                } else {
                    serving.no_ping(from, to)?;
                }
            }
            for from in ["bob", "carol"] {
                for host in host {
                    ensure!(
                        passes(serving.ns(from)?, host)? == client_to_client,
                        "{from} to {host}, with client-to-client: {client_to_client}"
                    );
                }
            }
            Ok(())
        })
}

/// Routes which the clients have of those that the server pushes.
fn pushed(serving: &Serving, name: &str) -> Result<Vec<&'static str>> {
    let state = serving.star.state(serving.ns(name)?)?;
    let known = ["192.0.2.0/24", "198.51.100.0/24", "172.20.1.0/24"];
    Ok(known.into_iter().filter(|route| state.tunnel_route(route).is_some()).collect())
}

fn push_remove() -> Result<()> {
    Service::new()?
        .line("client-config-dir ccd")
        .line("push \"route 192.0.2.0 255.255.255.0\"")
        .line("push \"route 198.51.100.0 255.255.255.0\"")
        .file("ccd/alice", "push-remove \"route 192.0\"\n")
        .file("ccd/bob", "push-reset\npush \"topology subnet\"\npush \"route-gateway 10.8.0.1\"\npush \"route 172.20.1.0 255.255.255.0\"\n")
        .guests(all())
        .connected(|serving| {
            for (name, expected) in [
                ("alice", &["198.51.100.0/24"][..]),
                ("bob", &["172.20.1.0/24"]),
                ("carol", &["192.0.2.0/24", "198.51.100.0/24"]),
            ] {
                // Routes are set a moment after the address.
                let mut seen = Vec::new();
                poll(Duration::from_secs(3), || {
                    seen = pushed(serving, name)?;
                    Ok((seen == expected).then_some(()))
                })?
                .with_context(|| format!("{name} has {seen:?} instead of {expected:?}"))?;
            }
            serving.ping_all()
        })
}

/// `DEFAULT` is for who has no file.
fn default_file() -> Result<()> {
    Service::new()?
        .line("client-config-dir ccd")
        .file("ccd/DEFAULT", "push \"route 192.0.2.0 255.255.255.0\"\n")
        .file("ccd/alice", "push \"route 198.51.100.0 255.255.255.0\"\n")
        .guests(both())
        .connected(|serving| {
            for (name, expected) in [("alice", ["198.51.100.0/24"]), ("bob", ["192.0.2.0/24"])] {
                poll(Duration::from_secs(3), || Ok((pushed(serving, name)? == expected).then_some(())))?
                    .with_context(|| format!("{name} has not {expected:?}"))?;
            }
            Ok(())
        })
}

/// Without client-to-client no client reaches another: the host does not forward, and the server's process doesn't.
fn strangers() -> Result<()> {
    Service::new()?.guests(all()).connected(|serving| {
        serving.ping_all()?;
        for (from, to) in [("alice", "bob"), ("bob", "carol"), ("carol", "alice")] {
            serving.no_ping(from, to)?;
        }
        serving.ping_all()
    })
}

/// Packets whose source is not the client's do not get through, whether it is nobody's address or another client's.
fn spoofed() -> Result<()> {
    Service::new()?.guests(all()).connected(|serving| {
        let server = serving.address("server", false)?;
        let other = serving.address("bob", false)?;
        for (name, source) in [("alice", "10.8.0.99"), ("alice", &other), ("carol", "192.0.2.5")] {
            let ns = serving.ns(name)?;
            let device = serving.star.ip(ns, "-o link show type tun")?;
            let device = device.split(": ").nth(1).context("no tun device")?.to_owned();
            serving.star.ip(ns, &format!("addr add {source}/32 dev {device}"))?;
            let before = echo_requests(serving)?;
            let words = ["ping", "-n", "-c", "3", "-i", "0.1", "-W", "1", "-I", source, &server];
            let answered = oxivpn_tests::process::output_in(ns, &words)?.status.success();
            ensure!(!answered, "{name} was answered as {source}");
            let seen = echo_requests(serving)? - before;
            ensure!(seen == 0, "{seen} packets of {name} from {source} reached the server's host");
        }
        serving.ping_all()
    })
}

/// Number of pings that the server's host has received.
fn echo_requests(serving: &Serving) -> Result<u64> {
    let text = serving.star.exec(serving.star.server(), &["cat", "/proc/net/snmp"])?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let at = names.split(' ').position(|name| name == "InEchos").context("no InEchos")?;
    values.split(' ').nth(at).context("no value")?.parse().context("InEchos")
}

/// Clients get the addresses of the last run, whoever comes first.
fn persist() -> Result<()> {
    let service = Service::new()?.line("ifconfig-pool-persist pool.txt 1").guests(all());
    service.line("keepalive 1 4").file("pool.txt", "bob,10.8.0.40,fd08::2000\n").connected(|serving| {
        let addresses = |serving: &Serving| -> Result<Vec<String>> {
            serving.visits.iter().map(|v| serving.address(&v.name, false)).collect()
        };
        let before = addresses(serving)?;
        ensure!(before[1] == "10.8.0.40", "bob has not the address of the file: {before:?}");
        let file = serving.star.dir().join("pool.txt");
        poll(Duration::from_secs(5), || {
            let text = fs::read_to_string(&file)?;
            let has = |(name, address): (&str, &String)| {
                text.lines().any(|l| l.starts_with(&format!("{name},{address}")))
            };
            Ok(["alice", "bob", "carol"].into_iter().zip(&before).all(has).then_some(()))
        })?
        .with_context(|| format!("pool.txt has not {before:?}: {:?}", fs::read_to_string(&file)))?;
        serving.stop()?;
        serving.start()?;
        serving.wait_connected(2)?;
        let after = addresses(serving)?;
        ensure!(after == before, "{after:?} instead of {before:?}");
        serving.ping_all()
    })
}

/// Room for two: the third is not served, and the others don't notice.
fn exhausted() -> Result<()> {
    let service = Service::new()?.line("!server").line("!server-ipv6").line("mode server").line("tls-server");
    service
        .line("ifconfig 10.8.0.1 255.255.255.0")
        .line("ifconfig-pool 10.8.0.2 10.8.0.3 255.255.255.0")
        .line("push \"topology subnet\"")
        .line("push \"route-gateway 10.8.0.1\"")
        .guests(all())
        .started(|serving| {
            let ready = |serving: &mut Serving| -> Result<usize> {
                let seen = serving
                    .visits
                    .iter_mut()
                    .map(|visit| visit.process()?.lines("PUSH: Received control message"));
                Ok(seen
                    .collect::<Result<Vec<_>>>()?
                    .iter()
                    .filter(|l| l.iter().any(|l| l.contains(" 255.255.255.0")))
                    .count())
            };
            poll(Duration::from_secs(15), || Ok((ready(serving)? == 2).then_some(())))?
                .context("no two clients")?;
            serving.wait_for("(?i)(no free --ifconfig-pool addresses|pool.*(exhausted|full|no free))")?;
            std::thread::sleep(Duration::from_secs(1));
            ensure!(ready(serving)? == 2, "the third got an address");
            Ok(())
        })
}

/// More routes than one PUSH_REPLY holds.
fn many_routes() -> Result<()> {
    let mut service = Service::new()?.guests(all());
    for n in 0..80 {
        service = service.line(format!("push \"route 172.20.{n}.0 255.255.255.0\""));
    }
    service.connected(|serving| {
        for visit in &serving.visits {
            let mut missing = Vec::new();
            poll(Duration::from_secs(5), || {
                let state = serving.star.state(&visit.ns)?;
                let routes = (0..80).map(|n| format!("172.20.{n}.0/24"));
                missing = routes.filter(|route| state.tunnel_route(route).is_none()).collect();
                Ok(missing.is_empty().then_some(()))
            })?
            .with_context(|| format!("{} has not {missing:?}", visit.name))?;
        }
        serving.ping_all()
    })
}

fn mtu() -> Result<()> {
    Service::new()?.line("tun-mtu 1400").line("mssfix 1300").guests(all()).connected(|serving| {
        for name in ["server", "alice", "bob", "carol"] {
            let state = serving.star.state(serving.ns(name)?)?;
            let devices = state.addresses.as_array().context("no devices")?;
            let tun = devices.iter().find(|d| d["ifname"].as_str().is_some_and(|n| n.starts_with("tun")));
            // Clients since 2.6 are told.
            ensure!(tun.is_some_and(|d| d["mtu"] == 1400), "{name} has not the MTU: {tun:?}");
        }
        for visit in &serving.visits {
            serving.ping_size(&visit.name, "server", 2_000, false)?;
        }
        Ok(())
    })
}

/// Answers come from the address that was asked; a client takes no others.
fn multihome() -> Result<()> {
    let second = format!("remote {SERVER_SECOND_V4} 1194");
    let [alice, bob, carol] = all();
    let service = Service::new()?.line("multihome").guests([alice.line(&second), bob, carol.line(&second)]);
    service.connected(|serving| {
        serving.ping_all()?;
        serving.stop()
    })?;
    let second = format!("remote {SERVER_SECOND_V6} 1194");
    let service = Service::new()?.transport(Transport::Udp6).line("multihome");
    service.guests(all()).guest(Guest::real(Release::Newer, "dave").line(second)).connected(|s| s.ping_all())
}

/// One socket for both families.
fn dual_stack(transport: Transport, proto: &str) -> Result<()> {
    let over_v6 = |guest: Guest| match transport {
        Transport::Tcp4 => guest.line("proto tcp6-client").line("remote fd09::1 1194"),
        _ => guest.transport(Transport::Udp6),
    };
    let service = Service::new()?.transport(transport).line(proto);
    if proto == "proto udp" || proto == "proto tcp-server" {
        service.kind_is_own("OpenVPN takes the first family that the host offers")?;
    }
    let [alice, bob, carol] = all();
    let dave = over_v6(Guest::real(Release::Newer, "dave"));
    service.guests([over_v6(alice), bob, carol, dave]).connected(|serving| serving.ping_all())
}

/// Two sockets at once, clients on both, and these reach each other.
pub(super) fn udp_and_tcp(service: Service) -> Result<()> {
    let [alice, bob, carol] = all();
    service
        .since_2_7()?
        .line("local 10.9.0.1 1194 udp4")
        .line("local 10.9.0.1 1194 tcp4-server")
        .line("!port")
        .line("client-to-client")
        .guests([alice.transport(Transport::Tcp4), bob, carol.transport(Transport::Tcp4)])
        .connected(|serving| {
            serving.ping_all()?;
            serving.ping("alice", "bob")?;
            serving.ping("bob", "carol")?;
            serving.stop()
        })
}

/// `local` with an address: the others are free.
fn one_address() -> Result<()> {
    Service::new()?
        .line(format!("local {SERVER_SECOND_V4}"))
        .guests(all())
        .each(&format!("remote {SERVER_SECOND_V4} 1194"))
        .connected(|serving| {
            serving.ping_all()?;
            let sockets = serving.star.exec(serving.star.server(), &["cat", "/proc/net/udp"])?;
            // 10.9.0.5:1194 in the kernel's order of bytes.
            ensure!(sockets.contains("0500090A:04AA"), "no socket at the address: {sockets}");
            ensure!(!sockets.contains("00000000:04AA"), "a socket at every address: {sockets}");
            Ok(())
        })
}
