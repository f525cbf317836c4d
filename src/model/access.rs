//! Who asks, and what they may ask for (SEC-1).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a credential is good for; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything, changes nothing.
    Read,
    /// Pushes vitals and heartbeats, forces checks, tightens the policy.
    Operate,
    /// Approves and rejects, releases and loosens the policy.
    Approve,
    /// Everything else: reload, restart, drills.
    Admin,
}

impl Role {
    /// Every role, weakest first.
    pub const ALL: [Self; 4] = [Self::Read, Self::Operate, Self::Approve, Self::Admin];

    /// The word used in the settings and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Approve => "approve",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who asks for something, for decisions and for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Shown to people: `alice (basic)`, `token ci`, `127.0.0.1 (loopback)`.
    pub name: String,
    /// What they may do.
    pub role: Role,
}
