//! Whole profiles in the manner of providers, installers and firewalls.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Memory, PKI, client_key_v2, static_key, warnings};
use oxivpn_profile::profile::{CompressionOptions, DeviceKind, Family, PrivateKey, Protocol};
use oxivpn_profile::{Profile, ProfileError};
use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::Framing;
use oxivpn_proto::config::{Mssfix, PingTimeout};
use oxivpn_proto::tls::verify::NameRule;
use oxivpn_proto::wrap::WrapConfig;
use std::time::Duration;

fn load(name: &str) -> Result<Profile, ProfileError> {
    let path = format!("{}/tests/profiles/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let text = text
        .replace("@CA@", PKI.ca.trim())
        .replace("@CERT@", PKI.cert.trim())
        .replace("@KEY@", PKI.key.trim())
        .replace("@CRL@", PKI.crl.trim())
        .replace("@STATIC@", static_key().trim())
        .replace("@V2@", client_key_v2().trim());
    let mut files = Memory::usual();
    files.add("userpass.txt", "alice\nsecret");
    Profile::from_text(name, &text, &files)
}

/// The profile, which must have exactly these warnings, given by what they contain.
fn accepted(name: &str, expected: &[&str]) -> Profile {
    let profile = load(name).unwrap_or_else(|error| panic!("{error}"));
    let all = warnings(&profile);
    assert_eq!(all.len(), expected.len(), "{name}: {all:#?}");
    for (warning, text) in all.iter().zip(expected) {
        assert!(warning.contains(text), "{name}: {warning}");
    }
    profile
}

#[test]
fn udp_with_tls_auth() {
    let profile = accepted("udp-tls-auth.ovpn", &["--cipher set to 'AES-256-CBC'"]);
    assert_eq!(profile.remotes[0].mssfix, Mssfix::Link(1450));
    assert_eq!(profile.tunnel.timing.reneg, Duration::ZERO);
    assert_eq!(profile.tunnel.keepalive.timeout, Some(PingTimeout::Restart(Duration::ZERO)));
    assert!(matches!(profile.remotes[0].wrap, WrapConfig::TlsAuth { .. }));
}

#[test]
fn many_remotes() {
    let profile = accepted("many-remotes.ovpn", &[]);
    assert_eq!(profile.remotes.len(), 30);
    assert!(profile.retry.shuffle);
    assert_eq!(profile.remotes[29].port, 51820);
    assert_eq!(profile.remotes[7].poll_timeout, Duration::from_secs(20));
    assert_eq!(profile.remotes[7].mssfix, Mssfix::Off);
}

#[test]
fn sixty_remotes() {
    let profile = accepted("sixty-remotes.ovpn", &[]);
    assert_eq!(profile.remotes.len(), 60);
    assert_eq!(profile.remotes[59].host, "198.51.100.60");
    assert_eq!(profile.socket.send_buffer, Some(524_288));
    assert_eq!(profile.tls.suites12.len(), 2);
}

#[test]
fn compression_is_framing_only() {
    let profile = load("compress.ovpn").unwrap();
    let expected = CompressionOptions { framing: Framing::Swap, allow: true, migrate: false };
    assert_eq!(profile.tunnel.compression, expected);
    assert!(
        !profile.warnings.iter().any(|warning| warning.text.contains("ompress")),
        "{:?}",
        profile.warnings
    );
}

#[test]
fn fragments_are_refused() {
    let error = load("fragment.ovpn").unwrap_err();
    assert!(
        error.to_string().starts_with("Options error: In fragment.ovpn:18: `fragment` is not built yet"),
        "{error}"
    );
}

#[test]
fn peer_info() {
    let profile = accepted(
        "peer-info.ovpn",
        &[
            "AES-256-CBC is not offered",
            "AES-192-CBC",
            "AES-128-CBC",
            "data-ciphers-fallback AES-256-CBC is never used",
        ],
    );
    assert_eq!(profile.tunnel.peer_info, [("UV_IPV6".into(), "yes".into())]);
    assert_eq!(profile.tunnel.ciphers, [DataCipher::Aes256Gcm, DataCipher::Aes192Gcm, DataCipher::Aes128Gcm]);
    assert_eq!(profile.remotes[0].exit_notify, Some(5));
    assert_eq!(profile.tls.certs, std::slice::from_ref(&PKI.cert_der));
    assert!(matches!(profile.tls.key, PrivateKey::Plain(_)));
}

#[test]
fn ncp_ciphers() {
    let profile = accepted("ncp-ciphers.ovpn", &["AES-256-CBC is not offered", "--cipher set to"]);
    assert_eq!(profile.tls.rules.name, Some(NameRule::Name("city-001.example.com".into())));
    assert!(profile.log.mute_replay);
}

#[test]
fn quoted_name_and_blocks() {
    let profile = accepted("quoted-name.ovpn", &[]);
    let subject = "C=IS, O=Example Storm, CN=server with blanks";
    assert_eq!(profile.tls.rules.name, Some(NameRule::Subject(subject.into())));
    let transports: Vec<_> = profile.remotes.iter().map(|remote| (remote.protocol, remote.family)).collect();
    assert_eq!(
        transports,
        [(Protocol::Udp, Family::Any), (Protocol::Udp, Family::V4), (Protocol::Tcp, Family::Any)]
    );
    assert!(profile.remotes.iter().all(|remote| remote.float));
}

#[test]
fn shared_certificate() {
    let profile = accepted(
        "shared-certificate.ovpn",
        &["--cipher set to 'AES-128-CBC'", "No server certificate verification"],
    );
    assert_eq!(profile.remotes[0].protocol, Protocol::Tcp);
    assert_eq!(profile.remotes[0].port, 995);
}

#[test]
fn access_server() {
    let profile =
        accepted("access-server.ovpn", &["optional `app-specific-word` is skipped", "--cipher set to"]);
    assert_eq!(profile.remotes.len(), 4);
    assert!(profile.tunnel.push_peer_info);
    assert_eq!(profile.socket.send_buffer, None);
    assert_eq!(profile.tunnel.timing.reneg, Duration::from_secs(604_800));
}

#[test]
fn firewall_export() {
    let profile = accepted(
        "firewall-export.ovpn",
        &["`block-outside-dns` is ignored", "AES-256-CBC is not offered", "data-ciphers-fallback"],
    );
    assert_eq!(profile.remotes[0].bind, None);
    assert_eq!(profile.remotes[0].family, Family::V4);
    assert!(matches!(profile.remotes[0].wrap, WrapConfig::TlsCrypt { .. }));
}

#[test]
fn installer() {
    let profile = accepted("installer.ovpn", &["`block-outside-dns` is ignored"]);
    assert_eq!(profile.tunnel.ciphers, [DataCipher::Aes128Gcm]);
    assert!(matches!(profile.remotes[0].wrap, WrapConfig::TlsCryptV2 { .. }));
    assert_eq!(profile.tls.groups, ["X25519", "prime256v1", "secp384r1"]);
}

#[test]
fn container() {
    let profile = accepted("container.ovpn", &[]);
    assert_eq!(profile.device.kind, DeviceKind::Tun(Some("tun0".into())));
    assert_eq!(profile.tunnel.pull.filters.len(), 3);
    assert!(profile.process.tls_exit && profile.log.no_timestamps && profile.auth.no_cache);
}

#[test]
fn cloud() {
    let profile = accepted("cloud.ovpn", &[]);
    assert!(profile.retry.random_hostname);
    assert_eq!(profile.tls.ca.len(), 2);
    assert_eq!(profile.log.verbosity, 3);
}
