//! Faults on purpose on our side of the socket: the tunnel with a real peer bears them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use oxivpn_tests::{
    client::{self, Kind},
    matrix::{Cell, Skip},
    netns::Side,
    openvpn::{READY, Release, Wrap},
    ping::Ping,
    process::Process,
    scenario::Scenario,
    serve::{Guest, Service},
};
use regex::Regex;

/// Lost and damaged packets on level 3, one in 50 each.
const FAULTS: &str = "gremlin 1632 3";

/// Pings of a cell, ten a second.
const PINGS: u32 = 320;

/// How many of them may be lost: three chances of one in 50 each make 19, and four standard deviations are 17.
const LOST: std::ops::RangeInclusive<u32> = 2..=36;

/// Handshakes that must have succeeded meanwhile, the first included. A message that is lost once takes two seconds
/// more, and four if it is lost again.
const HANDSHAKES: usize = 3;

/// The server prints this line for the first handshake and for every further one.
const HANDSHAKE: &str = "Control Channel: TLSv";

pub(crate) fn cells() -> Vec<Cell> {
    vec![
        Cell::new("gremlin::our-client", our_client),
        Cell::new("gremlin::our-server", our_server),
        Cell::new("gremlin::packet-flood", packet_flood),
        Cell::new("gremlin::connection-flood", connection_flood),
    ]
}

/// The second word of the option is our own.
fn only_ours() -> Result<()> {
    let ours = client::program()?.kind == Kind::Oxivpn && client::server_program()?.kind == Kind::Oxivpn;
    ensure!(ours, Skip("OpenVPN's gremlin takes no seed".into()));
    Ok(())
}

fn our_client() -> Result<()> {
    only_ours()?;
    let scenario = Scenario::new(Release::Distribution)?.wrap(Wrap::TlsCrypt).server("keepalive 1 30");
    scenario.server("reneg-sec 10 10").client("reneg-sec 0").client(FAULTS).connected(|tunnel| {
        let server = tunnel.address(Side::Server, false)?;
        let ns = tunnel.lab.ns(Side::Client).to_owned();
        let lost = Ping { count: PINGS, interval: 0.1, ..Ping::new(&ns, &server) }.lost()?;
        bears(&mut tunnel.client.process, lost)?;
        let process = &mut tunnel.client.process;
        process.wait_for_count(HANDSHAKE, HANDSHAKES, Duration::from_secs(10))?;
        connected_once(process)?;
        tunnel.leave()
    })
}

fn our_server() -> Result<()> {
    only_ours()?;
    let guest = Guest::real(Release::Distribution, "alice").line("reneg-sec 10 10");
    let service = Service::new()?.wrap(Wrap::TlsCrypt).line("keepalive 1 30").line("reneg-sec 0");
    service.line(FAULTS).guest(guest).connected(|serving| {
        let ns = serving.visit("alice")?.ns.clone();
        let to = serving.address("server", false)?;
        let lost = Ping { count: PINGS, interval: 0.1, ..Ping::new(&ns, &to) }.lost()?;
        bears(serving.process()?, lost)?;
        let process = serving.visit("alice")?.process()?;
        process.wait_for_count(HANDSHAKE, HANDSHAKES, Duration::from_secs(10))?;
        connected_once(process)?;
        serving.visit("alice")?.leave()?;
        serving.stop()
    })
}

/// As many pings were lost as faults make, and these were made.
fn bears(process: &mut Process, lost: u32) -> Result<()> {
    process.wait_for("WARNING: gremlin: mask 1632, seed 3: ", Duration::from_secs(1))?;
    let [read, read_lost, damaged, written, written_lost, outages, flooded] = statistics(process)?;
    for (what, faults, packets) in [
        ("lost on the way in", read_lost, read),
        ("damaged", damaged, read),
        ("lost on the way out", written_lost, written),
    ] {
        ensure!(
            packets >= u64::from(PINGS) / 2 && (packets / 200..=packets / 15).contains(&faults),
            "{faults} of {packets} packets {what}"
        );
    }
    ensure!((outages, flooded) == (0, 0), "{outages} lost in outages, {flooded} made up");
    ensure!(LOST.contains(&lost), "{lost} of {PINGS} pings lost");
    Ok(())
}

/// What SIGUSR2 shows of the faults.
fn statistics(process: &mut Process) -> Result<[u64; 7]> {
    process.signal(Signal::SIGUSR2)?;
    let line = process.wait_for("gremlin: of \\d+ packets read", Duration::from_secs(5))?;
    let counts = line.split_once("gremlin: of").context("no numbers")?.1;
    let digits = Regex::new(r"\d+")?;
    let numbers: Option<Vec<u64>> =
        digits.find_iter(counts).map(|number| number.as_str().parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).with_context(|| format!("no statistics: {line}"))
}

fn connected_once(process: &Process) -> Result<()> {
    let times = process.lines(READY)?.len();
    ensure!(times == 1, "connected {times} times");
    let restarts = process.lines("process restarting")?;
    ensure!(restarts.is_empty(), "restarts: {restarts:#?}");
    Ok(())
}

/// Random inner packets from our server every second: what is between them passes.
fn packet_flood() -> Result<()> {
    only_ours()?;
    let guests = [Guest::real(Release::Distribution, "alice"), Guest::own("carol")];
    Service::new()?.line("gremlin 24 3").guests(guests).connected(|serving| {
        serving.ping_long(30, 0.1)?;
        let flood = "GREMLIN_FLOOD_CLIENTS: flooding clients with 100 packets of size 1500";
        serving.process()?.wait_for_count(flood, 2, Duration::from_secs(5))?;
        let [.., flooded] = statistics(serving.process()?)?;
        ensure!(flooded >= 200, "{flooded} packets made up");
        serving.visits.iter_mut().try_for_each(|visit| visit.connected_times(1))?;
        serving.ping_all()
    })
}

/// Our client begins again whenever its keys are agreed on.
fn connection_flood() -> Result<()> {
    only_ours()?;
    let scenario = Scenario::new(Release::Distribution)?.client("gremlin 7 3");
    scenario.started(|tunnel| {
        let begun = tunnel.client.process.wait_for_count(
            "SIGUSR1\\[soft,tls-error\\] received",
            5,
            Duration::from_secs(30),
        );
        begun.context("too few attempts")?;
        let handshakes = tunnel.server()?.process.lines(HANDSHAKE)?.len();
        ensure!(handshakes >= 4, "only {handshakes} handshakes got through");
        ensure!(tunnel.client.process.lines(READY)?.is_empty(), "a connection was made");
        tunnel.leave()
    })
}
