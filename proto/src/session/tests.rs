use core::net::SocketAddr;

use super::keepalive::Action;
use super::negotiate::{PeerHello, agree, options_string};
use super::offer::offer;
use super::push::messages;
use super::side::{Locked, welcomes};
use super::*;
use crate::config::cipher::DataCipher;
use crate::config::server::ServerConfig;
use crate::config::{ClientConfig, PeerConfig, Timing};
use crate::deadline::Timer;
use crate::entropy::Entropy;
use crate::keys::data_key::TlsRole;
use crate::options::pushed::Pushed;
use crate::tls::fake::FakeFactory;
use crate::wire::control::ControlBody;
use crate::wire::opcode::Opcode;
use crate::wrap::WrapConfig;

fn path() -> Path {
    Path::udp(0, SocketAddr::from(([192, 0, 2, 1], 1194)))
}

fn peer_config(role: TlsRole) -> PeerConfig {
    let channel = ChannelConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()));
    PeerConfig { channel, role, tls_crypt_v2: None, remote: None }
}

/// A peer that can't negotiate compares the cipher in the options string with its own
/// (`openvpn: options.c`, `options_string`).
#[test]
fn a_peer_names_the_cipher_that_it_falls_back_to() {
    let mut config = peer_config(TlsRole::Server);
    let text = |config: &PeerConfig| options_string(&Side::Peer(Arc::new(config.clone())), &path(), None);
    assert!(!text(&config).contains("cipher"));
    config.channel.fallback = Some(DataCipher::Aes192Gcm);
    let named = text(&config);
    assert!(named.contains(",proto UDPv4,cipher AES-192-GCM,auth SHA1,"), "{named}");
    assert!(named.ends_with(",key-method 2,tls-server"), "{named}");
}

/// What a client agrees to that has only AES-256-GCM in `data-ciphers`.
fn agreed(fallback: Option<DataCipher>, options: &[Pushed]) -> Result<Agreed, CloseCause> {
    let mut config = ClientConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()));
    config.channel.ciphers = vec![DataCipher::Aes256Gcm];
    config.channel.fallback = fallback;
    let server = PeerHello::default();
    agree(&config, Capabilities::USERSPACE, &path(), &server, options).map(|(agreed, _)| agreed)
}

/// Only what `data-ciphers` or `data-ciphers-fallback` names is used, whatever else is known
/// (`openvpn: ssl_ncp.c`, `check_pull_client_ncp`).
#[test]
fn a_pushed_cipher_must_be_one_of_ours() {
    let cipher = |fallback, name: &str| {
        agreed(fallback, &[Pushed::Cipher(name.into())]).map(|agreed| agreed.params.cipher)
    };
    assert_eq!(cipher(None, "AES-256-GCM"), Ok(DataCipher::Aes256Gcm));
    assert!(matches!(cipher(None, "AES-128-GCM"), Err(CloseCause::Cipher(_))));
    let fallback = Some(DataCipher::Aes192Gcm);
    assert!(matches!(cipher(fallback, "AES-128-GCM"), Err(CloseCause::Cipher(_))));
    assert_eq!(cipher(fallback, "AES-192-GCM"), Ok(DataCipher::Aes192Gcm));
}

/// `key-derivation tls-ekm` stands for the flag of that name (`openvpn: push.c`, `prepare_push_reply`).
#[test]
fn keys_come_from_the_exporter_if_the_server_says_so() {
    let ekm = |option| {
        let options = [Pushed::Cipher("AES-256-GCM".into()), option];
        agreed(None, &options).unwrap().flags.tls_ekm
    };
    assert!(!ekm(Pushed::PeerId(Some(1))));
    assert!(ekm(Pushed::KeyDerivationEkm));
    assert!(ekm(Pushed::ProtocolFlags(vec!["tls-ekm".into()])));
}

