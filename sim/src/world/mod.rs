//! A network of machines in virtual time.
//!
//! ```text
//!  machine ─ NAT ─► line up ─┐             ┌─ line down ─► NAT ─ machine
//!  machine ─┘                ├── routing ──┤
//!  machine ───────► line up ─┘             └─ line down ──────── machine
//!          └────────── byte streams, end to end ──────────┘
//! ```
//!
//! Each [site](SiteId) has a line in each direction, with faults of its own, and possibly a translator. Machines
//! at a site share them. Between the sites everything passes at once.

mod agenda;
mod attack;
mod happening;
mod hosts;
mod network;
mod streams;
mod traffic;

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use oxivpn_proto::gremlin::{Gremlin, Mask};
use oxivpn_proto::{Instant, StreamId};

use crate::link::{Counters, Faults, Link};
use crate::machine::role::Role;
use crate::machine::{Action, Machine, PlaneKind};
use crate::nat::{Nat, NatKind};
use crate::pipe::PipeFaults;
use crate::seed::{Branch, Purpose, SeedTree};
use crate::trace::{Keep, MachineId, Tape, What};
use crate::truth::{End, Tally, Truth};
use agenda::{Agenda, Part};
use attack::Siege;
pub use happening::Happening;
use hosts::Hosts;
pub use hosts::{Handle, Inner, TransferState};
use streams::{Line, Stream};
pub use traffic::Flow;
use traffic::FlowState;

/// The port of all machines; each further socket of a machine has the next one.
pub const PORT: u16 = 1194;

/// Number of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteId(pub u16);

/// What a site's lines are like.
#[derive(Clone, Copy, Debug)]
pub struct SiteFaults {
    /// Away from it.
    pub up: Faults,
    /// To it.
    pub down: Faults,
    /// Whether data packets are spared: they have the delay only. What then is lost in the tunnel was lost by us.
    pub spare_data: bool,
}

impl SiteFaults {
    /// Lines in both directions with these faults.
    pub const fn both(faults: Faults) -> Self {
        Self { up: faults, down: faults, spare_data: false }
    }

    fn of(&self, up: bool, class: usize) -> Faults {
        let faults = if up { self.up } else { self.down };
        if class == DATA && self.spare_data { Faults { delay: faults.delay, ..Faults::NONE } } else { faults }
    }
}

/// Lines of everything, or of what isn't data.
const CONTROL: usize = 0;
/// Lines of data, if it is spared.
const DATA: usize = 1;

type Addresses = (SocketAddr, SocketAddr);

struct Site {
    faults: SiteFaults,
    up: [Link<Addresses>; 2],
    down: [Link<Addresses>; 2],
    nat: Option<Nat>,
    public: IpAddr,
    stations: Vec<usize>,
}

/// What a machine does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Asleep,
    Off,
}

struct Station {
    machine: Machine,
    site: usize,
    /// Behind a translator a private address, else the site's.
    address: IpAddr,
    port: u16,
    state: State,
    boots: u64,
    /// What its calendar is off by after the next start, seconds.
    skew: i64,
    lines: BTreeMap<StreamId, Line>,
    sample: Sample,
    /// OpenVPN's fault injector between the machine and its line.
    gremlin: Option<Gremlin>,
    deeds: Deeds,
}

/// Inner traffic since the last sample.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    sent: u32,
    sent_bytes: u64,
    received: u32,
    received_bytes: u64,
}

/// What a machine did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    /// Sessions that it began.
    pub calls: u64,
    /// Tunnels that came up.
    pub tunnels: u64,
    /// Keys that its data plane was told to send with.
    pub keys: u64,
    /// Sessions that ended.
    pub closed: u64,
}

impl Deeds {
    fn note(&mut self, what: &What) {
        match what {
            What::Connecting { .. } => self.calls += 1,
            What::Established { .. } => self.tunnels += 1,
            What::KeyPromoted { .. } => self.keys += 1,
            What::Closed { .. } => self.closed += 1,
            _ => {}
        }
    }
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Instant,
    /// At which machine, if at one.
    pub who: Option<MachineId>,
    /// What.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: ", self.at)?;
        if let Some(who) = self.who {
            write!(f, "machine {}: ", who.0)?;
        }
        f.write_str(&self.what)
    }
}

