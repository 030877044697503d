//! Layer-3 tunnel devices as non-blocking packet sources and sinks.
//!
//! A [`Device`] is one of three things behind one interface:
//!
//! | made by | what it is | [`Device::as_raw_fd`] |
//! |---|---|---|
//! | [`Device::open`] | a TUN interface of the kernel, by name | `Some` |
//! | [`Device::from_fd`] | a descriptor someone else opened: a TUN queue, or one end of a datagram socket pair | `Some` |
//! | [`Device::null`] | nothing: never readable, every write vanishes | `None` |
//!
//! [`Device::recv`] and [`Device::send`] move one packet: one whole IP packet, without any header before it, no larger
//! than the interface's MTU. [`Device::read`] and [`Device::write`] do the same on any device, and on one that was
//! opened with [`Options::offload`] they move super-packets of up to 64 KiB, which [`offload`] takes apart and puts together:
//! one system call for dozens of packets. All are non-blocking; [`std::io::ErrorKind::WouldBlock`] means "poll the
//! descriptor". The device is level 3 only.
//!
//! [`Options::multi_queue`] and [`Device::add_queue`] give several descriptors for one interface, so that several
//! threads can read it; [`Device::set_attached`] takes one out of use and back.
//!
//! Opening a device neither brings it up nor gives it an address. A freshly opened interface is down, and the kernel
//! answers a write to it with `EIO` until someone sets it up ([`Device::set_up`], `ip link set up`, or a
//! configuration library of your choice).
//!
//! # Example
//!
//! ```no_run
//! use std::io::ErrorKind;
//! use oxivpn_tun::{Device, Options};
//!
//! // "tun" lets the kernel choose the next free tunN.
//! let device = Device::open(&Options::new("tun").mtu(1400))?;
//! device.set_up(true)?;
//! println!("reading from {}", device.name());
//!
//! let mut packet = [0u8; 1500];
//! loop {
//!     match device.recv(&mut packet) {
//!         Ok(len) => println!("IPv{} packet of {len} bytes", packet[0] >> 4),
//!         Err(error) if error.kind() == ErrorKind::WouldBlock => break, // poll device.as_raw_fd()
//!         Err(error) => return Err(error.into()),
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Privileges
//!
//! Making an interface needs `CAP_NET_ADMIN`. A persistent interface that was made beforehand for a user
//! ([`Options::owner`] with [`Options::persist`], or `ip tuntap add dev tun0 mode tun user NAME`) can be opened by that
//! user without any privilege.
//!
//! # What is left behind
//!
//! An interface vanishes with its last descriptor unless it is persistent. The offload mask of a persistent one would
//! stay, and the next program would be given super-packets it knows nothing of. So the last queue that is dropped clears
//! the mask, and [`Device::open`] without offload clears what it finds. A process that is killed cannot: then whoever
//! opens the interface next must set the mask, as [`Device::open`] does (`TUNSETOFFLOAD`).
//!
//! # Platforms
//!
//! Linux. On other systems the crate does not compile.

#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("oxivpn-tun supports Linux only so far: no device driver for this operating system");

mod error;
#[cfg(target_os = "linux")]
mod linux;
pub mod offload;
mod options;

pub use error::OpenError;
pub use options::Options;

#[cfg(target_os = "linux")]
pub use linux::Device;
