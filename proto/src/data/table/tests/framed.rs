//! Compression framing through the whole table.

use proptest::prelude::*;

use super::*;
use crate::report::Misframed;

const FORMATS: [DataFormat; 3] =
    [DataFormat::V1, DataFormat::V2(PeerId::from_low_bits(3)), DataFormat::Epoch(PeerId::from_low_bits(3))];

/// A client and a server that frame so, and know each other.
fn pair(format: DataFormat, ours: Framing, theirs: Framing) -> (Table, Table) {
    let (mut c, mut s) = (Table::new(), Table::new());
    add(&mut c, peer(0), udp(1194), DataParams { framing: ours, ..params(format, true) });
    install(&mut c, peer(0), KEY, data(0, TlsRole::Client, KeyLimits::default()));
    // Without peer-id the server finds its client by path.
    let by_path = format == DataFormat::V1;
    add(&mut s, peer(3), udp(5000), DataParams { framing: theirs, ..params(format, by_path) });
    install(&mut s, peer(3), KEY, data(0, TlsRole::Server, KeyLimits::default()));
    route_all(&mut s, peer(3));
    (c, s)
}

#[test]
fn each_framing_crosses_in_each_format_and_is_as_long_as_foretold() {
    for (format, framing) in FORMATS.into_iter().flat_map(|f| Framing::ALL.map(|framing| (f, framing))) {
        let (mut c, mut s) = pair(format, framing, framing);
        let plain = ip([1; 4], [2; 4]);
        let Outgoing { front, tail, .. } = c.outgoing(peer(0)).unwrap();
        assert_eq!(front + tail, crate::data::overhead(format) + framing.overhead());
        let mut buf = [0; 128];
        buf[front..front + plain.len()].copy_from_slice(&plain);
        let room = front + plain.len() + tail;
        let sealed = c.seal(NOW, peer(0), &mut Slot::new(&mut buf[..room], front, plain.len())).unwrap();
        assert_eq!((sealed.start, sealed.len), (0, room), "{format:?} {framing:?}");
        assert_eq!(open(&mut s, udp(5000), &buf[..room]), Ok((peer(3), Some(plain.clone()))));
        let back = seal(&mut s, peer(3), &plain);
        assert_eq!(open(&mut c, udp(1194), &back), Ok((peer(0), Some(plain))));
    }
}

#[test]
fn pings_and_exit_notices_are_framed_too() {
    for (format, framing) in FORMATS.into_iter().flat_map(|f| Framing::ALL.map(|framing| (f, framing))) {
        let (mut c, mut s) = pair(format, framing, framing);
        c.apply(NOW, Directive::SendPing { peer: peer(0) });
        c.apply(NOW, Directive::SendExit { peer: peer(0) });
        let mut out = [0; MAX_OWN_PACKET];
        for message in [inner::PING.len(), inner::EXIT.len()] {
            let len = c.poll_transmit(&mut out).unwrap().len;
            assert_eq!(len, message + crate::data::overhead(format) + framing.overhead());
            assert_eq!(open(&mut s, udp(5000), &out[..len]), Ok((peer(3), None)));
        }
        assert_eq!(reports(&mut s).last(), Some(&Report::PeerExit { peer: peer(3) }));
    }
}

#[test]
fn another_framing_is_dropped_and_told_once() {
    use Misframed::Other;
    for (ours, theirs, reason, found) in [
        (Framing::None, Framing::Stub, DropReason::Framing, Other(0x45)),
        (Framing::Swap, Framing::Stub, DropReason::Framing, Other(0xfb)),
        (Framing::Stub, Framing::Swap, DropReason::Framing, Other(0xfa)),
        (Framing::Stub, Framing::None, DropReason::NotIp, Other(0xfa)),
        (Framing::Swap, Framing::StubV2, DropReason::NotIp, Other(0xfb)),
    ] {
        let (mut c, mut s) = pair(v2(3), ours, theirs);
        for _ in 0..3 {
            let packet = seal(&mut c, peer(0), &ip([1; 4], [2; 4]));
            assert_eq!(open(&mut s, udp(5000), &packet), Err(reason), "{ours:?} {theirs:?}");
        }
        assert_eq!(s.drops().get(reason), 3);
        let mut told = reports(&mut s);
        told.retain(|report| matches!(report, Report::Misframed { .. }));
        let expected: &[Report] = match theirs {
            // It looks like any packet that nobody knows.
            Framing::StubV2 => &[],
            _ => &[Report::Misframed { peer: peer(3), found }],
        };
        assert_eq!(told, expected);
        let usage = s.usage(peer(3)).unwrap();
        assert_eq!(usage.rx_packets, 3, "they are the peer's all the same");
        s.apply(NOW, Directive::AskActivity { peer: peer(3) });
        let Some(Report::Activity { totals, .. }) = s.poll_report() else { panic!("no answer") };
        assert_eq!(totals.rx_packets, 0, "and keep no idle tunnel up");
    }
}

/// Beginnings of packets that OpenVPN 2.6 compressed with LZO and LZ4.
#[test]
fn compressed_packets_have_a_reason_of_their_own() {
    for (framing, frame) in [
        (Framing::Stub, &[0x66, 0x01, 0x64, 0x50, 0, 0x53][..]),
        (Framing::Swap, &[0x69, 0x18, 0x45, 0, 0x53, 0x04]),
        (Framing::StubV2, &[0x50, 0x01, 0xf0, 0x18, 0x45]),
    ] {
        let (mut c, mut s) = pair(v2(3), Framing::None, framing);
        let packet = seal(&mut c, peer(0), frame);
        assert_eq!(open(&mut s, udp(5000), &packet), Err(DropReason::Compressed));
        assert_eq!(s.drops().get(DropReason::Compressed), 1);
        let told = Report::Misframed { peer: peer(3), found: Misframed::Compressed };
        assert_eq!(reports(&mut s).last(), Some(&told));
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        format in prop::sample::select(&FORMATS[..]),
        framing in prop::sample::select(&Framing::ALL[..]),
        lengths in prop::collection::vec(20_usize..1500, 1..8),
    ) {
        let (mut c, mut s) = pair(format, framing, framing);
        for (n, len) in lengths.into_iter().enumerate() {
            let mut plain = vec![n as u8; len];
            plain[0] = 0x45;
            let packet = seal(&mut c, peer(0), &plain);
            prop_assert_eq!(open(&mut s, udp(5000), &packet), Ok((peer(3), Some(plain))));
        }
    }
}
