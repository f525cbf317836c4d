//! Which alerts are wanted, what they say, how long they live.

use super::*;
use crate::alerts::routing::is_own;
use crate::model::{EpisodeKey, IssueSource, Name, SourceHold};

const T0: Timestamp = Timestamp::from_millis(1_763_861_696_000);
const RESEND: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

fn case(subsystem: &str, severity: Severity) -> Case {
    let issue = Issue {
        issue_id: format!("{subsystem}_20251123_013456").into(),
        key: EpisodeKey { subsystem: subsystem.into(), symbol: None, kind: "subsystem_status".into() },
        severity,
        timestamp: T0,
        description: format!("{subsystem} is {}", severity.as_str()),
        symptoms: vec!["postgres://user:canary-word@host refused".to_owned()],
        root_cause: None,
        impacts_trading: true,
        affects_subsystems: vec!["event_executor".into()],
        source: IssueSource::Check,
    };
    Case { issue, escalated: None, recommendation: None }
}

fn recommended(mut case: Case, reason: Reason, state: RecommendationState) -> Case {
    case.recommendation = Some(Recommendation {
        recommendation_id: format!("rec_1_{}", case.issue.issue_id),
        issue_id: case.issue.issue_id.clone(),
        subsystem: case.issue.key.subsystem.clone(),
        action: "restart_subsystem".into(),
        priority: 1,
        description: String::new(),
        expected_result: String::new(),
        risks: Vec::new(),
        can_auto_execute: false,
        requires_approval: state == RecommendationState::Approval,
        state,
        reason,
        not_before: None,
        approval: None,
    });
    case
}

fn policy(level: Level, holds: &[(PolicySource, &str, Timestamp)]) -> PolicyDocument {
    let hold = |(source, reason, since): &(PolicySource, &str, Timestamp)| SourceHold {
        source: *source,
        subject: String::new(),
        level,
        reason: (*reason).to_owned(),
        since: *since,
        until: None,
    };
    PolicyDocument {
        sequence: 1,
        changed_at: at(5),
        issued_at: at(6),
        valid_until: at(36),
        policy: level,
        restrictions: level.restrictions(),
        latched: level == Level::EmergencyShutdown,
        reasons: holds.iter().map(hold).collect(),
        reasons_omitted: 0,
    }
}

fn all(cases: &[Case], policy: &PolicyDocument, sending: &Sending) -> BTreeMap<Labels, Wanted> {
    outgoing(&Facts { cases, policy, dry_run: false, now: at(10) }, sending)
}

