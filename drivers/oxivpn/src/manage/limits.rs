//! Bounds, so that no client of the interface can make the program grow.

/// Unread output at which commands wait: a client that asks more than it reads is not served further.
pub(super) const OUTPUT_PAUSE: usize = 64 * 1024;

/// Unread notices at which a client is cut off, beyond what the last answer needed. Ten thousand log lines or some
/// hundred logins.
pub(super) const OUTPUT_LIMIT: usize = 1024 * 1024;

/// Bytes of one block of lines up to END. A file of `client-config-dir` is a tenth of that.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// Lines of one block.
pub(super) const BLOCK_LINES: usize = 1024;

/// Wrong passwords before the connection is closed (`openvpn: manage.h`).
pub(super) const PASSWORD_TRIES: u32 = 3;

/// Messages of `echo` that are kept (`openvpn: manage.h`).
pub(super) const ECHO_HISTORY: usize = 100;

/// States that are kept (`openvpn: manage.h`).
pub(super) const STATE_HISTORY: usize = 100;

/// Log lines that can be kept; more is a mistake in the profile.
pub(super) const LOG_HISTORY: usize = 100_000;

/// Lines of `test`.
pub(super) const TEST_LINES: i64 = 10_000;
