//! A bot that tells about itself, and what its silence leads to; with curl as the bot.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Chiron, Config, in_order, kinds, tool, wait_for};
use crate::loop_with_alertmanager::wait_status;

/// POST with the real curl; status code and body.
fn curl(chiron: &Chiron, path: &str, body: Option<&str>) -> (u16, String) {
    let mut command = Command::new(tool("curl"));
    command.args(["--silent", "--show-error", "--max-time", "5", "--write-out", "\n%{http_code}", "-X", "POST"]);
    if let Some(body) = body {
        command.args(["-H", "Content-Type: application/json", "--data", body]);
    }
    let told = command.arg(format!("http://{}{path}", chiron.address())).output().expect("curl runs");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap_or_else(|| panic!("no status: {told:?}"));
    (code.parse().expect("a status code"), body.to_owned())
}

/// A bot whose heart beats while the file `alive` is there.
struct Heart {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Heart {
    fn start(dir: &Path, address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (alive, stopped, address) = (dir.join("alive"), Arc::clone(&stop), address.to_owned());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if alive.exists() {
                    let limit = Duration::from_secs(2);
                    let _ = crate::common::request(&address, "POST", "/api/v1/heartbeats/bot", &[], b"", limit);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// OBS-7, REC-1, ACT-4: a bot that falls silent turns critical by its own deadline, is restarted by its binding, and the
/// recovery is verified by its next heartbeats.
#[test]
fn a_silent_bot_is_recovered() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let alive = dir.path().join("alive");
    std::fs::write(&alive, "").expect("a file can be written");
    let yaml = format!(
        "auto_restart_enabled: true\n\
         subsystems:\n  bot:\n    criticality: partial\n    interval: 1h\n    check: {{kind: push, degraded_after: 1500ms, critical_after: 2500ms}}\n\
         bindings:\n  - {{action: restart_subsystem, subsystem: bot, exec: {{argv: [{:?}, {:?}]}}, verify: {{settle: 100ms, within: 20s}}}}\n",
        tool("touch"),
        alive,
    );
    let chiron = Chiron::with_config(dir.path(), Config::new(dir.path()).with(&yaml).text()).start();
    assert_eq!(chiron.get_json("/status")["subsystem_health"]["bot"]["status"], "unknown", "nothing was heard yet");
    let heart = Heart::start(dir.path(), chiron.address());
    wait_status(&chiron, "bot", "healthy");

    std::fs::remove_file(&alive).expect("the heart can be stopped");
    let silent = Instant::now();
    wait_for("the journal to tell the story", || {
        let story =
            ["episode_opened", "run_intended", "run_started", "run_finished", "run_verified", "episode_resolved"];
        in_order(&kinds(&chiron.journal()), &story)
    });
    assert!(silent.elapsed() >= Duration::from_millis(2_000), "critical not before its time: {:?}", silent.elapsed());
    assert!(alive.exists(), "the action ran");
    let run = &chiron.get_json("/api/v1/actions")["actions"][0];
    assert_eq!(run["outcome"], "verified", "{run}");
    wait_status(&chiron, "bot", "healthy");
    drop(heart);
}

/// OBS-7, OBS-9: what is pushed shows in the health within moments, as numbers for Prometheus and in `GET /api/v1/vitals`;
/// what makes no sense is refused by its key, an unknown name with the names there are; a reload forgets nothing.
#[test]
fn vitals_are_taken_told_and_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let with = |more: &str| {
        let yaml = format!(
            "subsystems:\n  bot: {{criticality: partial, interval: 1h, check: {{kind: push, degraded_after: 1h, critical_after: 2h}}}}\n{more}"
        );
        Config::new(dir.path()).with(&yaml).text().to_owned()
    };
    let chiron = Chiron::with_config(dir.path(), &with("")).start();
    let vitals = r#"{"subsystem": "bot", "status": "degraded", "message": "slow feed", "error_rate": 0.05,
        "memory_usage": 0.5, "execution_latency": 250, "task_count": 12, "pnl": -3.5,
        "websocket_status": {"connected": true, "latency_ms": 40, "last_error": null},
        "rate_limit_status": {"BTC/USD": {"percentage": 86}}}"#;
    let told = Instant::now();
    assert_eq!(curl(&chiron, "/api/v1/vitals", Some(vitals)), (202, r#"{"accepted":true}"#.to_owned()));
    wait_status(&chiron, "bot", "degraded");
    assert!(told.elapsed() < Duration::from_secs(5), "though its interval is an hour: {:?}", told.elapsed());
    let health = chiron.get_json("/status")["subsystem_health"]["bot"].clone();
    assert_eq!(health["details"]["warning"], "says of itself that it is degraded: slow feed", "{health}");
    assert_eq!(health["details"]["vitals"]["task_count"], 12, "{health}");
    let perfdata = |label: &str| chiron.metric("chiron_check_perfdata", &[("subsystem", "bot"), ("label", label)]);
    for (label, value) in [
        ("error_rate", 0.05),
        ("execution_latency", 0.25),
        ("websocket_latency", 0.04),
        ("rate_limit_highest", 0.86),
        ("pnl", -3.5),
    ] {
        assert_eq!(perfdata(label), Some(value), "{label}");
    }

    for (path, body, status, words) in [
        ("/api/v1/heartbeats/bto", None, 404, "expected one of `bot`"),
        ("/api/v1/vitals", Some(r#"{"subsystem": "bto"}"#), 404, "expected one of `bot`"),
        ("/api/v1/vitals", Some(r#"{"error_rate": 0.1}"#), 400, "found no `subsystem`"),
        ("/api/v1/vitals", Some(r#"{"subsystem": "bot", "error_rate": 1.5}"#), 400, "`error_rate`: found `1.5`"),
        ("/api/v1/vitals", Some(r#"{"subsystem": "bot", "error_rate": NaN}"#), 400, "the body does not fit"),
        ("/api/v1/vitals", Some(r#"{"subsystem": "bot", "status": "failed"}"#), 400, "found status"),
        ("/api/v1/heartbeats/bot", Some(r#"{"task_count": 1}"#), 400, "vitals take the rest"),
        ("/api/v1/heartbeats/bot", Some("[]"), 400, "the body does not fit"),
    ] {
        let (found, answer) = curl(&chiron, path, body);
        let problem: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("a problem: {answer}"));
        assert_eq!(found, status, "{path} {body:?}: {answer}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{path} {body:?}: {answer}");
    }

    chiron.rewrite_config(&with("  other: {criticality: none, check: {kind: push}}\n"));
    assert_eq!(chiron.post("/-/reload", "").expect("chiron answers").status, 200);
    let kept = chiron.get_json("/api/v1/vitals");
    assert_eq!(kept["bot"]["vitals"]["error_rate"], 0.05, "{kept}");
    assert_eq!(kept["other"], Value::Null, "{kept}");
    wait_status(&chiron, "bot", "degraded");
    assert_eq!(curl(&chiron, "/api/v1/heartbeats/bot", Some(r#"{"status": "healthy"}"#)).0, 202);
    wait_status(&chiron, "bot", "healthy");
    assert_eq!(curl(&chiron, "/api/v1/heartbeats/other", None).0, 202);
    wait_status(&chiron, "other", "healthy");
}
