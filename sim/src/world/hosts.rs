//! Who talks through the tunnels, and without them: hosts with a TCP/IP stack, and protocols of your own.

use core::any::Any;
use core::fmt;
use core::marker::PhantomData;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;

use ipnet::IpNet;
use oxivpn_proto::Instant;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};
use xxhash_rust::xxh3::xxh3_64;

use super::agenda::Part;
use super::{Happening, SiteId, State, World};
use crate::host::{AppId, Host, Progress, Transfer};
use crate::seed::Branch;
use crate::trace::{MachineId, What};

/// MTU of hosts that are made for transfers.
const TRANSFER_MTU: usize = 1400;
/// Port of the first transfer at its server; each further one has the next.
const TRANSFER_PORT: u16 = 4000;
/// When hosts of transfers give up a connection on which nothing comes.
const TRANSFER_GIVES_UP: Duration = Duration::from_secs(20);
/// How often somebody looks what became of a transfer.
const TRANSFER_PACE: Duration = Duration::from_secs(1);

/// Packets that one may send at the same moment.
const MAX_BURST: usize = 100_000;

/// Speaks IP at one place of a world: at the inner side of a machine, or on the open network.
///
/// [`Host`] is one. Write your own to put a protocol of yours over a simulated VPN. It has no clock and no socket:
/// time comes with each call, packets go in and out.
pub trait Inner: Any {
    /// Its address from now on. Behind a client it is the one that the server gave; it is kept while the client is
    /// away. Nothing can arrive before the first call.
    fn set_address(&mut self, now: Instant, address: IpAddr);

    /// Takes an IP packet: what the other end sent, or an old one that was for the address before.
    fn handle_packet(&mut self, now: Instant, packet: &[u8]);

    /// The next IP packet that it sends, if there is one now. Asked until there is none, after each other call and
    /// at the [`deadline`](Self::deadline). What is sent while no tunnel is up is lost.
    fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>>;

    /// When [`poll_packet`](Self::poll_packet) has something to do although nothing came.
    fn deadline(&self, now: Instant) -> Option<Instant>;

    /// What went wrong that must never go wrong, such as content that nobody sent. It ends the world's run.
    fn violation(&self) -> Option<String> {
        None
    }
}

impl Inner for Host {
    fn set_address(&mut self, _now: Instant, address: IpAddr) {
        // Everybody else is reached through the tunnel.
        if let Ok(net) = IpNet::new(address, 0) {
            self.set_addresses(&[net]);
        }
    }

    fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.handle_packet(now, packet);
    }

    fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.poll_packet(now)
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        self.deadline(now)
    }

    fn violation(&self) -> Option<String> {
        let count = self.violations();
        (count > 0).then(|| format!("content that nobody sent, {count} times"))
    }
}

/// Number of an [`Inner`] in its world, with its type.
pub struct Handle<T> {
    index: usize,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.index)
    }
}

/// Where somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the inner side of a machine.
    Machine(usize),
    /// On the open network.
    Site(usize),
    /// Nowhere any more: another one is there.
    Gone,
}

struct Seat {
    inner: Box<dyn Inner>,
    place: Place,
    address: Option<IpAddr>,
}

/// A transfer between the inner sides of two machines, begun anew until it is through.
#[derive(Clone, Copy, Debug)]
pub struct TransferState {
    /// The machine whose host connects.
    pub from: MachineId,
    /// The machine whose host serves.
    pub to: MachineId,
    /// What is to be done.
    pub plan: Transfer,
    /// Connections that were tried.
    pub tries: u32,
    /// Whether one of them did all of it.
    pub done: bool,
    client: Handle<Host>,
    port: u16,
    app: Option<AppId>,
}

