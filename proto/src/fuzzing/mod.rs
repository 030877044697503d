//! Bodies of the fuzz targets, compiled with every test so that they stay alive. Each takes arbitrary bytes
//! and panics only on a defect of this crate.

pub mod control_messages;
pub mod control_packet;
pub mod data_packet;
pub mod doorman;
pub mod key_files;
pub(crate) mod ledger;
pub mod method2;
pub(crate) mod mole;
pub(crate) mod net;
pub mod push_reply;
pub mod replay_vs_model;
pub(crate) mod script;
pub mod seal_open;
pub(crate) mod server;
pub mod session_client;
pub mod session_server;
pub mod stream_frames;
pub(crate) mod world;
pub mod wrap_open;

#[cfg(test)]
mod data_tests;
#[cfg(test)]
mod tests;
