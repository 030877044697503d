use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::HostError;
use crate::plan::{Gateway, Plan};

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What [`Host::apply`] did.
#[derive(Debug, Default)]
pub struct Applied {
    /// Things added, changed or taken away, as text for the log, in order.
    pub changes: Vec<String>,
    /// Number of things that were as wanted already by an earlier `apply`.
    pub unchanged: usize,
    /// Things that somebody else had set up already: they count as success, and stay after an undo.
    pub foreign: Vec<String>,
    /// Routes that the kernel refused. The rest of the plan holds.
    pub failed: Vec<HostError>,
}

/// What [`Host::undo`] did.
#[derive(Debug, Default)]
pub struct Undone {
    /// Changes taken back, as text for the log, in order.
    pub changes: Vec<String>,
    /// What could not be taken back.
    pub failed: Vec<HostError>,
}

/// One journal that [`recover`] dealt with.
#[derive(Debug)]
pub struct Recovered {
    /// The journal, which is deleted.
    pub journal: PathBuf,
    /// The process that died.
    pub pid: u32,
    /// What was taken back.
    pub undone: Undone,
}

/// The host's network configuration.
#[derive(Debug)]
pub struct Host {}

impl Host {
    /// Opens rtnetlink in the calling thread's network namespace; keeps a journal in `journal_dir` (made if missing)
    /// from the first change on, or none.
    ///
    /// # Errors
    ///
    /// [`HostError::Netlink`], [`HostError::Journal`].
    pub fn new(journal_dir: Option<&Path>) -> Result<Self, HostError> {
        let _ = journal_dir;
        todo!()
    }

    /// Brings the host to `plan`.
    ///
    /// # Errors
    ///
    /// Interface, address and journal errors end it; routes that fail are listed in [`Applied::failed`].
    pub fn apply(&mut self, plan: &Plan) -> Result<Applied, HostError> {
        let _ = plan;
        todo!()
    }

    /// Takes back every change made by `apply`.
    pub fn undo(&mut self) -> Undone {
        todo!()
    }

    /// The default route outside the tunnel.
    ///
    /// # Errors
    ///
    /// [`HostError::Netlink`].
    pub fn default_gateway(&mut self, version: IpVersion) -> Result<Option<Gateway>, HostError> {
        let _ = version;
        todo!()
    }

    /// The way to `dest` outside the tunnel.
    ///
    /// # Errors
    ///
    /// [`HostError::Netlink`].
    pub fn gateway_to(&mut self, dest: IpAddr) -> Result<Option<Gateway>, HostError> {
        let _ = dest;
        todo!()
    }
}

/// Undoes what dead processes left in this network namespace, from their journals in `dir`.
///
/// # Errors
///
/// [`HostError::Netlink`], [`HostError::Journal`].
pub fn recover(dir: &Path) -> Result<Vec<Recovered>, HostError> {
    let _ = dir;
    todo!()
}
