//! The workspace in the cycle, and the healer as a task over a work that the test plays.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::sim::{Sim, rules};
use crate::app::board::{Board, View};
use crate::app::cycle::Inputs;
use crate::app::healer::{Desk, Healer, Work};
use crate::app::report::policy_document;
use crate::app::task::{Event, Shared};
use crate::app::tasks::Tasks;
use crate::app::workspace::Round;
use crate::base::clock::Clock;
use crate::http::Refusal;
use crate::journal::{Line, Record, State};
use crate::model::*;
use crate::telemetry::metrics::Metrics;
use crate::workspace::{Error, ErrorKind, Layout, Request, Retention, Settings};

const START: Timestamp = Timestamp::from_millis(1_763_861_696_000);

fn report(findings: Vec<WorkspaceFinding>) -> HealingReport {
    let count = |is: &dyn Fn(&WorkspaceFinding) -> bool| findings.iter().filter(|finding| is(finding)).count() as u64;
    let (healed, failed) = (
        count(&|finding| finding.state == FindingState::Healed),
        count(&|finding| finding.state == FindingState::Failed),
    );
    let critical = count(&|finding| finding.severity == Severity::Critical && finding.state == FindingState::Standing);
    HealingReport {
        id: None,
        timestamp: START,
        trigger: HealingTrigger::Schedule,
        dry_run: false,
        success: critical + failed == 0,
        healed,
        failed,
        critical,
        stats: HealingStats::default(),
        findings,
        changes: Vec::new(),
        diff: String::new(),
        validation: Validation { score: 100.0, status: Status::Healthy, parts: Vec::new() },
        visited: 10,
        duration_ms: 5,
    }
}

fn finding(code: FindingCode, severity: Severity, path: &str, state: FindingState) -> WorkspaceFinding {
    WorkspaceFinding {
        code,
        severity,
        path: path.to_owned(),
        description: "found two, expected one".to_owned(),
        records: vec!["BTC/USDT long".to_owned(), "ETH/USDT short".to_owned()],
        state,
        detail: String::new(),
    }
}

fn conflict(path: &str) -> WorkspaceFinding {
    finding(FindingCode::PositionConflict, Severity::Critical, path, FindingState::Standing)
}

fn healing(number: usize, changes: usize) -> Healing {
    let change = |index: usize| ChangeRecord {
        kind: ChangeKind::CreateFile,
        code: FindingCode::FileMissing,
        path: format!("logs/{number}-{index}.json"),
        state: if index == 0 { ChangeState::Applied } else { ChangeState::Deferred },
        before: None,
        after: Some("ff".to_owned()),
        detail: String::new(),
    };
    Healing {
        id: format!("20251123T013456Z-{number:06}").into(),
        at: START,
        trigger: HealingTrigger::Command,
        by: Some("ana".to_owned()),
        undoes: None,
        end: Some(HealingEnd::Finished),
        undone_by: None,
        accepted: None,
        changes: (0..changes).map(change).collect(),
    }
}

fn sim() -> Sim {
    let mut rules = rules(&[("feed", Criticality::Full, &[])], &[]);
    rules.heals = true;
    rules.money_files = Arc::new(["logs/positions.json".to_owned(), "logs/portfolio.json".to_owned()]);
    Sim::new(rules)
}

impl Sim {
    fn healed(&mut self, look: Option<Result<HealingReport, &str>>, healings: Vec<Healing>) {
        let look = look.map(|look| look.map(Arc::new).map_err(str::to_owned));
        let mut inputs = self.inputs();
        inputs.healed = vec![Round { look, healings }];
        self.step(inputs);
        // A person is told in the step after.
        self.step(Inputs::default());
    }

    fn held(&self, source: PolicySource) -> Vec<String> {
        let held = self.state.holds.keys().filter(|key| key.source == source);
        held.map(|key| key.subject.to_string()).collect()
    }

    fn issues(&self) -> Vec<String> {
        self.state.episodes.values().map(|episode| episode.key.kind.to_string()).collect()
    }

    fn escalations(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.record, Record::EpisodeEscalated { .. })).count()
    }
}

/// WSP-5, POL-4: a workspace that nobody has looked at since the start lets nothing new be opened, also when looking does
/// not work; the first look ends that. Without healing there is nothing to wait for.
#[test]
fn the_start_waits_for_the_first_look() {
    let mut sim = sim();
    sim.live(10);
    assert_eq!(
        (sim.held(PolicySource::Startup), sim.state.level()),
        (vec!["workspace".to_owned()], Level::NoNewTrades)
    );
    sim.healed(Some(Err("no folder")), Vec::new());
    sim.live(10);
    assert_eq!(sim.state.level(), Level::NoNewTrades, "what could not be looked at is not known");
    sim.healed(Some(Ok(report(Vec::new()))), Vec::new());
    assert_eq!((sim.held(PolicySource::Startup), sim.state.level()), (vec![], Level::AllowAll));
    sim.crash();
    sim.live(10);
    assert_eq!(sim.state.level(), Level::NoNewTrades, "a new process has not looked");

    let mut off = Sim::new(rules(&[("feed", Criticality::Full, &[])], &[]));
    off.live(10);
    assert_eq!(off.state.level(), Level::AllowAll);
}

