//! What the records of a tape say about each machine: spans and marks instead of single events.

use std::collections::BTreeMap;

use super::markup::span;
use crate::{
    report::Head,
    trace::{MachineId, Tape, What},
};

/// A session, with virtual times in nanoseconds.
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) begun: u64,
    pub(super) up: Option<u64>,
    pub(super) to: u64,
    pub(super) summary: String,
    /// Why it ended; none if it lives to the end.
    pub(super) cause: Option<String>,
}

/// A generation of keys.
pub(super) struct Key {
    pub(super) peer: u32,
    pub(super) key: u8,
    pub(super) from: u64,
    pub(super) promoted: Option<u64>,
    pub(super) to: u64,
    pub(super) retired: bool,
}

/// A time in which something is so.
pub(super) struct Band {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) text: String,
}

/// Kinds of marks, by how much they matter, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sign {
    Violation,
    Crash,
    Start,
    Close,
    Clock,
    Moved,
    Floated,
    Sleep,
    Wake,
    Note,
}

impl Sign {
    /// Letter in the time line, class in the style sheet, words in the legend.
    pub(super) fn look(self) -> (char, &'static str, &'static str) {
        match self {
            Self::Violation => ('!', "bad", "violation"),
            Self::Crash => ('C', "crash", "crash"),
            Self::Start => ('S', "start", "start"),
            Self::Close => ('X', "close", "session closed"),
            Self::Clock => ('T', "clock", "clock jump"),
            Self::Moved => ('M', "moved", "new address"),
            Self::Floated => ('F', "moved", "peer floated"),
            Self::Sleep => ('Z', "sleep", "asleep"),
            Self::Wake => ('W', "sleep", "awake"),
            Self::Note => ('N', "note", "note"),
        }
    }

    pub(super) const ALL: [Self; 10] = [
        Self::Violation,
        Self::Crash,
        Self::Start,
        Self::Close,
        Self::Clock,
        Self::Moved,
        Self::Floated,
        Self::Sleep,
        Self::Wake,
        Self::Note,
    ];
}

/// A moment that matters.
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) sign: Sign,
    pub(super) text: String,
}

/// Traffic between two samples.
#[derive(Clone, Copy, Default)]
pub(super) struct Sample {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) flow: Flow,
}

/// Inner traffic of a machine in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) sent: u64,
    pub(super) sent_bytes: u64,
    pub(super) received: u64,
    pub(super) received_bytes: u64,
}

impl Flow {
    pub(super) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
    }
}

/// One machine, or the network as a whole.
#[derive(Default)]
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) sessions: Vec<Session>,
    pub(super) keys: Vec<Key>,
    pub(super) marks: Vec<Mark>,
    /// When it is off.
    pub(super) down: Vec<Band>,
    /// When it sleeps.
    pub(super) asleep: Vec<Band>,
    /// Faults at it.
    pub(super) weather: Vec<Band>,
    pub(super) samples: Vec<Sample>,
    pub(super) total: Flow,
    open: Open,
}

/// What goes on at the moment, as indexes into the lists of [`Machine`].
#[derive(Default)]
struct Open {
    sessions: BTreeMap<u64, usize>,
    keys: BTreeMap<(u32, u8), usize>,
    weather: Vec<usize>,
    down: bool,
    asleep: bool,
    sampled: u64,
}

/// The whole run.
pub(super) struct Story {
    /// Machines, by number.
    pub(super) machines: Vec<Machine>,
    /// The network as a whole.
    pub(super) network: Machine,
    /// Virtual nanoseconds at the end; at least 1.
    pub(super) end: u64,
    /// When an invariant broke, at which machine, how.
    pub(super) violations: Vec<(u64, Option<MachineId>, String)>,
}

impl Story {
    /// Reads a tape.
    pub(super) fn read(head: &Head<'_>, tape: &Tape) -> Self {
        let last = tape.records.last().map_or(0, |record| record.at.as_nanos());
        let end = head.end.as_nanos().max(last).max(1);
        let named =
            tape.records.iter().filter_map(|record| record.who).map(|who| usize::from(who.0) + 1).max();
        let many = tape.names.len().max(named.unwrap_or(0));
        let machines = (0..many)
            .map(|n| Machine { name: tape.name(MachineId(n as u16)), ..Machine::default() })
            .collect();
        let mut story = Self {
            machines,
            network: Machine { name: "network".to_owned(), ..Machine::default() },
            end,
            violations: Vec::new(),
        };
        for record in &tape.records {
            let at = record.at.as_nanos();
            match &record.what {
                What::Healed if record.who.is_none() => {
                    story.machines.iter_mut().for_each(|machine| machine.clear(at, |_| true));
                }
                What::Violation(text) => story.violations.push((at, record.who, text.clone())),
                _ => {}
            }
            let machine = record.who.and_then(|who| story.machines.get_mut(usize::from(who.0)));
            machine.unwrap_or(&mut story.network).take(at, end, &record.what);
        }
        story
    }

    /// Traffic of all machines.
    pub(super) fn total(&self) -> Flow {
        let mut total = Flow::default();
        self.machines.iter().for_each(|machine| total.add(machine.total));
        total
    }
}

impl Machine {
    fn mark(&mut self, at: u64, sign: Sign, text: String) {
        self.marks.push(Mark { at, sign, text });
    }

