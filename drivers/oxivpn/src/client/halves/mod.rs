//! A data plane of two halves: packets to the network are sealed in the thread of the control machine, those from it are
//! opened in a thread of their own (`Downlink`).
//!
//! ```text
//!  device ──────────► main thread ── sealed ──────────────────► UDP socket
//!             orders │    ▲ reports, control packets                │
//!                    ▼    │                                         │
//!  device ◄─────────  downlink  ◄───────────────────────────────────┘
//! ```
//!
//! Each direction has one thread, so that packets keep their order. Peers on a TCP connection stay in one piece: its
//! frames have to be taken apart, and put together, by one. Nothing is locked for a data packet.
//!
//! What it gains and costs, by one TCP stream to and from OpenVPN 2.6 on two cores that both ends, the load and other
//! work shared (medians of three runs of 3 s; single runs lay up to a third apart):
//!
//! | our client | Gbit/s, one thread | two | CPU per GB to OpenVPN's at the other end, one thread | two |
//! |---|---|---|---|---|
//! | sends, AES-256-GCM | 0.30 | 0.22 | 0.33 | 0.38 |
//! | sends, ChaCha20-Poly1305 | 0.22 | 0.21 | 0.35 | 0.38 |
//! | receives, AES-256-GCM | 0.41 | 0.36 | 0.33 | 0.36 |
//! | receives, ChaCha20-Poly1305 | 0.37 | 0.31 | 0.33 | 0.37 |
//!
//! So two threads lose where no core is free: a tenth more CPU, and nothing is faster. What they win with cores to
//! spare could not be measured there, only counted: of our CPU when the client sends, the second thread has 47 of 100
//! parts (the other side's acks, which come one by one), and 83 when it receives. So the busier thread has about 0.6 of
//! the work of a single one when sending, and 0.9 when receiving. One thread is the default for this.

mod downlink;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use oxivpn_proto::data::Outgoing;
use oxivpn_proto::plane::halves::{Joiner, part};
use oxivpn_proto::plane::local::LocalPlane;
use oxivpn_proto::plane::{Capabilities, DataPlane};
use oxivpn_proto::{Directive, DropReason, Instant, Order, Path, PeerRef, Report, Transmit};

use super::Tun;
use crate::gremlin::Faults;
use crate::link::Transport;
use crate::turn::{Failure, Payload, Plane, Sealed};
pub(crate) use downlink::Inlet;
pub use downlink::Totals;
use downlink::{Downlink, Ended, News};

/// What the second thread is started with.
struct Seed {
    faults: Option<Arc<Faults>>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The plane. With one thread it is a [`LocalPlane`] and nothing else.
pub struct Halves {
    /// Seals; and opens what does not come by way of the other thread.
    own: LocalPlane,
    /// `None` if there is to be one thread only.
    seed: Option<Seed>,
    downlink: Option<Downlink>,
    /// Peers whose packets the other thread opens.
    parted: BTreeSet<PeerRef>,
    /// Those who were asked for their activity and have not answered as a whole.
    asked: BTreeSet<PeerRef>,
    joiner: Joiner,
    orders: Orders,
    failure: Option<Failure>,
    complaint: Option<io::Error>,
}

/// How far orders have come, by their numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    /// Carried out here.
    last: u64,
    /// Given to the other thread.
    given: u64,
    /// Carried out there.
    confirmed: u64,
    /// Told of to the control machine.
    told: u64,
}

impl Orders {
    /// The last order that both halves have carried out, like all before it, if that is news.
    fn applied(&mut self) -> Option<u64> {
        let applied = if self.confirmed >= self.given { self.last } else { self.confirmed };
        let is_news = applied > self.told;
        self.told = self.told.max(applied);
        is_news.then_some(applied)
    }
}

impl Halves {
    /// All in one thread.
    pub fn together() -> Self {
        Self {
            own: LocalPlane::new(),
            seed: None,
            downlink: None,
            parted: BTreeSet::new(),
            asked: BTreeSet::new(),
            joiner: Joiner::default(),
            orders: Orders::default(),
            failure: None,
            complaint: None,
        }
    }

    /// With a second thread, which begins with the first UDP socket. `wake` is called from it when there is something to
    /// take.
    pub fn parted(faults: Option<Arc<Faults>>, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { seed: Some(Seed { faults, wake }), ..Self::together() }
    }

    /// Gives what comes in on a UDP socket to the second thread, if there is to be one: what is left receives the
    /// control packets that come from there. Other transports stay as they are. `device` is the present one, for a
    /// thread that begins with this.
    ///
    /// # Errors
    /// There is no thread, or no descriptor, to be had.
    pub fn part(&mut self, mut transport: Transport, device: Option<Tun>) -> io::Result<Transport> {
        let Some(seed) = &self.seed else { return Ok(transport) };
        let Some(receiver) = transport.receiver()? else { return Ok(transport) };
        let downlink = match &mut self.downlink {
            Some(downlink) => downlink,
            none => {
                let downlink = Downlink::start(seed.faults.clone(), seed.wake.clone())?;
                downlink.set_device(device);
                none.insert(downlink)
            }
        };
        transport.set_inlet(downlink.connect(receiver));
        Ok(transport)
    }

