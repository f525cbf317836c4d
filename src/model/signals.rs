//! What a check saw besides its grade, for the rules of detection to judge.

use std::sync::Arc;

use super::{Name, Severity, Status, Timestamp, Vitals};

/// Facts that come with a health. They live for one step of detection and are never stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    /// The vitals of the bot behind the check, while they are fresh.
    pub vitals: Option<Arc<Vitals>>,
    /// Numbers whose trend is projected.
    pub measures: Vec<Measure>,
    /// What a failure point found, each an issue of its own; empty is all clear.
    pub findings: Vec<Finding>,
    /// The grade without what the rules for vitals raise by themselves, so that one trouble is one issue; `None` stands
    /// for the grade.
    pub own_status: Option<Status>,
    /// What a failure point found should be over by itself by now: its time has passed.
    pub overdue: bool,
}

impl Signals {
    /// Whether there is anything for the rules to judge; measures alone are for the projection of trends.
    pub fn concern_rules(&self) -> bool {
        self.vitals.is_some() || !self.findings.is_empty() || self.own_status.is_some()
    }
}

/// A number with the limit that it should stay below (OBS-10).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// What it measures.
    pub quantity: Quantity,
    /// The value, in the unit of the quantity.
    pub value: f64,
    /// The value at which it becomes an issue, in the same unit.
    pub limit: f64,
}

/// What can be projected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Use of a file system, in percent.
    Disk,
    /// Use of memory, in percent.
    Memory,
    /// The time until an answer, in seconds.
    Latency,
    /// Failed requests as a share of all, 0 to 1.
    ErrorRate,
    /// The moment of the latest update, in seconds since 1970; its limit is the longest time between two, in seconds.
    UpdatedAt,
}

impl Quantity {
    /// Every quantity.
    pub const ALL: [Self; 5] = [Self::Disk, Self::Memory, Self::Latency, Self::ErrorRate, Self::UpdatedAt];

    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Latency => "latency",
            Self::ErrorRate => "error_rate",
            Self::UpdatedAt => "update_interval",
        }
    }

    /// The type of the issue that it will cross its limit.
    pub const fn forecast(self) -> &'static str {
        match self {
            Self::Disk => "disk_forecast",
            Self::Memory => "memory_forecast",
            Self::Latency => "latency_forecast",
            Self::ErrorRate => "error_rate_forecast",
            Self::UpdatedAt => "update_interval_forecast",
        }
    }
}

/// Whether issues of that type tell of something that has not happened yet.
pub fn is_forecast(kind: &str) -> bool {
    Quantity::ALL.iter().any(|quantity| quantity.forecast() == kind)
}

/// Quantities that are followed, by subsystem, and when each will cross its limit; the epoch if that is not expected.
pub type Forecasts = imbl::OrdMap<(Name, Quantity), Timestamp>;

/// One thing that a failure point found wrong (OBS-8).
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The symbol, if it concerns one only.
    pub symbol: Option<Name>,
    /// How bad it is.
    pub severity: Severity,
    /// One line: what was found, and what is expected.
    pub description: String,
}

/// A configured failure point as detection sees it (OBS-8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailurePoint {
    /// Its category, which is also the type of its issues.
    pub category: Name,
    /// The subsystem whose issue a finding is; `platform` if it is nobody's.
    pub subsystem: Name,
}
