//! The eleven failure points over real files and servers: each broken and mended, in the API, the metrics and both files.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};

use crate::common::{Chiron, Config, HttpServer, Reply, now_millis, wait_for};

const CATEGORIES: [&str; 11] = [
    "exchange_api",
    "intelligence_api",
    "kill_switch",
    "strategy_overlap",
    "symbol_probation",
    "file_system",
    "network",
    "intelligence_freshness",
    "position_limits",
    "configuration",
    "signal_blocks",
];

/// A server that is well (0), down (1), hangs (2) or pours out an endless body (3).
fn server(body: &'static str) -> (HttpServer, Arc<AtomicU8>) {
    let state = Arc::new(AtomicU8::new(0));
    let told = Arc::clone(&state);
    let server = HttpServer::answering(move |_| match told.load(Ordering::SeqCst) {
        0 => Reply::Status(200, body.to_owned()),
        1 => Reply::Status(503, String::new()),
        2 => Reply::Never,
        _ => Reply::Endless,
    });
    (server, state)
}

fn put(dir: &Path, name: &str, value: &Value) {
    let (path, beside) = (dir.join(name), dir.join(format!("{name}.new")));
    fs::write(&beside, value.to_string()).expect("a file can be written");
    fs::rename(beside, path).expect("a file can be replaced");
}

fn positions(entries: &[(&str, &str, &str)]) -> Value {
    let one = |(symbol, direction, strategy): &(&str, &str, &str)| json!({"symbol": symbol, "direction": direction, "strategy": strategy});
    json!({"open_positions": entries.iter().map(one).collect::<Vec<_>>()})
}

/// Waits for a failure point's status; its details then.
fn wait_status(chiron: &Chiron, category: &str, status: &str) -> Value {
    wait_for(&format!("{category} to be {status}"), || {
        let found = chiron.get_json(&format!("/api/v1/failure-points/{category}"));
        if found["status"] == status { Ok(found["details"].clone()) } else { Err(found) }
    })
}

/// Waits until so many issues of a category are open.
fn wait_issues(chiron: &Chiron, category: &str, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} issues of {category}"), || {
        let all = chiron.get_json("/api/v1/issues");
        let all = all["issues"].as_array().cloned().unwrap_or_default();
        let of_it: Vec<Value> = all.into_iter().filter(|issue| issue["type"] == category).collect();
        if of_it.len() == count { Ok(of_it) } else { Err(of_it) }
    })
}

