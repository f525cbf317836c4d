//! The page as a whole: golden files, promtool, bounds, counting; the same samples in both formats.
#![expect(clippy::disallowed_methods, reason = "reads the golden file and runs promtool")]

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::model::*;

use super::hooks::Row;
use super::*;

fn names(texts: &[&str]) -> Vec<Name> {
    texts.iter().map(|text| Name::from(*text)).collect()
}

fn pair(action: &str, subsystem: &str) -> (Name, Name) {
    (action.into(), subsystem.into())
}

fn health(subsystem: &str, status: Status) -> Arc<Health> {
    let mut health = Health::unknown(subsystem.into());
    health.status = status;
    health.timestamp = Timestamp::from_millis(1_763_862_896_123);
    health.response_time_ms = 1.5;
    health.error_count = u32::from(status.is_broken());
    Arc::new(health)
}

fn document(level: Level, reasons: Vec<SourceHold>) -> PolicyDocument {
    PolicyDocument {
        sequence: 7,
        changed_at: Timestamp::from_millis(1_763_862_890_500),
        issued_at: Timestamp::from_millis(1_763_862_896_000),
        valid_until: Timestamp::from_millis(1_763_862_926_000),
        policy: level,
        restrictions: level.restrictions(),
        latched: false,
        reasons,
        reasons_omitted: 0,
    }
}

fn hold(source: PolicySource, level: Level) -> SourceHold {
    let since = Timestamp::from_millis(1_763_862_890_000);
    SourceHold { source, subject: "ai_model".into(), level, reason: "ai_model is critical".into(), since, until: None }
}

/// A page with everything on it once.
fn full_page() -> String {
    full_page_in(PageFormat::Text)
}

/// A workspace that was looked at.
fn heal(metrics: &Metrics) {
    let finding = |code, state| WorkspaceFinding {
        code,
        severity: Severity::Critical,
        path: "logs/positions_futures.json".to_owned(),
        description: String::new(),
        records: Vec::new(),
        state,
        detail: String::new(),
    };
    metrics.workspace.configure(true);
    let report = HealingReport {
        id: None,
        timestamp: Timestamp::from_millis(1_763_862_896_000),
        trigger: HealingTrigger::Schedule,
        dry_run: false,
        success: false,
        healed: 1,
        failed: 0,
        critical: 1,
        stats: HealingStats { files_created: 2, locks_cleared: 1, ..HealingStats::default() },
        findings: vec![
            finding(FindingCode::StateMismatch, FindingState::Standing),
            finding(FindingCode::FileMissing, FindingState::Healed),
        ],
        changes: Vec::new(),
        diff: String::new(),
        validation: Validation { score: 62.5, status: Status::Degraded, parts: Vec::new() },
        visited: 12,
        duration_ms: 40,
    };
    let at = report.timestamp;
    metrics.workspace.looked(&HealingReport { critical: 0, ..report.clone() }, at);
    metrics.workspace.looked(&report, at);
    metrics.workspace.failed("busy", at);
    metrics.workspace.changed(ChangeKind::CreateFile, ChangeState::Applied);
}

