//! Where management clients come in, or where the program goes to.

use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::unistd::{Group, User};
use oxivpn_profile::server::{ManagementAddress, ManagementOptions};
use rustix::net::sockopt::socket_peercred;

use crate::client::address_text;

/// How long a connection out may take (`openvpn: manage.c`, `man_connect`).
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Who may connect: numbers of `management-client-user` and `management-client-group`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowed {
    user: Option<u32>,
    group: Option<u32>,
}

/// Where clients come from.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Allowed {
    pub(super) fn new(options: &ManagementOptions) -> Result<Self> {
        let user = options.client_user.as_deref().map(|name| match User::from_name(name) {
            Ok(Some(user)) => Ok(user.uid.as_raw()),
            _ => Err(anyhow!("management-client-user: there is no user {name}")),
        });
        let group = options.client_group.as_deref().map(|name| match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid.as_raw()),
            _ => Err(anyhow!("management-client-group: there is no group {name}")),
        });
        Ok(Self { user: user.transpose()?, group: group.transpose()? })
    }

    /// Why the peer of a unix socket may not connect.
    fn objection(self, stream: &UnixStream) -> Option<String> {
        if self.user.is_none() && self.group.is_none() {
            return None;
        }
        let Ok(peer) = socket_peercred(stream) else {
            return Some("cannot get UID/GID of socket peer".to_owned());
        };
        let check = |what: &str, option: &str, wanted: Option<u32>, is: u32| {
            wanted.filter(|wanted| *wanted != is).map(|wanted| {
                format!(
                    "{what} of socket peer ({is}) doesn't match required value ({wanted}) as given by \
                     --management-client-{option}"
                )
            })
        };
        check("UID", "user", self.user, peer.uid.as_raw())
            .or_else(|| check("GID", "group", self.group, peer.gid.as_raw()))
    }
}

impl Listener {
    pub(super) fn open(options: &ManagementOptions) -> Result<Self> {
        match &options.listen {
            ManagementAddress::Tcp(ip, port) => {
                let address = SocketAddr::new(*ip, *port);
                let listener = TcpListener::bind(address).with_context(|| {
                    format!("MANAGEMENT: Socket bind failed on local address {}", address_text(address))
                })?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            ManagementAddress::Unix(path) => {
                let path = std::path::absolute(path)?;
                let context = || format!("MANAGEMENT: cannot listen on unix socket {}", path.display());
                remove_socket(&path);
                let listener = UnixListener::bind(&path).with_context(context)?;
                // As OpenVPN: who may connect is for the directory and `management-client-user` to say.
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777))
                    .with_context(context)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, path))
            }
        }
    }

    /// Where it listens, for the log.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr().map_or_else(|_| "unknown".to_owned(), address_text);
                format!("TCP Socket listening on {address}")
            }
            Self::Unix(_, path) => format!("unix domain socket listening on {}", path.display()),
        }
    }

    /// The next client with its name, or the objection to it.
    pub(super) fn accept(&self, allowed: Allowed) -> io::Result<Result<(Stream, String), String>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept()?;
                stream.set_nonblocking(true)?;
                // Lines go one by one; a late one helps nobody. It works without, only slower.
                let _ = stream.set_nodelay(true);
                Ok(Ok((Stream::Tcp(stream), address_text(from))))
            }
            Self::Unix(listener, path) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(match allowed.objection(&stream) {
                    None => Ok((Stream::Unix(stream), path.display().to_string())),
                    Some(objection) => Err(objection),
                })
            }
        }
    }

    #[cfg(test)]
    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Tcp(listener) => listener.local_addr().unwrap().port(),
            Self::Unix(..) => 0,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            remove_socket(path);
        }
    }
}

/// Removes what a run before left, but nothing that is no socket.
fn remove_socket(path: &Path) {
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        // If it stays, binding fails and says why.
        let _ = std::fs::remove_file(path);
    }
}

impl Stream {
    /// `management-client`. Waits up to five seconds.
    pub(super) fn connect(options: &ManagementOptions, allowed: Allowed) -> Result<(Self, String)> {
        match &options.listen {
            ManagementAddress::Tcp(ip, port) => {
                let address = SocketAddr::new(*ip, *port);
                let name = address_text(address);
                let stream = TcpStream::connect_timeout(&address, CONNECT_TIME)
                    .with_context(|| format!("MANAGEMENT: connect to {name} failed"))?;
                stream.set_nonblocking(true)?;
                Ok((Self::Tcp(stream), name))
            }
            ManagementAddress::Unix(path) => {
                let name = path.display().to_string();
                let stream = UnixStream::connect(path)
                    .with_context(|| format!("MANAGEMENT: connect to unix socket {name} failed"))?;
                if let Some(objection) = allowed.objection(&stream) {
                    bail!("MANAGEMENT: unix domain socket connection rejected -- {objection}");
                }
                stream.set_nonblocking(true)?;
                Ok((Self::Unix(stream), name))
            }
        }
    }

    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener, _) => listener.as_raw_fd(),
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
