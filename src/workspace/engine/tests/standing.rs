//! What lasts from one round to the next: losses, rollbacks, files that had records.
#![expect(clippy::disallowed_methods, reason = "the tests change files between rounds")]

use std::sync::Arc;

use super::super::*;
use crate::workspace::apply::fixture::{Fixture, rel};
use crate::workspace::layout::{FileSpec, Layout, Role};

const POSITIONS: &str = "logs/positions.json";
const CONFIG: &str = "config/bot.json";
const TORN: &str = "{\"open_positions\": [], \"closed_positions\": [{\"id\": \"p-1\"}, {\"id\": \"p-2";

/// A workspace with positions, a configuration file, and one bad thing in neither.
fn workspace() -> Fixture {
    let mut at = Fixture::new();
    let spec = |path: &str, role, empty: &str| FileSpec {
        path: rel(path),
        role,
        empty: Some(empty.as_bytes().into()),
        keys: Vec::new(),
        required: true,
        schema: None,
    };
    let files = vec![
        spec(POSITIONS, Role::Positions, "{\"open_positions\": [], \"closed_positions\": []}"),
        spec(CONFIG, Role::Config, "{\"limit\": 1}"),
    ];
    at.settings.layout = Arc::new(Layout { files, ..Layout::default() });
    at.write(POSITIONS, "{\"open_positions\": [], \"closed_positions\": [{\"id\": \"p-1\"}]}");
    at.write(CONFIG, "{\"limit\": 2}");
    at
}

fn by(trigger: HealingTrigger) -> Request {
    Request::new(trigger)
}

fn round(at: &Fixture, request: &Request) -> HealingReport {
    heal(&at.settings, request, &at.clock).expect("it is looked at")
}

fn lost(report: &HealingReport) -> Vec<&WorkspaceFinding> {
    report.findings.iter().filter(|finding| finding.code == FindingCode::RecordsLost).collect()
}

/// WSP-2: what a healing has lost stands in every round, a dry one too, until a person accepts it, once.
#[test]
fn a_loss_stands_until_it_is_accepted() {
    let at = workspace();
    at.write(POSITIONS, TORN);
    let report = round(&at, &by(HealingTrigger::Schedule));
    let id = report.id.clone().expect("it is healed");
    let dry = Request { dry_run: true, ..by(HealingTrigger::Gate) };
    for report in [report, round(&at, &by(HealingTrigger::Schedule)), round(&at, &dry)] {
        let told = lost(&report);
        assert_eq!(told.len(), 1, "{report:#?}");
        assert_eq!((told[0].severity, told[0].state), (Severity::Critical, FindingState::Standing));
        assert!(told[0].detail.contains(&format!("--accept-loss {id}")), "{:?}", told[0]);
        assert!(told[0].detail.contains(&format!("--rollback {id}")) && told[0].records[0].contains("p-2"));
        assert!(!report.success && report.critical == 1);
    }
    let kept = |at: &Fixture| at.ledger().stored().expect("it can be read");
    assert!(kept(&at)[0].needs_person());
    let accept = || accept_loss(&at.settings, &id, "ana".to_owned(), "seen".to_owned(), &at.clock);
    let healing = accept().expect("it is accepted");
    let accepted = healing.accepted.expect("it says so");
    assert_eq!((accepted.by.as_str(), accepted.reason.as_str()), ("ana", "seen"));
    assert!(!kept(&at)[0].needs_person());
    assert!(lost(&round(&at, &by(HealingTrigger::Schedule))).is_empty());
    assert_eq!(accept().expect_err("once").kind, ErrorKind::Settled);
    let other = accept_loss(&at.settings, &"20250101T000000Z-000001".into(), String::new(), String::new(), &at.clock);
    assert_eq!(other.expect_err("there is none").kind, ErrorKind::Unknown);
}

/// WSP-6, WSP-2: a rollback takes the loss back; what it has brought back is left alone until it changes or a person wants it
/// healed again, and then the loss is there again.
#[test]
fn a_rollback_is_respected() {
    let at = workspace();
    at.write(POSITIONS, TORN);
    let id = round(&at, &by(HealingTrigger::Schedule)).id.expect("it is healed");
    let undone = rollback(&at.settings, &id, false, None, &at.clock).expect("it is undone");
    assert!(lost(&undone).is_empty(), "{undone:#?}");
    let left = round(&at, &by(HealingTrigger::Schedule));
    assert!(lost(&left).is_empty() && left.changes.is_empty() && at.read(POSITIONS).as_deref() == Some(TORN));
    assert!(left.findings[0].detail.contains("a person has undone"), "{left:#?}");
    let refused = accept_loss(&at.settings, &id, String::new(), String::new(), &at.clock);
    assert_eq!(refused.expect_err("nothing is lost").kind, ErrorKind::Settled);
    let again = round(&at, &Request { again: true, ..by(HealingTrigger::Command) });
    assert_eq!((lost(&again).len(), again.changes.len()), (1, 1));
    at.write(POSITIONS, TORN);
    assert_eq!(round(&at, &by(HealingTrigger::Schedule)).changes.len(), 1, "healed since, so no longer a person's");
}

