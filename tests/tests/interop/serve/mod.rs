//! The server under test with real clients, and with this project's.

mod access;
mod addresses;
mod bad_config;
mod flood;
mod handshake;
mod life;
mod peer;
mod process;
mod workers;

use oxivpn_tests::matrix::Cell;

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = flood::cells();
    cells.extend(life::cells());
    cells.extend(peer::cells());
    cells.extend(process::cells());
    cells.extend(access::cells());
    cells.extend(addresses::cells());
    cells.extend(handshake::cells());
    cells.extend(workers::cells());
    cells.extend(bad_config::cells());
    cells
}
