//! Control packets behind opcode and session id (`openvpn: ssl_pkt.c`, `reliable.c`).

use super::ack::AckList;
use super::ids::{MessageId, SessionId};
use super::opcode::Opcode;
use super::reader::Reader;
use crate::drops::DropReason;

/// Body of a control packet: all from the ack count on, without protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlBody<'a> {
    /// Acknowledged ids.
    pub acks: AckList,
    /// Session id of the packet's receiver; there if and only if there are acks.
    pub remote_session: Option<SessionId>,
    /// Id of this packet; `None` in P_ACK_V1 only.
    pub message: Option<MessageId>,
    /// TLS bytes, or early negotiation records in a hard reset.
    pub payload: &'a [u8],
}

impl<'a> ControlBody<'a> {
    /// Parses a body. Bytes behind the ack block of P_ACK_V1 are ignored.
    ///
    /// Fails with `TooManyAcks`, `Malformed`, `WrongAckSessionId` for the undefined session id, or
    /// `UnexpectedOpcode` if `opcode` is not of the control channel.
    pub fn parse(opcode: Opcode, body: &'a [u8]) -> Result<Self, DropReason> {
        if opcode.is_data() {
            return Err(DropReason::UnexpectedOpcode);
        }
        let mut reader = Reader::new(body);
        let acks = AckList::parse(&mut reader)?;
        let remote_session = if acks.is_empty() {
            None
        } else {
            Some(SessionId::new(reader.array()?).ok_or(DropReason::WrongAckSessionId)?)
        };
        if opcode == Opcode::AckV1 {
            return Ok(Self { acks, remote_session, message: None, payload: &[] });
        }
        let message = Some(MessageId(reader.u32()?));
        Ok(Self { acks, remote_session, message, payload: reader.rest() })
    }

    /// Appends the wire bytes to `out`. Acks without the receiver's session id can't be expressed and are
    /// left out.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self.remote_session {
            Some(session) if !self.acks.is_empty() => {
                self.acks.emit(out);
                out.extend_from_slice(session.as_bytes());
            }
            _ => AckList::EMPTY.emit(out),
        }
        if let Some(message) = self.message {
            out.extend_from_slice(&message.0.to_be_bytes());
            out.extend_from_slice(self.payload);
        }
    }

    /// Bytes that [`Self::emit`] appends.
    #[expect(clippy::len_without_is_empty, reason = "a body has at least the ack count")]
    pub fn len(&self) -> usize {
        let acks = if self.remote_session.is_some() { Self::ack_block_len(self.acks.len()) } else { 1 };
        acks + self.message.map_or(0, |_| 4 + self.payload.len())
    }

    /// Bytes of an ack block with `acks` ids: count, ids and the receiver's session id.
    pub const fn ack_block_len(acks: usize) -> usize {
        1 + if acks == 0 { 0 } else { 4 * acks + 8 }
    }
}

const TLV_EARLY_NEG_FLAGS: u16 = 1;
const FLAG_RESEND_WKC: u16 = 1;

/// Early negotiation records in the payload of a hard reset (`openvpn: ssl.c`,
/// `parse_early_negotiation_tlvs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EarlyNegotiation {
    /// The server kept no state: message 1 must bring the wrapped client key again.
    pub resend_wkc: bool,
}

impl EarlyNegotiation {
    /// Parses records of type `u16`, length `u16`, value. Unknown types and flags are skipped.
    ///
    /// Fails with `EarlyNegotiation` for a record that exceeds the payload or has the wrong length; that
    /// ends the handshake.
    pub fn parse(payload: &[u8]) -> Result<Self, DropReason> {
        let mut found = Self::default();
        let mut reader = Reader::new(payload);
        while !reader.is_empty() {
            let (kind, value) = Self::record(&mut reader).map_err(|_| DropReason::EarlyNegotiation)?;
            if kind == TLV_EARLY_NEG_FLAGS {
                let flags: [u8; 2] = value.try_into().map_err(|_| DropReason::EarlyNegotiation)?;
                found.resend_wkc |= u16::from_be_bytes(flags) & FLAG_RESEND_WKC != 0;
            }
        }
        Ok(found)
    }

    fn record<'a>(reader: &mut Reader<'a>) -> Result<(u16, &'a [u8]), super::reader::UnexpectedEnd> {
        let kind = reader.u16()?;
        let len = reader.u16()?;
        Ok((kind, reader.take(usize::from(len))?))
    }

    /// Appends the records, none if there is nothing to say.
    pub fn emit(&self, out: &mut Vec<u8>) {
        if self.resend_wkc {
            for word in [TLV_EARLY_NEG_FLAGS, 2, FLAG_RESEND_WKC] {
                out.extend_from_slice(&word.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests;
