//! What was changed, on disk, so that another process can take it back after a crash.
//!
//! A journal is a text file of JSON lines: one for its owner, then one for each change before it is made (`Made`), and
//! one when it is taken back or turned out not to be ours (`Gone`). A line cut short by a crash is ignored: the change
//! it announced was never made.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::item::Item;
use crate::HostError;

#[cfg(test)]
mod tests;

/// Version of the file's format; a journal of another version is left alone.
const VERSION: u32 = 1;

/// Who made the changes, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    version: u32,
    pub(super) pid: u32,
    /// Clock ticks since boot at which the process started: tells a reused process id.
    start: u64,
    /// Inode of the network namespace.
    netns: u64,
    /// Kernel's random id of this boot: after a reboot nothing is left to take back.
    boot: String,
}

/// What is to be done with a journal found on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its process lives, or it is of another namespace or format.
    Leave,
    /// The machine was rebooted since: nothing of it is left.
    Stale,
    /// Its process died.
    Undo,
}

#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Owner(Owner),
    Made(u64, Item),
    Gone(u64),
}

impl Owner {
    pub(super) fn current() -> io::Result<Self> {
        let pid = std::process::id();
        let start = start_time(pid)?.ok_or(io::ErrorKind::NotFound)?;
        // Of the thread, as the netlink socket is.
        let netns = fs::metadata("/proc/thread-self/ns/net")?.ino();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Self { version: VERSION, pid, start, netns, boot })
    }

    /// Judges a journal of `self` as seen by `current`.
    pub(super) fn verdict(&self, current: &Self) -> io::Result<Verdict> {
        if self.version != VERSION {
            return Ok(Verdict::Leave);
        }
        if self.boot != current.boot {
            return Ok(Verdict::Stale);
        }
        if start_time(self.pid)? == Some(self.start) {
            return Ok(Verdict::Leave);
        }
        Ok(match self.netns == current.netns {
            true => Verdict::Undo,
            false if namespace_exists(self.netns)? => Verdict::Leave,
            // What was changed vanished with the namespace.
            false => Verdict::Stale,
        })
    }
}

/// Whether a mount or a thread holds the network namespace with this inode.
fn namespace_exists(inode: u64) -> io::Result<bool> {
    let name = format!(" net:[{inode}] ");
    if fs::read_to_string("/proc/self/mountinfo")?.lines().any(|line| line.contains(&name)) {
        return Ok(true);
    }
    let entries = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let threads = entries("/proc".into()).flat_map(|process| entries(process.path().join("task")));
    let namespaces = threads.filter_map(|thread| fs::metadata(thread.path().join("ns/net")).ok());
    Ok(namespaces.into_iter().any(|namespace| namespace.ino() == inode))
}

/// Field 22 of `/proc/PID/stat`; `None` if there is no such process.
fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            return Ok(None);
        }
        stat => stat?,
    };
    // The second field is the program's name in parentheses, which may itself contain blanks and parentheses.
    let start =
        stat.rsplit_once(')').and_then(|(_, fields)| fields.split_ascii_whitespace().nth(19)?.parse().ok());
    start
        .map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected format of /proc/PID/stat"))
}

/// The journal of one [`Host`](super::Host). The file is made with the first change and deleted after the last.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    owner: Owner,
    file: Option<File>,
    /// Lines of changes taken back: what a rewrite would save.
    garbage: usize,
}

/// Lines of garbage at which a journal is rewritten.
const GARBAGE: usize = 256;

impl Journal {
    pub(super) fn new(dir: &Path) -> Result<Self, HostError> {
        static SEQUENCE: AtomicU32 = AtomicU32::new(0);
        let failed = |source| HostError::Journal { path: dir.to_owned(), source };
        let owner = Owner::current().map_err(failed)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{}-{}-{sequence}.json", owner.pid, owner.start));
        Ok(Self { path, owner, file: None, garbage: 0 })
    }

