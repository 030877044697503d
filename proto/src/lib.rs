//! The OpenVPN protocol as pure state machines: no clock, no randomness, no socket, no file, no thread.
//!
//! # Layers
//!
//! ```text
//!  your app │ drivers/oxivpn │ a simulator │ a fuzzer         shells: system calls, no decisions
//! ──────────┴────────────────┴─────────────┴──────────
//!        Tunnel = Node + plane::local                          one object for one tunnel
//!   ┌──────────── Node ────────────┐   Directive   ┌──────── DataPlane ────────┐
//!   │ Endpoint   which session?    │ ────────────► │ Table  keys, routes       │
//!   │ Session    handshake, push,  │               │ SendKey / RecvKey         │
//!   │            rekey, keepalive  │ ◄──────────── │ (or a kernel, or workers) │
//!   └──────────────────────────────┘    Report     └───────────────────────────┘
//!     tls  keys  reliable  wrap         machines: state, time as an argument, a seed
//!     wire  options                     codecs: no state, no time
//! ```
//!
//! The control machine never touches a data packet: it gives [`Directive`]s to a [data plane](plane::DataPlane)
//! and gets [`Report`]s. The userspace table of this crate, worker threads, a kernel and a simulator take
//! the same orders.
//!
//! # The loop
//!
//! Inputs and commands of [`Node`] take the time as an argument. **Every such call may create outputs. After
//! it drain directives, then transmits, then events, each until `None`, then sleep until the deadline.**
//! Directives come first because a key must be installed before the message leaves that lets the peer use
//! it. Breaking the rule costs latency, never correctness.
//!
//! [`wire::data::peek`] tells which of the two halves a packet belongs to.
//!
//! # A worked example
//!
//! A client over one UDP socket. Everything that is not deterministic comes in from outside: the seed, the
//! anchor to the calendar, and `now`.
//!
//! ```no_run
//! use std::net::UdpSocket;
//! use std::sync::Arc;
//! use std::time::{Duration, SystemTime, UNIX_EPOCH};
//!
//! use oxivpn_proto::config::{ClientConfig, Credentials};
//! use oxivpn_proto::data::{HEADROOM, Slot, TAILROOM};
//! use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
//! use oxivpn_proto::tunnel::Tunnel;
//! use oxivpn_proto::{Anchor, Event, Instant, Path};
//!
//! fn run(
//!     config: Arc<ClientConfig>,
//!     login: Option<Credentials>,
//!     server: std::net::SocketAddr,
//!     seed: [u8; 32],
//! ) -> Result<(), Box<dyn std::error::Error>> {
//!     let socket = UdpSocket::bind("0.0.0.0:0")?;
//!     let path = Path::udp(0, server);
//!     let start = std::time::Instant::now();
//!     let now = || Instant::from_nanos(start.elapsed().as_nanos() as u64);
//!     let anchor = Anchor::new(now(), SystemTime::now().duration_since(UNIX_EPOCH)?);
//!
//!     let mut tunnel = Tunnel::connect(now(), path, config, login, (seed, anchor))?;
//!     let mut out = [0; MAX_CONTROL_DATAGRAM];
//!     let mut datagram = [0; 65536];
//!     loop {
//!         while let Some(transmit) = tunnel.poll_transmit(now(), &mut out) {
//!             socket.send_to(&out[..transmit.len], server)?;
//!         }
//!         while let Some(event) = tunnel.poll_event() {
//!             match event {
//!                 Event::Configure { options, .. } => println!("the server pushed {options:?}"),
//!                 Event::Established { .. } => {
//!                     // An inner packet, read with room around it, is sealed where it lies.
//!                     let mut buffer = [0; HEADROOM + 20 + TAILROOM];
//!                     buffer[HEADROOM] = 0x45;
//!                     let sealed = tunnel.send(now(), &mut Slot::new(&mut buffer, HEADROOM, 20))?;
//!                     socket.send_to(&buffer[sealed.start..sealed.start + sealed.len], server)?;
//!                 }
//!                 Event::Closed { cause, .. } => return Err(cause.to_string().into()),
//!                 _ => {}
//!             }
//!         }
//!         let wait = tunnel.deadline().map(|d| d.at - now()).unwrap_or(Duration::from_secs(1));
//!         socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
//!         match socket.recv_from(&mut datagram) {
//!             Ok((len, from)) if from == server => {
//!                 if let Some(inner) = tunnel.handle_datagram(now(), path, &mut datagram[..len]) {
//!                     println!("an inner packet of {} bytes", inner.len());
//!                 }
//!             }
//!             Ok(_) => {}
//!             Err(_) => tunnel.handle_timeout(now()),
//!         }
//!     }
//! }
//! ```
//!
//! # What never happens
//!
//! - Remote input makes no error and no panic: it makes a [`DropReason`] counter, or ends a session with a
//!   typed [`CloseCause`]. `Err` is for the caller, panic is for a broken invariant of this crate.
//! - Nothing grows with what strangers send; every bound is in [`limits`].
//! - Two packets under one nonce: key material moves, and never copies, from the key exchange to exactly one
//!   place that counts packets.

#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod data;
pub mod deadline;
pub mod directive;
pub mod drops;
pub mod endpoint;
pub mod entropy;
pub mod error;
pub mod event;
#[cfg(any(test, fuzzing, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod handle;
pub mod keys;
pub mod limits;
pub mod node;
pub mod options;
pub mod path;
pub mod plane;
pub mod pool;
pub mod reliable;
pub mod report;
pub mod session;
pub mod tls;
pub mod transmit;
pub mod tunnel;
pub mod wire;
pub mod wrap;

pub use clock::{Anchor, Instant};
pub use deadline::{Deadline, Timer};
pub use directive::{Directive, Order, PeerRef};
pub use drops::{DropCounters, DropReason};
pub use error::ConnectError;
pub use event::{CloseCause, Event};
pub use handle::SessionHandle;
pub use node::Node;
pub use path::{Path, StreamChange, StreamId};
pub use report::Report;
pub use transmit::Transmit;
