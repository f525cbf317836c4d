//! What is wrong in a workspace: the rules WSP-1, WSP-2, WSP-3 and WSP-7 over a scan.
//!
//! **Invariant:** pure; dangerous findings (WSP-3) never come with a remedy.

use super::layout::Layout;
use super::plan::Remedy;
use super::scan::Scan;
use crate::model::{Mode, Timestamp, WorkspaceFinding};

/// One finding and what would put it right, if anything may.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What was found; its state is `standing` until it is planned or done.
    pub finding: WorkspaceFinding,
    /// What would put it right; `None` for what only a person may touch.
    pub remedy: Option<Remedy>,
}

/// Everything that is wrong. `quiet` is how long a file must have rested to be touched.
pub fn findings(
    _layout: &Layout,
    _scan: &Scan,
    _mode: Option<Mode>,
    _quiet: std::time::Duration,
    _now: Timestamp,
) -> Vec<Found> {
    Vec::new()
}
