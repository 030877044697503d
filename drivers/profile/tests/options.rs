//! Each honoured option: its value reaches its field.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{BASE, Memory, PKI, client_key_v2, read, static_key, warnings, with};
use oxivpn_profile::profile::{
    AuthRetry, Bind, CompressionOptions, CredentialSource, DeviceKind, Family, GremlinOptions, LogFile,
    NewestFormat, PrivateKey, Protocol, RestartAs,
};
use oxivpn_profile::{Command, Profile, parse_args};
use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::{Framing, ReplayWindow};
use oxivpn_proto::config::{FilterAction, Mssfix, PingTimeout};
use oxivpn_proto::gremlin::Mask;
use oxivpn_proto::options::pushed::{Gateway, RedirectFlags, Target, Topology};
use oxivpn_proto::tls::rustls::TlsVersion;
use oxivpn_proto::tls::verify::{CertRole, NameRule};
use oxivpn_proto::tls::{TlsFactory, TlsFailure, TlsFailureKind, TlsSession};
use oxivpn_proto::wrap::WrapConfig;
use oxivpn_proto::wrap::static_key::{HmacDigest, KeyDirection};

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

type Check = fn(&Profile) -> bool;

/// Each line is added to the base profile, which holds neither before nor warns.
fn table(rows: &[(&str, Check)]) {
    let base = with("");
    assert_eq!(warnings(&base), Vec::<String>::new());
    for (lines, check) in rows {
        assert!(!check(&base), "holds without `{lines}`");
        let profile = with(lines);
        assert!(check(&profile), "{lines}: {profile:#?}");
        assert_eq!(warnings(&profile), Vec::<String>::new(), "{lines}");
    }
}

#[test]
fn defaults_are_those_of_openvpn() {
    let profile = with("");
    let remote = &profile.remotes[0];
    assert_eq!((remote.host.as_str(), remote.port), ("vpn.example.com", 1194));
    assert_eq!((remote.protocol, remote.family, remote.bind), (Protocol::Udp, Family::Any, None));
    assert_eq!(remote.poll_timeout, secs(120));
    assert_eq!((remote.retry_wait, remote.retry_wait_max), (secs(1), secs(300)));
    assert_eq!((remote.tun_mtu, remote.tun_mtu_max, remote.max_packet_size), (1500, 1600, 1250));
    assert_eq!((remote.mssfix, remote.exit_notify, remote.float), (Mssfix::Default, None, false));
    assert!(matches!(remote.wrap, WrapConfig::None));
    assert_eq!((profile.retry.resolve, profile.retry.rounds), (None, None));
    assert_eq!(profile.device.kind, DeviceKind::Tun(None));
    assert_eq!((profile.log.verbosity, profile.log.mute), (1, 0));
    assert_eq!(profile.tunnel.auth_name, "SHA1");
    assert_eq!(
        profile.tunnel.ciphers,
        [DataCipher::Aes256Gcm, DataCipher::Aes128Gcm, DataCipher::ChaCha20Poly1305]
    );
    assert_eq!((profile.tls.min_version, profile.tls.max_version), (TlsVersion::V12, TlsVersion::V13));
}

