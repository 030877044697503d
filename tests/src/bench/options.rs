//! Command line of the benchmark.

use std::{env, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oxivpn_tests::openvpn::Release;

/// Parts of the benchmark, in order, with their titles.
pub(crate) const PARTS: [(u32, &str); 6] = [
    (1, "One TCP stream, the same program at both ends"),
    (2, "One TCP stream, oxivpn at one end and openvpn at the other"),
    (3, "UDP datagrams at an offered rate"),
    (4, "Round trip of a ping"),
    (5, "Compression framing, TCP transport, data packet formats"),
    (6, "Eight clients of one server, with one and two workers"),
];

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How often each figure is measured.
    pub(crate) runs: usize,
    /// Length of each transfer.
    pub(crate) seconds: u32,
    /// Congestion control of the streams. With one that takes no loss for a sign of congestion, such as BBR, the CPU of
    /// a sender that is faster than its receiver goes into repeating what that one has dropped.
    pub(crate) congestion: String,
    /// Numbers of the parts to run.
    pub(crate) only: Vec<u32>,
    /// Which OpenVPN to compare with.
    pub(crate) release: Release,
    /// The `oxivpn` to measure instead of the one that is built.
    pub(crate) own: Option<PathBuf>,
    /// Offered packets per second of part 3.
    pub(crate) rates: Vec<u32>,
    /// Profile line that makes two ends of oxivpn use P_DATA_V1.
    pub(crate) v1: Option<String>,
    /// The same for P_DATA_V2 without epochs.
    pub(crate) v2: Option<String>,
    /// Arguments that give our server `{}` workers.
    pub(crate) workers: Option<String>,
    /// Pattern of the server's log whose last group is the number of hand-overs.
    pub(crate) hand_overs: String,
}

impl Options {
    /// Reads the command line.
    pub(crate) fn read() -> Result<Self> {
        let mut options = Self {
            runs: 5,
            seconds: 3,
            congestion: "cubic".into(),
            only: PARTS.map(|(number, _)| number).to_vec(),
            release: Release::Distribution,
            own: env::var_os("OXIVPN_TEST_CLIENT").map(Into::into),
            rates: vec![20_000, 60_000],
            v1: Some("data-format v1".into()),
            v2: Some("data-format v2".into()),
            workers: Some("--workers {}".into()),
            hand_overs: "([0-9]+) handed over".into(),
        };
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--quick" => options.runs = 1,
                "--runs" => options.runs = value()?.parse().context("--runs")?,
                "--seconds" => options.seconds = value()?.parse().context("--seconds")?,
                "--congestion" => options.congestion = value()?,
                "--only" => options.only = numbers(&value()?).context("--only")?,
                "--newer" => options.release = Release::Newer,
                "--own" | "--client" => options.own = Some(value()?.into()),
                "--rate" => options.rates = numbers(&value()?).context("--rate")?,
                "--v1" => options.v1 = Some(value()?),
                "--v2" => options.v2 = Some(value()?),
                "--workers" => options.workers = Some(value()?),
                "--hand-overs" => options.hand_overs = value()?,
                other => bail!("unknown option {other}; known:\n{HELP}"),
            }
        }
        ensure!(options.runs > 0 && options.seconds > 0, "--runs and --seconds must be above 0");
        let known = |number: &u32| PARTS.iter().any(|(part, _)| part == number);
        ensure!(options.only.iter().all(known), "--only: parts are 1 to {}", PARTS.len());
        ensure!(options.rates.iter().all(|&rate| rate > 0), "--rate must be above 0");
        if let Some(words) = &options.workers {
            ensure!(words.contains("{}"), "--workers: write `{{}}` where the number belongs");
        }
        Ok(options)
    }
}

fn numbers(list: &str) -> Result<Vec<u32>> {
    list.split(',').map(|word| word.trim().parse().with_context(|| format!("{word} is no number"))).collect()
}

const HELP: &str = "\
  --quick               measure once
  --runs N, --seconds N how often each figure is measured, and how long each transfer takes
  --congestion NAME     congestion control of the streams: cubic, the kernel's own, unless another one is named
  --only 1,3            these parts only
  --own PATH            the oxivpn to measure, instead of the one that is built (--client means the same)
  --newer               compare with the newer OpenVPN
  --rate 20000,60000   packets offered per second in part 3
  --v1 LINE, --v2 LINE  line of both profiles that makes two ends of oxivpn use this data packet format
  --workers WORDS       arguments of our server for `{}` workers, such as '--workers {}'
  --hand-overs REGEX    pattern of the line in the server's log that tells its hand-overs, the number in a group";
