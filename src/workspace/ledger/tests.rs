//! Healings are durable, in order, one at a time, and what a crash leaves open is settled by looking.
#![expect(clippy::disallowed_methods, reason = "the tests tear and spoil files, and play the crash")]

use std::os::unix::fs::PermissionsExt;

use super::record::{Kept, Planned, ProcessId, decode, encode};
use super::*;
use crate::model::{ChangeKind, ChangeState, FindingCode};
use crate::workspace::Retention;
use crate::workspace::apply::fixture::{Fixture, rel, settings_of};
use crate::workspace::apply::temporary;
use crate::workspace::backup::Backups;
use crate::workspace::root::sha256;

fn planned(at: &Fixture, kind: ChangeKind, path: &str, after: Option<&str>) -> Planned {
    let before = at.root().hash(&rel(path)).ok();
    Planned {
        kind,
        code: FindingCode::JsonCorrupt,
        path: Some(rel(path)),
        process: None,
        before: before.map(|version| Kept { version, xattrs: std::collections::BTreeMap::new() }),
        after: after.map(|after| sha256(after.as_bytes())),
        detail: String::new(),
        lost: Vec::new(),
    }
}

fn done(n: usize, state: ChangeState) -> Done {
    Done { n, state, detail: String::new(), now: None, strays: Vec::new(), left: Vec::new() }
}

fn begin(at: &Fixture, ledger: &Ledger, changes: Vec<Planned>) -> Writing {
    ledger.begin(at.clock.now(), HealingTrigger::Command, None, None, changes).expect("there is room")
}

/// WSP-6: a healing's file that is torn at any byte still tells every whole line before it, never anything else, and goes on
/// after the tear.
#[test]
fn a_torn_line_is_recognised() {
    let at = Fixture::new();
    at.write("a.json", "old");
    let ledger = at.ledger();
    let mut journal = begin(&at, &ledger, vec![planned(&at, ChangeKind::ReplaceFile, "a.json", Some("new"))]);
    journal.backed_up(1).expect("there is room");
    journal.applying(0).expect("there is room");
    journal.done(done(0, ChangeState::Applied)).expect("there is room");
    let path = at.settings.state_dir.join(format!("healings/{}.jsonl", journal.id));
    journal.finish(HealingEnd::Finished, at.clock.now()).expect("there is room");
    let whole = std::fs::read(&path).expect("it is there");
    let (lines, torn) = decode(&whole);
    assert_eq!((lines.len(), torn), (5, false));
    for at in 0..whole.len() {
        let (found, _) = decode(&whole[..at]);
        let ends = whole[..at].iter().filter(|byte| **byte == b'\n').count();
        // A line that lacks nothing but its end is whole.
        assert!(found.len() == ends || found.len() == ends + 1 && whole[at] == b'\n', "at {at}");
        assert_eq!(found[..], lines[..found.len()]);
        let more = encode(&Line::Applying { n: 7 }).expect("it can be written");
        let (found, _) = decode(&[&whole[..at], b"\n", more.as_bytes()].concat());
        assert_eq!(found.last(), Some(&Line::Applying { n: 7 }), "at {at}");
    }
    for at in 0..whole.len() {
        let mut spoiled = whole.clone();
        spoiled[at] ^= 1;
        let (found, _) = decode(&spoiled);
        assert!(found.iter().all(|line| lines.contains(line)), "at {at}");
    }
}

/// WSP-6: ids rise, also when the clock goes back, and order the list.
#[test]
fn ids_rise_whatever_the_clock_does() {
    let at = Fixture::new();
    let ledger = at.ledger();
    let mut ids = Vec::new();
    for jump in [0, 1_000, -86_400_000, 10, 0] {
        at.clock.jump(jump);
        let journal = begin(&at, &ledger, Vec::new());
        ids.push(journal.id.to_string());
        journal.finish(HealingEnd::Finished, at.clock.now()).expect("there is room");
    }
    assert_eq!(ids[0], "20251123T013456Z-000001");
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let listed: Vec<String> = list(&at.settings).expect("it can be read").iter().map(|it| it.id.to_string()).collect();
    assert_eq!(listed, ids);
    assert_eq!(read(&at.settings, &Name::from("nothing")).expect_err("it is unknown").kind, ErrorKind::Unknown);
}

