//! Files of `client-config-dir`.

use std::fs;
use std::path::{Path, PathBuf};

use oxivpn_profile::ccd::{self, ClientFile};
use oxivpn_profile::{Disk, ProfileError};

/// The file of the client `name`, or `DEFAULT` unless `exclusive`; `None` if there is neither. The error names the
/// file.
pub(super) fn read(
    dir: &Path,
    name: &str,
    exclusive: bool,
) -> Result<Option<(PathBuf, ClientFile)>, ProfileError> {
    let found = ccd::read(&Disk, dir, name, exclusive)?;
    Ok(found.map(|(path, text)| {
        let parsed = ccd::parse(&Disk, &path.display().to_string(), &text);
        (path, parsed)
    }))
}

/// All files of clients with their names, in order, to be checked before anybody comes. The error names the file or
/// directory.
pub(super) fn all(dir: &Path) -> Result<Vec<(String, PathBuf, ClientFile)>, String> {
    let named =
        |error: std::io::Error| format!("--client-config-dir: cannot read {}: {error}", dir.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(named)? {
        let entry = entry.map_err(named)?;
        // Names that are not UTF-8 are nobody's common name.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let hidden = name.starts_with('.') || name.ends_with('~') || name == ccd::DEFAULT;
        if !hidden
            && entry.path().is_file()
            && let Some((path, file)) = read(dir, &name, true).map_err(|error| error.to_string())?
        {
            files.push((name, path, file));
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_a_file_gets_the_default_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("DEFAULT"), "disable\n").unwrap();
        fs::write(dir.path().join("c1"), "iroute 10.9.0.0 255.255.0.0\n").unwrap();
        fs::write(dir.path().join(".c1.swp"), "nonsense\n").unwrap();
        let disabled = |name: &str, exclusive| {
            read(dir.path(), name, exclusive).unwrap().map(|(_, file)| file.overrides.disable)
        };
        assert_eq!((disabled("c1", false), disabled("c2", false)), (Some(false), Some(true)));
        assert_eq!(disabled("c2", true), None);
        let names: Vec<String> = all(dir.path()).unwrap().into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["c1"]);
        let error = all(Path::new("/nonexistent")).unwrap_err();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