#[test]
fn transport() {
    table(&[
        ("proto tcp", |p| p.remotes[0].protocol == Protocol::Tcp && p.remotes[0].family == Family::Any),
        ("proto tcp4-client", |p| {
            p.remotes[0].protocol == Protocol::Tcp && p.remotes[0].family == Family::V4
        }),
        ("proto udp6", |p| p.remotes[0].protocol == Protocol::Udp && p.remotes[0].family == Family::V6),
        ("remote b.example.com 443 tcp6", |p| {
            p.remotes.len() == 2 && p.remotes[1].family == Family::V6 && p.remotes[1].port == 443
        }),
        ("remote [2001:db8::1]", |p| p.remotes.get(1).is_some_and(|r| r.host == "2001:db8::1")),
        ("remote c\nrport 1195", |p| {
            p.remotes.get(1).is_some_and(|r| r.port == 1195) && p.remotes[0].port == 1194
        }),
        ("remote c\nport 1196", |p| {
            p.remotes.get(1).is_some_and(|r| r.port == 1196) && p.remotes[0].bind.is_none()
        }),
        ("remote t 443 tcp\nproto-force tcp", |p| p.remotes.len() == 1 && p.remotes[0].host == "t"),
        ("lport 5000", |p| p.remotes[0].bind == Some(Bind { address: None, port: 5000, ipv6_only: false })),
        ("bind ipv6only", |p| p.remotes[0].bind == Some(Bind { address: None, port: 1194, ipv6_only: true })),
        ("local 192.0.2.7\nlport 0", |p| {
            p.remotes[0].bind
                == Some(Bind { address: Some([192, 0, 2, 7].into()), port: 0, ipv6_only: false })
        }),
        ("float", |p| p.remotes[0].float),
        ("remote-random", |p| p.retry.shuffle),
        ("remote-random-hostname", |p| p.retry.random_hostname),
        ("setenv REMOTE_RANDOM_HOSTNAME", |p| p.retry.random_hostname),
        ("resolv-retry 30", |p| p.retry.resolve == Some(secs(30))),
        ("connect-retry 5 60", |p| {
            p.remotes[0].retry_wait == secs(5) && p.remotes[0].retry_wait_max == secs(60)
        }),
        ("connect-retry 500", |p| p.remotes[0].retry_wait_max == secs(500)),
        ("connect-retry-max 3", |p| p.retry.rounds == Some(3)),
        ("connect-timeout 9", |p| p.remotes[0].poll_timeout == secs(9)),
        ("server-poll-timeout 4", |p| {
            p.remotes[0].poll_timeout == secs(4) && p.tunnel.timing.server_poll == secs(4)
        }),
        ("setenv SERVER_POLL_TIMEOUT 7", |p| p.remotes[0].poll_timeout == secs(7)),
        ("explicit-exit-notify", |p| p.remotes[0].exit_notify == Some(1)),
        ("explicit-exit-notify 5", |p| p.remotes[0].exit_notify == Some(5)),
        ("persist-remote-ip", |p| p.retry.keep_address),
        ("tls-exit", |p| p.process.tls_exit),
        ("sndbuf 393216", |p| p.socket.send_buffer == Some(393_216)),
        ("rcvbuf 393216", |p| p.socket.receive_buffer == Some(393_216)),
        ("socket-flags TCP_NODELAY", |p| p.socket.tcp_nodelay),
        ("mark 42", |p| p.socket.mark == Some(42)),
        ("bind-dev eth0", |p| p.socket.bind_device.as_deref() == Some("eth0")),
    ]);
}

#[test]
fn device() {
    table(&[
        ("dev tun3", |p| p.device.kind == DeviceKind::Tun(Some("tun3".into()))),
        ("dev office\ndev-type tun", |p| p.device.kind == DeviceKind::Tun(Some("office".into()))),
        ("dev-type tun\ndev tap0", |p| p.device.kind == DeviceKind::Tun(Some("tap0".into()))),
        ("dev null", |p| p.device.kind == DeviceKind::Null),
        ("dev fd:7", |p| p.device.kind == DeviceKind::Descriptor(7)),
        ("txqueuelen 1000", |p| p.device.queue_len == Some(1000)),
        ("persist-tun", |p| p.device.persist),
    ]);
    let profile = read(&BASE.replace("dev tun\n", "dev-node /dev/net/tun\n")).unwrap();
    assert_eq!(profile.device.kind, DeviceKind::Tun(None));
}

