//! What a worker does in a turn.

use core::time::Duration;
use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use oxivpn_net::tcp::Listener;
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::plane::DataPlane;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::{Directive, Instant, Order, PeerRef, Report, StreamId};
use oxivpn_tun::offload::Offload;

use super::flow::OVERHEAD;
use super::handover::Handover;
use super::out::{Outward, Sockets};
use super::share::{Directory, Share};
use super::streams::Streams;
use super::{Among, Command, Common, Endpoints, News, Passed, Shared, Totals};
use crate::client::Tun;
use crate::gremlin::Faults;
use crate::lane::{Inbox, MAX_SUPER, Merger};
use crate::turn::{BATCH, Device as _, leaves};

pub(super) const WAKER: Token = Token(0);
const DEVICE: Token = Token(1);
const FIRST_SOCKET: usize = 2;
const FIRST_STREAM: usize = 1 << 17;

/// Bytes of control packets that fit into a connection's queue when data has filled its part.
const CONTROL_QUEUE: usize = 64 * 1024;

/// While so much news waits for the control thread, no connection is taken and no report of remote packets passed on.
const MAX_NEWS: usize = 4096;

/// A worker: everything that its packets touch.
pub(super) struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) share: Share,
    pub(super) directory: Directory,
    pub(super) handover: Handover,
    pub(super) passed: Passed,
    pub(super) poll: Poll,
    pub(super) sockets: Sockets,
    pub(super) listeners: Vec<(Listener, bool)>,
    pub(super) streams: Streams,
    pub(super) device: Option<Tun>,
    pub(super) device_readable: bool,
    pub(super) plane: LocalPlane,
    /// Those of this worker; the table knows of all.
    pub(super) peers: HashSet<PeerRef>,
    pub(super) client_to_client: bool,
    pub(super) max_streams: usize,
    pub(super) out: Outward,
    pub(super) inbox: Inbox,
    pub(super) merger: Merger,
    /// Where the device is read to.
    pub(super) staging: Box<[u8]>,
    pub(super) totals: Totals,
    pub(super) commands: Vec<Command>,
    pub(super) news: Vec<News>,
    pub(super) places: Vec<usize>,
    pub(super) mtu: usize,
    pub(super) faults: Option<Arc<Faults>>,
    /// A packet that was damaged or made up on purpose.
    pub(super) faulty: Vec<u8>,
    pub(super) stopped: bool,
}

/// Bytes that may wait for a connection whose queue is to hold `packets` packets from a device with this MTU: those
/// of data packets, and all.
pub(in crate::server) fn stream_limits(packets: usize, mtu: u16) -> (usize, usize) {
    let data = packets.max(1) * (usize::from(mtu) + OVERHEAD);
    (data, data + CONTROL_QUEUE)
}

impl Engine {
    pub(super) fn new(
        common: &Common,
        endpoints: Endpoints,
        poll: Poll,
        shared: Arc<Shared>,
        among: Among,
    ) -> io::Result<Self> {
        let Among { share, handover, streams } = among;
        let sockets = Sockets::new(endpoints.sockets, share, poll.registry(), FIRST_SOCKET)?;
        for (place, listener) in endpoints.listeners.iter().enumerate() {
            poll.registry().register(
                &mut SourceFd(&listener.as_raw_fd()),
                Token(FIRST_SOCKET + sockets.len() + place),
                Interest::READABLE,
            )?;
        }
        let max_frame = (usize::from(common.mtu) + OVERHEAD).max(MAX_CONTROL_DATAGRAM);
        let mut plane = LocalPlane::new();
        plane.serve(&common.own);
        let (data_limit, _) = stream_limits(common.stream_queue, common.mtu);
        Ok(Self {
            shared,
            share,
            directory: Directory::new(share.count),
            handover,
            passed: Passed::default(),
            sockets,
            listeners: endpoints.listeners.into_iter().map(|listener| (listener, true)).collect(),
            streams: Streams::new(max_frame, data_limit, FIRST_STREAM, share, streams),
            poll,
            device: None,
            device_readable: false,
            plane,
            peers: HashSet::new(),
            client_to_client: common.client_to_client,
            max_streams: common.max_streams,
            out: Outward::default(),
            inbox: Inbox::default(),
            merger: Merger::new(Offload::NONE),
            staging: vec![0; MAX_SUPER].into_boxed_slice(),
            totals: Totals::default(),
            commands: Vec::new(),
            news: Vec::new(),
            places: Vec::new(),
            mtu: common.mtu.into(),
            faults: common.faults.clone(),
            faulty: Vec::new(),
            stopped: false,
        })
    }

