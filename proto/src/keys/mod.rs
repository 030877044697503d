//! Derivation of keys from TLS.

pub mod data_key;
