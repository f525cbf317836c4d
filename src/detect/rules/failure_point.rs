//! A failure point found something (OBS-8). Its category is the type of the issues; the categories' pages stand with what
//! looks at them.

use crate::model::{Criticality, EpisodeKey, Issue, IssueSource, Name, Severity, Status, Timestamp};

use super::super::{Subject, Verdict};

/// One issue per finding. A point that could not be looked at neither raises nor clears any.
pub fn evaluate(subject: Subject<'_>, now: Timestamp) -> Verdict {
    let Subject::FailurePoint { point, health, criticality, affects } = subject else { return Verdict::Unknown };
    if health.status == Status::Unknown {
        return Verdict::Unknown;
    }
    let issues = health.signals.findings.iter().map(|finding| Issue {
        issue_id: Name::from(""),
        key: EpisodeKey {
            subsystem: point.subsystem.clone(),
            symbol: finding.symbol.clone(),
            kind: point.category.clone(),
        },
        severity: finding.severity,
        timestamp: now,
        description: finding.description.clone(),
        symptoms: vec![finding.description.clone()],
        root_cause: None,
        // An issue of one symbol restricts that symbol only.
        impacts_trading: criticality == Criticality::Full
            && finding.severity >= Severity::High
            && finding.symbol.is_none(),
        affects_subsystems: affects.to_vec(),
        source: IssueSource::FailurePoint,
    });
    Verdict::Known(issues.collect())
}
