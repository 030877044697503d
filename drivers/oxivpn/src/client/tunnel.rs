//! The inner side: the device and what the host gets for it. Undone when dropped, whatever the reason.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use oxivpn_host::plan::{Plan, Surroundings, VpnOptions, build};
use oxivpn_host::{Address, Dev, Host, IpVersion, Route};
use oxivpn_profile::Profile;
use oxivpn_profile::profile::DeviceKind;
use oxivpn_proto::options::pushed::Pushed;
use oxivpn_tun::OpenError;
use oxivpn_tun::offload::{Offload, VnetHeader};

use super::options::wanted;
use crate::log::Log;
use crate::scripts::around::Around;
use crate::scripts::kinds::Hook;
use crate::scripts::variables::{self, Occasion};
use crate::{privileges, say, sys, turn};

/// A TUN device, a given descriptor or nothing.
#[derive(Debug)]
pub struct Tun {
    device: Arc<oxivpn_tun::Device>,
    /// Further queues of the same device.
    more: Vec<oxivpn_tun::Device>,
    /// Another thread reads this queue; here it is only written.
    write_only: bool,
}

impl Tun {
    /// The descriptor to poll; a null device has none.
    pub fn as_raw_fd(&self) -> Option<RawFd> {
        self.device.as_raw_fd().filter(|_| self.reads())
    }

    /// Whether packets are to be read here.
    pub(crate) const fn reads(&self) -> bool {
        !self.write_only
    }

    /// The same for a thread that only writes.
    pub(crate) fn writer(&self) -> Self {
        Self { device: self.device.clone(), more: Vec::new(), write_only: true }
    }

    /// One for each of `threads`: with a queue of its own as far as there are some. The others write to the first one.
    pub(crate) fn share_out(self, threads: usize) -> Vec<Self> {
        let first = self.writer();
        let queues =
            core::iter::once(Self { more: Vec::new(), ..self }).chain(self.more.into_iter().map(Self::from));
        queues.chain(core::iter::repeat_with(move || first.writer())).take(threads).collect()
    }

    /// Opens the device with up to so many queues; a warning if there are fewer.
    fn open(profile: &Profile, queues: usize) -> Result<(Self, Option<String>)> {
        let device = match &profile.device.kind {
            DeviceKind::Null => oxivpn_tun::Device::null(),
            DeviceKind::Descriptor(number) => {
                let fd = sys::adopt_descriptor(*number)
                    .map_err(|error| anyhow!("`dev fd:{number}`: {error}; is it open in this process?"))?;
                oxivpn_tun::Device::from_fd(fd)?
            }
            DeviceKind::Tun(name) => {
                let name = name.as_deref().unwrap_or("tun");
                let options = oxivpn_tun::Options::new(name).offload(true).multi_queue(queues > 1);
                match oxivpn_tun::Device::open(&options) {
                    // One that was made before, with a queue more or less than we would have made it with.
                    Err(error @ OpenError::Queues { .. }) => {
                        oxivpn_tun::Device::open(&options.multi_queue(queues <= 1)).map_err(|_| error)?
                    }
                    device => device?,
                }
            }
        };
        let more = (1..queues).map(|_| device.add_queue()).collect::<io::Result<Vec<_>>>();
        let warning = match &more {
            Err(error) if device.as_raw_fd().is_some() => Some(format!(
                "one of the {queues} workers reads all packets of {name} and hands them to the others, as this device has \
                 no queue for each ({error}); have the device made anew, or by `ip tuntap add dev NAME mode tun multi_queue`, or \
                 write `workers 1`",
                name = device.name()
            )),
            _ => None,
        };
        Ok((Self { more: more.unwrap_or_default(), ..Self::from(device) }, warning))
    }
}

impl From<oxivpn_tun::Device> for Tun {
    fn from(device: oxivpn_tun::Device) -> Self {
        Self { device: Arc::new(device), more: Vec::new(), write_only: false }
    }
}

impl turn::Device for Tun {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<(VnetHeader, usize)> {
        self.device.read(buf)
    }

    fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.device.write(parts)
    }

    fn offload(&self) -> Offload {
        self.device.offload()
    }
}

/// What the host gets for a tunnel.
pub(crate) struct HostSide {
    /// How many threads are to read the device, each from a queue of its own.
    pub(crate) queues: usize,
    host: Option<Host>,
    plan: Plan,
    log: Arc<Log>,
}

/// What the host is to get for a device.
#[derive(Clone, Debug)]
pub(crate) struct Outline {
    /// Name of the device.
    pub(crate) device: String,
    /// What scripts are told, `ifconfig-noexec` and `route-noexec` or not.
    pub(crate) options: VpnOptions,
    /// The ways out of this host.
    pub(crate) around: Surroundings,
    /// What is to be done; nothing for a device without interface.
    plan: Option<Plan>,
}

