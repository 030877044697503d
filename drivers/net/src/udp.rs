//! Unconnected UDP sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::addr::{Family, fold, unfold};
use crate::error::{BindError, Step};
use crate::settings::Settings;

/// How to make a [`UdpSocket`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpOptions {
    /// The IP versions to serve.
    pub family: Family,
    /// Local address and port; port 0 is an ephemeral one, `None` any address and an ephemeral port.
    pub local: Option<SocketAddr>,
    /// `SO_MARK`, for policy routing and packet filters. Needs `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// `SO_BINDTODEVICE`: use this interface only.
    pub device: Option<String>,
    /// `SO_RCVBUF` in bytes; the kernel doubles it and caps it at `net.core.rmem_max`.
    pub rcvbuf: Option<usize>,
    /// `SO_SNDBUF` in bytes; the kernel doubles it and caps it at `net.core.wmem_max`.
    pub sndbuf: Option<usize>,
    /// `SO_REUSEADDR`: share the port with sockets that also set it.
    pub reuse_address: bool,
}

impl UdpOptions {
    /// An ephemeral port on any address of `family`, the kernel's buffers, no mark, any interface.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            local: None,
            mark: None,
            device: None,
            rcvbuf: None,
            sndbuf: None,
            reuse_address: false,
        }
    }
}

/// A non-blocking UDP socket that talks to any address.
///
/// It is never connected, so a peer that comes back from another address is heard, and it leaves path MTU discovery
/// at the kernel's default, so a datagram above the path's MTU is fragmented rather than refused.
#[derive(Debug)]
pub struct UdpSocket {
    socket: std::net::UdpSocket,
    v6: bool,
}

impl UdpSocket {
    /// Makes and binds a socket.
    ///
    /// With [`Family::Any`] and no IPv6 in the kernel the socket serves IPv4 alone. A local IPv4 address makes an
    /// IPv4 socket whatever the family.
    ///
    /// # Errors
    ///
    /// [`BindError`], which names the option or address that was refused. A local address that is not of the family
    /// is refused with `EAFNOSUPPORT`.
    pub fn bind(options: &UdpOptions) -> Result<Self, BindError> {
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
        let socket = socket.map_err(BindError::at(Step::Socket("UDP")))?;
        let v6 = family != Family::V4;
        if v6 {
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
        if options.reuse_address {
            let step = Step::Option("SO_REUSEADDR", "1".to_owned());
            socket.set_reuse_address(true).map_err(BindError::at(step))?;
        }
        let local = options.local.map_or_else(|| SocketAddr::new(family.unspecified(), 0), fold);
        socket.bind(&SockAddr::from(local)).map_err(BindError::at(Step::Bind(local)))?;
        Ok(Self { socket: socket.into(), v6 })
    }

    /// Sends one datagram and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// Sort them with [`classify`](crate::classify): all but [`Fault::Socket`](crate::Fault::Socket) concern this
    /// packet or an earlier one. An IPv6 destination on an IPv4 socket, and an IPv4 one on a socket of
    /// [`Family::V6`], is unreachable.
    pub fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        let to = if self.v6 { unfold(to) } else { fold(to) };
        self.socket.send_to(datagram, to)
    }

    /// Receives one datagram into `buf`: its length in bytes and its sender, IPv4-mapped addresses folded to IPv4.
    /// A datagram longer than `buf` is cut.
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::send_to`]; [`io::ErrorKind::WouldBlock`] if none waits.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, from) = self.socket.recv_from(buf)?;
        Ok((len, fold(from)))
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

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn open(family: Family) -> io::Result<Socket> {
    let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
