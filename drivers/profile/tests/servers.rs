//! Whole servers in the manner of installers, containers and firewalls.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Memory, PKI, warnings};
use oxivpn_profile::profile::DeviceKind;
use oxivpn_profile::server::{Role, ServerOptions};
use oxivpn_profile::{Profile, ProfileError};
use oxivpn_proto::config::params::Framing;

fn load(name: &str, change: impl Fn(String) -> String) -> Result<Profile, ProfileError> {
    let path = format!("{}/tests/profiles/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = change(std::fs::read_to_string(path).unwrap());
    let mut files = Memory::usual();
    files.add("crl.pem", &PKI.crl);
    for name in ["ovpn-linkup", "ovpn-linkdown", "openvpn.attributes.sh", "ovpn_auth_verify"] {
        files.add(&format!("/usr/local/sbin/{name}"), "#!/bin/sh\n");
    }
    Profile::from_text(name, &text, &files)
}

/// The server, which must have exactly these warnings, given by what they contain.
fn accepted(
    name: &str,
    change: impl Fn(String) -> String,
    expected: &[&str],
) -> (Profile, Box<ServerOptions>) {
    let profile = load(name, change).unwrap_or_else(|error| panic!("{error}"));
    let all = warnings(&profile);
    assert_eq!(all.len(), expected.len(), "{name}: {all:#?}");
    for (warning, text) in all.iter().zip(expected) {
        assert!(warning.contains(text), "{name}: {warning}");
    }
    let Role::Server(server) = profile.role.clone() else { panic!("a server") };
    (profile, server)
}

#[test]
fn installer() {
    let (profile, server) =
        accepted("installer-server.conf", |text| text, &["option `ecdh-curve` is ignored"]);
    assert!(server.tls_crypt_v2.is_some());
    assert_eq!(server.pool6, "fd42:42:42:42::2/112".parse().ok());
    let pushed: Vec<&str> = server.push.iter().map(String::as_str).collect();
    assert_eq!(pushed[3..6], ["tun-ipv6", "route-ipv6 2000::/3", "redirect-gateway ipv6"]);
    assert_eq!(
        pushed[6..],
        ["tun-ipv6", "route-gateway 10.8.0.1", "topology subnet", "ping 10", "ping-restart 120"]
    );
    assert_eq!(profile.tls.rules.crls.len(), 1);
}

#[test]
fn road_warrior() {
    let (_, server) = accepted("road-warrior-server.conf", |text| text, &["write `dh none`"]);
    assert_eq!(server.listen[0].address, "192.0.2.10".parse().ok());
    assert_eq!(server.exit_notify, 1);
}

#[test]
fn container() {
    let (profile, server) = accepted("container-server.conf", |text| text, &["write `dh none`"]);
    assert_eq!(profile.tunnel.compression.framing, Framing::Stub);
    assert_eq!(profile.device.kind, DeviceKind::Tun(Some("tun0".into())));
    assert_eq!(profile.host.routes.len(), 2);
    assert_eq!(server.push[3], "route 192.168.255.1");
}

#[test]
fn firewall() {
    let error = load("firewall-server.conf", |text| text).unwrap_err().to_string();
    assert!(error.contains("In firewall-server.conf:22: `engine` is refused"), "{error}");
    let without = |text: String| text.replace("\nengine rdrand\n", "\n");
    let expected = ["data-ciphers-fallback AES-256-CBC is never used", "write `dh none`"];
    let (profile, server) = accepted("firewall-server.conf", without, &expected);
    assert!(server.multihome && server.username_as_common_name);
    let (verify, _) = server.auth_verify.clone().unwrap();
    assert_eq!(verify[0], "/usr/local/sbin/ovpn_auth_verify");
    assert_eq!(verify.len(), 6);
    let check = profile.scripts.tls_verify.clone().unwrap();
    assert_eq!(check[1..], ["tls", "vpn.example.com", "1"]);
    assert!(profile.management.is_some() && profile.process.daemon.is_some());
}
