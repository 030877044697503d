//! What a person looks at after a run: a log as text, packets for Wireshark, pages for a browser.
//!
//! Everything here reads a [`Tape`](crate::trace::Tape) or figures that the caller gives, and writes to an
//! [`std::io::Write`]; no file is opened. The same input gives the same bytes.
//!
//! - [`text::write`]: the event log, a line for each event.
//! - [`pcap::write`]: the packets, with the secrets of TLS, as pcapng.
//! - [`html::write_run`]: one page for one run, with the time line of each machine.
//! - [`html::write_sweep`]: one page for many runs.

use core::fmt;

use oxivpn_proto::Instant;

pub mod html;
pub mod pcap;
pub mod text;

#[cfg(test)]
mod samples;

/// Unix time in seconds at the virtual time zero: the first second of 2026.
pub const CALENDAR_START: u64 = 1_767_225_600;

/// What stands above a report of one run.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The seed of the world.
    pub seed: u64,
    /// Which code ran.
    pub commit: &'a str,
    /// The plan, readable; it may have several lines.
    pub plan: &'a str,
    /// The command that does this run once more; may be empty.
    pub replay: &'a str,
    /// What went wrong; none if nothing did.
    pub failure: Option<&'a str>,
    /// The virtual time at the end.
    pub end: Instant,
}

/// A virtual time as `h:mm:ss.uuuuuu`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(pub(crate) Instant);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_nanos() / 1_000;
        let seconds = micros / 1_000_000;
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        write!(f, "{hours}:{minutes:02}:{:02}.{:06}", seconds % 60, micros % 1_000_000)
    }
}
