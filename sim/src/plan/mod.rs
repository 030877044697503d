//! What a world is made of: drawn from a seed, run, and made smaller when something breaks.
//!
//! A [`Plan`] is a [`Shape`], which is always there, and [`Item`]s, each of which can be left out without shifting
//! the others. So the smallest plan that still fails is found by leaving items out.

mod build;
mod draw;
mod scene;
mod text;
mod usual;

use core::time::Duration;

use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::Framing;
use oxivpn_proto::gremlin::Mask;

use crate::adversary::{Attack, Means};
use crate::host::Transfer;
use crate::link::{Bursts, Faults};
use crate::machine::PlaneKind;
use crate::nat::NatKind;
use crate::pipe::PipeFaults;
use crate::seed::Rate;
use crate::tls::Kind as TlsKind;
pub use build::{Built, build};

/// All about one world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it was drawn from; also what machines, lines and content draw from.
    pub seed: u64,
    /// Machines and their configuration.
    pub shape: Shape,
    /// Faults, traffic and events.
    pub items: Vec<Item>,
}

/// Machines and their configuration.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Which machines.
    pub cast: Cast,
    /// Protection of the control channel.
    pub wrap: WrapKind,
    /// Real or quick TLS.
    pub tls: TlsKind,
    /// Whether all go by byte streams.
    pub stream: bool,
    /// Data ciphers, in order of preference.
    pub ciphers: Vec<DataCipher>,
    /// Compression framing of all.
    pub framing: Framing,
    /// Data planes: of the server or called peer, and of those who call.
    pub planes: [PlaneKind; 2],
    /// `reneg-sec` of the server or called peer, and of those who call; zero for never.
    pub reneg: [Duration; 2],
    /// `reneg-pkts`, 0 for never.
    pub reneg_packets: u64,
    /// `hand-window`.
    pub hand_window: Duration,
    /// `tran-window`.
    pub tran_window: Duration,
    /// `ping`.
    pub ping: Duration,
    /// `ping-restart` of those who call. The server has twice as much.
    pub ping_restart: Duration,
    /// Whether clients log in by password.
    pub login: bool,
    /// How late the answer to a login is, at most.
    pub login_delay: Duration,
    /// Whether the server gives out tokens.
    pub token: bool,
    /// Whether clients may talk to each other.
    pub client_to_client: bool,
    /// Whether several may have one name.
    pub duplicate_cn: bool,
    /// Whether each name has an inner address of its own (`ifconfig-push`).
    pub fixed: bool,
    /// Whether calling machines take a new socket for each attempt.
    pub fresh_sockets: bool,
    /// `explicit-exit-notify`.
    pub exit_notify: bool,
    /// Time that a packet needs on each line.
    pub delay: Duration,
    /// How long faults last.
    pub faulty: Duration,
    /// Whether data is spared by all faults, so that none may be lost.
    pub spare_data: bool,
}

/// Which machines there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// A server at site 0 and clients at sites of their own.
    Server {
        /// How many clients.
        clients: u16,
    },
    /// Two ends of a point-to-point tunnel; the one at site 1 calls.
    Pair,
}

/// How the control channel is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WrapKind {
    /// Not at all.
    None,
    /// `tls-auth`.
    TlsAuth,
    /// `tls-crypt`.
    TlsCrypt,
    /// `tls-crypt-v2`.
    TlsCryptV2,
}

/// Something that can be left out.
#[derive(Clone, Debug)]
pub enum Item {
    /// A fault of a line, from the start on.
    Line {
        /// At which site.
        site: u16,
        /// Away from the site, or to it.
        up: bool,
        /// What.
        fault: Fault,
    },
    /// A line fault that comes and goes.
    Spell {
        /// At which site.
        site: u16,
        /// Away from the site, or to it.
        up: bool,
        /// What.
        fault: Fault,
        /// From when on, after the start.
        at: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// A site is behind a translator.
    Nat {
        /// Which.
        site: u16,
        /// What it does.
        kind: NatKind,
    },
    /// What byte streams are like.
    Streams(PipeFaults),
    /// Something that happens to a machine or a site.
    Event {
        /// When, after the start.
        at: Duration,
        /// What.
        what: Mishap,
    },
    /// Probes from one machine to another.
    Traffic {
        /// Who sends.
        from: u16,
        /// Who gets them.
        to: u16,
        /// Time between two.
        every: Duration,
        /// Smallest and largest inner packet, bytes.
        size: (u16, u16),
        /// Whether they are answered.
        ask: bool,
        /// Whether their source address is a lie.
        forged: bool,
    },
    /// A transfer over TCP through the tunnel, content checked.
    Transfer {
        /// Whose host connects.
        from: u16,
        /// Whose host serves.
        to: u16,
        /// From when on, after the start.
        at: Duration,
        /// What it sends and fetches.
        bytes: Transfer,
    },
    /// One more client, whose certificate comes from somebody else.
    Stranger,
    /// OpenVPN's fault injector in a machine.
    Gremlin {
        /// In which.
        machine: u16,
        /// Which faults.
        mask: Mask,
    },
    /// Somebody without any key sends packets.
    Attack {
        /// What they do.
        attack: Attack,
        /// From when on, after the start. They listen from the start on.
        at: Duration,
        /// For how long.
        lasts: Duration,
    },
}

/// A fault of a line in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Independent loss.
    Loss(Rate),
    /// Loss in bursts.
    Bursts(Bursts),
    /// Copies.
    Duplication(Rate),
    /// Packets held back up to so long.
    Reordering(Rate, Duration),
    /// Flipped bits.
    Corruption(Rate, u8),
    /// Cut ends.
    Truncation(Rate),
    /// Old packets that come again.
    Replay(Rate, Duration),
    /// Delays that vary up to so much.
    Jitter(Duration),
    /// So many bits per second, and bytes of queue.
    Slow(u64, usize),
    /// Longer packets vanish.
    Mtu(usize),
    /// Nothing arrives.
    BlackHole,
}

