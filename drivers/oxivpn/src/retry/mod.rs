//! What happens after a connection ended: leave, or try which server when. Pure decisions, no clock.

use core::time::Duration;

use oxivpn_profile::profile::{AuthRetry, RestartAs};
use oxivpn_proto::event::{Advance, CloseCause};

/// Longest doubling of the wait (`openvpn: init.c`, `socket_restart_pause`).
const MAX_DOUBLINGS: u32 = 15;

/// Rounds through all servers before the wait doubles (same place).
const PATIENT_ROUNDS: u32 = 4;

/// Wait between attempts with `auth-retry nointeract`: the server refuses the same password each time.
const NOINTERACT_WAIT: Duration = Duration::from_secs(10);

/// Settings that decide, all from the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Number of servers in the profile; at least 1.
    pub remotes: u32,
    /// `connect-retry-max`: rounds through all of them; `None` for ever.
    pub rounds: Option<u32>,
    /// `auth-retry`.
    pub auth: AuthRetry,
    /// `tls-exit`.
    pub tls_exit: bool,
    /// `remap-usr1`.
    pub remap: Option<RestartAs>,
}

/// Goes through the servers as OpenVPN does (`openvpn: init.c`, `next_connection_entry`).
#[derive(Debug)]
pub struct Retry {
    rules: Rules,
    current: Option<u32>,
    attempts: u32,
    stay: bool,
    skip_addresses: bool,
    backoff: Option<Duration>,
}

/// Where the next attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The address used before.
    SameAddress,
    /// The next address of the same server.
    NextAddress,
    /// The server with this index: resolve its name, take its first address.
    Remote(usize),
    /// `connect-retry-max` is reached.
    GiveUp,
}

/// What to do about the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Leave or try again.
    pub action: Action,
    /// OpenVPN's word for the reason, as in `SIGUSR1[soft,ping-restart]`.
    pub reason: &'static str,
    /// What becomes of user name, password and token.
    pub credentials: Forget,
}

/// Leave or try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// As after SIGTERM.
    Leave,
    /// As after SIGUSR1: connect again.
    Restart,
    /// As after SIGHUP: read the profile again, then connect.
    Reload,
}

/// What becomes of user name, password and token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// All stay.
    Nothing,
    /// The token goes, user name and password stay.
    Token,
    /// All go; what came from the profile or a file is used again, what was typed is asked for again.
    All,
    /// All go and are asked for, also where a file named them.
    AndAsk,
}

impl Retry {
    /// Nothing tried so far.
    pub const fn new(rules: Rules) -> Self {
        Self { rules, current: None, attempts: 0, stay: false, skip_addresses: false, backoff: None }
    }

    /// Changes `auth-retry`.
    pub const fn set_auth(&mut self, auth: AuthRetry) {
        self.rules.auth = auth;
    }

    /// Where to try next. `more_addresses`: the name of the present server resolved to further ones.
    pub fn next(&mut self, more_addresses: bool) -> Next {
        let next = match self.current {
            Some(_) if self.stay => Next::SameAddress,
            Some(_) if more_addresses && !self.skip_addresses => Next::NextAddress,
            current => {
                self.attempts = self.attempts.saturating_add(1);
                let index = current.map_or(0, |i| (i + 1) % self.rules.remotes.max(1));
                self.current = Some(index);
                Next::Remote(index as usize)
            }
        };
        self.stay = false;
        self.skip_addresses = false;
        match self.rules.rounds {
            Some(rounds) if self.attempts > rounds.saturating_mul(self.rules.remotes) => Next::GiveUp,
            _ => next,
        }
    }

