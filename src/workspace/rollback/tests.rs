//! What a healing did is undone byte for byte, and nothing else is.
#![expect(clippy::disallowed_methods, reason = "the tests play the bot")]

use proptest::prelude::*;

use crate::model::{ChangeState, HealingEnd, Name};
use crate::workspace::apply::fixture::{Fixture, Tree};
use crate::workspace::engine::rollback;
use crate::workspace::plan::Change;
use crate::workspace::root::sha256;
use crate::workspace::{Error, ErrorKind, ledger};

fn undo(at: &Fixture, id: &Name, force: bool) -> Result<Name, Error> {
    let report = rollback(&at.settings, id, force, Some("anna".to_owned()), &at.clock)?;
    assert!(report.success, "{:?}", report.changes);
    Ok(report.id.expect("it is a healing of its own"))
}

fn heal(at: &Fixture, changes: &[Change]) -> Name {
    let outcome = at.heal(changes, &|_| {}).expect("it is journaled");
    assert!(outcome.changes.iter().all(|change| change.state == ChangeState::Applied), "{:?}", outcome.changes);
    outcome.id
}

/// One file before, and what happens to it: its content, mode, time, whether it has an attribute, and the change.
type Drawn = (Vec<u8>, u32, u32, bool, u8, String);

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let one = (
        proptest::collection::vec(any::<u8>(), 0..200),
        0..0o777_u32,
        any::<u32>(),
        any::<bool>(),
        0..5_u8,
        "[a-z]{0,40}",
    );
    proptest::collection::vec(one, 1..8)
}

fn build(at: &Fixture, files: &[Drawn]) -> Vec<Change> {
    let mut changes = Vec::new();
    for (n, (content, mode, modified, has_attribute, kind, new)) in files.iter().enumerate() {
        let path = format!("state/{n}.json");
        at.write("state/.keep", "");
        if matches!(kind, 0..=2) {
            at.write(&path, content);
            if *has_attribute {
                at.set_xattr(&path, "user.chiron", content);
            }
            at.set_modified(&path, i128::from(*modified) * 1_000_000_007);
            at.set_mode(&path, *mode);
        }
        let new = format!("{new}{n}");
        match kind {
            0 => changes.push(at.replace(&path, &new)),
            1 => changes.push(at.reset(&path, &new)),
            2 => changes.push(at.remove(&path)),
            3 => changes.push(at.create(&path, &new)),
            _ => {
                changes.push(at.create_dir(&format!("made{n}")));
                changes.push(at.create_dir(&format!("made{n}/in")));
                changes.push(at.create(&format!("made{n}/in/x"), &new));
            }
        }
    }
    changes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// WSP-6: rolling back any healing restores the exact tree: contents, modes, owners, attributes, times of files. Rolling
    /// back the rollback gives the healed tree, and rolling back that the first one again.
    #[test]
    fn any_healing_is_undone_exactly(files in drawn()) {
        let at = Fixture::new();
        let changes = build(&at, &files);
        let before: Tree = at.tree();
        let id = heal(&at, &changes);
        let healed = at.tree();
        prop_assert_ne!(&before, &healed);
        let first = undo(&at, &id, false).expect("nothing has changed");
        prop_assert_eq!(&at.tree(), &before);
        let second = undo(&at, &first, false).expect("nothing has changed");
        prop_assert_eq!(&at.tree(), &healed);
        undo(&at, &second, false).expect("nothing has changed");
        prop_assert_eq!(&at.tree(), &before);
    }
}

