//! One client tunnel in one object: packets in, packets out, and nothing else to compose.

use core::fmt;
use std::sync::Arc;

use crate::clock::{Anchor, Instant};
use crate::config::{ClientConfig, Credentials, NodeConfig};
use crate::data::{Opened, Payload, SealError, Sealed, Slot};
use crate::deadline::Deadline;
use crate::directive::PeerRef;
use crate::drops::DropCounters;
use crate::error::ConnectError;
use crate::event::Event;
use crate::handle::SessionHandle;
use crate::node::Node;
use crate::path::{Path, StreamChange, StreamId};
use crate::plane::local::LocalPlane;
use crate::plane::{Capabilities, DataPlane};
use crate::transmit::Transmit;
use crate::wire::data::{Peek, peek};

/// A [`Node`] with one session and the [`LocalPlane`] behind it.
///
/// For an application that wants a tunnel and has no use for the seam between control and data. The rule is
/// the node's: after every call drain [`poll_transmit`](Self::poll_transmit) and
/// [`poll_event`](Self::poll_event), then sleep until [`deadline`](Self::deadline).
pub struct Tunnel {
    node: Node,
    plane: LocalPlane,
    session: SessionHandle,
    peer: Option<PeerRef>,
}

impl Tunnel {
    /// Starts connecting to the server at `path`. `seed` must be secret and never used twice.
    pub fn connect(
        now: Instant,
        path: Path,
        config: Arc<ClientConfig>,
        credentials: Option<Credentials>,
        (seed, anchor): ([u8; 32], Anchor),
    ) -> Result<Self, ConnectError> {
        let plane = LocalPlane::new();
        let mut node =
            Node::new(Arc::new(NodeConfig { capabilities: Capabilities::USERSPACE }), seed, anchor);
        let session = node.connect(now, path, config, credentials)?;
        Ok(Self { node, plane, session, peer: None })
    }

    /// Takes a packet from the network; `bytes` is clobbered. An inner packet that was in it is returned.
    pub fn handle_datagram<'b>(
        &mut self,
        now: Instant,
        path: Path,
        bytes: &'b mut [u8],
    ) -> Option<&'b mut [u8]> {
        if !matches!(peek(bytes), Peek::Data(_)) {
            self.node.handle_datagram(now, path, bytes);
            self.exchange(now);
            return None;
        }
        let inner = match self.plane.open(now, path, bytes) {
            Ok(Opened { payload: Payload::Packet(packet), .. }) => Some(packet),
            // What is dropped has been counted.
            Ok(Opened { payload: Payload::Handled, .. }) | Err(_) => None,
        };
        self.exchange(now);
        inner
    }

    /// The byte stream ended.
    pub fn handle_stream(&mut self, now: Instant, id: StreamId, change: StreamChange) {
        self.node.handle_stream(now, id, change);
        self.exchange(now);
    }

    /// Seals an inner packet in place. Before the tunnel is up there is nobody to send it to.
    pub fn send(&mut self, now: Instant, slot: &mut Slot<'_>) -> Result<Sealed, SendError> {
        let peer = self.peer.ok_or(SendError::NotUp)?;
        let sealed = self.plane.seal(now, peer, slot).map_err(SendError::Seal);
        self.exchange(now);
        sealed
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.node.handle_timeout(now);
        self.exchange(now);
    }

    /// Leaves; ends in [`Event::Closed`].
    pub fn close(&mut self, now: Instant) {
        self.node.close(now, self.session);
        self.exchange(now);
    }

    /// Writes the next packet that is not an inner one into `out`, which must hold
    /// [`MAX_CONTROL_DATAGRAM`](crate::limits::MAX_CONTROL_DATAGRAM) bytes.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        self.exchange(now);
        let transmit = self.node.poll_transmit(now, out).or_else(|| self.plane.poll_transmit(now, out));
        self.exchange(now);
        transmit
    }

    /// The next piece of news.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.node.poll_event();
        match &event {
            Some(Event::Established { peer, .. }) => self.peer = Some(*peer),
            Some(Event::Closed { .. }) => self.peer = None,
            _ => {}
        }
        event
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn deadline(&self) -> Option<Deadline> {
        self.node.deadline()
    }

    /// How packets were dropped so far.
    pub fn drops(&self) -> DropCounters {
        let mut sum = self.node.drops();
        sum.merge(self.plane.drops());
        sum
    }

    /// Carries orders one way and reports the other until both are still.
    fn exchange(&mut self, now: Instant) {
        loop {
            while let Some(order) = self.node.poll_directive() {
                self.plane.apply(now, order);
            }
            let Some(report) = self.plane.poll_report() else { return };
            self.node.handle_report(now, report);
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("node", &self.node)
            .field("up", &self.peer.is_some())
            .finish_non_exhaustive()
    }
}

/// Why an inner packet was not sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The tunnel is not up.
    #[error("the tunnel is not up")]
    NotUp,
    /// The data channel refused.
    #[error("{0}")]
    Seal(SealError),
}
