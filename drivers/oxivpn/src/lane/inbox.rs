//! Received packets that have not been opened yet.

use core::ops::Range;
use std::io;

use oxivpn_net::{Ecn, UdpSocket};
use oxivpn_proto::wire::stream::{Deframer, FramingError};
use oxivpn_proto::{Instant, Path};

use crate::gremlin::Faults;

/// From one reception to the next, in bytes: as much as the kernel joins, and a few lines of the processor's caches
/// more, so that the packets that come first do not all fall to the same ones.
const STRIDE: usize = 65_536 + 192;

/// Receptions that are taken in at most. Datagrams that the kernel did not join take a place each, and some 45 of them
/// make the largest piece that the device takes. Where nothing was received, no memory is used.
const RECEPTIONS: usize = 4 * UdpSocket::BATCH;

/// Bytes that one call may bring: the kernel joins datagrams to at most 65,535, and a stream brings up to twice as much
/// with what was left of it.
pub const MOST: usize = 2 * 65_537;

/// Packets that are taken in: a batch of receptions of as many datagrams as kernels join, 64 of 128 that they might.
const MAX_PACKETS: usize = UdpSocket::BATCH * 128;

/// A packet in the slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where it came from.
    pub path: Path,
    /// First byte in the slab.
    pub start: usize,
    /// Number of bytes.
    pub len: usize,
    /// What its outer header says of congestion.
    pub ecn: Ecn,
}

/// Received packets, one after the other in one slab and in the order they came. They are opened where they lie.
#[derive(Debug)]
pub struct Inbox {
    slab: Box<[u8]>,
    end: usize,
    packets: Vec<Received>,
    singles: u64,
    damaged: Vec<u8>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self::with_room(RECEPTIONS)
    }
}

impl Inbox {
    /// One for so many receptions.
    pub(crate) fn with_room(receptions: usize) -> Self {
        Self {
            slab: vec![0; receptions * STRIDE].into_boxed_slice(),
            end: 0,
            packets: Vec::with_capacity(MAX_PACKETS),
            singles: 0,
            damaged: Vec::new(),
        }
    }

    /// Whether [`room`](Self::room) is enough for whatever comes next.
    pub const fn has_room(&self) -> bool {
        self.slab.len() - self.end >= MOST && self.packets.len() < MAX_PACKETS / 4
    }

