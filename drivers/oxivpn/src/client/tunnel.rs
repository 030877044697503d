//! The inner side: the device and what the host gets for it. Undone when dropped, whatever the reason.

use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use oxivpn_host::plan::{Plan, Surroundings, build};
use oxivpn_host::{Address, Dev, Host, IpVersion, Route};
use oxivpn_profile::Profile;
use oxivpn_profile::profile::DeviceKind;
use oxivpn_proto::options::pushed::Pushed;

use super::options::wanted;
use crate::log::Log;
use crate::{privileges, say, sys, turn};

/// A TUN device, a given descriptor or nothing.
#[derive(Debug)]
pub struct Tun(oxivpn_tun::Device);

impl Tun {
    /// The descriptor to poll; a null device has none.
    pub fn as_raw_fd(&self) -> Option<RawFd> {
        self.0.as_raw_fd()
    }

    fn open(profile: &Profile) -> Result<Self> {
        let device = match &profile.device.kind {
            DeviceKind::Null => oxivpn_tun::Device::null(),
            DeviceKind::Descriptor(number) => {
                let fd = sys::adopt_descriptor(*number)
                    .map_err(|error| anyhow!("`dev fd:{number}`: {error}; is it open in this process?"))?;
                oxivpn_tun::Device::from_fd(fd)?
            }
            DeviceKind::Tun(name) => {
                let name = name.as_deref().unwrap_or("tun");
                oxivpn_tun::Device::open(&oxivpn_tun::Options::new(name))?
            }
        };
        Ok(Self(device))
    }
}

impl From<oxivpn_tun::Device> for Tun {
    fn from(device: oxivpn_tun::Device) -> Self {
        Self(device)
    }
}

impl turn::Device for Tun {
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buf)
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.0.send(packet).map(drop)
    }
}

/// What the host gets for a tunnel.
pub(crate) struct HostSide {
    host: Option<Host>,
    plan: Plan,
    log: Arc<Log>,
}

/// An opened device with its host side.
pub(crate) struct Opened {
    /// The device, if it was opened just now; `None` if the one before goes on.
    pub(crate) device: Option<Tun>,
    /// Whether everything wanted is in place.
    pub(crate) complete: bool,
}

impl HostSide {
    /// Nothing done so far.
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self { host: None, plan: Plan::default(), log }
    }

    /// Opens the device unless `present`, and brings the host to what profile and server want (a server itself has no
    /// `remote`). A device of
    /// before keeps its name; differences in addresses and routes are carried out, the rest stays untouched.
    pub(crate) fn bring_up(
        &mut self,
        profile: &Profile,
        pushed: &[Pushed],
        mtu: u16,
        remote: Option<std::net::IpAddr>,
        present: Option<&Tun>,
    ) -> Result<Opened> {
        let opened = match present {
            Some(tun) => {
                say!(self.log, Info, "Preserving previous TUN/TAP instance: {}", tun.0.name());
                None
            }
            None => {
                let tun = Tun::open(profile).map_err(|error| anyhow!("Cannot open TUN/TAP dev: {error}"))?;
                say!(self.log, Info, "TUN/TAP device {} opened", tun.0.name());
                Some(tun)
            }
        };
        let device = present.or(opened.as_ref());
        let mut complete = true;
        if let Some(Tun(device)) = device
            && device.has_interface()
        {
            let name = device.name().to_owned();
            complete = self.configure(profile, pushed, mtu, remote, &name)?;
        }
        Ok(Opened { device: opened, complete })
    }

    fn configure(
        &mut self,
        profile: &Profile,
        pushed: &[Pushed],
        mtu: u16,
        remote: Option<std::net::IpAddr>,
        interface: &str,
    ) -> Result<bool> {
        let host = match &mut self.host {
            Some(host) => host,
            // The journal's directory is root's alone.
            none if privileges::dropped() => none.insert(Host::new(None)?),
            none => none.insert(Host::new(Some(Path::new(oxivpn_host::JOURNAL_DIR)))?),
        };
        let around = Surroundings {
            remote,
            to_remote: match remote {
                Some(remote) if remote.is_ipv4() => host.gateway_to(remote)?,
                _ => host.default_gateway(IpVersion::V4)?,
            },
            to_remote6: match remote {
                Some(remote) if remote.is_ipv6() => host.gateway_to(remote)?,
                _ => None,
            },
            default: host.default_gateway(IpVersion::V4)?,
        };
        let mut wanted = wanted(&profile.host, pushed, &around);
        wanted.options.interface = interface.to_owned();
        wanted.options.mtu = Some(mtu.into());
        wanted.options.txqueuelen = profile.device.queue_len;
        let built = build(&wanted.options, &around)?;
        for warning in wanted.warnings.iter().chain(&built.warnings) {
            say!(self.log, Warn, "WARNING: {warning}");
        }
        if built.plan != self.plan {
            for line in added(&built.plan) {
                say!(self.log, Detail, "{line}");
            }
        }
        let applied = host
            .apply(&built.plan)
            .map_err(|error| anyhow!("cannot set up the tunnel's interface: {error}"))?;
        for change in &applied.changes {
            say!(self.log, Debug, "host: {change}");
        }
        for thing in &applied.foreign {
            say!(self.log, Debug, "host: {thing} was so before");
        }
        for error in &applied.failed {
            say!(self.log, Error, "ERROR: {error}");
        }
        self.plan = built.plan;
        Ok(applied.failed.is_empty())
    }

    /// Takes everything back.
    pub(crate) fn tear_down(&mut self) {
        let Some(mut host) = self.host.take() else { return };
        let plan = core::mem::take(&mut self.plan);
        let interface = &plan.interface;
        for route in &plan.routes {
            say!(self.log, Detail, "net_route_v{}_del: {}", version(route), route_text(route, interface));
        }
        say!(self.log, Info, "Closing TUN/TAP interface");
        for address in &plan.addresses {
            let number = if address.ip.is_ipv4() { 4 } else { 6 };
            say!(
                self.log,
                Detail,
                "net_addr_v{number}_del: {} dev {}",
                address_text(address),
                plan.interface
            );
        }
        let undone = host.undo();
        for change in &undone.changes {
            say!(self.log, Debug, "host: {change}");
        }
        for error in &undone.failed {
            say!(self.log, Error, "ERROR: the host could not be restored: {error}");
        }
    }
}

