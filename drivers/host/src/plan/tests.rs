use std::net::IpAddr;

use super::*;

fn v4(text: &str) -> std::net::Ipv4Addr {
    text.parse().unwrap()
}

fn options() -> VpnOptions {
    VpnOptions { interface: "tun0".to_owned(), ..VpnOptions::default() }
}

fn net30() -> VpnOptions {
    let ifconfig = Ifconfig { local: v4("10.8.0.6"), remote_or_mask: v4("10.8.0.5") };
    VpnOptions { ifconfig: Some(ifconfig), ..options() }
}

fn subnet() -> VpnOptions {
    let ifconfig = Ifconfig { local: v4("10.8.0.2"), remote_or_mask: v4("255.255.255.0") };
    VpnOptions {
        ifconfig: Some(ifconfig),
        topology: Topology::Subnet,
        route_gateway: Some(v4("10.8.0.1")),
        ..options()
    }
}

fn with_v6(options: VpnOptions) -> VpnOptions {
    let ifconfig6 = Ifconfig6 { local: "fd00::2".parse().unwrap(), prefix: 64, remote: None };
    VpnOptions { ifconfig6: Some(ifconfig6), ..options }
}

fn route(network: &str, netmask: &str) -> RouteOption {
    RouteOption { network: v4(network), netmask: v4(netmask), gateway: RouteGateway::Vpn, metric: None }
}

fn route6(network: &str) -> RouteOption6 {
    RouteOption6 { network: network.parse().unwrap(), gateway: None, metric: None }
}

fn gateway(via: Option<&str>, name: &str) -> Gateway {
    Gateway { via: via.map(|via| via.parse().unwrap()), ifindex: 2, name: name.to_owned(), onlink: false }
}

fn around(remote: &str) -> Surroundings {
    Surroundings {
        remote: Some(remote.parse().unwrap()),
        to_remote: Some(gateway(Some("192.0.2.1"), "eth0")),
        to_remote6: Some(gateway(Some("2001:db8::1"), "eth0")),
        default: Some(gateway(Some("192.0.2.1"), "eth0")),
    }
}

/// Addresses, removals ("- ...") and routes as text, then warnings ("! ...").
fn told(options: &VpnOptions, around: &Surroundings) -> Vec<String> {
    let Built { plan, warnings } = build(options, around).unwrap();
    let addresses = plan.addresses.iter().map(ToString::to_string);
    let removals = plan.removals.iter().map(|removal| format!("- {removal}"));
    let routes = plan.routes.iter().map(ToString::to_string);
    addresses
        .chain(removals)
        .chain(routes)
        .chain(warnings.iter().map(|warning| format!("! {warning}")))
        .collect()
}

#[track_caller]
fn check(options: &VpnOptions, around: &Surroundings, expected: &[&str]) {
    let told = told(options, around);
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (line, expected) in told.iter().zip(expected) {
        // A warning is given by its beginning.
        let same = if expected.starts_with('!') { line.starts_with(expected) } else { line == expected };
        assert!(same, "{line:?} is not {expected:?}");
    }
}

#[test]
fn nothing_given_is_nothing_done() {
    check(&options(), &Surroundings::default(), &[]);
    let settings = VpnOptions { mtu: Some(1400), txqueuelen: Some(100), ..options() };
    let plan = build(&settings, &Surroundings::default()).unwrap().plan;
    assert_eq!((plan.interface.as_str(), plan.mtu, plan.txqueuelen), ("tun0", Some(1400), Some(100)));
}

#[test]
fn the_second_word_of_ifconfig_depends_on_the_topology() {
    check(&net30(), &around("203.0.113.9"), &["10.8.0.6 peer 10.8.0.5/32"]);
    check(
        &VpnOptions { topology: Topology::P2p, ..net30() },
        &around("203.0.113.9"),
        &["10.8.0.6 peer 10.8.0.5/32"],
    );
    check(&with_v6(subnet()), &around("203.0.113.9"), &["10.8.0.2/24", "fd00::2/64"]);
}

#[test]
fn an_impossible_address_is_an_error_that_names_it() {
    let error =
        build(&VpnOptions { topology: Topology::Subnet, ..net30() }, &Surroundings::default()).unwrap_err();
    assert!(error.to_string().starts_with("ifconfig 10.8.0.6 10.8.0.5: with topology subnet"), "{error}");
    let ifconfig6 = Ifconfig6 { local: "fd00::2".parse().unwrap(), prefix: 129, remote: None };
    let error =
        build(&VpnOptions { ifconfig6: Some(ifconfig6), ..options() }, &Surroundings::default()).unwrap_err();
    assert!(error.to_string().contains("fd00::2/129"), "{error}");
}

