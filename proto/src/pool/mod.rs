//! Inner addresses of a server's clients: who gets which, and what is pushed because of it.
//!
//! Pure data and functions; drivers read files and run scripts, and hand over what they found.

pub mod expand;
pub mod overrides;
pub mod persist;
mod plan;
mod push;
pub mod range;
pub mod settings;
pub mod slots;
mod trouble;

pub use overrides::{ClientOverrides, Ifconfig6Push, IfconfigPush, PushEdit};
pub use plan::AddressPlan;
pub use settings::{Addressing, Granted, Lease};
pub use trouble::{Conflict, Notice, PlanError, Refusal};
