//! `replay`: one seed.

use std::io::Write;
use std::path::PathBuf;

use oxivpn_sim::storm::Outcome;
use oxivpn_sim::trace::Keep;

use super::clock::words;
use super::crowd::{self, play};
use super::keep::{self, Case};
use super::{Error, Verdict, args};

pub(super) fn run(options: &args::Replay, out: &mut impl Write) -> Result<Verdict, Error> {
    crowd::quiet_panics();
    let case = Case::new(options.seed, &options.without, &options.simplify);
    if let Some(wrong) = options.without.iter().find(|number| **number >= case.drawn_items()) {
        let all = case.drawn_items();
        return Err(Error::Usage(format!("--without: there is no item {wrong}, the plan has {all}")));
    }
    let commit = keep::commit();
    writeln!(out, "seed          {}, commit {commit}", options.seed)?;
    case.tell(out)?;
    let (outcome, files) = match &options.out {
        Some(dir) => case.write(dir, &commit)?,
        None => (play(&case.plan(), Keep::Hash), Vec::new()),
    };
    tell(&case, &outcome, &files, out)?;
    Ok(if outcome.violation.is_some() { Verdict::Broken } else { Verdict::Well })
}

fn tell(case: &Case, outcome: &Outcome, files: &[PathBuf], out: &mut impl Write) -> Result<(), Error> {
    let world = &outcome.built.world;
    writeln!(
        out,
        "virtual time  {}, well {} after the healing",
        words(outcome.lasted),
        words(outcome.recovered)
    )?;
    for machine in world.machines() {
        let (id, deeds) = (machine.id(), world.deeds(machine.id()));
        let name = world.tape().name(id);
        let (calls, tunnels, keys) = (deeds.calls, deeds.tunnels, deeds.keys);
        writeln!(out, "{name:<13} began {calls} sessions, {tunnels} came up, sent with {keys} keys")?;
    }
    for ((from, to), tally) in world.tallies() {
        let (from, to) = (world.tape().name(from), world.tape().name(to));
        writeln!(out, "probes        {from} to {to}: {} sent, {} arrived", tally.sent, tally.arrived)?;
    }
    let hits: Vec<_> = outcome.hits(&case.plan()).into_iter().filter(|(_, times)| *times > 0).collect();
    let hits: Vec<_> = hits.into_iter().map(|(name, times)| format!("{name} {times}")).collect();
    writeln!(out, "faults        {}", if hits.is_empty() { "none hit".to_owned() } else { hits.join(", ") })?;
    writeln!(out, "hash          {:016x}", outcome.digest)?;
    for file in files {
        writeln!(out, "file          {}", file.display())?;
    }
    match &outcome.violation {
        Some(violation) => writeln!(out, "VIOLATION     {violation}")?,
        None => writeln!(out, "verdict       all is well")?,
    }
    Ok(())
}
