//! Seeds of worlds in which a rule was broken once; each test has the name of the rule.

use oxivpn_sim::plan::Plan;
use oxivpn_sim::storm;
use oxivpn_sim::trace::Keep;

fn holds(seed: u64) {
    let plan = Plan::draw(seed);
    let violation = storm::run(&plan, Keep::Hash).violation;
    assert!(violation.is_none(), "seed {seed}: {violation:?}\n{plan}");
}

/// With `tran-window` no longer than `hand-window` the other side forgot the key before while we still sent with it.
#[test]
fn a_key_sends_while_the_one_before_is_known() {
    [1444, 2055, 2513].into_iter().for_each(holds);
}

/// A handshake that the network held up for as long as `tran-window`: the key before was gone the moment its successor
/// sent, under what the other side had sent meanwhile. So it was where the next renegotiation promoted the successor.
#[test]
fn a_key_that_is_taken_over_late_is_left_some_time() {
    [4631, 6399, 8281, 8612].into_iter().for_each(holds);
}

/// A client that never heard that its session was up came again (`duplicate-cn`). Probes were sent to the address of the
/// session before, and held for lost.
#[test]
fn who_came_twice_is_reached_where_it_is() {
    holds(6199);
}
