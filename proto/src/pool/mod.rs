//! Inner addresses of a server's clients: who gets which, and what is pushed because of it.
//!
//! Pure data and functions; drivers read files and run scripts, and hand over what they found.

pub mod expand;
pub mod overrides;
pub mod persist;
pub mod range;
pub mod slots;

pub use overrides::{ClientOverrides, Ifconfig6Push, IfconfigPush, PushEdit};
