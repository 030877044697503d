//! Which client has which slot of the pool.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The slots of a pool, lent by name (`openvpn: pool.c`, `ifconfig_pool_find`).
///
/// A name gets the slot that it had before if that is free. Else a slot is taken that nobody had, in order,
/// and after those the one that was given back first. Slots that a read-only file gives to a name are for that name
/// alone. With `duplicate_cn` names mean nothing, and the first free slot is taken.
///
/// Every step costs O(log n) of the slots that were ever used; unused ones cost nothing.
#[derive(Clone, Debug)]
pub struct Slots {
    size: u32,
    duplicate_cn: bool,
    /// What isn't in here is free and was never used.
    used: BTreeMap<u32, Use>,
    /// Free slots that remember a name.
    names: BTreeSet<(Arc<str>, u32)>,
    /// Free slots that somebody had, for anybody: the one given back first is first.
    given_back: BTreeSet<(u64, u32)>,
    /// From here on slots outside of `used` are fresh. Those below are in `fresh_again`.
    fresh_from: u32,
    fresh_again: BTreeSet<u32>,
    /// Number of the next loan or return.
    turn: u64,
}

#[derive(Clone, Debug)]
struct Use {
    /// Who has it, or had it last.
    name: Option<Arc<str>>,
    state: State,
    /// For this name alone, or for nobody by name.
    fixed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many have it, by this loan.
    Lent(u64, u32),
    /// Given back at this turn.
    Free(u64),
}

/// Right to a slot until [`Slots::give_back`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loan {
    /// Which slot.
    pub slot: u32,
    turn: u64,
}

impl Slots {
    /// So many free slots.
    pub const fn new(size: u32, duplicate_cn: bool) -> Self {
        Self {
            size,
            duplicate_cn,
            used: BTreeMap::new(),
            names: BTreeSet::new(),
            given_back: BTreeSet::new(),
            fresh_from: 0,
            fresh_again: BTreeSet::new(),
            turn: 1,
        }
    }

    /// Number of slots, lent or not.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// Lends a slot; `None` if there is none left for this name. An empty name is remembered by no slot.
    pub fn lend(&mut self, name: &str) -> Option<Loan> {
        let slot = match self.remembered(name) {
            Some(slot) => slot,
            None => self.pick()?,
        };
        Some(self.take(slot, name))
    }

    /// Lends this slot, which a setting of the client names, whoever it was meant for. `None` if somebody has it.
    pub fn lend_slot(&mut self, slot: u32, name: &str) -> Option<Loan> {
        let free = slot < self.size && self.holder(slot).is_none();
        free.then(|| self.take(slot, name))
    }

    /// Who has a slot. The name is empty if the client has none, or names mean nothing.
    pub fn holder(&self, slot: u32) -> Option<&str> {
        let entry = self.used.get(&slot)?;
        matches!(entry.state, State::Lent(..)).then(|| entry.name.as_deref().unwrap_or_default())
    }

    /// Shares a slot with the next session of the same client, as it may replace this one. It is lent until both have
    /// given it back. `None` if the loan is void.
    pub fn share(&mut self, loan: Loan) -> Option<Loan> {
        match self.used.get_mut(&loan.slot) {
            Some(Use { state: State::Lent(turn, holders), .. }) if *turn == loan.turn => {
                *holders += 1;
                Some(loan)
            }
            _ => None,
        }
    }

    /// Takes a slot back. The name keeps its claim to it, unless the loan must be `forgotten`. No effect if the
    /// loan is void.
    pub fn give_back(&mut self, loan: Loan, forget: bool) {
        let turn = self.next_turn();
        let Some(entry) = self.used.get_mut(&loan.slot) else { return };
        match &mut entry.state {
            State::Lent(turn, 1) if *turn == loan.turn => {}
            State::Lent(turn, holders) if *turn == loan.turn => {
                *holders -= 1;
                return;
            }
            _ => return,
        }
        if entry.fixed || !forget && !self.duplicate_cn {
            entry.state = State::Free(turn);
        } else {
            self.used.remove(&loan.slot);
            if loan.slot < self.fresh_from {
                self.fresh_again.insert(loan.slot);
            }
            return;
        }
        self.index(loan.slot);
    }

    /// Notes that `name` had a free slot before (`openvpn: pool.c`, `ifconfig_pool_set`). With `fixed` nobody else
    /// gets it by name. False if the slot doesn't exist or is lent.
    pub fn remember(&mut self, slot: u32, name: &str, fixed: bool) -> bool {
        if slot >= self.size || self.holder(slot).is_some() {
            return false;
        }
        if self.duplicate_cn && !fixed {
            return true;
        }
        self.unindex(slot);
        let name = (!name.is_empty() && !self.duplicate_cn).then(|| Arc::from(name));
        let turn = self.next_turn();
        self.used.insert(slot, Use { name, state: State::Free(turn), fixed });
        self.index(slot);
        true
    }

    /// Keeps a free slot from being lent by name. False if it doesn't exist or is lent.
    pub fn reserve(&mut self, slot: u32) -> bool {
        self.remember(slot, "", true)
    }

    /// Slots with the names that have or had them, in order.
    pub fn named(&self) -> impl Iterator<Item = (u32, &str)> + '_ {
        self.used.iter().filter_map(|(&slot, entry)| Some((slot, entry.name.as_deref()?)))
    }

    /// The free slot with the lowest number that `name` had.
    fn remembered(&self, name: &str) -> Option<u32> {
        if name.is_empty() || self.duplicate_cn {
            return None;
        }
        let from = (Arc::<str>::from(name), 0);
        self.names.range(from..).next().filter(|(found, _)| **found == *name).map(|&(_, slot)| slot)
    }

    fn pick(&mut self) -> Option<u32> {
        while self.used.contains_key(&self.fresh_from) {
            self.fresh_from += 1;
        }
        let again = self.fresh_again.first().copied();
        let fresh = again.or_else(|| (self.fresh_from < self.size).then_some(self.fresh_from));
        fresh.or_else(|| self.given_back.first().map(|&(_, slot)| slot))
    }

    fn take(&mut self, slot: u32, name: &str) -> Loan {
        self.unindex(slot);
        let turn = self.next_turn();
        let name = (!name.is_empty() && !self.duplicate_cn).then(|| Arc::from(name));
        let fixed = self.used.get(&slot).is_some_and(|entry| entry.fixed);
        self.used.insert(slot, Use { name, state: State::Lent(turn, 1), fixed });
        Loan { slot, turn }
    }

    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// Enters a free slot of `used` where it is looked for.
    fn index(&mut self, slot: u32) {
        let Some(Use { name, state: State::Free(turn), fixed }) = self.used.get(&slot) else { return };
        if let Some(name) = name {
            self.names.insert((Arc::clone(name), slot));
        }
        if !fixed {
            self.given_back.insert((*turn, slot));
        }
    }

    /// Undo of [`index`](Self::index); also takes a slot from the fresh ones.
    fn unindex(&mut self, slot: u32) {
        self.fresh_again.remove(&slot);
        if let Some(Use { name, state: State::Free(turn), .. }) = self.used.get(&slot) {
            self.given_back.remove(&(*turn, slot));
            if let Some(name) = name {
                self.names.remove(&(Arc::clone(name), slot));
            }
        }
    }
}

#[cfg(test)]
mod tests;
