//! The rows of POL-1: which levels health and issues call for.

use crate::model::{Level, Status};

/// The subject of the row "overall degraded or worse".
pub const DEGRADED: &str = "overall_degraded";
/// The subject of the row "overall critical without a critical issue".
pub const CRITICAL: &str = "overall_critical";
/// The subject of the row "overall failed".
pub const FAILED: &str = "overall_failed";

/// The rows about the overall status that are true, each with the level it holds. `overall` leaves out subsystems of
/// criticality `none`, which never move the policy.
pub fn of_overall(overall: Status, critical_issue_open: bool) -> Vec<(&'static str, Level)> {
    let Some(rank) = overall.rank() else { return Vec::new() };
    let mut rows = Vec::new();
    if rank >= 1 {
        rows.push((DEGRADED, Level::NoNewTrades));
    }
    if rank >= 2 && !critical_issue_open {
        rows.push((CRITICAL, Level::SafeRiskProfile));
    }
    if rank >= 3 {
        rows.push((FAILED, Level::EmergencyShutdown));
    }
    rows
}

/// The row about critical issues.
pub const fn of_critical_issue(impacts_trading: bool) -> Level {
    if impacts_trading { Level::DefensiveExit } else { Level::NoNewTrades }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Restrictions;

    fn join(rows: &[(&str, Level)]) -> Restrictions {
        rows.iter().fold(Restrictions::NONE, |joined, (_, level)| joined.join(level.restrictions()))
    }

    /// POL-1: the table.
    #[test]
    fn rows() {
        assert_eq!(of_overall(Status::Healthy, false), []);
        assert_eq!(of_overall(Status::Unknown, false), [], "blindness answers for unknown");
        assert_eq!(of_overall(Status::Degraded, false), [(DEGRADED, Level::NoNewTrades)]);
        assert_eq!(
            of_overall(Status::Critical, false),
            [(DEGRADED, Level::NoNewTrades), (CRITICAL, Level::SafeRiskProfile)]
        );
        assert_eq!(of_overall(Status::Critical, true), [(DEGRADED, Level::NoNewTrades)]);
        assert_eq!(of_overall(Status::Failed, true).last(), Some(&(FAILED, Level::EmergencyShutdown)));
        assert_eq!(of_critical_issue(true), Level::DefensiveExit);
        assert_eq!(of_critical_issue(false), Level::NoNewTrades);
    }

    /// POL-1: a worse state never yields a laxer policy (evaluation is monotone).
    #[test]
    fn monotone() {
        let order = [Status::Healthy, Status::Degraded, Status::Critical, Status::Failed];
        for pair in order.windows(2) {
            let (better, worse) = (join(&of_overall(pair[0], false)), join(&of_overall(pair[1], false)));
            assert_eq!(better.join(worse), worse, "{:?} to {:?}", pair[0], pair[1]);
        }
    }
}
