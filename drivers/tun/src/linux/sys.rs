//! The system calls that no dependency wraps. The only file of the crate with `unsafe`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Name and `IFF_*` flags of a TUN descriptor.
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) flags: i32,
}

/// Asks the kernel which interface a descriptor belongs to (`TUNGETIFF`).
///
/// # Errors
///
/// `ENOTTY` or `EINVAL` if the descriptor is no TUN device, `EBADFD` if it is one without an interface.
pub(super) fn tun_interface(fd: BorrowedFd<'_>) -> io::Result<Interface> {
    // SAFETY: an all-zero ifreq is a valid value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open for the borrow's lifetime and TUNGETIFF writes one ifreq to the pointer.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) })?;
    let name: Vec<u8> = request.ifr_name.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    // SAFETY: TUNGETIFF fills the flags member of the union; every bit pattern is a valid c_short.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(Interface { name: String::from_utf8_lossy(&name).into_owned(), flags: i32::from(flags) })
}

/// The type of a socket (`SO_TYPE`); `None` if the descriptor is none.
pub(super) fn socket_type(fd: BorrowedFd<'_>) -> Option<libc::c_int> {
    let mut kind: libc::c_int = 0;
    let mut len = size_of_val(&kind) as libc::socklen_t;
    // SAFETY: the descriptor is open for the borrow's lifetime, and both pointers are to locals of the sizes told.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut len,
        )
    };
    (result == 0).then_some(kind)
}

/// Whether a read gives one whole packet.
pub(super) fn keeps_packets_apart(fd: BorrowedFd<'_>) -> bool {
    matches!(socket_type(fd), Some(libc::SOCK_DGRAM | libc::SOCK_SEQPACKET))
}

/// Makes the interface of a TUN descriptor persistent or not (`TUNSETPERSIST`).
pub(super) fn set_persist(fd: BorrowedFd<'_>, persist: bool) -> io::Result<()> {
    set_number(fd, libc::TUNSETPERSIST as _, libc::c_ulong::from(persist))
}

/// Lets a user open the interface (`TUNSETOWNER`).
///
/// tun-rs 2.8 passes a pointer where the kernel takes the id itself, and so sets an owner at random.
pub(super) fn set_owner(fd: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    set_number(fd, libc::TUNSETOWNER as _, uid.into())
}

/// Lets a group open the interface (`TUNSETGROUP`); see [`set_owner`].
pub(super) fn set_group(fd: BorrowedFd<'_>, gid: u32) -> io::Result<()> {
    set_number(fd, libc::TUNSETGROUP as _, gid.into())
}

/// Sets which super-packets the interface gives (`TUNSETOFFLOAD`, `TUN_F_*`).
///
/// # Errors
///
/// `EINVAL` if the kernel does not know one of the flags; then nothing is changed.
pub(super) fn set_offload(fd: BorrowedFd<'_>, mask: libc::c_uint) -> io::Result<()> {
    set_number(fd, libc::TUNSETOFFLOAD as _, mask.into())
}

/// Has the kernel put the ten-byte header before packets, in the host's byte order. Both are what a new interface has,
/// but a program that had a persistent one before may have left others.
pub(super) fn set_plain_vnet_header(fd: BorrowedFd<'_>) -> io::Result<()> {
    let size: libc::c_int = 10;
    let off: libc::c_int = 0;
    // SAFETY: the descriptor is open for the borrow's lifetime and both requests read one int from the pointer.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw const size) })?;
    // SAFETY: as above.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETLE as _, &raw const off) })
}

/// Attaches a queue of a multi-queue interface, or detaches it (`TUNSETQUEUE`).
pub(super) fn set_attached(fd: BorrowedFd<'_>, attached: bool) -> io::Result<()> {
    // SAFETY: an all-zero ifreq is a valid value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let flags = if attached { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE };
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the descriptor is open for the borrow's lifetime and TUNSETQUEUE reads one ifreq from the pointer.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETQUEUE as _, &raw const request) })
}

/// A TUN ioctl whose argument is a number and not a pointer.
fn set_number(fd: BorrowedFd<'_>, request: libc::Ioctl, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the descriptor is open for the borrow's lifetime, and the callers' requests take the argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, value) })
}

/// Sets `O_NONBLOCK` and `FD_CLOEXEC`.
pub(super) fn set_nonblocking_cloexec(fd: BorrowedFd<'_>) -> io::Result<()> {
    let fd = fd.as_raw_fd();
    // SAFETY: the descriptor is open for the borrow's lifetime; F_GETFL takes no argument.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    check(flags)?;
    // SAFETY: as above; F_SETFL takes a number.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    // SAFETY: as above; F_SETFD takes a number.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
