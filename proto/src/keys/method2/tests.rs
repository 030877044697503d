use super::*;

fn server_bytes(tail: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, 2];
    bytes.extend_from_slice(&[7; 64]);
    bytes.extend_from_slice(tail);
    bytes
}

#[test]
fn strings_after_the_options_may_be_missing() {
    let message = ServerMessage::parse(&server_bytes(b"\0\x03V4\0")).unwrap();
    assert_eq!((message.options.as_str(), message.peer_info.as_str()), ("V4", ""));
    let message = ServerMessage::parse(&server_bytes(b"\0\x03V4\0\0\0\0\0\0\x05ID=a\0")).unwrap();
    assert_eq!(message.peer_info, "ID=a");
}

#[test]
fn short_or_wrong_messages_are_told_apart() {
    let whole = server_bytes(b"\0\x03V4\0");
    for len in 0..whole.len() {
        assert_eq!(ServerMessage::parse(&whole[..len]).unwrap_err(), Method2Error::Incomplete, "{len}");
    }
    let mut other = whole;
    other[4] = 1;
    assert_eq!(ServerMessage::parse(&other).unwrap_err(), Method2Error::Method);
    assert_eq!(ServerMessage::parse(&server_bytes(b"\x02\x01")).unwrap_err(), Method2Error::TooLong);
}

#[test]
fn nothing_secret_is_printed() {
    let source = ClientSource {
        pre_master: Zeroizing::new([1; 48]),
        random1: Zeroizing::new([1; 32]),
        random2: Zeroizing::new([1; 32]),
    };
    assert_eq!(format!("{source:?}"), "ClientSource([redacted])");
    let message = ServerMessage::parse(&server_bytes(b"\0\0")).unwrap();
    assert!(format!("{message:?}").contains("ServerSource([redacted])"));
}

const CLIENT_OPTIONS: &str =
    "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1,keysize 128,key-method 2,tls-client";
const SERVER_OPTIONS: &str =
    "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1,keysize 128,key-method 2,tls-server";

/// Random values of the reference vectors: bytes that count from 0 over both sides.
fn client_source() -> ClientSource {
    ClientSource {
        pre_master: Zeroizing::new(core::array::from_fn(|i| i as u8)),
        random1: Zeroizing::new(core::array::from_fn(|i| 48 + i as u8)),
        random2: Zeroizing::new(core::array::from_fn(|i| 80 + i as u8)),
    }
}

fn client_bytes(tail: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, 2];
    bytes.extend(0..112);
    bytes.extend_from_slice(tail);
    bytes
}

fn text(content: &str) -> Vec<u8> {
    [&(content.len() as u16 + 1).to_be_bytes()[..], content.as_bytes(), b"\0"].concat()
}

#[test]
fn client_message_agrees_with_the_reference_vector() {
    let peer_info = "IV_VER=2.6.0\nIV_PROTO=990\nIV_CIPHERS=AES-256-GCM:AES-128-GCM\n";
    let expected =
        client_bytes(&[text(CLIENT_OPTIONS), text("alice"), text("secret"), text(peer_info)].concat());
    assert_eq!(expected.len(), 301);
    let source = client_source();
    let message = ClientMessage {
        source: &source,
        options: CLIENT_OPTIONS,
        login: Some(("alice", "secret")),
        peer_info,
    };
    assert_eq!(*message.emit().unwrap(), expected);
    let got = Introduction::parse(&expected).unwrap();
    assert_eq!(*got.source.pre_master, *source.pre_master);
    assert_eq!((*got.source.random1, *got.source.random2), (*source.random1, *source.random2));
    assert_eq!((&*got.options, &*got.username, &**got.password), (CLIENT_OPTIONS, "alice", "secret"));
    assert_eq!((&*got.peer_info, got.login_too_long), (peer_info, false));
}

