//! What stands until a person has settled it: records that were lost, and what a person has undone.

use serde_json::Value;

use super::{found, heal, healings};
use crate::cli::run;
use crate::common::{PORTFOLIO, POSITIONS, Workspace};

/// A portfolio that counts nothing, so that no mismatch hides a loss.
fn workspace() -> Workspace {
    let workspace = Workspace::whole();
    workspace.write(PORTFOLIO, b"{\"trades\": []}\n");
    workspace
}

const TORN: &[u8] = b"{\"open_positions\": [], \"closed_positions\": [{\"id\": \"p-1\"}, {\"id\": \"p-2";

fn gate(workspace: &Workspace) -> i32 {
    run(&mut workspace.command("gate", &["--mode", "real"])).code
}

fn is_lost(report: &Value) -> bool {
    found(report).contains(&format!("records_lost standing {POSITIONS}"))
}

/// WSP-2, WSP-5: a lost record keeps the gate closed in every round, also when the file is sound, until a person accepts it;
/// the operator is told once.
#[test]
fn a_loss_closes_the_gate_until_it_is_accepted() {
    let workspace = workspace();
    workspace.write(POSITIONS, TORN);
    let report = heal(&workspace, "real", &[]).ended(2).json();
    assert!(is_lost(&report), "{report:#}");
    let id = report["id"].as_str().expect("an id").to_owned();
    assert_eq!([gate(&workspace), gate(&workspace)], [2, 2], "it stays closed");
    let dry = heal(&workspace, "real", &["--dry-run"]).json();
    assert!(is_lost(&dry) && dry.to_string().contains(&format!("chiron heal --accept-loss {id}")), "{dry:#}");
    assert_eq!(workspace.operator_alerts().len(), 1, "{:?}", workspace.operator_alerts());
    heal(&workspace, "real", &["--accept-loss=nothing"]).ended(3);
    let accepted = heal(&workspace, "real", &["--accept-loss", &id, "--reason", "closed by hand"]).ended(0).json();
    assert_eq!(accepted["accepted"]["reason"], "closed by hand", "{accepted:#}");
    assert!(accepted["accepted"]["by"].as_str().is_some_and(|by| !by.is_empty()));
    assert_eq!(gate(&workspace), 0);
    let report = heal(&workspace, "real", &[]).ended(0).json();
    assert!(!is_lost(&report), "{report:#}");
    let list = run(&mut workspace.command("heal", &["--list"])).ended(0).out;
    assert!(list.contains("losses accepted by "), "{list}");
}

/// What it is called, what is done, whether the workspace was seen whole before, and how the round ends.
type Break = (&'static str, fn(&Workspace), bool, i32);

/// WSP-2: a file of NUL bytes has lost its records; one without bytes or that is gone has if it had some before.
#[test]
fn files_that_lost_everything() {
    let breaks: [Break; 5] = [
        ("NUL bytes", |workspace| workspace.write(POSITIONS, &[0; 300]), false, 2),
        ("no bytes, new", |workspace| workspace.write(POSITIONS, b""), false, 0),
        ("missing, new", |workspace| workspace.remove(POSITIONS), false, 0),
        ("no bytes, known", |workspace| workspace.write(POSITIONS, b""), true, 2),
        ("missing, known", |workspace| workspace.remove(POSITIONS), true, 2),
    ];
    for (name, breaks, is_known, code) in breaks {
        let workspace = workspace();
        if is_known {
            heal(&workspace, "real", &[]).ended(0);
        }
        breaks(&workspace);
        let report = heal(&workspace, "real", &[]).ended(code).json();
        assert_eq!(is_lost(&report), code == 2, "{name}: {report:#}");
        assert!(workspace.text(POSITIONS).contains("\"open_positions\": []"), "{name}: healed all the same");
        assert_eq!(gate(&workspace), code, "{name}");
    }
}

/// WSP-6: what a person has undone is left alone by every later round and by the gate, until it changes or `--again`.
#[test]
fn what_was_undone_is_left_alone() {
    let workspace = Workspace::whole();
    workspace.write(POSITIONS, b"{\"open_positions\": []}\n");
    workspace.write(PORTFOLIO, b"{\"open_position_count\": 0, \"trades\": []}\n");
    workspace.remove("data");
    let before = workspace.tree();
    let report = heal(&workspace, "paper", &[]).ended(0).json();
    let id = report["id"].as_str().expect("an id").to_owned();
    heal(&workspace, "paper", &["--rollback", &id]).ended(0);
    workspace.tree().assert_same(&before, "the rollback");
    for _ in 0..2 {
        let report = heal(&workspace, "paper", &[]).ended(0).json();
        let lines = found(&report);
        assert_eq!(lines, ["directory_missing standing data".to_owned(), format!("keys_missing standing {POSITIONS}")]);
        assert!(report.to_string().contains("a person has undone its healing"), "{report:#}");
        run(&mut workspace.command("gate", &["--mode", "paper"])).ended(0);
        workspace.tree().assert_same(&before, "left alone");
    }
    assert_eq!(healings(&workspace).len(), 2);
    workspace.write(POSITIONS, b"{\"open_positions\": [], \"n\": 1}\n");
    heal(&workspace, "paper", &[]).ended(0);
    assert!(workspace.text(POSITIONS).contains("closed_positions"), "it has changed");
    assert!(!workspace.path("data").exists());
    heal(&workspace, "paper", &["--again"]).ended(0);
    assert!(workspace.path("data").is_dir());
}

/// WSP-7: what `chiron heal` does to configuration files is logged beside what recovery does about failure points.
#[test]
fn configuration_is_logged() {
    let workspace = Workspace::whole();
    heal(&workspace, "paper", &[]).ended(0);
    let log = workspace.path("logs/failure_point_healing.jsonl");
    assert!(!log.exists(), "nothing was restored");
    workspace.write("config/trading_config.json", b"{\"max_pos");
    heal(&workspace, "paper", &["--dry-run"]).ended(1);
    assert!(!log.exists(), "nor in a dry run");
    let report = heal(&workspace, "paper", &[]).ended(0).json();
    let text = std::fs::read_to_string(&log).expect("it is logged");
    let line: Value = serde_json::from_str(text.trim_end()).expect("one line of JSON");
    assert_eq!((&line["category"], &line["step"]), (&"configuration".into(), &"restored".into()), "{line:#}");
    let detail = line["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("trading_config.json") && detail.contains(report["id"].as_str().expect("an id")),
        "{line:#}"
    );
}
