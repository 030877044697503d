//! What can be wrong with a profile, a certificate, a key or a server: one clear message, the right exit code, and a
//! host left as it was.
//!
//! What each client says is in one table, [`CASES`].

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use oxivpn_tests::{
    certs::{KeyKind, Odd, Pki, Usage},
    client::{Kind, program},
    matrix::{Cell, Skip},
    netns::{CLIENT_V4, CLIENT_V6, Side},
    openvpn::{Release, Tls, Transport, Wrap},
    scenario::{Scenario, Tunnel},
};

use crate::tunnel::with_verify_script;

/// How long a client may take to give up; every case sets shorter time limits in its profile.
const GIVE_UP: Duration = Duration::from_secs(25);

/// One thing that is wrong.
struct Case {
    name: &'static str,
    scenario: fn(Release) -> Result<Scenario>,
    /// What this project's client must print, in exactly one line, and its exit code.
    oxivpn: Expected,
    /// What OpenVPN prints in some line and its exit code; `None` if OpenVPN accepts the case or says nothing.
    openvpn: Option<Expected>,
}

struct Expected(&'static str, i32);

const NO_ANSWER: &str = "TLS Error: TLS key negotiation failed to occur within 4 seconds";

const CASES: &[Case] = &[
    Case {
        name: "wrong-ca",
        scenario: wrong_ca,
        oxivpn: Expected("VERIFY ERROR: .*CN=server.*ca", 1),
        openvpn: Some(Expected(
            "VERIFY ERROR: .*error=(unable to get local issuer certificate|self-signed certificate in certificate chain)",
            1,
        )),
    },
    Case {
        name: "expired-server-certificate",
        scenario: expired_server,
        oxivpn: Expected("VERIFY ERROR: .*expired.*CN=server", 1),
        openvpn: Some(Expected("VERIFY ERROR: depth=0, error=certificate has expired: CN=server", 1)),
    },
    Case {
        name: "expired-client-certificate",
        scenario: expired_client,
        oxivpn: Expected("expired", 1),
        openvpn: Some(Expected("WARNING: Your certificate has expired!", 1)),
    },
    Case {
        name: "client-certificate-as-server",
        scenario: client_certificate_as_server,
        oxivpn: Expected("VERIFY (EKU )?ERROR", 1),
        openvpn: Some(Expected("VERIFY ERROR: .*unsuitable certificate purpose: CN=client", 1)),
    },
    Case {
        name: "wrong-server-name",
        scenario: |r| Ok(Scenario::new(r)?.client("verify-x509-name other name")),
        oxivpn: Expected("VERIFY X509NAME ERROR: .*server.*other", 1),
        openvpn: Some(Expected("VERIFY X509NAME ERROR: .*server, must be other", 1)),
    },
    Case {
        name: "wrong-key-direction",
        scenario: |r| Ok(Scenario::new(r)?.wrap(Wrap::TlsAuthDirection).client("key-direction 0")),
        oxivpn: Expected(NO_ANSWER, 1),
        openvpn: Some(Expected(NO_ANSWER, 1)),
    },
    Case {
        name: "wrong-tls-auth-key",
        scenario: |r| foreign(r, Wrap::TlsAuth),
        oxivpn: Expected(NO_ANSWER, 1),
        openvpn: Some(Expected(NO_ANSWER, 1)),
    },
    Case {
        name: "wrong-tls-crypt-key",
        scenario: |r| foreign(r, Wrap::TlsCrypt),
        oxivpn: Expected(NO_ANSWER, 1),
        openvpn: Some(Expected(NO_ANSWER, 1)),
    },
    Case {
        name: "wrong-tls-crypt-v2-key",
        scenario: |r| foreign(r, Wrap::TlsCryptV2),
        oxivpn: Expected(NO_ANSWER, 1),
        openvpn: Some(Expected(NO_ANSWER, 1)),
    },
    Case {
        name: "missing-tls-crypt",
        scenario: |r| Ok(Scenario::new(r)?.wrap(Wrap::TlsCrypt).without_client_wrap()),
        oxivpn: Expected(NO_ANSWER, 1),
        openvpn: Some(Expected(NO_ANSWER, 1)),
    },
    Case {
        name: "no-key-file",
        scenario: |r| Ok(Scenario::new(r)?.client("key missing.key")),
        oxivpn: Expected("missing.key.*No such file", 1),
        openvpn: Some(Expected("--key fails with 'missing.key': No such file or directory", 1)),
    },
    Case {
        name: "key-file-is-a-folder",
        scenario: |r| Ok(Scenario::new(r)?.client("key keys")),
        oxivpn: Expected("keys.*directory", 1),
        openvpn: Some(Expected("Cannot load private key file keys", 1)),
    },
    Case {
        name: "key-of-another-certificate",
        scenario: |r| {
            let mut scenario = Scenario::new(r)?;
            scenario.client_identity.key = scenario.pki.server.key.clone();
            Ok(scenario)
        },
        oxivpn: Expected("key.*certificate", 1),
        openvpn: Some(Expected("key values mismatch", 1)),
    },
    Case {
        name: "unknown-option",
        scenario: |r| Ok(Scenario::new(r)?.client("no-such-option 1")),
        oxivpn: Expected(r"client\.ovpn:\d+.*no-such-option", 1),
        openvpn: Some(Expected(r"Options error: Unrecognized option .*client\.ovpn:\d+: no-such-option", 1)),
    },
    Case {
        name: "unterminated-block",
        scenario: |r| Ok(Scenario::new(r)?.client("<extra-certs>\n-----BEGIN CERTIFICATE-----")),
        oxivpn: Expected(r"client\.ovpn:\d+.*extra-certs", 1),
        openvpn: Some(Expected("ERROR: Endtag </extra-certs> missing", 1)),
    },
    Case {
        name: "no-common-cipher",
        scenario: |r| {
            Ok(Scenario::new(r)?.server("data-ciphers AES-128-GCM").client("data-ciphers AES-256-GCM"))
        },
        oxivpn: Expected("AUTH: Received control message: AUTH_FAILED,.*cipher", 1),
        openvpn: Some(Expected("AUTH: Received control message: AUTH_FAILED,.*cipher", 0)),
    },
    Case {
        name: "wrong-password",
        scenario: wrong_password,
        oxivpn: Expected("AUTH: Received control message: AUTH_FAILED", 1),
        openvpn: Some(Expected("AUTH: Received control message: AUTH_FAILED", 0)),
    },
    Case {
        name: "silent-server-udp",
        scenario: |r| silent(r, Transport::Udp4),
        oxivpn: Expected(NO_ANSWER, 1),
        openvpn: Some(Expected(NO_ANSWER, 1)),
    },
    Case {
        name: "silent-server-tcp",
        scenario: |r| silent(r, Transport::Tcp4),
        oxivpn: Expected("TCP: connect to .*10.9.0.1.* failed", 1),
        openvpn: Some(Expected("TCP: connect to .*10.9.0.1.* failed", 1)),
    },
    Case {
        name: "closed-port-tcp",
        scenario: |r| Ok(without_server(Scenario::new(r)?.transport(Transport::Tcp4))),
        oxivpn: Expected("TCP: connect to .*10.9.0.1.* failed: Connection refused", 1),
        openvpn: Some(Expected("TCP: connect to .*10.9.0.1.* failed: Connection refused", 1)),
    },
    Case {
        name: "rsa-1024-server",
        scenario: |r| odd_server(r, Odd { bits: 1024, digest: "sha256" }),
        oxivpn: Expected("CN=server.*1024", 1),
        openvpn: Some(Expected("VERIFY ERROR: depth=0, error=EE certificate key too weak: CN=server", 1)),
    },
    Case {
        name: "sha1-server",
        scenario: |r| odd_server(r, Odd { bits: 2048, digest: "sha1" }),
        oxivpn: Expected("(?i)CN=server.*SHA-?1", 1),
        openvpn: Some(Expected(
            "VERIFY ERROR: depth=0, error=CA signature digest algorithm too weak: CN=server",
            1,
        )),
    },
    Case {
        name: "rsa-1024-client",
        scenario: |r| {
            let mut scenario = Scenario::new(r)?.server("tls-cert-profile insecure");
            scenario.client_identity =
                scenario.pki.odd(Usage::Client, Odd { bits: 1024, digest: "sha256" })?;
            strict(scenario)
        },
        oxivpn: Expected("CN=client.*1024", 1),
        openvpn: Some(Expected("ee key too small", 1)),
    },
    Case {
        name: "tls-1.1-server-tcp",
        scenario: |r| {
            // Releases before 2.7 close the connection instead of sending the alert.
            ensure!(r == Release::Newer, Skip("this server doesn't send its TLS alert".into()));
            tls_1_1(r, Transport::Tcp4)
        },
        oxivpn: Expected("(?i)protocol.?version.*TLS.*1\\.2", 1),
        openvpn: Some(Expected("(?i)alert.*protocol version", 1)),
    },
    Case {
        name: "tls-1.1-server-udp",
        scenario: |r| tls_1_1(r, Transport::Udp4),
        oxivpn: Expected(NO_ANSWER, 1),
        openvpn: Some(Expected(NO_ANSWER, 1)),
    },
];

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for case in CASES {
        cells.extend(Cell::for_each_release(&format!("bad-input::{}", case.name), move |release| {
            fails(release, case)
        }));
    }
    cells.extend(Cell::for_each_release("tls-alert::sent-to-server", alert_sent));
    for tls in Tls::ALL {
        let name = format!("tls-alert::received-from-server::newer::tcp4::{}", tls.name());
        cells.push(Cell::new(name, move || alert_received(tls)));
    }
    cells.extend(Cell::for_each_release("bad-input::exit-code-without-retry-limit", keeps_trying));
    cells
}

