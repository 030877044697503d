//! Transfers over TCP, checked byte by byte.
//!
//! The client says in a head of 32 bytes what will come and what it wants, then both sides send at the same time and
//! close their half when they are through.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use oxivpn_proto::Instant;
use smoltcp::iface::{Context, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, CongestionControl, State};

use super::content;

const HEAD_LEN: usize = 32;

/// How TCP is set up on a host. It holds for connections and servers made after it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSettings {
    /// Congestion control.
    pub control: Control,
    /// Size of the receive and of the send buffer of a connection, in bytes.
    pub window: usize,
    /// A connection from whose other end nothing came for so long is given up, an idle one too.
    pub give_up: Duration,
}

impl Default for TcpSettings {
    fn default() -> Self {
        Self { control: Control::Reno, window: 256 * 1024, give_up: Duration::from_secs(120) }
    }
}

/// Congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// None: as much as the window allows.
    None,
    /// RFC 5681. It calculates in integers.
    Reno,
    /// RFC 9438. It calculates in floating point: sums and products only, which are the same on all machines that
    /// follow IEEE 754, and so in debug and release builds.
    Cubic,
}

/// What to send and to fetch in one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes that the client sends.
    pub upload: u64,
    /// Bytes that the server sends.
    pub download: u64,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Waits for the server's answer.
    #[default]
    Connecting,
    /// Connected.
    Running,
    /// All bytes arrived or were acknowledged.
    Done,
    /// The other side closed in order, but bytes are missing, or there are too many. This never happens to TCP over a
    /// network that only loses and reorders.
    Wrong,
    /// The other side refused or reset the connection.
    Reset,
    /// Nothing came from the other side for too long.
    TimedOut,
    /// The host has no address of that kind, or not the connection's any more.
    NoAddress,
}

/// A client's view of its transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferStats {
    /// How far it is.
    pub progress: Progress,
    /// When it began.
    pub started: Instant,
    /// When the connection stood.
    pub connected: Option<Instant>,
    /// When it ended, well or not.
    pub finished: Option<Instant>,
    /// Bytes sent and acknowledged.
    pub uploaded: u64,
    /// Bytes received in order.
    pub downloaded: u64,
    /// Received bytes that are not what was sent.
    pub corrupt: u64,
}

impl TransferStats {
    /// Bytes per second in both directions together, until the end or `now`.
    pub fn goodput(&self, now: Instant) -> u64 {
        let micros = (self.finished.unwrap_or(now) - self.started).as_micros().max(1);
        let bytes = u128::from(self.uploaded + self.downloaded);
        u64::try_from(bytes * 1_000_000 / micros).unwrap_or(u64::MAX)
    }
}

/// What a server did, all connections together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Connections taken.
    pub accepted: u64,
    /// Of them, those still open.
    pub open: u64,
    /// Transfers that are through.
    pub done: u64,
    /// See [`Progress::Wrong`].
    pub wrong: u64,
    /// Connections that the other side reset.
    pub reset: u64,
    /// Connections given up.
    pub timed_out: u64,
    /// Connections that lost their address here.
    pub no_address: u64,
    /// Bytes received in order.
    pub received: u64,
    /// Bytes sent and acknowledged, by connections that ended.
    pub sent: u64,
    /// Received bytes that are not what was sent; all of a head of which any bit is wrong.
    pub corrupt: u64,
}

/// One end of a connection.
#[derive(Debug)]
struct Stream {
    socket: SocketHandle,
    local: IpAddr,
    is_client: bool,
    seed: u64,
    /// What the head says, as far as it is known.
    plan: Option<Transfer>,
    head: [u8; HEAD_LEN],
    head_len: usize,
    /// Bytes written and read, the head not counted.
    written: u64,
    received: u64,
    corrupt: u64,
    closed: bool,
    progress: Progress,
}

