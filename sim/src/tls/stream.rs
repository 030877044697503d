//! Randomness of one machine, for TLS libraries that ask the whole process for it.

use core::cell::RefCell;
use core::fmt;
use core::marker::PhantomData;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::seed::Rate;

thread_local! {
    static CURRENT: RefCell<Option<Box<ChaCha8Rng>>> = const { RefCell::new(None) };
}

/// Random bytes of one machine.
///
/// Parts of a rustls provider are `'static` and can't be told on whose behalf they work. So a machine
/// [enters](Self::enter) its stream for as long as it runs. What is entered counts for this thread only: worlds on
/// different threads don't meet.
#[derive(Clone)]
pub struct Stream(Option<Box<ChaCha8Rng>>);

impl Stream {
    /// The stream of `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(Some(Box::new(ChaCha8Rng::from_seed(seed))))
    }

    /// Runs `work`, which takes all randomness from here. An outer stream comes back afterwards.
    pub fn enter<R>(&mut self, work: impl FnOnce() -> R) -> R {
        // A pointer that goes there and back: a machine is entered for each packet.
        let mine = self.0.take();
        let outer = CURRENT.with_borrow_mut(|current| core::mem::replace(current, mine));
        let _entered = Entered { home: self, outer, here: PhantomData };
        work()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream([redacted])")
    }
}

/// Brings the streams back to where they belong, also when the work panics.
struct Entered<'a> {
    home: &'a mut Stream,
    outer: Option<Box<ChaCha8Rng>>,
    /// Not for another thread.
    here: PhantomData<*const ()>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let outer = self.outer.take();
        self.home.0 = CURRENT.with_borrow_mut(|current| core::mem::replace(current, outer));
    }
}

fn draw<R>(from: impl FnOnce(&mut ChaCha8Rng) -> R) -> R {
    CURRENT.with_borrow_mut(|current| match current {
        Some(rng) => from(rng),
        None => panic!(
            "TLS of the simulator wants random bytes, and no machine runs on this thread: call the node inside of \
             `Stream::enter`"
        ),
    })
}

/// Fills `out` from the stream of the machine that runs.
///
/// # Panics
///
/// If none does.
pub(super) fn fill(out: &mut [u8]) {
    draw(|rng| rng.fill_bytes(out));
}

/// A number in `0..bound`, 0 if `bound` is 0; as [`fill`].
pub(super) fn below(bound: usize) -> usize {
    draw(|rng| ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize)
}

/// Whether something of this probability happens now; as [`fill`].
pub(super) fn hit(rate: Rate) -> bool {
    below(Rate::ALWAYS.as_millionths() as usize) < rate.as_millionths() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> [u8; 40] {
        let mut out = [0; 40];
        fill(&mut out);
        out
    }

    #[test]
    fn each_machine_goes_on_where_it_was() {
        let [mut a, mut b, mut whole] = [1, 2, 1].map(|seed| Stream::new([seed; 32]));
        let first = a.enter(bytes);
        let (nested, own) = b.enter(|| (a.enter(bytes), bytes()));
        assert_eq!([first, nested], whole.enter(|| [bytes(), bytes()]));
        assert_eq!(own, Stream::new([2; 32]).enter(bytes));
        assert_eq!(b.enter(bytes), Stream::new([2; 32]).enter(|| [bytes(), bytes()])[1]);
    }

    #[test]
    fn a_panic_leaves_no_stream_behind() {
        let mut stream = Stream::new([3; 32]);
        let outcome = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
            stream.enter(|| {
                bytes();
                panic!("as meant");
            })
        }));
        assert!(outcome.is_err());
        assert_eq!(stream.enter(bytes), Stream::new([3; 32]).enter(|| [bytes(), bytes()])[1]);
        assert!(CURRENT.with_borrow(Option::is_none));
    }

    #[test]
    #[should_panic(expected = "Stream::enter")]
    fn nobody_draws_outside() {
        bytes();
    }

    #[test]
    fn draws_are_in_their_bounds() {
        Stream::new([4; 32]).enter(|| {
            assert_eq!(below(0), 0);
            assert!((0..1000).all(|_| below(3) < 3));
            assert!((0..1000).all(|_| hit(Rate::ALWAYS) && !hit(Rate::NEVER)));
            let hits = (0..1000).filter(|_| hit(Rate::percent(30))).count();
            assert!((200..400).contains(&hits), "{hits}");
        });
    }
}
