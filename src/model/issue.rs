//! What is wrong.

use serde::{Deserialize, Serialize};

use super::{EpisodeId, EpisodeKey, Name, Timestamp};

/// The type of the issue that the bot does not follow the policy (POL-5).
pub const POLICY_NOT_FOLLOWED: &str = "policy_not_followed";

/// How bad an issue is (DET-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Low,
    /// Worth acting on in working hours.
    Medium,
    /// Exposure should be reduced.
    High,
    /// Does not work.
    Critical,
}

impl Severity {
    /// Every severity, mildest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The word used as a label and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// Priority of the recommendation for it: critical 1, high and medium 2, low 3 (REC-2).
    pub const fn priority(self) -> u8 {
        match self {
            Self::Critical => 1,
            Self::High | Self::Medium => 2,
            Self::Low => 3,
        }
    }
}

/// Where an issue was seen (DET-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueSource {
    /// A check or the host's resources.
    Check,
    /// What a live bot tells about itself.
    Vitals,
    /// An alert from Alertmanager.
    Alert,
    /// Workspace healing.
    Workspace,
    /// Market data.
    Data,
    /// An endpoint behind the gateway.
    Endpoint,
    /// One of the places where platforms of this kind usually break.
    FailurePoint,
    /// A rehearsal that a person asked for.
    Drill,
    /// chiron's own recovery: what it did is to be undone, or too much is broken at once.
    Recovery,
    /// The bot does not follow the policy.
    Policy,
}

/// Something wrong, as detected now; the episode is its life over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issue {
    /// `ai_model_20251123_013456`; the id of its episode. Empty until the episode is opened.
    pub issue_id: EpisodeId,
    /// What it is about.
    #[serde(flatten)]
    pub key: EpisodeKey,
    /// How bad it is.
    pub severity: Severity,
    /// When it was detected.
    pub timestamp: Timestamp,
    /// One line in fixed wording, e.g. `ai_model is critical`.
    pub description: String,
    /// What was observed, one sentence each.
    pub symptoms: Vec<String>,
    /// The broken subsystem this one depends on, if any.
    pub root_cause: Option<Name>,
    /// Whether trading suffers: critical or high, of a subsystem whose criticality is full, or the host.
    pub impacts_trading: bool,
    /// Every subsystem that depends on the broken one, directly or through others.
    pub affects_subsystems: Vec<Name>,
    /// Who saw it.
    pub source: IssueSource,
}
