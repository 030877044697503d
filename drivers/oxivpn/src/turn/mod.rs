//! One turn of the packet path: a bounded batch in, through control machine or data plane, a batch out.
//!
//! There is no runtime, no clock and no wait in here. A loop of any kind (see [`adapt`](crate::adapt)) calls
//! [`Turn::turn`] when a descriptor is ready or a deadline is due, then drains the events of the control
//! machine, and sleeps as [`Turned`] says. Readiness is remembered, so edge-triggered notices are enough.
//!
//! Both sides give and take many packets with one call, see [`lane`](crate::lane). A packet from the device is copied
//! once, to its final place, and sealed there; a packet from the link is opened where it was received. Nothing is
//! allocated for a packet. When the link is full, the device is not read any more: a packet is dropped by the device's
//! queue before it is sealed.

mod traits;

use std::io::{self, ErrorKind};
use std::sync::Arc;

use oxivpn_net::Ecn;
use oxivpn_proto::drops::DropCounters;
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::{Deadline, Directive, DropReason, Instant, Path, PeerRef, StreamChange};
use oxivpn_tun::offload::Offload;

use crate::gremlin::Faults;
use crate::lane::inbox::{Received, range_in};
use crate::lane::{Inbox, MAX_SUPER, Merger, Outbox, Pace, Rest, Uplink, heed_mark};
pub use traits::{Control, Device, Link, Payload, Plane, Sealed};

/// Calls of one kind that a turn makes at most, so that neither direction nor the timers starve.
pub const BATCH: usize = 64;

/// Free bytes in front of a packet in the slab.
pub const HEADROOM: usize = oxivpn_proto::data::HEADROOM;

/// Free bytes behind a packet in the slab.
pub const TAILROOM: usize = oxivpn_proto::data::TAILROOM;

/// Rounds of orders and reports in one turn; each order makes at most a few reports.
const SETTLE_ROUNDS: usize = 16;

/// What a loop saw on its descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The link can be read.
    pub link_read: bool,
    /// The link can be written.
    pub link_write: bool,
    /// The device can be read.
    pub device_read: bool,
}

/// What to wait for, after a turn.
#[derive(Debug)]
pub struct Turned {
    /// Which notices are of use. A loop with edge-triggered notices may ask for all of them always.
    pub interests: Ready,
    /// When the control machine wants to be called.
    pub deadline: Option<Deadline>,
    /// There is more to do: call again without waiting.
    pub again: bool,
    /// Packets come one by one and densely: a loop that sleeps before it waits for the next has many at once.
    pub rest: Option<Rest>,
    /// Something is broken for good; tell it once and act.
    pub failure: Option<Failure>,
}

/// What broke.
#[derive(Debug)]
pub enum Failure {
    /// The link; a stream that ended is told to the control machine as well.
    Link(io::Error),
    /// The device.
    Device(io::Error),
    /// A thread of the plane has ended.
    Thread,
}

/// Sums of what was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes read from the device.
    pub device_read: u64,
    /// Bytes written to the device.
    pub device_write: u64,
    /// Bytes received on the link.
    pub link_read: u64,
    /// Bytes sent on the link.
    pub link_write: u64,
    /// Bytes of authentic data packets among those received.
    pub authentic: u64,
    /// Packets that the device refused.
    pub device_refused: u64,
    /// Packets, or the rest of a super-packet, that found no room on their way to the link.
    pub full: u64,
    /// Packets to the device with a congestion mark that they got between the ends of the tunnel.
    pub congested: u64,
}

impl core::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        let Self {
            device_read,
            device_write,
            link_read,
            link_write,
            authentic,
            device_refused,
            full,
            congested,
        } = other;
        self.device_read += device_read;
        self.device_write += device_write;
        self.link_read += link_read;
        self.link_write += link_write;
        self.authentic += authentic;
        self.device_refused += device_refused;
        self.full += full;
        self.congested += congested;
    }
}

