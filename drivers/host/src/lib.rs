//! Addresses, MTU and routes for a tunnel: brought to a plan, and put back as they were on exit and after a crash.
//!
//! - [`Plan`] says what the host should look like while the tunnel is up. It is plain data; [`plan::build`] derives
//!   it from OpenVPN's options (`ifconfig`, `route`, `redirect-gateway`...) without touching the system.
//! - [`Host::apply`] brings the host there by rtnetlink. Applying an equal plan again changes nothing, another plan
//!   changes only the difference, and what others undid meanwhile is made again.
//! - [`Host::undo`], or dropping the [`Host`], takes back what `apply` changed and nothing else: a route that was
//!   there before counts as success and stays.
//! - [`recover`] does the same for processes that died without it.
//!
//! # Example
//!
//! ```no_run
//! use std::path::Path;
//! use oxivpn_host::plan::{Ifconfig, Redirect, Surroundings, Topology, VpnOptions, build};
//! use oxivpn_host::{Host, IpVersion, JOURNAL_DIR, recover};
//!
//! let journals = Path::new(JOURNAL_DIR);
//! for dead in recover(journals)? {
//!     eprintln!("process {} left routes behind; taken back: {:?}", dead.pid, dead.undone.changes);
//! }
//!
//! let mut host = Host::new(Some(journals))?;
//! let server = "203.0.113.9".parse()?;
//! let around = Surroundings {
//!     remote: Some(server),
//!     to_remote: host.gateway_to(server)?,
//!     default: host.default_gateway(IpVersion::V4)?,
//!     ..Surroundings::default()
//! };
//! let options = VpnOptions {
//!     interface: "tun0".to_owned(),
//!     topology: Topology::Subnet,
//!     ifconfig: Some(Ifconfig { local: "10.8.0.2".parse()?, remote_or_mask: "255.255.255.0".parse()? }),
//!     route_gateway: Some("10.8.0.1".parse()?),
//!     redirect: Some(Redirect { def1: true, ..Redirect::gateway() }),
//!     ..VpnOptions::default()
//! };
//! let built = build(&options, &around)?;
//! for warning in &built.warnings {
//!     eprintln!("{warning}");
//! }
//! let applied = host.apply(&built.plan)?;
//! for error in &applied.failed {
//!     eprintln!("{error}");
//! }
//! // ... the tunnel runs ...
//! for error in host.undo().failed {
//!     eprintln!("{error}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # After a crash
//!
//! Addresses and routes of a tunnel's interface vanish with it. Two things do not: the host route that keeps the
//! VPN server reachable outside the tunnel, and the default route that was taken out of the way. Each `Host` with a
//! journal directory therefore writes down every change before it makes it, in `PID-START-N.json`: the process, its
//! start time (process ids are reused), its network namespace and the boot, then one line a change. [`recover`]
//! obeys the journals of dead processes of the same namespace, boot and user.
//!
//! # Privileges
//!
//! Changing anything needs root or `CAP_NET_ADMIN`; looking up gateways does not.
//!
//! # Platforms
//!
//! Linux. On other systems [`plan`] alone would work, but the crate does not compile yet.

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
