//! A program at the other end of a management interface.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::process::poll;

/// A connection to the interface.
#[derive(Debug)]
pub struct Management {
    reader: BufReader<UnixStream>,
    /// Lines so far, those that came unasked too.
    pub seen: Vec<String>,
    partial: Vec<u8>,
    next: usize,
}

impl Management {
    /// Connects to a unix socket, which may take a moment to appear.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = poll(Duration::from_secs(5), || Ok(UnixStream::connect(socket).ok()))?;
        let stream = stream.context("nobody listens at the management interface's socket")?;
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self { reader: BufReader::new(stream), seen: Vec::new(), partial: Vec::new(), next: 0 })
    }

    /// Sends a line.
    pub fn send(&mut self, line: &str) -> Result<()> {
        self.reader.get_mut().write_all(format!("{line}\n").as_bytes()).context("management interface")
    }

    /// The next line that the pattern matches, after the one that was found last.
    pub fn wait_for(&mut self, pattern: &str) -> Result<String> {
        let regex = Regex::new(pattern)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            while let Some(line) = self.seen.get(self.next) {
                self.next += 1;
                if regex.is_match(line) {
                    return Ok(line.clone());
                }
            }
            if Instant::now() > deadline || !self.read()? {
                bail!("management: no line like /{pattern}/ in\n{}", self.seen.join("\n"));
            }
        }
    }

    /// Looks through all lines again from the first.
    pub fn next_from_start(&mut self) {
        self.next = 0;
    }

    /// Sends a command and returns the lines of the answer up to `END`, `SUCCESS` or `ERROR`, without what came unasked.
    pub fn ask(&mut self, command: &str) -> Result<Vec<String>> {
        self.next = self.seen.len();
        let first = self.next;
        self.send(command)?;
        self.wait_for("^(END$|SUCCESS|ERROR)").with_context(|| command.to_owned())?;
        Ok(self.seen[first..self.next].iter().filter(|line| !line.starts_with('>')).cloned().collect())
    }

    /// Takes a line if there is one soon; `false` at the end of the stream.
    fn read(&mut self) -> Result<bool> {
        match self.reader.read_until(b'\n', &mut self.partial) {
            Ok(0) => Ok(false),
            Ok(_) => {
                self.seen.push(String::from_utf8_lossy(&self.partial).trim_end().to_owned());
                self.partial.clear();
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(true),
            Err(error) => Err(error).context("management interface"),
        }
    }
}
