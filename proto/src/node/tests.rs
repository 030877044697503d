mod corners;
mod rules;
mod serve;

use core::time::Duration;

use zeroize::Zeroizing;

use super::*;
use crate::CloseCause;
use crate::config::params::{DataFormat, Framing};
use crate::deadline::Timer;
use crate::event::Advance;
use crate::fuzzing::server::PUSH;
use crate::fuzzing::world::{Faults, PATH, World, config, key, secs, wraps};
use crate::plane::{Capabilities, DataPlane as _};
use crate::tls::TlsFailure;
use crate::tls::fake::FakeFactory;
use crate::wire::ids::PeerId;
use crate::wrap::WrapConfig;

impl World {
    fn new(config: ClientConfig) -> Self {
        Self::with_seed(config, None, 1)
    }

    fn with_seed(config: ClientConfig, login: Option<Credentials>, seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let mut world = Self::start(config, login, bytes, PATH, Capabilities::USERSPACE);
        world.drain();
        world
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    fn run_until_up(&mut self, within: Duration) -> bool {
        let end = self.now + within;
        while self.peer.is_none() && self.step(end) {}
        self.peer.is_some()
    }

    fn send_inner(&mut self, to_server: bool, mark: u32) {
        assert!(self.try_send_inner(to_server, mark), "packet {mark} can't be sealed");
    }

    fn causes(&self) -> Vec<&CloseCause> {
        let mut causes = Vec::new();
        for event in &self.events {
            if let Event::Closed { cause, .. } = event {
                causes.push(cause);
            }
        }
        causes
    }

    fn rekeys(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Rekeyed { .. })).count()
    }
}

#[test]
fn every_wrap_comes_up_and_carries_packets_both_ways() {
    for wrap in wraps() {
        let mut world = World::new(config(wrap.clone()));
        assert!(world.run_until_up(secs(1)), "{wrap:?}: {:?}", world.events);
        world.run(secs(1));
        world.send_inner(true, 1);
        world.send_inner(false, 2);
        world.run(secs(1));
        assert_eq!(world.inner.each_ref().map(Vec::len), [1, 1], "{wrap:?}");
        assert!(world.server.introduction.contains("IV_PROTO=1950"), "{}", world.server.introduction);
        let names: Vec<String> =
            world.events.iter().map(|e| format!("{e:?}").split([' ', '(']).next().unwrap().into()).collect();
        assert_eq!(
            names,
            ["Reached", "TlsReady", "AwaitingConfig", "PushReply", "Configure", "Established"],
            "{wrap:?}"
        );
    }
}

#[test]
fn a_bad_link_delays_and_never_breaks() {
    let faults = Faults { drop: 20, duplicate: 10, reorder: 30, corrupt: 5, control_only: false };
    for seed in 0..60 {
        let wrap = wraps()[1 + seed as usize % 3].clone();
        let mut settings = config(wrap);
        settings.channel.timing.hand_window = secs(600);
        settings.channel.timing.server_poll = secs(600);
        let mut world = World::with_seed(settings, None, seed);
        world.faults = faults;
        world.server.greeting = vec![PUSH.replace("ping-restart 60", "ping-restart 0")];
        assert!(world.run_until_up(secs(300)), "seed {seed}: {:?} {:?}", world.events, world.node.drops());
        for round in 0..3 {
            world.node.renegotiate(world.now, world.session);
            world.drain();
            let keys = world.server.keys;
            let end = world.now + secs(300);
            while world.server.keys == keys && world.step(end) {}
            assert_eq!(world.server.keys, keys + 1, "seed {seed}, round {round}: {:?}", world.node.drops());
            // Data with the new key proves that the server has it; some of it gets through.
            for mark in 0..20 {
                world.run(Duration::from_millis(100));
                world.send_inner(false, mark);
            }
            world.run(secs(1));
            assert_eq!(world.rekeys(), round + 1, "seed {seed}");
        }
    }
}

