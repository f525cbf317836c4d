//! `chiron heal` with the real binary on workspaces on disk: what it changes, what it leaves, and how it is undone.

mod crashes;
mod disks;
mod findings;
mod live;
mod rollback;
mod standing;

use std::process::Command;

use serde_json::Value;

use crate::cli::{Said, run};
use crate::common::Workspace;

/// One round in a mode, as JSON.
pub(crate) fn heal(workspace: &Workspace, mode: &str, more: &[&str]) -> Said {
    run(&mut healing(workspace, mode, more))
}

/// The command of a round.
pub(crate) fn healing(workspace: &Workspace, mode: &str, more: &[&str]) -> Command {
    workspace.command("heal", &[&["--mode", mode, "--output=json"], more].concat())
}

/// `CODE STATE PATH` of every finding, sorted.
pub(crate) fn found(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().expect("a report has findings");
    let word = |finding: &Value, key: &str| finding[key].as_str().expect("a word").to_owned();
    let mut lines: Vec<String> = findings
        .iter()
        .map(|finding| format!("{} {} {}", word(finding, "code"), word(finding, "state"), word(finding, "path")))
        .collect();
    lines.sort();
    lines
}

/// The healings that are kept, latest first.
pub(crate) fn healings(workspace: &Workspace) -> Vec<Value> {
    let said = run(&mut workspace.command("heal", &["--list", "--output=json"])).ended(0);
    said.json()["healings"].as_array().expect("a list of healings").clone()
}

/// Undoes everything that was healed and is not undone yet, latest first.
pub(crate) fn undo_all(workspace: &Workspace, mode: &str) {
    for healing in healings(workspace) {
        let applied = healing["changes"].as_array().expect("changes").iter().any(|change| change["state"] == "applied");
        if applied && healing["trigger"] != "rollback" && healing["undone_by"].is_null() {
            let id = healing["id"].as_str().expect("an id");
            heal(workspace, mode, &["--rollback", id]).ended(0);
        }
    }
}
