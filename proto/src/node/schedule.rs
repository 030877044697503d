//! Deadlines of all sessions in order, so that the next one is found without asking each.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Instant;
use crate::deadline::Deadline;
use crate::session::SessionHandle;

#[derive(Debug, Default)]
pub(super) struct Schedule {
    order: BTreeSet<(Deadline, SessionHandle)>,
    current: BTreeMap<SessionHandle, Deadline>,
}

impl Schedule {
    /// States when `session` wants to be woken.
    pub(super) fn set(&mut self, session: SessionHandle, deadline: Option<Deadline>) {
        if self.current.get(&session) == deadline.as_ref() {
            return;
        }
        if let Some(before) = self.current.remove(&session) {
            self.order.remove(&(before, session));
        }
        if let Some(deadline) = deadline {
            self.order.insert((deadline, session));
            self.current.insert(session, deadline);
        }
    }

    pub(super) fn next(&self) -> Option<Deadline> {
        self.order.first().map(|(deadline, _)| *deadline)
    }

    /// The sessions that are due at `now`, the longest due first.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = SessionHandle> {
        self.order.iter().take_while(move |(deadline, _)| deadline.at <= now).map(|(_, session)| *session)
    }
}
