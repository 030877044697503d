//! The clients: one control machine and one data plane for all, a socket for each.

use core::time::Duration;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use oxivpn_net::tcp::{Connecting, Progress, TcpOptions, start_connect};
use oxivpn_net::{Family, UdpOptions, UdpSocket};
use oxivpn_profile::Profile;
use oxivpn_profile::profile::Protocol;
use oxivpn_proto::config::{ClientConfig, Credentials, NodeConfig};
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::plane::{Capabilities, DataPlane as _};
use oxivpn_proto::wire::data::{Peek, peek};
use oxivpn_proto::{Event, Instant, Node, Path, SessionHandle, StreamId};

use super::options::Options;
use super::report::Report;
use crate::lane::{Inbox, Outbox};
use crate::link::Transport;
use crate::turn::Link as _;
use crate::{clock, entropy};

/// Clients that begin in one go, so that those which are under way get their turn.
const BURST: usize = 64;

/// Packets taken from one socket in one go.
const BATCH: usize = 16;

/// Handshakes under way at once if no rate is given.
const UNDER_WAY: usize = 64;

/// One client.
struct Member {
    transport: Transport,
    began: Instant,
    up: bool,
    /// It leaves because it is told to.
    leaving: bool,
}

enum Slot {
    Free,
    /// A TCP connection is being made.
    Opening(Connecting, Instant),
    Taken(Member),
}

/// Where a run is.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Connecting,
    /// Since when, and until when at most.
    Renegotiating(Instant, Instant),
    Holding(Instant),
    Done,
}

pub(super) struct Fleet {
    poll: Poll,
    node: Node,
    plane: LocalPlane,
    config: Arc<ClientConfig>,
    credentials: Option<Credentials>,
    options: Options,
    server: SocketAddr,
    protocol: Protocol,
    slots: Vec<Slot>,
    by_session: BTreeMap<SessionHandle, usize>,
    free: Vec<usize>,
    under_way: usize,
    alive: usize,
    started: Instant,
    report: Report,
    stage: Stage,
    /// Sessions that have not begun their second key.
    to_renegotiate: Vec<SessionHandle>,
    inbox: Inbox,
    outbox: Outbox,
}

impl Fleet {
    pub(super) fn new(
        profile: &Profile,
        config: Arc<ClientConfig>,
        credentials: Option<Credentials>,
        options: Options,
    ) -> Result<Self> {
        let Some(remote) = profile.remotes.first() else { bail!("the profile names no `remote`") };
        let server = std::net::ToSocketAddrs::to_socket_addrs(&(remote.host.as_str(), remote.port))
            .with_context(|| format!("cannot resolve {}", remote.host))?
            .next()
            .with_context(|| format!("{} has no address", remote.host))?;
        let node_config = Arc::new(NodeConfig { capabilities: Capabilities::USERSPACE });
        Ok(Self {
            poll: Poll::new().context("cannot wait for sockets")?,
            node: Node::new(node_config, entropy::seed()?, clock::anchor()),
            plane: LocalPlane::new(),
            config,
            credentials,
            server,
            protocol: remote.protocol,
            slots: (0..options.clients).map(|_| Slot::Free).collect(),
            by_session: BTreeMap::new(),
            free: (0..options.clients).rev().collect(),
            under_way: 0,
            alive: 0,
            started: clock::now(),
            report: Report::default(),
            stage: Stage::Connecting,
            to_renegotiate: Vec::new(),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            options,
        })
    }

    pub(super) fn report(mut self) -> Report {
        self.report.alive = self.alive as u64;
        self.report
    }

