//! The seam between the control machine and whatever moves the packets.

pub mod halves;
pub mod local;

use crate::directive::Order;
use crate::path::Path;
use crate::report::Report;

/// A consumer of orders: the table in this process, worker threads, a kernel, a simulator.
pub trait DataPlane {
    /// Carries an order out, or takes it to carry it out later.
    fn apply(&mut self, now: crate::Instant, order: Order);

    /// The next piece of news, if any.
    fn poll_report(&mut self) -> Option<Report>;

    /// What this plane can do; asked once, before the first order.
    fn capabilities(&self) -> Capabilities;
}

/// What a plane can do. It narrows what is negotiated, it never adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Orders are carried out when `apply` returns; no [`Report::Applied`] is needed.
    pub synchronous: bool,
    /// Knows the epoch data format.
    pub epoch: bool,
    /// Knows P_DATA_V1.
    pub data_v1: bool,
    /// Knows P_DATA_V2; the epoch format is of no use without it.
    pub data_v2: bool,
    /// Can take different peer-ids in the two directions (`ID=`).
    pub asymmetric_ids: bool,
    /// Knows the compression framings that add a byte to each packet.
    pub framing: bool,
    /// Heeds congestion marks in the outer header of each packet from the network, as RFC 6040 says, and sends the marks
    /// that [`DataParams::ecn`](crate::config::params::DataParams::ecn) asks for. On datagrams only.
    pub ecn: bool,
}

impl Capabilities {
    /// What the plane in this crate can do: everything but what its caller's sockets do.
    pub const USERSPACE: Self = Self {
        synchronous: true,
        epoch: true,
        data_v1: true,
        data_v2: true,
        asymmetric_ids: true,
        framing: true,
        ecn: false,
    };

    /// What is left of it on such a path: a stream has no outer header of a packet.
    #[must_use]
    pub(crate) const fn on(self, path: &Path) -> Self {
        Self { ecn: self.ecn && !path.is_stream(), ..self }
    }
}
