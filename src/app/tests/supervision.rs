//! The decision task when it dies and is started anew in the same process, as `lifecycle` does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::sim::rules;
use crate::app::board::{Board, View};
use crate::app::cycle::{Cycle, Rules};
use crate::app::executor::Executor;
use crate::app::report::policy_document;
use crate::app::task::{Decider, Event, Journal, Memory, Shared};
use crate::app::tasks::{Home, Lent, TaskEnd, Tasks};
use crate::base::clock::Clock;
use crate::execute::{Actuator, Answer, Order, ProbeAnswer};
use crate::journal::{AuditEntry, Entry, Epoch, JournalStore, Record, Recovered, State, StoreError};
use crate::model::{
    AlertStatus, Class, Criticality, Health, IntakeAlert, Level, Means, PolicyDocument, RunState, Status, Summary,
    Timestamp,
};
use crate::observe::Observation;
use crate::observe::resources::ResourceReader;
use crate::observe::runner::Runner;
use crate::store::MemoryStore;
use crate::telemetry::metrics::Metrics;

const START: Timestamp = Timestamp::from_millis(1_763_861_696_000);

/// A store in which the decision task panics at a commit: before it is done, or right after.
struct Deadly {
    inner: MemoryStore,
    /// Commits until the next panic; none below zero. An even number dies before the commit.
    left: AtomicI64,
}

impl Deadly {
    fn strikes(&self, after: bool) -> bool {
        let left = self.left.load(Ordering::SeqCst);
        left >= 0 && left / 2 == 0 && (left % 2 == 1) == after
    }
}

#[async_trait]
impl JournalStore for Deadly {
    async fn acquire(&self, incarnation: &str, now: Timestamp) -> Result<Recovered, StoreError> {
        self.inner.acquire(incarnation, now).await
    }
    async fn accept(&self, alerts: Vec<IntakeAlert>) -> Result<(), StoreError> {
        self.inner.accept(alerts).await
    }
    async fn pending(&self, after: u64, limit: usize) -> Result<Vec<(u64, IntakeAlert)>, StoreError> {
        self.inner.pending(after, limit).await
    }
    async fn commit(&self, epoch: Epoch, at: Timestamp, records: Vec<Record>) -> Result<u64, StoreError> {
        if self.strikes(false) {
            self.left.store(-1, Ordering::SeqCst);
            panic!("before the commit");
        }
        let done = self.inner.commit(epoch, at, records).await;
        if self.strikes(true) {
            self.left.store(-1, Ordering::SeqCst);
            panic!("after the commit");
        }
        let _ = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| (left >= 2).then(|| left - 2));
        done
    }
    async fn tighten(&self, at: Timestamp, records: Vec<Record>) -> Result<u64, StoreError> {
        self.inner.tighten(at, records).await
    }
    async fn snapshot(&self, epoch: Epoch, seq: u64, state: Vec<u8>, keep: u64) -> Result<(), StoreError> {
        self.inner.snapshot(epoch, seq, state, keep).await
    }
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.inner.audit(after, limit).await
    }
    async fn history(&self, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.inner.history(after, limit).await
    }
    async fn probe(&self, now: Timestamp) -> Result<(), StoreError> {
        self.inner.probe(now).await
    }
}

/// Everything that outlives a decision task.
struct Process {
    rules: Rules,
    store: Arc<Deadly>,
    clock: Clock,
    shared: Arc<Shared>,
    tasks: Tasks,
    ends: mpsc::Receiver<TaskEnd>,
    events: Home<mpsc::Receiver<Event>>,
    executor: Executor,
    policy: watch::Sender<Arc<PolicyDocument>>,
    observed: mpsc::Sender<Vec<Observation>>,
    stop: CancellationToken,
}