/// OBS-8: every category is broken and mended. Broken, it is an issue of its own type from source `failure_point`, with its
/// symbol where it is about one; mended, the issue ends. Both files, the metrics, the report and the API tell of it.
#[test]
fn every_failure_point_is_broken_and_mended() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let at = dir.path();
    for folder in ["state", "conf", "data", "logs"] {
        fs::create_dir_all(at.join(folder)).expect("a folder can be made");
    }
    let (exchange, exchange_state) = server("{}");
    let (intelligence, intelligence_state) = server("{}");
    let (network, _) = server("{}");
    let fresh = || json!({"timestamp": now_millis()});
    put(at, "state/kill_switch.json", &json!({"active": false}));
    put(at, "logs/positions.json", &positions(&[("BTCUSDT", "LONG", "a"), ("ETHUSDT", "LONG", "b")]));
    put(at, "state/probation.json", &json!({"symbols": {}}));
    put(at, "data/intelligence.json", &fresh());
    put(at, "conf/trading.json", &json!({"max_positions": 3}));
    put(at, "conf/schema.json", &json!({"type": "object", "required": ["max_positions"]}));
    let yaml = format!(
        "subsystems:\n  bot: {{criticality: partial, check: {{kind: push}}}}\n\
         failure_points:\n  every: 500ms\n  \
         exchange_api: {{url: \"{}\", timeout: 500ms, max_error_rate: 1}}\n  \
         intelligence_api: {{url: \"{}\", timeout: 1s, max_error_rate: 1}}\n  \
         kill_switch: {{path: state/kill_switch.json}}\n  \
         strategy_overlap: {{positions: logs/positions.json}}\n  \
         symbol_probation: {{path: state/probation.json}}\n  \
         file_system: {{max_used: 1, critical_files: [logs/positions.json, state/critical.json]}}\n  \
         network: {{hosts: [\"{}\"]}}\n  \
         intelligence_freshness: {{path: data/intelligence.json}}\n  \
         position_limits: {{positions: logs/positions.json, max: 3}}\n  \
         configuration: {{files: {{conf/trading.json: {{schema: conf/schema.json}}}}}}\n  \
         signal_blocks: {{from: vitals, all_refused_for: 4s}}\n",
        exchange.url("/ping?key=canary-key"),
        intelligence.url("/health"),
        network.address(),
    );
    put(at, "state/critical.json", &json!({}));
    let chiron = Chiron::with_config(at, Config::new(at).with(&yaml).text()).start();
    let push = |signals: u64, refused: u64| {
        let vitals =
            json!({"subsystem": "bot", "signals_total": signals, "blocked_signals": {"max_positions": refused}});
        let response = chiron.post("/api/v1/vitals", &vitals.to_string()).expect("chiron answers");
        assert_eq!(response.status, 202, "{}", response.body);
    };
    push(5, 1);
    for category in CATEGORIES {
        wait_status(&chiron, category, "healthy");
        let zero = chiron.metric_sum("chiron_issues", &[("subsystem", "platform"), ("type", category)]);
        assert_eq!(zero, 0.0, "{category}");
    }
    assert_eq!(chiron.get_json("/api/v1/failure-points")["overall_status"], "HEALTHY");
    let lines = || -> Vec<Value> {
        let log = fs::read_to_string(at.join("logs/failure_point_monitor.jsonl")).unwrap_or_default();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    };
    let logged = |status: &str| {
        wait_for("the log to tell of it", || {
            let last = lines().pop().unwrap_or_default();
            if last["overall_status"] == status { Ok(()) } else { Err(last) }
        });
    };
    logged("HEALTHY");

    let broken = |category: &str, status: &str, text: &str| {
        let details = wait_status(&chiron, category, status);
        let told = details["findings"].to_string();
        assert!(told.contains(text), "{category}: {told}");
        let issue = wait_issues(&chiron, category, 1).remove(0);
        assert_eq!((&issue["source"], &issue["subsystem"]), (&json!("failure_point"), &json!("platform")), "{issue}");
        let labels = [("category", category), ("status", status)];
        assert_eq!(chiron.metric("chiron_failure_point_status", &labels), Some(1.0), "{category}");
        assert_eq!(chiron.metric_sum("chiron_failure_point_findings", &[("category", category)]), 1.0, "{category}");
        assert_eq!(chiron.metric_sum("chiron_issues", &[("type", category)]), 1.0, "{category}");
        issue
    };
    let mended = |category: &str| {
        wait_status(&chiron, category, "healthy");
        wait_issues(&chiron, category, 0);
    };

    for (state, text) in [(1, "status 503"), (2, "no answer within 500ms")] {
        exchange_state.store(state, Ordering::SeqCst);
        assert_eq!(broken("exchange_api", "critical", text)["severity"], "critical");
        exchange_state.store(0, Ordering::SeqCst);
        mended("exchange_api");
    }
    // Endless, it is cut off at a bound and refused.
    intelligence_state.store(3, Ordering::SeqCst);
    broken("intelligence_api", "critical", "intelligence API down");
    intelligence_state.store(0, Ordering::SeqCst);
    mended("intelligence_api");

    put(
        at,
        "state/kill_switch.json",
        &json!({"active": true, "reason": "max_drawdown", "blocked_until": "2020-01-01T00:00:00Z"}),
    );
    broken("kill_switch", "critical", "without release");
    wait_for("no new trades", || {
        let policy = chiron.get_json("/api/v1/policy")["policy"].clone();
        if policy == "no_new_trades" { Ok(()) } else { Err(policy) }
    });
    let alerts = wait_for("a person to be told", || fs::read_to_string(at.join("logs/operator_alerts.jsonl")));
    assert!(alerts.contains("release it in the bot"), "{alerts}");
    let summary = || -> Value {
        let text = fs::read_to_string(at.join("logs/failure_point_monitor_summary.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    };
    wait_for("the summary to be critical", || {
        let found = summary();
        if found["overall_status"] == "CRITICAL" { Ok(()) } else { Err(found) }
    });
    assert_eq!(chiron.metric("chiron_failure_points_overall", &[("status", "critical")]), Some(1.0));
    assert_eq!(chiron.get_json("/status")["failure_points"]["categories"]["kill_switch"]["status"], "critical");
    put(at, "state/kill_switch.json", &json!({"active": false}));
    mended("kill_switch");

    put(at, "logs/positions.json", &positions(&[("BTCUSDT", "LONG", "a"), ("BTCUSDT", "long", "b")]));
    assert_eq!(broken("strategy_overlap", "degraded", "BTCUSDT LONG: a, b")["symbol"], "BTCUSDT");
    put(at, "logs/positions.json", &positions(&[("A", "LONG", "a"), ("B", "LONG", "b"), ("C", "LONG", "c")]));
    mended("strategy_overlap");
    broken("position_limits", "degraded", "at the limit of 3");
    put(at, "logs/positions.json", &positions(&[]));
    mended("position_limits");

    put(at, "state/probation.json", &json!({"symbols": {"SOLUSDT": {"recovering": true}}}));
    assert_eq!(broken("symbol_probation", "degraded", "recovering")["severity"], "low");
    put(at, "state/probation.json", &json!({"symbols": {}}));
    mended("symbol_probation");

    fs::remove_file(at.join("state/critical.json")).expect("a file can be removed");
    fs::create_dir(at.join("state/critical.json")).expect("a folder can stand in its place");
    broken("file_system", "critical", "is a directory, expected a file");
    fs::remove_dir(at.join("state/critical.json")).expect("the folder can be removed");
    put(at, "state/critical.json", &json!({}));
    mended("file_system");

    put(at, "data/intelligence.json", &json!({"timestamp": now_millis() - 121_000}));
    broken("intelligence_freshness", "degraded", "is stale: older than 120s");
    logged("WARNING");
    put(at, "data/intelligence.json", &fresh());
    mended("intelligence_freshness");

    fs::write(at.join("conf/trading.json"), "{\"max_pos").expect("a file can be written");
    broken("configuration", "degraded", "not JSON");
    put(at, "conf/trading.json", &json!({"max_position": 3}));
    wait_for("the schema to be told", || {
        let details = wait_status(&chiron, "configuration", "degraded");
        if details.to_string().contains("is a required property") { Ok(()) } else { Err(details) }
    });
    put(at, "conf/trading.json", &json!({"max_positions": 3}));
    mended("configuration");

    // Signals keep coming, and none of them passes.
    let mut refused = 1;
    let details = wait_for("every signal to be refused", || {
        refused += 1;
        push(refused + 4, refused);
        let found = chiron.get_json("/api/v1/failure-points/signal_blocks");
        if found["status"] == "degraded" { Ok(found["details"].clone()) } else { Err(found) }
    });
    assert_eq!(details["top_blockers"][0]["guard"], "max_positions");
    broken("signal_blocks", "degraded", "every signal of bot has been refused");
    push(refused + 9, refused);
    mended("signal_blocks");

    drop(network);
    broken("network", "critical", "refused");
    logged("CRITICAL");

    let log = fs::read_to_string(at.join("logs/failure_point_monitor.jsonl")).expect("there is a log");
    let lines = lines();
    assert!(lines.len() > 10, "{}", lines.len());
    assert!(lines.iter().all(|line| line["categories"].as_object().map(serde_json::Map::len) == Some(11)));
    let everything = format!("{log}{}{}{}", chiron.metrics(), chiron.get_json("/status"), chiron.log());
    assert!(!everything.contains("canary-key"), "a query is told");
}

/// OBS-8: without failure points nothing is written, and every category is unknown; a reload brings one, without a restart,
/// and takes it away with its issue. The files are chiron's own and are written in dry-run too.
#[test]
fn a_reload_brings_and_takes_failure_points() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let at = dir.path();
    let config = || Config::new(at).with("dry_run: true\n");
    let chiron = Chiron::with_config(at, config().text()).start();
    let all = chiron.get_json("/api/v1/failure-points");
    assert_eq!(all["overall_status"], "UNKNOWN");
    let found: Vec<(&str, &Value)> = all["failure_points"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["category"].as_str().expect("a category"), &one["status"]))
        .collect();
    let unknown = json!("unknown");
    assert_eq!(found, CATEGORIES.map(|category| (category, &unknown)));
    assert_eq!(chiron.metric_sum("chiron_failure_point_status", &[("status", "unknown")]), 11.0);
    assert_eq!(chiron.get("/api/v1/failure-points/none").expect("chiron answers").status, 404);

    put(at, "state.json", &json!({"active": true}));
    let with = config().with("failure_points: {every: 200ms, kill_switch: {path: state.json}}\n");
    chiron.rewrite_config(with.text());
    assert!(!at.join("logs/failure_point_monitor.jsonl").exists(), "nothing is configured yet");
    chiron.hang_up();
    wait_issues(&chiron, "kill_switch", 1);
    wait_for("both files", || {
        let there = |name: &str| at.join("logs").join(name).exists();
        let both = there("failure_point_monitor.jsonl") && there("failure_point_monitor_summary.json");
        if both { Ok(()) } else { Err("not yet") }
    });
    let summary = |wanted: &str| {
        wait_for(&format!("the summary to say {wanted}"), || {
            let text = fs::read_to_string(at.join("logs/failure_point_monitor_summary.json")).unwrap_or_default();
            let found: Value = serde_json::from_str(&text).unwrap_or_default();
            if found["overall_status"] == wanted { Ok(found) } else { Err(found) }
        })
    };
    assert_eq!(summary("CRITICAL")["configured"], json!(["kill_switch"]));
    fs::remove_file(at.join("state.json")).expect("a file can be removed");
    wait_status(&chiron, "kill_switch", "unknown");
    summary("WARNING");
    wait_issues(&chiron, "kill_switch", 1);
    chiron.rewrite_config(config().text());
    chiron.hang_up();
    wait_issues(&chiron, "kill_switch", 0);
    wait_status(&chiron, "kill_switch", "unknown");
    let last = summary("UNKNOWN");
    assert_eq!((&last["configured"], &last["categories"]["kill_switch"]["status"]), (&json!([]), &json!("unknown")));
    let released = config().with("failure_points: {every: 200ms, kill_switch: {path: state.json, missing: healthy}}\n");
    put(at, "state.json", &json!({"active": true}));
    chiron.rewrite_config(released.text());
    chiron.hang_up();
    wait_issues(&chiron, "kill_switch", 1);
    fs::remove_file(at.join("state.json")).expect("a file can be removed");
    wait_issues(&chiron, "kill_switch", 0);
    wait_status(&chiron, "kill_switch", "healthy");
}