impl Drop for HostSide {
    fn drop(&mut self) {
        self.tear_down();
    }
}

/// Undoes what a crashed run left behind.
pub fn recover(log: &Log) {
    if !sys::is_root() {
        return;
    }
    match oxivpn_host::recover(Path::new(oxivpn_host::JOURNAL_DIR)) {
        Ok(found) => {
            for run in found {
                say!(log, Warn, "Process {} ended without cleaning up; undoing what it left:", run.pid);
                for change in &run.undone.changes {
                    say!(log, Info, "  {change}");
                }
                for error in &run.undone.failed {
                    say!(log, Error, "  ERROR: {error}");
                }
            }
        }
        Err(error) => say!(log, Warn, "WARNING: cannot look for what a crashed run left behind: {error}"),
    }
}

/// OpenVPN's lines about what is set up.
fn added(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let interface = &plan.interface;
    if let Some(mtu) = plan.mtu {
        lines.push(format!("net_iface_mtu_set: mtu {mtu} for {interface}"));
    }
    lines.push(format!("net_iface_up: set {interface} up"));
    for address in &plan.addresses {
        let number = if address.ip.is_ipv4() { 4 } else { 6 };
        lines.push(match (address.ip.is_ipv4(), address.peer) {
            (true, Some(peer)) => {
                format!("net_addr_ptp_v4_add: {} peer {peer} dev {interface}", address.ip)
            }
            _ => format!("net_addr_v{number}_add: {} dev {interface}", address_text(address)),
        });
    }
    for route in &plan.routes {
        lines.push(format!("net_route_v{}_add: {}", version(route), route_text(route, interface)));
    }
    lines
}

fn address_text(address: &Address) -> String {
    format!("{}/{}", address.ip, address.prefix)
}

fn version(route: &Route) -> u8 {
    if route.dest.addr().is_ipv4() { 4 } else { 6 }
}

/// As in `net_route_v4_add: 192.168.77.0/24 via 10.8.0.1 dev [NULL] table 0 metric -1`.
fn route_text(route: &Route, interface: &str) -> String {
    let via = route.via.map_or_else(|| "::".to_owned(), |via| via.to_string());
    let dev = match &route.dev {
        Dev::ByName(name) => name.clone(),
        Dev::ByIndex(index) => format!("#{index}"),
        Dev::Tunnel => interface.to_owned(),
        Dev::None => "[NULL]".into(),
    };
    let metric = route.metric.map_or_else(|| "-1".to_owned(), |metric| metric.to_string());
    format!("{} via {via} dev {dev} table {} metric {metric}", route.dest, route.table.unwrap_or(0))
}