fn full_page_in(format: PageFormat) -> String {
    let mut feed = Health::clone(&health("data_feed", Status::Degraded));
    let value = |label: &str, value, unit: &str| Perfdata { label: label.into(), value, unit: unit.into() };
    feed.perfdata = vec![
        value("age", 320.0, "seconds"),
        value("quote\"and\\slash\nline", 0.25, "ratio"),
        value("age", 321.0, "seconds"),
    ];
    feed.signals.vitals = Some(Arc::new(Vitals {
        at: Timestamp::from_millis(1_763_862_895_500),
        websocket: Some(WebSocketStatus {
            connected: Some(true),
            authenticated: Some(true),
            data_flowing: Some(false),
            latency_ms: Some(12.5),
            ..WebSocketStatus::default()
        }),
        rate_limits: Some(vec![("ETH/USD".into(), 12.5), ("BTC/USD".into(), 86.0)]),
        execution_latency_ms: Some(250.0),
        error_rate: Some(0.05),
        memory_usage: Some(0.5),
        task_count: Some(17),
        parts: Vec::new(),
    }));
    let healths = [Arc::new(feed), health("ai_model", Status::Critical), Arc::new(Health::unknown("database".into()))];
    let policy = document(
        Level::NoNewTrades,
        vec![hold(PolicySource::Evaluation, Level::NoNewTrades), hold(PolicySource::Evaluation, Level::AllowAll)],
    );
    let disk = DiskUse {
        path: "/srv/bot".into(),
        size_bytes: 1_000_000,
        available_bytes: 400_000,
        inodes: 1_000,
        inodes_free: 900,
    };
    let resources = Resources {
        timestamp: Timestamp::from_millis(1_763_862_895_000),
        cpu_percent: 12.5,
        memory_percent: 91.3,
        memory_used_bytes: 913,
        memory_total_bytes: 1_000,
        disks: vec![disk.clone(), disk],
        open_files: 1_024,
        connections: 12,
        threads: 300,
    };
    let mut kill_switch = Health::unknown("kill_switch".into());
    kill_switch.status = Status::Critical;
    kill_switch.timestamp = Timestamp::from_millis(1_763_862_884_500);
    kill_switch.response_time_ms = 0.25;
    kill_switch.perfdata.push(Perfdata { label: "active".into(), value: 1.0, unit: String::new() });
    let severity = Severity::Critical;
    let description = "kill switch active".to_owned();
    kill_switch.signals.findings.push(crate::model::Finding { symbol: None, severity, description });
    let points = [Arc::new(kill_switch), Arc::new(Health::unknown("network".into()))];
    let subsystems = names(&["data_feed", "ai_model", "database"]);
    let metrics = Metrics::new(
        &subsystems,
        &[pair("restart_subsystem", "database"), pair("disable_module", "ai_model")],
        &names(&["restart_subsystem", "disable_module"]),
    );
    metrics.expect_issues([pair("data_feed", "websocket_disconnected"), pair("data_feed", "memory_pressure")]);
    metrics.bots.expect(names(&["data_feed", "database"]));
    metrics.bots.saw(&healths[0]);
    let status = Name::from("subsystem_status");
    metrics.issue_opened(&"data_feed".into(), &status, Severity::Medium);
    metrics.issue_opened(&"ai_model".into(), &status, Severity::Medium);
    metrics.issue_moved(&"ai_model".into(), &status, Severity::Medium, Severity::Critical);
    metrics.issue_opened(&HOST.into(), &"memory_pressure".into(), Severity::High);
    let (stop, start) = ("bot_stop".into(), "bot_start".into());
    let row = |hook, followed| Row {
        hook,
        proof: true,
        followed,
        late: false,
        told_at: followed.then_some(Timestamp::from_millis(1_763_862_884_000)),
    };
    metrics.hooks.show([row(&stop, true), row(&start, false)].into_iter());
    metrics.hooks.answered(&stop, Ending::Failed);
    metrics.hooks.answered(&stop, Ending::Ok);
    metrics.hooks.followed(&stop, Duration::from_millis(1_250));
    metrics.expect_issues([pair(crate::model::PLATFORM, "kill_switch")]);
    heal(&metrics);
    metrics.issue_opened(&"database".into(), &"slow_disk".into(), Severity::Low);
    metrics.issue_resolved(&"database".into(), &"slow_disk".into(), Severity::Low);
    metrics.action_ended(
        &"disable_module".into(),
        &"ai_model".into(),
        Outcome::Verified,
        Some(Duration::from_millis(2_250)),
    );
    metrics.action_ended(&"reload_config".into(), &"data_feed".into(), Outcome::Unbound, None);
    metrics.recovered(&"disable_module".into(), Duration::from_secs(42));
    metrics.alert_received(&"chiron \"a\"".into(), AlertStatus::Firing, AlertOutcome::Accepted);
    let alertmanagers = names(&["http://127.0.0.1:9093", "https://am.example/prefix"]);
    metrics.alertmanagers.configure(&[(alertmanagers[0].clone(), false), (alertmanagers[1].clone(), true)]);
    metrics.alertmanagers.polled(&alertmanagers[0], Ok(Timestamp::from_millis(1_763_862_882_500)));
    metrics.alertmanagers.polled(&alertmanagers[1], Err("timeout"));
    metrics.alertmanagers.sent(&alertmanagers[0], 3, true);
    metrics.alertmanagers.sent(&alertmanagers[1], 3, false);
    metrics.alertmanagers.wanted(3);
    let (restart, disable) = (Name::from("restart_subsystem"), Name::from("disable_module"));
    let database = Name::from("database");
    metrics.bindings.configure([
        (restart.clone(), database.clone(), crate::model::Means::Systemd),
        (disable, "ai_model".into(), crate::model::Means::Exec),
    ]);
    metrics.bindings.checked(&restart, &database, true, Timestamp::from_millis(1_763_862_882_750));
    metrics.expect_refusals(["unauthenticated", "too_large"]);
    metrics.webhook_refused("too_large");
    metrics.journal_error("full");
    metrics.blind("watchdog_absent", true);
    metrics.config_reload(true, Timestamp::from_millis(1_763_862_880_000));
    metrics.config_reload(false, Timestamp::from_millis(1_763_862_885_000));
    metrics.request_refused("change", "unauthenticated");
    metrics.web_config(true, Some(Timestamp::from_millis(1_795_398_881_000)));
    metrics.web_config(false, None);
    metrics.watchdog_seen(Timestamp::from_millis(1_763_862_881_250));
    metrics.escalation();
    metrics.admission_refused(Reason::Cooldown);
    let forecasts: Forecasts = [
        (("host".into(), Quantity::Disk), Timestamp::from_millis(1_763_865_000_000)),
        (("host".into(), Quantity::Memory), Timestamp::EPOCH),
        (("market_data".into(), Quantity::UpdatedAt), Timestamp::EPOCH),
    ]
    .into_iter()
    .collect();
    let page = Page {
        healths: &healths,
        points: &points,
        criticalities: &[Criticality::Full, Criticality::Partial, Criticality::Partial],
        overall: Status::Critical,
        recommendations: &[
            ("disable_module".into(), RecommendationState::Running),
            ("reload_config".into(), RecommendationState::Waiting),
            ("clear_cache".into(), RecommendationState::Approval),
        ],
        policy: &policy,
        resources: Some(&resources),
        forecasts: &forecasts,
        dry_run: true,
        stormy: true,
        windows: &[("nightly".into(), false), ("weekly".into(), true)],
        announced: 2,
        ready: true,
        open_runs: 1,
        check_lag_seconds: 0.125,
        journal_seq: 99,
        intake_pending: 2,
    };
    rendered(&page, &metrics, format)
}

