//! The interface on its socket.

use core::time::Duration;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;

use anyhow::Result;
use oxivpn_proto::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use super::desk::{Desk, Ending, Moment, Settings};
use super::request::{Answer, Notice, Question, Request, State, StateDetails};
use super::socket::{Allowed, Listener, Stream};
use crate::log::{Log, Tap};
use crate::say;

/// Bytes read at once.
const READ: usize = 2048;

/// How long a connection that ends may take to read the rest.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The management interface of a program.
///
/// It never waits. A loop watches [`Manage::descriptor`] for reading and writing, edge-triggered, calls
/// [`Manage::ready`] when it is, and drains [`Manage::poll`] on every turn:
///
/// ```no_run
/// # use oxivpn::manage::{Answer, Manage, Moment, Request, Settings};
/// # fn turn(manage: &mut Manage, at: Moment) {
/// while let Some(request) = manage.poll(at) {
///     match request {
///         Request::Clients => manage.answer(Answer::Count(3)),
///         Request::Kill(_) => manage.answer(Answer::Count(0)),
///         Request::ClientAuth { .. } => manage.answer(Answer::Done),
///         // Requests without an answer, and those that this program never gets.
///         _ => {}
///     }
/// }
/// let sleep_until = manage.deadline();
/// # let _ = sleep_until;
/// # }
/// ```
pub struct Manage {
    desk: Desk,
    listener: Option<Listener>,
    stream: Option<Stream>,
    allowed: Allowed,
    can_read: bool,
    can_write: bool,
    /// Until when the rest of the output may take, once the connection is to end.
    closing: Option<Instant>,
    serial: u64,
    log: Arc<Log>,
    tap: Arc<Tap>,
}

impl Manage {
    /// Listens, or connects (`management-client`; that waits up to five seconds). The log's lines go to the
    /// interface from here.
    pub fn open(settings: Settings, log: &Arc<Log>) -> Result<Self> {
        let allowed = Allowed::new(&settings.options)?;
        let tap = Arc::new(Tap::default());
        log.set_tap(tap.clone());
        let options = settings.options.clone();
        let mut manage = Self {
            desk: Desk::new(settings),
            listener: None,
            stream: None,
            allowed,
            can_read: true,
            can_write: true,
            closing: None,
            serial: 0,
            log: log.clone(),
            tap,
        };
        if options.connect {
            let (stream, name) = Stream::connect(&options, allowed)?;
            manage.begin(stream, &format!("Connected to management server at {name}"));
        } else {
            let listener = Listener::open(&options)?;
            say!(log, Detail, "MANAGEMENT: {}", listener.describe());
            manage.listener = Some(listener);
        }
        Ok(manage)
    }

    /// Goes on with another log, after SIGHUP.
    pub fn attach(&mut self, log: &Arc<Log>) {
        log.set_tap(self.tap.clone());
        self.log = log.clone();
        self.desk.set_log_settings(log.verb(), log.mute());
    }

    /// What to watch, and a number that changes when it is another one, perhaps under the same number.
    pub fn descriptor(&self) -> (Option<RawFd>, u64) {
        let stream = self.stream.as_ref().map(Stream::as_raw_fd);
        (stream.or_else(|| self.listener.as_ref().map(Listener::as_raw_fd)), self.serial)
    }

    /// The descriptor became ready for something.
    pub const fn ready(&mut self) {
        (self.can_read, self.can_write) = (true, true);
    }

