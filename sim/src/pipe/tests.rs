use proptest::prelude::*;

use super::*;

const ENDS: [End; 2] = [End::A, End::B];
const MILLI: Duration = Duration::from_millis(1);

fn milli(n: u32) -> Instant {
    Instant::ZERO + MILLI * n
}

fn faults() -> impl Strategy<Value = PipeFaults> {
    let time = || (0..50u32).prop_map(|n| MILLI * n);
    let rate = || prop_oneof![Just(0), 0..100u32, Just(100)].prop_map(Rate::percent);
    (time(), time(), rate(), 1..3000usize, (0..100u32).prop_map(Rate::percent), time()).prop_map(
        |(delay, jitter, chunks, buffer, stall, stall_for)| PipeFaults {
            delay,
            jitter,
            chunks,
            buffer,
            stall,
            stall_for,
            ..PipeFaults::NONE
        },
    )
}

/// A program at each end: what it has to say, what it heard.
#[derive(Default)]
struct Program {
    says: Vec<u8>,
    said: usize,
    heard: Vec<u8>,
}

struct Run {
    pipe: Pipe,
    now: Instant,
    programs: [Program; 2],
}

impl Run {
    fn new(faults: PipeFaults, seed: u64, lengths: [usize; 2]) -> Self {
        let seeds = SeedTree::new(seed);
        let programs = [0, 1].map(|index| {
            let mut says = vec![0; lengths[index as usize]];
            seeds.draws(crate::seed::Purpose::Content, index, 0).fill(&mut says);
            Program { says, ..Program::default() }
        });
        Self { pipe: Pipe::new(faults, &seeds, 3), now: Instant::ZERO, programs }
    }

    fn read(&mut self, end: End) {
        while let Some(chunk) = self.pipe.poll_read(self.now, end) {
            assert!(!chunk.is_empty());
            self.programs[end as usize].heard.extend(chunk);
            self.check();
        }
        assert!(self.pipe.readable(end).is_none_or(|at| at > self.now), "all was read");
    }

    fn write(&mut self, end: End, most: usize) {
        let program = &mut self.programs[end as usize];
        let rest = &program.says[program.said..];
        let (room, offered) = (self.pipe.room(end), rest.len().min(most));
        let taken = self.pipe.write(self.now, end, &rest[..offered]);
        assert!(taken == room.min(offered), "{taken} of {offered}, room for {room}");
        program.said += taken;
        self.check();
    }

    /// What is true at all times.
    fn check(&self) {
        for end in ENDS {
            let (c, transit) = (self.pipe.counters(end), self.pipe.in_transit(end));
            assert_eq!(c.written, c.read + c.discarded + transit as u64, "{:?}", self.pipe);
            assert!(transit <= self.pipe.faults().buffer);
            let (program, other) = (&self.programs[end as usize], &self.programs[end.other() as usize]);
            assert_eq!((c.written, c.read), (program.said as u64, other.heard.len() as u64));
            assert!(program.says.starts_with(&other.heard), "what was heard was said, in that order");
        }
    }

    /// Until nothing happens any more: both write all, read all and close, `end` first.
    fn finish(&mut self, end: End) {
        for _ in 0..1_000_000 {
            ENDS.into_iter().for_each(|end| self.read(end));
            ENDS.into_iter().for_each(|end| self.write(end, 997));
            let done = ENDS.iter().all(|&end| {
                let program = &self.programs[end as usize];
                program.said == program.says.len() && self.pipe.in_transit(end) == 0
            });
            if done && !self.pipe.is_closed(end) {
                self.pipe.close(self.now, end);
            }
            let Some(next) = self.pipe.deadline() else { return };
            self.now = self.now.max(next);
        }
        panic!("never ends: {:?}", self.pipe);
    }
}

