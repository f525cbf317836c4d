//! A failure point found something (OBS-8). Its category is the type of the issues; the categories' pages stand with what
//! looks at them.

use crate::model::{
    Criticality, EpisodeKey, FailurePoint, Finding, Health, Issue, IssueSource, Name, Severity, Status, Timestamp,
};

use super::super::{Settings, Subject, Verdict};

/// Longest reason told, in characters.
const TEXT_MAX: usize = 500;

/// One issue per finding. A point that could not be looked at neither raises nor clears any.
pub fn evaluate(subject: Subject<'_>, now: Timestamp) -> Verdict {
    let Subject::FailurePoint { point, health, criticality, affects } = subject else { return Verdict::Unknown };
    if health.status == Status::Unknown {
        return Verdict::Unknown;
    }
    let issues = health.signals.findings.iter().map(|finding| Issue {
        // An issue of one symbol restricts that symbol only.
        impacts_trading: criticality == Criticality::Full
            && finding.severity >= Severity::High
            && finding.symbol.is_none(),
        ..issue(point, finding, affects, now)
    });
    Verdict::Known(issues.collect())
}

/// The issue that a failure point could not be looked at too often in a row. It is for whoever has none of that point open:
/// what was known of it stays as it was.
pub fn unseen(
    point: &FailurePoint,
    health: &Health,
    affects: &[Name],
    settings: &Settings,
    now: Timestamp,
) -> Option<Issue> {
    if !health.unrunnable || health.error_count < settings.max_consecutive_failures {
        return None;
    }
    let why = health.details.get("error").and_then(|error| error.as_str()).unwrap_or("nobody knows why");
    let description = format!("cannot be looked at: {}", why.chars().take(TEXT_MAX).collect::<String>());
    Some(issue(point, &Finding { symbol: None, severity: Severity::High, description }, affects, now))
}

fn issue(point: &FailurePoint, finding: &Finding, affects: &[Name], now: Timestamp) -> Issue {
    Issue {
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
        impacts_trading: false,
        affects_subsystems: affects.to_vec(),
        source: IssueSource::FailurePoint,
    }
}
