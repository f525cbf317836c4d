//! The report of section 12 and the policy document of POL-5.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Health, Issue, Level, PointsReport, PolicySource, Recommendation, Restrictions, Status, Timestamp};

/// How many subsystems have each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field is the count of the status of its name")]
pub struct Summary {
    pub healthy: usize,
    pub degraded: usize,
    pub critical: usize,
    pub failed: usize,
    pub unknown: usize,
}

impl Summary {
    /// Counts statuses.
    pub fn of(statuses: impl IntoIterator<Item = Status>) -> Self {
        let mut summary = Self::default();
        for status in statuses {
            match status {
                Status::Healthy => summary.healthy += 1,
                Status::Degraded => summary.degraded += 1,
                Status::Critical => summary.critical += 1,
                Status::Failed => summary.failed += 1,
                Status::Unknown => summary.unknown += 1,
            }
        }
        summary
    }
}

/// `data/self_healing_report.json` and `GET /status` (SPEC 12).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When it was made.
    pub timestamp: Timestamp,
    /// The worst status under the criticality cap.
    pub overall_status: Status,
    /// The strictest level held.
    pub current_safety_policy: Level,
    /// Every enabled subsystem's health, by name.
    pub subsystem_health: BTreeMap<String, Health>,
    /// Open issues, in detection order.
    pub detected_issues: Vec<Issue>,
    /// By priority, ties in detection order.
    pub recovery_recommendations: Vec<Recommendation>,
    /// True under `allow_all` and `safe_risk_profile` (POL-6).
    pub trading_should_continue: bool,
    /// True with any critical issue, or overall critical or worse (POL-6).
    pub requires_immediate_action: bool,
    /// Counts per status.
    pub summary: Summary,
    /// The failure points.
    #[serde(default)]
    pub failure_points: PointsReport,
}

/// One source's hold on the policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceHold {
    /// Who holds it.
    pub source: PolicySource,
    /// What it is held for: an episode, a condition, a person.
    pub subject: String,
    /// The level held.
    pub level: Level,
    /// Why, in one sentence.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself, for an operator's override.
    pub until: Option<Timestamp>,
}

/// What a bot obeys (POL-5): the same in the file, in the API and in the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyDocument {
    /// Rises with every change, also across restarts.
    pub sequence: u64,
    /// When the policy last changed.
    pub changed_at: Timestamp,
    /// When this copy was made.
    pub issued_at: Timestamp,
    /// A bot treats a later look at this copy as `no_new_trades`.
    pub valid_until: Timestamp,
    /// The strictest level held.
    pub policy: Level,
    /// The join of all restrictions held.
    pub restrictions: Restrictions,
    /// Whether `emergency_shutdown` is latched until a person releases it.
    pub latched: bool,
    /// Who holds what, strictest first; at most 64 of them.
    pub reasons: Vec<SourceHold>,
    /// How many more hold a level.
    #[serde(default)]
    pub reasons_omitted: usize,
}
