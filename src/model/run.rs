//! The life of one run of an action.

use serde::{Deserialize, Serialize};

/// Starts remembered per target and overall; where there are so many, earlier ones may have been forgotten.
pub const STARTS_REMEMBERED: usize = 1_000;

/// What may be done with a run that a crash has interrupted (`docs/reliability.md`, invariants 6 and 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Doing it twice is the same as once: it is done again.
    Natural,
    /// The target ignores a key it has seen: it is done again under the same key.
    Keyed,
    /// Whether it happened can be asked: it is asked, then decided.
    Probeable,
    /// It is never done again; a person decides. The default.
    OneShot,
}

/// Where a run stands. The legal moves are in `journal::transitions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Decided and durable, not begun.
    Intended,
    /// Begun: the effect may have happened.
    Started,
    /// The means has answered.
    Finished,
    /// Verification has answered, or there is nothing left to verify.
    Verified,
    /// Will not be begun.
    Cancelled,
    /// Whether the effect happened cannot be known; a person decides.
    Indeterminate,
}

impl RunState {
    /// The word used in the store and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Started => "started",
            Self::Finished => "finished",
            Self::Verified => "verified",
            Self::Cancelled => "cancelled",
            Self::Indeterminate => "indeterminate",
        }
    }

    /// No further move is legal.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Verified | Self::Cancelled | Self::Indeterminate)
    }
}

/// How the means answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// As it should.
    Ok,
    /// It said no: an exit code, an I/O error.
    Failed,
    /// It took too long and was ended.
    Timeout,
    /// It provably never began (no such file, not executable).
    NotStarted,
    /// Nothing was done, because chiron is in dry-run.
    DryRun,
}

impl Ending {
    /// Every ending, in the order metrics list them.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Failed, Self::Timeout, Self::NotStarted, Self::DryRun];

    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::NotStarted => "not_started",
            Self::DryRun => "dry_run",
        }
    }
}
