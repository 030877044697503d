//! `night`: long runs of two networks.

use core::time::Duration;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use oxivpn_sim::night::{self, Night};
use oxivpn_sim::report::Head;
use oxivpn_sim::report::html::{Seed, Sweep, write_sweep};
use oxivpn_sim::trace::Keep;

use super::clock::{cpu, words};
use super::{Error, Verdict, args, keep};

pub(super) fn run(options: &args::Night, out: &mut impl Write) -> Result<Verdict, Error> {
    let start = Instant::now();
    let commit = keep::commit();
    let keep = if options.report.is_some() { Keep::Records } else { Keep::Hash };
    let (seed, clients) = (options.seed, options.clients);
    let pair = Duration::from_secs(options.hours * 3600);
    let crowd = Duration::from_secs(options.minutes * 60);
    writeln!(out, "night         seed {seed}, commit {commit}")?;
    let mut nights = Vec::new();
    if !pair.is_zero() {
        let plan = "two ends, the gremlin at its strongest, reneg-sec 10, ten pings a second both ways";
        nights.push(spend(options, plan, &commit, out, || night::pair(seed, pair, keep))?);
    }
    if !crowd.is_zero() {
        let plan = format!("a server and {clients} clients behind five kinds of NAT, a ping a second each");
        nights.push(spend(options, &plan, &commit, out, || night::crowd(seed, clients, crowd, keep))?);
    }
    let broken = nights.iter().any(|night| night.failure.is_some());
    if let Some(path) = &options.report {
        let elapsed = start.elapsed();
        let title = format!("oxivpn night, seed {seed}");
        let sweep = Sweep { title, commit, elapsed, cores: 1, seeds: nights, ..Sweep::default() };
        keep::file(path, |out| write_sweep(out, &sweep))?;
        writeln!(out, "\nPage about the night: {}", path.display())?;
    }
    Ok(if broken { Verdict::Broken } else { Verdict::Well })
}

/// Runs one, tells about it, and writes its page.
fn spend(
    options: &args::Night,
    plan: &str,
    commit: &str,
    out: &mut impl Write,
    night: impl FnOnce() -> Night,
) -> Result<Seed, Error> {
    let start = (Instant::now(), cpu());
    let night = night();
    let (real, used) = (start.0.elapsed(), cpu().saturating_sub(start.1));
    tell(&night, plan, (real, used), out)?;
    let mut page = None;
    if let Some(report) = &options.report {
        let path = beside(report, night.name)?;
        let replay = format!(
            "cargo run --release -p oxivpn-sim -- night --seed {} --hours {} --clients {} --minutes {}",
            options.seed, options.hours, options.clients, options.minutes
        );
        let (seed, failure) = (options.seed, night.failure.as_deref());
        let end = night.built.world.now();
        keep::page(
            &path,
            &Head { seed, commit, plan, replay: &replay, failure, end, hash: night.digest },
            &night.built,
        )?;
        page = path.file_name().and_then(|name| name.to_str()).map(ToOwned::to_owned);
    }
    let (hit, seen) = night.hit;
    let faults = vec![("hit by the gremlin".to_owned(), hit), ("seen by the gremlin".to_owned(), seen)];
    let kinds = vec![("night".to_owned(), night.name.to_owned())];
    let (seed, plan) = (options.seed, format!("{}: {plan}", night.name));
    let (hash, virtual_time, failure) = (night.digest, night.lasted, night.failure);
    Ok(Seed { seed, plan, kinds, failure, virtual_time, real: used, hash, faults, page })
}

fn tell(
    night: &Night,
    plan: &str,
    (real, used): (Duration, Duration),
    out: &mut impl Write,
) -> Result<(), Error> {
    let ((sent, arrived), (hit, seen)) = (night.probes, night.hit);
    let percent = |part: u64, whole: u64| match whole {
        0 => "-".to_owned(),
        whole => format!("{} %", u128::from(part) * 100 / u128::from(whole)),
    };
    writeln!(out, "\n{}: {plan}", night.name)?;
    writeln!(out, "virtual time  {}", words(night.lasted))?;
    writeln!(out, "real time     {}, {} CPU", words(real), words(used))?;
    writeln!(out, "sessions      {} came up", night.sessions)?;
    writeln!(out, "keys          {} that the hub sent with", night.keys)?;
    writeln!(out, "probes        {sent} sent, {arrived} arrived ({})", percent(arrived, sent))?;
    writeln!(out, "packets hit   {hit} of {seen} ({})", percent(hit, seen))?;
    writeln!(out, "hash          {:016x}", night.digest)?;
    match &night.failure {
        Some(what) => writeln!(out, "VIOLATION     {what}")?,
        None => writeln!(out, "verdict       both ways are alive, all are well")?,
    }
    Ok(())
}

/// The file of one of the nights, beside the page about both.
fn beside(report: &Path, name: &str) -> Result<PathBuf, Error> {
    let dir = keep::parent(report)?;
    let stem = report.file_stem().and_then(|stem| stem.to_str()).unwrap_or("night");
    Ok(dir.join(format!("{stem}-{name}.html")))
}
