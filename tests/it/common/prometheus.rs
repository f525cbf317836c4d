//! A real Prometheus with one-second intervals.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::http::request;
use super::process::{Process, free_port, tool};
use super::wait::wait_for;

/// A running Prometheus, its data in a temporary folder.
pub(crate) struct Prometheus {
    address: String,
    _process: Process,
    _storage: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `targets` (`HOST:PORT`, job `chiron`), evaluates `rules` (a rule file's text) and sends
    /// alerts to `alertmanagers` (`HOST:PORT`).
    pub(crate) fn start(rules: &str, targets: &[&str], alertmanagers: &[&str]) -> Self {
        let scrape = serde_json::json!({"job_name": "chiron", "static_configs": [{"targets": targets}]});
        Self::scraping(rules, &scrape, alertmanagers)
    }

    /// The same with another scrape configuration.
    pub(crate) fn scraping(rules: &str, scrape: &Value, alertmanagers: &[&str]) -> Self {
        let storage = tempfile::tempdir().expect("a temporary folder can be made");
        let file = |name: &str, text: &str| {
            std::fs::write(storage.path().join(name), text).expect("a file can be written");
        };
        file("rules.yml", rules);
        let config = serde_json::json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [scrape],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": alertmanagers}]}]},
        });
        file("prometheus.yml", &config.to_string());
        check_rules(&storage.path().join("rules.yml"));
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(tool("prometheus"));
        command
            .current_dir(storage.path())
            .arg("--config.file=prometheus.yml")
            .arg(format!("--storage.tsdb.path={}", storage.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--rules.alert.resend-delay=1s", "--log.level=warn"]);
        let process = Process::start("prometheus", &mut command, &storage.path().join("prometheus.log"));
        let prometheus = Self { address, _process: process, _storage: storage };
        wait_for("Prometheus to be ready", || match prometheus.get("/-/ready") {
            Ok(response) if response.0 == 200 => Ok(()),
            other => Err(other),
        });
        prometheus
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The instant vector of a query: labels and value of each element.
    pub(crate) fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let path = format!("/api/v1/query?query={}", escape(expression));
        let (status, body) = self.get(&path).unwrap_or_else(|error| panic!("query `{expression}`: {error}"));
        assert_eq!(status, 200, "query `{expression}`: {body}");
        let answer: Value = serde_json::from_str(&body).expect("Prometheus answers JSON");
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        result
            .into_iter()
            .map(|element| {
                let value = element["value"][1].as_str().and_then(|text| text.parse().ok());
                (element["metric"].clone(), value.expect("an element has a number"))
            })
            .collect()
    }

    /// Names of the alerts that fire now.
    pub(crate) fn firing(&self) -> Vec<String> {
        let firing = self.query("ALERTS{alertstate=\"firing\"}");
        firing.into_iter().filter_map(|(labels, _)| labels["alertname"].as_str().map(str::to_owned)).collect()
    }

    fn get(&self, path: &str) -> Result<(u16, String), String> {
        request(&self.address, "GET", path, &[], b"", Duration::from_secs(10))
            .map(|response| (response.status, response.body))
            .map_err(|error| error.to_string())
    }
}

fn check_rules(path: &Path) {
    let checked = Command::new(tool("promtool")).args(["check", "rules"]).arg(path).output().expect("promtool runs");
    assert!(checked.status.success(), "promtool check rules: {}", String::from_utf8_lossy(&checked.stderr));
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
