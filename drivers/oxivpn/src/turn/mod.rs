//! One turn of the packet path: a bounded batch in, through control machine or data plane, a batch out.
//!
//! There is no runtime, no clock and no wait in here. A loop of any kind (see [`adapt`](crate::adapt)) calls
//! [`Turn::turn`] when a descriptor is ready or a deadline is due, then drains the events of the control
//! machine, and sleeps as [`Turned`] says. Readiness is remembered, so edge-triggered notices are enough.
//!
//! A packet from the device is read at its final place in a slab and sealed there; a packet from the link is
//! opened where it was received. Nothing is allocated or copied for a packet. When the link is full, the
//! device is not read any more: a packet is dropped by the device's queue before it is sealed, never after.

mod traits;

use std::io::{self, ErrorKind};
use std::sync::Arc;

use oxivpn_proto::drops::DropCounters;
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::{Deadline, DropReason, Instant, Path, PeerRef, StreamChange};

use crate::gremlin::Faults;
pub(crate) use traits::drop_reason;
pub use traits::{Control, Device, Link, Packet, Payload, Plane, Sealed};

/// Packets of one kind that a turn moves at most, so that neither direction nor the timers starve.
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
    inbound: Vec<u8>,
    outbound: Vec<u8>,
    cell: usize,
    /// Packets in `outbound`, one per cell; those before `sent` are gone.
    queue: Vec<Packet>,
    sent: usize,
    blocked: bool,
    drops: DropCounters,
    traffic: Traffic,
    faults: Option<Arc<Faults>>,
    /// Packets that were damaged on purpose.
    damaged: Vec<u8>,
}

impl<L: Link, D: Device, P: Plane, C: Control> Turn<L, D, P, C> {
    /// A path without link and device.
    pub fn new(control: C, plane: P) -> Self {
        let mut turn = Self {
            control,
            plane,
            link: None,
            device: None,
            peer: None,
            ready: Ready::default(),
            inbound: Vec::new(),
            outbound: Vec::new(),
            cell: 0,
            queue: Vec::with_capacity(BATCH),
            sent: 0,
            blocked: false,
            drops: DropCounters::default(),
            traffic: Traffic::default(),
            faults: None,
            damaged: Vec::new(),
        };
        turn.size_for(1500);
        turn
    }