#[test]
fn renegotiation_loses_no_data_packet() {
    for seed in 0..40 {
        let mut settings = config(wraps()[seed as usize % 4].clone());
        settings.channel.timing.reneg = secs(if seed % 3 == 0 { 4 } else { 3600 });
        let mut world = World::with_seed(settings, None, seed);
        assert!(world.run_until_up(secs(1)));
        world.faults = Faults { drop: 10, duplicate: 5, reorder: 10, corrupt: 0, control_only: true };
        world.run(secs(2));
        let mut sent = 0;
        for tick in 0..200 {
            world.send_inner(true, tick);
            world.send_inner(false, tick);
            sent += 1;
            if seed % 3 != 0 && tick % 20 == 10 {
                // From one side, the other, or both at the same time.
                if seed % 3 == 1 || tick % 40 == 10 {
                    world.server.renegotiate(world.now);
                }
                if seed % 3 == 2 {
                    world.node.renegotiate(world.now, world.session);
                }
                world.drain();
            }
            world.run(Duration::from_millis(200));
        }
        world.run(secs(1));
        assert_eq!(
            world.inner.each_ref().map(Vec::len),
            [sent, sent],
            "seed {seed}: {:?}",
            world.plane.drops()
        );
        assert!(world.rekeys() >= 4, "seed {seed}: {} {:?}", world.rekeys(), world.node.drops());
        assert_eq!(world.causes(), Vec::<&CloseCause>::new(), "seed {seed}");
    }
}

#[test]
fn a_silent_server_is_given_up_with_backed_off_retries() {
    let mut world = World::new(config(WrapConfig::None));
    world.faults.drop = 100;
    world.run(secs(100));
    assert_eq!(world.causes(), [&CloseCause::HandWindow]);
    let times: Vec<u64> =
        world.sent.iter().map(|(at, _)| (*at - Instant::from_nanos(1_000_000_000)).as_secs()).collect();
    assert_eq!(times[..5], [0, 2, 6, 14, 30]);
    assert_eq!(world.node.deadline(), None);

    let mut settings = config(WrapConfig::None);
    settings.channel.timing.server_poll = secs(4);
    let mut world = World::new(settings);
    world.faults.drop = 100;
    world.run(secs(5));
    assert_eq!(world.causes(), [&CloseCause::ServerPoll]);
}

#[test]
fn configuration_is_asked_for_until_it_comes() {
    let mut world = World::new(config(WrapConfig::None));
    world.server.greeting.clear();
    world.run(secs(12));
    assert_eq!(world.server.heard, ["PUSH_REQUEST"; 3]);
    world.server.say(world.now, PUSH);
    world.run(secs(1));
    assert!(world.peer.is_some());

    let mut world = World::new(config(WrapConfig::None));
    world.server.greeting = vec!["AUTH_PENDING,timeout 30".into()];
    world.run(secs(25));
    assert!(world.causes().is_empty());
    world.run(secs(6));
    assert_eq!(world.causes(), [&CloseCause::NoPushReply]);
}

#[test]
fn what_the_server_says_ends_the_session_as_it_means() {
    let auth_failed = |reason: &str| CloseCause::AuthFailed { reason: reason.into(), was_token: false };
    let restart =
        |keep_credentials, advance| CloseCause::Restart { keep_credentials, advance, reason: String::new() };
    let table = [
        ("AUTH_FAILED", auth_failed("")),
        ("AUTH_FAILED,wrong", auth_failed("wrong")),
        (
            "AUTH_FAILED,TEMP[backoff 9,advance addr]:later",
            CloseCause::AuthTemporary { backoff: Some(9), advance: Advance::Address, reason: "later".into() },
        ),
        ("RESTART", restart(false, false)),
        ("RESTART,[N]", restart(false, true)),
        ("HALT,maintenance", CloseCause::Halt { reason: "maintenance".into() }),
        ("EXIT", CloseCause::PeerExit),
    ];
    for early in [true, false] {
        for (text, cause) in &table {
            let mut world = World::new(config(WrapConfig::None));
            if early {
                world.server.greeting = vec![(*text).into()];
                world.run(secs(1));
            } else {
                world.run(secs(1));
                world.server.say(world.now, text);
                world.drain();
                world.run(secs(1));
            }
            assert_eq!(world.causes(), [cause], "{text}, early: {early}");
            assert_eq!(world.node.deadline(), None);
        }
    }
}

#[test]
fn leaving_is_announced_and_ends_when_acknowledged() {
    let mut settings = config(WrapConfig::TlsCrypt { key: key() });
    settings.channel.exit_notify = Some(3);
    let mut world = World::new(settings);
    world.run(secs(1));
    world.node.close(world.now, world.session);
    world.drain();
    world.run(Duration::from_millis(100));
    assert_eq!(world.server.heard.last().map(String::as_str), Some("EXIT"));
    assert_eq!(world.causes(), [&CloseCause::Local]);
}