    /// Notes what the descriptors have to tell, and waits for it so long. Fails if that can't be done.
    pub(super) fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<(), ()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                self.broken(format!("cannot wait for packets: {error}"));
                return Err(());
            }
            _ => {}
        }
        for event in &*events {
            let read = event.is_readable() || event.is_read_closed() || event.is_error();
            let write = event.is_writable() || event.is_write_closed();
            self.notice(event.token(), read, write);
        }
        Ok(())
    }

    /// Sockets and device may have something to read, for all that is known.
    pub(super) fn take_for_readable(&mut self) {
        self.sockets.set_all_readable();
        self.device_readable = self.device.as_ref().is_some_and(Tun::reads);
    }

    /// When packets are to be made up, if that is wanted.
    pub(super) fn flood_deadline(&self) -> Option<Instant> {
        self.faults.as_ref().and_then(|faults| faults.flood_deadline())
    }

    /// Datagrams received that the kernel had not joined.
    pub(super) const fn singles(&self) -> u64 {
        self.inbox.singles()
    }

    /// Whether there is something to do without waiting.
    pub(super) fn is_busy(&self) -> bool {
        self.sockets.any_readable()
            || self.streams.has_readable()
            || (!self.waits() && self.listeners.iter().any(|(_, ready)| *ready))
            || (self.out.has_room()
                && (self.handover.has_parcels() || self.device_readable && self.device.is_some()))
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
    pub(super) fn turn(&mut self, now: Instant) {
        self.obey(now);
        self.receive_datagrams(now);
        self.accept();
        self.receive_streams(now);
        self.take_handed(now);
        self.forward(now);
        self.send_own(now);
        self.flood(now);
        self.handover.send();
        self.flush();
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
                    totals.shares = vec![self.passed];
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
        self.directory.note(&order.directive);
        if let Directive::AddPeer { params, .. } = &order.directive
            && params.ecn
        {
            self.sockets.hear_ecn();
        }
        match &order.directive {
            Directive::AddPeer { peer, .. } if self.elsewhere(*peer).is_none() => {
                self.peers.insert(*peer);
            }
            Directive::RemovePeer { peer } if self.peers.remove(peer) => {
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
        self.merger = Merger::new(device.as_ref().map_or(Offload::NONE, |device| device.offload()));
        self.device_readable = device.as_ref().is_some_and(Tun::reads);
        self.device = device;
        if let Some(fd) = self.device.as_ref().and_then(Tun::as_raw_fd)
            && let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), DEVICE, Interest::READABLE)
        {
            self.broken(format!("cannot watch the tunnel device: {error}"));
        }
    }

    pub(super) fn broken(&mut self, text: String) {
        self.news.push(News::Broken(text));
        self.shared.news.send_all(&mut self.news);
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
                match self.streams.insert(self.poll.registry(), link, self.max_streams) {
                    Ok(Some((id, remote))) => self.news.push(News::Accepted { id, remote }),
                    Ok(None) => self.news.push(News::Refused(remote)),
                    Err(_) => {}
                }
            }
        }
        // Before its first packet.
        self.shared.news.send_all(&mut self.news);
    }

    pub(super) fn lose_stream(&mut self, place: usize) {
        let wanted = self.streams.is_closing(place);
        if let Some(id) = self.streams.remove(place)
            && !wanted
        {
            self.news.push(News::Closed(id));
        }
        // One that waits for a descriptor can be had now.
        self.listeners.iter_mut().for_each(|(_, ready)| *ready = true);
    }

    pub(super) fn lose_device(&mut self, error: &io::Error) {
        self.device = None;
        self.broken(format!(
            "the tunnel device is gone ({error}): another program deleted it. Start again to make a new one"
        ));
    }

    /// To the network, as much as it takes.
    pub(super) fn flush(&mut self) {
        self.totals.traffic.full += self.out.flush(&self.sockets, &mut self.streams, self.poll.registry());
    }

    fn write_stream(&mut self, now: Instant, id: StreamId, bytes: &[u8]) {
        if !leaves(self.faults.as_deref(), now) {
            return;
        }
        if self.streams.write(id, bytes) {
            self.totals.traffic.link_write += bytes.len() as u64;
        } else {
            self.totals.traffic.full += 1;
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
