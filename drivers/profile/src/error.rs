//! The one error of this crate.

use core::fmt;

use crate::warn::{Origin, Warning};

/// Why a profile can't be used: what, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError {
    /// Where the offending line is; `None` if something is missing as a whole.
    pub origin: Option<Origin>,
    /// What is wrong, in OpenVPN's words where it has some.
    pub message: String,
    /// What to do.
    pub cure: Option<String>,
    /// Warnings about lines read before.
    pub warnings: Vec<Warning>,
}

impl ProfileError {
    /// About one line; file and line are put in front of the text.
    pub(crate) fn at(origin: &Origin, text: String) -> Self {
        let message = format!("In {origin}: {text}");
        Self { origin: Some(origin.clone()), message, cure: None, warnings: Vec::new() }
    }

    /// About the profile as a whole.
    pub(crate) fn whole(message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { origin: None, message: message.into(), cure: Some(cure.into()), warnings: Vec::new() }
    }

    pub(crate) fn cure(self, cure: impl Into<String>) -> Self {
        Self { cure: Some(cure.into()), ..self }
    }
}

impl fmt::Display for ProfileError {
    /// `Options error: MESSAGE. CURE.` with file and line inside of the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options error: {}", self.message)?;
        if let Some(cure) = &self.cure {
            write!(f, ". {cure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ProfileError {}