proptest! {
    /// All that was written is read, in order and unchanged, whatever the chunks and stalls; then both ends
    /// see the end.
    #[test]
    fn content_survives(faults in faults(), seed: u64, a in 0..5000usize, b in 0..5000usize, first: bool) {
        let mut run = Run::new(faults, seed, [a, b]);
        run.finish(if first { End::A } else { End::B });
        for end in ENDS {
            prop_assert_eq!(&run.programs[end as usize].says, &run.programs[end.other() as usize].heard);
            prop_assert!(run.pipe.is_closed(end) && !run.pipe.is_reset());
            prop_assert_eq!(run.pipe.counters(end).discarded, 0);
        }
    }

    /// The laws hold at all times, whoever reads, writes, closes, blocks or resets when.
    #[test]
    fn bytes_are_conserved(
        faults in faults(),
        resets in prop_oneof![3 => Just(0), 1 => 0..20u32],
        seed: u64,
        steps in prop::collection::vec((0..20u8, any::<bool>(), 0..2000usize), 1..100),
    ) {
        let faults = PipeFaults { reset: Rate::percent(resets), ..faults };
        let mut run = Run::new(faults, seed, [20_000; 2]);
        for (what, first, size) in steps {
            let end = if first { End::A } else { End::B };
            match what {
                0 => run.pipe.close(run.now, end),
                1 => run.pipe.reset(run.now),
                2 => run.pipe.set_faults(run.now, PipeFaults { blocked: true, ..faults }),
                3 => run.pipe.set_faults(run.now, faults),
                4..8 => run.now = run.now + MILLI * (size as u32 / 20),
                8..14 => run.write_if_open(end, size),
                _ => run.read(end),
            }
            run.check();
            if run.pipe.is_reset() {
                prop_assert!(ENDS.iter().all(|&end| run.pipe.is_closed(end) && run.pipe.in_transit(end) == 0));
            }
            if run.pipe.is_closed(End::A) && run.pipe.is_closed(End::B) {
                prop_assert_eq!(run.pipe.deadline(), None);
            }
        }
    }
}

impl Run {
    /// As `write`, for a stream that a reset may end at this moment.
    fn write_if_open(&mut self, end: End, most: usize) {
        let probe = self.pipe.write(self.now, end, &[]);
        assert_eq!(probe, 0);
        self.write(end, most);
    }
}

#[test]
fn the_seed_decides_chunks_and_times() {
    let rate = Rate::percent(50);
    let faults =
        PipeFaults { delay: MILLI, jitter: MILLI, chunks: Rate::ALWAYS, stall: rate, ..PipeFaults::NONE };
    let trace = |seed| {
        let mut run = Run::new(faults, seed, [0; 2]);
        run.pipe.write(run.now, End::A, &[7; 100_000]);
        let mut trace = Vec::new();
        while let Some(at) = run.pipe.deadline() {
            trace.push((at, run.pipe.poll_read(at, End::B).map(|chunk| chunk.len())));
        }
        trace
    };
    let first = trace(1);
    assert_eq!(first, trace(1));
    assert_ne!(first, trace(2));
    let sizes: Vec<_> = first.iter().filter_map(|(_, size)| *size).collect();
    assert!(
        sizes.contains(&1) && sizes.iter().any(|&n| (2..=16).contains(&n)) && sizes.iter().any(|&n| n > 99)
    );
}

#[test]
fn no_fault_no_draw_and_one_piece() {
    let seeds = SeedTree::new(1);
    let mut pipe = Pipe::new(PipeFaults { delay: MILLI, ..PipeFaults::NONE }, &seeds, 0);
    (0..3).for_each(|n| assert_eq!(pipe.write(Instant::ZERO, End::B, &[n; 2]), 2));
    assert_eq!((pipe.deadline(), pipe.readable(End::B)), (Some(milli(1)), None));
    assert_eq!(pipe.poll_read(Instant::ZERO, End::A), None);
    assert_eq!(pipe.poll_read(milli(1), End::A), Some(vec![0, 0, 1, 1, 2, 2]));
    assert_eq!((pipe.deadline(), seeds.digest()), (None, 0));
}

#[test]
fn a_stall_ends() {
    let faults = PipeFaults { stall: Rate::ALWAYS, stall_for: MILLI * 100, ..PipeFaults::NONE };
    let mut pipe = Pipe::new(faults, &SeedTree::new(1), 0);
    pipe.write(Instant::ZERO, End::A, b"abc");
    assert_eq!(pipe.poll_read(Instant::ZERO, End::B), None);
    let until = pipe.deadline().unwrap();
    assert!(until > Instant::ZERO && until <= milli(100) && pipe.counters(End::A).stalls == 1);
    // The other direction has its own.
    pipe.write(Instant::ZERO, End::B, b"xyz");
    assert_eq!(pipe.readable(End::A), Some(Instant::ZERO));
    assert_eq!(pipe.poll_read(until, End::B), Some(b"abc".to_vec()));
    // Other faults end it at once.
    pipe.write(until, End::A, b"def");
    assert_eq!(pipe.poll_read(until, End::B), None);
    pipe.set_faults(until, PipeFaults::NONE);
    assert_eq!(pipe.poll_read(until, End::B), Some(b"def".to_vec()));
}

