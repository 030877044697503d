//! Who attacks: an actor without a machine, who hears what passes on one site's lines, and sends packets under any
//! address.
//!
//! It knows public values only: addresses, session ids, peer-ids, packet-ids and whatever else is in the clear. It
//! has no key, and it takes nothing off the network: what the machines send arrives as it would without it.

mod forge;
mod memory;

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use oxivpn_proto::Instant;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::wire::ids::SessionId;

use crate::seed::{Branch, Draws, Purpose, SeedTree};
use memory::{Heard, Memory};

/// One kind of attack at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attack {
    /// Makes its draws its own; no two attacks of a world have the same.
    pub number: u32,
    /// On whose lines it listens, and where its victim is.
    pub site: u16,
    /// What it does.
    pub means: Means,
    /// Time between two packets.
    pub every: Duration,
}

/// What an attack does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Sends recorded packets once more.
    Replay {
        /// Data packets, or control packets.
        data: bool,
        /// Where they seem to come from.
        guise: Guise,
        /// Right behind the packet itself, or at any time later.
        prompt: bool,
    },
    /// Sends recorded packets spoiled, from where they came from.
    Spoil {
        /// Cut short, or with flipped bits.
        cut: bool,
        /// Just before the packet itself arrives, or at any time later.
        before: bool,
    },
    /// Sends resets with made-up session ids.
    Resets(Guise),
    /// Sends acknowledgements and control packets under recorded session ids.
    Control,
    /// Sends data packets with recorded peer-ids and random content.
    Data(Guise),
    /// Sends first packets to the server or called peer, each from another address.
    FirstPackets,
    /// Sends random bytes to the victim.
    Garbage(Guise),
    /// Sends the victim's packets back to it.
    Reflection,
    /// Sends control packets to the victim without having heard anything of its sessions, only where they go.
    Blind,
    /// Begins sessions under the victim's address as far as that goes without a key of the control channel, which is
    /// to the end of the exchange of session ids if nothing protects that.
    Rival,
}

/// Where an attacker's packets seem to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guise {
    /// From where true packets come from.
    True,
    /// From another port there.
    Port,
    /// From anywhere.
    Any,
}

/// A packet, with its source and its destination.
pub(crate) type Forged = ((SocketAddr, SocketAddr), Vec<u8>);

/// An attack under way.
pub(crate) struct Attacker {
    attack: Attack,
    seeds: SeedTree,
    /// The server or called peer.
    hub: SocketAddr,
    next: Instant,
    end: Instant,
    shots: u64,
    memory: Memory,
    /// The session id of the last session that it began.
    begun: Option<SessionId>,
}

impl Attacker {
    pub(crate) fn new(
        attack: Attack,
        seeds: &SeedTree,
        hub: SocketAddr,
        (begin, end): (Instant, Instant),
    ) -> Self {
        let seeds = seeds.branch(Branch::Adversary, attack.number);
        Self { attack, seeds, hub, next: begin, end, shots: 0, memory: Memory::default(), begun: None }
    }

    pub(crate) const fn site(&self) -> usize {
        self.attack.site as usize
    }

