pub mod clock;
pub mod entropy;
pub mod log;
pub mod retry;
mod sys;
