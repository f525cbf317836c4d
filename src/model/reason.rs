//! Why something did or did not happen: fixed sets, usable as metric labels.

use serde::{Deserialize, Serialize};

/// Why a recommendation runs, waits or does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It may run.
    Admitted,
    /// chiron acts on nothing; it runs as a rehearsal.
    DryRun,
    /// No means is bound to this action on this target.
    Unbound,
    /// Only a person does this.
    Manual,
    /// A person has to approve it first.
    ApprovalPending,
    /// Another run is under way on the same target.
    Busy,
    /// The same target was touched too recently.
    Cooldown,
    /// The target's or the overall budget is spent.
    Budget,
    /// Too many runs are under way at once.
    Concurrency,
    /// A broken subsystem that this one depends on is healed first.
    Dependency,
    /// Not every check has been seen since the start.
    Startup,
    /// The journal cannot be written, so nothing may be begun.
    JournalUnavailable,
    /// chiron is stopping; the next start decides anew.
    Stopping,
    /// Every rung has been tried; a person has been told.
    Exhausted,
    /// The need for it has passed.
    Resolved,
    /// It was decided too long ago.
    Expired,
    /// A crash came between decision and start.
    Restart,
    /// Its start or end is not known.
    Indeterminate,
    /// The alert asks to be confirmed by the check, which does not agree.
    Unconfirmed,
    /// The rung is under way.
    Running,
    /// A maintenance window lets only its own actions run.
    Maintenance,
    /// Too much is broken at once: only root causes are acted upon.
    Storm,
    /// Another member of its group is being acted upon.
    GroupBusy,
    /// Too few other members of its group are healthy.
    GroupUnhealthy,
    /// It raises risk, and the policy in force forbids that.
    Policy,
    /// It raises risk, and health has not been verified.
    Unhealthy,
    /// It raises risk, and the Watchdog is not heard.
    Watchdog,
    /// Another recommendation took its place before it was begun.
    Superseded,
}

impl Reason {
    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::DryRun => "dry_run",
            Self::Unbound => "unbound",
            Self::Manual => "manual",
            Self::ApprovalPending => "approval_pending",
            Self::Busy => "busy",
            Self::Cooldown => "cooldown",
            Self::Budget => "budget",
            Self::Concurrency => "concurrency",
            Self::Dependency => "dependency",
            Self::Startup => "startup",
            Self::JournalUnavailable => "journal_unavailable",
            Self::Stopping => "stopping",
            Self::Exhausted => "exhausted",
            Self::Resolved => "resolved",
            Self::Expired => "expired",
            Self::Restart => "restart",
            Self::Indeterminate => "indeterminate",
            Self::Unconfirmed => "unconfirmed",
            Self::Running => "running",
            Self::Maintenance => "maintenance",
            Self::Storm => "storm",
            Self::GroupBusy => "group_busy",
            Self::GroupUnhealthy => "group_unhealthy",
            Self::Policy => "policy",
            Self::Unhealthy => "unhealthy",
            Self::Watchdog => "watchdog",
            Self::Superseded => "superseded",
        }
    }
}

/// How a run ended, for people and for `chiron_actions_total` (ACT-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The subsystem was seen healthy in time.
    Verified,
    /// It was not.
    Unverified,
    /// The means failed, or things got worse.
    Failed,
    /// Not known.
    Indeterminate,
    /// It was not begun.
    Cancelled,
    /// There was no means.
    Unbound,
    /// A rehearsal.
    DryRun,
    /// A person said no.
    Rejected,
    /// The issue ended, or another recommendation took its place, before it was begun.
    NotNeeded,
}

impl Outcome {
    /// Every outcome, in the order metrics list them.
    pub const ALL: [Self; 9] = [
        Self::Verified,
        Self::Unverified,
        Self::Failed,
        Self::Indeterminate,
        Self::Cancelled,
        Self::Unbound,
        Self::DryRun,
        Self::Rejected,
        Self::NotNeeded,
    ];

    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
            Self::Indeterminate => "indeterminate",
            Self::Cancelled => "cancelled",
            Self::Unbound => "unbound",
            Self::DryRun => "dry_run",
            Self::Rejected => "rejected",
            Self::NotNeeded => "not_needed",
        }
    }
}