    /// Takes a link; what waited for the one before is forgotten.
    pub fn set_link(&mut self, link: L) -> Option<L> {
        self.queue.clear();
        self.sent = 0;
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
        self.queue.clear();
        self.sent = 0;
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

    /// Takes a device whose packets have up to `mtu` bytes.
    pub fn set_device(&mut self, device: D, mtu: u16) -> Option<D> {
        self.size_for(mtu);
        self.ready.device_read = true;
        self.device.replace(device)
    }

    /// Makes room for packets of `mtu` bytes from the device.
    pub fn size_for(&mut self, mtu: u16) {
        let cell = HEADROOM + usize::from(mtu).max(MAX_CONTROL_DATAGRAM) + TAILROOM;
        if cell > self.cell {
            self.queue.clear();
            self.sent = 0;
            self.cell = cell;
            self.outbound = vec![0; cell * BATCH];
            self.inbound = vec![0; cell];
        }
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

    fn outcome(&self, now: Instant, settled: bool, failure: Option<Failure>) -> Turned {
        let deadline = self.control.deadline();
        let may_read_device = self.device.is_some() && self.peer.is_some() && self.link.is_some();
        let has_room = !self.blocked && self.queue.len() < BATCH;
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
            failure,
        }
    }

    /// Link to control machine or device.
    fn receive(&mut self, now: Instant) -> Option<Failure> {
        for _ in 0..BATCH {
            if !self.ready.link_read {
                return None;
            }
            let link = self.link.as_mut()?;
            match link.recv(&mut self.inbound) {
                Ok((bytes, path)) => {
                    let delivered = match &self.faults {
                        None => Some(bytes),
                        Some(faults) => faults.incoming(now, bytes, &mut self.damaged),
                    };
                    let Some(bytes) = delivered else { continue };
                    let mut inward = Inward {
                        control: &mut self.control,
                        plane: &mut self.plane,
                        device: self.device.as_mut(),
                        drops: &mut self.drops,
                        traffic: &mut self.traffic,
                    };
                    if let Err(error) = inward.take(now, path, bytes) {
                        return Some(Failure::Device(error));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready.link_read = false,
                Err(error) => return Some(self.lose_link(now, error)),
            }
        }
        None
    }

    /// Orders to the plane, its news to the control machine, until both are silent.
    fn settle(&mut self, now: Instant) -> bool {
        for _ in 0..SETTLE_ROUNDS {
            let mut silent = true;
            while let Some(order) = self.control.poll_directive() {
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
        while let Some((at, cell)) = self.free_cell() {
            let Some(room) = self.outbound.get_mut(at + HEADROOM..at + cell) else { return };
            let transmit =
                self.control.poll_transmit(now, room).or_else(|| self.plane.poll_transmit(now, room));
            let Some(transmit) = transmit else { return };
            if leaves(self.faults.as_deref(), now) {
                self.queue.push(Packet { path: transmit.path, start: at + HEADROOM, len: transmit.len });
            }
        }
    }

    /// Device to link.
    fn forward(&mut self, now: Instant) -> Option<Failure> {
        let (Some(peer), Some(_)) = (self.peer, &self.link) else { return None };
        // Bounded by reads as well as by packets queued: one that is not sealed takes no cell.
        for _ in 0..BATCH {
            if !self.ready.device_read || self.blocked {
                return None;
            }
            let (at, cell) = self.free_cell()?;
            let device = self.device.as_mut()?;
            let cell = self.outbound.get_mut(at..at + cell)?;
            let room = cell.len() - TAILROOM;
            match device.recv(&mut cell[HEADROOM..room]) {
                Ok(0) => {}
                Ok(len) => {
                    self.traffic.device_read += len as u64;
                    match self.plane.seal(now, peer, cell, HEADROOM, len) {
                        Ok(Sealed { path, start, len }) if leaves(self.faults.as_deref(), now) => {
                            self.queue.push(Packet { path, start: at + start, len });
                        }
                        Ok(_) => {}
                        Err(reason) => self.drops.count(reason),
                    }
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

    fn free_cell(&self) -> Option<(usize, usize)> {
        (self.queue.len() < BATCH && self.link.is_some() && !self.blocked)
            .then_some((self.queue.len() * self.cell, self.cell))
    }

    /// Slab to link.
    fn flush(&mut self, now: Instant) -> Option<Failure> {
        while !self.blocked {
            let link = self.link.as_mut()?;
            let waiting = self.queue.get(self.sent..).unwrap_or_default();
            let result = match waiting {
                [] => link.flush().map(|done| {
                    self.blocked = !done;
                    None
                }),
                packets => link.send(packets, &mut self.outbound).map(Some),
            };
            match result {
                Ok(Some(taken)) => {
                    let gone = waiting.iter().take(taken);
                    self.traffic.link_write += gone.map(|packet| packet.len as u64).sum::<u64>();
                    self.sent += taken;
                    self.blocked = taken == 0;
                }
                Ok(None) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
                Err(error) => return Some(self.lose_link(now, error)),
            }
        }
        if self.sent == self.queue.len() {
            self.queue.clear();
            self.sent = 0;
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
struct Inward<'a, D, P, C> {
    control: &'a mut C,
    plane: &'a mut P,
    device: Option<&'a mut D>,
    drops: &'a mut DropCounters,
    traffic: &'a mut Traffic,
}

impl<D: Device, P: Plane, C: Control> Inward<'_, D, P, C> {
    /// Fails only if the device is gone.
    fn take(&mut self, now: Instant, path: Path, bytes: &mut [u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        self.traffic.link_read += len;
        match peek(bytes) {
            Peek::Control => self.control.handle_datagram(now, path, bytes),
            Peek::Unknown => self.drops.count(DropReason::UnknownOpcode),
            Peek::Data(_) => match self.plane.open(now, path, bytes) {
                Ok(payload) => {
                    self.traffic.authentic += len;
                    if let Payload::Packet(packet) = payload {
                        return self.deliver(packet);
                    }
                }
                Err(reason) => self.drops.count(reason),
            },
        }
        Ok(())
    }

    fn deliver(&mut self, packet: &[u8]) -> io::Result<()> {
        let Some(device) = &mut self.device else {
            self.drops.count(DropReason::NotUp);
            return Ok(());
        };
        match device.send(packet) {
            Ok(()) => self.traffic.device_write += packet.len() as u64,
            Err(error) if is_gone(&error) => return Err(error),
            Err(_) => self.traffic.device_refused += 1,
        }
        Ok(())
    }
}

/// The interface was deleted under the descriptor, the other end of it is closed, or the descriptor is none.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADFD | libc::EBADF | libc::ENODEV))
        || error.kind() == ErrorKind::UnexpectedEof
}

#[cfg(test)]
mod tests;
