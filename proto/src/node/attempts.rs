//! Handshakes of clients that have not shown who they are, and which of them gives way when there are too many.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};

use crate::handle::SessionHandle;
use crate::path::Path;

/// Where attempts come from, as far as one sender can't be many: an IPv4 address, or the /64 of an IPv6 address.
/// Byte streams don't tell.
type Source = Option<IpAddr>;

/// Attempts by source. Every call costs O(log n).
#[derive(Debug, Default)]
pub(super) struct Attempts {
    source_of: BTreeMap<SessionHandle, Source>,
    by_source: BTreeSet<(Source, SessionHandle)>,
    count_of: BTreeMap<Source, u32>,
    by_count: BTreeSet<(u32, Source)>,
}

impl Attempts {
    pub(super) fn insert(&mut self, session: SessionHandle, path: &Path) {
        let source = source(path);
        if self.source_of.insert(session, source).is_none() {
            self.by_source.insert((source, session));
            self.recount(source, |count| count + 1);
        }
    }

    /// It has shown who it is, or has ended.
    pub(super) fn remove(&mut self, session: SessionHandle) {
        if let Some(source) = self.source_of.remove(&session) {
            self.by_source.remove(&(source, session));
            self.recount(source, |count| count - 1);
        }
    }

    fn recount(&mut self, source: Source, change: impl Fn(u32) -> u32) {
        let before = self.count_of.remove(&source).unwrap_or_default();
        self.by_count.remove(&(before, source));
        let after = change(before);
        if after > 0 {
            self.count_of.insert(source, after);
            self.by_count.insert((after, source));
        }
    }

    /// Who gives way to a newcomer from `path`: the oldest of the source with the most attempts, if that has more than
    /// the newcomer's would have.
    pub(super) fn crowd(&self, path: &Path) -> Option<SessionHandle> {
        let own = self.count_of.get(&source(path)).copied().unwrap_or_default();
        let &(_, source) = self.by_count.last().filter(|(most, _)| *most > own + 1)?;
        let from = (source, SessionHandle(0));
        self.by_source.range(from..).next().map(|&(_, session)| session)
    }

    /// The oldest of all.
    pub(super) fn oldest(&self) -> Option<SessionHandle> {
        self.source_of.first_key_value().map(|(&session, _)| session)
    }
}

fn source(path: &Path) -> Source {
    path.remote().map(|remote| match remote.ip().to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
        ip => ip,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::StreamId;

    fn path(text: &str) -> Path {
        Path::udp(0, text.parse().unwrap())
    }

    #[test]
    fn a_crowd_from_one_place_gives_way_to_others() {
        let mut attempts = Attempts::default();
        let session = SessionHandle;
        for n in 1..=5 {
            attempts.insert(session(n), &path(&format!("[2001:db8::{n}]:{n}")));
        }
        attempts.insert(session(6), &path("192.0.2.1:6"));
        attempts.insert(session(7), &Path::Stream(StreamId(7)));
        assert_eq!(attempts.crowd(&path("192.0.2.1:7")), Some(session(1)));
        assert_eq!(attempts.crowd(&path("[::ffff:192.0.2.1]:7")), Some(session(1)));
        assert_eq!(attempts.crowd(&path("[2001:db8::99]:7")), None, "it is one of them");
        assert_eq!(attempts.oldest(), Some(session(1)));
        for n in 1..=3 {
            attempts.remove(session(n));
            attempts.remove(session(n));
        }
        assert_eq!(attempts.crowd(&path("192.0.2.1:7")), None, "two against two");
        assert_eq!(attempts.crowd(&path("192.0.2.2:7")), Some(session(4)));
        for n in 4..=7 {
            attempts.remove(session(n));
        }
        assert!(attempts.oldest().is_none() && attempts.by_count.is_empty() && attempts.count_of.is_empty());
    }
}
