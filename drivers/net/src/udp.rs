//! Unconnected UDP sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::addr::{Family, fold, unfold};
use crate::error::{BindError, Step};
use crate::settings::Settings;
use crate::sys;

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
    /// `IP_PKTINFO`, `IPV6_RECVPKTINFO`: learn to which local address each datagram was sent, so that the answer can
    /// leave from there. See [`UdpSocket::recv_msg`].
    pub packet_info: bool,
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
            packet_info: false,
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
    packet_info: bool,
}

/// A datagram that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its length in bytes.
    pub len: usize,
    /// Its sender, IPv4-mapped folded to IPv4.
    pub remote: SocketAddr,
    /// The local address it was sent to, folded as well; `None` if the socket was not asked to tell.
    pub local: Option<IpAddr>,
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
        if options.packet_info {
            let name = if v6 { "IPV6_RECVPKTINFO" } else { "IP_PKTINFO" };
            let step = Step::Option(name, "1".to_owned());
            sys::want_packet_info(socket.as_fd(), v6).map_err(BindError::at(step))?;
        }
        let local = options.local.map_or_else(|| SocketAddr::new(family.unspecified(), 0), fold);
        socket.bind(&SockAddr::from(local)).map_err(BindError::at(Step::Bind(local)))?;
        Ok(Self { socket: socket.into(), v6, packet_info: options.packet_info })
    }

    /// A second handle to the same socket, for another thread: the kernel sends and receives whole datagrams, so both
    /// may be used at once.
    ///
    /// # Errors
    ///
    /// The kernel's, if the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, v6: self.v6, packet_info: self.packet_info })
    }

    /// As [`UdpSocket::recv_from`], with the local address that the datagram was sent to if the socket was made with
    /// [`UdpOptions::packet_info`].
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::recv_from`].
    pub fn recv_msg(&self, buf: &mut [u8]) -> io::Result<Received> {
        if !self.packet_info {
            let (len, remote) = self.recv_from(buf)?;
            return Ok(Received { len, remote, local: None });
        }
        let (len, remote, local) = sys::recv(self.socket.as_fd(), buf)?;
        let remote = remote.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Received { len, remote: fold(remote), local })
    }

    /// As [`UdpSocket::send_to`], from the local address `from` if there is one.
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::send_to`]. An address that this host has no more is unreachable.
    pub fn send_msg(&self, datagram: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<usize> {
        let Some(from) = from else { return self.send_to(datagram, to) };
        if self.v6 {
            let from = unfold(SocketAddr::new(from, 0)).ip();
            sys::send(self.socket.as_fd(), datagram, unfold(to), from)
        } else {
            sys::send(self.socket.as_fd(), datagram, fold(to), from)
        }
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