#[test]
fn keepalive_and_timing() {
    table(&[
        ("keepalive 10 60", |p| {
            p.tunnel.keepalive.ping == Some(secs(10))
                && p.tunnel.keepalive.timeout == Some(PingTimeout::Restart(secs(60)))
        }),
        ("ping 15", |p| p.tunnel.keepalive.ping == Some(secs(15))),
        ("ping-restart 0", |p| p.tunnel.keepalive.timeout == Some(PingTimeout::Restart(secs(0)))),
        ("ping-exit 90", |p| p.tunnel.keepalive.timeout == Some(PingTimeout::Exit(secs(90)))),
        ("inactive 600 1000", |p| p.tunnel.keepalive.inactive == Some((secs(600), 1000))),
        ("session-timeout 3600", |p| p.tunnel.keepalive.session == Some(secs(3600))),
        ("reneg-sec 0", |p| p.tunnel.timing.reneg == secs(0)),
        ("reneg-sec 600 300", |p| p.tunnel.timing.reneg_min == Some(secs(300))),
        ("reneg-bytes 1000", |p| p.tunnel.timing.reneg_bytes == 1000),
        ("reneg-pkts 99", |p| p.tunnel.timing.reneg_packets == 99),
        ("hand-window 20", |p| p.tunnel.timing.hand_window == secs(20)),
        ("tran-window 30", |p| p.tunnel.timing.tran_window == secs(30)),
        ("tls-timeout 5", |p| p.tunnel.timing.tls_timeout == secs(5)),
        ("replay-window 128 30", |p| p.tunnel.replay == ReplayWindow { packets: 128, time: secs(30) }),
    ]);
}

#[test]
fn compression() {
    let is = |p: &Profile, framing, allow, migrate| {
        p.tunnel.compression == CompressionOptions { framing, allow, migrate }
    };
    let plain = with("");
    assert!(is(&plain, Framing::None, false, false));
    for (lines, framing, allow, warned) in [
        ("comp-lzo no", Framing::Stub, false, false),
        ("comp-lzo no\nallow-compression no", Framing::Stub, false, false),
        ("comp-lzo no\nallow-compression asym", Framing::Stub, true, true),
        ("comp-lzo", Framing::Stub, true, true),
        ("comp-lzo adaptive\ncomp-noadapt", Framing::Stub, true, true),
        ("compress", Framing::Swap, true, false),
        ("compress stub\nallow-compression no", Framing::Swap, false, false),
        ("compress stub-v2", Framing::StubV2, true, false),
        ("compress lz4", Framing::Swap, true, true),
        ("compress lz4-v2", Framing::StubV2, true, true),
        ("compress lz4\ncomp-lzo no", Framing::Stub, false, false),
        ("allow-compression yes", Framing::None, true, true),
    ] {
        let profile = with(lines);
        assert!(is(&profile, framing, allow, false), "{lines}: {:?}", profile.tunnel.compression);
        assert_eq!(profile.warnings.len(), usize::from(warned), "{lines}: {:?}", profile.warnings);
        let config = profile.client_config(&profile.remotes[0], Arc::new(NoTls));
        assert_eq!((config.channel.framing, config.allow_compression), (framing, allow), "{lines}");
    }
    assert!(is(&with("compress migrate"), Framing::None, true, true));
}

#[test]
fn sizes_and_ciphers() {
    table(&[
        ("tun-mtu 1400", |p| p.remotes[0].tun_mtu == 1400),
        ("tun-mtu 9000", |p| p.remotes[0].tun_mtu_max == 9000),
        ("tun-mtu-max 2000", |p| p.remotes[0].tun_mtu_max == 2000),
        ("mssfix 0", |p| p.remotes[0].mssfix == Mssfix::Off),
        ("mssfix 1300", |p| p.remotes[0].mssfix == Mssfix::Link(1300)),
        ("mssfix 1300 mtu", |p| p.remotes[0].mssfix == Mssfix::Mtu(1300)),
        ("mssfix 1300 fixed", |p| p.remotes[0].mssfix == Mssfix::Fixed(1300)),
        ("max-packet-size 1000", |p| {
            p.remotes[0].max_packet_size == 1000 && p.remotes[0].mssfix == Mssfix::Mtu(1000)
        }),
        ("data-ciphers aes-192-gcm:CHACHA20-POLY1305", |p| {
            p.tunnel.ciphers == [DataCipher::Aes192Gcm, DataCipher::ChaCha20Poly1305]
        }),
        ("ncp-ciphers AES-128-GCM", |p| p.tunnel.ciphers == [DataCipher::Aes128Gcm]),
        ("data-ciphers AES-192-GCM:DEFAULT", |p| p.tunnel.ciphers.len() == 4),
        ("data-ciphers ?FUTURE-999:?AES-256-CBC:AES-256-GCM", |p| {
            p.tunnel.ciphers == [DataCipher::Aes256Gcm]
        }),
        ("data-ciphers-fallback AES-256-GCM", |p| p.tunnel.fallback == Some(DataCipher::Aes256Gcm)),
        ("auth sha512", |p| p.tunnel.auth_name == "SHA512"),
    ]);
    assert_eq!(
        warnings(&with("cipher AES-128-GCM\nallow-compression no\nkey-method 2")),
        Vec::<String>::new()
    );
    for line in ["cipher BF-CBC", "cipher AES-256-CBC", "data-ciphers-fallback AES-256-CBC"] {
        let profile = with(line);
        assert_eq!(profile.tunnel.fallback, None);
        assert_eq!(profile.tunnel.ciphers.len(), 3);
        assert_eq!(profile.warnings.len(), 1, "{line}");
    }
    assert_eq!(
        warnings(&with("cipher BF-CBC")),
        ["WARNING: DEPRECATED OPTION: --cipher set to 'BF-CBC' but missing in --data-ciphers \
          (AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305). It is ignored, the cipher is negotiated; remove the line (in \
          client.ovpn:7)"]
    );
}

