//! Counts the instructions per packet of each part of the data path and compares them with the recorded ones.
//!
//! `cargo run --release -p oxivpn-tests --bin instructions` fails if a part takes over 5 % more than
//! `tests/snapshots/instructions.md` says; with `-- --write` it writes that file, so that a change shows in review.
//! Instructions, unlike times, are the same on a busy machine.
//!
//! The example `lane_workload` of package `oxivpn` does one part over and over. It runs under callgrind with two numbers
//! of batches, and the difference, which has no start-up in it, is divided by the packets.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};
use oxivpn_tests::client::build_example;
use regex::Regex;

/// Runs of the workload, in batches; `MOST` in its source is the limit.
const BATCHES: [u64; 2] = [16, 64];

/// Packets of a batch, as `BATCH` in the workload's source.
const BATCH: u64 = 45;

/// Figures are rounded to this many instructions, and a smaller change is none.
const STEP: u64 = 10;

/// The calls of aws-lc that seal and open.
const AEAD: &str = "EVP_AEAD_CTX_(seal_scatter|open_gather)";

/// What stands for the kernel in the workload.
const KERNEL: &str = "rig.*kernel_(copy|send|write)";

/// Instructions of one run, or per packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    /// All but the AEAD and what stands for the kernel.
    own: u64,
    aead: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(slower) if slower.is_empty() => ExitCode::SUCCESS,
        Ok(slower) => {
            eprintln!("instructions: more than recorded:");
            slower.iter().for_each(|row| eprintln!("  {row}"));
            eprintln!("If that is as it should be, run again with `-- --write` and have the table reviewed.");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What got slower, or does not stand in the table.
fn run() -> Result<Vec<String>> {
    let write = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [word] if word == "--write" => true,
        words => bail!("unknown words {words:?}; there is only --write"),
    };
    let valgrind = Command::new("valgrind").arg("--version").output();
    ensure!(
        valgrind.is_ok_and(|output| output.status.success()),
        "valgrind is missing; install it, for example with `apt-get install valgrind`"
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/instructions.md");
    let recorded = if file.exists() { parse(&fs::read_to_string(&file)?)? } else { BTreeMap::new() };
    ensure!(write || !recorded.is_empty(), "{} has no rows; make it with `-- --write`", file.display());

    let workload = build_example("lane_workload")?;
    let listed = output(&mut Command::new(&workload))?;
    let mut rows = Vec::new();
    for part in listed.lines() {
        let counts = measure(&workload, part)?;
        println!("{part}: {}, recorded {:?}", show(counts), recorded.get(part).map(|counts| counts.own));
        rows.push((part.to_owned(), counts));
    }
    if write {
        fs::create_dir_all(file.parent().context("no folder")?)?;
        fs::write(&file, table(&rows, &recorded))?;
        println!("{} is written", file.display());
        return Ok(Vec::new());
    }
    let mut problems: Vec<String> = rows.iter().filter_map(|row| judge(row, &recorded)).collect();
    let gone = recorded.keys().filter(|part| !rows.iter().any(|(name, _)| name == *part));
    problems.extend(gone.map(|part| format!("{part}: is recorded, but no longer measured")));
    Ok(problems)
}

/// What is wrong with a row.
fn judge((part, now): &(String, Counts), recorded: &BTreeMap<String, Counts>) -> Option<String> {
    let Some(before) = recorded.get(part) else { return Some(format!("{part}: is not recorded")) };
    let most = before.own + (before.own / 20).max(STEP);
    (now.own > most).then(|| format!("{part}: {} instead of {}", now.own, before.own))
}

/// Instructions per packet.
fn measure(workload: &Path, part: &str) -> Result<Counts> {
    let folder = tempfile::tempdir()?;
    let [few, many] = BATCHES.map(|batches| count(workload, part, batches, folder.path().join("callgrind")));
    let (few, many, packets) = (few?, many?, (BATCHES[1] - BATCHES[0]) * BATCH);
    let each = |few: u64, many: u64| -> Result<u64> {
        let more = many.checked_sub(few).with_context(|| format!("{part}: more batches took less"))?;
        Ok((more + packets / 2) / packets)
    };
    let counts = Counts { own: each(few.own, many.own)?, aead: each(few.aead, many.aead)? };
    let sealed = !part.starts_with("split") && !part.starts_with("coalesce");
    ensure!((counts.aead > 0) == sealed, "{part}: {}, so {AEAD} is not what aws-lc calls them", show(counts));
    Ok(counts)
}

/// Instructions of one run.
fn count(workload: &Path, part: &str, batches: u64, profile: PathBuf) -> Result<Counts> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["-q", "--tool=callgrind"]).arg(format!("--callgrind-out-file={}", profile.display()));
    output(valgrind.arg(workload).args([part, &batches.to_string()]))?;
    let mut annotate = Command::new("callgrind_annotate");
    inclusive(&output(annotate.args(["--inclusive=yes", "--auto=no", "--threshold=100"]).arg(&profile))?)
}

