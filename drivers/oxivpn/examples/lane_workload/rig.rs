//! Two ends of a tunnel in one thread, each a real packet path over a real data plane. What lies beyond, the network and
//! the two devices, is memory that was reserved before.

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice};

use oxivpn::lane::Inbox;
use oxivpn::lane::outbox::Run;
use oxivpn::turn::{Control, Device, Link, Ready, Turn};
use oxivpn_proto::config::cipher::DataCipher;
use oxivpn_proto::config::params::{DataFormat, DataParams, ReplayWindow};
use oxivpn_proto::directive::Directive;
use oxivpn_proto::keys::data_key::{DataKey, KeyLimits, TlsRole};
use oxivpn_proto::plane::DataPlane;
use oxivpn_proto::plane::halves::part;
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::wire::ids::{KeyId, PeerId};
use oxivpn_proto::wire::stream::Deframer;
use oxivpn_proto::{Deadline, Instant, Order, Path, PeerRef, Report, StreamChange, StreamId, Transmit};
use oxivpn_tun::offload::{Offload, VnetHeader};
use zeroize::Zeroizing;

pub(crate) const PEER: PeerRef = PeerRef { id: PeerId::from_low_bits(5), generation: 1 };
pub(crate) const NOW: Instant = Instant::from_nanos(1_000_000_000);

/// Bytes that one read of a stream gives at most.
const STREAM_READ: usize = 65_536;

/// What the network carries one way in one round, at most.
const CABLE: usize = 1 << 20;

/// Copies as the kernel would: under a name of its own, so that it can be left out of the count.
#[inline(never)]
fn kernel_copy(from: &[u8], to: &mut [u8]) {
    to.copy_from_slice(from);
}

/// A data plane with one peer, which is at `path`. With `half` it can only do what this end does in a round: a client
/// seals, a server opens.
pub(crate) fn plane(
    role: TlsRole,
    format: DataFormat,
    path: Path,
    mss: Option<u16>,
    half: bool,
) -> LocalPlane {
    let (cipher, replay, key) = (DataCipher::Aes256Gcm, ReplayWindow::DEFAULT, KeyId::FIRST);
    let params = DataParams { replay, mss, ..DataParams::new(cipher, format) };
    let data = DataKey::new(Zeroizing::new([7; 256]), role, KeyLimits::default());
    let mut plane = LocalPlane::new();
    let orders = [
        Directive::AddPeer { peer: PEER, path, params },
        Directive::InstallKey { peer: PEER, key, data },
        Directive::PromoteKey { peer: PEER, key },
    ];
    for (seq, directive) in (1..).zip(orders) {
        let order = Order { seq, directive };
        let order = match (half, role) {
            (false, _) => Some(order),
            (true, TlsRole::Client) => Some(part(order).0),
            (true, TlsRole::Server) => part(order).1,
        };
        order.into_iter().for_each(|order| plane.apply(NOW, order));
    }
    plane
}

/// A control machine that has nothing to do.
pub(crate) struct Idle;

impl Control for Idle {
    fn handle_datagram(&mut self, _: Instant, _: Path, _: &mut [u8]) {}
    fn handle_stream(&mut self, _: Instant, _: StreamId, _: StreamChange) {}
    fn handle_report(&mut self, _: Instant, _: Report) {}
    fn handle_timeout(&mut self, _: Instant) {}
    fn poll_directive(&mut self) -> Option<Order> {
        None
    }
    fn poll_transmit(&mut self, _: Instant, _: &mut [u8]) -> Option<Transmit> {
        None
    }
    fn deadline(&self) -> Option<Deadline> {
        None
    }
}

/// Bytes on their way, with the runs that they were sent in.
#[derive(Clone)]
pub(crate) struct Cable {
    bytes: Vec<u8>,
    /// Length of each run, and of each packet in it.
    runs: Vec<(usize, usize)>,
    /// What was taken out already.
    taken: (usize, usize),
}

impl Cable {
    fn new() -> Self {
        Self { bytes: Vec::with_capacity(CABLE), runs: Vec::with_capacity(1024), taken: (0, 0) }
    }

    /// What the kernel does with a run.
    #[inline(never)]
    fn kernel_send(&mut self, bytes: &[u8], segment: usize) {
        self.bytes.extend_from_slice(bytes);
        self.runs.push((bytes.len(), segment));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
    }
}

/// One end's side of the network.
pub(crate) struct Wire {
    path: Path,
    out: Cable,
    inward: Cable,
}