/// WSP-3, ACT-5: what is critical holds `no_new_trades` by the source `workspace`, is one issue with its records named, goes
/// to a person at once and to no action; it is over with the look that shows it no more, and the hold falls by the rules.
#[test]
fn what_is_critical_is_held_told_and_cleared() {
    let mut sim = sim();
    sim.healed(Some(Ok(report(Vec::new()))), Vec::new());
    sim.live(10);
    assert_eq!(sim.state.level(), Level::AllowAll);
    let path = "logs/positions_futures.json";
    sim.healed(Some(Ok(report(vec![conflict(path)]))), Vec::new());
    assert_eq!(sim.held(PolicySource::Workspace), ["position_conflict"]);
    assert_eq!((sim.state.level(), sim.issues()), (Level::NoNewTrades, vec!["position_conflict".to_owned()]));
    let episode = sim.state.episodes.values().next().unwrap().clone();
    assert_eq!((&*episode.key.subsystem, episode.facts.source), ("workspace", IssueSource::Workspace));
    assert_eq!((episode.facts.severity, episode.facts.impacts_trading), (Severity::Critical, false));
    for part in ["POSITION_CONFLICT", path, "BTC/USDT long", "ETH/USDT short"] {
        assert!(episode.facts.description.contains(part), "{part}: {}", episode.facts.description);
    }
    assert!(episode.ladder.is_empty() && episode.escalated == Some(Reason::Exhausted), "{episode:?}");
    assert_eq!(sim.escalations(), 1);

    // Seen again it is the same; in another place too, a person is told once more.
    sim.healed(Some(Ok(report(vec![conflict(path)]))), Vec::new());
    assert_eq!(sim.escalations(), 1);
    sim.healed(Some(Ok(report(vec![conflict(path), conflict("state/b.json")]))), Vec::new());
    assert_eq!((sim.escalations(), sim.issues().len()), (2, 1));
    assert!(sim.state.episodes.values().any(|episode| episode.facts.description.contains("state/b.json")));

    // Nobody could look, or it is being seen to: nothing is loosened, nothing is cleared.
    sim.healed(Some(Err("away")), Vec::new());
    let planned = finding(FindingCode::PositionConflict, Severity::Critical, path, FindingState::Deferred);
    sim.live(120);
    assert_eq!((sim.issues().len(), sim.state.level()), (1, Level::NoNewTrades));
    sim.healed(Some(Ok(report(vec![planned]))), Vec::new());
    sim.live(120);
    assert_eq!((sim.issues().len(), sim.held(PolicySource::Workspace).len()), (1, 1));

    sim.healed(Some(Ok(report(Vec::new()))), Vec::new());
    assert_eq!((sim.issues(), sim.state.level()), (vec![], Level::NoNewTrades), "a hold has its time");
    sim.live(120);
    assert_eq!((sim.held(PolicySource::Workspace), sim.state.level()), (vec![], Level::AllowAll));
}

/// WSP-5: after a restart what is held is held until somebody has looked.
#[test]
fn a_restart_loosens_nothing() {
    let mut sim = sim();
    sim.healed(Some(Ok(report(vec![conflict("logs/a.json")]))), Vec::new());
    sim.crash();
    sim.live(200);
    assert_eq!((sim.held(PolicySource::Workspace), sim.issues().len()), (vec!["position_conflict".to_owned()], 1));
    sim.healed(Some(Ok(report(Vec::new()))), Vec::new());
    sim.live(120);
    assert_eq!((sim.state.level(), sim.issues().len()), (Level::AllowAll, 0));
}

/// WSP-3: what is dangerous does not go with the file that it was found in. While that file, or another with positions or
/// trades, is not there, empty, corrupt, closed, misplaced, or was put right only in this round, the issue stays open and the
/// level is held; the first look that can judge them all ends both.
#[test]
fn what_is_dangerous_is_not_gone_with_its_file() {
    use FindingCode::{
        DirectoryMissing, FileEmpty, FileMissing, HeartbeatStale, Inaccessible, JsonCorrupt, Misplaced, RecordsLost,
    };
    use FindingState::{Deferred, Failed, Healed, Planned, Standing};
    let hidden = |code, state, path: &str| finding(code, Severity::Medium, path, state);
    let mut sim = sim();
    sim.healed(Some(Ok(report(vec![conflict("state/named.json")]))), Vec::new());
    for seen in [
        hidden(FileMissing, Healed, "state/named.json"),
        hidden(FileMissing, Standing, "logs/portfolio.json"),
        hidden(FileMissing, Planned, "logs/positions.json"),
        hidden(FileEmpty, Healed, "logs/positions.json"),
        hidden(JsonCorrupt, Healed, "logs/positions.json"),
        hidden(JsonCorrupt, Deferred, "logs/positions.json"),
        hidden(JsonCorrupt, Failed, "logs/portfolio.json"),
        hidden(Inaccessible, Standing, "logs/positions.json"),
        hidden(Inaccessible, Standing, "logs"),
        hidden(Misplaced, Standing, "logs"),
        hidden(DirectoryMissing, Healed, "state"),
        hidden(RecordsLost, Standing, "logs/portfolio.json"),
    ] {
        sim.healed(Some(Ok(report(vec![seen.clone()]))), Vec::new());
        sim.live(120);
        assert!(sim.issues().contains(&"position_conflict".to_owned()), "{seen:?}");
        assert_eq!(
            (sim.held(PolicySource::Workspace), sim.state.level()),
            (vec!["position_conflict".to_owned()], Level::NoNewTrades),
            "{seen:?}"
        );
    }
    // What is wrong with other files, or in another way, hides nothing.
    let others = vec![
        hidden(JsonCorrupt, Healed, "logs/positions.json.old"),
        hidden(HeartbeatStale, Standing, "logs/positions.json"),
        hidden(FileMissing, Healed, "state/other.json"),
    ];
    sim.healed(Some(Ok(report(others))), Vec::new());
    assert_eq!(sim.issues(), ["heartbeat_stale"]);
    sim.live(120);
    assert_eq!(sim.state.level(), Level::AllowAll);
}

fn unfit(parts: &[ValidationPart]) -> HealingReport {
    let mut unfit = report(Vec::new());
    unfit.validation.status = Status::Critical;
    let part = |part: &ValidationPart| PartScore {
        part: *part,
        score: 10.0,
        critical: true,
        problems: vec!["the folder `logs` may not be written".to_owned()],
    };
    unfit.validation.parts = parts.iter().map(part).collect();
    unfit
}

