//! One action bound to some means, an alert that asks for it, and what the journal tells of it.

use std::path::Path;

use serde_json::Value;

use super::chiron::Chiron;
use super::config::Config;
use super::samples::{alert, notification};
use super::wait::wait_for;

/// The configuration of subsystems whose check is content, each with `restart_subsystem` bound to the lines of YAML
/// given (means, `class`, `timeout`, ...), asked for by the alert of the same name.
pub(crate) fn bound(dir: &Path, bindings: &[(&str, &str)]) -> String {
    std::fs::write(dir.join("fresh"), "").expect("a file can be written");
    let (mut subsystems, mut bound, mut routes) = (String::new(), String::new(), String::new());
    for (name, lines) in bindings {
        subsystems.push_str(&format!(
            "  {name}: {{criticality: partial, check: {{kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h}}}}\n"
        ));
        bound.push_str(&format!(
            "  - action: restart_subsystem\n    subsystem: {name}\n    verify: {{settle: 50ms, within: 10s}}\n"
        ));
        lines.trim().lines().for_each(|line| bound.push_str(&format!("    {line}\n")));
        routes.push_str(&format!(
            "    - {{match: {{alertname: {name}}}, subsystem: {name}, action: restart_subsystem}}\n"
        ));
    }
    Config::new(dir)
        .with(&format!(
            "recovery: {{cooldown: 0s, overall_budget: 100}}\nsubsystems:\n{subsystems}bindings:\n{bound}alerts:\n  routes:\n{routes}"
        ))
        .text()
        .to_owned()
}

/// Posts the alert that asks for the action on that subsystem; whether it was accepted.
pub(crate) fn ask_for(chiron: &Chiron, subsystem: &str) -> bool {
    let body = notification(&[alert("firing", &[("alertname", subsystem), ("severity", "critical")])]);
    chiron.notify(None, body.as_bytes()).is_ok_and(|answer| answer.status == 200)
}

/// The first `run_finished` of an action on that subsystem, waited for.
pub(crate) fn finished(chiron: &Chiron, subsystem: &str) -> Value {
    wait_for(&format!("the action on {subsystem} to be finished"), || {
        let entries = chiron.journal();
        let run = entries.iter().find(|entry| entry["kind"] == "run_intended" && entry["target"] == subsystem);
        let Some(key) = run.map(|run| run["key"].clone()) else { return Err(super::kinds(&entries)) };
        let end = entries.iter().find(|entry| entry["kind"] == "run_finished" && entry["key"] == key);
        end.cloned().ok_or_else(|| super::kinds(&entries))
    })
}

/// The ending and the detail of an action on that subsystem.
pub(crate) fn ending(chiron: &Chiron, subsystem: &str) -> (String, String) {
    let end = finished(chiron, subsystem);
    let text = |key: &str| end[key].as_str().unwrap_or_default().to_owned();
    (text("ending"), text("detail"))
}
