//! Inner address to peer.

use core::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// Owner of addresses that no peer may have; no slot of a table has this number.
const NOBODY: usize = usize::MAX;

/// Longest-prefix map from inner addresses to table slots.
#[derive(Default)]
pub(super) struct Routes {
    v4: PrefixMap<Ipv4Net, usize>,
    v6: PrefixMap<Ipv6Net, usize>,
}

impl Routes {
    /// Gives an address to nobody, for good.
    pub(super) fn reserve(&mut self, address: IpAddr) {
        self.insert(address.into(), NOBODY);
    }

    pub(super) fn is_reserved(&self, net: IpNet) -> bool {
        let owner = match net {
            IpNet::V4(net) => self.v4.get(&net),
            IpNet::V6(net) => self.v6.get(&net),
        };
        owner == Some(&NOBODY)
    }

    /// Gives `net` to `owner`; who had it before loses it (`openvpn: multi.c`: the last claim wins).
    pub(super) fn insert(&mut self, net: IpNet, owner: usize) -> Option<usize> {
        match net.trunc() {
            IpNet::V4(net) => self.v4.insert(net, owner),
            IpNet::V6(net) => self.v6.insert(net, owner),
        }
    }

    /// Takes `net` from `owner`; no effect if it belongs to somebody else by now.
    pub(super) fn remove(&mut self, net: IpNet, owner: usize) {
        match net.trunc() {
            IpNet::V4(net) => {
                if self.v4.get(&net) == Some(&owner) {
                    self.v4.remove(&net);
                }
            }
            IpNet::V6(net) => {
                if self.v6.get(&net) == Some(&owner) {
                    self.v6.remove(&net);
                }
            }
        }
    }

    /// Who has the longest prefix of `address`.
    pub(super) fn find(&self, address: IpAddr) -> Option<usize> {
        match address {
            IpAddr::V4(a) => self.v4.get_lpm(&Ipv4Net::from(a)).map(|(_, &owner)| owner),
            IpAddr::V6(a) => self.v6.get_lpm(&Ipv6Net::from(a)).map(|(_, &owner)| owner),
        }
    }
}
