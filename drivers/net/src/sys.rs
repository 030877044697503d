//! Datagrams with the local address they were sent to (`IP_PKTINFO`); the only file with `unsafe` code.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{SockAddr, SockAddrStorage};

/// Room for one `IP_PKTINFO` and one `IPV6_PKTINFO`, aligned as the kernel's macros want it.
#[repr(C, align(8))]
struct Control([u8; 96]);

const _: () = assert!(align_of::<libc::cmsghdr>() <= align_of::<Control>());

/// Asks for the local address of each datagram.
pub(crate) fn want_packet_info(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let (level, name) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) } else { (libc::IPPROTO_IP, libc::IP_PKTINFO) };
    let on: libc::c_int = 1;
    // SAFETY: the value is an int that lives over the call, and its size is given.
    let code = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives a datagram: its length, its sender, and the local address it was sent to if the kernel tells.
pub(crate) fn recv(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
) -> io::Result<(usize, Option<SocketAddr>, Option<IpAddr>)> {
    let mut control = Control([0; 96]);
    let mut storage = SockAddrStorage::zeroed();
    let mut io = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: `msghdr` is plain data, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = (&raw mut storage).cast();
    message.msg_namelen = storage.size_of();
    message.msg_iov = &raw mut io;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in `message` is valid for writes of the length beside it, over the call.
    let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) };
    let Ok(len) = usize::try_from(len) else { return Err(io::Error::last_os_error()) };
    // SAFETY: the kernel wrote an address of this length.
    let from = unsafe { SockAddr::new(storage, message.msg_namelen) };
    Ok((len, from.as_socket(), local(&message)))
}

/// The local address among the control messages.
fn local(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: `message` and the control buffer it names are as recvmsg left them; the macro stays within it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: not null means that a whole header lies there, aligned like the buffer.
    while let Some(header) = unsafe { next.as_ref() } {
        match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: a message of this type carries an `in_pktinfo`, at no particular alignment.
                let info: libc::in_pktinfo =
                    unsafe { libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().read_unaligned() };
                return Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: a message of this type carries an `in6_pktinfo`, at no particular alignment.
                let info: libc::in6_pktinfo =
                    unsafe { libc::CMSG_DATA(header).cast::<libc::in6_pktinfo>().read_unaligned() };
                return Some(IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical());
            }
            _ => {}
        }
        // SAFETY: as above; the macro answers null at the end.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    None
}

/// Sends a datagram from the local address `from`. On an IPv6 socket all addresses are IPv6 already.
pub(crate) fn send(fd: BorrowedFd<'_>, datagram: &[u8], to: SocketAddr, from: IpAddr) -> io::Result<usize> {
    let to = SockAddr::from(to);
    let mut control = Control([0; 96]);
    let mut io = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    // SAFETY: `msghdr` is plain data, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut io;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let used = match from {
        IpAddr::V4(ip) => {
            let address = libc::in_addr { s_addr: u32::from(ip).to_be() };
            let any = libc::in_addr { s_addr: 0 };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: any };
            put(&message, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(ip) => {
            let info =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
            put(&message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    };
    message.msg_controllen = used as _;
    // SAFETY: every pointer in `message` is valid for reads of the length beside it, over the call; the kernel writes
    // through none of them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Writes one control message to the start of the buffer of `message` and returns the bytes it takes.
fn put<T>(message: &libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    let size = size_of::<T>() as libc::c_uint;
    // SAFETY: takes a number only.
    let space = unsafe { libc::CMSG_SPACE(size) } as usize;
    assert!(space <= size_of::<Control>(), "the buffer holds either structure");
    // SAFETY: the buffer has room for `space` bytes, so the header and the data lie inside of it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
    }
    space
}
