//! Whole VPN networks in virtual time, from one seed.
//!
//! Clients, servers and point-to-point peers made of the product's own [`Node`](oxivpn_proto::Node) and data planes,
//! on lines that lose, repeat, reorder, spoil and replay packets, behind translators that forget. No socket, no
//! clock, no thread: a night passes in seconds, and a seed that found a bug finds it again.
//!
//! ```text
//!   Host, or a protocol of yours                       Host, or a protocol of yours
//!       │ inner IP packets (`Inner`)                            │
//!   ┌───┴──────────────────────┐                       ┌───────┴──────────┐
//!   │ Machine                  │                       │ Machine          │
//!   │ Node, data plane, TLS    │                       │                  │
//!   └───┬──────────────────────┘                       └───────┬──────────┘
//!       │ UDP                                                  │
//!      NAT ── line up ──►┐                         ┌── line down ──► NAT
//!                        ├── routing, virtual time ┤
//!      NAT ◄─ line down ─┘                         └◄── line up ──── NAT
//!       └──────── byte streams, if it goes by TCP ─────────────┘
//! ```
//!
//! - A [`World`](world::World) has sites with two [`Link`]s each, and perhaps a [`Nat`]. [`Machine`](machine::Machine)s
//!   are at sites. What they do at planned times is a [`Happening`](world::Happening).
//! - A [`Host`](host::Host) is a TCP/IP stack with pings, transfers and floods, behind a machine or on the open network.
//! - A [`Plan`](plan::Plan) describes a world as data: a [`Shape`](plan::Shape), which is always there, and
//!   [`Item`](plan::Item)s, of which any can be left out, to find the smallest plan that still fails.
//! - [`storm`] runs a plan: faults for a while, then none; then everybody must be well within a bound of virtual time.
//!   [`night`] runs few networks for long. [`table`] measures what a tunnel costs TCP.
//! - [`report`] writes what happened as text, as a capture with TLS keys, and as a page for the browser.
//!
//! # A scenario
//!
//! A client behind a translator that forgets everything, on a line that loses one packet in twenty:
//!
//! ```
//! use core::time::Duration;
//!
//! use oxivpn_sim::plan::{Fault, Item, Mishap, Plan, Shape};
//! use oxivpn_sim::trace::Keep;
//! use oxivpn_sim::{NatKind, Rate, storm};
//!
//! let secs = Duration::from_secs;
//! let shape = Shape { faulty: secs(60), ..Shape::default() };
//! let items = vec![
//!     Item::Nat { site: 1, kind: NatKind::ALL[0] },
//!     Item::Line { site: 1, up: true, fault: Fault::Loss(Rate::percent(5)) },
//!     Item::Event { at: secs(20), what: Mishap::Rebind(1) },
//!     Item::Traffic { from: 1, to: 0, every: secs(1), size: (60, 1200), ask: true, forged: false },
//! ];
//! let outcome = storm::run(&Plan::new(7, shape, items), Keep::Hash);
//! assert_eq!(outcome.violation, None);
//! assert!(outcome.built.world.tally(outcome.built.callers[0], outcome.built.hub).answered > 30);
//! ```
//!
//! Machine and site 0 are the hub: the server, or the peer that is called. Callers have the numbers from 1 on.
//! [`Plan::draw`](plan::Plan::draw) draws all of this from a seed instead.
//!
//! # A protocol of your own
//!
//! Whatever speaks IP can be put behind a machine: implement [`Inner`](world::Inner) and
//! [attach](world::World::attach) it. Here is one end that says hello once it has an address, and another that
//! listens; `examples/own_protocol.rs` has a whole protocol with repetition on a lossy line.
//!
//! ```
//! use core::net::{IpAddr, Ipv4Addr};
//! use core::time::Duration;
//!
//! use oxivpn_proto::Instant;
//! use oxivpn_sim::plan::{Plan, Shape, build};
//! use oxivpn_sim::probe::{packet, payload};
//! use oxivpn_sim::trace::Keep;
//! use oxivpn_sim::world::Inner;
//!
//! #[derive(Default)]
//! struct Greeter {
//!     hello: Option<Vec<u8>>,
//!     heard: Vec<u8>,
//! }
//!
//! impl Inner for Greeter {
//!     fn set_address(&mut self, _now: Instant, address: IpAddr) {
//!         let IpAddr::V4(own) = address else { return };
//!         let server = Ipv4Addr::new(10, 8, 0, 1);
//!         self.hello = (own != server).then(|| packet(own, server, b"hello"));
//!     }
//!     fn handle_packet(&mut self, _now: Instant, packet: &[u8]) {
//!         let Some((_from, _to, content)) = payload(packet) else { return };
//!         self.heard.extend(content);
//!     }
//!     // Sent too early, it is lost: say it once the tunnel is there, and not only once, on a line that loses.
//!     fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
//!         self.hello.take_if(|_| now > Instant::ZERO + Duration::from_secs(5))
//!     }
//!     fn deadline(&self, _now: Instant) -> Option<Instant> {
//!         self.hello.as_ref().map(|_| Instant::ZERO + Duration::from_secs(6))
//!     }
//! }
//!
//! let mut built = build(&Plan::new(1, Shape::default(), vec![]), Keep::Hash);
//! built.world.attach(built.callers[0], Greeter::default());
//! let server = built.world.attach(built.hub, Greeter::default());
//! assert!(built.world.run_for(Duration::from_secs(10)));
//! assert_eq!(built.world.inner(server).heard, b"hello");
//! ```
//!
//! # Seeds
//!
//! All randomness comes out of a [`SeedTree`], by purpose, by who draws, and by occasion: whether the 17th packet on
//! a line is lost depends on the seed, the line and 17, and not on what else is drawn. So leaving out one fault
//! leaves the others as they are, and two worlds with one seed lose the same packets. TLS draws from the seed as
//! well. Equal seeds and equal calls make an equal [`digest`](world::World::digest), over every draw, event and
//! packet, in debug and release builds alike.
//!
//! # What is checked
//!
//! At all times: a probe arrives once, whole, at whom it was for, and never under a false address; any other inner
//! packet arrives as it was sent, and no more often; a packet-id is never used twice under a key, packets are sealed
//! under the key that was promoted last, and orders to the data plane make sense; content that hosts get is what was
//! sent; no node is due for ever. On lines that spare data every probe arrives while its tunnel stands.
//! In the end: all who may are up, and heard in both directions; transfers are through; nobody else is in; sessions
//! that nobody needs are gone; no packet was dropped for a reason that the plan gives no cause for.
//! What breaks is a [`Violation`](world::Violation), and the world stands still then.
//!
//! # A link alone
//!
//! ```
//! use core::time::Duration;
//!
//! use oxivpn_proto::Instant;
//! use oxivpn_sim::{Faults, Link, Rate, SeedTree};
//!
//! let faults = Faults { delay: Duration::from_millis(20), loss: Rate::percent(10), ..Faults::NONE };
//! let mut link = Link::new(faults, &SeedTree::new(7), 0);
//! (0..100).for_each(|n| link.send(Instant::ZERO, vec![n], ()));
//! let arrival = link.deadline().unwrap();
//! assert_eq!(arrival, Instant::ZERO + Duration::from_millis(20));
//! let arrived = core::iter::from_fn(|| link.poll(arrival)).count() as u64;
//! assert_eq!(arrived + link.counters().lost, 100);
//! ```

#![forbid(unsafe_code)]

pub mod host;
pub mod kernel;
pub mod link;
pub mod machine;
pub mod nat;
pub mod night;
pub mod pipe;
pub mod plan;
pub mod probe;
pub mod report;
mod seed;
pub mod storm;
pub mod table;
pub mod tls;
pub mod trace;
mod truth;
pub mod world;

pub use link::{Bursts, Counters, Faults, Link};
pub use nat::{Nat, NatKind};
pub use pipe::{End, Pipe, PipeFaults};
pub use seed::{Branch, Draws, Purpose, Rate, SeedTree};
pub use truth::Tally;
