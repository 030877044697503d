//! Ordered delivery of control packets over lossy datagrams (`openvpn: reliable.c`).
//!
//! A [`ReliableSend`], a [`ReliableRecv`] and an [`AckDebt`] belong to one key exchange; message ids start at
//! 0 in each. Ids compare modulo 2^32. The same timers run on TCP.

pub mod acks;
pub mod recv;
pub mod rto;
pub mod send;

pub use acks::AckDebt;
pub use recv::{Accept, Incoming, ReliableRecv};
pub use rto::Backoff;
pub use send::{Outgoing, ReliableSend};

use crate::wire::ids::MessageId;

/// Whether `a` comes before `b`, modulo 2^32.
const fn is_before(a: MessageId, b: MessageId) -> bool {
    (a.0.wrapping_sub(b.0) as i32) < 0
}

const fn next_id(id: MessageId) -> MessageId {
    MessageId(id.0.wrapping_add(1))
}

#[cfg(test)]
mod tests;
