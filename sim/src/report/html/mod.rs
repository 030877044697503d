//! Pages for a browser: one file each, without script and without anything fetched.

use std::io::{self, Write};

use super::Head;
use crate::trace::Tape;

mod lane;
mod markup;
mod run;
mod story;
mod sweep;
mod window;

pub use sweep::{Mutant, Seed, Sweep, Table};

#[cfg(test)]
mod tests;

/// Writes the page of one run, from the records of `tape`.
///
/// Time lines are drawn in columns of pixels: what is too close together is shown as how many there are. A page of
/// fifty machines over half an hour has well below 2 MB, whatever happened.
///
/// # Errors
/// Those of `out`.
pub fn write_run(out: &mut impl Write, head: &Head<'_>, tape: &Tape) -> io::Result<()> {
    let body = run::body(head, tape).map_err(io::Error::other)?;
    out.write_all(markup::page(&format!("seed {}", head.seed), &body).as_bytes())
}

/// Writes the page of many runs.
///
/// Failures come first, all of them up to 500. The table of all seeds ends after 2,000; the sums are of all.
///
/// # Errors
/// Those of `out`.
pub fn write_sweep(out: &mut impl Write, sweep: &Sweep) -> io::Result<()> {
    let body = sweep::body(sweep).map_err(io::Error::other)?;
    out.write_all(markup::page(&sweep.title, &body).as_bytes())
}
