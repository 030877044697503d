//! The server under test with real clients, and with this project's.

mod access;
mod handshake;

use oxivpn_tests::matrix::Cell;

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = access::cells();
    cells.extend(handshake::cells());
    cells
}