/// A network.
pub struct World {
    now: Instant,
    seeds: SeedTree,
    tape: Tape,
    sites: Vec<Site>,
    by_address: BTreeMap<IpAddr, usize>,
    stations: Vec<Station>,
    streams: BTreeMap<u32, Stream>,
    next_stream: u32,
    pipe_faults: PipeFaults,
    agenda: Agenda,
    planned: BTreeMap<(Instant, u64), Happening>,
    planned_so_far: u64,
    flows: Vec<FlowState>,
    hosts: Hosts,
    truth: Truth,
    violations: Vec<Violation>,
    /// Probes between machines whose tunnel stands must arrive.
    lossless: bool,
    /// No session may end.
    unbroken: bool,
    /// Control messages must arrive.
    attentive: bool,
    /// Tunnels that came up and did not end: machine, how often it was switched on, session.
    up: BTreeSet<(usize, u64, u64)>,
    siege: Siege,
    sample_every: Option<Duration>,
    /// Packets for nobody: an address without site, a closed port, a machine that is off or asleep.
    lost_on_the_way: u64,
    /// How often streams that are over stood still.
    stalls: u64,
    /// Streams that were reset or refused.
    resets: u64,
}

impl World {
    /// An empty network. Equal seeds and equal calls make equal worlds.
    pub fn new(seed: u64, keep: Keep) -> Self {
        let mut world = Self {
            // Not at zero, so that a program that takes zero for "never" is found out.
            now: Instant::from_nanos(1_000_000_000),
            seeds: SeedTree::new(seed),
            tape: Tape::new(keep),
            sites: Vec::new(),
            by_address: BTreeMap::new(),
            stations: Vec::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            pipe_faults: PipeFaults::NONE,
            agenda: Agenda::default(),
            planned: BTreeMap::new(),
            planned_so_far: 0,
            flows: Vec::new(),
            hosts: Hosts::default(),
            truth: Truth::default(),
            violations: Vec::new(),
            lossless: false,
            unbroken: false,
            attentive: false,
            up: BTreeSet::new(),
            siege: Siege::default(),
            sample_every: None,
            lost_on_the_way: 0,
            stalls: 0,
            resets: 0,
        };
        if world.tape.keeps_records() {
            world.sample(Duration::from_secs(1));
        }
        world
    }

