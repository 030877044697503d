use proptest::prelude::*;

use super::*;

fn slot(slots: &mut Slots, name: &str) -> Loan {
    slots.lend(name).unwrap()
}

#[test]
fn a_name_comes_back_to_its_slot() {
    let mut slots = Slots::new(3, false);
    let a = slot(&mut slots, "a");
    let b = slot(&mut slots, "b");
    assert_eq!((a.slot, b.slot), (0, 1));
    slots.give_back(a, false);
    slots.give_back(b, false);
    assert_eq!(slot(&mut slots, "b").slot, 1);
    // A slot that nobody had comes before those of others.
    assert_eq!(slot(&mut slots, "c").slot, 2);
    assert_eq!(slots.named().collect::<Vec<_>>(), [(0, "a"), (1, "b"), (2, "c")]);
    // The last one is taken from a name that isn't there.
    assert_eq!(slot(&mut slots, "d").slot, 0);
    assert_eq!(slots.lend("a"), None);
}

#[test]
fn the_slot_given_back_first_goes_first() {
    let mut slots = Slots::new(3, false);
    let [a, b, c] = ["a", "b", "c"].map(|name| slot(&mut slots, name));
    for loan in [b, c, a] {
        slots.give_back(loan, false);
    }
    assert_eq!(["x", "y", "z"].map(|name| slot(&mut slots, name).slot), [1, 2, 0]);
}

#[test]
fn with_duplicate_names_nothing_is_remembered() {
    let mut slots = Slots::new(3, true);
    assert!(slots.remember(0, "a", false));
    let [a, b] = ["a", "a"].map(|name| slot(&mut slots, name));
    assert_eq!((a.slot, b.slot), (0, 1));
    slots.give_back(a, false);
    assert_eq!(slot(&mut slots, "b").slot, 0);
    assert_eq!(slots.named().count(), 0);
}

#[test]
fn fixed_slots_are_for_their_name_alone() {
    let mut slots = Slots::new(3, false);
    assert!(slots.remember(0, "a", true));
    assert!(slots.reserve(1));
    assert_eq!(slot(&mut slots, "b").slot, 2);
    assert_eq!(slots.lend("c"), None);
    let a = slot(&mut slots, "a");
    assert_eq!(a.slot, 0);
    slots.give_back(a, true);
    assert_eq!(slots.lend("c"), None);
    assert_eq!(slot(&mut slots, "a").slot, 0);
    assert_eq!(slots.lend_slot(0, "c"), None);
    assert_eq!(slots.lend_slot(1, "c").map(|l| l.slot), Some(1));
    assert!(!slots.remember(1, "d", false));
    assert!(!slots.remember(3, "d", false));
}

#[test]
fn a_shared_slot_is_free_when_all_have_given_it_back() {
    let mut slots = Slots::new(2, false);
    let old = slot(&mut slots, "a");
    let new = slots.share(old).unwrap();
    slots.give_back(old, false);
    assert_eq!(slots.holder(0), Some("a"));
    slots.give_back(new, false);
    assert_eq!(slots.holder(0), None);
    assert_eq!(slots.share(new), None);
    // A void loan takes nothing away.
    let next = slot(&mut slots, "a");
    slots.give_back(new, false);
    assert_eq!(slots.holder(next.slot), Some("a"));
}

/// A pool as OpenVPN keeps it: a list that is walked for each client.
struct Naive {
    list: Vec<NaiveSlot>,
    now: u64,
    duplicate_cn: bool,
}

#[derive(Clone, Default)]
struct NaiveSlot {
    in_use: bool,
    name: Option<String>,
    last_release: u64,
    fixed: bool,
}

