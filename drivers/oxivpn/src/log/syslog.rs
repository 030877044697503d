//! The system's log as the place where lines go.

use std::io::{self, Write};

use super::Level;
use crate::sys;

/// Priority of a line of this level (`openvpn: error.c`, `x_msg_va`).
pub(super) const fn priority(level: Level) -> i32 {
    match level {
        Level::Fatal | Level::Error => libc::LOG_ERR,
        Level::Warn => libc::LOG_WARNING,
        Level::Info | Level::Notice | Level::Detail | Level::Debug | Level::Trace => libc::LOG_NOTICE,
    }
}

/// Takes whole lines with their priority in front, `<5>text`, and hands them on without it.
#[derive(Debug)]
pub(super) struct Syslog(());

impl Syslog {
    /// Logs under this name from now on.
    pub(super) fn open(name: &str) -> Self {
        sys::open_syslog(name);
        Self(())
    }
}

impl Write for Syslog {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        for (priority, text) in String::from_utf8_lossy(lines).lines().map(split) {
            sys::syslog(priority, text);
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn split(line: &str) -> (i32, &str) {
    let parts = line.strip_prefix('<').and_then(|line| line.split_once('>'));
    match parts.map(|(priority, text)| (priority.parse(), text)) {
        Some((Ok(priority), text)) => (priority, text),
        _ => (libc::LOG_NOTICE, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_priority_is_taken_off() {
        assert_eq!(split("<3>ERROR: <x>"), (libc::LOG_ERR, "ERROR: <x>"));
        assert_eq!(split("plain"), (libc::LOG_NOTICE, "plain"));
        assert_eq!(split("<x>plain"), (libc::LOG_NOTICE, "<x>plain"));
    }
}
