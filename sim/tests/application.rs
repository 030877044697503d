//! Hosts and protocols of one's own, behind tunnels and on the open network.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;

use oxivpn_proto::Instant;
use oxivpn_sim::host::{Pings, Progress, Transfer};
use oxivpn_sim::plan::{Built, Fault, Item, Mishap, Plan, Shape, build};
use oxivpn_sim::probe::{packet, payload};
use oxivpn_sim::trace::{Keep, MachineId};
use oxivpn_sim::world::{Inner, SiteFaults, World};
use oxivpn_sim::{Faults, Rate, storm};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn network(seed: u64, items: Vec<Item>) -> Built {
    build(&Plan::new(seed, Shape::default(), items), Keep::Hash)
}

#[test]
fn transfers_cross_a_lossy_tunnel_and_are_whole() {
    let loss = |up| Item::Line { site: 1, up, fault: Fault::Loss(Rate::percent(3)) };
    let bytes = Transfer { upload: 60_000, download: 90_000 };
    let transfer = |from, to| Item::Transfer { from, to, at: secs(1), bytes };
    let mut built = network(3, vec![loss(true), loss(false), transfer(1, 0), transfer(0, 1)]);
    assert!(built.world.run_for(secs(120)), "{:?}", built.world.violations());
    for transfer in built.world.transfers() {
        assert!(transfer.done && transfer.tries == 1, "{transfer:?}");
    }
    assert_eq!(built.world.transfers().len(), 2);
}

#[test]
fn a_transfer_is_begun_anew_after_its_connection_broke() {
    let bytes = Transfer { upload: 500_000, download: 500_000 };
    let slow = |up| Item::Line { site: 1, up, fault: Fault::Slow(500_000, 30_000) };
    let items = vec![
        slow(true),
        slow(false),
        Item::Transfer { from: 1, to: 0, at: secs(1), bytes },
        // Longer than the hosts' patience.
        Item::Event { at: secs(4), what: Mishap::Crash(1, secs(40)) },
    ];
    let shape = Shape { faulty: secs(50), ..Shape::default() };
    let outcome = storm::run(&Plan::new(5, shape, items), Keep::Hash);
    assert_eq!(outcome.violation, None);
    let transfer = outcome.built.world.transfers()[0];
    assert!(transfer.done && transfer.tries >= 2, "{transfer:?}");
}

#[test]
fn a_host_has_the_address_that_the_server_gives_and_follows_it() {
    let mut built = network(1, Vec::new());
    let (hub, client) = (built.hub, built.callers[0]);
    let world = &mut built.world;
    let inside = world.attach_host(client, 1400);
    assert!(world.inner(inside).addresses().is_empty());
    world.attach_host(hub, 1400);
    world.run_for(secs(5));
    let address = world.machine(client).address();
    let has = world.inner(inside).addresses().first().map(ipnet::IpNet::addr);
    assert!(has.is_some() && has == address, "{has:?} {address:?}");
    let plan = Pings { count: 10, interval: secs(1), size: 500 };
    let pings = world.with_inner(inside, |host, now| host.ping(now, SERVER.into(), plan));
    world.run_for(secs(12));
    let stats = *world.inner(inside).pings(pings).unwrap();
    // Two lines of 20 ms in each direction.
    assert_eq!((stats.answered, stats.longest), (10, Some(Duration::from_millis(80))));
}

