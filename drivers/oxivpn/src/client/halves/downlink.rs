//! The thread of the way in: UDP socket, opening half of the plane, device.

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError, TrySendError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
use oxivpn_proto::plane::DataPlane as _;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::{Deadline, DropCounters, Instant, Order, Path, Report, StreamChange, StreamId, Transmit};

use crate::client::Tun;
use crate::clock;
use crate::gremlin::Faults;
use crate::lane::Inbox;
use crate::lane::mail::{Packets, lock};
use crate::link::Transport;
use crate::turn::{Control, Failure, Link as _, Ready, Traffic, Turn};

const WAKER: Token = Token(0);
const LINK: Token = Token(1);

/// News that may wait for the main thread.
const MAX_NEWS: usize = 1024;

/// While the main thread is so far behind, nothing is received; after so long it is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// What the thread is told.
enum Command {
    /// To be carried out by the opening half.
    Order(Order),
    /// Receive from here.
    Link(Transport),
    /// Let go of the link with this path.
    Unlink(Path, Done),
    /// Write to this device, and let go of the one before.
    Device(Option<Tun>, Done),
    /// Answer with the sums.
    AskTotals(Sender<Totals>),
    Stop,
}

/// Whoever waits for the end of a command sees this go, be it that the thread is gone.
struct Done(#[expect(dead_code, reason = "its end is what counts")] Sender<()>);

/// What the thread tells.
pub(super) enum News {
    /// Of the opening half.
    Report(Report),
    /// All orders up to this one are carried out.
    Applied(u64),
    /// The link with this path is of no more use.
    Link(Path, io::Error),
    /// The device is gone.
    Device(io::Error),
    /// The network has something against our packets.
    Complaint(io::Error),
}

/// The thread has ended by itself.
pub(super) struct Ended;

/// Sums of the thread.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Bytes moved.
    pub traffic: Traffic,
    /// Packets dropped, by reason.
    pub drops: DropCounters,
    /// Control packets dropped because the main thread is behind.
    pub control_dropped: u64,
}

/// What both threads share.
struct Shared {
    /// Control packets for the main thread.
    packets: Mutex<Packets>,
    /// Whether there are some.
    waiting: AtomicBool,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The way to the thread.
#[derive(Clone)]
struct Line {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Line {
    /// A thread that is gone says so itself.
    fn send(&self, command: Command) {
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }

    /// Returns when the command is carried out.
    fn wait(&self, command: impl FnOnce(Done) -> Command) {
        let (done, end) = mpsc::channel();
        self.send(command(Done(done)));
        let _ = end.recv();
    }
}

/// The main thread's handle. Dropping it ends the thread.
pub(super) struct Downlink {
    line: Line,
    news: Receiver<News>,
    shared: Arc<Shared>,
    link: Option<Path>,
    thread: Option<JoinHandle<()>>,
}

impl Downlink {
    /// Starts the thread.
    pub(super) fn start(faults: Option<Arc<Faults>>, wake: Arc<dyn Fn() + Send + Sync>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (commands, orders) = mpsc::channel();
        let (told, news) = mpsc::sync_channel(MAX_NEWS);
        let packets = Mutex::new(Packets::new());
        let shared = Arc::new(Shared { packets, waiting: AtomicBool::new(false), wake });
        let ending = Ending(shared.clone());
        let post = Post {
            news: told,
            pending: VecDeque::new(),
            shared: shared.clone(),
            is_new: false,
            control_dropped: 0,
        };
        let mut turn = Turn::new(post, LocalPlane::new());
        turn.set_faults(faults);
        let receiving = Receiving { poll, commands: orders, turn };
        let thread = std::thread::Builder::new().name("downlink".into()).spawn(move || {
            let _ending = ending;
            receiving.run();
        })?;
        Ok(Self { line: Line { commands, waker }, news, shared, link: None, thread: Some(thread) })
    }

    /// Receives from `transport` from now on; where its control packets come from.
    pub(super) fn connect(&mut self, transport: Transport) -> Inlet {
        let path = transport.path();
        self.link = Some(path);
        self.line.send(Command::Link(transport));
        Inlet { line: self.line.clone(), shared: self.shared.clone(), path, spare: Packets::new() }
    }

