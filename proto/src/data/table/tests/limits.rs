//! Wear of keys, and the epochs that it drives. Limits are small here, so that they are reached.

use super::*;

const SMALL: Bounds = Bounds {
    usage: Some(100),
    id_soft: 150,
    id_last: 200,
    epoch_counter_last: 1000,
    forgeries_soft: 5,
    forgeries_hard: 8,
    epoch_soft: 12,
    epoch_last: 14,
};

fn pair_with(bounds: fn(DataCipher) -> Bounds, format: DataFormat, limits: KeyLimits) -> (Table, Table) {
    let (mut c, mut s) = (Table::with_bounds(bounds), Table::with_bounds(bounds));
    add(&mut c, peer(0), udp(1194), params(format, true));
    install(&mut c, peer(0), KEY, data(0, TlsRole::Client, limits));
    add(&mut s, peer(3), udp(5000), params(format, false));
    install(&mut s, peer(3), KEY, data(0, TlsRole::Server, KeyLimits::default()));
    route_all(&mut s, peer(3));
    (c, s)
}

fn pair(format: DataFormat) -> (Table, Table) {
    pair_with(|_| SMALL, format, KeyLimits::default())
}

fn epoch_format() -> DataFormat {
    DataFormat::Epoch(PeerId::from_low_bits(3))
}

/// Epoch and counter of a packet.
fn id_of(packet: &[u8]) -> (u16, u64) {
    let id = u64::from_be_bytes(packet[4..12].try_into().unwrap());
    ((id >> 48) as u16, id & 0xffff_ffff_ffff)
}

fn worn(reports: &[Report]) -> Vec<Wear> {
    reports
        .iter()
        .filter_map(|r| match r {
            Report::KeyWorn { why, .. } => Some(*why),
            _ => None,
        })
        .collect()
}

fn there(c: &mut Table, s: &mut Table) -> Vec<u8> {
    let packet = seal(c, peer(0), &ip([1; 4], [2; 4]));
    open(s, udp(5000), &packet).unwrap();
    packet
}

fn back(c: &mut Table, s: &mut Table) -> Vec<u8> {
    let packet = seal(s, peer(3), &ip([1; 4], [2; 4]));
    open(c, udp(1194), &packet).unwrap();
    packet
}

#[test]
fn classic_ids_end_for_good() {
    let (mut c, mut s) = pair_with(|_| Bounds { usage: None, ..SMALL }, v2(3), KeyLimits::default());
    for id in 1..=200u32 {
        let packet = there(&mut c, &mut s);
        assert_eq!(packet[4..8], id.to_be_bytes());
        let expected = if id == 150 { vec![Wear::PacketId] } else { vec![] };
        assert_eq!(worn(&reports(&mut c)), expected, "{id}");
    }
    for _ in 0..3 {
        assert_eq!(try_seal(&mut c, peer(0), &[1]), Err(SealError::Spent(KeySpent)));
    }
    assert_eq!(reports(&mut c), [Report::KeySpent { peer: peer(0), key: KEY }]);
}

/// The true constants, at their edges.
#[test]
fn the_last_classic_id_is_all_ones() {
    let (mut c, mut s) = pair_with(Bounds::of, v2(3), KeyLimits::default());
    c.key_mut(peer(0), KEY).unwrap().skip_to(0xfeff_ffff);
    assert_eq!(there(&mut c, &mut s)[4..8], 0xfeff_ffffu32.to_be_bytes());
    assert_eq!(worn(&reports(&mut c)), []);
    there(&mut c, &mut s);
    assert_eq!(worn(&reports(&mut c)), [Wear::PacketId]);
    c.key_mut(peer(0), KEY).unwrap().skip_to(0xffff_fffe);
    there(&mut c, &mut s);
    assert_eq!(there(&mut c, &mut s)[4..8], [0xff; 4]);
    assert_eq!(try_seal(&mut c, peer(0), &[1]), Err(SealError::Spent(KeySpent)));
}

