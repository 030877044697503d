//! What a data plane tells the control machine.

use crate::clock::Instant;
use crate::directive::PeerRef;
use crate::path::Path;
use crate::wire::ids::KeyId;

/// News from a data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// All orders up to this number are carried out. Only planes that are not
    /// [synchronous](crate::plane::Capabilities::synchronous) send it.
    Applied(u64),
    /// The first packet with this key arrived and authenticated: the peer has it.
    FirstReceive {
        /// From whom.
        peer: PeerRef,
        /// Which key.
        key: KeyId,
    },
    /// Soft limit: renegotiate.
    KeyWorn {
        /// Whose.
        peer: PeerRef,
        /// Which key.
        key: KeyId,
        /// Why.
        why: Wear,
    },
    /// Hard limit: the key seals nothing more.
    KeySpent {
        /// Whose.
        peer: PeerRef,
        /// Which key.
        key: KeyId,
    },
    /// An authenticated packet came from another address. The plane may have moved the peer already, as kernels do; the
    /// last word has [`Directive::MovePeer`](crate::Directive::MovePeer), which follows in either case.
    Floated {
        /// Who.
        peer: PeerRef,
        /// From where.
        to: Path,
    },
    /// The peer said on the data channel that it leaves.
    PeerExit {
        /// Who.
        peer: PeerRef,
    },
    /// An authenticated packet was not framed as agreed. Told once for a peer.
    Misframed {
        /// Whose.
        peer: PeerRef,
        /// What it had instead.
        found: Misframed,
    },
    /// The plane itself gave the peer up.
    PeerLost {
        /// Who.
        peer: PeerRef,
    },
    /// Answer to [`Directive::AskActivity`](crate::Directive::AskActivity). Without one for a minute the session ends
    /// with [`CloseCause::PlaneSilent`](crate::CloseCause::PlaneSilent).
    Activity {
        /// Whose.
        peer: PeerRef,
        /// When the last authenticated packet arrived; the time of `AddPeer` if none did.
        last_rx: Instant,
        /// When the last packet was sealed; the time of `AddPeer` if none was.
        last_tx: Instant,
        /// Sums since `AddPeer`.
        totals: Totals,
        /// Use of the sending key, for `reneg-bytes` and `reneg-pkts`.
        key_totals: Totals,
    },
}

/// What stands where compression framing should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misframed {
    /// The mark of something compressed.
    Compressed,
    /// This byte.
    Other(u8),
}

/// Why a key should be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wear {
    /// Packet ids run out.
    PacketId,
    /// The cipher's usage limit is near, in either direction.
    Usage,
    /// Too many packets failed to authenticate.
    Forgeries,
    /// Epochs run out.
    Epoch,
    /// `reneg-bytes` or `reneg-pkts`.
    Configured,
}

/// Sums of data packets; those of a key count all, those of a peer only what carries tunnel packets, not pings and
/// exit notices (`openvpn: forward.c`, `register_activity`). Bytes are those of the packets on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets received and authenticated.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Packets sealed.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
}
