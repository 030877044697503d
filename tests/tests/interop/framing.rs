//! Compression framing: `comp-lzo`, `compress` and `allow-compression`, on either side.

use std::time::Duration;

use anyhow::{Result, ensure};
use oxivpn_tests::{
    client::{Kind, program},
    matrix::{Cell, Skip},
    netns::Side,
    openvpn::{Release, Transport},
    ping::Ping,
    scenario::{Scenario, Tunnel},
    serve::{Guest, Service, all, both},
};

/// Options that frame packets without compressing them, and what the log calls the framing.
const FRAMINGS: [(&str, &str, &str); 3] = [
    ("comp-lzo-no", "comp-lzo no", "stub"),
    ("compress-stub", "compress stub", "stub"),
    ("stub-v2", "compress stub-v2", "stubv2"),
];

/// Lines of a server and of a client that come to a common framing, with its name in the client's log.
type Case = (&'static str, &'static [&'static str], &'static [&'static str], &'static str);

const CASES: [Case; 6] = [
    ("migrate::comp-lzo", &["compress migrate"], &["comp-lzo no"], "stubv2"),
    ("migrate::compress", &["compress migrate"], &["compress"], "stubv2"),
    ("pushed-over-configured", &["compress stub", "push \"compress stub\""], &["comp-lzo no"], "stub"),
    ("asym::comp-lzo", &["comp-lzo", "allow-compression asym"], &["comp-lzo"], "(stub|lzo)"),
    ("asym::lz4", &["compress lz4", "allow-compression asym"], &["compress lz4"], "(stub|lz4)"),
    (
        "asym::pushed-lz4-v2",
        &["compress lz4-v2", "allow-compression asym", "push \"compress lz4-v2\""],
        &["allow-compression asym"],
        "(stubv2|lz4v2)",
    ),
];

/// Says that the other side frames in another way.
const WARNING: &str = "WARNING: (the other side's compression framing|compressed packets arrive)";

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (name, line, called) in FRAMINGS {
        for transport in [Transport::Udp4, Transport::Tcp4] {
            let cell = |how| format!("framing::{name}::{how}::{}", transport.name());
            cells.extend(Cell::for_each_release(&cell("configured"), move |release| {
                frames(Scenario::new(release)?.transport(transport).server(line).client(line), called)
            }));
            cells.extend(Cell::for_each_release(&cell("pushed"), move |release| {
                let scenario = Scenario::new(release)?.transport(transport).server(line);
                frames(scenario.server(format!("push \"{line}\"")), called)
            }));
            cells.push(Cell::new(format!("serve::{}", cell("pushed")), move || {
                let service = Service::new()?.transport(transport).line(line).guests(all());
                serves(service.line(format!("push \"{line}\"")), called)
            }));
        }
        cells.push(Cell::new(format!("serve::framing::{name}::configured"), move || {
            serves(Service::new()?.line(line).guests(all()).each(line), called)
        }));
    }
    for (name, server, client, called) in CASES {
        cells.extend(Cell::for_each_release(&format!("framing::{name}"), move |release| {
            let mut scenario = Scenario::new(release)?;
            for line in server {
                scenario = scenario.server(*line);
            }
            for line in client {
                scenario = scenario.client(*line);
            }
            frames(scenario, called)
        }));
    }
    cells.extend(Cell::for_each_release("framing::keepalive", keepalive));
    cells.extend(Cell::for_each_release("framing::mismatch", mismatch));
    cells.extend(Cell::for_each_release("framing::refused-push", refused));
    cells.push(Cell::new("framing::compressed", compressed));
    cells.push(Cell::new("serve::framing::migrate", migrate));
    cells.push(Cell::new("serve::framing::one-client", one_client));
    cells
}

fn through(tunnel: &mut Tunnel) -> Result<()> {
    tunnel.ping_both_ways()?;
    tunnel.ping_size(2_000, true)?;
    for pattern in [WARNING, "Bad .*decompression header"] {
        let mut told = tunnel.client.process.lines(pattern)?;
        told.extend(tunnel.server()?.process.lines(pattern)?);
        ensure!(told.is_empty(), "{told:?}");
    }
    Ok(())
}

fn frames(scenario: Scenario, called: &str) -> Result<()> {
    scenario.connected(|tunnel| {
        let line = format!("Data Channel: cipher '.*compression: '{called}'");
        tunnel.client.process.wait_for(&line, Duration::from_secs(2))?;
        through(tunnel)?;
        tunnel.leave()
    })
}

fn serves(service: Service, called: &str) -> Result<()> {
    service.connected(|serving| {
        serving.wait_for(&format!("Data Channel: cipher '.*compression: '{called}'"))?;
        serving.ping_all()?;
        let told = serving.process()?.lines(WARNING)?;
        ensure!(told.is_empty(), "{told:?}");
        Ok(())
    })
}

/// Each side sees the other's pings, and nothing else keeps them up.
fn keepalive(release: Release) -> Result<()> {
    let scenario = Scenario::new(release)?
        .server("comp-lzo no")
        .server("push \"comp-lzo no\"")
        .server("keepalive 1 4")
        // From here on OpenVPN tells each ping.
        .server("verb 7");
    scenario.connected(|tunnel| {
        tunnel.server()?.process.wait_for_count("RECEIVED PING PACKET", 10, Duration::from_secs(30))?;
        tunnel.ping_both_ways()?;
        tunnel.wait_connected(1)?;
        through(tunnel)
    })
}

/// Nothing gets through and the user hears why, once.
fn mismatch(release: Release) -> Result<()> {
    own_client()?;
    Scenario::new(release)?.server("comp-lzo no").server("keepalive 1 30").connected(|tunnel| {
        let told = tunnel.client.process.wait_for(WARNING, Duration::from_secs(10))?;
        ensure!(told.contains("write `comp-lzo no` here"), "{told}");
        let address = tunnel.address(Side::Server, false)?;
        let lost = Ping { count: 2, ..Ping::new(tunnel.lab.ns(Side::Client), &address) }.lost()?;
        ensure!(lost == 2, "framed packets were taken");
        ensure!(tunnel.client.process.lines(WARNING)?.len() == 1, "told more than once");
        Ok(())
    })
}

/// A client that says nothing about compression takes framing and no algorithm.
fn refused(release: Release) -> Result<()> {
    let scenario = Scenario::new(release)?
        .server("comp-lzo")
        .server("allow-compression asym")
        .server("push \"comp-lzo yes\"");
    scenario.started(|tunnel| {
        let refusal = "server pushed compression settings that are not allowed";
        tunnel.client.process.wait_for(refusal, Duration::from_secs(20)).map(drop)
    })
}

/// What only releases before 2.7 do: they compress. Small packets come uncompressed.
fn compressed() -> Result<()> {
    own_client()?;
    let lines = ["comp-lzo yes", "allow-compression yes"];
    let mut scenario = Scenario::new(Release::Distribution)?;
    for line in lines {
        scenario = scenario.server(line).client(line);
    }
    scenario.connected(|tunnel| {
        let address = tunnel.address(Side::Server, false)?;
        let lost = |size| Ping { size, count: 2, ..Ping::new(tunnel.lab.ns(Side::Client), &address) }.lost();
        ensure!(lost(40)? == 0, "uncompressed packets are lost");
        ensure!(lost(1_300)? == 2, "compressed packets were taken, or none was compressed");
        let told = tunnel.client.process.lines(WARNING)?;
        ensure!(told.len() == 1 && told[0].contains("compressed packets arrive"), "{told:?}");
        Ok(())
    })
}

fn own_client() -> Result<()> {
    ensure!(program()?.kind == Kind::Oxivpn, Skip("OpenVPN tells this only at a high `verb`".into()));
    Ok(())
}

/// Clients with any compression option come along with those without.
fn migrate() -> Result<()> {
    let [alice, bob] = both();
    let service = Service::new()?
        .line("compress migrate")
        .guest(alice.line("comp-lzo no"))
        .guest(bob.line("compress"))
        .guest(Guest::own("carol"))
        .guest(Guest::own("dave").line("compress stub"));
    service.connected(|serving| {
        for name in ["alice", "bob", "dave"] {
            serving.visit(name)?.wait_for("PUSH: Received control message: .*compress stub-v2")?;
        }
        serving.ping_all()
    })
}

/// Framing for one client, from its file.
fn one_client() -> Result<()> {
    let service = Service::new()?
        .line("client-config-dir ccd")
        .file("ccd/bob", "compress\npush \"compress stub\"\n")
        .guests(all());
    service.connected(|serving| {
        serving.wait_for("bob/.*Data Channel: cipher '.*compression: 'stub'")?;
        let framed = serving.process()?.lines("Data Channel: .*compression: ")?.len();
        ensure!(framed == 1, "{framed} clients are framed");
        serving.ping_all()
    })
}
