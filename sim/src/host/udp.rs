//! Numbered datagrams.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use oxivpn_proto::Instant;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp;

use super::content::{self, STAMP_LEN};
use super::{Outlook, Pace, header_len};

const UDP_HEADER: usize = 8;

/// Room for the datagrams that one received packet brings.
const RECEIVE_BUFFER: usize = 65536;

/// Datagrams to send at an even rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// How many; `u64::MAX` for no end.
    pub count: u64,
    /// From one to the next.
    pub interval: Duration,
    /// Payload behind the UDP header, in bytes; at least 24.
    pub size: usize,
}

/// How sending went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloodStats {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that could not be sent: no address of that kind, or too large.
    pub unsent: u64,
}

/// What came in at a port, from whomever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpStats {
    /// Different datagrams of floods.
    pub received: u64,
    /// Their payload in bytes.
    pub bytes: u64,
    /// Datagrams that had come before.
    pub duplicates: u64,
    /// Datagrams of which a later one had come before, duplicates not counted.
    pub reordered: u64,
    /// Datagrams with other content than what was sent.
    pub corrupt: u64,
    /// When the last good datagram came.
    pub last: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Sender {
    socket: SocketHandle,
    to: SocketAddr,
    /// Of the payload, in bytes.
    size: usize,
    seed: u64,
    pace: Pace,
    pub(super) stats: FloodStats,
}

fn socket(port: u16, sent: usize, received: usize) -> udp::Socket<'static> {
    let buffer = |packets: usize, bytes| {
        udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; packets], vec![0; bytes])
    };
    let mut socket = udp::Socket::new(
        buffer(usize::from(received > 0) * 8, received),
        buffer(usize::from(sent > 0) * 2, sent),
    );
    let bound = socket.bind(port);
    debug_assert!(bound.is_ok(), "the socket is new, and the port is none");
    socket
}

impl Sender {
    pub(super) fn new(
        now: Instant,
        sockets: &mut SocketSet<'static>,
        (port, seed): (u16, u64),
        to: SocketAddr,
        plan: Flood,
    ) -> Self {
        let size = plan.size.max(STAMP_LEN);
        let socket = sockets.add(socket(port, size, 0));
        let pace = Pace::new(now, plan.count, plan.interval);
        Self { socket, to, size, seed, pace, stats: FloodStats::default() }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.pace.deadline()
    }

    pub(super) fn stop(&mut self, sockets: &mut SocketSet<'static>) {
        self.pace.stop();
        sockets.remove(self.socket);
    }

    /// Sends the datagram that is due.
    pub(super) fn act(&mut self, now: Instant, sockets: &mut SocketSet<'static>, outlook: &Outlook<'_>) {
        let Some(number) = self.pace.due(now) else { return };
        let (ip, size) = (self.to.ip(), self.size);
        let fits = outlook.can_reach(ip) && header_len(ip) + UDP_HEADER + size <= outlook.mtu;
        let socket = sockets.get_mut::<udp::Socket<'_>>(self.socket);
        let buffer = if fits { socket.send(size, self.to).ok() } else { None };
        match buffer {
            Some(buffer) => {
                content::stamp(self.seed, number, buffer);
                self.stats.sent += 1;
            }
            None => self.stats.unsent += 1,
        }
    }
}

/// Datagrams seen of one flood.
#[derive(Debug, Default)]
struct Seen {
    highest: u64,
    /// Bits by number, 64 in a row.
    bits: BTreeMap<u64, u64>,
}

#[derive(Debug)]
pub(super) struct Receiver {
    socket: SocketHandle,
    floods: BTreeMap<u64, Seen>,
    pub(super) stats: UdpStats,
}

impl Receiver {
    pub(super) fn new(sockets: &mut SocketSet<'static>, port: u16) -> Self {
        let socket = sockets.add(socket(port, 0, RECEIVE_BUFFER));
        Self { socket, floods: BTreeMap::new(), stats: UdpStats::default() }
    }

    pub(super) fn stop(&self, sockets: &mut SocketSet<'static>) {
        sockets.remove(self.socket);
    }

    pub(super) fn receive(&mut self, now: Instant, sockets: &mut SocketSet<'static>) {
        let socket = sockets.get_mut::<udp::Socket<'_>>(self.socket);
        while let Ok((payload, _)) = socket.recv() {
            let stats = &mut self.stats;
            let Some((seed, number)) = content::read(payload) else {
                stats.corrupt += 1;
                continue;
            };
            let seen = self.floods.entry(seed).or_default();
            let row = seen.bits.entry(number / 64).or_default();
            let bit = 1 << (number % 64);
            if *row & bit != 0 {
                stats.duplicates += 1;
                continue;
            }
            *row |= bit;
            stats.received += 1;
            stats.bytes += payload.len() as u64;
            stats.reordered += u64::from(number < seen.highest);
            stats.last = Some(now);
            seen.highest = seen.highest.max(number);
        }
    }
}
