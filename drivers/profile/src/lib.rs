//! OpenVPN profiles and command lines as typed options.
//!
//! [`parse_args`] reads a command line in OpenVPN's own grammar (`client.ovpn`,
//! `--config client.ovpn --verb 4`), [`Profile::from_text`] a profile that is already in memory. Both give
//! a [`Profile`]: every value checked, every file read, nothing left to interpret. What a profile says and
//! this program can't do is either an error that names file, line and cure, or a [`Warning`].
//!
//! ```no_run
//! use oxivpn_profile::{Command, Disk, parse_args};
//!
//! let args = ["client.ovpn".to_string()];
//! match parse_args(&args, &Disk).map_err(|error| error.to_string())? {
//!     Command::Run(profile) => {
//!         for remote in &profile.remotes {
//!             println!("{}:{}", remote.host, remote.port);
//!         }
//!     }
//!     _ => {}
//! }
//! # Ok::<(), String>(())
//! ```

#![forbid(unsafe_code)]

pub mod ccd;
mod command;
mod config;
mod draft;
pub mod error;
mod finish;
#[cfg(any(test, fuzzing, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod grammar;
mod keys;
pub mod load;
pub mod profile;
mod reader;
pub mod server;
mod table;
pub mod warn;

pub use command::{Genkey, KeyKind, Show};
pub use error::ProfileError;
pub use load::{Disk, Files};
pub use profile::Profile;
pub use warn::Warning;

use draft::Draft;
use reader::{Flow, Reader};

/// What a command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Connect, or wait for those who do.
    Run(Box<Profile>),
    /// `--genkey`: make a key.
    Genkey(Genkey),
    /// `--show-ciphers` and the like, in order.
    Show(Vec<Show>),
    /// `--help`, or no argument at all.
    Help,
    /// `--version`.
    Version,
}

/// Reads a command line without the program's name. A single argument without `--` is a profile to read;
/// otherwise each `--option` is followed by its parameters. Options count in the order they come, those in
/// a `config` file where the `config` stands.
pub fn parse_args(args: &[String], files: &dyn Files) -> Result<Command, ProfileError> {
    if args.is_empty() {
        return Ok(Command::Help);
    }
    let mut reader = Reader::new(files);
    match read_args(args, &mut reader) {
        Ok(Flow::Help) => Ok(Command::Help),
        Ok(Flow::Version) => Ok(Command::Version),
        Ok(Flow::Next) => finish_command(reader.draft, files),
        Err(error) => Err(ProfileError { warnings: reader.draft.warnings, ..error }),
    }
}

/// Lists come before keys, and both before a tunnel, as in OpenVPN (`openvpn: openvpn.c`, `openvpn_main`).
fn finish_command(mut draft: Draft, files: &dyn Files) -> Result<Command, ProfileError> {
    if !draft.show.is_empty() {
        return Ok(Command::Show(std::mem::take(&mut draft.show)));
    }
    match draft.genkey.clone() {
        None => finish::finish(draft, files).map(|profile| Command::Run(Box::new(profile))),
        Some(line) => match command::resolve(&mut draft, &line, files) {
            Ok(genkey) => Ok(Command::Genkey(genkey)),
            Err(error) => Err(ProfileError { warnings: draft.warnings, ..error }),
        },
    }
}

fn read_args(args: &[String], reader: &mut Reader<'_>) -> Result<Flow, ProfileError> {
    for line in grammar::command_line(args)? {
        let flow = reader.line(line, 0)?;
        if flow != Flow::Next {
            return Ok(flow);
        }
    }
    Ok(Flow::Next)
}
