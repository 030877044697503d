//! Programs that tests start. At first such a one has all descriptors of this process, those of other tests too.

use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard};

/// Held while a program runs.
static RUNNING: Mutex<()> = Mutex::new(());

/// While this is held no program runs, and what is closed is closed for good.
pub(crate) fn none_runs() -> MutexGuard<'static, ()> {
    RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Closes devices for good.
pub(crate) fn close<T>(devices: T) {
    let _held = none_runs();
    drop(devices);
}

/// Runs a program. Only its end tells for certain that it has let go of what it was started with.
pub(crate) fn run(command: &mut Command) -> Output {
    let _held = none_runs();
    command.output().unwrap()
}

/// What `ip` says.
pub(crate) fn ip(arguments: &str) -> String {
    let output = run(Command::new("ip").args(arguments.split_whitespace()));
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
