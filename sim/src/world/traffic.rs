//! Probes between machines, through their tunnels.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use oxivpn_proto::{Instant, SessionHandle};

use super::agenda::Part;
use super::{State, World};
use crate::machine::Tunnel;
use crate::machine::role::Role;
use crate::probe::{Probe, v4};
use crate::seed::{Branch, Purpose, SeedTree};
use crate::trace::MachineId;
use crate::truth::End;

/// A stream of probes from one machine to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sends.
    pub from: MachineId,
    /// Who shall get them.
    pub to: MachineId,
    /// Time between two probes.
    pub every: Duration,
    /// Size of the inner packets, from and to, bytes.
    pub size: (u16, u16),
    /// Whether the receiver answers each.
    pub ask: bool,
    /// Whether they have a source address that isn't the sender's; then none may arrive.
    pub forged: bool,
    /// When it ends.
    pub until: Instant,
}

/// Age of a tunnel from which on it may not lose anything.
const SETTLED: Duration = Duration::from_secs(1);

pub(super) struct FlowState {
    flow: Flow,
    sent: u64,
    seeds: SeedTree,
}

impl World {
    /// Starts a flow of probes.
    pub fn add_flow(&mut self, flow: Flow) {
        let index = self.flows.len();
        // Flows of equal pace don't all tick at the same moment.
        let seeds = self.seeds.branch(Branch::Traffic, index as u32);
        let first = seeds.draws(Purpose::When, 0, 0).time(Duration::ZERO, flow.every);
        self.flows.push(FlowState { flow, sent: 0, seeds });
        self.agenda.set(Part::Flow(index), Some(self.now + first));
    }

    pub(super) fn call_flow(&mut self, index: usize) {
        let state = &mut self.flows[index];
        let flow = state.flow;
        if self.now >= flow.until {
            return;
        }
        let mut draws = state.seeds.draws(Purpose::Content, 0, state.sent);
        state.sent += 1;
        self.agenda.set(Part::Flow(index), Some(self.now + flow.every));
        let size = draws.between(flow.size.0.into(), flow.size.1.into());
        self.send_probe(flow, size as usize);
    }

    fn send_probe(&mut self, flow: Flow, size: usize) {
        let (from, to) = (usize::from(flow.from.0), usize::from(flow.to.0));
        if self.stations[from].state != State::Running {
            return;
        }
        let own = self.stations[from].machine.address().and_then(v4);
        let (Some(own), Some(destination)) = (own, self.inner_address(from, to)) else { return };
        let own = if flow.forged { Ipv4Addr::from(u32::from(own) ^ 0x80) } else { own };
        let number = self.truth.begin(self.now, (from, to), flow.forged);
        let probe = Probe { number, from: own, to: destination, ask: flow.ask };
        self.put_probe((from, to), probe, size, !flow.forged);
    }

    fn put_probe(&mut self, (from, to): (usize, usize), probe: Probe, size: usize, honest: bool) {
        // Before it is sent: it may arrive within the call.
        let ends = if self.lossless && honest { self.ends(from, to) } else { None };
        let packet = probe.build(size);
        if self.with(from, |machine, now| machine.send_inner(now, &packet)) {
            self.truth.sent(self.now, probe.number, ends);
            let sample = &mut self.stations[from].sample;
            sample.sent += 1;
            sample.sent_bytes += packet.len() as u64;
            self.agenda.set(Part::Truth, self.truth.deadline());
        }
    }

    /// Where `to` can be reached, as far as `from` or its server knows.
    pub(super) fn inner_address(&self, from: usize, to: usize) -> Option<Ipv4Addr> {
        let machine = &self.stations[from].machine;
        if let Role::Peer(peer) = machine.role() {
            return v4(peer.inner.1);
        }
        if let Role::Server(server) = self.stations[to].machine.role() {
            return server.plan.own;
        }
        let servers =
            self.stations.iter().filter(|station| matches!(station.machine.role(), Role::Server(_)));
        let name = self.tape.names.get(to)?;
        let tunnels = servers.flat_map(|station| station.machine.tunnels());
        newest(tunnels.filter(|(_, tunnel)| tunnel.name == *name)).and_then(|(_, tunnel)| v4(tunnel.address?))
    }

