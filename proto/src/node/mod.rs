//! The one composition of the machines: endpoint, sessions and timers behind a single drain.

use std::sync::Arc;

use crate::clock::{Anchor, Instant};
use crate::config::{ClientConfig, Credentials, NodeConfig};
use crate::deadline::Deadline;
use crate::directive::Order;
use crate::drops::DropCounters;
use crate::event::Event;
use crate::path::{Path, StreamChange, StreamId};
use crate::report::Report;
use crate::session::SessionHandle;
use crate::tls::TlsFailure;
use crate::transmit::Transmit;

/// All control machines of one program. See the crate page for the loop around it.
pub struct Node {
    _private: (),
}

impl Node {
    /// A node without sessions. `seed` must be secret and never used twice.
    pub fn new(config: Arc<NodeConfig>, seed: [u8; 32], anchor: Anchor) -> Self {
        let _ = (config, seed, anchor);
        todo!()
    }

    /// Takes a control packet from `path`; `bytes` is clobbered.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, bytes: &mut [u8]) {
        let _ = (now, path, bytes);
        todo!()
    }

    /// Takes news about a byte stream.
    pub fn handle_stream(&mut self, now: Instant, id: StreamId, change: StreamChange) {
        let _ = (now, id, change);
        todo!()
    }

    /// Takes news from the data plane.
    pub fn handle_report(&mut self, now: Instant, report: Report) {
        let _ = (now, report);
        todo!()
    }

    /// Does what is due; a call too early has no effect.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
        todo!()
    }

    /// Starts a session with the server at `path`.
    pub fn connect(
        &mut self,
        now: Instant,
        path: Path,
        config: Arc<ClientConfig>,
        credentials: Option<Credentials>,
    ) -> Result<SessionHandle, ConnectError> {
        let _ = (now, path, config, credentials);
        todo!()
    }

    /// Leaves: announces it where configured, then ends with `Event::Closed(CloseCause::Local)`.
    pub fn close(&mut self, now: Instant, session: SessionHandle) {
        let _ = (now, session);
        todo!()
    }

    /// Ends a session at once without a word to the peer; also ends in `Event::Closed`.
    pub fn abort(&mut self, now: Instant, session: SessionHandle) {
        let _ = (now, session);
        todo!()
    }

    /// Starts a renegotiation now.
    pub fn renegotiate(&mut self, now: Instant, session: SessionHandle) {
        let _ = (now, session);
        todo!()
    }

    /// The next order for the data plane. Drain these before transmits.
    pub fn poll_directive(&mut self) -> Option<Order> {
        todo!()
    }

    /// Writes the next control packet into `out`, which must hold
    /// [`MAX_CONTROL_DATAGRAM`](crate::limits::MAX_CONTROL_DATAGRAM) bytes. Not calling it while a socket
    /// is full is all the backpressure that is needed.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        let _ = (now, out);
        todo!()
    }

    /// The next piece of news.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// When to call `handle_timeout`.
    pub fn deadline(&self) -> Option<Deadline> {
        todo!()
    }

    /// How control packets were dropped so far.
    pub fn drops(&self) -> DropCounters {
        todo!()
    }
}

/// Why a connection can't even begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Another session already uses this path.
    #[error("another session already uses this address")]
    PathInUse,
    /// TLS settings are unusable.
    #[error("{0}")]
    Tls(TlsFailure),
    /// User name or password is too long for the protocol.
    #[error("user name or password is longer than {} bytes", crate::limits::MAX_USER_PASS - 1)]
    CredentialsTooLong,
}
