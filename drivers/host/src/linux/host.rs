use std::net::IpAddr;
use std::path::Path;

use super::item::{Item, LinkRef, Outcome, named};
use super::journal::Journal;
use super::kernel::{self, Link, Way};
use super::netlink::{Netlink, Refusal};
use super::{Applied, IpVersion, Undone};
use crate::HostError;
use crate::plan::{Dev, Gateway, Plan, Route};

/// The network configuration of this host, or rather of one network namespace, as far as one tunnel changes it.
///
/// Keeps in mind, and in its journal, what it changed. Dropping it takes everything back.
#[derive(Debug)]
pub struct Host {
    netlink: Netlink,
    journal: Option<Journal>,
    /// Changes that are ours, in the order they were made.
    held: Vec<Held>,
    next: u64,
    /// Index of the interface of the last plan.
    tunnel: Option<u32>,
}

#[derive(Debug)]
struct Held {
    id: u64,
    item: Item,
}

impl Host {
    /// Opens rtnetlink in the calling thread's network namespace. With a `journal_dir` (made if missing, mode 0700)
    /// every change is written down there before it is made; without one a crash leaves what does not vanish with the
    /// interface. The journal names this process, so a program that puts itself into the background by forking does
    /// so first.
    ///
    /// # Errors
    ///
    /// [`HostError::Netlink`], [`HostError::Journal`].
    pub fn new(journal_dir: Option<&Path>) -> Result<Self, HostError> {
        let journal = journal_dir.map(Journal::new).transpose()?;
        Ok(Self { netlink: Netlink::open()?, journal, held: Vec::new(), next: 0, tunnel: None })
    }

    /// Brings the host to `plan`: takes back what an earlier plan did and this one does not want, then makes what is
    /// missing. In order: interface settings, addresses, removals, routes. What an earlier plan did and somebody else
    /// undid since is made again.
    ///
    /// Something that is there already without our doing counts as success and stays after an undo.
    ///
    /// # Errors
    ///
    /// An interface, address or journal that cannot be had ends it; what was done until then is kept in mind for
    /// [`Host::undo`]. Routes that fail are listed in [`Applied::failed`], and the rest goes on.
    pub fn apply(&mut self, plan: &Plan) -> Result<Applied, HostError> {
        let link = kernel::link_by_name(&mut self.netlink, &plan.interface)
            .map_err(|refusal| refusal.to(format!("look up interface {}", plan.interface)))?
            .ok_or_else(|| HostError::NoInterface { name: plan.interface.clone() })?;
        self.tunnel = Some(link.index);
        let mut applied = Applied::default();
        let wanted = self.wanted(plan, &link, &mut applied)?;
        self.drop_unwanted(&wanted, &mut applied)?;
        let result = wanted.into_iter().try_for_each(|item| self.hold(item, &mut applied));
        self.settle()?;
        result.map(|()| applied)
    }

