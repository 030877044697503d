//! Packets in and out.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::AsFd;

use super::device::{Device, Kind};
use super::sys;
use crate::offload::VnetHeader;

impl Device {
    /// Reads one packet or super-packet into `buf`, and returns the header that came with it and the packet's length in
    /// bytes.
    ///
    /// With offload `buf` should have 65,535 bytes: what is longer than `buf` is cut, and
    /// [`Split::new`](crate::offload::Split::new) then refuses it. Any other device gives what [`Device::recv`] gives,
    /// with [`VnetHeader::PLAIN`].
    ///
    /// # Errors
    ///
    /// Those of [`Device::recv`]. [`ErrorKind::InvalidData`] for a super-packet of an unknown kind, which is lost; not
    /// final.
    #[inline]
    pub fn read(&self, buf: &mut [u8]) -> io::Result<(VnetHeader, usize)> {
        match &self.kind {
            Kind::Named(device) if self.super_packets.is_some() => {
                let mut header = [0; VnetHeader::LEN];
                let parts = &mut [IoSliceMut::new(&mut header), IoSliceMut::new(buf)];
                let len = device.recv_vectored(parts)?;
                let parsed = VnetHeader::parse(&header);
                match (parsed, len.checked_sub(VnetHeader::LEN)) {
                    (Ok(header), Some(len)) => Ok((header, len)),
                    (Err(error), _) => Err(io::Error::new(ErrorKind::InvalidData, error)),
                    (_, None) => Err(ErrorKind::UnexpectedEof.into()),
                }
            }
            _ => Ok((VnetHeader::PLAIN, self.read_plain(buf)?)),
        }
    }

    /// Writes one packet or super-packet, gathered from slices. The first slice is the ten bytes of a [`VnetHeader`],
    /// which a device without offload leaves out.
    ///
    /// # Errors
    ///
    /// Those of [`Device::send`]. [`ErrorKind::InvalidInput`] if there is no such header, if there are more slices than
    /// the kernel takes (1,024), or if the header is not [`VnetHeader::PLAIN`] on a device without offload.
    #[inline]
    pub fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let refused = |why| Err(io::Error::new(ErrorKind::InvalidInput, why));
        let [header, packet @ ..] = parts else { return refused("no slices") };
        if header.len() != VnetHeader::LEN {
            return refused("the first slice is no virtio-net header");
        }
        match &self.kind {
            Kind::Named(device) if self.super_packets.is_some() => {
                return device.send_vectored(parts).map(drop);
            }
            _ if header.iter().any(|&byte| byte != 0) => {
                return refused("this device takes no super-packets and completes no checksums");
            }
            Kind::Named(device) => device.send_vectored(packet),
            Kind::Given(file) => (&*file).write_vectored(packet),
            Kind::Null => return Ok(()),
        }
        .map(drop)
    }

    /// Reads one packet into `buf` and returns its length in bytes. A packet longer than `buf` is cut.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`] if no packet waits; always so for a null device. `EBADFD` once the interface was
    /// deleted under the descriptor, [`ErrorKind::UnexpectedEof`] once the other end of a `SOCK_SEQPACKET` pair is
    /// closed; both are final. [`ErrorKind::Unsupported`] on a device with offload, where one read may give many
    /// packets: see [`Device::read`]. An empty datagram from the other end of a `SOCK_DGRAM` pair has length 0.
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        if self.super_packets.is_some() {
            return Err(io::Error::new(
                ErrorKind::Unsupported,
                "a device with offload gives packets with a header: use read instead of recv",
            ));
        }
        self.read_plain(buf)
    }

    fn read_plain(&self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Named(device) => device.recv(buf),
            Kind::Given(file) => match (&*file).read(buf) {
                // Of a datagram socket this is an empty packet and not the end.
                Ok(0) if !buf.is_empty() && sys::socket_type(file.as_fd()) != Some(libc::SOCK_DGRAM) => {
                    Err(ErrorKind::UnexpectedEof.into())
                }
                read => read,
            },
            Kind::Null => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes one packet and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WouldBlock`] if the queue is full, `EIO` while the interface is down, `EINVAL` if `packet` is
    /// neither IPv4 nor IPv6, `EBADFD` once the interface was deleted. None but the last is final.
    pub fn send(&self, packet: &[u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Named(_) if self.super_packets.is_some() => self
                .write(&[IoSlice::new(&VnetHeader::PLAIN.to_bytes()), IoSlice::new(packet)])
                .map(|()| packet.len()),
            Kind::Named(device) => device.send(packet),
            Kind::Given(file) => (&*file).write(packet),
            Kind::Null => Ok(packet.len()),
        }
    }
}
