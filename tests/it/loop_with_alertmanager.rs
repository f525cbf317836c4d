//! From a dead process to a verified recovery, by way of a real Prometheus and a real Alertmanager.

use std::path::Path;

use chiron::model::Level;

use crate::common::{
    Alertmanager, Bot, Chiron, Config, PolicyWatch, Prometheus, in_order, kinds, pid_alive, pid_of, restart_script,
    wait_for, wait_for_within,
};
use std::time::{Duration, Instant};

const RULES: &str = r#"
groups:
  - name: platform
    rules:
      - alert: OrderRouterDown
        expr: chiron_subsystem_status{subsystem="order_router", status=~"critical|failed"} == 1
        for: 0s
        labels: {severity: critical}
        annotations: {summary: "the order router is down"}
"#;

/// The configuration of this story and of the one without Alertmanager.
pub(crate) fn config(dir: &Path, automatic: bool) -> Config {
    let restart = restart_script(dir);
    Config::new(dir).with(&format!(
        r#"
auto_restart_enabled: {automatic}
subsystems:
  order_router:
    criticality: partial
    check: {{kind: process, pidfile: state/bot.pid}}
bindings:
  - action: restart_subsystem
    subsystem: order_router
    exec: {{argv: [{restart:?}]}}
    class: probeable
    verify: {{settle: 200ms, within: 20s}}
"#
    ))
}

/// Waits until the check sees the router's status.
pub(crate) fn wait_status(chiron: &Chiron, subsystem: &str, status: &str) {
    wait_for(&format!("{subsystem} to be {status}"), || {
        match chiron.metric("chiron_subsystem_status", &[("subsystem", subsystem), ("status", status)]) {
            Some(1.0) => Ok(()),
            _ => Err(chiron.get_json("/status")["subsystem_health"][subsystem].clone()),
        }
    });
}

/// Waits for the restart, and asserts what both stories have in common: a new process, started once, verified once.
pub(crate) fn assert_restarted_once(chiron: &Chiron, bot: &Bot) {
    let dead = bot.first_pid();
    let verified = [("action", "restart_subsystem"), ("subsystem", "order_router"), ("outcome", "verified")];
    wait_for("the restart to be verified", || match chiron.metric("chiron_actions_total", &verified) {
        Some(1.0) => Ok(()),
        other => Err((other, kinds(&chiron.journal()))),
    });
    let alive = pid_of(chiron.dir()).expect("the new bot wrote its pid file");
    assert!(pid_alive(alive) && alive != dead, "pid {alive} after {dead}");
    assert_eq!(bot.starts().len(), 2, "one start by us, one by chiron: {:?}", bot.starts());
    wait_status(chiron, "order_router", "healthy");
    let all = [("action", "restart_subsystem"), ("subsystem", "order_router")];
    assert_eq!(chiron.metric_sum("chiron_actions_total", &all), 1.0, "one action in all");
}

/// ALR-1, ACT-2, ACT-3, ACT-4, POL-2: a bot dies; a rule on chiron's own metrics fires; Alertmanager posts with its token; chiron
/// starts the bot again by the bound command, verifies by its own check, and tells the story in metrics and journal.
#[test]
fn dead_process_is_restarted_by_an_alert() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let token = dir.path().join("webhook.token");
    std::fs::write(&token, "a-secret-of-the-test\n").expect("a file can be written");
    let config = config(dir.path(), false).with(&format!(
        r#"
alerts:
  webhook: {{bearer_token_file: {token:?}}}
  routes:
    - match: {{alertname: OrderRouterDown}}
      subsystem: order_router
      action: restart_subsystem
      policy: no_new_trades
"#
    ));
    let mut bot = Bot::start(dir.path());
    let chiron = Chiron::with_config(dir.path(), config.text()).start();
    let policy = PolicyWatch::start(dir.path());
    let webhook = format!("http://{}/api/v1/alerts/webhook", chiron.address());
    let alertmanager = Alertmanager::start(&[(&webhook, Some(&token))]);
    let prometheus = Prometheus::start(RULES, &[chiron.address()], &[alertmanager.address()]);
    wait_status(&chiron, "order_router", "healthy");
    wait_for("Prometheus to see it healthy", || {
        let seen = prometheus.query("chiron_subsystem_status{subsystem=\"order_router\",status=\"healthy\"} == 1");
        if seen.len() == 1 { Ok(()) } else { Err(seen) }
    });
    assert_eq!(bot.starts().len(), 1);
    let refused = chiron.notify(Some("another"), b"{}").expect("the webhook answers");
    assert_eq!(refused.status, 401, "a wrong token: {}", refused.body);

    bot.kill9();
    let killed = Instant::now();
    wait_for("the alert to hold its policy", || {
        let held = [("source", "alert"), ("policy", "no_new_trades")];
        match chiron.metric("chiron_safety_policy_source", &held) {
            Some(1.0) => Ok(()),
            other => Err((other, kinds(&chiron.journal()))),
        }
    });
    assert!(policy.now() >= Some(Level::NoNewTrades), "the bot is told: {:?}", policy.now());
    assert_restarted_once(&chiron, &bot);

    wait_for("the alert to resolve at Alertmanager", || {
        let active = alertmanager.active();
        if active.is_empty() { Ok(()) } else { Err(active) }
    });
    let story = [
        "episode_opened",
        "alert_taken",
        "run_intended",
        "run_started",
        "run_finished",
        "run_verified",
        "episode_resolved",
    ];
    wait_for_within("the journal to tell the story", Duration::from_secs(60), || {
        in_order(&kinds(&chiron.journal()), &story)
    });
    let (reached, _) = policy.loosened(killed, Level::NoNewTrades);
    assert!(reached, "the policy was tightened while the alert fired");
    let received = chiron.metric_sum("chiron_alerts_received_total", &[("receiver", "chiron"), ("status", "firing")]);
    assert!(received >= 1.0, "{received} alerts received");
    let (tried, failed) = alertmanager.notifications();
    assert!(tried >= 2.0 && failed == 0.0, "{tried} notifications, {failed} failed");
    assert_eq!(bot.starts().len(), 2, "still one restart: {:?}", bot.starts());
}
