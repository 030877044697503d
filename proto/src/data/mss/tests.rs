use proptest::prelude::*;

use super::*;
use crate::wire::ids::PeerId;

const V2: DataFormat = DataFormat::V2(PeerId::UNDEFINED);
const EPOCH: DataFormat = DataFormat::Epoch(PeerId::UNDEFINED);

#[test]
fn sizes_are_those_of_openvpn() {
    let udp4 = |mssfix, format| mss_for(mssfix, format, Framing::None, 1500, false, Some(false));
    // Seen on the wire between OpenVPN processes with the default mssfix.
    assert_eq!(udp4(Mssfix::Default, V2), Some(1400));
    assert_eq!(udp4(Mssfix::Default, DataFormat::V1), Some(1403));
    // Four bytes more of packet id.
    assert_eq!(udp4(Mssfix::Default, EPOCH), Some(1396));
    // C's unit test: AES-128-GCM, TLS mode, V2, `mssfix n` gives n - 64.
    assert_eq!(udp4(Mssfix::Link(1000), V2), Some(936));
    assert_eq!(udp4(Mssfix::Fixed(1300), V2), Some(1260));
    assert_eq!(udp4(Mssfix::Mtu(1492), V2), Some(1400));
    for off in [Mssfix::Off, Mssfix::Link(0), Mssfix::Mtu(0), Mssfix::Fixed(0)] {
        assert_eq!(udp4(off, V2), None);
    }
}

#[test]
fn the_transport_counts() {
    let of = |stream, v6| mss_for(Mssfix::Default, V2, Framing::None, 1500, stream, v6);
    assert_eq!(of(false, Some(true)), Some(1380));
    assert_eq!(of(false, None), Some(1380));
    // TCP: 12 more of header and 2 of length.
    assert_eq!(of(true, Some(false)), Some(1386));
    assert_eq!(of(true, None), Some(1366));
}

#[test]
fn another_tun_mtu_is_taken_as_it_is() {
    assert_eq!(mss_for(Mssfix::Default, V2, Framing::None, 1400, false, Some(false)), Some(1360));
    assert_eq!(mss_for(Mssfix::Default, V2, Framing::None, 9000, true, None), Some(8960));
}

/// Seen with OpenVPN's `compress stub` and P_DATA_V1: 1402. The second version adds nothing to IP packets.
#[test]
fn framing_counts_unless_the_inner_size_is_given() {
    let of = |mssfix, framing| mss_for(mssfix, DataFormat::V1, framing, 1500, false, Some(false));
    let all = |mssfix| Framing::ALL.map(|framing| of(mssfix, framing));
    assert_eq!(all(Mssfix::Default), [Some(1403), Some(1402), Some(1402), Some(1403)]);
    assert_eq!(all(Mssfix::Link(1000)), [Some(939), Some(938), Some(938), Some(939)]);
    assert_eq!(all(Mssfix::Fixed(1300)), [Some(1260); 4]);
}

/// An `mssfix` that leaves no room for a segment leaves TCP alone.
#[test]
fn a_size_for_nothing_is_off() {
    let of = |size| mss_for(Mssfix::Fixed(size), V2, Framing::None, 1500, false, None);
    assert_eq!([of(1), of(39), of(40), of(41)], [None, None, None, Some(1)]);
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | c.get(1).map_or(0, |&b| u32::from(b))).sum()
}

