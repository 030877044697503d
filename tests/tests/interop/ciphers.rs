//! Every data cipher, and the choice among several.

use std::time::Duration;

use anyhow::{Result, ensure};
use oxivpn_tests::{
    matrix::{Cell, Skip},
    openvpn::{Release, Transport},
    scenario::Scenario,
};

/// OpenVPN's default list at the client, spelled out with the ciphers which it leaves out.
const ALL: &str = "AES-256-GCM:AES-128-GCM:AES-192-GCM:CHACHA20-POLY1305";

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for cipher in ["AES-128-GCM", "AES-192-GCM", "AES-256-GCM", "CHACHA20-POLY1305"] {
        cells.extend(Cell::for_each_release(&format!("cipher::{cipher}::alone"), move |release| {
            negotiates(release, cipher, ALL, cipher)
        }));
    }
    // The server's order decides, among those that the client offers.
    for (name, server, client, chosen) in [
        (
            "server-order",
            "CHACHA20-POLY1305:AES-256-GCM",
            "AES-256-GCM:CHACHA20-POLY1305",
            "CHACHA20-POLY1305",
        ),
        ("first-common", "AES-192-GCM:AES-128-GCM:AES-256-GCM", "AES-256-GCM:AES-128-GCM", "AES-128-GCM"),
        ("optional-unknown", "?UNKNOWN-CIPHER:AES-128-GCM", ALL, "AES-128-GCM"),
    ] {
        cells.extend(Cell::for_each_release(&format!("cipher::preference::{name}"), move |release| {
            negotiates(release, server, client, chosen)
        }));
    }
    cells.extend(Cell::for_each_release("cipher::default-lists", |release| {
        Scenario::new(release)?.connected(|tunnel| {
            tunnel
                .client
                .process
                .wait_for("Data Channel: [Cc]ipher 'AES-256-GCM'", Duration::from_secs(2))?;
            tunnel.ping_both_ways()
        })
    }));
    // The newer format of the data channel, with the release that knows it.
    for cipher in ["AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"] {
        for transport in Transport::ALL {
            let name = format!("cipher::epoch::{cipher}::{}", transport.name());
            cells.push(Cell::new(name, move || epoch(cipher, transport)));
        }
    }
    cells
}

fn negotiates(release: Release, server: &str, client: &str, chosen: &str) -> Result<()> {
    let scenario = Scenario::new(release)?
        .server(format!("data-ciphers {server}"))
        .client(format!("data-ciphers {client}"));
    scenario.connected(|tunnel| {
        let line = format!("Data Channel: [Cc]ipher '{chosen}'");
        tunnel.client.process.wait_for(&line, Duration::from_secs(2))?;
        tunnel.server()?.process.wait_for(&line, Duration::from_secs(2))?;
        tunnel.ping_both_ways()?;
        tunnel.leave()
    })
}

fn epoch(cipher: &str, transport: Transport) -> Result<()> {
    use oxivpn_tests::client::{Kind, program};
    if program()?.kind == (Kind::OpenVpn { newer: false }) {
        return Err(Skip("this client is an OpenVPN before 2.7".into()).into());
    }
    Scenario::new(Release::Newer)?.transport(transport).server(format!("data-ciphers {cipher}")).connected(
        |tunnel| {
            for process in
                [&mut tunnel.client.process, &mut tunnel.server.as_mut().expect("just started").process]
            {
                process.wait_for(&format!("Data Channel: cipher '{cipher}'.*"), Duration::from_secs(2))?;
            }
            let log = tunnel.server()?.process.log();
            ensure!(log.contains("aead-epoch"), "the server's log has no aead-epoch");
            tunnel.ping_both_ways()?;
            tunnel.ping_size(1300, false)?;
            tunnel.leave()
        },
    )
}
