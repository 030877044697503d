use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn gremlin(mask: Mask, seed: u8) -> Gremlin {
    Gremlin::new(mask, [seed; 32], Instant::ZERO)
}

fn at(second: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(second)
}

/// A packet that no damage of one byte leaves as it is, as its bytes are not those a draw repeats by chance.
fn packet(len: usize) -> Vec<u8> {
    (0..len).map(|place| (place * 7 + 3) as u8).collect()
}

#[test]
fn a_mask_is_read_as_openvpn_reads_it() {
    let mask = |connection_flood, packet_flood, corrupt, up_down, drop| Mask {
        connection_flood,
        packet_flood,
        corrupt,
        up_down,
        drop,
    };
    for (number, fields) in [
        (0, mask(0, 0, 0, 0, 0)),
        (7, mask(7, 0, 0, 0, 0)),
        (8, mask(0, 1, 0, 0, 0)),
        (64, mask(0, 0, 2, 0, 0)),
        (384, mask(0, 0, 0, 3, 0)),
        (512, mask(0, 0, 0, 0, 1)),
        (1024, mask(0, 0, 0, 0, 2)),
        (1632, mask(0, 0, 3, 0, 3)),
        (2016, Mask::STRONGEST),
        (2047, mask(7, 3, 3, 3, 3)),
    ] {
        assert_eq!(Mask::from(number), fields, "{number}");
        assert_eq!(u32::from(fields), number);
    }
    // Higher bits have no meaning, and a level that isn't there is the highest.
    assert_eq!(Mask::from(0xffff_f800), Mask::default());
    assert!(Mask::default().is_empty() && !Mask::from(1).is_empty());
    assert_eq!(u32::from(mask(9, 4, 255, 4, 4)), 2047);
}

#[test]
fn without_faults_everything_passes_as_it_is() {
    let mut gremlin = gremlin(Mask::default(), 1);
    for second in 0..10_000 {
        let mut bytes = packet(30);
        assert!(gremlin.incoming(at(second), &mut bytes) && gremlin.outgoing(at(second)));
        assert_eq!(bytes, packet(30));
        assert_eq!(gremlin.packet_flood(at(second), 1500, &mut bytes), 0);
    }
    assert_eq!((gremlin.next_change(), gremlin.flood_deadline()), (None, None));
    assert_eq!(gremlin.counts(), Counts { incoming: 10_000, outgoing: 10_000, ..Counts::default() });
}

/// Faults that reach the receiver, counted there: a rate of 1 in `n` within four standard deviations.
#[test]
fn rates_are_those_of_the_levels() {
    const PACKETS: u64 = 200_000;
    for level in 0..=3u8 {
        let one_of = [0, 500, 100, 50][usize::from(level)];
        let expected = |packets: u64| packets.checked_div(one_of).unwrap_or(0);
        let close = |seen: u64, packets: u64, what: &str| {
            let mean = expected(packets);
            assert!(seen.abs_diff(mean) <= 4 * mean.isqrt(), "level {level}, {what}: {seen} for {mean}");
        };
        let mut dropping = gremlin(Mask { drop: level, ..Mask::default() }, 2);
        let arrived =
            (0..PACKETS).filter(|_| dropping.incoming(Instant::ZERO, &mut packet(9))).count() as u64;
        let left = (0..PACKETS).filter(|_| dropping.outgoing(Instant::ZERO)).count() as u64;
        close(PACKETS - arrived, PACKETS, "lost on the way in");
        close(PACKETS - left, PACKETS, "lost on the way out");
        let counts = dropping.counts();
        assert_eq!((counts.incoming_dropped, counts.outgoing_dropped), (PACKETS - arrived, PACKETS - left));

        let mut damaging = gremlin(Mask { corrupt: level, ..Mask::default() }, 3);
        let mut damaged = 0;
        for _ in 0..PACKETS {
            let mut bytes = packet(300);
            let delivered = damaging.incoming(Instant::ZERO, &mut bytes);
            assert_eq!(delivered, !bytes.is_empty());
            damaged += u64::from(bytes != packet(300));
        }
        // A cut of no bytes and a byte that was the same before leave a packet whole now and then.
        let counted = damaging.counts().corrupted;
        close(counted, PACKETS, "damaged");
        assert!(damaged <= counted && damaged * 100 >= counted * 97, "{damaged} of {counted}");
        assert!((0..PACKETS).all(|_| damaging.outgoing(Instant::ZERO)), "damage is only on the way in");
    }
}

