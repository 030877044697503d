//! Sizes of a socket's buffers when the user asked for none.
//!
//! The kernel counts the memory of a datagram, not its bytes, and its default of 212,992 bytes is little for batches.
//! What a receive buffer was found to hold, in datagrams of 1,400 bytes, by the size it has after the doubling:
//!
//! | bytes | merged, 44 at a time | one by one |
//! |---|---|---|
//! | 212,992, the default | 132 (3 batches) | 92 |
//! | 2 MiB | 1,452 | 910 |
//! | 4 MiB | 2,948 | 1,820 |
//! | 8 MiB | 5,896 | 3,640 |
//!
//! The reader is away for as long as a handshake in the same thread takes, or another program's turn on the CPU: some
//! milliseconds. At 5 Gbit/s the default is full after 0.3 ms. 8 MiB last for 8 to 13 ms there, and for 40 ms at
//! 1 Gbit/s; WireGuard's user space implementation makes it 14 MiB. It is a limit, not a reservation.
//!
//! A send buffer only has to cover the time until the interface hands batches back, 0.1 ms or so, because a socket that
//! is full makes the sender wait and loses nothing. The default holds 4 batches, 0.2 ms at 10 Gbit/s. 1 MiB holds 16,
//! 0.8 ms; more would be a queue that adds delay on a slow uplink.

use std::os::fd::AsFd;

use socket2::Socket;

use crate::sys;

/// Asked for as `SO_RCVBUF`; the kernel doubles it.
pub(super) const RECEIVE: usize = 4 << 20;

/// Asked for as `SO_SNDBUF`; the kernel doubles it.
pub(super) const SEND: usize = 512 << 10;

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
