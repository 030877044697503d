//! Deterministic networks for [`oxivpn_proto`]: no socket, no clock, all randomness from one seed.
//!
//! What there is: a [`Link`], which carries datagrams in one direction, delays them and does to them what its
//! [`Faults`] say, and a [`SeedTree`], which keeps the random draws of different purposes apart. The tests of
//! this crate run a client against links that lose, spoil or throw back everything it sends.
//!
//! What there is not: a server. `oxivpn-proto` has the client half only, so whole networks (several nodes,
//! address translation, hosts behind the tunnel, a reference model that says what must arrive) come with the
//! server half.
//!
//! # A link with faults
//!
//! ```
//! use core::time::Duration;
//!
//! use oxivpn_proto::Instant;
//! use oxivpn_sim::{Faults, Link, Rate, SeedTree};
//!
//! let faults = Faults { delay: Duration::from_millis(20), loss: Rate::percent(10), ..Faults::NONE };
//! let mut link = Link::new(faults, &SeedTree::new(7), 0);
//! for n in 0..100 {
//!     link.send(Instant::ZERO, vec![n], ());
//! }
//! let arrival = link.deadline().unwrap();
//! assert_eq!(arrival, Instant::ZERO + Duration::from_millis(20));
//!
//! let mut arrived = 0;
//! while link.poll(arrival).is_some() {
//!     arrived += 1;
//! }
//! assert_eq!(arrived + link.counters().lost, 100);
//! ```
//!
//! The two directions of a connection are two links, each with faults and an index of its own.

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
pub mod tls;
pub mod trace;
mod truth;
pub mod world;

pub use link::{Bursts, Counters, Faults, Link};
pub use nat::{Nat, NatKind};
pub use pipe::{End, Pipe, PipeFaults};
pub use seed::{Branch, Draws, Purpose, Rate, SeedTree};
pub use truth::Tally;
