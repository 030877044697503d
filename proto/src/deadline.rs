//! Deadlines with a reason.

use crate::clock::Instant;

/// Why a session or node wants to be woken. Printed in traces and asserted in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Timer {
    /// No answer to the first packet within `server-poll-timeout`.
    ServerPoll,
    /// Key negotiation not done within `hand-window`.
    HandWindow,
    /// A reliable control packet is due again.
    Retransmit,
    /// Something can be sent at once.
    Transmit,
    /// The next PUSH_REQUEST is due.
    PushRequest,
    /// No PUSH_REPLY within the time allowed.
    PushTimeout,
    /// No verdict of the application within the time allowed.
    Verdict,
    /// A client's token is due to be renewed.
    Token,
    /// `reneg-sec` has passed.
    Renegotiate,
    /// The new key becomes the sending key.
    Promote,
    /// The old key's `tran-window` has passed.
    RetireKey,
    /// `ping`: look whether anything was sent.
    Ping,
    /// `ping-restart` or `ping-exit`: look whether anything arrived.
    PingTimeout,
    /// `inactive`: look how much traffic there was.
    Inactive,
    /// `session-timeout` has passed.
    SessionTimeout,
    /// Time to leave after an exit notification.
    Leave,
}

/// When to call `handle_timeout` next, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// The latest useful time for the call. It may be in the past.
    pub at: Instant,
    /// The reason.
    pub why: Timer,
}

impl Deadline {
    /// The earlier of two optional deadlines.
    pub fn earliest(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}
