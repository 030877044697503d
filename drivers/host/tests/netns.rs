//! Apply, undo and recover against the kernel, each test in a network namespace of its own.
//!
//! A test unshares the namespace of a thread made for it, so the namespace vanishes with the thread however the test
//! ends. Without root, or `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, the tests say on stderr that they are skipped.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::{env, fs, thread};

use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use oxivpn_host::plan::{
    Ifconfig, Ifconfig6, Redirect, RouteGateway, RouteOption, RouteOption6, Surroundings, Topology,
    VpnOptions, build,
};
use oxivpn_host::{Address, Dev, Host, IpVersion, Plan, Removal, Route, recover};
use serde_json::Value;

/// Runs `test` in a new network namespace with an "outer" network: `eth0` 192.0.2.2/24 and 2001:db8::2/64, default
/// routes by .1 and ::1, and a tun device `tun0`.
fn in_namespace(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let body = || {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                // Past the test harness, which would swallow the line of a test that passes.
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIPPED: cannot make a network namespace: {error}; run this test as root"
                );
                return;
            }
            for line in [
                "link set lo up",
                "link add eth0 type veth peer name eth1",
                "link set eth1 up",
                "link set eth0 up",
                "address add 192.0.2.2/24 dev eth0",
                "address add 2001:db8::2/64 dev eth0 nodad",
                "route add default via 192.0.2.1 metric 100",
                "-6 route add default via 2001:db8::1",
                "tuntap add dev tun0 mode tun",
            ] {
                ip(line);
            }
            test();
        };
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip_json(arguments: &str) -> Vec<Value> {
    let text = ip(&format!("-j {arguments}"));
    if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).unwrap() }
}

/// Interfaces, addresses and routes, without what the kernel makes by itself over time (link-local IPv6, multicast).
fn snapshot() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for link in ip_json("address show") {
        let name = link["ifname"].as_str().unwrap();
        let up = link["flags"].as_array().unwrap().iter().any(|flag| flag == "UP");
        lines.insert(format!("link {name} up={up} mtu={} txqueuelen={}", link["mtu"], link["txqlen"]));
        for address in
            link["addr_info"].as_array().unwrap().iter().filter(|address| address["scope"] != "link")
        {
            let [local, peer, prefix, broadcast] =
                ["local", "address", "prefixlen", "broadcast"].map(|key| &address[key]);
            lines.insert(format!("address {name} {local} peer {peer} /{prefix} broadcast {broadcast}"));
        }
    }
    for family in ["-4", "-6"] {
        for mut route in ip_json(&format!("{family} route show table all")) {
            let dest = route["dst"].as_str().unwrap().to_owned();
            // The kernel adds the local route of an IPv6 address in its own time.
            let late = family == "-6" && route["table"] == "local";
            if !late && !dest.starts_with("fe80:") && !dest.starts_with("ff00:") && dest != "multicast" {
                route
                    .as_object_mut()
                    .unwrap()
                    .retain(|key, value| key != "flags" || value.to_string().contains("onlink"));
                lines.insert(format!("route {family} {route}"));
            }
        }
    }
    lines
}

fn has(snapshot: &BTreeSet<String>, parts: &[&str]) -> bool {
    snapshot.iter().any(|line| parts.iter().all(|part| line.contains(part)))
}

