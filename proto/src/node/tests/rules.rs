//! What a client makes of options and messages of its server.

use super::*;
use crate::keys::method2::{ServerMessage, ServerSource};
use crate::wire::ack::AckList;
use crate::wire::control::ControlBody;
use crate::wire::ids::{KeyId, MessageId, SessionId};
use crate::wire::opcode::Opcode;

fn static_key() -> Arc<crate::wrap::static_key::StaticKey> {
    key()
}

fn alice() -> Option<Credentials> {
    Some(Credentials { username: "alice".into(), password: Zeroizing::new("secret".into()), is_token: false })
}

/// `auth-token-user` (`openvpn: options.c`): the name that goes with the token from now on.
#[test]
fn a_token_may_come_with_another_name() {
    let mut world = World::with_seed(config(WrapConfig::None), alice(), 1);
    world.server.greeting = vec![format!("{PUSH},auth-token TOK,auth-token-user Ym9i")];
    world.run(secs(1));
    world.server.renegotiate(world.now);
    world.drain();
    world.run(secs(1));
    assert!(world.server.introduction.contains("bob\0\0\u{4}TOK\0"), "{:?}", world.server.introduction);
}

/// A key negotiation begins with a soft reset that is its first message and bears the next key-id, and with nothing
/// else (`openvpn: ssl.c`, `tls_pre_decrypt`).
#[test]
fn only_the_next_soft_reset_begins_a_negotiation() {
    let first = KeyId::FIRST;
    for (opcode, key, message, reason) in [
        (Opcode::ControlV1, first.next(), 0, DropReason::WrongKeyId),
        (Opcode::SoftResetV1, first.next(), 1, DropReason::WrongKeyId),
        (Opcode::SoftResetV1, first.next().next(), 0, DropReason::WrongKeyId),
        (Opcode::SoftResetV1, first, 0, DropReason::UnexpectedOpcode),
        (Opcode::SoftResetV1, first, 9, DropReason::UnexpectedOpcode),
    ] {
        let mut world = World::new(config(WrapConfig::TlsCrypt { key: static_key() }));
        world.run(secs(1));
        let sent = world.sent.len();
        let mut packet = world.server.forge_message(opcode.header(key), AckList::default(), message, &[1]);
        world.node.handle_datagram(world.now, PATH, &mut packet);
        world.drain();
        assert_eq!(world.node.drops().get(reason), 1, "{opcode:?} {key:?} {message}");
        assert_eq!(world.sent.len(), sent, "{opcode:?} {key:?} {message}");
        world.server.renegotiate(world.now);
        world.drain();
        world.run(secs(1));
        assert_eq!(world.server.keys, 2, "{opcode:?} {key:?} {message}");
    }
}

/// `reneg-sec` counts from the end of the negotiation (`openvpn: ssl.c`, `tls_process`), whenever the first data comes.
#[test]
fn late_data_does_not_put_off_the_next_negotiation() {
    let mut settings = config(WrapConfig::None);
    settings.channel.timing.reneg = secs(40);
    let mut world = World::new(settings);
    world.run(secs(30));
    world.send_inner(false, 1);
    world.run(secs(9));
    assert_eq!((world.inner[0].len(), world.server.keys), (1, 1));
    world.run(secs(3));
    assert_eq!(world.server.keys, 2);
}

/// The server's session id is taken from its reset alone, and only if that acknowledges ours
/// (`openvpn: ssl.c`, `tls_pre_decrypt`).
#[test]
fn a_server_is_known_by_its_answer_to_our_reset() {
    for (opcode, message, answers, reason) in [
        (Opcode::HardResetServerV2, 0, false, DropReason::WrongAckSessionId),
        (Opcode::HardResetServerV2, 1, true, DropReason::WrongSessionId),
        (Opcode::ControlV1, 0, true, DropReason::WrongSessionId),
        (Opcode::ControlV1, 1, false, DropReason::WrongSessionId),
    ] {
        let mut world = World::new(config(WrapConfig::None));
        let (_, reset) = world.link.values().next().unwrap();
        let ours = SessionId::new(reset[1..9].try_into().unwrap());
        let (remote_session, acks) = match answers {
            true => (ours, [MessageId(0)].into_iter().collect()),
            false => (None, AckList::default()),
        };
        let mut packet = [&[opcode.header(KeyId::FIRST)][..], &[0x55; 8]].concat();
        ControlBody { acks, remote_session, message: Some(MessageId(message)), payload: &[] }
            .emit(&mut packet);
        world.node.handle_datagram(world.now, PATH, &mut packet);
        world.drain();
        assert_eq!(world.node.drops().get(reason), 1, "{opcode:?} {message}: {:?}", world.node.drops());
        assert!(world.events.is_empty(), "{opcode:?} {message}: {:?}", world.events);
        assert!(world.run_until_up(secs(1)), "{opcode:?} {message}");
    }
}