#[test]
fn control_channel_keys() {
    let profile = with("tls-auth ta.key 1\nauth SHA256");
    let WrapConfig::TlsAuth { key, direction, digest } = &profile.remotes[0].wrap else { panic!("tls-auth") };
    assert_eq!((*direction, *digest), (KeyDirection::Inverse, HmacDigest::Sha256));
    assert_eq!(key.expose()[..4], [0, 1, 2, 3]);

    let inline = format!("<tls-auth>\n{}</tls-auth>\nkey-direction 0", static_key());
    let profile = with(&inline);
    assert!(matches!(
        profile.remotes[0].wrap,
        WrapConfig::TlsAuth { direction: KeyDirection::Normal, digest: HmacDigest::Sha1, .. }
    ));
    let profile = with(&format!("tls-auth [inline] 1\n<tls-auth>\n{}</tls-auth>", static_key()));
    assert!(matches!(profile.remotes[0].wrap, WrapConfig::TlsAuth { direction: KeyDirection::Inverse, .. }));
    let profile = with("tls-auth ta.key");
    assert!(matches!(
        profile.remotes[0].wrap,
        WrapConfig::TlsAuth { direction: KeyDirection::Bidirectional, .. }
    ));

    assert!(matches!(with("tls-crypt ta.key").remotes[0].wrap, WrapConfig::TlsCrypt { .. }));
    assert!(matches!(with("tls-crypt-v2 v2.key").remotes[0].wrap, WrapConfig::TlsCryptV2 { .. }));
    let inline = format!("<tls-crypt-v2>\n{}</tls-crypt-v2>", client_key_v2());
    assert!(matches!(with(&inline).remotes[0].wrap, WrapConfig::TlsCryptV2 { .. }));
}