#[track_caller]
fn assert_same(before: &BTreeSet<String>, after: &BTreeSet<String>) {
    let gone: Vec<_> = before.difference(after).collect();
    let new: Vec<_> = after.difference(before).collect();
    assert!(gone.is_empty() && new.is_empty(), "gone: {gone:#?}\nnew: {new:#?}");
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn journals(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// What a server with topology subnet, IPv6 and two routes leads to.
fn plan() -> Plan {
    Plan {
        interface: "tun0".to_owned(),
        mtu: Some(1400),
        txqueuelen: Some(777),
        addresses: vec![
            Address { ip: addr("10.8.0.2"), prefix: 24, peer: None },
            Address { ip: addr("fd00::2"), prefix: 64, peer: None },
        ],
        removals: Vec::new(),
        routes: vec![
            Route {
                metric: Some(50),
                dev: Dev::Tunnel,
                ..Route::by_gateway(net("10.99.0.0/16"), addr("10.8.0.1"))
            },
            Route::through_tunnel(net("fd99::/48")),
            Route { table: Some(1_000), ..Route::through_tunnel(net("10.98.0.0/16")) },
        ],
    }
}

#[test]
fn a_plan_is_applied_once_and_undone_without_trace() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let before = snapshot();
        let mut host = Host::new(Some(dir.path())).unwrap();
        assert_eq!(journals(dir.path()), 0, "nothing is written before the first change");
        let applied = host.apply(&plan()).unwrap();
        assert!(applied.failed.is_empty() && applied.foreign.is_empty(), "{applied:?}");
        assert_eq!(applied.changes.len(), 3 + 2 + 3, "{applied:?}");
        let during = snapshot();
        for parts in [
            &["link tun0 up=true mtu=1400 txqueuelen=777"][..],
            &["address tun0", "10.8.0.2", "/24", "broadcast \"10.8.0.255\""],
            &["address tun0", "fd00::2", "/64"],
            &["route -4", "10.99.0.0/16", "\"gateway\":\"10.8.0.1\"", "\"metric\":50"],
            &["route -6", "fd99::/48", "tun0"],
            &["route -4", "10.98.0.0/16", "\"table\":\"1000\""],
        ] {
            assert!(has(&during, parts), "{parts:?} not in {during:#?}");
        }
        let again = host.apply(&plan()).unwrap();
        assert!(again.changes.is_empty() && again.failed.is_empty() && again.foreign.is_empty(), "{again:?}");
        assert_eq!(again.unchanged, 8);
        assert_same(&during, &snapshot());
        assert_eq!(journals(dir.path()), 1);

        let undone = host.undo();
        assert!(undone.failed.is_empty(), "{undone:?}");
        assert_eq!(undone.changes.len(), 8);
        assert_same(&before, &snapshot());
        assert_eq!(journals(dir.path()), 0);
        assert!(host.undo().changes.is_empty());
    });
}

#[test]
fn another_plan_changes_only_the_difference() {
    in_namespace(|| {
        let before = snapshot();
        let mut host = Host::new(None).unwrap();
        host.apply(&plan()).unwrap();
        let mut other = plan();
        other.addresses[0].ip = addr("10.8.0.3");
        other.routes.pop();
        other.routes.push(Route::through_tunnel(net("10.97.0.0/16")));
        let applied = host.apply(&other).unwrap();
        assert_eq!(
            applied.changes,
            [
                "remove route 10.98.0.0/16 dev tun0 table 1000",
                "remove address 10.8.0.2/24 from tun0",
                "add address 10.8.0.3/24 to tun0",
                // Its gateway was on the network of the old address, so the kernel dropped it along.
                "add route 10.99.0.0/16 via 10.8.0.1 dev tun0 metric 50",
                "add route 10.97.0.0/16 dev tun0",
            ]
        );
        assert_eq!(applied.unchanged, 3 + 1 + 1);
        drop(host);
        assert_same(&before, &snapshot());
    });
}

#[test]
fn settings_changed_twice_go_back_to_what_was_before_the_first() {
    in_namespace(|| {
        let before = snapshot();
        let mut host = Host::new(None).unwrap();
        host.apply(&plan()).unwrap();
        let other = Plan { mtu: Some(1300), txqueuelen: Some(50), ..plan() };
        assert!(host.apply(&other).unwrap().failed.is_empty());
        assert!(has(&snapshot(), &["link tun0 up=true mtu=1300 txqueuelen=50"]));
        let untouched = Plan { mtu: None, txqueuelen: None, ..plan() };
        host.apply(&untouched).unwrap();
        assert!(has(&snapshot(), &["link tun0 up=true mtu=1500 txqueuelen=500"]));
        host.apply(&other).unwrap();
        drop(host);
        assert_same(&before, &snapshot());
    });
}

#[test]
fn what_others_undid_is_made_again() {
    in_namespace(|| {
        let mut host = Host::new(None).unwrap();
        host.apply(&plan()).unwrap();
        let during = snapshot();
        ip("route del 10.99.0.0/16");
        ip("link set tun0 mtu 1300");
        let applied = host.apply(&plan()).unwrap();
        assert_eq!(applied.changes.len(), 2, "{applied:?}");
        assert_same(&during, &snapshot());
    });
}