#[test]
fn routes_go_by_the_far_end_unless_route_gateway_says_otherwise() {
    let routes = vec![route("10.99.1.2", "255.255.0.0"), route("10.50.0.1", "255.255.255.255")];
    let options = VpnOptions { routes: routes.clone(), ..net30() };
    let gateway = ["10.8.0.6 peer 10.8.0.5/32", "10.99.0.0/16 via 10.8.0.5 dev <tunnel>"];
    check(
        &options,
        &around("203.0.113.9"),
        &[gateway[0], gateway[1], "10.50.0.1/32 via 10.8.0.5 dev <tunnel>"],
    );

    let options = VpnOptions { routes: routes.clone(), ..subnet() };
    let expected =
        ["10.8.0.2/24", "10.99.0.0/16 via 10.8.0.1 dev <tunnel>", "10.50.0.1/32 via 10.8.0.1 dev <tunnel>"];
    check(&options, &around("203.0.113.9"), &expected);

    // A gateway that is not on the tunnel's link is left to the kernel to find.
    let options = VpnOptions { routes, route_gateway: Some(v4("192.168.7.1")), ..subnet() };
    let expected = ["10.8.0.2/24", "10.99.0.0/16 via 192.168.7.1", "10.50.0.1/32 via 192.168.7.1"];
    check(&options, &around("203.0.113.9"), &expected);
}

#[test]
fn each_gateway_word_has_its_meaning() {
    let with = |gateway| VpnOptions {
        routes: vec![RouteOption { gateway, ..route("10.99.0.0", "255.255.0.0") }],
        ..subnet()
    };
    for (gateway, expected) in [
        (RouteGateway::Vpn, "10.99.0.0/16 via 10.8.0.1 dev <tunnel>"),
        (RouteGateway::Net, "10.99.0.0/16 via 192.0.2.1 dev eth0"),
        (RouteGateway::RemoteHost, "10.99.0.0/16 via 203.0.113.9"),
        (RouteGateway::Addr(v4("10.8.0.77")), "10.99.0.0/16 via 10.8.0.77 dev <tunnel>"),
        (RouteGateway::Addr(v4("192.0.2.77")), "10.99.0.0/16 via 192.0.2.77"),
    ] {
        check(&with(gateway), &around("203.0.113.9"), &["10.8.0.2/24", expected]);
    }
    let nowhere = Surroundings::default();
    check(&with(RouteGateway::Net), &nowhere, &["10.8.0.2/24", "! route 10.99.0.0/16 left out: net_gateway"]);
    check(
        &with(RouteGateway::RemoteHost),
        &around("2001:db8:9::9"),
        &["10.8.0.2/24", "! route 10.99.0.0/16 left out: remote_host"],
    );
}

#[test]
fn a_route_without_a_gateway_or_netmask_is_left_out_with_the_reason() {
    let routes = vec![route("10.99.0.0", "255.255.0.0"), route("10.98.0.0", "255.0.255.0")];
    let options = VpnOptions { routes, route_gateway: None, ..subnet() };
    let expected = [
        "10.8.0.2/24",
        "! route 10.99.0.0/16 left out: no gateway inside the tunnel is known",
        "! route 10.98.0.0 255.0.255.0 left out: the second word is no netmask",
    ];
    check(&options, &around("203.0.113.9"), &expected);
}

#[test]
fn metrics_and_tables_are_inherited_and_repeats_dropped() {
    let own = RouteOption { metric: Some(7), ..route("10.1.0.0", "255.255.0.0") };
    let own6 = RouteOption6 { metric: Some(8), ..route6("fd01::/48") };
    let options = VpnOptions {
        routes: vec![own, route("10.2.0.0", "255.255.0.0"), own],
        routes6: vec![own6, route6("fd02::/48"), own6],
        route_metric: Some(50),
        route_table: Some(100),
        ..with_v6(subnet())
    };
    let expected = [
        "10.8.0.2/24",
        "fd00::2/64",
        "10.1.0.0/16 via 10.8.0.1 dev <tunnel> metric 7 table 100",
        "10.2.0.0/16 via 10.8.0.1 dev <tunnel> metric 50 table 100",
        "fd01::/48 dev <tunnel> metric 8 table 100",
        "fd02::/48 dev <tunnel> metric 50 table 100",
    ];
    check(&options, &around("203.0.113.9"), &expected);
    let options =
        VpnOptions { routes: vec![route("10.2.0.0", "255.255.0.0")], route_metric: Some(0), ..subnet() };
    check(&options, &around("203.0.113.9"), &["10.8.0.2/24", "10.2.0.0/16 via 10.8.0.1 dev <tunnel>"]);
}

const TUN: &str = "10.8.0.2/24";
const TUN6: &str = "fd00::2/64";
const BYPASS: &str = "203.0.113.9/32 via 192.0.2.1 dev eth0";
const HALF1: &str = "0.0.0.0/1 via 10.8.0.1 dev <tunnel>";
const HALF2: &str = "128.0.0.0/1 via 10.8.0.1 dev <tunnel>";
const ALL6: [&str; 4] =
    ["::/3 dev <tunnel>", "2000::/4 dev <tunnel>", "3000::/4 dev <tunnel>", "fc00::/7 dev <tunnel>"];

