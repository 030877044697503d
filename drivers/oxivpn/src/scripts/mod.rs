//! Scripts with OpenVPN's arguments and environment, run beside the loop.
//!
//! | module | what it does |
//! |---|---|
//! | [`runner`] | starts programs, waits for them, ends those that take too long; the loop never waits |
//! | [`environment`] | a set of variables, cleaned as OpenVPN cleans them |
//! | [`variables`] | the variables that OpenVPN sets, by what they tell of |

pub mod environment;
pub mod runner;
mod supervisor;
pub mod variables;

pub use environment::Environment;
pub use runner::{Finished, Job, JobId, Refusal, Scripts};
