//! Every rule on both sides of its limit, and the registry's own rules.

use super::*;
use crate::detect::{Settings, Verdict, evaluate};
use crate::model::{Criticality, DiskUse, Health, Resources, Status, Subsystem, Vitals, WebSocketStatus};

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

/// What the rule of that type says of a bot.
fn of_bot(kind: &str, criticality: Criticality, vitals: &Vitals) -> Verdict {
    let subsystem = Subsystem { name: "bot".into(), criticality, depends_on: Vec::new() };
    let subject = Subject::Vitals { subsystem: &subsystem, vitals, affects: &["router".into()] };
    let mut found = evaluate(subject, &Settings::default(), NOW);
    let index = found.iter().position(|(found, _)| *found == *kind).expect("the rule looks at vitals");
    found.swap_remove(index).1
}

/// The one issue that a verdict has to have.
fn one(verdict: Verdict) -> Issue {
    match verdict {
        Verdict::Known(mut issues) if issues.len() == 1 => issues.remove(0),
        other => panic!("{other:?}"),
    }
}

fn socket(connected: Option<bool>, authenticated: Option<bool>, flowing: Option<bool>) -> Vitals {
    let last_error = Some("reset by peer".to_owned());
    let status =
        WebSocketStatus { connected, authenticated, data_flowing: flowing, last_error, ..WebSocketStatus::default() };
    Vitals { at: NOW, websocket: Some(status), ..Vitals::default() }
}

/// DET-1, EXC-1: a connection that is gone or not authenticated is critical; what is not told is unknown.
#[test]
fn websocket_disconnected() {
    let says = |connected, authenticated| {
        of_bot("websocket_disconnected", Criticality::Full, &socket(connected, authenticated, None))
    };
    for (connected, authenticated, what) in [
        (Some(false), None, "not connected"),
        (Some(false), Some(false), "not connected"),
        (Some(true), Some(false), "not authenticated"),
        (None, Some(false), "not authenticated"),
    ] {
        let issue = one(says(connected, authenticated));
        assert_eq!(
            (issue.severity, issue.impacts_trading, issue.source),
            (Severity::Critical, true, IssueSource::Vitals)
        );
        assert_eq!(issue.description, format!("bot: WebSocket is {what}"));
        assert_eq!(issue.symptoms, [format!("its WebSocket is {what}"), "reset by peer".to_owned()]);
        assert_eq!((issue.key.symbol, issue.affects_subsystems), (None, vec!["router".into()]));
    }
    assert_eq!(says(Some(true), Some(true)), Verdict::CLEAR);
    assert_eq!(says(Some(true), None), Verdict::CLEAR, "it needs no credentials");
    assert_eq!(says(None, None), Verdict::Unknown);
    assert_eq!(says(None, Some(true)), Verdict::Unknown);
    assert_eq!(of_bot("websocket_disconnected", Criticality::Full, &Vitals::default()), Verdict::Unknown);
    let partial = one(of_bot("websocket_disconnected", Criticality::Partial, &socket(Some(false), None, None)));
    assert!(!partial.impacts_trading);
}

/// DET-1, EXC-1: connected without data is high; 5 s without an update are enough; without a connection nothing is known.
#[test]
fn websocket_data_stale() {
    let says = |vitals: &Vitals| of_bot("websocket_data_stale", Criticality::Full, vitals);
    let issue = one(says(&socket(Some(true), None, Some(false))));
    assert_eq!((issue.severity, issue.impacts_trading), (Severity::High, true));
    assert_eq!(issue.description, "bot: WebSocket brings no data");
    assert_eq!(says(&socket(Some(true), None, Some(true))), Verdict::CLEAR);
    assert_eq!(says(&socket(Some(true), None, None)), Verdict::Unknown);
    assert_eq!(says(&socket(Some(false), None, Some(false))), Verdict::Unknown);
    assert_eq!(says(&Vitals::default()), Verdict::Unknown);
    for (age, clear) in [(0, true), (5_000, true), (5_001, false)] {
        let mut vitals = socket(Some(true), None, None);
        vitals.websocket.as_mut().expect("it is told").last_update = Some(Timestamp::from_millis(NOW.millis() - age));
        assert_eq!(says(&vitals).is_clear(), clear, "{age}");
        vitals.websocket.as_mut().expect("it is told").data_flowing = Some(true);
        assert_eq!(says(&vitals), Verdict::CLEAR, "a feed whose rate is known is judged by it");
    }
}

/// DET-1, DET-2, EXC-3: one critical issue per symbol above the limit, which closes no position of another symbol.
#[test]
fn rate_limit_critical() {
    let says = |limits: Option<Vec<(Name, f64)>>| {
        let vitals = Vitals { rate_limits: limits, ..Vitals::default() };
        of_bot("rate_limit_critical", Criticality::Full, &vitals)
    };
    let limits =
        [("BTC/USD", 85.0), ("ETH/USD", 85.1), ("SOL/USD", 120.0)].map(|(name, used)| (Name::from(name), used));
    let Verdict::Known(issues) = says(Some(limits.to_vec())) else { panic!("it is known") };
    let symbols: Vec<_> = issues.iter().map(|issue| issue.key.symbol.as_deref()).collect();
    assert_eq!(symbols, [Some("ETH/USD"), Some("SOL/USD")]);
    assert!(issues.iter().all(|issue| issue.severity == Severity::Critical && !issue.impacts_trading));
    assert_eq!(issues[0].description, "bot: rate limit of ETH/USD is nearly used up");
    assert_eq!(issues[1].symptoms, ["120.0% of the rate limit of SOL/USD is used, expected at most 85%"]);
    assert_eq!(says(Some(limits[..1].to_vec())), Verdict::CLEAR);
    assert_eq!(says(Some(Vec::new())), Verdict::CLEAR);
    assert_eq!(says(None), Verdict::Unknown);
}