    /// When to [`Manage::poll`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        [self.desk.deadline(), self.closing].into_iter().flatten().min()
    }

    /// Moves what is ready. The next request; call until there is none.
    pub fn poll(&mut self, at: Moment) -> Option<Request> {
        loop {
            let request = self.desk.poll(at);
            self.log_lines();
            self.write();
            self.close_if_ended(at);
            match request {
                // The log is the same for every program.
                Some(Request::Verb(verb)) => self.log.set_verb(verb),
                Some(Request::Mute(mute)) => self.log.set_mute(mute),
                Some(request) => return Some(request),
                None if self.read() => {}
                None => return None,
            }
        }
    }

    /// Says how a [`Request`] went.
    pub fn answer(&mut self, answer: Answer) {
        self.desk.answer(answer);
        self.write();
    }

    /// Tells a client of the interface something; shown only where the profile wants it so.
    pub fn notify(&mut self, notice: &Notice<'_>) {
        self.desk.notify(notice);
        self.write();
    }

    /// The state of the connection changed.
    pub fn state(&mut self, at: Moment, state: State, details: &StateDetails<'_>) {
        self.desk.state(at, state, details);
        self.write();
    }

    /// An `echo` option of the profile or the server.
    pub fn echo(&mut self, at: Moment, text: &str) {
        self.desk.echo(at, text);
        self.write();
    }

    /// Whether to wait before a start, until [`Request::HoldRelease`]. `seconds`: the pause that would be made without.
    pub fn hold(&mut self, seconds: u64) -> bool {
        let wait = self.desk.hold(seconds);
        self.log_lines();
        self.write();
        wait
    }

    /// Whether user name, password and passphrases are to be asked for here.
    pub fn asks_passwords(&self) -> bool {
        self.desk.settings().options.query_passwords
    }

    /// Asks for a password; the answer comes as [`Request::Entered`].
    pub fn ask(&mut self, question: Question) {
        self.desk.ask(question);
        self.log_lines();
        self.write();
    }

    /// Gives up waiting for a release or an answer.
    pub fn stop_waiting(&mut self) {
        self.desk.stop_waiting();
    }

    /// Lines of the desk to the log, lines of the log to the desk.
    fn log_lines(&mut self) {
        while let Some((level, text)) = self.desk.take_remark() {
            self.log.write(level, format_args!("{text}"));
        }
        while let Some(line) = self.tap.take() {
            self.desk.log_line(line.unix, line.level, &line.text);
        }
    }

    fn begin(&mut self, stream: Stream, words: &str) {
        say!(self.log, Detail, "MANAGEMENT: {words}");
        self.stream = Some(stream);
        self.serial += 1;
        self.closing = None;
        self.ready();
        self.desk.connected();
    }

    /// Takes a client in, or what it sent. Whether there is something new for the desk.
    fn read(&mut self) -> bool {
        if !self.can_read {
            return false;
        }
        let Some(stream) = &mut self.stream else { return self.accept() };
        // As OpenVPN: who has not read the last answer is not heard.
        if !self.desk.wants_input() || !self.desk.output().is_empty() {
            return false;
        }
        let mut buf = Zeroizing::new([0; READ]);
        match stream.read(&mut buf[..]) {
            Ok(0) => self.close(),
            Ok(count) => self.desk.input(&buf[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.can_read = false;
                return false;
            }
            Err(error) => self.fail("recv", &error),
        }
        true
    }

    fn accept(&mut self) -> bool {
        let Some(listener) = &self.listener else { return false };
        match listener.accept(self.allowed) {
            Ok(Ok((stream, name))) => self.begin(stream, &format!("Client connected from {name}")),
            Ok(Err(objection)) => {
                say!(
                    self.log,
                    Warn,
                    "MANAGEMENT: unix domain socket client connection rejected -- {objection}"
                );
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.can_read = false;
                return false;
            }
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of descriptors, perhaps: the next client's arrival is the next try.
                say!(self.log, Warn, "MANAGEMENT: accept: {error}");
                self.can_read = false;
                return false;
            }
        }
        true
    }

    fn write(&mut self) {
        while self.can_write && !self.desk.output().is_empty() {
            let Some(stream) = &mut self.stream else { return };
            match stream.write(self.desk.output()) {
                Ok(0) => return,
                Ok(count) => self.desk.sent(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.can_write = false,
                Err(error) => self.fail("send", &error),
            }
        }
    }

    fn fail(&mut self, what: &str, error: &std::io::Error) {
        say!(self.log, Detail, "MANAGEMENT: TCP {what} error: {error}");
        self.close();
    }

    fn close_if_ended(&mut self, at: Moment) {
        let Some(ending) = self.desk.ending() else { return };
        let until = *self.closing.get_or_insert(at.now + LAST_WORDS);
        if ending == Ending::Cut || self.desk.output().is_empty() || until <= at.now {
            self.close();
        }
    }

    fn close(&mut self) {
        self.stream = None;
        self.closing = None;
        self.serial += 1;
        self.ready();
        self.desk.disconnected();
    }

    #[cfg(test)]
    pub(super) fn port(&self) -> u16 {
        self.listener.as_ref().map_or(0, Listener::port)
    }
}

impl Drop for Manage {
    /// The last lines, among them the reason of a fatal error, still go out.
    fn drop(&mut self) {
        self.log_lines();
        for _ in 0..10 {
            self.write();
            let Some(stream) = self.stream.as_ref().filter(|_| !self.desk.output().is_empty()) else {
                return;
            };
            let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let ready = poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&wait));
            if ready.is_ok_and(|count| count > 0) {
                self.can_write = true;
            }
        }
    }
}

impl core::fmt::Debug for Manage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Manage")
            .field("listener", &self.listener)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
