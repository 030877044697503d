//! New keys every four seconds while pings run, none of which may be lost.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use oxivpn_tests::{
    capture::{Capture, P_CONTROL_SOFT_RESET_V1, P_DATA_V2, Packet},
    matrix::Cell,
    netns::Side,
    openvpn::{Transport, Wrap},
    ping::Ping,
    scenario::{Scenario, Tunnel},
};

/// Renegotiations that must have happened.
const TIMES: usize = 4;

/// The shortest soft reset that is wrapped with a dynamic tls-crypt key; without any wrap it has 14 to 26 bytes.
const SHORTEST_WRAPPED: usize = 40;

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (initiator, name) in [(Side::Server, "by-server"), (Side::Client, "by-client")] {
        for wrap in Wrap::ALL {
            let name = format!("renegotiation::{name}::{}::udp4", wrap.name());
            cells.extend(Cell::for_each_release(&name, move |release| {
                datagrams(Scenario::new(release)?.wrap(wrap), initiator)
            }));
        }
        let name = format!("renegotiation::{name}::tls-crypt::tcp4");
        cells.extend(Cell::for_each_release(&name, move |release| {
            stream(Scenario::new(release)?.wrap(Wrap::TlsCrypt), initiator)
        }));
    }
    cells
}

fn begun_by(scenario: Scenario, initiator: Side) -> Scenario {
    match initiator {
        Side::Server => scenario.server("reneg-sec 4").client("reneg-sec 0"),
        Side::Client => scenario.server("reneg-sec 0").client("reneg-sec 4"),
    }
}

pub(crate) fn datagrams(scenario: Scenario, initiator: Side) -> Result<()> {
    begun_by(scenario, initiator).started(|tunnel| {
        let capture = Capture::start(&tunnel.lab)?;
        tunnel.wait_connected(1)?;
        pings_survive(tunnel)?;
        let packets = capture.finish()?;

        let begun_by: Vec<Side> = soft_resets(&packets).map(|packet| packet.from).collect();
        ensure!(
            begun_by.contains(&initiator),
            "no renegotiation was begun by the {initiator:?}: {begun_by:?}"
        );
        // Both ends are 2.6 or later, so that a renegotiation has keys of its own for the control channel, whatever
        // protected the first handshake.
        let shortest = soft_resets(&packets).map(|packet| packet.len).min().unwrap_or(0);
        ensure!(shortest >= SHORTEST_WRAPPED, "a soft reset of {shortest} bytes is not wrapped");
        for side in [Side::Client, Side::Server] {
            let sent = packets.iter().filter(|packet| packet.from == side && packet.opcode == P_DATA_V2);
            let keys: BTreeSet<u8> = sent.map(|packet| packet.key_id).collect();
            ensure!(keys.len() > TIMES, "the {side:?} sent data with keys {keys:?} only");
        }
        tunnel.leave()
    })
}

pub(crate) fn stream(scenario: Scenario, initiator: Side) -> Result<()> {
    begun_by(scenario, initiator).transport(Transport::Tcp4).connected(|tunnel| {
        pings_survive(tunnel)?;
        tunnel.leave()
    })
}

fn soft_resets(packets: &[Packet]) -> impl Iterator<Item = &Packet> {
    packets.iter().filter(|packet| packet.opcode == P_CONTROL_SOFT_RESET_V1)
}

/// 100 pings at 5 per second, then as long as the last of the renegotiations takes.
fn pings_survive(tunnel: &mut Tunnel) -> Result<()> {
    let server = tunnel.address(Side::Server, false)?;
    let client_ns = tunnel.lab.ns(Side::Client).to_owned();
    let ping = Ping { count: 100, interval: 0.2, ..Ping::new(&client_ns, &server) };
    ping.all()?;
    // The server prints this line for the first handshake and for every further one.
    let handshakes =
        tunnel.server()?.process.wait_for_count("Control Channel: TLSv", TIMES + 1, Duration::from_secs(15));
    handshakes.context("too few renegotiations")?;
    Ping { count: 20, interval: 0.05, ..ping }.all().context("after the last renegotiation")?;
    tunnel.client.process.wait_for_count("Control Channel: TLSv", TIMES + 1, Duration::from_secs(2))?;
    Ok(())
}
