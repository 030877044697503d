//! All randomness of a simulation, out of one seed.

use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a draw decides. Each purpose has a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Whether a packet is lost.
    Loss = 1,
    /// Whether a packet is sent twice.
    Duplication = 2,
    /// Whether a packet is held back, and for how long.
    Reordering = 3,
    /// Whether a bit is flipped, and which.
    Corruption = 4,
    /// Whether a packet is cut short, and where.
    Truncation = 5,
    /// Jitter of a packet.
    Jitter = 6,
    /// Jitter of the second copy of a packet.
    CopyJitter = 7,
    /// Content that a test makes up.
    Content = 8,
    /// When something happens.
    When = 9,
    /// Which of several.
    Which = 10,
    /// The state of a line that has good and bad times.
    Weather = 11,
    /// An old packet that comes once more.
    Replay = 12,
    /// A secret, or a seed of a machine.
    Secret = 13,
    /// How many bytes of a stream are read at once.
    Chunk = 14,
    /// Whether a stream stands still, and for how long.
    Stall = 15,
    /// Whether a stream is reset.
    Reset = 16,
}

/// Parts of a simulation that have a tree of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Branch {
    /// What the network looks like and what happens in it.
    Plan = 1,
    /// One direction of an access line.
    Link = 2,
    /// An address translator.
    Nat = 3,
    /// A byte stream between two machines.
    Pipe = 4,
    /// A node under test.
    Machine = 5,
    /// The application beside a node.
    Application = 6,
    /// A host with a TCP/IP stack.
    Host = 7,
    /// Certificates and secrets of a world.
    Authority = 8,
    /// The data plane of a machine.
    Plane = 9,
    /// Who attacks.
    Adversary = 10,
    /// OpenVPN's own fault injector in a machine.
    Gremlin = 11,
    /// Traffic that machines send.
    Traffic = 12,
}

/// A seed and the place in it for everything that draws.
///
/// A draw depends on the seed, the branches taken, its purpose, the index of who draws and the number of the
/// occasion, and on nothing else: a new fault, or another rate of one, leaves all other draws of the same seed
/// as they were.
///
/// All draws of a tree and its branches go into one rolling number, [`digest`](Self::digest).
#[derive(Clone)]
pub struct SeedTree {
    seed: [u8; 32],
    digest: Rc<Cell<u64>>,
}

impl SeedTree {
    /// The tree of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self { seed: bytes, digest: Rc::default() }
    }

    /// The tree of its own for part `index` of a kind.
    #[must_use]
    pub fn branch(&self, branch: Branch, index: u32) -> Self {
        let mut rng = ChaCha8Rng::from_seed(self.seed);
        rng.set_stream((branch as u64) << 32 | u64::from(index) | 1 << 63);
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Self { seed, digest: self.digest.clone() }
    }

    /// The draws for `purpose` by the drawer with number `index`, on occasion `number`.
    pub fn draws(&self, purpose: Purpose, index: u32, number: u64) -> Draws {
        let mut seed = self.seed;
        // A number of the user is in the first bytes, so the coordinates go elsewhere: seed 1 with index 0 must
        // not be seed 0 with index 1.
        let coordinates = index.to_le_bytes().into_iter().chain(number.to_le_bytes());
        for (byte, coordinate) in seed.iter_mut().skip(16).zip(coordinates) {
            *byte ^= coordinate;
        }
        let mut rng = ChaCha8Rng::from_seed(seed);
        rng.set_stream(purpose as u64);
        Draws { rng, digest: self.digest.clone() }
    }

    /// A number that depends on every draw so far, and on their order.
    pub fn digest(&self) -> u64 {
        self.digest.get()
    }
}

impl core::fmt::Debug for SeedTree {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let seed = self.seed.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        write!(f, "SeedTree({seed})")
    }
}

/// Random numbers for one purpose and one occasion.
#[derive(Clone)]
pub struct Draws {
    rng: ChaCha8Rng,
    digest: Rc<Cell<u64>>,
}

impl Draws {
    /// Whether something of this probability happens now.
    pub fn hit(&mut self, rate: Rate) -> bool {
        self.below(u64::from(Rate::ALWAYS.0)) < u64::from(rate.0)
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let drawn = ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64;
        self.note(drawn);
        drawn
    }

    /// A number in `low..=high`; `low` if there is nothing between.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// A time between `low` and `high`.
    pub fn time(&mut self, low: Duration, high: Duration) -> Duration {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.between(nanos(low), nanos(high)))
    }

    /// One of `choices`, each as likely as the others.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.rng.fill_bytes(out);
        self.note(out.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    }

    /// A seed for a generator elsewhere.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        seed
    }

    fn next(&mut self) -> u64 {
        self.rng.next_u64()
    }

    fn note(&self, drawn: u64) {
        // FNV-1a, a word at a time.
        self.digest.set((self.digest.get() ^ drawn).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29));
    }
}

impl core::fmt::Debug for Draws {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Draws")
    }
}

/// A probability, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u32);

impl Rate {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Each time.
    pub const ALWAYS: Self = Self(1_000_000);

    /// `percent` of all times, at most 100.
    pub const fn percent(percent: u32) -> Self {
        if percent < 100 { Self(percent * 10_000) } else { Self::ALWAYS }
    }

    /// So many times out of a million, at most all.
    pub const fn millionths(millionths: u32) -> Self {
        if millionths < Self::ALWAYS.0 { Self(millionths) } else { Self::ALWAYS }
    }

    /// How many times out of a million.
    pub const fn as_millionths(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_coordinate_makes_another_draw() {
        let draw =
            |seed, purpose, index, number| SeedTree::new(seed).draws(purpose, index, number).below(u64::MAX);
        let base = draw(1, Purpose::Loss, 0, 0);
        assert_eq!(base, draw(1, Purpose::Loss, 0, 0));
        let others = [
            draw(2, Purpose::Loss, 0, 0),
            draw(1, Purpose::Jitter, 0, 0),
            draw(1, Purpose::Loss, 1, 0),
            draw(1, Purpose::Loss, 0, 1),
        ];
        assert!(others.iter().all(|&other| other != base), "{base} in {others:?}");
    }

    #[test]
    fn bounds_hold() {
        let mut draws = SeedTree::new(3).draws(Purpose::Content, 0, 0);
        let mut seen = [0u32; 5];
        (0..5000).for_each(|_| seen[draws.below(5) as usize] += 1);
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
        assert_eq!(draws.below(0), 0);
        assert!((0..1000).all(|_| draws.hit(Rate::percent(100)) && !draws.hit(Rate::NEVER)));
        assert_eq!(Rate::percent(1000), Rate::ALWAYS);
        assert!((0..1000).all(|_| (3..=5).contains(&draws.between(3, 5))));
        let second = Duration::from_secs(1);
        assert_eq!(draws.time(second, second), second);
    }

    #[test]
    fn branches_differ_and_all_draws_count() {
        let tree = SeedTree::new(9);
        let draw = |tree: &SeedTree| tree.draws(Purpose::Content, 0, 0).below(u64::MAX);
        let drawn = [
            draw(&tree),
            draw(&tree.branch(Branch::Link, 0)),
            draw(&tree.branch(Branch::Link, 1)),
            draw(&tree.branch(Branch::Nat, 0)),
            draw(&tree.branch(Branch::Link, 0).branch(Branch::Link, 0)),
        ];
        assert!((0..5).all(|a| (0..a).all(|b| drawn[a] != drawn[b])), "{drawn:?}");
        let before = tree.digest();
        draw(&tree.branch(Branch::Link, 0));
        assert_ne!(tree.digest(), before);
    }
}
