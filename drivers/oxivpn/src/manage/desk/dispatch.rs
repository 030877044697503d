//! Commands: what is answered here, and what the program is asked for.

use oxivpn_profile::profile::{AuthRetry, Protocol};
use zeroize::Zeroizing;

use super::super::codec::words;
use super::super::command::{Command, HistoryOrderOr, parse};
use super::super::history::HistoryOrder;
use super::super::limits;
use super::super::request::{Answer, Request, Victim};
use super::super::{base64, help};
use super::{Block, BlockKind, Connection, Desk, Ending, INTERFACE_VERSION, Mode, Moment};
use crate::log::Level;
use crate::status;

/// Highest `verb` (`openvpn: error.h`).
const MAX_VERB: i64 = 15;

/// Highest version of a client that gets no answer to `version n` (`openvpn: manage.c`, `set_client_version`).
const SILENT_VERSION: i64 = 3;

/// First version of a client that may send passwords in blocks.
const BLOCK_PASSWORDS: i64 = 5;

/// Longest password or name, as on the wire.
const MAX_SECRET: usize = 4096;

/// Which of the histories.
#[derive(Clone, Copy)]
enum Which {
    Log,
    Echo,
    State,
}

impl Desk {
    pub(super) fn command(&mut self, at: Moment, line: &str) {
        let words = match words(line) {
            Ok(words) => words,
            Err(reply) => return self.reply(&reply),
        };
        let Some(first) = words.first() else { return };
        match first.as_str() {
            // Not even their kinds: a mistyped line may have the password first.
            "password" => self.remark(Level::Detail, "MANAGEMENT: CMD 'password [...]'"),
            "cr-response" => self.remark(Level::Detail, "MANAGEMENT: CMD 'cr-response [...]'"),
            // Monitors ask for it all the time.
            "load-stats" => {}
            _ => self.remark(Level::Detail, format!("MANAGEMENT: CMD '{line}'")),
        }
        match parse(&words) {
            Ok(command) => self.run(at, command),
            Err(reply) => reply.lines().for_each(|line| self.reply(line)),
        }
    }

    fn run(&mut self, at: Moment, command: Command) {
        match command {
            Command::Exit => self.end(),
            Command::Help => help::lines().for_each(|line| self.reply(&line)),
            Command::Version(None) => {
                self.reply(&format!("OpenVPN Version: {}", status::title()));
                self.reply(&format!("Management Version: {INTERFACE_VERSION}"));
                self.reply("END");
            }
            Command::Version(Some(version)) => self.set_version(version),
            Command::Pid => self.reply(&format!("SUCCESS: pid={}", std::process::id())),
            Command::EnvFilter(level) => {
                self.with(|connection| connection.env_filter = level);
                self.reply(&format!("SUCCESS: env_filter_level={level}"));
            }
            Command::State(orders) => self.histories(Which::State, &orders),
            Command::Log(orders) => self.histories(Which::Log, &orders),
            Command::Echo(orders) => self.histories(Which::Echo, &orders),
            Command::Hold(word) => self.hold_command(word.as_deref()),
            Command::Net => self.reply("ERROR: Sorry, this command is currently only implemented on Windows"),
            Command::Test(lines) => {
                for n in 0..lines.clamp(0, limits::TEST_LINES) {
                    self.reply(&format!("[{n}] This line is here to make a lot of output."));
                }
            }
            Command::Pkcs11Count => self.reply(">PKCS11ID-COUNT:0"),
            Command::Pkcs11Get(index) => self.reply(&format!(">PKCS11ID-ENTRY:'{index}'")),
            Command::Certificate => self.not_available("certificate"),
            Command::Signature(name) => self.not_available(name),
            Command::NeedOk => self.reply("ERROR: no needok-confirmation is currently needed at this time"),
            Command::NeedString => self.reply("ERROR: no needstr-string is currently needed at this time"),
            Command::Verb(level) => self.verb(level),
            Command::Mute(limit) => self.mute(limit),
            Command::AuthRetry(mode) => self.auth_retry(mode),
            Command::ByteCount(every) => {
                let due = (!every.is_zero()).then(|| (every, at.now + every));
                self.with(|connection| connection.bytecount = due);
                self.reply("SUCCESS: bytecount interval changed");
            }
            Command::Username { kind, value } => self.username(&kind, value),
            Command::Password { kind, value: Some(value) } => self.password(&kind, value),
            Command::Password { kind, value: None } => self.begin_password(&kind),
            Command::ForgetPasswords => {
                self.requests.push_back(Request::ForgetPasswords);
                self.reply("SUCCESS: Passwords were forgotten");
            }
            Command::Signal { signal, word } => match signal.map(|signal| self.effective(signal)) {
                None => self.reply(&format!("ERROR: signal '{word}' is not a known signal type")),
                Some(None) => {
                    self.reply(&format!("ERROR: signal '{word}' is currently ignored"));
                    self.say_special();
                }
                Some(Some(signal)) => {
                    self.requests.push_back(Request::Signal { signal, soft: None });
                    self.reply(&format!("SUCCESS: signal {} thrown", signal.name()));
                }
            },
            Command::LoadStats => self.request(Request::LoadStats),
            Command::Status(version) => self.status(version),
            command => self.of_mode(command),
        }
    }