/// WSP-5: where chiron itself may not write, nothing is held for that, and a person is told once, mildly; also if a file that
/// it would make is missing for that reason alone. What keeps a bot from starting holds, and is an issue of its own.
#[test]
fn a_workspace_that_chiron_may_not_write_holds_nothing() {
    use ValidationPart::{Configuration, Permissions, Slot, Structure};
    let missing = |severity| finding(FindingCode::FileMissing, severity, "logs/positions.json", FindingState::Standing);
    let corrupt = finding(FindingCode::JsonCorrupt, Severity::High, "logs/a.json", FindingState::Standing);
    let none: Vec<WorkspaceFinding> = Vec::new();
    let medium = missing(Severity::Medium);
    for (parts, findings, holds, issues) in [
        (&[Permissions][..], none.clone(), false, vec!["inaccessible"]),
        (&[Permissions, Structure], vec![medium.clone()], false, vec!["file_missing", "inaccessible"]),
        (&[Permissions, Structure], none.clone(), true, vec!["workspace_unfit"]),
        (&[Permissions, Structure], vec![missing(Severity::High)], true, vec!["file_missing", "workspace_unfit"]),
        (
            &[Permissions, Structure],
            vec![medium, corrupt],
            true,
            vec!["file_missing", "json_corrupt", "workspace_unfit"],
        ),
        (&[Permissions, Configuration], none.clone(), true, vec!["workspace_unfit"]),
        (&[Slot], none.clone(), true, vec!["workspace_unfit"]),
        (&[], none, true, vec!["workspace_unfit"]),
    ] {
        let mut sim = sim();
        let told = HealingReport { findings: findings.clone(), ..unfit(parts) };
        sim.healed(Some(Ok(told.clone())), Vec::new());
        sim.healed(Some(Ok(told)), Vec::new());
        let mut kinds = sim.issues();
        kinds.sort();
        let held = if holds { vec!["validation".to_owned()] } else { Vec::new() };
        assert_eq!(
            (kinds, sim.held(PolicySource::Workspace)),
            (issues.iter().map(|kind| (*kind).to_owned()).collect(), held),
            "{parts:?} {findings:?}"
        );
        let worst = sim.state.episodes.values().map(|episode| episode.facts.severity).max().unwrap();
        assert_eq!(worst >= Severity::High, holds || findings.iter().any(|one| one.severity > Severity::Medium));
        assert!(sim.escalations() >= 1, "somebody is told");
        sim.healed(Some(Ok(report(Vec::new()))), Vec::new());
        sim.live(120);
        assert_eq!((sim.issues(), sim.state.level()), (vec![], Level::AllowAll));
    }
}

/// WSP-5, WSP-6: a workspace that is only looked at is not healed, so that it is not fit raises nothing; what was so before
/// stays so.
#[test]
fn a_dry_round_finds_nobody_unfit() {
    let dry = |report: HealingReport| HealingReport { dry_run: true, ..report };
    let mut sim = sim();
    sim.healed(Some(Ok(dry(unfit(&[ValidationPart::Structure])))), Vec::new());
    sim.healed(Some(Ok(dry(unfit(&[ValidationPart::Permissions])))), Vec::new());
    sim.live(10);
    assert_eq!((sim.issues(), sim.state.level()), (vec![], Level::AllowAll));
    sim.healed(Some(Ok(unfit(&[ValidationPart::Structure]))), Vec::new());
    sim.healed(Some(Ok(dry(unfit(&[ValidationPart::Structure])))), Vec::new());
    sim.live(120);
    assert_eq!((sim.issues(), sim.state.level()), (vec!["workspace_unfit".to_owned()], Level::NoNewTrades));
    sim.healed(Some(Ok(dry(report(Vec::new())))), Vec::new());
    sim.live(120);
    assert_eq!((sim.issues(), sim.state.level()), (vec![], Level::AllowAll));
}

/// WSP-1, SPEC 15: what was healed, is planned or is deferred is no issue, and neither is what is mild; a workspace in
/// which no bot may start holds `no_new_trades` and is an issue of its own.
#[test]
fn what_can_be_healed_is_no_issue() {
    use FindingState::{Deferred, Failed, Healed, Planned, Standing};
    let mut sim = sim();
    let of = |severity, state| finding(FindingCode::JsonCorrupt, severity, "logs/a.json", state);
    let mild = vec![
        of(Severity::Critical, Healed),
        of(Severity::Critical, Planned),
        of(Severity::High, Deferred),
        of(Severity::Low, Standing),
    ];
    sim.healed(Some(Ok(report(mild))), Vec::new());
    sim.live(10);
    assert_eq!((sim.issues(), sim.state.level()), (vec![], Level::AllowAll));
    sim.healed(Some(Ok(report(vec![of(Severity::High, Failed)]))), Vec::new());
    assert_eq!((sim.issues(), sim.held(PolicySource::Workspace)), (vec!["json_corrupt".to_owned()], vec![]));
    assert_eq!(sim.escalations(), 1, "what could not be healed is for a person");
    let mut unfit = report(Vec::new());
    unfit.validation.status = Status::Critical;
    sim.healed(Some(Ok(unfit)), Vec::new());
    let issues = vec!["workspace_unfit".to_owned()];
    assert_eq!((sim.issues(), sim.held(PolicySource::Workspace)), (issues, vec!["validation".to_owned()]));
}

/// WSP-6: a workspace that could not be looked at three times in a row is an issue, until it can be.
#[test]
fn three_failed_rounds_are_an_issue() {
    let mut sim = sim();
    sim.healed(Some(Ok(report(Vec::new()))), Vec::new());
    for failures in 1..=3 {
        assert_eq!(sim.issues(), [""; 0], "{failures}");
        sim.healed(Some(Err("`/srv/bot` is no folder")), Vec::new());
    }
    let episode = sim.state.episodes.values().next().unwrap().clone();
    assert_eq!((&*episode.key.kind, episode.facts.severity), (WORKSPACE_UNREADABLE, Severity::High));
    assert!(episode.facts.symptoms[0].contains("/srv/bot"), "{episode:?}");
    assert!(episode.ladder.is_empty() && episode.escalated.is_some());
    sim.healed(Some(Ok(report(Vec::new()))), Vec::new());
    assert_eq!(sim.issues(), [""; 0]);
}

