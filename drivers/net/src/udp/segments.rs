//! Many datagrams in one call (UDP GSO), and what to do when the kernel won't. No system call is made here.
//!
//! # What goes wrong with `UDP_SEGMENT`
//!
//! - A batch whose frame would reach 65,536 bytes, headers included, is taken and then cut up in software, which costs
//!   as much as single datagrams. Nothing tells. [`MAX_BYTES`] stays clear of it.
//! - A datagram above the path's MTU fails the whole batch, while a single one is fragmented: `EMSGSIZE`, and `EINVAL`
//!   in kernels before 6.14, where the MTU of the path tells it from a refusal for good. The destination and the size
//!   are remembered, and such datagrams go one by one.
//! - `EIO` from interfaces without checksum offload in older kernels, and from paths through IPsec. Other destinations
//!   have other interfaces, so it is remembered as if any size were too large for this one.
//! - `EINVAL` from sockets with `SO_NO_CHECK` and from some drivers (quinn issues 2399 and 2202). It doesn't get better:
//!   batches are given up for the socket.
//!
//! Whatever the reason, the datagrams of a batch that was refused are sent one by one in the same call.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};

use super::Notice;
use crate::error::{Fault, classify};

/// Most datagrams in one call. Newer kernels take 128, all that know `UDP_SEGMENT` take these.
const MAX_SEGMENTS: usize = 64;

/// Most bytes in one call.
const MAX_BYTES: usize = 64_000;

/// Destinations whose refused size is remembered. Two that share a place displace each other, which costs calls only.
/// 4 KiB for each socket.
const PLACES: usize = 1 << PLACE_BITS;

const PLACE_BITS: u32 = 9;

/// Runs that go one by one before a size that was refused is tried again: a path may get better. The failed try costs
/// one call, about as much as a few datagrams.
const RETRY: u16 = 256;

/// How the kernel takes batches on one socket. Shared by the clones of the socket, so that each thing is learnt once.
#[derive(Debug)]
pub(super) struct Segments {
    /// Error for which batches were given up; 0 while they are in use.
    given_up: AtomicI32,
    /// Whether that was told, or need not be.
    told: AtomicBool,
    /// Error for which a destination gets no batches of any size; 0 if there is none, negative once it was told.
    refused: AtomicI32,
    /// Last error that concerned single datagrams; 0 if there was none.
    complaint: AtomicI32,
    /// For a destination, the smallest size that was refused: see [`Place`].
    places: [AtomicU64; PLACES],
}

/// What is remembered of a destination. Packed in 64 bits: tag, size, countdown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    /// Which destination, of those that belong here.
    tag: u32,
    /// Smallest size in bytes that was refused; 0 if the place is empty.
    refused: u16,
    /// Runs until it is tried again.
    left: u16,
}

impl Place {
    const fn pack(self) -> u64 {
        (self.tag as u64) << 32 | (self.refused as u64) << 16 | self.left as u64
    }

    const fn unpack(bits: u64) -> Self {
        Self { tag: (bits >> 32) as u32, refused: (bits >> 16) as u16, left: bits as u16 }
    }
}

/// Where a destination is remembered, and its tag. Any mix will do: a stranger who finds two destinations of one place
/// gains nothing.
fn place(to: IpAddr) -> (usize, u32) {
    let bits = match to {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits() as u64 ^ ((ip.to_bits() >> 64) as u64).rotate_left(29),
    };
    let mixed = (bits ^ bits >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> (64 - PLACE_BITS)) as usize, (mixed >> 16) as u32)
}

impl Segments {
    /// `Ok`: batches are to be used. `Err(0)`: they are not, and that is nobody's news; any other number is the error
    /// for which they can't be used.
    pub(super) fn new(usable: Result<(), i32>) -> Self {
        let error = usable.err();
        Self {
            // Any number that is not 0 will do where nothing is told.
            given_up: AtomicI32::new(
                error.map_or(0, |errno| if errno == 0 { libc::EOPNOTSUPP } else { errno }),
            ),
            told: AtomicBool::new(error == Some(0)),
            refused: AtomicI32::new(0),
            complaint: AtomicI32::new(0),
            places: [const { AtomicU64::new(0) }; PLACES],
        }
    }

    pub(super) fn take_notice(&self) -> Option<Notice> {
        let errno = self.given_up.load(Relaxed);
        if errno != 0 && !self.told.swap(true, Relaxed) {
            return Some(Notice::NoSegmentation { errno });
        }
        let errno = self.refused.load(Relaxed);
        let is_news = errno > 0 && self.refused.compare_exchange(errno, -errno, Relaxed, Relaxed).is_ok();
        is_news.then_some(Notice::SomeWithoutSegmentation { errno })
    }