    /// Commands that only one half of the programs has.
    fn of_mode(&mut self, command: Command) {
        let server = self.settings.mode == Mode::Server;
        match command {
            Command::CrResponse(text) if !server => self.request(Request::CrResponse(text)),
            Command::RemoteCount if !server => self.request(Request::RemoteCount),
            Command::RemoteGet { from, to } if !server => self.request(Request::Remotes { from, to }),
            Command::Remote if !server => self.reply("ERROR: remote command failed"),
            Command::Proxy if !server => self.reply("ERROR: proxy command failed"),
            Command::CrResponse(_) => self.unsupported("cr-repsonse"),
            Command::RemoteCount => self.unsupported("remote-entry-count"),
            Command::RemoteGet { .. } => self.unsupported("remote-entry-get"),
            Command::Remote => self.unsupported("remote"),
            Command::Proxy => self.unsupported("proxy"),
            Command::Clients if server => self.request(Request::Clients),
            Command::Kill(victim) if server => self.request(Request::Kill(victim)),
            Command::ClientKill { cid, message } if server => {
                self.request(Request::ClientKill { cid, message })
            }
            Command::ClientDeny { cid, kid, reason, client_reason } if server => {
                self.request(Request::ClientDeny { cid, kid, reason, client_reason });
            }
            Command::ClientPending { cid, kid, extra, timeout } if server => {
                self.request(Request::ClientPending { cid, kid, extra, timeout });
            }
            Command::PushUpdate { cid, options } if server => {
                self.request(Request::PushUpdate { cid, options })
            }
            // The block is taken in either mode, so that its lines are not taken for commands.
            Command::ClientAuth { cid, kid, block: true } => {
                self.begin_block(BlockKind::ClientAuth { cid, kid })
            }
            Command::ClientAuth { cid, kid, block: false } => self.client_auth(cid, kid, None),
            Command::Clients => self.unsupported("nclients"),
            Command::Kill(_) => self.unsupported("kill"),
            Command::ClientKill { .. } => self.unsupported("client-kill"),
            Command::ClientDeny { .. } => self.unsupported("client-deny"),
            Command::ClientPending { .. } => self.unsupported("client-pending-auth"),
            Command::PushUpdate { cid: None, .. } => self.unsupported("push-update-broad"),
            Command::PushUpdate { cid: Some(_), .. } => self.unsupported("push-update-cid"),
            // All others are taken by the caller.
            _ => {}
        }
    }

    fn with(&mut self, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = &mut self.connection {
            change(connection);
        }
    }

    fn end(&mut self) {
        self.with(|connection| connection.ending = Some(Ending::Orderly));
    }

    fn unsupported(&mut self, name: &str) {
        self.reply(&format!("ERROR: The '{name}' command is not supported by the current daemon mode"));
    }

    fn not_available(&mut self, name: &str) {
        self.reply(&format!("ERROR: The {name} command is not currently available"));
    }

    /// Hands a request to the program; further commands wait for its answer.
    fn request(&mut self, request: Request) {
        self.with(|connection| connection.pending = Some(request.clone()));
        self.requests.push_back(request);
    }

    fn status(&mut self, version: i64) {
        match (self.settings.mode, version) {
            (Mode::Client, _) | (_, 0) => {
                self.request(Request::Status { version: self.settings.status_version });
            }
            (Mode::Server, version @ 1..=3) => self.request(Request::Status { version: version as u8 }),
            (Mode::Server, _) => self.reply("ERROR: bad status format version number"),
        }
    }

    fn set_version(&mut self, version: i64) {
        self.with(|connection| connection.version = version);
        if version > SILENT_VERSION {
            self.reply(&format!("SUCCESS: Management client version set to {version}"));
        }
    }

    fn verb(&mut self, level: Option<i64>) {
        match level {
            None => self.reply(&format!("SUCCESS: verb={}", self.settings.verb)),
            Some(level @ 0..=MAX_VERB) => {
                self.settings.verb = level as u8;
                self.requests.push_back(Request::Verb(level as u8));
                self.reply("SUCCESS: verb level changed");
            }
            Some(_) => self.reply("ERROR: verb level is out of range"),
        }
    }