#[test]
fn leaving_an_old_server_is_announced_on_the_data_channel() {
    let mut settings = config(WrapConfig::None);
    settings.channel.exit_notify = Some(2);
    let mut world = World::new(settings);
    world.server.greeting = vec![PUSH.replace("cc-exit ", "")];
    world.run(secs(1));
    let before = world.now;
    world.node.close(world.now, world.session);
    world.drain();
    world.run(secs(3));
    assert!(
        world.server.plane.poll_report().is_some_and(|report| matches!(report, Report::FirstReceive { .. }))
    );
    assert!(world.server.plane.poll_report().is_some_and(|report| matches!(report, Report::PeerExit { .. })));
    assert_eq!(world.causes(), [&CloseCause::Local]);
    assert_eq!(before + secs(3), world.now);
}

#[test]
fn idle_tunnels_are_pinged_and_dead_ones_restarted() {
    let mut world = World::new(config(WrapConfig::None));
    world.run(secs(1));
    world.run(secs(35));
    let pings = world.server.plane.drops().clone();
    assert_eq!(pings, DropCounters::default());
    // The test server sends nothing, so only control packets of the start count as life.
    world.run(secs(30));
    assert_eq!(world.causes(), [&CloseCause::PingRestart]);
    assert!(world.server.plane.poll_report().is_some(), "a ping arrived");
}

#[test]
fn a_token_takes_the_place_of_the_password() {
    let login =
        Credentials { username: "alice".into(), password: Zeroizing::new("secret".into()), is_token: false };
    let mut world = World::with_seed(config(WrapConfig::None), Some(login), 1);
    world.server.greeting = vec![format!("{PUSH},auth-token TOKEN1")];
    world.run(secs(1));
    assert!(world.server.introduction.contains("alice\0\0\u{7}secret\0"), "{:?}", world.server.introduction);
    world.server.renegotiate(world.now);
    world.drain();
    world.run(secs(1));
    assert!(world.server.introduction.contains("alice\0\0\u{7}TOKEN1\0"), "{:?}", world.server.introduction);
    world.server.say(world.now, "PUSH_REPLY,auth-token TOKEN2");
    world.drain();
    world.run(secs(1));
    let tokens: Vec<&str> = world
        .events
        .iter()
        .filter_map(|event| if let Event::Token { token, .. } = event { Some(token.as_str()) } else { None })
        .collect();
    assert_eq!(tokens, ["TOKEN1", "TOKEN2"]);
    world.server.say(world.now, "AUTH_FAILED,SESSION: token expired");
    world.drain();
    world.run(secs(1));
    let reason = "SESSION: token expired".to_owned();
    assert_eq!(world.causes(), [&CloseCause::AuthFailed { reason, was_token: true }]);
}

#[test]
fn ciphers_and_formats_follow_the_push() {
    let established = |push: &str| {
        let mut world = World::new(config(WrapConfig::None));
        world.server.greeting = vec![push.into()];
        world.run(secs(1));
        let params = world.events.iter().find_map(|event| match event {
            Event::Established { params, .. } => Some(*params),
            _ => None,
        });
        params.ok_or_else(|| world.causes().first().map(|cause| cause.to_string()).unwrap_or_default())
    };
    let params = established(PUSH).unwrap();
    assert_eq!((params.format, params.mss), (DataFormat::V2(PeerId::from_low_bits(5)), Some(1400)));
    let params = established(&PUSH.replace("peer-id 5,", "")).unwrap();
    assert_eq!((params.format, params.mss), (DataFormat::V1, Some(1403)));
    let params = established(&PUSH.replace("dyn-tls-crypt", "aead-epoch")).unwrap();
    assert_eq!(params.format, DataFormat::Epoch(PeerId::from_low_bits(5)));
    let refusal = established(&PUSH.replace("AES-256-GCM", "AES-256-CBC")).unwrap_err();
    assert!(refusal.contains("AES-256-CBC not in AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305"), "{refusal}");
    let refusal = established(&PUSH.replace("cipher AES-256-GCM,", "")).unwrap_err();
    assert!(refusal.contains("data-ciphers-fallback"), "{refusal}");
    let params = established(&format!("{PUSH},comp-lzo no")).unwrap();
    assert_eq!((params.framing, params.mss), (Framing::Stub, Some(1399)));
    let params = established(&format!("{PUSH},compress stub-v2")).unwrap();
    assert_eq!((params.framing, params.mss), (Framing::StubV2, Some(1400)));
    let refusal = established(&format!("{PUSH},comp-lzo yes")).unwrap_err();
    assert!(refusal.contains("allow-compression asym"), "{refusal}");
}

