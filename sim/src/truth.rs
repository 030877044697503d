//! The reference model: which inner packets were sent, which may arrive, and which must.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use oxivpn_proto::{Instant, SessionHandle};

/// One end of a tunnel at one time: the machine, how often it was switched on, its session.
pub(crate) type End = (usize, u64, SessionHandle);

/// A probe that must arrive unless one of its tunnel's ends is replaced.
#[derive(Debug)]
struct Promise {
    number: u64,
    due: Instant,
    ends: [End; 2],
}

/// What became of the probes of one direction between two machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Probes that were sealed.
    pub sent: u64,
    /// Probes that arrived.
    pub arrived: u64,
    /// Answers that came back to the sender.
    pub answered: u64,
    /// The longest time from a question to its answer.
    pub slowest: Duration,
    /// When the last one arrived.
    pub last: Instant,
}

/// Who sent what.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// By number: who sent it, to whom, when, and how often it arrived.
    probes: Vec<Entry>,
    promises: VecDeque<Promise>,
    tallies: BTreeMap<(usize, usize), Tally>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    from: u16,
    to: u16,
    at: Instant,
    arrived: bool,
    forged: bool,
    /// The probe that this one answers.
    question: Option<u64>,
}

/// How late a probe that must arrive may be.
const PATIENCE: Duration = Duration::from_secs(5);

impl Truth {
    /// Numbers a probe that is about to be sent. A `forged` one must never arrive.
    pub(crate) fn begin(&mut self, now: Instant, (from, to): (usize, usize), forged: bool) -> u64 {
        self.enter(Entry {
            from: from as u16,
            to: to as u16,
            at: now,
            arrived: false,
            forged,
            question: None,
        })
    }

    /// Numbers the answer to a probe, which goes back to where that one came from.
    pub(crate) fn answer(&mut self, now: Instant, question: u64, from: usize) -> Option<(u64, usize)> {
        let to = self.probes.get(question as usize)?.from;
        let entry =
            Entry { from: from as u16, to, at: now, arrived: false, forged: false, question: Some(question) };
        Some((self.enter(entry), usize::from(to)))
    }

    fn enter(&mut self, entry: Entry) -> u64 {
        self.probes.push(entry);
        self.probes.len() as u64 - 1
    }

    /// The probe was sealed. With `ends` it must arrive as long as these are the ends of the tunnel.
    pub(crate) fn sent(&mut self, now: Instant, number: u64, ends: Option<[End; 2]>) {
        let Some(entry) = self.probes.get(number as usize) else { return };
        self.tallies.entry((entry.from.into(), entry.to.into())).or_default().sent += 1;
        if let Some(ends) = ends {
            self.promises.push_back(Promise { number, due: now + PATIENCE, ends });
        }
    }

    /// The probe came out of a tunnel at machine `at`.
    pub(crate) fn arrived(&mut self, now: Instant, number: u64, at: usize) -> Result<(), String> {
        let Some(entry) = self.probes.get_mut(number as usize) else {
            return Err(format!("probe {number} was never sent"));
        };
        let Entry { from, forged, arrived, question, .. } = *entry;
        if forged {
            return Err(format!(
                "probe {number} of machine {from} arrived under an address that isn't its own"
            ));
        }
        if arrived {
            return Err(format!("probe {number} arrived twice"));
        }
        if usize::from(from) == at {
            return Err(format!("probe {number} came back to its sender"));
        }
        entry.arrived = true;
        let ends = (from.into(), entry.to.into());
        let tally = self.tallies.entry(ends).or_default();
        tally.arrived += 1;
        tally.last = now;
        if let Some(asked) =
            question.and_then(|number| self.probes.get(number as usize)).map(|asked| asked.at)
        {
            let tally = self.tallies.entry((ends.1, ends.0)).or_default();
            tally.answered += 1;
            tally.slowest = tally.slowest.max(now - asked);
        }
        Ok(())
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.promises.front().map(|promise| promise.due)
    }

    /// Probes that had to arrive by now and did not. `stands` says whether an end is still there.
    pub(crate) fn broken(&mut self, now: Instant, stands: impl Fn(End) -> bool) -> Vec<String> {
        let mut broken = Vec::new();
        while self.promises.front().is_some_and(|promise| promise.due <= now) {
            let Some(promise) = self.promises.pop_front() else { break };
            let Some(entry) = self.probes.get(promise.number as usize) else { continue };
            if !entry.arrived && promise.ends.into_iter().all(&stands) {
                let Promise { number, ends: [from, to], .. } = promise;
                broken.push(format!(
                    "probe {number}, sent at {:?} from machine {} to {}, is lost on a network without loss",
                    entry.at, from.0, to.0
                ));
            }
        }
        broken
    }

    /// What became of the probes from one machine to another.
    pub(crate) fn tally(&self, from: usize, to: usize) -> Tally {
        self.tallies.get(&(from, to)).copied().unwrap_or_default()
    }

    /// All tallies, by sender and receiver.
    pub(crate) fn tallies(&self) -> impl Iterator<Item = ((usize, usize), Tally)> + '_ {
        self.tallies.iter().map(|(&ends, &tally)| (ends, tally))
    }
}