/// DET-1, EXC-3: of very many symbols the worst have an issue each, and one more stands for the rest; figures that move make no
/// issue come or go, and only what is cleared goes.
#[test]
fn rate_limits_of_very_many_symbols() {
    let keys = |used: &dyn Fn(usize) -> f64, count: usize| {
        let limits = (0..count).map(|index| (Name::from(format!("S{index:04}")), used(index))).collect();
        let vitals = Vitals { rate_limits: Some(limits), ..Vitals::default() };
        match of_bot("rate_limit_critical", Criticality::Full, &vitals) {
            Verdict::Known(issues) => issues,
            other => panic!("{other:?}"),
        }
    };
    let symbols = |issues: &[Issue]| issues.iter().map(|issue| issue.key.symbol.clone()).collect::<Vec<_>>();
    assert_eq!(symbols(&keys(&|_| 90.0, 100)).iter().flatten().count(), 100);
    assert_eq!(keys(&|_| 90.0, 100).len(), 100);
    let many = keys(&|index| if index >= 990 { 120.0 } else { 90.0 }, 1_000);
    assert_eq!(many.len(), 101);
    assert_eq!(many[0].key.symbol.as_deref(), Some("S0990"), "the worst first");
    let rest = many.last().expect("there are more");
    assert_eq!((rest.key.symbol.as_deref(), rest.severity, rest.impacts_trading), (None, Severity::Critical, false));
    assert_eq!(rest.description, "bot: rate limits of more than 100 symbols are nearly used up");
    assert_eq!(rest.symptoms, ["900 more symbols use up to 90.0%, expected at most 85%"]);
    let moved = keys(&|index| if index >= 990 { 110.0 } else { 99.0 - index as f64 / 100.0 }, 1_000);
    assert_eq!(symbols(&moved), symbols(&many), "figures that move choose no others");
    let fewer = keys(&|index| if index >= 50 { 80.0 } else { 90.0 }, 1_000);
    assert_eq!((fewer.len(), fewer.iter().all(|issue| issue.key.symbol.is_some())), (50, true));
}

/// DET-1, EXC-4: latency of executions or of the WebSocket above 2000 ms is medium.
#[test]
fn high_latency() {
    let says = |execution, ping| {
        let mut vitals = socket(Some(true), None, None);
        vitals.execution_latency_ms = execution;
        vitals.websocket.as_mut().expect("it is told").latency_ms = ping;
        of_bot("high_latency", Criticality::Full, &vitals)
    };
    for (execution, ping, clear) in [
        (Some(2000.0), None, true),
        (Some(2000.5), None, false),
        (None, Some(2000.0), true),
        (None, Some(3000.0), false),
        (Some(1.0), Some(3000.0), false),
        (Some(3000.0), Some(1.0), false),
    ] {
        assert_eq!(says(execution, ping).is_clear(), clear, "{execution:?} {ping:?}");
    }
    assert_eq!(says(None, None), Verdict::Unknown);
    let issue = one(says(Some(2500.0), None));
    assert_eq!((issue.severity, issue.impacts_trading), (Severity::Medium, false));
    assert_eq!(issue.symptoms, ["an execution takes 2500 ms, expected at most 2000 ms"]);
}

/// DET-1, DET-2: memory of a bot has the wording and the type of the host's, and the bot as its subject.
#[test]
fn memory_of_a_bot() {
    let says =
        |share| of_bot("memory_pressure", Criticality::Full, &Vitals { memory_usage: share, ..Vitals::default() });
    let issue = one(says(Some(0.913)));
    assert_eq!(issue.description, "Memory usage critically high: 91.3%");
    assert_eq!((issue.severity, issue.impacts_trading, &*issue.key.subsystem), (Severity::High, true, "bot"));
    assert_eq!(says(Some(0.85)), Verdict::CLEAR);
    assert_eq!(says(None), Verdict::Unknown);
}

/// DET-1: what a check of a bot's vitals may raise, the rules for vitals raise, in an order of their own each.
#[test]
fn rules_of_vitals() {
    for kind in
        ["websocket_disconnected", "websocket_data_stale", "rate_limit_critical", "high_latency", "memory_pressure"]
    {
        assert!(is_of_vitals(kind), "{kind}");
    }
    assert!(!is_of_vitals("subsystem_status") && !is_of_vitals("cpu_pressure"));
    for rule in VITALS {
        assert!(RULES.iter().any(|one| one.kind == rule.kind), "{} has a place in the order", rule.kind);
    }
}

fn all() -> impl Iterator<Item = &'static RuleSpec> {
    RULES.into_iter().chain(FORECASTS)
}

#[test]
fn registry() {
    let mut kinds: Vec<&str> = all().map(|rule| rule.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), all().count(), "types are unique");
    for rule in all() {
        assert!(rule.kind.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{} is snake_case", rule.kind);
        for heading in ["Raised when", "Cleared when", "Why it matters", "Ladder", "False alarms"] {
            assert!(rule.doc.contains(&format!("\n## {heading}\n")), "{} lacks `{heading}`", rule.kind);
        }
    }
}
