//! Typed, bounded parse of PUSH_REPLY (`openvpn: push.c`, `options_parse.c`, `apply_push_options`).

use super::lexer;
use super::pushed::Pushed;
use super::values::OptionError;
use crate::config::{FilterAction, PullPolicy};
use crate::limits::{MAX_PUSH_BYTES, MAX_PUSH_OPTIONS};

/// Collects the parts of a PUSH_REPLY until the last has come.
#[derive(Debug, Default)]
pub struct PushAccumulator {
    reply: PushReply,
    bytes: usize,
    count: usize,
}

/// Whether more parts will come.
#[derive(Debug)]
pub enum PushState {
    /// `push-continuation 2` was in the part: wait for the next.
    More,
    /// That was all. The accumulator is empty again and takes a later PUSH_REPLY.
    Complete(PushReply),
}

/// A whole PUSH_REPLY.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushReply {
    /// Typed options in the order they came.
    pub options: Vec<Pushed>,
    /// Options that are unknown, malformed, or not permitted: printable text and reason, one line each.
    /// Options that `pull-filter ignore` took out are not among them.
    pub ignored: Vec<String>,
}

/// Why a PUSH_REPLY ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// `pull-filter reject` met this option.
    #[error("offending option received from server: {0}")]
    Rejected(String),
    /// More than `MAX_PUSH_BYTES` bytes or `MAX_PUSH_OPTIONS` options.
    #[error(
        "the server pushed more than {} bytes or {} options",
        crate::limits::MAX_PUSH_BYTES,
        crate::limits::MAX_PUSH_OPTIONS
    )]
    TooLarge,
}

impl PushAccumulator {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one message: the text after `PUSH_REPLY`, which is empty or begins with a comma. After an
    /// error the parts collected so far are gone.
    pub fn feed(&mut self, message: &str, policy: &PullPolicy) -> Result<PushState, PushError> {
        let result = self.collect(message, policy);
        if matches!(result, Ok(true)) {
            return Ok(PushState::More);
        }
        let done = core::mem::take(self);
        result.map(|_| PushState::Complete(done.reply))
    }

    /// Takes one message; tells whether another follows.
    fn collect(&mut self, message: &str, policy: &PullPolicy) -> Result<bool, PushError> {
        self.bytes = self.bytes.saturating_add(message.len());
        if self.bytes > MAX_PUSH_BYTES {
            return Err(PushError::TooLarge);
        }
        let mut more = false;
        for line in message.split(',') {
            let line = line.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
            if line.is_empty() {
                continue;
            }
            self.count += 1;
            if self.count > MAX_PUSH_OPTIONS {
                return Err(PushError::TooLarge);
            }
            if let Some(follows) = continuation(line) {
                more = follows;
            } else {
                self.option(line, policy)?;
            }
        }
        Ok(more)
    }

    fn option(&mut self, line: &str, policy: &PullPolicy) -> Result<(), PushError> {
        let filter = policy.filters.iter().find(|(_, prefix)| line.starts_with(prefix.as_str()));
        match filter {
            Some((FilterAction::Ignore, _)) => return Ok(()),
            Some((FilterAction::Reject, _)) => return Err(PushError::Rejected(shown(line))),
            Some((FilterAction::Accept, _)) | None => {}
        }
        match typed(line, policy) {
            Ok(Some(option)) => self.reply.options.push(option),
            Ok(None) => {}
            Err(reason) => self.reply.ignored.push(format!("{}: {}", shown(line), printable(&reason))),
        }
        Ok(())
    }
}

/// The typed option, or nothing if the line is a comment, or why it can't be taken.
fn typed(line: &str, policy: &PullPolicy) -> Result<Option<Pushed>, String> {
    let words = lexer::split(line).map_err(|error| error.to_string())?;
    let Some(name) = words.first() else { return Ok(None) };
    if policy.no_routes && is_route_class(name) {
        return Err("not taken because of route-nopull".into());
    }
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    Pushed::parse(&words).map(Some).map_err(|error: OptionError| error.to_string())
}

/// What `push-continuation` says: another part follows or not. It belongs to the framing of the message,
/// so filters don't see it.
fn continuation(line: &str) -> Option<bool> {
    let mut words = line.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("push-continuation"), Some("2"), None) => Some(true),
        (Some("push-continuation"), Some("0" | "1"), None) => Some(false),
        _ => None,
    }
}

/// Options that `route-nopull` takes out: OpenVPN's permission classes for routes, and for DHCP and DNS.
fn is_route_class(name: &str) -> bool {
    matches!(
        name,
        "route"
            | "route-ipv6"
            | "route-metric"
            | "redirect-gateway"
            | "redirect-private"
            | "block-ipv6"
            | "client-nat"
            | "dhcp-option"
            | "dns"
            | "block-outside-dns"
            | "register-dns"
            | "ip-win32"
            | "tap-sleep"
            | "dhcp-renew"
            | "dhcp-release"
            | "dhcp-pre-release"
    )
}

/// The line for a message: printable, of bounded length, without a session token.
fn shown(line: &str) -> String {
    if line.contains("auth-token") { "auth-token [redacted]".into() } else { printable(line) }
}

/// Text of bounded length without control characters; reasons repeat values, too.
fn printable(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut out: String = text.chars().take(LONGEST).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
#[path = "push_reply/tests.rs"]
mod tests;