    /// When [`shoot`](Self::shoot) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (self.next < self.end && !self.is_prompt()).then_some(self.next)
    }

    /// No attack from now on.
    pub(crate) const fn stop(&mut self) {
        self.end = Instant::ZERO;
    }

    /// Whether its packets go with true ones.
    const fn is_prompt(&self) -> bool {
        matches!(self.attack.means, Means::Replay { prompt: true, .. } | Means::Spoil { before: true, .. })
    }

    /// Hears a packet that passes. Returns what it sends at once, and whether that comes before the packet.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        addresses: (SocketAddr, SocketAddr),
        bytes: &[u8],
    ) -> Option<(bool, Forged)> {
        let data = matches!(peek(bytes), Peek::Data(_));
        if !self.is_prompt() {
            self.memory.note(data, Heard { addresses, bytes: bytes.to_vec() });
            let answer = forge::third(self.begun?, bytes)?;
            return Some((false, ((addresses.1, addresses.0), answer)));
        }
        if now < self.next || now >= self.end {
            return None;
        }
        let mut draws = self.draws();
        let forged = match self.attack.means {
            Means::Replay { data: wanted, guise, .. } if wanted == data => {
                (self.disguise(&mut draws, guise, addresses), bytes.to_vec())
            }
            Means::Spoil { cut, .. } => (addresses, forge::spoil(&mut draws, cut, bytes)),
            _ => return None,
        };
        self.shots += 1;
        self.next = now + self.attack.every;
        Some((matches!(self.attack.means, Means::Spoil { .. }), forged))
    }

    /// The packet that is due.
    pub(crate) fn shoot(&mut self, now: Instant) -> Option<Forged> {
        let mut draws = self.draws();
        self.shots += 1;
        self.next = now + self.attack.every;
        let memory = &self.memory;
        match self.attack.means {
            Means::Replay { data, guise, .. } => {
                let heard = memory.pick(&mut draws, data)?;
                Some((self.disguise(&mut draws, guise, heard.addresses), heard.bytes.clone()))
            }
            Means::Spoil { cut, .. } => {
                let data = draws.below(2) == 0;
                let heard = memory.pick(&mut draws, data)?;
                Some((heard.addresses, forge::spoil(&mut draws, cut, &heard.bytes)))
            }
            Means::Resets(guise) => {
                let addresses = memory.pick(&mut draws, false)?.addresses;
                let bytes = forge::reset(&mut draws);
                Some((self.disguise(&mut draws, guise, addresses), bytes))
            }
            Means::Control => {
                let heard = memory.pick(&mut draws, false)?;
                let (there, back) = (heard.addresses, (heard.addresses.1, heard.addresses.0));
                let ids = (memory.session_id(there)?, memory.session_id(back));
                Some((there, forge::control(&mut draws, ids, &heard.bytes)))
            }
            Means::Data(guise) => {
                let heard = memory.pick(&mut draws, true)?;
                let bytes = forge::data(&mut draws, &heard.bytes);
                Some((self.disguise(&mut draws, guise, heard.addresses), bytes))
            }
            Means::FirstPackets => {
                let bytes = forge::first(&mut draws);
                Some(((anywhere(&mut draws), self.hub), bytes))
            }
            Means::Garbage(guise) => {
                let data = draws.below(2) == 0;
                let addresses = memory.pick_to(&mut draws, data, self.hub)?.addresses;
                let bytes = forge::garbage(&mut draws);
                Some((self.disguise(&mut draws, guise, (addresses.1, addresses.0)), bytes))
            }
            Means::Blind => {
                let addresses = memory.pick_to(&mut draws, false, self.hub)?.addresses;
                Some(((addresses.1, addresses.0), forge::blind(&mut draws)))
            }
            Means::Rival => {
                let addresses = memory.pick_to(&mut draws, false, self.hub)?.addresses;
                let (id, bytes) = forge::begin(&mut draws)?;
                self.begun = Some(id);
                Some((addresses, bytes))
            }
            Means::Reflection => {
                let data = draws.below(2) == 0;
                let heard = memory.pick_to(&mut draws, data, self.hub)?;
                Some(((heard.addresses.1, heard.addresses.0), heard.bytes.clone()))
            }
        }
    }

    fn draws(&self) -> Draws {
        self.seeds.draws(Purpose::Content, 0, self.shots)
    }

    fn disguise(
        &self,
        draws: &mut Draws,
        guise: Guise,
        (from, to): (SocketAddr, SocketAddr),
    ) -> (SocketAddr, SocketAddr) {
        let from = match guise {
            Guise::True => from,
            Guise::Port => {
                SocketAddr::new(from.ip(), from.port() ^ draws.between(1 << 12, 0xfff << 3) as u16)
            }
            Guise::Any => anywhere(draws),
        };
        (from, to)
    }
}

/// An address at which no site is.
fn anywhere(draws: &mut Draws) -> SocketAddr {
    let [a, b, c] = [0; 3].map(|_: u8| draws.below(256) as u8);
    SocketAddr::from(([20 + draws.below(60) as u8, a, b, c], draws.between(1, 0xffff) as u16))
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attack {} at site {}: {}, every {:?}", self.number, self.site, self.means, self.every)
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replay { data, guise, prompt } => {
                let (what, when) =
                    (if *data { "data" } else { "control" }, if *prompt { "at once" } else { "later" });
                write!(f, "{what} packets once more {when}, {guise}")
            }
            Self::Spoil { cut, before } => {
                let what = if *cut { "packets cut short" } else { "packets with flipped bits" };
                write!(f, "{what}, {}", if *before { "before the true ones" } else { "later" })
            }
            Self::Resets(guise) => write!(f, "resets, {guise}"),
            Self::Control => f.write_str("forged control packets"),
            Self::Data(guise) => write!(f, "forged data packets, {guise}"),
            Self::FirstPackets => f.write_str("a flood of first packets"),
            Self::Garbage(guise) => write!(f, "garbage, {guise}"),
            Self::Reflection => f.write_str("its own packets sent back"),
            Self::Blind => f.write_str("control packets of no session"),
            Self::Rival => f.write_str("sessions begun in its name"),
        }
    }
}

impl fmt::Display for Guise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::True => "from the true address",
            Self::Port => "from another port",
            Self::Any => "from anywhere",
        })
    }
}
