//! Ends, moves and renegotiations that fall together.

use super::*;
use crate::config::params::ReplayWindow;
use crate::keys::data_key::TlsRole;
use crate::limits::{MAX_CONTROL_DATAGRAM, MAX_EVENTS};
use crate::wire::control::ControlBody;
use crate::wire::ids::{KeyId, MessageId, SessionId};
use crate::wire::opcode::Opcode;
use crate::wrap::Wrap;

fn leaving(wrap: WrapConfig, notify: u8) -> World {
    let mut settings = config(wrap);
    settings.channel.exit_notify = Some(notify);
    settings.channel.timing.hand_window = secs(5);
    let mut world = World::new(settings);
    world.run(secs(1));
    world
}

#[test]
fn who_leaves_ends_for_that_reason() {
    let mut world = leaving(WrapConfig::TlsCrypt { key: key() }, 30);
    world.faults.drop = 100;
    world.node.renegotiate(world.now, world.session);
    world.drain();
    world.run(secs(1));
    world.node.close(world.now, world.session);
    world.drain();
    world.run(secs(6));
    assert_eq!(world.causes(), [&CloseCause::Local], "not that of the renegotiation that can't end");

    let mut world = leaving(WrapConfig::None, 30);
    world.faults.drop = 100;
    world.node.close(world.now, world.session);
    world.drain();
    world.faults.drop = 0;
    world.server.say(world.now, "RESTART");
    world.drain();
    world.run(secs(1));
    assert_eq!(world.causes(), [&CloseCause::Local]);
}

#[test]
fn leaving_reaches_a_server_that_renegotiates() {
    let mut world = leaving(WrapConfig::TlsCrypt { key: key() }, 10);
    world.faults.drop = 100;
    world.node.close(world.now, world.session);
    world.drain();
    world.faults.drop = 0;
    world.server.renegotiate(world.now);
    world.drain();
    world.run(Duration::from_millis(500));
    let reports: Vec<Report> = core::iter::from_fn(|| world.server.plane.poll_report()).collect();
    assert!(reports.iter().any(|report| matches!(report, Report::PeerExit { .. })), "{reports:?}");
    world.run(secs(10));
    assert_eq!(world.causes(), [&CloseCause::Local]);
}

#[test]
fn a_session_that_moves_at_its_end_leaves_no_path_behind_and_tells_nothing() {
    let to = Path::udp(0, "10.0.0.7:1194".parse().unwrap());
    let mut world = World::new(config(WrapConfig::None));
    world.run(secs(1));
    world.server.say(world.now, "HALT");
    let mut packet = world.server.poll_transmit(world.now).unwrap();
    world.node.handle_datagram(world.now, PATH, &mut packet);
    world.node.handle_report(world.now, Report::Floated { peer: world.peer.unwrap(), to });
    world.drain();
    assert_eq!(world.causes().len(), 1);
    assert!(matches!(world.events.last(), Some(Event::Closed { .. })));
    assert!(!world.events.iter().any(|event| matches!(event, Event::Floated { .. })), "{:?}", world.events);
    for path in [PATH, to] {
        assert_eq!(world.node.endpoint.find(&path), None, "{path:?}");
    }
}

#[test]
fn a_session_moves_unless_its_new_path_is_taken() {
    let [to, taken] = [7, 8].map(|port| Path::udp(0, (core::net::Ipv4Addr::LOCALHOST, port).into()));
    let mut world = World::new(config(WrapConfig::None));
    world.run(secs(1));
    let peer = world.peer.unwrap();
    let other = world.node.connect(world.now, taken, Arc::new(config(WrapConfig::None)), None).unwrap();
    let moves = |world: &mut World, to| {
        world.node.handle_report(world.now, Report::Floated { peer, to });
        let orders = core::iter::from_fn(|| world.node.poll_directive());
        let moves = orders.filter_map(|order| match order.directive {
            Directive::MovePeer { peer: who, path } if who == peer => Some(path),
            _ => None,
        });
        moves.collect::<Vec<_>>()
    };
    // A plane that moved it by itself moves it back.
    assert_eq!(moves(&mut world, taken), [PATH]);
    assert_eq!(world.node.endpoint.find(&PATH), Some(world.session));
    assert_eq!(world.node.endpoint.find(&taken), Some(other));
    assert_eq!(moves(&mut world, to), [to]);
    assert_eq!(world.node.endpoint.find(&PATH), None);
    assert_eq!(world.node.endpoint.find(&to), Some(world.session));
}

