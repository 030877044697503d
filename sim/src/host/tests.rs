use core::net::IpAddr;

use super::*;
use crate::Rate;

const B: [u8; 4] = [10, 0, 0, 2];

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at_b(port: u16) -> SocketAddr {
    SocketAddr::from((B, port))
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// What is done to a packet on its way, with its number.
type Spoil = fn(u64, &mut Vec<u8>);

/// Two hosts and what is between them.
struct Pair {
    now: Instant,
    hosts: [Host; 2],
    delay: Duration,
    loss: Rate,
    duplication: Rate,
    spoil: Spoil,
    /// In flight: when and the how manyth, to whom, what.
    queue: Vec<(Instant, u64, usize, Vec<u8>)>,
    seeds: SeedTree,
    carried: u64,
    digest: xxhash_rust::xxh3::Xxh3,
}

impl Pair {
    fn new(seed: u64, delay: Duration) -> Self {
        let seeds = SeedTree::new(seed);
        let host = |index, addresses: [&str; 2]| {
            let seeds = seeds.branch(crate::Branch::Host, index);
            Host::new(&addresses.map(net), 1400, &seeds)
        };
        Self {
            now: Instant::ZERO,
            hosts: [host(0, ["10.0.0.1/24", "fd00::1/64"]), host(1, ["10.0.0.2/24", "fd00::2/64"])],
            delay,
            loss: Rate::NEVER,
            duplication: Rate::NEVER,
            spoil: |_, _| {},
            queue: Vec::new(),
            seeds,
            carried: 0,
            digest: xxhash_rust::xxh3::Xxh3::new(),
        }
    }

    fn drain(&mut self) {
        for from in 0..2 {
            while let Some(mut packet) = self.hosts[from].poll_packet(self.now) {
                self.digest.update(&self.now.as_nanos().to_le_bytes());
                self.digest.update(&packet);
                self.carried += 1;
                let mut draws = self.seeds.draws(Purpose::Loss, 0, self.carried);
                if draws.hit(self.loss) {
                    continue;
                }
                (self.spoil)(self.carried, &mut packet);
                let copies = 1 + usize::from(draws.hit(self.duplication));
                for copy in 0..copies {
                    let at = self.now + self.delay + millis(2 * copy as u64);
                    self.queue.push((at, self.carried, 1 - from, packet.clone()));
                }
            }
            assert!(self.hosts[from].deadline(self.now).is_none_or(|at| at > self.now), "not drained");
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            let first = (0..self.queue.len()).min_by_key(|&at| (self.queue[at].0, self.queue[at].1));
            let arrival = first.map(|at| self.queue[at].0);
            let deadlines = self.hosts.iter().filter_map(|host| host.deadline(self.now));
            let Some(next) = deadlines.chain(arrival).min().filter(|&next| next <= end) else { break };
            self.now = next;
            if let Some(at) = first.filter(|_| arrival == Some(next)) {
                let (_, _, to, packet) = self.queue.remove(at);
                self.hosts[to].handle_packet(next, &packet);
            }
        }
        self.now = end;
    }
}

#[test]
fn round_trips_are_exact() {
    let mut pair = Pair::new(1, millis(20));
    let plan = Pings { count: 10, interval: millis(100), size: 56 };
    let pings: Vec<AppId> = [IpAddr::from(B), "fd00::2".parse().unwrap()]
        .into_iter()
        .map(|to| pair.hosts[0].ping(Instant::ZERO, to, plan))
        .collect();
    pair.run(secs(5));
    for ping in pings {
        let expected = PingStats {
            sent: 10,
            answered: 10,
            shortest: Some(millis(40)),
            longest: Some(millis(40)),
            total: millis(400),
            last_answer: Some(Instant::ZERO + millis(940)),
            ..PingStats::default()
        };
        assert_eq!(pair.hosts[0].pings(ping), Some(&expected));
    }
    assert_eq!(pair.carried, 40);
    assert_eq!(pair.hosts.map(|host| host.deadline(pair.now)), [None, None]);
}

#[test]
fn lost_and_repeated_answers_are_told_apart() {
    let mut pair = Pair::new(2, millis(5));
    (pair.loss, pair.duplication) = (Rate::percent(20), Rate::percent(30));
    let ping =
        pair.hosts[0].ping(Instant::ZERO, B.into(), Pings { count: 1000, interval: millis(10), size: 1 });
    pair.run(secs(20));
    let stats = *pair.hosts[0].pings(ping).unwrap();
    assert_eq!(stats.sent, 1000);
    assert!((580..700).contains(&stats.answered), "{stats:?}");
    assert!((280..600).contains(&stats.duplicates), "{stats:?}");
    assert_eq!((stats.corrupt, pair.hosts[0].violations()), (0, 0));
}

#[test]
fn transfers_arrive_whole_through_loss_and_repetition() {
    let settings = |control| TcpSettings { control, ..TcpSettings::default() };
    for (control, loss) in [(Control::Reno, 0), (Control::Reno, 5), (Control::Cubic, 2), (Control::None, 2)] {
        let mut pair = Pair::new(3, millis(10));
        (pair.loss, pair.duplication) = (Rate::percent(loss), Rate::percent(loss));
        pair.hosts.iter_mut().for_each(|host| host.set_tcp(settings(control)));
        let server = pair.hosts[1].serve_tcp(80);
        let plans = [(300_000, 0), (0, 300_000), (200_000, 100_000), (0, 0)];
        let transfers: Vec<AppId> = plans
            .iter()
            .map(|&(upload, download)| {
                pair.hosts[0].send_tcp(Instant::ZERO, at_b(80), Transfer { upload, download })
            })
            .collect();
        pair.run(secs(300));
        let name = format!("{control:?} {loss}%");
        for (transfer, (upload, download)) in transfers.into_iter().zip(plans) {
            let stats = pair.hosts[0].transfer(transfer).unwrap();
            assert_eq!(stats.progress, Progress::Done, "{name} {stats:?}");
            assert_eq!((stats.uploaded, stats.downloaded), (upload, download), "{name}");
            assert!(loss > 0 || stats.finished.unwrap() < Instant::ZERO + secs(2), "{name} {stats:?}");
        }
        let stats = pair.hosts[1].server(server).unwrap();
        let (done, accepted, open) = (stats.done, stats.accepted, stats.open);
        assert_eq!((done, accepted, open, stats.received, stats.sent), (4, 4, 0, 500_000, 400_000), "{name}");
        assert_eq!(pair.hosts.each_ref().map(Host::violations), [0, 0], "{name}");
        assert_eq!(pair.hosts.map(|host| host.deadline(pair.now)), [None, None], "{name}: idle again");
    }
}

/// Changes a byte of the payload, and the checksum so that it is right again.
fn flip(packet: &mut [u8], at: usize) {
    let checksum = match packet[9] {
        6 => 20 + 16,
        17 => 20 + 6,
        _ => 20 + 2,
    };
    // Two bytes that change by the same amount in opposite directions leave the sum as it is.
    if packet[9] == 17 {
        packet[checksum..checksum + 2].fill(0);
        packet[at] ^= 1;
        return;
    }
    let sum = |packet: &[u8]| u32::from(u16::from_be_bytes([packet[at & !1], packet[at & !1 | 1]]));
    let before = sum(packet);
    packet[at] ^= 1;
    let after = sum(packet);
    let old = u32::from(!u16::from_be_bytes([packet[checksum], packet[checksum + 1]]));
    let mut new = old + (0xffff - before) + after;
    new = (new & 0xffff) + (new >> 16);
    new = (new & 0xffff) + (new >> 16);
    packet[checksum..checksum + 2].copy_from_slice(&(!(new as u16)).to_be_bytes());
}

#[test]
fn a_byte_changed_below_is_noticed() {
    let mut pair = Pair::new(4, millis(1));
    pair.spoil = |_, packet| {
        if packet.len() == 1400 {
            flip(packet, 1001);
        }
    };
    pair.hosts[1].serve_tcp(80);
    let receiver = pair.hosts[1].receive_udp(9);
    let transfer = pair.hosts[0].send_tcp(Instant::ZERO, at_b(80), Transfer { upload: 100_000, download: 0 });
    pair.run(secs(10));
    assert_eq!(pair.hosts[0].transfer(transfer).unwrap().progress, Progress::Done);
    let bytes = pair.hosts[1].violations();
    assert!((60..80).contains(&bytes), "{bytes} of 100000 / 1360 bytes");

    let flood = Flood { count: 7, interval: millis(1), size: 1372 };
    pair.hosts[0].flood_udp(pair.now, at_b(9), flood);
    let ping = pair.hosts[0].ping(pair.now, B.into(), Pings { count: 3, interval: millis(1), size: 1372 });
    pair.run(secs(1));
    assert_eq!(pair.hosts[1].received(receiver).unwrap().corrupt, 7);
    // There and back, the same bit twice.
    assert_eq!(pair.hosts[0].pings(ping).unwrap().answered, 3);
    pair.spoil = |number, packet| {
        if packet.len() == 1400 && number.is_multiple_of(2) {
            flip(packet, 1001);
        }
    };
    let ping = pair.hosts[0].ping(pair.now, B.into(), Pings { count: 3, interval: millis(10), size: 1372 });
    pair.run(secs(1));
    assert_eq!(pair.hosts[0].pings(ping).unwrap().corrupt, 3);
    assert_eq!(pair.hosts[0].violations(), 3);
}

#[test]
fn without_repaired_checksum_nothing_wrong_arrives() {
    let mut pair = Pair::new(4, millis(1));
    pair.spoil = |number, packet| {
        if number.is_multiple_of(10) {
            let at = packet.len() - 1;
            packet[at] ^= 1;
        }
    };
    let server = pair.hosts[1].serve_tcp(80);
    pair.hosts[0].send_tcp(Instant::ZERO, at_b(80), Transfer { upload: 300_000, download: 300_000 });
    pair.run(secs(100));
    assert_eq!(pair.hosts[1].server(server).unwrap().done, 1);
    assert_eq!(pair.hosts.map(|host| host.violations()), [0, 0]);
}

#[test]
fn floods_are_counted() {
    let mut pair = Pair::new(5, millis(1));
    (pair.loss, pair.duplication) = (Rate::percent(10), Rate::percent(10));
    let receiver = pair.hosts[1].receive_udp(9);
    let flood = Flood { count: 1000, interval: Duration::from_micros(1500), size: 100 };
    let sender = pair.hosts[0].flood_udp(Instant::ZERO, at_b(9), flood);
    let large = pair.hosts[0].flood_udp(Instant::ZERO, at_b(9), Flood { size: 1373, ..flood });
    pair.run(secs(3));
    assert_eq!(pair.hosts[0].flood(sender), Some(&FloodStats { sent: 1000, unsent: 0 }));
    assert_eq!(pair.hosts[0].flood(large), Some(&FloodStats { sent: 0, unsent: 1000 }));
    let stats = *pair.hosts[1].received(receiver).unwrap();
    assert!((860..940).contains(&stats.received), "{stats:?}");
    assert!((60..120).contains(&stats.duplicates), "{stats:?}");
    assert_eq!((stats.bytes, stats.reordered, stats.corrupt), (stats.received * 100, 0, 0));
}

#[test]
fn ends_of_connections_are_told_apart() {
    let mut pair = Pair::new(6, millis(1));
    let plan = Transfer { upload: 1_000_000, download: 1 };
    let refused = pair.hosts[0].send_tcp(Instant::ZERO, at_b(81), plan);
    let server = pair.hosts[1].serve_tcp(80);
    let cut = pair.hosts[0].send_tcp(Instant::ZERO, at_b(80), plan);
    let moved = pair.hosts[0].send_tcp(Instant::ZERO, "[fd00::2]:80".parse().unwrap(), plan);
    pair.run(millis(5));
    pair.hosts[0].set_addresses(&[net("10.0.0.1/24")]);
    let homeless = pair.hosts[0].send_tcp(pair.now, "[fd00::2]:80".parse().unwrap(), plan);
    pair.run(millis(1));
    pair.loss = Rate::ALWAYS;
    pair.run(secs(300));
    let progress = |app| pair.hosts[0].transfer(app).unwrap().progress;
    assert_eq!(progress(refused), Progress::Reset);
    assert_eq!(progress(cut), Progress::TimedOut);
    assert_eq!(progress(moved), Progress::NoAddress);
    assert_eq!(progress(homeless), Progress::NoAddress);
    let stats = pair.hosts[1].server(server).unwrap();
    assert_eq!((stats.accepted, stats.timed_out, stats.open), (2, 2, 0), "{stats:?}");
    assert_eq!(pair.hosts.each_ref().map(Host::violations), [0, 0]);
    assert_eq!(pair.hosts.map(|host| host.deadline(pair.now)), [None, None]);
}

#[test]
fn connections_follow_the_mtu_and_applications_stop() {
    let mut pair = Pair::new(7, millis(1));
    let server = pair.hosts[1].serve_tcp(80);
    let transfer =
        pair.hosts[0].send_tcp(Instant::ZERO, at_b(80), Transfer { upload: 2_000_000, download: 0 });
    pair.run(millis(10));
    pair.hosts[0].set_mtu(600);
    pair.run(millis(2));
    pair.spoil = |_, packet| assert!(packet.len() <= 600, "{}", packet.len());
    pair.run(secs(60));
    assert_eq!(pair.hosts[0].transfer(transfer).unwrap().progress, Progress::Done);
    assert_eq!(pair.hosts[1].server(server).unwrap().received, 2_000_000);

    let ping =
        pair.hosts[0].ping(pair.now, B.into(), Pings { count: u64::MAX, interval: millis(10), size: 24 });
    pair.run(millis(95));
    pair.hosts[0].stop(ping);
    pair.run(secs(10));
    assert_eq!(pair.hosts[0].pings(ping).unwrap().sent, 10);
    assert_eq!(pair.hosts[0].deadline(pair.now), None);
}

/// The same packets at the same times, and in debug and release builds: with floating point, too.
#[test]
fn the_same_seed_gives_the_same_packets() {
    let run = |seed, control| {
        let mut pair = Pair::new(seed, millis(7));
        pair.loss = Rate::percent(3);
        let settings = TcpSettings { control, ..TcpSettings::default() };
        pair.hosts.iter_mut().for_each(|host| host.set_tcp(settings));
        pair.hosts[1].serve_tcp(80);
        pair.hosts[0].send_tcp(Instant::ZERO, at_b(80), Transfer { upload: 400_000, download: 400_000 });
        pair.run(secs(120));
        pair.digest.digest()
    };
    let digests = [Control::Reno, Control::Cubic].map(|control| run(8, control));
    assert_eq!(digests, [Control::Reno, Control::Cubic].map(|control| run(8, control)));
    assert_ne!(digests[0], run(9, Control::Reno));
    assert_eq!(digests, [3785013576565025361, 16855956757592965271]);
}
