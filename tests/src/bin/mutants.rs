//! Whether the simulator notices what it is there for: `cargo run --release -p oxivpn-tests --bin mutants [-- NAME...]`.
//!
//! Each file in `sim/mutants` breaks one rule of the product. The program applies it to a copy of the committed tree,
//! builds the simulator and runs `storm` from the first seed until one fails; with names, only the mutants whose file
//! name contains one of them. The exit code is 1 if a mutant is alive after the last seed, or could not be tried.
//! `--write` puts each row into the table in `sim/mutants/README.md` as soon as it is known.

use std::{
    env, fs,
    ops::Range,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;

/// A mutant has to be caught by one of so many seeds.
const SEEDS: u64 = 1000;

/// Seeds of the first call of the simulator. Each further one has twice as many, up to `MOST`.
const BATCH: u64 = 10;
const MOST: u64 = 160;

/// CPU seconds for a call, and more for each of its seeds: a mutant may let a world run in circles.
const PATIENCE: (u64, u64) = (40, 2);

/// Bytes that such a world may fill.
const MEMORY: u64 = 8 << 30;

/// How the kernel ends who used up its CPU seconds.
const SIGXCPU: i32 = 24;

/// Characters of the table for what a violation says.
const LONGEST: usize = 110;

/// Of the workspace's manifest: builds quickly.
const PROFILE: &str = "mutants";

/// The first lines of the table in `sim/mutants/README.md`. What stands around the table stays.
const HEAD: [&str; 2] = ["| mutant | rule that it breaks | first seed | caught by |", "|---|---|---|---|"];

/// One way to break the product.
struct Mutant {
    name: String,
    file: PathBuf,
    /// What it breaks, from the first line of its file.
    rule: String,
}

/// The seed that failed, and with what words.
struct Caught {
    seed: u64,
    by: String,
}

/// What came of some seeds.
enum Storm {
    Well,
    Caught(Caught),
    /// The simulator came to no end or fell, in the world of one of the seeds.
    Died(String),
}

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(alive) => {
            eprintln!("mutants: {alive} are alive after {SEEDS} seeds");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("mutants: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all that were asked for; how many survive.
fn run() -> Result<usize> {
    let (options, names): (Vec<String>, Vec<String>) =
        env::args().skip(1).partition(|word| word.starts_with("--"));
    let write = options.iter().any(|option| option == "--write");
    ensure!(options.len() == usize::from(write), "the only option is --write");
    let root = workspace();
    let chosen = mutants(&root, &names)?;
    let copy = Copy::make(&root)?;
    let (mut alive, mut broken) = (0, Vec::new());
    for mutant in chosen {
        let begun = Instant::now();
        let (seed, by) = match copy.try_mutant(&mutant) {
            Ok(Some(Caught { seed, by })) => (seed.to_string(), by),
            Ok(None) => {
                alive += 1;
                ("-".into(), "**nothing**".into())
            }
            // The others are worth trying all the same.
            Err(error) => {
                eprintln!("mutants: {error:#}");
                broken.push(mutant.name);
                continue;
            }
        };
        let row = format!("| {} | {} | {seed} | {by} |", mutant.name, mutant.rule);
        println!("{row} {} s", begun.elapsed().as_secs());
        if write {
            enter(&root.join("sim/mutants/README.md"), &mutant.name, row)?;
        }
    }
    ensure!(broken.is_empty(), "could not be tried: {}", broken.join(", "));
    Ok(alive)
}

/// Puts a row into the table of a file, for the one of the same mutant.
fn enter(file: &Path, name: &str, row: String) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines: Vec<&str> = text.lines().collect();
    let begin = lines.iter().position(|line| line.starts_with("| mutant |"));
    let begin = begin
        .with_context(|| format!("{} has no table: add one with the line {}", file.display(), HEAD[0]))?;
    let (above, rest) = lines.split_at(begin);
    let (table, below) = rest.split_at(rest.iter().take_while(|line| line.starts_with('|')).count());
    let others = table.iter().skip(HEAD.len()).filter(|old| !old.starts_with(&format!("| {name} |")));
    let mut rows: Vec<&str> = others.copied().chain([row.as_str()]).collect();
    rows.sort_unstable();
    let lines: Vec<&str> = [above, &HEAD, &rows, below].concat();
    Ok(fs::write(file, format!("{}\n", lines.join("\n")))?)
}

/// The mutants whose names contain one of `names`, or all.
fn mutants(root: &Path, names: &[String]) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for entry in fs::read_dir(root.join("sim/mutants"))? {
        let file = entry?.path();
        if file.extension().is_none_or(|extension| extension != "diff") {
            continue;
        }
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !names.is_empty() && !names.iter().any(|part| name.contains(part)) {
            continue;
        }
        let text = fs::read_to_string(&file)?;
        let rule = text.lines().find_map(|line| line.strip_prefix("Rule: "));
        let rule = rule.with_context(|| format!("{name} does not say which rule it breaks"))?.to_owned();
        mutants.push(Mutant { name, file, rule });
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(!mutants.is_empty(), "there is no such mutant");
    Ok(mutants)
}

/// A copy of the committed tree, and a place to build it in.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// A clone that shares the objects of this repository, and stays for the next run.
    fn make(root: &Path) -> Result<Self> {
        let dir = root.join("target/mutants");
        let copy = Self { tree: dir.join("tree"), target: dir.join("target") };
        if !copy.tree.join(".git").exists() {
            fs::create_dir_all(&dir)?;
            let clone = ["clone", "--quiet", "--shared", "--no-checkout"];
            output(Command::new("git").args(clone).arg(root).arg(&copy.tree))?;
        }
        copy.git(&["fetch", "--quiet", "origin", "HEAD"])?;
        copy.git(&["checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"])?;
        Ok(copy)
    }

    fn git(&self, words: &[&str]) -> Result<String> {
        output(Command::new("git").current_dir(&self.tree).args(words))
    }

    /// Builds the simulator with the mutant; the first seed that fails.
    fn try_mutant(&self, mutant: &Mutant) -> Result<Option<Caught>> {
        self.apply(mutant)?;
        let mut build = Command::new("cargo");
        build.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        build.args(["build", "--quiet", "--profile", PROFILE, "-p", "oxivpn-sim"]);
        output(&mut build).with_context(|| {
            format!("the tree with {} does not build; write that file anew", mutant.file.display())
        })?;
        let (mut from, mut many) = (0, BATCH);
        while from < SEEDS {
            let to = (from + many).min(SEEDS);
            match self.storm(from..to)? {
                Storm::Well => {}
                Storm::Caught(caught) => return Ok(Some(caught)),
                Storm::Died(_) => return self.single(from..to).map(Some),
            }
            (from, many) = (to, (2 * many).min(MOST));
        }
        Ok(None)
    }

    /// Puts the tree right, and breaks it in the mutant's way.
    fn apply(&self, mutant: &Mutant) -> Result<()> {
        self.git(&["checkout", "--quiet", "--force", "."])?;
        let file = mutant.file.to_string_lossy();
        self.git(&["apply", &file]).map(drop).with_context(|| {
            format!(
                "{} does not fit the committed tree any more; make its change by hand, and put what `git diff` \
                 says about it below the two lines at its head",
                mutant.file.display()
            )
        })
    }

    fn storm(&self, seeds: Range<u64>) -> Result<Storm> {
        let (least, each) = PATIENCE;
        let cpu = least + each * (seeds.end - seeds.start);
        let mut storm = Command::new("prlimit");
        storm.args([format!("--cpu={cpu}:{}", cpu + 1), format!("--as={MEMORY}"), "--core=0".into()]);
        storm.arg(self.target.join(PROFILE).join("oxivpn-sim")).current_dir(&self.target);
        storm.args(["storm", "--tries", "0"]);
        storm.args(["--from", &seeds.start.to_string(), "--to", &seeds.end.to_string()]);
        let done = storm.output().context("prlimit of util-linux")?;
        match done.status.code() {
            Some(0) => Ok(Storm::Well),
            Some(1) => first(&String::from_utf8_lossy(&done.stdout)).map(Storm::Caught),
            None => Ok(Storm::Died(death(done.status))),
            other => {
                let errors = String::from_utf8_lossy(&done.stderr);
                bail!("storm ended with {other:?}: {}", errors.lines().next().unwrap_or_default())
            }
        }
    }

    /// The first of these seeds that fails or whose world the simulator doesn't survive.
    fn single(&self, seeds: Range<u64>) -> Result<Caught> {
        let whole = seeds.clone();
        for seed in seeds {
            match self.storm(seed..seed + 1)? {
                Storm::Well => {}
                Storm::Caught(caught) => return Ok(caught),
                Storm::Died(by) => return Ok(Caught { seed, by }),
            }
        }
        bail!("seeds {} to {} can't be run together, and each alone can", whole.start, whole.end - 1)
    }
}

/// How the simulator ended that didn't end by itself.
fn death(status: ExitStatus) -> String {
    match status.signal() {
        Some(SIGXCPU) => "a world without an end".into(),
        signal => format!("a crash of the simulator, signal {}", signal.unwrap_or_default()),
    }
}

/// What `storm` tells about the first seed that failed; it lists kinds of failures by their first seeds.
fn first(text: &str) -> Result<Caught> {
    let told = Regex::new(r"(?m)^VIOLATION +(.*)\nseed +(\d+),")?;
    let found = told.captures(text).context("storm failed, and names no seed")?;
    Ok(Caught { seed: found[2].parse()?, by: without_numbers(&found[1])? })
}

/// What a violation says, without what differs from seed to seed.
fn without_numbers(words: &str) -> Result<String> {
    let place = Regex::new(r"^[^ ]+: (machine \d+: )?")?.replace(words, "");
    let peer =
        Regex::new(r"PeerRef \{ id: PeerId\((\d+)\), generation: \d+ \}")?.replace_all(&place, "peer $1");
    let mut short = Regex::new(r"\d[\d.:]*(ms|µs|ns|s)?\b")?.replace_all(&peer, "N").replace('|', "/");
    let innermost = Regex::new(r" \{[^{}]*\}")?;
    while short.len() > LONGEST && innermost.is_match(&short) {
        short = innermost.replace_all(&short, "").into_owned();
    }
    Ok(short.chars().take(LONGEST).collect())
}

/// What a program says; its errors are ours.
fn output(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{command:?}: {}", errors.lines().last().unwrap_or_default());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap_or_else(|_| PathBuf::from(".."))
}
