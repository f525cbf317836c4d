//! How the failure points are together (OBS-8).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FailurePoint, Health, Name, Timestamp};

/// The overall health of the failure points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PointsStatus {
    /// One is critical: an interface is down, the kill switch is active, a file system is full.
    Critical,
    /// One is degraded: data is stale, a limit is reached, a symbol is on probation. Or one was looked at in vain.
    Warning,
    /// All that is known is well.
    Healthy,
    /// Nothing was looked at yet, or nothing is configured.
    #[default]
    Unknown,
}

impl PointsStatus {
    /// Every one, in the order metrics list them.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Warning, Self::Critical, Self::Unknown];

    /// The word in metrics; reports and files write it in capitals.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Healthy => "healthy",
            Self::Unknown => "unknown",
        }
    }

    /// What single ones come to: the worst of them. What was looked at and is unknown is no better than degraded: nobody knows
    /// that it is well. What was never looked at counts for nothing.
    pub fn of<'h>(healths: impl IntoIterator<Item = &'h Health>) -> Self {
        let in_vain = |health: &Health| (health.timestamp > Timestamp::EPOCH).then_some(1);
        match healths.into_iter().filter_map(|health| health.status.rank().or_else(|| in_vain(health))).max() {
            None => Self::Unknown,
            Some(0) => Self::Healthy,
            Some(1) => Self::Warning,
            Some(_) => Self::Critical,
        }
    }
}

/// The failure points in the report: every category, also those that are not configured, which are unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PointsReport {
    /// All of them together.
    pub overall_status: PointsStatus,
    /// Those that are configured, in the order of the settings; the others are unknown.
    #[serde(default)]
    pub configured: Vec<Name>,
    /// Each by its category.
    pub categories: BTreeMap<String, Health>,
}

impl PointsReport {
    /// The report of these.
    pub fn of<'h>(healths: impl IntoIterator<Item = &'h Health>, configured: &[FailurePoint]) -> Self {
        let categories: BTreeMap<String, Health> =
            healths.into_iter().map(|health| (health.subsystem.to_string(), health.clone())).collect();
        let configured = configured.iter().map(|point| point.category.clone()).collect();
        Self { overall_status: PointsStatus::of(categories.values()), configured, categories }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Status;

    /// OBS-8: the overall health, every combination of two; what was looked at in vain is not well.
    #[test]
    fn overall() {
        use PointsStatus::{Critical, Healthy, Unknown, Warning};
        let of = |status, at| Health { status, timestamp: Timestamp::from_millis(at), ..Health::unknown("a".into()) };
        let never = || of(Status::Unknown, 0);
        for (healths, overall) in [
            (vec![], Unknown),
            (vec![never()], Unknown),
            (vec![of(Status::Unknown, 1)], Warning),
            (vec![never(), of(Status::Healthy, 1)], Healthy),
            (vec![of(Status::Unknown, 1), of(Status::Healthy, 1)], Warning),
            (vec![of(Status::Degraded, 1), of(Status::Healthy, 1)], Warning),
            (vec![of(Status::Degraded, 1), of(Status::Critical, 1)], Critical),
            (vec![of(Status::Unknown, 1), of(Status::Critical, 1)], Critical),
            (vec![never(), of(Status::Degraded, 1)], Warning),
        ] {
            assert_eq!(PointsStatus::of(&healths), overall, "{healths:?}");
        }
        assert_eq!(serde_json::to_string(&Warning).unwrap(), "\"WARNING\"");
    }
}
