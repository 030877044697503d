//! How a server ends, or begins anew.

use core::time::Duration;

use anyhow::Result;
use oxivpn_proto::{Instant, Path};

use super::Server;
use super::worker::Command;
use crate::client::{Outcome, Signal};
use crate::manage::State;
use crate::say;
use crate::scripts::kinds::Hook;

/// How long clients have to acknowledge that the server ends (`openvpn: multi.c`, `multi_push_restart_schedule_exit`).
const NOTIFY: Duration = Duration::from_secs(2);

/// How long scripts have at the end.
const SCRIPTS: Duration = Duration::from_secs(5);

/// Where the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It takes clients.
    Running,
    /// Clients are told that it ends.
    Notifying { signal: Signal, until: Instant },
    /// Sessions are over, scripts are told.
    Ending { signal: Signal, until: Instant },
    /// It has ended.
    Over(Outcome),
}

impl Phase {
    pub(super) const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Notifying { until, .. } | Self::Ending { until, .. } => Some(until),
            Self::Running | Self::Over(_) => None,
        }
    }
}

impl Server {
    /// Takes a signal.
    pub fn signal(&mut self, now: Instant, signal: Signal) {
        match (signal, self.phase) {
            (Signal::Usr2, _) => {
                self.statistics_wanted = true;
                self.commands.extend([Command::AskUsage, Command::AskTotals]);
            }
            (Signal::Int | Signal::Term, Phase::Notifying { .. } | Phase::Ending { .. }) => {
                // Whoever asks twice does not want to wait.
                self.phase = Phase::Ending { signal, until: now };
            }
            (_, Phase::Running) => self.begin_end(now, signal),
            _ => {}
        }
    }

    /// Says goodbye where the profile wants it.
    fn begin_end(&mut self, now: Instant, signal: Signal) {
        self.node.stop_listening();
        let message = match self.options.exit_notify {
            0 => None,
            1 => Some("RESTART"),
            _ => Some("RESTART,[N]"),
        };
        let over_udp: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, client)| client.connected && matches!(client.path, Path::Datagram { .. }))
            .map(|(session, client)| (session, client.prefix.clone(), client.shown_name().to_owned()))
            .collect();
        match message {
            Some(message) if !over_udp.is_empty() => {
                for (session, prefix, name) in over_udp {
                    say!(self.log, Detail, "{prefix}SENT CONTROL [{name}]: '{message}' (status=1)");
                    self.node.dismiss(now, session, message);
                }
                self.phase = Phase::Notifying { signal, until: now + NOTIFY };
            }
            _ => self.end_sessions(now, signal),
        }
    }

    fn end_sessions(&mut self, now: Instant, signal: Signal) {
        let sessions: Vec<_> = self.clients.iter().map(|(session, _)| session).collect();
        for session in sessions {
            self.node.abort(now, session);
        }
        self.phase = Phase::Ending { signal, until: now + SCRIPTS };
    }

    /// Moves on towards the end.
    pub(super) fn advance(&mut self, now: Instant) -> Result<()> {
        if let Phase::Notifying { signal, until } = self.phase
            && until <= now
        {
            self.end_sessions(now, signal);
            self.drain(now);
        }
        if let Phase::Ending { signal, until } = self.phase {
            let done = self.clients.is_empty() && self.leaving.is_empty() && self.hooks.scripts.open() == 0;
            if done || until <= now {
                return self.end(now, signal);
            }
        }
        Ok(())
    }

    /// Takes the device away, with its scripts before and after. There is no client any more that would wait for them.
    fn take_down(&mut self, signal: Signal) -> Result<()> {
        self.around.env().set("signal", signal.name().to_ascii_lowercase());
        self.around.run(Hook::RoutePreDown)?;
        if self.around.down_first() {
            self.around.run(Hook::Down)?;
        }
        self.host.tear_down();
        self.crew.set_device(None);
        if !self.around.down_first() {
            self.around.run(Hook::Down)?;
        }
        Ok(())
    }

    fn end(&mut self, now: Instant, signal: Signal) -> Result<()> {
        self.write_pool(now);
        self.write_status(now);
        self.tell_end(signal);
        let restart = signal == Signal::Usr1;
        if !restart || !self.profile.device.persist {
            self.take_down(signal)?;
        }
        let what = if matches!(signal, Signal::Int | Signal::Term) { "exiting" } else { "restarting" };
        say!(self.log, Info, "{}[hard,] received, process {what}", signal.name());
        match signal {
            Signal::Hup => self.phase = Phase::Over(Outcome::Reload),
            Signal::Usr1 => {
                if !self.profile.device.persist {
                    let mtu = self.options.tun_mtu;
                    let device = self.host.set_up(&self.profile, mtu, &mut self.around)?;
                    self.crew.set_device(device);
                }
                self.phase = Phase::Running;
                self.begin();
                self.tell_state(State::Connected, "SUCCESS");
            }
            Signal::Int | Signal::Term | Signal::Usr2 => self.phase = Phase::Over(Outcome::Left),
        }
        Ok(())
    }
}
