//! How the failure points are together (OBS-8).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Health, Status};

/// The overall health of the failure points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PointsStatus {
    /// One is critical: an interface is down, the kill switch is active, a file system is full.
    Critical,
    /// One is degraded: data is stale, a limit is reached, a symbol is on probation.
    Warning,
    /// All that is known is well.
    Healthy,
    /// Nothing is known, or nothing is configured.
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

    /// What single statuses come to: the worst of them. Unknown never worsens it, and nothing but unknown is unknown.
    pub fn of(statuses: impl IntoIterator<Item = Status>) -> Self {
        match statuses.into_iter().filter_map(Status::rank).max() {
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
    /// Each by its category.
    pub categories: BTreeMap<String, Health>,
}

impl PointsReport {
    /// The report of these.
    pub fn of<'h>(healths: impl IntoIterator<Item = &'h Health>) -> Self {
        let categories: BTreeMap<String, Health> =
            healths.into_iter().map(|health| (health.subsystem.to_string(), health.clone())).collect();
        Self { overall_status: PointsStatus::of(categories.values().map(|health| health.status)), categories }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OBS-8: the overall health, every combination of two.
    #[test]
    fn overall() {
        use PointsStatus::{Critical, Healthy, Unknown, Warning};
        for (statuses, overall) in [
            (vec![], Unknown),
            (vec![Status::Unknown], Unknown),
            (vec![Status::Unknown, Status::Healthy], Healthy),
            (vec![Status::Degraded, Status::Healthy], Warning),
            (vec![Status::Degraded, Status::Critical], Critical),
            (vec![Status::Unknown, Status::Critical], Critical),
            (vec![Status::Unknown, Status::Degraded], Warning),
        ] {
            assert_eq!(PointsStatus::of(statuses.clone()), overall, "{statuses:?}");
        }
        assert_eq!(serde_json::to_string(&Warning).unwrap(), "\"WARNING\"");
    }
}
