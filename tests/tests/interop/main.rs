//! The client under test against real OpenVPN servers, in network namespaces. See the crate's page for its variables.
//!
//! `cargo test -p oxivpn-tests --test interop -- renegotiation` runs the cells whose name contains the word.

mod bad_input;
mod ciphers;
mod ecn;
mod framing;
mod gremlin;
mod handshake;
mod renegotiation;
mod resilience;
mod scripts;
mod serve;
mod setup;
mod tunnel;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The longest first, so that the short ones fill the gaps at the end.
    let mut cells = renegotiation::cells();
    cells.extend(gremlin::cells());
    cells.extend(resilience::cells());
    cells.extend(bad_input::cells());
    cells.extend(tunnel::cells());
    cells.extend(scripts::cells());
    cells.extend(handshake::cells());
    cells.extend(ciphers::cells());
    cells.extend(ecn::cells());
    cells.extend(framing::cells());
    cells.extend(serve::cells());
    cells.extend(setup::cells());
    oxivpn_tests::matrix::main(cells)
}