#[test]
fn outages_last_as_long_as_the_levels_say() {
    for level in 1..=3u8 {
        let of = |range: &[(u64, u64); 3]| range[usize::from(level) - 1];
        let mut gremlin = gremlin(Mask { up_down: level, ..Mask::default() }, level);
        let (mut now, mut up, mut since) = (Instant::ZERO, true, Instant::ZERO);
        let mut seen = [Vec::new(), Vec::new()];
        while seen[0].len() < 300 {
            let next = gremlin.next_change().unwrap();
            assert!(gremlin.is_up(Instant::from_nanos(next.as_nanos() - 1)) == up, "changes before its time");
            now = next;
            assert!(gremlin.is_up(now) != up, "does not change at {now:?}");
            let lasted = now - since;
            assert_eq!(lasted.subsec_nanos(), 0);
            seen[usize::from(up)].push(lasted.as_secs());
            (up, since) = (!up, now);
        }
        for (seconds, (low, high)) in seen.iter().zip([of(&DOWN), of(&UP)]) {
            let (least, most) = (*seconds.iter().min().unwrap(), *seconds.iter().max().unwrap());
            assert!(low <= least && most <= high, "level {level}: {least} to {most}");
            // 300 draws come close to both ends.
            let near = (high - low) / 20;
            assert!(least <= low + near && most >= high - near, "level {level}: {least} to {most}");
        }
        // A long silence makes up for nothing and forgets nothing: the timetable is a matter of time only.
        let mut lazy = self::gremlin(Mask { up_down: level, ..Mask::default() }, level);
        assert_eq!(lazy.is_up(now), up);
        assert_eq!(lazy.next_change(), gremlin.next_change());
    }
}

#[test]
fn nothing_passes_while_the_network_is_down() {
    let mut gremlin = gremlin(Mask { up_down: 3, ..Mask::default() }, 4);
    let (mut passed, mut lost) = (0, 0);
    for second in 0..2_000 {
        let up = gremlin.is_up(at(second));
        assert_eq!(gremlin.incoming(at(second), &mut packet(9)), up);
        assert_eq!(gremlin.outgoing(at(second)), up);
        *(if up { &mut passed } else { &mut lost }) += 2;
    }
    // Up for 5 to 10 seconds, down for 10 to 120.
    assert!(lost > 4 * passed && passed > 100, "{passed} passed, {lost} lost");
    assert_eq!(gremlin.counts().down, lost);
}

#[test]
fn each_damage_is_openvpns() {
    let after = |damage: Damage, packet: &[u8]| {
        let mut bytes = packet.to_vec();
        damage.apply(0xee, &mut bytes);
        bytes
    };
    let packet = [1, 2, 3, 4];
    assert_eq!(after(Damage::First, &packet), [0xee, 2, 3, 4]);
    assert_eq!(after(Damage::Last, &packet), [1, 2, 3, 0xee]);
    assert_eq!(after(Damage::At(2), &packet), [1, 2, 0xee, 4]);
    assert_eq!(after(Damage::Append, &packet), [1, 2, 3, 4, 0xee]);
    assert_eq!(after(Damage::CutOne, &packet), [1, 2, 3]);
    assert_eq!(after(Damage::Cut(0), &packet), packet);
    assert_eq!(after(Damage::Cut(3), &packet), [1]);
    for damage in [Damage::First, Damage::Last, Damage::At(0)] {
        assert_eq!(after(damage, &[1]), [0xee]);
    }
    assert_eq!(after(Damage::CutOne, &[1]), []);
}

#[test]
fn damages_are_drawn_evenly_and_within_the_packet() {
    let mut draws = Entropy::new([5; 32]).fork(Purpose::Gremlin, 0);
    let mut seen = [0u32; 6];
    for round in 0..60_000 {
        let len = 1 + round % 40;
        let kind = match Damage::draw(&mut draws, len) {
            Damage::First => 0,
            Damage::Last => 1,
            Damage::At(at) => {
                assert!(at < len);
                2
            }
            Damage::Append => 3,
            Damage::CutOne => 4,
            Damage::Cut(less) => {
                assert!(less < len);
                5
            }
        };
        seen[kind] += 1;
    }
    assert!(seen.iter().all(|count| count.abs_diff(10_000) < 400), "{seen:?}");
}

