//! What must hold at the seam between node, data plane and network, seen from outside.

use std::collections::{BTreeMap, HashSet};

use oxivpn_proto::config::params::DataFormat;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::wire::ids::KeyId;
use oxivpn_proto::{Directive, Path, PeerRef};

/// Keeps book of keys and of the packets sealed with them.
///
/// - A packet-id is larger than all before it under the same key: a nonce is never used twice.
/// - A packet is sealed with the key that was promoted last, and with no key that was retired.
/// - A peer moves only to where an authentic packet of it came from.
/// - Orders make sense: no key for a peer that isn't there, no promotion of a key that isn't installed.
/// - A peer-id has another user only after its removal was carried out, for a kernel tells news by id alone. Only who
///   begins anew at the same path keeps it.
#[derive(Default)]
pub(super) struct Watch {
    peers: BTreeMap<PeerRef, Peer>,
    /// Orders of which a plane that works later has not said that it carried them out.
    pending: Vec<(u64, PeerRef)>,
    /// Peers that such a plane may not have removed yet.
    leaving: Vec<(u64, PeerRef)>,
    asynchronous: bool,
    /// Where authentic packets of each peer came from.
    heard: HashSet<(PeerRef, Path)>,
    /// The last of them.
    last_heard: Option<(PeerRef, Path)>,
    /// Where packets came from that were dropped for what was in them.
    dropped: HashSet<Path>,
}

struct Peer {
    format: DataFormat,
    path: Path,
    keys: [Option<Key>; 8],
    sends: Option<KeyId>,
    /// Keys that sent before, as long as the plane may not have heard of the change.
    sent: Vec<KeyId>,
}

#[derive(Clone, Default)]
struct Key {
    last: Option<u64>,
    /// The order that replaced the key before, which the plane may not have carried out yet.
    renewed: Option<u64>,
}

impl Watch {
    pub(super) fn new(asynchronous: bool) -> Self {
        Self { asynchronous, ..Self::default() }
    }

