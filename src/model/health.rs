//! The outcome of a check.

use serde::{Deserialize, Serialize};

use super::{Name, Signals, Timestamp};

/// The one-word grade of a health (OBS-1). Ordered from best to worst, `Unknown` aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All is well.
    Healthy,
    /// Works, but worse than it should.
    Degraded,
    /// Does not work.
    Critical,
    /// Does not work and recovery has had its chance.
    Failed,
    /// No data.
    #[default]
    Unknown,
}

impl Status {
    /// Every status, in the order metrics and summaries list them.
    pub const ALL: [Self; 5] = [Self::Healthy, Self::Degraded, Self::Critical, Self::Failed, Self::Unknown];

    /// The word used as a label and in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// How bad it is, 0 to 3; `None` for unknown, which never worsens anything (OBS-2).
    pub const fn rank(self) -> Option<u8> {
        match self {
            Self::Healthy => Some(0),
            Self::Degraded => Some(1),
            Self::Critical => Some(2),
            Self::Failed => Some(3),
            Self::Unknown => None,
        }
    }

    /// Critical or failed.
    pub const fn is_broken(self) -> bool {
        matches!(self, Self::Critical | Self::Failed)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Details of a health under fixed keys that scripts may rely on (OBS-3).
pub type Details = serde_json::Map<String, serde_json::Value>;

/// One number that an exec check reported in the Nagios perfdata convention; becomes a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Perfdata {
    /// The label of the value, as the plugin wrote it.
    pub label: Name,
    /// The value in its base unit (seconds, bytes, ratio), converted from the plugin's unit.
    pub value: f64,
    /// The base unit: `seconds`, `bytes`, `ratio`, `total` for counters, or empty.
    pub unit: String,
}

/// The dated outcome of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Whose health this is.
    pub subsystem: Name,
    /// The grade. As a check gives it, never `Failed`: that is detection's word.
    pub status: Status,
    /// When the check that gave it began.
    pub timestamp: Timestamp,
    /// How long the check took, in milliseconds.
    pub response_time_ms: f64,
    /// Checks in a row, up to this one, that were critical or could not be run.
    pub error_count: u32,
    /// What was found, under fixed keys; `warning` and `error` hold a sentence.
    pub details: Details,
    /// Numbers the check reported besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perfdata: Vec<Perfdata>,
    /// Whether the check could not be run at all; then the status is `Unknown` (OBS-1).
    #[serde(default, skip)]
    pub unrunnable: bool,
    /// What the check saw besides, for the rules.
    #[serde(default, skip)]
    pub signals: Signals,
}

impl Health {
    /// A health that nothing is known about yet.
    pub fn unknown(subsystem: Name) -> Self {
        Self {
            subsystem,
            status: Status::Unknown,
            timestamp: Timestamp::EPOCH,
            response_time_ms: 0.0,
            error_count: 0,
            details: Details::new(),
            perfdata: Vec::new(),
            unrunnable: false,
            signals: Signals::default(),
        }
    }
}
