//! The harness itself: its tools start, answer and end, and its readers read.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use super::chiron::series;
use super::{
    Alertmanager, Bot, Process, Prometheus, alert, in_order, notification, now_millis, pid_alive, request, timestamp,
    tool, wait_for,
};

/// A real Prometheus scrapes, a rule fires, and a real Alertmanager has the alert.
#[test]
fn prometheus_tells_alertmanager() {
    let rules = "groups: [{name: test, rules: [{alert: AlwaysOn, expr: vector(1), labels: {subsystem: test}}]}]";
    let alertmanager = Alertmanager::start(&[("http://127.0.0.1:1/", None)]);
    let prometheus = Prometheus::start(rules, &[alertmanager.address()], &[alertmanager.address()]);
    wait_for("the rule to fire", || {
        let firing = prometheus.firing();
        if firing == ["AlwaysOn"] { Ok(()) } else { Err(firing) }
    });
    wait_for("Alertmanager to have it", || {
        let active = alertmanager.active();
        if active.iter().any(|labels| labels["subsystem"] == "test") { Ok(()) } else { Err(active) }
    });
    wait_for("the scrape", || {
        let up = prometheus.query("up{job=\"chiron\"} == 1");
        if up.len() == 1 { Ok(()) } else { Err(up) }
    });
    assert!(!prometheus.address().is_empty());
}

/// Alertmanager tries the webhook, counts its failure, and forgets an alert that ended.
#[test]
fn alertmanager_notifies() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!("http://{}/", listener.local_addr().expect("a bound socket has an address"));
    drop(listener);
    let alertmanager = Alertmanager::start(&[(&url, None)]);
    alertmanager.fire(&[("alertname", "Test"), ("subsystem", "x")]);
    wait_for("a notification to be tried", || {
        // Retries within one flush count as one notification, told once the flush has ended.
        let active = alertmanager.active();
        if active.len() == 1 { Ok(()) } else { Err(active) }
    });
    alertmanager.resolve(&[("alertname", "Test"), ("subsystem", "x")]);
    wait_for("the alert to be gone", || {
        let active = alertmanager.active();
        if active.is_empty() { Ok(()) } else { Err(active) }
    });
    let (tried, failed) = alertmanager.notifications();
    assert!(tried >= failed, "{tried} tried, {failed} failed");
}

/// The bot process writes its pid file, answers, and is gone after SIGKILL.
#[test]
fn bot_lives_and_dies() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut bot = Bot::start(dir.path());
    let pid = bot.first_pid();
    assert!(pid_alive(pid));
    assert_eq!(bot.starts().len(), 1);
    let health = request(&bot.address(), "GET", "/health", &[], b"", Duration::from_secs(5)).expect("the bot answers");
    assert_eq!(health.json()["status"], "running");
    bot.kill9();
    assert!(!pid_alive(pid));
}

/// A dropped process is ended, also by a panic.
#[test]
fn processes_end_with_their_owner() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let log = dir.path().join("log");
    let started = std::panic::catch_unwind(|| {
        let mut command = Command::new(tool("sleep"));
        let process = Process::start("sleep", command.arg("600"), &log);
        let pid = process.pid();
        assert!(pid_alive(pid));
        std::panic::panic_any(pid);
    });
    let pid = *started.expect_err("it panics").downcast::<u32>().expect("it panics with the pid");
    assert!(!pid_alive(pid));
}

/// The metrics page is read by name and by whole label values, in any order.
#[test]
fn series_are_found() {
    let page = "# TYPE a gauge\na{x=\"1\",y=\"2\"} 3\na{x=\"11\",y=\"2\"} 4\nab 5\na_total{note=\"x=\\\"1\\\"\"} 6\n";
    assert_eq!(series(page, "a", &[]), [3.0, 4.0]);
    assert_eq!(series(page, "a", &[("y", "2"), ("x", "1")]), [3.0]);
    assert_eq!(series(page, "a", &[("x", "2")]), [] as [f64; 0]);
    assert_eq!(series(page, "ab", &[]), [5.0]);
    assert_eq!(series(page, "a_total", &[("note", "x=\"1\"")]), [6.0]);
}

/// What the tests send has Alertmanager's shape, and the order of kinds is judged.
#[test]
fn notifications_and_orders() {
    let text = notification(&[alert("resolved", &[("alertname", "A")]), alert("firing", &[("alertname", "B")])]);
    let body: serde_json::Value = serde_json::from_str(&text).expect("a notification is JSON");
    assert_eq!(body["status"], "firing");
    assert_eq!(body["alerts"][0]["labels"]["alertname"], "A");
    assert!(timestamp(0).starts_with("20"), "{}", timestamp(0));
    assert!(now_millis() > 1_700_000_000_000);
    let found = ["a", "b", "c"].map(str::to_owned);
    assert!(in_order(&found, &["a", "c"]).is_ok());
    assert!(in_order(&found, &["c", "a"]).is_err());
}