/// The TCP checksum from scratch, with a zero in its place.
fn tcp_checksum(packet: &[u8]) -> u16 {
    let (addresses, at) = if packet[0] >> 4 == 4 {
        (&packet[12..20], usize::from(packet[0] & 15) * 4)
    } else {
        (&packet[8..40], 40)
    };
    let mut tcp = packet[at..].to_vec();
    tcp[16..18].fill(0);
    let mut total = sum(addresses) + 6 + tcp.len() as u32 + sum(&tcp);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

fn segment(v6: bool, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    assert!(header.is_multiple_of(4) && header <= 60);
    let len = header + payload.len();
    let mut packet = if v6 {
        let mut ip = vec![0x60, 0, 0, 0, (len >> 8) as u8, len as u8, 6, 64];
        ip.extend((0..32).map(|i| i * 7));
        ip
    } else {
        let total = len + 20;
        vec![0x45, 0, (total >> 8) as u8, total as u8, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 8, 0, 1, 10, 8, 0, 2]
    };
    let at = packet.len();
    packet.extend([0x30, 0x39, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, (header as u8 / 4) << 4, flags, 0xff, 0xff]);
    packet.extend([0, 0, 0, 0]);
    packet.extend(options);
    packet.extend(payload);
    let check = tcp_checksum(&packet);
    packet[at + 16..at + 18].copy_from_slice(&check.to_be_bytes());
    packet
}

fn clamped(packet: &[u8], mss: u16) -> Vec<u8> {
    let mut out = packet.to_vec();
    clamp(&mut out, mss);
    out
}

#[test]
fn only_a_larger_mss_of_a_syn_is_lowered() {
    let option = [2, 4, 0x05, 0xb4];
    let at = |v6: bool| if v6 { 62 } else { 42 };
    for v6 in [false, true] {
        for flags in [SYN, SYN | 0x10] {
            let out = clamped(&segment(v6, flags, &option, &[]), 1200);
            assert_eq!(be16(&out, at(v6)), if v6 { 1180 } else { 1200 });
        }
        let ack = segment(v6, 0x10, &option, &[]);
        assert_eq!(clamped(&ack, 1200), ack);
        let syn = segment(v6, SYN, &option, &[]);
        assert_eq!(clamped(&syn, 1480), syn);
    }
}

#[test]
fn fragments_wrong_lengths_and_other_protocols_stay() {
    let syn = segment(false, SYN, &[2, 4, 0x05, 0xb4], &[]);
    for change in [
        |p: &mut Vec<u8>| p[7] = 1,
        |p: &mut Vec<u8>| p[3] += 1,
        |p: &mut Vec<u8>| p[9] = 17,
        |p: &mut Vec<u8>| p[0] = 0x44,
        |p: &mut Vec<u8>| p[0] = 0x55,
        |p: &mut Vec<u8>| p[32] = 0xf0,
        |p: &mut Vec<u8>| p.truncate(43),
        |p: &mut Vec<u8>| p.clear(),
    ] {
        let mut packet = syn.clone();
        change(&mut packet);
        assert_eq!(clamped(&packet, 1200), packet);
    }
    let mut v6 = segment(true, SYN, &[2, 4, 0x05, 0xb4], &[]);
    v6[6] = 0;
    assert_eq!(clamped(&v6, 1200), v6);
}

/// RFC 791: options make the IP header longer, and one below 20 bytes is none.
#[test]
fn the_segment_is_where_the_ip_header_ends() {
    let syn = segment(false, SYN, &[2, 4, 0x05, 0xb4], &[]);
    let mut with_options = [&syn[..20], &[1, 1, 1, 1], &syn[20..]].concat();
    with_options[0] = 0x46;
    with_options[3] += 4;
    let out = clamped(&with_options, 1200);
    assert_eq!(be16(&out, 46), 1200);
    assert_eq!(be16(&out, 40), tcp_checksum(&out));
    // A SYN with its flags where a header of 16 bytes would put them.
    let mut short = [&syn[..16], &syn[20..], &[0; 4]].concat();
    short[0] = 0x44;
    assert_eq!(clamped(&short, 1200), short);
}

/// RFC 9293: kind 2 with length 4 is the MSS, wherever it stands among the options, and nothing else is.
#[test]
fn only_the_mss_option_itself_is_lowered() {
    for options in
        [&[3, 4, 0xff, 0xff][..], &[2, 3, 0xff, 0xff], &[2, 5, 0xff, 0xff, 0xff, 0, 0, 0], &[0, 2, 4, 5]]
    {
        let syn = segment(false, SYN, options, &[]);
        assert_eq!(clamped(&syn, 1200), syn, "{options:?}");
    }
    let late = segment(false, SYN, &[4, 2, 3, 3, 7, 1, 2, 4, 0x05, 0xb4, 0, 0], &[]);
    assert_eq!(be16(&clamped(&late, 1200), 40 + 8), 1200);
}

/// An option that claims more than the TCP header has left is none of the header's.
#[test]
fn an_option_that_overhangs_the_header_is_left_alone() {
    for options in [[1, 1, 2, 4], [1, 1, 1, 2], [1, 2, 4, 9]] {
        let syn = segment(false, SYN, &options, &[0xff; 4]);
        assert_eq!(clamped(&syn, 1200), syn, "{options:?}");
    }
}

/// RFC 1624: the sum folds twice, as the first fold may carry once more.
#[test]
fn a_carry_out_of_the_first_fold_is_not_lost() {
    let options = [1, 2, 4, 0x02, 0x00, 0, 0, 0];
    let base = segment(false, SYN, &options, &[0; 2]);
    // In the odd place 0x200 becomes 0x1ff by adding 0x1fefe in all, and with this sum that makes 0x1ffff.
    let wanted = 0x0101;
    let both = wanted + u32::from(tcp_checksum(&base));
    let payload = ((both & 0xffff) + (both >> 16)) as u16;
    let syn = segment(false, SYN, &options, &payload.to_be_bytes());
    assert_eq!(tcp_checksum(&syn), !(wanted as u16));
    let out = clamped(&syn, 0x01ff);
    assert_eq!(be16(&out, 43), 0x01ff);
    assert_eq!(be16(&out, 36), tcp_checksum(&out));
}

/// Options in any number and order, padded to whole words.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        Just(vec![1]),
        any::<u16>().prop_map(|v| vec![2, 4, (v >> 8) as u8, v as u8]),
        any::<u8>().prop_map(|v| vec![3, 3, v]),
        Just(vec![4, 2]),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(one, 0..6).prop_map(|all| {
        let mut bytes = all.concat();
        bytes.truncate(40);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    })
}

proptest! {
    #[test]
    fn the_checksum_stays_right(
        v6: bool,
        options in options(),
        payload in proptest::collection::vec(any::<u8>(), 0..40),
        mss in 20u16..2000,
    ) {
        let before = segment(v6, SYN, &options, &payload);
        let after = clamped(&before, mss);
        let at = if v6 { 40 } else { 20 };
        let stored = be16(&after, at + 16);
        let expected = tcp_checksum(&after);
        // Zero has two forms in one's complement.
        prop_assert!(stored == expected || stored ^ expected == 0xffff && (stored == 0 || expected == 0));
        // Nothing but checksum and options changes.
        prop_assert_eq!(&before[..at + 16], &after[..at + 16]);
        prop_assert_eq!(&before[at + 18..at + 20], &after[at + 18..at + 20]);
        prop_assert_eq!(&before[at + 20 + options.len()..], &after[at + 20 + options.len()..]);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(mut packet in proptest::collection::vec(any::<u8>(), 0..120), mss: u16) {
        clamp(&mut packet, mss);
        if let Some(first) = packet.first_mut() {
            *first = 0x45;
        }
        clamp(&mut packet, mss);
    }
}
