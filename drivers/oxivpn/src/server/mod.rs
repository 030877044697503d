//! A server: many clients, one thread for their packets and one for everything else.

pub mod worker;