/// WSP-3, WSP-6: a reload that ends healing lets go of what is mild and keeps what is critical, also over a restart; a look
/// that comes late says nothing. One that begins it waits for a look.
#[test]
fn a_reload_switches_healing() {
    let mut sim = sim();
    let mild = finding(FindingCode::JsonCorrupt, Severity::High, "logs/b.json", FindingState::Standing);
    sim.healed(Some(Ok(report(vec![conflict("logs/a.json"), mild]))), Vec::new());
    assert_eq!(sim.issues().len(), 2);
    sim.healed(Some(Ok(report(vec![conflict("logs/a.json")]))), Vec::new());
    let (on, mut off) = (sim.rules.clone(), sim.rules.clone());
    off.heals = false;
    sim.cycle.reconfigure(on.clone(), &sim.state, sim.now);
    sim.live(120);
    assert_eq!((sim.issues().len(), sim.held(PolicySource::Startup)), (1, vec![]), "a reload alone changes nothing");
    sim.cycle.reconfigure(off.clone(), &sim.state, sim.now);
    sim.healed(Some(Ok(report(Vec::new()))), Vec::new());
    sim.live(120);
    let (critical, held) = (vec!["position_conflict".to_owned()], vec!["position_conflict".to_owned()]);
    assert_eq!((sim.issues(), sim.held(PolicySource::Workspace)), (critical.clone(), held.clone()));
    sim.rules = off;
    sim.crash();
    sim.live(120);
    assert_eq!((sim.issues(), sim.held(PolicySource::Workspace)), (critical, held));
    sim.cycle.reconfigure(on, &sim.state, sim.now);
    sim.step(Inputs::default());
    assert_eq!(sim.held(PolicySource::Startup), ["workspace"], "the late look was not taken");
    sim.healed(Some(Ok(report(Vec::new()))), Vec::new());
    sim.live(120);
    assert_eq!((sim.issues(), sim.state.level()), (vec![], Level::AllowAll));
}

/// WSP-6, SEC-4: every healing, whoever made it, is journaled once with each of its changes, across crashes, a journal that
/// cannot be written, and being handed again and again; one that is under way waits. The audit log says who, what and where.
#[test]
fn healings_are_told_once() {
    let mut sim = sim();
    let mut all = vec![healing(1, 2), healing(2, 0), healing(3, 1_200)];
    let mut under_way = healing(4, 1);
    under_way.end = None;
    all.push(under_way);
    sim.healed(None, all[..1].to_vec());
    sim.healed(None, all.clone());
    sim.crash();
    assert!(sim.state.healings.under_way.is_some(), "it died in the middle of the third");
    sim.healed(None, all.clone());
    sim.lose_journal();
    sim.healed(None, all.clone());
    sim.regain_journal();
    for _ in 0..3 {
        sim.healed(None, all.clone());
    }
    assert_eq!(sim.state.healings.last, Some(all[2].id.clone()));
    all[3].end = Some(HealingEnd::Interrupted);
    sim.healed(None, all.clone());
    let records: Vec<&Record> = sim.entries.iter().map(|entry| &entry.record).collect();
    for healing in &all {
        let of_it = |record: &&&Record| match record {
            Record::WorkspaceChanged { healing: id, .. } | Record::WorkspaceHealed { healing: id, .. } => {
                *id == healing.id
            }
            _ => false,
        };
        let told: Vec<&&Record> = records.iter().filter(of_it).collect();
        assert_eq!(told.len(), healing.changes.len() + 1, "{}", healing.id);
        let paths: Vec<&str> = told
            .iter()
            .filter_map(|record| match record {
                Record::WorkspaceChanged { change, .. } => Some(change.path.as_str()),
                _ => None,
            })
            .collect();
        assert!(paths.iter().copied().eq(healing.changes.iter().map(|change| change.path.as_str())));
        let Some(Record::WorkspaceHealed { changes, applied, .. }) = told.last() else { panic!("it is told whole") };
        assert_eq!((*changes as usize, *applied), (healing.changes.len(), u32::from(!healing.changes.is_empty())));
    }
    let changed = records.iter().find(|record| matches!(record, Record::WorkspaceChanged { .. })).unwrap();
    let line = Line::of(changed).expect("a change is audited");
    assert_eq!(
        (line.actor.as_str(), line.event, line.subject.as_str()),
        ("ana", "workspace_changed", "workspace/logs/1-0.json")
    );
    assert_eq!((&line.detail["trigger"], &line.detail["change"]["after"]), (&"command".into(), &"ff".into()));
}

/// Invariant 1: a journal that tells a healing twice, or with a gap, is refused.
#[test]
fn a_healing_told_twice_is_illegal() {
    let whole = |number, changes| Record::WorkspaceHealed {
        healing: healing(number, 0).id,
        planned_at: START,
        trigger: HealingTrigger::Start,
        by: None,
        undoes: None,
        end: HealingEnd::Finished,
        changes,
        applied: 0,
    };
    let change = |number, place| Record::WorkspaceChanged {
        healing: healing(number, 0).id,
        number: place,
        trigger: HealingTrigger::Start,
        by: None,
        change: healing(number, 1).changes[0].clone(),
    };
    let legal = |records: &[Record]| {
        let entry = |(seq, record): (u64, &Record)| crate::journal::Entry { seq, at: START, record: record.clone() };
        let entries: Vec<_> = (1..).zip(records).map(entry).collect();
        State::default().replay(&entries).is_ok()
    };
    assert!(legal(&[whole(1, 0), change(2, 1), whole(2, 1), change(3, 1), change(4, 1), whole(4, 1)]));
    assert!(legal(&[whole(2, 0), change(1, 1), whole(1, 1)]), "an older one that was restored");
    for bad in [
        vec![whole(1, 0), whole(1, 0)],
        vec![whole(2, 0), whole(1, 0), whole(2, 0)],
        vec![whole(2, 0), whole(1, 0), change(1, 1)],
        vec![change(1, 2)],
        vec![change(1, 1), change(1, 1)],
        vec![change(1, 1), whole(1, 2)],
        vec![whole(1, 1)],
    ] {
        assert!(!legal(&bad), "{bad:?}");
    }
}

