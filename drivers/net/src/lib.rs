//! Non-blocking transports for tunnels: UDP, framed TCP, and name resolution that does not stall the caller.
//!
//! Nothing here owns a loop, a thread per connection or a clock. Every socket is a descriptor to be polled by whatever
//! loop the program has, and every deadline is the caller's.
//!
//! - [`UdpSocket`]: unconnected datagrams over IPv4, IPv6 or both at once, so that a peer may change its address.
//!   IPv4-mapped addresses are folded: the caller sees IPv4 as IPv4, whatever the socket is. [`classify`] sorts errors
//!   into those of one packet and those of the socket.
//!   With [`UdpOptions::packet_info`] it tells to which local address a datagram was sent, and answers from there.
//!   With [`UdpOptions::offload`] a call carries many datagrams: [`UdpSocket::send_many`], [`UdpSocket::recv_many`],
//!   [`UdpSocket::recv_batch`].
//!   After [`UdpSocket::hear_ecn`] it tells the congestion marks; [`ecn`] says what a tunnel makes of them.
//! - [`tcp::start_connect`], [`tcp::Listener`], [`tcp::TcpLink`]: connect and accept without blocking, read bytes as
//!   they come, write frames with a 16-bit length in front from a bounded queue, many frames a system call; frames that
//!   have their lengths already are written from where they are.
//! - [`Resolver`]: `getaddrinfo` on helper threads, answers collected with [`Resolver::poll`] after a wake-up.
//!
//! # Example
//!
//! ```
//! use std::io::ErrorKind;
//! use oxivpn_net::{Family, UdpOptions, UdpSocket};
//!
//! let here = UdpSocket::bind(&UdpOptions { local: Some("127.0.0.1:0".parse()?), ..UdpOptions::new(Family::V4) })?;
//! let there = UdpSocket::bind(&UdpOptions { local: Some("127.0.0.1:0".parse()?), ..UdpOptions::new(Family::V4) })?;
//! here.send_to(b"ping", there.local_addr()?)?;
//!
//! let mut datagram = [0u8; 2048];
//! let (len, from) = loop {
//!     match there.recv_from(&mut datagram) {
//!         Ok(received) => break received,
//!         Err(error) if error.kind() == ErrorKind::WouldBlock => continue, // poll the descriptor instead
//!         Err(error) => return Err(error.into()),
//!     }
//! };
//! assert_eq!((&datagram[..len], from), (&b"ping"[..], here.local_addr()?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it costs
//!
//! Nanoseconds of CPU per datagram of 1,400 bytes over loopback, Linux 6.18, medians of 2,000 runs on a busy machine of
//! two CPUs: the columns can be compared with each other, not with another machine. The sender's time includes the way
//! through the kernel into the receiver's buffer.
//!
//! | sender, receiver | datagrams per call | send | receive |
//! |---|---|---|---|
//! | `send_many`, `recv_many`, without `offload` | 1 | 3,770 | 1,040 |
//! | `sendmmsg`, `recvmmsg` | 44 | 3,850 | 750 |
//! | `send_many`, receiver without `offload` | 44 | 550 | 1,050 |
//! | `send_many`, `recv_many` | 2 | 2,300 | 980 |
//! | `send_many`, `recv_many` | 8 | 620 | 280 |
//! | `send_many`, `recv_many` | 16 | 330 | 155 |
//! | **`send_many`, `recv_many`** | **44** | **150** | **86** |
//!
//! What follows from it, and what is not here because of it:
//!
//! - Two datagrams are worth a batch already, on both sides.
//! - `sendmmsg` saves nothing and `recvmmsg` a quarter: the cost is the way of each datagram through the kernel, not
//!   the call. [`UdpSocket::recv_batch`] uses `recvmmsg` for senders that send one by one, and because its answer tells
//!   that the socket is empty, which is one call less each time.
//! - Datagrams belong back to back in one buffer. Gathered by the kernel from 44 places they take 190 to 280 ns each,
//!   copied together first 210 to 260, and made in place 150 to 170: [`UdpSocket::send_many`] takes one slice.
//! - For TCP the call was never one per frame. [`tcp::TcpLink::write_frames`] saves the copy into the queue: 220 to
//!   240 ns for a frame of 1,400 bytes, 40 at a time, in place of 240 to 320.
//!
//! # Platforms
//!
//! Linux. On other systems the crate does not compile.

#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("oxivpn-net supports Linux only so far: no transports for this operating system");

mod addr;
pub mod ecn;
mod error;
mod resolve;
mod settings;
#[expect(
    unsafe_code,
    reason = "recvmsg and sendmsg with control messages have no safe wrapper without allocation"
)]
mod sys;
pub mod tcp;
mod udp;

pub use addr::{Family, fold};
pub use ecn::Ecn;
pub use error::{BindError, Fault, classify};
pub use resolve::{ResolveError, Resolved, Resolver, Ticket};
pub use settings::SocketSettings;
pub use udp::{Notice, Received, ReceivedMany, UdpOptions, UdpSocket};
