//! Stage 2: facts to issues.
//!
//! In: graded health of what changed, the host's resources. Out: [`Issue`]s without an id, at most one per rule and subject.
//! **Invariant:** pure. Detection takes what changed, not the world, so that 10,000 quiet checks cost nothing here.

pub mod dependencies;
pub mod flapping;
pub mod overall;
pub mod rules;
pub mod status;

use std::time::Duration;

use crate::model::{Health, Issue, Name, Resources, Subsystem, Timestamp};

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
    /// The issue, if there is one.
    pub evaluate: fn(Subject<'_>, &Settings, Timestamp) -> Option<Issue>,
}

/// What the rules say about one subject: every type that looks at such a subject, with its issue if raised.
pub fn evaluate(subject: Subject<'_>, settings: &Settings, now: Timestamp) -> Vec<(&'static str, Option<Issue>)> {
    rules::of(subject).iter().map(|rule| (rule.kind, (rule.evaluate)(subject, settings, now))).collect()
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
    /// An episode that opened this often within `flap_window` is flapping; default 3, at least 2.
    pub flap_openings: u32,
    /// See `flap_openings`; default 10 min.
    pub flap_window: Duration,
    /// A flapping episode is resolved only after this long without a word of it; default 5 min.
    pub flap_hold: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_consecutive_failures: 3,
            failed_after: Duration::from_secs(300),
            max_cpu_percent: 90.0,
            max_memory_percent: 85.0,
            max_disk_percent: 90.0,
            flap_openings: 3,
            flap_window: Duration::from_secs(600),
            flap_hold: Duration::from_secs(300),
        }
    }
}
