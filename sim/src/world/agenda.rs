//! Who is due when.

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
    /// The next packet of an attack.
    Attack(usize),
    /// Probes that should have arrived by now.
    Truth,
    /// The next sample for the tape.
    Sample,
}

/// The deadline of each part. What is due at the same time comes in the order of [`Part`].
///
/// A world has some dozens of parts, whose deadlines change with each packet: looking at all of them for the earliest
/// takes less time than keeping them in order.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// [`NEVER`] for a part that waits for nothing.
    deadlines: Vec<Instant>,
    /// In order; the parts that the deadlines are of.
    parts: Vec<Part>,
}

const NEVER: Instant = Instant::from_nanos(u64::MAX);

impl Agenda {
    pub(super) fn set(&mut self, part: Part, at: Option<Instant>) {
        match (self.parts.binary_search(&part), at) {
            // Streams come and go, each with a number of its own.
            (Ok(place), None) if matches!(part, Part::Pipe(_)) => {
                self.parts.remove(place);
                self.deadlines.remove(place);
            }
            (Ok(place), at) => self.deadlines[place] = at.unwrap_or(NEVER),
            (Err(_), None) => {}
            (Err(place), Some(at)) => {
                self.parts.insert(place, part);
                self.deadlines.insert(place, at);
            }
        }
    }

    /// The first part that is due by `end`; it is off the agenda then.
    pub(super) fn next(&mut self, end: Instant) -> Option<(Instant, Part)> {
        let at = self.deadlines.iter().copied().min().filter(|&at| at <= end && at < NEVER)?;
        let place = self.deadlines.iter().position(|&other| other == at)?;
        let part = self.parts[place];
        match part {
            Part::Pipe(_) => self.set(part, None),
            _ => self.deadlines[place] = NEVER,
        }
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