#[test]
fn what_others_made_counts_as_success_and_stays() {
    in_namespace(|| {
        ip("link set tun0 up");
        ip("address add 10.8.0.2/24 brd + dev tun0");
        ip("route add 10.99.0.0/16 via 10.8.0.1 dev tun0 metric 50");
        ip("-6 route add fd99::/48 dev tun0");
        let before = snapshot();
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::new(Some(dir.path())).unwrap();
        let applied = host.apply(&plan()).unwrap();
        assert!(applied.failed.is_empty(), "{applied:?}");
        assert_eq!(applied.foreign.len(), 4, "{applied:?}");
        let undone = host.undo();
        assert!(undone.failed.is_empty(), "{undone:?}");
        assert_same(&before, &snapshot());
    });
}

#[test]
fn a_refused_route_is_reported_and_the_rest_holds() {
    in_namespace(|| {
        let mut plan = plan();
        plan.routes.insert(0, Route::by_gateway(net("10.50.0.0/16"), addr("203.0.113.1")));
        plan.routes.insert(
            1,
            Route { dev: Dev::ByName("nosuchdev".to_owned()), ..Route::through_tunnel(net("10.51.0.0/16")) },
        );
        let mut host = Host::new(None).unwrap();
        let applied = host.apply(&plan).unwrap();
        let texts: Vec<String> = applied.failed.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].contains("nosuchdev") && texts[0].contains("10.51.0.0/16"), "{texts:?}");
        assert!(texts[1].contains("add route 10.50.0.0/16 via 203.0.113.1"), "{texts:?}");
        assert!(
            texts[1].contains("Nexthop has invalid gateway") && texts[1].contains("check the gateway"),
            "{texts:?}"
        );
        assert!(has(&snapshot(), &["route -4", "10.99.0.0/16"]));
    });
}

#[test]
fn a_missing_interface_and_a_bad_mtu_are_named() {
    in_namespace(|| {
        let mut host = Host::new(None).unwrap();
        let error = host.apply(&Plan { interface: "tun7".to_owned(), ..Plan::default() }).unwrap_err();
        assert!(error.to_string().contains("there is no interface tun7"), "{error}");
        let plan = Plan { interface: "tun0".to_owned(), mtu: Some(10), ..Plan::default() };
        let error = host.apply(&plan).unwrap_err().to_string();
        assert!(error.contains("set mtu of tun0 to 10"), "{error}");
    });
}

#[test]
fn the_way_out_is_found_with_and_without_a_tunnel() {
    in_namespace(|| {
        ip("route add 198.51.100.0/24 via 192.0.2.9");
        let mut host = Host::new(None).unwrap();
        let default = host.default_gateway(IpVersion::V4).unwrap().unwrap();
        assert_eq!((default.via, default.name.as_str()), (Some(addr("192.0.2.1")), "eth0"));
        let default6 = host.default_gateway(IpVersion::V6).unwrap().unwrap();
        assert_eq!((default6.via, default6.name.as_str()), (Some(addr("2001:db8::1")), "eth0"));
        for (dest, via, name) in [
            ("203.0.113.9", Some("192.0.2.1"), "eth0"),
            ("198.51.100.7", Some("192.0.2.9"), "eth0"),
            ("192.0.2.77", None, "eth0"),
            ("2001:db8::77", None, "eth0"),
            ("2001:db8:1::1", Some("2001:db8::1"), "eth0"),
            ("127.0.0.1", None, "lo"),
        ] {
            let way = host.gateway_to(addr(dest)).unwrap().unwrap();
            assert_eq!((way.via, way.name.as_str()), (via.map(addr), name), "{dest}");
        }
        let mut plan = plan();
        plan.removals.push(Removal { dest: net("0.0.0.0/0"), via: Some(addr("192.0.2.1")) });
        plan.routes.push(Route { dev: Dev::Tunnel, ..Route::by_gateway(net("0.0.0.0/0"), addr("10.8.0.1")) });
        host.apply(&plan).unwrap();
        assert!(!ip("route show default").contains("192.0.2.1"));
        assert_eq!(host.default_gateway(IpVersion::V4).unwrap(), Some(default.clone()));
        assert_eq!(host.gateway_to(addr("203.0.113.9")).unwrap(), Some(default));
        drop(host);
        ip("route del default");
        let mut host = Host::new(None).unwrap();
        assert_eq!(host.default_gateway(IpVersion::V4).unwrap(), None);
        assert_eq!(host.gateway_to(addr("203.0.113.9")).unwrap(), None);
    });
}

