//! Every rule on both sides of its limit, and the registry's own rules.

use super::*;
use crate::detect::{Settings, Verdict, evaluate};
use crate::model::{Criticality, DiskUse, Health, Resources, Status, Subsystem};

const NOW: Timestamp = Timestamp::from_millis(1_763_861_696_000);

fn subsystem_issue(criticality: Criticality, status: Status) -> Option<Issue> {
    let subsystem = Subsystem { name: "data_feed".into(), criticality, depends_on: Vec::new() };
    let mut health = Health::unknown("data_feed".into());
    health.status = status;
    health.details.insert("warning".into(), "Snapshot 320s old (stale)".into());
    let subject =
        Subject::Subsystem { subsystem: &subsystem, health: &health, affects: &["x".into()], root_cause: None };
    match evaluate(subject, &Settings::default(), NOW).pop() {
        Some((_, Verdict::Known(issues))) => issues.into_iter().next(),
        _ => None,
    }
}

/// DET-1, DET-2: severity, wording and impact per status and criticality.
#[test]
fn status_rules() {
    let full = |status| subsystem_issue(Criticality::Full, status);
    assert_eq!(full(Status::Healthy), None);
    assert_eq!(full(Status::Unknown), None);
    let degraded = full(Status::Degraded).expect("an issue");
    assert_eq!((degraded.severity, degraded.impacts_trading), (Severity::Medium, false));
    assert_eq!(degraded.description, "data_feed performance degraded");
    assert_eq!(degraded.symptoms, ["Snapshot 320s old (stale)"]);
    let critical = full(Status::Critical).expect("an issue");
    assert_eq!((critical.severity, critical.impacts_trading), (Severity::Critical, true));
    assert_eq!(critical.description, "data_feed is critical");
    let failed = full(Status::Failed).expect("an issue");
    assert_eq!((failed.severity, failed.impacts_trading), (Severity::High, true));
    assert_eq!(failed.key, critical.key, "DET-4: one type");
    let partial = subsystem_issue(Criticality::Partial, Status::Critical).expect("an issue");
    assert!(!partial.impacts_trading);
}

fn host_kinds(cpu: f64, memory: f64, available: u64, inodes_free: u64) -> Vec<(Name, String)> {
    let disk = DiskUse { path: "/srv".into(), size_bytes: 1000, available_bytes: available, inodes: 1000, inodes_free };
    let resources = Resources { cpu_percent: cpu, memory_percent: memory, disks: vec![disk], ..Resources::default() };
    evaluate(Subject::Host { resources: &resources, all: &["a".into()] }, &Settings::default(), NOW)
        .into_iter()
        .filter_map(|(kind, verdict)| match verdict {
            Verdict::Known(issues) => issues.into_iter().next().map(|issue| (kind, issue.description)),
            Verdict::Unknown => None,
        })
        .collect()
}

/// OBS-4: both sides of each limit.
#[test]
fn host_rules() {
    assert_eq!(host_kinds(90.0, 85.0, 100, 100), []);
    assert_eq!(
        host_kinds(90.1, 91.3, 99, 100),
        [
            ("cpu_pressure".into(), "CPU usage critically high: 90.1%".to_owned()),
            ("memory_pressure".into(), "Memory usage critically high: 91.3%".to_owned()),
            ("disk_pressure".into(), "Disk usage critically high: 90.1% of space at /srv".to_owned()),
        ]
    );
    assert_eq!(host_kinds(0.0, 0.0, 500, 10)[0].1, "Disk usage critically high: 99.0% of inodes at /srv");
}

#[test]
fn registry() {
    let mut kinds: Vec<&str> = RULES.iter().map(|rule| rule.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), RULES.len(), "types are unique");
    for rule in RULES {
        assert!(rule.kind.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{} is snake_case", rule.kind);
        for heading in ["Raised when", "Cleared when", "Why it matters", "Ladder", "False alarms"] {
            assert!(rule.doc.contains(&format!("\n## {heading}\n")), "{} lacks `{heading}`", rule.kind);
        }
    }
}
