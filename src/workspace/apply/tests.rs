//! Changes on real file systems: whole or not at all, and the bot's file always wins.
#![expect(clippy::disallowed_methods, reason = "the tests play the bot, mount file systems and start processes")]

use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fixture::{Fixture, rel};
use crate::model::{ChangeKind, ChangeRecord, ChangeState, FindingCode};
use crate::workspace::ErrorKind;
use crate::workspace::plan::{Change, Remedy};

fn nothing(_: &str) {}

fn states(changes: &[ChangeRecord]) -> Vec<ChangeState> {
    changes.iter().map(|change| change.state).collect()
}

/// No file that chiron has written beside another is left.
fn is_clear(at: &Fixture) -> bool {
    at.tree().keys().all(|path| !path.contains(super::TEMPORARY))
}

/// WSP-6: a file that is replaced keeps mode, owner, group and extended attributes, an ACL among them; with `keep_times`
/// also its modification time. A folder's default ACL does not slip in.
#[test]
fn attributes_are_kept() {
    let at = Fixture::new();
    at.write("state/a.json", "broken");
    at.write("state/beat.json", "old");
    at.set_mode("state/a.json", 0o640);
    at.set_xattr("state/a.json", "user.note", b"mine");
    // user::rw-, user:1234:r--, group::r--, mask::r--, other::---
    let acl =
        [2_u32, 0x6_0001, 0xFFFF_FFFF, 0x4_0002, 1234, 0x4_0004, 0xFFFF_FFFF, 0x4_0010, 0xFFFF_FFFF, 0x20, 0xFFFF_FFFF];
    let acl: Vec<u8> = acl.iter().flat_map(|word| word.to_le_bytes()).collect();
    at.set_xattr("state/a.json", "system.posix_acl_access", &acl);
    at.set_xattr("state", "system.posix_acl_default", &acl);
    std::os::unix::fs::chown(at.path("state/a.json"), Some(1234), Some(4321)).expect("the tests run as root");
    at.set_modified("state/beat.json", 1_600_000_000_123_456_789);
    let before = at.tree();
    let changes = [at.replace("state/a.json", "broken"), at.reset("state/beat.json", "new")];
    at.set_modified("state/a.json", 1);
    let outcome = at.heal(&changes, &nothing).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Deferred, ChangeState::Applied], "its time changed meanwhile");
    let changes = [at.replace("state/a.json", "whole")];
    at.heal(&changes, &nothing).expect("it is journaled");
    let after = at.tree();
    let parts = |line: &str| line.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
    let (old, new) = (parts(&before["state/a.json"]), parts(&after["state/a.json"]));
    assert_eq!((&old[0], &old[1]), (&new[0], &new[1]), "mode and owner");
    let attributes =
        |line: &str| line.split_once("system.").expect("it has an ACL").1.split("] [").next().map(ToOwned::to_owned);
    assert_eq!(attributes(&before["state/a.json"]), attributes(&after["state/a.json"]));
    assert_eq!(at.read("state/a.json").as_deref(), Some("whole"));
    let (old, new) = (parts(&before["state/beat.json"]), parts(&after["state/beat.json"]));
    assert_eq!((&old[2], old.len()), (&new[2], new.len()), "the time, and no ACL of the folder: {new:?}");
    assert!(is_clear(&at));
}