    /// How long to wait before the next attempt; `wait` and `longest` are `connect-retry` of the server tried
    /// last (`openvpn: init.c`, `socket_restart_pause`).
    pub fn pause(&mut self, wait: Duration, longest: Duration) -> Duration {
        let mut pause = if self.rules.auth == AuthRetry::NoInteract { NOINTERACT_WAIT } else { wait };
        let doublings = (self.attempts / self.rules.remotes.max(1)).saturating_sub(PATIENT_ROUNDS);
        if doublings > 0 {
            pause = pause.max(Duration::from_secs(1)).saturating_mul(1 << doublings.min(MAX_DOUBLINGS));
        }
        if let Some(backoff) = self.backoff.take() {
            pause = pause.max(backoff);
        }
        pause.min(longest)
    }

    /// The connection works: the next attempt, whenever it comes, starts with the same address.
    pub const fn established(&mut self) {
        self.attempts = 0;
        self.stay = true;
    }

    /// Decides what to do about `cause`.
    pub fn judge(&mut self, cause: &CloseCause) -> Verdict {
        let (action, reason, credentials) = self.decide(cause);
        let action = match (action, self.rules.remap) {
            (Action::Restart, Some(RestartAs::Hup)) => Action::Reload,
            (Action::Restart, Some(RestartAs::Term)) => Action::Leave,
            (action, _) => action,
        };
        Verdict { action, reason, credentials }
    }

    fn decide(&mut self, cause: &CloseCause) -> (Action, &'static str, Forget) {
        use Action::{Leave, Restart};
        match cause {
            CloseCause::ServerPoll => (Restart, "server_poll", Forget::Nothing),
            CloseCause::HandWindow | CloseCause::Tls(_) => {
                let action = if self.rules.tls_exit { Leave } else { Restart };
                (action, "tls-error", Forget::Nothing)
            }
            CloseCause::NoPushReply => (Restart, "no-push-reply", Forget::Nothing),
            CloseCause::PingRestart => (Restart, "ping-restart", Forget::Nothing),
            CloseCause::PingExit => (Leave, "ping-exit", Forget::Nothing),
            CloseCause::Inactive => (Leave, "inactive", Forget::Nothing),
            CloseCause::SessionTimeout => (Leave, "session-timeout", Forget::Nothing),
            CloseCause::AuthFailed { was_token: true, .. } => {
                self.stay = true;
                (Restart, "auth-failure (auth-token)", Forget::Token)
            }
            CloseCause::AuthFailed { .. } => {
                self.stay = true;
                match self.rules.auth {
                    AuthRetry::None => (Leave, "auth-failure", Forget::All),
                    AuthRetry::NoInteract => (Restart, "auth-failure", Forget::Nothing),
                    AuthRetry::Interact => (Restart, "auth-failure", Forget::AndAsk),
                }
            }
            CloseCause::AuthTemporary { backoff, advance, .. } => {
                self.backoff = backoff.map(|seconds| Duration::from_secs(seconds.into()));
                self.stay = *advance == Advance::No;
                self.skip_addresses = *advance == Advance::Remote;
                (Restart, "auth-temp-failure (server temporary reject)", Forget::Nothing)
            }
            CloseCause::Restart { keep_credentials, advance, .. } => {
                if *advance {
                    self.stay = false;
                }
                let credentials = if *keep_credentials { Forget::Nothing } else { Forget::All };
                (Restart, "server-pushed-connection-reset", credentials)
            }
            CloseCause::Halt { .. } => (Leave, "server-pushed-halt", Forget::All),
            CloseCause::PeerExit => (Restart, "remote-exit", Forget::Nothing),
            CloseCause::Cipher(_) | CloseCause::Push(_) => {
                (Restart, "process-push-msg-failed", Forget::Nothing)
            }
            CloseCause::RejectedOption(_) => {
                (Restart, "Offending option received from server", Forget::Nothing)
            }
            CloseCause::StreamClosed => (Restart, "connection-reset", Forget::Nothing),
            CloseCause::Local => (Leave, "exit-with-notification", Forget::Nothing),
            // A misbehaving peer, and causes that later versions of the core may add.
            _ => (Restart, "protocol-error", Forget::Nothing),
        }
    }
}

#[cfg(test)]
mod tests;
