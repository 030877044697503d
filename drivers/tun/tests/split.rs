//! Super-packets taken apart, against packets that were made one by one.

#![expect(clippy::unwrap_used, reason = "tests")]

mod packets;

use oxivpn_tun::offload::{Gso, OffloadError, Split, VnetHeader};
use packets::{ACK, CWR, DF, FIN, PSH, Packet, filler, sum};
use proptest::prelude::*;

fn split(header: &VnetHeader, packet: &[u8]) -> Result<Vec<Vec<u8>>, OffloadError> {
    let mut split = Split::new(header, packet)?;
    let mut packets = Vec::new();
    while let Some(len) = split.next_len() {
        let mut out = vec![0xa5; len + 3];
        assert_eq!(split.clone().write_next(&mut out[..len - 1]), None, "one byte short");
        assert_eq!(split.write_next(&mut out), Some(len));
        assert_eq!(out.split_off(len), [0xa5; 3], "written beyond the packet");
        packets.push(out);
    }
    assert_eq!(split.write_next(&mut [0; 70_000]), None);
    Ok(packets)
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let network = (any::<bool>(), any::<u8>(), any::<u16>(), any::<bool>(), 0..4usize);
    let transport = (any::<bool>(), any::<u32>(), any::<u8>(), any::<u16>(), 0..=10usize);
    let payload = (prop_oneof![0..70usize, 0..9_000usize, 60_000..65_000usize], any::<u32>());
    (network, transport, payload).prop_map(|((v6, tos, id, df, options), tcp, (len, seed))| {
        let (tcp, seq, flags, window, words) = tcp;
        let mut packet = Packet::new(v6, tcp);
        packet.tos = tos;
        packet.id = id;
        packet.fragment = if df { DF } else { 0 };
        packet.ip_options = match v6 {
            // Hop-by-hop options, then destination options, both only padding.
            true => [vec![60, 0, 1, 4, 0, 0, 0, 0], vec![if tcp { 6 } else { 17 }, 1, 1, 12], vec![0; 12]]
                .concat(),
            false => vec![1; 4 * options],
        };
        if v6 && options < 2 {
            packet.ip_options.clear();
        }
        packet.seq = seq;
        packet.flags = flags;
        packet.window = window;
        packet.tcp_options = filler(4 * words, seed ^ 7);
        packet.payload = filler(len, seed);
        packet
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_super_packet_becomes_its_segments(
        packet in any_packet(),
        size in prop_oneof![1..40u16, 500..1_500u16, any::<u16>()],
        header_len in any::<u16>(),
    ) {
        let size = size.max(1).max(u16::try_from(packet.payload.len() / 300).unwrap());
        let mut header = packet.vnet(size);
        header.header_len = header_len;
        let expected = packet.segments(size.into());
        prop_assert_eq!(&split(&header, &packet.partial_bytes()).unwrap(), &expected);
        // A checksum that is no partial one is taken for nothing.
        header.flags = 0;
        prop_assert_eq!(split(&header, &packet.bytes()).unwrap(), expected);
    }

    #[test]
    fn one_packet_has_its_checksum_completed_or_stays_as_it_is(packet in any_packet()) {
        let header = VnetHeader { gso: Gso::None, segment_size: 0, ..packet.vnet(0) };
        let mut expected = packet.bytes();
        let at = packet.checksum_at();
        if expected[at..at + 2] == [0, 0] {
            expected[at..at + 2].copy_from_slice(&[0xff, 0xff]);
        }
        prop_assert_eq!(split(&header, &packet.partial_bytes()).unwrap(), [expected]);
        let damaged = packet.partial_bytes();
        prop_assert_eq!(split(&VnetHeader::PLAIN, &damaged).unwrap(), [damaged]);
    }

    #[test]
    fn nothing_makes_it_panic(
        packet in any_packet(),
        header: [u8; 10],
        own in any::<bool>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        head in any::<bool>(),
    ) {
        let mut bytes = packet.partial_bytes();
        for (place, value) in damage {
            let reach = if head { packet.headers() } else { bytes.len() };
            bytes[place.index(reach)] = value;
        }
        bytes.truncate(cut.index(bytes.len() * 2));
        let mut header = header;
        header[1] = [0, 1, 4, 5, 0x81, 0x84][usize::from(header[1] % 6)];
        let header = if own { packet.vnet(1_400) } else { VnetHeader::parse(&header).unwrap() };
        if let Ok(mut split) = Split::new(&header, &bytes) {
            let mut out = vec![0; 70_000];
            let mut total = 0;
            while let Some(len) = split.write_next(&mut out) {
                prop_assert!(len <= bytes.len() && len > 0);
                total += len;
            }
            prop_assert!(total >= bytes.len().min(1) && split.next_len().is_none());
        }
    }
}

fn malformed(header: VnetHeader, packet: &[u8]) -> String {
    Split::new(&header, packet).unwrap_err().to_string()
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let mut packet = Packet::new(false, true);
    packet.payload = filler(3_000, 1);
    let (header, bytes) = (packet.vnet(1_000), packet.partial_bytes());
    assert!(malformed(header, &bytes[..bytes.len() - 1]).contains("not as long"), "cut by a short buffer");
    assert!(malformed(VnetHeader { segment_size: 0, ..header }, &bytes).contains("without size"));
    assert!(malformed(VnetHeader { gso: Gso::TcpV6, ..header }, &bytes).contains("kind"));
    assert!(malformed(VnetHeader { gso: Gso::UdpL4, ..header }, &bytes).contains("kind"));
    assert!(malformed(VnetHeader { csum_start: 24, ..header }, &bytes).contains("where the transport"));
    assert!(malformed(VnetHeader { csum_offset: 6, ..header }, &bytes).contains("where the transport"));
    let fragment = Packet { fragment: 0x2000, ..packet.clone() };
    assert!(malformed(header, &fragment.partial_bytes()).contains("kind"));
    let mut short = bytes.clone();
    short[32] = 0x40;
    assert!(malformed(header, &short).contains("TCP header"));
    assert!(malformed(VnetHeader::PLAIN, &[]).contains("empty"));
    let one = VnetHeader { gso: Gso::None, csum_start: 3_040, ..header };
    assert!(malformed(one, &bytes).contains("outside"));
    let six = Packet { v6: true, ..packet };
    assert!(
        malformed(VnetHeader { gso: Gso::TcpV4, ..six.vnet(1_000) }, &six.partial_bytes()).contains("kind")
    );
}

/// The checksum of a packet with a routing header is over the last stop, which only the sender's partial sum tells.
#[test]
fn a_source_route_keeps_the_checksum_of_the_last_stop() {
    let mut packet = Packet::new(true, true);
    packet.payload = filler(2_500, 3);
    let mut route = vec![43, 0, 1, 4, 0, 0, 0, 0, 6, 2, 4, 1, 0, 0, 0, 0];
    route.extend([0xfe; 16]);
    packet.ip_options = route;
    let mut bytes = packet.partial_bytes();
    let last_stop = [0xfe; 16];
    let partial = |len: usize| {
        let mut pseudo = bytes[8..24].to_vec();
        pseudo.extend(last_stop);
        pseudo.extend(u32::try_from(len).unwrap().to_be_bytes());
        pseudo.extend([0, 0, 0, 6]);
        pseudo
    };
    let whole = sum(&partial(bytes.len() - packet.transport()));
    let parts: Vec<Vec<u8>> = [1_000, 1_000, 500].map(|len| partial(len + 32)).to_vec();
    let at = packet.checksum_at();
    bytes[at..at + 2].copy_from_slice(&whole.to_be_bytes());
    for (mut pseudo, segment) in parts.into_iter().zip(split(&packet.vnet(1_000), &bytes).unwrap()) {
        pseudo.extend(&segment[packet.transport()..]);
        assert_eq!(sum(&pseudo), 0xffff);
    }
}

#[test]
fn flags_go_where_they_belong() {
    let mut packet = Packet::new(true, true);
    packet.payload = filler(2_500, 2);
    packet.flags = ACK | PSH | FIN | CWR;
    let flags: Vec<u8> =
        split(&packet.vnet(1_000), &packet.partial_bytes()).unwrap().iter().map(|p| p[53]).collect();
    assert_eq!(flags, [ACK | CWR, ACK, ACK | PSH | FIN]);
}

/// A datagram that was sent without checksum over IPv4 stays so.
#[test]
fn a_datagram_without_checksum_gets_none() {
    let mut packet = Packet::new(false, false);
    packet.payload = filler(2_500, 2);
    let mut bytes = packet.bytes();
    bytes[26..28].fill(0);
    let header = VnetHeader { flags: 0, ..packet.vnet(1_000) };
    for segment in split(&header, &bytes).unwrap() {
        assert_eq!(segment[26..28], [0, 0]);
    }
}

#[test]
fn a_checksum_of_zero_is_not_taken_for_none() {
    for v6 in [false, true] {
        let mut packet = Packet::new(v6, false);
        packet.payload = filler(500, 5);
        packet.zero_checksum();
        for header in [packet.vnet(500), VnetHeader { gso: Gso::None, ..packet.vnet(0) }] {
            assert_eq!(split(&header, &packet.partial_bytes()).unwrap(), [packet.bytes()]);
        }
    }
}
