//! The outer transport: a UDP socket or a TCP connection as a [`Link`].

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use oxivpn_net::tcp::{Flush, TcpLink};
use oxivpn_net::{Fault, Notice, SocketSettings, UdpSocket, classify};
use oxivpn_profile::profile::SocketOptions;
use oxivpn_proto::wire::stream::Deframer;
use oxivpn_proto::{Path, StreamId};

use crate::client::halves::Inlet;
use crate::lane::Inbox;
use crate::lane::inbox;
use crate::lane::outbox::Run;
use crate::turn::Link;

/// Largest frame that is taken from a stream. Nobody sends more than a tunnel packet or a control packet; an
/// MTU above this needs no OpenVPN.
const MAX_FRAME: usize = 65_535;

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
    Udp {
        socket: UdpSocket,
        number: u16,
        /// Set if another thread receives.
        inlet: Option<Box<Inlet>>,
    },
    Tcp {
        link: TcpLink,
        partial: Vec<u8>,
    },
}

impl Transport {
    /// Datagrams on `socket`, which gets the number `number` in paths.
    pub const fn udp(socket: UdpSocket, number: u16, remote: SocketAddr) -> Self {
        let path = Path::udp(number, remote);
        Self { kind: Kind::Udp { socket, number, inlet: None }, path, remote, complaint: None }
    }

    /// Frames on a connection.
    pub fn tcp(link: TcpLink, id: StreamId) -> Self {
        let remote = link.remote_addr();
        let kind = Kind::Tcp { link, partial: Vec::new() };
        Self { kind, path: Path::Stream(id), remote, complaint: None }
    }

    /// Another one for the same socket, for a thread that receives; `None` if that can't be done with a connection.
    pub(crate) fn receiver(&self) -> io::Result<Option<Self>> {
        let Kind::Udp { socket, number, .. } = &self.kind else { return Ok(None) };
        Ok(Some(Self::udp(socket.try_clone()?, *number, self.remote)))
    }

