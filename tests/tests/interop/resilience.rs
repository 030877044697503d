//! What a tunnel must survive.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use oxivpn_tests::{
    matrix::Cell,
    netns::{CLIENT_V4, CLIENT_V6, NOBODY_V4, SERVER_V4, Side},
    openvpn::{Release, Transport, Wrap},
    ping::Ping,
    process::poll,
    scenario::{CONNECT, Scenario, Tunnel},
};

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for transport in Transport::ALL {
        let name = |what: &str| format!("resilience::{what}::{}", transport.name());
        cells.extend(Cell::for_each_release(&name("server-killed"), move |r| {
            server_killed(Scenario::new(r)?.transport(transport))
        }));
        cells.extend(Cell::for_each_release(&name("usr1"), move |r| {
            usr1(Scenario::new(r)?.transport(transport))
        }));
        if transport != Transport::Tcp4 {
            cells.extend(Cell::for_each_release(&name("server-leaves"), move |r| {
                server_leaves(Scenario::new(r)?.transport(transport))
            }));
            for wrap in [Wrap::None, Wrap::TlsCryptV2] {
                let name = format!("{}::{}", name("address-changed"), wrap.name());
                cells.extend(Cell::for_each_release(&name, move |r| {
                    address_changed(Scenario::new(r)?.wrap(wrap), transport)
                }));
            }
        }
    }
    cells.extend(Cell::for_each_release("resilience::ping-restart", |r| ping_restart(Scenario::new(r)?)));
    cells.extend(Cell::for_each_release("resilience::idle", idle));
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let name = format!("resilience::exit-notify::{signal}");
        cells.extend(Cell::for_each_release(&name, move |release| exit_notify(release, signal)));
    }
    for (name, transport, dead) in [
        ("silent-host", Transport::Udp4, format!("remote {NOBODY_V4} 1194")),
        ("closed-port", Transport::Udp4, format!("remote {SERVER_V4} 1195")),
        ("silent-host", Transport::Tcp4, format!("remote {NOBODY_V4} 1194")),
        ("closed-port", Transport::Tcp4, format!("remote {SERVER_V4} 1195")),
    ] {
        let name = format!("resilience::first-remote-dead::{name}::{}", transport.name());
        cells.extend(Cell::for_each_release(&name, move |release| {
            second_remote(release, transport, dead.clone())
        }));
    }
    cells
}

pub(crate) fn server_killed(scenario: Scenario) -> Result<()> {
    scenario.server("keepalive 1 4").connected(|tunnel| {
        tunnel.ping_both_ways()?;
        // Dropped without a word to the client.
        tunnel.server = None;
        tunnel.start_server()?;
        back(tunnel, 2)
    })
}

pub(crate) fn server_leaves(scenario: Scenario) -> Result<()> {
    scenario
        .server("explicit-exit-notify 1")
        // Long enough that only the server's word can have brought the client back.
        .server("keepalive 10 120")
        .connected(|tunnel| {
            tunnel.ping_both_ways()?;
            let server = &mut tunnel.server()?.process;
            server.signal(Signal::SIGTERM)?;
            server.wait_exit(Duration::from_secs(10))?;
            tunnel.start_server()?;
            back(tunnel, 2)
        })
}

pub(crate) fn usr1(scenario: Scenario) -> Result<()> {
    scenario.connected(|tunnel| {
        for times in 2..=3 {
            tunnel.client.process.signal(Signal::SIGUSR1)?;
            tunnel.wait_connected(times)?;
            tunnel.ping_both_ways()?;
        }
        tunnel.leave()
    })
}

/// Connected for the `times`-th time, pings pass, and it leaves cleanly.
fn back(tunnel: &mut Tunnel, times: usize) -> Result<()> {
    tunnel.wait_connected(times)?;
    tunnel.ping_both_ways()?;
    tunnel.leave()
}

