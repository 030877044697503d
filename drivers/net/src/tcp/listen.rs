use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::TcpLink;
use crate::addr::{Family, fold};
use crate::error::{BindError, Step};
use crate::settings::Settings;

/// Connections that wait for [`Listener::accept`]; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// How to make a [`Listener`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// The IP versions to serve; [`Family::Any`] without an IPv4 address is an IPv6 socket without `IPV6_V6ONLY`.
    pub family: Family,
    /// Local address and port; port 0 is an ephemeral one, `None` any address and an ephemeral port.
    pub local: Option<SocketAddr>,
    /// `SO_MARK`, which connections inherit. Needs `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// `SO_BINDTODEVICE`: use this interface only.
    pub device: Option<String>,
    /// `SO_RCVBUF` in bytes, which connections inherit.
    pub rcvbuf: Option<usize>,
    /// `SO_SNDBUF` in bytes, which connections inherit.
    pub sndbuf: Option<usize>,
    /// `TCP_NODELAY` of connections: send small frames at once. On by default.
    pub nodelay: bool,
    /// Most bytes that wait in the outgoing queue of each connection, length prefixes included. 256 KiB by default.
    pub queue_limit: usize,
}

impl ListenOptions {
    /// An ephemeral port on any address of `family`.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            local: None,
            mark: None,
            device: None,
            rcvbuf: None,
            sndbuf: None,
            nodelay: true,
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
        let family = match options.local.map(fold) {
            Some(local) if !options.family.accepts(local.ip()) => {
                let source = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
                return Err(BindError { step: Step::Bind(local), source });
            }
            Some(local) if local.is_ipv4() => Family::V4,
            _ => options.family,
        };
        let (socket, family) = match open(family) {
            Err(error) if family == Family::Any && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                (open(Family::V4), Family::V4)
            }
            result => (result, family),
        };
        let socket = socket.map_err(BindError::at(Step::Socket("TCP")))?;
        if family != Family::V4 {
            let only = family == Family::V6;
            socket.set_only_v6(only).map_err(BindError::at(Step::Option("IPV6_V6ONLY", only.to_string())))?;
        }
        let settings = Settings {
            mark: options.mark,
            device: options.device.as_deref(),
            rcvbuf: options.rcvbuf,
            sndbuf: options.sndbuf,
        };
        settings.apply(&socket)?;
        let step = Step::Option("SO_REUSEADDR", "1".to_owned());
        socket.set_reuse_address(true).map_err(BindError::at(step))?;
        let local = options.local.map_or_else(|| SocketAddr::new(family.unspecified(), 0), fold);
        socket.bind(&SockAddr::from(local)).map_err(BindError::at(Step::Bind(local)))?;
        // Two sockets may both bind with SO_REUSEADDR; the second one is refused here.
        socket.listen(BACKLOG).map_err(BindError::at(Step::Bind(local)))?;
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

fn open(family: Family) -> io::Result<Socket> {
    let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