#[test]
fn hosts_on_the_open_network_need_no_tunnel() {
    let run = |seed| {
        let mut world = World::new(seed, Keep::Hash);
        let faults = Faults { delay: Duration::from_millis(5), loss: Rate::percent(2), ..Faults::NONE };
        let sites = [0; 2].map(|_| world.add_site(SiteFaults::both(faults), None));
        let server = world.add_open_host(sites[0], 1500);
        let client = world.add_open_host(sites[1], 1500);
        world.run_for(secs(1));
        world.with_inner(server, |host, _| host.serve_tcp(80));
        let to = SocketAddr::new(world.site_address(sites[0]).ip(), 80);
        let plan = Transfer { upload: 50_000, download: 200_000 };
        let app = world.with_inner(client, |host, now| host.send_tcp(now, to, plan));
        assert!(world.run_for(secs(60)), "{:?}", world.violations());
        let stats = *world.inner(client).transfer(app).unwrap();
        assert_eq!((stats.progress, stats.downloaded), (Progress::Done, 200_000), "seed {seed}");
        assert!(world.lines().any(|line| line.lost > 0));
        world.digest()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// Sends what it was told to, keeps what it gets.
#[derive(Default)]
struct Post {
    address: Option<IpAddr>,
    out: VecDeque<Vec<u8>>,
    got: Vec<(Instant, Vec<u8>)>,
    complaint: Option<String>,
}

impl Inner for Post {
    fn set_address(&mut self, _: Instant, address: IpAddr) {
        self.address = Some(address);
    }

    fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        let Some((.., content)) = payload(packet) else { return };
        self.got.push((now, content.to_vec()));
    }

    fn poll_packet(&mut self, _: Instant) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        // Always: time passes nevertheless.
        (!self.out.is_empty()).then_some(now)
    }

    fn violation(&self) -> Option<String> {
        self.complaint.clone()
    }
}

#[test]
fn a_protocol_of_ones_own_sends_gets_and_complains() {
    let mut built = network(1, Vec::new());
    let (hub, client) = (built.hub, built.callers[0]);
    let world = &mut built.world;
    let (near, far) = (world.attach(client, Post::default()), world.attach(hub, Post::default()));
    world.run_for(secs(5));
    let Some(IpAddr::V4(own)) = world.inner(near).address else { panic!("no address") };
    assert_eq!(world.inner(far).address, Some(SERVER.into()));
    let sent_at = world.now();
    world.with_inner(near, |post, _| post.out.push_back(packet(own, SERVER, b"hello")));
    world.with_inner(far, |post, _| post.out.push_back(packet(SERVER, own, b"well met")));
    world.run_for(secs(1));
    let arrives = sent_at + Duration::from_millis(40);
    assert_eq!(world.inner(far).got, [(arrives, b"hello".to_vec())]);
    assert_eq!(world.inner(near).got, [(arrives, b"well met".to_vec())]);

    // Who comes second has the place.
    let second = world.attach(client, Post::default());
    world.with_inner(far, |post, _| post.out.push_back(packet(SERVER, own, b"again")));
    world.run_for(secs(1));
    assert_eq!((world.inner(near).got.len(), world.inner(second).got.len()), (1, 1));

    world.with_inner(second, |post, _| post.complaint = Some("I am not amused".into()));
    assert!(!world.run_for(secs(1)));
    let violation = &world.violations()[0];
    assert_eq!((violation.who, violation.what.as_str()), (Some(client), "I am not amused"));
}

#[test]
fn transfers_in_storm_run_and_leave_other_worlds_as_they_were() {
    let with = |seed: u64| {
        let plan = Plan::draw(seed);
        plan.items.iter().any(|item| matches!(item, Item::Transfer { .. })).then_some(plan)
    };
    let plans: Vec<_> = (0..100).filter_map(with).collect();
    assert!((15..35).contains(&plans.len()), "{}", plans.len());
    for plan in &plans[..6] {
        let outcome = storm::run(plan, Keep::Hash);
        assert_eq!(outcome.violation, None, "seed {}", plan.seed);
        let again = storm::run(plan, Keep::Hash);
        assert_eq!(outcome.digest, again.digest, "seed {}", plan.seed);
        let world = &outcome.built.world;
        assert!(world.transfers().iter().all(|transfer| transfer.done && transfer.from != transfer.to));
        assert!(world.transfers().iter().any(|t| [t.from, t.to].contains(&MachineId(0))));
    }
}
