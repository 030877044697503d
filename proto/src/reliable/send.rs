//! Sending side: a window of packets that wait for their acks.

use core::time::Duration;
use std::collections::VecDeque;

use super::rto::Backoff;
use super::{is_before, next_id};
use crate::clock::Instant;
use crate::limits::SEND_WINDOW;
use crate::wire::ack::AckList;
use crate::wire::ids::MessageId;
use crate::wire::opcode::Opcode;

/// Acks of later packets that make one count as lost (`openvpn: reliable.h`, `N_ACK_RETRANSMIT`).
const LATER_ACKS: u8 = 3;

/// Reliable packets in flight.
#[derive(Debug)]
pub struct ReliableSend {
    next: MessageId,
    timeout: Duration,
    /// Ascending ids, at most [`SEND_WINDOW`].
    flight: VecDeque<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    message: MessageId,
    opcode: Opcode,
    payload: Vec<u8>,
    due: Instant,
    backoff: Backoff,
    later_acks: u8,
}

/// A packet to be sent now. Acks, protection and replay id are made anew for each transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Its id.
    pub message: MessageId,
    /// Its opcode.
    pub opcode: Opcode,
    /// Its payload.
    pub payload: &'a [u8],
}

impl ReliableSend {
    /// Starts with id 0; packets are repeated first after `timeout` (`tls-timeout`).
    pub const fn new(timeout: Duration) -> Self {
        Self::with_first(MessageId(0), timeout)
    }

    /// Starts with another id, for a server whose reset went out before there was state.
    pub const fn with_first(next: MessageId, timeout: Duration) -> Self {
        Self { next, timeout, flight: VecDeque::new() }
    }

    /// Whether the window has room for another packet.
    pub fn can_push(&self) -> bool {
        self.flight.front().is_none_or(|f| self.next.0.wrapping_sub(f.message.0) < SEND_WINDOW)
    }

    /// The id that the next packet gets.
    pub const fn next_message(&self) -> MessageId {
        self.next
    }

    /// Adds a packet, due at once. To be called only if [`Self::can_push`]; receivers drop what is beyond the
    /// window.
    pub fn push(&mut self, now: Instant, opcode: Opcode, payload: Vec<u8>) -> MessageId {
        debug_assert!(self.can_push(), "no room in the send window");
        let message = self.next;
        self.next = next_id(message);
        let backoff = Backoff::new(self.timeout);
        self.flight.push_back(InFlight { message, opcode, payload, due: now, backoff, later_acks: 0 });
        message
    }

    /// Takes acks in, in any order. Ids that aren't in flight have no effect: peers repeat old acks, and a
    /// repetition says nothing about loss.
    pub fn acknowledge(&mut self, acks: &AckList) {
        for &id in acks.as_slice() {
            let Some(at) = self.flight.iter().position(|f| f.message == id) else { continue };
            self.flight.remove(at);
            for earlier in self.flight.iter_mut().filter(|f| is_before(f.message, id)) {
                earlier.later_acks = earlier.later_acks.saturating_add(1);
                if earlier.later_acks >= LATER_ACKS {
                    earlier.due = Instant::ZERO;
                }
            }
        }
    }

    /// The lowest packet that is due, which then counts as sent. To be called until it returns `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Outgoing<'_>> {
        let packet = self.flight.iter_mut().find(|f| f.due <= now)?;
        packet.due = now + packet.backoff.advance();
        packet.later_acks = 0;
        Some(Outgoing { message: packet.message, opcode: packet.opcode, payload: &packet.payload })
    }

    /// Makes all packets due now, with timers as if new. For the peer's first sign of life: whatever was sent
    /// before is probably lost.
    pub fn expedite(&mut self, now: Instant) {
        for packet in &mut self.flight {
            packet.due = now;
            packet.backoff.reset();
        }
    }

    /// Whether all that was pushed is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.flight.is_empty()
    }

    /// Gives spare memory back.
    pub fn shrink(&mut self) {
        self.flight.shrink_to_fit();
    }

    /// When [`Self::poll`] next has something, if nothing arrives; may lie in the past.
    pub fn deadline(&self) -> Option<Instant> {
        self.flight.iter().map(|f| f.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds + 1000)
    }

    fn acks(ids: &[u32]) -> AckList {
        ids.iter().copied().map(MessageId).collect()
    }

    fn full(now: Instant) -> ReliableSend {
        let mut send = ReliableSend::new(T);
        while send.can_push() {
            send.push(now, Opcode::ControlV1, vec![1]);
        }
        while send.poll(now).is_some() {}
        send
    }

    fn polled(send: &mut ReliableSend, now: Instant) -> Vec<u32> {
        core::iter::from_fn(|| send.poll(now).map(|o| o.message.0)).collect()
    }

    #[test]
    fn repeats_after_t_2t_4t_without_end() {
        let mut send = ReliableSend::new(T);
        send.push(at(0), Opcode::HardResetClientV2, Vec::new());
        let mut times = Vec::new();
        for _ in 0..7 {
            let due = send.deadline().unwrap();
            assert!(due == at(0) || send.poll(Instant::from_nanos(due.as_nanos() - 1)).is_none());
            assert_eq!(polled(&mut send, due), [0]);
            times.push((due - at(0)).as_secs());
        }
        assert_eq!(times, [0, 2, 6, 14, 30, 62, 126]);
    }

    #[test]
    fn window_counts_from_the_lowest_unacknowledged_id() {
        let mut send = full(at(0));
        assert_eq!(send.next_message(), MessageId(SEND_WINDOW));
        send.acknowledge(&acks(&[1, 2, 5]));
        assert!(!send.can_push());
        send.acknowledge(&acks(&[0]));
        assert!(send.can_push());
        assert_eq!(send.push(at(0), Opcode::ControlV1, Vec::new()), MessageId(6));
        send.acknowledge(&acks(&[3, 4, 6]));
        assert!(send.is_empty());
        assert_eq!(send.deadline(), None);
    }

    #[test]
    fn three_later_acks_resend_at_once_but_repetitions_do_not() {
        let mut send = full(at(0));
        send.acknowledge(&acks(&[1, 2]));
        send.acknowledge(&acks(&[2, 1]));
        send.acknowledge(&acks(&[2, 1, 99]));
        assert_eq!(polled(&mut send, at(1)), [0_u32; 0]);
        send.acknowledge(&acks(&[3, 2, 1]));
        assert!(send.deadline().unwrap() <= at(1));
        assert_eq!(polled(&mut send, at(1)), [0]);
        send.acknowledge(&acks(&[4, 5]));
        assert_eq!(polled(&mut send, at(1)), [0_u32; 0]);
    }

    #[test]
    fn expedite_makes_all_due_with_fresh_timers() {
        let mut send = full(at(0));
        assert_eq!(polled(&mut send, at(2)).len(), 6);
        send.expedite(at(3));
        assert_eq!(polled(&mut send, at(3)), [0, 1, 2, 3, 4, 5]);
        assert_eq!(send.deadline(), Some(at(5)));
    }

    #[test]
    fn ids_run_over_the_end_of_32_bits() {
        let mut send = ReliableSend::with_first(MessageId(u32::MAX - 1), T);
        for _ in 0..SEND_WINDOW {
            send.push(at(0), Opcode::ControlV1, Vec::new());
        }
        assert!(!send.can_push());
        let order = polled(&mut send, at(0));
        assert_eq!(order, [u32::MAX - 1, u32::MAX, 0, 1, 2, 3]);
        send.acknowledge(&acks(&[0, 1, 2]));
        assert_eq!(polled(&mut send, at(0)), [u32::MAX - 1, u32::MAX]);
    }
}
