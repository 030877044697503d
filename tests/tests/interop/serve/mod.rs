//! The server under test with real clients, and with this project's.

mod handshake;

use oxivpn_tests::matrix::Cell;

pub(crate) fn cells() -> Vec<Cell> {
    handshake::cells()
}