/// All who speak IP in a world.
#[derive(Default)]
pub(super) struct Hosts {
    seats: Vec<Seat>,
    by_machine: BTreeMap<usize, usize>,
    transfers: Vec<TransferState>,
    /// How often a packet was sent, by its hash.
    sent: BTreeMap<u64, u32>,
    /// How often it arrived at a machine.
    arrived: BTreeMap<(u64, usize), u32>,
}

impl Hosts {
    /// Who has to be told that its machine has another address.
    pub(super) fn moved(&self, machine: usize, address: Option<IpAddr>) -> Option<usize> {
        let &index = self.by_machine.get(&machine)?;
        (address.is_some() && self.seats[index].address != address).then_some(index)
    }

    fn note_sent(&mut self, packet: &[u8]) {
        if let Some(hash) = fingerprint(packet) {
            *self.sent.entry(hash).or_default() += 1;
        }
    }

    /// Whether a packet that arrived at a machine was sent so, and at least as often.
    fn note_arrived(&mut self, machine: usize, packet: &[u8]) -> bool {
        let Some(hash) = fingerprint(packet) else { return true };
        let arrived = self.arrived.entry((hash, machine)).or_default();
        *arrived += 1;
        *arrived <= self.sent.get(&hash).copied().unwrap_or_default()
    }
}

impl World {
    /// Puts somebody at the inner side of a machine, in place of whom was there before. What comes out of the
    /// machine's tunnels is theirs, probes excepted, and what they send goes into them.
    pub fn attach<T: Inner>(&mut self, machine: MachineId, inner: T) -> Handle<T> {
        let machine = usize::from(machine.0);
        let handle = self.seat(inner, Place::Machine(machine));
        if let Some(before) = self.hosts.by_machine.insert(machine, handle.index) {
            self.hosts.seats[before].place = Place::Gone;
        }
        handle
    }

    /// Puts a [`Host`] at the inner side of a machine. It sends packets of at most `mtu` bytes.
    pub fn attach_host(&mut self, machine: MachineId, mtu: usize) -> Handle<Host> {
        let host = self.make_host(mtu);
        self.attach(machine, host)
    }

    /// Puts somebody on the open network, without tunnel: their packets cross the lines as they are. They have the
    /// site's address, the only one of their kind there. Not for sites behind a translator, which does not know
    /// what to do with such packets.
    pub fn add_open<T: Inner>(&mut self, site: SiteId, inner: T) -> Handle<T> {
        self.seat(inner, Place::Site(site.0.into()))
    }

    /// Puts a [`Host`] on the open network, as [`add_open`](Self::add_open) does.
    pub fn add_open_host(&mut self, site: SiteId, mtu: usize) -> Handle<Host> {
        let host = self.make_host(mtu);
        self.add_open(site, host)
    }

    fn make_host(&self, mtu: usize) -> Host {
        Host::new(&[], mtu, &self.seeds.branch(Branch::Host, self.hosts.seats.len() as u32))
    }

    fn seat<T: Inner>(&mut self, inner: T, place: Place) -> Handle<T> {
        let index = self.hosts.seats.len();
        self.hosts.seats.push(Seat { inner: Box::new(inner), place, address: None });
        self.agenda.set(Part::Host(index), Some(self.now));
        Handle { index, kind: PhantomData }
    }

    /// Looks at somebody that was put here.
    ///
    /// # Panics
    ///
    /// If the handle is another world's.
    pub fn inner<T: Inner>(&self, handle: Handle<T>) -> &T {
        let inner: &dyn Any = &*self.hosts.seats[handle.index].inner;
        match inner.downcast_ref() {
            Some(inner) => inner,
            None => panic!("{handle:?} is another world's"),
        }
    }

    /// Does something with somebody that was put here. What they want to send then is fetched when the world runs
    /// on.
    ///
    /// # Panics
    ///
    /// If the handle is another world's.
    pub fn with_inner<T: Inner, R>(
        &mut self,
        handle: Handle<T>,
        call: impl FnOnce(&mut T, Instant) -> R,
    ) -> R {
        let inner: &mut dyn Any = &mut *self.hosts.seats[handle.index].inner;
        let Some(inner) = inner.downcast_mut() else { panic!("{handle:?} is another world's") };
        let result = call(inner, self.now);
        self.agenda.set(Part::Host(handle.index), Some(self.now));
        result
    }

