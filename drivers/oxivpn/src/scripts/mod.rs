//! Scripts with OpenVPN's arguments and environment, run beside the loop.
//!
//! | module | what it does |
//! |---|---|
//! | [`runner`] | starts programs, waits for them, ends those that take too long; the loop never waits |
//! | [`environment`] | a set of variables, cleaned as OpenVPN cleans them |

pub mod environment;
pub mod runner;
mod supervisor;

pub use environment::Environment;
pub use runner::{Finished, Job, JobId, Refusal, Scripts};
