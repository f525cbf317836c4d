//! One suite that every store passes: what is accepted and committed, refused, recovered and pruned.
//!
//! A factory opens and reopens one store; each case is generic over it and runs against memory and SQLite.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::journal::audit::follow;
use crate::journal::{
    AlertPart, ApprovalEnd, AuditEntry, Entry, Epoch, IssueFacts, JournalStore, Record, Recovered, Rung, RungOrigin,
    StoreError, StoreErrorKind,
};
use crate::model::{
    AlertOutcome, AlertStatus, Autonomy, ChangeKind, ChangeRecord, ChangeState, Class, Ending, EpisodeKey, FindingCode,
    HealingEnd, HealingTrigger, IntakeAlert, IssueSource, Level, Outcome, PolicySource, Reason, RunKey, RunState,
    Severity, Timestamp,
};

use super::step::STATES;
use super::{MemoryStore, Settings, SqliteStore};

/// Opens the same store again and again. The earlier handle must have been dropped.
#[async_trait]
pub(super) trait Factory {
    async fn open(&mut self) -> Arc<dyn JournalStore>;
}

struct Memory(Arc<MemoryStore>);

#[async_trait]
impl Factory for Memory {
    async fn open(&mut self) -> Arc<dyn JournalStore> {
        self.0.clone()
    }
}

struct Sqlite(TempDir);

#[async_trait]
impl Factory for Sqlite {
    async fn open(&mut self) -> Arc<dyn JournalStore> {
        Arc::new(SqliteStore::open(self.0.path().join("chiron.db")).await.unwrap())
    }
}

fn memory() -> Memory {
    Memory(Arc::new(MemoryStore::new()))
}

fn sqlite() -> Sqlite {
    Sqlite(tempfile::tempdir().unwrap())
}

