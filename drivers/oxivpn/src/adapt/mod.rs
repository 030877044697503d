//! Loops that drive a [`Client`](crate::client::Client): one file for each kind of event loop.

pub mod mio;
