use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, SockAddr, Socket, Type};

use super::TcpLink;
use crate::addr::fold;
use crate::error::{BindError, Step};
use crate::settings::{SocketSettings, open, option};

/// How to make a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpOptions {
    /// Local address and port; `None` lets the kernel choose.
    pub local: Option<SocketAddr>,
    /// Mark, interface, buffers.
    pub socket: SocketSettings,
    /// `TCP_NODELAY`: send small frames at once. On by default.
    pub nodelay: bool,
    /// Most bytes that wait in the outgoing queue, length prefixes included. 256 KiB by default.
    pub queue_limit: usize,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self { local: None, socket: SocketSettings::default(), nodelay: true, queue_limit: 256 * 1024 }
    }
}

/// Begins to connect to `remote` and returns at once.
///
/// # Errors
///
/// [`BindError`] if the socket cannot be made or the kernel refuses outright (no route, for one). A refusal by the
/// peer comes from [`Connecting::finish`].
pub fn start_connect(remote: SocketAddr, options: &TcpOptions) -> Result<Connecting, BindError> {
    let remote = fold(remote);
    let socket = open(Domain::for_address(remote), Type::STREAM, &options.socket)?;
    if options.nodelay {
        option("TCP_NODELAY", 1, socket.set_tcp_nodelay(true))?;
    }
    if let Some(local) = options.local.map(fold) {
        option("SO_REUSEADDR", 1, socket.set_reuse_address(true))?;
        socket.bind(&SockAddr::from(local)).map_err(BindError::at(Step::Bind(local)))?;
    }
    match socket.connect(&SockAddr::from(remote)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(source) => return Err(BindError { step: Step::Connect(remote), source }),
    }
    Ok(Connecting { socket, remote, queue_limit: options.queue_limit })
}

/// A connection in the making. Poll the descriptor for writability, then call [`Connecting::finish`]; drop it to
/// give up.
#[derive(Debug)]
pub struct Connecting {
    socket: Socket,
    remote: SocketAddr,
    queue_limit: usize,
}

/// What [`Connecting::finish`] found.
#[derive(Debug)]
pub enum Progress {
    /// The connection stands.
    Connected(TcpLink),
    /// Neither done nor failed: keep polling.
    Pending(Connecting),
}

impl Connecting {
    /// The address being connected to.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Asks how the connection attempt stands, without waiting.
    ///
    /// # Errors
    ///
    /// The reason it failed: refused, unreachable, timed out by the kernel.
    pub fn finish(self) -> Result<Progress, BindError> {
        let failed = |source| BindError { step: Step::Connect(self.remote), source };
        if let Some(source) = self.socket.take_error().map_err(failed)? {
            return Err(failed(source));
        }
        match self.socket.peer_addr() {
            Ok(_) => Ok(Progress::Connected(TcpLink::new(self.socket, self.remote, self.queue_limit))),
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => Ok(Progress::Pending(self)),
            Err(source) => Err(failed(source)),
        }
    }
}

impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Connecting {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Adopts a connection made elsewhere, as by `accept`, and makes it non-blocking.
impl TryFrom<(std::net::TcpStream, usize)> for TcpLink {
    type Error = io::Error;

    fn try_from((stream, queue_limit): (std::net::TcpStream, usize)) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let remote = fold(stream.peer_addr()?);
        Ok(Self::new(stream.into(), remote, queue_limit))
    }
}