impl Process {
    fn new(rules: Rules) -> Self {
        let clock = Clock::manual(START);
        let document = Arc::new(policy_document(&State::default(), &rules, 0, clock.now()));
        let view = View {
            at: Timestamp::EPOCH,
            state: State::default(),
            rules: Arc::new(rules.clone()),
            overall: Status::Unknown,
            summary: Summary::default(),
            started_up: false,
            resources: None,
            forecasts: crate::model::Forecasts::new(),
            waiting: imbl::OrdMap::new(),
            policy: Arc::clone(&document),
            blind: Vec::new(),
            dry_run: false,
            stormy: false,
            hooks: Vec::new(),
            workspace_seen: false,
        };
        let shared = Arc::new(Shared {
            board: arc_swap::ArcSwap::from_pointee(Board::new(view)),
            intake: Notify::new(),
            backlog: AtomicU64::new(0),
            metrics: Arc::new(Metrics::new(&[], &[], &[])),
        });
        let (tasks, ends) = Tasks::new(CancellationToken::new());
        let (events, events_in) = mpsc::channel(64);
        let executor = Executor::new(tasks.clone(), events, 0);
        let store = Arc::new(Deadly { inner: MemoryStore::new(), left: AtomicI64::new(-1) });
        let (policy, observed) = (watch::channel(document).0, mpsc::channel(1).0);
        let (events, stop) = (Home::new(events_in), CancellationToken::new());
        Self { rules, store, clock, shared, tasks, ends, events, executor, policy, observed, stop }
    }

    async fn start(&mut self, memory: Memory, prepare: impl FnOnce(&mut Cycle)) {
        let recovered = self.store.acquire("2a", self.clock.now()).await.expect("a memory store is there");
        let state = State::default().replay(&recovered.entries).expect("the journal is legal");
        let (_, runner) =
            Runner::new(Vec::new(), ResourceReader::new(Vec::new()), Duration::from_secs(5), self.clock.clone(), 1);
        let (observed, observations) = mpsc::channel(64);
        self.observed = observed;
        let mut cycle = Cycle::new(self.rules.clone(), self.clock.now());
        prepare(&mut cycle);
        let decider = Decider {
            cycle,
            state,
            journal: Journal::Open(Arc::clone(&self.store) as Arc<dyn JournalStore>, recovered.epoch),
            clock: self.clock.clone(),
            shared: Arc::clone(&self.shared),
            executor: self.executor.for_epoch(recovered.epoch.0),
            runner,
            observations,
            events: self.events.lend().expect("the events are back from whoever had them"),
            policy: self.policy.clone(),
            operator: mpsc::channel(64).0,
            sequence: self.policy.borrow().sequence.max(recovered.epoch.0 << 32),
            instance: Record::InstanceStarted { incarnation: "2a".to_owned(), version: "0".to_owned(), dry_run: false },
            memory,
        };
        let until = self.stop.clone();
        self.tasks.spawn("decider", async move { decider.run(until, Duration::ZERO).await });
    }

    /// Lets a second pass; whether the decision task died in it.
    async fn second(&mut self) -> bool {
        self.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.ends.try_recv().is_ok_and(|end| end.panicked)
    }

    async fn alert(&self, subsystem: &str) {
        let alert = IntakeAlert {
            received_at: self.clock.now(),
            receiver: "chiron".into(),
            status: AlertStatus::Firing,
            fingerprint: format!("fp-{subsystem}").into(),
            labels: [("alertname".to_owned(), format!("{subsystem}_down"))].into(),
            annotations: std::collections::BTreeMap::new(),
            starts_at: self.clock.now(),
            ends_at: None,
            truncated: false,
        };
        self.store.accept(vec![alert]).await.expect("a memory store takes it");
        self.shared.intake.notify_one();
    }

    async fn observe(&self, status: Status) {
        let all = self.rules.subsystems.iter().enumerate().map(|(index, subsystem)| {
            let health = Health { status, timestamp: self.clock.now(), ..Health::unknown(subsystem.name.clone()) };
            Observation::Health { index, health }
        });
        self.observed.send(all.collect()).await.expect("the decision task listens");
    }

    fn view(&self) -> Arc<View> {
        self.shared.board.load().view.load_full()
    }
}

