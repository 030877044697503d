//! A network address translator for UDP, as a state machine.
//!
//! It rewrites addresses and moves no packets: before a packet enters the open network, [`Nat::outbound`] says
//! what its source is there; when one arrives at a public address, [`Nat::inbound`] says whose it is, if
//! anybody's. It has no deadline: what has expired is found out when it is asked for. Packets between two
//! machines behind it ("hairpin") are not its matter.
//!
//! ```
//! use core::time::Duration;
//! use std::net::SocketAddr;
//!
//! use oxivpn_proto::Instant;
//! use oxivpn_sim::{Nat, NatKind, SeedTree};
//!
//! let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
//! let (client, server, other) = (addr("10.0.0.2:5000"), addr("192.0.2.1:1194"), addr("192.0.2.9:1194"));
//! let second = |n| Instant::ZERO + Duration::from_secs(n);
//! let public = "203.0.113.5".parse().unwrap();
//!
//! let mut nat = Nat::new(NatKind::port_restricted(), public, &SeedTree::new(7));
//! let outside = nat.outbound(second(0), client, server);
//! assert_eq!(outside, addr("203.0.113.5:5000"));
//! assert_eq!(nat.inbound(second(1), server, outside), Some(client));
//! assert_eq!(nat.inbound(second(1), other, outside), None);
//!
//! // After 30 seconds in which the client was silent, nobody gets in any more.
//! assert_eq!(nat.inbound(second(30), server, outside), None);
//! assert_eq!((nat.counters().filtered, nat.counters().unknown), (1, 1));
//!
//! // The router starts anew, with another address from its provider: a float, as the server sees it.
//! nat.outbound(second(31), client, server);
//! nat.rebind(second(32));
//! nat.set_public("203.0.113.77".parse().unwrap());
//! assert_eq!(nat.outbound(second(33), client, server).ip(), addr("203.0.113.77:0").ip());
//! ```

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;

use oxivpn_proto::Instant;

use crate::seed::{Purpose, SeedTree};

mod kind;

pub use kind::{Counters, NatKind, Ports, Refresh, Scope};

/// Remote addresses that one mapping remembers to let in.
const MAX_PERMITS: usize = 64;

/// Mappings of one translator, whatever its kind says. Fewer than ports.
const MAX_MAPPINGS: usize = 32_768;

/// The lowest port that is chosen at random.
const FIRST_PORT: u16 = 1024;

/// A private address, and what makes a difference of the remote one.
type Key = (SocketAddr, SocketAddr);

/// Translates private to public addresses.
#[derive(Clone, Debug)]
pub struct Nat {
    kind: NatKind,
    public: IpAddr,
    seeds: SeedTree,
    mappings: BTreeMap<Key, Mapping>,
    /// Who has a public port.
    ports: BTreeMap<u16, Key>,
    counters: Counters,
}

#[derive(Clone, Debug)]
struct Mapping {
    port: u16,
    made: Instant,
    /// The last packet that kept it.
    refreshed: Instant,
    /// Who may send in, and the last packet that kept that.
    permits: BTreeMap<SocketAddr, Instant>,
}

impl Nat {
    /// A translator that has forwarded nothing yet. It should have a branch of the seeds of its own.
    pub fn new(kind: NatKind, public: IpAddr, seeds: &SeedTree) -> Self {
        Self {
            kind,
            public,
            seeds: seeds.clone(),
            mappings: BTreeMap::new(),
            ports: BTreeMap::new(),
            counters: Counters::default(),
        }
    }

    /// Lets a packet out that goes from the private address `from` to `to`. Returns its public source.
    pub fn outbound(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        self.counters.outbound += 1;
        let key = (from, self.kind.mapping.of(to));
        let permit = self.kind.filter.of(to);
        if self.mappings.get(&key).is_some_and(|mapping| self.has_expired(mapping, now)) {
            self.forget(key);
        }
        if !self.mappings.contains_key(&key) {
            self.make_room(now);
            let port = self.choose_port(now, from.port());
            self.ports.insert(port, key);
            let mapping = Mapping { port, made: now, refreshed: now, permits: BTreeMap::new() };
            self.mappings.insert(key, mapping);
            self.counters.made += 1;
        }
        let mut port = 0;
        if let Some(mapping) = self.mappings.get_mut(&key) {
            mapping.refreshed = now;
            mapping.permit(permit, now);
            port = mapping.port;
        }
        SocketAddr::new(self.public, port)
    }

