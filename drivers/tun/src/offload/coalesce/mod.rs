//! Packets to super-packets.

mod flow;

use std::io::{self, IoSlice};
use std::ops::Range;

use self::flow::{Class, Flow, Segment};
use super::ip::{self, Ip, TCP_CHECKSUM, UDP_CHECKSUM, put_u16};
use super::{Gso, Offload, VnetHeader};

/// Packets that a [`Coalescer`] takes between two flushes.
///
/// More than twice what one UDP read with GRO can hold at common sizes; a batch that still has more is flushed in
/// between, at the price of one more write for each flow.
pub const CAPACITY: usize = 256;

/// TCP segments in one super-packet. 64 KiB are 48 segments of 1,400 bytes, and 128 of 512. The kernel would take 1,022
/// (`UIO_MAXIOV` less two), but allocates for more than eight and copies each by itself, so longer lists of smaller
/// packets gain nothing; and the array for 128 is 2 KiB of stack.
const TCP_SEGMENTS: u16 = 128;

/// UDP datagrams in one super-packet: `UDP_MAX_SEGMENTS` of Linux before 6.9, which refuses more.
const UDP_SEGMENTS: u16 = 64;

/// The most slices that [`Coalescer::flush`] passes to one write.
pub const MAX_PARTS: usize = TCP_SEGMENTS as usize + 2;

/// The most bytes of a super-packet: what an IPv4 header can say.
const MOST: usize = u16::MAX as usize;

/// Flows that are kept open at once. With more in a batch the one opened first makes room, and merges less.
const FLOWS: usize = 16;

/// Makes super-packets of packets that lie in one buffer, for [`Device::write`](crate::Device::write).
///
/// Payload is never copied: a super-packet is a list of slices. Nothing is allocated after [`Coalescer::new`].
///
/// Packets are merged only if a [`Split`](super::Split) of the result gives the same packets again, byte for byte but
/// for the IPv4 id of packets that must not be fragmented: same addresses, ports, TTL or hop limit, traffic class with
/// its ECN bits, DF and flow label; no IP options, extension headers or fragments; TCP with ACK and PSH at most, the
/// same options, acknowledgement and window, and sequence numbers that follow on each other; UDP with a checksum. All
/// but the last have one size. PSH ends a super-packet. A packet whose checksum is wrong goes alone, as it is, so that
/// the kernel sees the damage too. The order of packets in a flow never changes.
#[derive(Debug)]
pub struct Coalescer {
    offload: Offload,
    packets: Vec<Packet>,
    items: Vec<Item>,
    open: Vec<(Flow, u16)>,
    /// Where in `open` the last packet's flow was found.
    recent: usize,
    /// Which of `open` makes room next.
    oldest: usize,
}

/// Where a packet lies, and which one follows it in its super-packet.
#[derive(Debug, Clone, Copy)]
struct Packet {
    start: usize,
    end: usize,
    next: u16,
}

/// One write to come.
#[derive(Debug, Clone, Copy)]
struct Item {
    first: u16,
    last: u16,
    count: u16,
    /// The first packet's checksum was looked at.
    verified: bool,
    /// The last packet has the TCP flag PSH.
    push: bool,
    /// Bytes of the whole so far.
    total: usize,
    /// What the first packet is.
    segment: Segment,
}

/// What became of the packets of a [`Coalescer::flush`].
#[derive(Debug, Default)]
#[must_use]
pub struct Flushed {
    /// Packets that were written.
    pub written: usize,
    /// Writes that succeeded. `written` by this is how well the packets could be merged.
    pub writes: usize,
    /// Packets that were lost because their write failed, or because one before met a fatal error.
    pub refused: usize,
    /// The first error that is the fault of what was written, or passes (`EIO` while the interface is down).
    pub refusal: Option<io::Error>,
    /// The error after which no write can succeed: the interface is gone. Nothing was written after it.
    pub fatal: Option<io::Error>,
}

