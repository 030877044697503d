//! What UDP and TCP sockets have in common: their options, and how they are opened and bound.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::addr::{Family, fold};
use crate::error::{BindError, Step};

/// Options of every kind of socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketSettings {
    /// `SO_MARK`, for policy routing and packet filters. Needs `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// `SO_BINDTODEVICE`: use this interface only.
    pub device: Option<String>,
    /// `SO_RCVBUF` in bytes; the kernel doubles it and caps it at `net.core.rmem_max`.
    pub rcvbuf: Option<usize>,
    /// `SO_SNDBUF` in bytes; the kernel doubles it and caps it at `net.core.wmem_max`.
    pub sndbuf: Option<usize>,
}

impl SocketSettings {
    fn apply(&self, socket: &Socket) -> Result<(), BindError> {
        if let Some(mark) = self.mark {
            option("SO_MARK", mark, socket.set_mark(mark))?;
        }
        if let Some(device) = &self.device {
            option("SO_BINDTODEVICE", device, socket.bind_device(Some(device.as_bytes())))?;
        }
        if let Some(bytes) = self.rcvbuf {
            option("SO_RCVBUF", bytes, socket.set_recv_buffer_size(bytes))?;
        }
        if let Some(bytes) = self.sndbuf {
            option("SO_SNDBUF", bytes, socket.set_send_buffer_size(bytes))?;
        }
        Ok(())
    }
}

/// The result of setting the option `name` to `value`.
pub(crate) fn option(
    name: &'static str,
    value: impl ToString,
    result: io::Result<()>,
) -> Result<(), BindError> {
    result.map_err(|source| BindError { step: Step::Option(name, value.to_string()), source })
}

/// Makes a non-blocking socket with `settings`: `Type::DGRAM` is UDP, `Type::STREAM` is TCP.
pub(crate) fn open(domain: Domain, kind: Type, settings: &SocketSettings) -> Result<Socket, BindError> {
    let (protocol, name) = if kind == Type::DGRAM { (Protocol::UDP, "UDP") } else { (Protocol::TCP, "TCP") };
    let socket = Socket::new(domain, kind, Some(protocol)).map_err(BindError::at(Step::Socket(name)))?;
    option("O_NONBLOCK", 1, socket.set_nonblocking(true))?;
    settings.apply(&socket)?;
    Ok(socket)
}

/// A socket that is not bound yet.
pub(crate) struct Unbound {
    pub(crate) socket: Socket,
    /// Whether it is an IPv6 socket, which with [`Family::Any`] serves IPv4 as well.
    pub(crate) v6: bool,
    local: SocketAddr,
}

impl Unbound {
    /// Opens a socket for `family`, to be bound to `local`. A local IPv4 address makes an IPv4 socket whatever the
    /// family; [`Family::Any`] in a kernel without IPv6 is IPv4.
    pub(crate) fn open(
        kind: Type,
        family: Family,
        local: Option<SocketAddr>,
        settings: &SocketSettings,
    ) -> Result<Self, BindError> {
        let family = match local.map(fold) {
            Some(local) if !family.accepts(local.ip()) => {
                let source = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
                return Err(BindError { step: Step::Bind(local), source });
            }
            Some(local) if local.is_ipv4() => Family::V4,
            _ => family,
        };
        let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
        let (socket, family) = match open(domain, kind, settings) {
            Err(error) if family == Family::Any && error.io().raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                (open(Domain::IPV4, kind, settings)?, Family::V4)
            }
            socket => (socket?, family),
        };
        let v6 = family != Family::V4;
        if v6 {
            let only = family == Family::V6;
            option("IPV6_V6ONLY", only, socket.set_only_v6(only))?;
        }
        let local = local.map_or_else(|| SocketAddr::new(family.unspecified(), 0), fold);
        Ok(Self { socket, v6, local })
    }

    /// Binds it, and then does what may fail for the same reasons.
    pub(crate) fn bind(self, then: impl FnOnce(&Socket) -> io::Result<()>) -> Result<Socket, BindError> {
        let bound = self.socket.bind(&SockAddr::from(self.local)).and_then(|()| then(&self.socket));
        bound.map_err(BindError::at(Step::Bind(self.local)))?;
        Ok(self.socket)
    }
}
