//! Our client against our server.

use super::*;
use crate::tls::verify::{CertRole, NameRule};

const BOTH: [TlsVersion; 2] = [TlsVersion::V12, TlsVersion::V13];

/// A server with the certificate `name` that takes clients of `ca`.
pub(super) fn server_options(name: &str, version: TlsVersion) -> TlsOptions {
    let mut options = with_identity(options(&["ca"]), name);
    (options.min_version, options.max_version) = (version, version);
    options
}

pub(super) fn accept(options: TlsOptions) -> Box<dyn TlsSession> {
    RustlsFactory::new(options, provider()).unwrap().server(Duration::from_secs(NOW)).unwrap()
}

/// Failures of the client's and the server's end.
pub(super) type Ends = (Result<(), TlsFailure>, Result<(), TlsFailure>);

/// Runs both ends until neither has more to say, with what both say cut into pieces of `cut`.
pub(super) fn meet(client: &mut dyn TlsSession, server: &mut dyn TlsSession, cut: usize) -> Ends {
    let mut ends = (Ok(()), Ok(()));
    loop {
        let (up, down) = (drained(client), drained(server));
        if up.is_empty() && down.is_empty() {
            return ends;
        }
        ends.1 = ends.1.and_then(|()| up.chunks(cut).try_for_each(|piece| server.feed(piece)));
        ends.0 = ends.0.and_then(|()| down.chunks(cut).try_for_each(|piece| client.feed(piece)));
    }
}

fn words(failure: &Result<(), TlsFailure>, kind: TlsFailureKind, words: &[&str]) {
    let failure = failure.as_ref().unwrap_err();
    assert_eq!(failure.kind, kind, "{failure}");
    for word in words {
        assert!(failure.message.contains(word), "{word:?} not in: {failure}");
    }
}

#[test]
fn every_kind_of_certificate_in_every_mode() {
    use ClientCertMode::{None, Optional, Require};
    for version in BOTH {
        for (own, peer) in
            [("server", "client-p256"), ("server-rsa", "client-rsa"), ("server-ed25519", "client-ed25519")]
        {
            for (mode, with_cert) in [(Require, true), (Optional, true), (Optional, false), (None, true)] {
                let case = format!("{version:?} {own} {mode:?} {with_cert}");
                let mut options = server_options(own, version);
                options.client_cert = mode;
                let mut server = accept(options);
                let ours = super::options(&["ca"]);
                let mut client = client(if with_cert { with_identity(ours, peer) } else { ours });
                assert_eq!(meet(client.as_mut(), server.as_mut(), 1000), (Ok(()), Ok(())), "{case}");
                assert_eq!((client.phase(), server.phase()), (TlsPhase::Ready, TlsPhase::Ready), "{case}");
                let shown = server.peer().and_then(|peer| peer.common_name);
                assert_eq!(shown.as_deref(), (with_cert && mode != None).then_some(peer), "{case}");
                check_traffic(client.as_mut(), server.as_mut());
            }
        }
    }
}

fn check_traffic(client: &mut dyn TlsSession, server: &mut dyn TlsSession) {
    let (mut ours, mut theirs) = ([0; 256], [0; 256]);
    client.export("EXPORTER-OpenVPN-datakeys", &mut ours).unwrap();
    server.export("EXPORTER-OpenVPN-datakeys", &mut theirs).unwrap();
    assert_eq!(ours, theirs);
    for message in [&b"PUSH_REQUEST\0"[..], &[7; 2048], b"x"] {
        client.write_record(message).unwrap();
        server.feed(&drained(client)).unwrap();
        let mut got = Zeroizing::new(Vec::new());
        assert!(server.read_record(&mut got));
        server.write_record(&got).unwrap();
        client.feed(&drained(server)).unwrap();
        got.clear();
        assert!(client.read_record(&mut got));
        assert_eq!(got.as_slice(), message);
    }
}

