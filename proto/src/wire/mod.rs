//! Wire formats: pure, without state or time.

pub mod ids;