    /// Another thread receives from now on; control packets come from there.
    pub(crate) fn set_inlet(&mut self, from: Inlet) {
        if let Kind::Udp { inlet, .. } = &mut self.kind {
            *inlet = Some(Box::new(from));
        }
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
    pub fn take_complaint(&mut self) -> Option<io::Error> {
        let sent = match &self.kind {
            Kind::Udp { socket, .. } => socket.take_complaint(),
            Kind::Tcp { .. } => None,
        };
        self.complaint.take().or(sent)
    }

    /// What the user should be told of the socket, once.
    pub fn take_notice(&self) -> Option<Notice> {
        match &self.kind {
            Kind::Udp { socket, .. } => socket.take_notice(),
            Kind::Tcp { .. } => None,
        }
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
    fn recv(&mut self, inbox: &mut Inbox) -> io::Result<bool> {
        match &mut self.kind {
            Kind::Udp { inlet: Some(inlet), .. } => inlet.recv(inbox),
            Kind::Udp { socket, number, .. } => loop {
                match inbox.receive(socket, *number) {
                    Ok(drained) => return Ok(drained),
                    Err(error) => match classify(&error) {
                        Fault::WouldBlock => return Err(ErrorKind::WouldBlock.into()),
                        Fault::Interrupted => {}
                        Fault::Socket => return Err(error),
                        _ => self.complaint = Some(error),
                    },
                }
            },
            Kind::Tcp { link, partial } => {
                receive_frames(link, partial, self.path, Deframer::new(MAX_FRAME), inbox).map(|()| false)
            }
        }
    }

    fn send(&mut self, run: &Run, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Udp { socket, .. } => {
                let Path::Datagram { remote, local, .. } = run.path else { return Ok(bytes.len()) };
                loop {
                    let error = match socket.send_many(bytes, run.segment, remote, local, run.ecn) {
                        Ok(taken) => return Ok(taken),
                        Err(error) => error,
                    };
                    match classify(&error) {
                        Fault::WouldBlock => return Ok(0),
                        Fault::Interrupted => {}
                        _ => return Err(error),
                    }
                }
            }
            Kind::Tcp { link, .. } => link.write_frames(bytes),
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

    fn hear_ecn(&mut self) {
        if let Kind::Udp { socket, .. } = &self.kind {
            // Without it marks are lost, as with a peer that doesn't know of them.
            let _ = socket.hear_ecn();
        }
    }

    fn is_relay(&self) -> bool {
        matches!(self.kind, Kind::Udp { inlet: Some(_), .. })
    }
}

/// Reads a connection once, behind what was left of the time before, and takes the whole frames.
pub(crate) fn receive_frames(
    link: &mut TcpLink,
    partial: &mut Vec<u8>,
    path: Path,
    deframer: Deframer,
    inbox: &mut Inbox,
) -> io::Result<()> {
    let have = partial.len();
    let room = &mut inbox.room()[..inbox::MOST];
    room[..have].copy_from_slice(partial);
    // More frames may have come than the inbox had places for.
    let is_short = deframer.first(partial).is_ok_and(|frame| frame.is_none());
    let read = match is_short.then(|| read_some(link, &mut room[have..])) {
        None => 0,
        Some(Ok(read)) => read,
        Some(Err(error)) => {
            if have == 0 {
                // An idle connection holds no memory.
                *partial = Vec::new();
            }
            return Err(error);
        }
    };
    let len = have + read;
    let (taken, result) = inbox.push_frames(path, len, deframer);
    partial.clear();
    partial.extend_from_slice(&inbox.room()[..len - taken]);
    result.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

fn read_some(link: &mut TcpLink, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match link.read(buf) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::lane::Outbox;

    /// Takes what there is, waiting for something.
    fn receive(transport: &mut Transport, inbox: &mut Inbox) -> io::Result<Vec<(Path, Vec<u8>)>> {
        inbox.clear();
        let result = loop {
            match transport.recv(inbox) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                result => break result,
            }
        };
        let (packets, slab) = inbox.packets();
        let got = packets.iter().map(|p| (p.path, slab[p.start..p.start + p.len].to_vec())).collect();
        result.map(|_| got)
    }

    fn put(outbox: &mut Outbox, path: Path, packet: &[u8]) {
        outbox.reserve(2 + packet.len()).unwrap()[2..].copy_from_slice(packet);
        outbox.commit(path, 2, packet.len());
    }

    #[test]
    fn frames_come_out_of_a_stream_cut_anywhere() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        let link = TcpLink::try_from((near, 65_536)).unwrap();
        let mut transport = Transport::tcp(link, StreamId(3));
        let mut packets: Vec<Vec<u8>> = Vec::new();
        let mut wire = Vec::new();
        let many = core::iter::repeat_n(3, 10_000);
        for len in [1usize, 2, 1400, 65_535, 65_535, 7, 60_000, 1].into_iter().chain(many) {
            let packet: Vec<u8> = (0..len).map(|i| (i * 7 + len + packets.len()) as u8).collect();
            wire.extend(u16::try_from(len).unwrap().to_be_bytes());
            wire.extend(&packet);
            packets.push(packet);
        }
        let writer = std::thread::spawn(move || {
            for chunk in wire.chunks(4_999) {
                far.write_all(chunk).unwrap();
            }
        });
        let mut inbox = Inbox::default();
        let mut got: Vec<Vec<u8>> = Vec::new();
        let error = loop {
            match receive(&mut transport, &mut inbox) {
                Ok(some) => {
                    assert!(some.iter().all(|(path, _)| *path == Path::Stream(StreamId(3))));
                    got.extend(some.into_iter().map(|(_, packet)| packet));
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        writer.join().unwrap();
        assert!(got == packets, "{} of {} packets", got.len(), packets.len());
    }

    #[test]
    fn frames_leave_in_one_piece() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        let link = TcpLink::try_from((near, 204)).unwrap();
        let mut transport = Transport::tcp(link, StreamId(0));
        let mut outbox = Outbox::default();
        for n in 0..9 {
            put(&mut outbox, transport.path(), &[n; 100]);
        }
        let (run, bytes) = outbox.next().unwrap();
        assert_eq!(transport.send(&run, bytes).unwrap(), 9 * 102);
        assert!(transport.flush().unwrap());
        drop(transport);
        let mut got = Vec::new();
        far.read_to_end(&mut got).unwrap();
        assert_eq!(got, bytes);
    }

    #[test]
    fn a_bad_length_ends_the_stream() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        let mut transport = Transport::tcp(TcpLink::try_from((near, 65_536)).unwrap(), StreamId(0));
        far.write_all(&[0, 0, 1]).unwrap();
        let error = receive(&mut transport, &mut Inbox::default()).unwrap_err();
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
        let mut outbox = Outbox::default();
        put(&mut outbox, transport.path(), b"abc");
        let (run, bytes) = outbox.next().unwrap();
        assert_eq!(transport.send(&run, bytes).unwrap(), 3);
        let mut buf = [0; 16];
        let (len, from) = loop {
            match far.recv_from(&mut buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        assert_eq!((&buf[..len], from), (&b"abc"[..], here));
        far.send_to(b"xy", here).unwrap();
        let got = receive(&mut transport, &mut Inbox::default()).unwrap();
        assert_eq!(got, [(Path::udp(2, there), b"xy".to_vec())]);
    }
}
