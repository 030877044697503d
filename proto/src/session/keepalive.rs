//! Pings and timeouts, lazily: packets store a time, deadlines ask for it.

use core::time::Duration;

use crate::clock::Instant;
use crate::config::{Keepalive as Settings, PingTimeout};
use crate::deadline::{Deadline, Timer};
use crate::event::CloseCause;
use crate::options::pushed::Pushed;
use crate::report::Totals;

/// `ping-restart` of a pulling client that has no other setting (`openvpn: helper.c`).
const DEFAULT_RESTART: Duration = Duration::from_secs(120);

/// How long to wait for the data plane's answer before asking again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// So many questions in a row without an answer end the session: a plane that is silent for a minute is dead, and with
/// it every timeout that it is asked for. It is the number that counts, not the time, so that a program that was
/// stopped for long doesn't take itself for dead. OpenVPN looks at counters of its own, and has no such case.
const MAX_UNANSWERED: u8 = 60;

/// What a deadline or an answer leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask the data plane what happened lately.
    Ask,
    /// Send a ping.
    Ping,
    /// End the session.
    Close(CloseCause),
}

/// Keepalive of one session.
#[derive(Debug)]
pub(crate) struct Keepalive {
    settings: Settings,
    control_rx: Instant,
    control_tx: Instant,
    ping_due: Option<Instant>,
    timeout_due: Option<Instant>,
    inactive_due: Option<Instant>,
    inactive_base: u64,
    session_end: Option<Instant>,
    /// The data plane was asked; don't ask again before this time.
    hold: Instant,
    /// Questions since the last answer.
    unanswered: u8,
    /// Whether a data plane has the peer and can be asked.
    up: bool,
    /// Whether silence ends the session even if no setting says when: a client's has a default.
    pulls: bool,
}

impl Keepalive {
    pub(crate) fn new(now: Instant, settings: Settings, pulls: bool) -> Self {
        let mut keepalive = Self {
            settings,
            control_rx: now,
            control_tx: now,
            ping_due: None,
            timeout_due: None,
            inactive_due: None,
            inactive_base: 0,
            session_end: None,
            hold: Instant::ZERO,
            unanswered: 0,
            up: false,
            pulls,
        };
        if pulls {
            keepalive.timeout_due = keepalive.timeout().map(|after| now + after);
        }
        keepalive
    }

    /// What a server decided for one client.
    pub(crate) fn restrict(&mut self, session: Option<Duration>, inactive: Option<(Duration, u64)>) {
        self.settings.session = session.or(self.settings.session);
        self.settings.inactive = inactive.or(self.settings.inactive);
    }

    /// Takes pushed settings over and starts pinging.
    pub(crate) fn start(&mut self, now: Instant, options: &[Pushed]) {
        for option in options {
            match *option {
                Pushed::Ping(every) => self.settings.ping = Some(every),
                Pushed::PingRestart(after) => self.settings.timeout = Some(PingTimeout::Restart(after)),
                Pushed::PingExit(after) => self.settings.timeout = Some(PingTimeout::Exit(after)),
                Pushed::Inactive(after, bytes) => self.settings.inactive = Some((after, bytes)),
                Pushed::SessionTimeout(after) => self.settings.session = Some(after),
                _ => {}
            }
        }
        self.up = true;
        let after = |duration: Duration| (!duration.is_zero()).then(|| now + duration);
        self.ping_due = self.settings.ping.and_then(after);
        self.timeout_due = self.timeout().and_then(after);
        self.inactive_due = self.settings.inactive.and_then(|(duration, _)| after(duration));
        self.session_end = self.settings.session.and_then(after);
    }

    fn timeout(&self) -> Option<Duration> {
        let after = match self.settings.timeout {
            None if self.pulls => DEFAULT_RESTART,
            None => return None,
            Some(PingTimeout::Restart(after) | PingTimeout::Exit(after)) => after,
        };
        (!after.is_zero()).then_some(after)
    }

    pub(crate) fn on_control_received(&mut self, now: Instant) {
        self.control_rx = now;
    }

