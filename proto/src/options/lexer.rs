//! Words of one option line.
