//! Attackers on the lines of a network, and what they must not reach.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use oxivpn_proto::limits::MAX_PEER_SESSIONS;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::{Instant, Path};
use xxhash_rust::xxh3::xxh3_64;

use super::agenda::Part;
use super::{Addresses, World};
use crate::adversary::{Attack, Attacker, Forged};
use crate::machine::role::Role;
use crate::trace::{MachineId, What};

/// How often the sizes of machines are looked at, in forged packets.
const LOOK_EVERY: u64 = 64;

/// Attackers, and what tells their packets from true ones.
#[derive(Default)]
pub(super) struct Siege {
    attackers: Vec<Attacker>,
    /// Addresses that machines were seen at from outside, and at which site that is.
    real: BTreeMap<SocketAddr, usize>,
    /// Data packets that no machine has taken yet, by hash.
    fresh: BTreeSet<u64>,
    /// Forged addresses from which a true data packet came before it came from its sender. It is as good as that
    /// sender, so the data of its session may go there.
    borrowed: BTreeSet<SocketAddr>,
    /// Packets from addresses at which nobody is, and answers to them.
    strangers: (u64, u64),
    injected: u64,
    /// The most sessions that any machine had.
    most_sessions: usize,
}

impl Siege {
    fn is_on(&self) -> bool {
        !self.attackers.is_empty()
    }
}

impl World {
    /// Lets somebody attack from `span.0` until `span.1` or the healing. `hub` is the server or called peer. Has to be
    /// called before time passes.
    pub fn add_attack(&mut self, attack: Attack, hub: MachineId, span: (Instant, Instant)) {
        for (number, site) in self.sites.iter().enumerate().filter(|(_, site)| site.nat.is_none()) {
            for &index in &site.stations {
                let station = &self.stations[index];
                self.siege.real.insert(SocketAddr::new(station.address, station.port), number);
            }
        }
        let station = &self.stations[usize::from(hub.0)];
        let hub = SocketAddr::new(station.address, station.port);
        let index = self.siege.attackers.len();
        let attacker = Attacker::new(attack, &self.seeds, hub, span);
        self.agenda.set(Part::Attack(index), attacker.deadline());
        self.siege.attackers.push(attacker);
    }

    /// How many forged packets were sent, and the most sessions that a machine had meanwhile.
    pub const fn attacked(&self) -> (u64, usize) {
        (self.siege.injected, self.siege.most_sessions)
    }

    pub(super) fn end_attacks(&mut self) {
        for (index, attacker) in self.siege.attackers.iter_mut().enumerate() {
            attacker.stop();
            self.agenda.set(Part::Attack(index), None);
        }
    }

    pub(super) fn call_attack(&mut self, index: usize) {
        let forged = self.siege.attackers[index].shoot(self.now);
        if let Some(forged) = forged {
            self.inject(forged);
        }
        self.agenda.set(Part::Attack(index), self.siege.attackers[index].deadline());
    }

    /// A packet of the machines passes from site to site.
    pub(super) fn pass(&mut self, site: usize, addresses: Addresses, bytes: Vec<u8>) {
        if !self.siege.is_on() {
            return self.enter_down(addresses, bytes);
        }
        self.siege.real.insert(addresses.0, site);
        let sites = [Some(site), self.by_address.get(&addresses.1.ip()).copied()];
        let now = self.now;
        let here = self.siege.attackers.iter_mut().filter(|attacker| sites.contains(&Some(attacker.site())));
        let forged: Vec<_> = here.filter_map(|attacker| attacker.hear(now, addresses, &bytes)).collect();
        let (before, after): (Vec<_>, Vec<_>) = forged.into_iter().partition(|(before, _)| *before);
        before.into_iter().for_each(|(_, forged)| self.inject(forged));
        self.enter_down(addresses, bytes);
        after.into_iter().for_each(|(_, forged)| self.inject(forged));
    }

    fn inject(&mut self, (addresses, bytes): Forged) {
        self.siege.injected += 1;
        if !self.siege.real.contains_key(&addresses.0) {
            self.siege.strangers.0 += 1;
        }
        if self.siege.injected.is_multiple_of(LOOK_EVERY) {
            self.look_at_sizes();
        }
        self.enter_down(addresses, bytes);
    }