    /// Where to receive.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.slab[self.end..]
    }

    /// Receives what one call brings, from a socket. Whether the socket has no more.
    ///
    /// # Errors
    /// The socket's.
    pub fn receive(&mut self, socket: &UdpSocket, number: u16) -> io::Result<bool> {
        let (begin, packets, singles) = (self.end, &mut self.packets, &mut self.singles);
        let room = &mut self.slab[begin..];
        let asked = (room.len() / STRIDE).min(UdpSocket::BATCH);
        let got = socket.recv_batch(&mut room[..asked * STRIDE], STRIDE, |start, received| {
            let path = Path::Datagram { socket: number, remote: received.remote, local: received.local };
            push(packets, (path, received.ecn), begin + start, received.len, received.segment);
            *singles += u64::from(received.segment == received.len);
        })?;
        self.end += got * STRIDE;
        Ok(got < asked)
    }

    /// Takes `len` bytes at the front of the room as datagrams of `segment` bytes each, the last of which may be
    /// shorter. An empty datagram counts as one.
    pub fn push_datagrams(&mut self, path: Path, len: usize, segment: usize) {
        let len = len.min(self.slab.len() - self.end);
        push(&mut self.packets, (path, Ecn::NotEct), self.end, len, segment);
        self.end += len;
    }

    /// Takes the packets of the whole frames among `len` bytes at the front of the room. The bytes of those frames are
    /// given back as a number; what is behind them must come again with the next bytes of the stream.
    ///
    /// # Errors
    /// A frame that can't be; the packets before it were taken.
    pub fn push_frames(
        &mut self,
        path: Path,
        len: usize,
        deframer: Deframer,
    ) -> (usize, Result<(), FramingError>) {
        let begin = self.end;
        let end = (begin + len).min(self.slab.len());
        let result = loop {
            if self.packets.len() == MAX_PACKETS {
                break Ok(());
            }
            match deframer.first(&self.slab[self.end..end]) {
                Ok(Some(frame)) => {
                    let start = self.end + frame.start;
                    self.packets.push(Received { path, start, len: frame.len(), ecn: Ecn::NotEct });
                    self.end += frame.end;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        (self.end - begin, result)
    }

    /// Copies bytes behind the last packet, though not as one; where they lie. `None` if there is no room.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Option<Range<usize>> {
        let at = self.end..self.end + bytes.len();
        self.slab.get_mut(at.clone())?.copy_from_slice(bytes);
        self.end = at.end;
        Some(at)
    }

    /// How many datagrams were ever received that the kernel had not joined with others.
    pub const fn singles(&self) -> u64 {
        self.singles
    }

    /// How many packets there are.
    pub const fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packets and the slab they lie in.
    pub fn packets(&mut self) -> (&[Received], &mut [u8]) {
        (&self.packets, &mut self.slab)
    }

    /// The slab.
    pub fn slab(&self) -> &[u8] {
        &self.slab
    }

    /// The slab, to open packets in.
    pub fn slab_mut(&mut self) -> &mut [u8] {
        &mut self.slab
    }

    /// Packet number `index`.
    ///
    /// # Panics
    /// If there are not so many.
    #[inline]
    pub fn packet(&self, index: usize) -> Received {
        self.packets[index]
    }

    /// Where packet number `index` lies, after the faults that are made on purpose. `None` if they took it.
    pub(crate) fn with_faults(
        &mut self,
        now: Instant,
        index: usize,
        faults: &Faults,
    ) -> Option<Range<usize>> {
        let Received { start, len, .. } = *self.packets.get(index)?;
        let mut damaged = core::mem::take(&mut self.damaged);
        let left = faults.incoming(now, &mut self.slab[start..start + len], &mut damaged);
        let left = left.map(|left| (left.as_ptr() as usize, left.len()));
        let at = left.and_then(|(at, len)| match at.checked_sub(damaged.as_ptr() as usize) {
            // A damaged packet may have grown into the one behind it, so it lies behind all of them.
            Some(from) if from + len <= damaged.len() => {
                let to = self.end..self.end + len;
                self.slab.get_mut(to.clone())?.copy_from_slice(&damaged[from..from + len]);
                self.end = to.end;
                Some(to)
            }
            _ => Some(range_in(&self.slab, at, len)),
        });
        self.damaged = damaged;
        at
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.end = 0;
    }
}

/// Takes `len` bytes at `start` as datagrams of `segment` bytes.
fn push(packets: &mut Vec<Received>, (path, ecn): (Path, Ecn), mut start: usize, len: usize, segment: usize) {
    let end = start + len;
    loop {
        let len = segment.min(end - start);
        // Room for all packets of one reception was there when it began, unless they are tiny.
        if packets.len() < MAX_PACKETS {
            packets.push(Received { path, start, len, ecn });
        }
        start += len;
        if start == end || len == 0 {
            return;
        }
    }
}

/// The place in `slab` of `len` bytes of it that begin at the address `at`.
#[inline]
pub(crate) fn range_in(slab: &[u8], at: usize, len: usize) -> Range<usize> {
    let start = at - slab.as_ptr() as usize;
    start..start + len
}

#[cfg(test)]
mod tests {
    use oxivpn_proto::StreamId;

    use super::*;

    const STREAM: Path = Path::Stream(StreamId(1));

    fn all(inbox: &mut Inbox) -> Vec<(Path, Vec<u8>)> {
        let (packets, slab) = inbox.packets();
        packets.iter().map(|p| (p.path, slab[p.start..p.start + p.len].to_vec())).collect()
    }

    #[test]
    fn joined_datagrams_are_cut() {
        let mut inbox = Inbox::default();
        let paths = [1, 2, 3].map(|port| Path::udp(0, ([192, 0, 2, 1], port).into()));
        inbox.room()[..7].copy_from_slice(b"aabbccd");
        inbox.push_datagrams(paths[0], 7, 2);
        inbox.room()[..3].copy_from_slice(b"xyz");
        inbox.push_datagrams(paths[1], 3, 3);
        inbox.push_datagrams(paths[2], 0, 0);
        let expected = [(0, "aa"), (0, "bb"), (0, "cc"), (0, "d"), (1, "xyz"), (2, "")];
        assert_eq!(all(&mut inbox), expected.map(|(path, text)| (paths[path], text.as_bytes().to_vec())));
        inbox.clear();
        assert!(inbox.is_empty() && inbox.has_room());
    }

    #[test]
    fn whole_frames_are_taken_and_the_rest_is_left() {
        let mut inbox = Inbox::default();
        inbox.room()[..9].copy_from_slice(&[0, 2, 7, 8, 0, 1, 9, 0, 3]);
        assert_eq!(inbox.push_frames(STREAM, 9, Deframer::new(10)), (7, Ok(())));
        assert_eq!(all(&mut inbox), [(STREAM, vec![7, 8]), (STREAM, vec![9])]);
        // The start of the third comes again with its end.
        inbox.room()[..5].copy_from_slice(&[0, 3, 1, 2, 3]);
        assert_eq!(inbox.push_frames(STREAM, 5, Deframer::new(10)), (5, Ok(())));
        assert_eq!(all(&mut inbox)[2].1, [1, 2, 3]);
    }

    #[test]
    fn a_bad_frame_does_not_hurt_those_before_it() {
        let mut inbox = Inbox::default();
        inbox.room()[..6].copy_from_slice(&[0, 1, 5, 0, 0, 1]);
        let (taken, result) = inbox.push_frames(STREAM, 6, Deframer::new(10));
        assert_eq!((taken, result.is_err(), inbox.len()), (3, true, 1));
    }

    #[test]
    fn an_inbox_is_bounded() {
        let mut inbox = Inbox::default();
        let mut receptions = 0;
        while inbox.has_room() {
            inbox.push_datagrams(STREAM, MOST, 1);
            receptions += 1;
        }
        assert_eq!((receptions, inbox.len()), (1, MAX_PACKETS));
        inbox.clear();
        while inbox.has_room() {
            inbox.push_datagrams(STREAM, 65_535, 1400);
        }
        assert!((MAX_PACKETS / 4..MAX_PACKETS / 2).contains(&inbox.len()));
    }
}
