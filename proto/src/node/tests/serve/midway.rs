//! What falls into a renegotiation.

use super::*;

/// A tunnel that is up, whose client takes PUSH_UPDATE.
fn tunnel() -> Net {
    let (server, mut client) = pairs().remove(2);
    client.channel.peer_info.version = format!("2.7\nIV_PROTO={}", 1950 | 1 << 12);
    let mut net = Net::new(server, 5);
    net.policy.push = vec!["ping 10".into(), "ping-restart 0".into()];
    net.join(1, client, None);
    assert!(net.up(1, secs(1)));
    net.run(secs(15));
    net
}

/// Begins a renegotiation, and goes on with it for so many milliseconds.
fn renegotiate(net: &mut Net, by_server: bool, millis: u64) {
    if by_server {
        let session = net.server.session.unwrap();
        net.at_server(|node, now| node.renegotiate(now, session));
    } else {
        net.at_client(1, Node::renegotiate);
    }
    net.drain();
    net.run(Duration::from_millis(millis));
}

/// A round trip takes 20 ms, a renegotiation four of them.
fn moments() -> impl Iterator<Item = (bool, u64)> {
    [true, false].into_iter().flat_map(|by_server| (0..12).map(move |tick| (by_server, 10 * tick)))
}

/// They wait for the new channel (`openvpn: ssl.c`, `tls_send_payload`).
#[test]
fn messages_arrive_whenever_they_are_sent() {
    for (by_server, millis) in moments() {
        let mut net = tunnel();
        renegotiate(&mut net, by_server, millis);
        let session = net.server.session.unwrap();
        let ignored = |net: &Net| net.clients[&1].node.drops().get(DropReason::ControlMessage);
        let before = ignored(&net);
        net.at_server(|node, now| node.send_message(now, session, "INFO,one"));
        assert!(net.at_server(|node, now| node.push_update(now, session, &["ping 3".into()])));
        net.at_server(|node, now| node.send_message(now, session, "INFO,two"));
        net.at_client(1, |node, now, session| node.send_message(now, session, "nonsense"));
        net.drain();
        net.run(secs(1));
        let heard: Vec<&str> = net.clients[&1]
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Message { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let why = format!("by server: {by_server}, {millis} ms: {:?}", net.server.events);
        assert_eq!(heard, ["INFO,one", "INFO,two"], "{why}");
        assert_eq!(ignored(&net), before + 1, "PUSH_UPDATE arrived; {why}");
        assert_eq!(net.server.node.drops().get(DropReason::ControlMessage), 1, "{why}");
        net.run(secs(70));
        assert_eq!((net.server.count("Rekeyed"), net.clients[&1].count("Rekeyed")), (1, 1), "{why}");
        net.assert_alive(1, &why);
    }
}

#[test]
fn a_farewell_arrives_whenever_it_is_sent() {
    for (by_server, millis) in moments() {
        let mut net = tunnel();
        renegotiate(&mut net, by_server, millis);
        let session = net.server.session.unwrap();
        net.at_server(|node, now| node.dismiss(now, session, "RESTART"));
        net.drain();
        net.run(secs(6));
        let (here, there) = (net.server.closed(), net.clients[&1].closed());
        assert_eq!(here, [&CloseCause::Local], "by server: {by_server}, {millis} ms");
        assert!(matches!(there[..], [CloseCause::Restart { .. }]), "by server: {by_server}, {millis} ms");
    }
}

/// A message may be given before there is any channel.
#[test]
fn the_first_message_waits_for_the_first_channel() {
    let (server, client) = pairs().remove(0);
    let mut net = Net::new(server, 5);
    net.join(1, client, None);
    net.at_client(1, |node, now, session| node.send_message(now, session, "nonsense"));
    net.drain();
    assert!(net.up(1, secs(2)), "{:?}", net.clients[&1].events);
    net.run(secs(1));
    assert_eq!(net.server.node.drops().get(DropReason::ControlMessage), 1);
}

/// Goes on while no control packet reaches the server.
fn run_deaf(net: &mut Net, time: Duration) {
    let end = net.now + time;
    loop {
        net.link.retain(|_, (_, to_server, packet)| !*to_server || matches!(packet[0] >> 3, 6 | 9));
        if !net.step(end) {
            return;
        }
    }
}

/// A server that misses the last acks of a renegotiation gives it up, and hears then by the data that all is well.
#[test]
fn a_renegotiation_that_came_through_after_all_is_none_that_failed() {
    let mut net = tunnel();
    renegotiate(&mut net, true, 0);
    while net.server.node.sessions_at(6).is_empty() || net.clients[&1].count("TlsReady") < 2 {
        assert!(net.step(net.now + secs(1)));
    }
    assert!(net.server.node.sessions_at(7).is_empty());
    let session = net.server.session.unwrap();
    while !net.server.node.is_lame(session) {
        assert!(net.server.closed().is_empty(), "{:?}", net.server.closed());
        run_deaf(&mut net, Duration::from_millis(5));
    }
    assert_eq!(net.server.count("ControlLost"), 1);
    run_deaf(&mut net, secs(1));
    net.assert_alive(1, "under the new key");
    assert!(!net.server.node.is_lame(session));
    assert_eq!((net.server.count("Rekeyed"), net.clients[&1].count("Rekeyed")), (1, 1));
    net.at_server(|node, now| node.send_message(now, session, "INFO,hello"));
    net.drain();
    net.run(secs(1));
    assert_eq!(net.clients[&1].count("Message"), 1);
    net.run(secs(3700));
    assert!(net.server.closed().is_empty(), "{:?}", net.server.closed());
    renegotiate(&mut net, true, 70_000);
    assert_eq!(net.server.count("Rekeyed"), 2, "{:?}", net.server.events);
    net.assert_alive(1, "under the third key");
}

/// Where the handshake itself failed no new key comes of that session, whoever asks for one, and it has an end.
#[test]
fn a_session_whose_renegotiation_failed_has_no_further_one() {
    let (mut net, session) = Net::lame(5);
    let peer = net.server.peer.unwrap();
    for by_server in [true, false] {
        renegotiate(&mut net, by_server, 30_000);
        let (now, key) = (net.now, crate::wire::ids::KeyId::FIRST.next());
        let worn = Report::KeyWorn { peer, key, why: crate::report::Wear::Usage };
        net.server.node.handle_report(now, worn);
        net.server.node.handle_report(now, Report::FirstReceive { peer, key });
        net.drain();
        net.run(secs(10));
        assert!(net.server.node.is_lame(session), "by server: {by_server}");
        assert_eq!((net.server.count("TlsReady"), net.server.count("Rekeyed")), (1, 0));
    }
    // `tran-window` after that negotiation began.
    let left = secs(3600 - 70 - 2 * 40);
    net.run(left - secs(1));
    assert!(net.server.closed().is_empty());
    net.run(secs(1));
    assert_eq!(net.server.closed(), [&CloseCause::HandWindow]);
}
