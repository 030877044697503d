//! Who must not get in, and what must not hold others up.

use super::*;
use crate::keys::data_key::TlsRole;
use crate::keys::token::Series;
use crate::limits::MAX_PEER_SESSIONS;

const SECRET: [u8; 32] = [9; 32];

fn with_tokens(external: bool) -> (ServerConfig, ClientConfig) {
    let (mut server, client) = pairs().remove(2);
    server.ask_login = true;
    server.login = LoginPolicy::Required;
    server.username_as_common_name = true;
    let secret = Zeroizing::new(SECRET);
    server.token = Some(TokenConfig { lifetime: None, renewal: secs(120), external, secret });
    (server, client)
}

fn token(username: &str) -> String {
    let begun = 1_700_000_000;
    let series = Series { session: [7; 12], begun };
    series.issue(&SECRET, username, secs(begun)).to_string()
}

#[test]
fn a_token_for_nobody_is_good_for_no_name() {
    let (server, client) = with_tokens(false);
    let mut net = Net::new(server, 5);
    net.policy.verdict = |login| panic!("nobody has to be asked about {login:?}");
    net.join(1, client, login("root", &token("")));
    net.run(secs(2));
    let refused = CloseCause::AuthFailed { reason: String::new(), was_token: false };
    assert_eq!(net.clients[&1].closed(), [&refused]);

    let (server, client) = with_tokens(true);
    let mut net = Net::new(server, 5);
    net.policy.verdict = |login| {
        assert_eq!((login.username.as_deref(), login.common_name.as_str()), (Some(""), ""));
        let state = login.token.as_ref().map(|token| token.state);
        (state == Some(TokenState::AuthenticatedEmptyUser)).then_some(Verdict::Accept)
    };
    net.join(1, client, login("root", &token("")));
    assert!(net.up(1, secs(2)), "the application may let nobody in");
}

#[test]
fn a_valid_token_is_asked_about_where_more_is_looked_at() {
    let (mut server, client) = with_tokens(false);
    let mut net = Net::new(server.clone(), 5);
    net.policy.verdict = |_| Some(Verdict::Drop);
    net.join(1, client.clone(), login("carol", &token("carol")));
    assert!(net.up(1, secs(2)), "nobody is asked");

    server.ask_with_token = true;
    let mut net = Net::new(server, 5);
    net.policy.verdict = |login| {
        assert_eq!(login.token.as_ref().map(|token| token.state), Some(TokenState::Authenticated));
        Some(Verdict::Drop)
    };
    net.join(1, client, login("carol", &token("carol")));
    assert!(!net.up(1, secs(2)));
    assert!(matches!(net.server.closed()[..], [CloseCause::Denied(_)]), "{:?}", net.server.closed());
}

#[test]
fn user_names_have_no_control_characters() {
    let (mut server, client) = with_tokens(false);
    server.token = None;
    let mut net = Net::new(server, 5);
    net.policy.verdict = |login| {
        assert_eq!((login.username.as_deref(), &*login.common_name), (Some("ann__up"), "ann__up"));
        Some(Verdict::Accept)
    };
    net.join(1, client, login("ann\n\u{7f}up", "x"));
    assert!(net.up(1, secs(2)));
}

#[test]
fn a_verdict_put_off_before_the_exchange_ends_has_its_whole_time() {
    let (mut server, mut client) = with_tokens(false);
    server.token = None;
    // Half of it is the most that a client waits.
    server.channel.timing.reneg = secs(3600);
    client.channel.timing.reneg = secs(3600);
    let mut net = Net::new(server, 5);
    net.policy.verdict = |_| None;
    net.join(1, client, login("ann", "x"));
    let end = net.now + secs(2);
    while net.open.is_empty() && net.step(end) {}
    let (ticket, _) = net.open.pop().unwrap();
    net.at_server(|node, now| node.defer_login(now, &ticket, secs(100), ""));
    net.run(secs(90));
    assert_eq!(net.server.closed(), [&CloseCause::Local; 0]);
    net.at_server(|node, now| node.answer_login(now, ticket, Verdict::Accept));
    net.drain();
    assert!(net.up(1, secs(6)), "{:?}", net.clients[&1].events);
}