/// WSP-6: whatever a bot does to a file at whatever step of its healing, the bot's last content stands byte for byte, and
/// nothing else is left behind. Every step, every way of writing.
#[test]
fn the_bot_wins_at_every_step() {
    for step in [
        "planned.before",
        "backup.after",
        "write.before",
        "write.after",
        "exchange.before",
        "exchange.after",
        "checked",
    ] {
        for way in ["in place", "renamed", "same size", "by an old descriptor", "twice"] {
            let at = Fixture::new();
            at.write("logs/a.json", "{\"broken\"");
            let changes = [at.replace("logs/a.json", "{\"whole\":1}")];
            let path = at.path("logs/a.json");
            let mut old = std::fs::OpenOptions::new().write(true).open(&path).expect("it is there");
            let is_done = AtomicBool::new(false);
            let hook = |name: &str| {
                if name != step || is_done.swap(true, Ordering::SeqCst) {
                    return;
                }
                let rename = |content: &str| {
                    std::fs::write(path.with_extension("bot"), content).expect("the bot writes");
                    std::fs::rename(path.with_extension("bot"), &path).expect("the bot renames");
                };
                match way {
                    "in place" => std::fs::write(&path, "the bot's").expect("the bot writes"),
                    "renamed" => rename("the bot's"),
                    "same size" => std::fs::write(&path, "{\"tampere").expect("the bot writes"),
                    "by an old descriptor" => (&old).write_all(b"the bot's").expect("the bot writes"),
                    _ => {
                        rename("first");
                        std::fs::write(&path, "the bot's").expect("the bot writes");
                    }
                }
            };
            let outcome = at.heal(&changes, &hook).expect("it is journaled");
            let content = at.read("logs/a.json");
            let context = format!("{way} at {step}: {:?}", outcome.changes[0]);
            // A descriptor of a file that is already replaced writes where nobody looks any more; before that it wins.
            let is_late = way == "by an old descriptor" && step == "checked";
            let expected = match way {
                "same size" => "{\"tampere",
                _ if is_late => "{\"whole\":1}",
                _ => "the bot's",
            };
            assert_eq!(content.as_deref(), Some(expected), "{context}");
            assert!(is_clear(&at), "{context}: {:?}", at.tree().keys());
            let is_after = step == "checked" || step == "exchange.after" && way != "by an old descriptor";
            if !is_after {
                assert_eq!(states(&outcome.changes), [ChangeState::Deferred], "{context}");
            }
            old.flush().expect("it can be closed");
        }
    }
}

/// WSP-6: a bot that replaces its file all the time never loses its last write to a healing: each content carries a number,
/// and the last number is the bot's last one, healed or not.
#[test]
fn a_busy_bot_loses_nothing() {
    const WRITES: u32 = 400;
    let at = Fixture::new();
    at.write("a.json", "0 ");
    let path = at.path("a.json");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=WRITES {
                std::fs::write(path.with_extension("bot"), format!("{n} ")).expect("the bot writes");
                std::fs::rename(path.with_extension("bot"), &path).expect("the bot renames");
            }
            is_over.store(true, Ordering::SeqCst);
        });
        let mut is_last = false;
        while !is_last {
            is_last = is_over.load(Ordering::SeqCst);
            let content = at.read("a.json").expect("it is always there");
            let number = content.split(' ').next().unwrap_or_default().to_owned();
            let change = at.replace("a.json", &format!("{number} healed"));
            // Made for this content only: the file may be another by now.
            if change
                .before
                .as_ref()
                .is_some_and(|before| before.sha256 == crate::workspace::root::sha256(content.as_bytes()))
            {
                at.heal(&[change], &nothing).expect("it is journaled");
            }
        }
    });
    let last = at.read("a.json").expect("it is there");
    assert_eq!(last.split(' ').next(), Some(WRITES.to_string().as_str()), "{last}");
    assert!(is_clear(&at));
}

