//! Known answers, to the bit: what other implementations put on the wire for the same keys.
//!
//! One module for each topic. The answers were computed with an independent implementation, and most of the
//! packets were accepted by a real OpenVPN 2.6.14 peer.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod data;
mod epoch;
mod keys;
mod wrap;
