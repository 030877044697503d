//! The process itself: version, priority, PID file; when it goes to the background and what it gives up.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use oxivpn_profile::Profile;
use oxivpn_profile::profile::ProcessOptions;

use crate::log::Log;
use crate::privileges::Identity;
use crate::{daemon, notify, say, sys};

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

/// The first profile that a command line names: the word after `--config`, or the only word.
pub fn config_name(args: impl Iterator<Item = String>) -> Option<String> {
    let mut args = args.peekable();
    if args.peek().is_some_and(|first| !first.starts_with("--")) {
        return args.next();
    }
    args.by_ref().find(|arg| arg == "--config")?;
    args.next()
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

/// Finds out whether the process can become what the profile wants. To be called before anything on the host is
/// touched.
pub fn check(options: &ProcessOptions) -> Result<Identity> {
    Identity::find(options)
}

/// Says what may go wrong later when privileges are given up (`openvpn: init.c`, `do_option_warnings`).
pub fn warn(profile: &Profile, log: &Log) {
    let process = &profile.process;
    let jailed = process.chroot.is_some();
    let smaller = process.user.is_some() || process.group.is_some() || jailed;
    if smaller && !profile.device.persist {
        say!(
            log,
            Warn,
            "WARNING: you are using user/group/chroot/setcon without persist-tun -- this may cause restarts to fail"
        );
    }
    if jailed && (process.user.is_none() || process.group.is_none()) {
        say!(
            log,
            Warn,
            "WARNING: you are using chroot without specifying user and group -- this may cause the chroot jail to be \
             insecure"
        );
    }
}

/// Begins the work: goes to the background, writes `writepid`, and tells systemd; each once. To be called when all
/// passwords have been typed, and before the first thread is started (`openvpn: openvpn.c`, `openvpn_main`).
pub fn begin(profile: &Profile) -> Result<()> {
    let path = profile.process.pid_file.as_deref().map(std::path::absolute).transpose();
    let path = path.context("writepid: the current directory is gone")?;
    daemon::detach(profile)?;
    if let Ok(mut file) = PID_FILE.lock()
        && file.is_none()
    {
        *file = Some(PidFile::write(path.as_deref())?);
    }
    notify::ready();
    Ok(())
}

/// When everything is set up, addresses and routes included: a daemon lets go of the directory where it was started,
/// unless there is `cd`. Relative file names lead nowhere from then on.
pub fn settle(options: &ProcessOptions) {
    if daemon::detached() && options.directory.is_none() {
        // Stays where it is if it can't, which only keeps a file system busy.
        let _ = std::env::set_current_dir("/");
    }
}

/// Ends the work: deletes the file of `writepid`, and tells systemd.
pub fn end() {
    notify::stopping();
    if let Ok(mut file) = PID_FILE.lock() {
        *file = None;
    }
}

/// The file of this process.
static PID_FILE: Mutex<Option<PidFile>> = Mutex::new(None);

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
    fn the_first_profile_has_a_name() {
        let name = |line: &str| config_name(line.split(' ').map(str::to_owned));
        assert_eq!(name("client.ovpn").as_deref(), Some("client.ovpn"));
        assert_eq!(name("--verb 4 --config a.conf --config b.conf").as_deref(), Some("a.conf"));
        assert_eq!((name("--remote x"), name("--config")), (None, None));
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