#[test]
fn server_message_agrees_with_the_reference_vector() {
    let mut expected = vec![0, 0, 0, 0, 2];
    expected.extend(112..176);
    expected.extend(text(SERVER_OPTIONS));
    expected.extend([0; 6]);
    assert_eq!(expected.len(), 178);
    let got = ServerMessage::parse(&expected).unwrap();
    assert_eq!(got.options, SERVER_OPTIONS);
    assert_eq!(*got.emit().unwrap(), expected);
    let told = ServerMessage { peer_info: "ID=a\n".into(), ..got };
    assert_eq!(ServerMessage::parse(&told.emit().unwrap()).unwrap().peer_info, "ID=a\n");
    let long = ServerMessage { options: "x".repeat(MAX_TLS_PLAINTEXT), ..told };
    assert!(long.emit().is_none());
}

#[test]
fn strings_of_a_client_may_be_missing_or_cut_off() {
    let whole = client_bytes(&[text("V4"), text("alice"), text("secret"), text("ID=1")].concat());
    let needed = 117 + 5;
    for len in 0..needed {
        assert_eq!(Introduction::parse(&whole[..len]).unwrap_err(), Method2Error::Incomplete, "{len}");
    }
    for len in needed..=whole.len() {
        let got = Introduction::parse(&whole[..len]).unwrap();
        assert_eq!(got.username, if len < needed + 8 { "" } else { "alice" }, "{len}");
        assert_eq!(*got.password, if len < needed + 17 { "" } else { "secret" }, "{len}");
        assert_eq!(got.peer_info, if len < whole.len() { "" } else { "ID=1" }, "{len}");
        assert!(!got.login_too_long);
        assert_eq!(got.login_given, len >= needed + 17, "{len}");
    }
    let mut other = whole;
    other[4] = 0x13;
    assert_eq!(Introduction::parse(&other).unwrap_err(), Method2Error::Method);
    assert_eq!(Introduction::parse(&client_bytes(b"\x02\x01")).unwrap_err(), Method2Error::TooLong);
}

#[test]
fn an_empty_login_is_not_one_left_out() {
    let given = |user: &[u8], password: &[u8]| {
        let bytes = client_bytes(&[&text("V4"), user, password].concat());
        Introduction::parse(&bytes).unwrap().login_given
    };
    let (none, empty, name) = (&[0, 0][..], &text("")[..], &text("alice")[..]);
    assert!(given(name, empty) && given(empty, name) && given(empty, empty));
    assert!(!given(name, none) && !given(none, name) && !given(none, none));
}

#[test]
fn a_login_that_is_too_long_is_passed_over() {
    let fits = "x".repeat(MAX_USER_PASS - 1);
    let long = "x".repeat(MAX_USER_PASS);
    for (username, password, too_long) in
        [(&fits, &fits, false), (&long, &fits, true), (&fits, &long, true), (&long, &long, true)]
    {
        let tail = [text("V4"), text(username), text(password), text("ID=1")].concat();
        let got = Introduction::parse(&client_bytes(&tail)).unwrap();
        assert_eq!(got.login_too_long, too_long);
        assert_eq!(got.username, if *username == fits { &*fits } else { "" });
        assert_eq!(*got.password, if *password == fits { &*fits } else { "" });
        assert_eq!(got.peer_info, "ID=1");
    }
    // The length of what isn't there decides as well.
    assert!(Introduction::parse(&client_bytes(b"\0\0\xff\xff")).unwrap().login_too_long);
}

#[test]
fn a_login_is_made_harmless() {
    for (wire, expected) in [
        (&b"\0\x03abc"[..], "ab"),
        (b"\0\x05a\0bc\0", "a"),
        (b"\0\x06a\nb\x7f\r\0", "a_b__"),
        ("\0\x06\u{e4}\u{20ac}\0".as_bytes(), "\u{e4}\u{20ac}"),
        (b"\0\x04a\xffb\0", "a\u{fffd}b"),
        (b"\0\x01\0", ""),
        (b"\0\0", ""),
    ] {
        let got = Introduction::parse(&client_bytes(&[&text("V4"), wire, wire].concat())).unwrap();
        assert_eq!((&*got.username, &**got.password), (expected, expected), "{wire:?}");
    }
}

#[test]
fn a_login_stays_out_of_debug_text() {
    let tail = [text("V4"), text("alice"), text("hunter2"), text("ID=1")].concat();
    let shown = format!("{:?}", Introduction::parse(&client_bytes(&tail)).unwrap());
    assert!(shown.contains("ID=1") && !shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
}
