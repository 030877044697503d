//! The small traits between the packet path and what is outside of it.

use std::io::{self, IoSlice};

use oxivpn_proto::data::{self, Outgoing, SealError, Slot};
use oxivpn_proto::plane::DataPlane;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::{
    Deadline, DropReason, Instant, Order, Path, PeerRef, Report, StreamChange, StreamId, Transmit,
};
use oxivpn_tun::offload::{Offload, VnetHeader};

use crate::lane::Inbox;
use crate::lane::outbox::Run;

/// The outer transport: one UDP socket or one TCP connection.
pub trait Link {
    /// Receives what one call brings, into `inbox`, which has room for it; whether the link has surely no more. Answers
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing; any other error means that the link is of
    /// no more use, complaints about single packets are swallowed.
    fn recv(&mut self, inbox: &mut Inbox) -> io::Result<bool>;

    /// Takes packets from the front of a run, whose bytes are `bytes`, and says how many bytes those are; 0 if it is
    /// full. A packet that the network refuses counts as taken. Errors as for [`recv`](Self::recv).
    fn send(&mut self, run: &Run, bytes: &[u8]) -> io::Result<usize>;

    /// Pushes out what a stream holds back; whether nothing is left. Errors as for [`recv`](Self::recv).
    fn flush(&mut self) -> io::Result<bool>;

    /// The path of a stream, or one that names the socket.
    fn path(&self) -> Path;

    /// A peer says what the outer headers of its packets tell of congestion: receptions are to tell it from now on.
    fn hear_ecn(&mut self) {}

    /// Whether another thread has received what comes from here. Then it is counted there, and faults on purpose have
    /// befallen it.
    fn is_relay(&self) -> bool {
        false
    }
}

/// Where inner packets come from and go to.
pub trait Device {
    /// Reads one packet or super-packet; [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none, and
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if none will ever come.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<(VnetHeader, usize)>;

    /// Writes one packet or super-packet in parts, the first of which is its header's bytes. An error loses this
    /// packet only, unless the device is gone.
    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Which packets it takes in one.
    fn offload(&self) -> Offload;
}

/// A data plane in this thread.
pub trait Plane: DataPlane {
    /// Where the next packet for `peer` goes and how much sealing puts around it.
    fn outgoing(&mut self, peer: PeerRef) -> Option<Outgoing>;

    /// Seals the packet of `len` bytes at `start` of `cell`, in place.
    fn seal(
        &mut self,
        now: Instant,
        peer: PeerRef,
        cell: &mut [u8],
        start: usize,
        len: usize,
    ) -> Result<Sealed, DropReason>;

    /// Opens a data packet in place.
    fn open<'b>(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &'b mut [u8],
    ) -> Result<Payload<'b>, DropReason>;

    /// Writes the next packet that the plane makes itself (pings, exit notifications) into `out`.
    fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit>;
}

/// A sealed packet in the cell it was sealed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Where to send it.
    pub path: Path,
    /// First byte in the cell.
    pub start: usize,
    /// Number of bytes.
    pub len: usize,
}

/// What was in a data packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload<'b> {
    /// An IP packet for the device.
    Packet(&'b mut [u8]),
    /// Something for the plane itself: a ping, an exit notification.
    Handled,
}

/// The control machine, which is [`Node`](oxivpn_proto::Node) outside of tests.
pub trait Control {
    /// See [`Node::handle_datagram`](oxivpn_proto::Node::handle_datagram).
    fn handle_datagram(&mut self, now: Instant, path: Path, bytes: &mut [u8]);
    /// See [`Node::handle_stream`](oxivpn_proto::Node::handle_stream).
    fn handle_stream(&mut self, now: Instant, id: StreamId, change: StreamChange);
    /// See [`Node::handle_report`](oxivpn_proto::Node::handle_report).
    fn handle_report(&mut self, now: Instant, report: Report);
    /// See [`Node::handle_timeout`](oxivpn_proto::Node::handle_timeout).
    fn handle_timeout(&mut self, now: Instant);
    /// See [`Node::poll_directive`](oxivpn_proto::Node::poll_directive).
    fn poll_directive(&mut self) -> Option<Order>;
    /// See [`Node::poll_transmit`](oxivpn_proto::Node::poll_transmit).
    fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit>;
    /// See [`Node::deadline`](oxivpn_proto::Node::deadline).
    fn deadline(&self) -> Option<Deadline>;
}

impl Control for oxivpn_proto::Node {
    fn handle_datagram(&mut self, now: Instant, path: Path, bytes: &mut [u8]) {
        self.handle_datagram(now, path, bytes);
    }

    fn handle_stream(&mut self, now: Instant, id: StreamId, change: StreamChange) {
        self.handle_stream(now, id, change);
    }

    fn handle_report(&mut self, now: Instant, report: Report) {
        self.handle_report(now, report);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout(now);
    }

    fn poll_directive(&mut self) -> Option<Order> {
        self.poll_directive()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        self.poll_transmit(now, out)
    }

    fn deadline(&self) -> Option<Deadline> {
        self.deadline()
    }
}

/// As what a packet counts that was not sealed.
const fn drop_reason(error: &SealError) -> DropReason {
    match error {
        SealError::NoPeer => DropReason::UnknownPeer,
        SealError::NoKey => DropReason::NoKey,
        SealError::Spent(_) => DropReason::KeyWorn,
        _ => DropReason::Malformed,
    }
}

impl Plane for LocalPlane {
    #[inline]
    fn outgoing(&mut self, peer: PeerRef) -> Option<Outgoing> {
        self.outgoing(peer)
    }

    #[inline]
    fn seal(
        &mut self,
        now: Instant,
        peer: PeerRef,
        cell: &mut [u8],
        start: usize,
        len: usize,
    ) -> Result<Sealed, DropReason> {
        match self.seal(now, peer, &mut Slot::new(cell, start, len)) {
            Ok(sealed) => Ok(Sealed { path: sealed.path, start: sealed.start, len: sealed.len }),
            Err(error) => Err(drop_reason(&error)),
        }
    }

    #[inline]
    fn open<'b>(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &'b mut [u8],
    ) -> Result<Payload<'b>, DropReason> {
        match self.open(now, from, datagram)?.payload {
            data::Payload::Packet(packet) => Ok(Payload::Packet(packet)),
            data::Payload::Handled => Ok(Payload::Handled),
        }
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        self.poll_transmit(now, out)
    }
}