fn fails(release: Release, case: &Case) -> Result<()> {
    let kind = program()?.kind;
    let scenario = (case.scenario)(release)?.client("connect-retry-max 1");
    let scenario = scenario.client("hand-window 4");
    let expected = match (kind, &case.openvpn) {
        (Kind::Oxivpn, _) => &case.oxivpn,
        (_, Some(expected)) => expected,
        (_, None) => return Err(Skip("OpenVPN does not mind".into()).into()),
    };
    scenario.started(|tunnel| {
        let status = tunnel.client.process.wait_exit(GIVE_UP)?;
        let lines = tunnel.client.process.lines(expected.0)?;
        ensure!(!lines.is_empty(), "no line like /{}/", expected.0);
        ensure!(
            kind != Kind::Oxivpn || lines.len() == 1,
            "more than one line like /{}/: {lines:#?}",
            expected.0
        );
        ensure!(status.code() == Some(expected.1), "{status} instead of exit code {}", expected.1);
        ensure!(tunnel.client.process.lines("Initialization Sequence Completed")?.is_empty(), "it connected");
        tunnel.host_as_before()
    })
}

fn wrong_ca(release: Release) -> Result<Scenario> {
    let mut scenario = Scenario::new(release)?;
    // The same name, another key: found by the signature only.
    let other = Pki::new(KeyKind::EcdsaP256)?;
    let text = fs::read_to_string(&other.ca)?;
    scenario.client_ca = None;
    scenario = scenario.client(oxivpn_tests::openvpn::inline("ca", &text));
    Ok(scenario)
}

