//! TCP connections, as far as they are not the packet thread's affair.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use oxivpn_proto::{Instant, StreamId};

/// How long a connection may take to write what is queued when it is to close.
const CLOSING: Duration = Duration::from_secs(10);

/// The connections that are there.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: BTreeMap<StreamId, Connection>,
    /// Those that nobody has claimed, the oldest first, with the time when that is too late.
    unclaimed: VecDeque<(Instant, StreamId)>,
    closing: VecDeque<(Instant, StreamId)>,
}

#[derive(Debug)]
struct Connection {
    remote: SocketAddr,
    claimed: bool,
}

impl Connections {
    /// A new connection, which must send something meaningful until `late`.
    pub(super) fn insert(&mut self, id: StreamId, remote: SocketAddr, late: Instant) {
        self.open.insert(id, Connection { remote, claimed: false });
        self.unclaimed.push_back((late, id));
    }

    pub(super) fn remote(&self, id: StreamId) -> Option<SocketAddr> {
        self.open.get(&id).map(|connection| connection.remote)
    }

    /// A session lives on it.
    pub(super) fn claim(&mut self, id: StreamId) {
        if let Some(connection) = self.open.get_mut(&id) {
            connection.claimed = true;
        }
    }

    /// It ended by itself.
    pub(super) fn remove(&mut self, id: StreamId) {
        self.open.remove(&id);
    }

    /// It is to be closed; whether it is still there.
    pub(super) fn close(&mut self, now: Instant, id: StreamId) -> bool {
        let there = self.open.remove(&id).is_some();
        if there {
            self.closing.push_back((now + CLOSING, id));
        }
        there
    }

    /// When to look for [`overdue`](Self::overdue) ones.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let first = |queue: &VecDeque<(Instant, StreamId)>| queue.front().map(|(at, _)| *at);
        first(&self.unclaimed).into_iter().chain(first(&self.closing)).min()
    }

    /// The next connection to be closed now: nothing came of it, or it takes too long to close.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<StreamId> {
        while let Some(&(_, id)) = self.unclaimed.front().filter(|(at, _)| *at <= now) {
            self.unclaimed.pop_front();
            if self.open.get(&id).is_some_and(|connection| !connection.claimed) {
                self.close(now, id);
                return Some(id);
            }
        }
        let (_, id) = *self.closing.front().filter(|(at, _)| *at <= now)?;
        self.closing.pop_front();
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn silent_connections_end_and_slow_closers_are_cut() {
        let remote = "192.0.2.1:5".parse().unwrap();
        let mut connections = Connections::default();
        for n in 1..=3 {
            connections.insert(StreamId(n), remote, at(60 + n));
        }
        connections.claim(StreamId(1));
        assert_eq!(connections.deadline(), Some(at(61)));
        assert_eq!(connections.overdue(at(61)), None, "it was claimed");
        assert_eq!(connections.overdue(at(62)), Some(StreamId(2)));
        assert!(!connections.close(at(62), StreamId(2)));
        connections.remove(StreamId(3));
        assert_eq!(connections.overdue(at(70)), None);
        assert!(connections.close(at(70), StreamId(1)));
        assert_eq!(connections.overdue(at(72)), Some(StreamId(2)));
        assert_eq!(connections.deadline(), Some(at(80)));
        assert_eq!(connections.overdue(at(80)), Some(StreamId(1)));
        assert_eq!((connections.overdue(at(99)), connections.deadline()), (None, None));
    }
}
