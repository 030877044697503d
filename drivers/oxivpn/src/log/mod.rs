//! Log lines as OpenVPN writes them, because other programs read them.

use core::fmt;
use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use oxivpn_profile::Profile;
use oxivpn_profile::profile::{LogFile, LogOptions};

use crate::{clock, privileges, sys};

mod syslog;
mod tap;

pub use tap::{Tap, TappedLine};

/// Writes `$text` to `$log` if its verbosity asks for `$level`.
#[macro_export]
macro_rules! say {
    ($log:expr, $level:ident, $($text:tt)*) => {
        $log.write($crate::log::Level::$level, ::core::format_args!($($text)*))
    };
}

/// How much a line matters: the least `verb` that shows it, and its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The program ends because of it.
    Fatal,
    /// An error that it survives.
    Error,
    /// Something looks wrong.
    Warn,
    /// What a user wants to know.
    Info,
    /// Progress of the connection.
    Notice,
    /// Details of the connection.
    Detail,
    /// Settings and decisions.
    Debug,
    /// Every timer and order.
    Trace,
}

impl Level {
    /// The least `verb` at which it is shown.
    pub const fn verb(self) -> u8 {
        match self {
            Self::Fatal | Self::Error | Self::Warn => 0,
            Self::Info => 1,
            Self::Notice => 2,
            Self::Detail => 3,
            Self::Debug => 4,
            Self::Trace => 7,
        }
    }

    /// Flags in machine-readable output: the level and one bit for the kind (`openvpn: error.h`).
    const fn flags(self) -> u32 {
        match self {
            Self::Fatal => 0x10,
            Self::Error => 0x20,
            Self::Warn => 0x40,
            Self::Debug | Self::Trace => self.verb() as u32 | 0x80,
            Self::Info | Self::Notice | Self::Detail => self.verb() as u32,
        }
    }

    /// Lines of these kinds in a row are cut by `mute`; what a user must see never is.
    const fn may_be_muted(self) -> bool {
        matches!(self, Self::Warn | Self::Notice | Self::Detail | Self::Debug | Self::Trace)
    }
}

/// Bytes of lines that are kept together at most.
const MAX_HELD: usize = 32 * 1024;

/// Where lines go and how they look.
pub struct Log {
    state: Mutex<State>,
    style: Style,
    verb: AtomicU8,
    mute: AtomicU32,
}

struct State {
    sink: Box<dyn Write + Send>,
    last: Option<Level>,
    run: u32,
    tap: Option<Arc<Tap>>,
    /// Lines that wait for [`Log::flush`], if they may.
    held: Option<String>,
}

impl State {
    /// A log that can't be written (a full disk, a closed pipe) must not end a tunnel.
    fn put(&mut self, text: &str) {
        let _ = self.sink.write_all(text.as_bytes()).and_then(|()| self.sink.flush());
    }

    fn flush(&mut self) {
        let Some(mut held) = self.held.take() else { return };
        if !held.is_empty() {
            self.put(&held);
            held.clear();
        }
        self.held = Some(held);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What stands in front of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Dated {
        micros: bool,
    },
    Machine,
    /// The priority, for [`syslog`].
    Syslog,
}

impl Log {
    /// A log to the standard output with the settings that hold before a profile is read.
    pub fn standard() -> Self {
        Self::to(Box::new(io::stdout()), Style::Dated { micros: false }, 1, 0)
    }

    /// The log that a profile asks for. The error names the file.
    pub fn open(options: &LogOptions) -> io::Result<Self> {
        let sink: Box<dyn Write + Send> = match &options.file {
            None => Box::new(io::stdout()),
            Some(file) => Box::new(open_file(file)?),
        };
        Ok(Self::to(sink, Self::style(options), options.verbosity, options.mute))
    }

