//! The data plane of one thread: peers, their keys, and the way from a packet to its peer.

use core::net::IpAddr;
use std::collections::{BTreeSet, HashMap, VecDeque};

use ipnet::IpNet;
use slab::Slab;

use super::entry::Entry;
use super::inner::{self, Inner};
use super::key_slot::KeySlot;
use super::routes::Routes;
use super::send::SealError;
use super::slot::{Sealed, Slot};
use super::usage::Bounds;
use super::{Span, framing, front_overhead, mss, tail_overhead};
use crate::clock::Instant;
use crate::config::cipher::DataCipher;
use crate::config::params::{DataParams, Framing};
use crate::directive::{Directive, PeerRef};
use crate::drops::{DropCounters, DropReason};
use crate::keys::data_key::DataKey;
use crate::path::Path;
use crate::report::{Report, Totals};
use crate::transmit::Transmit;
use crate::wire::data::{DataHeader, Peek, peek};
use crate::wire::ids::{KeyId, PeerId};

/// Largest packet that the table makes by itself (a ping or an exit message), in bytes. A buffer for
/// [`Table::poll_transmit`] must hold this much.
pub const MAX_OWN_PACKET: usize = 64;

/// Where the payload of such a packet starts: behind the longest header and a byte of framing.
const OWN_START: usize = 25;

const _: () = assert!(OWN_START + inner::EXIT.len() + 1 + super::TAG_LEN <= MAX_OWN_PACKET);

/// Peers, keys and routes. Takes orders, seals and opens packets, tells news.
///
/// - Orders: [`apply`](Self::apply). An order for a peer of another generation has no effect.
/// - Packets: [`lookup`](Self::lookup) and [`seal`](Self::seal) on the way out, [`open`](Self::open) on the
///   way in. Neither allocates.
/// - After each call drain [`poll_transmit`](Self::poll_transmit) and [`poll_report`](Self::poll_report).
pub struct Table {
    entries: Slab<Entry>,
    ids: HashMap<PeerId, usize>,
    paths: HashMap<Path, usize>,
    /// Peers that have no routes and need none.
    unfiltered: BTreeSet<usize>,
    /// Peers found by path that may float.
    roaming: BTreeSet<usize>,
    routes: Routes,
    /// This is a server's table: see [`serve`](Self::serve).
    serving: bool,
    /// The peer for inner addresses without a route: the only one that is unfiltered.
    default: Option<usize>,
    /// The peer that a packet from an unknown path may be from: the only one found by path that may float.
    floating: Option<usize>,
    last_in: Option<(Path, Option<PeerId>, usize)>,
    last_out: Option<(PeerRef, usize)>,
    reports: VecDeque<Report>,
    own: VecDeque<OwnPacket>,
    drops: DropCounters,
    bounds: fn(DataCipher) -> Bounds,
}

struct OwnPacket {
    path: Path,
    start: usize,
    len: usize,
    bytes: [u8; MAX_OWN_PACKET],
}

/// An opened packet.
#[derive(Debug)]
pub struct Opened<'b> {
    /// From whom.
    pub peer: PeerRef,
    /// What.
    pub payload: Payload<'b>,
}

/// Where a packet of a peer goes, see [`Table::forward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// To the tun device.
    Device,
    /// To another peer, past the device.
    Peer(PeerRef),
    /// Multicast: to the device and to all other peers.
    All,
}

/// What the next packet for a peer will be like, see [`Table::outgoing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it goes.
    pub path: Path,
    /// Bytes that sealing puts in front of an IP packet.
    pub front: usize,
    /// Bytes that it puts behind, at most.
    pub tail: usize,
    /// Whether its outer header gets the ECN bits of the inner one, see [`DataParams::ecn`].
    pub ecn: bool,
}