/// WSP-6: two never heal at once; the second is told who does.
#[test]
fn only_one_heals() {
    let at = Fixture::new();
    let held = at.ledger();
    let refused = Ledger::lock(held.state.clone()).expect_err("it is locked");
    assert_eq!(refused.kind, ErrorKind::Busy);
    assert!(refused.context.contains(&format!("process {} (", std::process::id())), "{refused}");
    drop(held);
    drop(at.ledger());
}

/// WSP-6: the folder of healings is closed to others; one that is a link out of the workspace, or somebody else's, is refused.
#[test]
fn the_folder_is_chirons_own() {
    let at = Fixture::new();
    drop(at.ledger());
    let mode = || std::fs::metadata(&at.settings.state_dir).expect("it is there").permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o700);
    at.set_mode(".chiron", 0o755);
    drop(at.ledger());
    assert_eq!(mode(), 0o700);
    std::os::unix::fs::chown(&at.settings.state_dir, Some(1234), None).expect("the tests run as root");
    let refused = Folder::open(&at.settings, &at.root()).expect_err("it is user 1234's");
    assert!(refused.kind == ErrorKind::State && refused.context.contains("user 1234"), "{refused}");
    let outside = tempfile::tempdir().expect("a folder");
    for target in [outside.path().to_str().expect("it is text"), "nowhere", "../../../../../../../tmp"] {
        let workspace = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink(target, workspace.path().join(".chiron")).expect("a link");
        let settings = settings_of(workspace.path());
        let root = Root::open(workspace.path()).expect("it is there");
        let refused = Folder::create(&settings, &root).expect_err("it leads out");
        assert!(refused.kind == ErrorKind::State && refused.context.contains("link"), "{refused}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).expect("it is there").count(), 0);
}

/// WSP-6: whatever a crash has left of a change, settling finds out whether it was made, puts back what the bot wrote, leaves
/// nothing beside, and closes the healing as interrupted. One row for each thing that can be left.
#[test]
fn what_a_crash_left_is_settled() {
    use ChangeKind::{CreateDirectory, CreateFile, RemoveFile, ReplaceFile};
    use ChangeState::{Abandoned, Applied};
    /// What was there before, what stands there now, what lies beside, and what it comes to.
    type Row = (
        ChangeKind,
        Option<&'static str>,
        Option<&'static str>,
        Option<&'static str>,
        ChangeState,
        Option<&'static str>,
    );
    let rows: [Row; 14] = [
        (ReplaceFile, Some("old"), Some("old"), None, Abandoned, Some("old")),
        (ReplaceFile, Some("old"), Some("old"), Some("ne"), Abandoned, Some("old")),
        (ReplaceFile, Some("old"), Some("old"), Some("new"), Abandoned, Some("old")),
        (ReplaceFile, Some("old"), Some("new"), Some("old"), Applied, Some("new")),
        (ReplaceFile, Some("old"), Some("new"), None, Applied, Some("new")),
        (ReplaceFile, Some("old"), Some("new"), Some("the bot's"), Abandoned, Some("the bot's")),
        (ReplaceFile, Some("old"), Some("the bot's"), Some("new"), Abandoned, Some("the bot's")),
        (ReplaceFile, Some("old"), Some("the bot's"), Some("older"), Abandoned, Some("the bot's")),
        (ReplaceFile, Some("old"), None, None, Abandoned, None),
        (CreateFile, None, None, Some("new"), Abandoned, None),
        (CreateFile, None, Some("new"), None, Applied, Some("new")),
        (RemoveFile, Some("old"), None, Some("old"), Abandoned, Some("old")),
        (RemoveFile, Some("old"), Some("the bot's"), Some("old"), Abandoned, Some("the bot's")),
        (RemoveFile, Some("old"), None, None, Applied, None),
    ];
    for (kind, before, stands, beside, state, expected) in rows {
        let at = Fixture::new();
        let context = format!("{kind:?} {before:?} {stands:?} {beside:?}");
        if let Some(before) = before {
            at.write("a", before);
        }
        let ledger = at.ledger();
        let changes = vec![planned(&at, kind, "a", Some("new")), planned(&at, CreateDirectory, "never", None)];
        let mut journal = begin(&at, &ledger, changes);
        journal.backed_up(1).expect("there is room");
        journal.applying(0).expect("there is room");
        let id = journal.id.clone();
        drop((journal, ledger));
        let _ = std::fs::remove_file(at.path("a"));
        if let Some(stands) = stands {
            at.write("a", stands);
        }
        if let Some(beside) = beside {
            at.write(temporary(&id, 0).to_str().expect("it is text"), beside);
        }
        let (root, ledger) = (at.root(), at.ledger());
        let backups = Backups::create(&ledger.state).expect("it can be made");
        let settled = settle::settle(&root, &ledger, &backups, at.clock.now()).expect("it can be settled");
        assert_eq!(settled, std::slice::from_ref(&id));
        assert_eq!(
            settle::settle(&root, &ledger, &backups, at.clock.now()).expect("there is nothing left"),
            Vec::<Name>::new()
        );
        let told = read(&at.settings, &id).expect("it is kept");
        assert_eq!(told.end, Some(HealingEnd::Interrupted), "{context}");
        assert_eq!(
            told.changes.iter().map(|it| it.state).collect::<Vec<_>>(),
            [state, Abandoned],
            "{context}: {told:?}"
        );
        assert_eq!(at.read("a").as_deref(), expected, "{context}");
        assert!(at.tree().keys().all(|path| path == "a"), "{context}: {:?}", at.tree().keys());
    }
}

/// WSP-6: a crash that tore the very plan has changed nothing, so nothing is left of it; one in the middle of ending a
/// process is settled by asking whether it lives.
#[test]
fn a_torn_plan_was_nothing() {
    let at = Fixture::new();
    let ledger = at.ledger();
    let path = at.settings.state_dir.join("healings/20251123T013456Z-000001.jsonl");
    std::fs::write(&path, "0123456789abcdef {\"planned\":{\"form").expect("it can be written");
    let (root, backups) = (at.root(), Backups::create(&ledger.state).expect("it can be made"));
    assert_eq!(settle::settle(&root, &ledger, &backups, at.clock.now()).expect("it is nothing"), Vec::<Name>::new());
    assert!(!path.exists());
    let ending = |pid, started_ticks| Planned {
        path: None,
        process: Some(ProcessId { pid, started_ticks }),
        ..planned(&at, ChangeKind::EndProcess, "x", None)
    };
    let text = std::fs::read_to_string("/proc/self/stat").expect("there is a /proc");
    let ticks =
        text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok()).expect("a start");
    let mut journal =
        begin(&at, &ledger, vec![ending(std::process::id(), ticks), ending(std::process::id(), ticks + 1)]);
    journal.applying(0).and_then(|()| journal.applying(1)).expect("there is room");
    let id = journal.id.clone();
    drop(journal);
    settle::settle(&root, &ledger, &backups, at.clock.now()).expect("it can be settled");
    let told = read(&at.settings, &id).expect("it is kept");
    let states: Vec<ChangeState> = told.changes.iter().map(|it| it.state).collect();
    assert_eq!(states, [ChangeState::Abandoned, ChangeState::Applied]);
}

