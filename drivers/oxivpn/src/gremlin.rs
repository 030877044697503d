//! OpenVPN's fault injector between the program and its sockets, for tests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use oxivpn_profile::profile::GremlinOptions;
use oxivpn_proto::Instant;
use oxivpn_proto::gremlin::{Gremlin, Mask};

use crate::log::Log;
use crate::{entropy, say};

/// The faults of one client or server, asked about each packet by whoever reads or writes one.
///
/// There is none unless the profile wants it, which is all that a packet costs then. After SIGHUP there is a new one.
pub struct Faults {
    gremlin: Mutex<Gremlin>,
    mask: Mask,
    log: Arc<Log>,
}

impl Faults {
    /// What the profile wants, if it wants faults at all; says so in the log.
    pub fn new(options: Option<GremlinOptions>, now: Instant, log: &Arc<Log>) -> Result<Option<Arc<Self>>> {
        let Some(GremlinOptions { mask, seed }) = options else { return Ok(None) };
        let number = match seed {
            Some(number) => number,
            None => {
                let mut bytes = [0; 8];
                entropy::fill(&mut bytes)?;
                u64::from_le_bytes(bytes)
            }
        };
        let bits = u32::from(mask);
        say!(
            log,
            Warn,
            "WARNING: gremlin: mask {bits}, seed {number}: packets are lost, damaged or made up on purpose, so use it for \
             tests only; `gremlin {bits} {number}` makes the same faults again"
        );
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let faults = Self { gremlin: Mutex::new(Gremlin::new(mask, seed, now)), mask, log: log.clone() };
        faults.tell_outage(&mut faults.lock(), now, None);
        Ok(Some(Arc::new(faults)))
    }

