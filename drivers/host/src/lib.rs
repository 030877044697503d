//! Addresses, MTU and routes for a tunnel, undone on exit and after a crash.
#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("oxivpn-host supports Linux only so far: no host configuration for this operating system");

mod error;
#[cfg(target_os = "linux")]
mod linux;
pub mod plan;

pub use error::HostError;
#[cfg(target_os = "linux")]
pub use linux::{Applied, Host, IpVersion, Recovered, Undone, recover};
pub use plan::{Address, Dev, Gateway, Plan, Removal, Route};

/// Where journals live unless told otherwise.
pub const JOURNAL_DIR: &str = "/run/oxivpn";