#[test]
fn an_onlink_gateway_stays_onlink() {
    in_namespace(|| {
        ip("route del default");
        ip("route add default via 172.16.0.1 dev eth0 onlink");
        let before = snapshot();
        let mut host = Host::new(None).unwrap();
        let way = host.gateway_to(addr("203.0.113.9")).unwrap().unwrap();
        assert!(way.onlink);
        let plan = Plan { routes: vec![way.route(net("203.0.113.9/32"))], ..plan() };
        let applied = host.apply(&plan).unwrap();
        assert!(applied.failed.is_empty(), "{applied:?}");
        assert!(has(&snapshot(), &["203.0.113.9", "172.16.0.1", "onlink"]));
        drop(host);
        assert_same(&before, &snapshot());
    });
}

/// The plan of a client whose server pushes about everything.
fn redirecting(def1: bool, host: &mut Host) -> Plan {
    let remote = addr("203.0.113.9");
    let around = Surroundings {
        remote: Some(remote),
        to_remote: host.gateway_to(remote).unwrap(),
        default: host.default_gateway(IpVersion::V4).unwrap(),
        ..Surroundings::default()
    };
    let options = VpnOptions {
        interface: "tun0".to_owned(),
        ifconfig: Some(Ifconfig { local: [10, 8, 0, 6].into(), remote_or_mask: [10, 8, 0, 5].into() }),
        ifconfig6: Some(Ifconfig6 { local: "fd00::6".parse().unwrap(), prefix: 64, remote: None }),
        topology: Topology::Net30,
        mtu: Some(1500),
        redirect: Some(Redirect { ipv6: true, def1, ..Redirect::gateway() }),
        routes: vec![RouteOption {
            network: [172, 20, 0, 0].into(),
            netmask: [255, 255, 0, 0].into(),
            gateway: RouteGateway::Net,
            metric: None,
        }],
        routes6: vec![RouteOption6 { network: "fd77::/48".parse().unwrap(), gateway: None, metric: Some(9) }],
        ..VpnOptions::default()
    };
    let built = build(&options, &around).unwrap();
    assert!(built.warnings.is_empty(), "{built:?}");
    built.plan
}

#[test]
fn redirect_gateway_takes_all_traffic_but_the_tunnels_own_and_gives_it_back() {
    in_namespace(|| {
        for def1 in [true, false] {
            let before = snapshot();
            let mut host = Host::new(None).unwrap();
            let plan = redirecting(def1, &mut host);
            let applied = host.apply(&plan).unwrap();
            assert!(applied.failed.is_empty(), "{applied:?}");
            for (dest, dev) in
                [("8.8.8.8", "tun0"), ("203.0.113.9", "eth0"), ("172.20.1.1", "eth0"), ("10.8.0.5", "tun0")]
            {
                let way = ip_json(&format!("route get {dest}"));
                assert_eq!(way[0]["dev"], dev, "{dest} with def1 {def1}");
            }
            let way = ip_json("-6 route get 2606:4700::1111");
            assert_eq!(way[0]["dev"], "tun0");
            // A reconnect sees the same outer network, and so makes the same plan, and nothing changes.
            let again = redirecting(def1, &mut host);
            assert_eq!(plan, again);
            assert!(host.apply(&again).unwrap().changes.is_empty());
            assert!(host.undo().failed.is_empty());
            assert_same(&before, &snapshot());
        }
    });
}

const CRASH: &str = "OXIVPN_TEST_CRASH_JOURNAL";

