//! What happened in a world: a rolling hash always, records and packets on demand.

use core::fmt;
use core::net::SocketAddr;

use oxivpn_proto::Instant;
use xxhash_rust::xxh3::Xxh3;

/// Number of a machine in its world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub u16);

/// One line of the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When, in the world's time.
    pub at: Instant,
    /// To which machine; none if to the network as a whole.
    pub who: Option<MachineId>,
    /// What.
    pub what: What,
}

/// What can happen to a machine or the network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// The machine starts, with nothing known from before.
    Started,
    /// It stops without a word to anybody.
    Crashed,
    /// It sleeps: packets to it are lost, its clocks go on.
    Suspended,
    /// It wakes up.
    Resumed,
    /// Its calendar jumps by so many seconds.
    ClockJump(i64),
    /// It has another outer address from now on.
    Moved(SocketAddr),
    /// A fault begins: of the network as a whole, or at one machine. The text is `subject: state`; the state of the
    /// same subject before is over then.
    Weather(String),
    /// The fault of the same text and place is over.
    Cleared(String),
    /// All faults of the network and at its machines are over.
    Healed,
    /// A session begins.
    Connecting {
        /// Number of the session at its node.
        session: u64,
    },
    /// The tunnel of a session is up.
    Established {
        /// Number of the session at its node.
        session: u64,
        /// Cipher and flags.
        summary: String,
    },
    /// The data plane has a key from now on.
    KeyInstalled {
        /// Peer-id at this end.
        peer: u32,
        /// Key-id.
        key: u8,
    },
    /// The data plane sends with this key from now on.
    KeyPromoted {
        /// Peer-id at this end.
        peer: u32,
        /// Key-id.
        key: u8,
    },
    /// The data plane forgets a key.
    KeyRetired {
        /// Peer-id at this end.
        peer: u32,
        /// Key-id.
        key: u8,
    },
    /// The data plane forgets a peer and all its keys.
    PeerRemoved {
        /// Peer-id at this end.
        peer: u32,
    },
    /// The peer has another address.
    Floated {
        /// Number of the session at its node.
        session: u64,
        /// Where it is now.
        to: String,
    },
    /// A session ended.
    Closed {
        /// Number of the session at its node.
        session: u64,
        /// Why.
        cause: String,
    },
    /// What the machine's inner side sent and got since the sample before, in the tunnel.
    Sample {
        /// Inner packets that it sent.
        sent: u32,
        /// Their bytes.
        sent_bytes: u64,
        /// Inner packets that it got.
        received: u32,
        /// Their bytes.
        received_bytes: u64,
    },
    /// Anything else worth a line.
    Note(String),
    /// An invariant is broken.
    Violation(String),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("starts"),
            Self::Crashed => f.write_str("crashes"),
            Self::Suspended => f.write_str("falls asleep"),
            Self::Resumed => f.write_str("wakes up"),
            Self::ClockJump(seconds) => write!(f, "calendar jumps by {seconds} s"),
            Self::Moved(to) => write!(f, "is at {to} now"),
            Self::Weather(text) => write!(f, "weather: {text}"),
            Self::Cleared(text) => write!(f, "weather is over: {text}"),
            Self::Healed => f.write_str("all faults are over"),
            Self::Note(text) => f.write_str(text),
            Self::Connecting { session } => write!(f, "session {session} begins"),
            Self::Established { session, summary } => write!(f, "session {session} is up: {summary}"),
            Self::KeyInstalled { peer, key } => write!(f, "peer {peer}: key {key} installed"),
            Self::KeyPromoted { peer, key } => write!(f, "peer {peer}: key {key} sends"),
            Self::KeyRetired { peer, key } => write!(f, "peer {peer}: key {key} retired"),
            Self::PeerRemoved { peer } => write!(f, "peer {peer}: removed, with its keys"),
            Self::Floated { session, to } => write!(f, "session {session}: the peer is at {to} now"),
            Self::Closed { session, cause } => write!(f, "session {session} ends: {cause}"),
            Self::Sample { sent, sent_bytes, received, received_bytes } => {
                write!(f, "sent {sent} packets ({sent_bytes} bytes), got {received} ({received_bytes} bytes)")
            }
            Self::Violation(text) => write!(f, "VIOLATION: {text}"),
        }
    }
}

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// As it left its sender, before the network did anything to it.
    Sent,
    /// As it arrived at its receiver.
    Received,
}

/// A packet of the outer network. Chunks of a byte stream count as packets here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When, in the world's time.
    pub at: Instant,
    /// At which end.
    pub seen: Seen,
    /// Its source address there.
    pub from: SocketAddr,
    /// Its destination address there.
    pub to: SocketAddr,
    /// Whether it is a chunk of a byte stream.
    pub stream: bool,
    /// Its payload above UDP or TCP.
    pub bytes: Vec<u8>,
}

/// How much a [`Tape`] keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// The rolling hash only.
    #[default]
    Hash,
    /// Records as well.
    Records,
    /// Records and packets.
    Packets,
}

/// The record of a run.
pub struct Tape {
    hash: Xxh3,
    keep: Keep,
    /// Names of machines, by number.
    pub names: Vec<String>,
    /// What happened, in order.
    pub records: Vec<Record>,
    /// Packets, in order.
    pub frames: Vec<Frame>,
}

impl Tape {
    /// An empty tape.
    pub fn new(keep: Keep) -> Self {
        Self { hash: Xxh3::new(), keep, names: Vec::new(), records: Vec::new(), frames: Vec::new() }
    }

    /// Adds an event.
    pub fn record(&mut self, at: Instant, who: Option<MachineId>, what: What) {
        // Making the text costs more than all else here; what is told apart by it is told apart by packets, too.
        // Samples are there only if records are kept, which must make no difference.
        if !matches!(what, What::Sample { .. }) {
            self.mix(at, who.map_or(u64::MAX, |id| u64::from(id.0)), &[]);
        }
        if self.keep >= Keep::Records {
            self.records.push(Record { at, who, what });
        }
    }

    /// Adds a packet.
    pub fn frame(
        &mut self,
        at: Instant,
        seen: Seen,
        (from, to): (SocketAddr, SocketAddr),
        stream: bool,
        bytes: &[u8],
    ) {
        self.mix(at, u64::from(from.port()) << 16 | u64::from(to.port()) << 1 | u64::from(stream), bytes);
        if self.keep >= Keep::Packets {
            self.frames.push(Frame { at, seen, from, to, stream, bytes: bytes.to_vec() });
        }
    }

    /// Adds something that has no record of its own to the hash.
    pub fn mix(&mut self, at: Instant, number: u64, bytes: &[u8]) {
        let mut head = [0; 24];
        for (place, word) in head.chunks_exact_mut(8).zip([at.as_nanos(), number, bytes.len() as u64]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.hash.update(&head);
        self.hash.update(bytes);
    }

    /// Whether records are kept.
    pub fn keeps_records(&self) -> bool {
        self.keep >= Keep::Records
    }

    /// The hash of everything so far.
    pub fn digest(&self) -> u64 {
        self.hash.digest()
    }

    /// A machine's name, or its number.
    pub fn name(&self, who: MachineId) -> String {
        self.names.get(usize::from(who.0)).cloned().unwrap_or_else(|| format!("#{}", who.0))
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape")
            .field("keep", &self.keep)
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}