impl Coalescer {
    /// A coalescer for a device that takes `offload`. With [`Offload::NONE`] each packet goes alone.
    pub fn new(offload: Offload) -> Self {
        Self {
            offload,
            packets: Vec::with_capacity(CAPACITY),
            items: Vec::with_capacity(CAPACITY),
            open: Vec::with_capacity(FLOWS),
            recent: 0,
            oldest: 0,
        }
    }

    /// Whether no packet waits to be flushed.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Takes the packet that lies in `slab` at `at`. `false`, and nothing taken, if [`CAPACITY`] packets wait already:
    /// flush first.
    ///
    /// All packets up to the next [`Coalescer::flush`] must lie in the same slab and stay as they are.
    ///
    /// # Panics
    ///
    /// If `at` is not in `slab`.
    #[inline]
    #[must_use = "a packet that was not taken is lost"]
    pub fn push(&mut self, slab: &[u8], at: Range<usize>) -> bool {
        if self.packets.len() == CAPACITY {
            return false;
        }
        let packet = &slab[at.clone()];
        let index = self.packets.len() as u16;
        self.packets.push(Packet { start: at.start, end: at.end, next: index });
        let alone = |segment| Item {
            first: index,
            last: index,
            count: 1,
            verified: false,
            push: false,
            total: at.len(),
            segment,
        };
        match flow::classify(packet, self.offload) {
            Class::Other => self.items.push(alone(Segment::NONE)),
            Class::Unclear => {
                self.open.clear();
                self.items.push(alone(Segment::NONE));
            }
            Class::Unmergeable(flow) => {
                if let Some(slot) = self.find(&flow) {
                    self.open.swap_remove(slot);
                }
                self.items.push(alone(Segment::NONE));
            }
            Class::Segment(flow, segment) => {
                let slot = self.find(&flow);
                if !slot.is_some_and(|slot| self.join(slab, slot, index, &segment)) {
                    self.start(slot, flow, alone(segment), segment.push);
                }
            }
        }
        true
    }

    /// Where in `open` a flow is.
    #[inline]
    fn find(&mut self, flow: &Flow) -> Option<usize> {
        if self.open.get(self.recent).is_some_and(|(open, _)| open == flow) {
            return Some(self.recent);
        }
        self.recent = self.open.iter().position(|(open, _)| open == flow)?;
        Some(self.recent)
    }

    /// Begins an item, which replaces the one of its flow in `slot`.
    fn start(&mut self, slot: Option<usize>, flow: Flow, item: Item, ends: bool) {
        let index = self.items.len() as u16;
        self.items.push(item);
        match slot {
            Some(slot) if ends => {
                self.open.swap_remove(slot);
            }
            Some(slot) => self.open[slot].1 = index,
            None if ends => {}
            None if self.open.len() == FLOWS => {
                self.recent = self.oldest;
                self.open[self.oldest] = (flow, index);
                self.oldest = (self.oldest + 1) % FLOWS;
            }
            None => {
                self.recent = self.open.len();
                self.open.push((flow, index));
            }
        }
    }

    /// Adds packet `index` to the open item in `slot` if it belongs there.
    #[inline]
    fn join(&mut self, slab: &[u8], slot: usize, index: u16, segment: &Segment) -> bool {
        let item = &mut self.items[usize::from(self.open[slot].1)];
        let Packet { start, end, .. } = self.packets[usize::from(item.first)];
        let first = &slab[start..end];
        let Packet { start, end, .. } = self.packets[usize::from(index)];
        let packet = &slab[start..end];
        let most = if item.segment.tcp { TCP_SEGMENTS } else { UDP_SEGMENTS };
        if item.count == most
            || item.total + segment.payload > MOST
            || !item.segment.is_followed(first, packet, segment, item.count)
        {
            return false;
        }
        if !item.verified {
            if !item.segment.ip.checksum_holds(first) {
                return false;
            }
            item.verified = true;
        }
        if !segment.ip.checksum_holds(packet) {
            return false;
        }
        self.packets[usize::from(item.last)].next = index;
        item.last = index;
        item.count += 1;
        item.total += segment.payload;
        item.push = segment.push;
        if segment.push || segment.payload < item.segment.payload {
            self.open.swap_remove(slot);
        }
        true
    }