    /// The log of a process: as [`open`](Self::open), but with `daemon` or `syslog` and without a file the system's
    /// log. The standard output and the standard error go into the file too, so that what scripts write is found there.
    /// A process that gave up its privileges goes on with the file that it has.
    pub fn of_process(profile: &Profile) -> io::Result<Self> {
        let options = &profile.log;
        let of = |sink, style| Self::to(sink, style, options.verbosity, options.mute);
        if let Some(file) = &options.file {
            let sink: Box<dyn Write + Send> = match open_file(file) {
                Ok(file) => {
                    rustix::stdio::dup2_stdout(&file)?;
                    rustix::stdio::dup2_stderr(&file)?;
                    Box::new(file)
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && privileges::dropped() => {
                    Box::new(io::stdout())
                }
                Err(error) => return Err(error),
            };
            return Ok(of(sink, Self::style(options)));
        }
        match profile.process.daemon.as_ref().or(profile.process.syslog.as_ref()) {
            Some(name) => Ok(of(Box::new(syslog::Syslog::open(name)), Style::Syslog)),
            None => Self::open(options),
        }
    }

    fn style(options: &LogOptions) -> Style {
        if options.machine_readable {
            Style::Machine
        } else if options.no_timestamps {
            Style::Plain
        } else {
            Style::Dated { micros: options.verbosity >= 4 }
        }
    }

    /// A log into `sink`, without time stamps.
    pub fn plain(sink: Box<dyn Write + Send>, verb: u8) -> Self {
        Self::to(sink, Style::Plain, verb, 0)
    }

    fn to(sink: Box<dyn Write + Send>, style: Style, verb: u8, mute: u32) -> Self {
        let state = State { sink, last: None, run: 0, tap: None, held: None };
        Self { state: Mutex::new(state), style, verb: verb.into(), mute: mute.into() }
    }

    /// Gives every shown line to `tap` too, in place of the tap before.
    pub fn set_tap(&self, tap: Arc<Tap>) {
        if let Ok(mut state) = self.state.lock() {
            state.tap = Some(tap);
        }
    }

    /// `verb`.
    pub fn verb(&self) -> u8 {
        self.verb.load(Ordering::Relaxed)
    }

    /// Changes `verb`.
    pub fn set_verb(&self, verb: u8) {
        self.verb.store(verb, Ordering::Relaxed);
    }

    /// `mute`.
    pub fn mute(&self) -> u32 {
        self.mute.load(Ordering::Relaxed)
    }

    /// Changes `mute`.
    pub fn set_mute(&self, mute: u32) {
        self.mute.store(mute, Ordering::Relaxed);
    }

    /// Whether lines of this level are shown.
    pub fn shows(&self, level: Level) -> bool {
        level.verb() <= self.verb()
    }

    /// Writes one line; see [`say!`](crate::say).
    pub fn write(&self, level: Level, text: fmt::Arguments<'_>) {
        if self.shows(level) {
            self.write_at(clock::unix(), level, text);
        }
    }

    fn write_at(&self, unix: Duration, level: Level, text: fmt::Arguments<'_>) {
        let Ok(mut state) = self.state.lock() else { return };
        let (mut line, mute) = (String::new(), self.mute());
        if state.last == Some(level) && mute > 0 && level.may_be_muted() {
            state.run += 1;
            if state.run > mute {
                return;
            }
        } else {
            let muted = state.run.saturating_sub(mute);
            if mute > 0 && muted > 0 {
                let note =
                    format_args!("{muted} variation(s) on previous {mute} message(s) suppressed by --mute")
                        .to_string();
                self.render(unix, Level::Info, &note, &mut line);
            }
            state.last = Some(level);
            state.run = 1;
        }
        let text = text.to_string();
        if let Some(tap) = &state.tap {
            tap.push(unix, level, &text);
        }
        self.render(unix, level, &text, &mut line);
        match &mut state.held {
            Some(held) => {
                held.push_str(&line);
                if held.len() > MAX_HELD || level == Level::Fatal {
                    state.flush();
                }
            }
            None => state.put(&line),
        }
    }

    /// Keeps lines together until [`flush`](Self::flush), which a loop calls before it waits: many clients make many
    /// lines. The system's log gets each by itself.
    pub fn hold(&self) {
        if let Ok(mut state) = self.state.lock()
            && self.style != Style::Syslog
        {
            state.held.get_or_insert_default();
        }
    }

    /// Writes what is held.
    pub fn flush(&self) {
        if let Ok(mut state) = self.state.lock() {
            state.flush();
        }
    }

    /// Appends one finished line; control characters from remote text become `?` so that nobody can forge
    /// lines or drive a terminal.
    fn render(&self, unix: Duration, level: Level, text: &str, out: &mut String) {
        use fmt::Write;
        let (seconds, micros) = (unix.as_secs(), unix.subsec_micros());
        // Writing to a string can't fail.
        let _ = match self.style {
            Style::Plain => Ok(()),
            Style::Syslog => write!(out, "<{}>", syslog::priority(level)),
            Style::Machine => write!(out, "{seconds}.{micros:06} {:x} ", level.flags()),
            Style::Dated { micros: with_micros } => {
                let t = sys::local_time(seconds);
                let _ = write!(
                    out,
                    "{:04}-{:02}-{:02} {:02}:{:02}:{:02} ",
                    t.year, t.month, t.day, t.hour, t.minute, t.second
                );
                if with_micros { write!(out, "us={micros} ") } else { Ok(()) }
            }
        };
        out.extend(text.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }));
        out.push('\n');
    }
}

/// Opens a log file; the error names it. It is always appended to, so that what others write there, such as scripts,
/// is not overwritten.
fn open_file(log: &LogFile) -> io::Result<File> {
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&log.path).and_then(|file| {
        if !log.append && file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(file)
    });
    opened.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot open log file {}: {error}", log.path.display()))
    })
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("style", &self.style).field("verb", &self.verb()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
