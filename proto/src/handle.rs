//! Names that the core gives out.

/// Name of a session at its [`Node`](crate::Node). Never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionHandle(pub(crate) u64);
