//! Clients that receive in a second thread, an option of this project's client alone.

use anyhow::Result;
use oxivpn_tests::{
    matrix::Cell,
    netns::Side,
    openvpn::{Release, Transport},
    scenario::Scenario,
};

use super::renegotiation::datagrams;
use super::resilience::{address_changed, server_killed, server_leaves, usr1};

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (initiator, name) in [(Side::Server, "by-server"), (Side::Client, "by-client")] {
        let name = format!("threads::renegotiation::{name}");
        cells.extend(Cell::for_each_release(&name, move |release| datagrams(two(release)?, initiator)));
    }
    // With TCP there is one thread all the same.
    for transport in Transport::ALL {
        let name = |what: &str| format!("threads::{what}::{}", transport.name());
        let on = move |release| Ok::<_, anyhow::Error>(two(release)?.transport(transport));
        cells.extend(Cell::for_each_release(&name("server-killed"), move |r| server_killed(on(r)?)));
        cells.extend(Cell::for_each_release(&name("usr1"), move |r| usr1(on(r)?)));
        let persistent = move |r| usr1(on(r)?.client("persist-tun"));
        cells.extend(Cell::for_each_release(&name("persist-tun"), persistent));
        cells.extend(Cell::for_each_release(&name("sizes"), move |r| sizes(on(r)?)));
        if transport != Transport::Tcp4 {
            cells.extend(Cell::for_each_release(&name("server-leaves"), move |r| server_leaves(on(r)?)));
            let moves = move |r| address_changed(two(r)?, transport);
            cells.extend(Cell::for_each_release(&name("address-changed"), moves));
        }
    }
    cells
}

fn two(release: Release) -> Result<Scenario> {
    Ok(Scenario::new(release)?.client("workers 2"))
}

fn sizes(scenario: Scenario) -> Result<()> {
    scenario.connected(|tunnel| {
        tunnel.ping_both_ways()?;
        for size in [56, 1_400, 8_000] {
            tunnel.ping_size(size, false)?;
            tunnel.ping_size(size, true)?;
        }
        tunnel.leave()
    })
}
