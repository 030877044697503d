//! All randomness of a simulation, out of one seed.

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
}

/// A seed and the place in it for everything that draws.
///
/// A draw depends on the seed, its purpose, the index of who draws and the number of the occasion, and on
/// nothing else: a new fault, or another rate of one, leaves all other draws of the same seed as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedTree(u64);

impl SeedTree {
    /// The tree of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The draws for `purpose` by the drawer with number `index`, on occasion `number`.
    pub fn draws(&self, purpose: Purpose, index: u32, number: u64) -> Draws {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.0.to_le_bytes());
        seed[8..12].copy_from_slice(&index.to_le_bytes());
        seed[16..24].copy_from_slice(&number.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(seed);
        rng.set_stream(purpose as u64);
        Draws(rng)
    }
}

/// Random numbers for one purpose and one occasion.
#[derive(Clone, Debug)]
pub struct Draws(ChaCha8Rng);

impl Draws {
    /// Whether something of this probability happens now.
    pub fn hit(&mut self, rate: Rate) -> bool {
        self.below(u64::from(Rate::ALWAYS.0)) < u64::from(rate.0)
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}

/// A probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u32);

impl Rate {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Each time.
    pub const ALWAYS: Self = Self(100);

    /// `percent` of all times, at most 100.
    pub const fn percent(percent: u32) -> Self {
        if percent < 100 { Self(percent) } else { Self::ALWAYS }
    }

    /// As [`percent`](Self::percent) takes it.
    pub(crate) const fn in_percent(self) -> u8 {
        self.0 as u8
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
    }
}
