//! What goes from one thread to the other: whole batches, by swapping a vector.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use oxivpn_proto::Path;

/// A mailbox of one receiver. The receiver takes all that is there at once and gives its own empty vector for it, so
/// that after a while nothing is allocated; it is woken once until it looks.
pub(crate) struct Mailbox<T> {
    items: Mutex<Vec<T>>,
    awake: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl<T> Mailbox<T> {
    /// An empty one. `wake` makes the receiver call [`take`](Self::take) soon.
    pub(crate) fn new(wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { items: Mutex::default(), awake: AtomicBool::new(false), wake }
    }

    pub(crate) fn send(&self, item: T) {
        lock(&self.items).push(item);
        self.wake();
    }

    /// Sends all of `items`, which is empty afterwards.
    pub(crate) fn send_all(&self, items: &mut Vec<T>) {
        if items.is_empty() {
            return;
        }
        let mut mailbox = lock(&self.items);
        if mailbox.is_empty() {
            core::mem::swap(&mut *mailbox, items);
        } else {
            mailbox.append(items);
        }
        drop(mailbox);
        self.wake();
    }

    /// How many items wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.items).len()
    }

    /// From now on whoever sends wakes again.
    pub(crate) fn rest(&self) {
        self.awake.store(false, Ordering::SeqCst);
    }

    /// Swaps what came with `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut Vec<T>) {
        // Before the look, so that nothing that comes after it is missed.
        self.rest();
        core::mem::swap(&mut *lock(&self.items), into);
    }

    /// Wakes the receiver, though it may be about to look: for something that it looks for before its mail.
    pub(crate) fn wake_anyway(&self) {
        self.awake.store(true, Ordering::SeqCst);
        (self.wake)();
    }

    /// Wakes the receiver unless it was woken since it last looked.
    pub(crate) fn wake(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
    }
}

/// A thread that died while it held the lock left a whole vector behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of control packets that wait for the control thread: the first flights of about 150 handshakes, or a few
/// milliseconds of a flood.
const MAX_BYTES: usize = 192 * 1024;

/// Control packets that wait for the control thread.
const MAX_PACKETS: usize = 1024;

/// Control packets on their way to the control thread, one after the other in one buffer of fixed size.
pub struct Packets {
    bytes: Vec<u8>,
    index: Vec<(Path, usize)>,
}

impl Packets {
    /// An empty one. All its memory is taken now.
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::with_capacity(MAX_BYTES), index: Vec::with_capacity(MAX_PACKETS) }
    }

    /// One that holds nothing, to stand in for another.
    pub const fn none() -> Self {
        Self { bytes: Vec::new(), index: Vec::new() }
    }

    /// Takes a packet if there is room; whether there was.
    pub(crate) fn push(&mut self, path: Path, packet: &[u8]) -> bool {
        if self.index.len() == MAX_PACKETS || self.bytes.len() + packet.len() > MAX_BYTES {
            return false;
        }
        self.bytes.extend_from_slice(packet);
        self.index.push((path, packet.len()));
        true
    }

    /// The packets in the order they came.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Path, &mut [u8])> {
        let mut rest = self.bytes.as_mut_slice();
        self.index.iter().map(move |&(path, len)| {
            let (packet, behind) = core::mem::take(&mut rest).split_at_mut(len);
            rest = behind;
            (path, packet)
        })
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.index.clear();
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use oxivpn_proto::StreamId;

    use super::*;

    #[test]
    fn a_receiver_is_woken_once_until_it_looks() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = wakes.clone();
        let mailbox = Mailbox::new(Box::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        }));
        mailbox.send(1);
        mailbox.send_all(&mut vec![2, 3]);
        mailbox.send_all(&mut Vec::new());
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
        let mut got = Vec::new();
        mailbox.take(&mut got);
        assert_eq!(got, [1, 2, 3]);
        mailbox.send_all(&mut vec![4]);
        assert_eq!(wakes.load(Ordering::SeqCst), 2);
        got.clear();
        mailbox.take(&mut got);
        assert_eq!(got, [4]);
    }

    #[test]
    fn packets_are_bounded_and_keep_their_order() {
        let mut packets = Packets::new();
        let path = |n| Path::Stream(StreamId(n));
        assert!(
            packets.push(path(1), b"one") && packets.push(path(2), b"") && packets.push(path(3), b"three")
        );
        let got: Vec<_> = packets.iter_mut().map(|(path, bytes)| (path, bytes.to_vec())).collect();
        assert_eq!(got, [(path(1), b"one".to_vec()), (path(2), Vec::new()), (path(3), b"three".to_vec())]);
        packets.clear();
        assert!(packets.is_empty());
        let taken = (0..).take_while(|&n| packets.push(path(n), b"x")).count();
        assert_eq!(taken, MAX_PACKETS);
        packets.clear();
        let taken = (0..).take_while(|&n| packets.push(path(n), &[0; 1500])).count();
        assert_eq!(taken, MAX_BYTES / 1500);
        assert_eq!((packets.bytes.capacity(), packets.index.capacity()), (MAX_BYTES, MAX_PACKETS));
    }
}