    /// The second thread writes to this device from now on. When this returns it has let go of the one before.
    pub fn set_device(&self, device: Option<&Tun>) {
        if let Some(downlink) = &self.downlink {
            downlink.set_device(device.map(Tun::writer));
        }
    }

    /// Whether control packets wait.
    pub fn has_packets(&self) -> bool {
        self.downlink.as_ref().is_some_and(Downlink::has_packets)
    }

    /// What the second thread has moved and dropped, as it answers.
    pub fn totals(&self) -> Totals {
        self.downlink.as_ref().map(Downlink::totals).unwrap_or_default()
    }

    /// What broke in the second thread, once.
    pub const fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// What the network complained about to the second thread, once.
    pub const fn take_complaint(&mut self) -> Option<io::Error> {
        self.complaint.take()
    }

    /// What there is to tell the control machine after one of the halves told `report`.
    fn join(&mut self, report: Report, own: bool) -> Option<Report> {
        let Report::Activity { peer, .. } = report else { return Some(report) };
        if !self.parted.contains(&peer) {
            // The other thread answers for one that was removed meanwhile.
            return own.then_some(report);
        }
        let joined = self.joiner.join(report)?;
        self.asked.remove(&peer);
        Some(joined)
    }

    /// The next report of the other thread; takes all else that comes before it.
    fn take_news(&mut self) -> Option<Report> {
        loop {
            let downlink = self.downlink.as_ref()?;
            match downlink.next() {
                Ok(Some(News::Report(report))) => {
                    let report = self.join(report, false);
                    if report.is_some() {
                        return report;
                    }
                }
                Ok(Some(News::Applied(seq))) => self.orders.confirmed = seq,
                // What was wrong with an earlier link is over.
                Ok(Some(News::Link(path, _))) if downlink.link() != Some(path) => {}
                Ok(Some(News::Link(_, error))) => self.failure = Some(Failure::Link(error)),
                Ok(Some(News::Device(error))) => self.failure = Some(Failure::Device(error)),
                Ok(Some(News::Complaint(error))) => self.complaint = Some(error),
                Ok(None) => return None,
                Err(Ended) => {
                    self.downlink = None;
                    self.failure = Some(Failure::Thread);
                }
            }
        }
    }
}

impl DataPlane for Halves {
    fn apply(&mut self, now: Instant, order: Order) {
        let seq = order.seq;
        self.orders.last = seq;
        let peer = order.directive.peer();
        let removes = matches!(order.directive, Directive::RemovePeer { .. });
        match &order.directive {
            Directive::AddPeer { path, .. } if self.downlink.is_some() && !path.is_stream() => {
                self.parted.insert(peer);
            }
            // The answer that is under way serves for both questions. Of two answers at a time, halves that don't belong
            // together would be joined.
            Directive::AskActivity { .. } if self.parted.contains(&peer) && !self.asked.insert(peer) => {
                return;
            }
            _ => {}
        }
        let (sealing, opening) = match self.parted.contains(&peer) {
            true => part(order),
            false => (order, None),
        };
        self.own.apply(now, sealing);
        if let (Some(opening), Some(downlink)) = (opening, &self.downlink) {
            self.orders.given = seq;
            downlink.order(opening);
        }
        if removes {
            self.parted.remove(&peer);
            self.asked.remove(&peer);
            self.joiner.forget(peer);
        }
    }

    fn poll_report(&mut self) -> Option<Report> {
        while let Some(report) = self.own.poll_report() {
            let report = self.join(report, true);
            if report.is_some() {
                return report;
            }
        }
        self.seed.as_ref()?;
        self.take_news().or_else(|| self.orders.applied().map(Report::Applied))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { synchronous: self.seed.is_none(), ..self.own.capabilities() }
    }
}

impl Plane for Halves {
    #[inline]
    fn outgoing(&mut self, peer: PeerRef) -> Option<Outgoing> {
        self.own.outgoing(peer)
    }

    #[inline]
    fn seal(
        &mut self,
        now: Instant,
        peer: PeerRef,
        cell: &mut [u8],
        start: usize,
        len: usize,
    ) -> Result<Sealed, DropReason> {
        Plane::seal(&mut self.own, now, peer, cell, start, len)
    }

    #[inline]
    fn open<'b>(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &'b mut [u8],
    ) -> Result<Payload<'b>, DropReason> {
        Plane::open(&mut self.own, now, from, datagram)
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        self.own.poll_transmit(now, out)
    }
}
