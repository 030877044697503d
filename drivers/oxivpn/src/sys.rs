//! The calls of the C library that have no safe wrapper; the only file with `unsafe` code.

use core::time::Duration;

/// Time since boot, counting suspend.
pub(crate) fn boottime() -> Duration {
    clock(libc::CLOCK_BOOTTIME)
}

/// Unix time.
pub(crate) fn realtime() -> Duration {
    clock(libc::CLOCK_REALTIME)
}

/// CPU time of the calling thread since it began.
pub(crate) fn thread_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    let code = unsafe { libc::clock_gettime(id, &raw mut time) };
    assert_eq!(code, 0, "clock_gettime({id}) is available on every supported kernel");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Calendar date and time of day in the local time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalTime {
    pub(crate) year: i32,
    pub(crate) month: i32,
    pub(crate) day: i32,
    pub(crate) hour: i32,
    pub(crate) minute: i32,
    pub(crate) second: i32,
}

/// Splits a Unix time by the system's time zone.
pub(crate) fn local_time(unix_seconds: u64) -> LocalTime {
    let seconds = libc::time_t::try_from(unix_seconds).unwrap_or(libc::time_t::MAX);
    // SAFETY: `tm` is plain data, for which all zeroes is a valid value.
    let mut tm: libc::tm = unsafe { core::mem::zeroed() };
    // SAFETY: both pointers are valid for the call, and localtime_r keeps neither.
    let answer = unsafe { libc::localtime_r(&raw const seconds, &raw mut tm) };
    if answer.is_null() {
        // Only years beyond the range of an int get here.
        return LocalTime { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0 };
    }
    LocalTime {
        year: tm.tm_year + 1900,
        month: tm.tm_mon + 1,
        day: tm.tm_mday,
        hour: tm.tm_hour,
        minute: tm.tm_min,
        second: tm.tm_sec,
    }
}

/// Sets the scheduling priority of this process, -20 to 19.
pub(crate) fn set_priority(nice: i32) -> std::io::Result<()> {
    // SAFETY: takes numbers only.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Whether this process may do everything (effective user id 0).
pub(crate) fn is_root() -> bool {
    // SAFETY: takes nothing and can't fail.
    unsafe { libc::geteuid() == 0 }
}

/// Takes over a descriptor that this process inherited. Fails if it is not open, or one of the standard three.
pub(crate) fn adopt_descriptor(number: i32) -> std::io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    if number <= libc::STDERR_FILENO {
        return Err(std::io::Error::from_raw_os_error(libc::EBADF));
    }
    // A copy is owned, so that a second use of the number after a reload finds it still open.
    // SAFETY: takes numbers only.
    match unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) } {
        -1 => Err(std::io::Error::last_os_error()),
        // SAFETY: the kernel made this descriptor for us a moment ago; nobody else knows it.
        copy => Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(copy) }),
    }
}

/// Goes on in a new session in the background, without a terminal: the caller returns in a grandchild, and the process
/// that was started ends with status 0. Fails if this process has several threads, of which a child has one only.
pub(crate) fn go_to_background() -> std::io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(std::io::Error::other(format!("this process has {threads} threads already")));
    }
    fork()?;
    rustix::process::setsid()?;
    // Not the leader of the session, so that it never gets a terminal again.
    fork()
}

/// Returns in the child only. The process must have one thread.
fn fork() -> std::io::Result<()> {
    // SAFETY: there is one thread, so the child has all of them and no lock is held by one that is missing.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()),
        0 => Ok(()),
        // SAFETY: takes a number. Skips destructors, whose files and sockets the child goes on with.
        _ => unsafe { libc::_exit(0) },
    }
}

/// Sends lines to the system's log under `name`, with the process's number, from now on.
pub(crate) fn open_syslog(name: &str) {
    let name = std::ffi::CString::new(name.replace('\0', "_")).unwrap_or_default();
    // The C library keeps the pointer.
    let name: &'static std::ffi::CStr = Box::leak(name.into_boxed_c_str());
    // SAFETY: the name lives for ever.
    unsafe { libc::openlog(name.as_ptr(), libc::LOG_PID | libc::LOG_NDELAY, libc::LOG_DAEMON) };
}

/// Writes one line to the system's log.
pub(crate) fn syslog(priority: i32, text: &str) {
    if let Ok(text) = std::ffi::CString::new(text.replace('\0', "_")) {
        // SAFETY: the format takes one string, and both end with a zero.
        unsafe { libc::syslog(priority, c"%s".as_ptr(), text.as_ptr()) };
    }
}
