//! TCP connections of clients.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use oxivpn_net::tcp::{Flush, FrameError, TcpLink};
use oxivpn_proto::wire::stream::Deframer;
use oxivpn_proto::{Path, StreamId};
use slab::Slab;

use super::share::Share;
use crate::lane::Inbox;
use crate::link::receive_frames;

/// Bits of a [`StreamId`] that are the place in the slab; the rest counts connections.
const PLACE_BITS: u32 = 24;

/// A connection as it is counted.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |open| (open < most).then_some(open + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(count.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections, and what has to be done about them.
pub(super) struct Streams {
    slab: Slab<Stream>,
    serial: u64,
    /// Places of those that may have something to read.
    readable: Vec<usize>,
    /// Places of those that have something to write.
    dirty: Vec<usize>,
    deframer: Deframer,
    /// Bytes of data packets that wait for a slow client.
    data_limit: usize,
    first_token: usize,
    share: Share,
    /// Connections of all workers.
    count: Arc<AtomicUsize>,
}

struct Stream {
    id: StreamId,
    _counted: Counted,
    link: TcpLink,
    /// Start of a frame whose end has not come yet.
    partial: Vec<u8>,
    readable: bool,
    dirty: bool,
    /// Closed by us as soon as everything is written.
    closing: bool,
}

impl Streams {
    /// None yet. `max_frame` is the largest packet that is taken; tokens are `first_token` and above.
    /// `count` is of all workers.
    pub(super) fn new(
        max_frame: usize,
        data_limit: usize,
        first_token: usize,
        share: Share,
        count: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            slab: Slab::new(),
            serial: 0,
            readable: Vec::new(),
            dirty: Vec::new(),
            deframer: Deframer::new(max_frame),
            data_limit,
            first_token,
            share,
            count,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Takes a connection, unless all workers together have `most` already.
    pub(super) fn insert(
        &mut self,
        registry: &Registry,
        link: TcpLink,
        most: usize,
    ) -> io::Result<Option<(StreamId, SocketAddr)>> {
        let Some(counted) = Counted::new(&self.count, most) else { return Ok(None) };
        let remote = link.remote_addr();
        let entry = self.slab.vacant_entry();
        let place = entry.key();
        registry.register(
            &mut SourceFd(&link.as_raw_fd()),
            Token(self.first_token + place),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.serial += 1;
        let id = self.share.stream(self.serial << PLACE_BITS | place as u64);
        let partial = Vec::new();
        entry.insert(Stream {
            id,
            _counted: counted,
            link,
            partial,
            readable: true,
            dirty: false,
            closing: false,
        });
        self.readable.push(place);
        Ok(Some((id, remote)))
    }

    fn place(&self, id: StreamId) -> Option<usize> {
        let place = usize::try_from(id.0 & ((1 << PLACE_BITS) - 1)).ok()?;
        (self.slab.get(place)?.id == id).then_some(place)
    }

    /// The poll says that something happened to the connection with this token.
    pub(super) fn notice(&mut self, token: Token, readable: bool, writable: bool) {
        let Some(place) = token.0.checked_sub(self.first_token) else { return };
        let Some(stream) = self.slab.get_mut(place) else { return };
        if readable && !core::mem::replace(&mut stream.readable, true) {
            self.readable.push(place);
        }
        if writable
            && (stream.link.queued() > 0 || stream.closing)
            && !core::mem::replace(&mut stream.dirty, true)
        {
            self.dirty.push(place);
        }
    }

    /// Whether [`take_readable`](Self::take_readable) would find one.
    pub(super) fn has_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Swaps the places that may have something to read with `into`, which must be empty.
    pub(super) fn take_readable(&mut self, into: &mut Vec<usize>) {
        core::mem::swap(&mut self.readable, into);
    }

    /// Reads once, into `inbox`, which is empty. Whether the connection is at its end.
    pub(super) fn recv(&mut self, place: usize, inbox: &mut Inbox) -> bool {
        let Some(stream) = self.slab.get_mut(place) else { return false };
        stream.readable = false;
        let path = Path::Stream(stream.id);
        match receive_frames(&mut stream.link, &mut stream.partial, path, self.deframer, inbox) {
            Ok(()) => {
                stream.readable = true;
                self.readable.push(place);
                false
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Whether a data packet of `len` bytes may go to this connection; asked before it is sealed.
    pub(super) fn has_room(&self, id: StreamId, len: usize) -> bool {
        self.place(id).and_then(|place| self.slab.get(place)).is_some_and(|stream| {
            !stream.closing && (stream.link.queued() == 0 || stream.link.queued() + len <= self.data_limit)
        })
    }

    /// Writes whole frames; whether they were taken.
    pub(super) fn write_run(&mut self, id: StreamId, frames: &[u8]) -> bool {
        let Some(place) = self.place(id) else { return false };
        let Some(stream) = self.slab.get_mut(place) else { return false };
        // An error comes back with the next read.
        let taken = stream.link.write_frames(frames).unwrap_or(0);
        if !core::mem::replace(&mut stream.dirty, true) {
            self.dirty.push(place);
        }
        taken == frames.len()
    }

    /// Queues a packet; whether it was taken.
    pub(super) fn write(&mut self, id: StreamId, packet: &[u8]) -> bool {
        let Some(place) = self.place(id) else { return false };
        let Some(stream) = self.slab.get_mut(place) else { return false };
        let result = match stream.link.write_frame(packet) {
            Err(FrameError::Full) => {
                // An error comes back with the next read.
                let _ = stream.link.flush();
                stream.link.write_frame(packet)
            }
            result => result,
        };
        if !core::mem::replace(&mut stream.dirty, true) {
            self.dirty.push(place);
        }
        result.is_ok()
    }

    /// Closes a connection once what is queued has left; told a second time, at once.
    pub(super) fn close(&mut self, id: StreamId) {
        let Some(place) = self.place(id) else { return };
        let Some(stream) = self.slab.get_mut(place) else { return };
        if core::mem::replace(&mut stream.closing, true) {
            self.slab.remove(place);
            return;
        }
        if !core::mem::replace(&mut stream.dirty, true) {
            self.dirty.push(place);
        }
    }

    /// Forgets a connection; closes it with what is queued.
    pub(super) fn remove(&mut self, place: usize) -> Option<StreamId> {
        self.slab.try_remove(place).map(|stream| stream.id)
    }

    /// Writes what is queued as far as the kernel takes it. Places of connections that broke go into `broken`.
    pub(super) fn flush(&mut self, broken: &mut Vec<usize>) {
        for place in self.dirty.drain(..) {
            let Some(stream) = self.slab.get_mut(place) else { continue };
            stream.dirty = false;
            match stream.link.flush() {
                Ok(Flush::Done) if stream.closing => drop(self.slab.remove(place)),
                Ok(Flush::Done | Flush::Blocked) => {}
                Err(_) => broken.push(place),
            }
        }
    }

    pub(super) fn is_closing(&self, place: usize) -> bool {
        self.slab.get(place).is_some_and(|stream| stream.closing)
    }
}
