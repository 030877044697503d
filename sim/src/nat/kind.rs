//! How translators differ, in the words of RFC 4787.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

/// What a translator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatKind {
    /// Which packets of one private address share a mapping (RFC 4787 section 4.1).
    pub mapping: Scope,
    /// Who may send in through a mapping: those that were sent to, compared so far (section 5).
    pub filter: Scope,
    /// How the public port is chosen (section 4.2).
    pub ports: Ports,
    /// What keeps a mapping (section 4.3).
    pub refresh: Refresh,
    /// How long a mapping lives, and lets a remote address in, after the last packet that refreshes it.
    pub timeout: Duration,
    /// How long a mapping lives at most, even when it is in use.
    pub lifetime: Duration,
    /// Mappings there is room for, from 1 to 32,768. A new one takes the place of the one that was idle longest.
    pub capacity: usize,
}

impl NatKind {
    /// One public port for one private one, open to all the world.
    pub const fn full_cone() -> Self {
        Self {
            mapping: Scope::Any,
            filter: Scope::Any,
            ports: Ports::Preserved,
            refresh: Refresh::BothWays,
            timeout: Duration::from_secs(300),
            lifetime: Duration::MAX,
            capacity: 4096,
        }
    }

    /// One public port for one private one, open to addresses that were sent to.
    pub const fn restricted() -> Self {
        Self { filter: Scope::Address, timeout: Duration::from_secs(120), ..Self::full_cone() }
    }

    /// One public port for one private one, open to addresses with ports that were sent to. Only what goes out
    /// keeps it, for half a minute.
    pub const fn port_restricted() -> Self {
        Self {
            filter: Scope::AddressAndPort,
            refresh: Refresh::Outbound,
            timeout: Duration::from_secs(30),
            ..Self::full_cone()
        }
    }

    /// A random public port for each destination, open to that one.
    pub const fn symmetric() -> Self {
        Self {
            mapping: Scope::AddressAndPort,
            filter: Scope::AddressAndPort,
            ports: Ports::Random,
            timeout: Duration::from_secs(60),
            ..Self::full_cone()
        }
    }

    /// Short of ports: random ones, soon forgotten, and taken away after ten minutes even from a flow that is
    /// busy, which then goes on from another port.
    pub const fn carrier_grade() -> Self {
        Self {
            filter: Scope::AddressAndPort,
            ports: Ports::Random,
            refresh: Refresh::Outbound,
            timeout: Duration::from_secs(30),
            lifetime: Duration::from_secs(600),
            ..Self::full_cone()
        }
    }

    /// The kinds with a name.
    pub const ALL: [Self; 5] = [
        Self::full_cone(),
        Self::restricted(),
        Self::port_restricted(),
        Self::symmetric(),
        Self::carrier_grade(),
    ];

    /// Its name, if it is one of [`ALL`](Self::ALL).
    pub fn name(&self) -> Option<&'static str> {
        const NAMES: [&str; 5] = ["full cone", "restricted", "port restricted", "symmetric", "carrier grade"];
        Self::ALL.iter().zip(NAMES).find(|(kind, _)| *kind == self).map(|(_, name)| name)
    }
}

/// How much of a remote address makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing: all remote addresses are as one ("endpoint-independent").
    Any,
    /// The address ("address-dependent").
    Address,
    /// Address and port ("address and port-dependent").
    AddressAndPort,
}

impl Scope {
    /// What is left of `remote` without what makes no difference.
    pub(super) const fn of(self, remote: SocketAddr) -> SocketAddr {
        match self {
            Self::Any => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            Self::Address => SocketAddr::new(remote.ip(), 0),
            Self::AddressAndPort => remote,
        }
    }
}

/// How a translator chooses public ports. Two mappings never have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// As the private one if that is free; else a random one.
    Preserved,
    /// Random ones from 1024 up.
    Random,
}

/// Which packets keep a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Those that go out.
    Outbound,
    /// Those that go out, and those that are let in.
    BothWays,
}

/// What a translator did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that went out. All of them do.
    pub outbound: u64,
    /// Packets let in.
    pub inbound: u64,
    /// Packets to a mapping from somebody who may not send there.
    pub filtered: u64,
    /// Packets to a port or an address without a mapping.
    pub unknown: u64,
    /// Mappings made.
    pub made: u64,
    /// Mappings that gave way to others for want of room.
    pub evicted: u64,
}
