//! Payloads captured from a real Alertmanager, in the order in which it sent them.

use serde_json::Value;

use crate::common::{Chiron, Config, wait_for};

fn sample(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/alertmanager/").to_owned() + name;
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn config(dir: &std::path::Path) -> String {
    std::fs::write(dir.join("fresh"), "").expect("a file can be written");
    let check = "{kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h}";
    let mut text = Config::new(dir).text().to_owned();
    text.push_str("subsystems:\n");
    for name in ["api", "disk", "service"] {
        text.push_str(&format!("  {name}: {{criticality: partial, check: {check}}}\n"));
    }
    text.push_str("alerts:\n  routes:\n");
    for (alert, name) in [("TargetDown", "api"), ("DiskAlmostFull", "disk"), ("ServiceDegraded", "service")] {
        text.push_str(&format!(
            "    - match: {{alertname: {alert}}}\n      subsystem: {name}\n      action: reload_config\n      policy: no_new_trades\n"
        ));
    }
    text
}

/// The labels of every alert that chiron says is active.
fn active(chiron: &Chiron) -> Vec<Value> {
    let answer = chiron.get_json("/alerts");
    let list = answer.get("alerts").unwrap_or(&answer).as_array().cloned();
    let list = list.unwrap_or_else(|| panic!("`/alerts` answers a list, found {answer}"));
    list.iter().map(|alert| alert["labels"].clone()).collect()
}

fn post(chiron: &Chiron, name: &str) {
    let answer = chiron.notify(None, sample(name).as_bytes()).expect("the webhook answers");
    assert!((200..300).contains(&answer.status), "{name}: {} {}", answer.status, answer.body);
}

fn wait_outcomes(chiron: &Chiron, after: &str, wanted: &[(&str, f64)]) {
    wait_for(&format!("the outcomes after {after}"), || {
        let found: Vec<(&str, f64)> = wanted
            .iter()
            .map(|(outcome, _)| {
                let labels = [("receiver", "hook"), ("outcome", outcome)];
                (*outcome, chiron.metric_sum("chiron_alerts_received_total", &labels))
            })
            .collect();
        if found == wanted { Ok(()) } else { Err(found) }
    });
}

/// ALR-1, ALR-2: each payload is taken per alert; repeats are told apart, resolved ones end their part, and what no
/// route knows is recorded as such.
#[test]
fn real_payloads() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = Chiron::with_config(dir.path(), &config(dir.path())).start();

    post(&chiron, "firing-single.json");
    wait_outcomes(&chiron, "one firing", &[("accepted", 1.0), ("deduplicated", 0.0)]);
    let labels =
        serde_json::from_str::<Value>(&sample("firing-single.json")).expect("JSON")["alerts"][0]["labels"].clone();
    assert_eq!(active(&chiron), [labels]);
    post(&chiron, "firing-single.json");
    wait_outcomes(&chiron, "its repetition", &[("accepted", 1.0), ("deduplicated", 1.0)]);

    post(&chiron, "firing-group-of-5.json");
    wait_outcomes(&chiron, "a group of five", &[("accepted", 6.0), ("deduplicated", 1.0), ("resolved", 0.0)]);
    assert_eq!(active(&chiron).len(), 6);
    post(&chiron, "firing-group-of-5-two-resolved.json");
    wait_outcomes(&chiron, "two resolved", &[("accepted", 6.0), ("deduplicated", 4.0), ("resolved", 2.0)]);
    assert_eq!(active(&chiron).len(), 4);
    post(&chiron, "resolved-group-rest.json");
    wait_outcomes(&chiron, "the rest resolved", &[("accepted", 6.0), ("deduplicated", 4.0), ("resolved", 5.0)]);
    post(&chiron, "resolved-single.json");
    wait_outcomes(&chiron, "the single resolved", &[("resolved", 6.0), ("resolved_unknown", 0.0)]);
    assert_eq!(active(&chiron), [] as [Value; 0]);

    post(&chiron, "firing-long-labels.json");
    wait_outcomes(&chiron, "an alert without a route", &[("accepted", 6.0), ("unrouted", 1.0)]);
    post(&chiron, "firing-unicode-labels.json");
    wait_outcomes(&chiron, "unicode", &[("accepted", 7.0), ("unrouted", 1.0)]);
    let unicode = serde_json::from_str::<Value>(&sample("firing-unicode-labels.json")).expect("JSON");
    assert!(active(&chiron).contains(&unicode["alerts"][0]["labels"]), "labels come back as they came");
    assert_eq!(chiron.metric_sum("chiron_webhook_refused_total", &[]), 0.0);
}

/// ALR-1, OBS-2: a group of several alert names and a truncated one are taken per alert; a resolved that was never known is said to be so.
#[test]
fn mixed_and_truncated_payloads() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = Chiron::with_config(dir.path(), &config(dir.path())).start();
    post(&chiron, "resolved-single.json");
    wait_outcomes(&chiron, "an unknown resolved", &[("resolved_unknown", 1.0)]);
    post(&chiron, "firing-truncated-max-alerts-2-of-5.json");
    wait_outcomes(&chiron, "two of five", &[("accepted", 2.0)]);
    post(&chiron, "firing-one-group-no-group-by.json");
    let all = || chiron.metric_sum("chiron_alerts_received_total", &[]);
    wait_for("all six alerts to have one outcome each", || if all() >= 6.0 { Ok(()) } else { Err(all()) });
    assert_eq!(all(), 6.0);
    let names: Vec<Value> = active(&chiron).iter().map(|labels| labels["alertname"].clone()).collect();
    assert!(names.iter().any(|name| name == "DiskAlmostFull"), "{names:?}");
}
