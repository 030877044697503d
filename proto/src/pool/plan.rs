//! The addresses of a server, and whether they make sense.

use core::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};

use super::push::is_clean;
use super::range::{Range4, Range6};
use super::trouble::{Notice, PlanError};
use crate::options::pushed::Topology;

/// Addresses of a server's tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPlan {
    /// How IPv4 addresses are laid out.
    pub topology: Topology,
    /// Our own IPv4 address.
    pub own: Option<Ipv4Addr>,
    /// Network of the tunnel. With `topology subnet` clients get its mask.
    pub network: Option<Ipv4Net>,
    /// `ifconfig-pool`: first and last address.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Our own IPv6 address, with the prefix length that clients get too.
    pub own6: Option<Ipv6Net>,
    /// `ifconfig-ipv6-pool`: first address and prefix length.
    pub pool6: Option<Ipv6Net>,
    /// What every client is pushed, in order.
    pub push: Vec<String>,
    /// `duplicate-cn`.
    pub duplicate_cn: bool,
    /// `max-routes-per-client`: addresses and networks of one client, 256.
    pub max_routes_per_client: usize,
}

impl Default for AddressPlan {
    /// No address at all.
    fn default() -> Self {
        Self {
            topology: Topology::default(),
            own: None,
            network: None,
            pool: None,
            own6: None,
            pool6: None,
            push: Vec::new(),
            duplicate_cn: false,
            max_routes_per_client: 256,
        }
    }
}

/// The pools of a plan.
pub(super) struct Ranges {
    pub(super) v4: Option<Range4>,
    pub(super) v6: Option<Range6>,
}

impl AddressPlan {
    /// Whether a server can have these addresses, and what is odd about them.
    pub(super) fn check(&self) -> Result<(Ranges, Vec<Notice>), PlanError> {
        let net30 = self.topology == Topology::Net30;
        let range4 = self.pool.map(|(first, last)| Range4::new(first, last, net30)).transpose()?;
        let range6 = self.pool6.map(Range6::new).transpose()?;
        let mut notices = Vec::new();
        if let Some(range) = &range4 {
            check4(self, range, &mut notices)?;
        }
        if let Some(range) = &range6 {
            let own = self.own6.ok_or(PlanError::NoOwn6)?;
            if range.slot(own.addr()).is_some() {
                return Err(PlanError::OwnInPool6 { own: own.addr(), first: range.first() });
            }
        }
        let (v4, v6) = (range4.map(|r| r.size()), range6.map(|r| r.size()));
        if let (Some(v4), Some(v6)) = (v4, v6)
            && v6 < v4
        {
            notices.push(Notice::Pool6Smaller { v4, v6 });
        }
        if let Some(option) = self.push.iter().find(|option| !is_clean(option)) {
            return Err(PlanError::BadPush(option.clone()));
        }
        Ok((Ranges { v4: range4, v6: range6 }, notices))
    }
}

fn check4(plan: &AddressPlan, range: &Range4, notices: &mut Vec<Notice>) -> Result<(), PlanError> {
    if let Some(own) = plan.own
        && range.slot(own).is_some()
    {
        return Err(PlanError::OwnInPool { own, first: range.first(), last: range.last() });
    }
    match plan.topology {
        Topology::Subnet => {
            let network = plan.network.ok_or(PlanError::NoNetmask)?;
            let inside = |a| network.contains(&a) && a != network.network() && a != network.broadcast();
            if !inside(range.first()) || !inside(range.last()) {
                notices.push(Notice::PoolOutside { first: range.first(), last: range.last(), network });
            }
        }
        Topology::P2p if plan.own.is_none() => return Err(PlanError::NoOwn),
        Topology::P2p | Topology::Net30 => {}
    }
    Ok(())
}
