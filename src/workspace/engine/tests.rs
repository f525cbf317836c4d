//! The order of a round: nothing in a dry run, everything journaled else, and a report that tells what is so now.
#![expect(clippy::disallowed_methods, reason = "the tests make files, and start this program anew to be killed")]

mod standing;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::Command;

use super::*;
use crate::base::failpoint;
use crate::model::HealingEnd;
use crate::workspace::apply::fixture::{Fixture, rel, settings_of};
use crate::workspace::ledger;

fn finding(code: FindingCode, path: &str) -> WorkspaceFinding {
    WorkspaceFinding {
        code,
        severity: Severity::Medium,
        path: path.to_owned(),
        description: "found by hand".to_owned(),
        records: Vec::new(),
        state: FindingState::Planned,
        detail: String::new(),
    }
}

/// Finds what the test says as long as the files are not as they should be: content by path.
fn should_be(at: &Fixture, files: &[(FindingCode, &str, &str)]) -> Plan {
    let mut plan = Plan::default();
    for (code, path, content) in files {
        if at.read(path).as_deref() == Some(*content) {
            continue;
        }
        let mut change = match (code, at.path(path).exists()) {
            (FindingCode::HeartbeatStale, _) => at.reset(path, content),
            (_, true) => at.replace(path, content),
            (_, false) => at.create(path, content),
        };
        change.code = *code;
        change.findings = vec![plan.findings.len()];
        plan.findings.push(finding(*code, path));
        plan.changes.push(change);
    }
    plan
}

fn request(dry_run: bool) -> Request {
    Request { dry_run, ..Request::new(HealingTrigger::Command) }
}

fn round(at: &Fixture, planner: &Planner<'_>, dry_run: bool) -> Result<HealingReport, Error> {
    Round { settings: &at.settings, clock: &at.clock, planner, hook: &|_| {} }.heal(&request(dry_run))
}

/// Everything in the folder of healings: path, size, time.
fn kept(at: &Fixture) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![at.settings.state_dir.clone()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("it can be listed").path();
            let stat = std::fs::metadata(&path).expect("it is there");
            found.insert(path.display().to_string(), format!("{} {:?}", stat.len(), stat.modified()));
            if stat.is_dir() {
                left.push(path);
            }
        }
    }
    found
}

const FILES: [(FindingCode, &str, &str); 3] = [
    (FindingCode::JsonCorrupt, "a.json", "[]"),
    (FindingCode::FileMissing, "b.json", "{}"),
    (FindingCode::JsonCorrupt, "c.json", "{}"),
];

/// WSP-6: without a mode, or in a dry run, nothing at all is written; then everything is healed once, and a second round
/// finds nothing and writes nothing. WSP-4: the report counts what was done.
#[test]
fn a_round_heals_once() {
    let at = Fixture::new();
    at.write("a.json", "[");
    at.write("c.json", "{");
    let planner = |_: &Root, _: &Look<'_>| Ok((Scan::default(), should_be(&at, &FILES)));
    let before = at.tree();
    let mut unset = Fixture::new();
    unset.settings = Settings { mode: None, ..at.settings.clone() };
    for (at, dry_run) in [(&at, true), (&unset, false)] {
        let report = round(at, &planner, dry_run).expect("nothing is written");
        assert!(report.dry_run && report.id.is_none());
        assert!(report.findings.iter().all(|finding| finding.state == FindingState::Planned));
        assert!(report.changes.iter().all(|change| change.state == ChangeState::Planned));
        assert_eq!(report.changes.len(), 3);
    }
    assert_eq!(at.tree(), before);
    assert!(!at.settings.state_dir.exists());
    let report = round(&at, &planner, false).expect("it is healed");
    assert!(report.success && report.id.is_some(), "{report:?}");
    assert_eq!((report.healed, report.failed, report.critical), (3, 0, 0));
    let expected = HealingStats { files_created: 1, files_repaired: 2, ..HealingStats::default() };
    assert_eq!(report.stats, expected);
    let (healed, written) = (at.tree(), kept(&at));
    let report = round(&at, &planner, false).expect("there is nothing to do");
    assert!(report.success && report.id.is_none() && report.findings.is_empty());
    assert_eq!((at.tree(), kept(&at)), (healed, written), "a second round writes nothing");
}