/// WSP-6: a healing that is older than the newest is told all the same, as after a clock that was ahead or a folder that was
/// restored. Those before a bounded number are remembered as one; a journal of before remembers the newest alone.
#[test]
fn older_healings_are_told() {
    let mut sim = sim();
    sim.healed(None, vec![healing(900_000, 1)]);
    sim.healed(None, vec![healing(1, 1), healing(2, 1)]);
    assert!([1, 2, 900_000].iter().all(|number| sim.state.healings.knows(&healing(*number, 0).id)));
    assert_eq!(sim.state.healings.last, Some(healing(900_000, 0).id));
    // More than may wait at once: the healer hands the others again.
    for _ in 0..2 {
        let new = (3..2_100).map(|number| healing(number, 0));
        let new = new.filter(|healing| !sim.state.healings.knows(&healing.id)).collect();
        sim.healed(None, new);
        for _ in 0..8 {
            sim.step(Inputs::default());
        }
    }
    let healings = &sim.state.healings;
    assert!((1..2_100).all(|number| healings.knows(&healing(number, 0).id)), "{:?}", healings.floor);
    assert!(healings.told.len() <= 2_000 && !healings.knows(&healing(2_100, 0).id));

    let mut old: crate::journal::Healings = serde_json::from_str(r#"{"last":"20251123T013456Z-000005"}"#).unwrap();
    assert!(old.knows(&healing(5, 0).id) && !old.knows(&healing(6, 0).id));
    let mut state = State { healings: std::mem::take(&mut old), ..State::default() };
    let told = Record::WorkspaceHealed {
        healing: healing(7, 0).id,
        planned_at: START,
        trigger: HealingTrigger::Start,
        by: None,
        undoes: None,
        end: HealingEnd::Finished,
        changes: 0,
        applied: 0,
    };
    state = state.replay(&[crate::journal::Entry { seq: 1, at: START, record: told }]).unwrap();
    let knows = |number: usize| state.healings.knows(&healing(number, 0).id);
    assert!(knows(4) && knows(5) && !knows(6) && knows(7), "{:?}", state.healings);
    let text = serde_json::to_string(&state.healings).unwrap();
    assert_eq!(serde_json::from_str::<crate::journal::Healings>(&text).unwrap(), state.healings);
}

/// What the healer's work does in a test.
#[derive(Default)]
struct Played {
    rounds: Mutex<Vec<Request>>,
    outcome: Mutex<Option<ErrorKind>>,
    panics: AtomicBool,
    /// The next work waits until the other end of this is gone.
    gate: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
    healings: Mutex<Vec<Healing>>,
}

impl Work for Played {
    fn heal(&self, _: &Settings, request: &Request, _: &Clock) -> Result<HealingReport, Error> {
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once_max.fetch_max(at_once, Ordering::SeqCst);
        self.rounds.lock().unwrap().push(request.clone());
        let gate = self.gate.lock().unwrap().take();
        gate.map(|gate| gate.recv());
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        assert!(!self.panics.load(Ordering::SeqCst), "an invariant of ours");
        match *self.outcome.lock().unwrap() {
            Some(kind) => Err(Error::new(kind, "it is away")),
            None => {
                let diff = "+a line of a file".to_owned();
                Ok(HealingReport { trigger: request.trigger, dry_run: request.dry_run, diff, ..report(Vec::new()) })
            }
        }
    }
    fn rollback(
        &self,
        _: &Settings,
        id: &Name,
        force: bool,
        _: Option<String>,
        _: &Clock,
    ) -> Result<HealingReport, Error> {
        if *id == *"unknown" {
            return Err(Error::new(ErrorKind::Unknown, "no healing `unknown` is kept"));
        }
        if !force {
            return Err(Error::new(ErrorKind::Changed, "changed since: logs/a.json"));
        }
        self.healings.lock().unwrap().push(healing(9, 1));
        Ok(report(Vec::new()))
    }
    fn list(&self, _: &Settings) -> Result<Vec<Healing>, Error> {
        Ok(self.healings.lock().unwrap().clone())
    }
    fn read(&self, _: &Settings, id: &Name) -> Result<Healing, Error> {
        let found = self.healings.lock().unwrap().iter().find(|healing| healing.id == *id).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::Unknown, "none"))
    }
}

/// The healer with everything around it but the decision task.
struct Bench {
    played: Arc<Played>,
    desk: Arc<Desk>,
    shared: Arc<Shared>,
    events: mpsc::Receiver<Event>,
    told: mpsc::Sender<Event>,
    clock: Clock,
    tasks: Tasks,
    stop: CancellationToken,
}

