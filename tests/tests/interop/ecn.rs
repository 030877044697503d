//! Congestion marks across the tunnel (RFC 6040), an extension of this project: between two ends of it they are passed
//! on, and beside a real OpenVPN nothing is to be seen of them.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use oxivpn_tests::{
    content::carry,
    matrix::Cell,
    netns::Side,
    openvpn::{READY, Release, Transport},
    pair::{INSIDE, INSIDE_V6, Pair, Plan, Player},
    process::{Process, run_in},
    scenario::{CONNECT, Scenario},
    serve::{Guest, Service, Serving, all},
};

/// Enough for many round trips, each of which a mark may slow down.
const BYTES: usize = 400_000;

/// The word of our own in logs, and the one in peer info.
const WORD: &str = "oxivpn-ecn|IV_OXIVPN_ECN";

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for transport in [Transport::Udp4, Transport::Udp6] {
        let name = format!("ecn::marks-are-passed-on::{}", transport.name());
        cells.push(Cell::new(name, move || {
            served(Service::new()?.transport(transport), "carol", Guest::own("carol"), true)
        }));
        let name = format!("ecn::marks-are-passed-on::peers::{}", transport.name());
        cells.push(Cell::new(name, move || {
            peers(Plan::new(Player::Own, Player::Own).transport(transport), true)
        }));
    }
    cells.push(Cell::new("ecn::marks-are-passed-on::workers", || {
        let service = Service::new()?.line("workers 2").line("client-to-client");
        let service = service.guests((0..3).map(|n| Guest::own(&format!("guest{n}"))));
        served(service, "guest2", Guest::own("more"), true)
    }));
    cells.push(Cell::new("ecn::off::at-the-server", || {
        served(Service::new()?.line("ecn off"), "carol", Guest::own("carol"), false)
    }));
    cells.push(Cell::new("ecn::off::at-the-client", || {
        served(Service::new()?, "carol", Guest::own("carol").line("ecn off"), false)
    }));
    cells.push(Cell::new("ecn::real-clients", real_clients));
    cells.extend(Cell::for_each_release("ecn::real-server", real_server));
    for release in [Release::Distribution, Release::Newer] {
        let name = format!("ecn::real-peer::{}", release.name());
        cells.push(Cell::new(name, move || {
            peers(Plan::new(Player::Own, Player::Real(release)), false)?;
            peers(Plan::new(Player::Real(release), Player::Own), false)
        }));
    }
    cells
}

/// One host of the two between which packets go.
#[derive(Clone, Copy, Debug)]
struct End<'a> {
    ns: &'a str,
    inner: [IpAddr; 2],
}

impl End<'_> {
    /// In front of this host is a router with a queue that is always too long: it marks what may be marked.
    fn congest(self) -> Result<()> {
        let mut rules = "table inet router { counter capable { }; counter arrived { }; chain incoming { \
                         type filter hook prerouting priority raw; "
            .to_owned();
        for port in ["dport", "sport"] {
            rules += &format!("udp {port} 1194 counter name arrived; ");
            for ip in ["ip", "ip6"] {
                rules +=
                    &format!("udp {port} 1194 {ip} ecn != not-ect counter name capable {ip} ecn set ce; ");
            }
        }
        rules += "}; }";
        run_in(self.ns, &["nft", &rules]).context("no router that marks packets")?;
        run_in(self.ns, &["sysctl", "-qw", "net.ipv4.tcp_ecn=1"]).map(drop)
    }

    /// Packets of the tunnel that came here, and those among them whose sender heeds marks.
    fn came(self) -> Result<[u64; 2]> {
        let count = |name: &str| -> Result<u64> {
            let text = run_in(self.ns, &["nft", "list", "counter", "inet", "router", name])?;
            let count = text.split("packets ").nth(1).and_then(|rest| rest.split_whitespace().next());
            count.and_then(|count| count.parse().ok()).with_context(|| format!("no counter in {text}"))
        };
        Ok([count("arrived")?, count("capable")?])
    }

    /// TCP segments from here that were marked, as the other side's acknowledgements say.
    fn heard(self) -> Result<u64> {
        let text = run_in(self.ns, &["cat", "/proc/net/netstat"])?;
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        let (_, value) = pairs.find(|(name, _)| *name == "TCPDeliveredCE").context("no TCPDeliveredCE")?;
        value.parse().context("not a number")
    }

    /// A stream of TCP through the tunnel, with each family.
    fn stream(self, to: End<'_>) -> Result<()> {
        for address in to.inner {
            carry(self.ns, (to.ns, address), BYTES, 7)?;
        }
        Ok(())
    }
}

