use super::*;

const COUNT: u64 = 20_000;
const GAP: Duration = Duration::from_millis(1);

/// Sends `COUNT` packets of 64 bytes, a millisecond apart, which begin with their number; returns what arrives.
fn run(faults: Faults, seed: u64) -> (Vec<(Instant, Vec<u8>)>, Counters) {
    let mut link = Link::new(faults, &SeedTree::new(seed), 0);
    let mut arrived = Vec::new();
    let mut now = Instant::ZERO;
    for number in 0..COUNT {
        link.send(now, packet(number), number);
        now = now + GAP;
        arrived.extend(core::iter::from_fn(|| link.poll(now)).map(|(_, bytes)| (now, bytes)));
        assert_conserved(&link);
    }
    while let Some(at) = link.deadline() {
        arrived.extend(link.poll(at).map(|(_, bytes)| (at, bytes)));
    }
    assert_conserved(&link);
    let c = *link.counters();
    assert_eq!(c.sent, COUNT);
    assert_eq!(c.delivered, arrived.len() as u64, "seed {seed}");
    (arrived, c)
}

fn assert_conserved<T: Clone>(link: &Link<T>) {
    let c = link.counters();
    let gone = c.lost + c.burst_lost + c.too_big + c.overflowed + c.delivered;
    assert_eq!(c.sent + c.duplicated + c.replayed, gone + link.in_flight() as u64, "{c:?}");
    assert_eq!(c.dropped() + c.delivered, gone);
}

fn packet(number: u64) -> Vec<u8> {
    let mut bytes = vec![0xa5; 64];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(u64::MAX, |n| u64::from_be_bytes(*n))
}