/// WSP-6: healings go by age, number and bytes, the oldest first; the newest, the copies that kept ones need and the last good
/// copies stay, the other copies go.
#[test]
fn retention_keeps_what_is_needed() {
    let day = std::time::Duration::from_secs(86_400);
    let large = Retention { keep: 30 * day, bytes_max: 1 << 30, healings_max: 1_000 };
    let rows = [
        (large, 4),
        (Retention { keep: 2 * day + day / 2, ..large }, 2),
        (Retention { healings_max: 3, ..large }, 3),
        (Retention { healings_max: 0, ..large }, 1),
        (Retention { bytes_max: 25_000, ..large }, 2),
        (Retention { bytes_max: 1, ..large }, 1),
    ];
    for (limits, expected) in rows {
        let at = Fixture::new();
        let ledger = at.ledger();
        let backups = Backups::create(&ledger.state).expect("it can be made");
        backups.keep(&rel("config/a.json"), b"good", at.clock.now()).expect("there is room");
        drop(ledger);
        for n in 0..4 {
            at.write("a.json", format!("{n}").repeat(10_000));
            at.heal(&[at.replace("a.json", "new")], &|_| {}).expect("it is journaled");
            let copy = sha256(format!("{n}").repeat(10_000).as_bytes());
            let nanos = i128::from(at.clock.now().millis()) * 1_000_000;
            at.set_modified(&format!(".chiron/backups/{}/{copy}", &copy[..2]), nanos);
            at.clock.advance(day);
        }
        let ledger = at.ledger();
        let due = retention::is_due(&ledger, &limits, at.clock.now()).expect("it can be listed");
        let gone = retention::expire(&ledger, &backups, &limits, at.clock.now()).expect("it can be cleared up");
        assert_eq!(4 - gone, expected, "{limits:?}");
        assert!(due || gone == 0 || limits.bytes_max < 1 << 30, "{limits:?}");
        let kept = list(&at.settings).expect("it can be read");
        assert_eq!(kept.last().map(|it| it.id.to_string()).as_deref(), Some("20251126T013456Z-000004"));
        for n in 0..4_usize {
            let copy = sha256(format!("{n}").repeat(10_000).as_bytes());
            // A copy that nothing needs stays until it is old itself, or there is no room.
            let is_forced = limits.keep < large.keep || limits.bytes_max < large.bytes_max;
            let stays = n >= 4 - expected || !is_forced;
            assert_eq!(backups.get(&copy, 1 << 20).is_ok(), stays, "copy {n} under {limits:?}");
        }
        assert!(backups.get(&sha256(b"good"), 100).is_ok());
    }
}

