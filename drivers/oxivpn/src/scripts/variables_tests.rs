use std::sync::Arc;

use ipnet::Ipv6Net;
use oxivpn_host::plan::{Gateway, Ifconfig, Ifconfig6, Redirect, RouteOption, RouteOption6};
use oxivpn_profile::Disk;
use oxivpn_proto::event::login::TokenState;

use super::*;

/// Text of `NAME=value` lines, sorted.
fn lines(env: &Environment) -> Vec<String> {
    let mut lines: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    lines.sort_unstable();
    lines
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    lines.retain(|line| !line.is_empty());
    lines.sort_unstable();
    lines
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// A client's profile without keys, which no other test needs.
fn client(text: &str) -> Profile {
    let ca = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
    let text = format!("client\ndev tun\nnobind\nauth-user-pass\n{text}\n<ca>\n{ca}</ca>\n");
    Profile::from_text("c.conf", &text, &Disk).unwrap()
}

#[test]
fn a_client_has_openvpns_variables() {
    let profile = client(
        "proto udp4\nremote 192.0.2.1 11950\nremote 192.0.2.9 11951 tcp-client\nverb 4\nsetenv FOO \"bar baz\"\n\
         setenv-safe SAFE x\nsetenv UV_X y\n",
    );
    let env = program(&profile, Some("c.conf"), 4711, Duration::from_secs(1_795_242_098));
    let expected = "
        FOO=bar baz
        OPENVPN_SAFE=x
        UV_X=y
        config=c.conf
        daemon=0
        daemon_log_redirect=0
        daemon_pid=4711
        daemon_start_time=1795242098
        proto_1=udp4
        proto_2=tcp4-client
        remote_1=192.0.2.1
        remote_2=192.0.2.9
        remote_port_1=11950
        remote_port_2=11951
        verb=4";
    assert_eq!(lines(&env), sorted(expected));
}

#[test]
fn a_server_has_openvpns_variables() {
    let mut env = Environment::new();
    let listen = Listen {
        address: Some("192.0.2.1".parse().unwrap()),
        port: 11950,
        protocol: Protocol::Udp,
        family: Family::V4,
        ipv6_only: false,
        origin: client("remote x").remotes[0].origin.clone(),
    };
    set_listen(&mut env, 1, &listen, true);
    set_listen(&mut env, 2, &Listen { protocol: Protocol::Tcp, address: None, ..listen }, true);
    let expected = "
        local_1=192.0.2.1
        local_port_1=11950
        local_port_2=11950
        proto_1=udp4
        proto_2=tcp4-server
        remote_port_1=11950
        remote_port_2=11950";
    assert_eq!(lines(&env), sorted(expected));
}

#[test]
fn a_tunnel_has_openvpns_variables() {
    let net6 = |text: &str| text.parse::<Ipv6Net>().unwrap();
    let options = VpnOptions {
        ifconfig: Some(Ifconfig { local: ip("10.99.0.2"), remote_or_mask: ip("255.255.255.0") }),
        ifconfig6: Some(Ifconfig6 {
            local: "fd99::1000".parse().unwrap(),
            prefix: 64,
            remote: Some("fd99::1".parse().unwrap()),
        }),
        topology: Topology::Subnet,
        route_gateway: Some(ip("10.99.0.1")),
        routes: vec![RouteOption {
            network: ip("10.77.0.0"),
            netmask: ip("255.255.0.0"),
            gateway: RouteGateway::Vpn,
            metric: None,
        }],
        routes6: vec![RouteOption6 { network: net6("fd77::/64"), gateway: None, metric: None }],
        redirect: Some(Redirect { ipv6: true, def1: true, ..Redirect::gateway() }),
        ..VpnOptions::default()
    };
    let way =
        Gateway { via: Some("192.0.2.1".parse().unwrap()), ifindex: 2, name: "e".into(), onlink: false };
    let around = Surroundings { default: Some(way), ..Surroundings::default() };
    let mut env = Environment::new();
    env.set("route_network_7", "of an earlier connection");
    device(&mut env, "tun0", 1500, Occasion::Init);
    tunnel(&mut env, &options, &around);
    redirected(&mut env, &options);
    foreign(&mut env, &[Pushed::DhcpOption(vec!["DNS".into(), "10.99.0.1".into()])]);
    // The last two come with OpenVPN 2.7.
    let expected = "
        dev=tun0
        dev_type=tun
        foreign_option_1=dhcp-option DNS 10.99.0.1
        ifconfig_ipv6_local=fd99::1000
        ifconfig_ipv6_netbits=64
        ifconfig_ipv6_remote=fd99::1
        ifconfig_local=10.99.0.2
        ifconfig_netmask=255.255.255.0
        redirect_gateway=1
        route_gateway_1=10.99.0.1
        route_ipv6_gateway_1=fd99::1
        route_ipv6_gateway_2=fd99::1
        route_ipv6_gateway_3=fd99::1
        route_ipv6_gateway_4=fd99::1
        route_ipv6_gateway_5=fd99::1
        route_ipv6_network_1=fd77::/64
        route_ipv6_network_2=::/3
        route_ipv6_network_3=2000::/4
        route_ipv6_network_4=3000::/4
        route_ipv6_network_5=fc00::/7
        route_net_gateway=192.0.2.1
        route_netmask_1=255.255.0.0
        route_network_1=10.77.0.0
        route_vpn_gateway=10.99.0.1
        script_context=init
        tun_mtu=1500
        route_redirect_gateway_ipv4=1
        route_redirect_gateway_ipv6=1";
    assert_eq!(lines(&env), sorted(expected));
}

#[test]
fn a_client_of_a_server_has_openvpns_variables() {
    let facts = CertFacts {
        subject: "C=KG, OU=one, OU=two, CN=client".into(),
        fields: vec![("C", "KG".into()), ("OU", "one".into()), ("OU", "two".into()), ("CN", "client".into())],
        serial: "26030".into(),
        serial_bytes: vec![0x65, 0xae],
        sha1: [0x81; 20],
        sha256: [0x18; 32],
    };
    let token = Token { session: "ypO5zVPyHDuNxLT7".into(), state: TokenState::Initial };
    let mut env = Environment::new();
    untrusted(&mut env, "192.0.2.2:40033".parse().unwrap());
    certificate(&mut env, 0, &facts);
    // A second handshake of the same client must not number the fields on.
    certificate(&mut env, 0, &facts);
    login(&mut env, "bob", "client", Some(&token));
    trusted(&mut env, "[::ffff:192.0.2.2]:40033".parse().unwrap());
    let addresses = ClientAddresses {
        v4: Some((ip("10.99.0.2"), ip("255.255.255.0"))),
        subnet: true,
        v6: Some(("fd99::1000".parse().unwrap(), 64, "fd99::1".parse().unwrap())),
    };
    client_addresses(&mut env, &addresses);
    since(&mut env, Duration::from_secs(1_795_242_098));
    sums(&mut env, 4116, 4215, Duration::from_millis(7900));
    let sha1 = ["81"; 20].join(":");
    let sha256 = ["18"; 32].join(":");
    let ascii = env.get("time_ascii").unwrap().to_owned();
    assert!(ascii.len() == 19 && ascii.starts_with("2026-11-2") && ascii.as_bytes()[10] == b' ', "{ascii}");
    let expected = format!(
        "X509_0_C=KG
        X509_0_CN=client
        X509_0_OU=one
        X509_0_OU_1=two
        bytes_received=4116
        bytes_sent=4215
        common_name=client
        ifconfig_pool_ip6_netbits=64
        ifconfig_pool_local_ip6=fd99::1
        ifconfig_pool_netmask=255.255.255.0
        ifconfig_pool_remote_ip=10.99.0.2
        ifconfig_pool_remote_ip6=fd99::1000
        session_id=ypO5zVPyHDuNxLT7
        session_state=Initial
        time_ascii={ascii}
        time_duration=7
        time_unix=1795242098
        tls_digest_0={sha1}
        tls_digest_sha256_0={sha256}
        tls_id_0=C=KG, OU=one, OU=two, CN=client
        tls_serial_0=26030
        tls_serial_hex_0=65:ae
        trusted_ip=192.0.2.2
        trusted_port=40033
        untrusted_ip=192.0.2.2
        untrusted_port=40033
        username=bob"
    );
    assert_eq!(lines(&env), sorted(&expected));
}

#[test]
fn topologies_and_address_families_have_their_own_names() {
    let mut env = Environment::new();
    let addresses = ClientAddresses { v4: Some((ip("10.8.0.6"), ip("10.8.0.5"))), ..Default::default() };
    client_addresses(&mut env, &addresses);
    trusted(&mut env, "[2001:db8::1]:5".parse().unwrap());
    let expected = "
        ifconfig_pool_local_ip=10.8.0.5
        ifconfig_pool_remote_ip=10.8.0.6
        trusted_ip6=2001:db8::1
        trusted_port=5";
    assert_eq!(lines(&env), sorted(expected));
    let options = VpnOptions {
        ifconfig: Some(Ifconfig { local: ip("10.8.0.6"), remote_or_mask: ip("10.8.0.5") }),
        ..VpnOptions::default()
    };
    let mut env = Environment::new();
    tunnel(&mut env, &options, &Surroundings::default());
    let expected = "
        ifconfig_local=10.8.0.6
        ifconfig_remote=10.8.0.5
        route_net_gateway=0.0.0.0
        route_vpn_gateway=10.8.0.5";
    assert_eq!(lines(&env), sorted(expected));
}

#[test]
fn peer_info_is_cleaned_as_openvpn_does() {
    let mut env = Environment::new();
    let long = "y".repeat(300);
    let text = format!(
        "IV_VER=2.6.14\nIV_SSL=OpenSSL 3.0.19\r\nUV_EVIL=$(reboot)`x`\nPATH=/tmp\nLD_PRELOAD=x\nIV_NOVALUE\n\
         IV_BAD-NAME=1\n=x\n\nUV_LONG={long}\nUV_ODD=ü\tx\n"
    );
    peer_info(&mut env, &text);
    let cut = "y".repeat(255 - "UV_LONG=".len());
    let expected = format!(
        "IV_VER=2.6.14
        IV_SSL=OpenSSL_3.0.19
        UV_EVIL=__reboot)_x_
        UV_LONG={cut}
        UV_ODD=__x"
    );
    assert_eq!(lines(&env), sorted(&expected));
}

#[test]
fn facts_of_a_real_certificate_fit() {
    let der = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.der().to_vec();
    let chain: Arc<[Vec<u8>]> = [der].into();
    let mut env = Environment::new();
    for (depth, der) in chain.iter().enumerate() {
        certificate(&mut env, depth, &oxivpn_proto::tls::facts::facts(der).unwrap());
    }
    assert_eq!(env.get("X509_0_CN"), Some("rcgen self signed cert"));
}
