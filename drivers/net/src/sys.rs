//! System calls that have no safe wrapper without allocation: messages with control data, and a few socket options.
//! The only file with `unsafe` code.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_uint};
use socket2::{SockAddr, SockAddrStorage};

/// Bytes of control data: more than all messages take that may come together, which are `UDP_GRO` (24),
/// `IP_PKTINFO` (32), `IPV6_PKTINFO` (40), `IP_TOS` (24) and `IPV6_TCLASS` (24).
const CONTROL: usize = 192;

/// Control data, aligned as the kernel's macros want it.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

const _: () = assert!(align_of::<libc::cmsghdr>() <= align_of::<Control>());

/// Sets an option whose value is an int.
pub(crate) fn set_int(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the value is an int that lives over the call, and its size is given.
    let code = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option whose value is an int.
pub(crate) fn get_int(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: both pointers are valid for writes over the call, and `size` is that of the value.
    let code =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut size) };
    if code == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// What `recvmsg` gave.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Bytes in the buffer.
    pub(crate) len: usize,
    /// The sender, not folded.
    pub(crate) remote: Option<SocketAddr>,
    /// The local address it was sent to, folded.
    pub(crate) local: Option<IpAddr>,
    /// Length of the datagrams that the kernel merged.
    pub(crate) segment: Option<usize>,
    /// The TOS or traffic class byte; 0 if the kernel was not asked.
    pub(crate) tos: u8,
}

/// Receives a datagram, or several that were merged.
pub(crate) fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Incoming> {
    let mut control = MaybeUninit::<Control>::uninit();
    let mut storage = SockAddrStorage::zeroed();
    let mut io = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut message = incoming(&mut storage, &mut io, &mut control);
    // SAFETY: every pointer in `message` is valid for writes of the length beside it, over the call.
    let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) };
    let Ok(len) = usize::try_from(len) else { return Err(io::Error::last_os_error()) };
    // SAFETY: recvmsg has just filled the message.
    Ok(unsafe { Incoming::read(&message, storage, len) })
}

/// Most messages of one [`recv_batch`].
pub(crate) const MESSAGES: usize = 16;

/// Receives up to [`MESSAGES`] messages, each a datagram or several that were merged, into a part of `slab` of its own:
/// number `n` at `n * stride`. Gives each to `take`, with its number, and says how many there were.
pub(crate) fn recv_batch(
    fd: BorrowedFd<'_>,
    slab: &mut [u8],
    stride: usize,
    mut take: impl FnMut(usize, Incoming),
) -> io::Result<usize> {
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; MESSAGES];
    let mut storages = [const { MaybeUninit::<SockAddrStorage>::uninit() }; MESSAGES];
    let mut ios = [const { MaybeUninit::<libc::iovec>::uninit() }; MESSAGES];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MESSAGES];
    let places = controls.iter_mut().zip(&mut storages).zip(&mut ios).zip(&mut messages);
    let mut asked = 0;
    for ((((control, storage), io), message), room) in places.zip(slab.chunks_mut(stride)) {
        let io = io.write(libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() });
        let header = incoming(storage.write(SockAddrStorage::zeroed()), io, control);
        message.write(libc::mmsghdr { msg_hdr: header, msg_len: 0 });
        asked += 1;
    }
    // SAFETY: the first `asked` messages are set, and every pointer in them is valid for writes of the length beside it,
    // over the call.
    let got = unsafe {
        let first = messages.as_mut_ptr().cast();
        libc::recvmmsg(fd.as_raw_fd(), first, asked, libc::MSG_DONTWAIT as _, core::ptr::null_mut())
    };
    let Ok(got) = usize::try_from(got) else { return Err(io::Error::last_os_error()) };
    for (number, (message, storage)) in messages.iter().zip(&storages).take(got).enumerate() {
        // SAFETY: the kernel has filled the first `got` messages, and their addresses with them.
        let incoming = unsafe {
            let message = message.assume_init_ref();
            Incoming::read(&message.msg_hdr, storage.assume_init_read(), message.msg_len as usize)
        };
        take(number, incoming);
    }
    Ok(got)
}

/// What a message is received with.
fn incoming(
    storage: &mut SockAddrStorage,
    io: &mut libc::iovec,
    control: &mut MaybeUninit<Control>,
) -> libc::msghdr {
    // SAFETY: `msghdr` is plain data, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_namelen = storage.size_of();
    message.msg_name = (&raw mut *storage).cast();
    message.msg_iov = io;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL as _;
    message
}

impl Incoming {
    /// Reads what a message says of itself.
    ///
    /// # Safety
    ///
    /// The kernel has filled `message`, whose address is in `storage` and whose control data is where it says.
    unsafe fn read(message: &libc::msghdr, storage: SockAddrStorage, len: usize) -> Self {
        // SAFETY: the kernel wrote an address of this length.
        let from = unsafe { SockAddr::new(storage, message.msg_namelen) };
        let mut incoming = Self { len, remote: from.as_socket(), local: None, segment: None, tos: 0 };
        // SAFETY: `message` and the control data it names are as the kernel left them; the macro stays within.
        let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
        while !header.is_null() {
            // SAFETY: the macros give a header that lies in the control data as a whole.
            unsafe { incoming.note(header) };
            // SAFETY: as above; the macro answers null at the end.
            header = unsafe { libc::CMSG_NXTHDR(message, header) };
        }
        incoming
    }

