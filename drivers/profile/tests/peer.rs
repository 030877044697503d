//! Ends of point-to-point tunnels.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Memory, warnings};
use oxivpn_profile::Profile;
use oxivpn_profile::profile::{Bind, DeviceKind, Protocol};
use oxivpn_profile::server::{PeerOptions, Role};
use oxivpn_proto::config::PingTimeout;
use oxivpn_proto::keys::data_key::TlsRole;
use oxivpn_proto::tls::{TlsFactory, TlsFailure, TlsFailureKind, TlsSession};
use oxivpn_proto::wrap::WrapConfig;

const TLS: &str = "dev tun\nca ca.crt\ncert client.crt\nkey client.key\nifconfig 10.4.0.1 10.4.0.2\n";

fn read(lines: &str) -> Result<Profile, String> {
    Profile::from_text("p2p.conf", &format!("{TLS}{lines}"), &Memory::usual())
        .map_err(|error| error.to_string())
}

fn options(profile: &Profile) -> &PeerOptions {
    match &profile.role {
        Role::Peer(peer) => peer,
        other => panic!("{other:?}"),
    }
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
fn a_server_waits() {
    let profile =
        read("tls-server\ntls-crypt ta.key\nport 1195\nkeepalive 5 20\nfloat\nmultihome\ndh none").unwrap();
    assert_eq!(warnings(&profile), Vec::<String>::new());
    let peer = options(&profile);
    assert!(peer.server && peer.float && profile.remotes.is_empty());
    let [listen] = peer.listen.as_slice() else { panic!("one socket") };
    assert_eq!((listen.address, listen.port, listen.protocol), (None, 1195, Protocol::Udp));
    assert!(matches!(peer.wrap, WrapConfig::TlsCrypt { .. }));
    assert_eq!(profile.host.ifconfig, Some(([10, 4, 0, 1].into(), [10, 4, 0, 2].into())));
    let config = profile.peer_config(peer, None, Arc::new(NoTls));
    assert_eq!((config.role, config.remote), (TlsRole::Server, None));
    assert!(config.channel.float && matches!(config.channel.wrap, WrapConfig::TlsCrypt { .. }));
    let keepalive = config.channel.keepalive;
    assert_eq!(keepalive.ping, Some(Duration::from_secs(5)));
    assert_eq!(keepalive.timeout, Some(PingTimeout::Restart(Duration::from_secs(20))), "not doubled");
}

#[test]
fn a_client_binds_for_udp_alone() {
    let profile =
        read("tls-client\nremote a 5 udp\nremote b 6 tcp\nremote-cert-tls server\nping 1\ntls-exit").unwrap();
    assert_eq!(warnings(&profile), Vec::<String>::new());
    let peer = options(&profile);
    assert!(!peer.server && peer.listen.len() == 1 && profile.process.tls_exit);
    let bind = Bind { address: None, port: 1194, ipv6_only: false };
    assert_eq!((profile.remotes[0].bind, profile.remotes[1].bind), (Some(bind), None));
    let config = profile.peer_config(peer, profile.remotes.first(), Arc::new(NoTls));
    assert_eq!(config.role, TlsRole::Client);
    let free = read("tls-client\nremote a\nnobind").unwrap();
    assert!(options(&free).listen.is_empty() && free.remotes[0].bind.is_none());
    assert!(warnings(&free)[0].contains("No server certificate verification method"));
    let named = read("tls-server\nlport 16000\nrport 16001\nremote localhost\nlocal localhost").unwrap();
    assert_eq!(options(&named).listen[0].address, "127.0.0.1".parse().ok());
    assert_eq!((options(&named).listen[0].port, named.remotes[0].port), (16000, 16001));
    assert_eq!(read("dev null\ntls-server").unwrap().device.kind, DeviceKind::Null);
}

#[test]
fn tcp_has_two_ends() {
    let server = read("tls-client\nproto tcp-server\nremote-cert-tls server\nremote a").unwrap();
    let peer = options(&server);
    assert!(!peer.server && peer.listen[0].protocol == Protocol::Tcp);
    let client = read("tls-server\nproto tcp-client\nremote a 7").unwrap();
    assert!(options(&client).server && options(&client).listen.is_empty());
    assert_eq!(client.remotes[0].protocol, Protocol::Tcp);
}

#[test]
fn what_contradicts_itself() {
    let table = [
        ("tls-client", "The profile names no server. Add a line `remote HOST PORT`"),
        ("tls-server\nnobind", "--nobind doesn't make sense unless used with --remote"),
        (
            "tls-server\ntls-client",
            "In p2p.conf:6: specify only one of --tls-server, --tls-client, or --secret",
        ),
        ("tls-server\npull", "`pull` needs --tls-client"),
        ("tls-server\nproto tcp", "In p2p.conf:7: --remote MUST be used in TCP Client mode"),
        (
            "tls-server\nproto tcp-server\nremote a\nremote b",
            "TCP server mode allows at most one --remote address",
        ),
        ("tls-server\nlocal ::1\nlocal 127.0.0.1", "In p2p.conf:8: multiple --local statements only allowed"),
        ("tls-server\nclient-to-client", "In p2p.conf:7: --client-to-client requires --mode server"),
        ("tls-server\nduplicate-cn", "--duplicate-cn requires --mode server"),
        ("tls-server\nauth-user-pass login", "In p2p.conf:7: --auth-user-pass requires --pull"),
        ("tls-server\nkeepalive 10 15", "must be at least twice the value of the first parameter"),
        ("tls-server\nkeepalive 10 60\nping-exit 9", "--keepalive conflicts with --ping"),
        ("tls-server\nsecret ta.key", "`secret` is not built yet"),
        ("tls-server\nfragment 1300", "`fragment` is not built yet"),
        ("", "The profile says neither `client` nor `tls-client`"),
    ];
    for (lines, expected) in table {
        let error = read(lines).unwrap_err();
        assert!(error.contains(expected), "{lines}: {error}");
    }
    let bare = Profile::from_text("a", "dev tun\ntls-server\nca ca.crt", &Memory::usual()).unwrap_err();
    assert!(bare.to_string().contains("You must define certificate file (--cert)"), "{bare}");
    let push = read("tls-server\npush \"route 10.0.0.0\"").unwrap();
    assert!(warnings(&push)[0].contains("without `mode server` nothing is pushed"));
}
