//! Sizes of a socket's buffers when the user asked for none.

use std::os::fd::AsFd;

use socket2::Socket;

use crate::sys;

/// Asked for as `SO_RCVBUF`; the kernel doubles it.
pub(super) const RECEIVE: usize = 4 << 20;

/// Asked for as `SO_SNDBUF`; the kernel doubles it.
pub(super) const SEND: usize = 1 << 20;

/// Widens both buffers, those that `keep_*` doesn't forbid, past the system's maximum if the process may
/// (`CAP_NET_ADMIN`), else up to it. A buffer that is larger already stays.
pub(super) fn widen(socket: &Socket, keep_receive: bool, keep_send: bool) {
    let fd = socket.as_fd();
    for (keep, plain, force, bytes) in [
        (keep_receive, libc::SO_RCVBUF, libc::SO_RCVBUFFORCE, RECEIVE),
        (keep_send, libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, SEND),
    ] {
        let now = sys::get_int(fd, libc::SOL_SOCKET, plain).unwrap_or(0);
        if keep || usize::try_from(now).is_ok_and(|now| now >= 2 * bytes) {
            continue;
        }
        // Nothing depends on it: a smaller buffer loses more at a burst.
        let bytes = bytes as libc::c_int;
        let _ = sys::set_int(fd, libc::SOL_SOCKET, force, bytes)
            .or_else(|_| sys::set_int(fd, libc::SOL_SOCKET, plain, bytes));
    }
}