impl core::ops::Add for Traffic {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

/// The packet path with all that it owns.
pub struct Turn<L, D, P, C> {
    /// The control machine; drain its events after each turn.
    pub control: C,
    /// The data plane.
    pub plane: P,
    link: Option<L>,
    device: Option<D>,
    peer: Option<PeerRef>,
    ready: Ready,
    inbox: Inbox,
    outbox: Outbox,
    merger: Merger,
    pace: Pace,
    /// Where the device is read to.
    staging: Box<[u8]>,
    blocked: bool,
    drops: DropCounters,
    traffic: Traffic,
    faults: Option<Arc<Faults>>,
}

impl<L: Link, D: Device, P: Plane, C: Control> Turn<L, D, P, C> {
    /// A path without link and device.
    pub fn new(control: C, plane: P) -> Self {
        Self {
            control,
            plane,
            link: None,
            device: None,
            peer: None,
            ready: Ready::default(),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            merger: Merger::new(Offload::NONE),
            pace: Pace::default(),
            staging: vec![0; MAX_SUPER].into_boxed_slice(),
            blocked: false,
            drops: DropCounters::default(),
            traffic: Traffic::default(),
            faults: None,
        }
    }

    /// Takes a link; what waited for the one before is forgotten.
    pub fn set_link(&mut self, link: L) -> Option<L> {
        self.outbox.clear();
        self.blocked = false;
        (self.ready.link_read, self.ready.link_write) = (true, true);
        self.link.replace(link)
    }

    /// Puts faults on purpose between this and all its links.
    pub fn set_faults(&mut self, faults: Option<Arc<Faults>>) {
        self.faults = faults;
    }

    /// The faults on purpose.
    pub fn faults(&self) -> Option<&Faults> {
        self.faults.as_deref()
    }

    /// Gives the link up.
    pub fn take_link(&mut self) -> Option<L> {
        self.outbox.clear();
        self.link.take()
    }

    /// The link.
    pub const fn link(&self) -> Option<&L> {
        self.link.as_ref()
    }

    /// The link, to ask it for what only it knows.
    pub const fn link_mut(&mut self) -> Option<&mut L> {
        self.link.as_mut()
    }

    /// Takes a device.
    pub fn set_device(&mut self, device: D) -> Option<D> {
        self.ready.device_read = true;
        self.merger = Merger::new(device.offload());
        self.device.replace(device)
    }

    /// Gives the device up.
    pub fn take_device(&mut self) -> Option<D> {
        self.device.take()
    }

    /// The device.
    pub const fn device(&self) -> Option<&D> {
        self.device.as_ref()
    }

    /// Says whose packets those of the device are; `None` leaves them in the device's queue.
    pub fn set_peer(&mut self, peer: Option<PeerRef>) {
        self.ready.device_read = true;
        self.peer = peer;
    }

    /// Whether the link is full; tell when it can be written.
    pub const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Drops of data packets and of what is no packet at all.
    pub const fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// What was moved so far.
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Does a bounded piece of the work that `ready` and `now` allow.
    pub fn turn(&mut self, now: Instant, ready: Ready) -> Turned {
        self.ready.link_read |= ready.link_read;
        self.ready.device_read |= ready.device_read;
        if ready.link_write {
            self.blocked = false;
        }
        let mut failure = self.receive(now);
        if self.control.deadline().is_some_and(|deadline| deadline.at <= now) {
            self.control.handle_timeout(now);
        }
        let mut settled = self.settle(now);
        self.collect_transmits(now);
        let forwarded = self.forward(now);
        failure = failure.or(forwarded);
        settled &= self.settle(now);
        self.collect_transmits(now);
        failure = failure.or_else(|| self.flush(now));
        settled &= self.settle(now);
        self.outcome(now, settled, failure)
    }

    fn outcome(&mut self, now: Instant, settled: bool, failure: Option<Failure>) -> Turned {
        let deadline = self.control.deadline();
        let may_read_device = self.device.is_some() && self.peer.is_some() && self.link.is_some();
        let has_room = !self.blocked && self.outbox.has_room();
        Turned {
            interests: Ready {
                link_read: self.link.is_some(),
                link_write: self.blocked,
                device_read: may_read_device && has_room,
            },
            deadline,
            again: !settled
                || (self.link.is_some() && self.ready.link_read)
                || (may_read_device && has_room && self.ready.device_read)
                || deadline.is_some_and(|deadline| deadline.at <= now),
            // That the link can be written is not to be kept waiting for.
            rest: self.pace.rest(now, self.inbox.singles()).filter(|_| !self.blocked),
            failure,
        }
    }

