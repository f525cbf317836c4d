//! The harness itself: its tools start, answer and end, and its readers read.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use super::chiron::series;
use super::{
    Alertmanager, Bot, HttpServer, Podman, Process, Prometheus, alert, in_order, notification, now_millis, pid_alive,
    request, timestamp, tool, wait_for,
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

/// The engine serves, counts starts by itself, and leaves nothing behind.
#[test]
fn podman_runs_containers_of_its_own() {
    let mut podman = Podman::start();
    let before = podman.run("one");
    assert!(before.running && pid_alive(before.pid.try_into().expect("a pid is small")), "{before:?}");
    assert_eq!((podman.starts("one"), podman.state("two")), (1, None));
    let get = |path: &str| {
        let mut command = Command::new(tool("curl"));
        command.args(["--silent", "--unix-socket"]).arg(podman.socket()).arg(format!("http://engine{path}"));
        String::from_utf8_lossy(&command.output().expect("curl runs").stdout).into_owned()
    };
    assert_eq!(get("/_ping"), "OK");
    assert!(get("/containers/one/json").contains(&before.started_at.replace("+00:00", "Z")), "{before:?}");
    podman.kill("one");
    assert!(!pid_alive(before.pid.try_into().expect("a pid is small")));
    let service = podman.service_pid();
    podman.kill_service();
    assert!(!pid_alive(service) && podman.state("one").is_some());
    podman.start_service();
    podman.remove("one");
    assert_eq!(podman.state("one"), None);
    let alive = podman.run("three").pid;
    drop(podman);
    assert!(!pid_alive(alive.try_into().expect("a pid is small")));
}

/// The counting server tells what it received.
#[test]
fn requests_are_counted() {
    let server = HttpServer::start();
    let limit = Duration::from_secs(5);
    let answer = request(server.address(), "POST", "/a?b", &[("X-Any", "1")], b"body", limit).expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    let received = server.received();
    let told: Vec<_> =
        received.iter().map(|one| (one.method.as_str(), one.path.as_str(), one.header("x-any"), &*one.body)).collect();
    assert_eq!(told, [("POST", "/a?b", Some("1"), "body")]);
    assert_eq!((server.connections(), server.url("/c")), (1, format!("http://{}/c", server.address())));
}