/// What `command` prints.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{told}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads what `callgrind_annotate --inclusive=yes` prints.
fn inclusive(text: &str) -> Result<Counts> {
    let line = Regex::new(r"^ *([0-9,]+) *\([^)]*\) +(.*)$")?;
    let (is_aead, is_kernel) = (Regex::new(AEAD)?, Regex::new(KERNEL)?);
    let (mut total, mut aead, mut kernel) = (None, 0, 0);
    for found in text.lines().filter_map(|text| line.captures(text)) {
        let cost: u64 = found[1].replace(',', "").parse()?;
        match &found[2] {
            "PROGRAM TOTALS" => total = Some(cost),
            name if is_aead.is_match(name) => aead += cost,
            name if is_kernel.is_match(name) => kernel += cost,
            _ => {}
        }
    }
    let total: u64 = total.context("callgrind_annotate gave no total")?;
    let own = total.checked_sub(aead + kernel).context("the parts are more than the whole")?;
    Ok(Counts { own, aead })
}

/// The rows of a recorded table.
fn parse(text: &str) -> Result<BTreeMap<String, Counts>> {
    let row = Regex::new(r"(?m)^\| ([^|]+) \| ([0-9,]+) \| ([0-9,]+) \|$")?;
    let number = |text: &str| text.replace(',', "").parse::<u64>();
    row.captures_iter(text)
        .map(|found| Ok((found[1].to_owned(), Counts { own: number(&found[2])?, aead: number(&found[3])? })))
        .collect()
}

/// The table to record. A figure that has hardly changed stays.
fn table(rows: &[(String, Counts)], recorded: &BTreeMap<String, Counts>) -> String {
    let mut text = HEADER.to_owned();
    for (part, now) in rows {
        let before = recorded.get(part);
        let settle = |now: u64, before: Option<u64>| match before {
            Some(before) if now.abs_diff(before) <= STEP => before,
            _ => (now + STEP / 2) / STEP * STEP,
        };
        let counts = Counts {
            own: settle(now.own, before.map(|before| before.own)),
            aead: settle(now.aead, before.map(|before| before.aead)),
        };
        text += &format!("| {part} | {} | {} |\n", counts.own, counts.aead);
    }
    text
}

fn show(counts: Counts) -> String {
    format!("{} instructions per packet and {} in the AEAD", counts.own, counts.aead)
}

const HEADER: &str = "\
# Instructions per packet

Written by `cargo run --release -p oxivpn-tests --bin instructions -- --write`, compared by the same without `--write`:
more than 5 % (or 10 instructions) above a figure is a failure. Counted by callgrind on x86-64, profile release, rounded
to 10. A packet is 1,412 bytes where no other size is named, 45 make a batch, and a turn of the packet path takes one
batch; the cipher is AES-256-GCM.

The first figure leaves out the AEAD and what the kernel would do. The second, of the AEAD, is there for reference: aws-lc
picks its code by the features of the CPU, and valgrind has no AVX-512, so it is not what a new CPU runs. The C library
picks its `memcpy` in the same way, which is in the first figure: another CPU may give others.

| part | instructions | in the AEAD |
|---|---:|---:|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callgrind_prints_is_read() {
        let text = "\
1,000,000 (100.0%)  PROGRAM TOTALS
Ir                      file:function
900,000 (90.00%)  ???:lane_workload::main [/x/lane_workload]
600,000 (60.00%)  ???:aws_lc_0_1_EVP_AEAD_CTX_seal_scatter [/x/lane_workload]
500,000 (50.00%)  ???:aead_aes_gcm_seal_scatter [/x/lane_workload]
100,000 (10.00%)  ???:lane_workload::rig::kernel_copy [/x/lane_workload]
  5,000 ( 0.50%)  ???:<lane_workload::rig::Tap>::kernel_write [/x/lane_workload]
";
        assert_eq!(inclusive(text).unwrap(), Counts { own: 295_000, aead: 600_000 });
        assert!(inclusive("nothing").is_err());
    }

    #[test]
    fn a_table_is_read_as_it_was_written_and_small_changes_do_not_show() {
        let row = |own, aead| vec![("seal, P_DATA_V1".to_owned(), Counts { own, aead })];
        let text = table(&row(204, 5_005), &BTreeMap::new());
        let recorded = parse(&text).unwrap();
        assert_eq!(recorded, BTreeMap::from_iter(row(200, 5_010)));
        assert_eq!(table(&row(209, 5_000), &recorded), text);
        assert_ne!(table(&row(211, 5_000), &recorded), text);
    }

    #[test]
    fn more_than_five_percent_is_named() {
        let row = |own| ("split".to_owned(), Counts { own, aead: 0 });
        let recorded = BTreeMap::from_iter([row(1_000)]);
        assert_eq!(judge(&row(1_050), &recorded), None);
        assert_eq!(judge(&row(1_051), &recorded).unwrap(), "split: 1051 instead of 1000");
        assert_eq!(judge(&row(500), &recorded), None);
        assert!(judge(&row(1), &BTreeMap::new()).is_some());
    }
}