#[test]
fn certificates_and_rules() {
    table(&[
        ("cert client.crt\nkey client.key", |p| {
            p.tls.certs == [PKI.cert_der.clone()]
                && matches!(&p.tls.key, PrivateKey::Plain(der) if **der == PKI.key_der)
        }),
        ("cert client.crt\nkey client.key\nextra-certs ca.crt", |p| {
            p.tls.certs == [PKI.cert_der.clone(), PKI.ca_der.clone()]
        }),
        ("remote-cert-tls client", |p| p.tls.rules.role == Some(CertRole::Client)),
        ("remote-cert-ku a0 88", |p| p.tls.rules.key_usage == [0xa0, 0x88]),
        ("remote-cert-eku 1.2.3", |p| p.tls.rules.extended_key_usage.as_deref() == Some("1.2.3")),
        ("verify-x509-name \"C=US, CN=a b\"", |p| {
            p.tls.rules.name == Some(NameRule::Subject("C=US, CN=a b".into()))
        }),
        ("verify-x509-name vpn name", |p| p.tls.rules.name == Some(NameRule::Name("vpn".into()))),
        ("verify-x509-name Server name-prefix", |p| {
            p.tls.rules.name == Some(NameRule::NamePrefix("Server".into()))
        }),
        ("tls-version-min 1.3", |p| p.tls.min_version == TlsVersion::V13),
        ("tls-version-min 9.9 or-highest", |p| p.tls.min_version == TlsVersion::V13),
        ("tls-version-max 1.2", |p| p.tls.max_version == TlsVersion::V12),
        ("tls-cipher TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256", |p| {
            p.tls.suites12.len() == 2
        }),
        ("tls-ciphersuites TLS_AES_256_GCM_SHA384", |p| p.tls.suites13 == ["TLS_AES_256_GCM_SHA384"]),
        ("tls-groups X25519:secp256r1", |p| p.tls.groups == ["X25519", "secp256r1"]),
    ]);
    assert_eq!(with("tls-version-min 1.0").tls.min_version, TlsVersion::V12);
    assert_eq!(with(&format!("<ca>\nExample, valid until 2036\n{}{0}</ca>", PKI.ca)).tls.ca.len(), 2);
    assert_eq!(with(&format!("<crl-verify>\n{}</crl-verify>", PKI.crl)).tls.rules.crls.len(), 1);

    let print = ["AB"; 32].join(":");
    let lower = print.to_lowercase();
    let block = format!("<peer-fingerprint>\n# of the server\n{print}\n\n{lower}\n</peer-fingerprint>");
    let text = BASE.replace("ca ca.crt\n", "");
    let profile = read(&format!("{text}{block}\npeer-fingerprint {print}\n")).unwrap();
    assert_eq!(profile.tls.rules.fingerprints, [[0xab; 32]; 3]);
    assert_eq!(profile.tls.ca, Vec::<Vec<u8>>::new());

    let mut files = Memory::usual();
    files.add("crl/17", "");
    files.add("crl/notes", "");
    let profile = Profile::from_text("a", &format!("{BASE}crl-verify crl dir"), &files).unwrap();
    assert_eq!(profile.tls.rules.revoked_serials, ["17"]);
}

#[test]
fn encrypted_keys() {
    const ENCRYPTED: &str = include_str!("keys/encrypted.pem");
    const OPENED: &str = include_str!("keys/encrypted.hex");
    let mut files = Memory::usual();
    files.add("encrypted.key", ENCRYPTED);
    files.add("pass", "example\n");
    let text = format!("{BASE}cert client.crt\nkey encrypted.key\n");
    let profile = Profile::from_text("a", &text, &files).unwrap();
    assert!(profile.needs_passphrase());
    let opened = profile.tls_options(Some("example")).unwrap().key.unwrap();
    assert_eq!(hex::encode(&*opened), OPENED);
    let wrong = profile.tls_options(Some("sesame")).err().unwrap().to_string();
    assert!(wrong.contains("the passphrase does not open the private key. Give"), "{wrong}");
    let none = profile.tls_options(None).err().unwrap().to_string();
    assert!(none.contains("there is no passphrase"), "{none}");

    files.add("encrypted.key", include_str!("keys/encrypted-3des.pem"));
    let old = Profile::from_text("a", &text, &files).unwrap();
    assert_eq!(hex::encode(&*old.tls_options(Some("example")).unwrap().key.unwrap()), OPENED);
    files.add("encrypted.key", include_str!("keys/encrypted-pbes1.pem"));
    let older = Profile::from_text("a", &text, &files).unwrap();
    let unknown = older.tls_options(Some("example")).err().unwrap().to_string();
    assert!(
        unknown.contains("encrypted in an unknown way (PBES1). Convert it with `openssl pkcs8"),
        "{unknown}"
    );
    files.add("encrypted.key", ENCRYPTED);

    let profile = Profile::from_text("a", &format!("{text}askpass pass"), &files).unwrap();
    assert!(!profile.needs_passphrase());
    assert_eq!(hex::encode(&*profile.tls_options(None).unwrap().key.unwrap()), OPENED);
    let profile = Profile::from_text("a", &format!("{text}askpass"), &files).unwrap();
    assert!(profile.needs_passphrase());
}