    /// What strangers send makes no machine grow.
    fn look_at_sizes(&mut self) {
        for index in 0..self.stations.len() {
            let machine = &self.stations[index].machine;
            let most = match machine.role() {
                Role::Server(server) => server.config.max_clients,
                Role::Peer(peer) if peer.calls.is_none() => MAX_PEER_SESSIONS,
                Role::Client(_) | Role::Peer(_) => 1,
            };
            let sessions = machine.sessions();
            self.siege.most_sessions = self.siege.most_sessions.max(sessions);
            if sessions > most {
                let what = format!("{sessions} sessions under attack, at most {most} are allowed");
                return self.violate(Some(MachineId(index as u16)), what);
            }
        }
    }

    /// A machine sends a packet: no data may go where nobody is, and no more answers than there were questions.
    pub(super) fn watch_sent(&mut self, index: usize, to: SocketAddr, bytes: &[u8]) {
        if !self.siege.is_on() {
            return;
        }
        let data = matches!(peek(bytes), Peek::Data(_));
        if data {
            self.siege.fresh.insert(xxh3_64(bytes));
        }
        if self.siege.real.contains_key(&to) {
            return;
        }
        let who = Some(MachineId(index as u16));
        if data && !self.siege.borrowed.contains(&to) {
            return self.violate(who, format!("data goes to {to}, at which nobody ever was"));
        }
        if !data && !self.siege.borrowed.contains(&to) {
            self.siege.strangers.1 += 1;
            let (asked, answered) = self.siege.strangers;
            if answered > asked {
                self.violate(who, format!("{answered} answers to {asked} packets of strangers"));
            }
        }
    }

    /// A packet arrives; the hash of a true data packet that no machine has taken yet.
    pub(super) fn watch_arrival(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<u64> {
        if !self.siege.is_on() || !matches!(peek(bytes), Peek::Data(_)) {
            return None;
        }
        let hash = xxh3_64(bytes);
        if !self.siege.fresh.contains(&hash) {
            return None;
        }
        if !self.siege.real.contains_key(&from) {
            self.siege.borrowed.insert(from);
        }
        Some(hash)
    }

    /// A machine has a session with somebody: who is there must be able to hear it.
    pub(super) fn watch_incoming(&mut self, index: usize, from: SocketAddr) {
        if self.siege.is_on() && !self.siege.real.contains_key(&from) {
            let what = format!("a session begins with {from}, at which nobody ever was");
            self.violate(Some(MachineId(index as u16)), what);
        }
    }

    /// A data packet was taken; it is worth nothing any more.
    pub(super) fn note_taken(&mut self, hash: u64) {
        self.siege.fresh.remove(&hash);
    }

    /// What a machine tells about its sessions while there is an attack.
    pub(super) fn watch_news(&mut self, index: usize, what: &What) {
        match what {
            What::Established { session, .. } => {
                self.up.insert((index, self.stations[index].boots, *session));
            }
            What::Closed { session, cause } => {
                let was_up = self.up.remove(&(index, self.stations[index].boots, *session));
                let calls = self.stations[index].machine.role().calls().is_some();
                if self.unbroken && (was_up || calls) {
                    let what = format!("session {session} ends on a healthy network: {cause}");
                    self.violate(Some(MachineId(index as u16)), what);
                }
            }
            _ => {}
        }
        if self.siege.is_on() && matches!(what, What::Established { .. } | What::Floated { .. }) {
            self.watch_paths(index);
        }
    }

    /// Each tunnel ends where a machine of its name is or was.
    fn watch_paths(&mut self, index: usize) {
        if let Some((name, remote)) = self.astray(index) {
            let what = format!("the tunnel of {name:?} leads to {remote}, at which it never was");
            self.violate(Some(MachineId(index as u16)), what);
        }
    }

    /// A tunnel that leads elsewhere: its name, and where.
    fn astray(&self, index: usize) -> Option<(String, SocketAddr)> {
        let machine = &self.stations[index].machine;
        let mut paths = machine.tunnels().filter_map(|(_, tunnel)| {
            Some((tunnel.name.clone(), machine.path(tunnel.peer).as_ref().and_then(Path::remote)?))
        });
        paths.find(|(name, remote)| match self.siege.real.get(remote) {
            None => !self.siege.borrowed.contains(remote),
            Some(&site) => {
                let mut here = self.sites[site].stations.iter();
                !name.is_empty() && !here.any(|&there| self.tape.names.get(there) == Some(name))
            }
        })
    }
}
