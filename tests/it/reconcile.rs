//! Pushes that are missed, cut short or held back at a real Alertmanager, and what chiron learns by asking.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Alertmanager, Chiron, Config, Effects, kinds, now_millis, settled, wait_for, wait_for_within};

const DOWN: [(&str, &str); 2] = [("alertname", "OrderRouterDown"), ("severity", "critical")];

/// A healthy router with a restart that an alert may ask for.
fn config(dir: &Path, effects: &Effects, alertmanagers: &[&str], poll_interval: &str) -> Config {
    std::fs::write(dir.join("fresh"), "").expect("a file can be written");
    let urls: Vec<String> = alertmanagers.iter().map(|address| format!("http://{address}")).collect();
    Config::new(dir).with(&format!(
        r#"
subsystems:
  order_router:
    criticality: partial
    check: {{kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h}}
bindings:
  - action: restart_subsystem
    subsystem: order_router
    exec: {{argv: [{:?}, one_shot]}}
    verify: {{settle: 100ms, within: 10s}}
alerts:
  alertmanagers: {urls:?}
  poll_interval: {poll_interval}
  restart_grace: 0s
  send: {{enabled: false}}
  watchdog: {{absent_after: 1h}}
  routes:
    - match: {{alertname: OrderRouterDown}}
      subsystem: order_router
      action: restart_subsystem
      policy: no_new_trades
    - match: {{alertname: OrderRouterSlow}}
      subsystem: order_router
      type: slowness
"#,
        effects.script
    ))
}

/// An Alertmanager whose webhook nobody answers.
fn unheard(address: &str) -> Alertmanager {
    routed(address, &format!("http://{}/", Alertmanager::free_address()), 0)
}

fn routed(address: &str, webhook: &str, max_alerts: u32) -> Alertmanager {
    let config = json!({
        "route": {"receiver": "chiron", "group_by": ["severity"], "group_wait": "0s", "group_interval": "1s",
                  "repeat_interval": "1h"},
        "receivers": [{"name": "chiron", "webhook_configs": [
            {"url": webhook, "send_resolved": true, "max_alerts": max_alerts}]}],
    });
    Alertmanager::configured(address, &config, &[])
}

fn taken(chiron: &Chiron, receiver: &str, outcome: &str) -> f64 {
    chiron.metric_sum("chiron_alerts_received_total", &[("receiver", receiver), ("outcome", outcome)])
}

/// Waits until the alert has led to its one action and the action to its end.
fn wait_acted(chiron: &Chiron, effects: &Effects) {
    wait_for("the action to end", || {
        let entries = settled(chiron)?;
        let ended = kinds(&entries).iter().any(|kind| kind == "run_verified");
        if ended { Ok(()) } else { Err(format!("{:?}", kinds(&entries))) }
    });
    assert_eq!(effects.all().len(), 1, "{:?}", effects.all());
}

fn wait_over(chiron: &Chiron) {
    wait_for("the alert to be over", || {
        let active = active(chiron);
        let resolved = kinds(&chiron.journal()).iter().any(|kind| kind == "episode_resolved");
        if resolved { Ok(()) } else { Err(active) }
    });
}

/// Waits until this Alertmanager has been asked some times more.
fn wait_polls(chiron: &Chiron, seconds: f64) {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a real date fit 53 bits")]
    let begun = now_millis() as f64 / 1000.0;
    wait_for("further polls", || {
        let last = chiron.metric("chiron_alertmanager_last_poll_timestamp_seconds", &[]);
        if last.is_some_and(|last| last > begun + seconds) { Ok(()) } else { Err(last) }
    });
}

fn active(chiron: &Chiron) -> Vec<Value> {
    let answer = chiron.get_json("/alerts");
    let list = answer.as_array().or_else(|| answer["alerts"].as_array());
    list.cloned().unwrap_or_default()
}

/// ALR-2, POL-4: an alert that no push ever brings is found at the start and acted upon once, also across a restart; its
/// end, which no push brings either, is found by its absence; the Watchdog is heard by asking.
#[test]
fn a_missed_push_is_found_by_asking() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let alertmanager = unheard(&Alertmanager::free_address());
    alertmanager.fire(&DOWN);
    alertmanager.fire(&[("alertname", "Watchdog")]);
    let config = config(dir.path(), &effects, &[alertmanager.address()], "1s");
    let mut chiron = Chiron::with_config(dir.path(), config.text()).start();
    wait_acted(&chiron, &effects);
    assert_eq!(taken(&chiron, "poll", "accepted"), 1.0);
    let name = format!("http://{}", alertmanager.address());
    assert_eq!(chiron.metric("chiron_alertmanager_up", &[("alertmanager", &name)]), Some(1.0));
    assert!(chiron.metric("chiron_watchdog_last_seen_timestamp_seconds", &[]) > Some(0.0));
    chiron.restart();
    wait_polls(&chiron, 3.0);
    assert_eq!((effects.all().len(), active(&chiron).len()), (1, 1), "known, and still firing");
    alertmanager.resolve(&DOWN);
    wait_over(&chiron);
    assert_eq!(taken(&chiron, "poll", "resolved"), 1.0);
    assert_eq!(effects.all().len(), 1);
}

