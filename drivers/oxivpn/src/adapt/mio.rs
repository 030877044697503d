//! The program's own loop, on `mio`.

use core::time::Duration;
use std::io;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use oxivpn_profile::Profile;
use oxivpn_profile::profile::AuthRetry;
use oxivpn_profile::server::Role;
use oxivpn_proto::Instant;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_mio::v1_0::Signals;

use zeroize::Zeroizing;

use crate::client::credentials::{Given, Prompt, Terminal};
use crate::client::{Client, Descriptors, Next, Outcome, Signal};
use crate::log::Log;
use crate::manage::{Answer, Manage, Moment, Notice, Question, Request, Settings, State, StateDetails};
use crate::server::Server;
use crate::turn::Ready;
use crate::{clock, process};

const SIGNALS: Token = Token(0);
const WAKER: Token = Token(1);
const LINK: Token = Token(2);
const DEVICE: Token = Token(3);
const MANAGE: Token = Token(4);

/// The kind of the question for a passphrase.
const PRIVATE_KEY: &str = "Private Key";

/// The loop, which outlives a client or server: after SIGHUP the next one runs in it.
pub struct Loop {
    poll: Poll,
    signals: Option<Signals>,
    waker: Arc<Waker>,
    /// The management interface, while nobody has it.
    manage: Option<Manage>,
}

/// What came of waiting for the management interface.
enum Waited {
    Passphrase(Zeroizing<String>),
    Released,
    Over(Outcome),
}