#[test]
fn descriptions_of_both_ends() {
    let mut client = client(with_identity(options(&["ca"]), "client-rsa"));
    let mut server = accept(server_options("server", TlsVersion::V13));
    assert_eq!(server.description(), None);
    meet(client.as_mut(), server.as_mut(), 1000).1.unwrap();
    assert_eq!(
        server.description().unwrap(),
        "TLSv1.3, cipher TLSv1.3 TLS_AES_256_GCM_SHA384, peer certificate: 2048 bits RSA, signature: \
         ecdsa-with-SHA256, peer temporary key: 253 bits X25519"
    );
    let peer = server.peer().unwrap();
    assert_eq!(peer.chain, ["depth=1, CN=Test-CA", "depth=0, CN=client-rsa"]);
}

#[test]
fn a_chain_is_sent_with_its_intermediate() {
    for version in BOTH {
        let mut options = server_options("server", version);
        options.certs = vec![cert("server-by-sub"), cert("sub")];
        let mut client = client(with_identity(super::options(&["ca"]), "client-p256"));
        meet(client.as_mut(), accept(options).as_mut(), 1000).0.unwrap();
        assert_eq!(client.peer().unwrap().chain.len(), 3);
    }
}

#[test]
fn the_servers_order_of_suites_counts() {
    for (version, wanted) in [
        (TlsVersion::V12, "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (TlsVersion::V13, "TLS_CHACHA20_POLY1305_SHA256"),
    ] {
        let mut options = server_options("server", version);
        options.suites12 = vec!["CHACHA20:AES256".into()];
        options.suites13 = vec!["TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384".into()];
        let (mut server, mut client) =
            (accept(options), client(with_identity(super::options(&["ca"]), "client-p256")));
        meet(client.as_mut(), server.as_mut(), 1000).0.unwrap();
        assert!(server.description().unwrap().contains(wanted), "{:?}", server.description());
    }
}

#[test]
fn no_tickets_and_no_resumption() {
    // After the handshake the server has nothing to say: no NewSessionTicket.
    let mut client = client(with_identity(options(&["ca"]), "client-p256"));
    let mut server = accept(server_options("server", TlsVersion::V13));
    server.feed(&drained(client.as_mut())).unwrap();
    client.feed(&drained(server.as_mut())).unwrap();
    server.feed(&drained(client.as_mut())).unwrap();
    assert_eq!((server.phase(), drained(server.as_mut()).len()), (TlsPhase::Ready, 0));
}

#[test]
fn a_server_needs_a_certificate() {
    let factory = RustlsFactory::new(options(&["ca"]), provider()).unwrap();
    let failure = factory.server(Duration::ZERO).err().unwrap();
    assert_eq!(failure.kind, TlsFailureKind::Local);
    assert!(failure.message.contains("`cert` and `key`"), "{failure}");
}

/// A server that refuses, the client's certificate, what the server says, what the client hears.
struct Refused {
    ca: &'static str,
    unix: u64,
    rules: PeerRules,
    client: &'static str,
    said: &'static [&'static str],
    heard: &'static str,
}

impl Default for Refused {
    fn default() -> Self {
        let rules = PeerRules::default();
        Self { ca: "ca", unix: NOW, rules, client: "client-p256", said: &[], heard: "access denied" }
    }
}

fn refusals() -> Vec<Refused> {
    let rules = PeerRules::default;
    let unknown_ca = "unknown ca: the server refused our certificate: it is not signed by the CA";
    let serial = x509_parser::parse_x509_certificate(&cert("client-p256")).unwrap().1.serial.to_string();
    let other = Refused::default;
    vec![
        Refused {
            ca: "ca-other",
            said: &[
                "VERIFY ERROR: depth=0, error=unable to get local issuer certificate: CN=client-p256, serial=",
                "The client's certificate is not signed",
                "have the client send its intermediate",
            ],
            heard: unknown_ca,
            ..other()
        },
        Refused {
            unix: 4_733_510_401,
            said: &["VERIFY ERROR: depth=0, error=certificate has expired: CN=client-p256"],
            heard: "certificate expired: the server refused",
            ..other()
        },
        Refused {
            client: "server",
            said: &["error=unsuitable certificate purpose", "clientAuth", "build-client-full"],
            heard: "unsupported certificate",
            ..other()
        },
        Refused {
            rules: PeerRules { revoked_serials: vec![serial], ..rules() },
            said: &[
                "VERIFY CRL: depth=0, CN=client-p256, serial=",
                "is revoked",
                "the client needs a new one",
            ],
            heard: "certificate revoked",
            ..other()
        },
        Refused {
            rules: PeerRules { role: Some(CertRole::Client), ..rules() },
            client: "server-bare",
            said: &["VERIFY KU ERROR", "the client's certificate", "build-client-full"],
            ..other()
        },
        Refused {
            rules: PeerRules { name: Some(NameRule::Name("other".into())), ..rules() },
            said: &["VERIFY X509NAME ERROR: client-p256, must be other", "right client"],
            ..other()
        },
        Refused {
            rules: PeerRules { fingerprints: vec![[9; 32]], ..rules() },
            said: &["certificate hash verification failed", "If the client has a new certificate"],
            ..other()
        },
        Refused {
            rules: PeerRules { extended_key_usage: Some("serverAuth".into()), ..rules() },
            said: &[
                "VERIFY EKU ERROR: CN=client-p256",
                "expects serverAuth",
                "Issue the client a certificate",
            ],
            ..other()
        },
    ]
}

