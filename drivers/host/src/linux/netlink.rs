//! One rtnetlink request and its answer at a time.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::HostError;

/// Length of `struct nlmsghdr`, bytes.
const HEADER: usize = 16;
/// `NLMSGERR_ATTR_MSG` of linux/netlink.h: a text that explains the error.
const ATTR_MSG: u16 = 1;
/// How often a dump is repeated if the kernel's tables changed under it.
const DUMP_TRIES: usize = 8;

/// What the kernel refused with.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) source: io::Error,
    /// The kernel's own text (extended acknowledgement), such as "Nexthop has invalid gateway".
    pub(super) explanation: Option<String>,
}

impl Refusal {
    pub(super) fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }

    pub(super) fn to(self, what: String) -> HostError {
        HostError::Refused { what, source: self.source, explanation: self.explanation }
    }
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Self {
        Self { source, explanation: None }
    }
}

/// An rtnetlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> Result<Self, HostError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Both are comfort: without them errors come without the kernel's explanation.
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            Ok(socket)
        };
        let socket = open().map_err(|source| HostError::Netlink { doing: "open a socket", source })?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request that changes something and waits for the acknowledgement. `flags` are added to
    /// `NLM_F_REQUEST | NLM_F_ACK`.
    pub(super) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
        self.exchange(message, flags | NLM_F_ACK).map(drop)
    }

    /// Asks for one object. The acknowledgement that follows the object ends the answer.
    pub(super) fn get(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, Refusal> {
        Ok(self.exchange(message, NLM_F_ACK)?.messages.into_iter().next())
    }

    /// Asks for all objects of a kind, again if they changed meanwhile.
    pub(super) fn dump(
        &mut self,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        for _ in 0..DUMP_TRIES {
            let answer = self.exchange(message.clone(), NLM_F_DUMP)?;
            if !answer.interrupted {
                return Ok(answer.messages);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the kernel's tables keep changing during the dump")
            .into())
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<Answer, Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answer = Answer::default();
        loop {
            let (datagram, from) = match self.socket.recv_from_full() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            // Only the kernel has port 0; other processes may send to our socket too.
            if from.port_number() == 0 && answer.take(&datagram, self.sequence)? {
                return Ok(answer);
            }
        }
    }
}

#[derive(Default)]
struct Answer {
    messages: Vec<RouteNetlinkMessage>,
    interrupted: bool,
}

impl Answer {
    /// Takes one datagram of possibly several messages; true once the answer is complete.
    fn take(&mut self, datagram: &[u8], sequence: u32) -> Result<bool, Refusal> {
        let mut rest = datagram;
        while rest.len() >= HEADER {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = message.header.length as usize;
            let aligned = length.next_multiple_of(4).min(rest.len());
            if length < HEADER {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            }
            rest = &rest[aligned..];
            if message.header.sequence_number != sequence {
                continue;
            }
            self.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => self.messages.push(inner),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(-done.code).into());
                }
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                NetlinkPayload::Error(error) => {
                    let capped = message.header.flags & NLM_F_CAPPED != 0;
                    let explanation = explanation(&error.header, capped);
                    return Err(Refusal { source: error.to_io(), explanation });
                }
                NetlinkPayload::Overrun(_) => return Err(io::Error::from_raw_os_error(libc::ENOBUFS).into()),
                _ => {}
            }
        }
        Ok(false)
    }
}

/// Finds the text in an extended acknowledgement: the request's header, the request itself unless `capped`, then
/// attributes.
fn explanation(payload: &[u8], capped: bool) -> Option<String> {
    let request = u32::from_ne_bytes(payload.get(..4)?.try_into().ok()?) as usize;
    let mut rest = payload.get(if capped { HEADER } else { request.next_multiple_of(4) }..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        if kind == ATTR_MSG {
            let text = String::from_utf8_lossy(value);
            return Some(text.trim_end_matches('\0').trim_end_matches('.').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_explanation_is_found_whether_or_not_the_request_is_echoed() {
        let mut attributes = vec![8, 0, 2, 0, 1, 2, 3, 4];
        attributes.extend([9, 0, 1, 0, b'o', b'h', b'!', b'.', 0, 0, 0, 0]);
        let mut header = [0; HEADER];
        header[0] = 20;
        let capped = [&header[..], &attributes].concat();
        assert_eq!(explanation(&capped, true).as_deref(), Some("oh!"));
        let echoed = [&header[..], &[0xff; 4], &attributes].concat();
        assert_eq!(explanation(&echoed, false).as_deref(), Some("oh!"));
    }

    #[test]
    fn a_mangled_answer_is_no_explanation() {
        for bytes in [
            &[][..],
            &[16, 0, 0, 0],
            &[0xff; 40],
            &[16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1],
        ] {
            assert_eq!(explanation(bytes, true), None);
            assert_eq!(explanation(bytes, false), None);
        }
    }
}
