//! Scripts with OpenVPN's arguments and environment, run beside the loop.
//!
//! | module | what it does |
//! |---|---|
//! | [`runner`] | starts programs, waits for them, ends those that take too long; the loop never waits |
//! | [`environment`] | a set of variables, cleaned as OpenVPN cleans them |
//! | [`kinds`] | what each kind of script is called with |
//! | [`answers`] | scripts that answer by files too: logins and new clients |
//! | [`around`] | those of the device: `up`, `down` and their like |
//! | [`verify`] | `tls-verify` of clients |
//! | [`variables`] | the variables that OpenVPN sets, by what they tell of |

pub mod answers;
pub mod around;
pub mod environment;
mod files;
pub mod kinds;
pub mod runner;
mod supervisor;
pub mod variables;
pub mod verify;

pub use environment::Environment;
pub use runner::{Finished, Job, JobId, Refusal, Scripts};
