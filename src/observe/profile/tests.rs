//! The built-in subsystems against a workspace, as OBS-3 and the reference report have them.
#![expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::base::clock::Clock;
use crate::model::{Status, Timestamp};
use crate::observe::check::Judgement;
use crate::observe::checks::testing::{NOW, date, files_of, run_at, torture};

fn context(workspace: &Path) -> BuildContext {
    let _ = rustls::crypto::ring::default_provider().install_default();
    BuildContext {
        folder: workspace.into(),
        max_error_rate: 0.2,
        max_latency: Duration::from_secs(2),
        workspace: workspace.to_owned(),
        data_dir: workspace.join("data"),
        log_dir: workspace.join("logs"),
        stale_after: Duration::from_secs(300),
        own_files: Arc::new(vec![workspace.join("logs/chiron.jsonl")]),
        clock: Clock::manual(NOW),
        http: reqwest::Client::new(),
    }
}

fn judge(workspace: &Path, name: &str) -> Judgement {
    let built_in = SUBSYSTEMS.into_iter().find(|built_in| built_in.name == name).unwrap();
    run_at(&*(built_in.build)(&context(workspace)), NOW)
}

fn write(workspace: &Path, name: &str, content: &str, age: Duration) {
    let path = workspace.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    date(&path, NOW.minus(age));
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// OBS-3: names are unique and snake_case, in the table's order; no file is forgotten; what is depended on exists.
#[test]
fn the_registry_is_complete() {
    let names = SUBSYSTEMS.map(|built_in| built_in.name);
    for built_in in SUBSYSTEMS {
        assert!(built_in.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        assert!(built_in.depends_on.iter().all(|name| names.contains(name) && *name != built_in.name));
        assert!(built_in.doc.ends_with('.'));
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    assert_eq!(sorted, files_of("src/observe/profile", &["mod", "tests"]));
    assert_eq!(names[0], "data_feed");
    assert_eq!(names[12], "logging");
}

/// OBS-6: `ai_model` affects exactly `event_executor` and `model_supervisor`, on which nothing depends.
#[test]
fn who_depends_on_the_models() {
    let dependants = |name: &str| -> Vec<&str> {
        SUBSYSTEMS.iter().filter(|one| one.depends_on.contains(&name)).map(|one| one.name).collect()
    };
    assert_eq!(dependants("ai_model"), ["event_executor", "model_supervisor"]);
    assert!(dependants("event_executor").is_empty() && dependants("model_supervisor").is_empty());
}

/// OBS-3, section 15: the workspace of the reference report.
#[test]
fn the_reference_workspace() {
    let folder = tempfile::tempdir().unwrap();
    let stamp = NOW.minus(seconds(320));
    let snapshot = format!(r#"{{"timestamp": "{stamp}", "symbols": ["BTCUSDT", "ETHUSDT"]}}"#);
    write(folder.path(), "data/universe_snapshot.json", &snapshot, seconds(0));
    write(folder.path(), "models/xgb_model.pkl", "x", seconds(0));
    write(folder.path(), "logs/bot.log", "x", seconds(120));
    write(folder.path(), "logs/chiron.jsonl", "{}", seconds(0));
    for built_in in SUBSYSTEMS {
        let judgement = judge(folder.path(), built_in.name);
        let expected = match built_in.name {
            "data_feed" | "logging" => Status::Degraded,
            "ai_model" | "database" => Status::Critical,
            _ => Status::Unknown,
        };
        assert_eq!(judgement.status, expected, "{}: {judgement:?}", built_in.name);
        assert!(!judgement.unrunnable);
        match built_in.name {
            "data_feed" => {
                assert_eq!(judgement.details["warning"], "Snapshot 320s old (stale)");
                assert_eq!(judgement.details["symbols"], 2);
            }
            "ai_model" => {
                assert_eq!(
                    (&judgement.details["existing_models"], &judgement.details["total"]),
                    (&1.into(), &4.into())
                );
            }
            _ => {}
        }
    }
}

/// OBS-3: both sides of the limits of every subsystem that is graded by age.
#[test]
fn both_sides_of_every_age() {
    let folder = tempfile::tempdir().unwrap();
    let slow = ["orchestrator", "portfolio_balancer", "position_monitor", "universe_os", "risk_guard"];
    let slow = slow.into_iter().chain(["model_supervisor", "retraining_orchestrator"]);
    let mut files: Vec<(&str, String, &str, u64, u64)> =
        slow.map(|name| (name, format!("data/{name}_state.json"), "{}", 300, 3600)).collect();
    files.push(("exchange_connection", "data/recent_trades.json".into(), "[]", 300, 3600));
    files.push(("data_feed", "data/universe_snapshot.json".into(), r#"{"symbols": {"A": 1}}"#, 300, 3600));
    files.push(("event_executor", "data/event_executor_state.json".into(), "{}", 60, 300));
    files.push(("logging", "logs/a/bot.log".into(), "", 60, 300));
    for (name, file, content, degraded, critical) in files {
        for (age, status) in [
            (0, Status::Healthy),
            (degraded - 1, Status::Healthy),
            (degraded, Status::Degraded),
            (critical, Status::Degraded),
            (critical + 1, Status::Critical),
        ] {
            write(folder.path(), &file, content, seconds(age));
            assert_eq!(judge(folder.path(), name).status, status, "{name} {age}");
        }
    }
}

/// OBS-3: `stale_data_seconds` moves the healthy limit of `data_feed`, also beyond the critical one.
#[test]
fn the_stale_threshold_is_the_feeds_limit() {
    let folder = tempfile::tempdir().unwrap();
    let data_feed = |stale_after, age| {
        write(folder.path(), "data/universe_snapshot.json", r#"{"symbols": [1]}"#, seconds(age));
        let context = BuildContext { stale_after: seconds(stale_after), ..context(folder.path()) };
        run_at(&*(SUBSYSTEMS[0].build)(&context), NOW).status
    };
    assert_eq!(data_feed(180, 179), Status::Healthy);
    assert_eq!(data_feed(180, 180), Status::Degraded);
    assert_eq!(data_feed(7200, 7199), Status::Healthy);
    assert_eq!(data_feed(7200, 7201), Status::Critical);
}

#[test]
fn a_snapshot_without_symbols_is_critical_however_fresh() {
    let folder = tempfile::tempdir().unwrap();
    for content in [r#"{"symbols": []}"#, r#"{"symbols": {}}"#, "{}", r#"{"symbols": null}"#, "[]", "7"] {
        write(folder.path(), "data/universe_snapshot.json", content, seconds(0));
        let judgement = judge(folder.path(), "data_feed");
        assert_eq!((judgement.status, &judgement.details["symbols"]), (Status::Critical, &0.into()), "{content}");
    }
}

/// OBS-1: spoilt files of the subsystems that look inside.
#[test]
fn torture_of_bad_files() {
    for case in torture() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        for (name, file) in [("data_feed", "universe_snapshot"), ("event_executor", "event_executor_state")] {
            let path = folder.path().join(format!("data/{file}.json"));
            // A link to the spoilt file; a link to nothing for the one that is missing or dangling.
            if case.name != "missing" {
                std::os::unix::fs::symlink(&case.path, &path).unwrap();
            }
            let expected = match (case.name, name) {
                ("missing", "data_feed") => Status::Degraded,
                ("missing", _) => Status::Unknown,
                _ => Status::Critical,
            };
            let judgement = judge(folder.path(), name);
            assert_eq!(judgement.status, expected, "{name} {}", case.name);
            assert!(judgement.details.contains_key("error"));
        }
    }
}

/// OBS-3: a database is healthy if SQLite finds it sound, and critical when missing, empty, cut short or something else.
#[test]
fn databases_and_what_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = "backend/data/quantum_trader.db";
    assert_eq!(judge(folder.path(), "database").status, Status::Critical);
    for content in ["SQLite format 3\0 and pages", "SQLite format 3", "", "PK\u{3}\u{4} something else"] {
        write(folder.path(), file, content, seconds(0));
        let judgement = judge(folder.path(), "database");
        assert_eq!(judgement.status, Status::Critical, "{content}");
        assert_eq!(judgement.details["size_bytes"], content.len(), "{content}");
    }
    std::fs::remove_file(folder.path().join(file)).unwrap();
    let connection = rusqlite::Connection::open(folder.path().join(file)).unwrap();
    connection.execute_batch("CREATE TABLE trades (id INTEGER PRIMARY KEY)").unwrap();
    let judgement = judge(folder.path(), "database");
    assert_eq!(
        (judgement.status, &judgement.details["integrity"]),
        (Status::Healthy, &"sound".into()),
        "{judgement:?}"
    );
}

/// OBS-3: without a folder of logs, or with chiron's own logs alone, `logging` is degraded.
#[test]
fn own_logs_do_not_keep_logging_healthy() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(judge(folder.path(), "logging").status, Status::Degraded);
    write(folder.path(), "logs/chiron.jsonl", "{}", seconds(0));
    assert_eq!(judge(folder.path(), "logging").status, Status::Degraded);
    write(folder.path(), "logs/bot.log", "", seconds(0));
    assert_eq!(judge(folder.path(), "logging").status, Status::Healthy);
    write(folder.path(), "logs/bot.log", "", seconds(301));
    assert_eq!(judge(folder.path(), "logging").status, Status::Critical);
}

/// The files that a platform of this profile genuinely writes, seen a moment after they were written.
#[test]
fn genuine_files_date_themselves() {
    let folder = tempfile::tempdir().unwrap();
    for (name, file, content, source) in [
        (
            "event_executor",
            "event_executor_state",
            r#"{"last_cycle": "2025-11-23T01:34:41Z", "cycle_count": 18233, "status": "running", "errors": 0}"#,
            "last_cycle",
        ),
        (
            "exchange_connection",
            "recent_trades",
            r#"{"last_update": 1763861690.412, "trades": [{"id": "t-91", "time": 1763861690.1}]}"#,
            "last_update",
        ),
        ("data_feed", "universe_snapshot", r#"{"timestamp": "2025-11-23T01:34:36Z", "symbols": ["A"]}"#, "timestamp"),
    ] {
        write(folder.path(), &format!("data/{file}.json"), content, seconds(9999));
        let judgement = judge(folder.path(), name);
        assert_eq!(judgement.status, Status::Healthy, "{name}");
        assert_eq!(judgement.details["timestamp_source"], source);
        assert!(
            judgement.next_change_at.is_some_and(|at| at > NOW && at < Timestamp::from_millis(NOW.millis() + 300_000))
        );
    }
}
