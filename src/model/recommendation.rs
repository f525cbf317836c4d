//! The action proposed for an issue.

use serde::{Deserialize, Serialize};

use super::{EpisodeId, Name, Reason, Timestamp};

/// Where a recommendation stands; the label `state` of `chiron_recommendations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecommendationState {
    /// Waits for a condition, or for a person to do it.
    Waiting,
    /// Waits for a person's approval.
    Approval,
    /// Under way.
    Running,
}

impl RecommendationState {
    /// Every state, in the order metrics list them.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Approval, Self::Running];

    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approval => "approval",
            Self::Running => "running",
        }
    }
}

/// What a person is shown when an approval is asked for; approving binds to exactly this, once, in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// SHA-256 over run, action, target, means, policy in force and configuration generation; given back to approve.
    pub digest: String,
    /// The means: `exec /usr/local/bin/restart-router`, or what chiron itself would do.
    pub means: String,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// Not taken after this; the offer is then made anew, with another digest.
    pub expires_at: Timestamp,
}

/// One proposed action for one issue (REC-2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// `rec_N_` and the issue's id, N the rung.
    pub recommendation_id: String,
    /// The issue it is for.
    pub issue_id: EpisodeId,
    /// The target.
    pub subsystem: Name,
    /// The verb.
    pub action: Name,
    /// 1 (critical) to 3 (low).
    pub priority: u8,
    /// One sentence.
    pub description: String,
    /// What is true once it worked.
    pub expected_result: String,
    /// What it may cost.
    pub risks: Vec<String>,
    /// It may run by itself.
    pub can_auto_execute: bool,
    /// A person has to approve it.
    pub requires_approval: bool,
    /// Where it stands.
    pub state: RecommendationState,
    /// Why it stands there.
    pub reason: Reason,
    /// When the wait ends, if that is known.
    pub not_before: Option<Timestamp>,
    /// What there is to approve, while `state` is `approval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Offer>,
}