#[test]
fn one_session_that_cannot_send_holds_up_no_other() {
    let mut world = World::new(config(WrapConfig::None));
    let path = Path::Stream(StreamId(3));
    world.now = world.now + secs(1);
    let other = world.node.connect(world.now, path, Arc::new(config(WrapConfig::None)), None).unwrap();
    // Both sockets are full: nothing is polled.
    world.node.close(world.now, world.session);
    let end = world.now + secs(60);
    world.node.handle_timeout(end);
    let deadline = world.node.sessions[&other].session.deadline(false);
    assert_eq!(deadline.map(|d| d.why), Some(Timer::Transmit), "its hand-window was noticed");
}

#[test]
fn while_the_plane_is_slow_other_deadlines_stand() {
    let mut world = World::new(config(WrapConfig::None));
    let capabilities = Capabilities { synchronous: false, ..Capabilities::USERSPACE };
    world.node.config = Arc::new(NodeConfig { capabilities });
    world.run(secs(1));
    world.node.renegotiate(world.now, world.session);
    world.drain();
    assert_eq!(world.node.deadline().map(|d| d.why), Some(Timer::Ping));
}

#[test]
fn a_key_that_was_pushed_ahead_is_reported_too() {
    let mut world = World::new(config(WrapConfig::None));
    world.run(secs(1));
    for _ in 0..2 {
        world.server.renegotiate(world.now);
        world.drain();
        world.run(Duration::from_millis(500));
    }
    assert_eq!(world.server.keys, 3);
    assert_eq!(world.rekeys(), 1);
}

#[test]
fn a_spent_key_is_replaced_without_waiting() {
    let mut world = World::new(config(WrapConfig::None));
    world.run(secs(1));
    let (peer, first) = (world.peer.unwrap(), KeyId::FIRST);
    world.node.handle_report(world.now, Report::KeySpent { peer, key: first });
    world.drain();
    world.run(Duration::from_millis(500));
    assert_eq!((world.server.keys, world.rekeys()), (2, 1));
    world.run(secs(11));
    world.node.renegotiate(world.now, world.session);
    world.drain();
    world.run(Duration::from_millis(500));
    assert_eq!((world.server.keys, world.rekeys()), (3, 1), "the server must prove that it has the third");
    world.node.handle_report(world.now, Report::KeySpent { peer, key: first.next() });
    world.drain();
    assert_eq!((world.server.keys, world.rekeys()), (3, 2));
}

#[test]
fn news_that_nobody_drains_ends_and_what_matters_stays() {
    let mut world = World::new(config(WrapConfig::None));
    world.run(secs(1));
    let mut out = [0; MAX_CONTROL_DATAGRAM];
    for _ in 0..MAX_EVENTS + 10 {
        world.server.say(world.now, "INFO,hello");
        while let Some(mut packet) = world.server.poll_transmit(world.now) {
            world.node.handle_datagram(world.now, PATH, &mut packet);
        }
        while let Some(transmit) = world.node.poll_transmit(world.now, &mut out) {
            world.server.handle(world.now, &mut out[..transmit.len]);
        }
    }
    world.node.abort(world.now, world.session);
    assert_eq!(world.node.events.len(), MAX_EVENTS + 1);
    assert!(matches!(world.node.events.back(), Some(Event::Closed { .. })));
}

