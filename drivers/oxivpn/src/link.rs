//! The outer transport: a UDP socket or a TCP connection as a [`Link`].

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use oxivpn_net::tcp::{Flush, FrameError, TcpLink};
use oxivpn_net::{Fault, SocketSettings, UdpSocket, classify};
use oxivpn_profile::profile::SocketOptions;
use oxivpn_proto::wire::stream::Deframer;
use oxivpn_proto::{Path, StreamId};

use crate::turn::{Link, Packet};

/// Largest frame that is taken from a stream. Nobody sends more than a tunnel packet or a control packet; an
/// MTU above this needs no OpenVPN.
const MAX_FRAME: usize = 65_535;

/// Bytes read from a stream at once.
const STREAM_BUFFER: usize = 2 * (MAX_FRAME + 2);

/// The socket options of a profile.
pub(crate) fn settings(options: &SocketOptions) -> SocketSettings {
    SocketSettings {
        mark: options.mark,
        device: options.bind_device.clone(),
        rcvbuf: options.receive_buffer.map(|bytes| bytes as usize),
        sndbuf: options.send_buffer.map(|bytes| bytes as usize),
    }
}

/// The outer transport of a client.
#[derive(Debug)]
pub struct Transport {
    kind: Kind,
    path: Path,
    remote: SocketAddr,
    complaint: Option<io::Error>,
}

#[derive(Debug)]
enum Kind {
    Udp { socket: UdpSocket, number: u16 },
    Tcp { link: TcpLink, buffer: Vec<u8>, start: usize, end: usize },
}

impl Transport {
    /// Datagrams on `socket`, which gets the number `number` in paths.
    pub const fn udp(socket: UdpSocket, number: u16, remote: SocketAddr) -> Self {
        let path = Path::udp(number, remote);
        Self { kind: Kind::Udp { socket, number }, path, remote, complaint: None }
    }

    /// Frames on a connection.
    pub fn tcp(link: TcpLink, id: StreamId) -> Self {
        let remote = link.remote_addr();
        let kind = Kind::Tcp { link, buffer: vec![0; STREAM_BUFFER], start: 0, end: 0 };
        Self { kind, path: Path::Stream(id), remote, complaint: None }
    }

    /// The server's address.
    pub const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The other side is there now.
    pub const fn set_remote(&mut self, remote: SocketAddr) {
        self.remote = remote;
    }

    /// What the network last complained about, once.
    pub const fn take_complaint(&mut self) -> Option<io::Error> {
        self.complaint.take()
    }

    /// Our own address.
    pub fn local(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Udp { socket, .. } => socket.local_addr(),
            Kind::Tcp { link, .. } => link.local_addr(),
        }
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        match &self.kind {
            Kind::Udp { socket, .. } => socket.as_raw_fd(),
            Kind::Tcp { link, .. } => link.as_raw_fd(),
        }
    }
}

