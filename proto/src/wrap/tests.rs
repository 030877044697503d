use core::time::Duration;

use super::*;
use tls_crypt_v2::ServerKeyV2;

const NOW: Instant = Instant::from_nanos(1);

fn key(seed: u8) -> Arc<StaticKey> {
    Arc::new(StaticKey::from_slice(&core::array::from_fn(|i| (i as u8).wrapping_mul(3) ^ seed)))
}

fn session() -> SessionId {
    SessionId::new([7; 8]).unwrap()
}

fn client_file() -> Arc<ClientKeyV2> {
    use base64::Engine;
    let wkc = ServerKeyV2::new(&[0xa5; 128]).wrap(&key(0), b"").unwrap();
    let bytes = [&key(0).expose()[..], &wkc].concat();
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    let label = "OpenVPN tls-crypt-v2 client key";
    let pem = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
    Arc::new(ClientKeyV2::from_pem(&pem).unwrap())
}

fn sealed(wrap: &mut Wrap, header: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wrap.seal(5, header, session(), body, &mut out);
    out
}

fn tls_auth(direction: KeyDirection, digest: HmacDigest) -> WrapConfig {
    WrapConfig::TlsAuth { key: key(0), direction, digest }
}

fn new(config: &WrapConfig, role: TlsRole) -> Wrap {
    Wrap::new(config, role, 100, ReplayWindow::DEFAULT)
}

#[test]
fn every_digest_and_direction_opens_only_at_its_counterpart() {
    use HmacDigest::*;
    use KeyDirection::*;
    for digest in [Sha1, Sha224, Sha256, Sha384, Sha512] {
        for sender in [Bidirectional, Normal, Inverse] {
            let mut send = new(&tls_auth(sender, digest), TlsRole::Client);
            let packet = sealed(&mut send, 0x38, b"body");
            assert_eq!(packet.len(), HEAD + 4 + send.overhead());
            for receiver in [Bidirectional, Normal, Inverse] {
                // The first HMAC key sends with "normal" and receives with "inverse".
                let fits = match sender {
                    Bidirectional | Normal => receiver != Normal,
                    Inverse => receiver == Normal,
                };
                let mut copy = packet.clone();
                let mut recv = new(&tls_auth(receiver, digest), TlsRole::Server);
                let got = recv.open(NOW, &mut copy).map(|v| v.body().to_vec());
                let expected = if fits { Ok(b"body".to_vec()) } else { Err(DropReason::WrapAuthentication) };
                assert_eq!(got, expected, "{digest:?} {sender:?} {receiver:?}");
            }
        }
    }
}

/// Packets become as large as those of a stock peer (`openvpn: tls_crypt.c`, `tls_crypt_buf_overhead`; `packet_id.h`,
/// `packet_id_size`).
#[test]
fn what_each_protection_takes_of_a_packet() {
    let sha1 = tls_auth(KeyDirection::Normal, HmacDigest::Sha1);
    for (config, overhead, added) in [
        (WrapConfig::None, 0, 0),
        (sha1, 20 + 8, 28),
        (WrapConfig::TlsCrypt { key: key(0) }, 8 + 32 + 16, 40),
        (WrapConfig::TlsCryptV2 { key: client_file() }, 8 + 32 + 16, 40),
    ] {
        let mut wrap = new(&config, TlsRole::Client);
        assert_eq!(wrap.overhead(), overhead, "{config:?}");
        assert_eq!(sealed(&mut wrap, 0x20, b"body").len(), HEAD + added + 4, "{config:?}");
    }
}

#[test]
fn own_packets_sent_back_do_not_open() {
    for config in [WrapConfig::TlsCrypt { key: key(0) }, tls_auth(KeyDirection::Inverse, HmacDigest::Sha256)]
    {
        let mut wrap = new(&config, TlsRole::Client);
        let mut packet = sealed(&mut wrap, 0x38, b"body");
        assert_eq!(wrap.open(NOW, &mut packet).map(|_| ()), Err(DropReason::WrapAuthentication));
    }
}

#[test]
fn forgeries_leave_the_replay_window_alone() {
    let config = WrapConfig::TlsCrypt { key: key(0) };
    let (mut client, mut server) = (new(&config, TlsRole::Client), new(&config, TlsRole::Server));
    let packet = sealed(&mut client, 0x20, b"body");
    let mut forged = packet.clone();
    forged[9..17].fill(0xff);
    assert_eq!(server.open(NOW, &mut forged).map(|_| ()), Err(DropReason::WrapAuthentication));
    let mut again = packet.clone();
    assert!(server.open(NOW, &mut again).is_ok());
    again = packet;
    assert_eq!(server.open(NOW, &mut again).map(|_| ()), Err(DropReason::WrapReplay));
}

#[test]
fn undefined_session_and_wrong_sizes_are_malformed() {
    for config in [WrapConfig::None, WrapConfig::TlsCrypt { key: key(0) }] {
        let mut wrap = new(&config, TlsRole::Client);
        assert_eq!(wrap.open(NOW, &mut [0x20; 8]).map(|_| ()), Err(DropReason::Malformed));
        let mut huge = vec![0x20; MAX_CONTROL_DATAGRAM + 1];
        assert_eq!(wrap.open(NOW, &mut huge).map(|_| ()), Err(DropReason::Malformed));
    }
    // As large as can be is not too large, at a door neither.
    let mut largest = vec![0x20; MAX_CONTROL_DATAGRAM];
    let mut plain = new(&WrapConfig::None, TlsRole::Client);
    assert!(plain.open(NOW, &mut largest).is_ok());
    let gate = gate::Gate::new(&WrapConfig::None, None, ReplayWindow::DEFAULT);
    assert!(gate.open(Duration::ZERO, &mut largest).is_ok());
    assert!(gate.open(Duration::ZERO, &mut [0x20; MAX_CONTROL_DATAGRAM + 1]).is_err());
    assert_eq!(
        plain.open(NOW, &mut [0x38, 0, 0, 0, 0, 0, 0, 0, 0, 1]).map(|_| ()),
        Err(DropReason::Malformed)
    );
}