#[test]
fn classic_usage_is_reported_by_both_sides_once() {
    let (mut c, mut s) = pair(v2(3));
    // A packet of 64 bytes makes 4 blocks and one packet to its sender; 40 bytes of plaintext make 3 blocks
    // to the receiver. 7/8 of 100, rounded as in C, is 84.
    for n in 1..=40 {
        there(&mut c, &mut s);
        let expected = |per_packet, id_soft| {
            let mut all = vec![];
            if n == 84u32.div_ceil(per_packet) {
                all.push(Wear::Usage);
            }
            assert!(n < id_soft);
            all
        };
        assert_eq!(worn(&reports(&mut c)), expected(5, 150), "sender, {n}");
        assert_eq!(worn(&reports(&mut s)), expected(4, 150), "receiver, {n}");
    }
}

#[test]
fn forgeries_wear_a_key_and_end_it() {
    let (mut c, mut s) = pair(v2(3));
    let good = seal(&mut c, peer(0), &ip([1; 4], [2; 4]));
    for n in 1..=12 {
        let mut forged = good.clone();
        forged[20] ^= n;
        let reason = if n <= 9 { DropReason::DataAuthentication } else { DropReason::KeyWorn };
        assert_eq!(open(&mut s, udp(5000), &forged), Err(reason), "{n}");
        let expected = if n == 6 { vec![Wear::Forgeries] } else { vec![] };
        assert_eq!(worn(&reports(&mut s)), expected, "{n}");
    }
    assert_eq!(open(&mut s, udp(5000), &good), Err(DropReason::KeyWorn));
}

#[test]
fn the_true_forgery_limits() {
    let (mut c, mut s) = pair_with(Bounds::of, v2(3), KeyLimits::default());
    let good = seal(&mut c, peer(0), &ip([1; 4], [2; 4]));
    let mut forged = good.clone();
    forged[20] ^= 1;
    s.key_mut(peer(3), KEY).unwrap().set_forgeries((1 << 35) - 1);
    assert_eq!(open(&mut s, udp(5000), &forged), Err(DropReason::DataAuthentication));
    assert_eq!(worn(&reports(&mut s)), []);
    assert_eq!(open(&mut s, udp(5000), &forged), Err(DropReason::DataAuthentication));
    assert_eq!(worn(&reports(&mut s)), [Wear::Forgeries]);
    s.key_mut(peer(3), KEY).unwrap().set_forgeries(1 << 36);
    assert_eq!(open(&mut s, udp(5000), &forged), Err(DropReason::DataAuthentication));
    assert_eq!(open(&mut s, udp(5000), &good), Err(DropReason::KeyWorn));
}

#[test]
fn configured_limits_count_both_directions() {
    for limits in [KeyLimits { bytes: 0, packets: 10 }, KeyLimits { bytes: 640, packets: 0 }] {
        let (mut c, mut s) = pair_with(Bounds::of, v2(3), limits);
        for n in 1..=10 {
            if n % 2 == 0 {
                there(&mut c, &mut s)
            } else {
                back(&mut c, &mut s)
            };
            let expected = if n == 10 { vec![Wear::Configured] } else { vec![] };
            assert_eq!(worn(&reports(&mut c)), expected, "{n} of {limits:?}");
        }
        there(&mut c, &mut s);
        assert_eq!(worn(&reports(&mut c)), []);
    }
}

#[test]
fn epochs_advance_together_and_lose_nothing() {
    let (mut c, mut s) = pair(epoch_format());
    let (mut last_there, mut last_back) = ((1, 0), (1, 0));
    for _ in 0..180 {
        for (last, packet) in
            [(&mut last_there, there(&mut c, &mut s)), (&mut last_back, back(&mut c, &mut s))]
        {
            let id = id_of(&packet);
            let next_counter = id == (last.0, last.1 + 1);
            let next_epoch = id.0 > last.0 && id.1 == 1;
            assert!(next_counter || next_epoch, "{id:?} after {last:?}");
            *last = id;
        }
        assert!(last_back.0 >= last_there.0, "the server follows the client");
    }
    assert!(last_there.0 > 5, "reached epoch {}", last_there.0);
}

