//! The score by tables and properties, and the release folder on a real disk.
#![expect(clippy::disallowed_methods, reason = "lays out releases to be looked at")]

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSetBuilder};
use proptest::prelude::*;
use serde_json::json;

use super::super::SlotSettings;
use super::super::scan::{Access, FileSeen, Version};
use super::*;
use crate::model::Timestamp;

const RW: Access = Access { read: true, write: true };
const RO: Access = Access { read: true, write: false };
const NOTHING: Access = Access { read: false, write: false };

fn rel(path: &str) -> RelPath {
    RelPath::parse(path).unwrap()
}

fn patterns(texts: &[&str]) -> Patterns {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        set.add(GlobBuilder::new(text).literal_separator(true).build().unwrap());
    }
    Patterns { written: texts.iter().map(ToString::to_string).collect(), set: set.build().unwrap() }
}

fn spec(path: &str, role: Role, empty: Option<&str>, required: bool) -> FileSpec {
    let empty = empty.map(|text| Arc::from(text.as_bytes()));
    FileSpec { path: rel(path), role, empty, keys: Vec::new(), required, schema: None }
}

/// As the built-in layout, with one required and one optional configuration file.
fn layout() -> Layout {
    let folders = ["logs", "config", "configs", "data", "feature_store", "state", "state/heartbeats", "logs/backups"];
    let mut positions = spec("logs/positions.json", Role::Positions, Some(r#"{"open": []}"#), true);
    positions.keys = vec![("open".to_owned(), "[]".to_owned())];
    let mut main = spec("config/main.json", Role::Config, None, true);
    let schema = json!({"properties": {"max": {"type": "integer"}}});
    main.schema = Some(Arc::new(jsonschema::validator_for(&schema).unwrap()));
    Layout {
        directories: folders.map(rel).to_vec(),
        files: vec![
            positions,
            spec("logs/portfolio.json", Role::Portfolio, Some(r#"{"trades": []}"#), true),
            main,
            spec("config/more.json", Role::Config, None, false),
        ],
        locks: patterns(&["state/**/*.lock", "logs/**/*.lock"]),
        heartbeats: patterns(&["state/heartbeats/*.json"]),
        ..Layout::default()
    }
}

fn holding(text: &str) -> Entry {
    with_access(Some(text), RW)
}

fn with_access(text: Option<&str>, access: Access) -> Entry {
    let version = Version {
        inode: 1,
        device: 1,
        len: text.map_or(1 << 40, |text| text.len() as u64),
        modified_nanos: 0,
        changed_nanos: 0,
        sha256: String::new(),
        mode: 0o644,
        uid: 0,
        gid: 0,
    };
    Entry::File(FileSeen { version, content: text.map(|text| Arc::from(text.as_bytes())), access })
}

/// What is right for a file of [`layout`].
fn right(path: &str) -> Entry {
    holding(match path {
        "logs/positions.json" => r#"{"open": [{"symbol": "BTCUSDT"}]}"#,
        "config/main.json" => r#"{"max": 1}"#,
        _ => r#"{"trades": []}"#,
    })
}

/// A workspace in which all is right, but for what is put over it.
fn scan(over: &[(&str, Entry)]) -> Scan {
    let layout = layout();
    let mut scan = Scan::default();
    scan.entries.extend(layout.directories.iter().map(|path| (path.clone(), Entry::Directory(RW))));
    scan.entries.extend(layout.files.iter().map(|spec| (spec.path.clone(), right(spec.path.as_str()))));
    scan.entries.extend(over.iter().map(|(path, entry)| (rel(path), entry.clone())));
    scan
}

fn score(parts: &Validation, part: ValidationPart) -> &PartScore {
    parts.parts.iter().find(|of| of.part == part).unwrap()
}

/// WSP-5: one thing wrong at a time, and what it does to status and score.
#[test]
fn each_fault_has_its_status_and_costs() {
    use Status::{Critical, Degraded, Healthy};
    let file = || right("logs/portfolio.json");
    let directory = Entry::Directory;
    let other = || Entry::Other("a FIFO".to_owned());
    let no = || Entry::Unreadable("permission denied".to_owned());
    let table: [(&str, Entry, Status, &str); 35] = [
        ("config/more.json", Entry::Missing, Healthy, ""),
        ("config", directory(RO), Healthy, ""),
        ("config/main.json", with_access(Some("{\"max\": 2}"), RO), Healthy, ""),
        ("state/other", other(), Healthy, ""),
        ("data", Entry::Missing, Degraded, "the folder `data` is missing"),
        ("data", directory(RO), Degraded, "the folder `data` may not be written"),
        ("data", directory(NOTHING), Degraded, "the folder `data` may not be listed"),
        ("data", file(), Degraded, "`data` is a file, expected a folder"),
        ("data", other(), Degraded, "`data` is a FIFO, expected a folder"),
        ("data", no(), Degraded, "`data` cannot be looked at: permission denied"),
        ("state", Entry::Missing, Degraded, "the folder `state` is missing"),
        ("state", directory(RO), Critical, "the folder `state` may not be written"),
        ("state", file(), Critical, "`state` is no folder"),
        ("logs", directory(RO), Critical, "the folder `logs` may not be written"),
        ("state/heartbeats", directory(RO), Critical, "the folder `state/heartbeats` may not be written"),
        ("state/heartbeats", no(), Critical, "`state/heartbeats` cannot be looked at"),
        ("logs/backups", directory(RO), Degraded, "the folder `logs/backups` may not be written"),
        ("logs/positions.json", Entry::Missing, Degraded, "`logs/positions.json` is missing"),
        ("logs/positions.json", holding(""), Degraded, "is empty"),
        ("logs/positions.json", holding(" \n"), Degraded, "is empty"),
        ("logs/positions.json", holding("{}"), Degraded, "is empty"),
        ("logs/positions.json", holding("{\"a\": 1}"), Degraded, "lacks the key `open`"),
        ("logs/positions.json", holding("{\"open\": [{\"a\""), Critical, "is not JSON"),
        ("logs/positions.json", holding("7"), Critical, "neither a mapping nor a list"),
        ("logs/positions.json", with_access(None, RW), Critical, "of 1099511627776 bytes cannot be read whole"),
        ("logs/positions.json", with_access(Some("{\"open\": []}"), RO), Degraded, "may not be written"),
        ("logs/positions.json", directory(RW), Critical, "is a folder, expected a file"),
        ("logs/portfolio.json", other(), Critical, "is a FIFO, expected a file"),
        ("logs/portfolio.json", no(), Critical, "cannot be read: permission denied"),
        ("config/main.json", Entry::Missing, Critical, "`config/main.json` is missing"),
        ("config/main.json", holding("no"), Critical, "is not JSON"),
        ("config/main.json", holding("{\"max\": \"secret\"}"), Critical, "breaks its schema at `/max`"),
        ("config/main.json", holding(""), Critical, "is empty"),
        ("config/more.json", holding("no"), Degraded, "is not JSON"),
        ("config/more.json", no(), Degraded, "cannot be read"),
    ];
    for (path, entry, status, problem) in table {
        let found = validate(&layout(), &scan(&[(path, entry.clone())]), None);
        let told: Vec<&String> = found.parts.iter().flat_map(|part| &part.problems).collect();
        assert_eq!(found.status, status, "{path} {entry:?}: {found:?}");
        assert_eq!(found.score < 100.0, status != Healthy, "{path}: {found:?}");
        assert!(problem.is_empty() == told.is_empty(), "{path}: {told:?}");
        assert!(problem.is_empty() || told.iter().any(|line| line.contains(problem)), "{path}: {problem}: {told:?}");
        assert!(!format!("{told:?}").contains("secret"), "no value of a file is told: {told:?}");
    }
}

/// WSP-5: a file of money that is missing is critical only if it cannot be made.
#[test]
fn what_cannot_be_made_is_critical() {
    let missing = ("logs/positions.json", Entry::Missing);
    for (logs, status) in [
        (Entry::Directory(RW), Status::Degraded),
        (Entry::Missing, Status::Degraded),
        (Entry::Directory(RO), Status::Critical),
        (right("x"), Status::Critical),
    ] {
        let found = validate(&layout(), &scan(&[missing.clone(), ("logs", logs.clone())]), None);
        assert_eq!(found.status, status, "{logs:?}");
        let structure = score(&found, ValidationPart::Structure);
        assert_eq!(structure.critical, status == Status::Critical, "{logs:?}: {structure:?}");
    }
    let mut without = layout();
    without.files[0].empty = None;
    assert_eq!(validate(&without, &scan(std::slice::from_ref(&missing)), None).status, Status::Critical);
    without.files[0].required = false;
    assert_eq!(validate(&without, &scan(&[missing]), None).status, Status::Healthy, "nobody expects it");
}

/// WSP-5: a workspace whose own folder may not be written is told, and what would stand in it cannot be made.
#[test]
fn the_folder_of_the_workspace_counts() {
    let mut whole = scan(&[]);
    whole.root_access = RO;
    let found = validate(&layout(), &whole, None);
    let told = &score(&found, ValidationPart::Permissions).problems;
    assert_eq!((found.status, told.len()), (Status::Degraded, 1), "{found:?}");
    assert!(told[0].contains("the folder of the workspace itself may not be written"));
    let mut nothing = Scan::default();
    assert_eq!(validate(&Layout { files: Vec::new(), ..layout() }, &nothing, None).status, Status::Degraded);
    nothing.root_access = RO;
    let found = validate(&layout(), &nothing, None);
    // The optional file alone is right where it is.
    assert_eq!(found.status, Status::Critical, "{found:?}");
    assert!(score(&found, ValidationPart::Permissions).score < 10.0, "{found:?}");
    assert_eq!(validate(&Layout::default(), &nothing, None).score, 100.0, "nothing is expected there");
}

/// WSP-5: the formula, by the hand-made figures; below 50 without anything critical, and critical far above it.
#[test]
fn the_score_follows_its_formula() {
    let mut optional = layout();
    optional.files[2].required = false;
    let nothing = Scan::default();
    let healthy = SlotSeen { problems: Vec::new(), files: 4, files_right: 4, usable: true };
    let table: [(&Layout, Scan, Option<SlotSeen>, f64, Status); 9] = [
        (&optional, scan(&[]), None, 100.0, Status::Healthy),
        (&optional, scan(&[]), Some(healthy.clone()), 100.0, Status::Healthy),
        // Nothing is there, all can be made: structure 0 of 55, permissions and configuration 15 each of 85 in all.
        (&optional, nothing.clone(), None, 35.2, Status::Degraded),
        (&optional, nothing, Some(healthy.clone()), 45.0, Status::Degraded),
        // One folder of eight, and two files of money that count for four each: 15 of 16.
        (&optional, scan(&[("data", Entry::Missing)]), None, 95.9, Status::Degraded),
        (&optional, scan(&[("logs/positions.json", Entry::Missing)]), None, 83.8, Status::Degraded),
        // One of four files differs: 75 of 100 for 15 of 100.
        (
            &optional,
            scan(&[]),
            Some(SlotSeen { problems: vec!["x".into()], files_right: 3, ..healthy.clone() }),
            96.2,
            Status::Critical,
        ),
        (
            &optional,
            scan(&[]),
            Some(SlotSeen { problems: vec!["x".into()], usable: false, ..healthy }),
            85.0,
            Status::Critical,
        ),
        (&Layout::default(), Scan::default(), None, 100.0, Status::Healthy),
    ];
    for (index, (layout, scan, slot, score, status)) in table.into_iter().enumerate() {
        let found = validate(layout, &scan, slot.as_ref());
        assert_eq!((found.score, found.status), (score, status), "{index}: {found:?}");
    }
}

/// WSP-5: once its folders and files are made, a workspace that was empty is healthy.
#[test]
fn an_empty_workspace_is_healthy_once_it_is_healed() {
    let mut layout = layout();
    layout.files[2].required = false;
    assert!(validate(&layout, &Scan::default(), None).score < 50.0);
    let mut healed = Scan::default();
    healed.entries.extend(layout.directories.iter().map(|path| (path.clone(), Entry::Directory(RW))));
    for spec in layout.files.iter().filter(|spec| spec.empty.is_some()) {
        let text = std::str::from_utf8(spec.empty.as_deref().unwrap()).unwrap();
        healed.entries.insert(spec.path.clone(), holding(text));
    }
    let found = validate(&layout, &healed, None);
    assert_eq!((found.score, found.status), (100.0, Status::Healthy), "{found:?}");
}

/// WSP-5: every problem is named, but for a flood of them.
#[test]
fn problems_are_bounded() {
    let many: Vec<RelPath> = (0..3 * RECORDS_MAX).map(|index| rel(&format!("folder{index}"))).collect();
    let layout = Layout { directories: many, ..Layout::default() };
    let found = validate(&layout, &Scan::default(), None);
    assert_eq!(score(&found, ValidationPart::Structure).problems.len(), RECORDS_MAX);
    assert_eq!(score(&found, ValidationPart::Structure).score, 0.0);
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let access = prop_oneof![Just(RW), Just(RO), Just(NOTHING)];
    prop_oneof![
        3 => Just(Entry::Missing),
        3 => access.clone().prop_map(Entry::Directory),
        4 => (prop::option::of(prop_oneof![
            Just(""), Just("{}"), Just("{\"open\": []}"), Just("{\"trades\": [1]}"), Just("[1"), Just("3"),
            Just("{\"max\": \"x\"}"), Just("{\"max\": 1, \"open\": []}")
        ]), access).prop_map(|(text, access)| with_access(text, access)),
        1 => Just(Entry::Other("a socket".to_owned())),
        1 => Just(Entry::Unreadable("permission denied".to_owned())),
    ]
}

prop_compose! {
    fn any_workspace()(
        entries in prop::collection::vec(any_entry(), 12),
        mended in prop::collection::vec(prop::bool::ANY, 12),
        empties in prop::collection::vec(prop::bool::ANY, 4),
        required in prop::collection::vec(prop::bool::ANY, 4),
        slot in prop::option::of((0..5_usize, 0..5_usize, prop::bool::ANY)),
    ) -> (Layout, Scan, Vec<RelPath>, Option<SlotSeen>) {
        let mut layout = layout();
        for ((spec, empty), required) in layout.files.iter_mut().zip(empties).zip(required) {
            spec.required = required;
            spec.empty = spec.empty.take().filter(|_| empty);
        }
        let paths: Vec<RelPath> =
            layout.directories.iter().chain(layout.files.iter().map(|spec| &spec.path)).cloned().collect();
        let mut scan = Scan::default();
        for ((path, entry), right_at_once) in paths.iter().zip(entries).zip(mended) {
            scan.entries.insert(path.clone(), if right_at_once { mended_entry(&layout, path) } else { entry });
        }
        let slot = slot.map(|(files, wrong, usable)| {
            let wrong = wrong.min(files);
            let mut problems: Vec<String> = (0..wrong).map(|index| format!("file {index}")).collect();
            if !usable {
                problems.push("not active".to_owned());
            }
            SlotSeen { problems, files, files_right: files - wrong, usable }
        });
        (layout, scan, paths, slot)
    }
}

fn mended_entry(layout: &Layout, path: &RelPath) -> Entry {
    if layout.directories.contains(path) { Entry::Directory(RW) } else { right(path.as_str()) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// WSP-5: the score is within its bounds, and says the same as the status.
    #[test]
    fn score_and_status_agree((layout, scan, _, slot) in any_workspace()) {
        let found = validate(&layout, &scan, slot.as_ref());
        prop_assert!((0.0..=100.0).contains(&found.score), "{:?}", found);
        prop_assert!(found.parts.iter().all(|part| (0.0..=100.0).contains(&part.score)));
        let critical = found.parts.iter().any(|part| part.critical);
        prop_assert_eq!(found.status == Status::Critical, critical);
        prop_assert_eq!(found.status == Status::Healthy, found.score >= 100.0);
        for part in &found.parts {
            prop_assert_eq!(part.problems.is_empty(), part.score >= 100.0, "{:?}", part);
            prop_assert!(!part.critical || part.score < 100.0);
        }
        prop_assert_eq!(found.parts.iter().any(|part| part.part == ValidationPart::Slot), slot.is_some());
    }

    /// WSP-5: putting one thing right never lowers the score, and never makes the status worse.
    #[test]
    fn putting_one_thing_right_never_hurts((layout, scan, paths, slot) in any_workspace()) {
        let before = validate(&layout, &scan, slot.as_ref());
        let no_worse = |after: &Validation, what: &str| {
            prop_assert!(after.score >= before.score, "{what}: {before:?} {after:?}");
            prop_assert!(after.status != Status::Critical || before.status == Status::Critical, "{what}");
            Ok(())
        };
        for path in &paths {
            let mut mended = scan.clone();
            mended.entries.insert(path.clone(), mended_entry(&layout, path));
            no_worse(&validate(&layout, &mended, slot.as_ref()), path.as_str())?;
        }
        if let Some(slot) = slot.filter(|slot| slot.files_right < slot.files) {
            let mut mended = slot;
            mended.files_right += 1;
            mended.problems.remove(0);
            no_worse(&validate(&layout, &scan, Some(&mended)), "the slot")?;
        }
    }

    /// WSP-5: how old anything is, and what a bot has to say of itself, changes nothing.
    #[test]
    fn freshness_does_not_count((layout, scan, _, slot) in any_workspace(), millis in 0..i64::MAX / 4) {
        let before = validate(&layout, &scan, slot.as_ref());
        let mut later = scan;
        later.at = Timestamp::from_millis(millis);
        later.heartbeats.push(rel("state/heartbeats/old.json"));
        later.entries.insert(rel("state/heartbeats/old.json"), holding("{"));
        for entry in later.entries.values_mut() {
            if let Entry::File(file) = entry {
                file.version.modified_nanos = i128::from(millis);
            }
        }
        prop_assert_eq!(before, validate(&layout, &later, slot.as_ref()));
    }
}

const RUN: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A release as the sample of the specification has it: `bot/run.py` holds `test`.
fn release(manifest: &str) -> (tempfile::TempDir, SlotSettings) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bot")).unwrap();
    std::fs::write(folder.path().join("bot/run.py"), "test").unwrap();
    std::fs::write(folder.path().join("slot_manifest.json"), manifest).unwrap();
    let slot = SlotSettings { path: folder.path().to_owned(), manifest: "slot_manifest.json".into() };
    (folder, slot)
}

fn manifest(files: &str) -> String {
    format!("{{\"slot\": \"blue\", \"version\": \"1\", \"active\": true, \"files\": {files}}}")
}

/// WSP-5: a release that is whole is right, also behind a link; what differs is told.
#[test]
fn a_release_is_held_against_its_manifest() {
    let (folder, slot) = release(&manifest(&format!("{{\"bot/run.py\": \"{RUN}\"}}")));
    let whole = SlotSeen { problems: Vec::new(), files: 1, files_right: 1, usable: true };
    assert_eq!(look_at_slot(&slot), whole);
    symlink(folder.path(), folder.path().join("current")).unwrap();
    let link = SlotSettings { path: folder.path().join("current"), ..slot.clone() };
    assert_eq!(look_at_slot(&link), whole);
    symlink("run.py", folder.path().join("bot/link.py")).unwrap();
    std::fs::write(slot.path.join(&slot.manifest), manifest(&format!("{{\"bot/link.py\": \"{RUN}\"}}"))).unwrap();
    assert_eq!(look_at_slot(&slot), whole, "a link within the release is followed");

    std::fs::write(folder.path().join("bot/run.py"), "tests").unwrap();
    let seen = look_at_slot(&slot);
    assert_eq!((seen.files, seen.files_right, seen.usable), (1, 0, true));
    assert!(seen.problems[0].starts_with("`bot/link.py` differs from the manifest"), "{seen:?}");
    let found = validate(&Layout::default(), &Scan::default(), Some(&seen));
    assert_eq!((found.status, found.score), (Status::Critical, 0.0));
}

/// WSP-5: a file is hashed once for each version of it; what is not compared in time is told, never taken for right.
#[test]
fn a_release_is_hashed_once_and_within_a_time() {
    use std::time::{Duration, SystemTime};
    let (folder, slot) = release(&manifest(&format!("{{\"bot/run.py\": \"{RUN}\"}}")));
    let file = folder.path().join("bot/run.py");
    let mut known = BTreeMap::new();
    let late = slot::look_within(&slot, Duration::ZERO, &mut known);
    assert_eq!((late.files, late.files_right), (1, 0));
    assert_eq!(late.problems, ["1 of 1 files could not be compared in time; the next look goes on"]);
    assert_eq!(validate(&Layout::default(), &Scan::default(), Some(&late)).status, Status::Critical);
    // Its times are of this moment, so another change might not show.
    let long = Duration::from_secs(60);
    assert_eq!((slot::look_within(&slot, long, &mut known).files_right, known.len()), (1, 0));
    // Four seconds later, as far as its times tell.
    let begun = SystemTime::now();
    while known.is_empty() {
        assert!(begun.elapsed().unwrap() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(slot::look_within(&slot, long, &mut known).files_right, 1);
    }
    // Known by now, so no time is needed for it; and what is known is asked.
    assert_eq!(slot::look_within(&slot, Duration::ZERO, &mut known).files_right, 1);
    for digest in known.values_mut() {
        *digest = "0".repeat(64);
    }
    assert_eq!(slot::look_within(&slot, long, &mut known).files_right, 0);
    // Another version is another file.
    std::fs::write(&file, "tests").unwrap();
    let seen = slot::look_within(&slot, long, &mut known);
    assert!(seen.problems[0].contains("differs") && !seen.problems[0].contains("000000"), "{seen:?}");
}

/// WSP-5: a release that cannot be used says why; nothing outside of it is read, and nothing is waited for.
#[test]
fn a_release_that_is_not_right_says_why() {
    let good = format!("\"{RUN}\"");
    for (text, problem) in [
        ("", "is no JSON"),
        ("[]", "holds no mapping"),
        ("{\"active\": true}", "names no `files`"),
        (&manifest("{}"), "names 0 files"),
        (&manifest(&format!("{{\"bot/run.py\": {good}}}")).replace("true", "false"), "is not the active one"),
        (&manifest(&format!("{{\"bot/run.py\": {good}}}")).replace("true", "1"), "does not say `active: true`"),
        (&manifest(&format!("{{\"bot/none.py\": {good}}}")), "`bot/none.py` is missing"),
        (&manifest(&format!("{{\"bot\": {good}}}")), "`bot` is no regular file"),
        (&manifest(&format!("{{\"fifo\": {good}}}")), "`fifo` is no regular file"),
        (&manifest(&format!("{{\"../etc/passwd\": {good}}}")), "is no path below the release folder"),
        (&manifest(&format!("{{\"/etc/passwd\": {good}}}")), "is no path below the release folder"),
        (&manifest(&format!("{{\"out\": {good}}}")), "`out` lies outside of the release folder"),
        (&manifest(&format!("{{\"proc/self/environ\": {good}}}")), "lies outside of the release folder"),
        (&manifest("{\"bot/run.py\": \"md5:0\"}"), "has no digest in the manifest"),
        (&manifest("{\"bot/run.py\": 5}"), "has no digest in the manifest"),
    ] {
        let (folder, slot) = release(text);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        symlink("/etc/passwd", folder.path().join("out")).unwrap();
        symlink("/proc", folder.path().join("proc")).unwrap();
        let seen = look_at_slot(&slot);
        assert!(seen.problems.iter().any(|line| line.contains(problem)), "{text}: {seen:?}");
        let found = validate(&Layout::default(), &Scan::default(), Some(&seen));
        assert_eq!((found.status, found.score), (Status::Critical, 0.0), "{text}");
    }
    let nowhere = SlotSettings { path: Path::new("/nowhere/at/all").into(), manifest: "m.json".into() };
    assert!(look_at_slot(&nowhere).problems[0].contains("`/nowhere/at/all` cannot be opened"));
    let (folder, slot) = release("");
    std::fs::remove_file(folder.path().join("slot_manifest.json")).unwrap();
    assert!(look_at_slot(&slot).problems[0].contains("the manifest `slot_manifest.json` is missing"));
}
