//! The interface without its socket: bytes in, bytes and requests out. No clock, no IO.

mod dispatch;
mod notice;

use core::time::Duration;
use std::collections::VecDeque;

use oxivpn_profile::Profile;
use oxivpn_profile::profile::{AuthRetry, RestartAs};
use oxivpn_profile::server::{ManagementOptions, Role};
use oxivpn_proto::Instant;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::codec::{LineBuffer, Output, one_line};
use super::history::History;
use super::limits;
use super::request::{Answer, Entered, Question, Request};
use crate::client::Signal;
use crate::log::Level;

/// Version of the interface, as its banner has it.
pub const INTERFACE_VERSION: u32 = 5;

/// A moment on both time lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For timers.
    pub now: Instant,
    /// For messages: seconds since 1970.
    pub unix: u64,
}

/// Which half of the commands applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A client or a point-to-point tunnel.
    Client,
    /// A server.
    Server,
}

/// Settings, from the profile.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `management` options.
    pub options: ManagementOptions,
    /// Client or server.
    pub mode: Mode,
    /// `status-version`, 1 to 3.
    pub status_version: u8,
    /// `auth-retry`.
    pub auth_retry: AuthRetry,
    /// `verb`.
    pub verb: u8,
    /// `mute`.
    pub mute: u32,
    /// `remap-usr1`.
    pub remap_usr1: Option<RestartAs>,
}

impl Settings {
    /// The settings of a profile that has a management interface.
    pub fn new(profile: &Profile, options: ManagementOptions) -> Self {
        let server = matches!(profile.role, Role::Server(_));
        Self {
            options,
            mode: if server { Mode::Server } else { Mode::Client },
            status_version: profile.status.as_ref().map_or(1, |status| status.version),
            auth_retry: profile.auth.retry,
            verb: profile.log.verbosity,
            mute: profile.log.mute,
            remap_usr1: profile.process.remap_usr1,
        }
    }
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// `exit`, too many wrong passwords, or a fatal error: what is unread may still be sent.
    Orderly,
    /// It does not read, or sends what is no command.
    Cut,
}

/// Everything about the interface that is not a socket.
pub(super) struct Desk {
    settings: Settings,
    log: History,
    echo: History,
    state: History,
    /// What is waited for, said to whoever connects: `>HOLD:..` or `>PASSWORD:Need ..`.
    special: Option<String>,
    holding: bool,
    question: Option<Asked>,
    requests: VecDeque<Request>,
    remarks: VecDeque<(Level, String)>,
    connection: Option<Connection>,
}

/// A question with what has been entered so far.
struct Asked {
    question: Question,
    username: Option<Zeroizing<String>>,
    password: Option<Zeroizing<String>>,
}

/// What belongs to one connection.
struct Connection {
    input: LineBuffer,
    output: Output,
    /// Unread output when the last answer was complete.
    answered: usize,
    authorised: bool,
    tries: u32,
    version: i64,
    env_filter: i64,
    real_time: RealTime,
    bytecount: Option<(Duration, Instant)>,
    block: Option<Block>,
    /// The request that the program has not answered yet.
    pending: Option<Request>,
    ending: Option<Ending>,
}

#[derive(Clone, Copy, Default)]
struct RealTime {
    log: bool,
    echo: bool,
    state: bool,
}

/// Lines up to END.
struct Block {
    kind: BlockKind,
    lines: Vec<Zeroizing<String>>,
    bytes: usize,
}

enum BlockKind {
    ClientAuth { cid: u64, kid: u64 },
    Password,
}

impl Connection {
    fn unread(&self) -> usize {
        self.output.unread().len()
    }

    fn append(&mut self, text: &str) {
        self.append_parts(&[text]);
    }

    /// One line of several pieces, so that a secret among them is copied nowhere else.
    fn append_parts(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.output.push(one_line(part)));
        self.output.push("\r\n".chars());
    }
}

