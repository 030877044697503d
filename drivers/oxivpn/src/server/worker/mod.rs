//! The threads that move packets. They alone read the sockets, write to TCP connections and touch the device.
//!
//! ```text
//!            Command (orders, frames of the control channel)
//!  control  ────────────────────────────────────────────────►  worker   UDP sockets, TCP connections,
//!  thread   ◄────────────────────────────────────────────────  thread   device, table of peers
//!            News (reports, connections), Packets (control)
//! ```
//!
//! A data packet is opened or sealed where it was read; nothing is allocated or locked for it. Control packets go
//! into a buffer of fixed size, and are dropped and counted when it is full: their senders repeat them. Connections and
//! reports that remote packets cause wait at their source while the control thread is behind with its news. Orders are
//! carried out between batches and answered with [`Report::Applied`].
//!
//! With several workers each has a socket for each local address, listeners, connections and a queue of the device, and
//! a table of peers. The kernel spreads packets over them by their addresses. A peer belongs to the worker that has its
//! path ([`Share`]); a packet that comes elsewhere is handed over. The control thread sees all of them as a [`Crew`].
//! How many threads run them follows the load (`roster`).
//!
//! # More cores
//!
//! What N workers share, by count:
//!
//! | | per packet | per wake, for some 16 packets under load |
//! |---|---|---|
//! | instructions of ours, 1,412 bytes (`tests/snapshots/instructions.md`) | 1,330 out, 1,860 in, and 4,700 of the AEAD | |
//! | locks | 0 | 1 that only an order of the control thread contends for |
//! | atomic read-modify-writes | 0 | 3, of that lock and its flag, on a line of the worker's own |
//! | loads of what another writes | 0 | N - 1 flags of hand-overs, one of the control thread, four of the roster |
//! | packets handed over | 0.000 of 8 clients with 2 workers (`throughput --only 6`) | |
//!
//! A packet-id is taken from a key slot that one worker has, so there is no counter to share, and neither are the
//! replay window, statistics and routes: each worker has its own. So 16 workers do 16 times the work of one as long as
//! the kernel brings packets to the right one. It does so for datagrams by the hash of their addresses (`SO_REUSEPORT`),
//! and for the device by what a queue wrote before of the same flow (`drivers/net/tun.c`, `tun_automq_select_queue`):
//! only the first packets of a flow that begins on our side are handed over. If every packet had to be, as where a
//! client's packets change their address all the time, each would cost a copy of its bytes more, and each batch a lock
//! that two threads have. What does not spread is one client: it has one worker.
//!
//! A wake costs as much as several packets, and where each of N threads waits for itself, each finds an Nth of the
//! packets: 8 clients with 40,000 datagrams per second cost 1.15 to 1.18 times as much with two threads as with one, on
//! two cores that the clients use as well. So while one thread can do the work, it runs all workers, which costs 0.99 to
//! 1.10 times as much. At 110,000 one thread loses 15 %, and two lose 1 %.

mod crew;
mod engine;
mod flow;
mod foreign;
mod handover;
mod out;
mod roster;
mod share;
mod streams;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mio::{Poll, Waker};
use oxivpn_net::UdpSocket;
use oxivpn_net::tcp::Listener;
use oxivpn_proto::{DropCounters, Order, PeerRef, Report, StreamId, report};

use crate::client::Tun;
use crate::gremlin::Faults;
pub use crate::lane::mail::Packets;
use crate::lane::mail::{Mailbox, lock};
use crate::turn::Traffic;
pub use crew::Crew;
use engine::Engine;
pub(super) use engine::stream_limits;
use handover::Handover;
pub use share::Share;

/// Where packets of one worker come from.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// Datagram sockets, one for each local address; see [`Share`] for their numbers in paths.
    pub sockets: Vec<UdpSocket>,
    /// Listeners for connections.
    pub listeners: Vec<Listener>,
}