impl HostSide {
    /// Nothing done so far.
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self { queues: 1, host: None, plan: Plan::default(), log }
    }

    /// Sets up a tunnel that exists for as long as the program, without a remote of its own: device, addresses and
    /// routes. Its scripts are run in between, and waited for.
    pub(crate) fn set_up(
        &mut self,
        profile: &Profile,
        mtu: u16,
        scripts: &mut Around,
    ) -> Result<Option<Tun>> {
        let device = self.open(profile, None)?;
        if let Some(device) = &device {
            let outline = self.outline(profile, &[], mtu, None, device)?;
            self.set_addresses(&outline)?;
            let known = (&outline.options, &outline.around);
            scripts.tunnel(&outline.device, mtu, Occasion::Init, known, &[]);
            scripts.run(Hook::Up)?;
            self.set_all(&outline)?;
            variables::redirected(scripts.env(), &outline.options);
            scripts.run(Hook::RouteUp)?;
        }
        Ok(device)
    }

    /// Opens the device unless `present`.
    pub(crate) fn open(&self, profile: &Profile, present: Option<&Tun>) -> Result<Option<Tun>> {
        if let Some(tun) = present {
            say!(self.log, Info, "Preserving previous TUN/TAP instance: {}", tun.device.name());
            return Ok(None);
        }
        let (tun, warning) =
            Tun::open(profile, self.queues).map_err(|error| anyhow!("Cannot open TUN/TAP dev: {error}"))?;
        say!(self.log, Info, "TUN/TAP device {} opened", tun.device.name());
        if let Some(warning) = warning {
            say!(self.log, Warn, "WARNING: {warning}");
        }
        Ok(Some(tun))
    }

    /// Works out what the host is to get, without touching it.
    pub(crate) fn outline(
        &mut self,
        profile: &Profile,
        pushed: &[Pushed],
        mtu: u16,
        remote: Option<IpAddr>,
        device: &Tun,
    ) -> Result<Outline> {
        let has_interface = device.device.has_interface();
        let around = if has_interface { self.surroundings(remote)? } else { Surroundings::default() };
        let mut wanted = wanted(&profile.host, pushed, &around, profile.scripts.up.is_some());
        let name = device.device.name().to_owned();
        let mut outline = Outline { device: name, options: wanted.told, around, plan: None };
        if has_interface {
            wanted.options.interface = outline.device.clone();
            wanted.options.mtu = Some(mtu.into());
            wanted.options.txqueuelen = profile.device.queue_len;
            let built = build(&wanted.options, &outline.around)?;
            for warning in wanted.warnings.iter().chain(&built.warnings) {
                say!(self.log, Warn, "WARNING: {warning}");
            }
            outline.plan = Some(built.plan);
        }
        Ok(outline)
    }

    fn surroundings(&mut self, remote: Option<IpAddr>) -> Result<Surroundings> {
        let host = match &mut self.host {
            Some(host) => host,
            // The journal's directory is root's alone.
            none if privileges::dropped() => none.insert(Host::new(None)?),
            none => none.insert(Host::new(Some(Path::new(oxivpn_host::JOURNAL_DIR)))?),
        };
        Ok(Surroundings {
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
        })
    }

    /// Sets the interface and its addresses, but no routes; whether all of it is in place.
    pub(crate) fn set_addresses(&mut self, outline: &Outline) -> Result<bool> {
        match &outline.plan {
            Some(plan) => self.apply(Plan { routes: Vec::new(), removals: Vec::new(), ..plan.clone() }),
            None => Ok(true),
        }
    }

    /// Sets everything; whether all of it is in place.
    pub(crate) fn set_all(&mut self, outline: &Outline) -> Result<bool> {
        match &outline.plan {
            Some(plan) => self.apply(plan.clone()),
            None => Ok(true),
        }
    }

    fn apply(&mut self, plan: Plan) -> Result<bool> {
        let Some(host) = &mut self.host else { return Ok(true) };
        let before = added(&self.plan);
        for line in added(&plan).iter().filter(|line| !before.contains(line)) {
            say!(self.log, Detail, "{line}");
        }
        let applied =
            host.apply(&plan).map_err(|error| anyhow!("cannot set up the tunnel's interface: {error}"))?;
        for change in &applied.changes {
            say!(self.log, Debug, "host: {change}");
        }
        for thing in &applied.foreign {
            say!(self.log, Debug, "host: {thing} was so before");
        }
        for error in &applied.failed {
            say!(self.log, Error, "ERROR: {error}");
        }
        self.plan = plan;
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
