//! What the application decides about clients, and what follows from it.

use super::*;
use crate::config::cipher::DataCipher;

#[test]
fn an_empty_password_is_one_and_the_application_decides() {
    for policy in [LoginPolicy::Optional, LoginPolicy::Required] {
        let (mut server, client) = pairs().remove(0);
        server.login = policy;
        server.ask_login = true;
        server.username_as_common_name = true;
        let mut net = Net::new(server, 5);
        net.policy.verdict = |login| {
            let password = login.password.as_ref().map(|password| password.as_str());
            assert_eq!((login.username.as_deref(), password), (Some("root"), Some("")));
            assert_eq!(login.common_name, "root");
            Some(Verdict::Accept)
        };
        net.join(1, client, login("root", ""));
        assert!(net.up(1, secs(1)), "{policy:?}");
    }
}

#[test]
fn a_client_that_is_refused_replaces_nobody() {
    let (mut server, client) = pairs().remove(2);
    server.duplicate_cn = false;
    server.login = LoginPolicy::Required;
    server.username_as_common_name = true;
    let mut net = Net::new(server, 5);
    let joined = |net: &mut Net, number| net.join(number, client.clone(), login("alice", "secret"));
    joined(&mut net, 1);
    assert!(net.up(1, secs(2)));
    net.policy.admit = |_| Err("not now".into());
    // From another address, and from that of the one that is in.
    joined(&mut net, 2);
    let other = net.clients.remove(&1).unwrap();
    net.restart(1, client.clone(), login("alice", "secret"));
    net.run(secs(8));
    let refused = CloseCause::AuthFailed { reason: "not now".into(), was_token: false };
    assert_eq!(net.clients[&1].closed(), [&refused]);
    assert_eq!(net.clients[&2].closed(), [&refused]);
    assert_eq!(net.server.closed(), [&CloseCause::Denied("not now".into()); 2]);
    net.clients.insert(1, other);
    net.assert_alive(1, "the one that is in");
    net.policy.admit = |_| Ok(());
    joined(&mut net, 2);
    assert!(net.up(2, secs(2)));
    net.run(secs(1));
    assert_eq!(net.server.closed()[2..], [&CloseCause::Replaced]);
    net.assert_alive(2, "the newer");
}

#[test]
fn a_client_without_a_common_cipher_replaces_nobody() {
    let (mut server, client) = pairs().remove(2);
    server.duplicate_cn = false;
    server.login = LoginPolicy::Required;
    server.username_as_common_name = true;
    server.channel.ciphers = vec![DataCipher::Aes256Gcm];
    let mut net = Net::new(server, 5);
    net.join(1, client.clone(), login("alice", "secret"));
    assert!(net.up(1, secs(2)));
    let mut odd = client;
    odd.channel.ciphers = vec![DataCipher::ChaCha20Poly1305];
    net.join(2, odd, login("alice", "secret"));
    net.run(secs(8));
    assert!(matches!(net.server.closed()[..], [CloseCause::Denied(_)]), "{:?}", net.server.closed());
    net.assert_alive(1, "the one that is in");
}

#[test]
fn another_name_lasts_over_renegotiations_and_in_tokens() {
    for tokens in [false, true] {
        let (mut server, client) = pairs().remove(2);
        server.duplicate_cn = false;
        server.ask_login = true;
        server.ask_with_token = true;
        server.login = LoginPolicy::Required;
        server.username_as_common_name = true;
        let secret = Zeroizing::new([9; 32]);
        server.token =
            tokens.then_some(TokenConfig { lifetime: None, renewal: secs(600), external: false, secret });
        let mut net = Net::new(server, 5);
        net.policy.rename = Some("employee 7");
        net.join(1, client.clone(), login("alice", "secret"));
        assert!(net.up(1, secs(2)));
        let session = net.server.session.unwrap();
        net.policy.verdict = |login| {
            assert_eq!(login.username.as_deref(), Some("employee 7"));
            assert_eq!(login.common_name, "employee 7");
            let state = login.token.as_ref().map_or(TokenState::Initial, |token| token.state);
            Some(if state == TokenState::Invalid { Verdict::Drop } else { Verdict::Accept })
        };
        for _ in 0..2 {
            net.run(secs(61));
            let now = net.now;
            net.server.node.renegotiate(now, session);
            net.run(secs(90));
            net.assert_alive(1, "after a renegotiation");
        }
        assert_eq!(net.server.count("Rekeyed"), 2);
        // Whoever gets that name now is the same client.
        net.policy.verdict = |_| Some(Verdict::Accept);
        net.join(2, client, login("bob", "secret"));
        assert!(net.up(2, secs(2)));
        assert_eq!(net.server.closed(), [&CloseCause::Replaced], "tokens: {tokens}");
    }
}

