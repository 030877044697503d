//! From a client's name and what is configured for it to its addresses and what it is pushed.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};

use super::overrides::{ClientOverrides, Ifconfig6Push, IfconfigPush};
use super::persist::{self, PersistProblem, PersistWarning, Remembered};
use super::plan::{AddressPlan, Ranges};
use super::push::PushList;
use super::range::{Range4, Range6};
use super::slots::{Loan, Slots};
use super::trouble::{Conflict, Notice, PlanError, Refusal};
use crate::config::server::ClientSettings;
use crate::options::pushed::Topology;

/// Gives out addresses and settings. One for each server.
///
/// A client's way through it: [`lease`](Self::lease) when it has been authenticated; [`preview`](Self::preview) for
/// scripts that want to know its address; [`settings`](Self::settings) with what files and scripts said, when it is let
/// in; [`give_back`](Self::give_back) when its session ends, however it ends.
#[derive(Debug)]
pub struct Addressing {
    plan: AddressPlan,
    range4: Option<Range4>,
    range6: Option<Range6>,
    slots: Slots,
    /// The leases of each name, the newest last, unless names may be there twice.
    live: BTreeMap<Arc<str>, Vec<(u64, Option<Loan>)>>,
    /// Addresses and networks of the clients that are there, with the lease and the name.
    owners: BTreeMap<IpNet, (u64, Arc<str>)>,
    /// Addresses and networks that are configured for names, there or not.
    declared: BTreeMap<IpNet, Arc<str>>,
    next: u64,
}

/// What one session has. Goes back with [`Addressing::give_back`]; a lease that is lost blocks its addresses.
#[derive(Debug)]
#[must_use = "a lease that is not given back blocks its addresses"]
pub struct Lease {
    id: u64,
    name: Arc<str>,
    /// The slot that the pool gave.
    loan: Option<Loan>,
    /// Slots that fixed addresses lie in.
    claims: [Option<Loan>; 2],
    v4: Option<IfconfigPush>,
    v6: Option<(Ipv6Net, Ipv6Addr)>,
    nets: Vec<IpNet>,
}

impl Lease {
    /// Whose it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// IPv4 address, with the netmask or far end.
    pub const fn v4(&self) -> Option<IfconfigPush> {
        self.v4
    }

    /// IPv6 address with the prefix length of the link, and the far end.
    pub const fn v6(&self) -> Option<(Ipv6Net, Ipv6Addr)> {
        self.v6
    }

    /// Inner addresses and networks, the client's own first.
    pub fn nets(&self) -> &[IpNet] {
        &self.nets
    }
}

/// Settings of one client, and what the log should say about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// For [`Node::admit`](crate::Node::admit).
    pub settings: ClientSettings,
    /// Things that are odd, but don't keep the client out.
    pub notices: Vec<Notice>,
}

