//! Which session a packet belongs to. Owns the index, not the sessions.

mod cookie;
pub(crate) mod doorman;
mod rate;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::drops::DropReason;
use crate::handle::SessionHandle;
use crate::path::Path;
use crate::wire::data::{Peek, peek};
use crate::wire::ids::SessionId;

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this session, which checks its protection.
    Session(SessionHandle),
    /// A control packet of no session.
    Stranger,
    /// A data packet: it belongs to the data plane.
    Data,
    /// Nowhere.
    Drop(DropReason),
}

/// Index from paths to sessions.
///
/// A path has one session, and on a listening side perhaps a challenger: a client that starts anew from the same
/// address. The two are told apart by the sender's session id.
///
/// The map is only ever looked up, never iterated, so that its order can't influence anything.
#[derive(Debug, Default)]
pub struct Endpoint {
    by_path: HashMap<Path, Holders>,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    session: SessionHandle,
    /// The other side's id; `None` takes every packet, to look for itself.
    remote: Option<SessionId>,
}

#[derive(Debug)]
struct Holders {
    first: Holder,
    challenger: Option<Holder>,
}

impl Endpoint {
    /// Routes a packet by its first bytes and the path it came from. No state is created.
    pub fn route(&self, path: &Path, datagram: &[u8]) -> Route {
        match peek(datagram) {
            Peek::Control => {
                let Some(holders) = self.by_path.get(path) else { return Route::Stranger };
                let sender = datagram.get(1..9).and_then(|id| SessionId::new(id.try_into().ok()?));
                let both = [Some(holders.first), holders.challenger];
                let found = both.into_iter().flatten().find(|h| h.remote.is_none() || h.remote == sender);
                found.map_or(Route::Stranger, |holder| Route::Session(holder.session))
            }
            Peek::Data(_) => Route::Data,
            Peek::Unknown if datagram.is_empty() => Route::Drop(DropReason::Malformed),
            Peek::Unknown => Route::Drop(DropReason::UnknownOpcode),
        }
    }

    /// The session at `path`, not its challenger.
    pub fn find(&self, path: &Path) -> Option<SessionHandle> {
        self.by_path.get(path).map(|holders| holders.first.session)
    }

    /// The challenger at `path`.
    pub fn challenger(&self, path: &Path) -> Option<SessionHandle> {
        self.by_path.get(path).and_then(|holders| holders.challenger).map(|holder| holder.session)
    }

    /// Adds a session; `false` if the path has one. Only packets of `remote` reach it, if that is given.
    #[must_use]
    pub fn insert(&mut self, path: Path, session: SessionHandle, remote: Option<SessionId>) -> bool {
        match self.by_path.entry(path) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(Holders { first: Holder { session, remote }, challenger: None });
                true
            }
        }
    }

    /// Adds a session beside the one at `path`; the challenger that was there before is forgotten.
    pub fn challenge(&mut self, path: Path, session: SessionHandle, remote: SessionId) {
        let challenger = Holder { session, remote: Some(remote) };
        if let Some(holders) = self.by_path.get_mut(&path) {
            holders.challenger = Some(challenger);
        } else {
            self.by_path.insert(path, Holders { first: challenger, challenger: None });
        }
    }

    /// Forgets `session` at `path`, if it is there; its challenger takes its place.
    pub fn remove(&mut self, path: &Path, session: SessionHandle) {
        let Some(holders) = self.by_path.get_mut(path) else { return };
        if holders.challenger.is_some_and(|holder| holder.session == session) {
            holders.challenger = None;
        } else if holders.first.session == session {
            match holders.challenger.take() {
                Some(challenger) => holders.first = challenger,
                None => drop(self.by_path.remove(path)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use super::*;

    fn path(port: u16) -> Path {
        Path::udp(0, SocketAddr::from(([192, 0, 2, 1], port)))
    }

    fn packet(sender: u8) -> Vec<u8> {
        let mut packet = vec![sender; 30];
        packet[0] = 4 << 3;
        packet
    }

    fn id(byte: u8) -> SessionId {
        SessionId::new([byte; 8]).unwrap()
    }

    #[test]
    fn a_challenger_has_its_own_packets_and_inherits_the_path() {
        let (old, new, newer) = (SessionHandle(1), SessionHandle(2), SessionHandle(3));
        let mut endpoint = Endpoint::default();
        assert!(endpoint.insert(path(1), old, Some(id(1))));
        assert!(!endpoint.insert(path(1), new, Some(id(2))));
        assert_eq!(endpoint.route(&path(1), &packet(2)), Route::Stranger);
        endpoint.challenge(path(1), new, id(2));
        assert_eq!(endpoint.route(&path(1), &packet(1)), Route::Session(old));
        assert_eq!(endpoint.route(&path(1), &packet(2)), Route::Session(new));
        assert_eq!(endpoint.route(&path(2), &packet(2)), Route::Stranger);
        endpoint.challenge(path(1), newer, id(3));
        assert_eq!(endpoint.route(&path(1), &packet(2)), Route::Stranger);
        endpoint.remove(&path(1), new);
        endpoint.remove(&path(1), old);
        assert_eq!(endpoint.find(&path(1)), Some(newer));
        assert_eq!(endpoint.challenger(&path(1)), None);
        endpoint.remove(&path(1), newer);
        assert_eq!(endpoint.find(&path(1)), None);
    }

    #[test]
    fn a_session_that_waits_for_an_answer_gets_every_packet() {
        let mut endpoint = Endpoint::default();
        assert!(endpoint.insert(path(1), SessionHandle(1), None));
        assert_eq!(endpoint.route(&path(1), &packet(9)), Route::Session(SessionHandle(1)));
        assert_eq!(endpoint.route(&path(1), &[4 << 3]), Route::Session(SessionHandle(1)));
    }
}