/// The parent runs this very test in a child process, which applies a plan and aborts; then the parent recovers.
#[test]
fn a_crash_is_undone_at_the_next_start() {
    if let Some(argument) = env::var_os(CRASH) {
        let argument = argument.into_string().unwrap();
        let (def1, dir) = argument.split_once(' ').unwrap();
        let mut host = Host::new(Some(Path::new(dir))).unwrap();
        let plan = redirecting(def1 == "def1", &mut host);
        let applied = host.apply(&plan).unwrap();
        assert!(applied.failed.is_empty(), "{applied:?}");
        std::process::abort();
    }
    in_namespace(|| {
        for (def1, tunnel_vanishes) in
            [("def1", false), ("def1", true), ("replace", false), ("replace", true)]
        {
            let dir = tempfile::tempdir().unwrap();
            let before = snapshot();
            let output = Command::new(env::current_exe().unwrap())
                .args(["--exact", "a_crash_is_undone_at_the_next_start", "--nocapture"])
                .env(CRASH, format!("{def1} {}", dir.path().display()))
                .output()
                .unwrap();
            assert_eq!(journals(dir.path()), 1, "{output:?}");
            let crashed = snapshot();
            assert!(has(&crashed, &["route -4", "203.0.113.9", "192.0.2.1"]), "{crashed:#?}");
            if tunnel_vanishes {
                ip("link del tun0");
                assert!(
                    has(&snapshot(), &["route -4", "203.0.113.9", "192.0.2.1"]),
                    "this route outlives the tunnel"
                );
                let without_default = !ip("route show default").contains("192.0.2.1");
                assert_eq!(without_default, def1 == "replace");
            }
            // In another namespace the journal means nothing and is left alone.
            in_namespace(|| assert!(recover(dir.path()).unwrap().is_empty()));
            assert_eq!(journals(dir.path()), 1);

            let recovered = recover(dir.path()).unwrap();
            assert_eq!(recovered.len(), 1);
            assert!(recovered[0].undone.failed.is_empty(), "{recovered:?}");
            assert!(
                recovered[0]
                    .undone
                    .changes
                    .contains(&"remove route 203.0.113.9/32 via 192.0.2.1 dev eth0".to_owned())
            );
            if tunnel_vanishes {
                ip("tuntap add dev tun0 mode tun");
            }
            assert_same(&before, &snapshot());
            assert_eq!(journals(dir.path()), 0);
            assert!(recover(dir.path()).unwrap().is_empty());
        }
    });
}

/// The test runs itself again without the privilege.
#[test]
fn a_missing_privilege_is_named_with_the_cure() {
    const CHILD: &str = "OXIVPN_TEST_UNPRIVILEGED";
    if env::var_os(CHILD).is_some() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::new(Some(dir.path())).unwrap();
        assert!(host.default_gateway(IpVersion::V4).unwrap().is_some(), "looking is free");
        let error = host.apply(&plan()).unwrap_err();
        assert!(
            error.is_permission() && error.to_string().contains("needs root or CAP_NET_ADMIN"),
            "{error}"
        );
        assert_eq!(journals(dir.path()), 0, "nothing was changed");
        return;
    }
    in_namespace(|| {
        let before = snapshot();
        let output = Command::new("setpriv")
            .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "a_missing_privilege_is_named_with_the_cure", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
        assert_same(&before, &snapshot());
    });
}

#[test]
fn the_journal_of_a_living_process_is_left_alone() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::new(Some(dir.path())).unwrap();
        host.apply(&plan()).unwrap();
        let during = snapshot();
        assert!(recover(dir.path()).unwrap().is_empty());
        assert_same(&during, &snapshot());
        assert_eq!(journals(dir.path()), 1);
    });
}

#[test]
fn a_vanished_tunnel_is_no_error_on_undo() {
    in_namespace(|| {
        let mut host = Host::new(None).unwrap();
        let plan = redirecting(true, &mut host);
        host.apply(&plan).unwrap();
        ip("link del tun0");
        let undone = host.undo();
        assert!(undone.failed.is_empty(), "{undone:?}");
        assert_eq!(
            undone.changes,
            [
                "remove route 172.20.0.0/16 via 192.0.2.1 dev eth0",
                "remove route 203.0.113.9/32 via 192.0.2.1 dev eth0"
            ]
        );
    });
}

#[test]
fn thousands_of_routes_are_applied_and_undone() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let before = snapshot();
        let mut plan = plan();
        plan.routes.extend((0..3_000u32).map(|n| {
            let network = ipnet::Ipv4Net::new((0x0b00_0000 | n << 8).into(), 24).unwrap();
            Route::through_tunnel(network)
        }));
        let mut host = Host::new(Some(dir.path())).unwrap();
        let started = std::time::Instant::now();
        assert!(host.apply(&plan).unwrap().failed.is_empty());
        let applied = started.elapsed();
        assert_eq!(host.apply(&plan).unwrap().unchanged, 8 + 3_000);
        assert!(host.undo().failed.is_empty());
        eprintln!(
            "3,000 routes: applied in {applied:?}, applied, checked and undone in {:?}",
            started.elapsed()
        );
        assert_same(&before, &snapshot());
    });
}