impl Addressing {
    /// Nobody has an address yet.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn new(plan: AddressPlan) -> Result<(Self, Vec<Notice>), PlanError> {
        let (Ranges { v4: range4, v6: range6 }, notices) = plan.check()?;
        let sizes = [range4.map(|r| r.size()), range6.map(|r| r.size())];
        let size = sizes.into_iter().flatten().min().unwrap_or(0);
        let slots = Slots::new(size, plan.duplicate_cn);
        let (live, owners, declared) = Default::default();
        Ok((Self { plan, range4, range6, slots, live, owners, declared, next: 1 }, notices))
    }

    /// What all clients share.
    pub const fn plan(&self) -> &AddressPlan {
        &self.plan
    }

    /// Notes what is configured for a name that isn't there yet: nobody else gets its addresses from the pool.
    ///
    /// # Errors
    /// [`Conflict`] with us or with another name. What doesn't conflict is noted all the same.
    pub fn declare(&mut self, name: &str, overrides: &ClientOverrides) -> Result<(), Conflict> {
        let name: Arc<str> = Arc::from(name);
        let mut result = Ok(());
        let v4 = overrides.ifconfig_push.map(|p| IpAddr::V4(p.local));
        let v6 = overrides.ifconfig_ipv6_push.map(|p| IpAddr::V6(p.local.addr()));
        for address in v4.into_iter().chain(v6) {
            if self.is_own(address) {
                let own = Conflict::Own { name: name.to_string(), address };
                result = result.and(Err(own));
                continue;
            }
            if let Some(slot) = self.slot(address) {
                self.slots.reserve(slot);
            }
        }
        for net in v4.into_iter().chain(v6).map(IpNet::from).chain(networks(core::slice::from_ref(overrides)))
        {
            match self.declared.get(&net) {
                Some(other) if *other != name => {
                    let [name, other] = [&name, other].map(ToString::to_string);
                    let twice = Conflict::Twice { name, other, net };
                    result = result.and(Err(twice));
                }
                _ => {
                    self.declared.insert(net, Arc::clone(&name));
                }
            }
        }
        result
    }

    /// Takes an address of the pool for a client, if there is a pool and an address left. If a session of this name
    /// is there, and names are not there twice, this one has the same address: it will replace that one, or be refused.
    pub fn lease(&mut self, name: &str) -> Lease {
        self.next += 1;
        let mut lease = Lease {
            id: self.next,
            name: Arc::from(name),
            loan: None,
            claims: [None; 2],
            v4: None,
            v6: None,
            nets: Vec::new(),
        };
        self.take_slot(&mut lease);
        self.choose(&mut lease, None, None);
        lease
    }

    fn take_slot(&mut self, lease: &mut Lease) {
        let unique = !lease.name.is_empty() && !self.plan.duplicate_cn;
        let leases = self.live.get(&lease.name).filter(|_| unique);
        let old = leases.and_then(|leases| leases.iter().rev().find_map(|(_, loan)| *loan));
        let shared = match old {
            Some(loan) if !self.is_taken(loan.slot, &lease.name) => self.slots.share(loan),
            _ => None,
        };
        lease.loan = shared.or_else(|| self.lend(&lease.name));
        if unique {
            let leases = self.live.entry(Arc::clone(&lease.name)).or_default();
            match leases.iter_mut().find(|(id, _)| *id == lease.id) {
                Some((_, loan)) => *loan = lease.loan,
                None => leases.push((lease.id, lease.loan)),
            }
        }
    }

    /// Lends a slot whose addresses no client has that they are fixed for.
    fn lend(&mut self, name: &str) -> Option<Loan> {
        let mut passed_over = Vec::new();
        let loan = loop {
            match self.slots.lend(name) {
                Some(loan) if self.is_taken(loan.slot, name) => passed_over.push(loan),
                other => break other,
            }
        };
        for loan in passed_over {
            self.slots.give_back(loan, true);
        }
        loan
    }

    fn is_taken(&self, slot: u32, name: &str) -> bool {
        let v4 = self.range4.map(|range| IpAddr::V4(range.client(slot)));
        let v6 = self.range6.map(|range| IpAddr::V6(range.client(slot)));
        let owners = v4.into_iter().chain(v6).filter_map(|a| self.owners.get(&IpNet::from(a)));
        owners.into_iter().any(|(_, owner)| **owner != *name || self.plan.duplicate_cn)
    }

    fn drop_slot(&mut self, lease: &mut Lease, forget: bool) {
        if let Some(loan) = lease.loan.take() {
            self.slots.give_back(loan, forget);
        }
        let mut leases = self.live.get_mut(&lease.name).into_iter().flatten();
        if let Some((_, loan)) = leases.find(|(id, _)| *id == lease.id) {
            *loan = None;
        }
    }

    /// Chooses the addresses that [`settings`](Self::settings) will choose if nothing else is said. Whoever has
    /// networks of the client keeps them meanwhile.
    pub fn preview(&mut self, lease: &mut Lease, overrides: &[ClientOverrides]) {
        let fixed4 = overrides.iter().rev().find_map(|o| o.ifconfig_push);
        let fixed6 = overrides.iter().rev().find_map(|o| o.ifconfig_ipv6_push);
        if self.check_fixed(fixed4, fixed6).is_ok() {
            self.claim(lease, fixed4, fixed6);
            self.choose(lease, fixed4, fixed6);
        }
    }

    /// Everything that a client gets, by all that is said about it: the file of `client-config-dir` first, then
    /// scripts. May be asked again when more is known.
    ///
    /// # Errors
    /// [`Refusal`]; the lease must be given back then, too.
    pub fn settings(&mut self, lease: &mut Lease, overrides: &[ClientOverrides]) -> Result<Granted, Refusal> {
        if overrides.iter().any(|o| o.disable) {
            return Err(Refusal::Disabled);
        }
        let fixed4 = overrides.iter().rev().find_map(|o| o.ifconfig_push);
        let fixed6 = overrides.iter().rev().find_map(|o| o.ifconfig_ipv6_push);
        self.check_fixed(fixed4, fixed6)?;
        let mut notices = Vec::new();
        self.claim(lease, fixed4, fixed6);
        self.choose(lease, fixed4, fixed6);
        if fixed4.is_none()
            && lease.loan.is_none()
            && (self.range4.is_some() || self.range6.is_some() && fixed6.is_none())
        {
            return Err(Refusal::Exhausted);
        }
        self.remark(lease, fixed4, &mut notices);
        self.route(lease, overrides, &mut notices);
        let push = self.push_list(lease, overrides, &mut notices);
        let settings = ClientSettings {
            push,
            routes: lease.nets.clone(),
            session_timeout: overrides.iter().rev().find_map(|o| o.session_timeout).filter(|t| !t.is_zero()),
            inactive: overrides.iter().rev().find_map(|o| o.inactive).filter(|(t, _)| !t.is_zero()),
            username: overrides.iter().rev().find_map(|o| o.override_username.clone()),
            framing: overrides.iter().rev().find_map(|o| o.framing),
        };
        Ok(Granted { settings, notices })
    }

    /// [`lease`](Self::lease) and [`settings`](Self::settings) in one, for callers without scripts.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has to be given back then.
    pub fn admit(&mut self, name: &str, overrides: &[ClientOverrides]) -> Result<(Granted, Lease), Refusal> {
        let mut lease = self.lease(name);
        match self.settings(&mut lease, overrides) {
            Ok(granted) => Ok((granted, lease)),
            Err(refusal) => {
                self.give_back(lease);
                Err(refusal)
            }
        }
    }

    /// Frees what a session had. Its name keeps its claim to the pool's address.
    pub fn give_back(&mut self, mut lease: Lease) {
        self.drop_slot(&mut lease, false);
        for claim in lease.claims.into_iter().flatten() {
            self.slots.give_back(claim, true);
        }
        if let Some(leases) = self.live.get_mut(&lease.name) {
            leases.retain(|(id, _)| *id != lease.id);
            if leases.is_empty() {
                self.live.remove(&lease.name);
            }
        }
        self.disown(&lease);
    }

    fn disown(&mut self, lease: &Lease) {
        for net in &lease.nets {
            if self.owners.get(net).is_some_and(|(id, _)| *id == lease.id) {
                self.owners.remove(net);
            }
        }
    }

    fn is_own(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self.plan.own == Some(a),
            IpAddr::V6(a) => self.plan.own6.is_some_and(|own| own.addr() == a),
        }
    }

    /// The slot of the pool that an address lies in.
    fn slot(&self, address: IpAddr) -> Option<u32> {
        let slot = match address {
            IpAddr::V4(a) => self.range4.and_then(|r| r.slot(a)),
            IpAddr::V6(a) => self.range6.and_then(|r| r.slot(a)),
        };
        slot.filter(|slot| *slot < self.slots.size())
    }

    fn check_fixed(&self, v4: Option<IfconfigPush>, v6: Option<Ifconfig6Push>) -> Result<(), Refusal> {
        if let Some(v4) = v4 {
            let a = v4.local;
            if self.is_own(a.into()) {
                return Err(Refusal::OwnAddress(a.into()));
            }
            if a.is_unspecified() || a.is_broadcast() || a.is_multicast() {
                return Err(Refusal::NoHost(a.into()));
            }
        }
        if let Some(v6) = v6 {
            let a = v6.local.addr();
            if self.is_own(a.into()) {
                return Err(Refusal::OwnAddress(a.into()));
            }
            if a.is_unspecified() || a.is_multicast() {
                return Err(Refusal::NoHost(a.into()));
            }
            if v6.remote.is_none() && self.plan.own6.is_none() {
                return Err(Refusal::NoRemote6(v6.local));
            }
        }
        Ok(())
    }

    /// Keeps the slots of fixed addresses from others, and gives the pool's slot back if nothing needs it. OpenVPN does
    /// neither (`openvpn: multi.c`, `multi_select_virtual_addr`): there a fixed address in the pool is lent to others
    /// too, and a client with nothing but a fixed IPv4 address keeps an IPv6 address whose slot is free.
    fn claim(&mut self, lease: &mut Lease, v4: Option<IfconfigPush>, v6: Option<Ifconfig6Push>) {
        for claim in core::mem::take(&mut lease.claims).into_iter().flatten() {
            self.slots.give_back(claim, true);
        }
        let wanted = [v4.map(|p| p.local.into()), v6.map(|p| p.local.addr().into())];
        let wanted = wanted.map(|address| address.and_then(|a| self.slot(a)));
        let pooled = lease.loan.map(|loan| loan.slot);
        for (claim, slot) in lease.claims.iter_mut().zip(wanted) {
            *claim =
                slot.filter(|slot| Some(*slot) != pooled).and_then(|slot| self.slots.lend_slot(slot, ""));
        }
        let needed = self.range4.is_some() && v4.is_none() || self.range6.is_some() && v6.is_none();
        let stays = pooled.is_some_and(|slot| wanted.contains(&Some(slot)));
        match (needed && lease.claims[0].is_none(), lease.loan) {
            (true, None) => self.take_slot(lease),
            (false, Some(_)) if !stays => self.drop_slot(lease, true),
            _ => {}
        }
    }

    /// Fills in the addresses, fixed ones or those of the slot.
    fn choose(&self, lease: &mut Lease, v4: Option<IfconfigPush>, v6: Option<Ifconfig6Push>) {
        let slot = lease.loan.or(lease.claims[0]).map(|loan| loan.slot);
        lease.v4 = v4.or_else(|| {
            let (range, slot) = (self.range4.as_ref()?, slot?);
            let remote_or_netmask = match self.plan.topology {
                Topology::Subnet => self.plan.network?.netmask(),
                Topology::P2p => self.plan.own?,
                Topology::Net30 => range.server_end(slot)?,
            };
            Some(IfconfigPush { local: range.client(slot), remote_or_netmask, alias: None })
        });
        let own = self.plan.own6;
        lease.v6 = match v6 {
            Some(v6) => v6.remote.or_else(|| own.map(|own| own.addr())).map(|remote| (v6.local, remote)),
            None => self.range6.as_ref().zip(slot).zip(own).map(|((range, slot), own)| {
                (Ipv6Net::new_assert(range.client(slot), own.prefix_len()), own.addr())
            }),
        };
    }

    fn remark(&self, lease: &Lease, fixed4: Option<IfconfigPush>, notices: &mut Vec<Notice>) {
        match lease.v4 {
            None => notices.push(Notice::NoV4),
            Some(v4) => {
                if let (Topology::Subnet, Some(network)) = (self.plan.topology, self.plan.network)
                    && !network.contains(&v4.local)
                {
                    notices.push(Notice::Outside { address: v4.local, network });
                }
            }
        }
        if fixed4.is_some() && self.range6.is_some() && lease.v6.is_none() {
            notices.push(Notice::NoV6);
        }
    }

    /// Enters the client's addresses and networks. The last to claim one has it (`openvpn: multi.c`,
    /// `multi_learn_addr`).
    fn route(&mut self, lease: &mut Lease, overrides: &[ClientOverrides], notices: &mut Vec<Notice>) {
        let own = lease.v4.map(|v4| IpAddr::V4(v4.local)).into_iter();
        let own = own.chain(lease.v6.map(|(net, _)| IpAddr::V6(net.addr()))).map(IpNet::from);
        let mut nets: Vec<IpNet> = Vec::new();
        for net in own.chain(networks(overrides)) {
            if nets.contains(&net) {
                continue;
            }
            if !learnable(net) {
                notices.push(Notice::NotLearnable(net));
            } else if nets.len() == self.plan.max_routes_per_client {
                notices.push(Notice::TooManyRoutes { most: nets.len() });
                break;
            } else {
                nets.push(net);
            }
        }
        self.disown(lease);
        lease.nets = nets;
        for &net in &lease.nets {
            let owner = (lease.id, Arc::clone(&lease.name));
            if let Some((_, old)) = self.owners.insert(net, owner)
                && (old != lease.name || self.plan.duplicate_cn)
            {
                notices.push(Notice::TakenOver { net, from: old.to_string() });
            }
        }
    }

    /// In OpenVPN's order (`openvpn: push.c`, `prepare_push_reply`, `send_push_reply`).
    fn push_list(
        &self,
        lease: &Lease,
        overrides: &[ClientOverrides],
        notices: &mut Vec<Notice>,
    ) -> Vec<String> {
        let mut list = PushList::new(&self.plan.push);
        for source in overrides {
            for edit in &source.push {
                list.edit(edit, notices);
            }
            // Whoever names an address wants it pushed, whatever was removed before.
            if source.ifconfig_ipv6_push.is_some() {
                list.without_v6 = false;
            }
        }
        let networks: Vec<IpNet> = networks(overrides).collect();
        if !networks.is_empty() {
            list.remove_own_routes(&networks);
        }
        if let Some((local, remote)) = lease.v6
            && !list.without_v6
        {
            list.push(format!("ifconfig-ipv6 {local} {remote}"));
        }
        if let Some(IfconfigPush { local, remote_or_netmask, alias }) = lease.v4
            && !list.without_v4
        {
            list.push(format!("ifconfig {} {remote_or_netmask}", alias.unwrap_or(local)));
        }
        list.into_options()
    }

    /// Takes the addresses of a pool's file over, as hints, or for good if it is only `fixed`: read and never
    /// written. Lines that can't be used are told.
    pub fn restore(&mut self, file: &str, fixed: bool) -> Vec<PersistWarning> {
        let (lines, mut warnings) = persist::parse(file);
        for (line, Remembered { name, v4, v6 }) in lines {
            let slot4 = v4.and_then(|a| self.slot(a.into()));
            let slot6 = v6.and_then(|a| self.slot(a.into()));
            let outside = [
                v4.filter(|_| slot4.is_none()).map(IpAddr::from),
                v6.filter(|_| slot6.is_none()).map(IpAddr::from),
            ];
            for address in outside.into_iter().flatten() {
                let problem =
                    PersistProblem::OutOfPool { name: name.to_owned(), address: address.to_string() };
                warnings.push(PersistWarning { line, problem });
            }
            if let (Some(v4), Some(v6), Some(slot4), Some(slot6)) = (v4, v6, slot4, slot6)
                && slot4 != slot6
            {
                let problem = PersistProblem::Apart { name: name.to_owned(), v4, v6 };
                warnings.push(PersistWarning { line, problem });
            }
            if let Some(slot) = slot4.or(slot6) {
                self.slots.remember(slot, name, fixed);
            }
        }
        warnings.sort_by_key(|warning| warning.line);
        warnings
    }

    /// The pool's file, as OpenVPN writes it.
    pub fn persist(&self) -> String {
        let mut out = String::new();
        for (slot, name) in self.slots.named() {
            let v4 = self.range4.map(|range| range.name(slot));
            let v6 = self.range6.map(|range| range.client(slot));
            persist::render(&mut out, &Remembered { name, v4, v6 });
        }
        out
    }
}

/// Networks behind the client, host bits cleared.
fn networks(overrides: &[ClientOverrides]) -> impl Iterator<Item = IpNet> + '_ {
    overrides.iter().flat_map(|o| {
        let v4 = o.iroutes.iter().map(|net| IpNet::V4(net.trunc()));
        v4.chain(o.iroutes6.iter().map(|net| IpNet::V6(net.trunc())))
    })
}

/// Whether a client may have this network (`openvpn: mroute.c`, `mroute_learnable_address`).
fn learnable(net: IpNet) -> bool {
    let zero = net.addr().is_unspecified() && net.prefix_len() >= 8;
    let ones = match net.addr() {
        IpAddr::V4(a) => a.is_broadcast(),
        IpAddr::V6(a) => u128::from(a) == u128::MAX,
    };
    !zero && !ones
}

#[cfg(test)]
mod tests;
