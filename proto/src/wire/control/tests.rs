use proptest::prelude::*;

use super::*;
use crate::limits::MAX_ACKS;

const CONTROL: [Opcode; 7] = [
    Opcode::SoftResetV1,
    Opcode::ControlV1,
    Opcode::AckV1,
    Opcode::HardResetClientV2,
    Opcode::HardResetServerV2,
    Opcode::HardResetClientV3,
    Opcode::ControlWkcV1,
];

#[test]
fn nine_acks_are_too_many() {
    let mut body = vec![9];
    body.resize(1 + 9 * 4 + 8 + 4, 1);
    assert_eq!(ControlBody::parse(Opcode::ControlV1, &body), Err(DropReason::TooManyAcks));
    body[0] = 8;
    assert_eq!(ControlBody::parse(Opcode::ControlV1, &body).unwrap().acks.len(), 8);
}

#[test]
fn ack_packet_ignores_trailing_bytes() {
    let body = ControlBody::parse(Opcode::AckV1, &[0, 1, 2, 3, 4, 5]).unwrap();
    assert_eq!(body.message, None);
    assert_eq!(body.payload, b"");
}

#[test]
fn every_truncation_of_the_fixed_part_is_malformed() {
    let body = [2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 5];
    assert!(ControlBody::parse(Opcode::ControlV1, &body).is_ok());
    for end in 0..body.len() {
        let got = ControlBody::parse(Opcode::ControlV1, &body[..end]);
        assert_eq!(got, Err(DropReason::Malformed), "{end}");
    }
}

#[test]
fn undefined_receiver_session_is_never_skipped() {
    let body = [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    assert_eq!(ControlBody::parse(Opcode::ControlV1, &body), Err(DropReason::WrongAckSessionId));
}

#[test]
fn data_opcodes_have_no_control_body() {
    for opcode in [Opcode::DataV1, Opcode::DataV2] {
        assert_eq!(ControlBody::parse(opcode, &[0; 20]), Err(DropReason::UnexpectedOpcode));
    }
}

#[test]
fn early_negotiation_records() {
    let parse = EarlyNegotiation::parse;
    assert_eq!(parse(&[]), Ok(EarlyNegotiation { resend_wkc: false }));
    assert_eq!(parse(&[0, 1, 0, 2, 0, 1]), Ok(EarlyNegotiation { resend_wkc: true }));
    assert_eq!(parse(&[0, 1, 0, 2, 0xff, 0xfe]), Ok(EarlyNegotiation { resend_wkc: false }));
    assert_eq!(parse(&[9, 9, 0, 1, 7, 0, 1, 0, 2, 0, 1]), Ok(EarlyNegotiation { resend_wkc: true }));
    for bad in [&[0, 1, 0, 3, 0, 0, 1][..], &[0, 1, 0, 2, 0], &[0, 1, 0], &[0], &[5, 5, 0, 9, 1]] {
        assert_eq!(parse(bad), Err(DropReason::EarlyNegotiation), "{bad:?}");
    }
    let mut out = Vec::new();
    EarlyNegotiation { resend_wkc: true }.emit(&mut out);
    assert_eq!(out, [0, 1, 0, 2, 0, 1]);
}

proptest! {
    #[test]
    fn body_comes_back(
        opcode in proptest::sample::select(&CONTROL[..]),
        acks in proptest::collection::vec(any::<u32>(), 0..=MAX_ACKS),
        session in any::<[u8; 8]>().prop_filter("undefined", |s| *s != [0; 8]),
        message in any::<u32>(),
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let ack_only = opcode == Opcode::AckV1;
        let body = ControlBody {
            acks: acks.iter().copied().map(MessageId).collect(),
            remote_session: if acks.is_empty() { None } else { SessionId::new(session) },
            message: (!ack_only).then_some(MessageId(message)),
            payload: if ack_only { &[] } else { &payload },
        };
        let mut out = Vec::new();
        body.emit(&mut out);
        prop_assert_eq!(out.len(), body.len());
        prop_assert_eq!(ControlBody::parse(opcode, &out), Ok(body));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_reemit_as_they_were(
        opcode in proptest::sample::select(&CONTROL[..]),
        bytes in proptest::collection::vec(any::<u8>(), 0..128),
    ) {
        let _ = EarlyNegotiation::parse(&bytes);
        if let Ok(body) = ControlBody::parse(opcode, &bytes) {
            let mut out = Vec::new();
            body.emit(&mut out);
            prop_assert_eq!(&out[..], &bytes[..out.len()]);
            prop_assert_eq!(out.len(), body.len());
        }
    }
}
