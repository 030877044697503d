//! Echo requests.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use oxivpn_proto::Instant;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, Ipv6Address};

use super::content::{self, STAMP_LEN};
use super::{Outlook, Pace, header_len};

/// Requests that are remembered for their answers.
const MAX_OPEN: usize = 4096;

const ICMP_HEADER: usize = 8;

/// Echo requests to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// How many; `u64::MAX` for no end.
    pub count: u64,
    /// From one to the next.
    pub interval: Duration,
    /// Payload behind the ICMP header, in bytes; at least 24.
    pub size: usize,
}

/// How echo requests went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PingStats {
    /// Requests sent.
    pub sent: u64,
    /// Requests that could not be sent: no address of that kind, or too large.
    pub unsent: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Answers to a request that was answered already, or is forgotten.
    pub duplicates: u64,
    /// Answers with other content than the request's.
    pub corrupt: u64,
    /// Shortest round trip.
    pub shortest: Option<Duration>,
    /// Longest round trip.
    pub longest: Option<Duration>,
    /// All round trips together.
    pub total: Duration,
    /// When the last answer came.
    pub last_answer: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Ping {
    socket: SocketHandle,
    ident: u16,
    to: IpAddr,
    /// Of the payload, in bytes.
    size: usize,
    seed: u64,
    pace: Pace,
    open: BTreeMap<u64, Instant>,
    pub(super) stats: PingStats,
}

impl Ping {
    pub(super) fn new(
        now: Instant,
        sockets: &mut SocketSet<'static>,
        (ident, seed): (u16, u64),
        to: IpAddr,
        plan: Pings,
    ) -> Self {
        let size = plan.size.max(STAMP_LEN);
        let buffer = || {
            let packets = vec![icmp::PacketMetadata::EMPTY; 4];
            icmp::PacketBuffer::new(packets, vec![0; 2 * (size + ICMP_HEADER)])
        };
        let mut socket = icmp::Socket::new(buffer(), buffer());
        let bound = socket.bind(icmp::Endpoint::Ident(ident));
        debug_assert!(bound.is_ok(), "the socket is new");
        let pace = Pace::new(now, plan.count, plan.interval);
        let (open, stats) = (BTreeMap::new(), PingStats::default());
        Self { socket: sockets.add(socket), ident, to, size, seed, pace, open, stats }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.pace.deadline()
    }

    pub(super) fn stop(&mut self, sockets: &mut SocketSet<'static>) {
        self.pace.stop();
        sockets.remove(self.socket);
    }

    /// Sends the request that is due.
    pub(super) fn act(&mut self, now: Instant, sockets: &mut SocketSet<'static>, outlook: &Outlook<'_>) {
        let Some(number) = self.pace.due(now) else { return };
        let len = ICMP_HEADER + self.size;
        let socket = sockets.get_mut::<icmp::Socket<'_>>(self.socket);
        let fits = outlook.can_reach(self.to) && header_len(self.to) + len <= outlook.mtu;
        let buffer = if fits { socket.send(len, self.to.into()).ok() } else { None };
        let Some(buffer) = buffer else {
            self.stats.unsent += 1;
            return;
        };
        let mut data = vec![0; self.size];
        content::stamp(self.seed, number, &mut data);
        // Checksums are made where the packet leaves.
        let (ident, seq_no, data, none) =
            (self.ident, number as u16, &data[..], ChecksumCapabilities::ignored());
        match self.to {
            IpAddr::V4(_) => Icmpv4Repr::EchoRequest { ident, seq_no, data }
                .emit(&mut Icmpv4Packet::new_unchecked(buffer), &none),
            IpAddr::V6(to) => Icmpv6Repr::EchoRequest { ident, seq_no, data }.emit(
                &Ipv6Address::UNSPECIFIED,
                &to,
                &mut Icmpv6Packet::new_unchecked(buffer),
                &none,
            ),
        }
        self.stats.sent += 1;
        self.open.insert(number, now);
        if self.open.len() > MAX_OPEN {
            self.open.pop_first();
        }
    }

    /// Takes answers.
    pub(super) fn receive(&mut self, now: Instant, sockets: &mut SocketSet<'static>) {
        let socket = sockets.get_mut::<icmp::Socket<'_>>(self.socket);
        while let Ok((message, from)) = socket.recv() {
            let none = ChecksumCapabilities::ignored();
            let data = match self.to {
                IpAddr::V4(_) => Icmpv4Packet::new_checked(message).ok().and_then(|packet| {
                    match Icmpv4Repr::parse(&packet, &none) {
                        Ok(Icmpv4Repr::EchoReply { data, .. }) => Some(data),
                        _ => None,
                    }
                }),
                IpAddr::V6(to) => Icmpv6Packet::new_checked(message).ok().and_then(|packet| {
                    match Icmpv6Repr::parse(&to, &to, &packet, &none) {
                        Ok(Icmpv6Repr::EchoReply { data, .. }) => Some(data),
                        _ => None,
                    }
                }),
            };
            // The stack hands requests with our number over, too.
            let Some(data) = data.filter(|_| IpAddr::from(from) == self.to) else { continue };
            let known = |&(seed, number): &(u64, u64)| seed == self.seed && number <= self.pace.number;
            let Some((_, number)) = content::read(data).filter(known) else {
                self.stats.corrupt += 1;
                continue;
            };
            let Some(sent) = self.open.remove(&number) else {
                self.stats.duplicates += 1;
                continue;
            };
            let trip = now - sent;
            let stats = &mut self.stats;
            stats.answered += 1;
            stats.shortest = Some(stats.shortest.map_or(trip, |shortest| shortest.min(trip)));
            stats.longest = Some(stats.longest.map_or(trip, |longest| longest.max(trip)));
            stats.total += trip;
            stats.last_answer = Some(now);
        }
    }
}
