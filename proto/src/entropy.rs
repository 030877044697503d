//! All randomness of the core, forked by purpose out of one seed.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zeroize::Zeroize;

/// A seed tree: each purpose has a generator of its own, so that a new consumer doesn't shift the draws of
/// the others and recorded seeds stay valid.
pub struct Entropy {
    seed: [u8; 32],
}

/// What random bytes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Session ids.
    SessionId = 1,
    /// Pre-master secret and randoms of key method 2.
    KeyMethod = 2,
    /// Jitter of renegotiation.
    Jitter = 3,
    /// The peer-id we ask for (`ID=`).
    PeerId = 4,
    /// Seeds of sessions.
    Session = 5,
    /// Key of the stateless session ids of a listening side.
    Cookie = 6,
    /// Session ids in tokens.
    Token = 7,
    /// Faults that are made on purpose.
    Gremlin = 8,
}

impl Entropy {
    /// A tree that grows out of `seed`.
    pub const fn new(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    /// The generator for `purpose`; `index` tells apart several of the same purpose.
    pub fn fork(&self, purpose: Purpose, index: u64) -> EntropyStream {
        let mut rng = ChaCha20Rng::from_seed(self.seed);
        rng.set_stream((purpose as u64) << 48 | (index & 0xffff_ffff_ffff));
        EntropyStream { rng }
    }

    /// A tree of its own for the session with number `index`.
    pub fn child(&self, index: u64) -> Self {
        let mut seed = [0; 32];
        self.fork(Purpose::Session, index).fill(&mut seed);
        Self { seed }
    }
}

impl Drop for Entropy {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

impl core::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Entropy([redacted])")
    }
}

/// Random bytes for one purpose.
pub struct EntropyStream {
    rng: ChaCha20Rng,
}

impl EntropyStream {
    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.rng.fill_bytes(out);
    }

    /// A random number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { ((u128::from(self.rng.next_u64()) * u128::from(bound)) >> 64) as u64 }
    }
}

impl core::fmt::Debug for EntropyStream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("EntropyStream([redacted])")
    }
}
