use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::Type;

use super::TcpLink;
use crate::addr::{Family, fold};
use crate::error::BindError;
use crate::settings::{SocketSettings, Unbound, option};

/// Connections that wait for [`Listener::accept`]; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// How to make a [`Listener`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// The IP versions to serve; [`Family::Any`] without an IPv4 address is an IPv6 socket without `IPV6_V6ONLY`.
    pub family: Family,
    /// Local address and port; port 0 is an ephemeral one, `None` any address and an ephemeral port.
    pub local: Option<SocketAddr>,
    /// Mark, interface, buffers; connections inherit them.
    pub socket: SocketSettings,
    /// `TCP_NODELAY` of connections: send small frames at once. On by default.
    pub nodelay: bool,
    /// `SO_REUSEPORT`: several listeners of one address, all with this option and of one user, among which the kernel
    /// spreads the connections.
    pub reuse_port: bool,
    /// Most bytes that wait in the outgoing queue of each connection, length prefixes included. 256 KiB by default.
    pub queue_limit: usize,
}

impl ListenOptions {
    /// An ephemeral port on any address of `family`.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            local: None,
            socket: SocketSettings::default(),
            nodelay: true,
            reuse_port: false,
            queue_limit: 256 * 1024,
        }
    }
}

/// A non-blocking TCP listener. Poll the descriptor for readability, then call [`Listener::accept`] until it answers
/// [`io::ErrorKind::WouldBlock`].
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    nodelay: bool,
    queue_limit: usize,
}

impl Listener {
    /// Makes a socket, binds it with `SO_REUSEADDR` (connections of a run before do not keep the port) and listens.
    ///
    /// # Errors
    ///
    /// [`BindError`], which names the option or address that was refused.
    pub fn bind(options: &ListenOptions) -> Result<Self, BindError> {
        let unbound = Unbound::open(Type::STREAM, options.family, options.local, &options.socket)?;
        option("SO_REUSEADDR", 1, unbound.socket.set_reuse_address(true))?;
        if options.reuse_port {
            option("SO_REUSEPORT", 1, unbound.socket.set_reuse_port(true))?;
        }
        // Two sockets may both bind with SO_REUSEADDR; the second one is refused by `listen`.
        let socket = unbound.bind(|socket| socket.listen(BACKLOG))?;
        Ok(Self { socket: socket.into(), nodelay: options.nodelay, queue_limit: options.queue_limit })
    }

    /// Takes the next connection.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if none waits. `ECONNABORTED` and the network's complaints are about a connection
    /// that is gone already; with `EMFILE` or `ENFILE` it still waits, and comes when a descriptor is free.
    pub fn accept(&self) -> io::Result<TcpLink> {
        let (stream, _) = self.socket.accept()?;
        if self.nodelay {
            stream.set_nodelay(true)?;
        }
        TcpLink::try_from((stream, self.queue_limit))
    }

    /// The address and port this socket is bound to.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr().map(fold)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
