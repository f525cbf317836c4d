//! Stage 2: facts to issues.
//!
//! In: graded health of what changed, the host's resources. Out: [`Issue`]s without an id, at most one per rule and subject.
//! **Invariant:** pure. Detection takes what changed, not the world, so that 10,000 quiet checks cost nothing here.

pub mod dependencies;
pub mod flapping;
pub mod overall;
pub mod rules;
pub mod status;
pub mod trends;

pub use rules::failure_point::unseen;

use std::time::Duration;

use crate::model::{Criticality, FailurePoint, Health, Issue, Name, Resources, Subsystem, Timestamp, Vitals};

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// One subsystem, graded.
    Subsystem {
        /// Who.
        subsystem: &'a Subsystem,
        /// Its health; the status may be `Failed` here.
        health: &'a Health,
        /// Every subsystem that depends on it.
        affects: &'a [Name],
        /// The broken subsystem it depends on, if any.
        root_cause: Option<&'a Name>,
    },
    /// The bot behind a subsystem's check, whose vitals are fresh.
    Vitals {
        /// Who.
        subsystem: &'a Subsystem,
        /// What it is like from inside.
        vitals: &'a Vitals,
        /// Every subsystem that depends on it.
        affects: &'a [Name],
    },
    /// One of the places where platforms of this kind usually break.
    FailurePoint {
        /// Which.
        point: &'a FailurePoint,
        /// What was found there.
        health: &'a Health,
        /// How much trading depends on the subsystem whose issue it is.
        criticality: Criticality,
        /// Every subsystem that depends on that one.
        affects: &'a [Name],
    },
    /// What is expected of a subsystem, or of the host, if things go on as they do.
    Forecast {
        /// Whose.
        subsystem: &'a Name,
        /// Every crossing that is expected.
        forecasts: &'a [trends::Forecast],
        /// Enough has been seen for the absence of a forecast to mean something.
        learnt: bool,
    },
    /// The host.
    Host {
        /// What it has left.
        resources: &'a Resources,
        /// Every enabled subsystem; each is affected.
        all: &'a [Name],
    },
}

/// A rule as the registry lists it.
#[derive(Clone, Copy, Debug)]
pub struct RuleSpec {
    /// The issue type, a snake_case noun, unique.
    pub kind: &'static str,
    /// The doc page, under the fixed headings.
    pub doc: &'static str,
    /// The verdict on a subject.
    pub evaluate: fn(Subject<'_>, &Settings, Timestamp) -> Verdict,
}

/// What a rule says about a subject.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// These issues, of symbols that differ; every other one of the type and the subject's subsystem is cleared.
    Known(Vec<Issue>),
    /// Nothing is known that could raise or clear an issue of this type.
    Unknown,
}

impl Verdict {
    /// Nothing is wrong.
    pub const CLEAR: Self = Self::Known(Vec::new());

    /// Whether it is known that nothing is wrong.
    pub fn is_clear(&self) -> bool {
        matches!(self, Self::Known(issues) if issues.is_empty())
    }
}

impl From<Option<Issue>> for Verdict {
    fn from(issue: Option<Issue>) -> Self {
        Self::Known(issue.into_iter().collect())
    }
}

/// What the rules say about one subject: every type that looks at such a subject, with its verdict.
pub fn evaluate(subject: Subject<'_>, settings: &Settings, now: Timestamp) -> Vec<(Name, Verdict)> {
    if let Subject::FailurePoint { point, .. } = subject {
        return vec![(point.category.clone(), rules::failure_point::evaluate(subject, now))];
    }
    rules::of(subject).iter().map(|rule| (rule.kind.into(), (rule.evaluate)(subject, settings, now))).collect()
}

/// Limits of detection.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Unrunnable or critical checks in a row that count (OBS-1); default 3, at least 1.
    pub max_consecutive_failures: u32,
    /// How long a subsystem that nothing may heal stays critical before it is failed; default 5 min.
    pub failed_after: Duration,
    /// Host CPU above this is an issue, 0 to 100; default 90.
    pub max_cpu_percent: f64,
    /// Host memory above this is an issue, 0 to 100; default 85.
    pub max_memory_percent: f64,
    /// Disk use above this is a critical issue, 0 to 100; default 90.
    pub max_disk_percent: f64,
    /// A bot's execution latency above this is an issue, in milliseconds; default 2000 (EXC-4).
    pub max_latency_ms: f64,
    /// Use of an exchange's rate limit above this is an issue, in percent; default 85 (EXC-3).
    pub max_rate_limit_percent: f64,
    /// A bot's share of failed requests above this is an issue, 0 to 1; default 0.2.
    pub max_error_rate: f64,
    /// An episode that opened this often within `flap_window` is flapping; default 3, at least 2.
    pub flap_openings: u32,
    /// See `flap_openings`; default 10 min.
    pub flap_window: Duration,
    /// A flapping episode is resolved only after this long without a word of it; default 5 min.
    pub flap_hold: Duration,
    /// Which trends are projected.
    pub prediction: trends::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_consecutive_failures: 3,
            failed_after: Duration::from_secs(300),
            max_cpu_percent: 90.0,
            max_memory_percent: 85.0,
            max_disk_percent: 90.0,
            max_latency_ms: 2000.0,
            max_rate_limit_percent: 85.0,
            max_error_rate: 0.2,
            flap_openings: 3,
            flap_window: Duration::from_secs(600),
            flap_hold: Duration::from_secs(300),
            prediction: trends::Settings::default(),
        }
    }
}