fn expired_server(release: Release) -> Result<Scenario> {
    let mut scenario = Scenario::new(release)?;
    scenario.server_identity = scenario.pki.expired(Usage::Server)?;
    Ok(scenario)
}

fn expired_client(release: Release) -> Result<Scenario> {
    let mut scenario = Scenario::new(release)?;
    scenario.client_identity = scenario.pki.expired(Usage::Client)?;
    Ok(scenario)
}

fn client_certificate_as_server(release: Release) -> Result<Scenario> {
    let mut scenario = Scenario::new(release)?;
    scenario.server_identity = scenario.pki.client.clone();
    Ok(scenario)
}

fn foreign(release: Release, wrap: Wrap) -> Result<Scenario> {
    let mut scenario = Scenario::new(release)?.wrap(wrap);
    scenario.foreign_wrap_key = true;
    Ok(scenario)
}

fn wrong_password(release: Release) -> Result<Scenario> {
    let scenario = with_verify_script(Scenario::new(release)?).client("auth-user-pass credentials");
    Ok(scenario.prepare(|lab| Ok(fs::write(lab.dir().join("credentials"), "alice\nwrong\n")?)))
}

fn odd_server(release: Release, odd: Odd) -> Result<Scenario> {
    let mut scenario = Scenario::new(release)?.server("tls-cert-profile insecure");
    scenario.server_identity = scenario.pki.odd(Usage::Server, odd)?;
    strict(scenario)
}

