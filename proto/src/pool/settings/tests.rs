use core::net::Ipv4Addr;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::pool::{PushEdit, expand};

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// What `server 10.8.0.0 255.255.255.0` and `server-ipv6 fd00::/112` make, with a few options pushed.
fn plan(topology: Topology) -> AddressPlan {
    let s4 = expand::server(v4("10.8.0.0"), v4("255.255.255.0"), topology, false, false).unwrap();
    let s6 = expand::server_ipv6("fd00::/112".parse().unwrap()).unwrap();
    let mut push = vec!["dhcp-option DNS 10.8.0.1".to_owned(), "route 192.168.7.0 255.255.255.0".to_owned()];
    push.extend(s6.push.into_iter().chain(s4.push));
    AddressPlan {
        topology,
        own: Some(s4.own),
        network: Some(s4.network),
        pool: s4.pool.map(|p| (p.first(), p.last())),
        own6: Some(s6.own),
        pool6: Some(s6.pool),
        push,
        ..AddressPlan::default()
    }
}

/// `server 10.8.0.0 255.255.255.248`: five clients, IPv4 only.
fn small() -> AddressPlan {
    let s4 = expand::server(v4("10.8.0.0"), v4("255.255.255.248"), Topology::Subnet, false, false).unwrap();
    AddressPlan {
        topology: Topology::Subnet,
        own: Some(s4.own),
        network: Some(s4.network),
        pool: s4.pool.map(|p| (p.first(), p.last())),
        ..AddressPlan::default()
    }
}

fn new(plan: AddressPlan) -> Addressing {
    let (addressing, notices) = Addressing::new(plan).unwrap();
    assert_eq!(notices, []);
    addressing
}

fn admit(addressing: &mut Addressing, name: &str, overrides: &ClientOverrides) -> (Granted, Lease) {
    addressing.admit(name, core::slice::from_ref(overrides)).unwrap()
}

fn nothing() -> ClientOverrides {
    ClientOverrides::default()
}

fn fixed(address: &str) -> ClientOverrides {
    let push = IfconfigPush { local: v4(address), remote_or_netmask: v4("255.255.255.0"), alias: None };
    ClientOverrides { ifconfig_push: Some(push), ..nothing() }
}

fn fixed6(address: &str) -> ClientOverrides {
    let push = Ifconfig6Push { local: address.parse().unwrap(), remote: None };
    ClientOverrides { ifconfig_ipv6_push: Some(push), ..nothing() }
}

fn edits(push: Vec<PushEdit>) -> ClientOverrides {
    ClientOverrides { push, ..nothing() }
}

