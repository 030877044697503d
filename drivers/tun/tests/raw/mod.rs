//! What another program would do with a TUN interface.

pub(crate) mod sys;
