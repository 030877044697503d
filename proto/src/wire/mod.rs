//! Wire formats: pure, without state or time.

pub mod ack;
pub mod control;
pub mod data;
pub mod ids;
pub mod opcode;
pub mod reader;
pub mod stream;
