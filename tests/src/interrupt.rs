//! Ctrl-C and TERM for programs that make namespaces: they end by returning, so that everything is removed on drop.

use std::{
    process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, Signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Within this time, more signals belong to the first: `timeout` sends one to the program and one to its group.
const SAME: Duration = Duration::from_secs(1);

/// From now on, INT, TERM and HUP only make [`check`] fail; another one, a second or more later,
/// ends the program at once.
///
/// To be called before any other thread is started. Children inherit that these signals are blocked, so that Ctrl-C
/// leaves it to this program to end them.
pub fn watch() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("cannot block signals")?;
    thread::spawn(move || {
        let mut first = None;
        while signals.wait().is_ok() {
            ASKED.store(true, Ordering::Relaxed);
            if first.get_or_insert_with(Instant::now).elapsed() >= SAME {
                process::exit(130);
            }
        }
    });
    Ok(())
}

/// Fails once a signal has come.
pub fn check() -> Result<()> {
    ensure!(!ASKED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}