impl Fault {
    /// Adds this fault to those of a line.
    pub fn apply(&self, faults: &mut Faults) {
        match *self {
            Self::Loss(rate) => faults.loss = rate,
            Self::Bursts(bursts) => faults.bursts = bursts,
            Self::Duplication(rate) => faults.duplication = rate,
            Self::Reordering(rate, hold) => (faults.reordering, faults.hold) = (rate, hold),
            Self::Corruption(rate, flips) => (faults.corruption, faults.flips) = (rate, flips),
            Self::Truncation(rate) => faults.truncation = rate,
            Self::Replay(rate, after) => (faults.replay, faults.replay_after) = (rate, after),
            Self::Jitter(jitter) => faults.jitter = jitter,
            Self::Slow(rate, queue) => (faults.rate, faults.queue) = (rate, queue),
            Self::Mtu(mtu) => faults.mtu = mtu,
            Self::BlackHole => faults.loss = Rate::ALWAYS,
        }
    }

    /// Whether packets may arrive that nobody sent so.
    pub const fn spoils(&self) -> bool {
        matches!(self, Self::Corruption(..) | Self::Truncation(_))
    }
}

/// Something that happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// A machine stops without a word, for so long.
    Crash(u16, Duration),
    /// A machine sleeps for so long.
    Sleep(u16, Duration),
    /// A machine's calendar is off from its next start on, seconds.
    Skew(u16, i64),
    /// A site's translator forgets everything.
    Rebind(u16),
    /// A site gets another address.
    Renumber(u16),
    /// The byte streams of a machine break.
    BreakStreams(u16),
    /// A machine starts a renegotiation by itself.
    Renegotiate(u16),
    /// A machine leaves its tunnel in an orderly way, and comes back.
    Leave(u16),
    /// A server sends a control message to a client.
    Message(u16),
}

/// How many sites and machines there are.
const fn size(shape: &Shape) -> u16 {
    match shape.cast {
        Cast::Server { clients } => clients + 1,
        Cast::Pair => 2,
    }
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        draw::draw(seed)
    }

    /// How long after the end of all faults everybody must be up and heard: the longest time that somebody may need
    /// to find out that its tunnel is dead, to give up an attempt, and to try again.
    pub fn patience(&self) -> Duration {
        let Shape { hand_window, ping_restart, .. } = self.shape;
        2 * ping_restart + 2 * hand_window + Duration::from_secs(60)
    }

    /// Whether something may keep data from arriving although the shape spares it.
    fn disturbs_data(&self) -> bool {
        self.items.iter().any(|item| {
            matches!(item, Item::Spell { .. } | Item::Event { .. } | Item::Nat { .. } | Item::Gremlin { .. })
        })
    }

    /// Whether nothing is bad but attacks, if there are any.
    pub fn is_healthy(&self) -> bool {
        let good = |item: &Item| matches!(item, Item::Traffic { .. } | Item::Attack { .. });
        !self.shape.stream && self.items.iter().all(good)
    }

    /// Whether those who attack know no session id that could harm an unprotected control channel.
    fn attacks_know_no_session(&self) -> bool {
        self.items.iter().all(|item| match item {
            Item::Attack { attack, .. } => matches!(attack.means, Means::Blind | Means::Rival),
            _ => true,
        })
    }

    /// Whether no control packet is lost.
    fn spares_messages(&self) -> bool {
        let spares = |item: &Item| match item {
            Item::Traffic { .. } | Item::Transfer { .. } => true,
            Item::Event { what, .. } => matches!(what, Mishap::Renegotiate(_) | Mishap::Message(_)),
            _ => false,
        };
        !self.shape.stream && self.items.iter().all(spares)
    }

    /// Whether there are attacks.
    pub fn is_attacked(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Attack { .. }))
    }

    /// The plan without some of its items, by their index.
    #[must_use]
    pub fn without(&self, leave_out: &[usize]) -> Self {
        let kept = self.items.iter().enumerate().filter(|(index, _)| !leave_out.contains(index));
        let items = kept.map(|(_, item)| item.clone()).collect();
        Self { seed: self.seed, shape: self.shape.clone(), items }
    }
}