fn settings(enabled: bool, every: u64) -> Settings {
    Settings {
        enabled,
        every: Duration::from_secs(every),
        workspace: "/nowhere".into(),
        state_dir: "/nowhere/.chiron".into(),
        mode: Some(Mode::Paper),
        dry_run: false,
        layout: Arc::new(Layout::default()),
        own_files: Arc::default(),
        slot: None,
        retention: Retention::default(),
        quiet: Duration::from_secs(2),
        file_max: 1 << 20,
    }
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let clock = Clock::manual(START);
        let rules = rules(&[("feed", Criticality::Full, &[])], &[]);
        let view = View {
            at: START,
            state: State::default(),
            policy: Arc::new(policy_document(&State::default(), &rules, 0, START)),
            rules: Arc::new(rules),
            overall: Status::Unknown,
            summary: Summary::default(),
            started_up: false,
            resources: None,
            forecasts: Forecasts::new(),
            waiting: imbl::OrdMap::new(),
            blind: Vec::new(),
            dry_run: false,
            stormy: false,
            hooks: Vec::new(),
            workspace_seen: true,
        };
        let shared = Arc::new(Shared {
            board: arc_swap::ArcSwap::from_pointee(Board::new(view)),
            intake: Notify::new(),
            backlog: std::sync::atomic::AtomicU64::new(0),
            metrics: Arc::new(Metrics::new(&[], &[], &[])),
        });
        shared.metrics.workspace.configure(true);
        let played = Arc::new(Played::default());
        let desk = Arc::new(Desk::new(settings, Arc::clone(&played) as Arc<dyn Work>));
        let (told, events) = mpsc::channel(64);
        let (tasks, _) = Tasks::new(CancellationToken::new());
        Self { played, desk, shared, events, told, clock, tasks, stop: CancellationToken::new() }
    }

    fn start(&self) -> crate::app::tasks::Spawned {
        let progress = self.shared.metrics.progress("healer", &self.clock);
        let (desk, ending) = (Arc::clone(&self.desk), self.tasks.stop().clone());
        let healer = Healer::new(desk, Arc::clone(&self.shared), self.told.clone(), progress, ending);
        let stop = self.stop.clone();
        self.tasks.spawn("healer", healer.run(stop))
    }

    async fn seconds(&self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.clock.advance(Duration::from_millis(500));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn rounds(&self) -> Vec<HealingTrigger> {
        self.played.rounds.lock().unwrap().iter().map(|request| request.trigger).collect()
    }

    fn handed(&mut self) -> Vec<Round> {
        let mut rounds = Vec::new();
        while let Ok(Event::Healed(round)) = self.events.try_recv() {
            rounds.push(round);
        }
        rounds
    }

    /// The decision task has published this.
    fn publish(&self, change: impl FnOnce(&mut View)) {
        let board = self.shared.board.load();
        let mut view = View::clone(&board.view.load());
        view.at = self.clock.now();
        change(&mut view);
        board.view.store(Arc::new(view));
    }

    fn metric(&self, line: &str) -> bool {
        let mut page = Vec::new();
        self.shared.metrics.page(crate::telemetry::PageFormat::Text, &mut page);
        String::from_utf8(page).unwrap().lines().any(|one| one == line)
    }
}

fn ana() -> Caller {
    Caller { name: "ana".to_owned(), role: Role::Operate }
}

/// WSP-6: a round at the start, one every `heal.every`, one after a reload, none while healing is off; each is handed to the
/// decision task and counted.
#[tokio::test(start_paused = true)]
async fn rounds_come_in_time() {
    use HealingTrigger::{Schedule, Start};
    let mut bench = Bench::new(settings(true, 60));
    bench.start();
    bench.seconds(5).await;
    assert_eq!(bench.rounds(), [Start]);
    bench.seconds(50).await;
    assert_eq!(bench.rounds(), [Start]);
    bench.seconds(10).await;
    assert_eq!(bench.rounds(), [Start, Schedule]);
    bench.desk.replace(settings(true, 600));
    bench.seconds(100).await;
    assert_eq!(bench.rounds(), [Start, Schedule, Schedule], "new settings at once, then at their own pace");
    bench.desk.replace(settings(false, 600));
    bench.seconds(1_000).await;
    assert_eq!(bench.rounds().len(), 3);
    assert!(matches!(bench.desk.heal(false, ana()).await, Err(Refusal::Conflict(_))));
    assert_eq!(bench.handed().iter().filter(|round| matches!(round.look, Some(Ok(_)))).count(), 3);
    assert!(bench.metric("chiron_workspace_healings_total{result=\"success\"} 3"));
    bench.stop.cancel();
    bench.tasks.ended().await;
}

/// WSP-6: a round that could not look is told and counted with its reason, and the next comes soon; a panic is such a round
/// and does not end the healer.
#[tokio::test(start_paused = true)]
async fn failed_rounds_are_told() {
    let mut bench = Bench::new(settings(true, 600));
    *bench.played.outcome.lock().unwrap() = Some(ErrorKind::Workspace);
    bench.start();
    bench.seconds(5).await;
    bench.played.panics.store(true, Ordering::SeqCst);
    bench.seconds(30).await;
    let errors: Vec<String> = bench.handed().into_iter().filter_map(|round| round.look?.err()).collect();
    assert!(errors.len() == 2 && errors[0].contains("it is away") && errors[1].contains("invariant"), "{errors:?}");
    assert!(bench.metric("chiron_workspace_errors_total{reason=\"workspace\"} 1"));
    assert!(bench.metric("chiron_workspace_errors_total{reason=\"panicked\"} 1"));
    assert_eq!(bench.desk.tell()["error"]["reason"], "panicked");
    bench.played.panics.store(false, Ordering::SeqCst);
    *bench.played.outcome.lock().unwrap() = None;
    bench.seconds(30).await;
    assert!(bench.handed().iter().any(|round| matches!(round.look, Some(Ok(_)))));
    assert_eq!(bench.desk.tell()["error"], serde_json::Value::Null);
    bench.stop.cancel();
    bench.tasks.ended().await;
}

