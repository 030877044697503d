//! The program's own loop, on `mio`.

use core::time::Duration;
use std::io;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use oxivpn_profile::Profile;
use oxivpn_profile::server::Role;
use oxivpn_proto::Instant;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_mio::v1_0::Signals;

use crate::client::{Client, Descriptors, Next, Outcome, Signal};
use crate::clock;
use crate::log::Log;
use crate::server::Server;
use crate::turn::Ready;

const SIGNALS: Token = Token(0);
const WAKER: Token = Token(1);
const LINK: Token = Token(2);
const DEVICE: Token = Token(3);

/// The loop, which outlives a client or server: after SIGHUP the next one runs in it.
pub struct Loop {
    poll: Poll,
    signals: Option<Signals>,
    waker: Arc<Waker>,
}

impl Loop {
    /// A loop without a client.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self { poll, signals: None, waker })
    }

    /// Takes the process's signals over, once.
    fn watch_signals(&mut self) -> io::Result<()> {
        if self.signals.is_none() {
            let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
            self.poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
            self.signals = Some(signals);
        }
        Ok(())
    }

    /// Runs what the profile describes to its end.
    pub fn run(&mut self, profile: Profile, log: Arc<Log>) -> Result<Outcome> {
        match profile.role {
            Role::Server(_) => self.run_server(profile, log),
            Role::Client | Role::Peer(_) => self.run_client(profile, log),
        }
    }

    fn run_server(&mut self, profile: Profile, log: Arc<Log>) -> Result<Outcome> {
        let waker = self.waker.clone();
        let mut server = Server::new(profile, log, Arc::new(move || drop(waker.wake())))?;
        // Ctrl-C at a prompt ends the program at once, so signals are taken over only after it.
        self.watch_signals().context("cannot take over signals")?;
        let mut events = Events::with_capacity(16);
        loop {
            let timeout = match server.work(clock::now())? {
                Next::Over(outcome) => return Ok(outcome),
                Next::Again => Some(Duration::ZERO),
                Next::Wait(until) => until.map(wait),
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result.context("cannot wait for events")?,
            }
            for signal in self.signals() {
                server.signal(clock::now(), signal);
            }
        }
    }

    fn run_client(&mut self, profile: Profile, log: Arc<Log>) -> Result<Outcome> {
        let waker = self.waker.clone();
        let mut client = Client::new(profile, log, move || drop(waker.wake()))?;
        // Ctrl-C at a prompt ends the program at once, so signals are taken over only after it.
        client.ask()?;
        client.begin()?;
        self.watch_signals().context("cannot take over signals")?;
        let mut watched = Watched::default();
        let mut events = Events::with_capacity(16);
        let mut ready = Ready::default();
        loop {
            let next = client.work(clock::now(), core::mem::take(&mut ready))?;
            let timeout = match next {
                Next::Over(outcome) => return Ok(outcome),
                Next::Again => Some(Duration::ZERO),
                Next::Wait(None) => None,
                Next::Wait(Some(at)) => Some(wait(at)),
            };
            watched.follow(&self.poll, client.descriptors())?;
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result.context("cannot wait for events")?,
            }
            for event in &events {
                match event.token() {
                    LINK => {
                        ready.link_read |= event.is_readable() || event.is_read_closed() || event.is_error();
                        ready.link_write |= event.is_writable() || event.is_write_closed();
                    }
                    DEVICE => ready.device_read = true,
                    _ => {}
                }
            }
            for signal in self.signals() {
                client.signal(clock::now(), signal);
            }
        }
    }

    /// Signals that came since the last call.
    fn signals(&mut self) -> Vec<Signal> {
        let pending = self.signals.iter_mut().flat_map(Signals::pending);
        let named = |number| match number {
            SIGINT => Signal::Int,
            SIGTERM => Signal::Term,
            SIGHUP => Signal::Hup,
            SIGUSR1 => Signal::Usr1,
            _ => Signal::Usr2,
        };
        pending.map(named).collect()
    }
}

/// How long to wait for a deadline: rounded up, so that it has passed when the poll returns.
fn wait(until: Instant) -> Duration {
    (until - clock::now()) + Duration::from_millis(1)
}

/// What the poll watches at the moment.
#[derive(Default)]
struct Watched {
    now: Descriptors,
}

impl Watched {
    /// Follows the client. Descriptors are told apart by the serial number, because a closed one's number is
    /// given out again.
    fn follow(&mut self, poll: &Poll, wanted: Descriptors) -> Result<()> {
        if self.now == wanted {
            return Ok(());
        }
        for old in [self.now.link, self.now.device].into_iter().flatten() {
            // Fails if it is closed already, which is as good.
            let _ = poll.registry().deregister(&mut SourceFd(&old));
        }
        self.now = wanted;
        let both = Interest::READABLE | Interest::WRITABLE;
        for (fd, token, interest) in [(wanted.link, LINK, both), (wanted.device, DEVICE, Interest::READABLE)]
        {
            if let Some(fd) = fd {
                poll.registry()
                    .register(&mut SourceFd(&fd), token, interest)
                    .context("cannot watch a descriptor")?;
            }
        }
        Ok(())
    }
}
