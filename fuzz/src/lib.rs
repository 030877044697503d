//! Fuzz targets for cargo-fuzz, and what feeds the same bodies without it.
//!
//! ```text
//! cargo +nightly fuzz run push_reply -- -dict=fuzz/dictionary/options.dict      libFuzzer, as long as you like
//! cargo run -p oxivpn-fuzz --example smoke -- --seconds 10                      any compiler, all targets
//! cargo test -p oxivpn-fuzz                                                     the committed corpus once
//! ```
//!
//! The bodies live in `oxivpn_proto::fuzzing`, `oxivpn_profile::fuzzing` and `oxivpn::manage::fuzzing`. They exist under `cfg(test)`,
//! `cfg(fuzzing)` (cargo-fuzz sets it) and the feature `fuzzing` of these crates, which an ordinary build of the
//! workspace leaves off.

/// Makes a program of a body: a libFuzzer target under cargo-fuzz, a hint how to run it elsewhere.
#[macro_export]
macro_rules! target {
    ($body:path) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|data: &[u8]| $body(data));
        #[cfg(not(fuzzing))]
        fn main() {
            eprintln!("a fuzz target: run it with `cargo +nightly fuzz run`");
        }
    };
}

#[cfg(fuzzing)]
#[doc(hidden)]
pub use libfuzzer_sys;

#[cfg(any(fuzzing, feature = "bodies"))]
mod targets;

#[cfg(any(fuzzing, feature = "bodies"))]
pub use targets::{TARGETS, Target, corpus};
