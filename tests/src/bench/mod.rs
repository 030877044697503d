//! The data path's benchmark: what each part shares.

use std::{fs, process::Command};

use anyhow::Result;
use oxivpn_tests::interrupt;

pub(crate) mod clients;
pub(crate) mod datagrams;
pub(crate) mod formats;
pub(crate) mod options;
pub(crate) mod paced;
pub(crate) mod rtt;
pub(crate) mod stream;
pub(crate) mod streams;
pub(crate) mod table;
pub(crate) mod tunnel;
pub(crate) mod wireguard;

use options::Options;
use table::{Check, Limit, print_checks};
use tunnel::{Programs, Vpn};

/// The programs, what was asked for, and what has gone wrong so far.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) programs: Programs,
    /// Runs that failed.
    errors: Vec<String>,
    /// Requirements of the current part.
    checks: Vec<Check>,
    /// Requirements of all parts, with the part's number.
    all: Vec<(u32, Check)>,
}

impl Bench {
    /// Nothing measured yet.
    pub(crate) fn new(options: Options, programs: Programs) -> Self {
        Self { options, programs, errors: Vec::new(), checks: Vec::new(), all: Vec::new() }
    }

    /// Prints what the figures depend on.
    pub(crate) fn describe(&self) -> Result<()> {
        println!("- CPU: {}; {}", cpu_model(), kernel());
        println!("{}", self.programs.describe()?);
        println!(
            "- {} runs of {} s, candidates in turn; medians; both ends and the load on this machine; streams with {}\n",
            self.options.runs, self.options.seconds, self.options.congestion
        );
        Ok(())
    }

    /// Runs one part: its title, the machine's load before, its tables and its verdicts.
    pub(crate) fn part(&mut self, number: u32, title: &str) -> Result<()> {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("## {number}. {title}\n\nLoad of this machine before: {}\n", load.trim());
        match number {
            1 => streams::alike(self),
            2 => streams::mixed(self),
            3 => datagrams::part(self),
            4 => rtt::part(self),
            5 => formats::part(self),
            _ => clients::part(self),
        }?;
        if !self.checks.is_empty() {
            print_checks(&self.checks);
        }
        self.all.extend(self.checks.drain(..).map(|check| (number, check)));
        Ok(())
    }

    /// Measures each candidate as often as asked for, in turn. A run that fails is reported, and is missing in the
    /// result; only a signal ends the whole.
    pub(crate) fn in_turn<C, T>(
        &mut self,
        candidates: &[C],
        name: impl Fn(&C) -> String,
        mut measure: impl FnMut(&Self, &C) -> Result<T>,
    ) -> Result<Vec<Vec<T>>> {
        let mut samples: Vec<Vec<T>> = candidates.iter().map(|_| Vec::new()).collect();
        for run in 1..=self.options.runs {
            for (samples, candidate) in samples.iter_mut().zip(candidates) {
                interrupt::check()?;
                match measure(self, candidate) {
                    Ok(sample) => samples.push(sample),
                    Err(error) => {
                        interrupt::check()?;
                        self.error(&format!("{}, run {run}: {error:#}", name(candidate)));
                    }
                }
            }
        }
        Ok(samples)
    }

    /// Reports a failure.
    pub(crate) fn error(&mut self, text: &str) {
        println!("**ERROR** {}\n", text.replace('\n', "\n    "));
        // The cause, without the logs behind it.
        let cause = text.split("\n-----").next().unwrap_or_default();
        self.errors.push(cause.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect());
    }

    /// Holds a ratio against its limit.
    pub(crate) fn check(&mut self, what: impl Into<String>, ratio: f64, limit: Limit) {
        self.checks.push(Check::new(what, ratio, limit));
    }

    /// Programs to compare at both ends of a tunnel.
    pub(crate) fn contenders(&self) -> Vec<Vpn> {
        let mut list = vec![Vpn::Own, Vpn::Real];
        if self.programs.wireguard.is_some() {
            list.push(Vpn::WireGuard);
        }
        list
    }

    /// Prints the requirements that were missed and the runs that failed; true if there are none.
    pub(crate) fn conclude(&self) -> bool {
        let missed: Vec<&(u32, Check)> = self.all.iter().filter(|(_, check)| !check.passed()).collect();
        println!(
            "## Result\n\n{} of {} requirements met, {} runs failed",
            self.all.len() - missed.len(),
            self.all.len(),
            self.errors.len()
        );
        for (part, check) in &missed {
            println!("- part {part}: {check}");
        }
        for error in &self.errors {
            println!("- failed: {error}");
        }
        missed.is_empty() && self.errors.is_empty()
    }
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()))
        .collect();
    format!("{} x {}", models.len(), models.first().copied().unwrap_or("unknown"))
}

fn kernel() -> String {
    let output = Command::new("uname").args(["-s", "-r", "-m"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
