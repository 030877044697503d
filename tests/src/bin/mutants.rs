//! Whether the simulator notices what it is there for: `cargo run --release -p oxivpn-tests --bin mutants [-- NAME...]`.
//!
//! Each file in `sim/mutants` breaks one rule of the product. The program applies it to a copy of the committed tree,
//! builds the simulator and runs `storm` from the first seed until one fails; with names, only the mutants whose file
//! name contains one of them. The exit code is 1 if a mutant is alive after the last seed. `--write` puts the table
//! into `sim/mutants/README.md`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use regex::Regex;

/// A mutant has to be caught by one of so many seeds.
const SEEDS: u64 = 1000;

/// Seeds of one call of the simulator.
const BATCH: u64 = 20;

/// Seconds for a batch; a mutant may let a world run in circles.
const PATIENCE: &str = "300";

/// What stands in the table's file above the table.
const PREAMBLE: &str = "\
# Mutants of the product

Each file here breaks one rule of the product. `cargo run --release -p oxivpn-tests --bin mutants -- --write` applies
them one after the other to a copy of the committed tree, runs `storm` until a seed fails, and writes this table.
A mutant that no seed of the first 1,000 catches means that a check is missing.

";

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
    let copy = Copy::make(&root)?;
    let table = root.join("sim/mutants/README.md");
    let mut rows = rows_of(&fs::read_to_string(&table).unwrap_or_default());
    let mut alive = 0;
    for mutant in mutants(&root, &names)? {
        let begun = Instant::now();
        let caught = copy.try_mutant(&mutant)?;
        let seconds = begun.elapsed().as_secs();
        let (seed, by) = match caught {
            Some(Caught { seed, by }) => (seed.to_string(), by),
            None => {
                alive += 1;
                ("-".into(), "**nothing**".into())
            }
        };
        let row = format!("| {} | {} | {seed} | {by} |", mutant.name, mutant.rule);
        println!("{row} {seconds} s");
        rows.retain(|old| !old.starts_with(&format!("| {} |", mutant.name)));
        rows.push(row);
    }
    if write {
        rows.sort();
        let head = "| mutant | rule that it breaks | first seed | caught by |\n|---|---|---|---|\n";
        fs::write(&table, format!("{PREAMBLE}{head}{}\n", rows.join("\n")))?;
    }
    Ok(alive)
}

/// The rows of a table that was written before.
fn rows_of(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| mutant |"))
        .map(Into::into)
        .collect()
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
    fn make(root: &Path) -> Result<Self> {
        let (tree, target) = (root.join("target/mutants-tree"), root.join("target/mutants"));
        let head = output(Command::new("git").current_dir(root).args(["rev-parse", "HEAD"]))?;
        if !tree.exists() {
            let add = ["worktree", "add", "--quiet", "--detach"];
            output(Command::new("git").current_dir(root).args(add).arg(&tree).arg(head.trim()))?;
        }
        let copy = Self { tree, target };
        copy.git(&["checkout", "--quiet", "--force", "--detach", head.trim()])?;
        Ok(copy)
    }

    fn git(&self, words: &[&str]) -> Result<String> {
        output(Command::new("git").current_dir(&self.tree).args(words))
    }

    /// Builds the simulator with the mutant; the first seed that fails.
    fn try_mutant(&self, mutant: &Mutant) -> Result<Option<Caught>> {
        self.git(&["checkout", "--quiet", "--force", "."])?;
        let file = mutant.file.to_string_lossy();
        self.git(&["apply", &file]).with_context(|| format!("{} does not fit any more", mutant.name))?;
        let mut build = Command::new("cargo");
        build.current_dir(&self.tree).args(["build", "--quiet", "--release", "-p", "oxivpn-sim"]);
        build.env("CARGO_TARGET_DIR", &self.target).env("CARGO_PROFILE_RELEASE_LTO", "off");
        build
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "true");
        output(&mut build).with_context(|| format!("{} does not build", mutant.name))?;
        let line = Regex::new(r"(?m)^seed (\d+): (.*)$")?;
        for from in (0..SEEDS).step_by(BATCH as usize) {
            let mut storm = Command::new("timeout");
            storm.arg(PATIENCE).arg(self.target.join("release/oxivpn-sim"));
            storm.args(["storm", "--from", &from.to_string(), "--to", &(from + BATCH).to_string()]);
            let done = storm.current_dir(&self.target).output()?;
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            let failed = line.captures_iter(&text).filter_map(|found| Some((found[1].parse().ok()?, found)));
            if let Some((seed, found)) = failed.min_by_key(|(seed, _)| *seed) {
                return Ok(Some(Caught { seed, by: without_numbers(&found[2])? }));
            }
            if done.status.code().is_none_or(|code| code > 1) {
                // The simulator gave up or found no end, which is noticed too.
                let words =
                    String::from_utf8_lossy(&done.stderr).lines().take(2).collect::<Vec<_>>().join(" ");
                return Ok(Some(Caught {
                    seed: from,
                    by: format!("a world without an end, or a panic {}", without_numbers(&words)?),
                }));
            }
        }
        Ok(None)
    }
}

/// What a violation says, without what differs from seed to seed.
fn without_numbers(words: &str) -> Result<String> {
    let place = Regex::new(r"^[^ ]+: (machine \d+: )?")?.replace(words, "");
    let short: String =
        Regex::new(r"\d[\d.]*(ms|µs|ns|s)?\b")?.replace_all(&place, "N").chars().take(110).collect();
    Ok(short.replace('|', "/"))
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
