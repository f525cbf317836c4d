//! A real Alertmanager, alone, that notifies at once.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::chiron::series;
use super::http::{Response, request};
use super::process::{Process, free_port, tool};
use super::samples::timestamp;
use super::wait::wait_for;

/// A running Alertmanager, its data in a temporary folder.
pub(crate) struct Alertmanager {
    address: String,
    _process: Process,
    _storage: tempfile::TempDir,
}

impl Alertmanager {
    /// Starts one that sends every alert to these webhooks, each with the bearer token in the file, if one is named.
    pub(crate) fn start(webhooks: &[(&str, Option<&Path>)]) -> Self {
        let webhooks: Vec<Value> = webhooks
            .iter()
            .map(|(url, token)| match token {
                None => json!({"url": url, "send_resolved": true}),
                Some(file) => json!({"url": url, "send_resolved": true,
                    "http_config": {"authorization": {"type": "Bearer", "credentials_file": file}}}),
            })
            .collect();
        Self::notifying(&webhooks)
    }

    /// Starts one with these webhook configurations.
    pub(crate) fn notifying(webhooks: &[Value]) -> Self {
        let config = json!({
            "global": {"resolve_timeout": "5m"},
            "route": {"receiver": "chiron", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s",
                      "repeat_interval": "1h"},
            "receivers": [{"name": "chiron", "webhook_configs": webhooks}],
        });
        Self::configured(&Self::free_address(), &config, &[])
    }

    /// An address for one that is to be started later.
    pub(crate) fn free_address() -> String {
        format!("127.0.0.1:{}", free_port())
    }

    /// Starts one at this address with this configuration and further flags.
    pub(crate) fn configured(address: &str, config: &Value, flags: &[String]) -> Self {
        let alertmanager = Self::unready(address, config, flags);
        wait_for("Alertmanager to be ready", || match alertmanager.request("GET", "/-/ready", "") {
            Ok(response) if response.status == 200 => Ok(()),
            other => Err(other.map(|response| response.status).map_err(|error| error.to_string())),
        });
        alertmanager
    }

    /// The same without waiting, for one that this client cannot speak to.
    pub(crate) fn unready(address: &str, config: &Value, flags: &[String]) -> Self {
        let storage = tempfile::tempdir().expect("a temporary folder can be made");
        let path = storage.path().join("alertmanager.yml");
        std::fs::write(&path, config.to_string()).expect("a file can be written");
        let address = address.to_owned();
        let mut command = Command::new(tool("prometheus-alertmanager"));
        command
            .current_dir(storage.path())
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.path={}", storage.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--cluster.listen-address=", "--log.level=debug"])
            .args(flags);
        let process = Process::start("alertmanager", &mut command, &storage.path().join("alertmanager.log"));
        Self { address, _process: process, _storage: storage }
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Posts an alert that fires for five minutes, as Prometheus would.
    pub(crate) fn fire(&self, labels: &[(&str, &str)]) {
        self.post_alert(labels, 300_000);
    }

    /// Posts the end of an alert.
    pub(crate) fn resolve(&self, labels: &[(&str, &str)]) {
        self.post_alert(labels, -1);
    }

    /// The alerts that are active now: their labels.
    pub(crate) fn active(&self) -> Vec<Value> {
        let response = self.request("GET", "/api/v2/alerts?active=true", "").expect("Alertmanager answers");
        assert_eq!(response.status, 200, "{}", response.body);
        let alerts = response.json();
        alerts.as_array().into_iter().flatten().map(|alert| alert["labels"].clone()).collect()
    }

    /// Everything it lists of the alerts with these labels.
    pub(crate) fn listed(&self, labels: &[(&str, &str)]) -> Vec<Value> {
        let response = self.request("GET", "/api/v2/alerts", "").expect("Alertmanager answers");
        assert_eq!(response.status, 200, "{}", response.body);
        let alerts = response.json();
        let fits = |alert: &&Value| labels.iter().all(|(name, value)| alert["labels"][name] == *value);
        alerts.as_array().into_iter().flatten().filter(fits).cloned().collect()
    }

    /// Silences the alerts of this name for an hour; returns the silence's id.
    pub(crate) fn silence(&self, alertname: &str) -> String {
        let matcher = json!({"name": "alertname", "value": alertname, "isRegex": false, "isEqual": true});
        let body = json!({"matchers": [matcher], "startsAt": timestamp(0), "endsAt": timestamp(3_600_000),
                          "createdBy": "a test", "comment": "a test"});
        let response = self.request("POST", "/api/v2/silences", &body.to_string()).expect("Alertmanager answers");
        assert_eq!(response.status, 200, "{}", response.body);
        response.json()["silenceID"].as_str().expect("a silence has an id").to_owned()
    }

    /// Ends a silence.
    pub(crate) fn unsilence(&self, id: &str) {
        let response = self.request("DELETE", &format!("/api/v2/silence/{id}"), "").expect("Alertmanager answers");
        assert_eq!(response.status, 200, "{}", response.body);
    }

    /// Notifications to webhooks: tried, and failed.
    pub(crate) fn notifications(&self) -> (f64, f64) {
        let page = self.request("GET", "/metrics", "").expect("Alertmanager answers").body;
        let sum = |name| series(&page, name, &[("integration", "webhook")]).iter().sum();
        (sum("alertmanager_notifications_total"), sum("alertmanager_notifications_failed_total"))
    }

    fn post_alert(&self, labels: &[(&str, &str)], ends_in_millis: i64) {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let body = json!([{"labels": labels, "startsAt": timestamp(-1000), "endsAt": timestamp(ends_in_millis)}]);
        let response = self.request("POST", "/api/v2/alerts", &body.to_string()).expect("Alertmanager answers");
        assert_eq!(response.status, 200, "{}", response.body);
    }

    fn request(&self, method: &str, path: &str, body: &str) -> std::io::Result<Response> {
        request(&self.address, method, path, &[], body.as_bytes(), Duration::from_secs(10))
    }
}