impl Desk {
    pub(super) fn new(settings: Settings) -> Self {
        let capacity = settings.options.log_cache.min(limits::LOG_HISTORY);
        Self {
            log: History::new(capacity),
            echo: History::new(limits::ECHO_HISTORY),
            state: History::new(limits::STATE_HISTORY),
            special: None,
            holding: false,
            question: None,
            requests: VecDeque::new(),
            remarks: VecDeque::new(),
            connection: None,
            settings,
        }
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// `verb` and `mute` of another log.
    pub(super) const fn set_log_settings(&mut self, verb: u8, mute: u32) {
        (self.settings.verb, self.settings.mute) = (verb, mute);
    }

    /// Somebody connected.
    pub(super) fn connected(&mut self) {
        let authorised = self.settings.options.password.is_none();
        self.connection = Some(Connection {
            input: LineBuffer::default(),
            output: Output::default(),
            answered: 0,
            authorised,
            tries: 0,
            version: 1,
            env_filter: 0,
            real_time: RealTime::default(),
            bytecount: None,
            block: None,
            pending: None,
            ending: None,
        });
        if authorised { self.welcome() } else { self.prompt() }
    }

    /// The connection is closed.
    pub(super) fn disconnected(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if let Some(asked) = &mut self.question {
            (asked.username, asked.password) = (None, None);
        }
        self.remark(Level::Detail, "MANAGEMENT: Client disconnected");
        let options = &self.settings.options;
        let (forget, signal, connect) = (options.forget_disconnect, options.signal, options.connect);
        if connection.authorised && forget {
            self.remark(Level::Detail, "MANAGEMENT: Reset authentication on disconnect");
            self.requests.push_back(Request::ForgetPasswords);
        }
        if connection.authorised
            && signal
            && let Some(signal) = self.effective(Signal::Usr1)
        {
            self.remark(Level::Detail, "MANAGEMENT: Triggering management signal");
            self.requests.push_back(Request::Signal { signal, soft: Some("management-disconnect") });
        }
        if connect {
            self.remark(Level::Detail, "MANAGEMENT: Triggering management exit");
            self.requests.push_back(Request::Signal { signal: Signal::Term, soft: Some("management-exit") });
        }
    }

    /// Whether more input may come: not while a command waits for its turn.
    pub(super) fn wants_input(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|c| c.ending.is_none() && c.pending.is_none() && !c.input.has_line())
    }

    /// Takes what was received; [`Desk::poll`] works on it.
    pub(super) fn input(&mut self, bytes: &[u8]) {
        let Some(connection) = &mut self.connection else { return };
        if connection.ending.is_none() && connection.input.push(bytes).is_err() {
            connection.input.clear();
            self.cut_off("ERROR: the line is too long");
        }
    }

    /// What is to be sent.
    pub(super) fn output(&self) -> &[u8] {
        self.connection.as_ref().map_or(&[], |connection| connection.output.unread())
    }

    /// The first `count` bytes of [`Desk::output`] are sent.
    pub(super) fn sent(&mut self, count: usize) {
        let Some(connection) = &mut self.connection else { return };
        connection.output.sent(count);
        connection.answered = connection.answered.min(connection.unread());
    }

