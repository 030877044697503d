//! Where files come from; the only file of this crate that opens any.

use std::io::{self, Read};
use std::path::Path;

/// Largest file that is read: key files, certificates and lists of revoked certificates.
pub const MAX_FILE: u64 = 16 << 20;

/// A source of files, so that parsing can be tested and fuzzed without a disk.
pub trait Files {
    /// The whole content of a file of at most [`MAX_FILE`] bytes.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// All of the standard input (`config stdin`).
    fn read_stdin(&self) -> io::Result<Vec<u8>>;

    /// Names of the entries of a directory (`crl-verify DIR dir`).
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Whether the file is there and may be run.
    fn executable(&self, path: &Path) -> io::Result<()>;

    /// Whether somebody other than the owner may read the file.
    fn open_to_others(&self, path: &Path) -> bool;
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        bounded(std::fs::File::open(path)?)
    }

    fn read_stdin(&self) -> io::Result<Vec<u8>> {
        bounded(io::stdin().lock())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    #[cfg(unix)]
    fn executable(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let meta = std::fs::metadata(path)?;
        if meta.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // Root may run what anybody may run.
        if meta.permissions().mode() & 0o111 == 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }

    #[cfg(not(unix))]
    fn executable(&self, path: &Path) -> io::Result<()> {
        std::fs::metadata(path).map(|_| ())
    }

    #[cfg(unix)]
    fn open_to_others(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o077 != 0)
    }

    #[cfg(not(unix))]
    fn open_to_others(&self, _path: &Path) -> bool {
        false
    }
}

fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("larger than {} MiB", MAX_FILE >> 20)));
    }
    Ok(bytes)
}

/// What happened to a file, and what to do about it.
pub(crate) fn reason(error: &io::Error) -> (String, &'static str) {
    match error.kind() {
        io::ErrorKind::NotFound => (
            "No such file or directory".into(),
            "Check the name; relative names begin at the current directory, or at that of `cd`",
        ),
        io::ErrorKind::PermissionDenied => {
            ("Permission denied".into(), "Let this user read the file, or run as its owner or as root")
        }
        io::ErrorKind::IsADirectory => ("Is a directory".into(), "Name a file"),
        _ => (error.to_string(), "Check the file"),
    }
}
