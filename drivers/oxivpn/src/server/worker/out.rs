//! Datagrams on their way out, and the sockets they go to.

use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use oxivpn_net::{Fault, UdpSocket, classify};
use oxivpn_proto::Path;

use crate::turn::{BATCH, HEADROOM, Packet, TAILROOM};

/// The datagram sockets.
pub(super) struct Sockets {
    sockets: Vec<(UdpSocket, bool)>,
    first_token: usize,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It left, or the network refused it for good.
    Gone,
    /// The socket is full; it says so when it is not any more.
    Full,
}

impl Sockets {
    pub(super) fn new(sockets: Vec<UdpSocket>, registry: &Registry, first_token: usize) -> io::Result<Self> {
        for (place, socket) in sockets.iter().enumerate() {
            registry.register(
                &mut SourceFd(&socket.as_raw_fd()),
                Token(first_token + place),
                Interest::READABLE,
            )?;
        }
        Ok(Self { sockets: sockets.into_iter().map(|socket| (socket, true)).collect(), first_token })
    }

    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Watches whether a socket can be written as well, or no longer. Only while one is full: the kernel tells of
    /// every datagram that has left.
    pub(super) fn watch_writes(&self, registry: &Registry, place: usize, watch: bool) {
        let Some((socket, _)) = self.sockets.get(place) else { return };
        let interest = if watch { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        // Can't fail for a descriptor that is registered.
        let _ = registry.reregister(
            &mut SourceFd(&socket.as_raw_fd()),
            Token(self.first_token + place),
            interest,
        );
    }

    /// Whether a socket may have something to read.
    pub(super) fn any_readable(&self) -> bool {
        self.sockets.iter().any(|(_, readable)| *readable)
    }

    pub(super) fn is_readable(&self, place: usize) -> bool {
        self.sockets.get(place).is_some_and(|(_, readable)| *readable)
    }

    pub(super) fn set_readable(&mut self, token: Token) {
        if let Some((_, readable)) =
            token.0.checked_sub(self.first_token).and_then(|place| self.sockets.get_mut(place))
        {
            *readable = true;
        }
    }

    /// Receives one datagram. `Ok(None)` if there is none; an error is the end of the socket.
    pub(super) fn recv(&mut self, place: usize, buf: &mut [u8]) -> io::Result<Option<(usize, Path)>> {
        let Some((socket, readable)) = self.sockets.get_mut(place) else { return Ok(None) };
        // Complaints about earlier packets take one call each.
        loop {
            match socket.recv_msg(buf) {
                Ok(got) => {
                    let path = Path::Datagram {
                        socket: u16::try_from(place).unwrap_or(u16::MAX),
                        remote: got.remote,
                        local: got.local,
                    };
                    return Ok(Some((got.len.min(buf.len()), path)));
                }
                Err(error) => match classify(&error) {
                    Fault::WouldBlock => {
                        *readable = false;
                        return Ok(None);
                    }
                    Fault::Socket => {
                        *readable = false;
                        return Err(error);
                    }
                    _ => {}
                },
            }
        }
    }

    /// Sends one datagram.
    pub(super) fn send(&self, path: Path, bytes: &[u8]) -> Sent {
        send(self.sockets.iter().map(|(socket, _)| socket), path, bytes)
    }
}

/// Sends a datagram on the socket that `path` names.
fn send<'a>(mut sockets: impl Iterator<Item = &'a UdpSocket>, path: Path, bytes: &[u8]) -> Sent {
    let Path::Datagram { socket, remote, local } = path else { return Sent::Gone };
    let Some(socket) = sockets.nth(usize::from(socket)) else { return Sent::Gone };
    loop {
        match socket.send_msg(bytes, remote, local).map_err(|error| classify(&error)) {
            Err(Fault::Interrupted) => {}
            Err(Fault::WouldBlock) => return Sent::Full,
            // What the network has against one packet concerns nobody else.
            Ok(_) | Err(_) => return Sent::Gone,
        }
    }
}

/// Sealed datagrams, each in the cell it was read into.
pub(super) struct Outbound {
    slab: Vec<u8>,
    cell: usize,
    queue: Vec<Packet>,
    sent: usize,
    /// The socket that is full.
    blocked: Option<usize>,
}

impl Outbound {
    /// Room for a batch of packets of up to `mtu` bytes.
    pub(super) fn new(mtu: u16) -> Self {
        let cell = HEADROOM + usize::from(mtu) + TAILROOM;
        Self { slab: vec![0; cell * BATCH], cell, queue: Vec::with_capacity(BATCH), sent: 0, blocked: None }
    }

    /// The next free cell, unless a socket is full.
    pub(super) fn free(&mut self) -> Option<&mut [u8]> {
        let at = self.queue.len() * self.cell;
        (self.blocked.is_none() && self.queue.len() < BATCH).then(|| &mut self.slab[at..at + self.cell])
    }

    /// Whether there is room to read into.
    pub(super) const fn has_room(&self) -> bool {
        self.blocked.is_none() && self.queue.len() < BATCH
    }

    /// Queues what was sealed in the free cell.
    pub(super) fn push(&mut self, path: Path, start: usize, len: usize) {
        let at = self.queue.len() * self.cell;
        self.queue.push(Packet { path, start: at + start, len });
    }

    /// The socket that was full may take more.
    pub(super) fn unblock(&mut self, sockets: &Sockets, registry: &Registry) {
        if let Some(place) = self.blocked.take() {
            sockets.watch_writes(registry, place, false);
        }
    }

    /// Sends until the queue is empty or a socket full; the bytes that left.
    pub(super) fn flush(&mut self, sockets: &Sockets, registry: &Registry) -> u64 {
        let mut bytes = 0;
        while let Some(packet) = self.queue.get(self.sent).filter(|_| self.blocked.is_none()) {
            match sockets.send(packet.path, &self.slab[packet.start..packet.start + packet.len]) {
                Sent::Gone => {
                    bytes += packet.len as u64;
                    self.sent += 1;
                }
                Sent::Full => {
                    let Path::Datagram { socket, .. } = packet.path else { continue };
                    // From here on a notice comes, even if there is room by now.
                    sockets.watch_writes(registry, usize::from(socket), true);
                    self.blocked = Some(usize::from(socket));
                }
            }
        }
        if self.sent == self.queue.len() {
            self.queue.clear();
            self.sent = 0;
        }
        bytes
    }
}