/// WSP-6: a healing that a newer chiron wrote is not misread, and does not hide the others.
#[test]
fn a_newer_format_is_refused() {
    let at = Fixture::new();
    let ledger = at.ledger();
    begin(&at, &ledger, Vec::new()).finish(HealingEnd::Finished, at.clock.now()).expect("there is room");
    let (head, _) = ledger.find(&Name::from("20251123T013456Z-000001")).expect("it is kept");
    let newer = Head { format: FORMAT + 1, ..head.head };
    let text = encode(&Line::Planned(Box::new(newer))).expect("it can be written");
    std::fs::write(at.settings.state_dir.join("healings/20251123T013457Z-000002.jsonl"), text).expect("it is written");
    assert_eq!(list(&at.settings).expect("it can be read").len(), 1);
    assert_eq!(ledger.unfinished().expect("it is told in the log"), []);
}

/// WSP-6: a healing's file that somebody made up, whose id is not its name, is not read: the id names files in the workspace.
#[test]
fn a_forged_id_is_refused() {
    let at = Fixture::new();
    let ledger = at.ledger();
    begin(&at, &ledger, Vec::new()).finish(HealingEnd::Finished, at.clock.now()).expect("there is room");
    let (stored, _) = ledger.find(&Name::from("20251123T013456Z-000001")).expect("it is kept");
    for (id, name) in [
        ("../../../outside", "20251123T013457Z-000002"),
        ("20251123T013456Z-000001", "20251123T013457Z-000002"),
        ("20251123T013457Z-0000002", "20251123T013457Z-0000002"),
    ] {
        let forged = Head { id: Name::from(id), ..stored.head.clone() };
        let text = encode(&Line::Planned(Box::new(forged))).expect("it can be written");
        let path = at.settings.state_dir.join(format!("healings/{name}.jsonl"));
        std::fs::write(&path, text).expect("it is written");
        assert!(read_file(ledger.healings(), &format!("{name}.jsonl")).is_err(), "{id} in {name}");
        assert_eq!(list(&at.settings).expect("it can be read").len(), 1, "{id} in {name}");
        assert_eq!(ledger.unfinished().expect("it is told in the log"), [], "{id} in {name}");
        std::fs::remove_file(path).expect("it is there");
    }
}