    pub(super) fn run(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        self.started = clock::now();
        while self.stage != Stage::Done {
            let now = clock::now();
            self.begin_some(now)?;
            self.node.handle_timeout(now);
            self.drain(now);
            self.advance(now);
            let due = self.node.deadline().map(|deadline| deadline.at - now);
            let tick =
                if self.free.is_empty() { Duration::from_millis(100) } else { Duration::from_millis(1) };
            let wait = due.map_or(tick, |due| (due + Duration::from_micros(500)).min(tick));
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => result.context("cannot wait for sockets")?,
            }
            let now = clock::now();
            for event in &events {
                self.on_ready(now, event.token().0);
                self.drain(now);
            }
        }
        Ok(())
    }

    /// How many may begin by now.
    fn allowance(&self, now: Instant) -> usize {
        let churning = self.options.churn.is_some_and(|time| now < self.started + time);
        let wanted = if churning { usize::MAX } else { self.options.clients };
        let begun = self.report.begun as usize;
        if self.options.churn.is_some() && !churning {
            return 0;
        }
        let left = wanted.saturating_sub(begun);
        let by_rate = match self.options.rate {
            Some(rate) => ((now - self.started).as_secs_f64() * rate) as usize,
            None => begun + UNDER_WAY.saturating_sub(self.under_way),
        };
        left.min(by_rate.saturating_sub(begun)).min(BURST)
    }

    fn begin_some(&mut self, now: Instant) -> Result<()> {
        if self.stage != Stage::Connecting {
            return Ok(());
        }
        for _ in 0..self.allowance(now) {
            let Some(index) = self.free.pop() else { return Ok(()) };
            self.report.begun += 1;
            self.under_way += 1;
            match self.protocol {
                Protocol::Udp => {
                    let socket = UdpSocket::bind(&UdpOptions::new(Family::of(self.server.ip())))?;
                    let transport = Transport::udp(socket, number(index), self.server);
                    self.connect(now, now, index, transport)?;
                }
                Protocol::Tcp => {
                    let connecting = start_connect(self.server, &TcpOptions::default())?;
                    self.watch(index, connecting.as_raw_fd())?;
                    self.slots[index] = Slot::Opening(connecting, now);
                }
            }
        }
        Ok(())
    }

    fn watch(&self, index: usize, fd: i32) -> Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut SourceFd(&fd), Token(index), both).context("cannot watch a socket")
    }

    fn connect(&mut self, now: Instant, began: Instant, index: usize, transport: Transport) -> Result<()> {
        if self.protocol == Protocol::Udp {
            self.watch(index, transport.as_raw_fd())?;
        }
        let (config, credentials) = (self.config.clone(), self.credentials.clone());
        let session = self.node.connect(now, transport.path(), config, credentials)?;
        self.by_session.insert(session, index);
        self.slots[index] = Slot::Taken(Member { transport, began, up: false, leaving: false });
        Ok(())
    }

    fn on_ready(&mut self, now: Instant, index: usize) {
        if let Slot::Opening(..) = &self.slots[index] {
            self.finish_opening(now, index);
        }
        for _ in 0..BATCH {
            let Slot::Taken(member) = &mut self.slots[index] else { return };
            self.inbox.clear();
            let received = member.transport.recv(&mut self.inbox);
            let (packets, slab) = self.inbox.packets();
            for packet in packets {
                let bytes = &mut slab[packet.start..packet.start + packet.len];
                match peek(bytes) {
                    Peek::Data(_) => drop(self.plane.open(now, packet.path, bytes)),
                    Peek::Control => self.node.handle_datagram(now, packet.path, bytes),
                    Peek::Unknown => {}
                }
            }
            match received {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    if let Path::Stream(id) = member.transport.path() {
                        self.node.handle_stream(now, id, oxivpn_proto::StreamChange::Closed);
                    }
                    return;
                }
            }
        }
        if let Slot::Taken(member) = &mut self.slots[index] {
            // A stream that can't be written is seen when it is read.
            let _ = member.transport.flush();
        }
    }

    fn finish_opening(&mut self, now: Instant, index: usize) {
        let Slot::Opening(connecting, began) = core::mem::replace(&mut self.slots[index], Slot::Free) else {
            return;
        };
        let failure = match connecting.finish() {
            Ok(Progress::Pending(connecting)) => {
                self.slots[index] = Slot::Opening(connecting, began);
                return;
            }
            Ok(Progress::Connected(link)) => {
                let transport = Transport::tcp(link, StreamId(self.report.begun << 16 | index as u64));
                self.connect(now, began, index, transport).err().map(|error| format!("{error:#}"))
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(failure) = failure {
            self.under_way -= 1;
            self.free.push(index);
            *self.report.failures.entry(failure).or_default() += 1;
        }
    }

    /// Orders, packets and news, until there are none.
    fn drain(&mut self, now: Instant) {
        const FRONT: usize = 2;
        loop {
            while let Some(order) = self.node.poll_directive() {
                self.plane.apply(now, order);
            }
            let Some(report) = self.plane.poll_report() else { break };
            self.node.handle_report(now, report);
        }
        while let Some(cell) = self.outbox.reserve(FRONT + MAX_CONTROL_DATAGRAM) {
            let room = &mut cell[FRONT..];
            let transmit = self.node.poll_transmit(now, room).or_else(|| self.plane.poll_transmit(now, room));
            let Some(transmit) = transmit else { break };
            self.outbox.commit(transmit.path, FRONT, transmit.len);
            let index = match transmit.path {
                Path::Datagram { socket, .. } => usize::from(socket),
                Path::Stream(StreamId(id)) => (id & 0xffff) as usize,
            };
            if let Some(Slot::Taken(member)) = self.slots.get_mut(index)
                && let Some((run, bytes)) = self.outbox.next()
            {
                // What doesn't leave is repeated, as after any loss.
                let _ = member.transport.send(&run, bytes);
                let _ = member.transport.flush();
            }
            self.outbox.clear();
        }
        while let Some(event) = self.node.poll_event() {
            self.on_event(now, event);
        }
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Established { session, .. } => self.on_up(now, session),
            Event::Rekeyed { .. } => self.report.rekeyed += 1,
            Event::Closed { session, cause } => {
                let Some(index) = self.by_session.remove(&session) else { return };
                let Slot::Taken(member) = core::mem::replace(&mut self.slots[index], Slot::Free) else {
                    return;
                };
                if member.up {
                    self.alive -= 1;
                } else {
                    self.under_way -= 1;
                }
                if !member.leaving {
                    *self.report.failures.entry(cause.to_string()).or_default() += 1;
                }
                self.free.push(index);
            }
            _ => {}
        }
    }

    fn on_up(&mut self, now: Instant, session: SessionHandle) {
        let churns = self.options.churn.is_some();
        let Some(&index) = self.by_session.get(&session) else { return };
        let Slot::Taken(member) = &mut self.slots[index] else { return };
        member.up = true;
        self.under_way -= 1;
        self.alive += 1;
        self.report.up += 1;
        self.report.times.push(now - member.began);
        self.report.span = now - self.started;
        if churns {
            member.leaving = true;
            self.node.close(now, session);
        }
    }

    /// Renegotiations begun each second.
    fn pace(&self) -> f64 {
        self.options.rate.unwrap_or(200.0)
    }

    /// On to the next stage, when all are through the present one.
    fn advance(&mut self, now: Instant) {
        let begun_all = match self.options.churn {
            Some(time) => now >= self.started + time,
            None => self.report.begun as usize >= self.options.clients,
        };
        self.stage = match self.stage {
            Stage::Connecting if begun_all && self.under_way == 0 && self.options.renegotiate => {
                self.to_renegotiate = self.by_session.keys().copied().collect();
                // A key is in use when the other side was seen with it, or a minute after its handshake.
                let all = Duration::from_secs_f64(self.alive as f64 / self.pace());
                Stage::Renegotiating(now, now + all + Duration::from_secs(90))
            }
            Stage::Connecting if begun_all && self.under_way == 0 => Stage::Holding(now + self.options.hold),
            Stage::Renegotiating(_, until) if now >= until || self.report.rekeyed >= self.alive as u64 => {
                Stage::Holding(now + self.options.hold)
            }
            Stage::Renegotiating(since, _) => {
                let due = ((now - since).as_secs_f64() * self.pace()) as usize;
                let begun = self.alive.saturating_sub(self.to_renegotiate.len());
                for _ in begun..due {
                    let Some(session) = self.to_renegotiate.pop() else { break };
                    self.node.renegotiate(now, session);
                }
                self.drain(now);
                self.stage
            }
            Stage::Holding(until) if now >= until => Stage::Done,
            stage => stage,
        };
    }
}

/// The number of a socket in paths.
fn number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
