//! A subsystem is degraded, critical or failed (DET-1). The three share one type, so that they are one episode (DET-4).

use crate::model::{Criticality, Details, EpisodeKey, Issue, IssueSource, Name, Severity, Status, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};

/// The issue type.
pub const KIND: &str = "subsystem_status";

/// See the doc page.
pub const SPEC: RuleSpec = RuleSpec {
    kind: KIND,
    doc: "\
# subsystem_status

## Raised when
A subsystem's check is degraded (`medium`), critical (`critical`), or failed (`high`: by then restarts have been tried and
did not help, so exposure is reduced).

## Cleared when
The check is healthy again. `unknown` neither raises nor clears it.

## Why it matters
A bot that trades without this part trades on wrong or missing information.

## Ladder
By severity and subsystem, DET-5; `recovery.ladders` in the settings comes first.

## False alarms
A limit that is tighter than the subsystem's own rhythm. Raise `degraded_after` or override the check.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, _settings: &Settings, now: Timestamp) -> Verdict {
    let Subject::Subsystem { subsystem, health, affects, root_cause } = subject else { return Verdict::Unknown };
    let name = &subsystem.name;
    let status = match (health.status, health.signals.own_status) {
        // What rules of their own raise is not raised here once more.
        (Status::Critical | Status::Degraded | Status::Failed, Some(Status::Healthy)) => Status::Healthy,
        (Status::Critical | Status::Failed, Some(Status::Degraded)) => Status::Degraded,
        (status, _) => status,
    };
    let (severity, description) = match status {
        Status::Healthy => return Verdict::CLEAR,
        Status::Unknown => return Verdict::Unknown,
        Status::Degraded => (Severity::Medium, format!("{name} performance degraded")),
        Status::Critical => (Severity::Critical, format!("{name} is critical")),
        Status::Failed => (Severity::High, format!("{name} is failed")),
    };
    let issue = Issue {
        issue_id: Name::from(""),
        key: EpisodeKey { subsystem: name.clone(), symbol: None, kind: KIND.into() },
        severity,
        timestamp: now,
        description,
        symptoms: symptoms(&health.details),
        root_cause: root_cause.cloned(),
        impacts_trading: subsystem.criticality == Criticality::Full && severity >= Severity::High,
        affects_subsystems: affects.to_vec(),
        source: IssueSource::Check,
    };
    Some(issue).into()
}

/// The sentences among the details; the rest are numbers that change with every check.
fn symptoms(details: &Details) -> Vec<String> {
    ["error", "warning", "message"]
        .iter()
        .filter_map(|key| details.get(*key).and_then(|value| value.as_str()))
        .map(str::to_owned)
        .collect()
}
