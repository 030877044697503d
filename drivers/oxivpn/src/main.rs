//! `oxivpn`: clients, servers and point-to-point tunnels with the profiles and command lines of OpenVPN.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use oxivpn::adapt::mio::Loop;
use oxivpn::client::{self, Outcome};
use oxivpn::log::Log;
use oxivpn::{demo, genkey, load, process, say, setup, show};
use oxivpn_profile::{Command, Disk, Genkey, Profile, parse_args};

const USAGE: &str = "\
Clients, servers and point-to-point tunnels of OpenVPN.

  oxivpn client.ovpn, oxivpn server.conf   use this profile
  oxivpn --config client.ovpn --verb 4     OpenVPN's own command line, any option
  oxivpn demo                              show a tunnel without any set-up
  oxivpn load client.ovpn --clients 1000   see how a server bears many clients
  oxivpn setup DIR --host NAME             make keys and profiles of a new server and its clients
  oxivpn add-client|revoke|list-clients    its clients; `oxivpn setup --help` tells more
  oxivpn --version, oxivpn --help

Common options, on the command line (with --) or in the profile (without):
  --remote HOST [PORT] [udp|tcp]           the server; may be repeated
  --auth-user-pass [FILE]                  log in with user name and password
  --verb N                                 log 0 (errors) to 11 (everything), 3 is usual
  --log FILE, --log-append FILE            log into a file
  --connect-retry-max N                    give up after N rounds of all servers
  --dev NAME|null                          name of the tunnel device, or none
  --workers N|auto                         most threads for packets, 1 unless told; a client has 2 at most, and
                                           1 on TCP; auto: one per processor, at a client
                                           one less

Signals: TERM and INT leave, USR1 connects anew, HUP reads the profile again, USR2 logs statistics.
";

fn main() -> ExitCode {
    let args: Vec<String> = match std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect() {
        Ok(args) => args,
        Err(arg) => return fail(&format!("Options error: the argument {arg:?} is not UTF-8")),
    };
    match args.first().map(String::as_str) {
        Some("demo") => match demo::run(&args[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("demo: {error:#}")),
        },
        Some("load") => match load::run(&args[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("load: {error:#}")),
        },
        Some(verb) if setup::VERBS.contains(&verb) => match setup::run(verb, &args[1..]) {
            Ok(text) => {
                print(&text);
                ExitCode::SUCCESS
            }
            Err(error) => fail(&format!("{verb}: {error:#}")),
        },
        None => {
            print(USAGE);
            ExitCode::FAILURE
        }
        Some(_) => {
            let code = run(&args);
            process::end();
            code
        }
    }
}

/// Runs clients until one ends other than by SIGHUP.
fn run(args: &[String]) -> ExitCode {
    let mut events: Option<Loop> = None;
    let start = std::env::current_dir();
    let mut logging_to: Option<PathBuf> = None;
    loop {
        // After SIGHUP, relative names begin where they began the first time.
        if let (Some(_), Ok(start)) = (&events, &start)
            && let Err(error) = std::env::set_current_dir(start)
        {
            return fail(&format!("Options error: cannot go back to {}: {error}", start.display()));
        }
        let profile = match parse_args(args, &Disk) {
            Ok(Command::Run(mut profile)) => {
                if let Some(file) = &mut profile.log.file {
                    // What this run has written stays.
                    file.append |= logging_to.as_ref() == Some(&file.path);
                    logging_to = Some(file.path.clone());
                }
                profile
            }
            Ok(Command::Help) => {
                print(USAGE);
                return ExitCode::SUCCESS;
            }
            Ok(Command::Genkey(wanted)) => return make_key(&wanted),
            Ok(Command::Show(lists)) => {
                lists.into_iter().for_each(|list| print(&show::text(list)));
                return ExitCode::SUCCESS;
            }
            Ok(Command::Version) => {
                print(&format!("{}\n", process::version_line()));
                return ExitCode::SUCCESS;
            }
            Err(error) => {
                let log = Log::standard();
                for warning in &error.warnings {
                    say!(log, Warn, "{warning}");
                }
                return fail(&format!("{error}\nUse --help for more information."));
            }
        };
        let log = match Log::of_process(&profile) {
            Ok(log) => Arc::new(log),
            Err(error) => return fail(&format!("Options error: {error}")),
        };
        match run_once(*profile, &log, &mut events) {
            Ok(Outcome::Left) => return ExitCode::SUCCESS,
            Ok(Outcome::Reload) => {}
            Err(error) => {
                for line in format!("{error:#}").lines() {
                    say!(log, Fatal, "{line}");
                }
                say!(log, Fatal, "Exiting due to fatal error");
                return ExitCode::FAILURE;
            }
        }
    }
}

fn make_key(wanted: &Genkey) -> ExitCode {
    let log = Log::standard();
    for warning in &wanted.warnings {
        say!(log, Warn, "{warning}");
    }
    match genkey::run(wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn run_once(profile: Profile, log: &Arc<Log>, events: &mut Option<Loop>) -> Result<Outcome> {
    for warning in &profile.warnings {
        say!(log, Warn, "{warning}");
    }
    say!(log, Info, "{}", process::version_line());
    // The profile's names lead to their files from here, `cd` included.
    process::check(&profile.process)?;
    process::warn(&profile, log);
    process::prepare(&profile.process)?;
    client::recover(log);
    let events = match events {
        Some(events) => events,
        none => none.insert(Loop::new().context("cannot make an event loop")?),
    };
    events.run(profile, log.clone())
}

#[expect(clippy::print_stdout, reason = "what the user asked to see")]
fn print(text: &str) {
    print!("{text}");
}

/// Errors before there is a log go where OpenVPN sends them: to the standard output, with a status of 1.
fn fail(text: &str) -> ExitCode {
    print(&format!("{text}\n"));
    ExitCode::FAILURE
}
