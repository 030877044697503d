//! The scripts around the device: `up`, `down`, `route-up`, `route-pre-down`, `ipchange`.

use core::time::Duration;
use std::sync::Arc;

use anyhow::{Result, bail};
use oxivpn_host::plan::{Surroundings, VpnOptions};
use oxivpn_profile::Profile;
use oxivpn_profile::server::ScriptOptions;
use oxivpn_proto::options::pushed::Pushed;

use super::environment::Environment;
use super::kinds::{self, Hook};
use super::runner::{Finished, JobId, Refusal, Scripts};
use super::variables::{self, Occasion};
use crate::log::Log;
use crate::{clock, process, say};

/// How long each may take. OpenVPN waits for ever, and stands still as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// All of them run one after the other.
const LANE: Option<u64> = Some(0);

/// The scripts that a profile names, with the variables that are known so far.
#[derive(Debug)]
pub struct Around {
    options: ScriptOptions,
    scripts: Scripts,
    env: Environment,
    running: Vec<(JobId, Hook)>,
    log: Arc<Log>,
}

impl Around {
    /// `wake` is called from another thread when [`poll`](Self::poll) has something.
    pub fn new(profile: &Profile, log: Arc<Log>, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let config = process::config_name(std::env::args().skip(1));
        let base = variables::program(profile, config.as_deref(), std::process::id(), clock::unix());
        let scripts = Scripts::new(&profile.scripts, base, wake);
        Self { options: profile.scripts.clone(), scripts, env: Environment::new(), running: Vec::new(), log }
    }

    /// Variables on top of the program's, to be changed as things become known.
    pub const fn env(&mut self) -> &mut Environment {
        &mut self.env
    }

    /// All variables, those of all scripts last.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().chain(self.scripts.base().iter())
    }

    /// The variables that all scripts get.
    pub const fn base(&self) -> &Environment {
        self.scripts.base()
    }

    /// Tells of a device and what is to be set on it.
    pub fn tunnel(
        &mut self,
        device: &str,
        mtu: u16,
        occasion: Occasion,
        (options, around): (&VpnOptions, &Surroundings),
        pushed: &[Pushed],
    ) {
        // A daemon has another number than the process that read the profile.
        self.scripts.base_mut().set("daemon_pid", std::process::id());
        variables::device(&mut self.env, device, mtu, occasion);
        variables::tunnel(&mut self.env, options, around);
        variables::foreign(&mut self.env, pushed);
    }

    fn command(&self, hook: Hook) -> Option<&[String]> {
        let command = match hook {
            Hook::Up => &self.options.up,
            Hook::Down => &self.options.down,
            Hook::RouteUp => &self.options.route_up,
            Hook::RoutePreDown => &self.options.route_pre_down,
            Hook::IpChange => &self.options.ipchange,
        };
        command.as_deref()
    }

    /// Whether the profile names such a script.
    pub fn has(&self, hook: Hook) -> bool {
        self.command(hook).is_some()
    }

    /// `down-pre`.
    pub const fn down_first(&self) -> bool {
        self.options.down_pre
    }

    /// `up-restart`.
    pub const fn on_restarts(&self) -> bool {
        self.options.up_restart
    }

    fn job(&self, hook: Hook) -> Option<super::Job> {
        let job = kinds::hook(hook, self.command(hook)?, &self.env, PATIENCE);
        if hook.is_fatal() {
            let words: Vec<&str> = job.command.iter().chain(&job.args).map(String::as_str).collect();
            say!(self.log, Info, "{}", words.join(" "));
        }
        Some(super::Job { lane: LANE, ..job })
    }

    /// Starts a script, if there is one; `None` if there is nothing to wait for. The error, of `up` and `down` only,
    /// ends the program.
    pub fn start(&mut self, hook: Hook) -> Result<Option<JobId>> {
        let Some(job) = self.job(hook) else { return Ok(None) };
        match self.scripts.start(job) {
            Ok(id) => {
                self.running.push((id, hook));
                Ok(Some(id))
            }
            Err(refusal) => self.refused(hook, refusal).map(|()| None),
        }
    }

    /// The next script that ended.
    pub fn poll(&mut self) -> Option<(JobId, Result<()>)> {
        loop {
            let (id, finished) = self.scripts.poll()?;
            if let Some(index) = self.running.iter().position(|(running, _)| *running == id) {
                let (_, hook) = self.running.swap_remove(index);
                return Some((id, self.judge(hook, &finished)));
            }
        }
    }

    /// Runs a script, if there is one, and waits for its end: where nothing else is to be done meanwhile.
    pub fn run(&mut self, hook: Hook) -> Result<()> {
        let Some(job) = self.job(hook) else { return Ok(()) };
        match self.scripts.run(job) {
            Ok(finished) => self.judge(hook, &finished),
            Err(refusal) => self.refused(hook, refusal),
        }
    }

    fn judge(&self, hook: Hook, finished: &Finished) -> Result<()> {
        match finished.is_success() {
            true => Ok(()),
            false => self.complain(hook, kinds::failed(hook.hook(), finished)),
        }
    }

    fn refused(&self, hook: Hook, refusal: Refusal) -> Result<()> {
        if refusal == Refusal::Security {
            say!(self.log, Warn, "{}", super::runner::SECURITY_WARNING);
        }
        self.complain(hook, kinds::failed(hook.hook(), &refusal))
    }

    fn complain(&self, hook: Hook, text: String) -> Result<()> {
        if hook.is_fatal() {
            bail!("{text}");
        }
        say!(self.log, Warn, "{text}");
        Ok(())
    }
}
