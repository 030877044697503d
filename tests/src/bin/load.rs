//! Measures a server under many clients: this project's and the real one in turn, with the same clients, all made by
//! `oxivpn load`.
//!
//! `cargo run --release -p oxivpn-tests --bin load` (as root). It prints tables in markdown and fails if a limit is
//! missed. Options: `--only handshakes|memory|ping`, `--quick` measures once with a tenth of the clients, `--runs N` and
//! `--seconds N` set the effort, `--clients N` and `--rate N` the number of clients whose memory is measured and how many
//! of them come each second, `--newer` takes the newer OpenVPN, `--own PATH` another `oxivpn`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use oxivpn_tests::{
    client::build,
    interrupt,
    load::{Field, Memory, Pinged},
    matrix::available,
    openvpn::{Release, version},
    stats::median,
};

/// Connections per CPU second, as a multiple of the real server's, at least.
const HANDSHAKES: f64 = 3.0;
/// Bytes for each client at most.
const EACH: f64 = 20.0 * 1024.0;
/// Milliseconds that the p99 of a ping may rise while clients connect.
const RISE: f64 = 2.0;
/// Clients that connect each second meanwhile.
const STORM: u32 = 100;
/// Clients whose memory is measured at the real server.
const FEW: u32 = 1000;
/// How many of these come each second, which is within what a slow core bears.
const FEW_RATE: u32 = 50;

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

struct Effort {
    runs: usize,
    seconds: u32,
    clients: u32,
    rate: u32,
    only: Option<String>,
    release: Release,
    own: Option<PathBuf>,
}

/// The two programs, and where they run when each has a core of its own.
struct Bench {
    effort: Effort,
    own: PathBuf,
    real: PathBuf,
    real_name: String,
    cores: usize,
}

