//! Who is due when.

use std::collections::{BTreeMap, BTreeSet};

use oxivpn_proto::Instant;

/// A part of a world that wants to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Something that was planned.
    Plan,
    /// A line away from a site.
    Up(usize, usize),
    /// A line to a site.
    Down(usize, usize),
    /// A byte stream.
    Pipe(u32),
    /// A machine.
    Machine(usize),
    /// A host inside or outside of tunnels.
    Host(usize),
    /// A flow of probes.
    Flow(usize),
    /// Probes that should have arrived by now.
    Truth,
    /// The next sample for the tape.
    Sample,
}

/// The deadline of each part, in order. What is due at the same time comes in the order of [`Part`].
#[derive(Debug, Default)]
pub(super) struct Agenda {
    queue: BTreeSet<(Instant, Part)>,
    deadlines: BTreeMap<Part, Instant>,
}

impl Agenda {
    pub(super) fn set(&mut self, part: Part, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.deadlines.insert(part, at),
            None => self.deadlines.remove(&part),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.queue.remove(&(before, part));
        }
        if let Some(at) = at {
            self.queue.insert((at, part));
        }
    }

    /// The first part that is due by `end`; it is off the agenda then.
    pub(super) fn next(&mut self, end: Instant) -> Option<(Instant, Part)> {
        let &(at, part) = self.queue.first().filter(|(at, _)| *at <= end)?;
        self.set(part, None);
        Some((at, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_once() {
        let at = |nanos| Some(Instant::from_nanos(nanos));
        let end = Instant::from_nanos(10);
        let mut agenda = Agenda::default();
        agenda.set(Part::Machine(1), at(7));
        agenda.set(Part::Machine(0), at(7));
        agenda.set(Part::Flow(0), at(3));
        agenda.set(Part::Flow(0), at(9));
        agenda.set(Part::Flow(1), at(11));
        agenda.set(Part::Plan, at(1));
        agenda.set(Part::Plan, None);
        let order: Vec<_> = core::iter::from_fn(|| agenda.next(end)).map(|(_, part)| part).collect();
        assert_eq!(order, [Part::Machine(0), Part::Machine(1), Part::Flow(0)]);
    }
}