    pub(super) fn take_complaint(&self) -> Option<io::Error> {
        let errno = self.complaint.swap(0, Relaxed);
        (errno != 0).then(|| io::Error::from_raw_os_error(errno))
    }

    /// Whether datagrams of `segment` bytes for `to` may be sent in batches. Counts the runs that may not.
    fn allows(&self, to: IpAddr, segment: usize) -> bool {
        if self.given_up.load(Relaxed) != 0 {
            return false;
        }
        let (index, tag) = place(to);
        let known = Place::unpack(self.places[index].load(Relaxed));
        if known.refused == 0 || known.tag != tag || segment < usize::from(known.refused) {
            return true;
        }
        // Two threads may count one run: then the next try comes later or earlier, that is all.
        let next = if known.left == 0 { Place::default() } else { Place { left: known.left - 1, ..known } };
        self.places[index].store(next.pack(), Relaxed);
        known.left == 0
    }

    /// Datagrams of `segment` bytes and more go one by one to `to`.
    fn refuse(&self, to: IpAddr, segment: u16) {
        let (index, tag) = place(to);
        let known = Place::unpack(self.places[index].load(Relaxed));
        let same = known.tag == tag && known.refused != 0;
        let refused = if same { known.refused.min(segment) } else { segment };
        self.places[index].store(Place { tag, refused, left: RETRY }.pack(), Relaxed);
    }

    /// Learns from the error of a batch. `path_mtu` tells the MTU of the path, less the headers.
    fn learn(
        &self,
        error: &io::Error,
        to: IpAddr,
        segment: u16,
        path_mtu: impl FnOnce() -> io::Result<usize>,
    ) {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => self.refuse(to, segment),
            Some(libc::EINVAL) => match path_mtu() {
                Ok(mtu) if usize::from(segment) > mtu => self.refuse(to, segment),
                Ok(_) => self.given_up.store(libc::EINVAL, Relaxed),
                // Neither: the destination or our own address is what is not valid.
                Err(_) => {}
            },
            Some(errno @ libc::EIO) => {
                self.refuse(to, 1);
                // Fails if it was noted before.
                let _ = self.refused.compare_exchange(0, errno, Relaxed, Relaxed);
            }
            Some(errno @ libc::EOPNOTSUPP) => self.given_up.store(errno, Relaxed),
            // The network's complaints, and a lack of memory that single datagrams may get around.
            _ => {}
        }
    }

    /// Sends `bytes` to `to` as datagrams of `segment` bytes by `send`, which gets one datagram, or several with their
    /// size. See [`UdpSocket::send_many`](super::UdpSocket::send_many) for the answer.
    pub(super) fn run(
        &self,
        to: IpAddr,
        bytes: &[u8],
        segment: usize,
        mut send: impl FnMut(&[u8], Option<u16>) -> io::Result<()>,
        path_mtu: impl Fn() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let segment = if segment == 0 { bytes.len() } else { segment.min(bytes.len()) };
        let batches = segment < bytes.len() && 2 * segment <= MAX_BYTES && self.allows(to, segment);
        let mut size = batches.then_some(segment as u16);
        let mut taken = 0;
        // Bytes at the front that a batch was refused for.
        let mut single = 0usize;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            let batch = size.filter(|_| single == 0 && rest.len() > segment);
            let len = if batch.is_some() { batch_len(rest.len(), segment) } else { segment.min(rest.len()) };
            let error = match send(&rest[..len], batch) {
                Ok(()) => {
                    taken += len;
                    single = single.saturating_sub(len);
                    continue;
                }
                Err(error) => error,
            };
            match (classify(&error), batch) {
                (Fault::Interrupted, _) => {}
                (Fault::WouldBlock, _) if taken > 0 => return Ok(taken),
                (Fault::WouldBlock, _) => return Err(error),
                (_, Some(segment)) => {
                    self.learn(&error, to, segment, &path_mtu);
                    single = len;
                    size = size.filter(|_| self.allows(to, usize::from(segment)));
                }
                (Fault::Socket, None) if taken > 0 => return Ok(taken),
                (Fault::Socket, None) => return Err(error),
                (_, None) => {
                    self.complaint.store(error.raw_os_error().unwrap_or_default(), Relaxed);
                    taken += len;
                    single = single.saturating_sub(len);
                }
            }
        }
        Ok(taken)
    }
}

/// Length of the next batch of `rest` bytes, which are more than one datagram of `segment` bytes: as many batches as
/// the limits ask for, of even size.
fn batch_len(rest: usize, segment: usize) -> usize {
    let most = MAX_SEGMENTS.min(MAX_BYTES / segment);
    let datagrams = rest.div_ceil(segment);
    let batches = datagrams.div_ceil(most);
    rest.min(datagrams.div_ceil(batches) * segment)
}

#[cfg(test)]
mod tests;
