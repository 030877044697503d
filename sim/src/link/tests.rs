use super::*;

const COUNT: u64 = 20_000;
const GAP: Duration = Duration::from_millis(1);

/// Sends `COUNT` packets of 64 bytes, a millisecond apart, which begin with their number; returns what arrives.
fn run(faults: Faults, seed: u64) -> (Vec<(Instant, Vec<u8>)>, Counters) {
    let mut link = Link::new(faults, &SeedTree::new(seed), 0);
    let mut arrived = Vec::new();
    let mut now = Instant::ZERO;
    for number in 0..COUNT {
        link.send(now, &packet(number));
        now = now + GAP;
        arrived.extend(core::iter::from_fn(|| link.poll(now)).map(|bytes| (now, bytes)));
    }
    while let Some(at) = link.deadline() {
        arrived.extend(link.poll(at).map(|bytes| (at, bytes)));
    }
    let c = *link.counters();
    assert_eq!(c.sent, COUNT);
    assert_eq!(c.sent + c.duplicated, c.lost + c.too_big + c.overflowed + c.delivered, "seed {seed}: {c:?}");
    assert_eq!(c.delivered, arrived.len() as u64, "seed {seed}");
    (arrived, c)
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

fn everything() -> Faults {
    let rate = Rate::percent(5);
    Faults {
        delay: Duration::from_millis(30),
        jitter: Duration::from_millis(3),
        loss: rate,
        duplication: rate,
        reordering: rate,
        corruption: rate,
        truncation: rate,
        ..Faults::NONE
    }
}

#[test]
fn the_seed_decides_every_byte() {
    let first = hash(&run(everything(), 1).0);
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
