//! `daemon`: going to the background.

use std::fs::OpenOptions;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use oxivpn_profile::Profile;

use crate::{notify, sys};

/// Set once this process is in the background.
static DETACHED: AtomicBool = AtomicBool::new(false);

/// Whether this process went to the background.
pub fn detached() -> bool {
    DETACHED.load(Ordering::Relaxed)
}

/// Goes to the background if the profile wants it, once; under systemd not at all, which wants to see the process that
/// it started (`openvpn: init.c`, `possibly_become_daemon`). To be called when everything that a person must type has
/// been typed, and before the first thread is started.
pub fn detach(profile: &Profile) -> Result<()> {
    if profile.process.daemon.is_none() || notify::supervised() || detached() {
        return Ok(());
    }
    sys::go_to_background().context("daemon: cannot go to the background")?;
    DETACHED.store(true, Ordering::Relaxed);
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").context("daemon: /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("daemon: standard input")?;
    // With `log` both outputs lead to its file.
    if profile.log.file.is_none() {
        rustix::stdio::dup2_stdout(&null).context("daemon: standard output")?;
        rustix::stdio::dup2_stderr(&null).context("daemon: standard error")?;
    }
    Ok(())
}