fn redirect(flags: &str) -> VpnOptions {
    let has = |flag| flags.split(' ').any(|word| word == flag);
    let redirect = Redirect {
        ipv4: !has("!ipv4"),
        ipv6: has("ipv6"),
        reroute: !has("private"),
        def1: has("def1"),
        local: has("local"),
        autolocal: has("autolocal"),
    };
    VpnOptions { redirect: Some(redirect), ..with_v6(subnet()) }
}

#[test]
fn redirect_gateway_does_what_each_flag_says() {
    let four = |expected: &[&'static str]| [expected, &ALL6].concat();
    for (flags, expected) in [
        ("def1", vec![TUN, TUN6, BYPASS, HALF1, HALF2]),
        ("def1 local", vec![TUN, TUN6, HALF1, HALF2]),
        ("def1 autolocal", vec![TUN, TUN6, BYPASS, HALF1, HALF2]),
        ("def1 ipv6", four(&[TUN, TUN6, BYPASS, HALF1, HALF2])),
        ("ipv6 !ipv4", four(&[TUN, TUN6])),
        ("", vec![TUN, TUN6, "- 0.0.0.0/0 via 192.0.2.1", BYPASS, "0.0.0.0/0 via 10.8.0.1 dev <tunnel>"]),
        ("private", vec![TUN, TUN6, BYPASS]),
        ("private ipv6", vec![TUN, TUN6, BYPASS]),
    ] {
        eprintln!("redirect-gateway {flags}");
        check(&redirect(flags), &around("203.0.113.9"), &expected);
    }
}

#[test]
fn a_server_on_our_own_network_gets_an_on_link_route_or_none() {
    let near = Surroundings { to_remote: Some(gateway(None, "eth0")), ..around("192.0.2.77") };
    check(&redirect("def1"), &near, &[TUN, TUN6, "192.0.2.77/32 dev eth0", HALF1, HALF2]);
    check(&redirect("def1 autolocal"), &near, &[TUN, TUN6, HALF1, HALF2]);
    let own = Surroundings { to_remote: Some(gateway(None, "lo")), ..around("127.0.0.1") };
    check(&redirect("def1"), &own, &[TUN, TUN6, HALF1, HALF2]);
}

#[test]
fn redirecting_is_left_out_rather_than_cutting_the_host_off() {
    let lost = Surroundings { to_remote: None, ..around("203.0.113.9") };
    check(
        &redirect("def1"),
        &lost,
        &[TUN, TUN6, "! redirect-gateway left out for IPv4: there is no route to the server"],
    );
    check(&redirect("def1 local"), &lost, &[TUN, TUN6, HALF1, HALF2]);
    let blind = VpnOptions { route_gateway: None, ..redirect("def1") };
    check(
        &blind,
        &around("203.0.113.9"),
        &[TUN, TUN6, "! redirect-gateway left out for IPv4: no gateway inside"],
    );
    let v4_only = VpnOptions { ifconfig6: None, ..redirect("def1 ipv6") };
    let expected =
        [TUN, BYPASS, HALF1, HALF2, "! redirect-gateway left out for IPv6: the tunnel has no IPv6 address"];
    check(&v4_only, &around("203.0.113.9"), &expected);
}

#[test]
fn an_ipv6_server_is_kept_reachable_only_if_a_route_covers_it() {
    let bypass6 = "2001:db8:9::9/128 via 2001:db8::1 dev eth0 metric 1";
    let server = around("2001:db8:9::9");
    check(&redirect("def1"), &server, &[TUN, TUN6, HALF1, HALF2]);
    check(&redirect("!ipv4 ipv6"), &server, &[&[TUN, TUN6, bypass6][..], &ALL6].concat());
    let narrow = VpnOptions { routes6: vec![route6("2001:db8:8::/48")], ..with_v6(subnet()) };
    check(&narrow, &server, &[TUN, TUN6, "2001:db8:8::/48 dev <tunnel>"]);
    let covering = VpnOptions { routes6: vec![route6("2001:db8:9::/48")], ..with_v6(subnet()) };
    check(&covering, &server, &[TUN, TUN6, bypass6, "2001:db8:9::/48 dev <tunnel>"]);
    let lost = Surroundings { to_remote6: None, ..server };
    let expected = [TUN, TUN6, "2001:db8:9::/48 dev <tunnel>", "! a route into the tunnel covers"];
    check(&covering, &lost, &expected);
}

#[test]
fn an_onlink_gateway_makes_an_onlink_route() {
    let way = Gateway { onlink: true, ..gateway(Some("172.31.1.1"), "eth0") };
    let made = way.route("203.0.113.9/32".parse().unwrap());
    assert!(made.onlink);
    assert_eq!(made.via, Some(IpAddr::V4(v4("172.31.1.1"))));
}