impl Stream {
    const fn new(socket: SocketHandle, local: IpAddr, is_client: bool) -> Self {
        Self {
            socket,
            local,
            is_client,
            seed: 0,
            plan: None,
            head: [0; HEAD_LEN],
            head_len: 0,
            written: 0,
            received: 0,
            corrupt: 0,
            closed: false,
            progress: Progress::Connecting,
        }
    }

    fn client(socket: SocketHandle, local: IpAddr, seed: u64, plan: Transfer) -> Self {
        let head = content::sealed([seed, plan.upload, plan.download], 0);
        Self { seed, plan: Some(plan), head, ..Self::new(socket, local, true) }
    }

    const fn is_over(&self) -> bool {
        !matches!(self.progress, Progress::Connecting | Progress::Running)
    }

    /// Bytes to write and to read.
    fn sizes(&self) -> Option<(u64, u64)> {
        let Transfer { upload, download } = self.plan?;
        Some(if self.is_client { (upload, download) } else { (download, upload) })
    }

    /// Seed of what is written or read: the two directions differ.
    const fn seed_of(&self, upload: bool) -> u64 {
        if upload { self.seed } else { !self.seed }
    }

    /// Bytes of content that the other side has acknowledged.
    fn acknowledged(&self, sockets: &SocketSet<'static>) -> u64 {
        let waiting = sockets.get::<tcp::Socket<'_>>(self.socket).send_queue() as u64;
        self.written.saturating_sub(waiting)
    }

    /// Moves bytes, and looks what became of the connection. `closed` is what it means if it is closed for no reason
    /// that is known here.
    fn pump(&mut self, sockets: &mut SocketSet<'static>, closed: Progress) {
        let socket = sockets.get_mut::<tcp::Socket<'_>>(self.socket);
        if self.progress == Progress::Connecting && socket.may_send() {
            self.progress = Progress::Running;
        }
        self.read(socket);
        self.write(socket);
        if socket.is_listening() {
            // It was reset before it stood.
            socket.close();
        }
        if self.is_over() {
            return;
        }
        let shut = match socket.state() {
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait => !socket.may_recv(),
            _ => false,
        };
        let gone = socket.state() == State::Closed;
        let (to_write, to_read) = self.sizes().unwrap_or((0, u64::MAX));
        // That the other side closed is not asked for: the stack stops repeating a FIN that is alone in flight if
        // repeated acknowledgements come, so it may never arrive.
        let through =
            self.closed && self.written == to_write && self.received == to_read && socket.send_queue() == 0;
        if self.plan.is_some() && self.received > to_read || shut && self.received < to_read {
            self.progress = Progress::Wrong;
        } else if through && !(gone && closed == Progress::NoAddress) {
            self.progress = Progress::Done;
        } else if gone {
            self.progress = closed;
        }
    }

    fn read(&mut self, socket: &mut tcp::Socket<'static>) {
        while socket.can_recv() {
            let taken = socket.recv(|bytes| {
                let bytes = &*bytes;
                (bytes.len(), self.take(bytes))
            });
            if !matches!(taken, Ok(true)) {
                socket.abort();
                self.progress = Progress::Wrong;
                return;
            }
        }
    }

