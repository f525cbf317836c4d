//! Between stages 3 and 4: may it run now?

use std::time::Duration;

/// Limits of admission (ACT-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Act on nothing. True unless `mode` is given, and with `--dry-run`.
    pub dry_run: bool,
    /// Pause before the same target is touched again, from the end of the last action; default 60 s.
    pub cooldown: Duration,
    /// Runs per target within `target_window`; default 3.
    pub target_budget: u32,
    /// Default 15 min.
    pub target_window: Duration,
    /// Runs overall within `overall_window`; default 10.
    pub overall_budget: u32,
    /// Default 10 min.
    pub overall_window: Duration,
    /// Runs under way at once; default 4.
    pub concurrency: usize,
    /// A restorative run is cancelled if not begun this long after its decision; default 5 min.
    pub not_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dry_run: true,
            cooldown: Duration::from_secs(60),
            target_budget: 3,
            target_window: Duration::from_secs(900),
            overall_budget: 10,
            overall_window: Duration::from_secs(600),
            concurrency: 4,
            not_after: Duration::from_secs(300),
        }
    }
}
