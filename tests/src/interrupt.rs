//! Ctrl-C and TERM for programs that make namespaces: they end by returning, so that everything is removed on drop.

use std::{
    process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, Signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on, INT, TERM and HUP only make [`check`] fail; a second one ends the program at once.
///
/// To be called before any other thread is started. Children inherit that these signals are blocked, so that Ctrl-C
/// leaves it to this program to end them.
pub fn watch() -> Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("cannot block signals")?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            if ASKED.swap(true, Ordering::Relaxed) {
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
