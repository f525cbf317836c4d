//! The named parts of the platform.

use serde::{Deserialize, Serialize};

use super::{Name, Status};

/// The subsystem that resource issues belong to (OBS-4).
pub const HOST: &str = "host";

/// The subsystem that issues about the platform as a whole belong to: a storm, a bot that does not follow the policy.
pub const PLATFORM: &str = "platform";

/// How much trading depends on a subsystem (OBS-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criticality {
    /// May raise the overall status to failed, and moves the policy.
    Full,
    /// May raise it to critical.
    Partial,
    /// May raise it to degraded; never moves the policy.
    None,
}

impl Criticality {
    /// The word used in configuration and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        }
    }

    /// The worst overall status that a subsystem of this criticality may cause.
    pub const fn cap(self) -> Status {
        match self {
            Self::Full => Status::Failed,
            Self::Partial => Status::Critical,
            Self::None => Status::Degraded,
        }
    }
}

/// A part of the platform as configured; its check lives with the observer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subsystem {
    /// Unique, snake_case.
    pub name: Name,
    /// How much trading depends on it.
    pub criticality: Criticality,
    /// What it needs to work, by name.
    pub depends_on: Vec<Name>,
}