/// WSP-6: a file that comes to be, is gone, or was changed since it was looked at is left as it is, whatever was planned.
#[test]
fn what_changed_is_deferred() {
    let at = Fixture::new();
    for path in ["replaced", "removed", "gone"] {
        at.write(path, "old");
    }
    let changes =
        [at.create("made", "ours"), at.create_dir("folder"), at.replace("gone", "ours"), at.remove("removed")];
    let hook = |name: &str| {
        if name == "planned.before" {
            at.write("made", "the bot's");
            at.write("folder/x", "the bot's");
            std::fs::remove_file(at.path("gone")).expect("it was there");
            at.write("removed", "the bot's");
        }
    };
    let outcome = at.heal(&changes, &hook).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Deferred; 4], "{:?}", outcome.changes);
    assert_eq!(at.read("made").as_deref(), Some("the bot's"));
    assert_eq!(at.read("removed").as_deref(), Some("the bot's"));
    assert_eq!(at.read("gone"), None);
    for step in ["exchange.before", "exchange.after"] {
        let at = Fixture::new();
        at.write("state/x.lock", "1");
        let changes = [at.remove("state/x.lock")];
        let written = std::fs::OpenOptions::new().write(true).open(at.path("state/x.lock")).expect("it is there");
        let hook = |name: &str| {
            if name == step {
                (&written).write_all(b"4711").expect("the bot takes it");
            }
        };
        let outcome = at.heal(&changes, &hook).expect("it is journaled");
        assert_eq!(states(&outcome.changes), [ChangeState::Deferred], "{step}: {:?}", outcome.changes);
        assert_eq!(at.read("state/x.lock").as_deref(), Some("4711"), "{step}");
        assert!(is_clear(&at));
    }
}

/// WSP-2: a lock file that a process has locked since it was looked at stays; once it is free it goes.
#[test]
fn a_lock_that_is_held_stays() {
    let at = Fixture::new();
    at.write("state/x.lock", "");
    let held = std::fs::File::open(at.path("state/x.lock")).expect("it is there");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("it can be locked");
    let outcome = at.heal(&[at.remove("state/x.lock")], &nothing).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Deferred]);
    assert!(at.path("state/x.lock").exists());
    drop(held);
    let outcome = at.heal(&[at.remove("state/x.lock")], &nothing).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Applied]);
    assert!(!at.path("state/x.lock").exists());
}

/// WSP-6: behind a link inside the workspace the file itself is replaced, and the link stays.
#[test]
fn a_link_inside_stays_a_link() {
    let at = Fixture::new();
    at.write("real/a.json", "old");
    std::os::unix::fs::symlink("real/a.json", at.path("a.json")).expect("a link");
    let outcome = at.heal(&[at.replace("a.json", "new")], &nothing).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Applied]);
    assert_eq!(at.read("real/a.json").as_deref(), Some("new"));
    assert!(at.path("a.json").is_symlink());
}

/// A mounted file system, unmounted at the end. A mount that fails fails the test.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(arguments: &[&str], at: std::path::PathBuf) -> Self {
        std::fs::create_dir_all(&at).expect("a folder");
        let done = Command::new("mount").args(arguments).arg(&at).status().expect("`mount` can be started");
        assert!(done.success(), "`mount {arguments:?}` at {} failed", at.display());
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// WSP-6: on a full disk the file that does not fit stays as it was, byte for byte, and every other change is made; if the
/// journal does not fit, nothing is changed at all.
#[test]
fn a_full_disk_leaves_the_old_file() {
    let at = Fixture::new();
    let full = Mounted::new(&["-t", "tmpfs", "-o", "size=256k,mode=755", "tmpfs"], at.path("full"));
    at.write("full/a.json", "old");
    at.write("full/x.lock", "");
    at.write("b.json", "old");
    let filling = std::fs::write(at.path("full/filling"), vec![1_u8; 1 << 20]);
    assert!(filling.is_err(), "the file system is full");
    let large = "x".repeat(100_000);
    let changes = [
        at.replace("full/a.json", &large),
        at.create("full/new.json", &large),
        at.remove("full/x.lock"),
        at.replace("b.json", "new"),
    ];
    let before = at.tree();
    let outcome = at.heal(&changes, &nothing).expect("the journal is on another disk");
    let expected = [ChangeState::Failed, ChangeState::Failed, ChangeState::Applied, ChangeState::Applied];
    assert_eq!(states(&outcome.changes), expected, "{:?}", outcome.changes);
    assert!(outcome.changes[0].detail.contains("No space left"), "{:?}", outcome.changes[0]);
    assert_eq!(at.tree()["full/a.json"], before["full/a.json"]);
    assert_eq!(at.read("b.json").as_deref(), Some("new"));
    assert!(is_clear(&at));
    // Now the workspace with its journal lies on the full disk.
    let inner = at.at(&full.0);
    let _ = std::fs::write(at.path("full/filling"), vec![1_u8; 1 << 20]);
    let before = inner.tree();
    let refused = inner.heal(&[inner.replace("a.json", "new")], &nothing).expect_err("nothing can be journaled");
    assert_eq!(refused.kind, ErrorKind::State, "{refused}");
    assert_eq!(inner.tree(), before);
}