fn rendered(page: &Page<'_>, metrics: &Metrics, format: PageFormat) -> String {
    let mut out = Vec::new();
    render(page, metrics, format, &mut out);
    String::from_utf8(out).unwrap()
}

/// A page about `healths` only.
fn page_of(healths: &[Arc<Health>], metrics: &Metrics) -> String {
    page_in(PageFormat::Text, healths, metrics)
}

fn page_in(format: PageFormat, healths: &[Arc<Health>], metrics: &Metrics) -> String {
    let policy = document(Level::AllowAll, Vec::new());
    let page = Page {
        healths,
        points: &[],
        criticalities: &vec![Criticality::Partial; healths.len()],
        overall: Status::Healthy,
        recommendations: &[],
        policy: &policy,
        resources: None,
        forecasts: &Forecasts::new(),
        dry_run: false,
        stormy: false,
        windows: &[],
        announced: 0,
        ready: true,
        open_runs: 0,
        check_lag_seconds: 0.0,
        journal_seq: 0,
        intake_pending: 0,
    };
    rendered(&page, metrics, format)
}

/// Reads a page back: (name and labels, value). Fails on a line that is not of the format, on a second HELP or TYPE
/// of a family, on a sample outside its family's block, and on a label set that comes twice.
fn parse(page: &str) -> HashMap<&str, f64> {
    let mut families = HashSet::new();
    let mut family = "";
    let mut samples = HashMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap();
            assert!(families.insert(family), "second HELP of {family}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest.split(' ').next().unwrap(), family, "TYPE does not follow its HELP");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let name = series.split('{').next().unwrap();
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(name == family || bare == Some(family), "{name} stands in the block of {family}");
            let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(samples.insert(series, value).is_none(), "twice: {series}");
        }
    }
    samples
}

/// The page without what differs from build to build and run to run.
fn masked(page: &str) -> String {
    page.lines()
        .map(|line| match line.split(['{', ' ']).next().unwrap() {
            "chiron_build_info" => "chiron_build_info{version=\"*\",revision=\"*\",rustc=\"*\"} 1".to_owned(),
            name if name.starts_with("process_") || name == "chiron_scrape_duration_seconds" => format!("{name} *"),
            _ => line.to_owned(),
        } + "\n")
        .collect()
}