/// Something lent comes home whether its holder returns, panics or is cut off.
#[tokio::test]
async fn what_is_lent_comes_home() {
    let (tasks, mut ends) = Tasks::new(CancellationToken::new());
    let home = Home::new(7);
    for way in ["returns", "panics", "is cut off"] {
        let mut lent: Lent<i32> = home.lend().expect(way);
        assert!(home.lend().is_none(), "{way}");
        let spawned = tasks.spawn("holder", async move {
            *lent += 1;
            match way {
                "panics" => panic!("as it should"),
                "is cut off" => std::future::pending().await,
                _ => {}
            }
        });
        tokio::task::yield_now().await;
        if way == "is cut off" {
            spawned.abort.abort();
        }
        let end = ends.recv().await.expect("its end is told");
        assert_eq!((end.id, end.panicked), (spawned.id, way == "panics"));
    }
    assert_eq!(*home.lend().expect("it is home"), 10);
}

/// Invariants 1, 5 and 8: the decision task panics before or after any commit of a story, and its successor takes over:
/// every accepted alert is taken once, what is believed is what is written, no effect is begun twice, and the published
/// sequence never falls.
#[tokio::test(start_paused = true)]
async fn a_successor_loses_nothing() {
    let mut deaths = 0;
    for strike in 0..28 {
        let parts = [("feed", Criticality::Full, &[][..]), ("db", Criticality::Partial, &[])];
        let mut process = Process::new(rules(&parts, &[("restart_subsystem", "db", Class::OneShot)]));
        process.start(Memory::default(), |_| {}).await;
        process.second().await;
        process.store.left.store(strike, Ordering::SeqCst);
        let (mut alive, mut sequence, mut level) = (true, 0, Level::AllowAll);
        for second in 0..40 {
            if alive && second % 5 == 1 {
                process.alert(["feed", "db"][second / 5 % 2]).await;
            }
            if alive {
                process.observe(Status::Critical).await;
            }
            if process.second().await {
                deaths += 1;
                let seen = process.view();
                process.start(Memory::anew(false), |_| {}).await;
                process.second().await;
                assert!(process.view().policy.policy >= seen.policy.policy, "strike {strike}: never looser");
            }
            alive = !process.stop.is_cancelled();
            let policy = process.policy.borrow().clone();
            assert!(policy.sequence >= sequence, "strike {strike}");
            (sequence, level) = (policy.sequence, level.max(policy.policy));
        }
        assert_eq!(level, Level::DefensiveExit, "strike {strike}: a critical feed");
        process.stop.cancel();
        process.tasks.ended().await;
        let entries = process.store.history(0, 10_000).await.expect("a memory store tells");
        let replayed = State::default().replay(&entries).expect("the journal is legal");
        let believed = process.view().state.clone();
        assert!(replayed == believed, "strike {strike}: what is believed is what is written");
        assert_eq!(replayed.totals.alerts, 8, "strike {strike}: every accepted alert, once");
        let begun = |entry: &&Entry| matches!(entry.record, Record::RunStarted { .. } | Record::RunResumed { .. });
        let keys: Vec<String> = entries.iter().filter(begun).map(|entry| format!("{:?}", entry.record)).collect();
        let mut once = keys.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), keys.len(), "strike {strike}: {keys:?}");
    }
    assert!(deaths >= 14, "the store struck: {deaths}");
}

/// POL-3, POL-4: what an earlier decision task held without the journal knowing is held by its successor from its first
/// publication, until every check has answered and the hold has had its time.
#[tokio::test(start_paused = true)]
async fn a_successor_is_no_looser() {
    let mut process = Process::new(rules(&[("db", Criticality::Partial, &[])], &[]));
    let wary = |cycle: &mut Cycle| {
        cycle.set_blind_floor(Level::DefensiveExit);
        cycle.set_blind("decider", Some("an earlier one held it".to_owned()));
    };
    process.start(Memory::anew(true), wary).await;
    process.second().await;
    assert_eq!(process.view().policy.policy, Level::DefensiveExit);
    for _ in 0..30 {
        process.observe(Status::Healthy).await;
        process.second().await;
        assert_eq!(process.view().policy.policy, Level::DefensiveExit, "it has its time");
    }
    for _ in 0..60 {
        process.observe(Status::Healthy).await;
        process.second().await;
    }
    assert_eq!(process.view().policy.policy, Level::AllowAll);
    process.stop.cancel();
}

/// An actuator that panics.
struct Broken;

