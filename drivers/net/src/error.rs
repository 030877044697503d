//! What an error of a socket means for the socket's user.

use std::net::SocketAddr;
use std::{error, fmt, io};

/// What to do about an I/O error of a datagram socket. Only [`Fault::Socket`] says anything about the socket itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// `EAGAIN`: wait until the descriptor is ready.
    WouldBlock,
    /// `EINTR`: call again.
    Interrupted,
    /// `EMSGSIZE`: this datagram is larger than the path or the buffer allows; smaller ones pass.
    TooLarge,
    /// `ECONNREFUSED`: the peer's host says that nobody listens on the port. It may come back.
    Refused,
    /// `ENETUNREACH`, `EHOSTUNREACH`, `ENETDOWN`, `EADDRNOTAVAIL`...: no way to the peer at the moment.
    Unreachable,
    /// `ENOBUFS`, `ENOMEM`: the kernel is short of memory for this packet.
    NoBuffer,
    /// `EPERM`, `EACCES`: a packet filter or the address (a broadcast) forbids this packet.
    Filtered,
    /// Anything else, such as `EBADF`: the socket is of no more use.
    Socket,
}

impl Fault {
    /// Whether the packet is lost but the socket works on: everything except [`Fault::Socket`].
    pub fn is_transient(self) -> bool {
        self != Self::Socket
    }
}

/// Sorts an error of [`UdpSocket::send_to`](crate::UdpSocket::send_to) or
/// [`UdpSocket::recv_from`](crate::UdpSocket::recv_from).
///
/// UDP reports the network's complaints about earlier packets on whatever call comes next, so no such error may end
/// a session: count it and go on.
pub fn classify(error: &io::Error) -> Fault {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Fault::WouldBlock,
        Some(libc::EINTR) => Fault::Interrupted,
        Some(libc::EMSGSIZE) => Fault::TooLarge,
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => Fault::Refused,
        Some(
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::EADDRNOTAVAIL
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::ENONET
            | libc::EOPNOTSUPP
            | libc::ENODEV
            | libc::ENXIO
            | libc::EINVAL
            | libc::EAFNOSUPPORT
            | libc::ETIMEDOUT,
        ) => Fault::Unreachable,
        Some(libc::ENOBUFS | libc::ENOMEM) => Fault::NoBuffer,
        Some(libc::EPERM | libc::EACCES) => Fault::Filtered,
        Some(_) => Fault::Socket,
        None => match error.kind() {
            io::ErrorKind::WouldBlock => Fault::WouldBlock,
            io::ErrorKind::Interrupted => Fault::Interrupted,
            _ => Fault::Socket,
        },
    }
}

/// Why a socket could not be made. The text names the step, the address or value, the kernel's message and the cure.
#[derive(Debug)]
pub struct BindError {
    pub(crate) step: Step,
    pub(crate) source: io::Error,
}

#[derive(Debug)]
pub(crate) enum Step {
    Socket(&'static str),
    Option(&'static str, String),
    Bind(SocketAddr),
    Connect(SocketAddr),
}

impl BindError {
    pub(crate) fn at(step: Step) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { step, source }
    }

    /// The kernel's error.
    pub fn io(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Step::Socket(kind) => write!(f, "cannot make a {kind} socket: {}", self.source)?,
            Step::Option(name, value) => {
                write!(f, "cannot set socket option {name} to {value}: {}", self.source)?;
            }
            Step::Bind(addr) => write!(f, "cannot bind to local address {addr}: {}", self.source)?,
            Step::Connect(addr) => write!(f, "cannot connect to {addr}: {}", self.source)?,
        }
        f.write_str(match (self.source.raw_os_error(), &self.step) {
            (Some(libc::EPERM), Step::Option(..)) => "; it needs root or CAP_NET_ADMIN",
            (Some(libc::ENODEV), Step::Option("SO_BINDTODEVICE", _)) => "; no such interface: see `ip link`",
            (Some(libc::EADDRINUSE), _) => {
                "; another socket has this port: stop it, choose another, or use port 0"
            }
            (Some(libc::EADDRNOTAVAIL), Step::Bind(_)) => "; no interface has this address: see `ip address`",
            (Some(libc::EACCES), Step::Bind(_)) => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
            (Some(libc::EAFNOSUPPORT), _) => "; this kernel or this socket does not do that IP version",
            _ => "",
        })
    }
}

impl error::Error for BindError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_the_socket_itself_are_final() {
        for (errno, fault) in [
            (libc::EAGAIN, Fault::WouldBlock),
            (libc::EINTR, Fault::Interrupted),
            (libc::EMSGSIZE, Fault::TooLarge),
            (libc::ECONNREFUSED, Fault::Refused),
            (libc::EHOSTUNREACH, Fault::Unreachable),
            (libc::ENETUNREACH, Fault::Unreachable),
            (libc::ENOBUFS, Fault::NoBuffer),
            (libc::EPERM, Fault::Filtered),
        ] {
            assert_eq!(classify(&io::Error::from_raw_os_error(errno)), fault);
            assert!(fault.is_transient());
        }
        for errno in [libc::EBADF, libc::ENOTSOCK, libc::EFAULT] {
            assert_eq!(classify(&io::Error::from_raw_os_error(errno)), Fault::Socket);
        }
        assert!(!Fault::Socket.is_transient());
    }
}