/// WSP-6: a newest healing that cannot be read does not hide the one before, which a crash left open.
#[test]
fn an_unreadable_healing_hides_none() {
    let at = Fixture::new();
    at.write("a", "old");
    let ledger = at.ledger();
    let mut journal = begin(&at, &ledger, vec![planned(&at, ChangeKind::ReplaceFile, "a", Some("new"))]);
    journal.applying(0).expect("there is room");
    let id = journal.id.clone();
    at.write(temporary(&id, 0).to_str().expect("it is text"), "ne");
    std::fs::write(at.settings.state_dir.join("healings/20251124T013456Z-000002.jsonl"), "spoiled\n{}\n")
        .expect("it is");
    let spoiled = Head { format: FORMAT + 1, ..ledger.find(&id).expect("it is kept").0.head };
    let spoiled = Head { id: Name::from("20251124T013456Z-000003"), ..spoiled };
    let text = encode(&Line::Planned(Box::new(spoiled))).expect("it can be written");
    std::fs::write(at.settings.state_dir.join("healings/20251124T013456Z-000003.jsonl"), text).expect("it is written");
    let backups = Backups::create(&ledger.state).expect("it can be made");
    let settled = settle::settle(&at.root(), &ledger, &backups, at.clock.now()).expect("it can be settled");
    assert_eq!(settled, [id]);
    assert_eq!(at.tree().len(), 1, "nothing lies beside: {:?}", at.tree().keys());
}

/// WSP-6: healings that changed nothing, and those that only set heartbeats back, do not push out the others; one that lost
/// records nobody has accepted is never dropped.
#[test]
fn idle_healings_push_out_none() {
    let at = Fixture::new();
    at.write("a", "old");
    let ledger = at.ledger();
    let backups = Backups::create(&ledger.state).expect("it can be made");
    let make = |code, lost: &[&str], state| {
        let lost = lost.iter().map(|lost| (*lost).to_owned()).collect();
        let change = Planned { code, lost, ..planned(&at, ChangeKind::ReplaceFile, "a", Some("new")) };
        let mut journal = begin(&at, &ledger, vec![change]);
        journal.done(done(0, state)).expect("there is room");
        let id = journal.id.clone();
        journal.finish(HealingEnd::Finished, at.clock.now()).expect("there is room");
        id
    };
    let lossy = make(FindingCode::JsonCorrupt, &["BTCUSDT"], ChangeState::Applied);
    let old = make(FindingCode::JsonCorrupt, &[], ChangeState::Applied);
    for _ in 0..30 {
        make(FindingCode::JsonCorrupt, &["BTCUSDT"], ChangeState::Deferred);
    }
    for _ in 0..110 {
        make(FindingCode::HeartbeatStale, &[], ChangeState::Applied);
    }
    let limits = Retention::default();
    assert_eq!(retention::expire(&ledger, &backups, &limits, at.clock.now()).expect("it can be cleared up"), 10 + 10);
    assert!(ledger.find(&old).is_ok() && ledger.find(&lossy).is_ok());
    let limits = Retention { healings_max: 5, ..limits };
    retention::expire(&ledger, &backups, &limits, at.clock.now()).expect("it can be cleared up");
    assert!(ledger.find(&old).is_err() && ledger.find(&lossy).is_ok());
    let acceptance = crate::model::Acceptance { at: at.clock.now(), by: "anna".to_owned(), reason: String::new() };
    ledger.resume(&lossy).expect("it is there").write(&Line::Accepted(acceptance)).expect("there is room");
    retention::expire(&ledger, &backups, &limits, at.clock.now()).expect("it can be cleared up");
    assert!(ledger.find(&lossy).is_err());
}

/// WSP-6: a clock that has jumped ahead makes no healing old for a day, across restarts; set right again, nothing is lost.
#[test]
fn a_clock_that_jumps_makes_nothing_old() {
    let day = std::time::Duration::from_secs(86_400);
    let at = Fixture::new();
    let ledger = at.ledger();
    let backups = Backups::create(&ledger.state).expect("it can be made");
    let round = || {
        begin(&at, &ledger, Vec::new()).finish(HealingEnd::Finished, at.clock.now()).expect("there is room");
        let limits = Retention::default();
        retention::expire(&ledger, &backups, &limits, at.clock.now()).expect("it can be cleared up")
    };
    assert_eq!((round(), round()), (0, 0));
    at.clock.jump(400 * 86_400_000);
    assert_eq!((round(), round()), (0, 0), "it has jumped");
    at.clock.jump(-400 * 86_400_000);
    assert_eq!(round(), 0, "it is set right");
    at.clock.advance(29 * day);
    assert_eq!(round(), 0, "nothing is old");
    at.clock.advance(2 * day);
    assert_eq!(round(), 2, "that is no jump");
}
