//! Non-blocking transports for tunnels: UDP, framed TCP, and name resolution that does not stall the caller.
//!
//! Nothing here owns a loop, a thread per connection or a clock. Every socket is a descriptor to be polled by whatever
//! loop the program has, and every deadline is the caller's.
//!
//! - [`UdpSocket`]: unconnected datagrams over IPv4, IPv6 or both at once, so that a peer may change its address.
//!   IPv4-mapped addresses are folded: the caller sees IPv4 as IPv4, whatever the socket is. [`classify`] sorts errors
//!   into those of one packet and those of the socket.
//!   With [`UdpOptions::packet_info`] it tells to which local address a datagram was sent, and answers from there.
//! - [`tcp::start_connect`], [`tcp::Listener`], [`tcp::TcpLink`]: connect and accept without blocking, read bytes as
//!   they come, write frames with a 16-bit length in front from a bounded queue, many frames a system call.
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
