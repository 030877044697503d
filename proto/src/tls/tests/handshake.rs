use super::*;

const BOTH: [TlsVersion; 2] = [TlsVersion::V12, TlsVersion::V13];

#[test]
fn handshake_with_client_certificates_of_every_kind() {
    for version in BOTH {
        for name in ["client-rsa", "client-p256", "client-p384", "client-p521", "client-ed25519"] {
            for server in ["server", "server-rsa", "server-p384", "server-p521", "server-ed25519"] {
                // A P-521 server works here in TLS 1.2 too; OpenSSL's wants the group offered, which rustls lacks.
                let mut server = Server::new(&[server], version);
                server.clients = Some("ca");
                let peer = outcome(with_identity(options(&["ca"]), name), &server).unwrap();
                assert!(peer.subject.contains("CN=server"), "{name} {version:?}: {peer:?}");
            }
        }
    }
}

#[test]
fn keys_are_read_in_each_form() {
    for (cert_name, key_name) in [("client-p256", "client-p256.sec1"), ("client-rsa", "client-rsa.pkcs1")] {
        let mut options = with_identity(options(&["ca"]), cert_name);
        options.key = Some(key(key_name));
        let mut server = Server::new(&["server"], TlsVersion::V13);
        server.clients = Some("ca");
        outcome(options, &server).unwrap();
    }
}

#[test]
fn exported_keys_are_equal_on_both_sides() {
    for version in BOTH {
        let mut client = client(options(&["ca"]));
        let mut server = Server::new(&["server"], version).start();
        assert!(client.export("EXPORTER-OpenVPN-datakeys", &mut [0; 256]).is_err());
        run(client.as_mut(), &mut server, 1000).unwrap();
        let (mut ours, mut other) = ([0; 256], [0; 256]);
        client.export("EXPORTER-OpenVPN-datakeys", &mut ours).unwrap();
        client.export("EXPORTER-OpenVPN-dynamic-tls-crypt", &mut other).unwrap();
        let theirs = server.export_keying_material([0; 256], b"EXPORTER-OpenVPN-datakeys", None).unwrap();
        assert_eq!(ours, theirs);
        assert_ne!(ours, other);
    }
}

#[test]
fn record_borders_survive_any_cut() {
    for version in BOTH {
        for cut in [1, 2, 5, 100, 1400, 100_000] {
            let mut client = client(options(&["ca"]));
            let mut server = Server::new(&["server-rsa"], version).start();
            run(client.as_mut(), &mut server, cut).unwrap();
            let messages = [&b"PUSH_REPLY,a"[..], b"x", &[7; 2048], &[9; 16384], b"last"];
            let mut bytes = Vec::new();
            for message in messages {
                server.writer().write_all(message).unwrap();
                bytes.extend(server_bytes(&mut server));
            }
            for piece in bytes.chunks(cut) {
                client.feed(piece).unwrap();
            }
            for message in messages {
                let mut got = Zeroizing::new(Vec::new());
                assert!(client.read_record(&mut got));
                assert_eq!(got.as_slice(), message, "{version:?}, cut {cut}");
            }
            assert!(!client.read_record(&mut Zeroizing::new(Vec::new())));
        }
    }
}

#[test]
fn each_message_is_one_record() {
    let mut client = client(options(&["ca"]));
    let mut server = Server::new(&["server"], TlsVersion::V13).start();
    assert_eq!(client.write_record(b"early").unwrap_err().kind, TlsFailureKind::Local);
    run(client.as_mut(), &mut server, 1000).unwrap();
    assert!(client.write_record(&[]).is_err());
    assert!(client.write_record(&[0; 2049]).is_err());
    for len in [1, 2048] {
        client.write_record(&vec![5; len]).unwrap();
        let bytes = drained(client.as_mut());
        assert_eq!(usize::from(u16::from_be_bytes([bytes[3], bytes[4]])), bytes.len() - 5);
        feed_server(&mut server, &bytes).unwrap();
        let mut got = vec![0; len];
        server.reader().read_exact(&mut got).unwrap();
        assert_eq!(got, vec![5; len]);
    }
}

#[test]
fn secrets_go_to_the_log_that_was_given() {
    for (version, label, count) in
        [(TlsVersion::V12, "CLIENT_RANDOM", 1), (TlsVersion::V13, "EXPORTER_SECRET", 5)]
    {
        let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = lines.clone();
        let factory = RustlsFactory::new(options(&["ca"]), provider()).unwrap().with_key_log(Arc::new(
            move |label, random, secret| {
                log.lock().unwrap().push((label.to_owned(), random.to_vec(), secret.len()));
            },
        ));
        let mut logged = factory.client(Duration::from_secs(NOW)).unwrap();
        let hello = drained(logged.as_mut());
        let mut server = Server::new(&["server"], version).start();
        feed_server(&mut server, &hello).unwrap();
        run(logged.as_mut(), &mut server, 1000).unwrap();
        let lines = core::mem::take(&mut *lines.lock().unwrap());
        assert!(lines.contains(&(label.into(), hello[11..43].to_vec(), 48)), "{version:?}: {lines:?}");
        assert_eq!(lines.len(), count, "{version:?}: {lines:?}");
    }
}

#[test]
fn first_flight_is_small_and_names_no_host() {
    let hello = drained(client(options(&["ca"])).as_mut());
    assert!(hello.len() < 300, "{} bytes", hello.len());
    assert!(!hello.windows(7).any(|w| w == b"openvpn"));
}