    fn mute(&mut self, limit: Option<i64>) {
        let limit = limit.map(u32::try_from);
        match limit {
            None => self.reply(&format!("SUCCESS: mute={}", self.settings.mute)),
            Some(Ok(limit)) => {
                self.settings.mute = limit;
                self.requests.push_back(Request::Mute(limit));
                self.reply("SUCCESS: mute level changed");
            }
            Some(Err(_)) => self.reply("ERROR: mute level is out of range"),
        }
    }

    fn auth_retry(&mut self, mode: Option<AuthRetry>) {
        if let Some(mode) = mode {
            self.settings.auth_retry = mode;
            self.requests.push_back(Request::AuthRetry(mode));
            self.reply("SUCCESS: auth-retry parameter changed");
            return;
        }
        let name = match self.settings.auth_retry {
            AuthRetry::None => "none",
            AuthRetry::NoInteract => "nointeract",
            AuthRetry::Interact => "interact",
        };
        self.reply(&format!("SUCCESS: auth-retry={name}"));
    }

    fn hold_command(&mut self, word: Option<&str>) {
        let reply = match word {
            None => return self.reply(&format!("SUCCESS: hold={}", u8::from(self.settings.options.hold))),
            Some("on") => {
                self.settings.options.hold = true;
                "SUCCESS: hold flag set to ON"
            }
            Some("off") => {
                self.settings.options.hold = false;
                "SUCCESS: hold flag set to OFF"
            }
            Some("release") => {
                if core::mem::take(&mut self.holding) {
                    self.special = None;
                    self.requests.push_back(Request::HoldRelease);
                }
                "SUCCESS: hold release succeeded"
            }
            Some(_) => "ERROR: bad hold command parameter",
        };
        self.reply(reply);
    }

    fn histories(&mut self, which: Which, orders: &[HistoryOrderOr]) {
        for order in orders {
            self.history(which, *order);
        }
    }

    fn history(&mut self, which: Which, order: HistoryOrderOr) {
        let Self { connection: Some(connection), .. } = self else { return };
        let (name, history, real_time) = match which {
            Which::Log => ("log", &self.log, &mut connection.real_time.log),
            Which::Echo => ("echo", &self.echo, &mut connection.real_time.echo),
            Which::State => ("state", &self.state, &mut connection.real_time.state),
        };
        match order {
            Some(HistoryOrder::RealTime(on)) => {
                *real_time = on;
                let word = if on { "ON" } else { "OFF" };
                connection.append(&format!("SUCCESS: real-time {name} notification set to {word}"));
            }
            Some(HistoryOrder::Last(count)) => {
                history.last(count).for_each(|line| connection.append(line));
                connection.append("END");
            }
            None => connection
                .append(&format!("ERROR: {name} parameter must be 'on' or 'off' or some number n or 'all'")),
        }
    }

    fn username(&mut self, kind: &str, value: Zeroizing<String>) {
        let asked = self.question.as_mut().filter(|asked| asked.question.username);
        match asked {
            None => self.reply("ERROR: no username is currently needed at this time"),
            Some(asked) if asked.question.kind == kind => {
                // An empty name answers nothing.
                asked.username = Some(value).filter(|value| !value.is_empty());
                self.reply(&format!("SUCCESS: '{kind}' username entered, but not yet verified"));
                self.entered();
            }
            Some(asked) => {
                let reply = other_kind("username", kind, &asked.question.kind);
                self.reply(&reply);
            }
        }
    }

    fn password(&mut self, kind: &str, value: Zeroizing<String>) {
        match &mut self.question {
            None => self.reply("ERROR: no password is currently needed at this time"),
            Some(asked) if asked.question.kind == kind => {
                asked.password = Some(value);
                self.reply(&format!("SUCCESS: '{kind}' password entered, but not yet verified"));
                self.entered();
            }
            Some(asked) => {
                let reply = other_kind("password", kind, &asked.question.kind);
                self.reply(&reply);
            }
        }
    }

    fn begin_password(&mut self, kind: &str) {
        if self.connection.as_ref().is_none_or(|connection| connection.version < BLOCK_PASSWORDS) {
            self.reply("ERROR: the 'password' command requires 2 parameters");
            return;
        }
        match &self.question {
            None => self.reply("ERROR: no password is currently needed at this time"),
            Some(asked) if asked.question.kind == kind => self.begin_block(BlockKind::Password),
            Some(asked) => {
                let reply = other_kind("password", kind, &asked.question.kind);
                self.reply(&reply);
            }
        }
    }

    fn begin_block(&mut self, kind: BlockKind) {
        self.with(|connection| connection.block = Some(Block { kind, lines: Vec::new(), bytes: 0 }));
    }