/// Streams each way through a congested router. Either all senders hear of it, or nothing was marked.
fn examine(ends: [End<'_>; 2], marks: bool) -> Result<()> {
    ends.into_iter().try_for_each(End::congest)?;
    for [from, to] in [ends, [ends[1], ends[0]]] {
        from.stream(to)?;
        let ([arrived, capable], heard) = (to.came()?, from.heard()?);
        // Of those that went with one call it sees one.
        ensure!(arrived > 10, "{arrived} packets of the tunnel came: the router is not on the way");
        let passed = if marks { heard > 0 && capable > 0 } else { heard == 0 && capable == 0 };
        ensure!(
            passed,
            "{capable} of {arrived} packets might be marked, {heard} marks were heard of: {from:?}"
        );
    }
    Ok(())
}

fn served(service: Service, name: &str, guest: Guest, marks: bool) -> Result<()> {
    service.kind_is_own("an extension of this project")?;
    service.guest(guest).connected(|serving| {
        stream_with(serving, name, marks)?;
        if marks {
            let pattern = "congestion marks passed on,[1-9]";
            serving.process()?.signal(Signal::SIGUSR2)?;
            serving.wait_for(pattern)?;
            let visit = serving.visit(name)?;
            visit.process()?.signal(Signal::SIGUSR2)?;
            visit.wait_for(pattern)?;
        }
        serving.ping_all()?;
        serving.stop()
    })
}

/// Streams between the server and the client `name`.
fn stream_with(serving: &Serving, name: &str, marks: bool) -> Result<()> {
    let end = |name| -> Result<End<'_>> {
        let inner = [serving.address(name, false)?.parse()?, serving.address(name, true)?.parse()?];
        Ok(End { ns: serving.ns(name)?, inner })
    };
    examine([end("server")?, end(name)?], marks)
}

/// Released clients of our server, beside one of our own.
fn real_clients() -> Result<()> {
    let service = Service::new()?;
    service.kind_is_own("an extension of this project")?;
    service.guests(all()).connected(|serving| {
        let ns = serving.star.server().to_owned();
        for name in ["alice", "bob"] {
            stream_with(serving, name, false).with_context(|| name.to_owned())?;
            unseen(serving.visit(name)?.process()?)?;
            run_in(&ns, &["nft", "delete", "table", "inet", "router"])?;
        }
        stream_with(serving, "carol", true)?;
        serving.ping_all()?;
        serving.stop()
    })
}

/// Our client with a released server, which shows what it is told and answers nothing.
fn real_server(release: Release) -> Result<()> {
    Scenario::new(release)?.connected(|tunnel| {
        tunnel.server()?.process.wait_for("peer info: IV_OXIVPN_ECN=1", CONNECT)?;
        let end = |side| -> Result<End<'_>> {
            let inner = [tunnel.address(side, false)?.parse()?, tunnel.address(side, true)?.parse()?];
            Ok(End { ns: tunnel.lab.ns(side), inner })
        };
        examine([end(Side::Server)?, end(Side::Client)?], false)?;
        unseen(&tunnel.client.process)?;
        tunnel.ping_both_ways()?;
        tunnel.leave()
    })
}

fn peers(plan: Plan, marks: bool) -> Result<()> {
    plan.started(|pair: &mut Pair| {
        pair.wait_both(READY, 1, CONNECT)?;
        let end = |n: usize| -> Result<End<'_>> {
            Ok(End { ns: pair.ns(n), inner: [INSIDE[n].parse()?, INSIDE_V6[n].parse()?] })
        };
        examine([end(0)?, end(1)?], marks)?;
        pair.ping_both_ways()?;
        pair.leave(1)?;
        pair.leave(0)
    })
}

/// Nothing in a log tells of the extension.
fn unseen(process: &Process) -> Result<()> {
    let lines = process.lines(WORD)?;
    ensure!(lines.is_empty(), "{lines:?}");
    Ok(())
}