    /// The path of the present link.
    pub(super) const fn link(&self) -> Option<Path> {
        self.link
    }

    pub(super) fn order(&self, order: Order) {
        self.line.send(Command::Order(order));
    }

    pub(super) fn set_device(&self, device: Option<Tun>) {
        self.line.wait(|done| Command::Device(device, done));
    }

    pub(super) fn totals(&self) -> Totals {
        let (answer, totals) = mpsc::channel();
        self.line.send(Command::AskTotals(answer));
        totals.recv().unwrap_or_default()
    }

    pub(super) fn has_packets(&self) -> bool {
        self.shared.waiting.load(Ordering::SeqCst)
    }

    /// What the thread tells next.
    pub(super) fn next(&self) -> Result<Option<News>, Ended> {
        match self.news.try_recv() {
            Ok(news) => Ok(Some(news)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Ended),
        }
    }
}

impl Drop for Downlink {
    fn drop(&mut self) {
        self.line.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Where the main thread has control packets of one link from. When it goes, the thread has let go of the link.
pub(crate) struct Inlet {
    line: Line,
    shared: Arc<Shared>,
    path: Path,
    spare: Packets,
}

impl Inlet {
    /// Takes all that waits, into an inbox that is empty; as [`Link::recv`](crate::turn::Link::recv).
    pub(crate) fn recv(&mut self, inbox: &mut Inbox) -> io::Result<bool> {
        if !inbox.is_empty() || !self.shared.waiting.swap(false, Ordering::SeqCst) {
            return Err(ErrorKind::WouldBlock.into());
        }
        core::mem::swap(&mut *lock(&self.shared.packets), &mut self.spare);
        for (path, packet) in self.spare.iter_mut() {
            // An empty inbox has room for all that may wait.
            if let Some(room) = inbox.room().get_mut(..packet.len()) {
                room.copy_from_slice(packet);
                inbox.push_datagrams(path, packet.len(), packet.len());
            }
        }
        self.spare.clear();
        Ok(true)
    }
}

impl fmt::Debug for Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.line.wait(|done| Command::Unlink(self.path, done));
        self.shared.waiting.store(false, Ordering::SeqCst);
        lock(&self.shared.packets).clear();
    }
}

/// Wakes the main thread when all else of this one is gone, whatever the reason.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        (self.0.wake)();
    }
}

/// What goes to the main thread, in the place of a control machine.
struct Post {
    news: SyncSender<News>,
    pending: VecDeque<News>,
    shared: Arc<Shared>,
    /// Whether there is something that the main thread was not woken for.
    is_new: bool,
    control_dropped: u64,
}

