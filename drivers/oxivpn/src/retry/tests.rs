//! Retry decisions, case by case.

use oxivpn_proto::tls::{TlsFailure, TlsFailureKind};

use super::*;

const fn rules(remotes: u32, rounds: Option<u32>) -> Rules {
    Rules { remotes, rounds, auth: AuthRetry::None, tls_exit: false, remap: None }
}

fn tls_failure() -> CloseCause {
    CloseCause::Tls(TlsFailure { kind: TlsFailureKind::Certificate, message: "x".into() })
}

fn auth_failed(was_token: bool) -> CloseCause {
    CloseCause::AuthFailed { reason: String::new(), was_token }
}

fn temporary(backoff: Option<u32>, advance: Advance) -> CloseCause {
    CloseCause::AuthTemporary { backoff, advance, reason: String::new() }
}

fn restart(keep_credentials: bool, advance: bool) -> CloseCause {
    CloseCause::Restart { keep_credentials, advance, reason: String::new() }
}

#[test]
fn remotes_come_in_turn() {
    let mut retry = Retry::new(rules(3, None));
    let order: Vec<Next> = (0..7).map(|_| retry.next(false)).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2, 0].map(Next::Remote));
}

#[test]
fn all_addresses_of_a_remote_come_before_the_next() {
    let mut retry = Retry::new(rules(2, None));
    assert_eq!(retry.next(false), Next::Remote(0));
    assert_eq!(retry.next(true), Next::NextAddress);
    assert_eq!(retry.next(true), Next::NextAddress);
    assert_eq!(retry.next(false), Next::Remote(1));
}

#[test]
fn rounds_are_limited() {
    let mut retry = Retry::new(rules(2, Some(2)));
    for index in [0, 1, 0, 1] {
        assert_eq!(retry.next(false), Next::Remote(index));
    }
    assert_eq!(retry.next(false), Next::GiveUp);
}

#[test]
fn further_addresses_are_no_further_attempts() {
    let mut retry = Retry::new(rules(1, Some(1)));
    assert_eq!(retry.next(false), Next::Remote(0));
    assert_eq!(retry.next(true), Next::NextAddress);
    assert_eq!(retry.next(false), Next::GiveUp);
}

#[test]
fn success_resets_the_count_and_stays_at_the_address() {
    let mut retry = Retry::new(rules(2, Some(1)));
    retry.next(false);
    retry.next(false);
    retry.established();
    retry.judge(&CloseCause::PingRestart);
    assert_eq!(retry.next(true), Next::SameAddress);
    assert_eq!(retry.next(true), Next::NextAddress);
    assert_eq!(retry.next(false), Next::Remote(0));
}

#[test]
fn restart_with_n_goes_to_the_next_remote() {
    let mut retry = Retry::new(rules(2, None));
    retry.next(false);
    retry.established();
    retry.judge(&restart(true, true));
    assert_eq!(retry.next(false), Next::Remote(1));
}

#[test]
fn temporary_refusal_says_where_to_go() {
    for (advance, expected) in [
        (Advance::No, Next::SameAddress),
        (Advance::Address, Next::NextAddress),
        (Advance::Remote, Next::Remote(1)),
    ] {
        let mut retry = Retry::new(rules(2, None));
        retry.next(false);
        let verdict = retry.judge(&temporary(Some(7), advance));
        assert_eq!(verdict.action, Action::Restart, "{advance:?}");
        assert_eq!(retry.pause(Duration::from_secs(1), Duration::from_secs(300)), Duration::from_secs(7));
        assert_eq!(retry.next(true), expected, "{advance:?}");
        assert_eq!(retry.pause(Duration::from_secs(1), Duration::from_secs(300)), Duration::from_secs(1));
    }
}

#[test]
fn the_wait_doubles_after_five_rounds() {
    let (wait, longest) = (Duration::from_secs(1), Duration::from_secs(300));
    let mut retry = Retry::new(rules(2, None));
    let mut pauses = Vec::new();
    for _ in 0..28 {
        retry.next(false);
        pauses.push(retry.pause(wait, longest).as_secs());
    }
    assert_eq!(pauses[..9], [1; 9]);
    assert_eq!(pauses[9..], [2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 128, 128, 256, 256, 300, 300, 300]);
}