#[test]
fn credentials() {
    let given = |password: Option<&str>| CredentialSource::Given {
        username: "user".into(),
        password: password.map(|word| word.to_string().into()),
    };
    assert_eq!(with("").auth.source, given(Some("secret")));
    assert_eq!(with("auth-user-pass").auth.source, CredentialSource::Prompt);
    assert_eq!(with("<auth-user-pass>\nuser\np w#\n</auth-user-pass>").auth.source, given(Some("p w#")));
    assert_eq!(with("<auth-user-pass>\r\nuser\r\n</auth-user-pass>").auth.source, given(None));
    let profile = with("auth-nocache\nauth-retry interact");
    assert!(profile.auth.no_cache);
    assert_eq!(profile.auth.retry, AuthRetry::Interact);
    assert_eq!(with("auth-retry nointeract").auth.retry, AuthRetry::NoInteract);
    let challenge = |words: &str| {
        let challenge = with(&format!("static-challenge \"Your code\" {words}")).auth.challenge.unwrap();
        assert_eq!(challenge.text, "Your code");
        (challenge.echo, challenge.concat)
    };
    assert_eq!(
        (challenge("1"), challenge("0 scrv1"), challenge("1 concat")),
        ((true, false), (false, false), (true, true))
    );
    assert_eq!(with("").auth.challenge, None);
    assert!(!format!("{:?}", with("")).contains("secret"));
}

#[test]
fn host() {
    table(&[
        ("topology subnet", |p| p.host.topology == Some(Topology::Subnet)),
        ("ifconfig 10.8.0.2 10.8.0.1", |p| {
            p.host.ifconfig == Some(([10, 8, 0, 2].into(), [10, 8, 0, 1].into()))
        }),
        ("ifconfig-ipv6 fd00::2/64 fd00::1", |p| p.host.ifconfig_ipv6.is_some_and(|(_, bits, _)| bits == 64)),
        ("ifconfig-noexec", |p| p.host.no_addresses),
        ("route 10.1.2.3 255.255.0.0 net_gateway 7", |p| {
            p.host.routes.first().is_some_and(|route| {
                route.network == Target::Address([10, 1, 0, 0].into())
                    && route.gateway == Gateway::Net
                    && route.metric == Some(7)
            })
        }),
        ("route-ipv6 2000::/3", |p| p.host.routes6.first().is_some_and(|route| route.bits == 3)),
        ("route-gateway 10.8.0.1", |p| p.host.route_gateway == Some([10, 8, 0, 1].into())),
        ("route-ipv6-gateway fd00::1", |p| p.host.route_ipv6_gateway == "fd00::1".parse().ok()),
        ("route-metric 50", |p| p.host.route_metric == Some(50)),
        ("route-delay 2 30", |p| p.host.route_delay == Some(secs(2))),
        ("route-noexec", |p| p.host.no_routes),
        ("route-nopull", |p| p.tunnel.pull.no_routes),
        ("redirect-gateway def1 ipv6", |p| {
            p.host.redirect == Some(RedirectFlags { def1: true, ipv6: true, ..RedirectFlags::default() })
        }),
        ("redirect-private", |p| p.host.redirect.is_some_and(|flags| flags.private)),
        ("block-ipv6", |p| p.host.block_ipv6),
        ("pull-filter ignore \"route 10.\"\npull-filter accept route", |p| {
            p.tunnel.pull.filters
                == [(FilterAction::Ignore, "route 10.".into()), (FilterAction::Accept, "route".into())]
        }),
    ]);
}

