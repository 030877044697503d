//! What the host should look like while a tunnel is up: pure data, and the rules that derive it from VPN options.
//!
//! [`Plan`] is what [`Host::apply`](crate::Host::apply) takes. It may be written by hand, or derived by [`build()`] from
//! [`VpnOptions`], which mirror OpenVPN's own options.

mod build;
mod options;
mod types;

#[cfg(test)]
mod tests;

pub use build::{Built, PlanError, build};
pub use options::{
    Gateway, Ifconfig, Ifconfig6, Redirect, RouteGateway, RouteOption, RouteOption6, Surroundings, Topology,
    VpnOptions,
};
pub use types::{Address, Dev, Plan, Removal, Route};
