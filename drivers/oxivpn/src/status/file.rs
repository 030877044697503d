//! The status file.

use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use oxivpn_profile::server::StatusOptions;
use oxivpn_proto::Instant;

use super::{Snapshot, render};
use crate::log::Log;
use crate::say;

/// A file that is written again and again. It stays open, so that it can be written after the program gave its
/// privileges up (`openvpn: status.c`).
#[derive(Debug)]
pub struct StatusFile {
    file: Option<File>,
    every: Duration,
    version: u8,
    due: Instant,
}

impl StatusFile {
    /// Creates or empties the file. If that fails, the log says so and nothing is written, as in OpenVPN.
    pub fn open(options: &StatusOptions, log: &Log, now: Instant) -> Self {
        let mut how = OpenOptions::new();
        let file = how.create(true).truncate(true).write(true).mode(0o600).open(&options.path);
        if let Err(error) = &file {
            say!(log, Warn, "Note: cannot open {} for WRITE: {error}", options.path.display());
        }
        let version = options.version;
        Self { file: file.ok(), every: options.every, version, due: now + options.every }
    }

    /// When to write it next; `None` if only the end writes it.
    pub fn deadline(&self) -> Option<Instant> {
        (self.file.is_some() && !self.every.is_zero()).then_some(self.due)
    }

    /// Whether it is time to [`StatusFile::write`].
    pub fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|due| due <= now)
    }

    /// Writes the table over the one before. Call it once more at the end.
    pub fn write(&mut self, now: Instant, snapshot: &Snapshot) -> io::Result<()> {
        self.due = now + self.every;
        let Some(file) = &self.file else { return Ok(()) };
        let text = render(snapshot, self.version);
        // Written before it is cut, so that a reader never finds it empty.
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::TunnelStatus;
    use super::*;

    #[test]
    fn it_is_replaced_at_its_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        let log = Log::plain(Box::new(io::sink()), 0);
        let start = Instant::from_nanos(1_000_000_000);
        let every = Duration::from_secs(60);
        let options = StatusOptions { path: path.clone(), every, version: 2 };
        let mut file = StatusFile::open(&options, &log, start);
        assert_eq!(file.deadline(), Some(start + every));
        assert!(!file.is_due(start) && file.is_due(start + every));
        for link_read in [1_000_000, 5] {
            let snapshot = Snapshot::Tunnel(TunnelStatus { link_read, ..TunnelStatus::default() });
            file.write(start + every, &snapshot).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), render(&snapshot, 2));
        }
        assert_eq!(file.deadline(), Some(start + every + every));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_left_out() {
        let log = Log::plain(Box::new(io::sink()), 0);
        let options =
            StatusOptions { path: "/nonexistent/x".into(), every: Duration::from_secs(1), version: 1 };
        let mut file = StatusFile::open(&options, &log, Instant::ZERO);
        assert_eq!(file.deadline(), None);
        file.write(Instant::ZERO, &Snapshot::Tunnel(TunnelStatus::default())).unwrap();
    }
}