#[test]
fn both_ends_see_a_reset() {
    // On command.
    let mut pipe = Pipe::new(PipeFaults { delay: MILLI, ..PipeFaults::NONE }, &SeedTree::new(1), 0);
    ENDS.into_iter().for_each(|end| assert_eq!(pipe.write(milli(0), end, b"abc"), 3));
    assert_eq!(pipe.poll_read(milli(1), End::A), Some(b"abc".to_vec()));
    pipe.reset(milli(1));
    assert!(pipe.is_reset() && ENDS.iter().all(|&end| pipe.is_closed(end)));
    assert_eq!((pipe.counters(End::A).discarded, pipe.counters(End::B).discarded), (3, 0));
    assert_eq!((pipe.poll_read(milli(2), End::B), pipe.deadline()), (None, None));
    assert_eq!(ENDS.map(|end| pipe.write(milli(2), end, b"abc")), [0, 0]);

    // Drawn: it happens when the bytes would arrive, whoever looks.
    for looks in ENDS {
        let faults = PipeFaults { delay: MILLI, reset: Rate::ALWAYS, ..PipeFaults::NONE };
        let mut pipe = Pipe::new(faults, &SeedTree::new(1), 0);
        pipe.write(milli(0), End::A, b"abc");
        assert!(pipe.poll_read(milli(0), looks).is_none() && !pipe.is_reset());
        assert_eq!(pipe.deadline(), Some(milli(1)));
        assert!(pipe.poll_read(milli(1), looks).is_none() && pipe.is_reset() && pipe.deadline().is_none());
        assert!(ENDS.iter().all(|&end| pipe.is_closed(end)));
    }
    // Its rate is by write.
    let faults = PipeFaults { reset: Rate::percent(10), ..PipeFaults::NONE };
    let lived = (0..300).map(|seed| {
        let mut pipe = Pipe::new(faults, &SeedTree::new(seed), 0);
        (0..1000).take_while(|n| pipe.write(milli(*n), End::A, b"abc") > 0).count()
    });
    let mean = lived.sum::<usize>() / 300;
    assert!((8..=12).contains(&mean), "{mean}");
}

#[test]
fn an_end_that_closed_is_gone() {
    let mut pipe = Pipe::new(PipeFaults { delay: MILLI, ..PipeFaults::NONE }, &SeedTree::new(1), 0);
    ENDS.into_iter().for_each(|end| assert_eq!(pipe.write(milli(0), end, b"abc"), 3));
    pipe.close(milli(0), End::A);
    assert!(pipe.is_closed(End::A) && !pipe.is_closed(End::B));
    assert_eq!((pipe.write(milli(0), End::A, b"d"), pipe.room(End::A)), (0, 0));
    // What comes for it is thrown away; the other end may not know yet.
    assert_eq!((pipe.write(milli(0), End::B, b"de"), pipe.counters(End::B).discarded), (2, 5));
    assert_eq!(pipe.poll_read(milli(1), End::A), None);
    // What it said is heard to the end.
    assert_eq!(pipe.poll_read(milli(1), End::B), Some(b"abc".to_vec()));
    assert_eq!((pipe.poll_read(milli(1), End::B), pipe.is_closed(End::B)), (None, true));
    assert!(!pipe.is_reset() && pipe.deadline().is_none());
    pipe.reset(milli(2));
    assert!(!pipe.is_reset(), "there is nothing to reset");
}

#[test]
fn blocked_until_healed() {
    let mut pipe = Pipe::new(PipeFaults::BLOCKED, &SeedTree::new(1), 0);
    pipe.write(milli(0), End::A, b"abc");
    pipe.close(milli(0), End::A);
    assert_eq!((pipe.deadline(), pipe.poll_read(milli(1000), End::B)), (None, None));
    pipe.set_faults(milli(1000), PipeFaults::NONE);
    assert_eq!(pipe.poll_read(milli(1000), End::B), Some(b"abc".to_vec()));
    assert!(pipe.poll_read(milli(1000), End::B).is_none() && pipe.is_closed(End::B));
}
