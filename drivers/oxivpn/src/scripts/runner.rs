//! Runs programs without waiting for them.

use core::fmt;
use core::time::Duration;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{PipeWriter, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::Context as _;
use oxivpn_profile::server::ScriptOptions;

use super::environment::{Environment, is_secret};
use super::supervisor::{Order, Supervisor};

/// Programs at work at once. Each is a process, and clients of a server can have one started each.
pub const RUNNING_MAX: usize = 64;

/// Programs that wait for one of those places; as many as clients come within `hand-window` at a rate that
/// 64 places can serve if each takes a tenth of a second.
pub const WAITING_MAX: usize = 4096;

/// Programs of one share that run or wait.
pub const SHARE_MAX: usize = 512;

/// What OpenVPN writes, once, when a script is not allowed (`openvpn: common.h`).
pub const SECURITY_WARNING: &str = "WARNING: External program may not be called unless '--script-security 2' or \
                                    higher is enabled. See --help text or man page for detailed info.";

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Which option asks for it, for the log: `--client-connect`.
    pub hook: &'static str,
    /// The option's words: the program with its path, and its first arguments.
    pub command: Vec<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Variables on top of those that all scripts get.
    pub env: Environment,
    /// How long it may take from now on, waiting for its place included. Then it is killed with its process group.
    pub limit: Duration,
    /// Jobs with the same number run one after the other, in order.
    pub lane: Option<u64>,
    /// Who causes it, if that may be a stranger: nobody gets all places.
    pub share: Option<Box<str>>,
}

/// Names one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(super) u64);

/// How a program ended. The text is OpenVPN's (`openvpn: run_command.c`, `system_error_message`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It could not be started, and why: no such file, not executable.
    NotStarted(String),
    /// It took longer than its limit and was killed.
    Overdue,
}

impl Finished {
    /// Exit status 0.
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(0) => f.write_str("external program exited normally"),
            // What a shell says about a program that it can't find.
            Self::Exited(127) => f.write_str("could not execute external program"),
            Self::Exited(status) => write!(f, "external program exited with error status: {status}"),
            Self::Killed(signal) => write!(f, "external program did not exit normally (signal {signal})"),
            Self::NotStarted(why) => write!(f, "could not execute external program ({why})"),
            Self::Overdue => {
                f.write_str("external program did not exit normally (it took too long and was killed)")
            }
        }
    }
}

/// Why a program is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `script-security` is below 2.
    Security,
    /// Too many wait already.
    Busy,
    /// Too many of this share.
    Share,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Security => f.write_str("disallowed by script-security setting"),
            Self::Busy => write!(f, "external program fork failed ({WAITING_MAX} programs wait already)"),
            Self::Share => {
                write!(
                    f,
                    "external program fork failed ({SHARE_MAX} programs of the same client wait already)"
                )
            }
        }
    }
}

/// Runs programs in a thread of its own, which starts with the first one. When dropped, programs that wait are
/// forgotten and running ones go on to their end or limit.
#[derive(Debug)]
pub struct Scripts {
    security: u8,
    base: Environment,
    link: Link,
    open: usize,
    /// Of each share, and whose each job is.
    shares: HashMap<Box<str>, usize>,
    share_of: HashMap<JobId, Box<str>>,
    next: u64,
}

/// To the thread.
enum Link {
    /// Not started; what it will call.
    Idle(Option<Wake>),
    Running {
        orders: Sender<Order>,
        bell: PipeWriter,
        results: Receiver<(JobId, Finished)>,
    },
}

type Wake = Box<dyn Fn() + Send + Sync>;

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle(_) => "Idle",
            Self::Running { .. } => "Running",
        })
    }
}

impl Scripts {
    /// A runner. All scripts get the variables of `base`. `wake` is called from another thread when
    /// [`poll`](Self::poll) has something.
    pub fn new(options: &ScriptOptions, base: Environment, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let link = Link::Idle(Some(Box::new(wake)));
        let (shares, share_of) = Default::default();
        Self { security: options.security, base, link, open: 0, shares, share_of, next: 0 }
    }

    /// The variables that all scripts get.
    pub const fn base(&self) -> &Environment {
        &self.base
    }

    /// As [`base`](Self::base), to be changed: jobs that are started from now on get the change.
    pub const fn base_mut(&mut self) -> &mut Environment {
        &mut self.base
    }

    /// Whether scripts may be run at all.
    pub const fn allowed(&self) -> Result<(), Refusal> {
        if self.security >= 2 { Ok(()) } else { Err(Refusal::Security) }
    }

    /// Starts a program, or lets it wait for a place. [`poll`](Self::poll) tells of its end.
    pub fn start(&mut self, job: Job) -> Result<JobId, Refusal> {
        self.allowed()?;
        if self.open >= RUNNING_MAX + WAITING_MAX {
            return Err(Refusal::Busy);
        }
        let share = job.share.clone();
        if share.as_ref().and_then(|share| self.shares.get(share)).is_some_and(|&open| open >= SHARE_MAX) {
            return Err(Refusal::Share);
        }
        let env = self.full(&job.env);
        let id = JobId(self.next);
        let (orders, bell) = self.connect().map_err(|_| Refusal::Busy)?;
        if orders.send(Order::new(id, Job { env, ..job })).is_err() || bell.write_all(&[0]).is_err() {
            return Err(Refusal::Busy);
        }
        self.next += 1;
        self.open += 1;
        if let Some(share) = share {
            *self.shares.entry(share.clone()).or_default() += 1;
            self.share_of.insert(id, share);
        }
        Ok(id)
    }

    /// The next program that ended.
    pub fn poll(&mut self) -> Option<(JobId, Finished)> {
        let Link::Running { results, .. } = &self.link else { return None };
        let result = results.try_recv().ok()?;
        self.open -= 1;
        if let Some(share) = self.share_of.remove(&result.0)
            && let Entry::Occupied(mut open) = self.shares.entry(share)
        {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
        Some(result)
    }

    /// How many programs run or wait, or ended without having been polled.
    pub const fn open(&self) -> usize {
        self.open
    }

    /// Runs a program and waits for it. Only where nothing else is to be done meanwhile.
    pub fn run(&mut self, job: Job) -> Result<Finished, Refusal> {
        self.allowed()?;
        let env = self.full(&job.env);
        Ok(super::supervisor::run(Job { env, ..job }))
    }

    /// All variables of one job. Passwords only with `script-security 3`.
    fn full(&self, own: &Environment) -> Environment {
        let mut env = self.base.clone();
        env.extend(own);
        if self.security < 3 {
            let secret: Vec<String> =
                env.iter().map(|(name, _)| name.to_owned()).filter(|name| is_secret(name)).collect();
            for name in secret {
                env.remove(&name);
            }
        }
        env
    }

    fn connect(&mut self) -> anyhow::Result<(&Sender<Order>, &mut PipeWriter)> {
        if let Link::Idle(wake) = &mut self.link {
            let (reader, bell) = std::io::pipe().context("no pipe")?;
            let (orders, inbox) = channel();
            let (outbox, results) = channel();
            let wake = wake.take().unwrap_or_else(|| Box::new(|| {}));
            let supervisor = Supervisor::new(inbox, reader, outbox, wake);
            thread::Builder::new()
                .name("scripts".into())
                .spawn(move || supervisor.work())
                .context("no thread")?;
            self.link = Link::Running { orders, bell, results };
        }
        match &mut self.link {
            Link::Running { orders, bell, .. } => Ok((orders, bell)),
            Link::Idle(_) => anyhow::bail!("not started"),
        }
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
