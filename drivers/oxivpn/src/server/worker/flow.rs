//! The ways of packets through a worker.

use core::ops::Range;
use std::io::ErrorKind;

use oxivpn_net::Ecn;
use oxivpn_proto::config::params::{DataFormat, Framing};
use oxivpn_proto::data::table::MAX_OWN_PACKET;
use oxivpn_proto::data::{Forward, Opened, Payload, is_multicast, overhead};
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::wire::ids::PeerId;
use oxivpn_proto::{DropReason, Instant, Path, PeerRef};
use oxivpn_tun::offload::VnetHeader;

use super::engine::Engine;
use super::foreign::Lies;
use super::handover::Item;
use crate::lane::inbox::{Received, range_in};
use crate::lane::mail::lock;
use crate::lane::{Uplink, heed_mark};
use crate::turn::{BATCH, Device as _, ends_stream, is_gone, leaves};

/// Bytes that a data packet adds to an inner one, at most, with the length that a stream wants.
pub(super) const OVERHEAD: usize =
    overhead(DataFormat::Epoch(PeerId::UNDEFINED)) + Framing::Stub.overhead() + 2;

impl Engine {
    // From the network.

    pub(super) fn receive_datagrams(&mut self, now: Instant) {
        for place in 0..self.sockets.len() {
            self.inbox.clear();
            for _ in 0..BATCH {
                if !self.sockets.is_readable(place) || !self.inbox.has_room() {
                    break;
                }
                if let Err(error) = self.sockets.recv(place, &mut self.inbox) {
                    self.broken(format!("a UDP socket failed: {error}"));
                }
            }
            self.open(now);
        }
    }

    pub(super) fn receive_streams(&mut self, now: Instant) {
        if !self.streams.has_readable() {
            return;
        }
        let mut places = core::mem::take(&mut self.places);
        self.streams.take_readable(&mut places);
        for place in places.drain(..) {
            self.inbox.clear();
            // Whoever was told to go has nothing more to say.
            let ended = self.streams.recv(place, &mut self.inbox);
            let gives_up = self.open(now);
            if ended || gives_up {
                self.lose_stream(place);
            }
        }
        self.places = places;
    }

    /// Opens what the inbox holds, or what faults on purpose leave of it, and passes it on. Whether the connection that
    /// it came on is to be given up; what came behind the reason for that is left.
    fn open(&mut self, now: Instant) -> bool {
        let mut gives_up = false;
        for index in 0..self.inbox.len() {
            let Received { path, start, len, ecn } = self.inbox.packet(index);
            let at = match &self.faults {
                None => start..start + len,
                Some(faults) => match self.inbox.with_faults(now, index, faults) {
                    Some(at) => at,
                    None => continue,
                },
            };
            gives_up = self.take_packet(now, path, ecn, at);
            if gives_up {
                break;
            }
        }
        self.passed.packets += self.inbox.len() as u64;
        self.flush_merger();
        gives_up
    }

    /// Writes to the device what was opened; the inbox may change then.
    pub(super) fn flush_merger(&mut self) {
        if let Some(device) = &mut self.device
            && let Err(error) = self.merger.flush(self.inbox.slab(), device, &mut self.totals.traffic)
        {
            self.lose_device(&error);
        }
    }

    /// Opens a data packet and passes on what is in it; leaves a control packet to the control thread. Whether the
    /// connection that it came on is to be given up.
    #[inline]
    fn take_packet(&mut self, now: Instant, path: Path, ecn: Ecn, at: Range<usize>) -> bool {
        let bytes = &self.inbox.slab()[at.clone()];
        self.totals.traffic.link_read += bytes.len() as u64;
        match peek(bytes) {
            Peek::Control => {
                if bytes.len() <= MAX_CONTROL_DATAGRAM && lock(&self.shared.packets).push(path, bytes) {
                    self.shared.news.wake();
                } else {
                    self.totals.control_dropped += 1;
                }
            }
            Peek::Unknown => self.totals.drops.count(DropReason::UnknownOpcode),
            Peek::Data(_) => match self.sender_elsewhere(path, at.clone()) {
                Some(to) => self.hand(to, Item::Sealed(path, ecn), &Lies::Received(at)),
                None => return self.take_data(now, path, ecn, at),
            },
        }
        false
    }

    /// Opens a data packet of one of our peers and passes on what is in it. Whether the connection that it came on is to
    /// be given up.
    #[inline]
    pub(super) fn take_data(&mut self, now: Instant, path: Path, ecn: Ecn, at: Range<usize>) -> bool {
        let len = at.len() as u64;
        match self.plane.open(now, path, &mut self.inbox.slab_mut()[at]) {
            Ok(Opened { peer, payload }) => {
                self.totals.traffic.authentic += len;
                if let Payload::Packet(packet) = payload
                    && heed_mark(ecn, packet, &mut self.totals.drops, &mut self.totals.traffic)
                {
                    let (at, len) = (packet.as_ptr() as usize, packet.len());
                    self.deliver(now, peer, range_in(self.inbox.slab(), at, len));
                }
            }
            // What is refused has been counted.
            Err(reason) => return ends_stream(path, reason),
        }
        false
    }

