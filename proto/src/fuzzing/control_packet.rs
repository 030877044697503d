//! Unprotected control packets and first looks at datagrams.

use crate::drops::DropReason;
use crate::limits::MAX_ACKS;
use crate::wire::control::{ControlBody, EarlyNegotiation};
use crate::wire::data::{Peek, peek};
use crate::wire::opcode::Opcode;

/// `data` is one packet: opcode byte, then the body.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        assert_eq!(peek(data), Peek::Unknown);
        return;
    };
    let Ok((opcode, key)) = Opcode::parse(first) else {
        assert_eq!(peek(data), Peek::Unknown);
        return;
    };
    assert_eq!(opcode.header(key), first);
    if let Peek::Data(header) = peek(data) {
        assert!(opcode.is_data());
        assert_eq!(header.to_bytes()[..header.len], data[..header.len]);
    }
    match ControlBody::parse(opcode, rest) {
        Ok(body) => emits_what_it_read(opcode, &body, rest),
        Err(reason) => assert!(matches!(
            reason,
            DropReason::Malformed
                | DropReason::TooManyAcks
                | DropReason::WrongAckSessionId
                | DropReason::UnexpectedOpcode
        )),
    }
}

fn emits_what_it_read(opcode: Opcode, body: &ControlBody<'_>, read: &[u8]) {
    assert!(opcode.is_control());
    assert!(body.acks.len() <= MAX_ACKS);
    assert_eq!(body.acks.is_empty(), body.remote_session.is_none());
    assert_eq!(body.message.is_none(), opcode == Opcode::AckV1);
    let mut out = Vec::new();
    body.emit(&mut out);
    assert_eq!(out.len(), body.len());
    assert_eq!(out, read[..out.len()]);
    if let Ok(found) = EarlyNegotiation::parse(body.payload) {
        let mut records = Vec::new();
        found.emit(&mut records);
        assert_eq!(EarlyNegotiation::parse(&records), Ok(found));
    }
}
