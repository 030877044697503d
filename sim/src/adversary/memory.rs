//! What an attacker has heard.

use core::net::SocketAddr;
use std::collections::VecDeque;

use crate::seed::Draws;

/// Packets of one kind that are kept: the first, which are those of a handshake, and the last.
const MOST: usize = 64;

/// A packet that passed.
pub(super) struct Heard {
    pub(super) addresses: (SocketAddr, SocketAddr),
    pub(super) bytes: Vec<u8>,
}

/// Recorded packets, a bounded number.
#[derive(Default)]
pub(super) struct Memory {
    /// Control, data.
    kinds: [Kind; 2],
}

#[derive(Default)]
struct Kind {
    first: Vec<Heard>,
    last: VecDeque<Heard>,
}

impl Kind {
    fn all(&self) -> impl DoubleEndedIterator<Item = &Heard> {
        self.first.iter().chain(&self.last)
    }
}

impl Memory {
    pub(super) fn note(&mut self, data: bool, heard: Heard) {
        let kind = &mut self.kinds[usize::from(data)];
        if kind.first.len() < MOST {
            return kind.first.push(heard);
        }
        kind.last.truncate(MOST - 1);
        kind.last.push_front(heard);
    }

    /// Any packet.
    pub(super) fn pick(&self, draws: &mut Draws, data: bool) -> Option<&Heard> {
        let kind = &self.kinds[usize::from(data)];
        let at = draws.below((kind.first.len() + kind.last.len()) as u64) as usize;
        kind.all().nth(at)
    }

    /// Any packet to this address.
    pub(super) fn pick_to(&self, draws: &mut Draws, data: bool, to: SocketAddr) -> Option<&Heard> {
        let found: Vec<_> =
            self.kinds[usize::from(data)].all().filter(|heard| heard.addresses.1 == to).collect();
        found.get(draws.below(found.len() as u64) as usize).copied()
    }

    /// The session id in the last control packet between two addresses.
    pub(super) fn session_id(&self, addresses: (SocketAddr, SocketAddr)) -> Option<[u8; 8]> {
        let control = &self.kinds[0];
        let mut newest = control.last.iter().chain(control.first.iter().rev());
        let heard = newest.find(|heard| heard.addresses == addresses)?;
        heard.bytes.get(1..9)?.try_into().ok()
    }
}