/// EXP-1, EXP-2: the whole page in both formats, as dashboards and rules know it. `UPDATE_GOLDEN=1` writes it anew.
#[test]
fn the_page_is_the_golden_page() {
    for (format, name) in [(PageFormat::Text, "metrics.txt"), (PageFormat::OpenMetrics, "metrics_openmetrics.txt")] {
        let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        let page = masked(&full_page_in(format));
        if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
            std::fs::write(&path, &page).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        for (index, (line, expected)) in page.lines().zip(golden.lines()).enumerate() {
            assert_eq!(line, expected, "{name} line {} (UPDATE_GOLDEN=1 accepts the new page)", index + 1);
        }
        assert_eq!(page.lines().count(), golden.lines().count());
    }
}

/// Reads an OpenMetrics page back: (name and labels, value). Fails on what the format forbids: a blank line, a second
/// metadata line of a kind, a counter's sample without `_total`, a unit that the name does not end in, anything after
/// `# EOF`, or none.
fn parse_openmetrics(page: &str) -> HashMap<&str, f64> {
    let body = page.strip_suffix("# EOF\n").expect("the page ends with # EOF");
    let (mut seen, mut samples) = (HashSet::new(), HashMap::new());
    let (mut family, mut kind) = ("", "");
    for line in body.lines() {
        if let Some(meta) = line.strip_prefix("# ") {
            let mut parts = meta.splitn(3, ' ');
            let (word, name, rest) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            assert!(seen.insert((word, name)), "second {word} of {name}");
            match word {
                "TYPE" => (family, kind) = (name, rest),
                "UNIT" => assert!(name == family && name.ends_with(&format!("_{rest}")), "{line}"),
                "HELP" => assert_eq!(name, family, "{line}"),
                _ => panic!("not of the format: {line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let suffix = series.split('{').next().unwrap().strip_prefix(family);
        let expected: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "gauge" | "unknown" => &[""],
            other => panic!("{family} is a {other}"),
        };
        assert!(suffix.is_some_and(|suffix| expected.contains(&suffix)), "{line} stands in the block of {family}");
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(samples.insert(series, value).is_none(), "twice: {series}");
    }
    samples
}

/// Without what may change from one page to the next.
fn steady<'a>(samples: &HashMap<&'a str, f64>) -> HashMap<&'a str, u64> {
    let moves = |name: &str| name.starts_with("process_") || name == "chiron_scrape_duration_seconds";
    samples.iter().filter(|(name, _)| !moves(name)).map(|(name, value)| (*name, value.to_bits())).collect()
}