impl Link for Wire {
    fn recv(&mut self, inbox: &mut Inbox) -> io::Result<bool> {
        let Cable { bytes, runs, taken: (at, index) } = &mut self.inward;
        if self.path.is_stream() {
            let part = &bytes[*at..bytes.len().min(*at + STREAM_READ)];
            kernel_copy(part, &mut inbox.room()[..part.len()]);
            let (used, result) = inbox.push_frames(self.path, part.len(), Deframer::new(65_535));
            *at += used;
            result.map_err(|_| ErrorKind::InvalidData)?;
            return if used == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(false) };
        }
        let &(len, segment) = runs.get(*index).ok_or(ErrorKind::WouldBlock)?;
        kernel_copy(&bytes[*at..*at + len], &mut inbox.room()[..len]);
        inbox.push_datagrams(self.path, len, segment);
        (*at, *index) = (*at + len, *index + 1);
        Ok(false)
    }

    fn send(&mut self, run: &Run, bytes: &[u8]) -> io::Result<usize> {
        self.out.kernel_send(bytes, run.segment);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn path(&self) -> Path {
        self.path
    }
}

/// One end's device.
pub(crate) struct Tap {
    offload: Offload,
    /// What it gives in each round.
    pub(crate) packets: Vec<(VnetHeader, Vec<u8>)>,
    next: Cell<usize>,
    /// Writes since it was made.
    pub(crate) writes: usize,
    /// What was written last.
    pub(crate) last: Vec<u8>,
    /// Allocates with each read, on purpose.
    pub(crate) wasteful: Cell<bool>,
}

impl Tap {
    /// What the kernel does with a packet.
    #[inline(never)]
    fn kernel_write(&mut self, parts: &[IoSlice<'_>]) {
        self.writes += 1;
        self.last.clear();
        for part in parts {
            self.last.extend_from_slice(part);
        }
    }
}

impl Device for Tap {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<(VnetHeader, usize)> {
        let next = self.next.get();
        let (header, packet) = self.packets.get(next).ok_or(ErrorKind::WouldBlock)?;
        self.next.set(next + 1);
        if self.wasteful.get() {
            std::hint::black_box(vec![0u8; 100]);
        }
        kernel_copy(packet, &mut buf[..packet.len()]);
        Ok((*header, packet.len()))
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.kernel_write(&parts[1..]);
        Ok(())
    }

    fn offload(&self) -> Offload {
        self.offload
    }
}

pub(crate) type End = Turn<Wire, Tap, LocalPlane, Idle>;

/// How a tunnel is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) format: DataFormat,
    pub(crate) stream: bool,
    /// Each end has the keys of its own direction only.
    pub(crate) half: bool,
    pub(crate) mss: Option<u16>,
    pub(crate) offload: Offload,
}

/// Two ends. Packets of the near end's device come out of the far end's.
pub(crate) struct Tunnel {
    pub(crate) near: End,
    pub(crate) far: End,
}

impl Tunnel {
    pub(crate) fn new(shape: Shape, packets: Vec<(VnetHeader, Vec<u8>)>) -> Self {
        let end = |role, packets| {
            let path = if shape.stream {
                Path::Stream(StreamId(1))
            } else {
                Path::udp(0, ([192, 0, 2, 1], 1194).into())
            };
            let mut end = Turn::new(Idle, plane(role, shape.format, path, shape.mss, shape.half));
            end.set_link(Wire { path, out: Cable::new(), inward: Cable::new() });
            end.set_device(Tap {
                offload: shape.offload,
                packets,
                next: Cell::new(0),
                writes: 0,
                last: Vec::with_capacity(65_536),
                wasteful: Cell::new(false),
            });
            end.set_peer(Some(PEER));
            end
        };
        Self { near: end(TlsRole::Client, packets), far: end(TlsRole::Server, Vec::new()) }
    }

    /// Device to network at the near end.
    pub(crate) fn up(&mut self) {
        self.sent().clear();
        self.near.device().unwrap().next.set(0);
        drain(&mut self.near);
    }

    /// What was sent so far, for [`down`](Self::down).
    pub(crate) fn sent(&mut self) -> &mut Cable {
        &mut self.near.link_mut().unwrap().out
    }

    /// Network to device at the far end, for what `cable` holds. `cable` is then what came before.
    pub(crate) fn down(&mut self, cable: &mut Cable) {
        take_in(&mut self.far, cable);
    }

    /// Both.
    pub(crate) fn round(&mut self) {
        self.up();
        let Self { near, far } = self;
        take_in(far, &mut near.link_mut().unwrap().out);
    }
}

fn take_in(end: &mut End, cable: &mut Cable) {
    let link = end.link_mut().unwrap();
    core::mem::swap(&mut link.inward, cable);
    link.inward.taken = (0, 0);
    drain(end);
}

fn drain(end: &mut End) {
    let mut ready = Ready { link_read: true, link_write: true, device_read: true };
    while end.turn(NOW, core::mem::take(&mut ready)).again {}
}
