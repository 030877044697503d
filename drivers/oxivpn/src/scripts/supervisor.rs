//! The thread that starts programs and waits for their ends.

use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender};

use oxivpn_proto::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::runner::{Finished, Job, JobId, RUNNING_MAX};
use crate::clock;

/// A job on its way to the thread.
#[derive(Debug)]
pub(super) struct Order {
    id: JobId,
    job: Job,
    deadline: Instant,
}

impl Order {
    pub(super) fn new(id: JobId, job: Job) -> Self {
        let deadline = clock::now() + job.limit;
        Self { id, job, deadline }
    }
}

/// A program at work.
struct Running {
    id: JobId,
    lane: Option<u64>,
    share: Option<Box<str>>,
    program: Program,
    deadline: Instant,
}

/// A child process and the descriptor that tells of its end.
struct Program {
    child: Child,
    pidfd: OwnedFd,
    overdue: bool,
}

impl Program {
    /// Starts the job's program. It gets the job's variables and nothing else, reads nothing, and writes where
    /// this process does.
    fn start(job: &Job) -> Result<Self, Finished> {
        let Some((path, first)) = job.command.split_first() else {
            return Err(Finished::NotStarted("the command is empty".into()));
        };
        let child = Command::new(path)
            .args(first)
            .args(&job.args)
            .env_clear()
            .envs(&job.env)
            .stdin(Stdio::null())
            // So that it can be ended with all that it started.
            .process_group(0)
            .spawn();
        let mut child = child.map_err(|error| Finished::NotStarted(format!("{path}: {error}")))?;
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { child, pidfd, overdue: false }),
            Err(error) => {
                // Can't be watched: out of descriptors, or a kernel before 5.3.
                let _ = child.kill();
                let _ = child.wait();
                Err(Finished::NotStarted(io::Error::from(error).to_string()))
            }
        }
    }

    /// Ends it and whatever of its process group is left.
    fn kill(&mut self) {
        self.overdue = true;
        // Fails if it has ended, which is as good.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }

    fn finished(&mut self) -> Option<Finished> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(if self.overdue { Finished::Overdue } else { finished(status) }),
            Err(error) => Some(Finished::NotStarted(error.to_string())),
        }
    }
}

fn finished(status: ExitStatus) -> Finished {
    match status.code() {
        Some(code) => Finished::Exited(code),
        None => Finished::Killed(status.signal().unwrap_or(0)),
    }
}

/// Runs one program and waits for its end or limit.
pub(super) fn run(job: Job) -> Finished {
    let deadline = clock::now() + job.limit;
    let mut program = match Program::start(&job) {
        Ok(program) => program,
        Err(finished) => return finished,
    };
    loop {
        if let Some(finished) = program.finished() {
            return finished;
        }
        let now = clock::now();
        if deadline <= now && !program.overdue {
            program.kill();
        }
        let timeout = (!program.overdue).then(|| deadline - now);
        wait(&mut [PollFd::new(&program.pidfd, PollFlags::IN)], timeout);
    }
}

/// What the thread owns.
pub(super) struct Supervisor {
    inbox: Receiver<Order>,
    bell: PipeReader,
    outbox: Sender<(JobId, Finished)>,
    wake: Box<dyn Fn() + Send + Sync>,
    waiting: VecDeque<Order>,
    running: Vec<Running>,
}

impl Supervisor {
    pub(super) fn new(
        inbox: Receiver<Order>,
        bell: PipeReader,
        outbox: Sender<(JobId, Finished)>,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self { inbox, bell, outbox, wake, waiting: VecDeque::new(), running: Vec::new() }
    }

    /// Works until the other side is gone and no program runs.
    pub(super) fn work(mut self) {
        let mut connected = true;
        while connected || !self.running.is_empty() {
            if self.sleep(connected) {
                connected = self.take_orders();
            }
            let now = clock::now();
            let mut news = self.reap(now);
            news |= self.expire(now);
            news |= self.fill();
            if news && connected {
                (self.wake)();
            }
        }
    }

