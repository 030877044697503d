//! Body of the fuzz target for what management clients send; compiled and fed by every test run too.

use core::time::Duration;

use oxivpn_profile::profile::AuthRetry;
use oxivpn_profile::server::ManagementOptions;
use oxivpn_proto::Instant;
use zeroize::Zeroizing;

use super::codec::MAX_INPUT;
use super::desk::{Desk, Mode, Moment, Settings};
use super::limits::{OUTPUT_LIMIT, OUTPUT_PAUSE};
use super::request::{Answer, ClientNews, Notice, Question, Request, State, StateDetails};
use crate::log::Level;

/// Most bytes of an answer here, so that the bound of the output can be checked.
const ANSWER: usize = 1000;

/// The first byte says who listens and what waits; the rest is what the client sends. A byte of `0xff`, which no
/// text has, lets something happen meanwhile: the next byte says what.
pub fn run(data: &[u8]) {
    let (flags, data) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let mode = if flags & 1 == 0 { Mode::Client } else { Mode::Server };
    let options = ManagementOptions {
        hold: flags & 2 != 0,
        password: (flags & 4 != 0).then(|| Zeroizing::new("secret".to_owned())),
        signal: flags & 8 != 0,
        forget_disconnect: flags & 16 != 0,
        log_cache: 5,
        ..ManagementOptions::default()
    };
    let mut desk = Desk::new(Settings {
        options,
        mode,
        status_version: 1,
        auth_retry: AuthRetry::None,
        verb: 3,
        mute: 0,
        remap_usr1: None,
    });
    let mut at = Moment { now: Instant::from_nanos(1), unix: 1_795_241_548 };
    desk.hold(3);
    desk.connected();
    if flags & 32 != 0 {
        desk.ask(Question { kind: "Auth".into(), username: true, challenge: None });
    }
    let mut rest = data;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0xff).unwrap_or(rest.len()).min(700);
        if end > 0 && desk.wants_input() {
            desk.input(&rest[..end]);
            rest = &rest[end..];
        } else if let [0xff, what, ..] = rest {
            happen(&mut desk, &mut at, *what);
            rest = &rest[2..];
        } else {
            rest = &rest[rest.len().min(end.max(1))..];
        }
        work(&mut desk, at, flags & 64 != 0);
    }
    desk.disconnected();
    while desk.poll(at).is_some() {}
    assert!(desk.output().is_empty());
}

/// Carries out what was asked, reads if the client does, and checks the bounds.
fn work(desk: &mut Desk, at: Moment, reads: bool) {
    let text = "x".repeat(ANSWER - 1);
    while let Some(request) = desk.poll(at) {
        match request {
            Request::Status { .. } => desk.answer(Answer::Text(text.clone())),
            Request::LoadStats => desk.answer(Answer::Load { clients: 0, received: 1, sent: 2 }),
            Request::Clients | Request::RemoteCount => desk.answer(Answer::Count(2)),
            Request::Kill(_) => desk.answer(Answer::Count(1)),
            Request::Remotes { .. } => desk.answer(Answer::Lines(vec![text.clone()])),
            Request::ClientAuth { .. } | Request::CrResponse(_) => desk.answer(Answer::Done),
            Request::ClientKill { .. }
            | Request::ClientDeny { .. }
            | Request::ClientPending { .. }
            | Request::PushUpdate { .. } => desk.answer(Answer::Failed),
            _ => {}
        }
        while desk.take_remark().is_some() {}
    }
    while desk.take_remark().is_some() {}
    let unread = desk.output().len();
    // `test` has the longest answer of those made here; no line of input makes a longer one.
    assert!(unread <= OUTPUT_LIMIT + OUTPUT_PAUSE + 10_000 * 80 + MAX_INPUT, "{unread} unread");
    for line in desk.output().split_inclusive(|byte| *byte == b'\n') {
        let ended = line.ends_with(b"\r\n");
        let prompt = line.starts_with(b"ENTER PASSWORD:");
        assert!(ended || prompt, "{}", String::from_utf8_lossy(line));
    }
    if reads {
        desk.sent(unread);
    }
}

fn happen(desk: &mut Desk, at: &mut Moment, what: u8) {
    match what % 9 {
        0 => {
            at.now = at.now + Duration::from_secs(what.into());
            at.unix += u64::from(what);
        }
        1 => desk.state(
            *at,
            State::Reconnecting,
            &StateDetails { detail: "ping-restart", ..StateDetails::default() },
        ),
        2 => (0..what).for_each(|_| desk.log_line(at.unix, Level::Info, &"log ".repeat(what.into()))),
        3 => desk.echo(*at, "forget-passwords"),
        4 => desk.notify(&Notice::Client {
            news: ClientNews::Connect { cid: 0, kid: 1 },
            clients: 1,
            env: &[("username", "a\nb")],
        }),
        5 => desk.ask(Question { kind: "Private Key".into(), username: false, challenge: None }),
        6 => drop(desk.hold(what.into())),
        7 => desk.notify(&Notice::ByteCount { received: 1, sent: 2 }),
        _ => {
            desk.disconnected();
            desk.connected();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let names = [
            "status",
            "state",
            "log",
            "echo",
            "hold",
            "signal",
            "client-auth",
            "client-deny",
            "kill",
            "password",
            "username",
            "version",
            "bytecount",
            "test",
            "END",
            "secret",
            "push-update-cid",
            "exit",
            "verb",
            "help",
        ];
        let words = [
            "on",
            "all",
            "1",
            "Auth",
            "\"a b\"",
            "SIGUSR1",
            "0",
            "release",
            "-1",
            "a:b:c",
            "99999999999999999999",
        ];
        let words = proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..4);
        (proptest::sample::select(names.to_vec()), words, any::<u8>()).prop_map(|(name, words, kind)| {
            match kind {
                0..=15 => vec![0xff, kind],
                _ => format!("{name} {}\n", words.join(" ")).into_bytes(),
            }
        })
    }

    proptest! {
        #[test]
        fn random_bytes(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            super::run(&data);
        }

        #[test]
        fn random_commands(flags in any::<u8>(), lines in proptest::collection::vec(line(), 0..40)) {
            let mut data = vec![flags];
            lines.iter().for_each(|line| data.extend_from_slice(line));
            super::run(&data);
        }
    }
}
