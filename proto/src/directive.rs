//! Orders from the control machine to whatever moves the packets.

use core::fmt;

use ipnet::IpNet;

use crate::config::params::DataParams;
use crate::keys::data_key::DataKey;
use crate::path::Path;
use crate::wire::ids::{KeyId, PeerId};

/// A peer of the data plane. Ids are reused and notices come late, so each carries a generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PeerRef {
    /// Our index of the peer; on a server also what stands in packets that reach us.
    pub id: PeerId,
    /// Counts the uses of the id.
    pub generation: u32,
}

/// An order with its number. A plane that carries orders out later answers with
/// [`Report::Applied`](crate::Report::Applied).
#[derive(Debug)]
pub struct Order {
    /// Counts up from 1.
    pub seq: u64,
    /// What to do.
    pub directive: Directive,
}

/// What to do. Deliberately not `Clone`: a key moves exactly once.
pub enum Directive {
    /// A peer exists from now on.
    AddPeer {
        /// Which.
        peer: PeerRef,
        /// Where its packets go and come from.
        path: Path,
        /// How they look.
        params: DataParams,
    },
    /// Packets with this key may arrive from now on.
    InstallKey {
        /// Whose.
        peer: PeerRef,
        /// Key id in packets.
        key: KeyId,
        /// Key material of both directions.
        data: DataKey,
    },
    /// Send with this key from now on, and never again with the one before it.
    PromoteKey {
        /// Whose.
        peer: PeerRef,
        /// Which.
        key: KeyId,
    },
    /// Forget this key.
    RetireKey {
        /// Whose.
        peer: PeerRef,
        /// Which.
        key: KeyId,
    },
    /// These inner addresses belong to the peer: packets to them go there, and only they may be sources of
    /// packets from there.
    AddRoute {
        /// Whose.
        peer: PeerRef,
        /// Addresses.
        inner: IpNet,
    },
    /// Undo of `AddRoute`.
    RemoveRoute {
        /// Whose.
        peer: PeerRef,
        /// Addresses.
        inner: IpNet,
    },
    /// The peer is there, and nowhere else: it has a new address; or has not, where the plane moved it by itself to one
    /// that it may not have.
    MovePeer {
        /// Which.
        peer: PeerRef,
        /// Where it is now.
        path: Path,
    },
    /// Answer with [`Report::Activity`](crate::Report::Activity). Asked again each second until then.
    AskActivity {
        /// Whose.
        peer: PeerRef,
    },
    /// Send a ping packet now.
    SendPing {
        /// To whom.
        peer: PeerRef,
    },
    /// Send an exit notification on the data channel now.
    SendExit {
        /// To whom.
        peer: PeerRef,
    },
    /// Forget the peer and its keys.
    RemovePeer {
        /// Which.
        peer: PeerRef,
    },
}

impl Directive {
    /// Whom it is about.
    pub const fn peer(&self) -> PeerRef {
        match self {
            Self::AddPeer { peer, .. }
            | Self::InstallKey { peer, .. }
            | Self::PromoteKey { peer, .. }
            | Self::RetireKey { peer, .. }
            | Self::AddRoute { peer, .. }
            | Self::RemoveRoute { peer, .. }
            | Self::MovePeer { peer, .. }
            | Self::AskActivity { peer }
            | Self::SendPing { peer }
            | Self::SendExit { peer }
            | Self::RemovePeer { peer } => *peer,
        }
    }
}

impl fmt::Debug for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddPeer { peer, path, params } => f
                .debug_struct("AddPeer")
                .field("peer", peer)
                .field("path", path)
                .field("params", params)
                .finish(),
            Self::InstallKey { peer, key, data: _ } => {
                f.debug_struct("InstallKey").field("peer", peer).field("key", key).finish_non_exhaustive()
            }
            Self::PromoteKey { peer, key } => write!(f, "PromoteKey({peer:?}, {key:?})"),
            Self::RetireKey { peer, key } => write!(f, "RetireKey({peer:?}, {key:?})"),
            Self::AddRoute { peer, inner } => write!(f, "AddRoute({peer:?}, {inner})"),
            Self::RemoveRoute { peer, inner } => write!(f, "RemoveRoute({peer:?}, {inner})"),
            Self::MovePeer { peer, path } => write!(f, "MovePeer({peer:?}, {path:?})"),
            Self::AskActivity { peer } => write!(f, "AskActivity({peer:?})"),
            Self::SendPing { peer } => write!(f, "SendPing({peer:?})"),
            Self::SendExit { peer } => write!(f, "SendExit({peer:?})"),
            Self::RemovePeer { peer } => write!(f, "RemovePeer({peer:?})"),
        }
    }
}
