//! Secrets of TLS sessions for captures.

use core::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oxivpn_proto::tls::rustls::KeyLog as Sink;

/// Lines in the NSS key log format, as Wireshark takes them: `LABEL client-random secret`, in hex.
///
/// Clones share the lines.
#[derive(Clone, Default)]
pub struct KeyLog(Arc<Mutex<String>>);

impl KeyLog {
    /// The lines since the last call, each with its line feed.
    pub fn take(&self) -> String {
        core::mem::take(&mut *self.lines())
    }

    /// Where a factory writes to.
    pub(super) fn sink(&self) -> Sink {
        let log = self.clone();
        Arc::new(move |label, client_random, secret| {
            let mut lines = log.lines();
            lines.push_str(label);
            for bytes in [client_random, secret] {
                lines.push(' ');
                // Writing to a String cannot fail.
                bytes.iter().for_each(|byte| _ = write!(lines, "{byte:02x}"));
            }
            lines.push('\n');
        })
    }

    fn lines(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLog([redacted])")
    }
}