impl Post {
    /// Passes on what there is to tell. Whether nothing is left of it.
    fn pass(&mut self) -> bool {
        while let Some(news) = self.pending.pop_front() {
            match self.news.try_send(news) {
                Ok(()) => self.is_new = true,
                Err(TrySendError::Full(news)) => {
                    self.pending.push_front(news);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
        if core::mem::take(&mut self.is_new) {
            (self.shared.wake)();
        }
        self.pending.is_empty()
    }
}

impl Control for Post {
    fn handle_datagram(&mut self, _now: Instant, path: Path, bytes: &mut [u8]) {
        if bytes.len() <= MAX_CONTROL_DATAGRAM && lock(&self.shared.packets).push(path, bytes) {
            self.shared.waiting.store(true, Ordering::SeqCst);
            self.is_new = true;
        } else {
            self.control_dropped += 1;
        }
    }

    fn handle_stream(&mut self, _now: Instant, _id: StreamId, _change: StreamChange) {}

    fn handle_report(&mut self, _now: Instant, report: Report) {
        self.pending.push_back(News::Report(report));
    }

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_directive(&mut self) -> Option<Order> {
        None
    }

    fn poll_transmit(&mut self, _now: Instant, _out: &mut [u8]) -> Option<Transmit> {
        None
    }

    fn deadline(&self) -> Option<Deadline> {
        None
    }
}

/// The thread: a packet path without peer, so that it reads no device.
struct Receiving {
    poll: Poll,
    commands: Receiver<Command>,
    turn: Turn<Transport, Tun, LocalPlane, Post>,
}

impl Receiving {
    fn run(mut self) {
        let mut events = Events::with_capacity(8);
        let mut ready = Ready::default();
        // While there is more to receive, a look at the socket tells as much as a call of poll, and commands are looked
        // for in any case.
        let mut again = false;
        loop {
            let behind = !self.turn.control.pass();
            events.clear();
            if (behind || !again)
                && let Err(error) = self.poll.poll(&mut events, behind.then_some(PAUSE))
                && error.kind() != ErrorKind::Interrupted
            {
                return;
            }
            ready.link_read |= events.iter().any(|event| event.token() == LINK);
            let now = clock::now();
            if !self.obey(now) {
                return;
            }
            if !behind {
                let link = self.turn.link().map(Transport::path);
                let turned = self.turn.turn(now, core::mem::take(&mut ready));
                again = turned.again;
                self.note(link, turned.failure);
                // It keeps only this direction waiting, and commands no longer than a packet.
                if let Some(rest) = turned.rest.filter(|_| !again) {
                    std::thread::sleep(rest.time);
                    (again, ready.link_read) = (rest.blind, rest.blind);
                }
            }
        }
    }

    /// Carries out what the main thread says; whether to go on.
    fn obey(&mut self, now: Instant) -> bool {
        let mut applied = None;
        loop {
            match self.commands.try_recv() {
                Ok(Command::Order(order)) => {
                    applied = Some(order.seq);
                    self.turn.plane.apply(now, order);
                }
                Ok(Command::Link(transport)) => self.connect(transport),
                Ok(Command::Unlink(path, _done)) => {
                    if self.turn.link().is_some_and(|link| link.path() == path) {
                        self.disconnect();
                    }
                }
                Ok(Command::Device(device, _done)) => {
                    self.turn.take_device();
                    if let Some(device) = device {
                        self.turn.set_device(device);
                    }
                }
                Ok(Command::AskTotals(answer)) => {
                    let (traffic, drops) = (self.turn.traffic(), self.turn.drops().clone());
                    let control_dropped = self.turn.control.control_dropped;
                    // Whoever asked may be gone.
                    let _ = answer.send(Totals { traffic, drops, control_dropped });
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => break,
            }
        }
        if let Some(seq) = applied {
            // What came before the orders is told before.
            let pending = &mut self.turn.control.pending;
            pending.extend(core::iter::from_fn(|| self.turn.plane.poll_report()).map(News::Report));
            pending.push_back(News::Applied(seq));
        }
        true
    }

    fn connect(&mut self, transport: Transport) {
        self.disconnect();
        let registered =
            self.poll.registry().register(&mut SourceFd(&transport.as_raw_fd()), LINK, Interest::READABLE);
        match registered {
            Ok(()) => drop(self.turn.set_link(transport)),
            Err(error) => self.turn.control.pending.push_back(News::Link(transport.path(), error)),
        }
    }

    /// The main thread has a descriptor of the same socket, so that the poll would go on with it by itself.
    fn disconnect(&mut self) {
        if let Some(link) = self.turn.take_link() {
            // Fails only if it is not watched.
            let _ = self.poll.registry().deregister(&mut SourceFd(&link.as_raw_fd()));
        }
    }

    /// What a turn left to be told; `link` is the one that it began with.
    fn note(&mut self, link: Option<Path>, failure: Option<Failure>) {
        let complaint = self.turn.link_mut().and_then(Transport::take_complaint);
        let news = match failure {
            Some(Failure::Link(error)) => link.map(|path| News::Link(path, error)),
            Some(Failure::Device(error)) => {
                self.turn.take_device();
                Some(News::Device(error))
            }
            Some(Failure::Thread) | None => None,
        };
        self.turn.control.pending.extend(complaint.map(News::Complaint).into_iter().chain(news));
    }
}
