//! tls-crypt-v2: who is let in with it, and whom state is kept for.

use super::*;

const DAY: Duration = Duration::from_secs(86400);

fn own(metadata: &[u8]) -> WrapConfig {
    WrapConfig::TlsCryptV2 { key: client_file(metadata) }
}

/// What becomes of the first packet of `client`.
fn first(client: &mut Client, wrap: WrapConfig, v2: Option<&TlsCryptV2>, path: Path) -> Got {
    let reset = client.reset();
    knock(&mut doorman(wrap, v2), NOW, path, &reset)
}

#[test]
fn state_is_kept_for_old_clients_and_on_streams() {
    let new = || Client::new(&own(&DATED));
    let stream = Path::Stream(StreamId(1));
    for (mut client, path) in [(Client::old(&DATED), udp(1)), (Client::old(&DATED), stream), (new(), stream)]
    {
        let reset = client.reset();
        let mut doorman = doorman(WrapConfig::None, Some(&v2()));
        let Got::Welcome(mut welcome, header, body) = knock(&mut doorman, NOW, path, &reset) else {
            panic!("{path:?}");
        };
        assert!(welcome.stateful);
        assert_eq!(header, Opcode::HardResetClientV3.header(KeyId::FIRST));
        assert_eq!(ControlBody::parse(Opcode::HardResetClientV3, &body), Ok(plain_body(&[], None, Some(0))));
        assert_eq!(welcome.metadata.as_deref(), Some(&DATED[..]));
        // The reset again, with the key; and what follows, without it.
        let mut again = client.reset();
        assert_eq!(welcome.wrap.open(NOW, &mut again).unwrap().header(), header);
        let mut control = client.packet(Opcode::ControlV1, &plain_body(&[0], Some(welcome.local), Some(1)));
        assert!(welcome.wrap.open(NOW, &mut control).is_ok());
        let mut packet = Vec::new();
        welcome.wrap.seal(UNIX.as_secs() as u32, 0x40, welcome.local, &body, &mut packet);
        assert_eq!(packet[9..13], [0x0f, 0, 0, 1], "the counter of a server that did not answer before");
        assert!(client.wrap.open(NOW, &mut packet).is_ok());
    }
}

#[test]
fn force_cookie_refuses_old_clients_on_datagrams_only() {
    let forced = TlsCryptV2 { force_cookie: true, ..v2() };
    let mut old = Client::old(&DATED);
    let reason = first(&mut old, WrapConfig::None, Some(&forced), udp(1)).reason();
    assert_eq!(reason, DropReason::CookieUnsupported);
    first(&mut old, WrapConfig::None, Some(&forced), Path::Stream(StreamId(1))).welcome();
    first(&mut Client::new(&own(&DATED)), WrapConfig::None, Some(&forced), udp(1)).reply();
}

#[test]
fn state_for_old_clients_costs_tokens_of_both_rates() {
    let once = Some(Rate { events: 1, period: SECOND });
    let channel = ChannelConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()));
    for (initial, connect) in [(once, None), (None, once)] {
        let mut doorman = Doorman::new(&channel, Some(&v2()), initial, connect, &[9; 32]);
        let mut old = Client::old(&DATED);
        knock(&mut doorman, NOW, udp(1), &old.reset()).welcome();
        let second = old.reset();
        assert_eq!(knock(&mut doorman, NOW, udp(2), &second).reason(), DropReason::RateLimited);
    }
}

#[test]
fn each_kind_of_client_is_let_in_where_it_is_configured() {
    let crypt = || WrapConfig::TlsCrypt { key: key() };
    for (server, v2, own_key, base) in [
        (WrapConfig::None, Some(v2()), true, false),
        (crypt(), Some(v2()), true, true),
        (crypt(), None, false, true),
        (own(&DATED), None, false, false),
    ] {
        for (client, allowed) in [(own(&DATED), own_key), (crypt(), base)] {
            let got = first(&mut Client::new(&client), server.clone(), v2.as_ref(), udp(1));
            if allowed {
                got.reply();
            } else {
                assert_eq!(got.reason(), DropReason::UnexpectedOpcode, "{client:?} {server:?}");
            }
        }
    }
    // Without a key of its own, a client does not get in plain beside tls-crypt-v2 either.
    let mut plain = Client::new(&WrapConfig::None);
    let reason = first(&mut plain, WrapConfig::None, Some(&v2()), udp(1)).reason();
    assert_eq!(reason, DropReason::UnexpectedOpcode);
}

#[test]
fn keys_of_another_server_are_refused() {
    let other = TlsCryptV2 { key: Arc::new(ServerKeyV2::new(&[1; 128])), ..v2() };
    let mut client = Client::new(&own(&DATED));
    assert_eq!(first(&mut client, WrapConfig::None, Some(&other), udp(1)).reason(), DropReason::ClientKey);
    // A good wrapped key in a packet that was sealed with another.
    let mut thief = Client::new(&WrapConfig::TlsCrypt { key: Arc::new(StaticKey::new([3; 256].into())) });
    (thief.v2, thief.tail) = (true, wrapped(&DATED));
    let reason = first(&mut thief, WrapConfig::None, Some(&v2()), udp(1)).reason();
    assert_eq!(reason, DropReason::WrapAuthentication);
}

#[test]
fn old_and_undated_keys_are_refused_if_an_age_is_set() {
    let aged = TlsCryptV2 { max_age: Some(30 * DAY), ..v2() };
    let made = |unix: u64| [&[1][..], &unix.to_be_bytes()].concat();
    let now = UNIX.as_secs();
    let month = 30 * DAY.as_secs();
    for (metadata, good) in [
        (made(now), true),
        (made(now - month), true),
        (made(now - month - 1), false),
        (made(now + month), true),
        (made(u64::MAX), true),
        (made(0), false),
        (vec![], false),
        (vec![1, 0, 0, 0, 0x66], false),
        ([&made(now)[..], &[0]].concat(), false),
        ([&[0][..], &now.to_be_bytes()].concat(), false),
    ] {
        for mut client in [Client::new(&own(&metadata)), Client::old(&metadata)] {
            let got = first(&mut client, WrapConfig::None, Some(&aged), udp(1));
            match got {
                Got::Drop(reason) => {
                    assert!(!good && reason == DropReason::ClientKeyAge, "{metadata:?} {reason:?}");
                }
                Got::Reply(_) | Got::Welcome(..) => assert!(good, "{metadata:?}"),
            }
            assert!(!matches!(first(&mut client, WrapConfig::None, Some(&v2()), udp(1)), Got::Drop(_)));
        }
    }
}