/// WSP-6: a person's wish is a round of its own with their name; a rehearsal is told to nobody but them; a rollback hands
/// its healing on and says what has changed.
#[tokio::test(start_paused = true)]
async fn people_are_answered() {
    let mut bench = Bench::new(settings(true, 600));
    bench.start();
    bench.seconds(5).await;
    bench.handed();
    let report = bench.desk.heal(true, ana()).await.unwrap().expect("it is quick");
    assert_eq!(report["trigger"], "request");
    assert_eq!(bench.handed().len(), 0, "a rehearsal is no look");
    assert_eq!(report["diff"], "+a line of a file");
    let report = bench.desk.heal(false, ana()).await.unwrap().expect("it is quick");
    assert_eq!(report.get("diff"), None);
    let told = format!("{}{}", bench.desk.tell(), bench.desk.tell_shortly());
    assert!(!told.contains("a line of a file"), "{told}");
    assert_eq!(bench.handed().len(), 1);
    {
        let rounds = bench.played.rounds.lock().unwrap();
        let asked: Vec<_> = rounds[1..].iter().map(|request| (request.by.as_deref(), request.dry_run)).collect();
        assert_eq!(asked, [(Some("ana"), true), (Some("ana"), false)]);
    }
    let desk = Arc::clone(&bench.desk);
    let undo = async |id: &str, force| desk.rollback(id.to_owned(), force, ana()).await;
    assert!(matches!(undo("unknown", false).await, Err(Refusal::NotFound(_))));
    assert!(matches!(undo("h1", false).await, Err(Refusal::Changed(why)) if why.contains("logs/a.json")));
    assert!(undo("h1", true).await.is_ok());
    bench.seconds(1).await;
    let handed = bench.handed();
    assert!(handed[0].look.is_none() && handed[0].healings[0].id == healing(9, 1).id);
    // What came back may be dangerous: it is looked at, at once, and nothing is healed.
    let looked = handed.iter().find_map(|round| round.look.clone()).expect("a look follows").unwrap();
    assert!(looked.dry_run && looked.diff.is_empty());
    let rounds = bench.played.rounds.lock().unwrap().len();
    assert_eq!(rounds, 4);
    // A rollback needs no healing to be on, and nobody looks then.
    bench.desk.replace(settings(false, 600));
    bench.seconds(1).await;
    assert!(undo("h1", true).await.is_ok());
    bench.seconds(1).await;
    assert_eq!(bench.played.rounds.lock().unwrap().len(), rounds);
    assert_eq!(bench.desk.healings().await.unwrap()[0]["changes"], 1);
    assert!(bench.desk.healing(healing(9, 1).id.to_string()).await.is_ok());
    bench.stop.cancel();
    bench.tasks.ended().await;
}

/// WSP-6: a healing that the journal knows is not handed again, one that is under way not yet.
#[tokio::test(start_paused = true)]
async fn only_what_is_new_is_handed() {
    let mut bench = Bench::new(settings(true, 60));
    let (mut dead, mut open) = (healing(2, 1), healing(4, 1));
    (dead.end, open.end) = (None, None);
    *bench.played.healings.lock().unwrap() = vec![healing(1, 1), dead, healing(3, 1), open];
    bench.publish(|view| view.state.healings.last = Some(healing(1, 1).id));
    bench.start();
    bench.seconds(5).await;
    let ids: Vec<Name> = bench.handed().into_iter().flat_map(|round| round.healings).map(|one| one.id).collect();
    assert_eq!(ids, [healing(3, 1).id], "one that never ends keeps no other back");
    bench.stop.cancel();
    bench.tasks.ended().await;
}

/// POL-4: a decision task that was started anew is handed the latest look again, without a new round.
#[tokio::test(start_paused = true)]
async fn a_new_decision_task_is_reminded() {
    let mut bench = Bench::new(settings(true, 6_000));
    bench.start();
    bench.seconds(5).await;
    assert_eq!(bench.handed().len(), 1);
    bench.publish(|view| view.workspace_seen = true);
    bench.seconds(60).await;
    assert_eq!(bench.handed().len(), 0);
    bench.publish(|view| view.workspace_seen = false);
    bench.seconds(4).await;
    assert_eq!(bench.handed().len(), 1);
    assert_eq!(bench.rounds().len(), 1);
    bench.stop.cancel();
    bench.tasks.ended().await;
}

/// POL-4: a decision task that was started anew is told that the latest round failed, once, and not of the look before; nor
/// of a look that is older than two rounds.
#[tokio::test(start_paused = true)]
async fn nobody_is_reminded_of_what_is_stale() {
    let mut bench = Bench::new(settings(true, 20));
    bench.start();
    bench.seconds(5).await;
    *bench.played.outcome.lock().unwrap() = Some(ErrorKind::Workspace);
    bench.seconds(16).await;
    assert_eq!(bench.handed().len(), 2, "a look, and a failure");
    bench.publish(|view| view.workspace_seen = false);
    bench.seconds(12).await;
    let handed = bench.handed();
    assert!(handed.len() == 1 && matches!(&handed[0].look, Some(Err(why)) if why.contains("away")), "{handed:?}");
    bench.stop.cancel();
    bench.tasks.ended().await;

    // Its rounds are not tried for long, as another process heals.
    let mut bench = Bench::new(settings(true, 20));
    bench.start();
    bench.seconds(5).await;
    *bench.played.outcome.lock().unwrap() = Some(ErrorKind::Busy);
    bench.seconds(60).await;
    bench.handed();
    bench.publish(|view| view.workspace_seen = false);
    bench.seconds(30).await;
    assert_eq!(bench.handed().len(), 0);
    bench.stop.cancel();
    bench.tasks.ended().await;
}

/// WSP-6: that another process heals is no failure: it is told to nobody, counted nowhere, and tried again soon; unless that
/// process never ends.
#[tokio::test(start_paused = true)]
async fn a_busy_workspace_is_no_failure() {
    let mut bench = Bench::new(settings(true, 60));
    *bench.played.outcome.lock().unwrap() = Some(ErrorKind::Busy);
    bench.start();
    bench.seconds(14).await;
    assert_eq!(bench.rounds().len(), 3);
    assert!(matches!(bench.desk.heal(false, ana()).await, Err(Refusal::Conflict(_))));
    assert_eq!(bench.handed().len(), 0);
    assert!(bench.metric("chiron_workspace_errors_total{reason=\"busy\"} 0"));
    assert_eq!(bench.desk.tell()["error"], serde_json::Value::Null);
    bench.seconds(620).await;
    assert!(bench.handed().iter().any(|round| matches!(round.look, Some(Err(_)))), "it never ends");
    *bench.played.outcome.lock().unwrap() = None;
    bench.seconds(40).await;
    assert!(bench.handed().iter().any(|round| matches!(round.look, Some(Ok(_)))));
    bench.stop.cancel();
    bench.tasks.ended().await;
}