    /// Fetches what somebody sends.
    pub(super) fn call_host(&mut self, index: usize) {
        let seat = &mut self.hosts.seats[index];
        let address = match seat.place {
            Place::Machine(machine) => self.stations[machine].machine.address(),
            Place::Site(site) => Some(self.sites[site].public).filter(|_| self.sites[site].nat.is_none()),
            Place::Gone => return,
        };
        if let Some(address) = address.filter(|_| address != seat.address) {
            seat.address = Some(address);
            seat.inner.set_address(self.now, address);
        }
        for sent in 0.. {
            let Some(packet) = self.hosts.seats[index].inner.poll_packet(self.now) else { break };
            self.send_from(index, packet);
            if sent == MAX_BURST {
                return self.violate(self.machine_of(index), format!("{sent} packets at the same moment"));
            }
        }
        self.look_after(index);
        // Time must pass, even if somebody says that they are always due.
        let soon = self.now + Duration::from_micros(1);
        let deadline = self.hosts.seats[index].inner.deadline(self.now).map(|at| at.max(soon));
        self.agenda.set(Part::Host(index), deadline);
    }

    fn machine_of(&self, index: usize) -> Option<MachineId> {
        match self.hosts.seats[index].place {
            Place::Machine(machine) => Some(MachineId(machine as u16)),
            Place::Site(_) | Place::Gone => None,
        }
    }

    fn look_after(&mut self, index: usize) {
        if let Some(what) = self.hosts.seats[index].inner.violation() {
            self.violate(self.machine_of(index), what);
        }
    }

    fn send_from(&mut self, index: usize, packet: Vec<u8>) {
        match self.hosts.seats[index].place {
            Place::Machine(machine) => {
                self.hosts.note_sent(&packet);
                if self.with(machine, |machine, now| machine.send_inner(now, &packet)) {
                    let sample = &mut self.stations[machine].sample;
                    sample.sent += 1;
                    sample.sent_bytes += packet.len() as u64;
                }
            }
            Place::Site(site) => {
                let Some((from, to)) = addresses(&packet) else { return };
                self.tape.mix(self.now, index as u64, &packet);
                // Port 0: for the host itself.
                self.enter_up(site, (SocketAddr::new(from, 0), SocketAddr::new(to, 0)), packet);
            }
            Place::Gone => {}
        }
    }

    /// A packet that is no probe came out of a tunnel.
    pub(super) fn give_inner(&mut self, machine: usize, packet: &[u8]) {
        if !self.hosts.note_arrived(machine, packet) {
            let what = "an inner packet arrived that was not sent so, or once more".into();
            return self.violate(Some(MachineId(machine as u16)), what);
        }
        if self.stations[machine].state == State::Running
            && let Some(&index) = self.hosts.by_machine.get(&machine)
        {
            self.hand_over(index, packet);
        }
    }

    /// A packet arrived at a site without a tunnel around it.
    pub(super) fn give_open(&mut self, site: usize, packet: &[u8]) {
        match self.hosts.seats.iter().position(|seat| seat.place == Place::Site(site)) {
            Some(index) => self.hand_over(index, packet),
            None => self.lost_on_the_way += 1,
        }
    }

    fn hand_over(&mut self, index: usize, packet: &[u8]) {
        self.hosts.seats[index].inner.handle_packet(self.now, packet);
        self.look_after(index);
        self.agenda.set(Part::Host(index), Some(self.now));
    }

    /// Tells those at a site that their address changed.
    pub(super) fn wake_open(&mut self, site: usize) {
        for index in 0..self.hosts.seats.len() {
            if self.hosts.seats[index].place == Place::Site(site) {
                self.agenda.set(Part::Host(index), Some(self.now));
            }
        }
    }