#[test]
fn attempts_at_a_peer_are_bounded_and_keep_nobody_out() {
    let config = |role| {
        let channel = config(WrapConfig::None).channel;
        PeerConfig { channel, tls_crypt_v2: None, role, remote: None }
    };
    let mut net = Net::silent(3);
    net.server.node.listen_peer(Arc::new(config(TlsRole::Server)));
    for number in 1..=MAX_PEER_SESSIONS as u8 + 10 {
        net.join_peer(number, config(TlsRole::Client));
        net.run(Duration::from_millis(35));
        net.clients.clear();
    }
    assert_eq!(net.server.node.sessions(), MAX_PEER_SESSIONS);
    assert_eq!(net.server.node.drops().get(DropReason::Full), 10);
    net.join_peer(200, config(TlsRole::Client));
    assert!(net.up(200, secs(2)));
}

#[test]
fn nobody_lures_a_client_that_is_up_into_beginning_anew() {
    let (server, client) = pairs().remove(0);
    let mut net = Net::new(server, 5);
    net.join(1, client.clone(), None);
    assert!(net.up(1, secs(1)));
    let path = net.address(1, 0);
    for n in 1..=50_u8 {
        let mut reset = vec![7 << 3, n, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
        net.deliver(path, true, &mut reset);
        let mut out = [0; MAX_CONTROL_DATAGRAM];
        assert!(net.at_server(|node, now| node.poll_transmit(now, &mut out)).is_none(), "packet {n}");
    }
    assert_eq!(net.server.node.drops().get(DropReason::UnderWay), 50);
    // The client itself asks again.
    net.restart(1, client, None);
    assert!(net.up(1, secs(4)), "{:?}", net.server.node.drops());
    net.run(secs(1));
    net.assert_alive(1, "anew");
}

/// Behind a byte stream is one peer, and what it can't have sent ends its session (`openvpn: forward.c`,
/// `check_tls_errors_co`). What is merely late does not.
#[test]
fn junk_on_a_byte_stream_ends_its_session() {
    type Spoil = fn(&mut Vec<u8>);
    let junk: [(Spoil, DropReason); 7] = [
        (|packet| packet.clear(), DropReason::Malformed),
        (|packet| packet[0] = 0, DropReason::UnknownOpcode),
        (|packet| packet[0] = 8 << 3, DropReason::UnexpectedOpcode),
        (|packet| packet.truncate(5), DropReason::Malformed),
        (|packet| packet[1] ^= 1, DropReason::WrapAuthentication),
        (|packet| *packet.last_mut().unwrap() ^= 1, DropReason::WrapAuthentication),
        (|_| {}, DropReason::WrapReplay),
    ];
    for (n, (spoil, reason)) in junk.into_iter().enumerate() {
        for stream in [true, false] {
            let (server, client) = pairs().remove(2);
            let mut net = Net::silent(5);
            let place = if stream { Path::Stream(StreamId(0)) } else { PATH };
            net.net = net::Net::new(5, Capabilities::USERSPACE, Duration::ZERO, place);
            net.server.node.listen(Arc::new(server));
            net.seat(1, 6, Capabilities::USERSPACE, |node, now| {
                node.connect(now, place, Arc::new(client), None).unwrap()
            });
            assert!(net.up(1, secs(2)));
            net.run(secs(15));
            net.at_client(1, |node, now, session| node.send_message(now, session, "nonsense"));
            net.drain();
            let sent = net.link.values().find(|(_, to_server, packet)| *to_server && packet[0] >> 3 == 4);
            let mut packet = sent.unwrap().2.clone();
            net.run(secs(1));
            assert!(net.server.closed().is_empty());
            spoil(&mut packet);
            let path = net.address(1, 0);
            net.deliver(path, true, &mut packet);
            net.drain();
            assert_eq!(net.server.node.drops().get(reason), 1, "{n}: {:?}", net.server.node.drops());
            let ended = matches!(net.server.closed()[..], [CloseCause::Protocol(_)]);
            assert_eq!(ended, stream, "{n}: {:?}", net.server.closed());
        }
    }
}
