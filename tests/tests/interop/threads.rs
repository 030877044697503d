//! Clients that receive in a second thread, an option of this project's client alone.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use oxivpn_tests::{
    client::{Kind, program},
    content::carry,
    matrix::{Cell, Skip},
    netns::Side,
    openvpn::{Release, Transport},
    scenario::{Scenario, Tunnel},
};

use super::renegotiation::{datagrams, stream};
use super::resilience::{address_changed, ping_restart, server_killed, server_leaves, usr1};

/// Bytes of a transfer.
const LEN: usize = 8_000_000;

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (initiator, name) in [(Side::Server, "by-server"), (Side::Client, "by-client")] {
        let name = |transport: &str| format!("threads::renegotiation::{name}::{transport}");
        cells.extend(Cell::for_each_release(&name("udp4"), move |r| datagrams(two(r)?, initiator)));
        cells.extend(Cell::for_each_release(&name("tcp4"), move |r| stream(two(r)?, initiator)));
    }
    // With TCP there is one thread all the same.
    for transport in Transport::ALL {
        let name = |what: &str| format!("threads::{what}::{}", transport.name());
        let on = move |release| Ok::<_, anyhow::Error>(two(release)?.transport(transport));
        cells.extend(Cell::for_each_release(&name("server-killed"), move |r| server_killed(on(r)?)));
        cells.extend(Cell::for_each_release(&name("usr1"), move |r| usr1(on(r)?)));
        let persistent = move |r| usr1(on(r)?.client("persist-tun"));
        cells.extend(Cell::for_each_release(&name("persist-tun"), persistent));
        cells.extend(Cell::for_each_release(&name("content"), move |r| content(on(r)?, transport)));
        cells.extend(Cell::for_each_release(&name("restarts"), move |r| restarts(on(r)?, transport)));
        if transport != Transport::Tcp4 {
            cells.extend(Cell::for_each_release(&name("server-leaves"), move |r| server_leaves(on(r)?)));
            let moves = move |r| address_changed(two(r)?, transport);
            cells.extend(Cell::for_each_release(&name("address-changed"), moves));
        }
    }
    cells.extend(Cell::for_each_release("threads::ping-restart", |r| ping_restart(two(r)?)));
    for (name, lines) in [
        ("comp-lzo", ["comp-lzo no", "push \"comp-lzo no\""]),
        ("chacha20", ["data-ciphers CHACHA20-POLY1305", "verb 3"]),
        ("mssfix", ["push \"mssfix 1200\"", "verb 3"]),
    ] {
        cells.extend(Cell::for_each_release(&format!("threads::content::{name}"), move |r| {
            let scenario = lines.iter().fold(two(r)?, |scenario, line| scenario.server(*line));
            content(scenario, Transport::Udp4)
        }));
    }
    cells.push(Cell::new("threads::one-unless-told", || {
        own_client()?;
        Scenario::new(Release::Distribution)?.connected(|tunnel| threads(tunnel, 0))
    }));
    cells
}

fn own_client() -> Result<()> {
    ensure!(program()?.kind == Kind::Oxivpn, Skip("OpenVPN has no option `workers`".into()));
    Ok(())
}

fn two(release: Release) -> Result<Scenario> {
    own_client()?;
    Ok(Scenario::new(release)?.client("workers 2"))
}

/// So many threads of the client receive for others.
fn threads(tunnel: &Tunnel, wanted: usize) -> Result<()> {
    let mut found = 0;
    for task in fs::read_dir(format!("/proc/{}/task", tunnel.client.process.id()))? {
        let name = fs::read_to_string(task?.path().join("comm")).context("a thread's name")?;
        found += usize::from(name.trim() == "downlink");
    }
    ensure!(found == wanted, "{found} threads receive, not {wanted}");
    Ok(())
}

/// With this transport, so many threads receive for others.
fn extra(transport: Transport) -> usize {
    usize::from(transport != Transport::Tcp4)
}

fn content(scenario: Scenario, transport: Transport) -> Result<()> {
    scenario.connected(|tunnel| {
        threads(tunnel, extra(transport))?;
        tunnel.ping_both_ways()?;
        for size in [1_400, 8_000] {
            tunnel.ping_size(size, true)?;
        }
        carry_both_ways(tunnel)?;
        nothing_replayed(tunnel)?;
        tunnel.leave()
    })
}

fn carry_both_ways(tunnel: &Tunnel) -> Result<()> {
    for (from, to) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
        let address = tunnel.address(to, false)?.parse()?;
        carry(tunnel.lab.ns(from), (tunnel.lab.ns(to), address), LEN, from as u64)?;
    }
    Ok(())
}

/// Neither end found packets out of order, or twice, or for no key.
fn nothing_replayed(tunnel: &mut Tunnel) -> Result<()> {
    let seen = tunnel
        .server()?
        .process
        .lines("(?i)bad packet ID|may be a replay|decrypt packet error|decryption error")?;
    ensure!(seen.is_empty(), "the server: {seen:?}");
    tunnel.client.process.signal(Signal::SIGUSR2)?;
    let statistics =
        tunnel.client.process.wait_for("TUN/TAP write bytes,[0-9]{7}", Duration::from_secs(5))?;
    ensure!(!statistics.is_empty(), "no statistics");
    tunnel.client.process.wait_for(r"\bEND$", Duration::from_secs(5))?;
    let dropped = tunnel.client.process.lines("dropped (Data|NoKey|KeyWorn|UnknownPeer)")?;
    ensure!(dropped.is_empty(), "the client: {dropped:?}");
    Ok(())
}

/// Signals in turn; no thread is left over.
fn restarts(scenario: Scenario, transport: Transport) -> Result<()> {
    scenario.connected(|tunnel| {
        for (times, signal) in (2..).zip([Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR1, Signal::SIGHUP]) {
            tunnel.client.process.signal(signal)?;
            tunnel.wait_connected(times)?;
            tunnel.ping_both_ways()?;
            threads(tunnel, extra(transport))?;
        }
        carry_both_ways(tunnel)?;
        tunnel.leave()
    })
}