/// WSP-6: in a folder mounted read-only a change fails with the system's words, and the others are made.
#[test]
fn a_read_only_folder_stops_one_change_only() {
    let at = Fixture::new();
    at.write("fixed/a.json", "old");
    at.write("b.json", "old");
    let path = at.path("fixed");
    let fixed = Mounted::new(&["--bind", path.to_str().expect("it is text")], path.clone());
    let done = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&fixed.0).status().expect("`mount` starts");
    assert!(done.success());
    let changes = [at.create_dir("fixed/new"), at.replace("fixed/a.json", "new"), at.replace("b.json", "new")];
    let outcome = at.heal(&changes, &nothing).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Failed, ChangeState::Failed, ChangeState::Applied]);
    assert!(outcome.changes[1].detail.contains("Read-only"), "{:?}", outcome.changes[1]);
    assert_eq!((at.read("fixed/a.json").as_deref(), at.read("b.json").as_deref()), (Some("old"), Some("new")));
    assert!(!at.root().access(&rel("fixed/a.json")).expect("it is there").write);
}

fn ending(pid: u32, started_ticks: u64) -> Change {
    let remedy = Remedy::EndProcess { pid, started_ticks };
    Change { findings: Vec::new(), code: FindingCode::OrphanProcess, path: None, remedy, before: None }
}

fn ticks_of(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let rest = text.rsplit_once(')').expect("it has a name").1.to_owned();
    rest.split_whitespace().nth(19).expect("it has a start").parse().expect("a number")
}

/// WSP-2: a process is ended by SIGTERM, one that does not listen by SIGKILL; one that has the id but started at another
/// time is left alone.
#[test]
fn exactly_that_process_is_ended() {
    let at = Fixture::new();
    let mut polite = Command::new("sleep").arg("600").spawn().expect("`sleep` starts");
    let wrong = ending(polite.id(), ticks_of(polite.id()) + 1);
    let outcome = at.heal(&[wrong], &nothing).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Deferred]);
    assert!(polite.try_wait().expect("it is ours").is_none(), "another process was ended");
    let mut deaf =
        Command::new("sh").args(["-c", "trap '' TERM; while :; do sleep 1; done"]).spawn().expect("`sh` starts");
    let changes = [ending(polite.id(), ticks_of(polite.id())), ending(deaf.id(), ticks_of(deaf.id()))];
    let outcome = at.heal(&changes, &nothing).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Applied; 2], "{:?}", outcome.changes);
    assert_eq!(outcome.changes[0].kind, ChangeKind::EndProcess);
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(polite.wait().expect("it is ours").signal(), Some(15));
    assert!(deaf.wait().expect("it is ours").signal().is_some());
}

/// The file that chiron has beside others just now.
fn beside(at: &Fixture) -> std::path::PathBuf {
    let name = at.tree().into_keys().find(|path| path.contains(super::TEMPORARY)).expect("one is there");
    at.path(&name)
}

/// WSP-6: what the bot put under its name and an exchange displaced comes back although it cannot be opened.
#[test]
fn what_cannot_be_opened_comes_back() {
    let at = Fixture::new();
    at.write("a.json", "old");
    let hook = |name: &str| {
        if name == "exchange.after" {
            let displaced = beside(&at);
            std::fs::remove_file(&displaced).expect("it is there");
            std::os::unix::fs::symlink("the bot's", displaced).expect("a link");
        }
    };
    let outcome = at.heal(&[at.replace("a.json", "new")], &hook).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Deferred], "{:?}", outcome.changes);
    assert_eq!(std::fs::read_link(at.path("a.json")).expect("the bot's link").to_str(), Some("the bot's"));
    assert!(is_clear(&at), "{:?}", at.tree().keys());
}

