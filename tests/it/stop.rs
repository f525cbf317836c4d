//! The end of chiron: in order, within its time, whatever still runs; and starts that are refused.

use std::time::{Duration, Instant};

use crate::common::{Chiron, Config, wait_for};

/// ACT-3: a stop waits ten seconds for an action, not for its command, whose fate the next start looks into.
#[test]
fn a_stop_does_not_wait_for_commands() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let yaml = "auto_restart_enabled: true\n\
                subsystems:\n  slow: {criticality: partial, check: {kind: file_set, paths: [absent], healthy_at: 1, degraded_at: 1}}\n\
                bindings:\n  - {action: restart_subsystem, subsystem: slow, exec: {argv: [/bin/sleep, '30']}}\n";
    let mut chiron = Chiron::with_config(dir.path(), Config::new(dir.path()).with(yaml).text()).start();
    wait_for("the action to be under way", || {
        let actions = chiron.get_json("/api/v1/actions");
        if actions["actions"][0]["state"] == "started" { Ok(()) } else { Err(actions) }
    });
    let told = Instant::now();
    assert!(chiron.terminate().success(), "{}", chiron.log());
    assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
    chiron.restart();
    // A one_shot that was under way: what is left of it is waited for, and it is never begun again.
    let actions = chiron.get_json("/api/v1/actions");
    assert_eq!(actions["actions"].as_array().map(Vec::len), Some(1), "{actions}");
}

/// SPEC 14: a workspace that is not there is a mistake, not a folder to be made.
#[test]
fn a_missing_workspace_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let missing = dir.path().join("not/here");
    let mut chiron = Chiron::without_config(dir.path()).arg(&format!("--workspace={}", missing.display()));
    chiron.spawn();
    wait_for("chiron to refuse", || match chiron.ended() {
        Some(ended) if ended.code() == Some(1) => Ok(()),
        other => Err(format!("{other:?} {}", chiron.log())),
    });
    assert!(chiron.log().contains("is no folder"), "{}", chiron.log());
    assert!(!missing.exists());
}
