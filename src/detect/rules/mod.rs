//! The registry of rules; one file per issue type.

mod cpu_pressure;
mod disk_pressure;
pub(super) mod failure_point;
mod memory_pressure;
mod subsystem_status;

use crate::model::{EpisodeKey, HOST, Issue, IssueSource, Name, Severity, Timestamp};

use super::{RuleSpec, Subject};

pub use subsystem_status::KIND as SUBSYSTEM_STATUS;

/// Every rule: those of subsystems first, then those of the host, which is also detection order.
pub const RULES: [&RuleSpec; 4] =
    [&subsystem_status::SPEC, &cpu_pressure::SPEC, &memory_pressure::SPEC, &disk_pressure::SPEC];

/// The rules of vitals.
const VITALS: &[&RuleSpec] = &[];

/// The rules that look at such a subject.
pub fn of(subject: Subject<'_>) -> &'static [&'static RuleSpec] {
    match subject {
        Subject::Subsystem { .. } => &RULES[..1],
        Subject::Host { .. } => &RULES[1..],
        Subject::Vitals { .. } => VITALS,
        Subject::FailurePoint { .. } => &[],
    }
}

/// Whether issues of that type are told from a bot's vitals.
pub fn is_of_vitals(kind: &str) -> bool {
    VITALS.iter().any(|rule| rule.kind == kind)
}

/// An issue of the host, which affects every subsystem.
fn host_issue(
    kind: &'static str,
    severity: Severity,
    impacts_trading: bool,
    description: String,
    all: &[Name],
    now: Timestamp,
) -> Issue {
    Issue {
        issue_id: Name::from(""),
        key: EpisodeKey { subsystem: HOST.into(), symbol: None, kind: kind.into() },
        severity,
        timestamp: now,
        symptoms: vec![description.clone()],
        description,
        root_cause: None,
        impacts_trading,
        affects_subsystems: all.to_vec(),
        source: IssueSource::Check,
    }
}

#[cfg(test)]
mod tests;
