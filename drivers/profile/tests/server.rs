//! What server profiles become.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Memory, SERVER, serve, warnings};
use oxivpn_profile::profile::{Family, Profile, Protocol};
use oxivpn_profile::server::{
    ClientCert, ManagementAddress, Pool4, Role, ServerOptions, StatusOptions, VerifyVia,
};
use oxivpn_proto::config::PingTimeout;
use oxivpn_proto::config::params::Framing;
use oxivpn_proto::config::server::{LoginPolicy, Rate};
use oxivpn_proto::options::pushed::{Target, Topology};
use oxivpn_proto::tls::rustls::ClientCertMode;
use oxivpn_proto::tls::{TlsFactory, TlsFailure, TlsFailureKind, TlsSession};
use oxivpn_proto::wrap::WrapConfig;
use zeroize::Zeroizing;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn options(profile: &Profile) -> &ServerOptions {
    match &profile.role {
        Role::Server(server) => server,
        other => panic!("{other:?}"),
    }
}

type Row = (&'static str, fn(&ServerOptions) -> bool);

/// Checks what server options become: lines, and what must hold.
fn table(rows: &[Row]) {
    for (lines, holds) in rows {
        let profile = serve(lines);
        assert!(holds(options(&profile)), "{lines}: {:#?}", options(&profile));
        assert_eq!(warnings(&profile), Vec::<String>::new(), "{lines}");
    }
}

fn words(text: &str) -> Option<Vec<String>> {
    Some(text.split(' ').map(Into::into).collect())
}

#[test]
fn server_stands_for_much() {
    let profile = serve("push \"route 192.168.0.0 255.255.0.0\"");
    assert_eq!(warnings(&profile), Vec::<String>::new());
    let server = options(&profile);
    let push = [
        "route 192.168.0.0 255.255.0.0",
        "route-gateway 10.8.0.1",
        "topology subnet",
        "ping 10",
        "ping-restart 60",
    ];
    assert_eq!(server.push, push);
    assert_eq!(server.topology, Topology::Subnet);
    let network = "10.8.0.0/24".parse().unwrap();
    let own = [10, 8, 0, 1].into();
    let (first, last) = ([10, 8, 0, 2].into(), [10, 8, 0, 254].into());
    assert_eq!(server.pool, Some(Pool4 { first, last, network, own }));
    assert_eq!(server.push_constraint, Some(network));
    assert_eq!(profile.host.ifconfig, Some((own, [255, 255, 255, 0].into())));
    assert_eq!(server.route_gateway, Some([10, 8, 0, 2].into()));
    assert_eq!(profile.tunnel.keepalive.ping, Some(secs(10)));
    assert_eq!(profile.tunnel.keepalive.timeout, Some(PingTimeout::Restart(secs(120))));
    assert_eq!(profile.remotes.len(), 0);
    let [listen] = server.listen.as_slice() else { panic!("one socket") };
    assert_eq!((listen.address, listen.port, listen.protocol), (None, 1194, Protocol::Udp));
    assert_eq!(listen.family, Family::Any);
}

#[test]
fn net30_is_the_default_and_routes() {
    let profile = Profile::from_text(
        "a",
        &SERVER.replace("topology subnet\n", "client-to-client\nserver-ipv6 fd00:8::/64\n"),
        &Memory::usual(),
    )
    .unwrap();
    let server = options(&profile);
    assert_eq!(server.topology, Topology::Net30);
    assert_eq!(profile.host.topology, Some(Topology::Net30));
    assert_eq!(profile.host.ifconfig, Some(([10, 8, 0, 1].into(), [10, 8, 0, 2].into())));
    assert_eq!(profile.host.routes[0].network, Target::Address([10, 8, 0, 0].into()));
    assert_eq!(server.push[..2], ["tun-ipv6", "route 10.8.0.0 255.255.255.0"]);
    assert_eq!(server.pool.unwrap().last, core::net::Ipv4Addr::from([10, 8, 0, 251]));
    assert_eq!(server.pool6, "fd00:8::1000/64".parse().ok());
    let remote = "fd00:8::2".parse().ok();
    assert_eq!(profile.host.ifconfig_ipv6, Some(("fd00:8::1".parse().unwrap(), 64, remote)));
}

#[test]
fn pools_by_hand() {
    let text = SERVER.replace("server 10.8.0.0 255.255.255.0\n", "mode server\ntls-server\n")
        + "ifconfig 10.8.0.1 255.255.255.0\nifconfig-pool 10.8.0.50 10.8.0.99\nifconfig-ipv6 fd00::1/64\n\
           ifconfig-ipv6-pool fd00::100/64\nifconfig-pool-persist ipp.txt 0\nifconfig-push-constraint 10.8.0.0 255.255.0.0";
    let profile = Profile::from_text("a", &text, &Memory::usual()).unwrap();
    let server = options(&profile);
    let pool = server.pool.unwrap();
    assert_eq!((pool.first, pool.last), ([10, 8, 0, 50].into(), [10, 8, 0, 99].into()));
    assert_eq!((pool.network, pool.own), ("10.8.0.0/24".parse().unwrap(), [10, 8, 0, 1].into()));
    assert_eq!(server.pool6, "fd00::100/64".parse().ok());
    assert_eq!(server.pool_persist, Some(("ipp.txt".into(), Duration::ZERO)));
    assert_eq!(server.push_constraint, "10.8.0.0/16".parse().ok());
    assert_eq!(server.push, ["ping 10", "ping-restart 60"]);

    let net30 = text
        .replace("topology subnet", "topology net30")
        .replace("10.8.0.1 255.255.255.0", "10.8.0.1 10.8.0.2");
    let profile = Profile::from_text("a", &net30, &Memory::usual()).unwrap();
    assert_eq!(options(&profile).pool.unwrap().network, "10.8.0.0/25".parse().unwrap());

    let nopool = SERVER.replace("255.255.255.0", "255.255.255.0 nopool");
    let profile = Profile::from_text("a", &nopool, &Memory::usual()).unwrap();
    assert_eq!(options(&profile).pool, None);
    let both = format!("{nopool}ifconfig-pool 10.8.0.100 10.8.0.110");
    let profile = Profile::from_text("a", &both, &Memory::usual()).unwrap();
    assert_eq!(options(&profile).pool.unwrap().last, core::net::Ipv4Addr::from([10, 8, 0, 110]));
}

#[test]
fn values() {
    table(&[
        ("", |s| s.max_clients == 1024 && s.max_routes_per_client == 256 && s.tcp_queue_limit == 64),
        ("", |s| s.connect_freq_initial == Some(Rate { events: 100, period: secs(10) })),
        ("", |s| s.login == LoginPolicy::None && s.client_cert == ClientCert::Require && s.token.is_none()),
        ("", |s| s.exit_notify == 0 && s.connect_freq.is_none() && s.pool_persist.is_none()),
        ("client-config-dir ccd\nccd-exclusive", |s| {
            s.client_config_dir.as_deref().is_some_and(|dir| dir.ends_with("ccd")) && s.ccd_exclusive
        }),
        ("client-to-client\nduplicate-cn", |s| s.client_to_client && s.duplicate_cn),
        ("max-clients 5\nmax-routes-per-client 9", |s| (s.max_clients, s.max_routes_per_client) == (5, 9)),
        ("connect-freq 3 60\nconnect-freq-initial 7 8", |s| {
            s.connect_freq == Some(Rate { events: 3, period: secs(60) })
                && s.connect_freq_initial == Some(Rate { events: 7, period: secs(8) })
        }),
        ("ifconfig-pool-persist ipp.txt", |s| s.pool_persist == Some(("ipp.txt".into(), secs(600)))),
        ("explicit-exit-notify", |s| s.exit_notify == 1),
        ("explicit-exit-notify 2", |s| s.exit_notify == 2),
        ("explicit-exit-notify 5", |s| s.exit_notify == 1),
        ("tcp-queue-limit 9\nmultihome\nforce-tls-key-material-export", |s| {
            s.tcp_queue_limit == 9 && s.multihome && s.require_tls_ekm
        }),
        ("tcp-nodelay", |s| s.push.last().is_some_and(|last| last == "socket-flags TCP_NODELAY")),
        ("route-gateway 10.8.0.7", |s| s.route_gateway == Some([10, 8, 0, 7].into())),
        ("tun-mtu 1400\nmax-packet-size 1000", |s| (s.tun_mtu, s.max_packet_size) == (1400, 1000)),
        ("tmp-dir ccd", |s| s.tmp_dir.ends_with("ccd")),
        ("hash-size 5 5\nbcast-buffers 5\npersist-key\npersist-tun\nallow-compression no", |_| true),
    ]);
    for (lines, workers) in [("", Some(1)), ("workers 4", Some(4)), ("workers 4\nworkers auto", None)] {
        assert_eq!(serve(lines).workers, workers, "{lines}");
    }
    assert!(warnings(&serve("dh dh.pem"))[0].contains("keys are exchanged with elliptic curves only"));
    assert!(warnings(&serve("remote-cert-tls server"))[0].contains("write `remote-cert-tls client`"));
    assert!(warnings(&serve("pull-filter ignore a"))[0].contains("--pull-filter ignored for --mode server"));
    assert!(warnings(&serve("stale-routes-check 5"))[0].contains("`stale-routes-check` is ignored"));
}

#[test]
fn keys_of_the_control_channel() {
    table(&[
        ("", |s| matches!(s.wrap, WrapConfig::None) && s.tls_crypt_v2.is_none()),
        ("tls-auth ta.key 0", |s| matches!(s.wrap, WrapConfig::TlsAuth { .. })),
        ("tls-crypt ta.key", |s| matches!(s.wrap, WrapConfig::TlsCrypt { .. })),
        ("tls-crypt-v2 v2-server.key", |s| {
            matches!(s.wrap, WrapConfig::None) && s.tls_crypt_v2.as_ref().is_some_and(|v2| !v2.force_cookie)
        }),
        ("tls-crypt ta.key\ntls-crypt-v2 v2-server.key force-cookie\ntls-crypt-v2-max-age 90", |s| {
            matches!(s.wrap, WrapConfig::TlsCrypt { .. })
                && s.tls_crypt_v2
                    .as_ref()
                    .is_some_and(|v2| v2.force_cookie && v2.max_age == Some(secs(90 * 86_400)))
        }),
        ("script-security 2\ntls-crypt-v2 v2-server.key\ntls-crypt-v2-verify /bin/hook", |s| {
            s.tls_crypt_v2_verify == words("/bin/hook")
        }),
    ]);
}

#[test]
fn logins() {
    const VERIFY: &str = "script-security 2\nauth-user-pass-verify \"/bin/hook a\" via-file\n";
    let with = |lines: &str| serve(&format!("{VERIFY}{lines}"));
    let profile = with("");
    assert_eq!(options(&profile).auth_verify, Some((words("/bin/hook a").unwrap(), VerifyVia::File)));
    assert_eq!(options(&profile).login, LoginPolicy::Required);
    let env = serve("script-security 3\nauth-user-pass-verify /bin/hook via-env");
    assert_eq!(options(&env).auth_verify, Some((words("/bin/hook").unwrap(), VerifyVia::Env)));
    let profile = with("auth-user-pass-optional\nverify-client-cert optional\nusername-as-common-name");
    let server = options(&profile);
    assert_eq!((server.login, server.client_cert), (LoginPolicy::Optional, ClientCert::Optional));
    assert!(server.username_as_common_name);
    assert!(warnings(&profile)[0].contains("POTENTIALLY DANGEROUS OPTION --verify-client-cert"));
    assert_eq!(profile.tls_options(None).unwrap().client_cert, ClientCertMode::Optional);
    assert_eq!(options(&with("verify-client-cert require")).client_cert, ClientCert::Require);
    let managed = serve("management /run/m unix\nmanagement-client-auth\nverify-client-cert none");
    assert_eq!(options(&managed).login, LoginPolicy::Required);
    assert_eq!(options(&managed).client_cert, ClientCert::None);
}

#[test]
fn tokens() {
    let profile = serve("auth-gen-token");
    let token = options(&profile).token.clone().unwrap();
    assert_eq!((token.lifetime, token.renewal, token.external), (None, secs(3600), false));
    assert!(token.secret.is_none());
    let profile = serve("auth-gen-token 7200 600 external-auth\nauth-gen-token-secret token.key");
    let token = options(&profile).token.clone().unwrap();
    assert_eq!((token.lifetime, token.renewal, token.external), (Some(secs(7200)), secs(600), true));
    assert_eq!(token.secret.as_deref(), Some(&[5; 32]));
    let token = options(&serve("auth-gen-token 0 external-auth")).token.clone().unwrap();
    assert_eq!((token.lifetime, token.external), (None, true));
    assert!(!format!("{:?}", serve("auth-gen-token 9\nauth-gen-token-secret token.key")).contains("5, 5, 5"));
}

#[test]
fn sockets() {
    let profile = serve(
        "port 443\nproto tcp-server\nlocal 127.0.0.1\nlocal * 1195 udp6\nlocal ::1 1196 udp\nbind ipv6only",
    );
    let found: Vec<_> = options(&profile)
        .listen
        .iter()
        .map(|l| (l.address.map(|a| a.to_string()), l.port, l.protocol, l.family, l.ipv6_only))
        .collect();
    assert_eq!(
        found,
        [
            (Some("127.0.0.1".into()), 443, Protocol::Tcp, Family::V4, false),
            (None, 1195, Protocol::Udp, Family::V6, true),
            (Some("::1".into()), 1196, Protocol::Udp, Family::V6, true),
        ]
    );
    let tcp = serve("proto tcp4\nlport 5");
    let [listen] = options(&tcp).listen.as_slice() else { panic!("one socket") };
    assert_eq!((listen.port, listen.protocol, listen.family), (5, Protocol::Tcp, Family::V4));
    assert_eq!(options(&serve("port 443\nlocal 127.0.0.1 5\nlocal 127.0.0.2")).listen[1].port, 443);
    let quiet = serve("proto tcp-server\nexplicit-exit-notify");
    assert_eq!(options(&quiet).exit_notify, 0);
    assert!(warnings(&quiet)[0].contains("explicit-exit-notify is ignored for TCP"));
}

#[test]
fn scripts_and_process() {
    let profile = serve(
        "script-security 2\nup \"/bin/hook 'a b' c\"\ndown /bin/hook\ndown-pre\nup-restart\nroute-up /bin/hook\n\
         route-pre-down /bin/hook\ntls-verify \"/bin/hook,x\"\nclient-connect /bin/hook\nclient-disconnect /bin/hook\n\
         client-crresponse /bin/hook\nlearn-address /bin/hook\nuser nobody\ngroup nogroup\nchroot /jail\n\
         daemon vpn\nsyslog\nstatus /s.log 5\nstatus-version 3",
    );
    let scripts = &profile.scripts;
    assert_eq!(scripts.up, Some(vec!["/bin/hook".into(), "a b".into(), "c".into()]));
    assert_eq!(scripts.tls_verify, words("/bin/hook x"));
    assert!(scripts.security == 2 && scripts.down_pre && scripts.up_restart);
    let hook = words("/bin/hook");
    assert_eq!((&scripts.down, &scripts.route_up, &scripts.route_pre_down), (&hook, &hook, &hook));
    let server = options(&profile);
    assert_eq!((&server.client_connect, &server.client_disconnect), (&hook, &hook));
    assert_eq!((&server.client_crresponse, &server.learn_address), (&hook, &hook));
    let process = &profile.process;
    assert_eq!((process.user.as_deref(), process.group.as_deref()), (Some("nobody"), Some("nogroup")));
    assert_eq!((process.daemon.as_deref(), process.syslog.as_deref()), (Some("vpn"), Some("oxivpn")));
    assert_eq!(process.chroot.as_deref(), Some(std::path::Path::new("/jail")));
    let jail = serve("chroot /jail\nclient-config-dir ccd\ntmp-dir /tmp");
    assert_eq!(options(&jail).client_config_dir.as_deref(), Some(std::path::Path::new("/ccd")));
    let outside = jail.process.before_chroot(std::path::Path::new("/ccd"));
    assert_eq!(outside, std::path::Path::new("/jail/ccd"));
    assert_eq!(options(&jail).tmp_dir, std::path::Path::new("/tmp"));
    let status = StatusOptions { path: "/s.log".into(), every: secs(5), version: 3 };
    assert_eq!(profile.status, Some(status));
}

#[test]
fn management() {
    let mut files = Memory::usual();
    files.add("pw", "open\n");
    let text = format!(
        "{SERVER}management 127.0.0.1 7505 pw\nmanagement-hold\nmanagement-signal\nmanagement-forget-disconnect\n\
         management-query-passwords\nmanagement-up-down\nmanagement-client\nmanagement-log-cache 9"
    );
    let profile = Profile::from_text("a", &text, &files).unwrap();
    assert_eq!(warnings(&profile), Vec::<String>::new());
    let management = profile.management.unwrap();
    assert_eq!(management.listen, ManagementAddress::Tcp([127, 0, 0, 1].into(), 7505));
    assert_eq!(management.password.as_ref().map(|word| word.as_str()), Some("open"));
    assert!(management.hold && management.signal && management.forget_disconnect && management.connect);
    assert!(management.query_passwords && management.up_down && !management.client_auth);
    assert_eq!(management.log_cache, 9);
    let unix = serve("management /run/m unix\nmanagement-client-user root\nmanagement-client-group adm");
    assert_eq!(warnings(&unix), Vec::<String>::new());
    let management = unix.management.unwrap();
    assert_eq!(management.listen, ManagementAddress::Unix("/run/m".into()));
    assert_eq!((management.client_user.as_deref(), management.log_cache), (Some("root"), 250));
    assert!(
        warnings(&serve("management localhost 1"))[0].contains("WITHOUT passwords is STRONGLY discouraged")
    );
    assert!(serve("").management.is_none());
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
fn the_core_gets_the_settings() {
    let drawn = Zeroizing::new([9; 32]);
    let config = |lines: &str| {
        let profile = serve(lines);
        profile.server_config(options(&profile), &drawn, Arc::new(NoTls))
    };
    let plain = config("");
    assert!(plain.channel.float && !plain.ask_login && plain.token.is_none());
    assert_eq!(plain.channel.keepalive.timeout, Some(PingTimeout::Restart(secs(120))));
    assert_eq!(plain.max_clients, 1024);
    let rich = config(
        "tls-crypt ta.key\nmanagement /m unix\nmanagement-client-auth\nauth-gen-token\nduplicate-cn\ntun-mtu 1400\n\
         hand-window 9\ndata-ciphers AES-128-GCM\nusername-as-common-name\nforce-tls-key-material-export\ninactive 60",
    );
    assert!(matches!(rich.channel.wrap, WrapConfig::TlsCrypt { .. }));
    assert!(rich.ask_login && rich.duplicate_cn && rich.username_as_common_name && rich.require_tls_ekm);
    assert_eq!(rich.login, LoginPolicy::Required);
    assert_eq!(*rich.token.unwrap().secret, [9; 32]);
    assert_eq!((rich.channel.tun_mtu, rich.channel.timing.hand_window), (1400, secs(9)));
    assert_eq!(rich.channel.ciphers.len(), 1);
    assert_eq!(rich.channel.keepalive.inactive, Some((secs(60), 0)));
    let framed = |lines: &str| {
        let config = config(lines);
        (config.channel.framing, config.migrate_compression)
    };
    assert_eq!(framed("compress migrate"), (Framing::None, true));
    assert_eq!(framed("comp-lzo no\npush \"comp-lzo no\""), (Framing::Stub, false));
    let fixed = config("auth-gen-token\nauth-gen-token-secret token.key").token.unwrap();
    assert_eq!(*fixed.secret, [5; 32]);
    assert!(config("script-security 2\ntls-verify /bin/hook").ask_login);
    // For a look at the file with each key.
    let exclusive = config("client-config-dir ccd\nccd-exclusive");
    assert!(exclusive.ask_login && exclusive.ask_with_token);
}
