//! What a server does for a client, and what a client may say to it.

use super::*;
use crate::keys::data_key::TlsRole;

fn asked(net: &mut Net) -> (LoginTicket, Box<crate::event::login::Login>) {
    let end = net.now + secs(2);
    while net.open.is_empty() && net.step(end) {}
    net.open.pop().unwrap()
}

/// `username-as-common-name` (`openvpn: ssl_verify.c`, `set_common_name`).
#[test]
fn the_certificate_names_the_client_unless_its_user_name_shall() {
    for (by_user, expected) in [(false, "client"), (true, "ann")] {
        let (mut server, client) = pairs().remove(0);
        server.ask_login = true;
        server.login = LoginPolicy::Required;
        server.username_as_common_name = by_user;
        let mut net = Net::new(server, 5);
        net.policy.verdict = |_| None;
        net.join(1, client, login("ann", "x"));
        let (_, login) = asked(&mut net);
        assert_eq!((login.username.as_deref(), &*login.common_name), (Some("ann"), expected));
    }
}

/// PUSH_UPDATE is for those who announce it in `IV_PROTO` (`openvpn: push_util.c`, `support_push_update`).
#[test]
fn a_client_that_takes_no_push_update_is_sent_none() {
    let (server, client) = pairs().remove(0);
    let mut net = Net::new(server, 5);
    net.join(1, client, None);
    assert!(net.up(1, secs(1)));
    let session = net.server.session.unwrap();
    assert!(!net.at_server(|node, now| node.push_update(now, session, &["ping 3".into()])));
    net.run(secs(1));
    assert_eq!(net.server.count("Pushed"), 1, "the PUSH_REPLY");
}

#[test]
fn a_client_that_leaves_says_so_on_the_control_channel() {
    let (server, mut client) = pairs().remove(2);
    client.channel.exit_notify = Some(3);
    let mut net = Net::new(server, 5);
    net.join(1, client, None);
    assert!(net.up(1, secs(1)));
    net.run(secs(1));
    net.at_client(1, Node::close);
    net.drain();
    net.run(Duration::from_millis(100));
    assert_eq!(net.server.closed(), [&CloseCause::PeerExit]);
    assert_eq!(net.clients[&1].closed(), [&CloseCause::Local]);
}

/// Each answer to a challenge may cost the application a script, and one that wasn't asked for is nobody's.
#[test]
fn answers_to_a_challenge_are_heard_eight_times() {
    let (mut server, client) = pairs().remove(0);
    server.ask_login = true;
    server.login = LoginPolicy::Required;
    let mut net = Net::new(server, 5);
    net.policy.verdict = |_| None;
    net.join(1, client, login("ann", "x"));
    let (ticket, _) = asked(&mut net);
    net.at_server(|node, now| node.defer_login(now, &ticket, secs(30), "CR_TEXT:R,E:code"));
    net.run(secs(1));
    let answer = |net: &mut Net, text: &str| {
        let message = format!("CR_RESPONSE,{text}");
        net.at_client(1, |node, now, session| node.send_message(now, session, &message));
        net.drain();
        net.run(Duration::from_millis(500));
    };
    for n in 1..=10 {
        answer(&mut net, &format!("code {n}"));
        assert_eq!(net.server.count("ChallengeResponse"), n.min(8));
    }
    let first = net.server.events.iter().find_map(|event| match event {
        Event::ChallengeResponse { response, .. } => Some(response.as_str()),
        _ => None,
    });
    assert_eq!(first, Some("code 1"));
    assert_eq!(net.server.node.drops().get(DropReason::ControlMessage), 2);
    net.at_server(|node, now| node.answer_login(now, ticket, Verdict::Accept));
    net.drain();
    assert!(net.up(1, secs(2)));
    answer(&mut net, "too late");
    assert_eq!(net.server.count("ChallengeResponse"), 8);
}

/// A renegotiation brings a token of its own, so that one is not renewed besides which ends at that time.
#[test]
fn a_token_that_ends_with_its_key_is_not_renewed_twice() {
    let (mut server, client) = pairs().remove(2);
    server.login = LoginPolicy::Required;
    server.channel.timing.reneg = secs(120);
    server.channel.timing.reneg_min = Some(secs(120));
    let secret = Zeroizing::new([9; 32]);
    server.token = Some(TokenConfig { lifetime: None, renewal: secs(120), external: false, secret });
    let mut net = Net::new(server, 5);
    net.join(1, client, login("carol", "pw"));
    assert!(net.up(1, secs(1)));
    net.run(secs(125));
    assert_eq!((net.clients[&1].count("Token"), net.server.count("TlsReady")), (2, 2));
}

/// Epochs take both ends (`openvpn: ssl_ncp.c`, `p2p_mode_ncp`).
#[test]
fn peers_use_epochs_if_both_know_them() {
    for (here, there) in [(true, true), (true, false), (false, true)] {
        let capabilities = |epoch| Capabilities { epoch, ..Capabilities::USERSPACE };
        let peer = |role| {
            let channel = config(WrapConfig::None).channel;
            Arc::new(PeerConfig { channel, tls_crypt_v2: None, role, remote: None })
        };
        let mut net = Net::silent(3);
        net.net = net::Net::new(4, capabilities(here), Duration::ZERO, PATH);
        net.server.node.listen_peer(peer(TlsRole::Server));
        net.seat(1, 5, capabilities(there), |node, now| {
            node.connect_peer(now, PATH, peer(TlsRole::Client)).unwrap()
        });
        assert!(net.up(1, secs(2)));
        net.run(secs(1));
        let summaries: Vec<&str> = net
            .server
            .events
            .iter()
            .chain(&net.clients[&1].events)
            .filter_map(|event| {
                if let Event::PeerNegotiated { summary, .. } = event { Some(summary.as_str()) } else { None }
            })
            .collect();
        let epoch = if here && there { "epoch=1" } else { "epoch=0" };
        assert!(summaries.len() == 2 && summaries.iter().all(|text| text.contains(epoch)), "{summaries:?}");
    }
}

