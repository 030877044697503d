//! Unconnected UDP sockets.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::{fmt, io};

use socket2::{Domain, SockAddr, SockRef, Type};

use crate::addr::{Family, fold, unfold};
use crate::ecn::Ecn;
use crate::error::BindError;
use crate::settings::{SocketSettings, Unbound, open, option};
use crate::sys;

mod buffers;
mod segments;
#[cfg(test)]
mod tests;

use segments::Segments;

/// How to make a [`UdpSocket`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpOptions {
    /// The IP versions to serve.
    pub family: Family,
    /// Local address and port; port 0 is an ephemeral one, `None` any address and an ephemeral port.
    pub local: Option<SocketAddr>,
    /// Mark, interface, buffers. Without buffer sizes of the user's, `offload` widens them: see
    /// [`UdpOptions::offload`].
    pub socket: SocketSettings,
    /// `SO_REUSEADDR`: share the port with sockets that also set it.
    pub reuse_address: bool,
    /// `IP_PKTINFO`, `IPV6_RECVPKTINFO`: learn to which local address each datagram was sent, so that the answer can
    /// leave from there. See [`UdpSocket::recv_msg`].
    pub packet_info: bool,
    /// `SO_REUSEPORT`: several sockets of one address, all with this option and of one user, among which the kernel
    /// spreads the peers. Unlike with `SO_REUSEADDR`, each gets its share.
    pub reuse_port: bool,
    /// `IP_TOS`, `IPV6_TCLASS`: the differentiated services codepoint of all datagrams, 0 to 63 (RFC 2474). What is set
    /// on the descriptor behind the back of the [`UdpSocket`] instead is lost on datagrams with an ECN mark.
    pub dscp: u8,
    /// Many datagrams per system call: the kernel merges those that come (`UDP_GRO`) and splits those that go
    /// (`UDP_SEGMENT`), where it can.
    ///
    /// Such a socket is to be read with [`UdpSocket::recv_many`] only. Buffers that the user gave no size get larger.
    pub offload: bool,
}

impl UdpOptions {
    /// An ephemeral port on any address of `family`, the kernel's buffers, no mark, any interface, one datagram per
    /// call.
    pub fn new(family: Family) -> Self {
        Self {
            family,
            local: None,
            socket: SocketSettings::default(),
            reuse_address: false,
            packet_info: false,
            reuse_port: false,
            dscp: 0,
            offload: false,
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
    /// The TOS byte less the ECN bits.
    class: u8,
    /// Whether the kernel merges what comes.
    merges: bool,
    segments: Arc<Segments>,
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

/// Datagrams of one sender that [`UdpSocket::recv_many`] received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedMany {
    /// Bytes in the buffer: datagrams back to back. 0 is one empty datagram.
    pub len: usize,
    /// Length of each datagram but the last, which may be shorter. As `len` if there is one only.
    pub segment: usize,
    /// The sender of all of them, IPv4-mapped folded to IPv4.
    pub remote: SocketAddr,
    /// The local address they were sent to, folded as well; `None` if the socket was not asked to tell.
    pub local: Option<IpAddr>,
    /// The ECN bits of all of them; [`Ecn::NotEct`] before [`UdpSocket::hear_ecn`].
    pub ecn: Ecn,
}

impl ReceivedMany {
    /// `None` if it came from no IP address.
    fn new(incoming: &sys::Incoming) -> Option<Self> {
        let sys::Incoming { len, remote, local, segment, tos } = *incoming;
        let segment = segment.map_or(len, |segment| segment.min(len));
        Some(Self { len, segment, remote: fold(remote?), local, ecn: Ecn::from_bits(tos) })
    }

    /// The datagrams in `buf`, the buffer they were received into. None if it was an empty one.
    pub fn datagrams<'b>(&self, buf: &'b mut [u8]) -> impl Iterator<Item = &'b mut [u8]> + use<'b> {
        let len = self.len.min(buf.len());
        buf[..len].chunks_mut(self.segment.max(1))
    }
}

/// Something about a socket that its user should be told, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The kernel refuses many datagrams in one call. They go one by one from now on, which is slower.
    NoSegmentation {
        /// The kernel's error number.
        errno: i32,
    },
    /// The kernel refuses many datagrams in one call on the way to some destination, for its interface can't do it.
    /// Those for there go one by one.
    SomeWithoutSegmentation {
        /// The kernel's error number.
        errno: i32,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (where_to, errno) = match self {
            Self::NoSegmentation { errno } => ("", errno),
            Self::SomeWithoutSegmentation { errno } => (" on the way to some destinations", errno),
        };
        let error = io::Error::from_raw_os_error(*errno);
        write!(f, "UDP segmentation offload refused{where_to}, datagrams are sent one by one: {error}")
    }
}

