//! Reload: all or nothing.

use crate::common::{Chiron, Config, wait_for};

fn config(dir: &std::path::Path, names: &[&str]) -> String {
    let mut text = Config::new(dir).text().to_owned();
    text.push_str("subsystems:\n");
    for name in names {
        text.push_str(&format!(
            "  {name}:\n    criticality: none\n    check: {{kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h}}\n"
        ));
    }
    text
}

fn subsystems(chiron: &Chiron) -> Vec<String> {
    let page = chiron.metrics();
    ["first", "second", "third"]
        .into_iter()
        .filter(|name| page.contains(&format!("subsystem=\"{name}\"")))
        .map(str::to_owned)
        .collect()
}

fn wait_subsystems(chiron: &Chiron, wanted: &[&str]) {
    wait_for(&format!("the subsystems {wanted:?} on /metrics"), || {
        let found = subsystems(chiron);
        if found == wanted { Ok(()) } else { Err(found) }
    });
}

/// SPEC 14, EXP-1: a good file takes effect by POST and by SIGHUP; what it adds appears, what it drops vanishes.
#[test]
fn good_change_takes_effect() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::write(dir.path().join("fresh"), "").expect("a file can be written");
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), &["first", "second"])).start();
    wait_subsystems(&chiron, &["first", "second"]);
    let began = chiron.metric("chiron_config_last_reload_success_timestamp_seconds", &[]).expect("it is exported");

    chiron.rewrite_config(&config(dir.path(), &["second", "third"]));
    let answer = chiron.post("/-/reload", "").expect("chiron answers");
    assert_eq!(answer.status, 200, "{}", answer.body);
    wait_subsystems(&chiron, &["second", "third"]);
    assert_eq!(chiron.metric("chiron_config_last_reload_successful", &[]), Some(1.0));
    let then = chiron.metric("chiron_config_last_reload_success_timestamp_seconds", &[]).expect("it is exported");
    assert!(then > began, "{then} after {began}");
    let health = chiron.get_json("/status");
    assert_eq!(health["subsystem_health"]["first"], serde_json::Value::Null);

    chiron.rewrite_config(&config(dir.path(), &["first"]));
    chiron.hang_up();
    wait_subsystems(&chiron, &["first"]);
}

/// SPEC 14: a bad file changes nothing, by POST and by SIGHUP, and says so in the answer, the log and a metric; a good
/// one afterwards clears it.
#[test]
fn bad_change_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::write(dir.path().join("fresh"), "").expect("a file can be written");
    let good = config(dir.path(), &["first"]);
    let chiron = Chiron::with_config(dir.path(), &good).start();
    wait_subsystems(&chiron, &["first"]);

    let bad = format!("{}chek_interval: 5s\nmax_consecutive_failures: often\n", config(dir.path(), &["second"]));
    chiron.rewrite_config(&bad);
    let answer = chiron.post("/-/reload", "").expect("chiron answers");
    assert_eq!(answer.status, 500, "{}", answer.body);
    for wanted in ["chek_interval", "check_interval", "max_consecutive_failures", "often"] {
        assert!(answer.body.contains(wanted), "`{wanted}` is missing from: {}", answer.body);
    }
    assert_eq!(chiron.metric("chiron_config_last_reload_successful", &[]), Some(0.0));
    assert_eq!(subsystems(&chiron), ["first"]);

    chiron.rewrite_config(&good);
    assert_eq!(chiron.post("/-/reload", "").expect("chiron answers").status, 200);
    assert_eq!(chiron.metric("chiron_config_last_reload_successful", &[]), Some(1.0));

    chiron.rewrite_config("subsystems: [\n");
    chiron.hang_up();
    wait_for("SIGHUP to be answered by the metric", || {
        match chiron.metric("chiron_config_last_reload_successful", &[]) {
            Some(0.0) => Ok(()),
            other => Err(other),
        }
    });
    assert_eq!(subsystems(&chiron), ["first"]);
    assert_eq!(chiron.get("/-/ready").expect("chiron answers").status, 200);
}

/// SPEC 14: a file that moves the workspace is refused whole, so that no half of chiron acts elsewhere.
#[test]
fn moving_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::write(dir.path().join("fresh"), "").expect("a file can be written");
    let elsewhere = tempfile::tempdir().expect("a temporary folder can be made");
    let good = config(dir.path(), &["first"]);
    let chiron = Chiron::with_config(dir.path(), &good).start();
    wait_subsystems(&chiron, &["first"]);
    let here = format!("{}", dir.path().display());
    let workspace = good.lines().find(|line| line.starts_with("workspace:")).expect("the workspace is configured");
    let moved = workspace.replace(&here, &format!("{}", elsewhere.path().display()));
    assert_ne!(workspace, moved);
    chiron.rewrite_config(&config(dir.path(), &["second"]).replace(workspace, &moved));
    let answer = chiron.post("/-/reload", "").expect("chiron answers");
    assert_eq!(answer.status, 500, "{}", answer.body);
    assert!(answer.body.contains("workspace") && answer.body.contains("restart"), "{}", answer.body);
    assert_eq!(subsystems(&chiron), ["first"]);
}
