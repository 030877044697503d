//! From TLS to data keys: the key-method-2 message and both ways to derive a key block. Also tokens, which take the
//! place of passwords in that message.

pub mod data_key;
pub mod ekm;
pub mod method2;
pub mod prf;
pub mod token;