impl UdpSocket {
    /// Makes and binds a socket.
    ///
    /// With [`Family::Any`] and no IPv6 in the kernel the socket serves IPv4 alone. A local IPv4 address makes an
    /// IPv4 socket whatever the family. A kernel that can't do [`UdpOptions::offload`] is no error: see
    /// [`UdpSocket::take_notice`].
    ///
    /// # Errors
    ///
    /// [`BindError`], which names the option or address that was refused. A local address that is not of the family
    /// is refused with `EAFNOSUPPORT`.
    pub fn bind(options: &UdpOptions) -> Result<Self, BindError> {
        let unbound = Unbound::open(Type::DGRAM, options.family, options.local, &options.socket)?;
        let (socket, v6) = (&unbound.socket, unbound.v6);
        if options.reuse_address {
            option("SO_REUSEADDR", 1, socket.set_reuse_address(true))?;
        }
        if options.reuse_port {
            option("SO_REUSEPORT", 1, socket.set_reuse_port(true))?;
        }
        let set = |level, name| sys::set_int(socket.as_fd(), level, name, 1);
        if options.packet_info {
            if v6 {
                option("IPV6_RECVPKTINFO", 1, set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO))?;
            } else {
                option("IP_PKTINFO", 1, set(libc::IPPROTO_IP, libc::IP_PKTINFO))?;
            }
        }
        let class = options.dscp << 2;
        if class != 0 {
            option("IP_TOS", class, socket.set_tos_v4(class.into()))?;
            if v6 {
                option("IPV6_TCLASS", class, socket.set_tclass_v6(class.into()))?;
            }
        }
        let mut merges = false;
        let mut usable = Err(0);
        if options.offload {
            buffers::widen(socket, options.socket.rcvbuf.is_some(), options.socket.sndbuf.is_some());
            merges = set(libc::SOL_UDP, libc::UDP_GRO).is_ok();
            // A kernel that doesn't know the option would send a batch as one datagram.
            usable = sys::get_int(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT)
                .map(drop)
                .map_err(|error| error.raw_os_error().unwrap_or(libc::ENOPROTOOPT));
        }
        let socket = unbound.bind(|_| Ok(()))?.into();
        let segments = Arc::new(Segments::new(usable));
        Ok(Self { socket, v6, packet_info: options.packet_info, class, merges, segments })
    }

    /// A second handle to the same socket, for another thread: the kernel sends and receives whole datagrams, so both
    /// may be used at once.
    ///
    /// # Errors
    ///
    /// The kernel's, if the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let (socket, segments) = (self.socket.try_clone()?, Arc::clone(&self.segments));
        Ok(Self { socket, segments, ..*self })
    }

    /// From now on the ECN bits of each datagram are learnt (`IP_RECVTOS`, `IPV6_RECVTCLASS`), on all handles to the
    /// socket; see [`ReceivedMany::ecn`]. It makes each reception dearer, so it is left until somebody wants to know.
    ///
    /// # Errors
    ///
    /// The kernel's, if it doesn't know the options.
    pub fn hear_ecn(&self) -> io::Result<()> {
        // IPv4 packets on an IPv6 socket keep to the IPv4 option.
        sys::set_int(self.socket.as_fd(), libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        if self.v6 {
            sys::set_int(self.socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        }
        Ok(())
    }

    /// Receives one datagram, or several of one sender that the kernel merged ([`UdpOptions::offload`]), in one system
    /// call.
    ///
    /// `buf` must hold 65,535 bytes. What does not fit is lost without a word: the end of a datagram, and all
    /// datagrams behind it.
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::send_to`]; [`io::ErrorKind::WouldBlock`] if none waits.
    pub fn recv_many(&self, buf: &mut [u8]) -> io::Result<ReceivedMany> {
        let incoming = sys::recv(self.socket.as_fd(), buf)?;
        ReceivedMany::new(&incoming).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// As [`UdpSocket::recv_many`], up to [`UdpSocket::BATCH`] times in one system call. Reception number `n` is put to
    /// `n * stride` of `slab` and given to `take` with that place; a `stride` must hold 65,535 bytes. Returns how many
    /// there were: fewer than there was room for mean that the socket has no more.
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::recv_many`].
    pub fn recv_batch(
        &self,
        slab: &mut [u8],
        stride: usize,
        mut take: impl FnMut(usize, &ReceivedMany),
    ) -> io::Result<usize> {
        sys::recv_batch(self.socket.as_fd(), slab, stride, |number, incoming| {
            if let Some(received) = ReceivedMany::new(&incoming) {
                take(number * stride, &received);
            }
        })
    }

    /// Most receptions of one [`UdpSocket::recv_batch`].
    pub const BATCH: usize = sys::MESSAGES;

    /// Sends `bytes` to `to` as datagrams of `segment` bytes, the last of which may be shorter, in as few system calls
    /// as the kernel allows. Returns the bytes that were taken, whole datagrams from the front; fewer than all means
    /// that the socket is full.
    ///
    /// `from` is the local address to send from, if it matters. `ecn` is the mark of all of them. A `segment` of 0 or of
    /// `bytes.len()` and above means one datagram; no bytes are none.
    ///
    /// A datagram that the network refuses counts as taken, and those behind it are sent: see
    /// [`UdpSocket::take_complaint`]. One above the path's MTU is fragmented. When the kernel refuses to split a
    /// batch, its datagrams go one by one in the same call: see [`UdpSocket::take_notice`].
    ///
    /// # Errors
    ///
    /// If nothing was taken: [`io::ErrorKind::WouldBlock`] from a socket that is full, else an error that is
    /// [`Fault::Socket`](crate::Fault::Socket).
    pub fn send_many(
        &self,
        bytes: &[u8],
        segment: usize,
        to: SocketAddr,
        from: Option<IpAddr>,
        ecn: Ecn,
    ) -> io::Result<usize> {
        let (fd, unfolded) = (self.socket.as_fd(), self.unfolded(to, from));
        let tos = (ecn != Ecn::NotEct).then_some(self.class | ecn.bits());
        let send = |bytes: &[u8], segment| {
            let (to, from) = unfolded;
            sys::send(fd, &sys::Outgoing { bytes, segment, to, from, tos })
        };
        let to = fold(to);
        self.segments.run(to.ip(), bytes, segment, send, || self.path_mtu(to, from))
    }

    /// What has happened to the socket that its user should be told; each thing once for all its clones.
    pub fn take_notice(&self) -> Option<Notice> {
        self.segments.take_notice()
    }

    /// The last error for which [`UdpSocket::send_many`] on this socket or a clone gave up a datagram, once.
    pub fn take_complaint(&self) -> Option<io::Error> {
        self.segments.take_complaint()
    }

    /// Most bytes of a datagram to `to`, which is folded, that needs no fragmentation.
    fn path_mtu(&self, to: SocketAddr, from: Option<IpAddr>) -> io::Result<usize> {
        // Only a connected socket tells. This one takes the same way.
        let own = SockRef::from(&self.socket);
        let probe = open(Domain::for_address(to), Type::DGRAM, &SocketSettings::default())?;
        if let Ok(mark @ 1..) = own.mark() {
            probe.set_mark(mark)?;
        }
        if let Ok(device @ Some(_)) = own.device() {
            probe.bind_device(device.as_deref())?;
        }
        if let Some(from) = from {
            probe.bind(&SockAddr::from(fold(SocketAddr::new(from, 0))))?;
        }
        probe.connect(&SockAddr::from(to))?;
        let (level, name, headers) = match to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU, 20 + 8),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU, 40 + 8),
        };
        let mtu = sys::get_int(probe.as_fd(), level, name)?;
        Ok(usize::try_from(mtu).unwrap_or_default().saturating_sub(headers))
    }

    /// Addresses as this socket's IP version writes them.
    fn unfolded(&self, to: SocketAddr, from: Option<IpAddr>) -> (SocketAddr, Option<IpAddr>) {
        if self.v6 {
            (unfold(to), from.map(|from| unfold(SocketAddr::new(from, 0)).ip()))
        } else {
            (fold(to), from)
        }
    }

    /// As [`UdpSocket::recv_from`], with the local address that the datagram was sent to if the socket was made with
    /// [`UdpOptions::packet_info`].
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::recv_from`].
    pub fn recv_msg(&self, buf: &mut [u8]) -> io::Result<Received> {
        debug_assert!(!self.merges, "a socket with offload is read with recv_many");
        if !self.packet_info {
            let (len, remote) = self.recv_from(buf)?;
            return Ok(Received { len, remote, local: None });
        }
        let ReceivedMany { len, remote, local, .. } = self.recv_many(buf)?;
        Ok(Received { len, remote, local })
    }

    /// As [`UdpSocket::send_to`], from the local address `from` if there is one.
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::send_to`]. An address that this host has no more is unreachable.
    pub fn send_msg(&self, datagram: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<usize> {
        let (to, from) = self.unfolded(to, from);
        sys::send(
            self.socket.as_fd(),
            &sys::Outgoing { bytes: datagram, segment: None, to, from, tos: None },
        )?;
        Ok(datagram.len())
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
    /// A datagram longer than `buf` is cut. Not for sockets with [`UdpOptions::offload`], where the kernel may hand out
    /// several datagrams as one.
    ///
    /// # Errors
    ///
    /// As for [`UdpSocket::send_to`]; [`io::ErrorKind::WouldBlock`] if none waits.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        debug_assert!(!self.merges, "a socket with offload is read with recv_many");
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
