//! Runs simulated VPN networks from the command line.

#![forbid(unsafe_code)]

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main(lexopt::Parser::from_env())
}