/// EXP-2: whoever asks for the other format sees the same series.
#[test]
fn both_formats_have_the_same_samples() {
    let (text, openmetrics) = (full_page_in(PageFormat::Text), full_page_in(PageFormat::OpenMetrics));
    let (text, openmetrics) = (parse(&text), parse_openmetrics(&openmetrics));
    assert_eq!(steady(&text), steady(&openmetrics));
    assert_eq!(text.len(), openmetrics.len());
    assert!(text.len() > 200 && openmetrics.contains_key("process_cpu_seconds_total"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// EXP-2: the same for any text in labels and any number.
    #[test]
    fn both_formats_have_the_same_samples_whatever_they_are(
        rows in proptest::collection::vec((any::<String>(), any::<String>(), any::<f64>()), 0..8),
        receiver in any::<String>(),
    ) {
        let mut health = Health::clone(&health("a", Status::Degraded));
        health.perfdata = rows
            .into_iter()
            .map(|(label, unit, value)| Perfdata { label: label.into(), value, unit })
            .collect();
        let metrics = Metrics::new(&names(&["a"]), &[pair("x", "a")], &names(&["x"]));
        metrics.alert_received(&receiver.into(), AlertStatus::Firing, AlertOutcome::Accepted);
        let healths = [Arc::new(health)];
        let (text, openmetrics) =
            (page_in(PageFormat::Text, &healths, &metrics), page_in(PageFormat::OpenMetrics, &healths, &metrics));
        prop_assert_eq!(steady(&parse(&text)), steady(&parse_openmetrics(&openmetrics)));
    }
}

/// EXP-1: clean under `promtool check metrics`, and well formed by our own strict reader.
#[test]
fn promtool_has_nothing_to_say() {
    let page = full_page();
    parse(&page);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: apt-get install prometheus");
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
}

/// EXP-1: every known series exists at zero from the start.
#[test]
fn known_series_exist_from_the_start() {
    let metrics =
        Metrics::new(&names(&["data_feed"]), &[pair("restart_subsystem", "data_feed")], &names(&["restart_subsystem"]));
    let page = page_of(&[], &metrics);
    let samples = parse(&page);
    for severity in Severity::ALL.map(Severity::as_str) {
        for (subsystem, kind) in [
            ("data_feed", "subsystem_status"),
            ("host", "cpu_pressure"),
            ("host", "memory_pressure"),
            ("host", "disk_pressure"),
        ] {
            for family in ["chiron_issues", "chiron_issues_opened_total", "chiron_issues_resolved_total"] {
                let series = format!("{family}{{subsystem=\"{subsystem}\",type=\"{kind}\",severity=\"{severity}\"}}");
                assert_eq!(samples.get(&*series), Some(&0.0), "{series}");
            }
        }
    }
    for outcome in Outcome::ALL.map(Outcome::as_str) {
        let series = format!(
            "chiron_actions_total{{action=\"restart_subsystem\",subsystem=\"data_feed\",outcome=\"{outcome}\"}}"
        );
        assert_eq!(samples.get(&*series), Some(&0.0), "{series}");
    }
    for series in [
        "chiron_action_duration_seconds_bucket{action=\"restart_subsystem\",le=\"+Inf\"}",
        "chiron_recovery_duration_seconds_count{action=\"restart_subsystem\"}",
        "chiron_recommendations{action=\"restart_subsystem\",state=\"approval\"}",
        "chiron_journal_errors_total{reason=\"full\"}",
        "chiron_blind{reason=\"watchdog_absent\"}",
        "chiron_watchdog_last_seen_timestamp_seconds",
        "chiron_config_last_reload_successful",
    ] {
        assert_eq!(samples.get(series), Some(&0.0), "{series}");
    }
}

#[test]
fn process_series_are_there() {
    let page = page_of(&[], &Metrics::new(&[], &[], &[]));
    let samples = parse(&page);
    assert!(samples["process_resident_memory_bytes"] > 0.0);
    assert!(samples["process_start_time_seconds"] > 1.6e9);
}

#[test]
fn open_issues_follow_their_episodes_and_never_go_below_zero() {
    let metrics = Metrics::new(&names(&["a"]), &[], &[]);
    let (a, status) = (Name::from("a"), Name::from("subsystem_status"));
    let at = |family: &str, severity: &str| {
        let series = format!("{family}{{subsystem=\"a\",type=\"subsystem_status\",severity=\"{severity}\"}}");
        parse(&page_of(&[], &metrics))[&*series]
    };
    metrics.issue_restored(&a, &status, Severity::High);
    assert_eq!((at("chiron_issues", "high"), at("chiron_issues_opened_total", "high")), (1.0, 0.0));
    metrics.issue_resolved(&a, &status, Severity::High);
    metrics.issue_resolved(&a, &status, Severity::High);
    assert_eq!((at("chiron_issues", "high"), at("chiron_issues_resolved_total", "high")), (0.0, 2.0));
    metrics.issue_opened(&a, &status, Severity::Medium);
    metrics.issue_moved(&a, &status, Severity::Medium, Severity::Critical);
    assert_eq!((at("chiron_issues", "medium"), at("chiron_issues", "critical")), (0.0, 1.0));
    assert_eq!((at("chiron_issues_opened_total", "medium"), at("chiron_issues_opened_total", "critical")), (1.0, 0.0));
}

/// ACT-4: what several bindings have in common is counted in one place; what did not run took no time.
#[test]
fn recommendations_and_reactions_are_counted() {
    let (action, kind) = (Name::from("x"), Name::from("subsystem_status"));
    let metrics = Metrics::new(&names(&["a", "b"]), &[pair("x", "a"), pair("x", "b")], &names(&["x"]));
    for seconds in [1, 2] {
        metrics.detected(&kind, Duration::from_secs(seconds));
        metrics.reacted(&kind, &action, Duration::from_secs(seconds));
        metrics.issue_over(&kind, Duration::from_secs(seconds));
    }
    metrics.action_ended(&action, &"a".into(), Outcome::Rejected, None);
    metrics.issue_action_ended(&kind, &action, Outcome::Rejected);
    metrics.issue_action_ended(&"own_type".into(), &action, Outcome::Failed);
    metrics.recommendation_ended(&action, Outcome::NotNeeded);
    for page in [page_of(&[], &metrics), {
        metrics.reconfigure(&names(&["a"]), &[pair("x", "a")], &names(&["x"]));
        page_of(&[], &metrics)
    }] {
        let samples = parse(&page);
        for (series, value) in [
            ("chiron_detection_duration_seconds_count{type=\"subsystem_status\"}", 2.0),
            ("chiron_issue_recovery_duration_seconds_sum{type=\"subsystem_status\"}", 3.0),
            ("chiron_reaction_duration_seconds_count{action=\"x\",type=\"subsystem_status\"}", 2.0),
            ("chiron_action_duration_seconds_count{action=\"x\"}", 0.0),
            ("chiron_issue_actions_total{type=\"subsystem_status\",action=\"x\",outcome=\"rejected\"}", 1.0),
            ("chiron_issue_actions_total{type=\"own_type\",action=\"x\",outcome=\"failed\"}", 1.0),
            ("chiron_recommendations_ended_total{action=\"x\",outcome=\"not_needed\"}", 1.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
    }
}

#[test]
fn a_reload_drops_removed_subjects_and_keeps_the_counts_of_the_others() {
    let metrics =
        Metrics::new(&names(&["a", "b"]), &[pair("x", "a"), pair("x", "b"), pair("y", "b")], &names(&["x", "y"]));
    let status = Name::from("subsystem_status");
    for subsystem in ["a", "b"] {
        metrics.issue_opened(&subsystem.into(), &status, Severity::High);
        metrics.issue_opened(&subsystem.into(), &"symbol_stuck".into(), Severity::High);
        metrics.action_ended(&"x".into(), &subsystem.into(), Outcome::Verified, Some(Duration::from_secs(1)));
    }
    metrics.reconfigure(&names(&["a", "c"]), &[pair("x", "a")], &names(&["x"]));
    metrics.issue_resolved(&"b".into(), &status, Severity::High);
    metrics.issue_moved(&"b".into(), &status, Severity::High, Severity::Low);
    let page = page_of(&[], &metrics);
    let samples = parse(&page);
    assert!(!page.contains("subsystem=\"b\""), "series of a removed subsystem are still there");
    assert!(!page.contains("action=\"y\""), "series of a removed action are still there");
    let opened = |subsystem: &str, kind: &str| {
        let labels = format!("{{subsystem=\"{subsystem}\",type=\"{kind}\",severity=\"high\"}}");
        samples[&*format!("chiron_issues_opened_total{labels}")]
    };
    assert_eq!(opened("a", "subsystem_status"), 1.0);
    assert_eq!(opened("a", "symbol_stuck"), 1.0);
    assert_eq!(opened("c", "subsystem_status"), 0.0);
    assert_eq!(samples["chiron_actions_total{action=\"x\",subsystem=\"a\",outcome=\"verified\"}"], 1.0);
    assert_eq!(samples["chiron_action_duration_seconds_count{action=\"x\"}"], 2.0);
}

/// Cardinality is bounded whatever occurs; what is beyond the bound is still counted.
#[test]
fn further_series_are_bounded() {
    let metrics = Metrics::new(&names(&["a"]), &[], &[]);
    for index in 0..1_500 {
        metrics.issue_opened(&"a".into(), &format!("type_{index}").into(), Severity::Low);
        metrics.action_ended(
            &format!("act_{index}").into(),
            &"a".into(),
            Outcome::Failed,
            Some(Duration::from_secs(1)),
        );
        metrics.alert_received(&format!("r_{index}").into(), AlertStatus::Firing, AlertOutcome::Unrouted);
    }
    let page = page_of(&[], &metrics);
    let samples = parse(&page);
    assert_eq!(samples["chiron_issues{subsystem=\"a\",type=\"other\",severity=\"low\"}"], 500.0);
    assert_eq!(samples["chiron_actions_total{action=\"other\",subsystem=\"other\",outcome=\"failed\"}"], 500.0);
    assert_eq!(samples["chiron_action_duration_seconds_count{action=\"other\"}"], 500.0);
    let other = "chiron_alerts_received_total{receiver=\"other\",status=\"firing\",outcome=\"unrouted\"}";
    assert_eq!(samples[other], 1_400.0);
    let total: f64 =
        samples.iter().filter(|(series, _)| series.starts_with("chiron_issues{")).map(|(_, value)| value).sum();
    assert_eq!(total, 1_500.0, "every opened issue is counted somewhere");
}

#[test]
fn histograms_are_cumulative_and_sum_up() {
    let metrics = Metrics::new(&[], &[pair("x", "a")], &names(&["x"]));
    for millis in [5, 10, 11, 2_500, 400_000] {
        metrics.action_ended(&"x".into(), &"a".into(), Outcome::Verified, Some(Duration::from_millis(millis)));
    }
    let page = page_of(&[], &metrics);
    let samples = parse(&page);
    for (le, count) in [("0.01", 2.0), ("0.05", 3.0), ("1.0", 3.0), ("2.5", 4.0), ("300.0", 4.0), ("+Inf", 5.0)] {
        assert_eq!(
            samples[&*format!("chiron_action_duration_seconds_bucket{{action=\"x\",le=\"{le}\"}}")],
            count,
            "{le}"
        );
    }
    assert_eq!(samples["chiron_action_duration_seconds_sum{action=\"x\"}"], 402.526);
}

/// EXP-1: a subsystem has exactly one status at 1, and every one is present.
#[test]
fn exactly_one_status_is_set() {
    for status in Status::ALL {
        let page = page_of(&[health("a", status)], &Metrics::new(&names(&["a"]), &[], &[]));
        let samples = parse(&page);
        for other in Status::ALL {
            let series = format!("chiron_subsystem_status{{subsystem=\"a\",status=\"{other}\"}}");
            assert_eq!(samples[&*series], f64::from(u8::from(status == other)));
        }
    }
}

/// POL-1: restrictions and policy as metrics, for every level.
#[test]
fn policy_series_follow_the_level() {
    for level in Level::ALL {
        let metrics = Metrics::new(&[], &[], &[]);
        let mut out = Vec::new();
        let policy = document(level, vec![hold(PolicySource::Alert, level)]);
        let page = Page {
            healths: &[],
            points: &[],
            criticalities: &[],
            overall: Status::Unknown,
            recommendations: &[],
            policy: &policy,
            resources: None,
            forecasts: &Forecasts::new(),
            dry_run: false,
            stormy: false,
            windows: &[],
            announced: 0,
            ready: false,
            open_runs: 0,
            check_lag_seconds: f64::NAN,
            journal_seq: 0,
            intake_pending: 0,
        };
        render(&page, &metrics, PageFormat::Text, &mut out);
        let text = String::from_utf8(out).unwrap();
        let samples = parse(&text);
        let flag = |value: bool| f64::from(u8::from(value));
        assert_eq!(samples["chiron_trading_allowed"], flag(level <= Level::SafeRiskProfile));
        assert_eq!(samples["chiron_new_positions_allowed"], flag(level <= Level::SafeRiskProfile));
        assert_eq!(samples["chiron_restriction_trade_allowed"], flag(level != Level::EmergencyShutdown));
        assert_eq!(samples[&*format!("chiron_safety_policy{{policy=\"{level}\"}}")], 1.0);
        assert_eq!(samples[&*format!("chiron_safety_policy_source{{source=\"alert\",policy=\"{level}\"}}")], 1.0);
        assert_eq!(samples["chiron_safety_policy_source{source=\"operator\",policy=\"allow_all\"}"], 1.0);
        let leverage = if level == Level::SafeRiskProfile { 5.0 } else { f64::INFINITY };
        assert_eq!(samples["chiron_restriction_max_leverage"], leverage);
    }
}

/// The large page: all of it is there, well formed, once.
#[test]
fn a_hundred_thousand_series_render_and_read_back() {
    let subsystems: Vec<Name> = (0..4_800).map(|index| format!("subsystem_{index}").into()).collect();
    let healths: Vec<_> = subsystems.iter().map(|name| health(name, Status::Healthy)).collect();
    let metrics = Metrics::new(&subsystems, &[], &[]);
    let fixed = parse(&page_of(&[], &Metrics::new(&[], &[], &[]))).len();
    let page = page_of(&healths, &metrics);
    // Per subsystem: 5 statuses, info, time, duration, failures, and 3 families of 4 severities.
    assert_eq!(parse(&page).len(), fixed + 4_800 * 21);
    assert!(parse(&page).len() >= 100_000);
}

/// EXP-1, OBS-9: what a check may raise has its rows at zero from the start, also after a reload, with their counts; of what is
/// raised no longer they stay as what occurred.
#[test]
fn issue_types_of_checks_have_rows_from_the_start() {
    let metrics = Metrics::new(&names(&["a", "b"]), &[], &[]);
    let raised = [pair("a", "high_latency"), pair("a", "memory_pressure")];
    metrics.expect_issues(raised.clone());
    let value = |kind: &str, family: &str| {
        let page = page_of(&[], &metrics);
        let name = format!("{family}{{subsystem=\"a\",type=\"{kind}\",severity=\"medium\"}}");
        parse(&page).get(name.as_str()).copied()
    };
    assert_eq!(value("high_latency", "chiron_issues"), Some(0.0));
    assert_eq!(value("websocket_disconnected", "chiron_issues"), None);
    metrics.issue_opened(&"a".into(), &"high_latency".into(), Severity::Medium);
    for expected in [&raised[..], &raised[..], &[]] {
        metrics.reconfigure(&names(&["a", "b"]), &[], &[]);
        metrics.expect_issues(expected.iter().cloned());
        assert_eq!(value("high_latency", "chiron_issues"), Some(1.0));
        assert_eq!(value("high_latency", "chiron_issues_opened_total"), Some(1.0));
        assert_eq!(value("memory_pressure", "chiron_issues_opened_total"), Some(0.0));
    }
}

/// EXP-1, OBS-9: however many symbols a bot tells of, the page has the same few of them.
#[test]
fn symbols_are_bounded() {
    let mut bot = Health::clone(&health("bot", Status::Healthy));
    let limits = (0..1_000).rev().map(|index| (Name::from(format!("S{index:04}").as_str()), 50.0)).collect();
    bot.signals.vitals = Some(Arc::new(Vitals { rate_limits: Some(limits), ..Vitals::default() }));
    let page = page_of(&[Arc::new(bot)], &Metrics::new(&names(&["bot"]), &[], &[]));
    let of_it = |line: &&str| line.starts_with("chiron_vitals_rate_limit_ratio{");
    assert_eq!(page.lines().filter(of_it).count(), 100);
    assert!(page.contains("chiron_vitals_rate_limit_ratio{subsystem=\"bot\",symbol=\"S0099\"} 0.5\n"));
}

/// EXP-1, OBS-9: when a bot last told of itself stays on the page while it is silent and after a reload, and is 0 from the start.
#[test]
fn the_time_of_the_latest_vitals_stays() {
    let metrics = Metrics::new(&names(&["a", "b"]), &[], &[]);
    let at = |page: &str, bot: &str| {
        parse(page).get(format!("chiron_vitals_timestamp_seconds{{subsystem=\"{bot}\"}}").as_str()).copied()
    };
    metrics.bots.expect(names(&["a", "b"]));
    let page = page_of(&[health("x", Status::Healthy)], &metrics);
    assert_eq!((at(&page, "a"), at(&page, "b"), at(&page, "c")), (Some(0.0), Some(0.0), None));
    let mut bot = Health::clone(&health("a", Status::Healthy));
    let vitals = Vitals { at: Timestamp::from_millis(1_763_862_895_500), ..Vitals::default() };
    bot.signals.vitals = Some(Arc::new(vitals));
    metrics.bots.saw(&bot);
    let silent = health("a", Status::Critical);
    metrics.bots.saw(&silent);
    let page = page_of(&[silent], &metrics);
    assert_eq!((at(&page, "a"), at(&page, "b")), (Some(1_763_862_895.5), Some(0.0)));
    metrics.bots.expect(names(&["c", "a"]));
    let page = page_of(&[health("x", Status::Healthy)], &metrics);
    assert_eq!((at(&page, "a"), at(&page, "b"), at(&page, "c")), (Some(1_763_862_895.5), None, Some(0.0)));
}

/// EXP-1: what is expected twice has one row, and many thousands are expected at once in no time to speak of.
#[test]
fn very_many_issue_types_are_expected() {
    let bots: Vec<Name> = (0..10_000).map(|index| format!("bot_{index}").into()).collect();
    let metrics = Metrics::new(&bots, &[], &[]);
    let types = ["high_latency", "memory_pressure", "rate_limit_critical", "high_latency"];
    metrics.issue_opened(&bots[7], &types[1].into(), Severity::Medium);
    let begun = std::time::Instant::now();
    metrics.expect_issues(bots.iter().flat_map(|bot| types.map(|kind| (bot.clone(), Name::from(kind)))));
    // By looking through all rows for each it takes minutes.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let page = page_of(&[], &metrics);
    let rows = page.lines().filter(|line| line.starts_with("chiron_issues{subsystem=\"bot_7\",type=\"")).count();
    assert_eq!(rows, 4 * Severity::ALL.len());
}
