use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::params::Framing;
use crate::options::compression::Compression;
use crate::options::pushed::{Gateway, RedirectFlags, Route4, Route6, Target, Token, Topology};

fn complete(message: &str, policy: &PullPolicy) -> PushReply {
    match PushAccumulator::new().feed(message, policy).unwrap() {
        PushState::Complete(reply) => reply,
        PushState::More => panic!("unfinished: {message}"),
    }
}

fn one(option: &str) -> Pushed {
    let reply = complete(&format!(",{option}"), &PullPolicy::default());
    assert_eq!(reply.ignored, Vec::<String>::new(), "{option}");
    assert_eq!(reply.options.len(), 1, "{option}");
    reply.options.into_iter().next().unwrap()
}

fn refused(option: &str) -> String {
    let reply = complete(&format!(",{option}"), &PullPolicy::default());
    assert_eq!(reply.options, [], "{option}");
    assert_eq!(reply.ignored.len(), 1, "{option}");
    reply.ignored.into_iter().next().unwrap()
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_reply_of_openvpn_2_6() {
    let text = ",route-gateway 10.199.0.1,topology subnet,ping 3,ping-restart 12,ifconfig 10.199.0.2 \
                255.255.255.0,peer-id 0,cipher AES-256-GCM,protocol-flags cc-exit tls-ekm \
                dyn-tls-crypt,tun-mtu 1500";
    let reply = complete(text, &PullPolicy::default());
    assert_eq!(reply.ignored, Vec::<String>::new());
    assert_eq!(
        reply.options,
        [
            Pushed::RouteGateway(Some(v4("10.199.0.1"))),
            Pushed::Topology(Topology::Subnet),
            Pushed::Ping(secs(3)),
            Pushed::PingRestart(secs(12)),
            Pushed::Ifconfig(v4("10.199.0.2"), v4("255.255.255.0")),
            Pushed::PeerId(Some(0)),
            Pushed::Cipher("AES-256-GCM".into()),
            Pushed::ProtocolFlags(strings(&["cc-exit", "tls-ekm", "dyn-tls-crypt"])),
            Pushed::TunMtu(1500),
        ]
    );
}

#[test]
fn each_option_is_typed() {
    let table = [
        ("route-gateway dhcp", Pushed::RouteGateway(None)),
        ("route-ipv6-gateway fd00::1", Pushed::RouteIpv6Gateway(v6("fd00::1"))),
        ("route-metric 50", Pushed::RouteMetric(50)),
        ("topology net30", Pushed::Topology(Topology::Net30)),
        ("topology p2p", Pushed::Topology(Topology::P2p)),
        (
            "ifconfig-ipv6 fd00::1000/64 fd00::1",
            Pushed::IfconfigIpv6(v6("fd00::1000"), 64, Some(v6("fd00::1"))),
        ),
        ("ifconfig-ipv6 fd00::1000/112", Pushed::IfconfigIpv6(v6("fd00::1000"), 112, None)),
        ("dhcp-option DNS 10.8.0.1", Pushed::DhcpOption(strings(&["DNS", "10.8.0.1"]))),
        ("dns server 1 address 10.0.0.1", Pushed::Dns(strings(&["server", "1", "address", "10.0.0.1"]))),
        ("block-ipv6", Pushed::BlockIpv6),
        ("block-outside-dns", Pushed::BlockOutsideDns),
        ("ping-exit 30", Pushed::PingExit(secs(30))),
        ("inactive 60", Pushed::Inactive(secs(60), 0)),
        ("inactive 60 100000", Pushed::Inactive(secs(60), 100_000)),
        ("session-timeout 3600", Pushed::SessionTimeout(secs(3600))),
        ("explicit-exit-notify", Pushed::ExitNotify(1)),
        ("explicit-exit-notify 3", Pushed::ExitNotify(3)),
        ("tun-mtu 1400", Pushed::TunMtu(1400)),
        ("peer-id -1", Pushed::PeerId(None)),
        ("peer-id 16777214", Pushed::PeerId(Some(0xff_fffe))),
        ("key-derivation tls-ekm", Pushed::KeyDerivationEkm),
        ("auth-token-user dXNlcg==", Pushed::AuthTokenUser("user".into())),
        ("sndbuf 393216", Pushed::SendBuffer(393_216)),
        ("rcvbuf 0", Pushed::ReceiveBuffer(0)),
        ("comp-lzo no", Pushed::Compression(Compression::Stub(Framing::Stub))),
        ("compress", Pushed::Compression(Compression::Stub(Framing::Swap))),
        ("setenv-safe colour \"dark green\"", Pushed::SetenvSafe("colour".into(), "dark green".into())),
        ("setenv-safe flag", Pushed::SetenvSafe("flag".into(), String::new())),
        ("echo msg hello there", Pushed::Echo("msg hello there".into())),
        ("parameter x", Pushed::Echo("x".into())),
        ("persist-tun", Pushed::NoEffect("persist-tun".into())),
        ("verb 4", Pushed::NoEffect("verb".into())),
        ("socket-flags TCP_NODELAY", Pushed::NoEffect("socket-flags".into())),
        ("register-dns", Pushed::NoEffect("register-dns".into())),
    ];
    for (text, expected) in table {
        assert_eq!(one(text), expected, "{text}");
    }
}

#[test]
fn routes() {
    let address = |text: &str| Target::Address(v4(text));
    let table = [
        ("10.1.0.0", address("10.1.0.0"), "255.255.255.255", Gateway::Default, None),
        ("10.1.2.3 255.255.0.0", address("10.1.0.0"), "255.255.0.0", Gateway::Default, None),
        ("10.1.0.0 default default 7", address("10.1.0.0"), "255.255.255.255", Gateway::Default, Some(7)),
        ("10.1.0.0 255.255.0.0 vpn_gateway 3", address("10.1.0.0"), "255.255.0.0", Gateway::Vpn, Some(3)),
        ("remote_host default net_gateway", Target::RemoteHost, "255.255.255.255", Gateway::Net, None),
        (
            "intranet.example.com default 10.9.9.9",
            Target::Name("intranet.example.com".into()),
            "255.255.255.255",
            Gateway::Address(v4("10.9.9.9")),
            None,
        ),
        ("0.0.0.0 0.0.0.0", address("0.0.0.0"), "0.0.0.0", Gateway::Default, None),
    ];
    for (text, network, mask, gateway, metric) in table {
        let expected = Route4 { network, mask: v4(mask), gateway, metric };
        assert_eq!(one(&format!("route {text}")), Pushed::Route(expected), "{text}");
    }
    let table = [
        ("2000::/3", "2000::", 3, Gateway::Default, None),
        ("fd00:1::5/64 default 9", "fd00:1::", 64, Gateway::Default, Some(9)),
        ("fd00:1::5 fd00::1", "fd00:1::5", 128, Gateway::Address(v6("fd00::1")), None),
        ("::/0 net_gateway", "::", 0, Gateway::Net, None),
    ];
    for (text, network, bits, gateway, metric) in table {
        let expected = Route6 { network: v6(network), bits, gateway, metric };
        assert_eq!(one(&format!("route-ipv6 {text}")), Pushed::RouteIpv6(expected), "{text}");
    }
}

#[test]
fn redirect_flags() {
    let none = RedirectFlags::default();
    let table = [
        ("redirect-gateway", none),
        ("redirect-gateway def1 bypass-dhcp", RedirectFlags { def1: true, bypass_dhcp: true, ..none }),
        ("redirect-gateway ipv6 !ipv4", RedirectFlags { ipv6: true, not_ipv4: true, ..none }),
        (
            "redirect-private local autolocal block-local bypass-dns",
            RedirectFlags {
                private: true,
                local: true,
                autolocal: true,
                block_local: true,
                bypass_dns: true,
                ..none
            },
        ),
    ];
    for (text, flags) in table {
        assert_eq!(one(text), Pushed::RedirectGateway(flags), "{text}");
    }
}

#[test]
fn what_is_wrong_is_told() {
    let table = [
        ("ifconfig 10.0.0.1", "missing or extra"),
        ("ifconfig 10.0.0.1 x", "'x' is not an IPv4 address"),
        ("ifconfig-ipv6 fd00::1/32 fd00::2", "between 64 and 124, not '/32'"),
        ("ifconfig-ipv6 fd00::1/129 fd00::2", "not a number from 0 to 128"),
        ("topology ring", "net30, p2p, or subnet"),
        ("route", "missing or extra"),
        ("route 1.2.3.4 255.0.255.0", "not a netmask"),
        ("route 1.2.3.400", "must be a valid address"),
        ("route 1.2.3.4 default default -1", "non-negative"),
        ("route 1.2.3.4 default default 1 2", "missing or extra"),
        ("route-ipv6 2000::/3 1.2.3.4", "not an IPv6 address"),
        ("redirect-gateway def2", "unknown flag: def2"),
        ("ping x", "non-negative"),
        ("ping 99999999999999999999", "not a number from 0 to 2147483647"),
        ("ping 1 2", "missing or extra"),
        ("tun-mtu 20", "not a number from 100 to 65535"),
        ("peer-id 16777215", "not a number from 0 to 16777214"),
        ("peer-id -2", "non-negative"),
        ("key-derivation prf", "unknown key-derivation"),
        ("auth-token-user %%%", "base64"),
        ("dhcp-option", "missing or extra"),
        ("block-ipv6 now", "missing or extra"),
        ("comp-lzo yes no", "missing or extra"),
        ("comp-lzo never", "must be 'yes', 'no', or 'adaptive'"),
        ("compress snappy", "bad comp option: snappy"),
        ("shaper 1000", "not supported"),
        ("up /bin/sh", "unrecognized"),
        ("setenv A b", "unrecognized"),
        ("keepalive 1 2", "unrecognized"),
        ("echo \"open", "No closing quotation"),
        ("push-continuation 3", "push-continuation 3: unrecognized"),
        ("push-continuation2", "unrecognized"),
    ];
    for (text, reason) in table {
        let line = refused(text);
        assert!(line.contains(reason), "{text}: {line}");
    }
}

#[test]
fn ignored_text_is_printable_and_keeps_tokens_secret() {
    assert_eq!(refused("bad\x1b[2J\nword"), "bad?[2J?word: unrecognized option");
    let long = refused(&"x".repeat(900));
    assert!(long.len() < 250, "{long}");
    let value = refused(&format!("route {}\u{85}x", "1\\\n".repeat(300)));
    assert!(value.len() < 700 && !value.chars().any(char::is_control), "{value:?}");
    assert!(!refused("auth-token SECRET extra").contains("SECRET"));
    assert!(!refused("\"auth-token\" SECRET extra").contains("SECRET"));
    let token = one("auth-token SECRET");
    assert!(!format!("{token:?}").contains("SECRET"));
    assert_eq!(token, Pushed::AuthToken(Token(String::from("SECRET").into())));
}

#[test]
fn parts_are_joined() {
    let policy = PullPolicy::default();
    let mut parts = PushAccumulator::new();
    for part in [",ping 1,push-continuation 2", ",foo,push-continuation 2"] {
        assert!(matches!(parts.feed(part, &policy), Ok(PushState::More)));
    }
    let Ok(PushState::Complete(reply)) = parts.feed(",ping-exit 9,push-continuation 1", &policy) else {
        panic!("the last part completes")
    };
    assert_eq!(reply.options, [Pushed::Ping(secs(1)), Pushed::PingExit(secs(9))]);
    assert_eq!(reply.ignored, ["foo: unrecognized option"]);

    let Ok(PushState::Complete(later)) = parts.feed(",auth-token T", &policy) else {
        panic!("a later reply stands alone")
    };
    assert_eq!(later.options, [Pushed::AuthToken(Token(String::from("T").into()))]);
    assert_eq!(later.ignored, Vec::<String>::new());
}

#[test]
fn empty_replies_are_legal() {
    for text in ["", ",", ",,", ", ", ",# note"] {
        assert_eq!(complete(text, &PullPolicy::default()), PushReply::default(), "{text:?}");
    }
}

#[test]
fn filters_decide_by_first_prefix() {
    let policy = PullPolicy {
        filters: vec![
            (FilterAction::Accept, "route 10.".into()),
            (FilterAction::Ignore, "route ".into()),
            (FilterAction::Ignore, "auth-token".into()),
            (FilterAction::Reject, "redirect-gateway".into()),
            (FilterAction::Ignore, "push-".into()),
        ],
        no_routes: false,
    };
    let reply =
        complete(",  route 10.1.0.0,route 11.1.0.0,auth-token X,auth-token-user YQ==,ping 1", &policy);
    assert_eq!(reply.options.len(), 2);
    assert_eq!(reply.ignored, Vec::<String>::new());
    assert_eq!(
        PushAccumulator::new().feed(",ping 1,redirect-gateway def1", &policy).unwrap_err(),
        PushError::Rejected("redirect-gateway def1".into())
    );
    assert!(matches!(PushAccumulator::new().feed(",push-continuation 2", &policy), Ok(PushState::More)));
}

#[test]
fn route_nopull_keeps_the_rest() {
    let policy = PullPolicy { no_routes: true, ..PullPolicy::default() };
    let text = ",route 10.0.0.0,route-ipv6 ::/0,redirect-gateway def1,redirect-private,dhcp-option DNS \
                1.1.1.1,dns search-domains a,block-outside-dns,block-ipv6,route-metric 3,route-gateway \
                10.8.0.1,topology subnet,ifconfig 10.8.0.2 255.255.255.0,ping 1";
    let reply = complete(text, &policy);
    assert_eq!(
        reply.options,
        [
            Pushed::RouteGateway(Some(v4("10.8.0.1"))),
            Pushed::Topology(Topology::Subnet),
            Pushed::Ifconfig(v4("10.8.0.2"), v4("255.255.255.0")),
            Pushed::Ping(secs(1)),
        ]
    );
    assert_eq!(reply.ignored.len(), 9);
    assert!(
        reply.ignored.iter().all(|line| line.ends_with("because of route-nopull")),
        "{:?}",
        reply.ignored
    );
}

#[test]
fn size_is_bounded_over_all_parts() {
    let policy = PullPolicy::default();
    let mut parts = PushAccumulator::new();
    let part = format!(",echo {},push-continuation 2", "x".repeat(1000));
    let fed = (0..).take_while(|_| parts.feed(&part, &policy).is_ok()).count();
    assert_eq!(fed, MAX_PUSH_BYTES / part.len());
    assert!(
        matches!(parts.feed(",ping 1", &policy), Ok(PushState::Complete(reply)) if reply.options.len() == 1)
    );

    let many = ",a".repeat(MAX_PUSH_OPTIONS);
    assert_eq!(complete(&many, &policy).ignored.len(), MAX_PUSH_OPTIONS);
    let more = ",a".repeat(MAX_PUSH_OPTIONS + 1);
    assert_eq!(PushAccumulator::new().feed(&more, &policy).unwrap_err(), PushError::TooLarge);
}

proptest! {
    #[test]
    fn any_text_is_counted_whole(lines in proptest::collection::vec("[ -+\\--~]{0,30}", 0..40)) {
        let message: String = lines.iter().map(|line| format!(",{line}")).collect();
        if let Ok(PushState::Complete(reply)) = PushAccumulator::new().feed(&message, &PullPolicy::default()) {
            prop_assert!(reply.options.len() + reply.ignored.len() <= lines.len());
        }
    }
}
