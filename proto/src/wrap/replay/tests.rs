use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn window(packets: u32, seconds: u64) -> ReplayWindow {
    ReplayWindow { packets, time: Duration::from_secs(seconds) }
}

fn id(time: u32, id: u32) -> ReplayId {
    ReplayId { time, id }
}

/// The same rules over the whole history instead of over a window of it.
struct Model {
    window: ReplayWindow,
    highest: Option<ReplayId>,
    seen: BTreeMap<u32, Instant>,
    /// Ids up to here are closed because of age.
    floor: u32,
    last_reap: Instant,
}

impl Model {
    fn new(window: ReplayWindow) -> Self {
        Self { window, highest: None, seen: BTreeMap::new(), floor: 0, last_reap: Instant::ZERO }
    }

    fn accept(&mut self, now: Instant, new: ReplayId) -> bool {
        let n = self.window.packets;
        let highest = self.highest.unwrap_or(ReplayId { time: 0, id: 0 });
        if !self.window.time.is_zero() && now - self.last_reap >= Duration::from_secs(5) {
            self.last_reap = now;
            let kept = self.seen.iter().filter(|(i, _)| highest.id - **i < n);
            let old = kept.filter(|(_, at)| now - **at > self.window.time);
            self.floor = old.map(|(i, _)| *i).max().unwrap_or(0).max(self.floor);
        }
        let series = new.time > highest.time || self.highest.is_none();
        let good = new.id != 0
            && match (n, self.highest) {
                (0, None) => true,
                (0, Some(h)) if series => new == id(new.time, 1) && new.time > h.time,
                (0, Some(h)) => new.time == h.time && u64::from(new.id) == u64::from(h.id) + 1,
                _ if series => true,
                (_, Some(h)) => {
                    new.time == h.time
                        && new.id > self.floor
                        && u64::from(new.id) + u64::from(n) > u64::from(h.id)
                        && !self.seen.contains_key(&new.id)
                }
                (_, None) => unreachable!("the first id makes a series"),
            };
        if good {
            if series {
                self.seen.clear();
                self.floor = 0;
                self.highest = Some(new);
            }
            self.seen.insert(new.id, now);
            self.highest = self.highest.max(Some(new));
        }
        good
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agrees_with_the_model(
        packets in proptest::sample::select(&[0u32, 1, 2, 7, 16, 64][..]),
        seconds in proptest::sample::select(&[0u64, 3, 15][..]),
        base in proptest::sample::select(&[0u32, 1000, u32::MAX - 60][..]),
        steps in proptest::collection::vec((0u64..4000, 0u32..40, 0u32..60), 1..80),
    ) {
        let window = window(packets, seconds);
        let (mut guard, mut model) = (ReplayGuard::new(window), Model::new(window));
        let mut now = Instant::ZERO;
        for (wait, series, low) in steps {
            now = now + Duration::from_millis(wait);
            let new = id(100 + u32::from(series == 0), base + low);
            prop_assert_eq!(guard.accept(now, new), model.accept(now, new), "{:?} at {:?}", new, now);
            prop_assert!(guard.slots.len() <= packets as usize);
        }
    }
}

#[test]
fn wire_order_is_id_then_time() {
    let bytes = [0x0f, 0, 0, 1, 0x66, 0, 0, 0];
    assert_eq!(ReplayId::from_bytes(bytes), id(0x6600_0000, 0x0f00_0001));
    assert_eq!(id(0x6600_0000, 0x0f00_0001).to_bytes(), bytes);
}

#[test]
fn first_packet_opens_the_window_behind_it() {
    let mut guard = ReplayGuard::new(window(64, 15));
    assert!(guard.accept(Instant::ZERO, id(1, 1000)));
    assert!(!guard.accept(Instant::ZERO, id(1, 936)));
    assert!(guard.accept(Instant::ZERO, id(1, 937)));
    assert!(!guard.accept(Instant::ZERO, id(1, 937)));
    assert!(!guard.accept(Instant::ZERO, id(1, 0)));
    assert!(!guard.accept(Instant::ZERO, id(0, 2000)));
    assert!(guard.accept(Instant::ZERO, id(2, 3)));
    assert!(guard.accept(Instant::ZERO, id(2, 1)));
    assert!(!guard.accept(Instant::ZERO, id(1, 1001)));
}

#[test]
fn window_zero_is_strict_order() {
    let mut guard = ReplayGuard::new(window(0, 15));
    assert!(guard.accept(Instant::ZERO, id(1, 0x0f00_0001)));
    assert!(!guard.accept(Instant::ZERO, id(1, 0x0f00_0003)));
    assert!(guard.accept(Instant::ZERO, id(1, 0x0f00_0002)));
    assert!(!guard.accept(Instant::ZERO, id(2, 2)));
    assert!(guard.accept(Instant::ZERO, id(2, 1)));
    assert!(guard.slots.is_empty());
}

#[test]
fn memory_is_bounded_whatever_is_configured() {
    let mut guard = ReplayGuard::new(window(u32::MAX, 0));
    assert!(guard.accept(Instant::ZERO, id(1, u32::MAX)));
    assert_eq!(guard.slots.len(), MAX_WINDOW as usize);
}

/// `openvpn: packet_id.h`, `packet_id_reap_test`: from five seconds after the last look on.
#[test]
fn late_packets_are_looked_over_every_five_seconds() {
    for (at, open) in [(4_999, true), (5_000, false)] {
        let mut guard = ReplayGuard::new(window(64, 2));
        assert!(guard.accept(Instant::ZERO, id(1, 10)));
        let now = Instant::ZERO + Duration::from_millis(at);
        assert_eq!(guard.accept(now, id(1, 9)), open, "{at}");
    }
}