    /// A packet came from the network: what is left of it, which lies in `scratch` if it was damaged. `None` if it is
    /// lost.
    pub fn incoming<'a>(
        &self,
        now: Instant,
        packet: &'a mut [u8],
        scratch: &'a mut Vec<u8>,
    ) -> Option<&'a mut [u8]> {
        self.ask(now, |gremlin| gremlin.incoming_in_place(now, packet, scratch))
    }

    /// Whether a packet leaves that should.
    pub fn outgoing(&self, now: Instant) -> bool {
        self.ask(now, |gremlin| gremlin.outgoing(now))
    }

    /// See [`Gremlin::flood_deadline`].
    pub fn flood_deadline(&self) -> Option<Instant> {
        self.lock().flood_deadline()
    }

    /// See [`Gremlin::packet_flood`]; the log tells of it as OpenVPN's does.
    pub fn packet_flood(&self, now: Instant, limit: usize, packet: &mut Vec<u8>) -> u32 {
        let count = self.lock().packet_flood(now, limit, packet);
        if count > 0 {
            let size = packet.len();
            say!(
                self.log,
                Notice,
                "GREMLIN_FLOOD_CLIENTS: flooding clients with {count} packets of size {size}"
            );
            self.log.flush();
        }
        count
    }

    /// How far a session may get before it is ended; `None` if there is no such limit.
    pub fn connection_flood(&self) -> Option<u8> {
        Some(self.mask.connection_flood).filter(|level| *level > 0)
    }

    /// Writes what was done so far to the log.
    pub fn statistics(&self) {
        let counts = self.lock().counts();
        say!(
            self.log,
            Info,
            "gremlin: of {} packets read {} lost, {} damaged; of {} packets to write {} lost; {} more lost in outages; {} \
             made up",
            counts.incoming,
            counts.incoming_dropped,
            counts.corrupted,
            counts.outgoing,
            counts.outgoing_dropped,
            counts.down,
            counts.flooded
        );
    }

    fn ask<T>(&self, now: Instant, question: impl FnOnce(&mut Gremlin) -> T) -> T {
        let mut gremlin = self.lock();
        let before = gremlin.next_change();
        let answer = question(&mut gremlin);
        self.tell_outage(&mut gremlin, now, before);
        answer
    }

    /// Tells of a change since `before` as OpenVPN does (`openvpn: gremlin.c`, `ask_gremlin`).
    fn tell_outage(&self, gremlin: &mut Gremlin, now: Instant, before: Option<Instant>) {
        let Some(next) = gremlin.next_change().filter(|next| Some(*next) != before) else { return };
        let state = if gremlin.is_up(now) { "UP" } else { "DOWN" };
        let seconds = (next - now).as_nanos().div_ceil(1_000_000_000);
        say!(self.log, Notice, "GREMLIN: CONNECTION GOING {state} FOR {seconds} SECONDS");
        // The thread that would write it may have nothing to do for long.
        self.log.flush();
    }

    /// A thread that panicked with it has said so, and left numbers that are as good as any.
    fn lock(&self) -> MutexGuard<'_, Gremlin> {
        self.gremlin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl core::fmt::Debug for Faults {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Faults").field("mask", &self.mask).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::io::{self, Write};

    use super::*;

    impl Faults {
        /// Faults with a log that nobody sees.
        pub(crate) fn quiet(mask: u32, seed: u64) -> Arc<Self> {
            let options = GremlinOptions { mask: Mask::from(mask), seed: Some(seed) };
            let log = Arc::new(Log::plain(Box::new(io::sink()), 0));
            Self::new(Some(options), crate::clock::now(), &log).unwrap().unwrap()
        }

        /// What was done so far.
        pub(crate) fn counts(&self) -> oxivpn_proto::gremlin::Counts {
            self.lock().counts()
        }
    }

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Faults from time zero, and what they write to the log.
    fn faults(mask: u32, seed: Option<u64>) -> (Arc<Faults>, Memory) {
        let memory = Memory::default();
        let log = Arc::new(Log::plain(Box::new(memory.clone()), 4));
        let options = GremlinOptions { mask: Mask::from(mask), seed };
        (Faults::new(Some(options), Instant::ZERO, &log).unwrap().unwrap(), memory)
    }

    fn text(memory: &Memory) -> String {
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn nobody_has_faults_by_accident() {
        let log = Arc::new(Log::plain(Box::new(io::sink()), 4));
        assert!(Faults::new(None, Instant::ZERO, &log).unwrap().is_none());
    }

    #[test]
    fn the_log_says_how_to_have_the_same_again() {
        let (_, memory) = faults(96, None);
        let shown = text(&memory);
        let (start, end) = ("WARNING: gremlin: mask 96, seed ", "makes the same faults again\n");
        assert!(shown.starts_with(start) && shown.ends_with(end), "{shown}");
        let seed: u64 = shown[start.len()..].split(':').next().unwrap().parse().unwrap();
        assert!(shown.contains(&format!("`gremlin 96 {seed}`")), "{shown}");
        assert_eq!(shown.lines().count(), 1, "{shown}");
        let other = text(&faults(96, None).1);
        assert_ne!(other, shown, "a seed is drawn each time");
        assert!(text(&faults(96, Some(5)).1).contains("mask 96, seed 5: "));
    }

    #[test]
    fn outages_are_told_once_as_openvpn_tells_them() {
        let (faults, memory) = faults(384, Some(1));
        for second in 0..400 {
            faults.outgoing(Instant::ZERO + Duration::from_secs(second));
        }
        let shown = text(&memory);
        let lines: Vec<&str> = shown.lines().skip(1).collect();
        assert!(lines.len() >= 4, "{shown}");
        for (index, line) in lines.iter().enumerate() {
            let (state, low, high) = if index % 2 == 0 { ("UP", 5, 10) } else { ("DOWN", 10, 120) };
            let rest = line.strip_prefix(&format!("GREMLIN: CONNECTION GOING {state} FOR ")).unwrap();
            let seconds: u64 = rest.strip_suffix(" SECONDS").unwrap().parse().unwrap();
            assert!((low..=high).contains(&seconds), "{line}");
        }
        faults.statistics();
        let counts = faults.counts();
        assert!(counts.down > 200 && counts.outgoing == 400, "{counts:?}");
        let end =
            format!("of 400 packets to write 0 lost; {} more lost in outages; 0 made up\n", counts.down);
        assert!(text(&memory).ends_with(&end), "{}", text(&memory));
    }
}
