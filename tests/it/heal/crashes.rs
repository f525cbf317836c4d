//! A crash at every step of a healing, and at any moment: every file is old or new, and everything can still be undone.
//!
//! `CHIRON_TEST_HEALING_KILLS` sets how many (50), `CHIRON_TEST_SEED` repeats the moments of an earlier run.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use chiron::base::failpoint;
use rustix::fs::XattrFlags;

use super::{heal, healing, healings, undo_all};
use crate::common::{Entry, PORTFOLIO, POSITIONS, Tree, Workspace, now_millis, sample};

/// What is reset with the time in it.
const HEARTBEAT: &str = "state/heartbeats/feed.json";

/// A workspace that needs every kind of change.
fn broken() -> Workspace {
    let workspace = Workspace::whole();
    workspace.remove("data");
    workspace.remove("feature_store");
    workspace.remove(PORTFOLIO);
    workspace.write(POSITIONS, b"{\"open_positions\": []}\n");
    let state = String::from_utf8(sample("event_executor_state.json")).expect("text");
    workspace.write("state/lock.lock", b"");
    workspace.write("logs/deep/er/other.lock", b"");
    workspace.write(HEARTBEAT, state.as_bytes());
    let path = workspace.path(POSITIONS);
    rustix::fs::setxattr(&path, "user.origin", b"a", XattrFlags::empty()).expect("an attribute can be set");
    workspace
}

/// The tree that a healing without trouble leaves.
fn healed() -> Tree {
    let workspace = broken();
    heal(&workspace, "paper", &[]).ended(0);
    workspace.tree()
}

fn is_reset(entry: &Entry) -> bool {
    entry.content.as_deref().is_some_and(|content| {
        serde_json::from_slice::<serde_json::Value>(content).is_ok_and(|value| value["status"] == "reset")
    })
}

/// What must hold after a crash: each path is old or new; the next round completes; undone, everything is as before.
fn judge(workspace: &Workspace, before: &Tree, healed: &Tree, what: &str) {
    let crashed = workspace.tree();
    for path in crashed.differing(before) {
        // What is written beside a file is no part of it, and goes with the next round.
        if path.rsplit('/').next().is_some_and(|name| name.starts_with(".chiron-")) {
            continue;
        }
        let now = crashed.0.get(&path);
        let is_new = match (now, healed.0.get(&path)) {
            (Some(now), Some(_)) if path == HEARTBEAT => is_reset(now),
            (Some(now), Some(new)) => now.holds_the_same(new),
            (now, new) => now.is_none() && new.is_none(),
        };
        assert!(is_new, "{what}: {path} is neither old nor new: {now:?}");
    }
    // What was undone, or begun to be, is left alone unless a person says so.
    let again: &[&str] = if what.contains("rollback") { &["--again"] } else { &[] };
    heal(workspace, "paper", again).ended(0);
    let mut differing = workspace.tree().differing(healed);
    differing.remove(HEARTBEAT);
    assert!(differing.is_empty(), "{what}: the next round leaves {differing:?} undone");
    assert!(is_reset(&workspace.tree().0[HEARTBEAT]), "{what}");
    let open: Vec<_> = healings(workspace).into_iter().filter(|healing| healing["end"].is_null()).collect();
    assert!(open.is_empty(), "{what}: {open:?}");
    undo_all(workspace, "paper");
    workspace.tree().assert_same(before, &format!("{what}: undone"));
}

/// WSP-6: SIGKILL at every step, at its first passing and at the later ones of a step that is passed for each change.
#[test]
fn at_every_step() {
    let healed = healed();
    let mut never = Vec::new();
    for name in failpoint::HEALING {
        for passing in [1, 3, 6] {
            let workspace = broken();
            let before = workspace.tree();
            let mut command = healing(&workspace, "paper", &[]);
            command.env("CHIRON_FAILPOINTS", format!("{name}=kill@{passing}"));
            let output = command.output().expect("chiron runs");
            if output.status.signal() != Some(9) {
                if passing == 1 {
                    never.push(name);
                }
                break;
            }
            judge(&workspace, &before, &healed, &format!("{name}@{passing}"));
        }
    }
    // Steps of a rollback alone are passed there.
    for name in never {
        let workspace = broken();
        let before = workspace.tree();
        let report = heal(&workspace, "paper", &[]).ended(0).json();
        let mut command = healing(&workspace, "paper", &["--rollback", report["id"].as_str().expect("an id")]);
        let output = command.env("CHIRON_FAILPOINTS", format!("{name}=kill")).output().expect("chiron runs");
        assert_eq!(output.status.signal(), Some(9), "`{name}` is passed by nobody: {output:?}");
        judge(&workspace, &before, &healed, name);
    }
}

/// WSP-6: a rollback that is killed at any step leaves each file old or new, and can be done again.
#[test]
fn a_rollback_at_every_step() {
    let healed = healed();
    for name in failpoint::HEALING {
        let workspace = broken();
        let before = workspace.tree();
        let report = heal(&workspace, "paper", &[]).ended(0).json();
        let mut command = healing(&workspace, "paper", &["--rollback", report["id"].as_str().expect("an id")]);
        command.env("CHIRON_FAILPOINTS", format!("{name}=kill@2"));
        command.output().expect("chiron runs");
        judge(&workspace, &before, &healed, &format!("a rollback, {name}"));
    }
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: found `{text}`, expected a number")))
}

/// WSP-6: SIGKILL at random moments from the start of the process to after its end.
#[test]
fn healing_kills() {
    let kills = setting("CHIRON_TEST_HEALING_KILLS").unwrap_or(50);
    let seed = setting("CHIRON_TEST_SEED").unwrap_or_else(|| now_millis().unsigned_abs());
    eprintln!("healing kills: {kills}, CHIRON_TEST_SEED={seed}");
    let mut state = seed;
    let healed = healed();
    let begun = Instant::now();
    heal(&broken(), "paper", &[]).ended(0);
    let whole = begun.elapsed();
    let (mut in_time, mut touched) = (0, 0);
    for kill in 0..kills {
        let workspace = broken();
        let before = workspace.tree();
        let mut child =
            healing(&workspace, "paper", &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("chiron runs");
        let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
        std::thread::sleep(Duration::from_nanos(random(&mut state) % nanos.max(1)));
        let _ = child.kill();
        let status = child.wait().expect("a child can be waited for");
        in_time += u64::from(status.signal() == Some(9));
        touched += u64::from(!workspace.tree().differing(&before).is_empty());
        judge(&workspace, &before, &healed, &format!("kill {kill}, CHIRON_TEST_SEED={seed}"));
    }
    eprintln!("healing kills: {kills}, {in_time} before the end, {touched} after something was changed, 0 torn files");
    assert!(in_time > 0, "no kill came in time");
}