/// FNV-1a over times and bytes.
fn hash(arrived: &[(Instant, Vec<u8>)]) -> u64 {
    let bytes = arrived.iter().flat_map(|(at, b)| at.as_nanos().to_le_bytes().into_iter().chain(b.clone()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

const STORM: Bursts = Bursts {
    worsen: Rate::percent(2),
    recover: Rate::percent(10),
    good: Rate::millionths(1000),
    bad: Rate::percent(50),
};

fn everything() -> Faults {
    let rate = Rate::percent(5);
    Faults {
        delay: Duration::from_millis(30),
        jitter: Duration::from_millis(3),
        loss: rate,
        duplication: rate,
        reordering: rate,
        replay: rate,
        bursts: STORM,
        rate: 500_000,
        queue: 1000,
        corruption: rate,
        flips: 9,
        truncation: rate,
        ..Faults::NONE
    }
}

#[test]
fn the_seed_decides_every_byte() {
    let (arrived, c) = run(everything(), 1);
    let first = hash(&arrived);
    let faults = [c.lost, c.burst_lost, c.overflowed, c.duplicated, c.replayed, c.corrupted, c.truncated];
    assert!(c.reordered > 0 && faults.iter().all(|&n| n > COUNT / 200), "{c:?}");
    assert_eq!(first, hash(&run(everything(), 1).0));
    assert_ne!(first, hash(&run(everything(), 2).0));
}

#[test]
fn a_perfect_link_changes_nothing() {
    let (arrived, counters) = run(Faults::NONE, 1);
    assert!(arrived.iter().enumerate().all(|(i, (_, bytes))| *bytes == packet(i as u64)));
    assert_eq!(counters, Counters { sent: COUNT, delivered: COUNT, ..Counters::default() });
}

#[test]
fn each_fault_has_its_rate_and_the_receiver_sees_it() {
    let rate = Rate::percent(5);
    let near = |n: u64| (COUNT / 20 - 150..COUNT / 20 + 150).contains(&n);
    let (arrived, c) = run(Faults { loss: rate, ..Faults::NONE }, 11);
    assert!(near(c.lost) && arrived.len() as u64 == COUNT - c.lost, "{c:?}");

    let (arrived, c) = run(Faults { duplication: rate, ..Faults::NONE }, 12);
    let twice = arrived.windows(2).filter(|pair| pair[0].1 == pair[1].1).count() as u64;
    assert!(near(c.duplicated) && twice == c.duplicated && c.reordered == 0, "{c:?}, {twice} seen");

    let (arrived, c) = run(Faults { corruption: rate, ..Faults::NONE }, 13);
    let flips = arrived.iter().enumerate().map(|(i, (_, bytes))| {
        bytes.iter().zip(packet(i as u64)).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
    });
    let (flipped, most) = flips.fold((0, 0), |(n, most), f| (n + u64::from(f > 0), most.max(f)));
    assert!(near(c.corrupted) && flipped == c.corrupted && most == 1, "{c:?}, {flipped} seen");

    let (arrived, c) = run(Faults { truncation: rate, ..Faults::NONE }, 14);
    let short = arrived.iter().filter(|(_, bytes)| bytes.len() < 64).count() as u64;
    assert!(near(c.truncated) && short == c.truncated, "{c:?}, {short} seen");
    assert!(arrived.iter().enumerate().all(|(i, (_, bytes))| packet(i as u64).starts_with(bytes)));

    let (arrived, c) = run(Faults { reordering: rate, ..Faults::NONE }, 15);
    let mut top = 0;
    let late = arrived.iter().filter(|(_, bytes)| {
        let late = number(bytes) < top;
        top = top.max(number(bytes));
        late
    });
    let late = late.count() as u64;
    assert!(near(c.reordered) && late == c.reordered, "{c:?}, {late} seen");
}

#[test]
fn jitter_delays_within_bounds_and_keeps_the_order() {
    let (delay, jitter) = (Duration::from_millis(30), Duration::from_millis(5));
    let (arrived, c) = run(Faults { delay, jitter, ..Faults::NONE }, 21);
    assert!(arrived.is_sorted_by_key(|(_, bytes)| number(bytes)) && c.reordered == 0);
    let mut spread = [Duration::MAX, Duration::ZERO];
    for (at, bytes) in &arrived {
        let took = *at - (Instant::ZERO + GAP * number(bytes) as u32);
        spread = [spread[0].min(took), spread[1].max(took)];
    }
    // `run` looks once a millisecond.
    assert!(spread[0] >= delay && spread[1] <= delay + jitter + GAP, "{spread:?}");
    assert!(spread[1] - spread[0] > jitter / 2, "no jitter: {spread:?}");
}

#[test]
fn another_rate_leaves_the_other_draws_alone() {
    let corrupted = |loss| {
        let (arrived, _) = run(Faults { loss, corruption: Rate::percent(5), ..Faults::NONE }, 31);
        arrived.into_iter().map(|(_, bytes)| bytes).collect::<std::collections::BTreeSet<_>>()
    };
    let (all, few) = (corrupted(Rate::NEVER), corrupted(Rate::percent(50)));
    assert!(few.len() < all.len() && few.is_subset(&all));
}

#[test]
fn size_and_room_are_bounds() {
    let (arrived, c) = run(Faults { mtu: 63, ..Faults::NONE }, 41);
    assert!(arrived.is_empty() && c.too_big == COUNT, "{c:?}");
    let stalled = Faults { delay: Duration::from_secs(3600), capacity: 10, ..Faults::NONE };
    let (arrived, c) = run(stalled, 42);
    assert!(arrived.len() == 10 && c.overflowed == COUNT - 10, "{c:?}");
}

#[test]
fn a_rate_spaces_packets_and_a_full_queue_drops_the_last() {
    // 64 bytes and 28 of headers at 1 Mbit/s are 736 us, so a packet per millisecond passes.
    let line = Faults { rate: 1_000_000, queue: 92 * 10, overhead: 28, ..Faults::NONE };
    let (arrived, c) = run(line, 51);
    assert!(arrived.len() as u64 == COUNT && c.overflowed == 0, "{c:?}");
    // At half of that, 679 of 1000 do.
    let (arrived, c) = run(Faults { rate: 500_000, ..line }, 51);
    let passed = COUNT * 1000 / 1472;
    assert!((passed..passed + 11).contains(&(arrived.len() as u64)) && c.dropped() == c.overflowed, "{c:?}");
    assert!(arrived.is_sorted_by_key(|(_, bytes)| number(bytes)));

    let mut link = Link::new(line, &SeedTree::new(51), 0);
    (0..20).for_each(|n| link.send(Instant::ZERO, packet(n), ()));
    let took = Duration::from_micros(736);
    for n in 1..=10 {
        let at = Instant::ZERO + took * n;
        assert_eq!(link.deadline(), Some(at));
        assert!(link.poll(Instant::ZERO + (took * n - Duration::from_nanos(1))).is_none());
        assert_eq!(link.poll(at).map(|(_, bytes)| number(&bytes)), Some(u64::from(n) - 1));
    }
    assert_eq!(link.deadline(), None);
    // Lost packets take their time on the line too, and one that is larger than the queue passes if it is free.
    let mut link = Link::new(Faults { queue: 10, overhead: 0, ..line }, &SeedTree::new(51), 0);
    link.send(Instant::ZERO, vec![0; 125], ());
    link.send(Instant::ZERO, vec![0; 1], ());
    assert_eq!((link.deadline(), link.in_flight()), (Some(Instant::ZERO + GAP), 1));
}

#[test]
fn bad_times_come_in_bursts() {
    let bursts = Bursts { good: Rate::NEVER, bad: Rate::ALWAYS, ..STORM };
    let (arrived, c) = run(Faults { bursts, ..Faults::NONE }, 61);
    let mut expected = 0;
    let mut lengths = Vec::new();
    for number in arrived.iter().map(|(_, bytes)| number(bytes)).chain([COUNT]) {
        lengths.extend((number > expected).then(|| number - expected));
        expected = number + 1;
    }
    // A sixth of the time is bad, ten packets long each.
    let mean = c.burst_lost / lengths.len() as u64;
    assert!((8..=12).contains(&mean) && lengths.iter().any(|&n| n > 20), "{lengths:?}");
    assert!((COUNT / 8..COUNT / 5).contains(&c.burst_lost) && c.lost == 0, "{c:?}");
    // A good line may lose too, on its own.
    let bursts = Bursts { good: Rate::percent(5), ..Bursts::NONE };
    let (_, c) = run(Faults { bursts, ..Faults::NONE }, 62);
    assert!((COUNT / 20 - 150..COUNT / 20 + 150).contains(&c.burst_lost), "{c:?}");
}

#[test]
fn replayed_packets_are_old_ones_as_they_were_sent() {
    let after = Duration::from_secs(3);
    let replaying = Faults { replay: Rate::percent(5), replay_after: after, ..Faults::NONE };
    let (arrived, c) = run(replaying, 71);
    assert!((COUNT / 20 - 150..COUNT / 20 + 150).contains(&c.replayed) && c.reordered == 0, "{c:?}");
    let mut seen = vec![0; COUNT as usize];
    let mut oldest = Duration::ZERO;
    for (at, bytes) in &arrived {
        let number = number(bytes);
        assert_eq!(*bytes, packet(number));
        seen[number as usize] += 1;
        oldest = oldest.max(*at - (Instant::ZERO + GAP * number as u32));
    }
    assert!(seen.iter().all(|&n| n > 0) && seen.iter().sum::<u64>() == COUNT + c.replayed);
    assert!(oldest > after / 2 && oldest <= after + GAP * (MEMORY as u32 + 1), "{oldest:?}");

    // One that came damaged is replayed whole.
    let (arrived, c) = run(Faults { truncation: Rate::ALWAYS, ..replaying }, 72);
    let whole = arrived.iter().filter(|(_, bytes)| number(bytes) < COUNT && *bytes == packet(number(bytes)));
    assert_eq!(whole.count() as u64, c.replayed);
    // Nothing passes a line that is cut, or is longer than the line takes.
    for cut in [Faults { loss: Rate::ALWAYS, ..replaying }, Faults { mtu: 63, ..replaying }] {
        assert!(run(cut, 73).0.is_empty());
    }
}

#[test]
fn up_to_so_many_bits_flip() {
    let (arrived, c) = run(Faults { corruption: Rate::ALWAYS, flips: 4, ..Faults::NONE }, 81);
    let mut by_count = [0; 6];
    for (i, (_, bytes)) in arrived.iter().enumerate() {
        let flipped: u32 = bytes.iter().zip(packet(i as u64)).map(|(a, b)| (a ^ b).count_ones()).sum();
        by_count[flipped.min(5) as usize] += 1;
    }
    assert!(c.corrupted == COUNT && by_count[0] == 0 && by_count[5] == 0, "{by_count:?}");
    assert!(by_count[1..5].iter().all(|n| (4500..5500).contains(n)), "{by_count:?}");
    // More flips than bits: each bit once.
    let mut bytes = [0; 1];
    let mut draws = SeedTree::new(82).draws(Purpose::Corruption, 0, 0);
    (0..100).for_each(|_| flip(&mut bytes, u8::MAX, &mut draws));
}

#[test]
fn empty_packets_arrive() {
    let faults = Faults { truncation: Rate::ALWAYS, corruption: Rate::ALWAYS, ..Faults::NONE };
    let mut link = Link::new(faults, &SeedTree::new(91), 0);
    link.send(Instant::ZERO, vec![1], 'a');
    link.send(Instant::ZERO, vec![], 'b');
    assert_eq!(link.poll(Instant::ZERO), Some(('a', vec![])));
    assert_eq!(link.poll(Instant::ZERO), Some(('b', vec![])));
    assert_eq!((link.counters().truncated, link.counters().corrupted), (1, 0));
}

#[test]
fn faults_change_under_way() {
    let second = |n| Instant::ZERO + Duration::from_secs(n);
    let slow = Faults { delay: Duration::from_secs(10), rate: 8, queue: 1000, ..Faults::NONE };
    let mut link = Link::new(slow, &SeedTree::new(101), 0);
    (0..5).for_each(|n| link.send(Instant::ZERO, vec![n; 100], n));
    link.set_faults(second(1), Faults::BLACK_HOLE);
    (5..10).for_each(|n| link.send(second(1), vec![n], n));
    assert_eq!((link.in_flight(), link.counters().lost), (5, 5));
    // The healed line owes nothing to what is still under way.
    link.set_faults(second(2), Faults::NONE);
    link.send(second(2), vec![10], 10);
    assert_eq!(link.poll(second(2)), Some((10, vec![10])));
    let rest: Vec<_> = core::iter::from_fn(|| link.deadline().and_then(|at| link.poll(at))).collect();
    assert_eq!(rest.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_conserved(&link);
}

#[test]
fn the_loss_trace_ignores_sizes() {
    let trace = |size: fn(u64) -> usize, mtu, jitter| {
        let faults = Faults { loss: Rate::percent(3), bursts: STORM, mtu, jitter, ..Faults::NONE };
        let mut link = Link::new(faults, &SeedTree::new(111), 0);
        let (mut lost, mut last) = (Vec::new(), 0);
        for number in 0..COUNT {
            link.send(Instant::ZERO, vec![0; size(number)], ());
            let c = link.counters();
            lost.push(c.lost + c.burst_lost != last);
            last = c.lost + c.burst_lost;
        }
        lost
    };
    let whole = trace(|_| 1500, 1500, Duration::ZERO);
    assert_eq!(whole, trace(|n| (n % 1400) as usize, 1500, GAP));
    // A packet that is too big is lost in another way, and the rest as before.
    let odd = trace(|n| 1 + (n % 2) as usize, 1, Duration::ZERO);
    assert!(whole.iter().zip(&odd).step_by(2).all(|(a, b)| a == b));
    assert!(odd.iter().skip(1).step_by(2).all(|lost| !lost));
}

#[test]
fn no_fault_no_draw() {
    let seeds = SeedTree::new(121);
    let still = Faults { delay: GAP, rate: 1_000_000, overhead: 28, ..Faults::NONE };
    for (faults, draws) in [(Faults::NONE, false), (still, false), (everything(), true)] {
        let before = seeds.digest();
        let mut link = Link::new(faults, &seeds, 0);
        link.send(Instant::ZERO, vec![1], ());
        assert_eq!(seeds.digest() != before, draws, "{faults:?}");
    }
}
