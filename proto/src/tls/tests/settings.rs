use super::*;
use crate::tls::verify::CertRole;

fn refused(options: TlsOptions) -> String {
    let failure = RustlsFactory::new(options, provider()).unwrap_err();
    assert_eq!(failure.kind, TlsFailureKind::Local);
    failure.message
}

fn holds(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} not in: {message}");
    }
}

#[test]
fn own_certificates_and_keys_are_checked() {
    let cases: &[(&[&str], Option<&str>, &[&str])] = &[
        (
            &["client-rsa1024"],
            Some("client-rsa.key"),
            &["`cert`, certificate 1 (CN=client-rsa1024)", "1024 bits"],
        ),
        (&["client-sha1"], Some("client-p256.key"), &["certificate 1 (CN=client-sha1)", "signed with SHA-1"]),
        (
            &["client-p256", "sub-sha1"],
            Some("client-p256.key"),
            &["certificate 2 (CN=Sub-CA)", "signed with SHA-1"],
        ),
        (&["client-k1"], Some("client-p256.key"), &["CN=client-k1", "secp256k1 is not supported"]),
        (&["client-p256"], Some("client-p384.key"), &["`key` does not belong to `cert` (CN=client-p256)"]),
        (&["client-p256"], None, &["no `key`"]),
        (&[], Some("client-p256.key"), &["no `cert`"]),
    ];
    for (certs, key_name, words) in cases {
        let mut options = options(&["ca"]);
        options.certs = certs.iter().map(|name| cert(name)).collect();
        options.key = key_name.map(key);
        holds(&refused(options), words);
    }
    let mut rubbish = with_identity(options(&["ca"]), "client-p256");
    rubbish.key = Some(Zeroizing::new(b"not a key".to_vec()));
    holds(&refused(rubbish), &["`key` is not a private key"]);
    let mut rubbish = with_identity(options(&["ca"]), "client-p256");
    rubbish.certs[0].truncate(100);
    holds(&refused(rubbish), &["`cert`, certificate 1: not a DER certificate"]);
}

#[test]
fn an_own_certificate_of_version_1_is_sent() {
    let mut options = with_identity(options(&["ca"]), "client-p256");
    options.certs = vec![cert("client-v1")];
    let mut client = client(options);
    let mut server = Server::new(&["server"], TlsVersion::V12);
    server.clients = Some("ca");
    let mut server = server.start();
    feed_server(&mut server, &drained(client.as_mut())).unwrap();
    client.feed(&server_bytes(&mut server)).unwrap();
    // In TLS 1.2 the client's certificate is sent in clear. rustls' server refuses it, OpenSSL's takes it.
    let flight = drained(client.as_mut());
    let sent = cert("client-v1");
    assert!(flight.windows(sent.len()).any(|w| w == sent));
}

#[test]
fn trusted_certificates_are_checked() {
    holds(&refused(options(&[])), &["`ca`", "`peer-fingerprint`"]);
    holds(&refused(options(&["ca-weak"])), &["`ca`, certificate 1 (CN=old-ca)", "1024 bits"]);
    let mut cut = options(&["ca", "ca-other"]);
    cut.ca[1].truncate(50);
    holds(&refused(cut), &["`ca`, certificate 2: not a DER certificate"]);
}

#[test]
fn rules_are_checked() {
    let with = |rules| TlsOptions { rules, ..options(&["ca"]) };
    holds(
        &refused(with(PeerRules { crls: vec![crl("crl-empty"), crl("crl-v1")], ..PeerRules::default() })),
        &["`crl-verify`, list 2", "version 2"],
    );
    holds(
        &refused(with(PeerRules { crls: vec![vec![1]], ..PeerRules::default() })),
        &["list 1", "not a DER"],
    );
    holds(
        &refused(with(PeerRules { extended_key_usage: Some("TLS Server".into()), ..PeerRules::default() })),
        &["`remote-cert-eku TLS Server`", "dotted OID"],
    );
    let rules =
        PeerRules { crls: vec![crl("crl-empty")], fingerprints: vec![[0; 32]], ..PeerRules::default() };
    holds(&refused(TlsOptions { rules, ..options(&[]) }), &["`crl-verify` needs `ca`"]);
}

#[test]
fn versions_are_checked() {
    let mut options = options(&["ca"]);
    (options.min_version, options.max_version) = (TlsVersion::V13, TlsVersion::V12);
    holds(&refused(options), &["`tls-version-min` is above `tls-version-max`"]);
}

/// Suites of a ClientHello, in order.
fn offered(hello: &[u8]) -> Vec<u16> {
    // Record header 5, handshake header 4, version 2, random 32, session id.
    let at = 43 + 1 + usize::from(hello[43]);
    let len = usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    let pairs = hello[at + 2..at + 2 + len].chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]]));
    // Without the signalling value of RFC 5746.
    pairs.filter(|suite| *suite != 0x00ff).collect()
}

const TLS13: [u16; 3] = [0x1302, 0x1301, 0x1303];
const ECDSA_256: u16 = 0xc02c;
const ECDSA_128: u16 = 0xc02b;
const ECDSA_CHACHA: u16 = 0xcca9;
const RSA_256: u16 = 0xc030;
const RSA_128: u16 = 0xc02f;
const RSA_CHACHA: u16 = 0xcca8;