    #[inline]
    fn deliver(&mut self, now: Instant, from: PeerRef, at: Range<usize>) {
        if self.client_to_client {
            match self.plane.forward(from, &self.inbox.slab()[at.clone()]) {
                Forward::Device => {}
                Forward::Peer(peer) => return self.relay(now, peer, at),
                Forward::All => {
                    self.spread_everywhere(now, Some(from), &VnetHeader::PLAIN, &Lies::Received(at.clone()))
                }
            }
        }
        let Some(device) = &mut self.device else {
            self.totals.drops.count(DropReason::NotUp);
            return;
        };
        if let Err(error) = self.merger.push(self.inbox.slab(), at, device, &mut self.totals.traffic) {
            self.lose_device(&error);
        }
    }

    /// From one client to another.
    fn relay(&mut self, now: Instant, peer: PeerRef, at: Range<usize>) {
        let lies = Lies::Received(at);
        match self.elsewhere(peer) {
            Some(to) => self.hand(to, Item::Inner(peer, VnetHeader::PLAIN), &lies),
            None => {
                self.make_room();
                self.seal(now, peer, &VnetHeader::PLAIN, &lies);
            }
        }
    }

    pub(super) fn make_room(&mut self) {
        if !self.out.packets.has_room() {
            self.flush();
        }
    }

    /// A multicast goes to all clients but the one it came from (`openvpn: multi.c`, `multi_bcast`); here to those of
    /// this worker.
    pub(super) fn spread(&mut self, now: Instant, from: Option<PeerRef>, header: &VnetHeader, lies: &Lies) {
        let peers = core::mem::take(&mut self.peers);
        for &peer in peers.iter().filter(|peer| Some(**peer) != from) {
            self.make_room();
            self.seal(now, peer, header, lies);
        }
        self.peers = peers;
    }

    /// Whether a packet for this peer need not be dropped; asked before it is sealed, because a packet id that is
    /// used up and never seen looks like loss.
    fn has_room(&self, peer: PeerRef, len: usize) -> bool {
        self.streams.is_empty()
            || match self.plane.peer_path(peer) {
                Some(Path::Stream(id)) => self.streams.has_room(id, len + OVERHEAD),
                _ => true,
            }
    }

    // To the network.

    /// Device to clients.
    pub(super) fn forward(&mut self, now: Instant) {
        for _ in 0..BATCH {
            if !self.device_readable || !self.out.has_room() {
                return;
            }
            let Some(device) = &mut self.device else { return };
            match device.read(&mut self.staging) {
                Ok((_, 0)) => {}
                Ok((header, len)) => self.forward_one(now, &header, len),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_gone(&error) => return self.lose_device(&error),
                // Nothing there, or EIO while the interface is down: more comes with a notice.
                Err(_) => self.device_readable = false,
            }
        }
    }

    /// Seals what was read from the device.
    #[inline]
    fn forward_one(&mut self, now: Instant, header: &VnetHeader, len: usize) {
        self.totals.traffic.device_read += len as u64;
        self.passed.packets += 1;
        let (packet, lies) = (&self.staging[..len], Lies::Staged(len));
        let Some(peer) = self.plane.lookup(packet) else {
            if is_multicast(packet) {
                self.spread_everywhere(now, None, header, &lies);
            } else {
                self.totals.drops.count(DropReason::NoRoute);
            }
            return;
        };
        match self.elsewhere(peer) {
            Some(to) => self.hand(to, Item::Inner(peer, *header), &lies),
            None => self.seal(now, peer, header, &lies),
        }
    }

    /// Seals a packet for a peer of this worker.
    #[inline]
    pub(super) fn seal(&mut self, now: Instant, peer: PeerRef, header: &VnetHeader, lies: &Lies) {
        if !self.has_room(peer, lies.len()) {
            self.totals.traffic.full += 1;
            return;
        }
        let packet = match lies {
            Lies::Staged(len) => &self.staging[..*len],
            Lies::Received(at) => &self.inbox.slab()[at.clone()],
        };
        let mut uplink = Uplink {
            plane: &mut self.plane,
            out: &mut self.out.packets,
            drops: &mut self.totals.drops,
            traffic: &mut self.totals.traffic,
            faults: self.faults.as_deref(),
        };
        uplink.take(now, peer, header, packet);
    }

    /// Pings and exit notices.
    pub(super) fn send_own(&mut self, now: Instant) {
        // In front of each there is room for the length that a stream wants.
        const FRONT: usize = 2;
        while let Some(cell) = self.out.packets.reserve(FRONT + MAX_OWN_PACKET) {
            let Some(transmit) = self.plane.poll_transmit(now, &mut cell[FRONT..]) else { return };
            if leaves(self.faults.as_deref(), now) {
                self.totals.traffic.link_write += transmit.len as u64;
                self.out.packets.commit(transmit.path, FRONT, transmit.len);
            }
        }
    }

    /// Random packets for all, if that is wanted and due.
    pub(super) fn flood(&mut self, now: Instant) {
        let Some(faults) = &self.faults else { return };
        let mut packet = core::mem::take(&mut self.faulty);
        let copies = faults.packet_flood(now, self.mtu, &mut packet);
        if copies > 0 {
            let mut peers: Vec<PeerRef> = self.peers.iter().copied().collect();
            peers.sort_unstable_by_key(|peer| (peer.id, peer.generation));
            self.staging[..packet.len()].copy_from_slice(&packet);
            let lies = Lies::Staged(packet.len());
            let others = self.others();
            for to in (0..copies).flat_map(|_| others.clone()) {
                self.hand(to, Item::All(None, VnetHeader::PLAIN), &lies);
            }
            for peer in (0..copies).flat_map(|_| &peers) {
                self.make_room();
                self.seal(now, *peer, &VnetHeader::PLAIN, &lies);
            }
        }
        self.faulty = packet;
    }
}