/// What all workers begin with.
#[derive(Clone, Debug)]
pub struct Common {
    /// Largest packet of the device, in bytes.
    pub mtu: u16,
    /// Our own inner addresses: no client's packets come from there.
    pub own: Vec<IpAddr>,
    /// Packets from one client to another do not go through the device.
    pub client_to_client: bool,
    /// Connections of all workers at one time.
    pub max_streams: usize,
    /// Data packets that wait for a slow connection.
    pub stream_queue: usize,
    /// Faults on purpose.
    pub faults: Option<Arc<Faults>>,
}

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// An order for the table of peers.
    Order(Order),
    /// A control packet for a connection.
    Frame(StreamId, Vec<u8>),
    /// No more is wanted of a connection: write what is queued, then close it; the second time close it at once.
    Close(StreamId),
    /// Where inner packets come from and go to; `None` throws them away.
    Device(Option<Tun>),
    /// Answer with [`News::Usage`] for each peer.
    AskUsage,
    /// Answer with [`News::Totals`].
    AskTotals,
    /// Give everything up and end.
    Stop,
}

/// What a worker tells.
#[derive(Debug)]
pub enum News {
    /// Of the table of peers.
    Report(Report),
    /// What a peer has moved, as asked for, or as it goes.
    Usage(PeerRef, report::Totals),
    /// A new connection.
    Accepted {
        /// Its name.
        id: StreamId,
        /// Where it comes from.
        remote: SocketAddr,
    },
    /// A connection ended or broke.
    Closed(StreamId),
    /// Too many connections; one from here was closed at once.
    Refused(SocketAddr),
    /// Sums so far.
    Totals(Box<Totals>),
    /// The device or a socket is of no more use; text for a person.
    Broken(String),
    /// The worker has ended.
    Ended,
}

/// Sums of a worker.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Bytes moved.
    pub traffic: Traffic,
    /// Packets dropped, by reason.
    pub drops: DropCounters,
    /// Control packets dropped because the control thread is behind.
    pub control_dropped: u64,
    /// What went through each worker.
    pub shares: Vec<Passed>,
}

/// What went through one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Packets read from the network and from the device. A super-packet of the device is one packet.
    pub packets: u64,
    /// Packets handed over to other workers, because their peers are there.
    pub handed: u64,
    /// Packets dropped because another worker is behind.
    pub refused: u64,
}

impl Totals {
    /// Sums of several workers.
    fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for one in all {
            sum.traffic += one.traffic;
            sum.drops.merge(&one.drops);
            sum.control_dropped += one.control_dropped;
            sum.shares.extend_from_slice(&one.shares);
        }
        sum
    }
}

/// What a worker and the control thread share.
struct Shared {
    commands: Mailbox<Command>,
    news: Mailbox<News>,
    packets: Mutex<Packets>,
    /// The worker has more to tell than the control thread has taken: it waits to be woken.
    waits: AtomicBool,
}

/// What of a worker can be made before all the others are known.
struct Draft {
    poll: Poll,
    shared: Arc<Shared>,
}

impl Draft {
    /// `wake` is called from the thread when there is news.
    fn new(wake: Box<dyn Fn() + Send + Sync>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), engine::WAKER)?;
        let shared = Arc::new(Shared {
            // A waker that fails has no thread to wake.
            commands: Mailbox::new(Box::new(move || drop(waker.wake()))),
            news: Mailbox::new(wake),
            packets: Mutex::new(Packets::new()),
            waits: AtomicBool::new(false),
        });
        Ok(Self { poll, shared })
    }

    /// The whole of it. `streams` counts the connections of all workers.
    fn engine(
        self,
        common: &Common,
        endpoints: Endpoints,
        share: Share,
        handover: Handover,
        streams: Arc<AtomicUsize>,
    ) -> io::Result<Engine> {
        Engine::new(common, endpoints, self.poll, self.shared, Among { share, handover, streams })
    }
}

/// What a worker has of the others.
struct Among {
    share: Share,
    handover: Handover,
    /// Connections of all.
    streams: Arc<AtomicUsize>,
}

/// The control thread's handle of a worker.
struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    /// Tells all of `commands`, which is empty afterwards.
    fn commands(&self, commands: &mut Vec<Command>) {
        self.shared.commands.send_all(commands);
    }

    /// Takes what came since the last call into `news` and `packets`, which must be empty. Of a connection that
    /// `packets` came from, `news` has told.
    fn take(&self, news: &mut Vec<News>, packets: &mut Packets) {
        self.shared.news.rest();
        core::mem::swap(&mut *lock(&self.shared.packets), packets);
        self.shared.news.take(news);
        if self.shared.waits.swap(false, Ordering::SeqCst) {
            self.shared.commands.wake();
        }
    }
}
