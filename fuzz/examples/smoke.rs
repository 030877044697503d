//! A short fuzz run of every target with nothing but the compiler: mutates the committed corpus from a seed.
//!
//! ```text
//! cargo run -p oxivpn-fuzz --example smoke -- [--seconds 10] [--seed N] [--threads 2] [TARGET...]
//! ```
//!
//! It has no coverage feedback, so it finds less than cargo-fuzz. The same seed gives each target the same
//! inputs in the same order; how many of them it gets depends on the time. A finding is written to
//! `fuzz/artifacts/TARGET/` and makes the program fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

use oxivpn_fuzz::{TARGETS, Target, corpus};

/// Longest input; as much as any target makes use of.
const MAX_LEN: usize = 4096;

/// What the command line says.
struct Options {
    seconds: u64,
    seed: u64,
    threads: usize,
    targets: Vec<Target>,
}

/// What became of one target.
struct Outcome {
    name: &'static str,
    executions: u64,
    seconds: f32,
    finding: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}", options.seed);
    let (words, time) = (words(), Duration::from_secs(options.seconds));
    let queue = Mutex::new(options.targets.iter().copied());
    let work = || {
        let mut clean = true;
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(target) = next else { return clean };
            let outcome = fuzz(target, &words, options.seed, time);
            clean &= outcome.finding.is_none();
            report(&outcome);
        }
    };
    let clean = thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(false)).fold(true, |all, one| all & one)
    });
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> Result<Options, String> {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let mut options = Options { seconds: 10, seed: fresh, threads: 2, targets: Vec::new() };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().unwrap_or_default();
            value.parse::<u64>().map_err(|error| format!("{word} {value}: {error}"))
        };
        match word.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--threads" => options.threads = number()?.clamp(1, 64) as usize,
            name => match TARGETS.iter().find(|target| target.name == name) {
                Some(target) => options.targets.push(*target),
                None => {
                    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                    return Err(format!("{name}: no such target or option; targets are {}", names.join(" ")));
                }
            },
        }
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.to_vec();
    }
    Ok(options)
}

fn report(outcome: &Outcome) {
    let Outcome { name, executions, seconds, finding } = outcome;
    let end = match finding {
        Some(path) => format!("FINDING in {}", path.display()),
        None => "no finding".into(),
    };
    println!("{name:17} {executions:9} executions in {seconds:4.1} s, {end}");
}

fn fuzz(target: Target, words: &[Vec<u8>], seed: u64, time: Duration) -> Outcome {
    let begun = Instant::now();
    let mut outcome = Outcome { name: target.name, executions: 0, seconds: 0.0, finding: None };
    let inputs: Vec<Vec<u8>> = match corpus(target.name) {
        Ok(inputs) => inputs.into_iter().map(|(_, input)| input).collect(),
        Err(error) => {
            eprintln!("{error}");
            Vec::new()
        }
    };
    let mut random = Random(target.name.bytes().fold(seed, |sum, byte| sum.rotate_left(5) ^ u64::from(byte)));
    while begun.elapsed() < time && outcome.finding.is_none() {
        // First the corpus as it is.
        let at = usize::try_from(outcome.executions).unwrap_or(usize::MAX);
        let input = match inputs.get(at) {
            Some(input) => input.clone(),
            None => mutate(&inputs, words, &mut random),
        };
        outcome.executions += 1;
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            outcome.finding = Some(keep(target.name, seed, outcome.executions, &input));
        }
    }
    outcome.seconds = begun.elapsed().as_secs_f32();
    outcome
}

fn keep(target: &str, seed: u64, number: u64, input: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(target);
    let path = folder.join(format!("smoke-{seed}-{number}"));
    if let Err(error) = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)) {
        eprintln!("{}: {error}; the input was {input:02x?}", path.display());
    }
    path
}

/// Words of the dictionary, save those with escapes: the mutations make strange bytes enough.
fn words() -> Vec<Vec<u8>> {
    include_str!("../dictionary/options.dict")
        .lines()
        .filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'))
        .filter(|word| !word.contains('\\'))
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

fn mutate(inputs: &[Vec<u8>], words: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(inputs).cloned().unwrap_or_default();
    for _ in 0..=random.below(5) {
        let at = random.below(input.len() + 1);
        let end = at + random.below((input.len() - at).min(64) + 1);
        match random.below(8) {
            0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
            1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.next() as u8),
            2 => input.insert(at, random.next() as u8),
            3 => drop(input.drain(at..end)),
            4 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            5 => {
                let word = random.pick(words).cloned().unwrap_or_default();
                input.splice(at..at, word);
            }
            6 => {
                let other = random.pick(inputs).map_or(&[][..], Vec::as_slice);
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let edges = [0, 1, 0x7f, 0x80, 0xff];
                let edge = edges[random.below(edges.len())];
                input[at..end].iter_mut().take(4).for_each(|byte| *byte = edge);
            }
        }
    }
    input.truncate(MAX_LEN);
    input
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    fn pick<'t, T>(&mut self, list: &'t [T]) -> Option<&'t T> {
        list.get(self.below(list.len()))
    }
}