impl Loop {
    /// A loop without a client.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self { poll, signals: None, waker, manage: None })
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
        let mut manage = self.open_manage(&profile, &log)?;
        let result = match profile.role {
            Role::Server(_) => self.run_server(profile, log, &mut manage),
            Role::Client | Role::Peer(_) => self.run_client(profile, log, &mut manage),
        };
        // It outlives them: for the next one after SIGHUP, or to tell why there is none.
        self.manage = manage;
        result
    }

    fn run_server(
        &mut self,
        profile: Profile,
        log: Arc<Log>,
        manage: &mut Option<Manage>,
    ) -> Result<Outcome> {
        if let Some(manage) = manage
            && manage.hold(0)
        {
            process::begin(&profile)?;
            self.watch_signals().context("cannot take over signals")?;
            if let Waited::Over(outcome) = self.wait_for_manage(manage)? {
                return Ok(outcome);
            }
        }
        let waker = self.waker.clone();
        let mut server = Server::new(profile, log, Arc::new(move || drop(waker.wake())))?;
        if let Some(manage) = manage.take() {
            server.set_manage(manage);
        }
        let mut watched = Watched::default();
        let result = self.drive_server(&mut server, &mut watched);
        watched.forget(&self.poll);
        *manage = server.take_manage();
        result
    }

    fn drive_server(&mut self, server: &mut Server, watched: &mut Watched) -> Result<Outcome> {
        // Ctrl-C at a prompt ends the program at once, so signals are taken over only after it.
        self.watch_signals().context("cannot take over signals")?;
        let mut events = Events::with_capacity(16);
        loop {
            let timeout = match server.work(clock::now())? {
                Next::Over(outcome) => return Ok(outcome),
                Next::Again => Some(Duration::ZERO),
                Next::Wait(until) => until.map(wait),
            };
            let (manage, serial) = server.descriptor();
            watched.follow(&self.poll, Descriptors { manage, serial, ..Descriptors::default() })?;
            self.sleep(&mut events, timeout)?;
            if events.iter().any(|event| event.token() == MANAGE) {
                server.manage_ready();
            }
            for signal in self.signals(&events) {
                server.signal(clock::now(), signal);
            }
        }
    }

    fn run_client(
        &mut self,
        profile: Profile,
        log: Arc<Log>,
        manage: &mut Option<Manage>,
    ) -> Result<Outcome> {
        let mut prompt: Box<dyn Prompt> = Box::new(Terminal);
        if let Some(manage) = manage.as_mut().filter(|manage| manage.asks_passwords())
            && profile.needs_passphrase()
        {
            // Nobody types at the terminal that this leaves.
            process::begin(&profile)?;
            self.watch_signals().context("cannot take over signals")?;
            match self.ask_passphrase(&profile, manage)? {
                Waited::Passphrase(text) => prompt = Box::new(Given(text)),
                Waited::Over(outcome) => return Ok(outcome),
                Waited::Released => {}
            }
        }
        let waker = self.waker.clone();
        let mut client = Client::with_prompt(profile, log, move || drop(waker.wake()), prompt)?;
        client.set_manage(manage.take());
        let result = self.drive(&mut client);
        *manage = client.take_manage();
        result
    }

    /// Opens the management interface, unless the client before left one.
    fn open_manage(&mut self, profile: &Profile, log: &Arc<Log>) -> Result<Option<Manage>> {
        if let Some(mut manage) = self.manage.take() {
            manage.attach(log);
            return Ok(Some(manage));
        }
        let Some(options) = profile.management.clone() else { return Ok(None) };
        let mut manage = Manage::open(Settings::new(profile, options), log)?;
        manage.state(moment(), State::Connecting, &StateDetails::default());
        Ok(Some(manage))
    }

    /// Asks for the private key's passphrase at the management interface until it fits.
    fn ask_passphrase(&mut self, profile: &Profile, manage: &mut Manage) -> Result<Waited> {
        loop {
            manage.ask(Question { kind: PRIVATE_KEY.to_owned(), username: false, challenge: None });
            let typed = self.wait_for_manage(manage)?;
            let Waited::Passphrase(text) = &typed else { return Ok(typed) };
            if profile.tls_options(Some(text.as_str())).is_ok() {
                return Ok(typed);
            }
            manage.notify(&Notice::VerificationFailed { kind: PRIVATE_KEY, reason: None });
            if profile.auth.retry != AuthRetry::Interact {
                // The client finds out the same and says why.
                return Ok(typed);
            }
        }
    }

    /// Nothing runs yet, so this waits.
    fn wait_for_manage(&mut self, manage: &mut Manage) -> Result<Waited> {
        let mut watched = Watched::default();
        let result = self.wait_watched(manage, &mut watched);
        watched.forget(&self.poll);
        result
    }

    fn wait_watched(&mut self, manage: &mut Manage, watched: &mut Watched) -> Result<Waited> {
        let mut events = Events::with_capacity(16);
        loop {
            while let Some(request) = manage.poll(moment()) {
                match request {
                    Request::Entered(entered) => return Ok(Waited::Passphrase(entered.password)),
                    Request::HoldRelease => return Ok(Waited::Released),
                    Request::Signal { signal: Signal::Hup, .. } => return Ok(Waited::Over(Outcome::Reload)),
                    Request::Signal { signal: Signal::Int | Signal::Term, .. } => {
                        return Ok(Waited::Over(Outcome::Left));
                    }
                    _ => manage.answer(Answer::Failed),
                }
            }
            let (descriptor, serial) = manage.descriptor();
            let wanted = Descriptors { manage: descriptor, serial, ..Descriptors::default() };
            watched.follow(&self.poll, wanted)?;
            self.sleep(&mut events, manage.deadline().map(wait))?;
            manage.ready();
            for signal in self.signals(&events) {
                match signal {
                    Signal::Int | Signal::Term => return Ok(Waited::Over(Outcome::Left)),
                    Signal::Hup => return Ok(Waited::Over(Outcome::Reload)),
                    Signal::Usr1 | Signal::Usr2 => {}
                }
            }
        }
    }

    fn sleep(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result.context("cannot wait for events"),
        }
    }

    fn drive(&mut self, client: &mut Client) -> Result<Outcome> {
        // Ctrl-C at a prompt ends the program at once, so signals are taken over only after it.
        client.ask()?;
        client.begin()?;
        self.watch_signals().context("cannot take over signals")?;
        let mut watched = Watched::default();
        let result = self.drive_watched(client, &mut watched);
        // The management interface's descriptor outlives the client.
        watched.forget(&self.poll);
        result
    }

    fn drive_watched(&mut self, client: &mut Client, watched: &mut Watched) -> Result<Outcome> {
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
            if let (Next::Wait(_), Some(rest)) = (next, client.rest()) {
                std::thread::sleep(rest.time);
                if rest.blind {
                    (ready.link_read, ready.device_read) = (true, true);
                    continue;
                }
            }
            watched.follow(&self.poll, client.descriptors())?;
            self.sleep(&mut events, timeout)?;
            for event in &events {
                match event.token() {
                    LINK => {
                        ready.link_read |= event.is_readable() || event.is_read_closed() || event.is_error();
                        ready.link_write |= event.is_writable() || event.is_write_closed();
                    }
                    DEVICE => ready.device_read = true,
                    MANAGE => client.manage_ready(),
                    _ => {}
                }
            }
            for signal in self.signals(&events) {
                client.signal(clock::now(), signal);
            }
        }
    }

    /// Signals that came since the last call, if `events` tell of any.
    fn signals(&mut self, events: &Events) -> Vec<Signal> {
        if !events.iter().any(|event| event.token() == SIGNALS) {
            return Vec::new();
        }
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

fn moment() -> Moment {
    Moment { now: clock::now(), unix: clock::unix().as_secs() }
}

/// What the poll watches at the moment.
#[derive(Default)]
struct Watched {
    now: Descriptors,
}

impl Watched {
    /// Watches nothing more.
    fn forget(&mut self, poll: &Poll) {
        for old in [self.now.link, self.now.device, self.now.manage].into_iter().flatten() {
            // Fails if it is closed already, which is as good.
            let _ = poll.registry().deregister(&mut SourceFd(&old));
        }
        self.now = Descriptors::default();
    }

    /// Follows the client. Descriptors are told apart by the serial number, because a closed one's number is
    /// given out again.
    fn follow(&mut self, poll: &Poll, wanted: Descriptors) -> Result<()> {
        if self.now == wanted {
            return Ok(());
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        let link = match (wanted.link_read, wanted.link_write) {
            (true, true) => both,
            (false, true) => Interest::WRITABLE,
            (_, false) => Interest::READABLE,
        };
        let Descriptors { link: fd, link_read, link_write, .. } = wanted;
        let before = self.now.link;
        if (Descriptors { link: fd, link_read, link_write, ..self.now }) == wanted
            && before.is_none_or(|before| fd.is_none_or(|fd| fd == before))
        {
            self.now = wanted;
            let registry = poll.registry();
            return match (before, fd) {
                (Some(_), Some(fd)) => registry.reregister(&mut SourceFd(&fd), LINK, link),
                (None, Some(fd)) => registry.register(&mut SourceFd(&fd), LINK, link),
                (fd, None) => {
                    // Fails if it is closed already, which is as good.
                    let _ = fd.map(|fd| registry.deregister(&mut SourceFd(&fd)));
                    Ok(())
                }
            }
            .context("cannot watch a descriptor");
        }
        self.forget(poll);
        self.now = wanted;
        for (fd, token, interest) in [
            (wanted.link, LINK, link),
            (wanted.device, DEVICE, Interest::READABLE),
            (wanted.manage, MANAGE, both),
        ] {
            if let Some(fd) = fd {
                poll.registry()
                    .register(&mut SourceFd(&fd), token, interest)
                    .context("cannot watch a descriptor")?;
            }
        }
        Ok(())
    }
}
