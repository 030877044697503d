//! The loop of the packet thread.

use core::time::Duration;
use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use oxivpn_net::tcp::Listener;
use oxivpn_proto::config::params::{DataFormat, Framing};
use oxivpn_proto::data::table::MAX_OWN_PACKET;
use oxivpn_proto::data::{Forward, Opened, Payload, Slot, is_multicast, overhead};
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::plane::DataPlane;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::wire::ids::PeerId;
use oxivpn_proto::{Directive, DropReason, Instant, Order, Path, PeerRef, Report, StreamId};

use super::mail::lock;
use super::out::{Outbound, Sent, Sockets};
use super::streams::Streams;
use super::{Command, News, Setup, Shared, Totals};
use crate::client::Tun;
use crate::clock;
use crate::gremlin::Faults;
use crate::turn::{BATCH, Device as _, HEADROOM, TAILROOM, is_gone, leaves};

pub(super) const WAKER: Token = Token(0);
const DEVICE: Token = Token(1);
const FIRST_SOCKET: usize = 2;
const FIRST_STREAM: usize = 1 << 17;

/// Largest datagram.
const MAX_DATAGRAM: usize = 65_535;

/// Bytes that a data packet adds to an inner one, at most.
const OVERHEAD: usize = overhead(DataFormat::Epoch(PeerId::UNDEFINED)) + Framing::Stub.overhead();

/// Bytes of control packets that fit into a connection's queue when data has filled its part.
const CONTROL_QUEUE: usize = 64 * 1024;

/// While so much news waits for the control thread, no connection is taken and no report of remote packets passed on.
const MAX_NEWS: usize = 4096;

/// Everything the thread owns.
pub(super) struct Engine {
    shared: Arc<Shared>,
    poll: Poll,
    sockets: Sockets,
    listeners: Vec<(Listener, bool)>,
    streams: Streams,
    device: Option<Tun>,
    device_readable: bool,
    plane: LocalPlane,
    peers: HashSet<PeerRef>,
    client_to_client: bool,
    max_streams: usize,
    out: Outbound,
    inbound: Vec<u8>,
    /// Where packets from one client to another are sealed.
    relay: Vec<u8>,
    totals: Totals,
    commands: Vec<Command>,
    news: Vec<News>,
    places: Vec<usize>,
    mtu: usize,
    faults: Option<Arc<Faults>>,
    /// A packet that was damaged or made up on purpose.
    faulty: Vec<u8>,
    stopped: bool,
}

/// Bytes that may wait for a connection whose queue is to hold `packets` packets from a device with this MTU: those
/// of data packets, and all.
pub(in crate::server) fn stream_limits(packets: usize, mtu: u16) -> (usize, usize) {
    let data = packets.max(1) * (usize::from(mtu) + OVERHEAD + 2);
    (data, data + CONTROL_QUEUE)
}