/// WSP-6: a workspace with nothing to heal gets no folder of healings; one whose folder cannot be had is not healed at all,
/// and everything that was found is told with the reason.
#[test]
fn no_change_without_a_journal() {
    let at = Fixture::new();
    let report = round(&at, &|_, _| Ok((Scan::default(), Plan::default())), false).expect("there is nothing to do");
    assert!(report.success && report.id.is_none());
    assert!(!at.settings.state_dir.exists());
    at.write("a.json", "[");
    at.write(".chiron", "a file");
    let planner = |_: &Root, _: &Look<'_>| Ok((Scan::default(), should_be(&at, &FILES)));
    let report = round(&at, &planner, false).expect("it is looked at all the same");
    assert!(!report.success && report.id.is_none() && report.failed == 3, "{report:#?}");
    assert!(report.changes.iter().all(|change| change.state == ChangeState::Failed && !change.detail.is_empty()));
    let last = report.findings.last().expect("there are some");
    assert_eq!((last.code, last.path.as_str()), (FindingCode::Inaccessible, ".chiron"));
    assert_eq!((last.severity, last.state), (Severity::Critical, FindingState::Standing), "{last:?}");
    assert_eq!(at.read("a.json").as_deref(), Some("["));
    let held = Fixture::new();
    let lock = held.ledger();
    let refused = round(&held, &planner, false).expect_err("it is locked");
    assert_eq!(refused.kind, ErrorKind::Busy);
    drop(lock);
}

/// WSP-2, WSP-4: a heartbeat that was reset stays a finding; what the second look still shows has failed; what comes to light
/// only then is left to the next round; what a bot is at is deferred. Critical findings make the round no success.
#[test]
fn findings_tell_what_became_of_them() {
    let at = Fixture::new();
    for path in ["beat", "still", "busy"] {
        at.write(path, "old");
    }
    let looks = Cell::new(0);
    let planner = |_: &Root, _: &Look<'_>| {
        looks.set(looks.get() + 1);
        let wanted = [
            (FindingCode::HeartbeatStale, "beat", "reset"),
            (FindingCode::JsonCorrupt, "still", "whole"),
            (FindingCode::JsonCorrupt, "busy", "whole"),
        ];
        let mut plan = if looks.get() == 1 { should_be(&at, &wanted) } else { Plan::default() };
        if looks.get() == 1 {
            at.write("busy", "the bot's");
            let critical = finding(FindingCode::RecordsLost, "still");
            plan.findings.push(WorkspaceFinding {
                severity: Severity::Critical,
                state: FindingState::Standing,
                records: vec!["p-1".to_owned()],
                ..critical
            });
        } else {
            plan.findings.push(finding(FindingCode::HeartbeatStale, "beat"));
            plan.findings.push(finding(FindingCode::JsonCorrupt, "still"));
            plan.findings.push(finding(FindingCode::KeysMissing, "new"));
        }
        Ok((Scan::default(), plan))
    };
    let report = round(&at, &planner, false).expect("it is journaled");
    let told: Vec<(FindingCode, FindingState)> = report.findings.iter().map(|it| (it.code, it.state)).collect();
    let expected = [
        (FindingCode::HeartbeatStale, FindingState::Standing),
        (FindingCode::JsonCorrupt, FindingState::Failed),
        (FindingCode::JsonCorrupt, FindingState::Deferred),
        (FindingCode::KeysMissing, FindingState::Deferred),
        (FindingCode::RecordsLost, FindingState::Standing),
    ];
    assert_eq!(told, expected);
    assert_eq!((report.healed, report.failed, report.critical, report.success), (0, 1, 1, false));
    assert_eq!((report.stats.heartbeats_reset, report.stats.files_repaired), (1, 1));
}

