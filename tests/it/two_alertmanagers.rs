//! Two Alertmanagers that know nothing of each other deliver one alert.

use crate::common::{Alertmanager, Chiron, Config, Effects, kinds, settled, wait_for};

/// ALR-2: both deliver (by their own count), the alert is accepted once, and one action runs.
#[test]
fn two_deliveries_one_action() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    std::fs::write(dir.path().join("fresh"), "").expect("a file can be written");
    let config = Config::new(dir.path()).with(&format!(
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
  routes:
    - match: {{alertname: OrderRouterDown}}
      subsystem: order_router
      action: restart_subsystem
      policy: no_new_trades
"#,
        effects.script
    ));
    let chiron = Chiron::with_config(dir.path(), config.text()).start();
    let webhook = format!("http://{}/api/v1/alerts/webhook", chiron.address());
    let pair = [Alertmanager::start(&[(&webhook, None)]), Alertmanager::start(&[(&webhook, None)])];
    let labels = [("alertname", "OrderRouterDown"), ("severity", "critical")];
    for alertmanager in &pair {
        alertmanager.fire(&labels);
    }
    for alertmanager in &pair {
        wait_for("each Alertmanager to have delivered", || match alertmanager.notifications() {
            (tried, failed) if tried >= 1.0 && failed == 0.0 => Ok(()),
            other => Err(other),
        });
    }
    wait_for("both deliveries to be taken and the action to end", || {
        let received = chiron.metric_sum("chiron_alerts_received_total", &[("status", "firing")]);
        let entries = settled(&chiron)?;
        let ended = kinds(&entries).iter().any(|kind| kind == "run_verified");
        if received >= 2.0 && ended { Ok(()) } else { Err(format!("{received} received, {:?}", kinds(&entries))) }
    });
    assert_eq!(effects.all().len(), 1, "{:?}", effects.all());
    assert_eq!(chiron.metric_sum("chiron_alerts_received_total", &[("outcome", "accepted")]), 1.0);
    assert!(chiron.metric_sum("chiron_alerts_received_total", &[("outcome", "deduplicated")]) >= 1.0);
    assert_eq!(chiron.metric_sum("chiron_actions_total", &[("action", "restart_subsystem")]), 1.0);
}