    pub(crate) fn on_control_sent(&mut self, now: Instant) {
        self.control_tx = now;
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let asking = [
            (self.ping_due, Timer::Ping),
            (self.timeout_due, Timer::PingTimeout),
            (self.inactive_due, Timer::Inactive),
        ];
        let asking =
            asking.into_iter().filter_map(|(at, why)| at.map(|at| Deadline { at: at.max(self.hold), why }));
        asking.chain(self.session_end.map(|at| Deadline { at, why: Timer::SessionTimeout })).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Action> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.session_end) {
            return Some(Action::Close(CloseCause::SessionTimeout));
        }
        if !self.up {
            return due(self.timeout_due).then(|| self.judge_timeout(now, self.control_rx)).flatten();
        }
        let any = [self.ping_due, self.timeout_due, self.inactive_due].into_iter().any(due);
        if !any || self.hold > now {
            return None;
        }
        if self.unanswered >= MAX_UNANSWERED {
            return Some(Action::Close(CloseCause::PlaneSilent));
        }
        self.unanswered += 1;
        self.hold = now + ASK_AGAIN;
        Some(Action::Ask)
    }

    /// Judges by the data plane's answer; `last_rx` and `last_tx` are those of data packets.
    pub(crate) fn on_activity(
        &mut self,
        now: Instant,
        last_rx: Instant,
        last_tx: Instant,
        totals: Totals,
    ) -> Option<Action> {
        self.hold = Instant::ZERO;
        self.unanswered = 0;
        if let Some(close) = self.judge_timeout(now, last_rx.max(self.control_rx)) {
            return Some(close);
        }
        if let Some((after, bytes)) = self.settings.inactive.filter(|_| self.inactive_due.is_some()) {
            let sum = totals.rx_bytes.saturating_add(totals.tx_bytes);
            // Counters of a plane that took over from another start anew.
            if sum.saturating_sub(self.inactive_base) >= bytes.max(1) {
                self.inactive_base = sum;
                self.inactive_due = Some(now + after);
            } else if self.inactive_due.is_some_and(|at| at <= now) {
                return Some(Action::Close(CloseCause::Inactive));
            }
        }
        let every = self.settings.ping.filter(|every| !every.is_zero())?;
        let due = last_tx.max(self.control_tx) + every;
        if due <= now {
            self.ping_due = Some(now + every);
            return Some(Action::Ping);
        }
        self.ping_due = Some(due);
        None
    }

    fn judge_timeout(&mut self, now: Instant, last_rx: Instant) -> Option<Action> {
        let due = last_rx + self.timeout()?;
        if due > now {
            self.timeout_due = Some(due);
            return None;
        }
        Some(Action::Close(match self.settings.timeout {
            Some(PingTimeout::Exit(_)) => CloseCause::PingExit,
            Some(PingTimeout::Restart(_)) | None => CloseCause::PingRestart,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn started(options: &[Pushed]) -> Keepalive {
        let mut keepalive = Keepalive::new(at(0), Settings::default(), true);
        keepalive.start(at(0), options);
        keepalive
    }

    #[test]
    fn before_the_tunnel_is_up_silence_ends_it_after_120_seconds() {
        let mut keepalive = Keepalive::new(at(0), Settings::default(), true);
        assert_eq!(keepalive.deadline(), Some(Deadline { at: at(120), why: Timer::PingTimeout }));
        keepalive.on_control_received(at(10));
        assert_eq!(keepalive.handle_timeout(at(120)), None);
        assert_eq!(keepalive.deadline().map(|d| d.at), Some(at(130)));
        assert_eq!(keepalive.handle_timeout(at(130)), Some(Action::Close(CloseCause::PingRestart)));
    }

    #[test]
    fn traffic_moves_the_ping_and_silence_sends_it() {
        let mut keepalive = started(&[Pushed::Ping(secs(10)), Pushed::PingRestart(secs(60))]);
        assert_eq!(keepalive.deadline(), Some(Deadline { at: at(10), why: Timer::Ping }));
        assert_eq!(keepalive.handle_timeout(at(10)), Some(Action::Ask));
        assert_eq!(keepalive.handle_timeout(at(10)), None, "asked once");
        assert_eq!(keepalive.on_activity(at(10), at(8), at(9), Totals::default()), None);
        assert_eq!(keepalive.deadline(), Some(Deadline { at: at(19), why: Timer::Ping }));
        assert_eq!(keepalive.handle_timeout(at(19)), Some(Action::Ask));
        assert_eq!(keepalive.on_activity(at(19), at(8), at(9), Totals::default()), Some(Action::Ping));
        assert_eq!(
            keepalive.on_activity(at(68), at(8), at(60), Totals::default()),
            Some(Action::Close(CloseCause::PingRestart))
        );
    }

    #[test]
    fn control_packets_count_as_life() {
        let mut keepalive = started(&[Pushed::PingExit(secs(60))]);
        keepalive.on_control_received(at(50));
        assert_eq!(keepalive.on_activity(at(60), at(0), at(0), Totals::default()), None);
        assert_eq!(
            keepalive.on_activity(at(110), at(0), at(0), Totals::default()),
            Some(Action::Close(CloseCause::PingExit))
        );
    }

    #[test]
    fn inactive_counts_bytes_of_its_window() {
        let mut keepalive = started(&[Pushed::Inactive(secs(30), 1000), Pushed::PingRestart(Duration::ZERO)]);
        let totals = |rx_bytes| Totals { rx_bytes, ..Totals::default() };
        assert_eq!(keepalive.handle_timeout(at(30)), Some(Action::Ask));
        assert_eq!(keepalive.on_activity(at(30), at(30), at(30), totals(1000)), None);
        assert_eq!(keepalive.deadline().map(|d| d.at), Some(at(60)));
        assert_eq!(keepalive.handle_timeout(at(60)), Some(Action::Ask));
        assert_eq!(
            keepalive.on_activity(at(60), at(60), at(60), totals(1999)),
            Some(Action::Close(CloseCause::Inactive))
        );
    }

    #[test]
    fn counters_that_start_anew_are_no_traffic() {
        let mut keepalive = started(&[Pushed::Inactive(secs(30), 1000), Pushed::PingRestart(Duration::ZERO)]);
        let totals = |rx_bytes| Totals { rx_bytes, ..Totals::default() };
        assert_eq!(keepalive.on_activity(at(30), at(30), at(30), totals(5000)), None);
        assert_eq!(
            keepalive.on_activity(at(60), at(60), at(60), totals(10)),
            Some(Action::Close(CloseCause::Inactive))
        );
    }

    #[test]
    fn sums_of_a_plane_may_be_anything() {
        let mut keepalive = started(&[Pushed::Inactive(secs(30), 1000), Pushed::PingRestart(Duration::ZERO)]);
        let totals = |rx_bytes, tx_bytes| Totals { rx_bytes, tx_bytes, ..Totals::default() };
        assert_eq!(keepalive.on_activity(at(10), at(9), at(9), totals(u64::MAX, u64::MAX)), None);
        let close = Some(Action::Close(CloseCause::Inactive));
        assert_eq!(keepalive.on_activity(at(40), at(9), at(9), totals(3, 0)), close);
    }

    #[test]
    fn an_unanswered_question_is_asked_again() {
        let mut keepalive = started(&[Pushed::Ping(secs(10))]);
        assert_eq!(keepalive.handle_timeout(at(10)), Some(Action::Ask));
        assert_eq!(keepalive.deadline().map(|d| d.at), Some(at(11)));
        assert_eq!(keepalive.handle_timeout(at(11)), Some(Action::Ask));
    }

    #[test]
    fn a_plane_that_never_answers_ends_the_session() {
        let mut keepalive = started(&[Pushed::Ping(secs(10))]);
        let ask = |keepalive: &mut Keepalive, from: u64, times: u64| {
            for n in from..from + times {
                assert_eq!(keepalive.handle_timeout(at(n)), Some(Action::Ask), "{n}");
            }
        };
        ask(&mut keepalive, 10, 60);
        // An answer comes late, but it comes.
        assert_eq!(keepalive.on_activity(at(70), at(65), at(65), Totals::default()), None);
        ask(&mut keepalive, 75, 60);
        assert_eq!(keepalive.handle_timeout(at(135)), Some(Action::Close(CloseCause::PlaneSilent)));
    }
}