fn text(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[test]
fn a_client_is_pushed_what_openvpn_pushes() {
    for (topology, last, routes) in [
        (
            Topology::Subnet,
            [
                "route-gateway 10.8.0.1",
                "topology subnet",
                "ifconfig-ipv6 fd00::2/112 fd00::1",
                "ifconfig 10.8.0.2 255.255.255.0",
            ],
            ["10.8.0.2/32", "fd00::2/128"],
        ),
        (
            Topology::Net30,
            [
                "route 10.8.0.1",
                "topology net30",
                "ifconfig-ipv6 fd00::2/112 fd00::1",
                "ifconfig 10.8.0.6 10.8.0.5",
            ],
            ["10.8.0.6/32", "fd00::2/128"],
        ),
    ] {
        let mut addressing = new(plan(topology));
        let (granted, lease) = admit(&mut addressing, "alice", &nothing());
        let mut push = text(&["dhcp-option DNS 10.8.0.1", "route 192.168.7.0 255.255.255.0", "tun-ipv6"]);
        push.extend(text(&last));
        assert_eq!(granted.settings.push, push);
        assert_eq!(text(&granted.settings.routes), routes);
        assert_eq!(granted.notices, []);
        addressing.give_back(lease);
    }
    let mut addressing = new(plan(Topology::P2p));
    let (granted, _lease) = admit(&mut addressing, "alice", &nothing());
    assert_eq!(granted.settings.push.last().unwrap(), "ifconfig 10.8.0.4 10.8.0.1");
}

#[test]
fn edits_of_the_push_list_come_in_order() {
    let mut addressing = new(plan(Topology::Subnet));
    let sources = [
        edits(vec![
            PushEdit::Add("ping 5".into()),
            PushEdit::Remove("dhcp-option".into()),
            PushEdit::Remove("route ".into()),
        ]),
        edits(vec![PushEdit::Add("route 10.1.0.0 255.255.0.0".into()), PushEdit::Add("echo a,b".into())]),
    ];
    let (granted, lease) = addressing.admit("alice", &sources).unwrap();
    assert_eq!(
        granted.settings.push,
        [
            "tun-ipv6",
            "route-gateway 10.8.0.1",
            "topology subnet",
            "ping 5",
            "route 10.1.0.0 255.255.0.0",
            "ifconfig-ipv6 fd00::2/112 fd00::1",
            "ifconfig 10.8.0.2 255.255.255.0",
        ]
    );
    assert_eq!(granted.notices, [Notice::BadPush("echo a,b".into())]);
    addressing.give_back(lease);
    // A reset clears what came before; addresses have a name of their own.
    let sources = [
        edits(vec![PushEdit::Add("ping 5".into()), PushEdit::Reset, PushEdit::Add("ping 6".into())]),
        edits(vec![PushEdit::Remove("ifconfig".into())]),
    ];
    let (granted, lease) = addressing.admit("alice", &sources).unwrap();
    assert_eq!(granted.settings.push, ["ping 6", "ifconfig-ipv6 fd00::2/112 fd00::1"]);
    assert_eq!(granted.settings.routes.len(), 2, "what isn't pushed is routed all the same");
    addressing.give_back(lease);
    let sources =
        [edits(vec![PushEdit::Reset, PushEdit::Remove("ifconfig-ipv6".into())]), fixed6("fd00::99/112")];
    let (granted, _lease) = addressing.admit("alice", &sources).unwrap();
    assert_eq!(
        granted.settings.push,
        ["ifconfig-ipv6 fd00::99/112 fd00::1", "ifconfig 10.8.0.2 255.255.255.0"]
    );
}

#[test]
fn routes_to_a_clients_own_networks_are_not_pushed_to_it() {
    let mut own = plan(Topology::Subnet);
    own.push = text(&[
        "route 192.168.7.0 255.255.255.0",
        "route 192.168.7.0 255.255.255.0 vpn_gateway",
        "route 192.168.7.1",
        "route 192.168.8.0 255.255.255.0",
        "route-ipv6 fd07::/64",
        "route-ipv6 fd07::/64 fd00::1",
        "route-ipv6 fd08::/64",
        "route-metric 5",
    ]);
    let mut addressing = new(own);
    let overrides = ClientOverrides {
        iroutes: vec!["192.168.7.9/24".parse().unwrap(), "192.168.7.1/32".parse().unwrap()],
        iroutes6: vec!["fd07::/64".parse().unwrap()],
        ..nothing()
    };
    let (granted, _lease) = admit(&mut addressing, "alice", &overrides);
    assert_eq!(
        granted.settings.push[..5],
        [
            "route 192.168.7.0 255.255.255.0 vpn_gateway",
            "route 192.168.8.0 255.255.255.0",
            "route-ipv6 fd07::/64 fd00::1",
            "route-ipv6 fd08::/64",
            "route-metric 5",
        ]
    );
    assert_eq!(
        text(&granted.settings.routes),
        ["10.8.0.2/32", "fd00::2/128", "192.168.7.0/24", "192.168.7.1/32", "fd07::/64"]
    );
    let (granted, _lease) = admit(&mut addressing, "bob", &nothing());
    assert_eq!(granted.settings.push.len(), 8 + 2);
}

#[test]
fn a_fixed_address_in_the_pool_is_not_lent_to_others() {
    let mut addressing = new(small());
    let (granted, alice) = admit(&mut addressing, "alice", &fixed("10.8.0.2"));
    assert_eq!(granted.settings.push, ["ifconfig 10.8.0.2 255.255.255.0"]);
    let leases: Vec<_> = (0..4).map(|i| admit(&mut addressing, &format!("c{i}"), &nothing()).1).collect();
    let got: Vec<_> = leases.iter().map(|l| l.v4().unwrap().local.octets()[3]).collect();
    assert_eq!(got, [3, 4, 5, 6]);
    assert_eq!(addressing.admit("c4", &[]).unwrap_err(), Refusal::Exhausted);
    // A fixed address outside of the pool needs no slot.
    let (granted, _bob) = admit(&mut addressing, "bob", &fixed("10.9.0.2"));
    let network = "10.8.0.0/29".parse().unwrap();
    assert_eq!(granted.notices, [Notice::Outside { address: v4("10.9.0.2"), network }]);
    addressing.give_back(alice);
    assert_eq!(addressing.admit("c4", &[]).unwrap().1.v4().unwrap().local, v4("10.8.0.2"));
}

#[test]
fn a_declared_address_waits_for_its_client() {
    let mut addressing = new(small());
    addressing.declare("alice", &fixed("10.8.0.2")).unwrap();
    addressing.declare("alice", &fixed("10.8.0.2")).unwrap();
    let (_, bob) = admit(&mut addressing, "bob", &nothing());
    assert_eq!(bob.v4().unwrap().local, v4("10.8.0.3"));
    let iroute = ClientOverrides { iroutes: vec!["10.1.0.9/16".parse().unwrap()], ..nothing() };
    addressing.declare("bob", &iroute).unwrap();
    let conflicts = [fixed("10.8.0.2"), fixed("10.8.0.1"), iroute]
        .map(|o| addressing.declare("carol", &o).unwrap_err().to_string());
    assert_eq!(
        conflicts,
        [
            "both 'alice' and 'carol' are given 10.8.0.2/32",
            "the fixed address 10.8.0.1 of 'carol' is the server's own",
            "both 'bob' and 'carol' are given 10.1.0.0/16",
        ]
    );
    for _ in 0..2 {
        let (_, alice) = admit(&mut addressing, "alice", &fixed("10.8.0.2"));
        addressing.give_back(alice);
        let (_, dave) = admit(&mut addressing, "dave", &nothing());
        assert_eq!(dave.v4().unwrap().local, v4("10.8.0.4"));
        addressing.give_back(dave);
    }
}

#[test]
fn the_last_to_claim_an_address_has_it() {
    let mut addressing = new(small());
    let (_, alice) = admit(&mut addressing, "alice", &fixed("10.8.0.3"));
    let (granted, bob) = admit(&mut addressing, "bob", &fixed("10.8.0.3"));
    let net = "10.8.0.3/32".parse().unwrap();
    assert_eq!(granted.notices, [Notice::TakenOver { net, from: "alice".into() }]);
    addressing.give_back(alice);
    let (granted, carol) = admit(&mut addressing, "carol", &fixed("10.8.0.3"));
    assert_eq!(granted.notices, [Notice::TakenOver { net, from: "bob".into() }]);
    addressing.give_back(carol);
    addressing.give_back(bob);
    let (granted, _alice) = admit(&mut addressing, "alice", &fixed("10.8.0.3"));
    assert_eq!(granted.notices, []);
}

#[test]
fn ipv6_comes_from_the_pool_beside_a_fixed_ipv4_address() {
    let mut addressing = new(plan(Topology::Subnet));
    // In the pool: of the same slot.
    let (granted, alice) = admit(&mut addressing, "alice", &fixed("10.8.0.50"));
    assert_eq!(text(&granted.settings.routes), ["10.8.0.50/32", "fd00::32/128"]);
    // Outside: of the slot that it would have had.
    let (granted, bob) = admit(&mut addressing, "bob", &fixed("10.9.0.50"));
    assert_eq!(text(&granted.settings.routes), ["10.9.0.50/32", "fd00::2/128"]);
    // The other way round the slot of the IPv6 address is blocked, too.
    let (granted, carol) = admit(&mut addressing, "carol", &fixed6("fd00::4/112"));
    assert_eq!(text(&granted.settings.routes), ["10.8.0.3/32", "fd00::4/128"]);
    let (granted, dave) = admit(&mut addressing, "dave", &nothing());
    assert_eq!(text(&granted.settings.routes), ["10.8.0.5/32", "fd00::5/128"]);
    // Both fixed need no slot.
    let both =
        ClientOverrides { ifconfig_ipv6_push: fixed6("fd01::5/64").ifconfig_ipv6_push, ..fixed("10.9.0.51") };
    let (granted, erin) = admit(&mut addressing, "erin", &both);
    assert_eq!(
        granted.settings.push[5..],
        ["ifconfig-ipv6 fd01::5/64 fd00::1", "ifconfig 10.9.0.51 255.255.255.0"]
    );
    let (granted, frank) = admit(&mut addressing, "frank", &nothing());
    assert_eq!(text(&granted.settings.routes), ["10.8.0.6/32", "fd00::6/128"]);
    for lease in [alice, bob, carol, dave, erin, frank] {
        addressing.give_back(lease);
    }
    assert_eq!(
        addressing.persist(),
        "bob,10.8.0.2,fd00::2\ncarol,10.8.0.3,fd00::3\ndave,10.8.0.5,fd00::5\nfrank,10.8.0.6,fd00::6\n"
    );
}

#[test]
fn a_script_may_change_what_the_file_said() {
    let mut addressing = new(small());
    let mut lease = addressing.lease("alice");
    assert_eq!(lease.v4().unwrap().local, v4("10.8.0.2"), "scripts learn it");
    let mut sources =
        vec![ClientOverrides { session_timeout: Some(Duration::from_secs(9)), ..fixed("10.8.0.4") }];
    let granted = addressing.settings(&mut lease, &sources).unwrap();
    assert_eq!(lease.v4().unwrap().local, v4("10.8.0.4"));
    assert_eq!(granted.settings.session_timeout, Some(Duration::from_secs(9)));
    sources.push(ClientOverrides {
        session_timeout: Some(Duration::ZERO),
        inactive: Some((Duration::from_secs(5), 100)),
        ..fixed("10.8.0.5")
    });
    let granted = addressing.settings(&mut lease, &sources).unwrap();
    assert_eq!(text(&granted.settings.routes), ["10.8.0.5/32"]);
    assert_eq!(
        (granted.settings.session_timeout, granted.settings.inactive),
        (None, Some((Duration::from_secs(5), 100)))
    );
    assert_eq!(granted.notices, []);
    // Everything it had in between is free.
    for (name, last) in [("b", 2), ("c", 3), ("d", 4), ("e", 6)] {
        assert_eq!(admit(&mut addressing, name, &nothing()).1.v4().unwrap().local.octets()[3], last);
    }
    sources.push(ClientOverrides { disable: true, ..nothing() });
    assert_eq!(addressing.settings(&mut lease, &sources), Err(Refusal::Disabled));
    addressing.give_back(lease);
    assert_eq!(admit(&mut addressing, "f", &nothing()).1.v4().unwrap().local, v4("10.8.0.5"));
}

#[test]
fn a_new_session_of_a_name_has_the_address_of_the_old_one() {
    let mut addressing = new(small());
    let (_, old) = admit(&mut addressing, "alice", &nothing());
    let (granted, new_lease) = admit(&mut addressing, "alice", &nothing());
    assert_eq!(new_lease.v4(), old.v4());
    assert_eq!(granted.notices, []);
    addressing.give_back(old);
    let (_, bob) = admit(&mut addressing, "bob", &nothing());
    assert_ne!(bob.v4(), new_lease.v4());
    addressing.give_back(new_lease);
    assert_eq!(addressing.persist(), "alice,10.8.0.2,\nbob,10.8.0.3,\n");
    // Twice at one time, with duplicate-cn or without a name.
    for (name, duplicate_cn) in [("alice", true), ("", false)] {
        let mut addressing = new(AddressPlan { duplicate_cn, ..small() });
        let (a, b) = (admit(&mut addressing, name, &nothing()).1, admit(&mut addressing, name, &nothing()).1);
        assert_ne!(a.v4(), b.v4());
        assert_eq!(addressing.persist(), "");
        let (_, _first) = admit(&mut addressing, name, &fixed("10.8.0.6"));
        let (granted, _second) = admit(&mut addressing, name, &fixed("10.8.0.6"));
        assert_eq!(granted.notices.len(), usize::from(duplicate_cn));
    }
}

#[test]
fn a_session_that_is_refused_leaves_the_old_one_what_it_has() {
    let mut addressing = new(small());
    let routes = ClientOverrides { iroutes: vec!["10.9.0.0/24".parse().unwrap()], ..nothing() };
    let (_, old) = admit(&mut addressing, "alice", &routes);
    let mut refused = addressing.lease("alice");
    addressing.preview(&mut refused, core::slice::from_ref(&routes));
    assert_eq!(refused.v4(), old.v4());
    let disabled = ClientOverrides { disable: true, ..nothing() };
    assert_eq!(addressing.settings(&mut refused, &[routes, disabled]), Err(Refusal::Disabled));
    addressing.give_back(refused);
    assert_eq!(addressing.owners.len(), 2);
    // Five slots, and nobody else gets the one.
    let others: Vec<_> = (0..4).map(|i| admit(&mut addressing, &format!("z{i}"), &nothing()).1).collect();
    assert!(others.iter().all(|other| other.v4() != old.v4()));
    let (_, next) = admit(&mut addressing, "alice", &nothing());
    assert_eq!(next.v4(), old.v4());
    for lease in others.into_iter().chain([old, next]) {
        addressing.give_back(lease);
    }
    assert!(addressing.owners.is_empty() && addressing.live.is_empty());
}

#[test]
fn bad_addresses_of_a_client_are_refused() {
    let mut addressing = new(plan(Topology::Subnet));
    for (overrides, text) in [
        (
            fixed("10.8.0.1"),
            "the fixed address 10.8.0.1 of this client is the server's own; give it another one",
        ),
        (fixed("0.0.0.0"), "the fixed address 0.0.0.0 of this client is not the address of a host"),
        (fixed("239.1.1.1"), "the fixed address 239.1.1.1 of this client is not the address of a host"),
        (
            fixed6("fd00::1/112"),
            "the fixed address fd00::1 of this client is the server's own; give it another one",
        ),
        (fixed6("ff02::1/112"), "the fixed address ff02::1 of this client is not the address of a host"),
        (
            ClientOverrides { disable: true, ..nothing() },
            "client has been rejected due to 'disable' directive",
        ),
    ] {
        assert_eq!(addressing.admit("alice", &[overrides]).unwrap_err().to_string(), text);
    }
    assert_eq!(addressing.admit("alice", &[]).unwrap().1.v4().unwrap().local, v4("10.8.0.2"));
    let mut v4_only = new(small());
    assert!(matches!(v4_only.admit("alice", &[fixed6("fd00::1/64")]), Err(Refusal::NoRemote6(_))));
}

#[test]
fn routes_are_bounded_and_sane() {
    let mut addressing = new(AddressPlan { max_routes_per_client: 3, ..small() });
    let nets = ["0.0.0.0/8", "255.255.255.255/32", "0.0.0.0/0", "10.1.0.0/16", "10.1.0.0/16", "10.2.0.0/16"];
    let overrides = ClientOverrides { iroutes: nets.map(|n| n.parse().unwrap()).to_vec(), ..nothing() };
    let (granted, _lease) = admit(&mut addressing, "alice", &overrides);
    assert_eq!(text(&granted.settings.routes), ["10.8.0.2/32", "0.0.0.0/0", "10.1.0.0/16"]);
    assert_eq!(
        granted.notices,
        [
            Notice::NotLearnable("0.0.0.0/8".parse().unwrap()),
            Notice::NotLearnable("255.255.255.255/32".parse().unwrap()),
            Notice::TooManyRoutes { most: 3 },
        ]
    );
}

#[test]
fn a_server_without_a_pool_serves_fixed_addresses() {
    let mut addressing = new(AddressPlan { pool: None, ..small() });
    let (granted, _alice) = admit(&mut addressing, "alice", &fixed("10.8.0.2"));
    assert_eq!(granted.settings.push, ["ifconfig 10.8.0.2 255.255.255.0"]);
    let (granted, _bob) = admit(&mut addressing, "bob", &nothing());
    assert_eq!((granted.settings, granted.notices), (ClientSettings::default(), vec![Notice::NoV4]));
}

#[test]
fn the_pools_file_brings_addresses_back() {
    let mut addressing = new(plan(Topology::Net30));
    let file = "alice,10.8.0.8,\nbob,,fd00::4\ncarol,10.8.0.20,fd00::9\ndave,10.9.0.4,fd00::5\n";
    assert_eq!(
        text(&addressing.restore(file, false)),
        [
            "line 3: 10.8.0.20 and fd00::9 of 'carol' have different places in their pools; the IPv4 address counts",
            "line 4: 10.9.0.4 of 'dave' is outside of the address pool; the client gets another address",
        ]
    );
    let lines =
        "alice,10.8.0.8,fd00::3\nbob,10.8.0.12,fd00::4\ndave,10.8.0.16,fd00::5\ncarol,10.8.0.20,fd00::6\n";
    assert_eq!(addressing.persist(), lines);
    assert_eq!(admit(&mut addressing, "alice", &nothing()).1.v4().unwrap().local, v4("10.8.0.10"));
    assert_eq!(admit(&mut addressing, "erin", &nothing()).1.v4().unwrap().local, v4("10.8.0.6"));
    let mut again = new(plan(Topology::Net30));
    assert_eq!(again.restore(lines, false), []);
    assert_eq!(again.persist(), lines);
}

#[test]
fn bad_plans_are_explained() {
    let subnet = plan(Topology::Subnet);
    for (plan, text) in [
        (
            AddressPlan { own: Some(v4("10.8.0.7")), ..subnet.clone() },
            "the server's own address 10.8.0.7 lies in its address pool 10.8.0.2 to 10.8.0.254; shorten the pool",
        ),
        (
            // Not in the range as written, but in the /30 that it begins with.
            AddressPlan { pool: Some((v4("10.8.0.2"), v4("10.8.0.99"))), ..plan(Topology::Net30) },
            "the server's own address 10.8.0.1 lies in its address pool 10.8.0.2 to 10.8.0.99; shorten the pool",
        ),
        (
            AddressPlan { own6: Some("fd00::9/112".parse().unwrap()), ..subnet.clone() },
            "the server's own address fd00::9 lies in its IPv6 address pool, which begins at fd00::2; let it begin later",
        ),
        (
            AddressPlan { pool: Some((v4("10.8.0.9"), v4("10.8.0.9"))), ..subnet.clone() },
            "the address pool 10.8.0.9 to 10.8.0.9 is too small: it has room for 1 clients, and 2 is the least",
        ),
        (
            AddressPlan { network: None, ..subnet.clone() },
            "the address pool has no netmask for its clients: add it to ifconfig-pool, or add an ifconfig",
        ),
        (
            AddressPlan { own: None, ..plan(Topology::P2p) },
            "the address pool has no far end for its clients with topology p2p: add an ifconfig",
        ),
        (
            AddressPlan { own6: None, ..subnet.clone() },
            "the IPv6 address pool needs an address of the server: add an ifconfig-ipv6",
        ),
        (
            AddressPlan { push: vec!["a,b".into()], ..small() },
            "the option 'a,b' can't be pushed: it has a comma or a control character",
        ),
    ] {
        assert_eq!(Addressing::new(plan).unwrap_err().to_string(), text);
    }
    let odd = AddressPlan {
        pool: Some((v4("10.8.0.2"), v4("10.8.0.255"))),
        pool6: Some("fd00::2/124".parse().unwrap()),
        ..subnet
    };
    assert_eq!(
        text(&Addressing::new(odd).unwrap().1),
        [
            "the address pool 10.8.0.2 to 10.8.0.255 is not wholly of host addresses in 10.8.0.0/24",
            "the IPv6 address pool (14) is smaller than the IPv4 address pool (254) and limits the number of clients",
        ]
    );
}

proptest! {
    /// Whoever comes and goes: nobody loses an address without a word, and all of them come back.
    #[test]
    fn no_address_is_given_twice_or_lost(
        duplicate_cn: bool,
        steps in prop::collection::vec((0..4u8, 0..6usize, 0..9u8), 1..60),
    ) {
        let mut addressing = new(AddressPlan { duplicate_cn, ..small() });
        let mut leases: Vec<Lease> = Vec::new();
        for (kind, which, name) in steps {
            if kind == 0 && !leases.is_empty() {
                let lease = leases.swap_remove(which % leases.len());
                addressing.give_back(lease);
                continue;
            }
            let name = format!("c{name}");
            let overrides = match kind {
                1 => fixed(&format!("10.8.0.{}", which + 2)),
                _ => nothing(),
            };
            match addressing.admit(&name, &[overrides]) {
                Ok((granted, lease)) => {
                    let told = granted.notices.iter().any(|n| matches!(n, Notice::TakenOver { .. }));
                    prop_assert!(kind == 1 || !told, "the pool takes nobody's address");
                    prop_assert_eq!(lease.nets().len(), 1);
                    prop_assert_eq!(addressing.owners[&lease.nets()[0]].0, lease.id);
                    leases.push(lease);
                }
                Err(refusal) => {
                    prop_assert_eq!(refusal, Refusal::Exhausted);
                    prop_assert!(leases.len() >= 5);
                }
            }
        }
        for lease in leases {
            addressing.give_back(lease);
        }
        prop_assert!(addressing.owners.is_empty() && addressing.live.is_empty());
        let mut all: Vec<_> = (0..5).map(|i| admit(&mut addressing, &format!("z{i}"), &nothing()).1).collect();
        all.sort_by_key(|lease| lease.v4().map(|v| v.local));
        all.dedup_by_key(|lease| lease.v4().map(|v| v.local));
        prop_assert_eq!(all.len(), 5);
    }
}
