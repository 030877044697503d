//! OpenVPN's option text, shared by PUSH_REPLY and profile files.

pub mod compression;
pub mod lexer;
pub mod push_reply;
pub mod pushed;
pub mod values;
