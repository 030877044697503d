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

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this session, which checks its protection.
    Session(SessionHandle),
    /// A data packet: it belongs to the data plane.
    Data,
    /// Nowhere.
    Drop(DropReason),
}

/// Index from paths to sessions.
///
/// The map is only ever looked up, never iterated, so that its order can't influence anything.
#[derive(Debug, Default)]
pub struct Endpoint {
    by_path: HashMap<Path, SessionHandle>,
}

impl Endpoint {
    /// Routes a packet by its first byte and the path it came from. No state is created.
    pub fn route(&self, path: &Path, datagram: &[u8]) -> Route {
        match peek(datagram) {
            Peek::Control => {
                self.by_path.get(path).map_or(Route::Drop(DropReason::UnknownPath), |&s| Route::Session(s))
            }
            Peek::Data(_) => Route::Data,
            Peek::Unknown if datagram.is_empty() => Route::Drop(DropReason::Malformed),
            Peek::Unknown => Route::Drop(DropReason::UnknownOpcode),
        }
    }

    /// The session at `path`.
    pub fn find(&self, path: &Path) -> Option<SessionHandle> {
        self.by_path.get(path).copied()
    }

    /// Adds a session; `false` if the path has one.
    #[must_use]
    pub fn insert(&mut self, path: Path, session: SessionHandle) -> bool {
        match self.by_path.entry(path) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(session);
                true
            }
        }
    }

    /// Forgets the session at `path` if it is `session`.
    pub fn remove(&mut self, path: &Path, session: SessionHandle) {
        if self.find(path) == Some(session) {
            self.by_path.remove(path);
        }
    }
}