#[test]
fn who_becomes_somebody_else_is_cut_off_at_once() {
    // By another name, or by a refusal of the same one, in both ways.
    for (renamed, revoked) in [(true, false), (false, false), (false, true)] {
        let (mut server, client) = pairs().remove(2);
        server.ask_login = true;
        server.login = LoginPolicy::Required;
        let mut net = Net::new(server, 5);
        if renamed {
            let other = STANDARD.encode("bob");
            net.policy.push.extend([format!("auth-token-user {other}"), "auth-token x".into()]);
        }
        net.join(1, client, login("alice", "secret"));
        assert!(net.up(1, secs(2)));
        net.run(secs(15));
        net.policy.verdict = match revoked {
            true => |_| Some(Verdict::Revoke(String::new())),
            false => |login| {
                assert_eq!(login.username.as_deref(), Some("alice"));
                Some(Verdict::Deny(String::new()))
            },
        };
        let session = net.server.session.unwrap();
        let now = net.now;
        net.server.node.renegotiate(now, session);
        net.drain();
        while net.server.count("TlsReady") < 2 {
            assert!(net.step(net.now + secs(1)), "no new key");
        }
        // The refusal does not reach the client, which goes on.
        let mut host = net.clients.remove(&1).unwrap();
        let peer = host.peer.unwrap();
        let before = net.server.inner.len();
        let passed = usize::from(!renamed && !revoked);
        for wait in [1, 10] {
            let packet = host.seal(net.now, peer, &inner(wait, 12, 1)).unwrap();
            net.put(host.path, true, packet);
            net.run(secs(wait.into()));
            assert_eq!(net.server.inner.len() - before, passed, "{renamed} {revoked} {wait}");
            net.run(secs(5));
        }
        assert_eq!(net.server.closed(), [&CloseCause::Denied(String::new())]);
    }
}

/// A handshake that is begun at `path`, and goes no further.
fn half_open(net: &mut Net, config: &ClientConfig, path: Path) {
    let seed = [path.remote().unwrap().port() as u8; 32];
    let mut host = Host::new(seed, net.now, path, Capabilities::USERSPACE, Duration::ZERO);
    host.node.connect(net.now, PATH, Arc::new(config.clone()), None).unwrap();
    let mut out = [0; MAX_CONTROL_DATAGRAM];
    for _ in 0..2 {
        while let Some(transmit) = host.node.poll_transmit(net.now, &mut out) {
            let now = net.now;
            net.server.node.handle_datagram(now, path, &mut out[..transmit.len]);
        }
        let now = net.now;
        while let Some(transmit) = net.server.node.poll_transmit(now, &mut out) {
            host.node.handle_datagram(now, PATH, &mut out[..transmit.len]);
        }
    }
    net.drain();
}

#[test]
fn handshakes_of_strangers_keep_nobody_out() {
    let (mut server, client) = pairs().remove(0);
    server.max_clients = 4;
    let mut net = Net::new(server, 5);
    let from = |host: u8, port: u16| Path::udp(0, SocketAddr::from(([10, 9, 1, host], port)));
    for port in 1..=3 {
        half_open(&mut net, &client, from(50, port));
    }
    for number in 1..=2 {
        assert_eq!(net.server.node.sessions(), 2 + usize::from(number));
        net.join(number, client.clone(), None);
        assert!(net.up(number, secs(1)), "{number}: a crowd from one place gives way");
    }
    assert_eq!(net.server.node.sessions(), 4);
    assert_eq!(net.server.closed(), [&CloseCause::Replaced]);
    // One from each place: for so long each has its chance.
    half_open(&mut net, &client, from(51, 1));
    net.join(3, client, None);
    assert!(!net.up(3, secs(3)));
    assert!(net.up(3, secs(9)), "then the oldest gives way");
    for number in 1..=3 {
        net.assert_alive(number, "those that are in stay");
    }
}

#[test]
fn nonsense_on_a_byte_stream_is_told() {
    let (server, _) = pairs().remove(1);
    let mut net = Net::new(server, 5);
    for (packet, unwelcome) in [(&[0x38; 14][..], 1), (&[0x20; 60], 2), (b"GET / HTTP/1.1", 3)] {
        let now = net.now;
        net.server.node.handle_datagram(now, Path::Stream(StreamId(7)), &mut packet.to_vec());
        net.drain();
        assert_eq!(net.server.count("Unwelcome(StreamId(7))"), unwelcome, "{packet:?}");
    }
    let path = net.address(1, 0);
    let now = net.now;
    net.server.node.handle_datagram(now, path, &mut [0x38; 14]);
    net.drain();
    assert_eq!(net.server.count("Unwelcome"), 3, "a datagram may be anybody's");
}