/// The client's host gets another address, as behind a NAT that forgets or on another network. The server follows the
/// peer-id of the client's next packet.
pub(crate) fn address_changed(scenario: Scenario, transport: Transport) -> Result<()> {
    scenario.transport(transport).server("keepalive 1 30").connected(|tunnel| {
        tunnel.ping_both_ways()?;
        if transport == Transport::Udp6 {
            tunnel.lab.ip(Side::Client, "addr add fd09::3/64 dev eth0 nodad")?;
            tunnel.lab.ip(Side::Client, &format!("addr del {CLIENT_V6}/64 dev eth0"))?;
        } else {
            tunnel.lab.ip(Side::Client, "addr add 10.9.0.3/24 dev eth0")?;
            // The new address must not vanish with the old one, whose secondary it is.
            tunnel.lab.exec(Side::Client, &["sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1"])?;
            tunnel.lab.ip(Side::Client, &format!("addr del {CLIENT_V4}/24 dev eth0"))?;
        }
        let server = tunnel.address(Side::Server, false)?;
        let ns = tunnel.lab.ns(Side::Client).to_owned();
        let one = Ping { count: 1, ..Ping::new(&ns, &server) };
        // A ping or two may be lost while both ends learn of it.
        poll(Duration::from_secs(15), || Ok((one.lost()? == 0).then_some(())))?
            .context("nothing passes after the change of address")?;
        tunnel.ping_both_ways()?;
        let seen = if transport == Transport::Udp6 { "fd09::3" } else { r"10\.9\.0\.3" };
        tunnel.server()?.process.wait_for(&format!("(floated|float).*{seen}"), Duration::from_secs(5))?;
        let connected = tunnel.client.process.lines("Initialization Sequence Completed")?.len();
        ensure!(connected == 1, "the client connected {connected} times; the tunnel did not survive");
        Ok(())
    })
}

/// The server falls silent, the client notices, and comes back when the server does.
pub(crate) fn ping_restart(scenario: Scenario) -> Result<()> {
    scenario.server("keepalive 1 3").connected(|tunnel| {
        tunnel.ping_both_ways()?;
        tunnel.lab.ip(Side::Server, &format!("route add blackhole {CLIENT_V4}/32"))?;
        tunnel.client.process.wait_for("Inactivity timeout \\(--ping-restart\\), restarting", CONNECT)?;
        tunnel.lab.ip(Side::Server, &format!("route del blackhole {CLIENT_V4}/32"))?;
        back(tunnel, 2)
    })
}

/// Nothing but keepalive pings for longer than `ping-restart`: neither end gives up.
fn idle(release: Release) -> Result<()> {
    Scenario::new(release)?.server("keepalive 1 3").connected(|tunnel| {
        // Time that passes is what is tested here.
        thread::sleep(Duration::from_secs(8));
        for process in [&tunnel.client.process, &tunnel.server.as_ref().context("no server")?.process] {
            let lines = process.lines("Inactivity timeout|ping-restart\\), restarting")?;
            ensure!(lines.is_empty(), "an end gave up: {lines:?}");
        }
        tunnel.ping_both_ways()?;
        tunnel.leave()
    })
}

/// The server hears at once that the client leaves.
fn exit_notify(release: Release, signal: Signal) -> Result<()> {
    Scenario::new(release)?.client("explicit-exit-notify 1").connected(|tunnel| {
        tunnel.ping_both_ways()?;
        tunnel.client.process.signal(signal)?;
        tunnel
            .server()?
            .process
            .wait_for("remote-exit|CC-EEN exit message received", Duration::from_secs(5))?;
        let status = tunnel.client.process.wait_exit(Duration::from_secs(10))?;
        ensure!(status.code() == Some(0), "client left with {status}");
        tunnel.host_as_before()
    })
}

fn second_remote(release: Release, transport: Transport, dead: String) -> Result<()> {
    Scenario::new(release)?
        .transport(transport)
        .client("server-poll-timeout 3")
        .client(dead)
        .client(format!("remote {SERVER_V4} 1194"))
        .connected(|tunnel| {
            tunnel.ping_both_ways()?;
            tunnel.leave()
        })
}
