//! Names that the core gives out.

/// Name of a session at its [`Node`](crate::Node). Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionHandle(pub(crate) u64);

impl SessionHandle {
    /// The number of the session, counted from 0, for logs.
    pub const fn get(self) -> u64 {
        self.0
    }
}