    /// Link to control machine or device.
    fn receive(&mut self, now: Instant) -> Option<Failure> {
        let mut failure = None;
        self.inbox.clear();
        for _ in 0..BATCH {
            if !self.ready.link_read || !self.inbox.has_room() {
                break;
            }
            let Some(link) = self.link.as_mut() else { break };
            match link.recv(&mut self.inbox) {
                Ok(drained) => self.ready.link_read = !drained,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready.link_read = false,
                Err(error) => failure = Some(error),
            }
            if failure.is_some() {
                break;
            }
        }
        let (fatal, gone) = self.open(now);
        // What came before the end of a link is taken before the end is told.
        failure.or(fatal).map(|error| self.lose_link(now, error)).or(gone)
    }

    /// Opens what the inbox holds. What is wrong with the link then, and with the device.
    fn open(&mut self, now: Instant) -> (Option<io::Error>, Option<Failure>) {
        let (mut fatal, mut gone) = (None, None);
        let relayed = self.link.as_ref().is_some_and(Link::is_relay);
        for index in 0..self.inbox.len() {
            let Received { path, start, len, ecn } = self.inbox.packet(index);
            let at = match self.faults.as_ref().filter(|_| !relayed) {
                None => start..start + len,
                Some(faults) => match self.inbox.with_faults(now, index, faults) {
                    Some(at) => at,
                    None => continue,
                },
            };
            if !relayed {
                self.traffic.link_read += at.len() as u64;
            }
            let mut inward = Inward {
                control: &mut self.control,
                plane: &mut self.plane,
                has_device: self.device.is_some(),
                drops: &mut self.drops,
                traffic: &mut self.traffic,
            };
            let inner = match inward.take(now, path, ecn, &mut self.inbox.slab_mut()[at]) {
                Ok(Some(inner)) => inner,
                Ok(None) => continue,
                Err(reason) if ends_stream(path, reason) => {
                    fatal = Some(io::Error::new(ErrorKind::InvalidData, "decryption error"));
                    break;
                }
                Err(_) => continue,
            };
            let (at, len) = (inner.as_ptr() as usize, inner.len());
            let slab = self.inbox.slab();
            if let Some(device) = &mut self.device
                && let Err(error) = self.merger.push(slab, range_in(slab, at, len), device, &mut self.traffic)
            {
                gone = Some(error);
            }
        }
        if let Some(device) = &mut self.device
            && let Err(error) = self.merger.flush(self.inbox.slab(), device, &mut self.traffic)
        {
            gone = Some(error);
        }
        (fatal, gone.map(Failure::Device))
    }

    /// Orders to the plane, its news to the control machine, until both are silent.
    fn settle(&mut self, now: Instant) -> bool {
        for _ in 0..SETTLE_ROUNDS {
            let mut silent = true;
            while let Some(order) = self.control.poll_directive() {
                if let (Directive::AddPeer { params, .. }, Some(link)) = (&order.directive, &mut self.link)
                    && params.ecn
                {
                    link.hear_ecn();
                }
                self.plane.apply(now, order);
                silent = false;
            }
            while let Some(report) = self.plane.poll_report() {
                self.control.handle_report(now, report);
                silent = false;
            }
            if silent {
                return true;
            }
        }
        false
    }

    /// Packets of the control machine and those that the plane makes itself.
    fn collect_transmits(&mut self, now: Instant) {
        // In front of each there is room for the length that a stream wants.
        const FRONT: usize = 2;
        while self.link.is_some()
            && !self.blocked
            && let Some(cell) = self.outbox.reserve(FRONT + MAX_CONTROL_DATAGRAM)
        {
            let room = &mut cell[FRONT..];
            let transmit =
                self.control.poll_transmit(now, room).or_else(|| self.plane.poll_transmit(now, room));
            let Some(transmit) = transmit else { return };
            if leaves(self.faults.as_deref(), now) {
                self.traffic.link_write += transmit.len as u64;
                self.outbox.commit(transmit.path, FRONT, transmit.len);
            }
        }
    }

