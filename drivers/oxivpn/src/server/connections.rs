//! TCP connections, as far as they are not the packet thread's affair.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use oxivpn_proto::{Instant, StreamId};

/// How long a connection may take to write what is queued when it is to close.
const CLOSING: Duration = Duration::from_secs(10);

/// The connections that are there.
#[derive(Debug)]
pub(super) struct Connections {
    open: BTreeMap<StreamId, Connection>,
    /// Those that nobody has claimed, by the time when that is too late.
    unclaimed: BTreeSet<(Instant, StreamId)>,
    closing: VecDeque<(Instant, StreamId)>,
    /// So many may be unclaimed at one time.
    most: usize,
    /// So many may take their time to close.
    most_closing: usize,
}

#[derive(Debug)]
struct Connection {
    remote: SocketAddr,
    /// When it is too late to claim it, until then.
    late: Option<Instant>,
}

impl Connections {
    /// None yet. So many of strangers, and so many that are being closed, are let be.
    pub(super) fn new(most: usize, most_closing: usize) -> Self {
        let (open, unclaimed, closing) = Default::default();
        Self { open, unclaimed, closing, most, most_closing }
    }

    /// A new connection, which must send something meaningful until `late`. If there are too many such, gives the one
    /// to be closed for it.
    pub(super) fn insert(&mut self, id: StreamId, remote: SocketAddr, late: Instant) -> Option<StreamId> {
        self.open.insert(id, Connection { remote, late: Some(late) });
        self.unclaimed.insert((late, id));
        let (_, oldest) = *self.unclaimed.first().filter(|_| self.unclaimed.len() > self.most)?;
        Some(oldest)
    }

    pub(super) fn remote(&self, id: StreamId) -> Option<SocketAddr> {
        self.open.get(&id).map(|connection| connection.remote)
    }

    /// Whether a session lives on it.
    pub(super) fn is_claimed(&self, id: StreamId) -> bool {
        self.open.get(&id).is_some_and(|connection| connection.late.is_none())
    }

    /// A session lives on it.
    pub(super) fn claim(&mut self, id: StreamId) {
        if let Some(late) = self.open.get_mut(&id).and_then(|connection| connection.late.take()) {
            self.unclaimed.remove(&(late, id));
        }
    }

    /// It ended by itself.
    pub(super) fn remove(&mut self, id: StreamId) -> bool {
        self.claim(id);
        self.open.remove(&id).is_some()
    }

    /// It is to be closed; whether it is still there.
    pub(super) fn close(&mut self, now: Instant, id: StreamId) -> bool {
        let there = self.remove(id);
        if there {
            self.closing.push_back((now + CLOSING, id));
        }
        there
    }

    /// When to look for [`overdue`](Self::overdue) ones.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let unclaimed = self.unclaimed.first().map(|(at, _)| *at);
        unclaimed.into_iter().chain(self.closing.front().map(|(at, _)| *at)).min()
    }

    /// The next connection to be closed now: nothing came of it, or it takes too long to close.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<StreamId> {
        if let Some(&(_, id)) = self.unclaimed.first().filter(|(at, _)| *at <= now) {
            self.close(now, id);
            return Some(id);
        }
        let crowded = self.closing.len() > self.most_closing;
        let (_, id) = *self.closing.front().filter(|(at, _)| crowded || *at <= now)?;
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
        let mut connections = Connections::new(9, 9);
        for n in 1..=3 {
            assert_eq!(connections.insert(StreamId(n), remote, at(60 + n)), None);
        }
        connections.claim(StreamId(1));
        assert_eq!(connections.deadline(), Some(at(62)));
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

    #[test]
    fn strangers_are_bounded_however_they_come_and_go() {
        let remote = "192.0.2.1:5".parse().unwrap();
        let mut connections = Connections::new(2, 3);
        connections.insert(StreamId(1), remote, at(60));
        connections.claim(StreamId(1));
        assert!(connections.is_claimed(StreamId(1)));
        let mut closed = Vec::new();
        for n in 2..1000 {
            if let Some(oldest) = connections.insert(StreamId(n), remote, at(60)) {
                assert_eq!(oldest, StreamId(n - 2));
                assert!(connections.close(at(1), oldest));
            }
            closed.extend(core::iter::from_fn(|| connections.overdue(at(1))));
        }
        assert_eq!((connections.unclaimed.len(), connections.open.len()), (2, 3));
        assert_eq!((connections.closing.len(), closed.len()), (3, 993));
        for n in 1000..2000 {
            connections.insert(StreamId(n), remote, at(60));
            connections.remove(StreamId(n));
        }
        assert_eq!(
            (connections.unclaimed.len(), connections.open.len()),
            (2, 3),
            "those that left are forgotten"
        );
        assert!(connections.is_claimed(StreamId(1)));
    }
}
