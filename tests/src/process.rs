//! Child processes with a log, a deadline on every wait and an end that is tied to ours.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{sys::signal::Signal, unistd::Pid};
use regex::Regex;

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);

/// Calls `probe` until it answers, `within` at most. `Ok(None)` means that the time is over.
pub fn poll<T>(within: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = probe()? {
            return Ok(Some(found));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Runs a program to its end and returns its standard output; a failure carries its standard error.
pub fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let shown = || args.iter().map(|a| a.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
    ensure!(
        output.status.success(),
        "{program} {}: {}: {}",
        shown(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command inside the network namespace `ns` that the kernel kills when the thread which started it ends.
///
/// Both helpers replace themselves by the next program, so that the child's id is that of `program`.
pub fn command_in(ns: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "ip", "netns", "exec", ns]).arg(program);
    command
}

/// Runs a program in a namespace to its end, whatever its exit code.
pub fn output_in(ns: &str, argv: &[&str]) -> Result<Output> {
    let (program, args) = argv.split_first().context("empty command")?;
    command_in(ns, program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {} in {ns}", argv.join(" ")))
}

/// Runs a program in a namespace, which must succeed; returns its standard output.
pub fn run_in(ns: &str, argv: &[&str]) -> Result<String> {
    let output = output_in(ns, argv)?;
    ensure!(
        output.status.success(),
        "in {ns}: {}: {}: {}",
        argv.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A long-running program whose output goes to a file; killed on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with standard output and standard error appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), status: None })
    }

    /// All that the program has printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that `pattern` matches and returns it. Fails at once if the program ends without it.
    pub fn wait_for(&mut self, pattern: &str, within: Duration) -> Result<String> {
        Ok(self.wait_for_count(pattern, 1, within)?.remove(0))
    }

    /// Waits until at least `count` lines match `pattern` and returns all that do.
    pub fn wait_for_count(&mut self, pattern: &str, count: usize, within: Duration) -> Result<Vec<String>> {
        let regex = Regex::new(pattern)?;
        let begun = Instant::now();
        let found = poll(within, || {
            // The end is looked at before the log: what is printed last still counts.
            let ended = self.try_status()?;
            let lines = matching(&self.log(), &regex);
            if lines.len() >= count {
                return Ok(Some(lines));
            }
            if let Some(status) = ended {
                bail!(
                    "{} ended ({status}) with {} of {count} lines like /{pattern}/",
                    self.name,
                    lines.len()
                );
            }
            Ok(None)
        })?;
        found.with_context(|| {
            let seen = matching(&self.log(), &regex).len();
            format!(
                "{}: {seen} of {count} lines like /{pattern}/ within {:.1} s",
                self.name,
                begun.elapsed().as_secs_f32()
            )
        })
    }

    /// Lines printed so far that match `pattern`.
    pub fn lines(&self, pattern: &str) -> Result<Vec<String>> {
        Ok(matching(&self.log(), &Regex::new(pattern)?))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        nix::sys::signal::kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Waits for the end.
    pub fn wait_exit(&mut self, within: Duration) -> Result<ExitStatus> {
        poll(within, || self.try_status())?
            .with_context(|| format!("{} still runs after {:.1} s", self.name, within.as_secs_f32()))
    }

    /// Exit status if the program has ended.
    pub fn try_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS")?;
        Ok(kib * 1024)
    }

    /// CPU time used so far, user and system, all threads.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is the name in parentheses, which may itself contain blanks and parentheses.
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("odd stat line")?.1.split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().map(|&i| fields[i].parse::<u64>().unwrap_or(0)).sum();
        // USER_HZ is 100 on every Linux architecture that Rust supports.
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn matching(log: &str, regex: &Regex) -> Vec<String> {
    log.lines().filter(|line| regex.is_match(line)).map(str::to_owned).collect()
}
