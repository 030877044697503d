use super::{Plan, Surroundings, VpnOptions};

/// What [`build`] made of the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The plan.
    pub plan: Plan,
    /// What was left out and why, one line each, for the log.
    pub warnings: Vec<String>,
}

/// Derives the plan from the options, as OpenVPN does.
pub fn build(options: &VpnOptions, around: &Surroundings) -> Built {
    let _ = (options, around);
    todo!()
}