/// Runs each case against both stores.
macro_rules! suite {
    ($($(#[$doc:meta])* $case:ident;)*) => {
        mod in_memory {
            $($(#[$doc])* #[tokio::test] async fn $case() { super::$case(&mut super::memory()).await; })*
        }
        mod in_sqlite {
            $($(#[$doc])* #[tokio::test] async fn $case() { super::$case(&mut super::sqlite()).await; })*
        }
    };
}

suite! {
    /// ALR-1: what was accepted is there after reopening, in order, until it has an outcome.
    accepted_alerts_survive;
    /// ALR-1: 64 concurrent callers are all told the truth.
    many_accept_at_once;
    /// What is appended is gapless and comes back as it was, for every kind of record.
    entries_survive_bit_for_bit;
    /// Invariant 8: a stale epoch writes nothing.
    a_stale_epoch_is_fenced;
    /// Invariant 5: a run exists once and moves only along the table; a refused batch leaves nothing.
    runs_move_along_the_table;
    /// DET-4: every pair of states is accepted or refused as the table says.
    every_move_is_as_the_table_says;
    /// POL-2: without an epoch a source may only rise.
    tightening_only_tightens;
    /// SEC-4: each change has its line in the audit log, in the transaction of the change.
    the_audit_follows_the_commits;
    /// Invariant 16: the latch is set by anybody and released by a person with a reason.
    the_latch_is_released_by_a_person;
    /// A snapshot shortens what is replayed; it stands only where an entry stands.
    snapshots_shorten_replay;
    /// Pruning keeps the newest entries, and the chain of digests still holds after it.
    pruning_keeps_what_is_asked_for;
    /// A run's key stays taken at least as long as its entries are there.
    run_keys_outlive_pruning;
    /// History is read page by page without loss or repetition.
    history_is_paged;
    /// A probe answers and leaves no trace in the journal.
    a_probe_leaves_no_entry;
}

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_763_861_696_123 + millis)
}

pub(super) fn alert(number: u64) -> IntakeAlert {
    let text = |key: &str, value: String| (key.to_owned(), value);
    IntakeAlert {
        received_at: at(i64::try_from(number).unwrap()),
        receiver: "chiron".into(),
        status: if number.is_multiple_of(3) { AlertStatus::Resolved } else { AlertStatus::Firing },
        fingerprint: format!("{number:032x}").as_str().into(),
        labels: BTreeMap::from([text("alertname", "OrderRouterDown".into()), text("n", format!("ü\n\"{number}"))]),
        annotations: BTreeMap::from([text("summary", "the order router does not answer".into())]),
        starts_at: at(-1000),
        ends_at: number.is_multiple_of(3).then(|| at(0)),
        truncated: number.is_multiple_of(2),
    }
}

fn key(number: u32) -> RunKey {
    RunKey { episode: format!("database_{number}").as_str().into(), rung: 1, attempt: 1 }
}

pub(super) fn intended(number: u32) -> Record {
    Record::RunIntended {
        key: key(number),
        action: "restart_subsystem".into(),
        target: "database".into(),
        binding: "restart_subsystem/database".into(),
        class: Class::OneShot,
        dry_run: false,
        lowers_risk: false,
        not_after: Some(at(300_000)),
        before: Some(crate::journal::Before {
            status: crate::model::Status::Critical,
            broken: vec!["event_executor".into()],
        }),
        bound: Some("run /bin/true".into()),
    }
}

/// The record that moves run `number` to `to`.
pub(super) fn moved(number: u32, to: RunState) -> Record {
    let (key, detail) = (key(number), String::from("exit code 0"));
    match to {
        RunState::Intended => intended(number),
        RunState::Started => Record::RunStarted { key, evidence: Some("pid 1".into()) },
        RunState::Finished => Record::RunFinished {
            key,
            ending: Ending::Ok,
            detail,
            output: "done\n".into(),
            duration_ms: 12,
            changed: "pid 1 -> 2".into(),
        },
        RunState::Verified => Record::RunVerified { key, outcome: Outcome::Verified, detail },
        RunState::Cancelled => Record::RunCancelled { key, reason: Reason::Expired },
        RunState::Indeterminate => Record::RunIndeterminate { key, detail },
    }
}

pub(super) fn hold(source: PolicySource, subject: &str, level: Level) -> Record {
    Record::HoldSet { source, subject: subject.into(), level, reason: "a test".into(), until: None, by: None }
}

pub(super) fn latched() -> Record {
    Record::Latched { reason: "a test".into() }
}

fn release(by: &str, reason: &str) -> Record {
    Record::LatchReleased { by: by.into(), reason: reason.into() }
}

pub(super) fn taken(intake: u64) -> Record {
    Record::AlertTaken {
        intake,
        fingerprint: "00ff".into(),
        status: AlertStatus::Firing,
        outcome: AlertOutcome::Accepted,
        episode: Some("database_20251123_013456".into()),
        part: Some(AlertPart {
            fingerprint: "00ff".into(),
            labels: BTreeMap::from([("alertname".to_owned(), "OrderRouterDown".to_owned())]),
            starts_at: at(-5),
            policy: Some(Level::NoNewTrades),
        }),
        ended_at: None,
    }
}

/// One record of every kind, in an order that every guard permits.
fn every_kind() -> Vec<Record> {
    let episode = "database_20251123_013456";
    let facts = IssueFacts {
        severity: Severity::Critical,
        description: "database is critical".into(),
        symptoms: vec!["missing: `backend/data/quantum_trader.db`".into()],
        root_cause: None,
        impacts_trading: true,
        moves_policy: true,
        affects_subsystems: vec!["event_executor".into()],
        source: IssueSource::Check,
    };
    let rung = Rung {
        action: "restart_subsystem".into(),
        autonomy: Autonomy::Automatic,
        containing: false,
        origin: RungOrigin::Alert("00ff".into()),
        outcome: None,
        attempts: 0,
        recommended_at: None,
    };
    let about = EpisodeKey { subsystem: "database".into(), symbol: Some("BTC/USDT".into()), kind: "status".into() };
    let id = || episode.into();
    let (by_check, ladder) = (true, vec![rung]);
    vec![
        Record::InstanceStarted { incarnation: "1f".into(), version: "0.1.0".into(), dry_run: false },
        Record::ConfigLoaded { generation: 1, digest: "00".into(), by: None },
        Record::EpisodeOpened {
            id: id(),
            key: about,
            facts: facts.clone(),
            ladder: ladder.clone(),
            by_check,
            began_at: Some(at(-9)),
        },
        Record::EpisodeChanged { id: id(), facts, ladder, by_check, flapping: false },
        taken(1),
        Record::AlertBelieved { fingerprint: "00ff".into(), episode: id() },
        intended(1),
        moved(1, RunState::Started),
        Record::RunResumed { key: key(1) },
        moved(1, RunState::Finished),
        moved(1, RunState::Verified),
        intended(2),
        moved(2, RunState::Cancelled),
        intended(3),
        moved(3, RunState::Started),
        moved(3, RunState::Indeterminate),
        Record::RungSkipped { episode: id(), rung: 2, outcome: Outcome::Unbound },
        Record::RecommendationHeld { episode: id(), rung: 1, reason: Reason::Cooldown, not_before: Some(at(60_000)) },
        Record::EpisodeEscalated { id: id(), reason: Reason::Expired },
        Record::EpisodeResolved { id: id() },
        Record::HoldSet {
            source: PolicySource::Operator,
            subject: "database".into(),
            level: Level::NoNewTrades,
            reason: "maintenance".into(),
            until: Some(at(60_000)),
            by: Some("ada (basic)".into()),
        },
        Record::ApprovalAsked {
            key: key(4),
            action: "restart_subsystem".into(),
            target: "database".into(),
            digest: "d1".into(),
            expires_at: at(600_000),
        },
        Record::ApprovalEnded {
            key: key(4),
            digest: "d1".into(),
            how: ApprovalEnd::Rejected,
            by: "ada (basic)".into(),
            reason: "not now".into(),
        },
        Record::MaintenanceSet {
            id: "m1".into(),
            subsystems: vec!["database".into()],
            actions: vec!["clear_cache".into()],
            until: at(60_000),
            by: "ada".into(),
            reason: "upgrade".into(),
        },
        Record::MaintenanceEnded { id: "m1".into(), by: Some("ada".into()), reason: Some("done".into()) },
        Record::HookTold { hook: "bot".into(), level: Level::NoNewTrades, attempt: 1, from: Some(Level::AllowAll) },
        Record::HookAnswered {
            hook: "bot".into(),
            level: Level::NoNewTrades,
            ending: Ending::Ok,
            detail: "200 OK".into(),
        },
        Record::HookFollowed { hook: "bot".into(), level: Level::NoNewTrades },
        Record::HookEnded { hook: "bot".into() },
        Record::DrillAsked { episode: id(), by: "ada".into(), reason: "rehearsal".into() },
        Record::ClockSet { millis: -3_600_000 },
        Record::RestartAsked { by: "ada".into(), reason: "stuck".into() },
        Record::WorkspaceChanged {
            healing: "20251123T013456Z-000012".into(),
            number: 1,
            trigger: HealingTrigger::Request,
            by: Some("ada".into()),
            change: ChangeRecord {
                kind: ChangeKind::ReplaceFile,
                code: FindingCode::JsonCorrupt,
                path: "logs/positions_futures.json".into(),
                state: ChangeState::Applied,
                before: Some("00".into()),
                after: Some("ff".into()),
                detail: String::new(),
            },
        },
        Record::WorkspaceHealed {
            healing: "20251123T013456Z-000012".into(),
            planned_at: at(-9),
            trigger: HealingTrigger::Request,
            by: Some("ada".into()),
            undoes: None,
            end: HealingEnd::Finished,
            changes: 1,
            applied: 1,
        },
        Record::HoldEnded { source: PolicySource::Operator, subject: "database".into(), by: None, reason: None },
        latched(),
        release("ada", "checked by hand"),
    ]
}

pub(super) fn kind<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> StoreErrorKind {
    answer.expect_err("a refusal").kind
}

async fn acquire(store: &Arc<dyn JournalStore>) -> Recovered {
    store.acquire("1f", at(0)).await.unwrap()
}

async fn accepted_alerts_survive(factory: &mut impl Factory) {
    let store = factory.open().await;
    store.accept(vec![alert(1), alert(2)]).await.unwrap();
    store.accept(Vec::new()).await.unwrap();
    store.accept(vec![alert(3)]).await.unwrap();
    drop(store);

    let store = factory.open().await;
    let expected: Vec<_> = (1..=3).map(|number| (number, alert(number))).collect();
    assert_eq!(store.pending(0, 10).await.unwrap(), expected);
    assert_eq!(store.pending(0, 2).await.unwrap(), expected[..2]);
    assert_eq!(store.pending(2, 2).await.unwrap(), expected[2..]);
    assert_eq!(store.pending(u64::MAX, 2).await.unwrap(), []);
    let epoch = acquire(&store).await.epoch;
    store.commit(epoch, at(1), vec![taken(1), taken(2), taken(3)]).await.unwrap();
    assert_eq!(store.pending(0, 10).await.unwrap(), []);
    drop(store);

    let store = factory.open().await;
    store.accept(vec![alert(4)]).await.unwrap();
    assert_eq!(store.pending(0, 10).await.unwrap(), [(4, alert(4))], "a number is never used again");
}

async fn many_accept_at_once(factory: &mut impl Factory) {
    let store = factory.open().await;
    let one = |number: u64| {
        let store = store.clone();
        async move { store.accept(vec![alert(2 * number), alert(2 * number + 1)]).await }
    };
    let mut answers = Vec::new();
    let mut waiting: Vec<_> = (0..64).map(one).map(Box::pin).collect();
    // All are polled before any is awaited to its end, so that they are queued together.
    std::future::poll_fn(|context| {
        waiting.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert!(answers.iter().all(Result::is_ok));
    drop(waiting);
    drop(store);

    let pending = factory.open().await.pending(0, 1000).await.unwrap();
    assert_eq!(pending.iter().map(|(id, _)| *id).collect::<Vec<_>>(), (1..=128).collect::<Vec<_>>());
    for pair in pending.chunks(2) {
        let first = u64::from_str_radix(&pair[0].1.fingerprint, 16).unwrap();
        assert_eq!((&pair[0].1, &pair[1].1), (&alert(first), &alert(first + 1)), "a request was torn apart");
    }
}

async fn entries_survive_bit_for_bit(factory: &mut impl Factory) {
    let store = factory.open().await;
    let epoch = acquire(&store).await.epoch;
    let mut expected = Vec::new();
    for (place, record) in every_kind().into_iter().enumerate() {
        let now = at(i64::try_from(place).unwrap() * 7);
        let seq = store.commit(epoch, now, vec![record.clone()]).await.unwrap();
        assert_eq!(seq, place as u64 + 1);
        expected.push(Entry { seq, at: now, record });
    }
    let last = expected.len() as u64;
    assert_eq!(store.commit(epoch, at(0), Vec::new()).await.unwrap(), last);
    drop(store);

    let store = factory.open().await;
    let recovered = acquire(&store).await;
    assert_eq!(recovered.snapshot, None);
    assert_eq!(recovered.entries, expected);
    assert_eq!(store.history(0, 1000).await.unwrap(), expected);
    assert_eq!(store.commit(recovered.epoch, at(0), vec![latched()]).await.unwrap(), last + 1);
}

async fn a_stale_epoch_is_fenced(factory: &mut impl Factory) {
    let store = factory.open().await;
    assert_eq!(kind(store.commit(Epoch(1), at(0), vec![latched()]).await), StoreErrorKind::Fenced);
    let old = acquire(&store).await.epoch;
    store.commit(old, at(0), vec![intended(1)]).await.unwrap();
    drop(store);

    let store = factory.open().await;
    let new = acquire(&store).await.epoch;
    assert!(new > old);
    for stale in [old, Epoch(0), Epoch(new.0 + 1)] {
        assert_eq!(kind(store.commit(stale, at(0), vec![intended(2)]).await), StoreErrorKind::Fenced);
        assert_eq!(kind(store.commit(stale, at(0), Vec::new()).await), StoreErrorKind::Fenced);
        assert_eq!(kind(store.snapshot(stale, 1, b"{}".to_vec(), 0).await), StoreErrorKind::Fenced);
    }
    assert_eq!(store.history(0, 10).await.unwrap().len(), 1);
    assert_eq!(store.commit(new, at(0), vec![intended(2)]).await.unwrap(), 2);
}

async fn runs_move_along_the_table(factory: &mut impl Factory) {
    let store = factory.open().await;
    let epoch = acquire(&store).await.epoch;
    store.accept(vec![alert(1)]).await.unwrap();
    store.commit(epoch, at(0), vec![intended(1), moved(1, RunState::Started)]).await.unwrap();
    let bad = [
        vec![intended(2), intended(1)],
        vec![intended(2), intended(2)],
        vec![intended(2), moved(2, RunState::Finished)],
        vec![intended(2), moved(3, RunState::Started)],
        vec![taken(1), hold(PolicySource::Alert, "database", Level::NoNewTrades), moved(1, RunState::Verified)],
    ];
    for records in bad {
        assert_eq!(kind(store.commit(epoch, at(0), records).await), StoreErrorKind::Conflict);
    }
    assert_eq!(store.history(0, 10).await.unwrap().len(), 2, "a refused batch left an entry");
    assert_eq!(store.pending(0, 10).await.unwrap().len(), 1, "a refused batch took an alert");
    let mild = hold(PolicySource::Alert, "database", Level::SafeRiskProfile);
    assert_eq!(store.tighten(at(0), vec![mild]).await.unwrap(), 3, "a refused batch left its hold");
    assert_eq!(store.commit(epoch, at(0), vec![intended(2)]).await.unwrap(), 4, "a refused batch left its run");
}

async fn every_move_is_as_the_table_says(factory: &mut impl Factory) {
    let store = factory.open().await;
    let epoch = acquire(&store).await.epoch;
    let path = |state| match state {
        RunState::Intended => vec![],
        RunState::Started => vec![RunState::Started],
        RunState::Finished => vec![RunState::Started, RunState::Finished],
        RunState::Verified => vec![RunState::Started, RunState::Finished, RunState::Verified],
        RunState::Cancelled => vec![RunState::Cancelled],
        RunState::Indeterminate => vec![RunState::Started, RunState::Indeterminate],
    };
    let mut number = 0;
    for from in STATES {
        for to in STATES {
            number += 1;
            let mut way = vec![intended(number)];
            way.extend(path(from).into_iter().map(|state| moved(number, state)));
            store.commit(epoch, at(0), way).await.unwrap();
            let answer = store.commit(epoch, at(0), vec![moved(number, to)]).await;
            assert_eq!(answer.is_ok(), crate::journal::is_legal(from, to), "{from:?} to {to:?}");
            if let Err(error) = answer {
                assert_eq!(error.kind, StoreErrorKind::Conflict);
            }
        }
    }
}

/// Every audited record of a commit has its line, in order and chained; a commit that is refused leaves none.
async fn the_audit_follows_the_commits(factory: &mut impl Factory) {
    let store = factory.open().await;
    let epoch = acquire(&store).await.epoch;
    store.commit(epoch, at(0), vec![intended(1), moved(1, RunState::Started)]).await.unwrap();
    assert_eq!(kind(store.commit(epoch, at(1), vec![latched(), intended(1)]).await), StoreErrorKind::Conflict);
    store.tighten(at(2), vec![latched()]).await.unwrap();
    store.commit(epoch, at(3), vec![release("ada", "checked"), taken(1)]).await.unwrap();
    let lines = store.audit(0, 100).await.unwrap();
    let told: Vec<_> = lines.iter().map(|line| (line.number, line.actor.as_str(), line.event.as_str())).collect();
    let itself = "chiron";
    assert_eq!(
        told,
        [(1, itself, "run_intended"), (2, itself, "run_started"), (3, itself, "latched"), (4, "ada", "latch_released")]
    );
    assert_eq!(lines[3].detail.get("reason").and_then(|reason| reason.as_str()), Some("checked"));
    let end = follow((0, AuditEntry::START.to_owned()), &lines).expect("a whole chain");
    assert_eq!(store.audit(2, 1).await.unwrap(), lines[2..3]);
    assert!(store.audit(4, 10).await.unwrap().is_empty());
    drop(store);

    let store = factory.open().await;
    let epoch = acquire(&store).await.epoch;
    store.commit(epoch, at(4), vec![latched()]).await.unwrap();
    let more = store.audit(4, 10).await.unwrap();
    assert_eq!(follow(end, &more).expect("it goes on after a restart").0, 5);
}

async fn tightening_only_tightens(factory: &mut impl Factory) {
    use PolicySource::{Alert, Blindness};
    let store = factory.open().await;
    store.tighten(at(0), vec![hold(Alert, "host", Level::SafeRiskProfile)]).await.unwrap();
    let epoch = acquire(&store).await.epoch;
    let refused = [
        vec![hold(Alert, "host", Level::SafeRiskProfile)],
        vec![hold(Alert, "host", Level::AllowAll)],
        vec![hold(Blindness, "host", Level::AllowAll)],
        vec![hold(Alert, "host", Level::NoNewTrades), hold(Alert, "host", Level::SafeRiskProfile)],
        vec![Record::HoldEnded { source: Alert, subject: "host".into(), by: None, reason: None }],
        vec![release("ada", "checked")],
        vec![latched(), intended(1)],
        vec![taken(1)],
    ];
    for records in refused {
        assert_eq!(kind(store.tighten(at(0), records).await), StoreErrorKind::Conflict);
    }
    assert_eq!(store.history(0, 10).await.unwrap().len(), 1);
    drop(store);

    let store = factory.open().await;
    let rising = vec![hold(Alert, "host", Level::NoNewTrades), hold(Alert, "host", Level::DefensiveExit), latched()];
    assert_eq!(store.tighten(at(0), rising).await.unwrap(), 4);
    store.tighten(at(0), vec![hold(Blindness, "host", Level::SafeRiskProfile)]).await.unwrap();
    // With the epoch a source may also relax, and then rise again from there.
    store.commit(epoch, at(0), vec![hold(Alert, "host", Level::SafeRiskProfile)]).await.unwrap();
    store.tighten(at(0), vec![hold(Alert, "host", Level::NoNewTrades)]).await.unwrap();
    store
        .commit(epoch, at(0), vec![Record::HoldEnded { source: Alert, subject: "host".into(), by: None, reason: None }])
        .await
        .unwrap();
    store.tighten(at(0), vec![hold(Alert, "host", Level::SafeRiskProfile)]).await.unwrap();
}

async fn the_latch_is_released_by_a_person(factory: &mut impl Factory) {
    let store = factory.open().await;
    let epoch = acquire(&store).await.epoch;
    assert_eq!(store.tighten(at(0), vec![latched()]).await.unwrap(), 1);
    for (by, reason) in [("", "checked"), ("ada", ""), (" ", "checked"), ("ada", "\t")] {
        assert_eq!(kind(store.commit(epoch, at(0), vec![release(by, reason)]).await), StoreErrorKind::Conflict);
    }
    drop(store);
    let store = factory.open().await;
    let epoch = acquire(&store).await.epoch;
    assert_eq!(kind(store.commit(epoch, at(0), vec![release("", "")]).await), StoreErrorKind::Conflict);
    assert_eq!(store.commit(epoch, at(0), vec![release("ada", "checked"), latched()]).await.unwrap(), 3);
    assert_eq!(store.commit(epoch, at(0), vec![latched(), release("ada", "checked")]).await.unwrap(), 5);
}

async fn snapshots_shorten_replay(factory: &mut impl Factory) {
    let store = factory.open().await;
    let epoch = acquire(&store).await.epoch;
    assert_eq!(kind(store.snapshot(epoch, 1, b"{}".to_vec(), 9).await), StoreErrorKind::Conflict);
    store.snapshot(epoch, 0, b"empty".to_vec(), 9).await.unwrap();
    for number in 1..=6 {
        store.commit(epoch, at(0), vec![intended(number)]).await.unwrap();
    }
    store.snapshot(epoch, 4, b"four".to_vec(), 9).await.unwrap();
    assert_eq!(kind(store.snapshot(epoch, 3, b"three".to_vec(), 9).await), StoreErrorKind::Conflict);
    store.snapshot(epoch, 4, vec![0xff, 0, 1], 9).await.unwrap();
    drop(store);

    let store = factory.open().await;
    let recovered = acquire(&store).await;
    assert_eq!(recovered.snapshot, Some((4, vec![0xff, 0, 1])));
    assert_eq!(recovered.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(store.history(0, 10).await.unwrap().len(), 6, "entries stay for history");
    store.snapshot(recovered.epoch, 6, b"six".to_vec(), 9).await.unwrap();
    let recovered = acquire(&store).await;
    assert_eq!((recovered.snapshot, recovered.entries), (Some((6, b"six".to_vec())), Vec::new()));
}

async fn pruning_keeps_what_is_asked_for(factory: &mut impl Factory) {
    let store = factory.open().await;
    let mut epoch = acquire(&store).await.epoch;
    for number in 1..=20 {
        store.commit(epoch, at(0), vec![intended(number)]).await.unwrap();
    }
    let first = |entries: Vec<Entry>| entries.first().map(|entry| entry.seq);
    store.snapshot(epoch, 10, b"ten".to_vec(), 15).await.unwrap();
    assert_eq!(first(store.history(0, 99).await.unwrap()), Some(6), "the newest fifteen stay");
    store.snapshot(epoch, 12, b"twelve".to_vec(), 2).await.unwrap();
    assert_eq!(first(store.history(0, 99).await.unwrap()), Some(11), "what follows the older snapshot stays");
    store.snapshot(epoch, 20, b"twenty".to_vec(), 0).await.unwrap();
    assert_eq!(first(store.history(0, 99).await.unwrap()), Some(13));
    assert_eq!(kind(store.snapshot(epoch, 12, b"late".to_vec(), 0).await), StoreErrorKind::Conflict);
    drop(store);

    let mut store = factory.open().await;
    for round in 0..2 {
        let recovered = acquire(&store).await;
        assert_eq!((recovered.snapshot, recovered.entries), (Some((20, b"twenty".to_vec())), Vec::new()));
        epoch = recovered.epoch;
        if round == 0 {
            store.snapshot(epoch, 20, b"twenty".to_vec(), 0).await.unwrap();
            drop(store);
            store = factory.open().await;
        }
    }
    assert_eq!(store.commit(epoch, at(0), vec![intended(21)]).await.unwrap(), 21);
    store.snapshot(epoch, 21, b"last".to_vec(), 0).await.unwrap();
    store.snapshot(epoch, 21, b"last".to_vec(), 0).await.unwrap();
    drop(store);
    let store = factory.open().await;
    let recovered = acquire(&store).await;
    assert_eq!((recovered.snapshot, recovered.entries), (Some((21, b"last".to_vec())), Vec::new()));
    assert_eq!(store.commit(recovered.epoch, at(0), vec![intended(22)]).await.unwrap(), 22);
}

async fn run_keys_outlive_pruning(factory: &mut impl Factory) {
    let store = factory.open().await;
    let epoch = acquire(&store).await.epoch;
    store.commit(epoch, at(0), vec![intended(1), moved(1, RunState::Cancelled), intended(2)]).await.unwrap();
    store.snapshot(epoch, 2, b"{}".to_vec(), 2).await.unwrap();
    assert_eq!(kind(store.commit(epoch, at(0), vec![intended(1)]).await), StoreErrorKind::Conflict);
    store.snapshot(epoch, 3, b"{}".to_vec(), 0).await.unwrap();
    // Run 1 has ended and all its entries are gone; run 2 is open, whatever became of its entry.
    assert_eq!(store.commit(epoch, at(0), vec![intended(1)]).await.unwrap(), 4);
    store.snapshot(epoch, 4, b"{}".to_vec(), 0).await.unwrap();
    store.snapshot(epoch, 4, b"{}".to_vec(), 0).await.unwrap();
    assert_eq!(kind(store.commit(epoch, at(0), vec![intended(2)]).await), StoreErrorKind::Conflict);
    assert_eq!(store.commit(epoch, at(0), vec![moved(2, RunState::Started)]).await.unwrap(), 5);
}

async fn history_is_paged(factory: &mut impl Factory) {
    let store = factory.open().await;
    let epoch = acquire(&store).await.epoch;
    store.commit(epoch, at(0), (1..=7).map(intended).collect()).await.unwrap();
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = store.history(after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 3);
        after = last.seq;
        seen.extend(page.into_iter().map(|entry| entry.seq));
    }
    assert_eq!(seen, (1..=7).collect::<Vec<_>>());
    assert_eq!(store.history(0, 0).await.unwrap(), []);
    assert_eq!(store.history(u64::MAX, 3).await.unwrap(), []);
}

async fn a_probe_leaves_no_entry(factory: &mut impl Factory) {
    let store = factory.open().await;
    store.probe(at(0)).await.unwrap();
    store.probe(at(0)).await.unwrap();
    assert_eq!(store.history(0, 10).await.unwrap(), []);
}

#[tokio::test]
async fn open_follows_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/chiron.db");
    for settings in [Settings::Memory, Settings::Sqlite(path.clone())] {
        let store = super::open(&settings).await.unwrap();
        store.accept(vec![alert(1)]).await.unwrap();
        assert_eq!(store.pending(0, 9).await.unwrap().len(), 1);
    }
    assert!(path.is_file());
}

/// One call of a random sequence.
#[derive(Clone, Debug)]
enum Op {
    Reopen,
    Acquire,
    Accept(Vec<u64>),
    Pending(u64, usize),
    Commit { stale: bool, records: Vec<Record> },
    Tighten(Vec<Record>),
    Snapshot { back: u64, keep: u64 },
    History(u64, usize),
    Probe,
}

fn any_record() -> impl Strategy<Value = Record> {
    let level = prop::sample::select(Level::ALL.to_vec());
    let source = prop::sample::select(vec![PolicySource::Alert, PolicySource::Operator]);
    let subject = prop::sample::select(vec!["host", "database"]);
    prop_oneof![
        4 => (1..6_u32).prop_map(intended),
        8 => (1..6_u32, prop::sample::select(STATES.to_vec())).prop_map(|(number, to)| moved(number, to)),
        1 => (1..6_u32).prop_map(|number| Record::RunResumed { key: key(number) }),
        3 => (source.clone(), subject.clone(), level).prop_map(|(source, subject, level)| hold(source, subject, level)),
        1 => (source, subject).prop_map(|(source, subject)| Record::HoldEnded { source, subject: subject.into(), by: None, reason: None }),
        1 => Just(latched()),
        1 => prop::sample::select(vec!["", "ada"]).prop_map(|by| release(by, "checked")),
        2 => (1..9_u64).prop_map(taken),
        1 => prop::sample::select(every_kind()),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let records = || prop::collection::vec(any_record(), 0..4);
    prop_oneof![
        1 => Just(Op::Reopen),
        1 => Just(Op::Acquire),
        3 => prop::collection::vec(0..50_u64, 0..4).prop_map(Op::Accept),
        1 => (0..9_u64, 0..5_usize).prop_map(|(after, limit)| Op::Pending(after, limit)),
        9 => (prop::bool::weighted(0.1), records()).prop_map(|(stale, records)| Op::Commit { stale, records }),
        3 => records().prop_map(Op::Tighten),
        2 => (0..4_u64, 0..9_u64).prop_map(|(back, keep)| Op::Snapshot { back, keep }),
        1 => (0..20_u64, 0..9_usize).prop_map(|(after, limit)| Op::History(after, limit)),
        1 => Just(Op::Probe),
    ]
}

/// Runs a sequence and tells everything that could be observed, the recovered journal last.
async fn told(factory: &mut impl Factory, ops: &[Op]) -> Vec<String> {
    let mut store = factory.open().await;
    let (mut epoch, mut last) = (Epoch(0), 0_u64);
    let mut told = Vec::new();
    for (step, op) in ops.iter().enumerate() {
        let now = at(i64::try_from(step).unwrap());
        told.push(match op.clone() {
            Op::Reopen => {
                drop(store);
                store = factory.open().await;
                String::new()
            }
            Op::Acquire => {
                let recovered = store.acquire("1f", now).await.unwrap();
                epoch = recovered.epoch;
                format!("{recovered:?}")
            }
            Op::Accept(numbers) => say(store.accept(numbers.into_iter().map(alert).collect()).await),
            Op::Pending(after, limit) => say(store.pending(after, limit).await),
            Op::Commit { stale, records } => {
                let answer = store.commit(Epoch(epoch.0 + u64::from(stale)), now, records).await;
                last = *answer.as_ref().unwrap_or(&last);
                say(answer)
            }
            Op::Tighten(records) => {
                let answer = store.tighten(now, records).await;
                last = *answer.as_ref().unwrap_or(&last);
                say(answer)
            }
            Op::Snapshot { back, keep } => {
                let state = format!("state {step}").into_bytes();
                say(store.snapshot(epoch, last.saturating_sub(back), state, keep).await)
            }
            Op::History(after, limit) => say(store.history(after, limit).await),
            Op::Probe => say(store.probe(now).await),
        });
    }
    drop(store);
    let store = factory.open().await;
    told.push(format!("{:?}", store.acquire("2f", at(0)).await.unwrap()));
    told.push(say(store.history(0, 1000).await));
    told.push(say(store.pending(0, 1000).await));
    told
}

fn say<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(error) => format!("{:?}: {}", error.kind, error.context),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Any sequence of calls has the same answers, refusals word for word, and the same recovered journal on both
    /// stores.
    #[test]
    fn stores_agree(ops in prop::collection::vec(any_op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (left, right) = runtime.block_on(async { (told(&mut memory(), &ops).await, told(&mut sqlite(), &ops).await) });
        for (step, (left, right)) in left.iter().zip(&right).enumerate() {
            prop_assert_eq!(left, right, "step {}: {:?}", step, ops.get(step));
        }
    }
}
