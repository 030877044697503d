//! One worker among several: the names that carry its number, and who has which peer.

use std::collections::HashMap;

use oxivpn_proto::wire::ids::PeerId;
use oxivpn_proto::{Directive, Path, PeerRef, StreamId};

/// Bits of a [`StreamId`] below the worker's number.
const STREAM_BITS: u32 = 56;

/// Which of how many workers this is.
///
/// The number of a datagram socket in paths is that of its local address times the number of workers, plus the
/// worker's. So a path says which worker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// This one, from 0.
    pub me: usize,
    /// All of them.
    pub count: usize,
}

impl Share {
    /// The only worker.
    #[cfg(test)]
    pub(super) const ALONE: Self = Self { me: 0, count: 1 };

    /// Whether there are others.
    pub(super) const fn is_alone(self) -> bool {
        self.count <= 1
    }

    /// The number in paths of this worker's socket for a local address.
    pub(super) fn socket(self, address: usize) -> u16 {
        u16::try_from(address * self.count + self.me).unwrap_or(u16::MAX)
    }

    /// The local address that a socket is bound to. Each worker has a socket for each, so that it may send on paths of
    /// all.
    pub(super) fn address(self, socket: u16) -> usize {
        usize::from(socket) / self.count
    }

    /// The name of this worker's connection with this serial number.
    pub(super) const fn stream(self, serial: u64) -> StreamId {
        StreamId((self.me as u64) << STREAM_BITS | serial & ((1 << STREAM_BITS) - 1))
    }
}

/// The worker whose socket or connection a path is of.
pub(super) fn worker_of(path: &Path, count: usize) -> usize {
    match path {
        Path::Datagram { socket, .. } => usize::from(*socket) % count,
        Path::Stream(id) => worker_of_stream(*id, count),
    }
}

/// The worker that has a connection.
pub(super) fn worker_of_stream(id: StreamId, count: usize) -> usize {
    usize::try_from(id.0 >> STREAM_BITS).map_or(0, |worker| worker % count)
}

/// Who has which peer.
///
/// A peer stays with the worker on whose path it began, wherever it moves: its keys, counters and replay windows never
/// change threads.
#[derive(Debug)]
pub(super) struct Directory {
    count: usize,
    owners: HashMap<PeerId, (u32, usize)>,
    last: Option<(PeerRef, usize)>,
}

impl Directory {
    /// Without peers.
    pub(super) fn new(count: usize) -> Self {
        Self { count, owners: HashMap::new(), last: None }
    }

    /// Takes note of an order, which is to be carried out as far as it is not overtaken.
    pub(super) fn note(&mut self, directive: &Directive) {
        match directive {
            Directive::AddPeer { peer, path, .. } => {
                let known = self.owners.get(&peer.id).is_some_and(|(known, _)| *known >= peer.generation);
                if !known {
                    self.owners.insert(peer.id, (peer.generation, worker_of(path, self.count)));
                }
            }
            Directive::RemovePeer { peer } => {
                if self.owners.get(&peer.id).is_some_and(|(known, _)| *known == peer.generation) {
                    self.owners.remove(&peer.id);
                }
            }
            _ => return,
        }
        self.last = None;
    }

    /// The worker that has a peer.
    pub(super) fn owner(&mut self, peer: PeerRef) -> Option<usize> {
        if let Some((last, owner)) = self.last
            && last == peer
        {
            return Some(owner);
        }
        let &(_, owner) =
            self.owners.get(&peer.id).filter(|(generation, _)| *generation == peer.generation)?;
        self.last = Some((peer, owner));
        Some(owner)
    }
}

/// The order again, for another worker, if all must hear it: who is there, where, and with which inner addresses. What
/// is about keys or wants an answer is the owner's affair alone.
pub(super) fn for_all(directive: &Directive) -> Option<Directive> {
    Some(match directive {
        Directive::AddPeer { peer, path, params } => {
            Directive::AddPeer { peer: *peer, path: *path, params: *params }
        }
        Directive::AddRoute { peer, inner } => Directive::AddRoute { peer: *peer, inner: *inner },
        Directive::RemoveRoute { peer, inner } => Directive::RemoveRoute { peer: *peer, inner: *inner },
        Directive::MovePeer { peer, path } => Directive::MovePeer { peer: *peer, path: *path },
        Directive::RemovePeer { peer } => Directive::RemovePeer { peer: *peer },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use oxivpn_proto::config::cipher::DataCipher;
    use oxivpn_proto::config::params::{DataFormat, DataParams};

    use super::*;

    fn add(number: u32, generation: u32, path: Path) -> Directive {
        let params = DataParams {
            by_path: false,
            float: true,
            ..DataParams::new(DataCipher::Aes256Gcm, DataFormat::V1)
        };
        Directive::AddPeer { peer: peer(number, generation), path, params }
    }

    fn peer(number: u32, generation: u32) -> PeerRef {
        PeerRef { id: PeerId::from_low_bits(number), generation }
    }

    fn on(socket: u16) -> Path {
        Path::udp(socket, "192.0.2.1:1194".parse().unwrap())
    }

    #[test]
    fn names_carry_their_worker() {
        for count in [1, 2, 3, 64] {
            for me in 0..count {
                let share = Share { me, count };
                for address in 0..5 {
                    let socket = share.socket(address);
                    assert_eq!((share.address(socket), worker_of(&on(socket), count)), (address, me));
                }
                for serial in [0, 1, 1 << 40, u64::MAX] {
                    let path = Path::Stream(share.stream(serial));
                    assert_eq!(worker_of(&path, count), me);
                }
            }
        }
        assert_eq!(Share::ALONE.socket(3), 3);
        assert_eq!(Share::ALONE.stream(77), StreamId(77));
    }

    #[test]
    fn a_peer_stays_where_it_began() {
        let mut directory = Directory::new(2);
        directory.note(&add(7, 1, on(3)));
        assert_eq!(directory.owner(peer(7, 1)), Some(1));
        directory.note(&Directive::MovePeer { peer: peer(7, 1), path: on(2) });
        assert_eq!(directory.owner(peer(7, 1)), Some(1));
        // The same id for somebody else; what comes late about the one before changes nothing.
        directory.note(&add(7, 2, on(0)));
        directory.note(&add(7, 1, on(1)));
        directory.note(&Directive::RemovePeer { peer: peer(7, 1) });
        assert_eq!((directory.owner(peer(7, 1)), directory.owner(peer(7, 2))), (None, Some(0)));
        directory.note(&Directive::RemovePeer { peer: peer(7, 2) });
        assert_eq!(directory.owner(peer(7, 2)), None);
    }
}
