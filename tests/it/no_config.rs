//! `chiron run` with no configuration at all.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::common::{Chiron, tool, wait_for};

/// SPEC 14: it starts, says where it listens and that it acts on nothing; state goes to `.chiron/`.
/// EXP-1: its metrics page is clean under `promtool check metrics`.
#[test]
fn runs_without_configuration() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = Chiron::without_config(dir.path()).arg("--log.level=debug").start();
    wait_for("every check to have run once", || {
        let report = chiron.get_json("/status");
        let health = report["subsystem_health"].as_object().cloned().unwrap_or_default();
        let waiting: Vec<_> = health
            .iter()
            .filter(|(_, health)| health["timestamp"].as_str().is_none_or(|at| at.starts_with("1970")))
            .map(|(name, _)| name.clone())
            .collect();
        if health.len() >= 13 && waiting.is_empty() { Ok(()) } else { Err((health.len(), waiting)) }
    });
    assert!(chiron.address().starts_with("127.0.0.1:"), "{}", chiron.address());
    assert_eq!(chiron.metric("chiron_dry_run", &[]), Some(1.0));
    assert_eq!(chiron.metric("chiron_build_info", &[]), Some(1.0));
    assert!(chiron.metric_sum("chiron_issues", &[]) >= 1.0, "an empty folder has issues");
    for outcome in ["verified", "unverified", "failed", "indeterminate"] {
        assert_eq!(chiron.metric_sum("chiron_actions_total", &[("outcome", outcome)]), 0.0, "it acts on nothing");
    }
    assert!(chiron.log().contains("mode: paper"), "it names the line that changes it: {}", chiron.log());
    assert!(dir.path().join(".chiron").is_dir(), "state is in `.chiron/`");
    let page = chiron.get("/").expect("chiron answers");
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{}", page.head);
    assert_eq!(chiron.get("/-/healthy").expect("chiron answers").status, 200);
    let health = chiron.get_json("/health");
    for field in ["overall_status", "safety_policy", "trading_allowed", "issues", "critical_issues", "summary"] {
        assert!(health.get(field).is_some(), "`/health` has no `{field}`: {health}");
    }
    check_metrics(&chiron.metrics());
}

/// Fails with promtool's words unless the page is clean.
pub(crate) fn check_metrics(page: &str) {
    let mut promtool = Command::new(tool("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let mut input = promtool.stdin.take().expect("its input is a pipe");
    input.write_all(page.as_bytes()).expect("promtool reads");
    drop(input);
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "promtool check metrics: {said}");
}