/// The limit is on blocks of plaintext and header (`openvpn: crypto_epoch.c`, `epoch_check_send_iterate`): 52 bytes make
/// 4, and the packet itself 1; the tag behind it is none.
#[test]
fn an_epoch_ends_behind_its_limit_and_tags_do_not_count() {
    let (mut c, mut s) = pair(epoch_format());
    for n in 1..=21 {
        assert_eq!(id_of(&there(&mut c, &mut s)), (1, n));
    }
    assert_eq!(id_of(&there(&mut c, &mut s)), (2, 1), "21 packets of 5 are more than 100");
}

/// 48 bits of counter stand beside 16 of epoch; CHACHA20-POLY1305 has no limit before that.
#[test]
fn the_last_counter_of_an_epoch_is_all_ones() {
    let params = DataParams { cipher: DataCipher::ChaCha20Poly1305, ..params(epoch_format(), true) };
    let mut c = Table::new();
    add(&mut c, peer(0), udp(1194), params);
    install(&mut c, peer(0), KEY, data(0, TlsRole::Client, KeyLimits::default()));
    seal(&mut c, peer(0), &ip([1; 4], [2; 4]));
    c.key_mut(peer(0), KEY).unwrap().skip_to((1 << 48) - 2);
    let mut next = || id_of(&seal(&mut c, peer(0), &ip([1; 4], [2; 4])));
    assert_eq!([next(), next(), next()], [(1, (1 << 48) - 2), (1, (1 << 48) - 1), (2, 1)]);
}

/// One direction only: after four epochs without a sign of the peer the sender stays, and asks for a key.
#[test]
fn a_sender_is_never_more_than_four_epochs_ahead() {
    let (mut c, mut s) = pair(epoch_format());
    let mut highest = 0;
    for _ in 0..300 {
        let packet = seal(&mut c, peer(0), &ip([1; 4], [2; 4]));
        highest = id_of(&packet).0.max(highest);
    }
    assert_eq!(highest, 5);
    assert_eq!(worn(&reports(&mut c)), [Wear::Usage]);
    // The peer has heard nothing and still understands the next packet, and its answer sets us free.
    assert_eq!(id_of(&there(&mut c, &mut s)).0, 5);
    assert_eq!(id_of(&back(&mut c, &mut s)).0, 5);
    assert_eq!(id_of(&there(&mut c, &mut s)).0, 6);
}

#[test]
fn a_worn_receive_key_nudges_the_peer() {
    let (mut c, mut s) = pair(epoch_format());
    // Plaintexts of 40 bytes cost the receiver 4, the sender of 52 + 1 bytes 5; stay below the sender's.
    let mut answer = (1, 0);
    for n in 0..4 {
        let mut forged = there(&mut c, &mut s);
        forged[11] += 100;
        assert_eq!(open(&mut s, udp(5000), &forged), Err(DropReason::DataAuthentication), "{n}");
        assert_eq!(open(&mut s, udp(5000), &forged), Err(DropReason::DataAuthentication), "{n}");
        answer = id_of(&back(&mut c, &mut s));
    }
    assert_eq!(answer.0, 2, "more than five forgeries make the receiver go ahead");
    assert_eq!(id_of(&there(&mut c, &mut s)).0, 2, "and the peer follows");
    assert_eq!(id_of(&back(&mut c, &mut s)).0, 2, "once");
}

#[test]
fn epochs_end_too() {
    let bounds = |_| Bounds { epoch_counter_last: 10, ..SMALL };
    let (mut c, mut s) = pair_with(bounds, epoch_format(), KeyLimits::default());
    let mut told = vec![];
    loop {
        match try_seal(&mut c, peer(0), &ip([1; 4], [2; 4])) {
            Ok(packet) => open(&mut s, udp(5000), &packet).unwrap(),
            Err(e) => {
                assert_eq!(e, SealError::Spent(KeySpent));
                break;
            }
        };
        let Ok(packet) = try_seal(&mut s, peer(3), &ip([1; 4], [2; 4])) else { continue };
        open(&mut c, udp(1194), &packet).unwrap();
        told.extend(reports(&mut c));
    }
    told.extend(reports(&mut c));
    assert_eq!(worn(&told)[0], Wear::Epoch);
    assert_eq!(told.iter().filter(|r| matches!(r, Report::KeySpent { .. })).count(), 1);
}
