//! The process itself: version, priority, PID file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oxivpn_profile::profile::ProcessOptions;

use crate::sys;

/// The first line of the log and of `--version`. Programs take its second word for the version.
pub fn version_line() -> String {
    let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!(
        "oxivpn {} {}-unknown-{}-{libc} [SSL (rustls)] [EPOLL] [AEAD]",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS
    )
}

/// `cd` and `nice`.
pub fn prepare(options: &ProcessOptions) -> Result<()> {
    if let Some(directory) = &options.directory {
        std::env::set_current_dir(directory)
            .with_context(|| format!("cd: cannot change to directory {}", directory.display()))?;
    }
    if let Some(nice) = options.nice {
        sys::set_priority(nice).with_context(|| format!("nice: cannot set the priority {nice}"))?;
    }
    Ok(())
}

/// The file of `writepid`; deleted when dropped.
#[derive(Debug)]
pub struct PidFile(Option<PathBuf>);

impl PidFile {
    /// Writes the number of this process into `path`, if there is one.
    pub fn write(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        let context = || format!("writepid: cannot write {}", path.display());
        // Found again from another directory.
        let path = std::path::absolute(path).with_context(context)?;
        std::fs::write(&path, format!("{}\n", std::process::id())).with_context(context)?;
        Ok(Self(Some(path)))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It may be gone already, which is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_word_is_the_version() {
        assert_eq!(version_line().split(' ').nth(1), Some(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn the_pid_file_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let file = PidFile::write(Some(&path)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        let error = PidFile::write(Some(Path::new("/nonexistent/pid"))).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/pid"), "{error}");
    }
}