    /// Takes a record. All that goes on lasts until `end` unless a later record says otherwise.
    fn take(&mut self, at: u64, end: u64, what: &What) {
        match what {
            What::Started => self.start(at),
            What::Crashed => self.crash(at, end),
            What::Suspended => {
                self.mark(at, Sign::Sleep, "falls asleep".to_owned());
                self.asleep.push(Band { from: at, to: end, text: "asleep".to_owned() });
                self.open.asleep = true;
            }
            What::Resumed => {
                self.wake(at);
                self.mark(at, Sign::Wake, "wakes up".to_owned());
            }
            What::ClockJump(_) => self.mark(at, Sign::Clock, what.to_string()),
            What::Moved(_) => self.mark(at, Sign::Moved, what.to_string()),
            What::Weather(text) => {
                self.clear(at, |before| subject(before) == subject(text));
                self.open.weather.push(self.weather.len());
                self.weather.push(Band { from: at, to: end, text: text.clone() });
            }
            What::Cleared(text) => self.clear(at, |before| before == text),
            What::Healed => {
                self.clear(at, |_| true);
                self.mark(at, Sign::Note, what.to_string());
            }
            What::Connecting { session } => self.begin(at, end, *session),
            What::Established { session, summary } => {
                if !self.open.sessions.contains_key(session) {
                    self.begin(at, end, *session);
                }
                if let Some(session) = self.session(*session) {
                    session.up.get_or_insert(at);
                    session.summary.clone_from(summary);
                }
            }
            What::KeyInstalled { peer, key } => {
                self.retire(at, (*peer, *key));
                self.open.keys.insert((*peer, *key), self.keys.len());
                let (peer, key) = (*peer, *key);
                self.keys.push(Key { peer, key, from: at, promoted: None, to: end, retired: false });
            }
            What::KeyPromoted { peer, key } => {
                if let Some(index) = self.open.keys.get(&(*peer, *key)) {
                    self.keys[*index].promoted.get_or_insert(at);
                }
            }
            What::KeyRetired { peer, key } => self.retire(at, (*peer, *key)),
            What::Floated { .. } => self.mark(at, Sign::Floated, what.to_string()),
            What::Closed { session, cause } => {
                self.close(at, *session, cause);
                self.mark(at, Sign::Close, what.to_string());
            }
            What::Sample { sent, sent_bytes, received, received_bytes } => {
                let flow = Flow {
                    sent: (*sent).into(),
                    sent_bytes: *sent_bytes,
                    received: (*received).into(),
                    received_bytes: *received_bytes,
                };
                self.total.add(flow);
                self.samples.push(Sample { from: self.open.sampled, to: at, flow });
                self.open.sampled = at;
            }
            What::Note(text) => self.mark(at, Sign::Note, text.clone()),
            What::Violation(text) => self.mark(at, Sign::Violation, text.clone()),
        }
    }

    fn start(&mut self, at: u64) {
        if self.open.down {
            if let Some(band) = self.down.last_mut() {
                band.to = at;
                band.text = format!("off for {}", span(at - band.from));
            }
            self.open.down = false;
        } else if at > 0 && self.down.is_empty() && self.sessions.is_empty() {
            self.down.push(Band { from: 0, to: at, text: "not started yet".to_owned() });
        }
        // Every machine starts once; only a later start is news.
        if at > 0 {
            self.mark(at, Sign::Start, "starts".to_owned());
        }
    }

    fn crash(&mut self, at: u64, end: u64) {
        self.wake(at);
        for id in core::mem::take(&mut self.open.sessions).into_values() {
            self.sessions[id].to = at;
            self.sessions[id].cause = Some("the machine crashed".to_owned());
        }
        for index in core::mem::take(&mut self.open.keys).into_values() {
            self.keys[index].to = at;
        }
        self.mark(at, Sign::Crash, "crashes".to_owned());
        self.down.push(Band { from: at, to: end, text: "off".to_owned() });
        self.open.down = true;
    }

    fn wake(&mut self, at: u64) {
        if core::mem::take(&mut self.open.asleep)
            && let Some(band) = self.asleep.last_mut()
        {
            band.to = at;
            band.text = format!("asleep for {}", span(at - band.from));
        }
    }

    fn begin(&mut self, at: u64, end: u64, id: u64) {
        self.close(at, id, "begun anew");
        self.open.sessions.insert(id, self.sessions.len());
        self.sessions.push(Session { id, begun: at, up: None, to: end, summary: String::new(), cause: None });
    }

    fn session(&mut self, id: u64) -> Option<&mut Session> {
        self.open.sessions.get(&id).map(|index| &mut self.sessions[*index])
    }

    fn close(&mut self, at: u64, id: u64, cause: &str) {
        if let Some(session) = self.session(id) {
            session.to = at;
            session.cause = Some(cause.to_owned());
            self.open.sessions.remove(&id);
        }
    }

    fn retire(&mut self, at: u64, key: (u32, u8)) {
        if let Some(index) = self.open.keys.remove(&key) {
            self.keys[index].to = at;
            self.keys[index].retired = true;
        }
    }

    /// Ends the faults of these texts.
    fn clear(&mut self, at: u64, over: impl Fn(&str) -> bool) {
        let bands = &mut self.weather;
        self.open.weather.retain(|index| {
            let band = &mut bands[*index];
            let over = over(&band.text);
            if over {
                band.to = at;
            }
            !over
        });
    }

    /// Sessions after the first that came up.
    pub(super) fn reconnects(&self) -> u64 {
        (self.sessions.iter().filter(|session| session.up.is_some()).count() as u64).saturating_sub(1)
    }
}

/// What a fault is of: its text up to the colon.
fn subject(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(subject, _)| subject)
}
