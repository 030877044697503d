//! The OpenVPN protocol as pure state machines: no clock, no randomness, no socket, no file, no thread.
//!
//! # Layers
//!
//! ```text
//!  your app │ drivers/oxivpn │ a simulator │ a fuzzer         shells: system calls, no decisions
//! ──────────┴────────────────┴─────────────┴──────────
//!        Tunnel = Node + plane::local                          one object for one client's tunnel
//!   ┌──────────── Node ────────────┐   Directive   ┌──────── DataPlane ────────┐
//!   │ Endpoint   which session?    │ ────────────► │ Table  keys, routes       │
//!   │ Doorman    a stranger: in?   │               │ SendKey / RecvKey         │
//!   │ Session    handshake, login, │ ◄──────────── │ (or a kernel, or workers) │
//!   │            push, rekey, ping │    Report     └───────────────────────────┘
//!   └──────────────────────────────┘
//!     tls  keys  reliable  wrap  pool   machines: state, time as an argument, a seed
//!     wire  options                     codecs: no state, no time
//! ```
//!
//! The control machine never touches a data packet: it gives [`Directive`]s to a [data plane](plane::DataPlane)
//! and gets [`Report`]s. The userspace table of this crate, worker threads, a kernel and a simulator take
//! the same orders.
//!
//! A node is a client, a server, or one end of a point-to-point tunnel, by what it is told:
//!
//! | call | what comes of it |
//! |---|---|
//! | [`Node::connect`] | a session with a server |
//! | [`Node::listen`] | a session for each client that comes |
//! | [`Node::connect_peer`], [`Node::listen_peer`] | the two ends of a tunnel without a server |
//!
//! A packet of no session goes to the doorman ([`endpoint`]). It answers the first packet with a session id that is a
//! MAC of the sender's address, and forgets it. Who shows that id gets a session.
//!
//! [`pool`] is beside the node: it gives out a server's inner addresses, and makes of them and of a client's own
//! settings what that client is pushed.
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
//! # A client
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
//! # A server
//!
//! Over one UDP socket, too. A server asks its application two things about each client, as events with a ticket:
//!
//! | event | asked | answer |
//! |---|---|---|
//! | [`Event::Login`] | for each key: may this one in, or go on? | [`Node::answer_login`] |
//! | [`Event::Admit`] | once: which addresses, what is it pushed? | [`Node::admit`] |
//!
//! Logins are asked about with [`ask_login`](config::server::ServerConfig::ask_login); without it a valid certificate is
//! enough. The loop need not wait for an answer: the ticket can be kept, and given back later. [`Node::defer_login`]
//! gives it more time.
//!
//! ```no_run
//! use std::collections::BTreeMap;
//! use std::net::UdpSocket;
//! use std::sync::Arc;
//! use std::time::{Duration, SystemTime, UNIX_EPOCH};
//!
//! use oxivpn_proto::config::NodeConfig;
//! use oxivpn_proto::config::server::ServerConfig;
//! use oxivpn_proto::data::Payload;
//! use oxivpn_proto::event::login::{Login, Verdict};
//! use oxivpn_proto::limits::MAX_CONTROL_DATAGRAM;
//! use oxivpn_proto::plane::DataPlane;
//! use oxivpn_proto::plane::local::LocalPlane;
//! use oxivpn_proto::pool::Addressing;
//! use oxivpn_proto::wire::data::{Peek, peek};
//! use oxivpn_proto::{Anchor, Event, Instant, Node, Path};
//!
//! fn serve(
//!     config: Arc<ServerConfig>,
//!     mut addressing: Addressing,
//!     may_enter: impl Fn(&Login) -> bool,
//!     seed: [u8; 32],
//! ) -> Result<(), Box<dyn std::error::Error>> {
//!     let socket = UdpSocket::bind("0.0.0.0:1194")?;
//!     let start = std::time::Instant::now();
//!     let now = || Instant::from_nanos(start.elapsed().as_nanos() as u64);
//!     let anchor = Anchor::new(now(), SystemTime::now().duration_since(UNIX_EPOCH)?);
//!
//!     let mut plane = LocalPlane::new();
//!     // Our own inner addresses belong to no client.
//!     let own = addressing.plan().own.map(Into::into);
//!     plane.serve(own.as_slice());
//!     let mut node = Node::new(Arc::new(NodeConfig { capabilities: plane.capabilities() }), seed, anchor);
//!     node.listen(config);
//!     let mut leases = BTreeMap::new();
//!     let (mut out, mut datagram) = ([0; MAX_CONTROL_DATAGRAM], [0; 65536]);
//!     loop {
//!         // Drain: orders and reports first, then packets, then events.
//!         loop {
//!             exchange(now(), &mut node, &mut plane);
//!             let transmit =
//!                 node.poll_transmit(now(), &mut out).or_else(|| plane.poll_transmit(now(), &mut out));
//!             if let Some(transmit) = transmit {
//!                 if let Some(remote) = transmit.path.remote() {
//!                     // What is lost here is repeated, as if the network had lost it.
//!                     let _ = socket.send_to(&out[..transmit.len], remote);
//!                 }
//!                 continue;
//!             }
//!             match node.poll_event() {
//!                 // Who must ask a database keeps the ticket, and answers later.
//!                 Some(Event::Login(ticket, login)) => {
//!                     let verdict = match may_enter(&login) {
//!                         true => Verdict::Accept,
//!                         false => Verdict::Deny(String::new()),
//!                     };
//!                     node.answer_login(now(), ticket, verdict);
//!                 }
//!                 Some(Event::Admit(ticket, client)) => {
//!                     let settings = match addressing.admit(&client.common_name, &[]) {
//!                         Ok((granted, lease)) => {
//!                             leases.insert(client.session, lease);
//!                             Ok(granted.settings)
//!                         }
//!                         Err(refusal) => {
//!                             eprintln!("{}: {refusal}", client.common_name);
//!                             Err(String::new())
//!                         }
//!                     };
//!                     node.admit(now(), ticket, settings);
//!                 }
//!                 Some(Event::Closed { session, cause }) => {
//!                     println!("{session:?}: {cause}");
//!                     if let Some(lease) = leases.remove(&session) {
//!                         addressing.give_back(lease);
//!                     }
//!                 }
//!                 Some(_) => {}
//!                 None => break,
//!             }
//!         }
//!         let wait = node.deadline().map_or(Duration::from_secs(1), |deadline| deadline.at - now());
//!         socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
//!         if let Ok((len, from)) = socket.recv_from(&mut datagram) {
//!             let (path, bytes) = (Path::udp(0, from), &mut datagram[..len]);
//!             if !matches!(peek(bytes), Peek::Data(_)) {
//!                 node.handle_datagram(now(), path, bytes);
//!             } else if let Ok(opened) = plane.open(now(), path, bytes)
//!                 && let Payload::Packet(inner) = opened.payload
//!             {
//!                 println!("an inner packet of {} bytes from {:?}", inner.len(), opened.peer);
//!             }
//!         }
//!         // Too early has no effect.
//!         node.handle_timeout(now());
//!     }
//! }
//!
//! /// Carries orders one way and reports the other until both are still.
//! fn exchange(now: Instant, node: &mut Node, plane: &mut LocalPlane) {
//!     loop {
//!         while let Some(order) = node.poll_directive() {
//!             plane.apply(now, order);
//!         }
//!         let Some(report) = plane.poll_report() else { return };
//!         node.handle_report(now, report);
//!     }
//! }
//! ```
//!
//! The way back: [`LocalPlane::lookup`](plane::local::LocalPlane::lookup) names the client that an inner packet is for,
//! [`LocalPlane::seal`](plane::local::LocalPlane::seal) seals it where it lies and says where to send it.
//!
//! # What never happens
//!
//! - Remote input makes no error and no panic: it makes a [`DropReason`] counter, or ends a session with a
//!   typed [`CloseCause`]. `Err` is for the caller, panic is for a broken invariant of this crate.
//! - A question to the application stalls nobody: one session waits for the answer until its `hand-window` ends, all
//!   others go on.
//! - Nothing grows with what strangers send; every bound is in [`limits`]. A stranger's datagram makes no session, and
//!   has one answer at most. There is one exception, which
//!   [`force_cookie`](config::server::TlsCryptV2::force_cookie) takes away: a tls-crypt-v2 client that is too old to
//!   send its key twice.
//! - A client's inner packet under an address that is not its own: only what
//!   [`routes`](config::server::ClientSettings::routes) names goes to and comes from it.
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
pub mod gremlin;
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