#[test]
fn wrapped_key_goes_on_the_two_opcodes_only() {
    let config = WrapConfig::TlsCryptV2 { key: client_file() };
    let mut wrap = new(&config, TlsRole::Client);
    for (opcode, appended) in [
        (Opcode::HardResetClientV3, 290),
        (Opcode::ControlWkcV1, 290),
        (Opcode::ControlV1, 0),
        (Opcode::AckV1, 0),
    ] {
        let packet = sealed(&mut wrap, (opcode as u8) << 3, b"body");
        assert_eq!(packet.len(), 49 + 4 + appended, "{opcode:?}");
    }
    assert_eq!(wrap.client_key_len(), 290);
    let mut dynamic =
        Wrap::dynamic(config.static_key(), &[1; 256], TlsRole::Client, 100, ReplayWindow::DEFAULT);
    assert_eq!(dynamic.client_key_len(), 0);
    assert_eq!(sealed(&mut dynamic, 0x20, b"")[9..17], [0, 0, 0, 1, 0, 0, 0, 100]);
}

#[test]
fn counter_starts_over_under_a_later_time() {
    let mut counter = SendCounter::new(100, u32::MAX - 1);
    assert_eq!(counter.next(0), ReplayId { time: 100, id: u32::MAX });
    assert_eq!(counter.next(90), ReplayId { time: 101, id: 1 });
    let mut counter = SendCounter::new(100, u32::MAX);
    assert_eq!(counter.next(5000), ReplayId { time: 5000, id: 1 });
}

#[test]
fn late_packets_expire_by_the_time_given() {
    let config = WrapConfig::TlsCrypt { key: key(0) };
    let (mut client, mut server) = (new(&config, TlsRole::Client), new(&config, TlsRole::Server));
    let packets: Vec<Vec<u8>> = (0..3).map(|_| sealed(&mut client, 0x20, b"body")).collect();
    assert!(server.open(NOW, &mut packets[2].clone()).is_ok());
    assert!(server.open(NOW + Duration::from_secs(15), &mut packets[1].clone()).is_ok());
    let mut late = packets[0].clone();
    let late = server.open(NOW + Duration::from_secs(21), &mut late);
    assert_eq!(late.map(|_| ()), Err(DropReason::WrapReplay));
}

#[test]
fn debug_text_shows_no_key() {
    let configs = [
        (WrapConfig::None, "Wrap::None"),
        (tls_auth(KeyDirection::Normal, HmacDigest::Sha1), "Wrap::TlsAuth([redacted])"),
        (WrapConfig::TlsCrypt { key: key(0) }, "Wrap::TlsCrypt([redacted])"),
        (WrapConfig::TlsCryptV2 { key: client_file() }, "Wrap::TlsCrypt([redacted])"),
    ];
    for (config, expected) in configs {
        assert_eq!(format!("{:?}", new(&config, TlsRole::Client)), expected);
        assert!(matches!(config, WrapConfig::None) || format!("{config:?}").contains("[redacted]"));
    }
    let auth = TlsAuth::new(&key(0), KeyDirection::Normal, HmacDigest::Sha1);
    assert_eq!(
        format!("{auth:?}"),
        "TlsAuth { send: KeyedHmac([redacted]), recv: KeyedHmac([redacted]), digest: Sha1 }"
    );
    let crypt = TlsCrypt::new(&key(0), TlsRole::Client);
    assert_eq!(format!("{crypt:?}"), "TlsCrypt { send: CryptKey([redacted]), recv: CryptKey([redacted]) }");
    assert_eq!(format!("{:?}", key(0)), "StaticKey([redacted])");
    assert_eq!(format!("{:?}", client_file()), "ClientKeyV2([redacted])");
    assert_eq!(format!("{:?}", ServerKeyV2::new(&[1; 128])), "ServerKeyV2([redacted])");
}

/// Whoever takes one key file for another is told which option it is for.
#[test]
fn a_wrong_key_file_is_named() {
    let pem = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    for (label, hint) in [
        ("OpenVPN tls-crypt-v2 client key", "for the option tls-crypt-v2)"),
        ("OpenVPN tls-crypt-v2 server key", "for the option tls-crypt-v2 of servers only)"),
        ("OpenVPN auth-token server key", "for the option auth-gen-token-secret)"),
        ("CERTIFICATE", "for the options ca and cert)"),
        ("RSA PRIVATE KEY", "for the option key)"),
        ("SOMETHING ELSE", "`SOMETHING ELSE`, expected"),
    ] {
        let error = StaticKey::from_text(&pem(label)).unwrap_err().to_string();
        assert!(error.contains(&format!("line 1 begins `{label}`")) && error.contains(hint), "{error}");
    }
    let error = ServerKeyV2::from_pem(&pem("OpenVPN Static key V1")).unwrap_err().to_string();
    assert!(error.contains("for the options tls-crypt and tls-auth)"), "{error}");
}