    /// Whether and how the connection is to be closed.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.connection.as_ref().and_then(|connection| connection.ending)
    }

    /// When [`Desk::poll`] has something to do without input.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.connection.as_ref()?.bytecount.map(|(_, due)| due)
    }

    /// The next request.
    pub(super) fn poll(&mut self, at: Moment) -> Option<Request> {
        if let Some(Connection { bytecount: Some((every, due)), .. }) = &mut self.connection
            && *due <= at.now
        {
            // After a standstill the missed ones are not made up for.
            *due = (*due + *every).max(at.now + Duration::from_millis(1));
            self.requests.push_back(Request::ByteCounts);
        }
        loop {
            if let Some(request) = self.requests.pop_front() {
                return Some(request);
            }
            let connection = self.connection.as_mut()?;
            let busy = connection.pending.is_some() || connection.unread() > limits::OUTPUT_PAUSE;
            if busy || connection.ending.is_some() {
                return None;
            }
            let line = connection.input.take()?;
            self.line(at, &line);
        }
    }

    /// What the program's log is to say.
    pub(super) fn take_remark(&mut self) -> Option<(Level, String)> {
        self.remarks.pop_front()
    }

    fn remark(&mut self, level: Level, text: impl Into<String>) {
        self.remarks.push_back((level, text.into()));
    }

    fn line(&mut self, at: Moment, line: &str) {
        let Some(connection) = &mut self.connection else { return };
        if connection.block.is_some() {
            self.block_line(line);
        } else if connection.authorised {
            self.command(at, line);
        } else {
            self.check_password(line);
        }
        if let Some(connection) = &mut self.connection {
            connection.answered = connection.unread();
        }
    }

    fn check_password(&mut self, line: &str) {
        let wanted = self.settings.options.password.as_ref().map_or("", |password| password.as_str());
        let right = bool::from(line.as_bytes().ct_eq(wanted.as_bytes()));
        let Some(connection) = &mut self.connection else { return };
        if right {
            connection.authorised = true;
            self.reply("SUCCESS: password is correct");
            self.welcome();
            return;
        }
        connection.tries += 1;
        if connection.tries >= limits::PASSWORD_TRIES {
            connection.ending = Some(Ending::Orderly);
            let text = format!(
                "MAN: client connection rejected after {} failed password attempts",
                limits::PASSWORD_TRIES
            );
            self.remark(Level::Warn, text);
        } else {
            self.prompt();
        }
    }

    fn prompt(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.output.push("ENTER PASSWORD:".chars());
        }
    }

    fn welcome(&mut self) {
        self.reply(&format!(
            ">INFO:OpenVPN Management Interface Version {INTERFACE_VERSION} -- type 'help' for more info"
        ));
        self.say_special();
    }

    fn say_special(&mut self) {
        if let Some(special) = self.special.clone() {
            self.reply(&special);
        }
    }

    /// One line of an answer.
    fn reply(&mut self, text: &str) {
        if let Some(connection) = &mut self.connection {
            connection.append(text);
        }
    }

    /// One line that nobody asked for; whoever does not read is cut off.
    fn notify_line(&mut self, text: &str) {
        self.notify_parts(&[text]);
    }

    fn notify_parts(&mut self, parts: &[&str]) {
        let Some(connection) = &mut self.connection else { return };
        if !connection.authorised || connection.ending.is_some() {
            return;
        }
        if connection.unread() > connection.answered + limits::OUTPUT_LIMIT {
            self.cut_off("ERROR: too much is unread");
        } else {
            connection.append_parts(parts);
        }
    }

    fn cut_off(&mut self, text: &str) {
        let Some(connection) = &mut self.connection else { return };
        if connection.ending.is_none() {
            connection.append(text);
            connection.ending = Some(Ending::Cut);
            let reason = text.trim_start_matches("ERROR: ");
            self.remark(Level::Warn, format!("MANAGEMENT: Client cut off: {reason}"));
        }
    }

    /// Begins to wait for `hold release` if the hold flag is set. `seconds` is how long the program would wait by
    /// itself. Whether there is something to wait for.
    pub(super) fn hold(&mut self, seconds: u64) -> bool {
        if !self.settings.options.hold {
            return false;
        }
        self.holding = true;
        if self.connection.is_none() {
            self.remark(Level::Detail, "Need hold release from management interface, waiting...");
        }
        self.wait_for(format!(">HOLD:Waiting for hold release:{seconds}"));
        true
    }

    /// Asks; the answer comes as [`Request::Entered`].
    pub(super) fn ask(&mut self, question: Question) {
        let what = if question.username { "username/password" } else { "password" };
        let mut text = format!(">PASSWORD:Need '{}' {what}", question.kind);
        if let Some(challenge) = &question.challenge {
            let flags = u8::from(challenge.echo) | u8::from(challenge.concat) << 1;
            text.push_str(&format!(" SC:{flags},{}", challenge.text));
        }
        if self.connection.is_none() {
            self.remark(Level::Detail, "Need password(s) from management interface, waiting...");
        }
        self.question = Some(Asked { question, username: None, password: None });
        self.wait_for(text);
    }

    fn wait_for(&mut self, text: String) {
        self.notify_line(&text);
        self.special = Some(text);
    }

    /// Gives up waiting, because of a signal.
    pub(super) fn stop_waiting(&mut self) {
        self.special = None;
        self.question = None;
        self.holding = false;
    }

    /// What a signal becomes; `None` if it is ignored for now.
    fn effective(&self, signal: Signal) -> Option<Signal> {
        let signal = match (signal, self.settings.remap_usr1) {
            (Signal::Usr1, Some(RestartAs::Hup)) => Signal::Hup,
            (Signal::Usr1, Some(RestartAs::Term)) => Signal::Term,
            (signal, _) => signal,
        };
        (!(self.holding && matches!(signal, Signal::Hup | Signal::Usr1))).then_some(signal)
    }

    /// Takes the program's answer to the last request that wanted one.
    pub(super) fn answer(&mut self, answer: Answer) {
        let Some(request) = self.connection.as_mut().and_then(|connection| connection.pending.take()) else {
            return;
        };
        self.render(&request, answer);
        if let Some(connection) = &mut self.connection {
            connection.answered = connection.unread();
        }
    }

    fn entered(&mut self) {
        let complete = self
            .question
            .as_ref()
            .is_some_and(|q| q.password.is_some() && (q.username.is_some() || !q.question.username));
        if complete && let Some(asked) = self.question.take() {
            self.special = None;
            self.requests.push_back(Request::Entered(Entered {
                kind: asked.question.kind,
                username: asked.username.map(|name| name.as_str().to_owned()).unwrap_or_default(),
                password: asked.password.unwrap_or_default(),
            }));
        }
    }
}

#[cfg(test)]
mod tests;
