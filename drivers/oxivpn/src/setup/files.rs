//! Files that are either there as a whole or not at all.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use tempfile::NamedTempFile;

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Its owner.
    Owner,
    /// Everybody.
    All,
}

/// Writes a file that is not there yet.
pub(super) fn create(path: &Path, text: &str, readers: Readers) -> Result<()> {
    let file = prepare(path, text, readers).with_context(|| cannot_write(path))?;
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => anyhow!("{} exists; nothing was overwritten", path.display()),
        _ => anyhow!(error.error).context(cannot_write(path)),
    })?;
    Ok(())
}

/// Writes a file in the place of the one that may be there.
pub(super) fn replace(path: &Path, text: &str, readers: Readers) -> Result<()> {
    let file = prepare(path, text, readers).with_context(|| cannot_write(path))?;
    file.persist(path).map_err(|error| error.error).with_context(|| cannot_write(path))?;
    Ok(())
}

fn prepare(path: &Path, text: &str, readers: Readers) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in(path.parent().unwrap_or_else(|| Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    if readers == Readers::All {
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// The text of a file in a directory that `oxivpn setup` has made.
pub(super) fn read(dir: &Path, name: &str) -> Result<String> {
    let path = dir.join(name);
    std::fs::read_to_string(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            anyhow!("{} is missing; name a directory that `oxivpn setup` has made", path.display())
        }
        _ => anyhow!(error).context(format!("cannot read {}", path.display())),
    })
}

/// Keeps others from changing the clients of `dir` until it is dropped.
pub(super) fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("ca.key");
    let file = File::open(&path).with_context(|| {
        format!("cannot open {}; name a directory that `oxivpn setup` has made, as its owner", path.display())
    })?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}
