//! Checks that orders to a data plane make sense in the order they come.

use std::collections::{BTreeMap, BTreeSet};

use crate::directive::{Directive, Order, PeerRef};
use crate::wire::ids::KeyId;

/// Keys of one peer that may exist at the same time: sending, waiting for proof, going away.
const MAX_KEYS: usize = 3;

/// Peers and keys as the orders so far left them.
#[derive(Default)]
pub(crate) struct Ledger {
    last: u64,
    peers: BTreeMap<PeerRef, BTreeSet<KeyId>>,
    used: BTreeSet<PeerRef>,
}

impl Ledger {
    /// Takes an order down; panics if it can't be carried out.
    pub(crate) fn enter(&mut self, order: &Order) {
        assert_eq!(order.seq, self.last + 1, "orders are numbered one by one");
        self.last = order.seq;
        match &order.directive {
            Directive::AddPeer { peer, .. } => {
                assert!(self.used.insert(*peer), "a generation is used twice");
                assert!(
                    self.peers.keys().all(|other| other.id != peer.id),
                    "a number is used twice: {order:?}"
                );
                self.peers.insert(*peer, BTreeSet::new());
            }
            Directive::RemovePeer { peer } => assert!(self.peers.remove(peer).is_some(), "{order:?}"),
            Directive::InstallKey { peer, key, .. } => {
                let keys = self.keys(*peer, order);
                assert!(keys.insert(*key), "installed twice: {order:?}");
                assert!(keys.len() <= MAX_KEYS, "{keys:?}");
            }
            Directive::PromoteKey { peer, key } => {
                assert!(self.keys(*peer, order).contains(key), "no such key: {order:?}");
            }
            Directive::RetireKey { peer, key } => {
                assert!(self.keys(*peer, order).remove(key), "no such key: {order:?}");
            }
            Directive::AddRoute { peer, .. }
            | Directive::RemoveRoute { peer, .. }
            | Directive::MovePeer { peer, .. }
            | Directive::AskActivity { peer }
            | Directive::SendPing { peer }
            | Directive::SendExit { peer } => {
                self.keys(*peer, order);
            }
        }
    }

    fn keys(&mut self, peer: PeerRef, order: &Order) -> &mut BTreeSet<KeyId> {
        match self.peers.get_mut(&peer) {
            Some(keys) => keys,
            None => panic!("no such peer: {order:?}"),
        }
    }

    /// Number of the last order.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Whether every peer is gone.
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}