impl Engine {
    pub(super) fn new(setup: Setup, poll: Poll, shared: Arc<Shared>) -> io::Result<Self> {
        let sockets = Sockets::new(setup.sockets, poll.registry(), FIRST_SOCKET)?;
        for (place, listener) in setup.listeners.iter().enumerate() {
            poll.registry().register(
                &mut SourceFd(&listener.as_raw_fd()),
                Token(FIRST_SOCKET + sockets.len() + place),
                Interest::READABLE,
            )?;
        }
        let max_frame = (usize::from(setup.mtu) + OVERHEAD).max(MAX_CONTROL_DATAGRAM);
        let mut plane = LocalPlane::new();
        plane.serve(&setup.own);
        let (data_limit, _) = stream_limits(setup.stream_queue, setup.mtu);
        Ok(Self {
            shared,
            sockets,
            listeners: setup.listeners.into_iter().map(|listener| (listener, true)).collect(),
            streams: Streams::new(max_frame, data_limit, FIRST_STREAM),
            poll,
            device: None,
            device_readable: false,
            plane,
            peers: HashSet::new(),
            client_to_client: setup.client_to_client,
            max_streams: setup.max_streams,
            out: Outbound::new(setup.mtu),
            inbound: vec![0; MAX_DATAGRAM.max(2 * (max_frame + 2))],
            relay: vec![0; HEADROOM + MAX_DATAGRAM + TAILROOM],
            totals: Totals::default(),
            commands: Vec::new(),
            news: Vec::new(),
            places: Vec::new(),
            mtu: setup.mtu.into(),
            faults: setup.faults,
            faulty: Vec::new(),
            stopped: false,
        })
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Moves packets until told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        while !self.stopped {
            let flood = self.faults.as_ref().and_then(|faults| faults.flood_deadline());
            let timeout = match self.is_busy() {
                true => Some(Duration::ZERO),
                false => flood.map(|at| at - clock::now()),
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    self.broken(format!("cannot wait for packets: {error}"));
                    return;
                }
                _ => {}
            }
            for event in &events {
                let read = event.is_readable() || event.is_read_closed() || event.is_error();
                let write = event.is_writable() || event.is_write_closed();
                self.notice(event.token(), read, write);
            }
            self.turn(clock::now());
        }
    }

    fn is_busy(&self) -> bool {
        self.sockets.any_readable()
            || self.streams.has_readable()
            || (!self.waits() && self.listeners.iter().any(|(_, ready)| *ready))
            || (self.device_readable && self.device.is_some() && self.out.has_room())
    }

    /// Whether the control thread is behind with its news; it wakes us when it has taken them.
    fn waits(&self) -> bool {
        self.shared.waits.load(Ordering::SeqCst)
    }

    /// Whether there is room for news that remote packets cause any number of. The flag goes up before the look, so
    /// that the control thread sees it or we see that it has looked.
    fn has_news_room(&self) -> bool {
        let has_room = || self.shared.news.len() + self.news.len() < MAX_NEWS;
        if has_room() {
            return true;
        }
        self.shared.waits.store(true, Ordering::SeqCst);
        let room = has_room();
        if room {
            self.shared.waits.store(false, Ordering::SeqCst);
        }
        room
    }

    fn notice(&mut self, token: Token, read: bool, write: bool) {
        let first_listener = FIRST_SOCKET + self.sockets.len();
        match token {
            WAKER => {}
            DEVICE => self.device_readable = true,
            Token(number) if number < first_listener => {
                if read {
                    self.sockets.set_readable(token);
                }
                if write {
                    self.out.unblock(&self.sockets, self.poll.registry());
                }
            }
            Token(number) if number >= FIRST_STREAM => self.streams.notice(token, read, write),
            Token(number) => {
                if let Some((_, ready)) = self.listeners.get_mut(number - first_listener) {
                    *ready = true;
                }
            }
        }
    }

    /// A bounded piece of work of each kind.
    fn turn(&mut self, now: Instant) {
        self.obey(now);
        self.receive_datagrams(now);
        self.accept();
        self.receive_streams(now);
        self.forward(now);
        self.send_own(now);
        self.flood(now);
        self.totals.traffic.link_write += self.out.flush(&self.sockets, self.poll.registry());
        self.flush_streams();
        self.collect_reports();
        self.shared.news.send_all(&mut self.news);
    }

    fn collect_reports(&mut self) {
        while !self.waits()
            && let Some(report) = self.plane.poll_report()
        {
            self.news.push(News::Report(report));
            self.has_news_room();
        }
    }

    // From the control thread.

    fn obey(&mut self, now: Instant) {
        let mut commands = core::mem::take(&mut self.commands);
        self.shared.commands.take(&mut commands);
        let mut applied = None;
        for command in commands.drain(..) {
            match command {
                Command::Order(order) => {
                    applied = Some(order.seq);
                    self.apply(now, order);
                }
                Command::Frame(id, bytes) => self.write_stream(now, id, &bytes),
                Command::Close(id) => self.streams.close(id),
                Command::Device(device) => self.set_device(device),
                Command::AskUsage => {
                    let usage = |peer: &PeerRef| Some(News::Usage(*peer, self.plane.usage(*peer)?));
                    self.news.extend(self.peers.iter().filter_map(usage));
                }
                Command::AskTotals => {
                    let mut totals = self.totals.clone();
                    totals.drops.merge(self.plane.drops());
                    self.news.push(News::Totals(Box::new(totals)));
                }
                Command::Stop => self.stopped = true,
            }
        }
        self.commands = commands;
        // What an order sealed leaves before the answer to the order.
        self.send_own(now);
        self.collect_reports();
        if let Some(seq) = applied {
            self.news.push(News::Report(Report::Applied(seq)));
        }
    }

    fn apply(&mut self, now: Instant, order: Order) {
        match &order.directive {
            Directive::AddPeer { peer, .. } => {
                self.peers.insert(*peer);
            }
            Directive::RemovePeer { peer } => {
                self.peers.remove(peer);
                self.news.extend(self.plane.usage(*peer).map(|totals| News::Usage(*peer, totals)));
            }
            _ => {}
        }
        self.plane.apply(now, order);
    }

    fn set_device(&mut self, device: Option<Tun>) {
        if let Some(old) = self.device.as_ref().and_then(Tun::as_raw_fd) {
            // Fails if it is closed already, which is as good.
            let _ = self.poll.registry().deregister(&mut SourceFd(&old));
        }
        self.device = device;
        self.device_readable = true;
        if let Some(fd) = self.device.as_ref().and_then(Tun::as_raw_fd)
            && let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), DEVICE, Interest::READABLE)
        {
            self.broken(format!("cannot watch the tunnel device: {error}"));
        }
    }

    fn broken(&mut self, text: String) {
        self.news.push(News::Broken(text));
        self.shared.news.send_all(&mut self.news);
    }

    // From the network.

    fn receive_datagrams(&mut self, now: Instant) {
        let mut inbound = core::mem::take(&mut self.inbound);
        for place in 0..self.sockets.len() {
            for _ in 0..BATCH {
                if !self.sockets.is_readable(place) {
                    break;
                }
                match self.sockets.recv(place, &mut inbound) {
                    Ok(Some((len, path))) => self.receive(now, path, &mut inbound[..len]),
                    Ok(None) => {}
                    Err(error) => self.broken(format!("a UDP socket failed: {error}")),
                }
            }
        }
        self.inbound = inbound;
    }

    fn accept(&mut self) {
        if !self.listeners.iter().any(|(_, ready)| *ready) || !self.has_news_room() {
            return;
        }
        for place in 0..self.listeners.len() {
            for _ in 0..BATCH {
                let Some((listener, ready)) = self.listeners.get_mut(place).filter(|(_, ready)| *ready)
                else {
                    break;
                };
                let link = match listener.accept() {
                    Ok(link) => link,
                    Err(error) => {
                        // Without a free descriptor the connection waits until another one ends.
                        let out = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
                        *ready = error.kind() != ErrorKind::WouldBlock && !out;
                        continue;
                    }
                };
                let remote = link.remote_addr();
                if self.streams.len() >= self.max_streams {
                    self.news.push(News::Refused(remote));
                } else if let Ok((id, remote)) = self.streams.insert(self.poll.registry(), link) {
                    self.news.push(News::Accepted { id, remote });
                }
            }
        }
        // Before its first packet.
        self.shared.news.send_all(&mut self.news);
    }

    fn receive_streams(&mut self, now: Instant) {
        if !self.streams.has_readable() {
            return;
        }
        let mut places = core::mem::take(&mut self.places);
        let mut inbound = core::mem::take(&mut self.inbound);
        self.streams.take_readable(&mut places);
        for place in places.drain(..) {
            let Some(id) = self.streams.id(place) else { continue };
            let filled = self.streams.fill(place, &mut inbound);
            let mut ended = filled.ended;
            // Whoever was told to go has nothing more to say.
            let len = if self.streams.is_closing(place) { 0 } else { filled.len };
            let mut frames = self.streams.deframer().frames(&mut inbound[..len]);
            for frame in &mut frames {
                match frame {
                    Ok(packet) => self.receive(now, Path::Stream(id), packet),
                    Err(_) => ended = true,
                }
            }
            let consumed = frames.consumed();
            if ended {
                self.lose_stream(place);
            } else {
                self.streams.keep(place, &inbound[consumed..len]);
            }
        }
        self.inbound = inbound;
        self.places = places;
    }

    fn lose_stream(&mut self, place: usize) {
        let wanted = self.streams.is_closing(place);
        if let Some(id) = self.streams.remove(place)
            && !wanted
        {
            self.news.push(News::Closed(id));
        }
        // One that waits for a descriptor can be had now.
        self.listeners.iter_mut().for_each(|(_, ready)| *ready = true);
    }

    /// Takes a packet, or what faults on purpose leave of it.
    fn receive(&mut self, now: Instant, path: Path, bytes: &mut [u8]) {
        let Some(faults) = self.faults.clone() else { return self.take_packet(now, path, bytes) };
        let mut faulty = core::mem::take(&mut self.faulty);
        if let Some(bytes) = faults.incoming(now, bytes, &mut faulty) {
            self.take_packet(now, path, bytes);
        }
        self.faulty = faulty;
    }

    /// Opens a data packet and passes on what is in it; leaves a control packet to the control thread.
    fn take_packet(&mut self, now: Instant, path: Path, bytes: &mut [u8]) {
        let len = bytes.len() as u64;
        self.totals.traffic.link_read += len;
        match peek(bytes) {
            Peek::Control => self.hand_over(path, bytes),
            Peek::Unknown => self.totals.drops.count(DropReason::UnknownOpcode),
            // What is refused has been counted.
            Peek::Data(_) => {
                if let Ok(Opened { peer, payload }) = self.plane.open(now, path, bytes) {
                    self.totals.traffic.authentic += len;
                    if let Payload::Packet(packet) = payload {
                        self.deliver(now, peer, packet);
                    }
                }
            }
        }
    }

    fn hand_over(&mut self, path: Path, bytes: &[u8]) {
        if bytes.len() <= MAX_CONTROL_DATAGRAM && lock(&self.shared.packets).push(path, bytes) {
            self.shared.news.wake();
        } else {
            self.totals.control_dropped += 1;
        }
    }

    fn deliver(&mut self, now: Instant, from: PeerRef, packet: &[u8]) {
        if self.client_to_client {
            match self.plane.forward(from, packet) {
                Forward::Device => {}
                Forward::Peer(peer) => return self.relay(now, peer, packet),
                Forward::All => self.spread(now, Some(from), packet),
            }
        }
        let Some(device) = &mut self.device else {
            self.totals.drops.count(DropReason::NotUp);
            return;
        };
        match device.send(packet) {
            Ok(()) => self.totals.traffic.device_write += packet.len() as u64,
            Err(error) if is_gone(&error) => self.lose_device(&error),
            Err(_) => self.totals.traffic.device_refused += 1,
        }
    }

    fn lose_device(&mut self, error: &io::Error) {
        self.device = None;
        self.broken(format!(
            "the tunnel device is gone ({error}): another program deleted it. Start again to make a new one"
        ));
    }

    /// From one client to another. The packet is copied, because what follows it on a connection must stay whole.
    fn relay(&mut self, now: Instant, peer: PeerRef, packet: &[u8]) {
        if !self.has_room(peer, packet.len()) {
            self.totals.full += 1;
            return;
        }
        let len = packet.len();
        self.relay[HEADROOM..HEADROOM + len].copy_from_slice(packet);
        match self.plane.seal(now, peer, &mut Slot::new(&mut self.relay, HEADROOM, len)) {
            Ok(sealed) => {
                let relay = core::mem::take(&mut self.relay);
                self.transmit(now, sealed.path, &relay[sealed.start..sealed.start + sealed.len]);
                self.relay = relay;
            }
            Err(error) => self.totals.drops.count(crate::turn::drop_reason(&error)),
        }
    }

    /// A multicast goes to all clients but the one it came from (`openvpn: multi.c`, `multi_bcast`).
    fn spread(&mut self, now: Instant, from: Option<PeerRef>, packet: &[u8]) {
        let peers = core::mem::take(&mut self.peers);
        for &peer in peers.iter().filter(|peer| Some(**peer) != from) {
            self.relay(now, peer, packet);
        }
        self.peers = peers;
    }

    /// Whether a packet for this peer need not be dropped; asked before it is sealed, because a packet id that is
    /// used up and never seen looks like loss.
    fn has_room(&self, peer: PeerRef, len: usize) -> bool {
        self.streams.is_empty()
            || match self.plane.peer_path(peer) {
                Some(Path::Stream(id)) => self.streams.has_room(id, len + OVERHEAD + 2),
                _ => true,
            }
    }

    // To the network.

    /// Device to clients.
    fn forward(&mut self, now: Instant) {
        for _ in 0..BATCH {
            if !self.device_readable {
                return;
            }
            let (Some(device), Some(cell)) = (&mut self.device, self.out.free()) else { return };
            let room = cell.len() - TAILROOM;
            let len = match device.recv(&mut cell[HEADROOM..room]) {
                Ok(0) => continue,
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_gone(&error) => return self.lose_device(&error),
                // Nothing there, or EIO while the interface is down: more comes with a notice.
                Err(_) => {
                    self.device_readable = false;
                    return;
                }
            };
            self.totals.traffic.device_read += len as u64;
            let Some(peer) = self.plane.lookup(&cell[HEADROOM..HEADROOM + len]) else {
                if is_multicast(&cell[HEADROOM..HEADROOM + len]) {
                    let packet = cell[HEADROOM..HEADROOM + len].to_vec();
                    self.spread(now, None, &packet);
                } else {
                    self.totals.drops.count(DropReason::NoRoute);
                }
                continue;
            };
            if !self.streams.is_empty()
                && let Some(Path::Stream(id)) = self.plane.peer_path(peer)
                && !self.streams.has_room(id, len + OVERHEAD + 2)
            {
                self.totals.full += 1;
                continue;
            }
            match self.plane.seal(now, peer, &mut Slot::new(cell, HEADROOM, len)) {
                Ok(_) if !leaves(self.faults.as_deref(), now) => {}
                Ok(sealed) => match sealed.path {
                    Path::Stream(id) => {
                        let packet = &cell[sealed.start..sealed.start + sealed.len];
                        self.totals.traffic.link_write += packet.len() as u64;
                        self.streams.write(id, packet);
                    }
                    path => self.out.push(path, sealed.start, sealed.len),
                },
                Err(error) => self.totals.drops.count(crate::turn::drop_reason(&error)),
            }
        }
    }

    /// Pings and exit notices.
    fn send_own(&mut self, now: Instant) {
        let mut own = [0; MAX_OWN_PACKET];
        while let Some(transmit) = self.plane.poll_transmit(now, &mut own) {
            self.transmit(now, transmit.path, &own[..transmit.len]);
        }
    }

    /// Random packets for all, if that is wanted and due.
    fn flood(&mut self, now: Instant) {
        let Some(faults) = &self.faults else { return };
        let mut packet = core::mem::take(&mut self.faulty);
        let copies = faults.packet_flood(now, self.mtu, &mut packet);
        if copies > 0 {
            let mut peers: Vec<PeerRef> = self.peers.iter().copied().collect();
            peers.sort_unstable_by_key(|peer| (peer.id, peer.generation));
            for peer in (0..copies).flat_map(|_| &peers) {
                self.relay(now, *peer, &packet);
            }
        }
        self.faulty = packet;
    }

    fn transmit(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        match path {
            Path::Stream(id) => self.write_stream(now, id, bytes),
            Path::Datagram { .. } if !leaves(self.faults.as_deref(), now) => {}
            Path::Datagram { .. } => match self.sockets.send(path, bytes) {
                Sent::Gone => self.totals.traffic.link_write += bytes.len() as u64,
                Sent::Full => self.totals.full += 1,
            },
        }
    }

    fn write_stream(&mut self, now: Instant, id: StreamId, bytes: &[u8]) {
        if !leaves(self.faults.as_deref(), now) {
            return;
        }
        if self.streams.write(id, bytes) {
            self.totals.traffic.link_write += bytes.len() as u64;
        } else {
            self.totals.full += 1;
        }
    }

    fn flush_streams(&mut self) {
        let mut broken = core::mem::take(&mut self.places);
        self.streams.flush(&mut broken);
        for place in broken.drain(..) {
            self.lose_stream(place);
        }
        self.places = broken;
    }
}