/// WSP-6: two versions of the bot in one moment and a full disk for copies: the newest stands, the other stays beside it and
/// is told, until there is room for its copy; that copy is kept with the healing.
#[test]
fn a_full_disk_for_copies_loses_no_version() {
    let mut at = Fixture::new();
    let full = Mounted::new(&["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs"], at.path(".chiron"));
    at.settings.state_dir = full.0.clone();
    at.write("a.json", "old");
    let middle = "m".repeat(50_000);
    let hook = |name: &str| {
        if name == "exchange.after" {
            // By a descriptor of the file that is displaced now, and then whole.
            std::fs::write(beside(&at), &middle).expect("the bot writes");
            std::fs::write(at.path("bot"), "newest").expect("the bot writes");
            std::fs::rename(at.path("bot"), at.path("a.json")).expect("the bot renames");
            let _ = std::fs::write(full.0.join("filling"), vec![1_u8; 1 << 20]);
        }
    };
    let outcome = at.heal(&[at.replace("a.json", "new")], &hook).expect("there is room for the journal");
    assert_eq!(at.read("a.json").as_deref(), Some("newest"));
    assert_eq!(states(&outcome.changes), [ChangeState::Deferred]);
    let detail = &outcome.changes[0].detail;
    assert!(detail.contains("stays beside it") && detail.contains("No space left"), "{detail}");
    assert_eq!(std::fs::read_to_string(beside(&at)).expect("it is there"), middle);
    // Retention does not forget the healing while something of it lies there, and takes no copy that it kept.
    std::fs::remove_file(full.0.join("filling")).expect("it is there");
    at.heal(&[at.create("b.json", "b")], &nothing).expect("it is journaled");
    assert!(is_clear(&at), "{:?}", at.tree().keys());
    let ledger = at.ledger();
    let backups = crate::workspace::backup::Backups::create(&ledger.state).expect("it is there");
    let limits = crate::workspace::Retention::default();
    crate::workspace::ledger::retention::expire(&ledger, &backups, &limits, at.clock.now()).expect("it works");
    let copy = backups.get(&crate::workspace::root::sha256(middle.as_bytes()), 1 << 20);
    assert_eq!(copy.as_deref().ok(), Some(middle.as_bytes()));
    let (stored, _) = ledger.find(&outcome.id).expect("it is kept");
    assert!(!stored.has_left() && stored.changes[0].done.as_ref().is_some_and(|done| done.strays.len() == 1));
    drop((ledger, backups));
    let old = std::fs::read(at.path("a.json")).expect("it is there");
    assert_eq!(old, b"newest");
}

/// WSP-6: what goes wrong behind the exchange leaves the change made, so that it can be undone.
#[test]
fn what_is_made_counts_as_made() {
    let at = Fixture::new();
    let disk = Mounted::new(&["-t", "tmpfs", "-o", "size=256k,mode=755", "tmpfs"], at.path("disk"));
    at.write("disk/a.json", "old");
    let remount = |options: &str| {
        let done = Command::new("mount").args(["-o", options]).arg(&disk.0).status().expect("`mount` starts");
        assert!(done.success());
    };
    let hook = |name: &str| {
        if name == "checked" {
            remount("remount,ro");
        }
    };
    let outcome = at.heal(&[at.replace("disk/a.json", "new")], &hook).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Applied], "{:?}", outcome.changes);
    assert!(outcome.changes[0].detail.contains("stays beside it"), "{:?}", outcome.changes);
    assert_eq!(at.read("disk/a.json").as_deref(), Some("new"));
    remount("remount,rw");
    crate::workspace::engine::rollback(&at.settings, &outcome.id, false, None, &at.clock).expect("it can be undone");
    assert_eq!(at.read("disk/a.json").as_deref(), Some("old"));
    assert!(is_clear(&at));
}

