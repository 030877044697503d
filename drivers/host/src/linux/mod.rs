//! Linux: rtnetlink, and journals keyed by process and network namespace.

mod host;
mod item;
mod journal;
mod kernel;
mod netlink;

use std::path::{Path, PathBuf};
use std::{fs, io};

pub use host::Host;

use self::journal::{Owner, Verdict};
use self::netlink::Netlink;
use crate::HostError;

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
    /// Number of things that held already from an earlier `apply`.
    pub unchanged: usize,
    /// Things that were there without our doing: they count as success, and stay after an undo.
    pub foreign: Vec<String>,
    /// Routes that the kernel refused. The rest of the plan holds.
    pub failed: Vec<HostError>,
}

/// What [`Host::undo`] or [`recover`] did.
#[derive(Debug, Default)]
pub struct Undone {
    /// Changes taken back, as text for the log, in order. What had vanished by itself is not among them.
    pub changes: Vec<String>,
    /// What could not be taken back.
    pub failed: Vec<HostError>,
}

/// One journal that [`recover`] dealt with.
#[derive(Debug)]
pub struct Recovered {
    /// The journal. It is deleted unless the privilege to obey it was missing.
    pub journal: PathBuf,
    /// The process that died.
    pub pid: u32,
    /// What was taken back.
    pub undone: Undone,
}

/// Takes back what dead processes left behind in this thread's network namespace, by their journals in `dir`.
///
/// To be called at start, before the first [`Host::apply`]. Journals of living processes, of other namespaces and of
/// other users are left alone; those from before a reboot or of a namespace that is gone are deleted. A change that a process announced and did not
/// live to make is not distinguished from one it made: of a route that somebody else added at the very moment of the
/// crash, this would remove the somebody else's.
///
/// # Errors
///
/// [`HostError::Netlink`], [`HostError::Journal`]. What cannot be taken back is listed in [`Undone::failed`].
pub fn recover(dir: &Path) -> Result<Vec<Recovered>, HostError> {
    let found = journal::read_all(dir)?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |path: &Path, source| HostError::Journal { path: path.to_owned(), source };
    let current = Owner::current().map_err(|source| failed(dir, source))?;
    let mut netlink = Netlink::open()?;
    let mut recovered = Vec::new();
    for found in found {
        match found.owner.verdict(&current).map_err(|source| failed(&found.path, source))? {
            Verdict::Leave => continue,
            Verdict::Stale => {}
            // Its process cleaned up, but could no longer delete the file.
            Verdict::Undo if found.items.is_empty() => {}
            Verdict::Undo => {
                let mut undone = Undone::default();
                for item in found.items.iter().rev() {
                    let error = undone.take_back(item, &mut netlink);
                    undone.failed.extend(error);
                }
                let keep = undone.failed.iter().any(HostError::is_permission);
                recovered.push(Recovered { journal: found.path.clone(), pid: found.owner.pid, undone });
                if keep {
                    continue;
                }
            }
        }
        match fs::remove_file(&found.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&found.path, source));
            }
            _ => {}
        }
    }
    Ok(recovered)
}
