//! What a rollback brings back, and when it refuses.

use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::XattrFlags;

use super::{heal, healings};
use crate::common::{POSITIONS, Workspace};

/// A file with permissions, an owner, a time and an attribute of its own, in need of a key.
fn peculiar() -> Workspace {
    let workspace = Workspace::whole();
    workspace.write(POSITIONS, b"{\"open_positions\": []}\n");
    workspace.write("logs/portfolio_futures.json", b"{\"open_position_count\": 0, \"trades\": []}\n");
    let path = workspace.path(POSITIONS);
    std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).expect("this test needs root");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("its mode can be set");
    rustix::fs::setxattr(&path, "user.origin", b"strategy a", XattrFlags::empty()).expect("an attribute can be set");
    workspace.rest(POSITIONS, std::time::Duration::from_secs(7200));
    workspace
}

/// WSP-6: permissions, owner and attributes are kept by a healing, and a rollback restores all of it and the time.
#[test]
fn everything_comes_back() {
    let workspace = peculiar();
    let before = workspace.tree();
    let report = heal(&workspace, "paper", &[]).ended(0).json();
    let after = workspace.tree();
    let strip = |tree: &crate::common::Tree| {
        let text = format!("{:?}", tree.0[POSITIONS]);
        (text.split(' ').next().map(str::to_owned), text.contains("user.origin"), text.contains("(65534, 65534)"))
    };
    assert_eq!(strip(&after), strip(&before), "{:?}", after.0[POSITIONS]);
    assert_eq!(after.differing(&before).into_iter().collect::<Vec<_>>(), [POSITIONS], "{report:#}");
    let id = report["id"].as_str().expect("an id").to_owned();
    let undone = heal(&workspace, "paper", &["--rollback", &id]).ended(0).json();
    assert_eq!(undone["trigger"], "rollback", "{undone:#}");
    workspace.tree().assert_same(&before, "the rollback");
    let said = heal(&workspace, "paper", &["--rollback", &id]).ended(3);
    assert!(said.err.contains(&id), "it is undone already: {said:?}");
    // A rollback is a healing too.
    let by = healings(&workspace)[0]["id"].as_str().expect("an id").to_owned();
    assert_ne!(by, id);
    heal(&workspace, "paper", &["--rollback", &by]).ended(0);
    assert_eq!(workspace.tree().differing(&after).into_iter().collect::<Vec<_>>(), [""; 0]);
}

/// WSP-6: what has changed since is refused and left alone, unless a person insists; then the change is kept as well.
#[test]
fn a_change_since_is_refused() {
    let workspace = peculiar();
    workspace.remove("data");
    let before = workspace.tree();
    let report = heal(&workspace, "paper", &[]).ended(0).json();
    let id = report["id"].as_str().expect("an id").to_owned();
    workspace.write(POSITIONS, b"{\"open_positions\": [], \"closed_positions\": [], \"by\": \"the bot\"}\n");
    let changed = workspace.tree();
    let said = heal(&workspace, "paper", &["--rollback", &id]).ended(3);
    assert!(said.err.contains(POSITIONS), "it names what has changed: {said:?}");
    workspace.tree().assert_same(&changed, "a refusal changes nothing, not even what could be undone");
    let undone = heal(&workspace, "paper", &["--rollback", &id, "--force"]).ended(0).json();
    workspace.tree().assert_same(&before, "with --force");
    let by = undone["id"].as_str().expect("an id").to_owned();
    heal(&workspace, "paper", &["--rollback", &by]).ended(0);
    assert!(workspace.text(POSITIONS).contains("the bot"), "what was overwritten can be had back");
}
