//! Notifications in the shape of Alertmanager's webhook, version 4.

use serde_json::{Value, json};

use super::process::now_millis;

/// An RFC 3339 date some milliseconds from now.
pub(crate) fn timestamp(offset_millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(now_millis() + offset_millis).unwrap_or_default().to_rfc3339()
}

/// One alert: `firing` or `resolved`, with these labels.
pub(crate) fn alert(status: &str, labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let ends = if status == "resolved" { timestamp(0) } else { "0001-01-01T00:00:00Z".to_owned() };
    json!({"status": status, "labels": labels, "annotations": {"summary": "a test's alert"},
           "startsAt": timestamp(-1000), "endsAt": ends, "generatorURL": "http://prometheus.example/graph",
           "fingerprint": "0000000000000000"})
}

/// The notification that carries these alerts.
pub(crate) fn notification(alerts: &[Value]) -> String {
    let status = if alerts.iter().any(|alert| alert["status"] == "firing") { "firing" } else { "resolved" };
    json!({"version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": status, "receiver": "chiron",
           "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager.example",
           "alerts": alerts})
    .to_string()
}