/// ALR-2: of two alerts the notification holds one; the other is asked for at once, not at the next interval.
#[test]
fn a_truncated_notification_is_completed() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let address = Alertmanager::free_address();
    let config = config(dir.path(), &effects, &[&address], "1h");
    let chiron = Chiron::with_config(dir.path(), config.text()).start();
    let name = format!("http://{address}");
    wait_for("the first poll to have failed", || {
        let labels = [("alertmanager", name.as_str()), ("reason", "unreachable")];
        match chiron.metric("chiron_alertmanager_poll_errors_total", &labels) {
            Some(1.0) => Ok(()),
            other => Err(other),
        }
    });
    let alertmanager = routed(&address, &format!("http://{}/api/v1/alerts/webhook", chiron.address()), 1);
    alertmanager.fire(&DOWN);
    alertmanager.fire(&[("alertname", "OrderRouterSlow"), ("severity", "critical")]);
    wait_for("both alerts to be known", || {
        let active = active(&chiron);
        if active.len() == 2 { Ok(()) } else { Err(active) }
    });
    assert_eq!(taken(&chiron, "chiron", "accepted") + taken(&chiron, "poll", "accepted"), 2.0);
    assert!(taken(&chiron, "poll", "accepted") >= 1.0, "one of them was left out");
    wait_acted(&chiron, &effects);
}

/// ALR-2: a silenced alert is not acted upon; one that is known does not end by being silenced.
#[test]
fn a_silenced_alert_still_fires() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let alertmanager = unheard(&Alertmanager::free_address());
    alertmanager.fire(&[("alertname", "Watchdog")]);
    let silence = alertmanager.silence("OrderRouterDown");
    alertmanager.fire(&DOWN);
    let config = config(dir.path(), &effects, &[alertmanager.address()], "1s");
    let chiron = Chiron::with_config(dir.path(), config.text()).start();
    wait_polls(&chiron, 3.0);
    assert_eq!((effects.all().len(), active(&chiron).len()), (0, 0));
    alertmanager.unsilence(&silence);
    wait_acted(&chiron, &effects);
    alertmanager.silence("OrderRouterDown");
    wait_for("the silence to hold", || {
        let state = alertmanager.listed(&DOWN)[0]["status"]["state"].clone();
        if state == "suppressed" { Ok(()) } else { Err(state) }
    });
    wait_polls(&chiron, 4.0);
    assert_eq!(active(&chiron).len(), 1, "it fires, silenced or not");
    alertmanager.resolve(&DOWN);
    wait_over(&chiron);
}

/// ALR-2: of two Alertmanagers one is dead: what the living one lists counts; what it no longer lists has not ended for
/// that, until the other one answers too.
#[test]
fn a_dead_alertmanager_is_no_evidence() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let living = unheard(&Alertmanager::free_address());
    let dead = Alertmanager::free_address();
    living.fire(&DOWN);
    living.fire(&[("alertname", "Watchdog")]);
    let config = config(dir.path(), &effects, &[living.address(), &dead], "1s");
    let chiron = Chiron::with_config(dir.path(), config.text()).start();
    wait_acted(&chiron, &effects);
    let up = |address: &str| chiron.metric("chiron_alertmanager_up", &[("alertmanager", &format!("http://{address}"))]);
    assert_eq!((up(living.address()), up(&dead)), (Some(1.0), Some(0.0)));
    living.resolve(&DOWN);
    wait_for("the living one to list it no more", || {
        let listed = living.listed(&DOWN);
        if listed.is_empty() { Ok(()) } else { Err(listed) }
    });
    wait_polls(&chiron, 4.0);
    assert_eq!(active(&chiron).len(), 1, "the dead one may know better");
    let _revived = unheard(&dead);
    wait_over(&chiron);
    wait_for_within("both to be up", Duration::from_secs(10), || match up(&dead) {
        Some(1.0) => Ok(()),
        other => Err(other),
    });
    assert_eq!(effects.all().len(), 1);
}
