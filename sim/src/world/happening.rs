//! What happens to machines and the network at planned times.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use oxivpn_proto::Instant;

use super::agenda::Part;
use super::{SiteFaults, SiteId, State, World};
use crate::link::Faults;
use crate::pipe::PipeFaults;
use crate::trace::{MachineId, What};

/// Something that happens once.
#[expect(clippy::large_enum_variant, reason = "a world has a few of them, and they are copied about")]
#[derive(Clone, Copy, Debug)]
pub enum Happening {
    /// The lines of a site change.
    Lines(SiteId, SiteFaults),
    /// The translator of a site forgets everything.
    Rebind(SiteId),
    /// A site gets another public address.
    Renumber(SiteId),
    /// A machine stops without a word, and starts from nothing after this time.
    Crash(MachineId, Duration),
    /// A machine sleeps for this time: its clocks go on, packets to it are lost.
    Sleep(MachineId, Duration),
    /// The calendar of a machine is off by so many seconds from its next start on.
    Skew(MachineId, i64),
    /// All byte streams of a machine break.
    BreakStreams(MachineId),
    /// A machine starts a renegotiation of all its tunnels.
    Renegotiate(MachineId),
    /// A machine leaves its tunnels in an orderly way; it calls again if it is one that calls.
    Leave(MachineId),
    /// A server sends a control message to a client.
    Message {
        /// The server.
        from: MachineId,
        /// Whom it is for.
        to: MachineId,
    },
    /// What byte streams that begin from now on are like.
    Streams(PipeFaults),
    /// All faults end: lines have their delay only, streams flow, calendars are right.
    Heal,
    /// Somebody looks what became of a transfer.
    #[doc(hidden)]
    Transfer(usize),
    /// A machine that was off starts.
    #[doc(hidden)]
    Start(MachineId),
    /// A machine wakes up.
    #[doc(hidden)]
    Wake(MachineId),
}

impl World {
    /// Plans something.
    pub fn plan(&mut self, at: Instant, happening: Happening) {
        self.planned_so_far += 1;
        self.planned.insert((at, self.planned_so_far), happening);
        self.agenda.set(Part::Plan, self.planned.first_key_value().map(|((at, _), _)| *at));
    }

    pub(super) fn call_planned(&mut self) {
        while let Some(entry) = self.planned.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let happening = entry.remove();
            self.happen(happening);
        }
        self.agenda.set(Part::Plan, self.planned.first_key_value().map(|((at, _), _)| *at));
    }

    /// Does it now.
    pub fn happen(&mut self, happening: Happening) {
        let index = |id: MachineId| usize::from(id.0);
        let site = |id: SiteId| usize::from(id.0);
        match happening {
            Happening::Lines(id, faults) => {
                let before = self.sites[site(id)].faults;
                self.set_faults(site(id), faults);
                self.lines_changed(site(id), Some(before));
            }
            Happening::Rebind(id) => {
                let text = format!("the translator of site {} forgets everything", id.0);
                self.tape.record(self.now, None, What::Note(text));
                if let Some(nat) = &mut self.sites[site(id)].nat {
                    nat.rebind(self.now);
                }
            }
            Happening::Renumber(id) => self.renumber(site(id)),
            Happening::Crash(id, off) => self.crash(index(id), off),
            Happening::Sleep(id, time) => {
                if self.stations[index(id)].state == State::Running {
                    self.record(index(id), What::Suspended);
                    self.stations[index(id)].state = State::Asleep;
                    self.agenda.set(Part::Machine(index(id)), None);
                    self.plan(self.now + time, Happening::Wake(id));
                }
            }
            Happening::Skew(id, seconds) => {
                self.record(index(id), What::ClockJump(seconds));
                self.stations[index(id)].skew = seconds;
            }
            Happening::BreakStreams(id) => {
                self.record(index(id), What::Note("its streams break".into()));
                self.reset_streams(index(id));
            }
            Happening::Renegotiate(id) => {
                self.record(index(id), What::Note("it renegotiates".into()));
                self.with(index(id), |machine, now| machine.renegotiate(now));
            }
            Happening::Leave(id) => {
                self.record(index(id), What::Note("it leaves".into()));
                self.with(index(id), |machine, now| machine.leave(now));
            }
            Happening::Message { from, to } => self.send_message(index(from), index(to)),
            Happening::Streams(faults) => self.pipe_faults = faults,
            Happening::Heal => self.heal(),
            Happening::Transfer(number) => self.call_transfer(number),
            Happening::Start(id) => self.start(index(id)),
            Happening::Wake(id) => {
                if self.stations[index(id)].state == State::Asleep {
                    self.stations[index(id)].state = State::Running;
                    self.record(index(id), What::Resumed);
                    self.with(index(id), |machine, now| machine.handle_timeout(now));
                }
            }
        }
    }

    /// Records what the lines of a site are like from now on, and that this is another state than `before`.
    pub(super) fn lines_changed(&mut self, site: usize, before: Option<SiteFaults>) {
        let keeps = self.tape.keeps_records();
        // Texts only where somebody reads them.
        let text = |faults: SiteFaults| Some(faults.to_string()).filter(|text| keeps && !text.is_empty());
        let named = |text: String| format!("site {site}: {text}");
        let what = match (text(self.sites[site].faults), before.and_then(text)) {
            (Some(now), _) => What::Weather(named(now)),
            (None, before) => What::Cleared(before.map(named).unwrap_or_default()),
        };
        self.tape.record(self.now, None, what);
    }

    fn crash(&mut self, index: usize, off: Duration) {
        if self.stations[index].state == State::Off {
            return;
        }
        self.record(index, What::Crashed);
        self.reset_streams(index);
        self.stations[index].state = State::Off;
        self.agenda.set(Part::Machine(index), None);
        self.plan(self.now + off, Happening::Start(MachineId(index as u16)));
    }

    fn start(&mut self, index: usize) {
        let station = &mut self.stations[index];
        if station.state != State::Off {
            return;
        }
        station.state = State::Running;
        station.boots += 1;
        station.machine.restart(self.now, station.skew);
        self.settle(index);
    }

    /// Behind a translator only its outside changes, otherwise the machines move. Their streams break.
    fn renumber(&mut self, site: usize) {
        let here = &mut self.sites[site];
        let old = here.public;
        let IpAddr::V4(address) = old else { return };
        let public = IpAddr::V4(Ipv4Addr::from(u32::from(address) + 0x1_0000));
        here.public = public;
        let stations = here.stations.clone();
        match &mut here.nat {
            Some(nat) => nat.set_public(public),
            None => stations.iter().for_each(|&index| self.stations[index].address = public),
        }
        self.by_address.remove(&old);
        self.by_address.insert(public, site);
        self.wake_open(site);
        for index in stations {
            let at = core::net::SocketAddr::new(public, self.stations[index].port);
            self.record(index, What::Moved(at));
            self.reset_streams(index);
        }
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.tape.record(self.now, None, What::Healed);
        self.pipe_faults = PipeFaults { delay: self.pipe_faults.delay, ..PipeFaults::NONE };
        self.heal_streams();
        self.end_attacks();
        for site in 0..self.sites.len() {
            let SiteFaults { up, down, spare_data } = self.sites[site].faults;
            let healed = |faults: Faults| Faults { delay: faults.delay, ..Faults::NONE };
            self.set_faults(site, SiteFaults { up: healed(up), down: healed(down), spare_data });
        }
        for index in 0..self.stations.len() {
            self.stations[index].skew = 0;
            self.stations[index].gremlin = None;
        }
    }
}