    /// Checks received bytes; whether it makes sense to go on.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        if self.plan.is_none() {
            let missing = (HEAD_LEN - self.head_len).min(bytes.len());
            let (head, rest) = bytes.split_at(missing);
            self.head[self.head_len..self.head_len + missing].copy_from_slice(head);
            self.head_len += missing;
            bytes = rest;
            if self.head_len < HEAD_LEN {
                return true;
            }
            let word = |index: usize| content::read_u64(&self.head, index * 8).unwrap_or_default();
            let (seed, upload, download) = (word(0), word(1), word(2));
            if self.head != content::sealed([seed, upload, download], 0) {
                self.corrupt += HEAD_LEN as u64;
                return false;
            }
            self.seed = seed;
            self.plan = Some(Transfer { upload, download });
        }
        self.corrupt += content::differences(self.seed_of(!self.is_client), self.received, bytes);
        self.received += bytes.len() as u64;
        true
    }

    fn write(&mut self, socket: &mut tcp::Socket<'static>) {
        let Some((to_write, _)) = self.sizes() else { return };
        if self.is_client && self.head_len < HEAD_LEN && socket.can_send() {
            self.head_len += socket.send_slice(&self.head[self.head_len..]).unwrap_or_default();
        }
        let started = !self.is_client || self.head_len == HEAD_LEN;
        while started && self.written < to_write && socket.can_send() {
            let (seed, offset) = (self.seed_of(self.is_client), self.written);
            let left = usize::try_from(to_write - offset).unwrap_or(usize::MAX);
            let sent = socket.send(|room| {
                let len = room.len().min(left);
                content::fill(seed, offset, &mut room[..len]);
                (len, len)
            });
            self.written += sent.unwrap_or_default() as u64;
        }
        if started && self.written == to_write && !self.closed && socket.may_send() {
            socket.close();
            self.closed = true;
        }
    }

    /// Whether the stack is through with the connection, too.
    fn is_gone(&self, sockets: &SocketSet<'static>) -> bool {
        let socket = sockets.get::<tcp::Socket<'_>>(self.socket);
        // Somebody who was aborted still has a reset to send.
        self.is_over() && socket.state() == State::Closed && socket.remote_endpoint().is_none()
    }
}

impl TcpSettings {
    fn socket(&self) -> tcp::Socket<'static> {
        let buffer = || tcp::SocketBuffer::new(vec![0; self.window]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_congestion_control(match self.control {
            Control::None => CongestionControl::None,
            Control::Reno => CongestionControl::Reno,
            Control::Cubic => CongestionControl::Cubic,
        });
        let micros = u64::try_from(self.give_up.as_micros()).unwrap_or(u64::MAX);
        socket.set_timeout(Some(smoltcp::time::Duration::from_micros(micros)));
        socket
    }
}

/// A transfer that this host began.
#[derive(Debug)]
pub(super) struct Client {
    stream: Option<Stream>,
    pub(super) stats: TransferStats,
}

impl Client {
    /// `local` is the address of its own that reaches `to`; without one there is no connection.
    pub(super) fn new(
        now: Instant,
        (sockets, context): (&mut SocketSet<'static>, &mut Context),
        settings: &TcpSettings,
        local: Option<SocketAddr>,
        to: SocketAddr,
        (seed, plan): (u64, Transfer),
    ) -> Self {
        let mut stats = TransferStats { started: now, ..TransferStats::default() };
        let mut socket = settings.socket();
        let connected = local.filter(|&local| socket.connect(context, to, local).is_ok());
        let Some(local) = connected else {
            stats.progress = Progress::NoAddress;
            stats.finished = Some(now);
            return Self { stream: None, stats };
        };
        let stream = Stream::client(sockets.add(socket), local.ip(), seed, plan);
        Self { stream: Some(stream), stats }
    }

    /// Moves bytes. `closed` is what it means if the connection is closed now.
    pub(super) fn pump(
        &mut self,
        now: Instant,
        sockets: &mut SocketSet<'static>,
        closed: impl Fn(IpAddr) -> Progress,
    ) {
        let Some(stream) = &mut self.stream else { return };
        stream.pump(sockets, closed(stream.local));
        let stats = &mut self.stats;
        if stats.connected.is_none() && stream.progress != Progress::Connecting {
            stats.connected = Some(now).filter(|_| stream.head_len > 0);
        }
        if stats.finished.is_none() {
            stats.progress = stream.progress;
            stats.uploaded = stats.uploaded.max(stream.acknowledged(sockets));
            stats.downloaded = stream.received;
            stats.finished = stream.is_over().then_some(now);
        }
        stats.corrupt = stream.corrupt;
        if stream.is_gone(sockets) {
            self.stop(sockets);
        }
    }

    pub(super) fn stop(&mut self, sockets: &mut SocketSet<'static>) {
        if let Some(stream) = self.stream.take() {
            sockets.remove(stream.socket);
        }
    }
}

/// Takes connections on a port.
#[derive(Debug)]
pub(super) struct Server {
    port: u16,
    settings: TcpSettings,
    listener: SocketHandle,
    streams: Vec<Stream>,
    pub(super) stats: ServerStats,
}

impl Server {
    pub(super) fn new(sockets: &mut SocketSet<'static>, settings: TcpSettings, port: u16) -> Self {
        let listener = Self::listen(sockets, &settings, port);
        Self { port, settings, listener, streams: Vec::new(), stats: ServerStats::default() }
    }

