//! The opcode, key id and peer-id in front of a data packet.

use crate::wire::ids::{KeyId, PeerId};

/// P_DATA_V1 (`openvpn: ssl_pkt.h`).
pub(super) const P_DATA_V1: u8 = 6;
/// P_DATA_V2.
pub(super) const P_DATA_V2: u8 = 9;

/// What the first bytes of a data packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) key: KeyId,
    /// `None` for P_DATA_V1.
    pub(super) peer: Option<PeerId>,
}

impl Header {
    /// Length on the wire.
    pub(super) const fn len(self) -> usize {
        if self.peer.is_some() { 4 } else { 1 }
    }

    /// Wire bytes and how many of them count.
    pub(super) const fn to_bytes(self) -> [u8; 4] {
        match self.peer {
            None => [P_DATA_V1 << 3 | self.key.get(), 0, 0, 0],
            Some(peer) => {
                let p = peer.get().to_be_bytes();
                [P_DATA_V2 << 3 | self.key.get(), p[1], p[2], p[3]]
            }
        }
    }
}
