//! `comp-lzo` and `compress`, in profiles and pushed.

use super::values::OptionError;
use crate::config::params::Framing;

/// What such a line asks for (`openvpn: options.c`, `add_option`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Framing alone.
    Stub(Framing),
    /// An algorithm; what is not compressed has this framing.
    Algorithm(Framing),
    /// `compress migrate`: of a server, to get its clients off compression.
    Migrate,
}

impl Compression {
    /// Reads a line, given as its words.
    ///
    /// # Errors
    /// The value is unknown, there are too many, or it is another option.
    pub fn parse(words: &[&str]) -> Result<Self, OptionError> {
        let bad = |text: String| Err(OptionError::Value(text));
        match *words {
            ["comp-lzo", "no"] => Ok(Self::Stub(Framing::Stub)),
            ["comp-lzo"] | ["comp-lzo", "yes" | "adaptive"] => Ok(Self::Algorithm(Framing::Stub)),
            ["comp-lzo", other] => {
                bad(format!("bad comp-lzo option: {other} -- must be 'yes', 'no', or 'adaptive'"))
            }
            ["compress"] | ["compress", "stub"] => Ok(Self::Stub(Framing::Swap)),
            ["compress", "stub-v2"] => Ok(Self::Stub(Framing::StubV2)),
            ["compress", "migrate"] => Ok(Self::Migrate),
            ["compress", "lzo"] => Ok(Self::Algorithm(Framing::Stub)),
            ["compress", "lz4"] => Ok(Self::Algorithm(Framing::Swap)),
            ["compress", "lz4-v2"] => Ok(Self::Algorithm(Framing::StubV2)),
            ["compress", other] => bad(format!("bad comp option: {other}")),
            ["comp-lzo" | "compress", ..] => Err(OptionError::Parameters),
            _ => Err(OptionError::Unknown),
        }
    }

    /// The framing that it means.
    pub const fn framing(self) -> Framing {
        match self {
            Self::Stub(framing) | Self::Algorithm(framing) => framing,
            Self::Migrate => Framing::None,
        }
    }
}