    /// Everything `plan` asks for, interfaces resolved.
    fn wanted(&mut self, plan: &Plan, link: &Link, applied: &mut Applied) -> Result<Vec<Item>, HostError> {
        let reference = LinkRef { index: link.index, name: link.name.clone() };
        let mut wanted = Vec::new();
        // What was before us, not before this plan.
        let mtu_before = self.held.iter().find_map(|held| match &held.item {
            Item::Mtu { link, before, .. } if *link == reference => Some(*before),
            _ => None,
        });
        let packets_before = self.held.iter().find_map(|held| match &held.item {
            Item::TxQueueLen { link, before, .. } if *link == reference => Some(*before),
            _ => None,
        });
        if let (Some(mtu), Some(before)) = (plan.mtu, mtu_before.or(link.mtu)) {
            wanted.push(Item::Mtu { link: reference.clone(), mtu, before });
        }
        if let (Some(packets), Some(before)) = (plan.txqueuelen, packets_before.or(link.txqueuelen)) {
            wanted.push(Item::TxQueueLen { link: reference.clone(), packets, before });
        }
        wanted.push(Item::Up { link: reference.clone() });
        for address in &plan.addresses {
            wanted.push(Item::Address { link: reference.clone(), address: address.clone() });
        }
        for removal in &plan.removals {
            // One that is held already is not looked for again: the kernel no longer has it.
            let held = self.held.iter().map(|held| &held.item);
            let mut held =
                held.filter(|item| matches!(item, Item::Removal { removal: held, .. } if held == removal));
            let item = match held.next() {
                Some(item) => Some(item.clone()),
                None => kernel::find(&mut self.netlink, removal)
                    .map_err(|refusal| refusal.to(format!("look for route {removal}")))?
                    .map(|message| Item::Removal { removal: removal.clone(), message }),
            };
            wanted.extend(item);
        }
        for route in &plan.routes {
            match self.index_of(route, link) {
                Ok(index) => {
                    let item = Item::Route { route: named(route, &link.name), index };
                    if !wanted.contains(&item) {
                        wanted.push(item);
                    }
                }
                Err(error @ HostError::NoInterface { .. }) => applied.failed.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(wanted)
    }

    fn index_of(&mut self, route: &Route, tunnel: &Link) -> Result<Option<u32>, HostError> {
        let found = match &route.dev {
            Dev::Tunnel => return Ok(Some(tunnel.index)),
            Dev::ByIndex(index) => return Ok(Some(*index)),
            Dev::None => return Ok(None),
            Dev::ByName(name) if *name == tunnel.name => return Ok(Some(tunnel.index)),
            Dev::ByName(name) => kernel::link_by_name(&mut self.netlink, name)
                .map_err(|refusal| refusal.to(format!("look up interface {name}")))?,
        };
        match (found, &route.dev) {
            (None, Dev::ByName(name)) => {
                Err(HostError::NoInterface { name: format!("{name} (wanted by route {route})") })
            }
            (found, _) => Ok(found.map(|link| link.index)),
        }
    }

    fn drop_unwanted(&mut self, wanted: &[Item], applied: &mut Applied) -> Result<(), HostError> {
        let (keep, mut unwanted): (Vec<Held>, Vec<Held>) =
            self.held.drain(..).partition(|held| wanted.iter().any(|item| item.same(&held.item)));
        self.held = keep;
        let mut result = Ok(());
        while let Some(held) = unwanted.pop() {
            match held.item.unmake(&mut self.netlink) {
                Ok(outcome) => {
                    if outcome == Outcome::Done {
                        applied.changes.push(held.item.undone());
                    }
                    if let Some(journal) = &mut self.journal {
                        let noted = journal.gone(held.id);
                        result = result.and(noted);
                    }
                }
                Err(error) => {
                    applied.failed.push(error);
                    // Still ours to take back, by another try or another process.
                    self.held.push(held);
                }
            }
        }
        self.held.sort_by_key(|held| held.id);
        result
    }

    /// Makes one change, or sees that it still holds.
    fn hold(&mut self, item: Item, applied: &mut Applied) -> Result<(), HostError> {
        if let Some(held) = self.held.iter().position(|held| held.item.same(&item)) {
            return self.hold_again(held, &item, applied);
        }
        if self.is_so(&item)? {
            applied.foreign.push(item.to_string());
            return Ok(());
        }
        let id = self.next;
        self.next += 1;
        if let Some(journal) = &mut self.journal {
            journal.made(id, &item)?;
        }
        let outcome = item.make(&mut self.netlink);
        if matches!(outcome, Ok(Outcome::Done)) {
            applied.changes.push(item.to_string());
            self.held.push(Held { id, item });
            return Ok(());
        }
        if let Some(journal) = &mut self.journal {
            journal.gone(id)?;
        }
        match outcome {
            Ok(_) => applied.foreign.push(item.to_string()),
            Err(error) if item.is_optional() && !error.is_permission() => applied.failed.push(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Checks a change made earlier against the kernel, and makes it again if it was undone by others.
    fn hold_again(&mut self, held: usize, item: &Item, applied: &mut Applied) -> Result<(), HostError> {
        let item = match item {
            // Not looked for again, see `wanted`.
            Item::Removal { .. } => {
                applied.unchanged += 1;
                return Ok(());
            }
            Item::Up { .. } | Item::Mtu { .. } | Item::TxQueueLen { .. } if self.is_so(item)? => {
                applied.unchanged += 1;
                return Ok(());
            }
            _ => self.held[held].item.clone(),
        };
        match item.make(&mut self.netlink) {
            Ok(Outcome::Exists) => applied.unchanged += 1,
            Ok(Outcome::Done) => applied.changes.push(item.to_string()),
            Err(error) if item.is_optional() => applied.failed.push(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether an interface setting is as wanted. The kernel takes a setting twice without a word, unlike an address
    /// or a route.
    fn is_so(&mut self, item: &Item) -> Result<bool, HostError> {
        let (Item::Up { link } | Item::Mtu { link, .. } | Item::TxQueueLen { link, .. }) = item else {
            return Ok(false);
        };
        let present = kernel::link_by_index(&mut self.netlink, link.index)
            .map_err(|refusal| refusal.to(format!("look up interface {}", link.name)))?;
        let present = present.ok_or_else(|| HostError::NoInterface { name: link.name.clone() })?;
        Ok(match item {
            Item::Up { .. } => present.up,
            Item::Mtu { mtu, .. } => present.mtu == Some(*mtu),
            Item::TxQueueLen { packets, .. } => present.txqueuelen == Some(*packets),
            Item::Address { .. } | Item::Route { .. } | Item::Removal { .. } => false,
        })
    }

    /// Takes back every change made by [`Host::apply`], the last one first, and deletes the journal. What the kernel
    /// refuses to take back is reported; the journal then stays if the privilege was missing, for a later
    /// [`recover`](crate::recover) by a process that has it.
    pub fn undo(&mut self) -> Undone {
        let mut undone = Undone::default();
        let mut kept = Vec::new();
        while let Some(held) = self.held.pop() {
            if let Some(error) = undone.take_back(&held.item, &mut self.netlink) {
                if error.is_permission() {
                    kept.push(held);
                } else if let Some(journal) = &mut self.journal {
                    undone.failed.extend(journal.gone(held.id).err());
                }
                undone.failed.push(error);
            } else if let Some(journal) = &mut self.journal {
                undone.failed.extend(journal.gone(held.id).err());
            }
        }
        kept.reverse();
        self.held = kept;
        undone.failed.extend(self.settle().err());
        undone
    }

    fn settle(&mut self) -> Result<(), HostError> {
        match &mut self.journal {
            Some(journal) => journal.settle(self.held.iter().map(|held| (held.id, &held.item))),
            None => Ok(()),
        }
    }

    /// The best default route of the main table outside the tunnel; one that the plan removed counts.
    ///
    /// # Errors
    ///
    /// [`HostError::Refused`] if the kernel does not answer.
    pub fn default_gateway(&mut self, version: IpVersion) -> Result<Option<Gateway>, HostError> {
        let refused = |refusal: Refusal| refusal.to("read the default route".to_owned());
        let tunnel = self.tunnel;
        let mut ways = kernel::default_ways(&mut self.netlink, version).map_err(refused)?;
        ways.retain(|way| Some(way.index) != tunnel);
        let removed = self.held.iter().find_map(|held| match &held.item {
            Item::Removal { removal, message }
                if removal.dest.prefix_len() == 0
                    && removal.dest.addr().is_ipv4() == (version == IpVersion::V4) =>
            {
                kernel::way_of(message)
            }
            _ => None,
        });
        ways.into_iter().next().or(removed).map_or(Ok(None), |way| self.gateway(way))
    }

    /// The way to `dest` outside the tunnel: what the kernel would choose, or else the default route.
    ///
    /// # Errors
    ///
    /// [`HostError::Refused`] if the kernel does not answer.
    pub fn gateway_to(&mut self, dest: IpAddr) -> Result<Option<Gateway>, HostError> {
        let way = kernel::way_to(&mut self.netlink, dest)
            .map_err(|refusal| refusal.to(format!("look up the route to {dest}")))?;
        match way {
            Some(way) if Some(way.index) != self.tunnel => self.gateway(way),
            _ => self.default_gateway(if dest.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 }),
        }
    }

    fn gateway(&mut self, way: Way) -> Result<Option<Gateway>, HostError> {
        let link = kernel::link_by_index(&mut self.netlink, way.index)
            .map_err(|refusal| refusal.to(format!("look up interface #{}", way.index)))?;
        Ok(link.map(|link| Gateway { via: way.via, ifindex: way.index, name: link.name, onlink: way.onlink }))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Whoever wants to know of failures calls undo() first.
        self.undo();
    }
}

impl Undone {
    /// Takes one change back and notes how it went; hands out the error, if any.
    pub(super) fn take_back(&mut self, item: &Item, netlink: &mut Netlink) -> Option<HostError> {
        match item.unmake(netlink) {
            Ok(Outcome::Done) => self.changes.push(item.undone()),
            Ok(Outcome::Exists) => {}
            Err(error) => return Some(error),
        }
        None
    }
}