/// Invariant 1, ACT-3: while nothing can be journaled, after a broken invariant, and during maintenance of the workspace,
/// rounds only look, and a round comes as soon as that is over. A person may heal during maintenance; nothing is undone
/// while chiron may not act.
#[tokio::test(start_paused = true)]
async fn rounds_only_look_while_chiron_may_not_act() {
    let bench = Bench::new(settings(true, 10));
    let dry = || bench.played.rounds.lock().unwrap().drain(..).map(|request| request.dry_run).collect::<Vec<_>>();
    bench.start();
    bench.seconds(5).await;
    assert_eq!(dry(), [false]);
    for condition in ["journal_fenced", "journal_corrupt", "journal_unavailable", "actuator_panicked"] {
        bench.publish(|view| view.blind = vec![(condition.to_owned(), "so it is".to_owned())]);
        bench.seconds(11).await;
        assert!(dry().iter().all(|dry| *dry), "{condition}");
        assert!(bench.desk.tell()["held_back"].as_str().unwrap().contains(condition));
        bench.desk.heal(false, ana()).await.unwrap();
        assert_eq!(dry(), [true], "{condition}");
        let undone = bench.desk.rollback("h1".to_owned(), true, ana()).await;
        assert!(matches!(undone, Err(Refusal::Unavailable(why)) if why.contains(condition)));
        bench.publish(|view| view.blind = vec![("clock_jump".to_owned(), "it was set".to_owned())]);
        bench.seconds(1).await;
        assert_eq!(dry(), [false], "{condition} is over");
    }
    let maintenance = |subsystems: &[&str], actions: &[&str]| crate::journal::Maintenance {
        subsystems: subsystems.iter().map(|name| (*name).into()).collect(),
        actions: actions.iter().map(|name| (*name).into()).collect(),
        since: START,
        until: START.plus(Duration::from_secs(86_400)),
        by: "ana".to_owned(),
        reason: "an upgrade".to_owned(),
    };
    for (one, only_looks) in [
        (maintenance(&[], &[]), true),
        (maintenance(&["platform"], &["restart_service"]), true),
        (maintenance(&["feed"], &[]), false),
        (maintenance(&[], &["restore_configuration"]), false),
    ] {
        bench.publish(|view| drop(view.state.maintenance.insert("m1".into(), one.clone())));
        bench.seconds(1).await;
        dry();
        bench.seconds(11).await;
        assert_eq!(dry(), [only_looks], "{one:?}");
        assert_eq!(bench.desk.tell()["held_back"].is_string(), only_looks, "{one:?}");
        bench.desk.heal(false, ana()).await.unwrap();
        assert_eq!(dry(), [false], "a person heals: {one:?}");
    }
    bench.publish(|view| view.at = Timestamp::EPOCH);
    bench.seconds(30).await;
    assert_eq!(dry(), [false; 0], "nothing has been decided");
    bench.publish(|_| ());
    bench.tasks.stop().cancel();
    bench.seconds(30).await;
    assert_eq!(dry(), [false; 0], "chiron is ending");
    bench.tasks.ended().await;
}

/// WSP-6: a round that was under way while the settings changed is not taken for a look under the new ones. SPEC 14: a stop
/// does not wait for a look that hangs.
#[tokio::test(start_paused = true, flavor = "current_thread")]
async fn late_rounds_are_dropped() {
    let mut bench = Bench::new(settings(true, 600));
    let (gate, opens) = std::sync::mpsc::channel();
    *bench.played.gate.lock().unwrap() = Some(opens);
    bench.start();
    let push = async |seconds: u64| {
        for _ in 0..seconds * 4 {
            tokio::time::advance(Duration::from_millis(250)).await;
            tokio::task::yield_now().await;
            std::thread::yield_now();
        }
    };
    while bench.rounds().is_empty() {
        push(1).await;
    }
    bench.desk.replace(settings(false, 600));
    drop::<std::sync::mpsc::Sender<()>>(gate);
    while bench.desk.tell()["busy"] == true {
        push(1).await;
    }
    push(3).await;
    assert_eq!(bench.handed().len(), 0);
    assert_eq!(bench.desk.tell()["report"], serde_json::Value::Null);

    bench.desk.replace(settings(true, 600));
    let (gate, opens) = std::sync::mpsc::channel();
    *bench.played.gate.lock().unwrap() = Some(opens);
    while bench.rounds().len() < 2 {
        push(1).await;
    }
    bench.stop.cancel();
    let ended = bench.tasks.ended();
    let mut ended = std::pin::pin!(ended);
    for _ in 0..6 {
        push(1).await;
    }
    let over = tokio::time::timeout(Duration::from_millis(1), &mut ended).await;
    assert!(over.is_ok(), "the task has ended while its work hangs");
    drop::<std::sync::mpsc::Sender<()>>(gate);
}

/// SPEC 14, WSP-6: while a long round is at work, others are refused, the task tells that it gets on, and a stop waits for
/// it; a healer that is cut off and started anew does not work beside it.
#[tokio::test(start_paused = true, flavor = "current_thread")]
async fn one_round_at_a_time() {
    let bench = Bench::new(settings(true, 60));
    let progress = bench.shared.metrics.progress("healer", &bench.clock);
    let (gate, opens) = std::sync::mpsc::channel();
    *bench.played.gate.lock().unwrap() = Some(opens);
    let first = bench.start();
    // The clocks are paused while the work waits, so they are pushed by hand.
    while bench.rounds().is_empty() {
        tokio::time::advance(Duration::from_millis(1)).await;
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    for _ in 0..20 {
        bench.clock.advance(Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        assert!(progress.age() <= Duration::from_secs(2), "it gets on");
    }
    assert!(matches!(bench.desk.heal(false, ana()).await, Err(Refusal::Conflict(why)) if why.contains("already")));
    first.abort.abort();
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    bench.start();
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.rounds().len(), 1, "the first is still at work");
    for _ in 0..700 {
        bench.clock.advance(Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    assert!(progress.age() > Duration::from_secs(60), "one that waits so long has stalled");
    drop::<std::sync::mpsc::Sender<()>>(gate);
    while bench.rounds().len() < 2 {
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    bench.stop.cancel();
    bench.tasks.ended().await;
    assert_eq!(bench.played.at_once_max.load(Ordering::SeqCst), 1);
}