    pub(super) fn block_line(&mut self, line: &str) {
        let Some(Connection { block: slot @ Some(_), .. }) = &mut self.connection else { return };
        if line == "END" {
            let Some(block) = slot.take() else { return };
            match block.kind {
                BlockKind::ClientAuth { cid, kid } => {
                    let lines = block.lines.iter().map(|line| line.as_str().to_owned()).collect();
                    self.client_auth(cid, kid, Some(lines));
                }
                BlockKind::Password => self.block_password(&block.lines),
            }
            return;
        }
        let Some(block) = slot else { return };
        block.bytes += line.len();
        if block.lines.len() == limits::BLOCK_LINES || block.bytes > limits::BLOCK_BYTES {
            *slot = None;
            self.cut_off("ERROR: the block of lines is too long");
        } else {
            block.lines.push(Zeroizing::new(line.to_owned()));
        }
    }

    fn block_password(&mut self, lines: &[Zeroizing<String>]) {
        let text = Zeroizing::new(lines.iter().map(|line| line.trim()).collect::<String>());
        let Some(kind) = self.question.as_ref().map(|asked| asked.question.kind.clone()) else {
            return self.reply("ERROR: no password is currently needed at this time");
        };
        let decoded = base64::decode(&text).and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.map(Zeroizing::new) {
            None => self.reply("ERROR: could not base64-decode password"),
            Some(password) if password.len() > MAX_SECRET => self.reply("ERROR: password too long"),
            Some(password) => self.password(&kind, password),
        }
    }

    fn client_auth(&mut self, cid: u64, kid: u64, lines: Option<Vec<String>>) {
        match self.settings.mode {
            Mode::Server => self.request(Request::ClientAuth { cid, kid, lines }),
            Mode::Client => self.unsupported("client-auth"),
        }
    }

    /// The reply to a command that the program carried out.
    pub(super) fn render(&mut self, request: &Request, answer: Answer) {
        let done = answer == Answer::Done;
        match (request, answer) {
            (Request::Status { .. }, Answer::Text(text)) => text.lines().for_each(|line| self.reply(line)),
            (Request::Status { .. }, _) => self.unsupported("status"),
            (Request::LoadStats, Answer::Load { clients, received, sent }) => {
                self.reply(&format!("SUCCESS: nclients={clients},bytesin={received},bytesout={sent}"));
            }
            (Request::Clients, Answer::Count(count)) => self.reply(&format!("SUCCESS: nclients={count}")),
            (Request::Kill(victim), Answer::Count(count)) => self.reply(&killed(victim, count)),
            (Request::Kill(victim), _) => self.reply(&killed(victim, 0)),
            (Request::ClientKill { .. }, _) => self.report(done, "client-kill"),
            (Request::ClientAuth { .. }, _) => self.report(done, "client-auth"),
            (Request::ClientDeny { .. }, _) => self.report(done, "client-deny"),
            (Request::ClientPending { .. }, _) if done => self.report(true, "client-pending-auth"),
            (Request::ClientPending { .. }, _) => {
                self.reply("ERROR: client-pending-auth command failed. Extra parameter might be too long");
            }
            (Request::PushUpdate { .. }, _) => self.report(done, "push-update"),
            (Request::CrResponse(_), _) => {
                self.reply(if done { "SUCCESS: command succeeded" } else { "ERROR: command failed" });
            }
            (Request::RemoteCount, Answer::Count(count)) => {
                self.reply(&count.to_string());
                self.reply("END");
            }
            (Request::Remotes { .. }, Answer::Lines(lines)) => {
                lines.iter().for_each(|line| self.reply(line));
                self.reply("END");
            }
            _ => self.reply("ERROR: command failed"),
        }
    }

    fn report(&mut self, done: bool, name: &str) {
        let (head, tail) = if done { ("SUCCESS", "succeeded") } else { ("ERROR", "failed") };
        self.reply(&format!("{head}: {name} command {tail}"));
    }
}

fn other_kind(what: &str, got: &str, wanted: &str) -> String {
    format!("ERROR: {what} of type '{got}' entered, but we need one of type '{wanted}'")
}

fn killed(victim: &Victim, count: usize) -> String {
    match victim {
        Victim::Name(name) if count == 0 => format!("ERROR: common name '{name}' not found"),
        Victim::Name(name) => format!("SUCCESS: common name '{name}' found, {count} client(s) killed"),
        Victim::Address { protocol, address } => {
            let protocol = match protocol {
                None => "",
                Some(Protocol::Udp) => "udp:",
                Some(Protocol::Tcp) => "tcp:",
            };
            match count {
                0 => format!("ERROR: client at address {protocol}{address} not found"),
                count => format!("SUCCESS: {count} client(s) at address {protocol}{address} killed"),
            }
        }
    }
}