/// `explicit-exit-notify 0`, also pushed, switches the announcement off (`openvpn: sig.c`, `process_sigterm`).
#[test]
fn who_shall_not_announce_its_exit_says_nothing() {
    for (notify, heard) in [(0, 0), (1, 1)] {
        let mut world = World::new(config(WrapConfig::TlsCrypt { key: static_key() }));
        world.server.greeting = vec![format!("{PUSH},explicit-exit-notify {notify}")];
        world.run(secs(1));
        world.node.close(world.now, world.session);
        world.drain();
        world.run(secs(2));
        assert_eq!(world.server.heard.iter().filter(|text| *text == "EXIT").count(), heard, "{notify}");
        assert_eq!(world.causes(), [&CloseCause::Local]);
    }
}

/// `hand-window` and `server-poll-timeout` end the wait when they are over, and not with the next retransmission.
#[test]
fn a_silent_server_is_given_up_in_time() {
    for (server_poll, end, cause) in
        [(4, 4, CloseCause::ServerPoll), (60, 60, CloseCause::HandWindow), (120, 60, CloseCause::HandWindow)]
    {
        let mut settings = config(WrapConfig::None);
        settings.channel.timing.server_poll = secs(server_poll);
        let mut world = World::new(settings);
        world.faults.drop = 100;
        world.run(secs(end) - Duration::from_millis(1));
        assert!(world.causes().is_empty(), "{server_poll}");
        world.run(Duration::from_millis(1));
        assert_eq!(world.causes(), [&cause], "{server_poll}");
    }
}

/// A server can't keep a client waiting for longer than half of `reneg-sec`, or `hand-window` if that is more
/// (`openvpn: push.c`, `parse_auth_pending_keywords`).
#[test]
fn waiting_for_a_verdict_has_an_end() {
    for (reneg, asked, waited) in [(200, 90, 90), (200, 1000, 100), (60, 1000, 60)] {
        let mut settings = config(WrapConfig::None);
        settings.channel.timing.reneg = secs(reneg);
        let mut world = World::new(settings);
        world.server.greeting = vec![format!("AUTH_PENDING,timeout {asked}")];
        world.run(secs(waited - 1));
        assert!(world.causes().is_empty(), "{reneg} {asked}: {:?}", world.causes());
        world.run(secs(3));
        assert_eq!(world.causes(), [&CloseCause::NoPushReply], "{reneg} {asked}");
    }
}

/// TLS keeps no borders: a key method 2 message may come in several records.
#[test]
fn a_key_method_message_may_come_in_parts() {
    let source = ServerSource { random1: Zeroizing::new([7; 32]), random2: Zeroizing::new([7; 32]) };
    let message = ServerMessage { source, options: "V4".into(), peer_info: String::new() };
    let whole = message.emit().unwrap();
    for at in [1, 5, 69, whole.len() - 1] {
        let mut world = World::new(config(WrapConfig::None));
        world.server.hello = Some(whole[..at].to_vec());
        while world.server.introduction.is_empty() {
            assert!(world.step(Instant::from_nanos(9_000_000_000)));
        }
        world.server.say_record(world.now, &whole[at..]);
        world.drain();
        assert!(world.run_until_up(secs(2)), "{at}: {:?}", world.events);
    }
}

/// Until the next key is in use, what comes under the one before is still heard: the server may not know yet
/// (`openvpn: ssl.c`, `KS_LAME_DUCK`).
#[test]
fn a_server_is_heard_while_a_negotiation_begins() {
    let mut world = World::new(config(WrapConfig::TlsCrypt { key: static_key() }));
    world.run(secs(1));
    world.node.renegotiate(world.now, world.session);
    world.server.say(world.now, "HALT,late");
    let mut packet = world.server.poll_transmit(world.now).unwrap();
    world.node.handle_datagram(world.now, PATH, &mut packet);
    world.drain();
    assert_eq!(world.causes(), [&CloseCause::Halt { reason: "late".into() }]);
}

/// Hard resets have the first key-id, and no other.
#[test]
fn a_hard_reset_does_not_belong_to_a_later_key() {
    let mut world = World::new(config(WrapConfig::None));
    world.run(secs(1));
    world.server.renegotiate(world.now);
    world.drain();
    world.run(secs(1));
    assert_eq!(world.server.keys, 2);
    let header = Opcode::HardResetServerV2.header(KeyId::FIRST.next());
    let mut packet = world.server.forge_message(header, AckList::default(), 0, &[]);
    world.node.handle_datagram(world.now, PATH, &mut packet);
    assert_eq!(world.node.drops().get(DropReason::UnexpectedOpcode), 1, "{:?}", world.node.drops());
}

/// The replay id of a wrapped packet bears the time at which its sender began, so that one that restarts is not taken
/// for a replay of itself (`openvpn: packet_id.c`, `packet_id_send_update`).
#[test]
fn wrapped_packets_tell_the_time_of_their_sender() {
    let world = World::new(config(WrapConfig::TlsCrypt { key: static_key() }));
    let (_, first) = world.link.values().next().unwrap();
    assert_eq!(first[9..13], 1_u32.to_be_bytes());
    assert_eq!(first[13..17], 1_700_000_000_u32.to_be_bytes());
}