    /// Looks at a packet from the remote address `from` that arrives at the public address `to`. Returns the
    /// private address it is for; none if it is not let in.
    pub fn inbound(&mut self, now: Instant, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let key = self.ports.get(&to.port()).copied().filter(|_| to.ip() == self.public);
        let Some((key, mapping)) = key.and_then(|key| Some((key, self.mappings.get(&key)?))) else {
            self.counters.unknown += 1;
            return None;
        };
        if self.has_expired(mapping, now) {
            self.forget(key);
            self.counters.unknown += 1;
            return None;
        }
        let permit = self.kind.filter.of(from);
        if mapping.permits.get(&permit).is_none_or(|at| now - *at >= self.kind.timeout) {
            self.counters.filtered += 1;
            return None;
        }
        if self.kind.refresh == Refresh::BothWays
            && let Some(mapping) = self.mappings.get_mut(&key)
        {
            mapping.refreshed = now;
            mapping.permit(permit, now);
        }
        self.counters.inbound += 1;
        Some(key.0)
    }

    /// Forgets all mappings: the router starts anew.
    pub fn rebind(&mut self, _now: Instant) {
        self.mappings.clear();
        self.ports.clear();
    }

    /// Has another public address from now on. Mappings keep their ports.
    pub const fn set_public(&mut self, public: IpAddr) {
        self.public = public;
    }

    /// The public address.
    pub const fn public(&self) -> IpAddr {
        self.public
    }

    /// What it does.
    pub const fn kind(&self) -> &NatKind {
        &self.kind
    }

    /// What happened so far.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many mappings there are, expired ones included that nobody has asked for since.
    pub fn mappings(&self) -> usize {
        self.mappings.len()
    }

    fn has_expired(&self, mapping: &Mapping, now: Instant) -> bool {
        now - mapping.refreshed >= self.kind.timeout || now - mapping.made >= self.kind.lifetime
    }

    fn forget(&mut self, key: Key) {
        if let Some(mapping) = self.mappings.remove(&key) {
            self.ports.remove(&mapping.port);
        }
    }

    /// Makes room for one more mapping if there is none.
    fn make_room(&mut self, now: Instant) {
        if self.mappings.len() < self.kind.capacity.clamp(1, MAX_MAPPINGS) {
            return;
        }
        let expired = self.mappings.iter().filter(|(_, mapping)| self.has_expired(mapping, now));
        let expired: Vec<Key> = expired.map(|(key, _)| *key).collect();
        if expired.is_empty() {
            let idle = self.mappings.iter().min_by_key(|(_, mapping)| mapping.refreshed);
            if let Some(key) = idle.map(|(key, _)| *key) {
                self.forget(key);
                self.counters.evicted += 1;
            }
        }
        expired.into_iter().for_each(|key| self.forget(key));
    }

    /// A public port that nobody has.
    fn choose_port(&mut self, now: Instant, private: u16) -> u16 {
        if self.kind.ports == Ports::Preserved && private != 0 {
            let holder = self.ports.get(&private).and_then(|key| Some((*key, self.mappings.get(key)?)));
            match holder {
                Some((key, mapping)) if self.has_expired(mapping, now) => {
                    self.forget(key);
                    return private;
                }
                None => return private,
                Some(_) => {}
            }
        }
        let mut draws = self.seeds.draws(Purpose::Which, 0, self.counters.made);
        let first = draws.between(u64::from(FIRST_PORT), u64::from(u16::MAX)) as u16;
        // There are more ports than mappings.
        let mut ports = (first..=u16::MAX).chain(FIRST_PORT..first);
        ports.find(|port| !self.ports.contains_key(port)).unwrap_or(first)
    }
}

impl Mapping {
    /// Lets `remote` in from now on.
    fn permit(&mut self, remote: SocketAddr, now: Instant) {
        if self.permits.len() >= MAX_PERMITS && !self.permits.contains_key(&remote) {
            let oldest = self.permits.iter().min_by_key(|(_, at)| **at).map(|(remote, _)| *remote);
            oldest.map(|oldest| self.permits.remove(&oldest));
        }
        self.permits.insert(remote, now);
    }
}

#[cfg(test)]
mod tests;