#[test]
fn process_and_log() {
    table(&[
        ("verb 4", |p| p.log.verbosity == 4),
        ("verb 99", |p| p.log.verbosity == 11),
        ("mute 20", |p| p.log.mute == 20),
        ("suppress-timestamps", |p| p.log.no_timestamps),
        ("machine-readable-output", |p| p.log.machine_readable),
        ("mute-replay-warnings", |p| p.log.mute_replay),
        ("log a.log", |p| p.log.file == Some(LogFile { path: "a.log".into(), append: false })),
        ("log-append a.log", |p| p.log.file == Some(LogFile { path: "a.log".into(), append: true })),
        ("writepid a.pid", |p| p.process.pid_file == Some("a.pid".into())),
        ("nice -5", |p| p.process.nice == Some(-5)),
        ("remap-usr1 SIGTERM", |p| p.process.remap_usr1 == Some(RestartAs::Term)),
        ("ecn off", |p| p.process.without_ecn),
        ("ecn on", |p| !p.process.without_ecn),
        ("data-format v2", |p| p.process.data_format == NewestFormat::V2),
        ("gremlin 1632", |p| {
            p.process.gremlin == Some(GremlinOptions { mask: Mask::from(1632), seed: None })
        }),
        ("gremlin 2016 18446744073709551615", |p| {
            p.process.gremlin == Some(GremlinOptions { mask: Mask::STRONGEST, seed: Some(u64::MAX) })
        }),
        ("remap-usr1 SIGHUP", |p| p.process.remap_usr1 == Some(RestartAs::Hup)),
        ("setenv COLOUR blue", |p| p.process.environment == [("COLOUR".into(), "blue".into())]),
        ("setenv-safe colour blue", |p| p.process.environment == [("OPENVPN_colour".into(), "blue".into())]),
        ("push-peer-info", |p| p.tunnel.push_peer_info),
        ("setenv PUSH_PEER_INFO", |p| p.tunnel.push_peer_info),
        ("setenv IV_GUI_VER gui_1", |p| p.tunnel.peer_info == [("IV_GUI_VER".into(), "gui_1".into())]),
        ("push-peer-info\nsetenv UV_ID a\nsetenv UV_ID b", |p| {
            p.tunnel.peer_info == [("UV_ID".into(), "b".into())]
        }),
    ]);
    assert_eq!(with("setenv UV_ID a").tunnel.peer_info, []);
    // No faults, and bits that mean nothing, as in OpenVPN.
    assert_eq!(with("gremlin 0 1").process.gremlin, None);
    assert_eq!(with("gremlin 2048").process.gremlin, None);

    let mut files = Memory::default();
    for name in ["ca.crt", "login"] {
        files.add(&format!("/etc/vpn/{name}"), &Memory::usual().files[name]);
    }
    let profile =
        Profile::from_text("a", &format!("{BASE}cd /etc\ncd vpn\nlog a.log\nwritepid p"), &files).unwrap();
    assert_eq!(profile.log.file.unwrap().path.to_str(), Some("/etc/vpn/a.log"));
    assert_eq!(profile.process.pid_file.unwrap().to_str(), Some("/etc/vpn/p"));
}

#[test]
fn words_without_meaning_are_swallowed() {
    let lines = "persist-key\npersist-tun\nfast-io\ntun-ipv6\nping-timer-rem\nscript-security 3\ndisable-dco\n\
                 route-method exe\ntun-mtu-extra 32\nregister-dns\nip-win32 dynamic\necho a b\nmax-routes 5\n\
                 comp-noadapt\nprng SHA1 32\nhttp-proxy-retry\ndown-pre\nsetenv CLIENT_CERT 0";
    assert_eq!(warnings(&with(lines)), Vec::<String>::new());
}

