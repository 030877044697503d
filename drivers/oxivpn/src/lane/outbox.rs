//! Sealed packets on their way to the network.

use oxivpn_net::Ecn;
use oxivpn_proto::Path;
use oxivpn_proto::wire::stream::frame_header;

/// Bytes for sealed packets. At least [`SUPER`] must be free before a packet is read from the device, so that a turn
/// seals the better part of it at least.
const CAPACITY: usize = 256 * 1024;

/// Bytes that the packets cut from one super-packet take when they are sealed, unless they are very small: 65,535 bytes
/// in pieces of 150 bytes each with headers of its own.
const SUPER: usize = 96 * 1024;

/// Bytes of one datagram run: a frame of the network that reaches 65,536 bytes is cut in software, so a run stays
/// below it with its headers.
const MAX_RUN: usize = 64_000;

/// Datagrams of one run: what all kernels with segmentation take.
const MAX_SEGMENTS: usize = 64;

/// Runs that may wait.
const MAX_RUNS: usize = 512;

/// Packets of one path and mark, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where they go.
    pub path: Path,
    /// Bytes of each packet but the last, which may be shorter. Frames on a stream have any length, and their length
    /// in front.
    pub segment: usize,
    /// What their outer headers say of congestion.
    pub ecn: Ecn,
    /// First byte in the slab.
    start: usize,
    /// Behind the last byte.
    end: usize,
    /// A packet behind a shorter one begins another run.
    closed: bool,
}

/// Sealed packets, back to back in one slab and in the order of their sealing.
///
/// A packet's payload is written to its final place, [`reserve`](Self::reserve)d behind the packet before, and sealed
/// there; [`commit`](Self::commit) takes it in. Packets of one path, size and mark become one run, which a kernel takes with
/// one call.
#[derive(Debug)]
pub struct Outbox {
    slab: Box<[u8]>,
    /// Behind the last committed packet.
    end: usize,
    runs: Vec<Run>,
    /// The first run that has not left yet.
    first: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            slab: vec![0; CAPACITY].into_boxed_slice(),
            end: 0,
            runs: Vec::with_capacity(MAX_RUNS),
            first: 0,
        }
    }
}

impl Outbox {
    /// Whether another packet may be read from the device, be it a super-packet.
    pub const fn has_room(&self) -> bool {
        self.slab.len() - self.end >= SUPER && self.runs.len() < MAX_RUNS / 2
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.first == self.runs.len()
    }

    /// `len` free bytes behind the last packet; `None` if there is no room for them.
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.runs.len() == MAX_RUNS {
            return None;
        }
        self.slab.get_mut(self.end..self.end + len)
    }

    /// Takes the packet that was sealed at `start` of the reserved bytes. For a stream its length goes in front, for
    /// which two bytes must be free there.
    #[inline]
    pub fn commit(&mut self, path: Path, start: usize, len: usize) {
        self.commit_marked(path, Ecn::NotEct, start, len);
    }

    /// As [`commit`](Self::commit), for a packet that is to leave with this mark.
    #[inline]
    pub fn commit_marked(&mut self, path: Path, ecn: Ecn, start: usize, len: usize) {
        let mut start = self.end + start;
        let end = start + len;
        if path.is_stream() {
            // A frame's length always fits: packets are not longer than the device's.
            let Some(prefix) = frame_header(len) else { return };
            start -= prefix.len();
            self.slab[start..start + prefix.len()].copy_from_slice(&prefix);
        }
        if let Some(run) = self.runs.last_mut()
            && run.takes(path, ecn, start, end)
        {
            run.closed = end - start < run.segment;
            run.end = end;
        } else {
            self.runs.push(Run { path, segment: end - start, ecn, start, end, closed: false });
        }
        self.end = end;
    }

    /// The next run to send, and its bytes.
    #[inline]
    pub fn next(&self) -> Option<(Run, &[u8])> {
        let run = *self.runs.get(self.first)?;
        Some((run, &self.slab[run.start..run.end]))
    }

    /// The first `bytes` of the next run have left; they must be whole packets.
    pub fn sent(&mut self, bytes: usize) {
        let Some(run) = self.runs.get_mut(self.first) else { return };
        run.start = (run.start + bytes).min(run.end);
        // What is left of a run that did not leave as a whole stays a run of its own.
        run.closed = true;
        if run.start == run.end {
            self.first += 1;
        }
        if self.is_empty() {
            self.clear();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.runs.clear();
        (self.first, self.end) = (0, 0);
    }
}

impl Run {
    /// Whether a packet at `start..end` of the slab belongs to this run.
    #[inline]
    fn takes(&self, path: Path, ecn: Ecn, start: usize, end: usize) -> bool {
        self.end == start
            && self.path == path
            && self.ecn == ecn
            && (path.is_stream()
                || !self.closed
                    && end - start <= self.segment
                    && end - self.start <= MAX_RUN
                    && start - self.start < self.segment * MAX_SEGMENTS)
    }

    /// Number of bytes.
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is left of it.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

#[cfg(test)]
mod tests {
    use oxivpn_proto::StreamId;

