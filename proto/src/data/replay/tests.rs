use core::time::Duration;

use super::*;

const NOW: Instant = Instant::ZERO;

fn window(packets: u32, secs: u64) -> Replay {
    Replay::new(ReplayWindow { packets, time: Duration::from_secs(secs) })
}

#[test]
fn each_id_once_and_never_zero() {
    let mut w = window(64, 0);
    assert!(!w.accept(NOW, 0));
    for id in [1, 3, 2, 10, 9] {
        assert!(w.accept(NOW, id), "{id}");
        assert!(!w.accept(NOW, id), "{id} again");
    }
}

#[test]
fn the_first_packet_opens_the_ids_below_it() {
    let mut w = window(64, 0);
    assert!(w.accept(NOW, 1000));
    assert!((1..1000).rev().all(|id| w.accept(NOW, id)));
}

#[test]
fn small_windows_are_widened_and_large_ones_kept() {
    for (configured, effective) in [(1, 1984), (64, 1984), (1985, 1985), (65_536, 65_536)] {
        let mut w = window(configured, 0);
        assert!(w.accept(NOW, 100_000));
        assert!(!w.check(NOW, 100_000 - effective), "{configured}");
        assert!(w.check(NOW, 100_000 - effective + 1), "{configured}");
    }
}

#[test]
fn a_long_jump_forgets_what_is_behind_the_window() {
    let mut w = window(64, 0);
    for id in 1..5000 {
        assert!(w.accept(NOW, id));
    }
    assert!(w.accept(NOW, 1 << 40));
    assert!(!w.check(NOW, 4999));
    assert!(((1 << 40) - 1983..1 << 40).all(|id| w.accept(NOW, id)));
}

#[test]
fn zero_demands_strict_order_from_any_start() {
    let mut w = window(0, 15);
    assert!(!w.accept(NOW, 0), "no sender uses it");
    assert!(w.accept(NOW, 7));
    assert!(!w.check(NOW, 7) && !w.check(NOW, 6) && !w.check(NOW, 9));
    assert!(w.accept(NOW, 8));
}

#[test]
fn after_an_idle_time_nothing_old_is_taken() {
    let mut w = window(64, 15);
    assert!(w.accept(NOW, 10));
    let early = NOW + Duration::from_secs(14);
    assert!(w.check(early, 9));
    let late = NOW + Duration::from_secs(15);
    assert!(!w.check(late, 9));
    // What overtakes after the pause is still fine.
    assert!(w.accept(late, 12));
    assert!(w.accept(late, 11));
    assert!(!w.check(late, 9));
}