#[test]
fn connection_blocks_scope_their_options() {
    let text = format!(
        "{BASE}mssfix 1400\ntls-auth ta.key 1\n<connection>\nremote a 1\nproto tcp\nmssfix 1200\nconnect-timeout \
         3\n</connection>\n  <connection>\nremote b 2 udp4\nexplicit-exit-notify 2\nfloat\n<tls-crypt>\n{}</tls-crypt>\n\
         </connection>\nserver-poll-timeout 50\n",
        static_key()
    );
    let profile = read(&text).unwrap();
    assert_eq!(warnings(&profile).len(), 1, "the remote outside is ignored with a warning");
    let [a, b] = profile.remotes.as_slice() else { panic!("two remotes") };
    assert_eq!((a.host.as_str(), a.port, a.protocol, a.mssfix), ("a", 1, Protocol::Tcp, Mssfix::Link(1200)));
    assert_eq!((b.host.as_str(), b.port, b.protocol, b.mssfix), ("b", 2, Protocol::Udp, Mssfix::Link(1400)));
    assert_eq!((a.poll_timeout, b.poll_timeout), (secs(3), secs(120)));
    assert_eq!((a.exit_notify, b.exit_notify, a.float, b.float), (None, Some(2), false, true));
    assert!(matches!(a.wrap, WrapConfig::TlsAuth { direction: KeyDirection::Inverse, .. }));
    assert!(matches!(b.wrap, WrapConfig::TlsCrypt { .. }));
    assert_eq!(b.origin.to_string(), "client.ovpn:16");
}

struct NoTls;

impl TlsFactory for NoTls {
    fn client(&self, _unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        Err(TlsFailure { kind: TlsFailureKind::Local, message: String::new() })
    }

    fn server(&self, unix: Duration) -> Result<Box<dyn TlsSession>, TlsFailure> {
        self.client(unix)
    }
}

#[test]
fn the_core_gets_the_settings_of_its_remote() {
    let profile = with(
        "tls-crypt ta.key\nremote b 443 tcp\nexplicit-exit-notify\nmssfix 1300\nhand-window 9\nconnect-timeout 8\n\
         setenv IV_SSO webauth\ndata-ciphers AES-128-GCM\ntun-mtu 1450\nfloat\nroute-nopull\nauth SHA384",
    );
    let config = profile.client_config(&profile.remotes[0], Arc::new(NoTls));
    assert!(matches!(config.channel.wrap, WrapConfig::TlsCrypt { .. }));
    assert_eq!(config.channel.ciphers, [DataCipher::Aes128Gcm]);
    assert_eq!((config.channel.timing.hand_window, config.channel.timing.server_poll), (secs(9), secs(8)));
    assert_eq!(
        (config.channel.tun_mtu, config.channel.mssfix, config.channel.float),
        (1450, Mssfix::Link(1300), true)
    );
    assert_eq!(config.channel.auth_name, "SHA384");
    assert!(config.pull.no_routes);
    assert_eq!(config.channel.peer_info.extra, [("IV_SSO".into(), "webauth".into())]);
    assert_eq!(config.channel.exit_notify, Some(1));
    assert_eq!(profile.client_config(&profile.remotes[1], Arc::new(NoTls)).channel.exit_notify, None);
    let options = profile.tls_options(None).unwrap();
    assert_eq!(options.ca, std::slice::from_ref(&PKI.ca_der));
    assert!(options.key.is_none());
}

#[test]
fn command_lines() {
    let mut files = Memory::usual();
    files.add("f.ovpn", BASE);
    let run = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        match parse_args(&args, &files) {
            Ok(Command::Run(profile)) => profile,
            other => panic!("{args:?}: {other:?}"),
        }
    };
    assert_eq!(run(&["f.ovpn"]).remotes[0].origin.to_string(), "f.ovpn:3");
    let profile = run(&["--config", "f.ovpn", "--verb", "4", "--remote", "host", "1195", "udp"]);
    assert_eq!(profile.log.verbosity, 4);
    assert_eq!((profile.remotes[1].host.as_str(), profile.remotes[1].port), ("host", 1195));
    assert_eq!(profile.remotes[1].origin.to_string(), "[CMD-LINE]:3");
    assert_eq!(run(&["--verb", "4", "--config", "f.ovpn", "--verb", "5"]).log.verbosity, 5);
    assert_eq!(run(&["--config", "f.ovpn", "--setenv", "opt", "block-outside-dns"]).warnings.len(), 1);

    let other = |args: &[&str]| parse_args(&args.iter().map(ToString::to_string).collect::<Vec<_>>(), &files);
    assert!(matches!(other(&["--help"]), Ok(Command::Help)));
    assert!(matches!(other(&[]), Ok(Command::Help)));
    assert!(matches!(other(&["--version"]), Ok(Command::Version)));
}