#[test]
fn a_bad_certificate_is_refused_in_every_mode() {
    for version in BOTH {
        for mode in [ClientCertMode::Require, ClientCertMode::Optional] {
            for case in refusals() {
                let mut options = server_options("server", version);
                options.ca = vec![cert(case.ca)];
                (options.rules, options.client_cert) = (case.rules, mode);
                let factory = RustlsFactory::new(options, provider()).unwrap();
                let mut server = factory.server(Duration::from_secs(case.unix)).unwrap();
                let own = format!("{}.key", case.client);
                let mut ours = super::options(&["ca"]);
                ours.certs = vec![cert(case.client)];
                ours.key = Some(key(if path(&own).exists() { &own } else { "server.key" }));
                let mut client = client(ours);
                let (at_client, at_server) = meet(client.as_mut(), server.as_mut(), 1000);
                words(&at_server, TlsFailureKind::Certificate, case.said);
                words(&at_client, TlsFailureKind::Alert, &["received fatal SSL alert: ", case.heard]);
                assert_eq!((server.phase(), server.peer()), (TlsPhase::Closed, None));
            }
        }
    }
}

/// A CA of our own with one client and a list that revokes it.
#[test]
fn a_client_on_the_revocation_list_is_refused() {
    use rcgen::{CertificateParams, CertificateRevocationListParams, Issuer, KeyPair, RevokedCertParams};
    let time = |year| rcgen::date_time_ymd(year, 1, 1);
    let (ca_key, client_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let params = |name: &str, serial: u64| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params.not_before, params.not_after) = (time(2020), time(2100));
        params.serial_number = Some(serial.into());
        params
    };
    let mut ca = params("CRL-CA", 1);
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let ca_der = ca.self_signed(&ca_key).unwrap().der().to_vec();
    let issuer = Issuer::from_params(&ca, &ca_key);
    let leaf = params("client", 77).signed_by(&client_key, &issuer).unwrap().der().to_vec();
    for (revoked, version) in [(77, TlsVersion::V12), (77, TlsVersion::V13), (78, TlsVersion::V13)] {
        let entry = RevokedCertParams {
            serial_number: u64::into(revoked),
            revocation_time: time(2021),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: time(2021),
            next_update: time(2099),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![entry],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&issuer).unwrap().der().to_vec();
        let mut options = server_options("server", version);
        options.ca = vec![ca_der.clone()];
        options.rules.crls = vec![list];
        let mut ours = super::options(&["ca"]);
        ours.certs = vec![leaf.clone()];
        ours.key = Some(Zeroizing::new(client_key.serialize_der()));
        let (at_client, at_server) = meet(client(ours).as_mut(), accept(options).as_mut(), 1000);
        if revoked == 77 {
            let said = "VERIFY ERROR: depth=0, error=certificate revoked: CN=client, serial=77. Its owner";
            words(&at_server, TlsFailureKind::Certificate, &[said]);
            words(&at_client, TlsFailureKind::Alert, &["certificate revoked"]);
        } else {
            assert_eq!((at_client, at_server), (Ok(()), Ok(())));
        }
    }
}