#[test]
fn tls_failures_are_reported_after_the_alert_left() {
    let failure =
        TlsFailure { kind: crate::tls::TlsFailureKind::Certificate, message: "VERIFY ERROR".into() };
    let mut factory = FakeFactory::new();
    factory.refuse = Some(failure.clone());
    let mut world = World::new(ClientConfig::new(WrapConfig::None, Arc::new(factory)));
    world.run(secs(1));
    assert_eq!(world.causes(), [&CloseCause::Tls(failure)]);
    let control_packets = world.sent.iter().filter(|(_, header)| header >> 3 == 4).count();
    assert_eq!(control_packets, 2, "ClientHello and alert: {:?}", world.sent);
}

#[test]
fn strangers_and_forgeries_only_count() {
    let mut world = World::new(config(WrapConfig::TlsCrypt { key: key() }));
    world.run(secs(1));
    let elsewhere = Path::udp(1, "10.0.0.1:1".parse().unwrap());
    let mut drops = DropCounters::default();
    for (path, packet, reason) in [
        (elsewhere, vec![0x38; 60], DropReason::UnknownPath),
        (PATH, vec![0x20; 60], DropReason::WrapAuthentication),
        (PATH, vec![0x38; 60], DropReason::UnexpectedOpcode),
        (PATH, vec![0x08; 60], DropReason::UnknownOpcode),
        (PATH, vec![0x20; 3], DropReason::Malformed),
        (PATH, vec![0x48; 60], DropReason::DataAtControl),
        (PATH, vec![], DropReason::Malformed),
    ] {
        let mut packet = packet;
        world.node.handle_datagram(world.now, path, &mut packet);
        world.drain();
        drops.count(reason);
        assert_eq!(world.node.drops(), drops, "{reason:?}");
    }
    assert!(world.causes().is_empty());
}

#[test]
fn a_slow_plane_holds_the_message_that_reveals_the_key() {
    let mut world = World::new(config(WrapConfig::None));
    let capabilities = Capabilities { synchronous: false, ..Capabilities::USERSPACE };
    world.node.config = Arc::new(NodeConfig { capabilities });
    world.run(secs(1));
    assert!(world.peer.is_some());
    let sent = world.sent.len();
    world.node.close(world.now, world.session);
    world.drain();
    assert_eq!(world.sent.len(), sent, "nothing leaves before the key is installed");
    world.node.handle_report(world.now, Report::Applied(u64::MAX));
    world.drain();
    assert_eq!(world.causes(), [&CloseCause::Local]);
}

#[test]
fn a_plane_that_never_answers_stops_no_timer_but_retransmission() {
    let mut world = World::new(config(WrapConfig::None));
    let capabilities = Capabilities { synchronous: false, ..Capabilities::USERSPACE };
    world.node.config = Arc::new(NodeConfig { capabilities });
    world.run(secs(1));
    world.node.renegotiate(world.now, world.session);
    world.run(secs(5));
    assert_eq!(world.node.deadline().map(|deadline| deadline.why), Some(Timer::Ping));
    world.run(secs(60));
    world.node.handle_report(world.now, Report::Applied(u64::MAX));
    world.node.handle_report(world.now, Report::Applied(u64::MAX));
    world.drain();
    assert_eq!(world.causes(), [&CloseCause::HandWindow]);
}