#[test]
fn who_shares_the_static_key_cannot_close_the_replay_window() {
    let stranger = SessionId::new([0x55; 8]);
    for early in [true, false] {
        for opcode in [Opcode::HardResetServerV2, Opcode::ControlV1] {
            let wrap = WrapConfig::TlsCrypt { key: key() };
            let mut world = World::new(config(wrap.clone()));
            if !early {
                world.run(secs(1));
            }
            let mut forger = Wrap::new(&wrap, TlsRole::Server, u32::MAX, ReplayWindow::DEFAULT);
            for (remote_session, acks) in [(stranger, [MessageId(0)].as_slice()), (None, &[])] {
                let acks = acks.iter().copied().collect();
                let (mut body, mut packet) = (Vec::new(), Vec::new());
                ControlBody { acks, remote_session, message: Some(MessageId(0)), payload: &[] }
                    .emit(&mut body);
                forger.seal(0, opcode.header(KeyId::FIRST), stranger.unwrap(), &body, &mut packet);
                world.node.handle_datagram(world.now, PATH, &mut packet);
                world.drain();
            }
            world.run(secs(1));
            assert!(world.peer.is_some(), "{opcode:?}, early: {early}: {:?}", world.node.drops());
            world.server.say(world.now, "HALT");
            world.drain();
            world.run(secs(1));
            assert_eq!(world.causes(), [&CloseCause::Halt { reason: String::new() }], "{opcode:?}");
        }
    }
}

#[test]
fn a_token_too_long_to_be_sent_leaves_the_password() {
    let login =
        Credentials { username: "alice".into(), password: Zeroizing::new("secret".into()), is_token: false };
    let mut world = World::with_seed(config(WrapConfig::None), Some(login), 1);
    world.server.greeting = vec![format!("{PUSH},auth-token {}", "T".repeat(128))];
    world.run(secs(1));
    let warned = world.events.iter().any(|event| {
        matches!(event, Event::Configure { ignored, .. } if ignored.iter().any(|line| line.contains("127 bytes")))
    });
    assert!(warned, "{:?}", world.events);
    world.server.say(world.now, &format!("PUSH_REPLY,auth-token {}", "T".repeat(1900)));
    world.node.renegotiate(world.now, world.session);
    world.drain();
    world.run(secs(1));
    assert!(world.server.introduction.contains("alice\0\0\u{7}secret\0"), "{:?}", world.server.introduction);
    assert_eq!(world.server.keys, 2);
    assert!(!world.events.iter().any(|event| matches!(event, Event::Token { .. })));
}

#[test]
fn a_server_that_moves_on_has_the_key_before() {
    let mut world = World::new(config(WrapConfig::None));
    world.run(secs(1));
    world.server.renegotiate(world.now);
    world.drain();
    let ready = |event: &Event| matches!(event, Event::TlsReady { key, .. } if key.get() == 1);
    let end = world.now + secs(5);
    while !world.events.iter().any(ready) && world.step(end) {}
    // All is exchanged, and only the acks of our last packets are lost.
    world.server.withholds_acks = true;
    while world.server.keys < 2 && world.step(end) {}
    world.server.withholds_acks = false;
    world.server.renegotiate(world.now);
    world.drain();
    world.run(secs(10));
    assert_eq!(world.server.keys, 3, "{:?} {:?}", world.node.drops(), world.causes());
}

#[test]
fn a_late_token_may_come_in_parts() {
    let login = Credentials { username: "u".into(), password: Zeroizing::new("p".into()), is_token: false };
    let mut world = World::with_seed(config(WrapConfig::None), Some(login), 1);
    world.run(secs(1));
    world.server.say(world.now, "PUSH_REPLY,auth-token T2,push-continuation 2");
    world.server.say(world.now, "PUSH_REPLY,push-continuation 1");
    world.drain();
    world.run(secs(1));
    let tokens = world.events.iter().filter(|event| matches!(event, Event::Token { .. })).count();
    assert_eq!(tokens, 1);
}

#[test]
fn a_session_can_be_ended_at_each_stage() {
    for level in 3..=7 {
        let mut world = World::with_seed(config(WrapConfig::None), None, level.into());
        let end = world.now + secs(2);
        while world.node.sessions_at(level).is_empty() && world.step(end) {}
        assert_eq!(world.node.sessions_at(level), [world.session], "level {level}");
        let reached = world.events.iter().any(|event| matches!(event, Event::Reached { .. }));
        let ready = world.events.iter().any(|event| matches!(event, Event::TlsReady { .. }));
        assert_eq!((reached, ready), (level > 3, level > 4), "level {level}: {:?}", world.events);
        world.node.abort(world.now, world.session);
        assert!(world.node.sessions_at(0).is_empty(), "level {level}");
    }
}