    /// Takes an order as it goes to the plane.
    pub(super) fn enter(&mut self, seq: u64, order: &Directive) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("order {seq}, {order:?}: {what}"));
        let (peer, key) = match *order {
            Directive::AddPeer { peer, path, params } => {
                let other = |(gone, entry): (&PeerRef, &Peer)| gone.id == peer.id && entry.path != path;
                if self.peers.iter().any(other) {
                    return wrong("its id is that of a peer which the plane may still have");
                }
                let entry = Peer {
                    format: params.format,
                    path,
                    keys: Default::default(),
                    sends: None,
                    sent: Vec::new(),
                };
                return match self.peers.insert(peer, entry) {
                    Some(_) => wrong("the peer exists"),
                    None => Ok(()),
                };
            }
            Directive::RemovePeer { peer } => {
                if self.asynchronous && self.peers.contains_key(&peer) {
                    self.leaving.push((seq, peer));
                    return Ok(());
                }
                return match self.peers.remove(&peer) {
                    Some(_) => Ok(()),
                    None => wrong("there is no such peer"),
                };
            }
            Directive::MovePeer { peer, path } => {
                if let Some(entry) = self.peers.get_mut(&peer) {
                    entry.path = path;
                }
                return Ok(());
            }
            Directive::InstallKey { peer, key, .. }
            | Directive::PromoteKey { peer, key }
            | Directive::RetireKey { peer, key } => (peer, key),
            _ => return Ok(()),
        };
        let asynchronous = self.asynchronous;
        if asynchronous {
            self.pending.push((seq, peer));
        }
        let Some(entry) = self.peers.get_mut(&peer) else { return wrong("there is no such peer") };
        let slot = &mut entry.keys[usize::from(key.get())];
        match order {
            Directive::InstallKey { .. } => {
                let last = slot.take().filter(|_| asynchronous).and_then(|key| key.last);
                *slot = Some(Key { last, renewed: asynchronous.then_some(seq) });
                if entry.sends == Some(key) && !asynchronous {
                    return wrong("the key is in use");
                }
            }
            Directive::PromoteKey { .. } => {
                if slot.is_none() {
                    return wrong("the key is not installed");
                }
                entry.sent.extend(entry.sends.filter(|_| asynchronous));
                entry.sends = Some(key);
            }
            _ => {
                if slot.is_none() {
                    return wrong("the key is not installed");
                }
                if !asynchronous {
                    *slot = None;
                    entry.sends = entry.sends.filter(|&sends| sends != key);
                }
            }
        }
        Ok(())
    }

    /// The plane has carried out all orders up to this one.
    pub(super) fn applied(&mut self, seq: u64) {
        self.pending.retain(|(number, _)| *number > seq);
        for (_, gone) in self.leaving.extract_if(.., |(number, _)| *number <= seq) {
            self.peers.remove(&gone);
        }
        for (peer, entry) in &mut self.peers {
            if !self.pending.iter().any(|(_, waits)| waits == peer) {
                entry.sent.clear();
            }
            for key in
                entry.keys.iter_mut().flatten().filter(|key| key.renewed.is_some_and(|order| order <= seq))
            {
                *key = Key::default();
            }
        }
    }

    /// An authentic packet came; whose, is not known if it was dropped for what was in it.
    pub(super) fn opened(&mut self, peer: Option<PeerRef>, from: Path) {
        let Some(peer) = peer else {
            self.dropped.insert(from);
            return;
        };
        if self.last_heard.replace((peer, from)) != Some((peer, from)) {
            self.heard.insert((peer, from));
        }
    }

    /// The plane says that a peer is elsewhere now.
    pub(super) fn floated(&self, peer: PeerRef, to: Path) -> Result<(), String> {
        if self.heard.contains(&(peer, to)) || self.dropped.contains(&to) {
            return Ok(());
        }
        Err(format!("{peer:?} moves to {to:?}, from where nothing authentic came"))
    }

    /// The most keys that a peer has; 0 if that isn't known.
    pub(super) fn most_keys(&self) -> usize {
        let count = |peer: &Peer| peer.keys.iter().flatten().count();
        self.peers.values().filter(|_| !self.asynchronous).map(count).max().unwrap_or(0)
    }

    /// The peers that the plane was told about.
    pub(super) fn peers(&self) -> impl Iterator<Item = PeerRef> + '_ {
        self.peers.keys().copied()
    }

    /// Takes a data packet as it leaves the plane.
    pub(super) fn sealed(&mut self, peer: PeerRef, packet: &[u8]) -> Result<(), String> {
        let wrong = |what: String| Err(format!("packet of {peer:?}: {what}"));
        let Peek::Data(header) = peek(packet) else { return wrong("it is no data packet".into()) };
        let Some(entry) = self.peers.get_mut(&peer) else { return wrong("there is no such peer".into()) };
        let id = match entry.format {
            DataFormat::Epoch(_) => packet.get(header.len..header.len + 8).map(be),
            DataFormat::V1 | DataFormat::V2(_) => packet.get(header.len..header.len + 4).map(be),
        };
        let Some(id) = id else { return wrong("it is too short".into()) };
        if entry.sends != Some(header.key) && !entry.sent.contains(&header.key) {
            return wrong(format!("sealed with {:?}, promoted is {:?}", header.key, entry.sends));
        }
        let Some(Some(key)) = entry.keys.get_mut(usize::from(header.key.get())) else {
            return wrong(format!("sealed with {:?}, which is not installed", header.key));
        };
        if let Some(last) = key.last.filter(|&last| id <= last) {
            if key.renewed.is_none() {
                return wrong(format!("packet-id {id} after {last} under {:?}", header.key));
            }
            key.renewed = None;
        }
        key.last = Some(id);
        Ok(())
    }
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}
