use proptest::prelude::*;

use super::*;

const IP28: &str = "4500001c000140004001264e0a0900010a0900020800f7fd00010001";
const SWAPPED: &str = "fb00001c000140004001264e0a0900010a0900020800f7fd0001000145";

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn framed(framing: Framing, payload: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut buf = [&[0xee; 2], payload, &[0xee]].concat();
    let mut slot = Slot::new(&mut buf, 2, payload.len());
    framing.add(&mut slot)?;
    Ok(slot.payload().to_vec())
}

fn stripped(framing: Framing, frame: &[u8]) -> Result<Vec<u8>, Misframed> {
    let mut frame = frame.to_vec();
    let (front, tail) = framing.strip(&mut frame)?;
    Ok(frame[front..frame.len() - tail].to_vec())
}

/// As OpenVPN processes sent them, but for the escape: OpenVPN 2 sends one that it doesn't take itself.
#[test]
fn frames_are_those_of_openvpn() {
    let plain = bytes(IP28);
    let framed = |framing, payload: &[u8]| hex::encode(framed(framing, payload).unwrap());
    assert_eq!(framed(Framing::None, &plain), IP28);
    assert_eq!(framed(Framing::Stub, &plain), format!("fa{IP28}"));
    assert_eq!(framed(Framing::Swap, &plain), SWAPPED);
    assert_eq!(framed(Framing::StubV2, &plain), IP28);
    assert_eq!(framed(Framing::StubV2, &[0x50, 0x11, 0x22]), "5000501122");
    let taken = |framing, frame: &str| stripped(framing, &bytes(frame));
    assert_eq!(taken(Framing::Stub, &format!("fa{IP28}")), Ok(plain.clone()));
    assert_eq!(taken(Framing::Swap, SWAPPED), Ok(plain.clone()));
    assert_eq!(taken(Framing::StubV2, IP28), Ok(plain));
    for escape in ["5000501122", "500a501122"] {
        assert_eq!(taken(Framing::StubV2, escape), Ok(vec![0x50, 0x11, 0x22]));
    }
}

/// Beginnings of frames that OpenVPN compressed.
#[test]
fn what_is_compressed_is_told_from_what_is_framed_in_another_way() {
    let taken = |framing, frame: &str| stripped(framing, &bytes(frame));
    for (framing, frame) in [
        (Framing::Stub, "660003450000c8000140"),
        (Framing::Swap, "6906450000c800014000ff"),
        (Framing::Stub, "67aa"),
        (Framing::StubV2, "5001ff06450000c80001"),
        (Framing::StubV2, "5002ff"),
    ] {
        assert_eq!(taken(framing, frame), Err(Misframed::Compressed), "{frame}");
    }
    for (framing, frame, byte) in [
        (Framing::Stub, IP28, 0x45),
        (Framing::Stub, SWAPPED, 0xfb),
        (Framing::Swap, IP28, 0x45),
        (Framing::Swap, "fa4500001c", 0xfa),
        (Framing::StubV2, "50", 0x50),
        (Framing::StubV2, "5004", 0x50),
    ] {
        assert_eq!(taken(framing, frame), Err(Misframed::Other(byte)), "{frame}");
    }
    assert_eq!(suspect(&bytes(SWAPPED)), Some(Misframed::Other(0xfb)));
    assert_eq!(suspect(&bytes(IP28)), None);
}

/// OpenVPN drops what is too short, too.
#[test]
fn a_frame_around_nothing_is_empty() {
    for (framing, frame) in
        [(Framing::Stub, &[0xfa][..]), (Framing::Swap, &[0xfb]), (Framing::StubV2, &[0x50, 0])]
    {
        assert_eq!(stripped(framing, frame), Ok(Vec::new()));
        assert_eq!(framed(framing, &[]), Err(SealError::BadLength));
    }
    assert_eq!(framed(Framing::Swap, &[7]), Ok(vec![0xfb, 7]));
    assert_eq!(stripped(Framing::Swap, &[0xfb, 7]), Ok(vec![7]));
}

#[test]
fn a_frame_needs_room() {
    let add = |framing: Framing, buf: &mut [u8], start| framing.add(&mut Slot::new(buf, start, 1));
    assert_eq!(add(Framing::Stub, &mut [7, 0], 0), Err(SealError::NoRoom));
    assert_eq!(add(Framing::Swap, &mut [0, 7], 1), Err(SealError::NoRoom));
    assert_eq!(add(Framing::StubV2, &mut [0, 0x50], 1), Err(SealError::NoRoom));
    assert_eq!(add(Framing::StubV2, &mut [7], 0), Ok(()));
}

proptest! {
    /// Whatever is framed comes out again, and costs what it says.
    #[test]
    fn what_goes_in_comes_out(
        framing in prop::sample::select(&Framing::ALL[..]),
        payload in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x50), Just(0xfb)], 1..60),
    ) {
        let frame = framed(framing, &payload).unwrap();
        let escape = if framing == Framing::StubV2 && payload[0] == 0x50 { 2 } else { 0 };
        prop_assert_eq!(frame.len(), payload.len() + framing.overhead() + escape);
        prop_assert_eq!(stripped(framing, &frame), Ok(payload));
    }

    /// No frame of a peer is taken for more than is there.
    #[test]
    fn any_frame_is_stripped_or_refused(
        framing in prop::sample::select(&Framing::ALL[..]),
        frame in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x50), Just(0xfa), Just(0xfb)], 1..8),
    ) {
        if let Ok(payload) = stripped(framing, &frame) {
            prop_assert!(payload.len() <= frame.len());
        }
    }
}