impl Naive {
    fn lend(&mut self, name: &str) -> Option<u32> {
        let free = |s: &&(usize, NaiveSlot)| !s.1.in_use;
        let list: Vec<_> = self.list.iter().cloned().enumerate().collect();
        let mut free = list.iter().filter(free);
        let found = if self.duplicate_cn {
            free.find(|(_, s)| !s.fixed)
        } else {
            free.clone()
                .find(|(_, s)| !name.is_empty() && s.name.as_deref() == Some(name))
                .or_else(|| free.filter(|(_, s)| !s.fixed).min_by_key(|(_, s)| s.last_release))
        };
        let at = found?.0;
        let name = (!self.duplicate_cn && !name.is_empty()).then(|| name.into());
        self.list[at] = NaiveSlot { in_use: true, name, last_release: 0, fixed: self.list[at].fixed };
        Some(at as u32)
    }

    fn give_back(&mut self, at: u32, forget: bool) {
        self.now += 1;
        let slot = &mut self.list[at as usize];
        slot.in_use = false;
        slot.last_release = self.now;
        if (forget || self.duplicate_cn) && !slot.fixed {
            *slot = NaiveSlot::default();
        }
    }

    fn remember(&mut self, at: u32, name: &str, fixed: bool) {
        self.now += 1;
        let name = (!self.duplicate_cn && !name.is_empty()).then(|| name.into());
        self.list[at as usize] = NaiveSlot { in_use: false, name, last_release: self.now, fixed };
    }
}

#[derive(Clone, Debug)]
enum Step {
    Lend(u8),
    GiveBack(usize, bool),
    Remember(u32, u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..9u8).prop_map(Step::Lend),
        3 => (0..8usize, prop::bool::weighted(0.2)).prop_map(|(i, f)| Step::GiveBack(i, f)),
        1 => (0..7u32, 0..9u8, prop::bool::weighted(0.2)).prop_map(|(s, n, f)| Step::Remember(s, n, f)),
    ]
}

fn name(n: u8) -> String {
    if n == 0 { String::new() } else { format!("client{n}") }
}

proptest! {
    #[test]
    fn slots_are_lent_as_from_a_plain_list(
        size in 2..7u32,
        duplicate_cn: bool,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut slots = Slots::new(size, duplicate_cn);
        let mut naive =
            Naive { list: vec![NaiveSlot::default(); size as usize], now: 0, duplicate_cn };
        let mut loans: Vec<Loan> = Vec::new();
        for step in steps {
            match step {
                Step::Lend(n) => {
                    let loan = slots.lend(&name(n));
                    prop_assert_eq!(loan.map(|l| l.slot), naive.lend(&name(n)));
                    loans.extend(loan);
                }
                Step::GiveBack(i, forget) if !loans.is_empty() => {
                    let loan = loans.swap_remove(i % loans.len());
                    slots.give_back(loan, forget);
                    naive.give_back(loan.slot, forget);
                }
                Step::GiveBack(..) => {}
                Step::Remember(slot, n, fixed) => {
                    let done = slots.remember(slot, &name(n), fixed);
                    let free = slot < size && !loans.iter().any(|l| l.slot == slot);
                    prop_assert_eq!(done, free);
                    if done && (fixed || !duplicate_cn) {
                        naive.remember(slot, &name(n), fixed);
                    }
                }
            }
            let named: Vec<_> = slots.named().map(|(slot, name)| (slot, name.to_owned())).collect();
            let expected = naive.list.iter().enumerate();
            let expected: Vec<_> =
                expected.filter_map(|(i, s)| Some((i as u32, s.name.clone()?))).collect();
            prop_assert_eq!(named, expected);
            for slot in 0..size {
                prop_assert_eq!(slots.holder(slot).is_some(), naive.list[slot as usize].in_use);
            }
        }
    }
}

#[test]
fn a_full_pool_of_the_largest_size_is_walked_in_no_time() {
    let mut slots = Slots::new(65_536, false);
    let loans: Vec<_> = (0..65_536).map(|i| slot(&mut slots, &format!("client{i}"))).collect();
    assert_eq!(slots.lend("one more"), None);
    for loan in loans.into_iter().rev() {
        slots.give_back(loan, false);
    }
    // A list that is searched from the start would take minutes for this.
    for i in (0..65_536).rev() {
        assert_eq!(slot(&mut slots, &format!("client{i}")).slot, i);
    }
}
