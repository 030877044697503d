//! The OpenVPN protocol as pure state machines.

#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod deadline;
pub mod directive;
pub mod drops;
pub mod endpoint;
pub mod entropy;
pub mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod keys;
pub mod limits;
pub mod node;
pub mod options;
pub mod path;
pub mod plane;
pub mod report;
pub mod session;
pub mod tls;
pub mod transmit;
pub mod wire;
pub mod wrap;

pub use clock::{Anchor, Instant};
pub use deadline::{Deadline, Timer};
pub use directive::{Directive, Order, PeerRef};
pub use drops::{DropCounters, DropReason};
pub use event::{CloseCause, Event};
pub use node::Node;
pub use path::{Path, StreamChange, StreamId};
pub use report::Report;
pub use session::SessionHandle;
pub use transmit::Transmit;