#[test]
fn description_reads_like_openvpn() {
    let cases = [
        (
            "server-rsa",
            TlsVersion::V13,
            "TLSv1.3, cipher TLSv1.3 TLS_AES_256_GCM_SHA384, peer certificate: 2048 bits RSA, signature: \
             ecdsa-with-SHA256, peer temporary key: 253 bits X25519",
        ),
        (
            "server-by-rsa",
            TlsVersion::V12,
            "TLSv1.2, cipher TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384, peer certificate: 256 bits ECprime256v1, \
             signature: RSA-SHA256, peer temporary key: 253 bits X25519",
        ),
    ];
    for (name, version, wanted) in cases {
        let mut client = client(options(&["ca", "ca-rsa"]));
        assert_eq!(client.description(), None);
        run(client.as_mut(), &mut Server::new(&[name], version).start(), 1000).unwrap();
        assert_eq!(client.description().unwrap(), wanted);
    }
}

#[test]
fn a_refused_server_gets_an_alert() {
    for version in BOTH {
        let mut client = client(options(&["ca-other"]));
        let mut server = Server::new(&["server"], version).start();
        let failure = run(client.as_mut(), &mut server, 1000).unwrap_err();
        assert_eq!(failure.kind, TlsFailureKind::Certificate);
        assert_eq!((client.phase(), client.peer()), (TlsPhase::Closed, None));
        let error = feed_server(&mut server, &drained(client.as_mut())).unwrap_err();
        assert_eq!(error, ::rustls::Error::AlertReceived(::rustls::AlertDescription::UnknownCA));
        assert_eq!(client.feed(b"more").unwrap_err(), failure, "a failure stays");
        assert_eq!(client.write_record(b"more").unwrap_err(), failure);
    }
}

#[test]
fn alerts_of_the_server_are_explained() {
    for version in BOTH {
        let cases = [
            (None, "demands a client certificate"),
            (Some("client-of-other"), "not signed by the CA that the server trusts"),
        ];
        for (identity, hint) in cases {
            let mut server = Server::new(&["server"], version);
            server.clients = Some(if identity.is_some() { "ca-other" } else { "ca" });
            let mut options = options(&["ca"]);
            if identity.is_some() {
                options = with_identity(options, "client-p256");
            }
            let mut client = client(options);
            let failure = run(client.as_mut(), &mut server.start(), 1000).unwrap_err();
            assert_eq!(failure.kind, TlsFailureKind::Alert, "{failure}");
            assert!(failure.message.contains(hint), "{version:?}: {failure}");
        }
    }
}

#[test]
fn no_common_version_or_suite_is_explained() {
    let mut only13 = options(&["ca"]);
    only13.min_version = TlsVersion::V13;
    let mut client13 = client(only13);
    let failure =
        run(client13.as_mut(), &mut Server::new(&["server"], TlsVersion::V12).start(), 1000).unwrap_err();
    assert!(failure.message.contains("tls-version-min"), "{failure}");
    let mut rsa_only = options(&["ca"]);
    rsa_only.max_version = TlsVersion::V12;
    rsa_only.suites12 = vec!["ECDHE-RSA-AES128-GCM-SHA256".into()];
    let mut client12 = client(rsa_only);
    let failure =
        run(client12.as_mut(), &mut Server::new(&["server"], TlsVersion::V12).start(), 1000).unwrap_err();
    assert_eq!(failure.kind, TlsFailureKind::Alert);
    assert!(failure.message.contains("shares no cipher suite"), "{failure}");
}

#[test]
fn a_server_below_tls_1_2_is_named() {
    // ServerHello of TLS 1.1 with suite ECDHE-RSA-AES128-SHA.
    let mut hello = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([1; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    let failure = client(options(&["ca"])).feed(&hello).unwrap_err();
    assert_eq!(failure.kind, TlsFailureKind::Incompatible, "{failure}");
    assert!(failure.message.contains("TLS below 1.2"), "{failure}");
}

#[test]
fn rubbish_fails_and_never_grows() {
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n"[..], &[22, 3, 3, 0xff, 0xff], &[0; 50], &[23, 3, 3, 0, 0]]
    {
        let mut client = client(options(&["ca"]));
        let failure = client.feed(bytes).unwrap_err();
        assert_eq!(failure.kind, TlsFailureKind::Protocol, "{bytes:?}: {failure}");
        assert_eq!(client.phase(), TlsPhase::Closed);
    }
}

#[test]
fn unread_records_are_bounded() {
    let mut client = client(options(&["ca"]));
    let mut server = Server::new(&["server"], TlsVersion::V13).start();
    run(client.as_mut(), &mut server, 1000).unwrap();
    for _ in 0..64 {
        server.writer().write_all(b"x").unwrap();
        client.feed(&server_bytes(&mut server)).unwrap();
    }
    server.writer().write_all(b"x").unwrap();
    assert!(client.feed(&server_bytes(&mut server)).is_err());
}

#[test]
fn close_notify_closes() {
    let mut client = client(options(&["ca"]));
    let mut server = Server::new(&["server"], TlsVersion::V13).start();
    run(client.as_mut(), &mut server, 1000).unwrap();
    server.send_close_notify();
    client.feed(&server_bytes(&mut server)).unwrap();
    assert_eq!(client.phase(), TlsPhase::Closed);
}
