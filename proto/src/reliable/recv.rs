//! Receiving side: holds packets back until those before them are there.

use std::collections::VecDeque;

use super::{is_before, next_id};
use crate::limits::RECV_WINDOW;
use crate::wire::ids::MessageId;
use crate::wire::opcode::Opcode;

/// Packets that wait for delivery.
#[derive(Debug)]
pub struct ReliableRecv {
    next: MessageId,
    /// Index 0 is `next`; at most [`RECV_WINDOW`] long.
    slots: VecDeque<Option<Incoming>>,
}

/// What became of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Kept; to be acknowledged.
    New,
    /// Not kept, but to be acknowledged again: the first ack may be lost.
    Duplicate,
    /// Too far ahead; not to be acknowledged.
    OutOfWindow,
}

/// A packet in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its id.
    pub message: MessageId,
    /// Its opcode.
    pub opcode: Opcode,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl ReliableRecv {
    /// Expects id 0 first.
    pub const fn new() -> Self {
        Self::starting_at(MessageId(0))
    }

    /// Expects another id first, for a server which answered the reset before there was state.
    pub const fn starting_at(next: MessageId) -> Self {
        Self { next, slots: VecDeque::new() }
    }

    /// The lowest id that was not delivered yet.
    pub const fn next_message(&self) -> MessageId {
        self.next
    }

    /// Takes a packet in, in any order.
    pub fn accept(&mut self, message: MessageId, opcode: Opcode, payload: &[u8]) -> Accept {
        if is_before(message, self.next) {
            return Accept::Duplicate;
        }
        let ahead = message.0.wrapping_sub(self.next.0);
        if ahead >= RECV_WINDOW {
            return Accept::OutOfWindow;
        }
        let ahead = ahead as usize;
        if self.slots.len() <= ahead {
            self.slots.resize_with(ahead + 1, || None);
        }
        let slot = &mut self.slots[ahead];
        if slot.is_some() {
            return Accept::Duplicate;
        }
        *slot = Some(Incoming { message, opcode, payload: payload.to_vec() });
        Accept::New
    }

    /// Gives spare memory back.
    pub fn shrink(&mut self) {
        self.slots.shrink_to_fit();
    }

    /// The next packet in order, if it is there.
    pub fn pop(&mut self) -> Option<Incoming> {
        let packet = self.slots.front_mut()?.take()?;
        self.slots.pop_front();
        self.next = next_id(self.next);
        Some(packet)
    }
}

impl Default for ReliableRecv {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(recv: &mut ReliableRecv, id: u32) -> Accept {
        recv.accept(MessageId(id), Opcode::ControlV1, &id.to_be_bytes())
    }

    #[test]
    fn window_is_twelve_ids_wide() {
        let mut recv = ReliableRecv::new();
        assert_eq!(accept(&mut recv, 11), Accept::New);
        assert_eq!(accept(&mut recv, 12), Accept::OutOfWindow);
        assert_eq!(accept(&mut recv, u32::MAX), Accept::Duplicate);
        assert_eq!(recv.pop(), None);
        assert_eq!(accept(&mut recv, 0), Accept::New);
        assert_eq!(accept(&mut recv, 12), Accept::OutOfWindow);
        assert_eq!(recv.pop().unwrap().message, MessageId(0));
        assert_eq!(accept(&mut recv, 12), Accept::New);
        assert_eq!(accept(&mut recv, 12), Accept::Duplicate);
        assert_eq!(accept(&mut recv, 0), Accept::Duplicate);
    }

    #[test]
    fn delivers_over_the_end_of_32_bits() {
        let mut recv = ReliableRecv::starting_at(MessageId(u32::MAX));
        for id in [1, 0, u32::MAX] {
            assert_eq!(accept(&mut recv, id), Accept::New);
        }
        let order: Vec<u32> = core::iter::from_fn(|| recv.pop()).map(|p| p.message.0).collect();
        assert_eq!(order, [u32::MAX, 0, 1]);
        assert_eq!(recv.next_message(), MessageId(2));
    }
}
