use super::*;
use crate::link::Faults;
use crate::plan::Fault;
use crate::seed::Rate;
use crate::storm;
use crate::trace::Keep;

#[test]
fn two_of_many_items_are_found() {
    for (a, b) in [(0, 1), (0, 99), (17, 18), (49, 50), (98, 99)] {
        let mut tried = 0;
        let found = minimal((0..100).collect(), |items| {
            tried += 1;
            items.contains(&a) && items.contains(&b)
        });
        assert_eq!(found, [a, b]);
        assert!(tried < 200, "{tried}");
    }
}

#[test]
fn what_fails_in_any_case_needs_no_item() {
    assert_eq!(minimal((0..100).collect::<Vec<u8>>(), |_| true), []);
    assert_eq!(minimal(vec![1, 2, 3], |items| items.len() == 3), [1, 2, 3]);
}

/// An order of items that is not kept by halves: every one alone is too few, any three are enough.
#[test]
fn no_item_can_be_left_out_of_what_is_found() {
    for many in 3..30_usize {
        let found = minimal((0..many).collect(), |items| items.len() >= 3);
        assert_eq!(found.len(), 3, "of {many}");
    }
}

fn plan_with(items: usize) -> Plan {
    let is_big = |plan: &Plan| {
        matches!(plan.shape.cast, Cast::Server { clients } if clients > 2) && plan.items.len() >= items
    };
    (0..500).map(Plan::draw).find(is_big).expect("a seed with so many items")
}

#[test]
fn shape_and_items_are_both_made_smaller() {
    let plan = plan_with(20);
    let wanted = plan.items.iter().position(|item| matches!(item, Item::Traffic { from: 2, .. })).unwrap();
    let mut simple = plan.clone();
    simple.shape.tls = TlsKind::Rustls;
    let has = |plan: &Plan| plan.items.iter().any(|item| matches!(item, Item::Traffic { from: 2, .. }));
    let shrunk = shrink(&simple, 1000, |plan| has(plan) && plan.shape.tls == TlsKind::Rustls);
    assert!(shrunk.complete);
    assert_eq!(shrunk.plan.items.len(), 1, "{}", shrunk.plan);
    assert!(!shrunk.without.contains(&wanted) || plan.items.len() - shrunk.without.len() == 1);
    assert_eq!(shrunk.plan.shape.cast, Cast::Server { clients: 2 });
    assert_eq!(shrunk.plan.shape.faulty, Duration::from_secs(5));
    assert_eq!((shrunk.plan.shape.wrap, shrunk.plan.shape.login), (WrapKind::None, false));
    assert!(!shrunk.simpler.contains(&Simpler::FakeTls), "{:?}", shrunk.simpler);
    let again = reduced(&simple, &shrunk.without, &shrunk.simpler);
    assert_eq!(again.to_string(), shrunk.plan.to_string());
}

#[test]
fn a_budget_is_kept() {
    let mut tried = 0;
    let shrunk = shrink(&plan_with(10), 7, |_| {
        tried += 1;
        false
    });
    assert_eq!((shrunk.tried, tried, shrunk.complete), (7, 7, false));
    assert!(shrunk.without.is_empty() && shrunk.simpler.is_empty());
}

#[test]
fn names_of_simplifications_are_read_back() {
    let numbered = [Simpler::Clients(3), Simpler::Seconds(20)];
    for simpler in numbered.into_iter().chain(NAMES.iter().map(|(simpler, _)| *simpler)) {
        assert_eq!(simpler.to_string().parse(), Ok(simpler));
    }
    for wrong in ["", "clients=0", "clients", "seconds=x", "fake"] {
        assert!(wrong.parse::<Simpler>().is_err(), "{wrong}");
    }
}

#[test]
fn kinds_have_no_numbers() {
    let same = [
        ("60.5s after the healing: last at 12.000000s", "500ms after the healing: last at 7.5s"),
        ("PeerId(3) sent 12 packets", "PeerId(17) sent 1 packets"),
        ("packet-id 7 after 9", "packet-id 1 after 10"),
    ];
    for (a, b) in same {
        assert_eq!(kind(a), kind(b));
    }
    assert_eq!(kind("12s 3 sent, 4s."), "# # sent, #.");
    assert_ne!(kind("up true"), kind("up false"));
}

/// Whole worlds, of which a bug is expected that they don't have: that no line flips a bit.
#[test]
fn a_world_that_fails_is_reduced_to_the_cause() {
    let is_small = |plan: &Plan| plan.shape.cast == Cast::Pair && plan.items.len() > 7;
    let mut plan = (0..500).map(Plan::draw).find(is_small).expect("a seed with two machines");
    plan.items.insert(3, Item::Line { site: 0, up: true, fault: Fault::Corruption(Rate::percent(5), 1) });
    let fails = |plan: &Plan| {
        let outcome = storm::run(plan, Keep::Hash);
        outcome.built.world.lines().any(|counters| counters.corrupted > 0)
    };
    assert!(fails(&plan));
    let shrunk = shrink(&plan, 100, fails);
    assert!(shrunk.complete, "{} tries", shrunk.tried);
    assert_eq!(shrunk.plan.items.len(), 1, "{}", shrunk.plan);
    assert!(shrunk.plan.items.iter().all(flips), "{}", shrunk.plan);
    assert!(fails(&reduced(&plan, &shrunk.without, &shrunk.simpler)));
}

fn flips(item: &Item) -> bool {
    let mut faults = Faults::NONE;
    if let Item::Line { fault, .. } | Item::Spell { fault, .. } = item {
        fault.apply(&mut faults);
    }
    faults.corruption != Rate::NEVER
}