/// WSP-6: where names cannot be exchanged, the old file has a second name until it was looked at; where it can have none,
/// nothing that may hold positions is replaced.
#[test]
fn without_an_exchange_nothing_is_lost() {
    use rustix::io::Errno;

    use super::exchange::testing::REFUSED;
    let at = Fixture::new();
    at.write("a.json", "old");
    at.write("beat.json", "old");
    REFUSED.set((Some(Errno::INVAL), None));
    let hook = |name: &str| {
        if name == "exchange.after" {
            std::fs::write(beside(&at), "the bot's").expect("the bot writes by an old descriptor");
        }
    };
    let outcome = at.heal(&[at.replace("a.json", "new")], &hook).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Deferred], "{:?}", outcome.changes);
    assert_eq!(at.read("a.json").as_deref(), Some("the bot's"));
    assert!(is_clear(&at), "{:?}", at.tree().keys());
    let hook = |name: &str| {
        if name == "exchange.after" {
            std::fs::write(at.path("bot"), "newest").expect("the bot writes");
            std::fs::rename(at.path("bot"), at.path("a.json")).expect("the bot renames");
        }
    };
    at.heal(&[at.replace("a.json", "new")], &hook).expect("it is journaled");
    assert_eq!(at.read("a.json").as_deref(), Some("newest"));
    assert!(is_clear(&at), "{:?}", at.tree().keys());
    REFUSED.set((Some(Errno::INVAL), Some(Errno::PERM)));
    let changes = [at.replace("a.json", "new"), at.reset("beat.json", "new")];
    let outcome = at.heal(&changes, &nothing).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Deferred, ChangeState::Applied], "{:?}", outcome.changes);
    assert!(outcome.changes[0].detail.contains("a second one"), "{:?}", outcome.changes);
    REFUSED.set((Some(Errno::INVAL), None));
    let outcome = at.heal(&[at.replace("a.json", "new")], &nothing).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Applied], "{:?}", outcome.changes);
    assert_eq!((at.read("a.json").as_deref(), is_clear(&at)), (Some("new"), true));
    REFUSED.set((None, None));
}

/// WSP-6: a file with several names is neither replaced nor removed.
#[test]
fn a_file_with_several_names_is_deferred() {
    let at = Fixture::new();
    at.write("a.json", "old");
    at.write("x.lock", "");
    for (name, other) in [("a.json", "b.json"), ("x.lock", "y")] {
        std::fs::hard_link(at.path(name), at.path(other)).expect("a second name");
    }
    let changes = [at.replace("a.json", "new"), at.remove("x.lock")];
    let before = at.tree();
    let outcome = at.heal(&changes, &nothing).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Deferred; 2], "{:?}", outcome.changes);
    assert!(outcome.changes[0].detail.contains("2 names"), "{:?}", outcome.changes);
    assert_eq!(at.tree(), before);
}

/// WSP-2: a lock file that a process has merely open stays: `flock` opens it to read before it locks it.
#[test]
fn a_lock_that_is_open_stays() {
    let at = Fixture::new();
    at.write("x.lock", "");
    let changes = [at.remove("x.lock")];
    let opened = std::fs::File::open(at.path("x.lock")).expect("it is there");
    let mut opener = Command::new("sleep").arg("600").stdin(opened).spawn().expect("`sleep` starts");
    let outcome = at.heal(&changes, &nothing);
    opener.kill().and_then(|()| opener.wait()).expect("it is ours");
    let outcome = outcome.expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Deferred], "{:?}", outcome.changes);
    assert!(at.path("x.lock").exists());
    let outcome = at.heal(&[at.remove("x.lock")], &nothing).expect("it is journaled");
    assert_eq!(states(&outcome.changes), [ChangeState::Applied], "{:?}", outcome.changes);
}
