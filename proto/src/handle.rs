//! Names that the core gives out.

/// Name of a session at its [`Node`](crate::Node). Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionHandle(pub(crate) u64);

impl SessionHandle {
    /// The name that a node gives its session with this number. Where there is none, calls with it have no effect; for
    /// tests of tables that are kept by session.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number of the session, counted from 0, for logs.
    pub const fn get(self) -> u64 {
        self.0
    }
}