/// A change of the draws would make recorded seeds worthless. These were computed by a ChaCha20 of another kind.
#[test]
fn what_a_seed_does_stays_what_it_is() {
    let mut draws = Entropy::new([6; 32]).fork(Purpose::Gremlin, 3);
    let mut results = Vec::new();
    for _ in 0..8 {
        let mut bytes = vec![1, 2, 3, 4, 5, 6, 7, 8];
        corrupt(&mut draws, &mut bytes);
        results.push(hex::encode(bytes));
    }
    assert_eq!(results, RECORDED);
    let mut gremlin = gremlin(Mask::STRONGEST, 6);
    let mut changes = Vec::new();
    while changes.len() < 6 {
        let next = gremlin.next_change().unwrap();
        changes.push((next - Instant::ZERO).as_secs());
        gremlin.is_up(next);
    }
    assert_eq!(changes, CHANGES);
}

const RECORDED: [&str; 8] = [
    "0102030405060768",
    "010203040506b4",
    "01020304050607",
    "0102030405",
    "0102030405064e",
    "010203040506070811",
    "4a02030405060708",
    "01020304051407",
];
const CHANGES: [u64; 6] = [6, 62, 68, 94, 101, 140];

#[test]
fn the_same_seed_has_the_same_faults() {
    let mask = Mask { connection_flood: 0, packet_flood: 3, ..Mask::STRONGEST };
    let run = |seed: u8, outgoing: u32| {
        let mut gremlin = gremlin(mask, seed);
        let mut fates = Vec::new();
        for second in 0..20_000 {
            let mut bytes = packet(40);
            let delivered = gremlin.incoming(at(second / 20), &mut bytes);
            fates.push((delivered, bytes));
            for _ in 0..outgoing {
                gremlin.outgoing(at(second / 20));
            }
            let mut flood = Vec::new();
            let copies = gremlin.packet_flood(at(second / 20), 1500, &mut flood);
            fates.push((copies > 0, flood));
        }
        fates
    };
    let first = run(7, 1);
    assert!(first == run(7, 1), "another run with the seed differs");
    assert!(first == run(7, 3), "packets of the other direction make a difference");
    assert!(first != run(8, 1), "the seed makes no difference");
}

#[test]
fn a_packet_in_place_has_the_same_fate() {
    let mask = Mask { corrupt: 3, drop: 3, ..Mask::default() };
    let (mut whole, mut placed) = (gremlin(mask, 9), gremlin(mask, 9));
    let mut scratch = Vec::new();
    let mut longer = 0;
    for round in 0..50_000 {
        let mut bytes = packet(1 + round % 50);
        let mut slot = [bytes.clone(), vec![0xaa; 4]].concat();
        let len = bytes.len();
        let delivered = whole.incoming(Instant::ZERO, &mut bytes).then_some(&bytes[..]);
        let in_place = placed.incoming_in_place(Instant::ZERO, &mut slot[..len], &mut scratch);
        assert_eq!(delivered, in_place.as_deref(), "round {round}");
        longer += u32::from(delivered.is_some_and(|bytes| bytes.len() > len));
        assert!(slot.ends_with(&[0xaa; 4]), "what lies behind the packet was touched");
    }
    assert!(longer > 50, "{longer} packets grew");
    assert_eq!(whole.counts(), placed.counts());
}

#[test]
fn floods_come_once_a_second() {
    for (level, count, len) in [(1, 10, 100), (2, 10, 1500), (3, 100, 1500)] {
        let mut gremlin = gremlin(Mask { packet_flood: level, ..Mask::default() }, 10);
        let mut bytes = vec![1];
        let mut before = Vec::new();
        assert_eq!(gremlin.packet_flood(Instant::ZERO, 9000, &mut bytes), 0);
        assert_eq!(bytes, [1], "left alone");
        for burst in 1..=5u64 {
            let due = gremlin.flood_deadline().unwrap();
            assert_eq!(due, Instant::ZERO + SECOND * u32::try_from(burst).unwrap());
            assert_eq!(gremlin.packet_flood(Instant::from_nanos(due.as_nanos() - 1), 9000, &mut bytes), 0);
            assert_eq!(gremlin.packet_flood(due, 9000, &mut bytes), count);
            assert_eq!(bytes.len(), len);
            assert_ne!(bytes, before);
            before.clone_from(&bytes);
            assert_eq!(gremlin.packet_flood(due, 9000, &mut bytes), 0, "twice at one time");
        }
        assert_eq!(gremlin.counts().flooded, 5 * u64::from(count));
        // One burst after a pause, none larger than asked for.
        assert_eq!(gremlin.packet_flood(at(100), 64, &mut bytes), count);
        assert_eq!(bytes.len(), 64);
        assert_eq!(gremlin.flood_deadline(), Some(at(101)));
    }
}
