//! `storm`: many seeds.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::time::Instant;

use oxivpn_sim::plan::Plan;
use oxivpn_sim::report::html::{Seed, Sweep, write_sweep};
use oxivpn_sim::shrink::{kind, shrink};
use oxivpn_sim::trace::Keep;

use super::clock::{rate, words};
use super::crowd::{self, Effort, play};
use super::keep::{self, Case};
use super::{Error, Verdict, args};

/// Kinds of violations that are made small and told about in full.
const KINDS: usize = 8;
/// Seeds of one kind of violation that are listed.
const LISTED: usize = 20;
/// Time between two progress lines.
const PROGRESS: Duration = Duration::from_millis(250);

/// What came of many seeds.
pub(super) struct Season {
    pub(super) commit: String,
    pub(super) effort: Effort,
    seeds: u64,
    virtual_time: Duration,
    /// By seed: hash of the run.
    hashes: BTreeMap<u64, u64>,
    /// By fault: its place in the list, seeds that it hit, how often.
    faults: BTreeMap<String, (usize, u64, u64)>,
    /// Those with a violation, by seed.
    pub(super) failed: Vec<Seed>,
    /// All of them, by seed, if they are wanted.
    pub(super) all: Vec<Seed>,
}

/// A kind of violation.
struct Group<'a> {
    /// The seed that stands for all.
    first: &'a Seed,
    seeds: Vec<u64>,
}

pub(super) fn run(options: &args::Storm, out: &mut impl Write) -> Result<Verdict, Error> {
    crowd::quiet_panics();
    let mut season = Season::run(options, options.report.is_some());
    season.tell(options, out)?;
    let pages = season.judge(options, out)?;
    let verdict = season.verdict();
    if let Some(path) = &options.report {
        let dir = keep::parent(path)?;
        let title = format!("oxivpn storm, seeds {} to {}", options.seeds.start, options.seeds.end - 1);
        let beside = options.out.as_deref().and_then(|out| within(dir, out));
        season.link(&pages, beside.as_deref());
        season.write(path, title, options)?;
        writeln!(out, "\nPage about all seeds: {}", path.display())?;
    }
    Ok(verdict)
}

/// The way from one directory down to another.
fn within(dir: &Path, other: &Path) -> Option<String> {
    let (dir, other) = (dir.canonicalize().ok()?, other.canonicalize().ok()?);
    other.strip_prefix(dir).ok()?.to_str().map(ToOwned::to_owned)
}

impl Season {
    /// Runs the seeds.
    pub(super) fn run(options: &args::Storm, wants_all: bool) -> Self {
        let mut season = Self {
            commit: keep::commit(),
            effort: Effort::default(),
            seeds: 0,
            virtual_time: Duration::ZERO,
            hashes: BTreeMap::new(),
            faults: BTreeMap::new(),
            failed: Vec::new(),
            all: Vec::new(),
        };
        let mut progress = Progress::new(options.seeds.end - options.seeds.start);
        season.effort = crowd::run(&options.seeds, options.jobs, |seed| {
            season.take(seed, wants_all);
            progress.show(season.seeds, season.failed.len());
        });
        progress.end();
        season.failed.sort_by_key(|seed| seed.seed);
        season.all.sort_by_key(|seed| seed.seed);
        season
    }

    fn take(&mut self, seed: Seed, wants_all: bool) {
        self.seeds += 1;
        self.virtual_time += seed.virtual_time;
        self.hashes.insert(seed.seed, seed.hash);
        for (place, (name, times)) in seed.faults.iter().enumerate() {
            let known = self.faults.entry(name.clone()).or_insert((place, 0, 0));
            known.1 += u64::from(*times > 0);
            known.2 += times;
        }
        if seed.failure.is_some() {
            self.failed.push(seed.clone());
        }
        if wants_all {
            self.all.push(seed);
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        if self.failed.is_empty() { Verdict::Well } else { Verdict::Broken }
    }

    /// Violations by kind, the one with the first seed first.
    fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: BTreeMap<String, Group<'_>> = BTreeMap::new();
        for seed in &self.failed {
            let text = kind(seed.failure.as_deref().unwrap_or_default());
            let group = groups.entry(text).or_insert_with(|| Group { first: seed, seeds: Vec::new() });
            group.seeds.push(seed.seed);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| group.first.seed);
        groups
    }