    /// Adds a place with lines of its own, behind a translator if `nat` is given.
    pub fn add_site(&mut self, faults: SiteFaults, nat: Option<NatKind>) -> SiteId {
        let index = self.sites.len();
        let number = index as u32;
        let line = |up: bool, class: usize| {
            let seeds = self.seeds.branch(Branch::Link, number);
            Link::new(faults.of(up, class), &seeds, (class * 2 + usize::from(up)) as u32)
        };
        let public = IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + number));
        let nat = nat.map(|kind| Nat::new(kind, public, &self.seeds.branch(Branch::Nat, number)));
        let (up, down) = ([line(true, CONTROL), line(true, DATA)], [line(false, CONTROL), line(false, DATA)]);
        self.sites.push(Site { faults, up, down, nat, public, stations: Vec::new() });
        self.by_address.insert(public, index);
        let healthy = |faults: Faults| faults == Faults { delay: faults.delay, ..Faults::NONE };
        if !healthy(faults.up) || !healthy(faults.down) {
            self.lines_changed(index, None);
        }
        SiteId(index as u16)
    }

    /// The address that packets to a machine at `site` go to, where no translator is in between.
    pub fn site_address(&self, site: SiteId) -> SocketAddr {
        SocketAddr::new(self.sites[usize::from(site.0)].public, PORT)
    }

    /// Adds a machine and switches it on. Its name is the common name of its certificate.
    pub fn add_machine(&mut self, site: SiteId, name: &str, role: Role, plane: PlaneKind) -> MachineId {
        let id = MachineId(self.stations.len() as u16);
        let site = usize::from(site.0);
        let seeds = self.seeds.branch(Branch::Machine, id.0.into());
        let here = &mut self.sites[site];
        here.stations.push(self.stations.len());
        let address = match here.nat {
            Some(_) => IpAddr::V4(Ipv4Addr::new(192, 168, site as u8, here.stations.len() as u8 + 1)),
            None => here.public,
        };
        self.tape.names.push(name.to_owned());
        let machine = Machine::new(id, role, plane, &seeds, self.now, 0);
        self.stations.push(Station {
            machine,
            site,
            address,
            port: PORT,
            state: State::Running,
            boots: 0,
            skew: 0,
            lines: BTreeMap::new(),
            sample: Sample::default(),
            gremlin: None,
            deeds: Deeds::default(),
        });
        self.settle(usize::from(id.0));
        id
    }

    /// Puts OpenVPN's fault injector between a machine and its line; an empty mask takes it away.
    pub fn set_gremlin(&mut self, id: MachineId, mask: Mask) {
        let seeds = self.seeds.branch(Branch::Gremlin, id.0.into());
        let seed = seeds.draws(Purpose::Secret, 0, 0).seed();
        let gremlin = (!mask.is_empty()).then(|| Gremlin::new(mask, seed, self.now));
        self.stations[usize::from(id.0)].gremlin = gremlin;
    }

    /// What the fault injector of a machine did.
    pub fn gremlin(&self, id: MachineId) -> Option<&Gremlin> {
        self.stations[usize::from(id.0)].gremlin.as_ref()
    }

    /// From now on every probe must arrive whose sender and receiver keep their tunnel. Only for networks that
    /// spare data and streams.
    pub fn expect_no_loss(&mut self) {
        self.lossless = true;
    }

    /// From now on every control message must arrive whose session goes on at both ends. Only for networks that lose
    /// no control packet.
    pub fn expect_messages(&mut self) {
        self.attentive = true;
    }

    /// From now on no tunnel may end, and no attempt to begin one. Only for networks without faults.
    pub fn expect_no_end(&mut self) {
        self.unbroken = true;
    }

    /// From now on sessions may end again.
    pub(crate) fn expect_ends(&mut self) {
        self.unbroken = false;
    }

    /// What byte streams are like from now on.
    pub fn set_pipe_faults(&mut self, faults: PipeFaults) {
        self.pipe_faults = faults;
        let text = if self.tape.keeps_records() { format!("streams: {faults}") } else { String::new() };
        self.tape.record(self.now, None, What::Weather(text));
    }

    /// Puts the traffic of each machine on the tape, each time this long.
    pub fn sample(&mut self, every: Duration) {
        self.sample_every = Some(every);
        self.agenda.set(Part::Sample, Some(self.now + every));
    }

    /// Lets time pass until `end`, or until an invariant breaks. Whether all is well.
    pub fn run_until(&mut self, end: Instant) -> bool {
        while self.violations.is_empty() {
            let Some((at, part)) = self.agenda.next(end) else {
                self.now = self.now.max(end);
                break;
            };
            self.now = self.now.max(at);
            self.call(part);
        }
        self.violations.is_empty()
    }

    /// Lets `time` pass. Whether all is well.
    pub fn run_for(&mut self, time: Duration) -> bool {
        self.run_until(self.now + time)
    }

    fn call(&mut self, part: Part) {
        match part {
            Part::Plan => self.call_planned(),
            Part::Up(site, class) => self.call_up(site, class),
            Part::Down(site, class) => self.call_down(site, class),
            Part::Pipe(number) => self.call_stream(number),
            Part::Machine(index) => self.with(index, |machine, now| machine.handle_timeout(now)),
            Part::Host(index) => self.call_host(index),
            Part::Flow(index) => self.call_flow(index),
            Part::Attack(index) => self.call_attack(index),
            Part::Truth => self.call_truth(),
            Part::Sample => self.call_sample(),
        }
    }

    /// Calls a machine that is running, and does what comes of it.
    fn with<R: Default>(&mut self, index: usize, call: impl FnOnce(&mut Machine, Instant) -> R) -> R {
        let station = &mut self.stations[index];
        if station.state != State::Running {
            return R::default();
        }
        let now = self.now;
        let result = station.machine.run(|machine| call(machine, now));
        self.settle(index);
        result
    }

    fn settle(&mut self, index: usize) {
        while let Some(action) = self.stations[index].machine.poll_action() {
            match action {
                Action::Send { path, bytes } => self.send(index, path, bytes),
                Action::Dial { id } => self.dial(index, id),
                Action::HangUp { id } => self.hang_up(index, id),
                Action::FreshSocket => {
                    let station = &mut self.stations[index];
                    station.port = station.port.wrapping_add(1).max(PORT);
                }
                Action::Inner(packet) => self.take_inner(index, &packet),
                Action::Message(number) => self.take_message(index, number),
                Action::Incoming(from) => self.watch_incoming(index, from),
                Action::News(What::Violation(what)) => self.violate(Some(MachineId(index as u16)), what),
                Action::News(what) => self.record(index, what),
            }
        }
        let station = &self.stations[index];
        let deadline = station.machine.deadline().filter(|_| station.state == State::Running);
        self.agenda.set(Part::Machine(index), deadline);
        if let Some(host) = self.hosts.moved(index, station.machine.address()) {
            self.agenda.set(Part::Host(host), Some(self.now));
        }
    }

    fn record(&mut self, index: usize, what: What) {
        self.stations[index].deeds.note(&what);
        let told = match what {
            What::Established { .. } | What::Closed { .. } | What::Floated { .. } => Some(what.clone()),
            _ => None,
        };
        self.tape.record(self.now, Some(MachineId(index as u16)), what);
        if let Some(what) = told {
            self.watch_news(index, &what);
        }
    }

    /// Enters a broken invariant; the world stands still from here on.
    pub fn violate(&mut self, who: Option<MachineId>, what: String) {
        self.tape.record(self.now, who, What::Violation(what.clone()));
        self.violations.push(Violation { at: self.now, who, what });
    }

    /// Puts a text on the tape that is about the network as a whole.
    pub fn note(&mut self, text: String) {
        self.tape.record(self.now, None, What::Note(text));
    }

    fn call_sample(&mut self) {
        let Some(every) = self.sample_every else { return };
        for index in 0..self.stations.len() {
            let Sample { sent, sent_bytes, received, received_bytes } =
                core::mem::take(&mut self.stations[index].sample);
            self.record(index, What::Sample { sent, sent_bytes, received, received_bytes });
        }
        self.agenda.set(Part::Sample, Some(self.now + every));
    }

    fn call_truth(&mut self) {
        let stations = &self.stations;
        let stands = |(index, boots, session): End| {
            let station = &stations[index];
            station.boots == boots && station.machine.tunnels().any(|(handle, _)| handle == session)
        };
        for what in self.truth.broken(self.now, stands) {
            self.violate(None, what);
        }
        self.agenda.set(Part::Truth, self.truth.deadline());
    }

    /// The time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The seed tree, for those who make the world.
    pub const fn seeds(&self) -> &SeedTree {
        &self.seeds
    }

    /// What happened so far.
    pub const fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Invariants that broke.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// A number that depends on all that happened, on every byte sent, and on every draw.
    pub fn digest(&self) -> u64 {
        self.tape.digest() ^ self.seeds.digest().rotate_left(32)
    }

    /// How many machines there are.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> + '_ {
        self.stations.iter().map(|station| &station.machine)
    }

    /// A machine.
    pub fn machine(&self, id: MachineId) -> &Machine {
        &self.stations[usize::from(id.0)].machine
    }

    /// What a machine did so far.
    pub fn deeds(&self, id: MachineId) -> Deeds {
        self.stations[usize::from(id.0)].deeds
    }

    /// What lines did to packets, one after the other.
    pub fn lines(&self) -> impl Iterator<Item = &Counters> + '_ {
        self.sites.iter().flat_map(|site| site.up.iter().chain(&site.down)).map(Link::counters)
    }

    /// What translators did, one after the other.
    pub fn nats(&self) -> impl Iterator<Item = &Nat> + '_ {
        self.sites.iter().filter_map(|site| site.nat.as_ref())
    }

    /// How often byte streams stood still, and how many of them were reset or refused.
    pub fn stream_troubles(&self) -> (u64, u64) {
        let stalls: u64 = self.streams.values().map(Stream::stalls).sum();
        (self.stalls + stalls, self.resets)
    }

    /// The address of a machine, and the one that others see it at.
    pub fn addresses(&self, id: MachineId) -> (IpAddr, IpAddr) {
        let station = &self.stations[usize::from(id.0)];
        (station.address, self.sites[station.site].public)
    }

    /// What became of the probes from one machine to another.
    pub fn tally(&self, from: MachineId, to: MachineId) -> Tally {
        self.truth.tally(from.0.into(), to.0.into())
    }

    /// All tallies, by sender and receiver.
    pub fn tallies(&self) -> impl Iterator<Item = ((MachineId, MachineId), Tally)> + '_ {
        self.truth
            .tallies()
            .map(|((from, to), tally)| ((MachineId(from as u16), MachineId(to as u16)), tally))
    }

    /// Packets that found no receiver: an address without site, a closed port, a machine that is off or asleep.
    pub const fn lost_on_the_way(&self) -> u64 {
        self.lost_on_the_way
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("machines", &self.stations.len())
            .finish_non_exhaustive()
    }
}