#[test]
fn revocations_are_renewed_at_run_time() {
    let serial = x509_parser::parse_x509_certificate(&cert("client-p256")).unwrap().1.serial.to_string();
    let factory = RustlsFactory::new(server_options("server", TlsVersion::V13), provider()).unwrap();
    let ours = || client(with_identity(options(&["ca"]), "client-p256"));
    let outcome = |factory: &RustlsFactory, early: Option<Box<dyn TlsSession>>| {
        let mut server = early.unwrap_or_else(|| factory.server(Duration::from_secs(NOW)).unwrap());
        meet(ours().as_mut(), server.as_mut(), 1000).1
    };
    assert_eq!(outcome(&factory, None), Ok(()));
    let begun = factory.server(Duration::from_secs(NOW)).unwrap();
    factory.set_revoked(&[crl("crl-empty")], vec![serial]).unwrap();
    for early in [Some(begun), None] {
        words(&outcome(&factory, early), TlsFailureKind::Certificate, &["VERIFY CRL: depth=0", "is revoked"]);
    }
    let failure = factory.set_revoked(&[vec![1]], Vec::new()).unwrap_err();
    assert!(failure.message.contains("`crl-verify`, list 1"), "{failure}");
    assert!(outcome(&factory, None).is_err(), "what was there stays");
    factory.set_revoked(&[crl("crl-expired")], Vec::new()).unwrap();
    words(&outcome(&factory, None), TlsFailureKind::Certificate, &["error=CRL has expired"]);
    factory.set_revoked(&[], Vec::new()).unwrap();
    assert_eq!(outcome(&factory, None), Ok(()));
}

#[test]
fn no_certificate_where_one_is_required() {
    for version in BOTH {
        let mut server = accept(server_options("server", version));
        let mut client = client(options(&["ca"]));
        let (at_client, at_server) = meet(client.as_mut(), server.as_mut(), 1000);
        words(
            &at_server,
            TlsFailureKind::Certificate,
            &["peer did not return a certificate", "`verify-client-cert optional`"],
        );
        words(&at_client, TlsFailureKind::Alert, &["certificate required", "demands a client certificate"]);
    }
}

#[test]
fn what_the_client_refuses_is_explained_at_the_server() {
    for version in BOTH {
        let mut server = accept(server_options("server", version));
        let mut client = client(with_identity(options(&["ca-other"]), "client-p256"));
        let (at_client, at_server) = meet(client.as_mut(), server.as_mut(), 1000);
        words(&at_client, TlsFailureKind::Certificate, &["unable to get local issuer certificate"]);
        words(&at_server, TlsFailureKind::Alert, &["unknown ca: the client refused our certificate", "`ca`"]);
    }
}

#[test]
fn nothing_in_common_is_explained_at_the_server() {
    let only = |version| {
        let mut options = with_identity(options(&["ca"]), "client-p256");
        (options.min_version, options.max_version) = (version, version);
        options
    };
    for (ours, theirs, what) in [
        (only(TlsVersion::V13), only(TlsVersion::V12), "offers no TLS version that is enabled here"),
        (only(TlsVersion::V12), only(TlsVersion::V13), "offers no TLS version that is enabled here"),
        (
            TlsOptions { suites12: vec!["AES256".into()], ..only(TlsVersion::V12) },
            TlsOptions { suites12: vec!["CHACHA20".into()], ..only(TlsVersion::V12) },
            "no shared cipher",
        ),
        (
            TlsOptions { groups: vec!["P-384".into()], ..only(TlsVersion::V13) },
            TlsOptions { groups: vec!["X25519".into()], ..only(TlsVersion::V13) },
            "no group in common",
        ),
    ] {
        let mut options = TlsOptions { client_cert: ClientCertMode::None, ..ours };
        (options.certs, options.key) = (vec![cert("server")], Some(key("server.key")));
        let (at_client, at_server) = meet(client(theirs).as_mut(), accept(options).as_mut(), 1000);
        words(&at_server, TlsFailureKind::Incompatible, &[what]);
        assert!(at_client.is_err());
    }
}