    /// The sums.
    pub(super) fn tell(&self, options: &args::Storm, out: &mut impl Write) -> io::Result<()> {
        let Effort { cpu, real } = self.effort;
        // A hash of hashes, so that two storms are easily compared.
        let all = self
            .hashes
            .values()
            .fold(0_u64, |all, hash| (all ^ hash).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29));
        let life = self.virtual_time.as_millis().checked_div(cpu.as_millis()).unwrap_or(0);
        let (first, last) = (options.seeds.start, options.seeds.end - 1);
        writeln!(out, "seeds         {} ({first} to {last}), commit {}", self.seeds, self.commit)?;
        writeln!(out, "failed        {}, {} kinds of violation", self.failed.len(), self.groups().len())?;
        writeln!(out, "rate          {} seeds per core-second", rate(self.seeds, cpu))?;
        writeln!(out, "time          {} real, {} CPU on {} threads", words(real), words(cpu), options.jobs)?;
        writeln!(out, "virtual time  {}, {life} times as fast as life on a core", words(self.virtual_time))?;
        writeln!(out, "hash          {all:016x}")?;
        let mut faults: Vec<_> = self.faults.iter().collect();
        faults.sort_by_key(|(_, (place, ..))| *place);
        writeln!(out, "\n{:<20} {:>8} {:>12}", "faults that hit", "seeds", "times")?;
        for (name, (_, seeds, times)) in faults {
            writeln!(out, "{name:<20} {seeds:>8} {times:>12}")?;
        }
        Ok(())
    }

    /// Makes a violation of each kind small, and tells about it. Returns seeds whose pages were written.
    pub(super) fn judge(&self, options: &args::Storm, out: &mut impl Write) -> Result<Vec<u64>, Error> {
        let groups = self.groups();
        let mut pages = Vec::new();
        for group in groups.iter().take(KINDS) {
            let seed = group.first.seed;
            let listed: Vec<_> = group.seeds.iter().take(LISTED).map(ToString::to_string).collect();
            let more = group.seeds.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(out, "\nVIOLATION     {}", group.first.failure.as_deref().unwrap_or_default())?;
            writeln!(out, "seed          {seed}, commit {}", self.commit)?;
            writeln!(out, "seeds like it {}{more}", listed.join(", "))?;
            let case = smallest(group.first, options.tries, out)?;
            case.tell(out)?;
            writeln!(out, "replay        {}", case.command())?;
            if let Some(dir) = &options.out {
                let (_, files) = case.write(dir, &self.commit)?;
                let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                writeln!(out, "files         {}", files.join(" "))?;
                pages.push(seed);
            }
        }
        if groups.len() > KINDS {
            writeln!(out, "\nFurther kinds of violations:")?;
            for group in &groups[KINDS..] {
                let what = group.first.failure.as_deref().unwrap_or_default();
                writeln!(out, "seed {} and {} like it: {what}", group.first.seed, group.seeds.len() - 1)?;
            }
        }
        Ok(pages)
    }

    /// Links the pages of these seeds, which are in the directory `beside` that of the page about all.
    pub(super) fn link(&mut self, pages: &[u64], beside: Option<&str>) {
        let Some(beside) = beside else { return };
        for seed in self.all.iter_mut().filter(|seed| pages.contains(&seed.seed)) {
            let slash = if beside.is_empty() { "" } else { "/" };
            seed.page = Some(format!("{beside}{slash}seed-{}.html", seed.seed));
        }
    }

    /// Writes the page about all seeds.
    pub(super) fn write(self, path: &Path, title: String, options: &args::Storm) -> Result<(), Error> {
        let sweep = Sweep {
            title,
            commit: self.commit,
            elapsed: self.effort.real,
            cores: u32::try_from(options.jobs).unwrap_or(u32::MAX),
            seeds: self.all,
            ..Sweep::default()
        };
        keep::file(path, |out| write_sweep(out, &sweep))
    }
}

/// The smallest part of a seed's plan that fails in the same way.
fn smallest(seed: &Seed, tries: u32, out: &mut impl Write) -> io::Result<Case> {
    let start = Instant::now();
    let wanted = kind(seed.failure.as_deref().unwrap_or_default());
    let plan = Plan::draw(seed.seed);
    let shrunk = shrink(&plan, tries, |plan| {
        play(plan, Keep::Hash).violation.is_some_and(|violation| kind(&violation.what) == wanted)
    });
    let case = Case::new(seed.seed, &shrunk.without, &shrunk.simpler);
    let end = if shrunk.complete { "" } else { ", then there were no tries left" };
    let (kept, all) = (shrunk.plan.items.len(), case.drawn_items());
    let time = words(start.elapsed());
    writeln!(
        out,
        "made small    {kept} of {all} items are left, {} plans tried in {time}{end}",
        shrunk.tried
    )?;
    Ok(case)
}

/// A line that says how far it is, on a terminal.
struct Progress {
    all: u64,
    start: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn new(all: u64) -> Self {
        Self { all, start: Instant::now(), shown: None, terminal: io::stderr().is_terminal() }
    }

    fn show(&mut self, done: u64, failed: usize) {
        if !self.terminal || self.shown.is_some_and(|shown| shown.elapsed() < PROGRESS) {
            return;
        }
        self.shown = Some(Instant::now());
        let rate = rate(done, self.start.elapsed());
        eprint!("\r\x1b[K{done} of {} seeds, {failed} failed, {rate} seeds per second", self.all);
    }

    fn end(&self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
