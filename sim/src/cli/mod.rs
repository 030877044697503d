//! The command line: `storm`, `replay`, `night`, `report` and `table`.

use core::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use args::Command;

mod args;
mod clock;
mod crowd;
mod keep;
mod night;
mod replay;
mod report;
mod storm;

/// Why a command could not be carried out.
#[derive(Debug)]
pub(crate) enum Error {
    /// Wrong use.
    Usage(String),
    /// A file that can't be written.
    File(String, io::Error),
    /// The terminal or pipe that results go to.
    Output(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::File(name, error) => write!(f, "{name}: {error}"),
            Self::Output(error) => write!(f, "standard output: {error}"),
        }
    }
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Error {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let name = path.display().to_string();
        |error| Self::File(name, error)
    }
}

/// Whether an invariant broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Well,
    /// At least one is broken.
    Broken,
}

/// Does what the arguments say.
pub(crate) fn main(arguments: lexopt::Parser) -> ExitCode {
    match args::parse(arguments).and_then(run) {
        Ok(Verdict::Well) => ExitCode::SUCCESS,
        Ok(Verdict::Broken) => ExitCode::from(1),
        // Who stops reading knows what they wanted to know.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oxivpn-sim: {error}");
            if matches!(error, Error::Usage(_)) {
                eprintln!("Try --help.");
            }
            ExitCode::from(2)
        }
    }
}

fn table(pairs: u64, out: &mut impl io::Write) -> Result<Verdict, Error> {
    match oxivpn_sim::table::run(pairs) {
        Ok(table) => {
            write!(out, "{table}")?;
            Ok(if table.is_good() { Verdict::Well } else { Verdict::Broken })
        }
        Err(broken) => {
            writeln!(out, "{broken}")?;
            Ok(Verdict::Broken)
        }
    }
}

fn run(command: Command) -> Result<Verdict, Error> {
    let mut out = io::stdout();
    match command {
        Command::Say(text) => {
            io::Write::write_all(&mut out, text.as_bytes())?;
            Ok(Verdict::Well)
        }
        Command::Storm(options) => storm::run(&options, &mut out),
        Command::Replay(options) => replay::run(&options, &mut out),
        Command::Night(options) => night::run(&options, &mut out),
        Command::Report(options) => report::run(&options, &mut out),
        Command::Table(pairs) => table(pairs, &mut out),
    }
}