/// What was in a packet.
#[derive(Debug)]
pub enum Payload<'b> {
    /// An IPv4 or IPv6 packet for the tun device, in the datagram's buffer.
    Packet(&'b mut [u8]),
    /// A ping, an exit notice (see [`Report::PeerExit`]) or another message of the data channel.
    Handled,
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// A table without peers.
    pub fn new() -> Self {
        Self::with_bounds(Bounds::of)
    }

    pub(super) fn with_bounds(bounds: fn(DataCipher) -> Bounds) -> Self {
        Self {
            entries: Slab::new(),
            ids: HashMap::new(),
            paths: HashMap::new(),
            unfiltered: BTreeSet::new(),
            roaming: BTreeSet::new(),
            serving: false,
            routes: Routes::default(),
            default: None,
            floating: None,
            last_in: None,
            last_out: None,
            reports: VecDeque::new(),
            own: VecDeque::new(),
            drops: DropCounters::default(),
            bounds,
        }
    }

    /// Makes this the table of a server whose tunnel has these addresses. They belong to no peer, whatever routes
    /// there are, neither as source nor as destination; and no peer is without filter (`openvpn: multi.c`,
    /// `multi_get_instance_by_virtual_addr`). To be called before the first order.
    pub fn serve(&mut self, own: &[IpAddr]) {
        self.serving = true;
        for &address in own {
            self.routes.reserve(address);
        }
    }

    // Packets.

    /// The peer that an inner packet belongs to, by its destination. `None` if there is none or the packet
    /// isn't IP; count it as [`DropReason::NoRoute`].
    #[inline]
    pub fn lookup(&self, packet: &[u8]) -> Option<PeerRef> {
        let address = inner::destination(packet)?;
        let at = self.routes.find(address).or(self.default)?;
        self.entries.get(at).map(|e| e.peer)
    }

    /// Where an opened packet from `from` goes if clients may talk to each other past the device
    /// (`client-to-client`; `openvpn: multi.c`, `multi_process_incoming_link_data`). One that would go back where it
    /// came from goes to the device, whose host counts its hops; so does a broadcast, which tun devices have none of.
    #[inline]
    pub fn forward(&self, from: PeerRef, packet: &[u8]) -> Forward {
        let to = inner::destination(packet);
        if to.is_some_and(|to| to.is_multicast()) {
            return Forward::All;
        }
        let to = to.filter(|address| !inner::is_group(*address));
        let to = to.and_then(|address| self.routes.find(address)).and_then(|at| self.entries.get(at));
        to.filter(|entry| entry.peer != from).map_or(Forward::Device, |entry| Forward::Peer(entry.peer))
    }

    /// Where the next packet for `peer` will go and what is put around it, so that its payload can be written to its
    /// final place. `None` if there is no such peer.
    #[inline]
    pub fn outgoing(&mut self, peer: PeerRef) -> Option<Outgoing> {
        let at = self.find_out(peer)?;
        let entry = self.entries.get(at)?;
        let DataParams { format, framing, ecn, .. } = entry.params;
        let front = front_overhead(format) + framing.front();
        Some(Outgoing { path: entry.path, front, tail: tail_overhead(format) + framing.tail(), ecn })
    }

    #[inline]
    fn find_out(&mut self, peer: PeerRef) -> Option<usize> {
        match self.last_out {
            Some((last, at)) if last == peer => Some(at),
            _ => {
                let at = self.find(peer)?;
                self.last_out = Some((peer, at));
                Some(at)
            }
        }
    }

    /// Encrypts the slot's payload in place for `peer`, with its MSS clamped.
    ///
    /// # Errors
    /// [`SealError`]; the payload may be lost then.
    #[inline]
    pub fn seal(&mut self, now: Instant, peer: PeerRef, slot: &mut Slot<'_>) -> Result<Sealed, SealError> {
        let at = self.find_out(peer).ok_or(SealError::NoPeer)?;
        let entry = self.entries.get_mut(at).ok_or(SealError::NoPeer)?;
        if let Some(max) = entry.params.mss {
            mss::clamp(slot.payload_mut(), max);
        }
        entry.seal(now, slot, &mut self.reports)
    }

    /// Whose a data packet seems to be, by its header and path alone: nothing of it is authenticated. `None` if it is
    /// nobody's, or no data packet.
    #[inline]
    pub fn sender(&mut self, from: Path, datagram: &[u8]) -> Option<PeerRef> {
        let Peek::Data(header) = peek(datagram) else { return None };
        let at = self.demux(from, header).ok()?;
        self.entries.get(at).map(|entry| entry.peer)
    }

    /// Authenticates and decrypts a data packet in place.
    ///
    /// # Errors
    /// Why the packet was dropped, which is also counted in [`drops`](Self::drops). The datagram's bytes may
    /// have changed.
    #[inline]
    pub fn open<'b>(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &'b mut [u8],
    ) -> Result<Opened<'b>, DropReason> {
        match self.open_inner(now, from, datagram) {
            Ok((peer, Some(span))) => Ok(Opened { peer, payload: Payload::Packet(&mut datagram[span]) }),
            Ok((peer, None)) => Ok(Opened { peer, payload: Payload::Handled }),
            Err(reason) => {
                self.drops.count(reason);
                Err(reason)
            }
        }
    }

    #[inline]
    fn open_inner(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &mut [u8],
    ) -> Result<(PeerRef, Option<Span>), DropReason> {
        let header = match peek(datagram) {
            Peek::Data(header) => header,
            Peek::Control => return Err(DropReason::UnexpectedOpcode),
            Peek::Unknown => return Err(unknown(datagram)),
        };
        let at = self.demux(from, header)?;
        let entry = self.entries.get_mut(at).ok_or(DropReason::UnknownPeer)?;
        if !entry.may_come_from(&from) {
            return Err(DropReason::UnknownPath);
        }
        let span = entry.open(now, header, datagram, &mut self.reports)?;
        entry.note_path(now, from, &mut self.reports);
        let bytes = datagram.len();
        let span = entry.unframe(datagram, span, &mut self.reports)?;
        let payload = &mut datagram[span.clone()];
        let kind = inner::classify(payload);
        if kind != Inner::Ip {
            entry.uncount_received(bytes);
        }
        match kind {
            Inner::Ip => {}
            Inner::Exit => {
                entry.note_exit(&mut self.reports);
                return Ok((entry.peer, None));
            }
            Inner::Ping | Inner::Occ => return Ok((entry.peer, None)),
            Inner::Other => {
                if entry.params.framing == Framing::None
                    && let Some(found) = framing::suspect(payload)
                {
                    entry.note_misframed(found, &mut self.reports);
                }
                return Err(DropReason::NotIp);
            }
        }
        if entry.filtered && inner::source(payload).and_then(|a| self.routes.find(a)) != Some(at) {
            return Err(DropReason::InnerSource);
        }
        if let Some(max) = entry.params.mss {
            mss::clamp(payload, max);
        }
        Ok((entry.peer, Some(span)))
    }

    /// Finds the peer of a packet (`openvpn: mudp.c`, `multi_get_create_instance_udp`). A by-path peer is
    /// found by the packet's path whatever id the packet bears; so is everything on a stream. Others are
    /// found by id, without falling back to the path.
    #[inline]
    fn demux(&mut self, from: Path, header: DataHeader) -> Result<usize, DropReason> {
        if let Some((path, peer, at)) = self.last_in
            && path == from
            && peer == header.peer
        {
            return Ok(at);
        }
        let at = self.demux_uncached(from, header)?;
        self.last_in = Some((from, header.peer, at));
        Ok(at)
    }

    fn demux_uncached(&self, from: Path, header: DataHeader) -> Result<usize, DropReason> {
        let on_path = self.paths.get(&from).copied();
        if let Some(at) = on_path
            && (from.is_stream() || self.entries.get(at).is_some_and(|e| e.params.by_path))
        {
            return Ok(at);
        }
        match header.peer {
            Some(id) if id != PeerId::UNDEFINED => {
                let by_id = self.ids.get(&id).copied();
                let by_id = by_id.filter(|&at| self.entries.get(at).is_some_and(|e| !e.params.by_path));
                by_id.or(self.floating).ok_or(DropReason::UnknownPeer)
            }
            _ => on_path.or(self.floating).ok_or(DropReason::UnknownPath),
        }
    }

    // Orders.

    /// Carries out an order. Orders for unknown peers or other generations have no effect: they were
    /// overtaken.
    pub fn apply(&mut self, now: Instant, order: Directive) {
        self.last_in = None;
        self.last_out = None;
        match order {
            Directive::AddPeer { peer, path, params } => self.add(now, peer, path, params),
            Directive::InstallKey { peer, key, data } => self.install(peer, key, data),
            Directive::PromoteKey { peer, key } => self.with(peer, |e| e.promote(key)),
            Directive::RetireKey { peer, key } => self.with(peer, |e| e.retire(key)),
            Directive::AddRoute { peer, inner } => self.add_route(peer, inner),
            Directive::RemoveRoute { peer, inner } => self.remove_route(peer, inner),
            Directive::MovePeer { peer, path } => self.move_peer(peer, path),
            Directive::AskActivity { peer } => {
                if let Some(entry) = self.entry(peer) {
                    self.reports.push_back(entry.activity());
                }
            }
            Directive::SendPing { peer } => self.send_own(now, peer, &inner::PING),
            Directive::SendExit { peer } => self.send_own(now, peer, &inner::EXIT),
            Directive::RemovePeer { peer } => {
                if let Some(at) = self.find(peer) {
                    self.remove(at);
                }
            }
        }
    }

    fn find(&self, peer: PeerRef) -> Option<usize> {
        let at = *self.ids.get(&peer.id)?;
        (self.entries.get(at)?.peer == peer).then_some(at)
    }

    fn with(&mut self, peer: PeerRef, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.find(peer).and_then(|at| self.entries.get_mut(at)) {
            change(entry);
        }
    }

    fn add(&mut self, now: Instant, peer: PeerRef, path: Path, params: DataParams) {
        if let Some(&old) = self.ids.get(&peer.id) {
            if self.entries.get(old).is_some_and(|e| e.peer.generation >= peer.generation) {
                return;
            }
            self.remove(old);
        }
        let mut entry = Entry::new(now, peer, path, params);
        // Who is found by id is one of many.
        entry.filtered = self.serving || !params.by_path;
        let filtered = entry.filtered;
        let at = self.entries.insert(entry);
        self.ids.insert(peer.id, at);
        self.paths.insert(path, at);
        if !filtered {
            self.unfiltered.insert(at);
        }
        if params.by_path && params.float {
            self.roaming.insert(at);
        }
        self.recount();
    }

    fn remove(&mut self, at: usize) {
        let Some(entry) = self.entries.try_remove(at) else { return };
        self.ids.remove(&entry.peer.id);
        self.unfiltered.remove(&at);
        self.roaming.remove(&at);
        self.leave_path(&entry.path, at);
        for net in entry.owned {
            self.routes.remove(net, at);
        }
        self.recount();
    }

    fn leave_path(&mut self, path: &Path, at: usize) {
        if self.paths.get(path) == Some(&at) {
            self.paths.remove(path);
        }
    }

    fn install(&mut self, peer: PeerRef, key: KeyId, data: DataKey) {
        let bounds = self.bounds;
        self.with(peer, |e| {
            let slot = KeySlot::new(data, key, &e.params, bounds(e.params.cipher));
            e.install(key, slot);
        });
    }

    fn add_route(&mut self, peer: PeerRef, net: IpNet) {
        let Some(at) = self.find(peer) else { return };
        let net = net.trunc();
        if self.routes.is_reserved(net) {
            return;
        }
        if let Some(loser) = self.routes.insert(net, at)
            && loser != at
            && let Some(loser) = self.entries.get_mut(loser)
        {
            loser.owned.remove(&net);
        }
        self.with(peer, |e| {
            e.owned.insert(net);
            e.filtered = true;
        });
        self.unfiltered.remove(&at);
        self.recount();
    }

    fn remove_route(&mut self, peer: PeerRef, net: IpNet) {
        let Some(at) = self.find(peer) else { return };
        let net = net.trunc();
        self.routes.remove(net, at);
        self.with(peer, |e| {
            e.owned.remove(&net);
        });
    }

    fn move_peer(&mut self, peer: PeerRef, path: Path) {
        let Some(at) = self.find(peer) else { return };
        let Some(entry) = self.entries.get_mut(at) else { return };
        let old = entry.path;
        entry.move_to(path);
        self.leave_path(&old, at);
        self.paths.insert(path, at);
        self.recount();
    }

    /// Finds the default and the floating peer anew.
    fn recount(&mut self) {
        let only = |set: &BTreeSet<usize>| set.first().copied().filter(|_| set.len() == 1);
        self.default = only(&self.unfiltered);
        let floating = only(&self.roaming);
        self.floating = floating.filter(|&at| self.entries.get(at).is_some_and(|e| !e.path.is_stream()));
    }

    /// Seals a message of our own at once, so that the peer may be removed right after. Without a key to
    /// send with there is nobody to tell.
    fn send_own(&mut self, now: Instant, peer: PeerRef, message: &[u8]) {
        let mut bytes = [0; MAX_OWN_PACKET];
        bytes[OWN_START..OWN_START + message.len()].copy_from_slice(message);
        let mut slot = Slot::new(&mut bytes, OWN_START, message.len());
        if let Ok(Sealed { path, start, len }) = self.seal(now, peer, &mut slot) {
            self.own.push_back(OwnPacket { path, start, len, bytes });
            if let Some(entry) = self.find(peer).and_then(|at| self.entries.get_mut(at)) {
                entry.uncount_sent(len);
            }
        }
    }

    // Questions.

    /// All data packets of a peer and their bytes on the wire, pings and exit notices included.
    pub fn usage(&self, peer: PeerRef) -> Option<Totals> {
        self.entry(peer).map(Entry::usage)
    }

    /// Where a peer's packets go.
    pub fn peer_path(&self, peer: PeerRef) -> Option<Path> {
        self.entry(peer).map(|entry| entry.path)
    }

    fn entry(&self, peer: PeerRef) -> Option<&Entry> {
        self.find(peer).and_then(|at| self.entries.get(at))
    }

    // Outputs.

    /// Writes the next packet that the table made by itself to the start of `out`, which must hold
    /// [`MAX_OWN_PACKET`] bytes. `None` if there is none, or `out` is too small for it.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> Option<Transmit> {
        let packet = self.own.front()?;
        let OwnPacket { path, start, len, .. } = *packet;
        out.get_mut(..len)?.copy_from_slice(&packet.bytes[start..start + len]);
        self.own.pop_front();
        Some(Transmit { path, len })
    }

    /// The next piece of news.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Counts of dropped packets.
    pub const fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// Counts a packet that the caller dropped before it came here ([`DropReason::NoRoute`]).
    pub fn count_drop(&mut self, reason: DropReason) {
        self.drops.count(reason);
    }

    #[cfg(test)]
    pub(super) fn key_mut(&mut self, peer: PeerRef, key: KeyId) -> Option<&mut KeySlot> {
        let at = self.find(peer)?;
        self.entries.get_mut(at)?.key_mut(key)
    }
}

/// Why a datagram without a data header is refused.
fn unknown(datagram: &[u8]) -> DropReason {
    use crate::wire::opcode::Opcode;
    match datagram.first().map(|&b| Opcode::parse(b)) {
        Some(Err(_)) => DropReason::UnknownOpcode,
        Some(Ok(_)) | None => DropReason::Malformed,
    }
}

#[cfg(test)]
mod tests;