    use super::*;

    fn peer(port: u16) -> Path {
        Path::udp(0, ([192, 0, 2, 1], port).into())
    }

    /// Seals packets of these lengths, each behind `front` bytes that become part of it.
    fn put(outbox: &mut Outbox, path: Path, lens: &[usize]) {
        for (n, &len) in lens.iter().enumerate() {
            let start = if path.is_stream() { 2 } else { 0 };
            let cell = outbox.reserve(start + len).unwrap();
            cell[start..].fill(n as u8);
            outbox.commit(path, start, len);
        }
    }

    fn runs(outbox: &mut Outbox) -> Vec<(Path, usize, usize)> {
        let mut runs = Vec::new();
        while let Some((run, bytes)) = outbox.next() {
            assert_eq!(bytes.len(), run.len());
            runs.push((run.path, run.segment, run.len()));
            let len = run.len();
            outbox.sent(len);
        }
        assert!(outbox.is_empty() && outbox.has_room());
        runs
    }

    #[test]
    fn equal_packets_of_one_path_are_a_run_and_a_shorter_one_ends_it() {
        let mut outbox = Outbox::default();
        put(&mut outbox, peer(1), &[100, 100, 100, 60, 60, 70, 70]);
        put(&mut outbox, peer(2), &[70]);
        put(&mut outbox, peer(1), &[70]);
        let expected = [
            (peer(1), 100, 360),
            (peer(1), 60, 60),
            (peer(1), 70, 140),
            (peer(2), 70, 70),
            (peer(1), 70, 70),
        ];
        assert_eq!(runs(&mut outbox), expected);
    }

    #[test]
    fn another_mark_begins_another_run() {
        let mut outbox = Outbox::default();
        for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect0, Ecn::Ce, Ecn::NotEct, Ecn::NotEct] {
            outbox.reserve(100).unwrap().fill(1);
            outbox.commit_marked(peer(1), ecn, 0, 100);
        }
        let marks = core::iter::from_fn(|| {
            let (run, bytes) = outbox.next()?;
            let len = bytes.len();
            outbox.sent(len);
            Some((run.ecn, len))
        });
        let expected = [(Ecn::NotEct, 100), (Ecn::Ect0, 200), (Ecn::Ce, 100), (Ecn::NotEct, 200)];
        assert_eq!(marks.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_run_is_no_longer_than_a_kernel_takes() {
        let mut outbox = Outbox::default();
        put(&mut outbox, peer(1), &[1424; 50]);
        assert_eq!(runs(&mut outbox), [(peer(1), 1424, 44 * 1424), (peer(1), 1424, 6 * 1424)]);
        put(&mut outbox, peer(1), &[80; 150]);
        assert_eq!(
            runs(&mut outbox),
            [(peer(1), 80, 64 * 80), (peer(1), 80, 64 * 80), (peer(1), 80, 22 * 80)]
        );
    }

    #[test]
    fn frames_are_a_ready_stream() {
        let mut outbox = Outbox::default();
        let path = Path::Stream(StreamId(7));
        put(&mut outbox, path, &[3, 1, 300]);
        let (run, bytes) = outbox.next().unwrap();
        assert_eq!((run.path, run.len()), (path, 3 + 1 + 300 + 6));
        assert_eq!(bytes[..9], [0, 3, 0, 0, 0, 0, 1, 1, 1]);
        assert_eq!(bytes[9..11], [44, 2]);
    }

    #[test]
    fn what_is_left_of_a_run_comes_before_what_is_added() {
        let mut outbox = Outbox::default();
        put(&mut outbox, peer(1), &[100; 10]);
        outbox.sent(300);
        put(&mut outbox, peer(1), &[100; 2]);
        assert_eq!(runs(&mut outbox), [(peer(1), 100, 700), (peer(1), 100, 200)]);
    }

    #[test]
    fn bytes_that_are_not_taken_in_stay_free() {
        let mut outbox = Outbox::default();
        outbox.reserve(500).unwrap().fill(9);
        put(&mut outbox, peer(1), &[100]);
        assert_eq!(runs(&mut outbox), [(peer(1), 100, 100)]);
        assert!(outbox.reserve(CAPACITY).is_some() && outbox.reserve(CAPACITY + 1).is_none());
    }

    #[test]
    fn a_full_outbox_takes_nothing_and_recovers() {
        let mut outbox = Outbox::default();
        let mut taken = 0;
        while outbox.has_room() {
            put(&mut outbox, peer(1), &[1400]);
            taken += 1;
        }
        assert!(taken > 100 && outbox.reserve(SUPER - 1400).is_some());
        assert_eq!(runs(&mut outbox).iter().map(|run| run.2).sum::<usize>(), taken * 1400);
        // Runs are as few as bytes: a path that changes with each packet fills the outbox as well.
        let many = (0..).take_while(|&n: &u16| {
            let room = outbox.reserve(10).is_some();
            if room {
                outbox.commit(peer(n), 0, 10);
            }
            room
        });
        assert_eq!(many.count(), MAX_RUNS);
    }
}
