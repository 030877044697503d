//! Cells, that is named tests made by loops, and the program which runs them.
//!
//! Every cell is a test of its own for `cargo test`: it has a name to filter by, is counted, and runs beside others.

use std::{env, path::Path, process::ExitCode, thread};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{
    client,
    netns::Lab,
    openvpn::{self, Release},
};

/// A reason why one cell has nothing to test here; returned as error from the cell.
#[derive(Debug, Clone)]
pub struct Skip(pub String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skip {}

/// One named test.
pub struct Cell {
    name: String,
    test: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cell").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cell {
    /// A test with its name, by custom `group::variant::variant`.
    pub fn new(name: impl Into<String>, test: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        Self { name: name.into(), test: Box::new(test) }
    }

    /// The same test against each server; `release` is the last part of its name.
    pub fn for_each_release(
        name: &str,
        test: impl Fn(Release) -> Result<()> + Clone + Send + 'static,
    ) -> impl Iterator<Item = Self> {
        Release::ALL.into_iter().map(move |release| {
            let test = test.clone();
            Self::new(format!("{name}::{}", release.name()), move || test(release))
        })
    }
}

/// Runs all cells as `cargo test` expects it of a test program.
pub fn main(cells: Vec<Cell>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(cells, None)).exit_code();
    }
    let required = env::var_os("OXIVPN_REQUIRE_INTEROP").is_some_and(|v| v == "1");
    let mut obstacle = available().err().map(|e| format!("{e:#}"));
    if let Some(reason) = &obstacle {
        eprintln!("\n*** INTEROP TESTS DO NOT RUN: {reason}\n");
        if required {
            eprintln!("OXIVPN_REQUIRE_INTEROP=1 makes this a failure.");
            return ExitCode::FAILURE;
        }
    } else {
        obstacle = client::program().err().map(|e| format!("{e:#}"));
        if let Some(reason) = &obstacle {
            eprintln!("\n*** NO CLIENT TO TEST: {reason}\n");
            return ExitCode::FAILURE;
        }
        announce();
    }
    // Cells wait for timers most of their time, so that many of them share a core.
    if arguments.test_threads.is_none() {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        let wanted = env::var("OXIVPN_TEST_JOBS").ok().and_then(|v| v.parse().ok());
        arguments.test_threads = Some(wanted.unwrap_or(8 * cores));
    }
    libtest_mimic::run(&arguments, trials(cells, obstacle)).exit_code()
}

fn announce() {
    if let Ok(program) = client::program() {
        println!("client: {} ({:?})", program.path.display(), program.kind);
    }
    for release in Release::ALL {
        if let Ok(path) = release.program() {
            let version = openvpn::version(path).unwrap_or_default();
            println!("server {}: {} ({version})", release.name(), path.display());
        }
    }
}

fn trials(cells: Vec<Cell>, obstacle: Option<String>) -> Vec<Trial> {
    let trial = |cell: Cell| {
        let Cell { name, test } = cell;
        let ignored = obstacle.is_some();
        Trial::ignorable_test(name, move || match test() {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(skip) => Ok(Completion::ignored_with(&skip.0)),
                None => Err(Failed::from(format!("{error:#}"))),
            },
        })
        .with_ignored_flag(ignored)
    };
    cells.into_iter().map(trial).collect()
}

/// Whether this host can run the tests at all.
pub fn available() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "they need root (network namespaces and tun devices)");
    ensure!(Path::new("/dev/net/tun").exists(), "there is no /dev/net/tun; try: modprobe tun");
    for (tool, package) in [("ip", "iproute2"), ("ping", "iputils-ping"), ("setpriv", "util-linux")] {
        let found = env::var_os("PATH")
            .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(tool).is_file()));
        ensure!(found, "there is no `{tool}`; install the package {package}");
    }
    Lab::new().map(drop)?;
    for release in Release::ALL {
        release.program().with_context(|| format!("server `{}`", release.name()))?;
    }
    Ok(())
}