/// The environment variable that tells the child of [`a_kill_at_every_step`] where to heal.
const CHILD: &str = "CHIRON_TEST_HEALING";

/// What the child does: heals, or undoes the first healing, and is killed on the way.
fn child(task: &str) {
    let (what, workspace) = task.split_once(':').expect("the parent says both");
    let at = Fixture::new().at(std::path::Path::new(workspace));
    let planner = |_: &Root, _: &Look<'_>| Ok((Scan::default(), should_be(&at, &FILES)));
    let round = Round { settings: &at.settings, clock: &at.clock, planner: &planner, hook: &|_| {} };
    if what == "heal" {
        round.heal(&request(false)).expect("it is healed");
    } else {
        round.rollback(&Name::from("20251123T013456Z-000001"), false, None).expect("it is undone");
    }
}

/// WSP-6: killed at any step of a healing or of a rollback, of its first or its second change, every file is the old one or
/// the new one, nothing lies beside after the next round, and the healing is told as interrupted or not at all.
#[test]
fn a_kill_at_every_step() {
    if let Ok(task) = std::env::var(CHILD) {
        return child(&task);
    }
    for name in failpoint::HEALING {
        let is_rollback = name.starts_with("rollback");
        for passing in [1, 2] {
            let folder = tempfile::tempdir().expect("a folder");
            let at = Fixture::new().at(folder.path());
            at.write("a.json", "[");
            at.write("c.json", "{");
            let old = at.tree();
            let planner = |_: &Root, _: &Look<'_>| Ok((Scan::default(), should_be(&at, &FILES)));
            if is_rollback {
                round(&at, &planner, false).expect("it is healed");
            }
            let healed = at.tree();
            let strike = format!("{name}=kill@{passing}");
            let what = if is_rollback { "rollback" } else { "heal" };
            let status = Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "workspace::engine::tests::a_kill_at_every_step"])
                .env("CHIRON_FAILPOINTS", &strike)
                .env(CHILD, format!("{what}:{}", folder.path().display()))
                .stdout(std::process::Stdio::null())
                .status()
                .expect("it starts");
            use std::os::unix::process::ExitStatusExt;
            let is_once = ["planned", "backup", "finished"].iter().any(|once| name.contains(once));
            if !(is_once && passing == 2) {
                assert_eq!(status.signal(), Some(9), "{strike}: {status}");
            }
            let contents = |tree: &crate::workspace::apply::fixture::Tree, path: &str| {
                tree.get(path).and_then(|line| line.rsplit(' ').next().map(ToOwned::to_owned))
            };
            let killed = at.tree();
            for path in ["a.json", "b.json", "c.json"] {
                let now = at.read(path);
                let allowed = match path {
                    "a.json" => [Some("["), Some("[]")],
                    "b.json" => [None, Some("{}")],
                    _ => [Some("{"), Some("{}")],
                };
                assert!(allowed.contains(&now.as_deref()), "{strike}: {path} {now:?}");
            }
            let report = round(&at, &planner, false).expect("it is healed after all");
            assert!(report.success, "{strike}: {report:?}");
            let now = at.tree();
            assert_eq!(now.keys().collect::<Vec<_>>(), ["a.json", "b.json", "c.json"], "{strike}");
            assert!(!killed.is_empty() && contents(&now, "a.json") != contents(&old, "a.json"), "{strike}");
            let told = ledger::list(&at.settings).expect("it can be read");
            assert!(told.iter().all(|it| it.end.is_some()), "{strike}: {told:?}");
            assert!(told.iter().filter(|it| it.end == Some(HealingEnd::Interrupted)).count() <= 1);
            assert_eq!(healed.contains_key("b.json"), is_rollback);
            assert!(at.root().stat(&rel("a.json")).is_ok() && settings_of(folder.path()).workspace == folder.path());
        }
    }
}
