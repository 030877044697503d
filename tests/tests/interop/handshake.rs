//! Every protection of the control channel on every transport with every version of TLS; kinds of certificates.

use std::time::Duration;

use anyhow::Result;
use oxivpn_tests::{
    certs::KeyKind,
    matrix::Cell,
    openvpn::{Release, Tls, Transport, Wrap},
    process::run,
    scenario::{Scenario, Tunnel},
};

pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for wrap in Wrap::ALL {
        for transport in Transport::ALL {
            for tls in Tls::ALL {
                let name = format!("handshake::{}::{}::{}", wrap.name(), transport.name(), tls.name());
                cells.extend(Cell::for_each_release(&name, move |release| {
                    connects(release, wrap, transport, tls)
                }));
            }
        }
    }
    cells.extend(Cell::for_each_release("handshake::tls-crypt-v2::force-cookie", |release| {
        let scenario = Scenario::new(release)?.wrap(Wrap::TlsCryptV2);
        scenario.server_wrap_option("force-cookie").connected(works)
    }));
    for (name, kind) in [("rsa", KeyKind::Rsa2048), ("ed25519", KeyKind::Ed25519)] {
        for tls in Tls::ALL {
            let name = format!("certificates::{name}::{}", tls.name());
            cells.extend(Cell::for_each_release(&name, move |release| {
                Scenario::with_keys(release, kind)?.tls(tls).connected(works)
            }));
        }
    }
    for (name, line) in [
        ("name", "verify-x509-name server name"),
        ("name-prefix", "verify-x509-name serv name-prefix"),
        ("subject", "verify-x509-name CN=server subject"),
    ] {
        cells.extend(Cell::for_each_release(
            &format!("certificates::verify-x509-name::{name}"),
            move |release| Scenario::new(release)?.client(line).connected(works),
        ));
    }
    cells.extend(Cell::for_each_release("certificates::peer-fingerprint", peer_fingerprint));
    for digest in ["SHA1", "SHA256", "SHA512"] {
        cells.extend(Cell::for_each_release(&format!("handshake::tls-auth::{digest}"), move |release| {
            let line = format!("auth {digest}");
            Scenario::new(release)?.wrap(Wrap::TlsAuthDirection).server(&line).client(&line).connected(works)
        }));
    }
    cells
}

fn connects(release: Release, wrap: Wrap, transport: Transport, tls: Tls) -> Result<()> {
    Scenario::new(release)?.wrap(wrap).transport(transport).tls(tls).connected(|tunnel| {
        let line = format!("Control Channel: {}", tls.in_log());
        tunnel.server()?.process.wait_for(&line, Duration::from_secs(2))?;
        works(tunnel)
    })
}

fn works(tunnel: &mut Tunnel) -> Result<()> {
    tunnel.ping_both_ways()?;
    tunnel.leave()
}

/// No authority: the client knows the server by the hash of its certificate.
fn peer_fingerprint(release: Release) -> Result<()> {
    let scenario = Scenario::new(release)?;
    let cert = scenario.server_identity.cert.to_string_lossy().into_owned();
    let text = run("openssl", &["x509", "-in", &cert, "-noout", "-fingerprint", "-sha256"])?;
    let fingerprint = text.trim().rsplit('=').next().unwrap_or_default().to_owned();
    scenario.without_client_ca().client(format!("peer-fingerprint {fingerprint}")).connected(works)
}