    /// Device to link.
    fn forward(&mut self, now: Instant) -> Option<Failure> {
        let (Some(peer), Some(_)) = (self.peer, &self.link) else { return None };
        // Bounded by reads as well as by packets queued: one that is not sealed takes no room.
        for _ in 0..BATCH {
            if !self.ready.device_read || self.blocked || !self.outbox.has_room() {
                return None;
            }
            match self.device.as_mut()?.read(&mut self.staging) {
                Ok((_, 0)) => {}
                Ok((header, len)) => {
                    self.traffic.device_read += len as u64;
                    let mut uplink = Uplink {
                        plane: &mut self.plane,
                        out: &mut self.outbox,
                        drops: &mut self.drops,
                        traffic: &mut self.traffic,
                        faults: self.faults.as_deref(),
                    };
                    uplink.take(now, peer, &header, &self.staging[..len]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready.device_read = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_gone(&error) => return Some(Failure::Device(error)),
                // EIO while the interface is down, and the like: nothing was read, more comes with a notice.
                Err(_) => self.ready.device_read = false,
            }
        }
        None
    }

    /// Slab to link.
    fn flush(&mut self, now: Instant) -> Option<Failure> {
        while !self.blocked {
            let link = self.link.as_mut()?;
            let result = match self.outbox.next() {
                None => link.flush().map(|done| {
                    self.blocked = !done;
                    None
                }),
                Some((run, bytes)) => link.send(&run, bytes).map(Some),
            };
            match result {
                Ok(Some(taken)) => {
                    self.outbox.sent(taken);
                    self.blocked = taken == 0;
                }
                Ok(None) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
                Err(error) => return Some(self.lose_link(now, error)),
            }
        }
        None
    }

    fn lose_link(&mut self, now: Instant, error: io::Error) -> Failure {
        self.ready.link_read = false;
        if let Some(Path::Stream(id)) = self.take_link().map(|link| link.path()) {
            self.control.handle_stream(now, id, StreamChange::Closed);
        }
        Failure::Link(error)
    }
}

/// Whether no fault on purpose keeps a packet from leaving.
#[inline]
pub(crate) fn leaves(faults: Option<&Faults>, now: Instant) -> bool {
    faults.is_none_or(|faults| faults.outgoing(now))
}

/// Where a received packet may go.
struct Inward<'a, P, C> {
    control: &'a mut C,
    plane: &'a mut P,
    has_device: bool,
    drops: &'a mut DropCounters,
    traffic: &'a mut Traffic,
}

impl<P: Plane, C: Control> Inward<'_, P, C> {
    /// Takes one packet from the link; what is in it for the device. Errors are counted.
    #[inline]
    fn take<'b>(
        &mut self,
        now: Instant,
        path: Path,
        ecn: Ecn,
        bytes: &'b mut [u8],
    ) -> Result<Option<&'b mut [u8]>, DropReason> {
        let len = bytes.len() as u64;
        match peek(bytes) {
            Peek::Control => self.control.handle_datagram(now, path, bytes),
            Peek::Unknown => self.drops.count(DropReason::UnknownOpcode),
            Peek::Data(_) => match self.plane.open(now, path, bytes) {
                Ok(payload) => {
                    self.traffic.authentic += len;
                    match payload {
                        Payload::Packet(packet) if self.has_device => {
                            let passes = heed_mark(ecn, packet, self.drops, self.traffic);
                            return Ok(passes.then_some(packet));
                        }
                        Payload::Packet(_) => self.drops.count(DropReason::NotUp),
                        Payload::Handled => {}
                    }
                }
                Err(reason) => {
                    self.drops.count(reason);
                    return Err(reason);
                }
            },
        }
        Ok(None)
    }
}

/// Whether a connection on which such a data packet came is given up, as a connection loses and repeats nothing
/// (`openvpn: forward.c`, `process_incoming_link_part1`). A packet for a key that nobody has is only dropped.
pub(crate) const fn ends_stream(path: Path, reason: DropReason) -> bool {
    let wrong = matches!(
        reason,
        DropReason::DataAuthentication
            | DropReason::DataReplay
            | DropReason::WrongEpoch
            | DropReason::KeyWorn
    );
    wrong && path.is_stream()
}

/// The interface was deleted under the descriptor, the other end of it is closed, or the descriptor is none.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADFD | libc::EBADF | libc::ENODEV))
        || error.kind() == ErrorKind::UnexpectedEof
}

#[cfg(test)]
mod tests;
