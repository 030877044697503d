//! A second reader of the log: the management interface.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Mutex;

use super::Level;

/// Lines that wait to be taken; if nobody takes them the oldest go.
const WAITING: usize = 1000;

/// Keeps what is logged until it is taken.
#[derive(Debug, Default)]
pub struct Tap {
    lines: Mutex<VecDeque<TappedLine>>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TappedLine {
    /// When, in seconds since 1970.
    pub unix: u64,
    /// Its kind.
    pub level: Level,
    /// Text without time stamp.
    pub text: String,
}

impl Tap {
    /// The oldest line that waits.
    pub fn take(&self) -> Option<TappedLine> {
        self.lines.lock().ok()?.pop_front()
    }

    pub(super) fn push(&self, unix: Duration, level: Level, text: &str) {
        let Ok(mut lines) = self.lines.lock() else { return };
        if lines.len() == WAITING {
            lines.pop_front();
        }
        lines.push_back(TappedLine { unix: unix.as_secs(), level, text: text.to_owned() });
    }
}