/// WSP-2: a file that had records and has no bytes, or is gone, has lost them; a new workspace has lost nothing.
#[test]
fn records_are_remembered() {
    for empties in [
        |at: &Fixture| at.write(POSITIONS, ""),
        |at: &Fixture| {
            std::fs::remove_file(at.path(POSITIONS)).expect("it can be removed");
        },
    ] {
        let fresh = workspace();
        empties(&fresh);
        let report = round(&fresh, &by(HealingTrigger::Command));
        assert!(report.success && lost(&report).is_empty(), "{report:#?}");
        let known = workspace();
        assert!(round(&known, &by(HealingTrigger::Command)).success);
        let index = known.settings.state_dir.join("money.json");
        let written = std::fs::metadata(&index).expect("it is noted").modified().expect("a time");
        round(&known, &by(HealingTrigger::Command));
        assert_eq!(std::fs::metadata(&index).expect("it stays").modified().expect("a time"), written);
        empties(&known);
        let dry = Request { dry_run: true, ..by(HealingTrigger::Command) };
        assert_eq!(lost(&round(&known, &dry)).len(), 1);
        for _ in 0..2 {
            assert_eq!(lost(&round(&known, &by(HealingTrigger::Command))).len(), 1);
        }
    }
}

/// WSP-1: a scheduled round looks twice before it makes a file with positions in a folder that changed just now.
#[test]
fn a_missing_file_is_looked_for_twice() {
    for comes_back in [true, false] {
        let at = workspace();
        std::fs::remove_file(at.path(POSITIONS)).expect("it can be removed");
        let looks = std::cell::Cell::new(0);
        let hook = |name: &str| {
            if name == "second_look" {
                looks.set(looks.get() + 1);
                if comes_back {
                    at.write(POSITIONS, "{\"open_positions\": [], \"mine\": true}");
                }
            }
        };
        let planner = planner(&at.settings);
        let round = Round { settings: &at.settings, clock: &at.clock, planner: &planner, hook: &hook };
        let report = round.heal(&by(HealingTrigger::Schedule)).expect("it is looked at");
        assert_eq!(looks.get(), 1);
        assert_eq!(report.changes.is_empty(), comes_back, "{report:#?}");
    }
}

/// WSP-7: a configuration file that is broken just now waits in a round that nobody asked for; a person gets it restored, and
/// is told how to undo that.
#[test]
fn configuration_waits_for_whoever_edits_it() {
    let at = workspace();
    assert!(round(&at, &by(HealingTrigger::Schedule)).success);
    at.write(CONFIG, "{\"limit\": ");
    let waits = round(&at, &by(HealingTrigger::Schedule));
    assert_eq!((waits.findings[0].state, waits.findings[0].severity), (FindingState::Deferred, Severity::High));
    let healed = round(&at, &by(HealingTrigger::Command));
    let id = healed.id.clone().expect("it is healed");
    assert!(healed.findings[0].detail.ends_with(&format!("to undo it: `chiron heal --rollback {id}`")), "{healed:#?}");
    assert_eq!(at.read(CONFIG).as_deref(), Some("{\"limit\": 2}"));
    // An editor's own file beside one that has been broken for long.
    at.write(CONFIG, "{\"limit\": ");
    let long_ago = i128::from(at.clock.now().millis() - 3_600_000) * 1_000_000;
    at.set_modified(CONFIG, long_ago);
    at.write("config/.bot.json.swp", "x");
    at.set_modified("config/.bot.json.swp", i128::from(at.clock.now().millis() - 3_600_000) * 1_000_000);
    let edited = round(&at, &by(HealingTrigger::Schedule));
    assert!(edited.findings[0].detail.contains("editor"), "{edited:#?}");
    std::fs::remove_file(at.path("config/.bot.json.swp")).expect("it can be removed");
    assert_eq!(round(&at, &by(HealingTrigger::Schedule)).changes.len(), 1);
}

/// WSP-6: a healing that cannot be settled is told as critical, and nothing is changed meanwhile.
#[test]
fn what_cannot_be_settled_is_told() {
    let at = workspace();
    at.write(POSITIONS, TORN);
    let first = round(&at, &by(HealingTrigger::Command));
    // A backup folder that is a file: the folder of healings cannot be used whole.
    std::fs::remove_dir_all(at.settings.state_dir.join("backups")).expect("it can be removed");
    std::fs::write(at.settings.state_dir.join("backups"), "").expect("a file can be made");
    at.write(POSITIONS, TORN);
    let report = round(&at, &by(HealingTrigger::Command));
    let told = report.findings.last().expect("there are some");
    assert_eq!((told.code, told.path.as_str()), (FindingCode::Inaccessible, ".chiron"), "{report:#?}");
    assert!(report.id.is_none() && report.changes.iter().all(|change| change.state == ChangeState::Failed));
    assert_eq!(lost(&report).len(), 1, "what {:?} has lost is known all the same", first.id);
    assert_eq!(at.read(POSITIONS).as_deref(), Some(TORN));
}