    /// The ends of the tunnel that joins two machines, if both have one, and it is the same.
    fn ends(&self, from: usize, to: usize) -> Option<[End; 2]> {
        let end = |index: usize, other: usize| -> Option<End> {
            let station = &self.stations[index];
            let name = self.tape.names.get(other)?;
            let is_server = matches!(station.machine.role(), Role::Server(_));
            let tunnels = station.machine.tunnels();
            let (session, tunnel) = newest(tunnels.filter(|(_, tunnel)| !is_server || tunnel.name == *name))?;
            // A data plane that works later may lack the first key for a moment, and the other end can't know.
            (self.now - tunnel.since > SETTLED).then_some((index, station.boots, session))
        };
        let is_client = |index: usize| matches!(self.stations[index].machine.role(), Role::Client(_));
        if is_client(from) && is_client(to) {
            return None;
        }
        Some([end(from, to)?, end(to, from)?])
    }

    /// Sends a numbered control message, which arrives at most once.
    pub(super) fn send_message(&mut self, from: usize, to: usize) {
        let Some(name) = self.tape.names.get(to).cloned() else { return };
        let to_it = self.stations[from].machine.tunnels().find(|(_, tunnel)| tunnel.name == name);
        let Some(session) = to_it.map(|(session, _)| session) else { return };
        let number = self.truth.begin(self.now, (from, to), false);
        let ends = if self.attentive { self.ends(from, to) } else { None };
        self.with(from, |machine, now| machine.send_message(now, session, number));
        self.truth.sent(self.now, number, ends);
        self.agenda.set(Part::Truth, self.truth.deadline());
    }

    pub(super) fn take_message(&mut self, index: usize, number: u64) {
        if let Err(what) = self.truth.arrived(self.now, number, index) {
            self.violate(Some(MachineId(index as u16)), what);
        }
    }

    pub(super) fn take_inner(&mut self, index: usize, packet: &[u8]) {
        let sample = &mut self.stations[index].sample;
        sample.received += 1;
        sample.received_bytes += packet.len() as u64;
        let who = Some(MachineId(index as u16));
        let probe = match Probe::parse(packet) {
            None => return self.give_inner(index, packet),
            Some(Err(what)) => return self.violate(who, what),
            Some(Ok(probe)) => probe,
        };
        let machine = &self.stations[index].machine;
        let own = machine.address();
        if matches!(machine.role(), Role::Server(_)) && own != Some(IpAddr::V4(probe.to)) {
            // For a client that isn't there any more: on its way to the rest of the server's network.
            return;
        }
        if own.is_none() {
            // A data plane that works later may still have the peer of a session that ended.
            return;
        }
        if own != Some(IpAddr::V4(probe.to)) {
            let what = format!("probe {} for {} arrived, our address is {own:?}", probe.number, probe.to);
            return self.violate(who, what);
        }
        if let Err(what) = self.truth.arrived(self.now, probe.number, index) {
            return self.violate(who, what);
        }
        if probe.ask
            && let Some((number, to)) = self.truth.answer(self.now, probe.number, index)
        {
            let answer = Probe { number, from: probe.to, to: probe.from, ask: false };
            self.put_probe((index, to), answer, packet.len(), true);
        }
    }
}

/// The tunnel that came up last. A server that lets namesakes be (`duplicate-cn`) keeps those of a client that is gone for
/// a while, and what is sent there is nobody's.
fn newest<'a>(
    tunnels: impl Iterator<Item = (SessionHandle, &'a Tunnel)>,
) -> Option<(SessionHandle, &'a Tunnel)> {
    tunnels.max_by_key(|(session, tunnel)| (tunnel.since, *session))
}