    /// Takes one control message to heart.
    ///
    /// # Safety
    ///
    /// `header` points at a message that the kernel wrote.
    unsafe fn note(&mut self, header: *const libc::cmsghdr) {
        // SAFETY: the caller's promise.
        let kind = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        match kind {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: the caller's promise; the structure is plain data.
                let info: Option<libc::in_pktinfo> = unsafe { payload(header) };
                self.local = info.map(|info| Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: the caller's promise; the structure is plain data.
                let info: Option<libc::in6_pktinfo> = unsafe { payload(header) };
                self.local =
                    info.map(|info| IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical());
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => {
                // SAFETY: the caller's promise.
                let tos: Option<u8> = unsafe { payload(header) };
                self.tos = tos.unwrap_or_default();
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                // SAFETY: the caller's promise.
                let class: Option<c_int> = unsafe { payload(header) };
                self.tos = class.unwrap_or_default() as u8;
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                // SAFETY: the caller's promise.
                let segment: Option<c_int> = unsafe { payload(header) };
                self.segment = segment.and_then(|segment| usize::try_from(segment).ok());
            }
            _ => {}
        }
    }
}

/// What a control message carries, if it is as long as a `T`.
///
/// # Safety
///
/// `header` points at a message that the kernel wrote, and every bit pattern is a valid `T`.
unsafe fn payload<T>(header: *const libc::cmsghdr) -> Option<T> {
    // SAFETY: takes a number only.
    let needed = unsafe { libc::CMSG_LEN(size_of::<T>() as c_uint) };
    // SAFETY: the caller's promise.
    let len = unsafe { (*header).cmsg_len };
    // SAFETY: the kernel wrote `len` bytes from the header on, which are enough; they have no particular alignment.
    (len >= needed as _).then(|| unsafe { libc::CMSG_DATA(header).cast::<T>().read_unaligned() })
}

/// What `sendmsg` gets. The addresses are of the socket's IP version, mapped or folded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    /// One datagram, or several back to back.
    pub(crate) bytes: &'a [u8],
    /// Length of each datagram but the last, if there are several.
    pub(crate) segment: Option<u16>,
    /// Receiver.
    pub(crate) to: SocketAddr,
    /// Local address to send from.
    pub(crate) from: Option<IpAddr>,
    /// TOS or traffic class byte, if it is another than the socket's.
    pub(crate) tos: Option<u8>,
}

/// Sends a datagram, or several in one call.
pub(crate) fn send(fd: BorrowedFd<'_>, out: &Outgoing<'_>) -> io::Result<()> {
    let to = SockAddr::from(out.to);
    let mut control = Writer { control: Control([0; CONTROL]), used: 0 };
    if let Some(segment) = out.segment {
        control.put(libc::SOL_UDP, libc::UDP_SEGMENT, segment);
    }
    match out.from {
        None => {}
        Some(IpAddr::V4(ip)) => {
            let address = libc::in_addr { s_addr: u32::from(ip).to_be() };
            let any = libc::in_addr { s_addr: 0 };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: any };
            control.put(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(ip)) => {
            let address = libc::in6_addr { s6_addr: ip.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
            control.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
    if let Some(tos) = out.tos {
        // A mapped address makes an IPv4 packet, whatever the socket is.
        let (level, name) = match out.to.ip().to_canonical() {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        control.put(level, name, c_int::from(tos));
    }
    let mut io = libc::iovec { iov_base: out.bytes.as_ptr().cast_mut().cast(), iov_len: out.bytes.len() };
    // SAFETY: `msghdr` is plain data, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut io;
    message.msg_iovlen = 1;
    if control.used > 0 {
        message.msg_control = control.control.0.as_mut_ptr().cast();
        message.msg_controllen = control.used as _;
    }
    // SAFETY: every pointer in `message` is valid for reads of the length beside it, over the call; the kernel writes
    // through none of them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Control messages one behind the other.
struct Writer {
    control: Control,
    used: usize,
}

impl Writer {
    fn put<T>(&mut self, level: c_int, kind: c_int, value: T) {
        let size = size_of::<T>() as c_uint;
        // SAFETY: takes a number only.
        let (space, len) = unsafe { (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size)) };
        let place = &mut self.control.0[self.used..self.used + space];
        let header: *mut libc::cmsghdr = place.as_mut_ptr().cast();
        // SAFETY: `place` has room for the header and the value, as the macro says, and it is aligned: the buffer is,
        // and every message takes a multiple of the alignment.
        unsafe {
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = len as _;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        self.used += space;
    }
}