/// A message stays below OpenVPN's buffer of 1,024 bytes less 84 (`openvpn: push.c`, `send_push_options`).
#[test]
fn pushed_options_fill_a_message_to_the_last_byte() {
    let lengths = |options: &[usize]| {
        let options: Vec<String> = options.iter().map(|&len| "x".repeat(len)).collect();
        let texts = messages("PUSH_REPLY", options.iter().map(String::as_str));
        texts.map(|texts| texts.iter().map(String::len).collect::<Vec<_>>()).ok()
    };
    let mark = ",push-continuation 2".len();
    assert_eq!(lengths(&[928]), Some(vec![939]));
    assert_eq!(lengths(&[929]), None);
    assert_eq!(lengths(&[400, 527]), Some(vec![939]));
    assert_eq!(lengths(&[400, 528]), Some(vec![411 + mark, 539 + mark]));
}

const NOW: Now = Now { at: Instant::ZERO, unix: Duration::from_secs(1_700_000_000) };

fn setup(path: Path, seed: u8) -> Setup {
    let peer = PeerRef { id: PeerId::from_low_bits(0), generation: 1 };
    let entropy = Entropy::new([seed; 32]);
    Setup { handle: SessionHandle(1), peer, path, capabilities: Capabilities::USERSPACE, entropy }
}

fn client(path: Path, seed: u8, change: impl FnOnce(&mut ClientConfig)) -> Session {
    let mut config = ClientConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()));
    change(&mut config);
    Session::connect(NOW, setup(path, seed), Arc::new(config), None).unwrap()
}

fn server(seed: u8, change: impl FnOnce(&mut ServerConfig)) -> Session {
    let mut config = ServerConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()));
    change(&mut config);
    let [local, remote] = [1, 2].map(|byte| SessionId::new([byte; 8]).unwrap());
    let wrap = Wrap::new(&WrapConfig::None, TlsRole::Server, 0, config.channel.replay);
    let accepted = Accepted { local, remote, wrap, base_key: None, metadata: None, stateful: true };
    Session::accept(NOW, setup(path(), seed), Arc::new(config), accepted).unwrap()
}

/// `openvpn: ssl.c`, `calc_control_channel_frame_overhead`: opcode 1, session ids 8 and 8, four acks 17, message id 4,
/// and the outer headers, which are those of UDP over IPv6 where the address does not tell better.
#[test]
fn a_full_control_packet_is_as_large_as_max_packet_size() {
    let payload =
        |path, size| client(path, 1, |config| config.channel.max_packet_size = size).sizes().payload;
    let v6 = Path::udp(0, SocketAddr::from((core::net::Ipv6Addr::LOCALHOST, 1194)));
    assert_eq!(payload(path(), 1250), 1250 - 28 - 38);
    assert_eq!(payload(v6, 1250), 1250 - 48 - 38);
    assert_eq!(payload(Path::Stream(crate::StreamId(1)), 1250), 1250 - 48 - 38);
    assert_eq!(payload(path(), 10), 16, "there is progress with any setting");
}

/// Two sessions are of one client if a certificate or a verified name says so; without either nobody can tell
/// (`openvpn: ssl_verify.c`, `cert_hash_compare`, `tls_lock_username`).
#[test]
fn a_certificate_or_a_name_tells_who_somebody_is() {
    let identity = crate::tls::PeerIdentity {
        subject: "CN=a".into(),
        common_name: Some("a".into()),
        fingerprint: [7; 32],
        chain: Vec::new(),
        warnings: Vec::new(),
        certificates: [].into(),
    };
    assert!(Locked::new("a", None, Some(&identity)).names_somebody());
    assert!(Locked::new("a", Some("a"), None).names_somebody());
    assert!(Locked::new("a", Some("a"), Some(&identity)).names_somebody());
    assert!(!Locked::new("a", None, None).names_somebody());
}