    /// Plans a transfer over TCP between the inner sides of two machines. It begins as soon as the tunnel is there,
    /// and anew whenever its connection ends, until it is through. Machines that have nobody at their inner side
    /// get a [`Host`]; anybody else who is there must be one.
    pub fn add_transfer(&mut self, at: Instant, (from, to): (MachineId, MachineId), plan: Transfer) {
        let (client, server) = (self.host_at(from), self.host_at(to));
        let number = self.hosts.transfers.len();
        let port = TRANSFER_PORT + number as u16;
        self.with_inner(server, |host, _| host.serve_tcp(port));
        let state = TransferState { from, to, plan, tries: 0, done: false, client, port, app: None };
        self.hosts.transfers.push(state);
        self.plan(at, Happening::Transfer(number));
    }

    fn host_at(&mut self, machine: MachineId) -> Handle<Host> {
        if let Some(&index) = self.hosts.by_machine.get(&machine.0.into()) {
            return Handle { index, kind: PhantomData };
        }
        let handle = self.attach_host(machine, TRANSFER_MTU);
        self.with_inner(handle, |host, _| {
            let settings = crate::host::TcpSettings::default();
            host.set_tcp(crate::host::TcpSettings { give_up: TRANSFER_GIVES_UP, ..settings });
        });
        handle
    }

    /// Looks what became of a transfer.
    pub(super) fn call_transfer(&mut self, number: usize) {
        let TransferState { from, to, plan, client, port, app, .. } = self.hosts.transfers[number];
        let stats = app.and_then(|app| self.inner(client).transfer(app));
        match stats.map(|stats| stats.progress) {
            Some(Progress::Done) => {
                self.hosts.transfers[number].done = true;
                let what = What::Note(format!("its transfer to machine {} is through", to.0));
                return self.record(from.0.into(), what);
            }
            Some(Progress::Connecting | Progress::Running) => {}
            _ => {
                let ready = !self.inner(client).addresses().is_empty();
                let address = self.inner_address(from.0.into(), to.0.into()).filter(|_| ready);
                if let Some(address) = address {
                    let to = SocketAddr::new(address.into(), port);
                    let app = self.with_inner(client, |host, now| host.send_tcp(now, to, plan));
                    let state = &mut self.hosts.transfers[number];
                    state.app = Some(app);
                    state.tries += 1;
                }
            }
        }
        self.plan(self.now + TRANSFER_PACE, Happening::Transfer(number));
    }

    /// What became of all transfers.
    pub fn transfers(&self) -> &[TransferState] {
        &self.hosts.transfers
    }
}

/// Source and destination of an IP packet.
fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let packet = Ipv4Packet::new_checked(packet).ok()?;
            Some((packet.src_addr().into(), packet.dst_addr().into()))
        }
        6 => {
            let packet = Ipv6Packet::new_checked(packet).ok()?;
            Some((packet.src_addr().into(), packet.dst_addr().into()))
        }
        _ => None,
    }
}

/// A packet's hash; none for those that a tunnel may change: the first segments of TCP connections, for `mssfix`.
fn fingerprint(packet: &[u8]) -> Option<u64> {
    let segment = match packet.first().map_or(0, |first| first >> 4) {
        4 => Ipv4Packet::new_checked(packet)
            .ok()
            .and_then(|packet| (packet.next_header() == IpProtocol::Tcp).then(|| packet.payload())),
        6 => Ipv6Packet::new_checked(packet)
            .ok()
            .and_then(|packet| (packet.next_header() == IpProtocol::Tcp).then(|| packet.payload())),
        _ => None,
    };
    let begins =
        segment.and_then(|segment| TcpPacket::new_checked(segment).ok()).is_some_and(|tcp| tcp.syn());
    (!begins).then(|| xxh3_64(packet))
}
