//! What is ignored, with file, line and cure.

use core::fmt;
use std::sync::Arc;

/// Where an option was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Name of the file as given, or `[CMD-LINE]`.
    pub file: Arc<str>,
    /// Line from 1; for the command line the number of the option.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Something to tell the user that does not stop the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where; `None` if it is about the profile as a whole.
    pub origin: Option<Origin>,
    /// What, and what to do.
    pub text: String,
}

impl fmt::Display for Warning {
    /// `WARNING: TEXT (in FILE:LINE)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "WARNING: {} (in {origin})", self.text),
            None => write!(f, "WARNING: {}", self.text),
        }
    }
}