    /// Waits for an order, an end or a limit; whether the bell rang.
    fn sleep(&self, connected: bool) -> bool {
        let now = clock::now();
        let due = self.running.iter().filter(|job| !job.program.overdue).map(|job| job.deadline);
        let due = due.chain(self.waiting.iter().map(|order| order.deadline)).min();
        let mut watched: Vec<PollFd<'_>> =
            self.running.iter().map(|job| PollFd::new(&job.program.pidfd, PollFlags::IN)).collect();
        if connected {
            watched.push(PollFd::new(&self.bell, PollFlags::IN));
        }
        wait(&mut watched, due.map(|due| due - now));
        connected && watched.last().is_some_and(|bell| !bell.revents().is_empty())
    }

    /// Takes new jobs over; `false` if there will be no more.
    fn take_orders(&mut self) -> bool {
        let connected = match self.bell.read(&mut [0; 4096]) {
            Ok(count) => count > 0,
            Err(error) => error.kind() == io::ErrorKind::Interrupted,
        };
        self.waiting.extend(self.inbox.try_iter());
        if !connected {
            self.waiting.clear();
        }
        connected
    }

    fn reap(&mut self, now: Instant) -> bool {
        let mut ended = Vec::new();
        for (index, job) in self.running.iter_mut().enumerate() {
            if job.deadline <= now && !job.program.overdue {
                job.program.kill();
            }
            if let Some(finished) = job.program.finished() {
                ended.push((index, finished));
            }
        }
        let news = !ended.is_empty();
        for (index, finished) in ended.into_iter().rev() {
            let job = self.running.swap_remove(index);
            // Nobody is left to be told when the other side is gone.
            let _ = self.outbox.send((job.id, finished));
        }
        news
    }

    /// Drops jobs that waited too long.
    fn expire(&mut self, now: Instant) -> bool {
        let before = self.waiting.len();
        let outbox = &self.outbox;
        self.waiting.retain(|order| {
            let late = order.deadline <= now;
            if late {
                let _ = outbox.send((order.id, Finished::Overdue));
            }
            !late
        });
        before != self.waiting.len()
    }

    /// Starts jobs that may run: there is a place, their share is not used up, and nothing else of their lane runs.
    fn fill(&mut self) -> bool {
        let mut news = false;
        let mut index = 0;
        while self.running.len() < RUNNING_MAX && index < self.waiting.len() {
            if !self.may_run(&self.waiting[index].job) {
                index += 1;
                continue;
            }
            let Some(Order { id, job, deadline }) = self.waiting.remove(index) else { break };
            let (lane, share) = (job.lane, job.share.clone());
            match Program::start(&job) {
                Ok(program) => self.running.push(Running { id, lane, share, program, deadline }),
                Err(finished) => {
                    let _ = self.outbox.send((id, finished));
                    news = true;
                }
            }
        }
        news
    }

    /// A share is a quarter of the places that are free, and two at least: so whoever comes next finds one, and a
    /// crowd behind one address does not wait while nobody else wants anything.
    fn may_run(&self, job: &Job) -> bool {
        let free = RUNNING_MAX - self.running.len();
        let mut of_share = self.running.iter().filter(|running| running.share == job.share);
        let used_up = job.share.is_some() && of_share.nth((free / 4).max(2) - 1).is_some();
        let in_line = job.lane.is_none() || self.running.iter().all(|running| running.lane != job.lane);
        in_line && !used_up
    }
}

/// Sleeps until one of `watched` is ready or `timeout` is over. Returns early at times.
fn wait(watched: &mut [PollFd<'_>], timeout: Option<Duration>) {
    // Rounded up, so that the time has come when it returns.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout + Duration::from_millis(1)).ok());
    // Interrupted by a signal: as good as ready, because the caller looks at everything.
    let _ = poll(watched, timeout.as_ref());
}
