//! The reference report of SPEC 15, from a fixture workspace.

use chiron::demo::reference_workspace;
use chiron::model::Timestamp;
use serde_json::{Value, json};

use crate::common::{Chiron, Config, now_millis};

/// A field of every element of a list.
fn column(list: &Value, field: &str) -> Vec<Value> {
    list.as_array().into_iter().flatten().map(|element| element[field].clone()).collect()
}

/// OBS-2, OBS-3, OBS-4, DET-1, REC-1, REC-2, POL-1, POL-6: the whole reference report, field by field, at the first check.
#[test]
fn reference_report() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let workspace = dir.path().join("workspace");
    reference_workspace(&workspace, Timestamp::from_millis(now_millis())).expect("a workspace can be made");
    let config = Config::new(dir.path()).text().replace("profile: none", "profile: quantum");
    let config = config
        .replace(&format!("workspace: {:?}", dir.path()), &format!("workspace: {workspace:?}"))
        .replace("max_memory_percent: 100", "max_memory_percent: 85")
        .replace("check_interval: 1s\ncritical_check_interval: 1s", "check_interval: 30s\ncritical_check_interval: 5s");
    let chiron = Chiron::with_config(dir.path(), &format!("{config}auto_restart_enabled: true\n"))
        .env("CHIRON_TEST_MEMORY_PERCENT", "91.3")
        .start();

    let forced = chiron.post("/health/force-check", "").expect("chiron answers");
    assert_eq!(forced.status, 200, "{}", forced.body);
    let forced = forced.json();
    assert_eq!(forced["status"], "critical");
    assert_eq!(column(&forced["issues"], "severity"), ["medium", "critical", "critical", "medium", "high"]);
    assert!(forced["timestamp"].as_str().is_some_and(|text| Timestamp::parse_rfc3339(text).is_some()), "{forced}");

    let report = chiron.get_json("/status");
    let status = |name: &str| report["subsystem_health"][name]["status"].clone();
    for (name, wanted) in
        [("data_feed", "degraded"), ("ai_model", "critical"), ("database", "critical"), ("logging", "degraded")]
    {
        assert_eq!(status(name), wanted, "{name}: {}", report["subsystem_health"][name]);
    }
    let mut names: Vec<&str> = Vec::new();
    for (name, health) in report["subsystem_health"].as_object().expect("a map of healths") {
        names.push(name);
        assert_eq!(health["subsystem"], json!(name));
        if !["data_feed", "ai_model", "database", "logging", "host"].contains(&name.as_str()) {
            assert_eq!(health["status"], "unknown", "{name} has no file: {health}");
        }
        for field in ["timestamp", "response_time_ms", "error_count", "details"] {
            assert!(health.get(field).is_some(), "{name} has no `{field}`: {health}");
        }
    }
    for name in chiron::demo::STATE_NAMES.iter().chain(&["exchange_connection", "event_executor"]) {
        assert!(names.contains(name), "{name} is missing from {names:?}");
    }
    let warning = report["subsystem_health"]["data_feed"]["details"]["warning"].as_str().unwrap_or_default();
    let age = warning.strip_prefix("Snapshot ").and_then(|rest| rest.strip_suffix("s old (stale)"));
    let age: f64 = age.and_then(|age| age.parse().ok()).unwrap_or_else(|| panic!("`{warning}`"));
    assert!((320.0..400.0).contains(&age), "`{warning}`");
    let models = &report["subsystem_health"]["ai_model"]["details"];
    assert_eq!(models["total"], 4, "{models}");
    let existing = &models["existing_models"];
    assert!(*existing == json!(1) || *existing == json!(["xgb_model.pkl"]), "{models}");

    let issues = &report["detected_issues"];
    assert_eq!(column(issues, "subsystem"), ["data_feed", "ai_model", "database", "logging", "host"]);
    assert_eq!(column(issues, "severity"), ["medium", "critical", "critical", "medium", "high"]);
    assert_eq!(
        column(issues, "description"),
        [
            "data_feed performance degraded",
            "ai_model is critical",
            "database is critical",
            "logging performance degraded",
            "Memory usage critically high: 91.3%"
        ]
    );
    assert_eq!(column(issues, "impacts_trading"), [false, false, false, false, true]);
    assert_eq!(issues[1]["affects_subsystems"], json!(["event_executor", "model_supervisor"]));
    for issue in issues.as_array().into_iter().flatten() {
        let id = issue["issue_id"].as_str().unwrap_or_default();
        let subsystem = issue["subsystem"].as_str().unwrap_or_default();
        let date = id.strip_prefix(subsystem).and_then(|rest| rest.strip_prefix('_')).unwrap_or_default();
        assert!(date.len() >= 15 && date.as_bytes()[8] == b'_', "`{id}` is SUBSYSTEM_YYYYMMDD_HHMMSS");
    }

    assert_eq!(report["overall_status"], "critical");
    assert_eq!(report["current_safety_policy"], "no_new_trades");
    assert_eq!(report["trading_should_continue"], false);
    assert_eq!(report["requires_immediate_action"], true);
    assert_eq!(
        report["summary"],
        json!({"healthy": 0, "degraded": 2, "critical": 2, "failed": 0, "unknown": 9}),
        "{}",
        report["summary"]
    );

    let recommendations = &report["recovery_recommendations"];
    assert_eq!(column(recommendations, "subsystem"), ["ai_model", "database", "data_feed", "logging", "host"]);
    assert_eq!(column(recommendations, "priority"), [1, 1, 2, 2, 2]);
    let actions = column(recommendations, "action");
    assert_eq!(actions[..4], ["disable_module", "restart_subsystem", "reload_config", "reload_config"]);
    assert_eq!(column(recommendations, "can_auto_execute")[..4], [true, true, false, false]);
    for (recommendation, issue) in recommendations.as_array().into_iter().flatten().zip([1, 2, 0, 3, 4]) {
        let id = &issues[issue]["issue_id"];
        assert_eq!(recommendation["issue_id"], *id);
        // The host's mildest rungs have no means here; the one that chiron brings itself is its third.
        let rung = if recommendation["subsystem"] == "host" { 3 } else { 1 };
        assert_eq!(recommendation["recommendation_id"], format!("rec_{rung}_{}", id.as_str().unwrap_or_default()));
        for field in ["description", "expected_result"] {
            assert!(recommendation[field].as_str().is_some_and(|text| !text.is_empty()), "{recommendation}");
        }
        assert!(recommendation["risks"].as_array().is_some_and(|risks| !risks.is_empty()), "{recommendation}");
    }
    let file = workspace.join("data/self_healing_report.json");
    let file: Value = serde_json::from_slice(&std::fs::read(file).expect("the report is published")).expect("as JSON");
    assert_eq!(file["overall_status"], "critical");
    // Only a level of chiron's own policy needs no means.
    let verified = chiron.metric_sum("chiron_actions_total", &[("outcome", "verified")]);
    let own =
        chiron.metric_sum("chiron_actions_total", &[("outcome", "verified"), ("action", "switch_to_safe_profile")]);
    assert_eq!(verified, own, "nothing is bound");
}