#[async_trait]
impl Actuator for Broken {
    fn means(&self) -> Means {
        Means::Internal
    }
    async fn apply(&self, _: &Order) -> Answer {
        panic!("an invariant of ours")
    }
    async fn probe(&self, _: &Order) -> ProbeAnswer {
        ProbeAnswer::AskCheck
    }
    async fn preflight(&self) -> Vec<String> {
        Vec::new()
    }
    fn describe(&self) -> String {
        "broken".to_owned()
    }
}

/// ACT-3, POL-4: a means that panics ends healing until the workers are restarted: it is told, the policy tightens, and
/// no further run is begun though an issue calls for it.
#[tokio::test(start_paused = true)]
async fn a_panic_while_executing_ends_healing() {
    let parts = [("db", Criticality::None, &[][..]), ("cache", Criticality::None, &[])];
    let mut rules =
        rules(&parts, &[("restart_subsystem", "db", Class::OneShot), ("restart_subsystem", "cache", Class::OneShot)]);
    for binding in rules.bindings.values_mut() {
        *binding = Arc::new(crate::execute::Binding { actuator: Arc::new(Broken), ..(**binding).clone() });
    }
    let mut process = Process::new(rules);
    process.start(Memory::default(), |_| {}).await;
    process.observe(Status::Healthy).await;
    process.second().await;
    process.alert("db").await;
    process.second().await;
    process.second().await;
    assert!(process.view().blind.iter().any(|(condition, _)| condition == "actuator_panicked"));
    assert!(process.view().policy.policy >= Level::NoNewTrades);
    process.alert("cache").await;
    for _ in 0..5 {
        process.second().await;
    }
    let view = process.view();
    assert_eq!((view.state.totals.alerts, view.state.totals.runs), (2, 1), "taken, and nothing begun");
    assert!(view.state.ended_runs.iter().all(|run| run.state == RunState::Verified));
    process.stop.cancel();
}

/// An actuator that takes its time, and counts how often it was begun.
#[derive(Default)]
struct Slow(AtomicU64);

#[async_trait]
impl Actuator for Slow {
    fn means(&self) -> Means {
        Means::Internal
    }
    async fn apply(&self, _: &Order) -> Answer {
        self.0.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(8)).await;
        Answer::new(crate::model::Ending::Ok, "done")
    }
    async fn probe(&self, _: &Order) -> ProbeAnswer {
        ProbeAnswer::AskCheck
    }
    async fn preflight(&self) -> Vec<String> {
        Vec::new()
    }
    fn describe(&self) -> String {
        "slow".to_owned()
    }
}

/// ACT-3: an effect that is at work in the process while the decision task dies is not begun a second time beside
/// itself, though its class would permit it; its answer reaches the successor.
#[tokio::test(start_paused = true)]
async fn an_effect_at_work_is_not_begun_again() {
    let parts = [("db", Criticality::Partial, &[][..]), ("cache", Criticality::None, &[])];
    let mut rules = rules(&parts, &[("restart_subsystem", "db", Class::Natural)]);
    let slow = Arc::new(Slow::default());
    for binding in rules.bindings.values_mut() {
        let actuator = Arc::clone(&slow) as Arc<dyn Actuator>;
        *binding = Arc::new(crate::execute::Binding { actuator, ..(**binding).clone() });
    }
    let mut process = Process::new(rules);
    process.start(Memory::default(), |_| {}).await;
    process.observe(Status::Healthy).await;
    process.second().await;
    process.alert("db").await;
    process.second().await;
    assert_eq!(slow.0.load(Ordering::SeqCst), 1, "it is at work");
    process.store.left.store(0, Ordering::SeqCst);
    process.alert("cache").await;
    assert!(process.second().await, "the decision task died");
    process.start(Memory::anew(false), |_| {}).await;
    for _ in 0..4 {
        process.observe(Status::Critical).await;
        process.second().await;
    }
    assert_eq!((slow.0.load(Ordering::SeqCst), process.view().state.executing), (1, 1), "still the first");
    for _ in 0..4 {
        process.second().await;
    }
    let entries = process.store.history(0, 1_000).await.expect("a memory store tells");
    let finished = entries.iter().filter(|entry| matches!(entry.record, Record::RunFinished { .. })).count();
    assert_eq!((slow.0.load(Ordering::SeqCst), finished), (1, 1), "its answer was heard");
    process.stop.cancel();
}