    fn listen(sockets: &mut SocketSet<'static>, settings: &TcpSettings, port: u16) -> SocketHandle {
        let mut socket = settings.socket();
        let listening = socket.listen(port);
        debug_assert!(listening.is_ok(), "the socket is new, and the port is none");
        sockets.add(socket)
    }

    /// The stack would give a repeated first segment to the listener if that comes first in its list, and the
    /// answer, with other numbers, ends the connection that the first one made. Whether there is such a connection;
    /// then the listener is away until the next [`pump`](Self::pump).
    pub(super) fn hide_from(
        &self,
        sockets: &mut SocketSet<'static>,
        (from, to): (SocketAddr, SocketAddr),
    ) -> bool {
        let same = |stream: &Stream| {
            let socket = sockets.get::<tcp::Socket<'_>>(stream.socket);
            let ends = socket.local_endpoint().zip(socket.remote_endpoint());
            ends.is_some_and(|(local, remote)| local == to.into() && remote == from.into())
        };
        let known = self.port == to.port() && self.streams.iter().any(same);
        if known {
            sockets.get_mut::<tcp::Socket<'_>>(self.listener).close();
        }
        known
    }

    pub(super) fn pump(&mut self, sockets: &mut SocketSet<'static>, closed: impl Fn(IpAddr) -> Progress) {
        let listener = sockets.get_mut::<tcp::Socket<'_>>(self.listener);
        if listener.state() == State::Closed {
            let listening = listener.listen(self.port);
            debug_assert!(listening.is_ok(), "it listened before");
        } else if let Some(local) = listener.local_endpoint().filter(|_| !listener.is_listening()) {
            self.streams.push(Stream::new(self.listener, local.addr.into(), false));
            self.listener = Self::listen(sockets, &self.settings, self.port);
            self.stats.accepted += 1;
        }
        let stats = &mut self.stats;
        self.streams.retain_mut(|stream| {
            let (received, corrupt, over) = (stream.received, stream.corrupt, stream.is_over());
            stream.pump(sockets, closed(stream.local));
            stats.received += stream.received - received;
            stats.corrupt += stream.corrupt - corrupt;
            if stream.is_over() && !over {
                stats.sent += stream.acknowledged(sockets);
                match stream.progress {
                    Progress::Done => stats.done += 1,
                    Progress::Wrong => stats.wrong += 1,
                    Progress::Reset => stats.reset += 1,
                    Progress::TimedOut => stats.timed_out += 1,
                    Progress::NoAddress => stats.no_address += 1,
                    Progress::Connecting | Progress::Running => {}
                }
            }
            let gone = stream.is_gone(sockets);
            if gone {
                sockets.remove(stream.socket);
            }
            !gone
        });
        stats.open = self.streams.iter().filter(|stream| !stream.is_over()).count() as u64;
    }

    pub(super) fn stop(&mut self, sockets: &mut SocketSet<'static>) {
        sockets.remove(self.listener);
        for stream in self.streams.drain(..) {
            sockets.remove(stream.socket);
        }
        self.stats.open = 0;
    }
}