    /// Announces a change; to be called before it is made.
    pub(super) fn made(&mut self, id: u64, item: &Item) -> Result<(), HostError> {
        if self.file.is_none() {
            self.file = Some(self.failed(create(&self.path, &self.owner))?);
        }
        self.append(&Line::Made(id, item.clone()))
    }

    /// Notes that a change is taken back, or was none of ours.
    pub(super) fn gone(&mut self, id: u64) -> Result<(), HostError> {
        self.garbage += 2;
        self.append(&Line::Gone(id))
    }

    /// Ends a batch: deletes the journal if nothing is left in it, rewrites it if most of it is garbage.
    pub(super) fn settle<'a>(
        &mut self,
        live: impl Iterator<Item = (u64, &'a Item)>,
    ) -> Result<(), HostError> {
        let mut live = live.peekable();
        if live.peek().is_none() {
            return match fs::remove_file(&self.path) {
                // The process has given up its privileges since. The file says that nothing is left, and the next
                // change goes into it too.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                Err(error) if error.kind() != io::ErrorKind::NotFound => self.failed(Err(error)),
                _ => {
                    self.file = None;
                    self.garbage = 0;
                    Ok(())
                }
            };
        }
        if self.garbage < GARBAGE {
            return Ok(());
        }
        let fresh = self.path.with_extension("new");
        // Left by a rewrite that failed half-way.
        let _ = fs::remove_file(&fresh);
        let rewritten = create(&fresh, &self.owner).and_then(|mut file| {
            for (id, item) in live {
                file.write_all(&encode(&Line::Made(id, item.clone()))?)?;
            }
            fs::rename(&fresh, &self.path)?;
            Ok(file)
        });
        match rewritten {
            // As above: the file grows on.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            rewritten => self.file = Some(self.failed(rewritten)?),
        }
        self.garbage = 0;
        Ok(())
    }

    fn append(&mut self, line: &Line) -> Result<(), HostError> {
        let written = match &mut self.file {
            Some(file) => encode(line).and_then(|bytes| file.write_all(&bytes)),
            None => Ok(()),
        };
        self.failed(written)
    }

    fn failed<T>(&self, result: io::Result<T>) -> Result<T, HostError> {
        result.map_err(|source| HostError::Journal { path: self.path.clone(), source })
    }
}

fn create(path: &Path, owner: &Owner) -> io::Result<File> {
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&encode(&Line::Owner(owner.clone()))?)?;
    Ok(file)
}

fn encode(line: &Line) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A journal read back.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) owner: Owner,
    /// Changes not yet taken back, in the order they were made.
    pub(super) items: Vec<Item>,
}

/// Reads all journals in `dir` that belong to this user. A directory that does not exist has none; a file that is no
/// journal is skipped.
pub(super) fn read_all(dir: &Path) -> Result<Vec<Found>, HostError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| HostError::Journal { path, source }
    };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed(dir))?,
    };
    // Whoever can write a journal that root obeys can make root change routes.
    let user = fs::metadata("/proc/self").map_err(failed(Path::new("/proc/self")))?.uid();
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(dir))?.path();
        let ours = fs::symlink_metadata(&path).is_ok_and(|file| file.is_file() && file.uid() == user);
        if !ours || path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = match fs::read(&path) {
            // Another process recovered it in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text.map_err(failed(&path))?,
        };
        if let Some((owner, items)) = replay(&text) {
            found.push(Found { path, owner, items });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn replay(text: &[u8]) -> Option<(Owner, Vec<Item>)> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let Ok(Line::Owner(owner)) = serde_json::from_slice(lines.next()?) else { return None };
    let mut items: Vec<(u64, Item)> = Vec::new();
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(Line::Made(id, item)) => items.push((id, item)),
            Ok(Line::Gone(gone)) => items.retain(|(id, _)| *id != gone),
            Ok(Line::Owner(_)) | Err(_) => {}
        }
    }
    Some((owner, items.into_iter().map(|(_, item)| item).collect()))
}
