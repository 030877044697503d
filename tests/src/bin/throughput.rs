//! Measures the data path between two namespaces: this project's program, the real one and `wireguard-go`, in turn.
//!
//! `cargo run --release -p oxivpn-tests --bin throughput` (as root). It prints tables in Markdown with the requirement
//! beside each ratio, and fails if one is missed or a run failed. Options: `--only 1,3` takes these parts only,
//! `--quick` measures once, `--runs N` and `--seconds N` set the effort, `--own PATH` (or `OXIVPN_TEST_CLIENT`) takes
//! another `oxivpn` than the one that is built, `--newer` compares with the newer OpenVPN, `--rate 20000,60000` sets
//! the packets offered per second in part 3. `--v1 LINE`, `--v2 LINE` and `--workers WORDS` open what needs an option
//! of `oxivpn`; an unknown option prints them all.

#[path = "../bench/mod.rs"]
mod bench;

use std::process::ExitCode;

use anyhow::{Context, Result};
use bench::{
    Bench,
    options::{Options, PARTS},
    tunnel::Programs,
};
use oxivpn_tests::{interrupt, matrix::available};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("throughput: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let options = Options::read()?;
    available()?;
    let programs = Programs::find(&options)?;
    // After the last thing that Ctrl-C may well end at once.
    interrupt::watch()?;
    let mut bench = Bench::new(options, programs);
    bench.describe()?;
    for (number, title) in PARTS {
        if bench.options.only.contains(&number) {
            bench.part(number, title).with_context(|| format!("part {number}"))?;
        }
    }
    Ok(bench.conclude())
}