/// Who does not negotiate point to point is taken as an old peer is: packets without peer-id, and the cipher of last
/// resort (`openvpn: ssl_ncp.c`, `p2p_mode_ncp`).
#[test]
fn a_peer_that_does_not_negotiate_gets_the_oldest_format() {
    let mut channel = config(WrapConfig::None).channel;
    channel.fallback = Some(crate::config::cipher::DataCipher::Aes192Gcm);
    let mut net = Net::silent(3);
    let role = TlsRole::Server;
    net.server.node.listen_peer(Arc::new(PeerConfig { channel, tls_crypt_v2: None, role, remote: None }));
    // A client that pulls announces no NCP_P2P.
    net.join(1, client_config(WrapConfig::None), None);
    net.run(secs(1));
    let params = net.server.events.iter().find_map(|event| match event {
        Event::Established { params, flags, .. } => Some((params.format, params.cipher.name(), &**flags)),
        _ => None,
    });
    assert_eq!(params, Some((DataFormat::V1, "AES-192-GCM", "")));
    assert_eq!(net.server.count("PeerNegotiated"), 0);
}

/// PUSH_UPDATE goes to who announced it in `IV_PROTO`, once its tunnel is up.
#[test]
fn a_client_that_takes_push_update_is_sent_it() {
    let (server, mut client) = pairs().remove(0);
    // The first line of a name counts.
    client.channel.peer_info.version = format!("2.7\nIV_PROTO={}", 1950 | 1 << 12);
    let mut net = Net::new(server, 5);
    net.join(1, client, None);
    assert!(net.up(1, secs(1)));
    let session = net.server.session.unwrap();
    assert!(!net.at_server(|node, now| node.push_update(now, session, &["x".repeat(1000)])), "too long");
    assert!(net.at_server(|node, now| node.push_update(now, session, &["ping 3".into()])));
    net.drain();
    net.run(secs(1));
    let mut pushed = net.server.events.iter().filter_map(|event| match event {
        Event::Pushed { text, .. } => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(pushed.next_back(), Some("PUSH_UPDATE,ping 3"));
    let drops = net.clients[&1].node.drops();
    assert_eq!(drops.get(DropReason::ControlMessage), 1, "it arrived at a client that knows no such message");
}

/// A control channel that is dead carries no farewell: the session ends at once.
#[test]
fn a_lame_session_is_dismissed_without_a_word() {
    let (mut net, session) = Net::lame(5);
    net.at_server(|node, now| node.dismiss(now, session, "RESTART"));
    net.drain();
    assert_eq!(net.server.closed().len(), 1, "{:?}", net.server.closed());
}

/// An attempt counts from its own beginning, however long the server has been there.
#[test]
fn an_attempt_that_just_began_stays_at_an_old_server_too() {
    let (server, client) = pairs().remove(0);
    let mut net = Net::new(server, 5);
    net.run(secs(1000));
    net.join(1, client.clone(), None);
    net.run(Duration::from_millis(35));
    net.restart(1, client, None);
    net.run(Duration::from_millis(500));
    assert!(net.server.node.drops().get(DropReason::UnderWay) > 0);
    assert!(net.server.closed().is_empty(), "{:?}", net.server.closed());
}

/// A key whose login was granted late sends when its time has come, also without a sign of the client
/// (`openvpn: ssl.c`, `tls_select_encryption_key`).
#[test]
fn a_key_that_was_granted_late_is_used_in_the_end() {
    let (mut server, client) = pairs().remove(2);
    server.login = LoginPolicy::Required;
    server.ask_login = true;
    let mut net = Net::new(server, 5);
    net.policy.push = vec!["ping-restart 0".into()];
    net.join(1, client, login("ann", "x"));
    assert!(net.up(1, secs(1)));
    net.policy.verdict = |_| None;
    let session = net.server.session.unwrap();
    net.at_server(|node, now| node.renegotiate(now, session));
    net.drain();
    net.run(secs(20));
    let (ticket, _) = asked(&mut net);
    assert_eq!(net.server.count("Rekeyed"), 0);
    net.at_server(|node, now| node.answer_login(now, ticket, Verdict::Accept));
    net.drain();
    net.run(secs(5));
    assert_eq!(net.server.count("Rekeyed"), 0, "the client may not have it yet");
    net.run(secs(60));
    assert_eq!(net.server.count("Rekeyed"), 1);
    net.assert_alive(1, "under the new key");
}

/// No key is used and no tunnel comes up before the verdict (`openvpn: ssl.c`, `tls_select_encryption_key`;
/// `multi.c`, `multi_client_connect_late_setup`).
#[test]
fn nobody_is_in_before_the_verdict() {
    let (mut server, client) = pairs().remove(2);
    server.login = LoginPolicy::Required;
    server.ask_login = true;
    let mut net = Net::new(server, 5);
    net.policy.verdict = |_| None;
    net.join(1, client, login("ann", "x"));
    let (ticket, _) = asked(&mut net);
    net.run(secs(20));
    assert_eq!((net.server.count("Established"), net.server.count("Pushed")), (0, 0));
    assert!(net.clients[&1].peer.is_none());
    net.at_server(|node, now| node.answer_login(now, ticket, Verdict::Accept));
    net.drain();
    assert!(net.up(1, secs(2)));
}
