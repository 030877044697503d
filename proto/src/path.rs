//! Where packets come from and go to.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// Name of one connected byte stream (a TCP connection), given out by the driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// The route of a packet outside of the tunnel.
///
/// `Path` is `Copy` and hashable, so it is also the key of every map from address to session.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// Datagrams between a local socket and a remote address.
    Datagram {
        /// Which of the driver's sockets.
        socket: u16,
        /// Address of the peer. IPv4-mapped IPv6 addresses are folded to IPv4 by the driver.
        remote: SocketAddr,
        /// The local address that packets were sent to, if answers must leave from it (`multihome`).
        local: Option<IpAddr>,
    },
    /// Length-prefixed packets on a byte stream; the driver does the framing with
    /// [`Deframer`](crate::wire::stream::Deframer).
    Stream(StreamId),
}

impl Path {
    /// Datagrams between a local socket and `remote`, from whatever local address the system chooses.
    pub const fn udp(socket: u16, remote: SocketAddr) -> Self {
        Self::Datagram { socket, remote, local: None }
    }

    /// The address of the peer; the driver knows that of a stream.
    pub const fn remote(&self) -> Option<SocketAddr> {
        match self {
            Self::Datagram { remote, .. } => Some(*remote),
            Self::Stream(_) => None,
        }
    }

    /// Whether this is a byte stream, on which packets are neither lost nor reordered.
    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Datagram { socket, remote, local: None } => write!(f, "udp#{socket}:{remote}"),
            Self::Datagram { socket, remote, local: Some(local) } => {
                write!(f, "udp#{socket}@{local}:{remote}")
            }
            Self::Stream(id) => write!(f, "stream#{}", id.0),
        }
    }
}

/// What happened to a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamChange {
    /// The peer closed it or it failed; no more packets will come from it.
    Closed,
}
