use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::{error, fmt};

use socket2::Socket;

use crate::addr::fold;

/// Bytes of the length in front of each frame: a `u16` in network order that does not count itself.
const PREFIX: usize = 2;

/// A connected stream: bytes in, frames out.
///
/// Incoming bytes are handed over as they come; cutting them into frames is the protocol's affair. Outgoing frames
/// are queued with their length in front, and [`TcpLink::flush`] writes as many as the kernel takes in one call.
#[derive(Debug)]
pub struct TcpLink {
    stream: std::net::TcpStream,
    remote: SocketAddr,
    /// Prefixes and frames back to back. A ring: what is contiguous in it goes out in at most two slices.
    queue: VecDeque<u8>,
    limit: usize,
    /// The kernel has refused bytes and nobody has asked it again.
    blocked: bool,
}

/// How far [`TcpLink::flush`] got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// The queue is empty.
    Done,
    /// The kernel takes no more for now: poll for writability, then flush again.
    Blocked,
}

/// Why [`TcpLink::write_frame`] did not take a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The queue has no room: flush, and read no more packets for this link until it drains. The frame is not queued.
    Full,
    /// The frame has no bytes or more than 65,535; its length cannot be written.
    Length(usize),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("outgoing queue full: the peer reads more slowly than we write"),
            Self::Length(len) => write!(f, "a frame of {len} bytes cannot be sent: 1 to 65535 are allowed"),
        }
    }
}

impl error::Error for FrameError {}

impl TcpLink {
    pub(super) fn new(socket: Socket, remote: SocketAddr, limit: usize) -> Self {
        Self { stream: socket.into(), remote, queue: VecDeque::new(), limit, blocked: false }
    }

    /// Reads what has come into `buf` and returns how many bytes; 0 means that the peer closed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`] if nothing waits; anything else but [`ErrorKind::Interrupted`] ends the connection.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }

    /// Queues one frame with its length in front. Nothing is written until [`TcpLink::flush`].
    ///
    /// # Errors
    ///
    /// [`FrameError`]; the queue is then as it was. An empty queue takes any frame, even one above the limit.
    pub fn write_frame(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        let len = match u16::try_from(frame.len()) {
            Ok(len) if len > 0 => len,
            _ => return Err(FrameError::Length(frame.len())),
        };
        if !self.has_room(frame.len()) {
            return Err(FrameError::Full);
        }
        self.queue.extend(len.to_be_bytes());
        self.queue.extend(frame);
        Ok(())
    }

    /// Sends frames that already carry their lengths: a stream of whole frames, ready to be written. One system call
    /// and no copy if the kernel takes it all; what it leaves is queued.
    ///
    /// Returns `frames.len()`: all of them are taken, in order behind what was queued, or none. Afterwards
    /// [`TcpLink::queued`] says whether to poll for writability. An empty queue takes any number of frames, so keep
    /// their bytes well below the limit; ask [`TcpLink::has_room`] before the frames are made.
    ///
    /// The lengths are not looked at, except by a debug assertion: half a frame, or a wrong length, leaves the peer
    /// with a stream that it can't read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`] if the queue has no room: nothing is taken, and the kernel was asked just now, so it
    /// will tell when it takes more. Any other error ends the connection.
    pub fn write_frames(&mut self, frames: &[u8]) -> io::Result<usize> {
        debug_assert!(whole(frames), "half a frame at the end");
        if !self.fits(frames.len()) {
            self.flush()?;
            if !self.fits(frames.len()) {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        // A kernel that has refused bytes tells when it is worth to ask again.
        let written = if self.blocked || frames.is_empty() { 0 } else { self.write_through(frames)? };
        self.queue.extend(&frames[written..]);
        Ok(frames.len())
    }

    /// Writes the queue and `frames` by one call, and returns how many bytes of `frames` have left.
    fn write_through(&mut self, frames: &[u8]) -> io::Result<usize> {
        let (front, back) = self.queue.as_slices();
        let total = front.len() + back.len() + frames.len();
        let written = loop {
            let parts = [IoSlice::new(front), IoSlice::new(back), IoSlice::new(frames)];
            match self.stream.write_vectored(&parts) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => break written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break 0,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        self.blocked = written < total;
        let queued = written.min(self.queue.len());
        self.queue.drain(..queued);
        Ok(written - queued)
    }

    /// Writes queued frames until the queue is empty or the kernel takes no more.
    ///
    /// # Errors
    ///
    /// Any error ends the connection; the queue is of no more use then.
    pub fn flush(&mut self) -> io::Result<Flush> {
        self.blocked = false;
        while !self.queue.is_empty() {
            let before = self.queue.len();
            self.write_through(&[])?;
            if self.queue.len() == before {
                return Ok(Flush::Blocked);
            }
        }
        Ok(Flush::Done)
    }

    /// Whether a frame of `len` bytes would be taken, or whole frames of `len` bytes with their lengths. `false` is the
    /// signal to stop producing.
    pub fn has_room(&self, len: usize) -> bool {
        self.fits(PREFIX + len)
    }

    /// Whether `len` bytes may be queued.
    fn fits(&self, len: usize) -> bool {
        self.queue.is_empty() || self.queue.len() + len <= self.limit
    }

    /// Bytes queued and not yet written, length prefixes included. Above 0 the caller polls for writability.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The peer's address, IPv4-mapped folded to IPv4.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// Our own address, IPv4-mapped folded to IPv4.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr().map(fold)
    }
}

impl AsFd for TcpLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsRawFd for TcpLink {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Whether `stream` is made of whole frames.
fn whole(mut stream: &[u8]) -> bool {
    while let Some((prefix, rest)) = stream.split_first_chunk() {
        let Some(rest) = rest.get(usize::from(u16::from_be_bytes(*prefix))..) else { return false };
        stream = rest;
    }
    stream.is_empty()
}