/// `remote` at the TLS server's end says where the peer is; with `float` it may come from anywhere
/// (`openvpn: socket.h`, `link_socket_verify_incoming_addr`).
#[test]
fn a_peer_comes_from_its_remote_unless_it_may_float() {
    let [remote, other] = [1, 2].map(|n| SocketAddr::from(([192, 0, 2, n], 1194)));
    let mut config = peer_config(TlsRole::Server);
    config.channel.float = false;
    assert!(welcomes(&config, Some(other)), "anybody, if none is named");
    config.remote = Some(remote);
    assert!(welcomes(&config, Some(remote)) && !welcomes(&config, Some(other)));
    assert!(welcomes(&config, None), "a stream does not tell its address");
    config.channel.float = true;
    assert!(welcomes(&config, Some(other)));
}

/// `reneg-sec max [min]`; a server without minimum spreads its clients over the last tenth (`openvpn: options.c`,
/// `--reneg-sec`; `ssl.c`, `tls_session_init`).
#[test]
fn only_servers_spread_their_renegotiations_by_themselves() {
    let reneg = |timing: &mut Timing, min: Option<u64>| {
        timing.reneg = Duration::from_secs(1000);
        timing.reneg_min = min.map(Duration::from_secs);
    };
    let clients = |min| {
        (0..50)
            .map(move |seed| client(path(), seed, |c| reneg(&mut c.channel.timing, min)))
            .map(|session| (session.draw_renegotiation(NOW) - NOW.at).as_millis())
    };
    let servers = |min| {
        (0..50)
            .map(move |seed| server(seed, |c| reneg(&mut c.channel.timing, min)))
            .map(|session| (session.draw_renegotiation(NOW) - NOW.at).as_millis())
    };
    assert!(clients(None).all(|at| at == 1_000_000));
    assert!(clients(Some(1000)).chain(servers(Some(1000))).all(|at| at == 1_000_000));
    for (draws, from) in [
        (servers(None).collect::<Vec<_>>(), 900_000),
        (servers(Some(500)).collect(), 500_000),
        (clients(Some(500)).collect(), 500_000),
    ] {
        let (least, most) = (*draws.iter().min().unwrap(), *draws.iter().max().unwrap());
        assert!(from <= least && most <= 1_000_000, "{least} to {most}");
        assert!(most - least > (1_000_000 - from) / 2, "{least} to {most}");
    }
    let off = client(path(), 1, |config| config.channel.timing.reneg = Duration::ZERO);
    assert_eq!(off.draw_renegotiation(NOW), NEVER);
}

/// Each side takes the resets of the other, and clients nothing with a wrapped key (`openvpn: ssl.c`,
/// `tls_pre_decrypt`).
#[test]
fn opcodes_have_a_direction() {
    use Opcode::*;
    let unexpected = |session: &mut Session, opcode: Opcode| {
        let mut packet = [&[opcode.header(KeyId::FIRST)][..], &[2; 8]].concat();
        ControlBody { acks: Default::default(), remote_session: None, message: None, payload: &[] }
            .emit(&mut packet);
        session.handle_datagram(NOW, &mut packet);
        session.drops().map_or(0, |drops| drops.get(DropReason::UnexpectedOpcode)) > 0
    };
    for (opcode, at_client, at_server) in [
        (HardResetServerV2, true, false),
        (HardResetClientV2, false, true),
        (HardResetClientV3, false, true),
        (ControlWkcV1, false, true),
        (AckV1, true, true),
        (ControlV1, true, true),
        (DataV1, false, false),
        (DataV2, false, false),
    ] {
        assert_eq!(unexpected(&mut client(path(), 1, |_| ()), opcode), !at_client, "{opcode:?}");
        assert_eq!(unexpected(&mut server(1, |_| ()), opcode), !at_server, "{opcode:?}");
    }
}