    /// Writes all that was pushed, and is empty then.
    ///
    /// `write` gets the ten bytes of a [`VnetHeader`], then either a packet, or the headers of a super-packet and its
    /// payload piece by piece; at most [`MAX_PARTS`] slices. An error of it loses that packet or super-packet only,
    /// unless it says that the interface is gone.
    ///
    /// # Panics
    ///
    /// If `slab` is shorter than when the packets were pushed.
    pub fn flush(&mut self, slab: &[u8], mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<()>) -> Flushed {
        let mut flushed = Flushed::default();
        for item in &self.items {
            let count = usize::from(item.count);
            if flushed.fatal.is_some() {
                flushed.refused += count;
                continue;
            }
            match self.write(item, slab, &mut write) {
                Ok(()) => {
                    flushed.written += count;
                    flushed.writes += 1;
                }
                Err(error) => {
                    flushed.refused += count;
                    let slot = if is_fatal(&error) { &mut flushed.fatal } else { &mut flushed.refusal };
                    slot.get_or_insert(error);
                }
            }
        }
        self.packets.clear();
        self.items.clear();
        self.open.clear();
        self.recent = 0;
        self.oldest = 0;
        flushed
    }

    fn write(
        &self,
        item: &Item,
        slab: &[u8],
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Packet { start, end, mut next } = self.packets[usize::from(item.first)];
        let first = &slab[start..end];
        if item.count == 1 {
            return write(&[IoSlice::new(&VnetHeader::PLAIN.to_bytes()), IoSlice::new(first)]);
        }
        let mut headers = [0; Segment::MOST_HEADERS];
        let vnet = item.headers(first, &mut headers).to_bytes();
        let len = item.segment.headers;
        let mut parts = [IoSlice::new(&[]); MAX_PARTS];
        parts[0] = IoSlice::new(&vnet);
        parts[1] = IoSlice::new(&headers[..len]);
        parts[2] = IoSlice::new(&first[len..]);
        let used = usize::from(item.count) + 2;
        for part in &mut parts[3..used] {
            let packet = self.packets[usize::from(next)];
            *part = IoSlice::new(&slab[packet.start + len..packet.end]);
            next = packet.next;
        }
        write(&parts[..used])
    }
}

impl Item {
    /// Writes the headers of the super-packet, made from those of its first packet.
    fn headers(&self, first: &[u8], headers: &mut [u8; Segment::MOST_HEADERS]) -> VnetHeader {
        let Segment { ip, tcp, headers: len, payload, .. } = self.segment;
        headers[..len].copy_from_slice(&first[..len]);
        let headers = &mut headers[..len];
        let transport_len = (self.total - ip.transport) as u16;
        let partial = ip.pseudo(first).and_u16(transport_len).fold();
        let (network, transport) = headers.split_at_mut(ip.transport);
        set_network_length(&ip, network, self.total);
        let (gso, field) = if tcp {
            if self.push {
                transport[13] |= flow::PSH;
            }
            (if ip.v6 { Gso::TcpV6 } else { Gso::TcpV4 }, TCP_CHECKSUM)
        } else {
            put_u16(transport, 4, transport_len);
            (Gso::UdpL4, UDP_CHECKSUM)
        };
        put_u16(transport, field, partial);
        VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso,
            ecn: false,
            header_len: len as u16,
            segment_size: payload as u16,
            csum_start: ip.transport as u16,
            csum_offset: field as u16,
        }
    }
}

fn set_network_length(ip: &Ip, network: &mut [u8], total: usize) {
    if ip.v6 {
        put_u16(network, 4, (total - 40) as u16);
    } else {
        put_u16(network, 2, total as u16);
        put_u16(network, 10, 0);
        let checksum = ip::header_checksum(network);
        put_u16(network, 10, checksum);
    }
}

/// Errors after which the descriptor is of no use: the interface was deleted, or the other end of a socket pair closed.
fn is_fatal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EBADFD | libc::EBADF | libc::EPIPE | libc::ECONNREFUSED | libc::ECONNRESET | libc::ENOTCONN
        )
    )
}
