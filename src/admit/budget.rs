//! How many runs a target, and the whole platform, may see within a sliding window.

use std::time::Duration;

use crate::model::Timestamp;

use super::{Ledger, Settings};

/// When both budgets allow a run again, if they do not now.
pub(super) fn until(ledger: &Ledger<'_>, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
    let target = spent(ledger.target_starts, settings.target_budget, settings.target_window, now);
    let overall = spent(ledger.overall_starts, settings.overall_budget, settings.overall_window, now);
    target.max(overall)
}

/// When the oldest start that counts leaves the window. Starts in the future (the clock went back) count as now.
fn spent(starts: &[Timestamp], budget: u32, window: Duration, now: Timestamp) -> Option<Timestamp> {
    let mut within = starts.iter().rev().map(|start| (*start).min(now)).filter(|start| now.since(*start) < window);
    if budget == 0 {
        return Some(now.plus(window));
    }
    within.nth(budget as usize - 1).map(|oldest| oldest.plus(window))
}