fn without_server(mut scenario: Scenario) -> Scenario {
    scenario.without_server = true;
    scenario
}

/// OpenVPN accepts weak certificates unless it is told not to; this project's client needs no telling.
fn strict(scenario: Scenario) -> Result<Scenario> {
    Ok(match program()?.kind {
        Kind::OpenVpn { .. } => scenario.client("tls-cert-profile preferred"),
        Kind::Oxivpn => scenario,
    })
}

/// The server's host takes packets and never answers, not even that nobody listens.
fn silent(release: Release, transport: Transport) -> Result<Scenario> {
    let mut scenario = without_server(Scenario::new(release)?.transport(transport));
    if transport == Transport::Tcp4 {
        scenario = scenario.client("connect-timeout 4");
    }
    Ok(scenario.prepare(|lab| {
        lab.ip(Side::Server, &format!("route add blackhole {CLIENT_V4}/32"))?;
        lab.ip(Side::Server, &format!("route add blackhole {CLIENT_V6}/128")).map(drop)
    }))
}

/// A client that doesn't like the server's certificate says so to the server.
fn alert_sent(release: Release) -> Result<()> {
    let scenario = wrong_ca(release)?.client("connect-retry-max 1").client("hand-window 4");
    if program()?.kind == (Kind::OpenVpn { newer: false }) {
        return Err(Skip("an OpenVPN before 2.7 doesn't send its TLS alerts".into()).into());
    }
    scenario.started(|tunnel: &mut Tunnel| {
        let line = "(?i)(received fatal SSL alert|alert).*(unknown ca|bad certificate|certificate unknown)";
        tunnel.server()?.process.wait_for(line, Duration::from_secs(10)).map(drop).context("no alert arrived")
    })
}

/// A server that doesn't like the client's certificate says so to the client.
///
/// Seen over TCP only: over UDP, 2.7 frees the session together with the packet that has the alert.
fn alert_received(tls: Tls) -> Result<()> {
    let scenario = expired_client(Release::Newer)?.transport(Transport::Tcp4).tls(tls);
    scenario.client("connect-retry-max 1").client("hand-window 4").started(|tunnel| {
        let line = "(?i)alert.*certificate expired";
        tunnel.client.process.wait_for(line, Duration::from_secs(10)).map(drop)
    })
}

/// A server that speaks nothing better than TLS 1.1.
fn tls_1_1(release: Release, transport: Transport) -> Result<Scenario> {
    let scenario = Scenario::new(release)?.transport(transport).server("tls-version-min 1.0");
    Ok(scenario.server("tls-version-max 1.1").server("tls-cert-profile insecure"))
}

/// Without `connect-retry-max` a client tries for ever, and TERM still ends it with exit code 0.
fn keeps_trying(release: Release) -> Result<()> {
    foreign(release, Wrap::TlsCrypt)?.client("hand-window 2").started(|tunnel| {
        tunnel.client.process.wait_for_count("TLS key negotiation failed to occur", 2, GIVE_UP)?;
        tunnel.leave()
    })
}
