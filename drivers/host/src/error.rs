//! Why the host could not be changed.

use std::path::PathBuf;
use std::{error, fmt, io};

/// Why a change of the host failed. The text names what was to be changed, the kernel's message and the cure.
#[derive(Debug)]
#[non_exhaustive]
pub enum HostError {
    /// The rtnetlink socket could not be opened or broke.
    Netlink {
        /// What was being done.
        doing: &'static str,
        /// The error.
        source: io::Error,
    },
    /// There is no such interface.
    NoInterface {
        /// Its name, or `#index`.
        name: String,
    },
    /// The kernel refused a change.
    Refused {
        /// What was to be done, such as `add route 10.0.0.0/8 via 10.8.0.1`.
        what: String,
        /// The kernel's error.
        source: io::Error,
        /// The kernel's own explanation, if it gave one.
        explanation: Option<String>,
    },
    /// The journal could not be written or read.
    Journal {
        /// The file or directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

impl HostError {
    /// The operating system's error, if there is one behind this.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Netlink { source, .. } | Self::Refused { source, .. } | Self::Journal { source, .. } => {
                Some(source)
            }
            Self::NoInterface { .. } => None,
        }
    }

    /// Whether the process lacks the privilege (`EPERM`).
    pub fn is_permission(&self) -> bool {
        self.errno() == Some(libc::EPERM)
    }

    fn errno(&self) -> Option<i32> {
        self.io().and_then(io::Error::raw_os_error)
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netlink { doing, source } => write!(f, "rtnetlink failed to {doing}: {source}"),
            Self::NoInterface { name } => {
                write!(f, "there is no interface {name}: open the tunnel device first, or see `ip link`")
            }
            Self::Refused { what, source, explanation } => {
                write!(f, "cannot {what}: {source}")?;
                if let Some(explanation) = explanation {
                    write!(f, " ({explanation})")?;
                }
                f.write_str(match self.errno() {
                    Some(libc::EPERM) => "; it needs root or CAP_NET_ADMIN",
                    Some(libc::EACCES | libc::EOPNOTSUPP) => {
                        "; if this is IPv6, it may be switched off: see sysctl net.ipv6.conf.all.disable_ipv6"
                    }
                    Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => {
                        "; no interface reaches the gateway: check the gateway against `ip address` and `ip route`"
                    }
                    Some(libc::ENETDOWN) => "; the interface is down: see `ip link`",
                    _ => "",
                })
            }
            Self::Journal { path, source } => write!(
                f,
                "cannot use the journal {}: {source}; without it a crash would leave routes behind: make the \
                 directory writable or choose another",
                path.display()
            ),
        }
    }
}

impl error::Error for HostError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.io().map(|error| error as _)
    }
}
