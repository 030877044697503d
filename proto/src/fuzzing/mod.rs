//! Bodies of the fuzz targets, compiled with every test so that they stay alive. Each takes arbitrary bytes
//! and panics only on a defect of this crate.

pub mod control_packet;
pub mod push_reply;
pub mod stream_frames;
pub mod wrap_open;

#[cfg(test)]
mod tests;
