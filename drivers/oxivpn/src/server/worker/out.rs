//! Datagrams on their way out, and the sockets they go to.

use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use oxivpn_net::{Fault, UdpSocket, classify};
use oxivpn_proto::Path;

use super::share::Share;
use super::streams::Streams;
use crate::lane::outbox::Run;
use crate::lane::{Inbox, Outbox};

/// The datagram sockets.
pub(super) struct Sockets {
    sockets: Vec<(UdpSocket, bool)>,
    first_token: usize,
    share: Share,
    hears_ecn: bool,
}

impl Sockets {
    pub(super) fn new(
        sockets: Vec<UdpSocket>,
        share: Share,
        registry: &Registry,
        first_token: usize,
    ) -> io::Result<Self> {
        for (place, socket) in sockets.iter().enumerate() {
            registry.register(
                &mut SourceFd(&socket.as_raw_fd()),
                Token(first_token + place),
                Interest::READABLE,
            )?;
        }
        let sockets = sockets.into_iter().map(|socket| (socket, true)).collect();
        Ok(Self { sockets, first_token, share, hears_ecn: false })
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

    /// What outer headers tell of congestion is to be heard from now on.
    pub(super) fn hear_ecn(&mut self) {
        if !core::mem::replace(&mut self.hears_ecn, true) {
            for (socket, _) in &self.sockets {
                // Without it marks are lost, as with peers that don't know of them.
                let _ = socket.hear_ecn();
            }
        }
    }

    /// Whether a socket may have something to read.
    pub(super) fn any_readable(&self) -> bool {
        self.sockets.iter().any(|(_, readable)| *readable)
    }

    pub(super) fn is_readable(&self, place: usize) -> bool {
        self.sockets.get(place).is_some_and(|(_, readable)| *readable)
    }

    /// All of them may have something to read, for all that is known.
    pub(super) fn set_all_readable(&mut self) {
        self.sockets.iter_mut().for_each(|(_, readable)| *readable = true);
    }

    pub(super) fn set_readable(&mut self, token: Token) {
        if let Some((_, readable)) =
            token.0.checked_sub(self.first_token).and_then(|place| self.sockets.get_mut(place))
        {
            *readable = true;
        }
    }

    /// Receives what one call brings, into `inbox`, which has room for it. An error is the end of the socket.
    pub(super) fn recv(&mut self, place: usize, inbox: &mut Inbox) -> io::Result<()> {
        let Some((socket, readable)) = self.sockets.get_mut(place) else { return Ok(()) };
        // Complaints about earlier packets take one call each.
        loop {
            match inbox.receive(socket, self.share.socket(place)) {
                Ok(drained) => {
                    *readable = !drained;
                    return Ok(());
                }
                Err(error) => match classify(&error) {
                    Fault::WouldBlock => {
                        *readable = false;
                        return Ok(());
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

    /// Sends the datagrams of a run on the socket that its path names; the bytes that are done with.
    fn send(&self, run: &Run, bytes: &[u8]) -> Sent {
        let Path::Datagram { socket, remote, local } = run.path else { return Sent::Gone(bytes.len()) };
        let Some((socket, _)) = self.sockets.get(self.share.address(socket)) else {
            return Sent::Gone(bytes.len());
        };
        loop {
            match socket
                .send_many(bytes, run.segment, remote, local, run.ecn)
                .map_err(|error| classify(&error))
            {
                Ok(taken) => return Sent::Gone(taken),
                Err(Fault::Interrupted) => {}
                Err(Fault::WouldBlock) => return Sent::Full,
                // The socket is broken; reading it tells.
                Err(_) => return Sent::Gone(bytes.len()),
            }
        }
    }
}

/// What became of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// So many bytes left, or the network refused them for good.
    Gone(usize),
    /// The socket is full; it says so when it is not any more.
    Full,
}

/// Sealed packets on their way out.
#[derive(Default)]
pub(super) struct Outward {
    pub(super) packets: Outbox,
    /// The socket that is full.
    blocked: Option<usize>,
}

impl Outward {
    /// Whether the device may be read.
    pub(super) const fn has_room(&self) -> bool {
        !self.is_blocked() && self.packets.has_room()
    }

    /// Whether a socket is full.
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// The socket that was full may take more.
    pub(super) fn unblock(&mut self, sockets: &Sockets, registry: &Registry) {
        if let Some(place) = self.blocked.take() {
            sockets.watch_writes(registry, place, false);
        }
    }

    /// Sends until nothing is left or a socket is full; how many packets found no room on their connection.
    pub(super) fn flush(&mut self, sockets: &Sockets, streams: &mut Streams, registry: &Registry) -> u64 {
        let mut full = 0;
        while let Some((run, bytes)) = self.packets.next().filter(|_| self.blocked.is_none()) {
            let done = match run.path {
                Path::Stream(id) => {
                    // Room was there before they were sealed, so this is a connection that is ending.
                    full += u64::from(!streams.write_run(id, bytes));
                    bytes.len()
                }
                Path::Datagram { socket, .. } => match sockets.send(&run, bytes) {
                    Sent::Gone(taken) => taken,
                    Sent::Full => {
                        // From here on a notice comes, even if there is room by now.
                        let place = sockets.share.address(socket);
                        sockets.watch_writes(registry, place, true);
                        self.blocked = Some(place);
                        return full;
                    }
                },
            };
            self.packets.sent(done);
        }
        full
    }
}
