use sha2::{Digest, Sha256};

use super::*;
use crate::tls::verify::{CertRole, NameRule};

/// What a case expects: acceptance, or words of the refusal.
type Expected = Result<(), &'static [&'static str]>;

fn check(name: &str, options: TlsOptions, chain: &[&'static str], expected: Expected) {
    // The rules don't depend on the version; both are run to see that they are applied in both.
    for version in [TlsVersion::V12, TlsVersion::V13] {
        let mut options = clone(&options);
        (options.min_version, options.max_version) = (TlsVersion::V12, TlsVersion::V13);
        match (outcome(options, &Server::new(chain, version)), expected) {
            (Ok(_), Ok(())) => {}
            (Err(failure), Err(words)) => {
                assert_eq!(failure.kind, TlsFailureKind::Certificate, "{name}: {failure}");
                for word in words {
                    assert!(failure.message.contains(word), "{name}: {word:?} not in: {failure}");
                }
            }
            (got, _) => panic!("{name}, {version:?}: got {got:?}, expected {expected:?}"),
        }
    }
}

fn clone(options: &TlsOptions) -> TlsOptions {
    TlsOptions {
        ca: options.ca.clone(),
        certs: options.certs.clone(),
        key: options.key.clone(),
        rules: options.rules.clone(),
        suites12: options.suites12.clone(),
        suites13: options.suites13.clone(),
        groups: options.groups.clone(),
        ..*options
    }
}

fn with_rules(ca: &[&str], rules: PeerRules) -> TlsOptions {
    TlsOptions { rules, ..options(ca) }
}

fn fingerprint(name: &str) -> [u8; 32] {
    Sha256::digest(cert(name)).into()
}

#[test]
fn chains() {
    let cases: &[(&[&str], &[&'static str], Expected)] = &[
        (&["ca"], &["server"], Ok(())),
        (&["ca-other", "ca"], &["server"], Ok(())),
        (&["ca"], &["server-bare"], Ok(())),
        (&["ca"], &["server-noku"], Ok(())),
        (&["ca"], &["server-noeku"], Ok(())),
        (&["ca"], &["server-by-sub", "sub"], Ok(())),
        (&["ca"], &["server-by-sub", "server", "sub", "ca"], Ok(())),
        (&["sub"], &["server-by-sub"], Ok(())),
        (&["ca-v1"], &["server"], Ok(())),
        // The signature of a trusted certificate itself proves nothing and may be weak.
        (&["ca-sha1"], &["server"], Ok(())),
        // A renewed CA beside its expired form.
        (&["ca-expired", "ca"], &["server"], Ok(())),
        (&["ca-path0"], &["server"], Ok(())),
        (&["self-ca"], &["self-ca"], Ok(())),
        (&["self"], &["self"], Ok(())),
        (&["self-v1"], &["self-v1"], Ok(())),
        (
            &["ca-other"],
            &["server"],
            Err(&[
                "VERIFY ERROR: depth=0, error=unable to get local issuer certificate: C=US, O=Example, CN=server, serial=",
                "not signed by a CA in `ca`",
                "issuer is \"CN=Test-CA\"",
                "`ca` holds \"CN=Other-CA\"",
            ]),
        ),
        (&["ca"], &["server-by-sub"], Err(&["depth=0, error=unable to get local issuer", "CN=Sub-CA"])),
        (
            &["ca-other"],
            &["server-by-sub", "sub"],
            Err(&["depth=1, error=unable to get local issuer", "CN=Sub-CA"]),
        ),
        (
            &["ca-other"],
            &["server", "ca"],
            Err(&["depth=1, error=self-signed certificate in certificate chain"]),
        ),
        (&["ca"], &["self"], Err(&["depth=0, error=self-signed certificate: CN=self-server"])),
        (&["ca-twin"], &["server"], Err(&["certificate signature failure", "same name with another key"])),
        (
            &["ca"],
            &["server-expired"],
            Err(&[
                "depth=0, error=certificate has expired: CN=server, serial=",
                "Jan  1 00:00:00 2021",
                "renewed",
            ]),
        ),
        (&["ca-expired"], &["server"], Err(&["depth=1, error=certificate has expired: CN=Test-CA"])),
        (
            &["ca"],
            &["server-by-sub", "sub-expired"],
            Err(&["depth=1, error=certificate has expired: CN=Sub-CA"]),
        ),
        (&["self-expired"], &["self-expired"], Err(&["depth=0, error=certificate has expired"])),
        (
            &["ca"],
            &["server-clienteku"],
            Err(&["depth=0, error=unsuitable certificate purpose", "serverAuth"]),
        ),
        (&["ca"], &["server-any"], Err(&["unsuitable certificate purpose"])),
        (&["ca"], &["server-crlku"], Err(&["unsuitable certificate purpose"])),
        (&["ca"], &["server-critical"], Err(&["unhandled critical extension"])),
        (&["ca"], &["server-isca"], Err(&["CA certificate used as server certificate", "peer-fingerprint"])),
        (&["ca"], &["server-v1"], Err(&["unsupported certificate version", "peer-fingerprint"])),
        (&["ca"], &["server-nocn"], Err(&["could not extract CN", "O=Example"])),
        (&["ca-leaf"], &["server"], Err(&["depth=1, error=invalid CA certificate"])),
        (&["ca-nosign"], &["server"], Err(&["depth=1, error=invalid CA certificate"])),
        (&["ca"], &["server-by-sub", "sub-leaf"], Err(&["depth=1, error=invalid CA certificate"])),
        (&["ca"], &["server-by-sub", "sub-nosign"], Err(&["depth=1, error=invalid CA certificate"])),
        (&["ca-path0"], &["server-by-sub", "sub"], Err(&["depth=2, error=path length constraint exceeded"])),
    ];
    for (ca, chain, expected) in cases {
        check(&format!("{ca:?} {chain:?}"), options(ca), chain, *expected);
    }
}

#[test]
fn weak_keys_and_signatures_are_named() {
    let cases: &[(&[&str], &[&'static str], Expected)] = &[
        (
            &["ca"],
            &["server-rsa1024"],
            Err(&["VERIFY ERROR: depth=0, CN=server: RSA key of 1024 bits is too short; make a new key"]),
        ),
        (
            &["ca", "ca-weak"],
            &["server-by-weak"],
            Err(&["VERIFY ERROR: depth=1, CN=old-ca: RSA key of 1024 bits is too short"]),
        ),
        (
            &["ca"],
            &["server-sha1"],
            Err(&["depth=0, CN=server: signed with SHA-1, which can be forged", "SHA-256"]),
        ),
        (&["ca-rsa"], &["server-md5"], Err(&["depth=0, CN=server: signed with MD5"])),
        (&["ca"], &["server-by-sub", "sub-sha1"], Err(&["depth=1, CN=Sub-CA: signed with SHA-1"])),
        (
            &["ca"],
            &["server-k1"],
            Err(&["depth=0, CN=server: key type EC on curve secp256k1 is not supported"]),
        ),
    ];
    for (ca, chain, expected) in cases {
        check(&format!("{ca:?} {chain:?}"), options(ca), chain, *expected);
    }
}

#[test]
fn the_time_is_the_callers() {
    let at = |unix| {
        let factory = RustlsFactory::new(options(&["ca"]), provider()).unwrap();
        let mut client = factory.client(Duration::from_secs(unix)).unwrap();
        run(client.as_mut(), &mut Server::new(&["server"], TlsVersion::V13).start(), 1000)
    };
    let (from, to) = (1_577_836_800, 4_733_510_400);
    at(from).unwrap();
    at(to).unwrap();
    let early = at(from - 1).unwrap_err().message;
    assert!(early.contains("error=certificate is not yet valid: C=US, O=Example, CN=server"), "{early}");
    assert!(early.contains("set this machine's clock"), "{early}");
    assert!(at(to + 1).unwrap_err().message.contains("certificate has expired"));
}

#[test]
fn fingerprints() {
    let rules = |names: &[&str]| PeerRules {
        fingerprints: names.iter().map(|name| fingerprint(name)).collect(),
        ..PeerRules::default()
    };
    let refused: Expected =
        Err(&["--peer-fingerprint certificate hash verification failed", "fingerprint: "]);
    // Without a CA the fingerprint decides alone.
    for name in
        ["server", "self", "self-ca", "self-v1", "self-expired", "server-v1", "server-isca", "server-sha1"]
    {
        check(name, with_rules(&[], rules(&[name])), &[name], Ok(()));
        check(name, with_rules(&[], rules(&["ca", name])), &[name], Ok(()));
        check(name, with_rules(&[], rules(&["ca"])), &[name], refused);
    }
    check("weak key", with_rules(&[], rules(&["server-rsa1024"])), &["server-rsa1024"], Err(&["1024 bits"]));
    // With a CA both must hold.
    check("both", with_rules(&["ca"], rules(&["server"])), &["server"], Ok(()));
    check("chain only", with_rules(&["ca"], rules(&["self"])), &["server"], refused);
    check(
        "fingerprint only",
        with_rules(&["ca"], rules(&["self"])),
        &["self"],
        Err(&["self-signed certificate"]),
    );
    // The other rules hold besides.
    let named = PeerRules { name: Some(NameRule::Name("other".into())), ..rules(&["self"]) };
    check("name", with_rules(&[], named), &["self"], Err(&["VERIFY X509NAME ERROR"]));
}

#[test]
fn a_fingerprint_does_not_replace_the_private_key() {
    for version in [TlsVersion::V12, TlsVersion::V13] {
        for name in ["self-v1", "self"] {
            let rules = PeerRules { fingerprints: vec![fingerprint(name)], ..PeerRules::default() };
            let mut server = Server::new(&[name], version);
            server.key = "client-p256.key".into();
            let failure = outcome(with_rules(&[], rules), &server).unwrap_err();
            assert_eq!(failure.kind, TlsFailureKind::Certificate);
            assert!(failure.message.contains("does not have the certificate's private key"), "{failure}");
        }
    }
}

#[test]
fn roles_and_usages() {
    let role = |role| PeerRules { role: Some(role), ..PeerRules::default() };
    let ku = |masks: &[u16]| PeerRules { key_usage: masks.to_vec(), ..PeerRules::default() };
    let eku = |name: &str| PeerRules { extended_key_usage: Some(name.into()), ..PeerRules::default() };
    let no_ku: Expected = Err(&["VERIFY KU ERROR", "Certificate does not have key usage extension"]);
    let no_eku: Expected =
        Err(&["VERIFY EKU ERROR", "Certificate does not have extended key usage extension"]);
    let cases: Vec<(PeerRules, &'static str, Expected)> = vec![
        (role(CertRole::Server), "server", Ok(())),
        (role(CertRole::Server), "server-noku", no_ku),
        (role(CertRole::Server), "server-noeku", no_eku),
        (role(CertRole::Server), "server-bare", no_ku),
        (
            role(CertRole::Client),
            "server",
            Err(&["VERIFY EKU ERROR", "expects TLS Web Client Authentication"]),
        ),
        (ku(&[0xa0]), "server", Ok(())),
        (ku(&[0x80]), "server", Ok(())),
        (ku(&[0x88, 0xa0]), "server", Ok(())),
        (
            ku(&[0x88]),
            "server",
            Err(&["VERIFY KU ERROR", "Certificate has key usage 00a0, expected one of: 0088"]),
        ),
        (ku(&[0]), "server", Err(&["VERIFY KU ERROR"])),
        (ku(&[0x80]), "server-noku", no_ku),
        (eku("TLS Web Server Authentication"), "server", Ok(())),
        (eku("serverAuth"), "server", Ok(())),
        (eku("1.3.6.1.5.5.7.3.1"), "server", Ok(())),
        (eku("1.3.6.1.5.5.7.3.5"), "server-two", Ok(())),
        (eku("IPSec End System"), "server-two", Ok(())),
        (eku("1.2.3.4.5"), "server-two", Ok(())),
        (eku("clientAuth"), "server-two", Err(&["VERIFY EKU ERROR", "expects clientAuth"])),
        (eku("serverAuth"), "server-noeku", no_eku),
    ];
    for (rules, leaf, expected) in cases {
        check(&format!("{rules:?} {leaf}"), with_rules(&["ca"], rules), &[leaf], expected);
    }
}

#[test]
fn names() {
    let subject = |text: &str| NameRule::Subject(text.into());
    let name = |text: &str| NameRule::Name(text.into());
    let prefix = |text: &str| NameRule::NamePrefix(text.into());
    let cases: Vec<(NameRule, &'static str, Expected)> = vec![
        (subject("C=US, O=Example, CN=server"), "server", Ok(())),
        (
            subject("CN=server"),
            "server",
            Err(&["VERIFY X509NAME ERROR: C=US, O=Example, CN=server, must be CN=server"]),
        ),
        (name("server"), "server", Ok(())),
        (name("serve"), "server", Err(&["VERIFY X509NAME ERROR: server, must be serve."])),
        (name("Server"), "server", Err(&["must be Server"])),
        (prefix("serv"), "server", Ok(())),
        (prefix("server"), "server", Ok(())),
        (prefix("server-"), "server", Err(&["VERIFY X509NAME ERROR: server, must start with server-"])),
        (
            subject(
                "DC=org, C=DE, ST=Bayern, L=M\u{fc}nchen, O=A, B\\\\C, OU=one + OU=two, CN=first, CN=last host, \
                 emailAddress=a@b.c",
            ),
            "server-names",
            Ok(()),
        ),
        (name("last host"), "server-names", Ok(())),
        (subject("O=-x, CN=a\\01b"), "server-ctrl", Ok(())),
        (name("a_b"), "server-ctrl", Ok(())),
    ];
    for (rule, leaf, expected) in cases {
        let text = format!("{rule:?} {leaf}");
        let rules = PeerRules { name: Some(rule), ..PeerRules::default() };
        check(&text, with_rules(&["ca"], rules), &[leaf], expected);
    }
}

#[test]
fn revocation_lists() {
    let sub: &[&'static str] = &["server-by-sub", "sub"];
    let cases: Vec<(&[&str], &[&'static str], Expected)> = vec![
        (&["crl-empty"], &["server"], Ok(())),
        (
            &["crl-server"],
            &["server"],
            Err(&["depth=0, error=certificate revoked: C=US, O=Example, CN=server, serial="]),
        ),
        (&["crl-server"], &["server-noku"], Ok(())),
        // The newest list of an issuer counts, in whatever order they are given.
        (&["crl-empty", "crl-server"], &["server"], Err(&["certificate revoked"])),
        (&["crl-server", "crl-empty"], &["server"], Err(&["certificate revoked"])),
        (&["crl-sub"], sub, Err(&["depth=1, error=certificate revoked: CN=Sub-CA"])),
        (&["crl-expired"], &["server"], Err(&["error=CRL has expired", "Jan  1 00:00:00 2021", "gen-crl"])),
        (&["crl-expired", "crl-empty"], &["server"], Ok(())),
        (&["crl-twin"], &["server"], Err(&["CRL signature failure"])),
        (&["crl-sha1"], &["server"], Err(&["CRL signed with an algorithm"])),
        // No list for the issuer: let pass with a warning.
        (&["crl-other"], &["server"], Ok(())),
        (&["crl-empty"], sub, Ok(())),
    ];
    for (lists, chain, expected) in cases {
        let rules = PeerRules { crls: lists.iter().map(|name| crl(name)).collect(), ..PeerRules::default() };
        check(&format!("{lists:?} {chain:?}"), with_rules(&["ca"], rules), chain, expected);
    }
}

#[test]
fn a_missing_revocation_list_is_told() {
    let peer = |lists: &[&str], chain: &[&'static str]| {
        let rules = PeerRules { crls: lists.iter().map(|name| crl(name)).collect(), ..PeerRules::default() };
        outcome(with_rules(&["ca"], rules), &Server::new(chain, TlsVersion::V13)).unwrap().warnings
    };
    assert_eq!(peer(&["crl-empty"], &["server"]), [""; 0]);
    assert_eq!(
        peer(&["crl-empty"], &["server-by-sub", "sub"]),
        ["VERIFY WARNING: depth=0, unable to get certificate CRL: CN=server"]
    );
    assert_eq!(
        peer(&["crl-other"], &["server"]),
        ["VERIFY WARNING: depth=0, unable to get certificate CRL: C=US, O=Example, CN=server"]
    );
}

#[test]
fn revoked_serials() {
    let serial = x509_parser::parse_x509_certificate(&cert("sub")).unwrap().1.serial.to_string();
    let rules = |list: &[&str]| PeerRules {
        revoked_serials: list.iter().map(|s| (*s).to_owned()).collect(),
        ..PeerRules::default()
    };
    check("other", with_rules(&["ca"], rules(&["1"])), &["server"], Ok(()));
    check(
        "leaf",
        with_rules(&["ca"], rules(&["1", "102"])),
        &["server"],
        Err(&["depth=0", "serial=102 is revoked"]),
    );
    check(
        "intermediate",
        with_rules(&["ca"], rules(&[serial.as_str()])),
        &["server-by-sub", "sub"],
        Err(&["VERIFY CRL: depth=1, CN=Sub-CA", "is revoked"]),
    );
}

#[test]
fn the_peer_is_described() {
    let server = Server::new(&["server-by-sub", "sub"], TlsVersion::V13);
    let peer = outcome(options(&["ca"]), &server).unwrap();
    let wanted = PeerIdentity {
        subject: "CN=server".into(),
        common_name: Some("server".into()),
        fingerprint: fingerprint("server-by-sub"),
        chain: vec!["depth=2, CN=Test-CA".into(), "depth=1, CN=Sub-CA".into(), "depth=0, CN=server".into()],
        warnings: Vec::new(),
        certificates: ["server-by-sub", "sub", "ca"].map(|name| cert(name).to_vec()).into(),
    };
    assert_eq!(peer, wanted);
}

#[test]
fn no_identity_before_the_server_proved_its_key() {
    // In TLS 1.2 the certificate comes long before the end of the handshake.
    let mut client = client(options(&["ca"]));
    let mut server = Server::new(&["server"], TlsVersion::V12).start();
    feed_server(&mut server, &drained(client.as_mut())).unwrap();
    client.feed(&server_bytes(&mut server)).unwrap();
    assert_eq!((client.phase(), client.peer()), (TlsPhase::Handshaking, None));
}

#[test]
fn an_unreadable_certificate_is_refused() {
    let verifier = verify::Verifier::new(
        vec![cert("ca")],
        PeerRules::default(),
        provider().signature_verification_algorithms.all,
    )
    .unwrap_or_else(|e| panic!("{e}"));
    let good = cert("server");
    for len in 0..good.len() {
        let cut = CertificateDer::from(&good[..len]);
        assert!(
            verifier.verify(CertRole::Server, &cut, &[], NOW).unwrap_err().message.contains("cannot be read"),
            "{len}"
        );
    }
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 0x55;
        assert!(verifier.verify(CertRole::Server, &CertificateDer::from(bad), &[], NOW).is_err(), "byte {i}");
    }
}