fn main() -> ExitCode {
    match run() {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("load: limits missed:\n{}", missed.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Vec<String>> {
    let effort = arguments()?;
    available()?;
    let own = match &effort.own {
        Some(path) => path.clone(),
        None => build(true)?,
    };
    let cores = thread::available_parallelism()?.get();
    ensure!(cores >= 2, "the server and its clients need a core each, this machine has one");
    // After the last thing that Ctrl-C may well end at once.
    interrupt::watch()?;
    let real = effort.release.program()?.to_owned();
    let real_name = version(&real)?.to_lowercase();
    println!("servers: {}, {} ({real_name}); {cores} cores", own.display(), real.display());
    println!("{} runs of {} s in turn; medians\n", effort.runs, effort.seconds);
    let bench = Bench { effort, own, real, real_name, cores };
    let mut missed = Vec::new();
    for (name, part) in [
        ("handshakes", Bench::handshakes as fn(&Bench) -> Result<Option<String>>),
        ("memory", Bench::memory),
        ("ping", Bench::ping),
    ] {
        if bench.effort.only.as_ref().is_none_or(|only| only == name) {
            let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
            println!("{name}; load of this machine before: {}\n", load.trim());
            missed.extend(part(&bench).with_context(|| name.to_owned())?);
            println!();
        }
    }
    Ok(missed)
}

fn arguments() -> Result<Effort> {
    let mut effort = Effort {
        runs: 3,
        seconds: 10,
        clients: 10_000,
        rate: 500,
        only: None,
        release: Release::Distribution,
        own: None,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => (effort.runs, effort.clients) = (1, 1000),
            "--runs" => effort.runs = value()?.parse().context("--runs")?,
            "--seconds" => effort.seconds = value()?.parse().context("--seconds")?,
            "--clients" => effort.clients = value()?.parse().context("--clients")?,
            "--rate" => effort.rate = value()?.parse().context("--rate")?,
            "--only" => effort.only = Some(value()?),
            "--newer" => effort.release = Release::Newer,
            "--own" => effort.own = Some(value()?.into()),
            other => bail!(
                "unknown option {other}; known: --only handshakes|memory|ping --quick --runs N --seconds N \
                 --clients N --rate N --newer --own PATH"
            ),
        }
    }
    let positive = effort.runs > 0 && effort.seconds > 0 && effort.clients > 0 && effort.rate > 0;
    ensure!(positive, "--runs, --seconds, --clients and --rate must be above 0");
    ensure!(effort.clients <= 60_000, "--clients: a host has ports for 60000");
    let only = effort.only.as_deref();
    ensure!(matches!(only, None | Some("handshakes" | "memory" | "ping")), "--only: no such part");
    Ok(effort)
}

/// What clients that come and go show of a server on one core.
#[derive(Clone, Copy)]
struct Handshakes {
    per_cpu_second: f64,
    per_second: f64,
    /// Milliseconds from the first packet to PUSH_REPLY at a server with nothing else to do, median.
    alone: f64,
}

impl Bench {
    fn programs(&self) -> [(&str, &Path); 2] {
        [("oxivpn", &self.own), (&self.real_name, &self.real)]
    }

    /// Measures `runs` times, in turn.
    fn in_turn<T>(&self, measure: impl Fn(&Path) -> Result<T>) -> Result<[Vec<T>; 2]> {
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..self.effort.runs {
            for (samples, (name, path)) in samples.iter_mut().zip(self.programs()) {
                samples.push(measure(path).with_context(|| name.to_owned())?);
            }
        }
        Ok(samples)
    }

    fn handshakes(&self) -> Result<Option<String>> {
        let samples = self.in_turn(|path| self.come_and_go(path))?;
        let [own, real] = samples.map(|list| Handshakes {
            per_cpu_second: median(list.iter().map(|s| s.per_cpu_second)),
            per_second: median(list.iter().map(|s| s.per_second)),
            alone: median(list.iter().map(|s| s.alone)),
        });
        println!("| server | connections per CPU second | connections per second | one alone, ms |");
        println!("|---|---|---|---|");
        for (row, (name, _)) in [own, real].into_iter().zip(self.programs()) {
            println!("| {name} | {:.0} | {:.0} | {:.1} |", row.per_cpu_second, row.per_second, row.alone);
        }
        let ratio = own.per_cpu_second / real.per_cpu_second;
        println!(
            "| ratio | {ratio:.2} | {:.2} | {:.2} |",
            own.per_second / real.per_second,
            own.alone / real.alone
        );
        let failure =
            || format!("connections per CPU second: {ratio:.2} times the real server's, not {HANDSHAKES}");
        Ok((ratio < HANDSHAKES).then(failure))
    }

    fn come_and_go(&self, program: &Path) -> Result<Handshakes> {
        let mut field = Field::new(program, &self.own, Some(0))?;
        let core = Some(self.cores - 1);
        let within = Duration::from_secs(u64::from(self.effort.seconds) + 90);
        // The first clients also bring a fresh server's caches up.
        let load = field.generate("--clients 50 --rate 10", core)?;
        let alone = field.outcome(load, within, |_| Ok(()))?.get("p50_ms")?;

        let before = field.server.cpu()?;
        let load = field.generate(&format!("--clients 500 --churn {}", self.effort.seconds), core)?;
        let outcome = field.outcome(load, within, |_| Ok(()))?;
        let cpu = (field.server.cpu()? - before).as_secs_f64();
        let up = outcome.get("up")?;
        ensure!(up >= 10.0 && cpu > 0.0, "too few connections: {outcome:?}");
        ensure!(outcome.get("failed")? <= up / 100.0, "clients failed: {outcome:?}");
        // Not the time until the last was up: one that was refused at first would count for all.
        let per_second = up / f64::from(self.effort.seconds);
        Ok(Handshakes { per_cpu_second: up / cpu, per_second, alone })
    }

    fn memory(&self) -> Result<Option<String>> {
        let few = FEW.min(self.effort.clients);
        let rows = [
            ("oxivpn", &self.own, self.effort.clients, self.effort.rate),
            ("oxivpn", &self.own, few, FEW_RATE),
            (&self.real_name, &self.real, few, FEW_RATE),
        ];
        println!("| server | clients | before, MiB | all up, MiB | after a renegotiation, MiB | each, KiB |");
        println!("|---|---|---|---|---|---|");
        let mut most = 0.0_f64;
        for (index, (name, path, clients, rate)) in rows.into_iter().enumerate() {
            if index == 1 && few == self.effort.clients {
                continue;
            }
            let memory: Memory = Field::new(path, &self.own, None)?.memory(clients, rate)?;
            println!(
                "| {name} | {clients} | {:.1} | {:.1} | {:.1} | {:.1} |",
                memory.before as f64 / MIB,
                memory.up as f64 / MIB,
                memory.renegotiated as f64 / MIB,
                memory.each() / KIB
            );
            if index == 0 {
                most = memory.each();
            }
        }
        let failure = || format!("memory: {:.1} KiB for each client, not {:.0}", most / KIB, EACH / KIB);
        Ok((most > EACH).then(failure))
    }

    fn ping(&self) -> Result<Option<String>> {
        let samples = self.in_turn(|path| self.ping_once(path))?;
        println!("| server | p99 idle, ms | p99 with {STORM} clients per second, ms | more, ms | lost |");
        println!("|---|---|---|---|---|");
        let mut rises = Vec::new();
        for (list, (name, _)) in samples.into_iter().zip(self.programs()) {
            let [idle, busy] = [0, 1].map(|at| median(list.iter().map(|pair| pair[at].p99)));
            let lost: u32 = list.iter().flatten().map(|pinged| pinged.lost).sum();
            println!("| {name} | {idle:.2} | {busy:.2} | {:.2} | {lost} |", busy - idle);
            rises.push(busy - idle);
        }
        let failure = || format!("ping: p99 is {:.2} ms longer while clients connect, not {RISE}", rises[0]);
        Ok((rises[0] > RISE).then(failure))
    }

    /// Pings at an idle server, and while clients connect.
    fn ping_once(&self, program: &Path) -> Result<[Pinged; 2]> {
        let seconds = self.effort.seconds;
        let mut field = Field::new(program, &self.own, None)?;
        field.connect(&self.real)?;
        // The way to the server is found and both ends are awake.
        field.ping(1)?;
        let idle = field.ping(seconds)?;
        let words = format!("--clients 1000 --rate {STORM} --churn {}", seconds + 3);
        let load = field.generate(&words, Some(self.cores - 1))?;
        thread::sleep(Duration::from_secs(1));
        let busy = field.ping(seconds)?;
        let outcome = field.outcome(load, Duration::from_secs(90), |_| Ok(()))?;
        let wanted = f64::from(STORM * (seconds + 3));
        ensure!(outcome.get("up")? >= wanted * 0.95, "not {STORM} clients per second: {outcome:?}");
        Ok([idle, busy])
    }
}