/// WSP-6: a rollback refuses as a whole, naming the files, if one has changed since: content, mode, or gone. Forced, it
/// replaces them and keeps a copy of what was there.
#[test]
fn what_changed_since_is_refused_unless_forced() {
    let at = Fixture::new();
    at.write("a.json", "old a");
    at.write("b.json", "old b");
    let before = at.tree();
    let id = heal(&at, &[at.replace("a.json", "new a"), at.replace("b.json", "new b"), at.create("c.json", "new c")]);
    let healed = at.tree();
    at.write("a.json", "the bot's a");
    let refused = undo(&at, &id, false).expect_err("it has changed");
    assert_eq!(refused.kind, ErrorKind::Changed);
    assert!(refused.context.contains("`a.json`") && !refused.context.contains("`b.json`"), "{refused}");
    assert_eq!(at.tree()["b.json"], healed["b.json"], "nothing was changed");
    at.write("a.json", "new a");
    at.set_mode("c.json", 0o600);
    assert_eq!(undo(&at, &id, false).expect_err("its mode has changed").kind, ErrorKind::Changed);
    at.set_mode("c.json", 0o644);
    std::fs::remove_file(at.path("b.json")).expect("it is there");
    assert_eq!(undo(&at, &id, false).expect_err("it is gone").kind, ErrorKind::Changed);
    at.write("a.json", "the bot's a");
    let by = undo(&at, &id, true).expect("it is forced");
    assert_eq!(at.tree(), before);
    let copy = sha256(b"the bot's a");
    let copy = at.settings.state_dir.join("backups").join(&copy[..2]).join(&copy);
    assert_eq!(std::fs::read(copy).expect("a copy is kept"), b"the bot's a");
    let told = ledger::read(&at.settings, &id).expect("it is kept");
    assert_eq!((told.end, told.undone_by.as_ref()), (Some(HealingEnd::Finished), Some(&by)));
    assert_eq!(ledger::read(&at.settings, &by).expect("it is kept").undoes, Some(id.clone()));
    let again = undo(&at, &id, true).expect_err("it is undone");
    assert_eq!(again.kind, ErrorKind::Settled, "{again}");
}

/// WSP-6: an id under which nothing is kept, and a copy that is spoiled, are refused and nothing is changed.
#[test]
fn what_cannot_be_undone_is_told() {
    let at = Fixture::new();
    let unknown = |id: &str| undo(&at, &Name::from(id), false).expect_err("it is unknown").kind;
    assert_eq!(unknown("20251123T013456Z-000001"), ErrorKind::Unknown);
    at.write("a.json", "old");
    let id = heal(&at, &[at.replace("a.json", "new")]);
    for id in ["../../etc/passwd", "20251123T013456Z-000099", ""] {
        assert_eq!(unknown(id), ErrorKind::Unknown, "{id}");
    }
    let sha = sha256(b"old");
    let copy = at.settings.state_dir.join("backups").join(&sha[..2]).join(&sha);
    std::fs::write(&copy, "0ld").expect("it can be spoiled");
    let refused = undo(&at, &id, false).expect_err("the copy is spoiled");
    assert!(refused.kind == ErrorKind::Settled && refused.context.contains("spoiled"), "{refused}");
    assert_eq!(at.read("a.json").as_deref(), Some("new"));
    // A folder that others use by now stays, and the rollback is whole nevertheless.
    let id = heal(&at, &[at.create_dir("made"), at.create("made/x", "x")]);
    at.write("made/y", "the bot's");
    undo(&at, &id, false).expect("a folder in use is no change");
    assert_eq!((at.read("made/x"), at.read("made/y").as_deref()), (None, Some("the bot's")));
    assert!(ledger::read(&at.settings, &id).expect("it is kept").undone_by.is_some());
}

/// WSP-6: a rollback that is only looked at takes no lock, settles nothing and changes no mode.
#[test]
fn a_dry_rollback_only_reads() {
    let mut at = Fixture::new();
    at.write("a.json", "old");
    let id = heal(&at, &[at.replace("a.json", "new")]);
    let before = at.tree();
    let held = at.ledger();
    at.set_mode(".chiron", 0o755);
    at.settings.dry_run = true;
    let report = rollback(&at.settings, &id, false, None, &at.clock).expect("nothing is locked");
    assert_eq!(report.changes.len(), 1);
    assert_eq!(report.changes[0].state, ChangeState::Planned);
    assert_eq!(at.tree(), before);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&at.settings.state_dir).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o755);
    drop(held);
}
