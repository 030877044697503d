//! Known-answer vectors, bit-exact. One module for each topic.

mod data;
mod epoch;