fn wanted(cases: &[Case]) -> Vec<String> {
    let found = all(cases, &policy(Level::AllowAll, &[]), &Sending::default());
    found
        .keys()
        .map(|labels| {
            let further = ["severity", "subsystem", "reason", "action"].map(|name| labels.get(name).cloned());
            format!("{} {}", labels["alertname"], further.into_iter().flatten().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// OBS-10: what is only expected is told at severity `info`, whatever is proposed about it.
#[test]
fn what_is_told_of_forecasts() {
    let mut forecast = case("host", Severity::Low);
    forecast.issue.key.kind = "disk_forecast".into();
    let proposed = recommended(forecast.clone(), Reason::Manual, RecommendationState::Waiting);
    let escalated = Case { escalated: Some(Reason::Exhausted), ..forecast.clone() };
    for case in [forecast, proposed, escalated] {
        assert_eq!(wanted(&[case]), ["ChironForecast info host"]);
    }
}

/// ALR-3, ACT-5, REC-1: what is told of an issue, by severity, escalation and recommendation.
#[test]
fn what_is_told_of_issues() {
    use RecommendationState::{Approval, Running, Waiting};
    let critical = || case("ai_model", Severity::Critical);
    let medium = || case("logging", Severity::Medium);
    let escalated = |case: Case, reason| Case { escalated: Some(reason), ..case };
    for (case, expected) in [
        (medium(), &[][..]),
        (critical(), &["ChironCriticalIssue critical ai_model"]),
        (recommended(critical(), Reason::Running, Running), &["ChironCriticalIssue critical ai_model"]),
        (recommended(medium(), Reason::Cooldown, Waiting), &[]),
        (recommended(medium(), Reason::DryRun, Waiting), &[]),
        (
            recommended(medium(), Reason::Manual, Waiting),
            &["ChironManualRecommendation info logging manual restart_subsystem"],
        ),
        (
            recommended(case("x", Severity::High), Reason::ApprovalPending, Approval),
            &["ChironManualRecommendation warning x approval_pending restart_subsystem"],
        ),
        (
            recommended(medium(), Reason::Unbound, Waiting),
            &["ChironManualRecommendation info logging unbound restart_subsystem"],
        ),
        (escalated(medium(), Reason::Unbound), &["ChironEscalation warning logging unbound"]),
        (
            escalated(critical(), Reason::Exhausted),
            &["ChironCriticalIssue critical ai_model", "ChironEscalation critical ai_model exhausted"],
        ),
    ] {
        assert_eq!(wanted(&[case]), expected);
    }
}

/// ALR-3: identities are stable, the issue's id is an annotation; extra labels never replace chiron's own; what comes back
/// is recognised.
#[test]
fn labels_are_bounded_and_recognised() {
    let mut symbol = case("router", Severity::Critical);
    symbol.issue.key.symbol = Some(Name::from("BTC/USD"));
    let labels = [("team".to_owned(), "a".to_owned()), ("source".to_owned(), "b".to_owned())].into();
    let sending = Sending { labels, external_url: Some("https://c.example/x".to_owned()), ..Sending::default() };
    let found = all(&[symbol], &policy(Level::AllowAll, &[]), &sending);
    let (labels, alert) = found.first_key_value().expect("one alert");
    let expected = [
        ("alertname", "ChironCriticalIssue"),
        ("issue_type", "subsystem_status"),
        ("severity", "critical"),
        ("source", "chiron"),
        ("subsystem", "router"),
        ("symbol", "BTC/USD"),
        ("team", "a"),
    ];
    assert!(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected), "{labels:?}");
    assert!(is_own(labels));
    assert_eq!(alert.starts_at, T0, "since the issue was opened");
    assert_eq!(alert.annotations["issue_id"], "router_20251123_013456");
    assert_eq!(alert.annotations["runbook_url"], "https://c.example/x/");
    assert!(expected.iter().all(|(name, _)| *name == "team" || RESERVED.contains(name)));
}

/// SEC-3: neither what a check printed nor the credentials of an address are told.
#[test]
fn no_secret_is_told() {
    let mut leaky = recommended(case("router", Severity::Critical), Reason::Unbound, RecommendationState::Waiting);
    leaky.escalated = Some(Reason::Exhausted);
    leaky.issue.description = "https://user:canary-word@host is down".to_owned();
    let held = policy(Level::NoNewTrades, &[(PolicySource::Operator, "see http://a:canary-word@b/", T0)]);
    let found = all(&[leaky], &held, &Sending::default());
    assert_eq!(found.len(), 4);
    assert!(!format!("{found:?}").contains("canary-word"), "{found:?}");
}

/// ALR-3: each level of the policy is an alert of its own; what a start holds by itself is told when it lasts.
#[test]
fn the_policy_is_told() {
    let told = |level, source, since: u64, now: u64| {
        let policy = policy(level, &[(source, "why it is", at(since))]);
        let facts = Facts { cases: &[], policy: &policy, dry_run: true, now: at(now) };
        let found = outgoing(&facts, &Sending::default());
        found.into_iter().next().map(|(labels, alert)| {
            assert_eq!((labels.len(), alert.starts_at), (4, at(5)));
            (labels["policy"].clone(), labels["severity"].clone(), alert.annotations["description"].clone())
        })
    };
    let text = |text: &str| text.to_owned();
    assert_eq!(told(Level::AllowAll, PolicySource::Evaluation, 0, 10), None);
    let why = "Why: why it is (evaluation). Dry-run: chiron acts on nothing.";
    let expected = (text("no_new_trades"), text("warning"), text(why));
    assert_eq!(told(Level::NoNewTrades, PolicySource::Evaluation, 0, 10), Some(expected));
    let why = "Why: why it is (evaluation). Latched: only a person releases it. Dry-run: chiron acts on nothing.";
    let expected = (text("emergency_shutdown"), text("critical"), text(why));
    assert_eq!(told(Level::EmergencyShutdown, PolicySource::Evaluation, 0, 10), Some(expected));
    assert_eq!(told(Level::NoNewTrades, PolicySource::Startup, 0, 59), None);
    assert!(told(Level::NoNewTrades, PolicySource::Startup, 0, 60).is_some());
}

/// ALR-3: however much is wrong, the number of alerts is bounded, the worst come first, and that some are left out is told.
#[test]
fn the_number_is_bounded() {
    let mut cases: Vec<Case> = (0..600).map(|index| case(&format!("part_{index}"), Severity::Critical)).collect();
    let mut worst = recommended(case("mild", Severity::Low), Reason::Manual, RecommendationState::Waiting);
    worst.issue.timestamp = Timestamp::EPOCH;
    cases.insert(0, worst);
    let found = all(&cases, &policy(Level::AllowAll, &[]), &Sending::default());
    assert_eq!(found.len(), WANTED_MAX + 1);
    let omitted = found.iter().find(|(labels, _)| labels["alertname"] == "ChironAlertsOmitted").expect("it is told");
    assert!(omitted.1.annotations["summary"].starts_with("101 "), "{omitted:?}");
    assert!(found.keys().all(|labels| labels.get("subsystem").is_none_or(|name| name != "mild")));
}

/// ALR-3: an alert expires four resend intervals after the last word; one that has ended is told as such for one round
/// more; one that comes back is not ended.
#[test]
fn expiry_and_end() {
    let mut memory = Memory::default();
    let set = |cases: &[Case]| all(cases, &policy(Level::AllowAll, &[]), &Sending::default());
    let critical = case("router", Severity::Critical);
    memory.update(set(std::slice::from_ref(&critical)), at(0), RESEND);
    assert_eq!((memory.version, memory.wanted()), (1, 1));
    memory.update(set(std::slice::from_ref(&critical)), at(30), RESEND);
    assert_eq!(memory.version, 1, "no news");
    let round = memory.round(at(30), RESEND, "http://127.0.0.1:19913/");
    assert_eq!((round[0].starts_at, round[0].ends_at), (T0, at(270)));
    assert_eq!(round[0].generator_url, "http://127.0.0.1:19913/api/v1/issues/router_20251123_013456");
    memory.update(set(&[]), at(40), RESEND);
    assert_eq!((memory.version, memory.wanted()), (2, 0));
    for seconds in [40, 100] {
        memory.update(set(&[]), at(seconds), RESEND);
        let round = memory.round(at(seconds), RESEND, "http://x");
        assert_eq!(round.iter().map(|alert| alert.ends_at).collect::<Vec<_>>(), [at(40)], "at {seconds}");
    }
    memory.update(set(&[]), at(131), RESEND);
    assert_eq!(memory.round(at(131), RESEND, "http://x"), []);
    memory.update(set(std::slice::from_ref(&critical)), at(140), RESEND);
    memory.update(set(&[]), at(141), RESEND);
    memory.update(set(&[critical]), at(142), RESEND);
    let round = memory.round(at(142), RESEND, "http://x");
    assert_eq!(round.iter().map(|alert| alert.ends_at).collect::<Vec<_>>(), [at(382)], "it is back");
    let early = memory.round(Timestamp::EPOCH, RESEND, "http://x");
    assert!(early.iter().all(|alert| alert.starts_at <= alert.ends_at));
    let body = serde_json::to_value(&early[0]).unwrap();
    assert_eq!(body["endsAt"], "1970-01-01T00:04:00Z");
    assert!(body["labels"].is_object() && body["annotations"].is_object() && body["generatorURL"].is_string());
}