#[test]
fn cipher_strings_select_suites() {
    let all = &[ECDSA_256, RSA_256, ECDSA_128, RSA_128, ECDSA_CHACHA, RSA_CHACHA][..];
    let cases: &[(&[&str], &[u16], usize)] = &[
        (&["DEFAULT"], all, 0),
        (&["DEFAULT:@SECLEVEL=0"], all, 0),
        (&["@SECLEVEL=1"], all, 0),
        (&["HIGH:!aNULL:!MD5"], all, 0),
        (&["DEFAULT:!EXP:!LOW:!MEDIUM:!kDH:!kECDH:!DSS:!PSK:!SRP:!kRSA"], all, 0),
        (&["TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384"], &[RSA_256], 0),
        (&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], &[RSA_128], 0),
        (&["ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384"], &[ECDSA_CHACHA, RSA_256], 0),
        (&["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES256-GCM-SHA384"], &[ECDSA_CHACHA, RSA_256], 0),
        (&["TLS-DHE-RSA-WITH-AES-256-CBC-SHA:TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384"], &[RSA_256], 1),
        (&["ECDHE+AESGCM:!aECDSA"], &[RSA_256, RSA_128], 0),
        (&["AES256:+aECDSA"], &[RSA_256, ECDSA_256], 0),
        (&["ALL:-AES:ECDHE-RSA-AES128-GCM-SHA256"], &[ECDSA_CHACHA, RSA_CHACHA, RSA_128], 0),
        (&["!CHACHA20:ALL:-AES256"], &[ECDSA_128, RSA_128], 0),
    ];
    for (words, suites, notes) in cases {
        let mut options = options(&["ca"]);
        options.suites12 = words.iter().map(|w| (*w).to_owned()).collect();
        let factory = RustlsFactory::new(options, provider()).unwrap();
        let hello = drained(factory.client(Duration::ZERO).unwrap().as_mut());
        assert_eq!(offered(&hello), [&TLS13[..], suites].concat(), "{words:?}");
        assert_eq!(
            factory.notes(Duration::from_secs(NOW)).len(),
            *notes,
            "{words:?}: {:?}",
            factory.notes(Duration::from_secs(NOW))
        );
    }
}

#[test]
fn cipher_strings_without_a_usable_suite_are_refused() {
    for word in
        ["DHE-RSA-AES256-GCM-SHA384", "AES256-SHA:kRSA", "ALL:!ECDHE", "TLS-DHE-RSA-WITH-AES-256-CBC-SHA"]
    {
        let mut options = options(&["ca"]);
        options.suites12 = vec![word.into()];
        holds(&refused(options), &[&format!("`tls-cipher {word}` leaves no"), "ECDHE-RSA-AES256-GCM-SHA384"]);
    }
    for (word, hint) in [("DEFAULT:@SECLEVEL=4", "@SECLEVEL=4 is not supported"), ("@FOO", "@FOO is unknown")]
    {
        let mut options = options(&["ca"]);
        options.suites12 = vec![word.into()];
        holds(&refused(options), &[hint]);
    }
    let mut options = options(&["ca"]);
    options.suites13 = vec!["TLS_AES_128_CCM_SHA256".into()];
    holds(&refused(options), &["`tls-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"]);
}

#[test]
fn suites_of_tls_1_3_are_chosen_in_order() {
    let mut options = options(&["ca"]);
    options.min_version = TlsVersion::V13;
    options.suites13 =
        vec!["TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256".into()];
    // Not looked at, since TLS 1.2 is off.
    options.suites12 = vec!["DHE-RSA-AES256-SHA".into()];
    let factory = RustlsFactory::new(options, provider()).unwrap();
    let hello = drained(factory.client(Duration::ZERO).unwrap().as_mut());
    assert_eq!(offered(&hello), [0x1303, 0x1301]);
    assert_eq!(factory.notes(Duration::from_secs(NOW)).len(), 1);
    holds(&factory.notes(Duration::from_secs(NOW))[0], &["TLS_AES_128_CCM_SHA256", "skipped"]);
}

#[test]
fn groups_are_chosen() {
    let cases = [
        (&["secp384r1"][..], ", peer temporary key: 384 bits ECsecp384r1"),
        (&["secp521r1:P-256"], ", peer temporary key: 256 bits ECprime256v1"),
        (&["prime256v1", "X25519"], ", peer temporary key: "),
        (&["X25519MLKEM768"], ", peer temporary key: X25519MLKEM768"),
    ];
    for (words, wanted) in cases {
        let mut options = options(&["ca"]);
        options.groups = words.iter().map(|w| (*w).to_owned()).collect();
        let mut client = client(options);
        run(client.as_mut(), &mut Server::new(&["server"], TlsVersion::V13).start(), 1000).unwrap();
        holds(&client.description().unwrap(), &[wanted]);
    }
    let mut options = options(&["ca"]);
    options.groups = vec!["secp521r1:ffdhe2048".into()];
    holds(
        &refused(options),
        &["`tls-groups secp521r1:ffdhe2048` leaves no group", "x25519:prime256v1:secp384r1"],
    );
}

#[test]
fn debug_shows_no_key() {
    let mut options = with_identity(options(&["ca"]), "client-p256");
    options.rules.role = Some(CertRole::Server);
    let secret = options.key.clone().unwrap();
    let text = format!("{options:?}");
    holds(&text, &["[redacted]", "Server"]);
    assert!(!text.contains(&format!("{:?}", &secret[..8]).replace(['[', ']'], "")));
    let factory = RustlsFactory::new(options, provider()).unwrap();
    assert!(format!("{factory:?}").len() < 300);
}

#[test]
fn our_own_certificate_out_of_its_time_is_pointed_out() {
    let factory = RustlsFactory::new(with_identity(options(&["ca"]), "client-p256"), provider()).unwrap();
    let at = |unix| factory.notes(Duration::from_secs(unix));
    assert!(at(NOW).is_empty());
    holds(&at(0)[0], &["WARNING: Your certificate is not yet valid!", "clock"]);
    holds(&at(u64::from(u32::MAX) * 2)[0], &["WARNING: Your certificate has expired!", "renew `cert`"]);
}
