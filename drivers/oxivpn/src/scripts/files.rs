//! Temporary files by which scripts and this program talk: mode 0600, random names, removed when dropped.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use tempfile::TempPath;

/// A file in `tmp-dir`.
#[derive(Debug)]
pub(super) struct ScriptFile(TempPath);

impl ScriptFile {
    /// An empty file in `dir`, named as OpenVPN names it: `openvpn_<kind>_<random>.tmp`.
    pub(super) fn new(dir: &Path, kind: &str) -> io::Result<Self> {
        Self::with(dir, kind, &[])
    }

    /// A file with these contents. The error names the directory.
    pub(super) fn with(dir: &Path, kind: &str, contents: &[u8]) -> io::Result<Self> {
        let made = tempfile::Builder::new()
            .prefix(&format!("openvpn_{kind}_"))
            .suffix(".tmp")
            .rand_bytes(16)
            .tempfile_in(dir)
            .and_then(|mut file| {
                file.write_all(contents)?;
                Ok(Self(file.into_temp_path()))
            });
        made.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "Could not create temporary file in '{}': {error}; give another directory with `tmp-dir`",
                    dir.display()
                ),
            )
        })
    }

    /// Its name for arguments and variables.
    pub(super) fn name(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }

    /// Its contents, at most `limit` bytes; an error beyond that.
    pub(super) fn text(&self, limit: usize) -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(&self.0)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{} has more than {limit} bytes", self.0.display()),
            ));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its first byte, if there is one.
    pub(super) fn first(&self) -> Option<u8> {
        let mut byte = [0];
        let count = File::open(&self.0).ok()?.read(&mut byte).ok()?;
        (count == 1).then_some(byte[0])
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_ours_alone_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let file = ScriptFile::with(dir.path(), "up", b"bob\nsecret\n").unwrap();
        let path = std::path::PathBuf::from(file.name());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("openvpn_up_"));
        assert_eq!((file.text(11).unwrap().as_str(), file.first()), ("bob\nsecret\n", Some(b'b')));
        assert_eq!(file.text(10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn an_empty_or_missing_file_has_no_first_byte() {
        let dir = tempfile::tempdir().unwrap();
        let file = ScriptFile::new(dir.path(), "acf").unwrap();
        assert_eq!((file.first(), file.text(10).unwrap()), (None, String::new()));
        std::fs::remove_file(file.name()).unwrap();
        assert_eq!(file.first(), None);
        assert!(file.text(10).is_err());
        let error = ScriptFile::new(Path::new("/nonexistent"), "acf").unwrap_err();
        assert!(error.to_string().contains("'/nonexistent'"), "{error}");
    }
}