impl Link for Transport {
    fn recv<'a>(&'a mut self, buf: &'a mut [u8]) -> io::Result<(&'a mut [u8], Path)> {
        match &mut self.kind {
            Kind::Udp { socket, number } => loop {
                match socket.recv_from(buf) {
                    Ok((len, remote)) => {
                        let len = len.min(buf.len());
                        return Ok((&mut buf[..len], Path::udp(*number, remote)));
                    }
                    Err(error) => match classify(&error) {
                        Fault::WouldBlock => return Err(ErrorKind::WouldBlock.into()),
                        Fault::Interrupted => {}
                        Fault::Socket => return Err(error),
                        _ => self.complaint = Some(error),
                    },
                }
            },
            Kind::Tcp { link, buffer, start, end } => {
                let frame = next_frame(link, buffer, start, end)?;
                Ok((&mut buffer[frame], self.path))
            }
        }
    }

    fn send(&mut self, packets: &[Packet], slab: &mut [u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Udp { socket, .. } => {
                let mut taken = 0;
                while let Some(packet) = packets.get(taken) {
                    let bytes = slab.get(packet.start..packet.start + packet.len);
                    if let (Path::Datagram { remote, .. }, Some(bytes)) = (packet.path, bytes)
                        && let Err(error) = socket.send_to(bytes, remote)
                    {
                        match classify(&error) {
                            Fault::WouldBlock => return Ok(taken),
                            Fault::Interrupted => continue,
                            Fault::Socket => return Err(error),
                            _ => self.complaint = Some(error),
                        }
                    }
                    taken += 1;
                }
                Ok(taken)
            }
            Kind::Tcp { link, .. } => {
                let mut taken = 0;
                while let Some(packet) = packets.get(taken) {
                    let bytes = slab.get(packet.start..packet.start + packet.len).unwrap_or_default();
                    match link.write_frame(bytes) {
                        Ok(()) => taken += 1,
                        // Only a kernel that refused bytes tells when it takes more: the answer may be "full" only
                        // after such a refusal.
                        Err(FrameError::Full) => match link.flush()? {
                            Flush::Done => {}
                            Flush::Blocked => return Ok(taken),
                        },
                        Err(error @ FrameError::Length(_)) => return Err(io::Error::other(error)),
                    }
                }
                link.flush()?;
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        match &mut self.kind {
            Kind::Udp { .. } => Ok(true),
            Kind::Tcp { link, .. } => Ok(link.flush()? == Flush::Done),
        }
    }

    fn path(&self) -> Path {
        self.path
    }
}

/// The place of the next whole frame in `buffer`, whose unread bytes are `start..end`.
fn next_frame(
    link: &mut TcpLink,
    buffer: &mut [u8],
    start: &mut usize,
    end: &mut usize,
) -> io::Result<core::ops::Range<usize>> {
    let deframer = Deframer::new(MAX_FRAME);
    loop {
        let unread = &buffer[*start..*end];
        if let Some(frame) =
            deframer.first(unread).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?
        {
            let at = *start;
            *start += frame.end;
            return Ok(at + frame.start..at + frame.end);
        }
        if *start == *end {
            (*start, *end) = (0, 0);
        } else if buffer.len() - *start < deframer.buffer_len() {
            buffer.copy_within(*start..*end, 0);
            (*start, *end) = (0, *end - *start);
        }
        match link.read(&mut buffer[*end..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => *end += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn frames_come_out_of_a_stream_cut_anywhere() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        let link = TcpLink::try_from((near, 65_536)).unwrap();
        let mut transport = Transport::tcp(link, StreamId(3));
        let mut packets: Vec<Vec<u8>> = Vec::new();
        let mut wire = Vec::new();
        for len in [1usize, 2, 1400, 65_535, 65_535, 7, 60_000, 1] {
            let packet: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
            wire.extend(u16::try_from(len).unwrap().to_be_bytes());
            wire.extend(&packet);
            packets.push(packet);
        }
        let writer = std::thread::spawn(move || {
            for chunk in wire.chunks(4_999) {
                far.write_all(chunk).unwrap();
            }
        });
        let mut got: Vec<Vec<u8>> = Vec::new();
        loop {
            match transport.recv(&mut []) {
                Ok((bytes, path)) => {
                    assert_eq!(path, Path::Stream(StreamId(3)));
                    got.push(bytes.to_vec());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                    break;
                }
            }
        }
        writer.join().unwrap();
        assert!(got == packets, "{} of {} packets", got.len(), packets.len());
    }

    #[test]
    fn a_full_queue_that_drains_at_once_takes_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        // Two frames of 100 bytes fill this queue, and the kernel's buffer has room for many more.
        let link = TcpLink::try_from((near, 204)).unwrap();
        let mut transport = Transport::tcp(link, StreamId(0));
        let mut slab = vec![9; 1000];
        let packets: Vec<Packet> =
            (0..9).map(|n| Packet { path: transport.path(), start: 10 + n * 100, len: 100 }).collect();
        assert_eq!(transport.send(&packets, &mut slab).unwrap(), 9);
        assert!(transport.flush().unwrap());
        drop(far);
    }

    #[test]
    fn a_bad_length_ends_the_stream() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        let mut transport = Transport::tcp(TcpLink::try_from((near, 65_536)).unwrap(), StreamId(0));
        far.write_all(&[0, 0, 1]).unwrap();
        let error = loop {
            match transport.recv(&mut []) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                other => break other.unwrap_err(),
            }
        };
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn datagrams_say_where_they_come_from() {
        use oxivpn_net::{Family, UdpOptions};
        let bind = || {
            let local = Some("127.0.0.1:0".parse().unwrap());
            UdpSocket::bind(&UdpOptions { local, ..UdpOptions::new(Family::V4) }).unwrap()
        };
        let (near, far) = (bind(), bind());
        let (here, there) = (near.local_addr().unwrap(), far.local_addr().unwrap());
        let mut transport = Transport::udp(near, 2, there);
        let mut slab = b"..abc..".to_vec();
        let packets = [Packet { path: transport.path(), start: 2, len: 3 }];
        assert_eq!(transport.send(&packets, &mut slab).unwrap(), 1);
        let mut buf = [0; 16];
        let (len, from) = loop {
            match far.recv_from(&mut buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        assert_eq!((&buf[..len], from), (&b"abc"[..], here));
        far.send_to(b"xy", here).unwrap();
        let mut buf = [0; 16];
        loop {
            match transport.recv(&mut buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                other => {
                    let (bytes, path) = other.unwrap();
                    assert_eq!((&*bytes, path), (&b"xy"[..], Path::udp(2, there)));
                    return;
                }
            }
        }
    }
}