#[test]
fn a_very_long_outage_overflows_nothing() {
    let mut retry = Retry::new(rules(1, None));
    for _ in 0..100_000 {
        retry.next(false);
    }
    let day = Duration::from_secs(86_400);
    assert_eq!(retry.pause(Duration::from_secs(60), day), day);
}

#[test]
fn nointeract_waits_ten_seconds() {
    let mut retry = Retry::new(Rules { auth: AuthRetry::NoInteract, ..rules(1, None) });
    retry.next(false);
    assert_eq!(retry.pause(Duration::from_secs(1), Duration::from_secs(300)), Duration::from_secs(10));
}

#[test]
fn every_cause_has_openvpns_consequence() {
    use Action::{Leave, Restart};
    let table = [
        (CloseCause::ServerPoll, Restart, "server_poll", Forget::Nothing),
        (CloseCause::HandWindow, Restart, "tls-error", Forget::Nothing),
        (tls_failure(), Restart, "tls-error", Forget::Nothing),
        (CloseCause::NoPushReply, Restart, "no-push-reply", Forget::Nothing),
        (CloseCause::PingRestart, Restart, "ping-restart", Forget::Nothing),
        (CloseCause::PingExit, Leave, "ping-exit", Forget::Nothing),
        (CloseCause::Inactive, Leave, "inactive", Forget::Nothing),
        (CloseCause::SessionTimeout, Leave, "session-timeout", Forget::Nothing),
        (auth_failed(false), Leave, "auth-failure", Forget::All),
        (auth_failed(true), Restart, "auth-failure (auth-token)", Forget::Token),
        (restart(false, false), Restart, "server-pushed-connection-reset", Forget::All),
        (restart(true, false), Restart, "server-pushed-connection-reset", Forget::Nothing),
        (CloseCause::Halt { reason: String::new() }, Leave, "server-pushed-halt", Forget::All),
        (CloseCause::PeerExit, Restart, "remote-exit", Forget::Nothing),
        (CloseCause::StreamClosed, Restart, "connection-reset", Forget::Nothing),
        (CloseCause::Cipher("c".into()), Restart, "process-push-msg-failed", Forget::Nothing),
        (CloseCause::Protocol("p"), Restart, "protocol-error", Forget::Nothing),
    ];
    for (cause, action, reason, credentials) in table {
        let mut retry = Retry::new(rules(1, None));
        assert_eq!(retry.judge(&cause), Verdict { action, reason, credentials }, "{cause:?}");
    }
}

#[test]
fn auth_retry_decides_about_a_wrong_password() {
    for (auth, action, credentials) in [
        (AuthRetry::None, Action::Leave, Forget::All),
        (AuthRetry::NoInteract, Action::Restart, Forget::Nothing),
        (AuthRetry::Interact, Action::Restart, Forget::AndAsk),
    ] {
        let mut retry = Retry::new(Rules { auth, ..rules(2, None) });
        retry.next(false);
        let verdict = retry.judge(&auth_failed(false));
        assert_eq!((verdict.action, verdict.credentials), (action, credentials), "{auth:?}");
        assert_eq!(retry.next(false), Next::SameAddress, "a wrong password is wrong everywhere");
    }
}

#[test]
fn tls_exit_and_remap_change_restarts_only() {
    let mut retry = Retry::new(Rules { tls_exit: true, ..rules(1, None) });
    assert_eq!(retry.judge(&tls_failure()).action, Action::Leave);
    assert_eq!(retry.judge(&CloseCause::PingRestart).action, Action::Restart);
    for (remap, restart) in [(RestartAs::Hup, Action::Reload), (RestartAs::Term, Action::Leave)] {
        let mut retry = Retry::new(Rules { remap: Some(remap), ..rules(1, None) });
        assert_eq!(retry.judge(&CloseCause::PingRestart).action, restart);
        assert_eq!(retry.judge(&CloseCause::PingExit).action, Action::Leave);
    }
}