#[test]
fn a_plane_that_is_silent_for_a_minute_ends_its_session() {
    let mut world = World::new(config(WrapConfig::None));
    let capabilities = Capabilities { synchronous: false, ..Capabilities::USERSPACE };
    world.node.config = Arc::new(NodeConfig { capabilities });
    world.run(secs(1));
    world.node.handle_report(world.now, Report::Applied(u64::MAX));
    let peer = world.peer.unwrap();
    let mut asked = 0;
    let mut silent = |world: &mut World, time: Duration| {
        let end = world.now + time;
        while let Some(deadline) = world.node.deadline().filter(|deadline| deadline.at <= end) {
            world.now = world.now.max(deadline.at);
            world.node.handle_timeout(world.now);
            while let Some(order) = world.node.poll_directive() {
                asked += usize::from(matches!(order.directive, Directive::AskActivity { .. }));
            }
        }
        world.now = end;
        asked
    };
    assert_eq!(silent(&mut world, secs(9 + 30)), 30);
    let activity = Report::Activity {
        peer,
        last_rx: world.now,
        last_tx: world.now,
        totals: crate::report::Totals::default(),
        key_totals: crate::report::Totals::default(),
    };
    world.node.handle_report(world.now, activity);
    assert_eq!(silent(&mut world, secs(10 + 59)), 30 + 60);
    assert_eq!(world.node.sessions(), 1);
    silent(&mut world, secs(1));
    assert_eq!(world.node.sessions(), 0);
    // What comes later is of nobody.
    world.node.handle_report(world.now, activity);
    world.drain();
    assert_eq!(world.causes(), [&CloseCause::PlaneSilent]);
}

#[test]
fn calls_too_early_have_no_effect() {
    let mut world = World::new(config(WrapConfig::None));
    world.run(secs(1));
    let (events, sent, deadline) = (world.events.len(), world.sent.len(), world.node.deadline());
    assert_eq!(deadline.map(|d| d.why), Some(Timer::Ping));
    for _ in 0..10 {
        world.node.handle_timeout(world.now);
        world.drain();
    }
    assert_eq!((world.events.len(), world.sent.len(), world.node.deadline()), (events, sent, deadline));
}

#[test]
fn one_path_carries_one_session() {
    let mut world = World::new(config(WrapConfig::None));
    let again = world.node.connect(world.now, PATH, Arc::new(config(WrapConfig::None)), None);
    assert_eq!(again, Err(ConnectError::PathInUse));
    world.node.abort(world.now, world.session);
    world.drain();
    assert_eq!(world.causes(), [&CloseCause::Local]);
    assert!(world.node.connect(world.now, PATH, Arc::new(config(WrapConfig::None)), None).is_ok());
    let login = Credentials { username: "u".repeat(128), password: Zeroizing::default(), is_token: false };
    let other = Path::Stream(StreamId(1));
    let refused = world.node.connect(world.now, other, Arc::new(config(WrapConfig::None)), Some(login));
    assert_eq!(refused, Err(ConnectError::CredentialsTooLong));
}

#[test]
fn a_closed_stream_ends_its_session() {
    let mut world = World::new(config(WrapConfig::None));
    let id = StreamId(4);
    world.node.connect(world.now, Path::Stream(id), Arc::new(config(WrapConfig::None)), None).unwrap();
    world.node.handle_stream(world.now, id, StreamChange::Closed);
    world.drain();
    assert_eq!(world.causes(), [&CloseCause::StreamClosed]);
}

#[test]
fn a_stream_that_ends_after_a_refusal_hides_no_reason() {
    let mut world = World::new(config(WrapConfig::None));
    world.run(secs(1));
    world.node.endpoint.remove(&PATH, world.session);
    let stream = StreamId(9);
    assert!(world.node.endpoint.insert(Path::Stream(stream), world.session, None));
    world.server.say(world.now, "AUTH_FAILED,expired");
    let packet = world.server.poll_transmit(world.now);
    world.node.handle_datagram(world.now, Path::Stream(stream), &mut packet.unwrap());
    world.node.handle_stream(world.now, stream, StreamChange::Closed);
    world.drain();
    let reason = "expired".to_owned();
    assert_eq!(world.causes(), [&CloseCause::AuthFailed { reason, was_token: false }]);
}

#[test]
fn without_reneg_sec_only_the_server_renegotiates() {
    let mut settings = config(WrapConfig::None);
    settings.channel.timing.reneg = Duration::ZERO;
    let mut world = World::new(settings);
    world.server.greeting = vec![PUSH.replace("ping 10,ping-restart 60,", "ping-restart 0,")];
    world.run(secs(100_000));
    assert_eq!((world.rekeys(), world.node.deadline()), (0, None));
    world.server.renegotiate(world.now);
    world.drain();
    world.run(secs(70));
    assert_eq!((world.rekeys(), world.server.keys), (1, 2));
}