/// A data plane that knows P_DATA_V2 only, as kernels do, can't serve clients without peer-id.
#[test]
fn a_client_without_peer_id_needs_a_plane_that_can_do_without() {
    let mut config = ServerConfig::new(WrapConfig::None, Arc::new(FakeFactory::new()));
    config.channel.fallback = Some(DataCipher::Aes256Gcm);
    let served = |data_v1, peer_info: &str| {
        let capabilities = Capabilities { data_v1, ..Capabilities::USERSPACE };
        let hello = PeerHello { options: "V4".into(), peer_info: peer_info.into() };
        offer(&config, capabilities, &path(), PeerId::from_low_bits(5), None, &hello).is_ok()
    };
    assert!(served(true, "") && !served(false, ""));
    assert!(served(true, "IV_PROTO=2\n") && served(false, "IV_PROTO=2\n"));
}

/// A client comes back by itself; who is connected to waits for that under the old key (`openvpn: ssl.c`, lame duck
/// session).
#[test]
fn who_was_connected_to_waits_for_the_other() {
    assert!(!client(path(), 1, |_| ()).side.waits_for_return());
    assert!(server(1, |_| ()).side.waits_for_return());
    let peer = |role| Side::Peer(Arc::new(peer_config(role)));
    assert!(!peer(TlsRole::Client).waits_for_return() && peer(TlsRole::Server).waits_for_return());
}

/// Secrets of key method 2 come from a stream of their own each time (`openvpn: ssl.c`, `random_bytes_to_buf`).
#[test]
fn each_negotiation_draws_its_own_secrets() {
    let mut session = client(path(), 1, |_| ());
    let mut drawn = vec![session.negotiations];
    for _ in 0..3 {
        session.start_renegotiation(NOW);
        drawn.push(session.negotiations);
    }
    assert_eq!(drawn, [1, 2, 3, 4]);
}

/// `ping`, `ping-restart`, `ping-exit`, `inactive` and `session-timeout` are pushable (`openvpn: options.c`).
#[test]
fn pushed_times_count_from_the_push() {
    let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
    let started = |option: Pushed| {
        let settings = crate::config::Keepalive::default();
        let mut keepalive = Keepalive::new(at(0), settings, false);
        keepalive.start(at(10), &[option]);
        keepalive
    };
    let time = Duration::from_secs(30);
    for option in
        [Pushed::Ping(time), Pushed::PingRestart(time), Pushed::PingExit(time), Pushed::Inactive(time, 1)]
    {
        let mut keepalive = started(option.clone());
        assert_eq!(keepalive.deadline().map(|deadline| deadline.at), Some(at(40)), "{option:?}");
        assert_eq!(keepalive.handle_timeout(at(39)), None, "{option:?}");
        assert_eq!(keepalive.handle_timeout(at(40)), Some(Action::Ask), "{option:?}");
    }
    let mut keepalive = started(Pushed::SessionTimeout(time));
    assert_eq!(keepalive.deadline().map(|deadline| deadline.at), Some(at(40)));
    assert_eq!(keepalive.handle_timeout(at(39)), None);
    assert_eq!(keepalive.handle_timeout(at(40)), Some(Action::Close(CloseCause::SessionTimeout)));
}

/// The deadline tells which of the two times it is.
#[test]
fn a_short_server_poll_is_told_from_the_hand_window() {
    for (poll, why, at) in
        [(59, Timer::ServerPoll, 59), (60, Timer::HandWindow, 60), (61, Timer::HandWindow, 60)]
    {
        let session =
            client(path(), 1, |config| config.channel.timing.server_poll = Duration::from_secs(poll));
        let deadline = session.deadline(true).unwrap();
        assert_eq!((deadline.why, deadline.at), (why, NOW.at + Duration::from_secs(at)), "{poll}");
    }
}

/// A session that takes over the number of the one before it tells that number, should it be asked later.
#[test]
fn the_number_that_a_client_is_told_is_the_one_it_has() {
    let mut session = server(1, |_| {});
    let peer = PeerRef { id: PeerId::from_low_bits(7), generation: 3 };
    session.succeed(peer);
    assert_eq!((session.peer(), session.own_id), (peer, Some(peer.id)));
}
