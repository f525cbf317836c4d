//! The decision task itself, over a store that fails at random and a clock that is set.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::sim::rules;
use crate::app::board::{Board, View};
use crate::app::cycle::{Cycle, Rules};
use crate::app::executor::Executor;
use crate::app::report::policy_document;
use crate::app::task::{Decider, Event, Journal, Memory, Shared};
use crate::app::tasks::Tasks;
use crate::base::clock::Clock;
use crate::journal::{JournalStore, Record, State};
use crate::model::{AlertStatus, Criticality, IntakeAlert, Level, Status, Summary, Timestamp};
use crate::observe::check::{Check, Judgement, ScheduledCheck};
use crate::observe::resources::ResourceReader;
use crate::observe::runner::Runner;
use crate::store::MemoryStore;
use crate::telemetry::metrics::Metrics;

const START: Timestamp = Timestamp::from_millis(1_763_861_696_000);

/// A check that is never run here: the runner is not started.
struct Silent;

impl Check for Silent {
    type Reading = ();
    const KIND: &'static str = "silent";
    async fn read(&self) {}
    fn judge(&self, (): &(), _: Timestamp) -> Judgement {
        Judgement::new(Status::Healthy)
    }
}

struct Running {
    shared: Arc<Shared>,
    tasks: Tasks,
    stop: CancellationToken,
    _events: mpsc::Sender<Event>,
}

impl Running {
    fn view(&self) -> Arc<View> {
        self.shared.board.load().view.load_full()
    }

    fn is_blind(&self, condition: &str) -> bool {
        self.view().blind.iter().any(|(held, _)| held == condition)
    }

    async fn end(self) -> Arc<View> {
        self.stop.cancel();
        self.tasks.ended().await;
        self.view()
    }
}

/// The task over `store`, with as many checks as `parts` has, none of which ever answers.
async fn start(rules: Rules, store: Arc<dyn JournalStore>, clock: &Clock) -> Running {
    let recovered = loop {
        match store.acquire("2a", clock.now()).await {
            Ok(recovered) => break recovered,
            Err(error) => assert_ne!(error.kind, crate::journal::StoreErrorKind::Corrupt, "{error}"),
        }
    };
    let state = State::default().replay(&recovered.entries).expect("the journal is legal");
    let checks = rules
        .subsystems
        .iter()
        .map(|subsystem| ScheduledCheck {
            subsystem: subsystem.name.clone(),
            check: Arc::new(Silent),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
        })
        .collect();
    let (_, runner) = Runner::new(checks, ResourceReader::new(Vec::new()), Duration::from_secs(5), clock.clone(), 1);
    let (tasks, _) = Tasks::new(CancellationToken::new());
    let (events, events_in) = mpsc::channel(64);
    let (_observations, observations_in) = mpsc::channel(64);
    let (operator, _alerts) = mpsc::channel(64);
    let document = Arc::new(policy_document(&state, &rules, 0, clock.now()));
    let (policy, _) = watch::channel(Arc::clone(&document));
    let view = View {
        at: Timestamp::EPOCH,
        state: state.clone(),
        rules: Arc::new(rules.clone()),
        overall: Status::Unknown,
        summary: Summary::default(),
        started_up: false,
        resources: None,
        forecasts: crate::model::Forecasts::new(),
        waiting: imbl::OrdMap::new(),
        policy: document,
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
    let decider = Decider {
        cycle: Cycle::new(rules, clock.now()),
        state,
        journal: Journal::Open(store, recovered.epoch),
        clock: clock.clone(),
        shared: Arc::clone(&shared),
        executor: Executor::new(tasks.clone(), events.clone(), recovered.epoch.0),
        runner,
        observations: observations_in,
        events: events_in.into(),
        policy,
        operator,
        sequence: 0,
        instance: Record::InstanceStarted { incarnation: "2a".to_owned(), version: "0".to_owned(), dry_run: false },
        memory: Memory::default(),
    };
    let stop = CancellationToken::new();
    let until = stop.clone();
    tasks.spawn("decider", async move {
        let _observations = _observations;
        decider.run(until, Duration::ZERO).await;
    });
    Running { shared, tasks, stop, _events: events }
}

/// Lets `seconds` pass for the task and on the clock alike.
async fn pass(clock: &Clock, seconds: u64) {
    for _ in 0..seconds {
        clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// POL-4: a wall clock that jumps is said and tightens; after a minute without another jump it is over. Checks that do
/// not answer are said as well.
#[tokio::test(start_paused = true)]
async fn jumps_and_stalls_are_blindness() {
    let clock = Clock::manual(START);
    let store = Arc::new(MemoryStore::new());
    let running = start(rules(&[("feed", Criticality::Partial, &[])], &[]), store, &clock).await;
    pass(&clock, 3).await;
    assert!(!running.is_blind("clock_jump") && !running.is_blind("checks_stalled"));
    clock.jump(-6 * 3600 * 1000);
    pass(&clock, 2).await;
    assert!(running.is_blind("clock_jump"));
    assert!(running.view().state.level() >= Level::NoNewTrades);
    pass(&clock, 65).await;
    assert!(!running.is_blind("clock_jump"));
    assert!(running.is_blind("checks_stalled"), "no check has answered for more than a minute");
    running.end().await;
}

/// Invariants 1 and 5: over a store that fails at random, also leaving it open whether it has written, every accepted
/// alert is taken once, and what the task believes is what the journal says.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_at_random() {
    for seed in 0..40 {
        let clock = Clock::manual(START);
        let store = Arc::new(MemoryStore::with_faults(seed, 0.2));
        let rules = rules(&[("feed", Criticality::Partial, &[]), ("db", Criticality::Partial, &[])], &[]);
        let running = start(rules, Arc::clone(&store) as Arc<dyn JournalStore>, &clock).await;
        let mut accepted = 0;
        for number in 0..30 {
            let subsystem = ["feed", "db"][number % 2];
            let alert = IntakeAlert {
                received_at: clock.now(),
                receiver: "chiron".into(),
                status: if number % 5 == 4 { AlertStatus::Resolved } else { AlertStatus::Firing },
                fingerprint: format!("fp-{subsystem}").into(),
                labels: [("alertname".to_owned(), format!("{subsystem}_down"))].into(),
                annotations: std::collections::BTreeMap::new(),
                starts_at: clock.now(),
                ends_at: (number % 5 == 4).then(|| clock.now()),
                truncated: false,
            };
            accepted += u64::from(store.accept(vec![alert]).await.is_ok());
            running.shared.intake.notify_one();
            pass(&clock, 1).await;
        }
        // Until the journal has taken what was decided while it could not be written.
        for _ in 0..200 {
            pass(&clock, 1).await;
            let left = loop {
                if let Ok(left) = store.pending(running.view().state.intake, 100).await {
                    break left;
                }
            };
            if left.is_empty() && running.view().blind.iter().all(|(condition, _)| !condition.starts_with("journal")) {
                break;
            }
        }
        let blind = running.view().blind.clone();
        let believed = running.end().await.state.clone();
        let written = loop {
            if let Ok(written) = store.history(0, 10_000).await {
                break written;
            }
        };
        let replayed = State::default().replay(&written).expect("the journal is legal");
        let durable = State { seq: replayed.seq, ..believed.clone() };
        assert!(believed.seq >= replayed.seq, "seed {seed}: the journal holds nothing the task does not know");
        assert!(
            believed.totals.alerts >= accepted,
            "seed {seed}: {} of {accepted} taken; {blind:?}",
            believed.totals.alerts
        );
        if believed.seq == replayed.seq {
            assert!(replayed == durable, "seed {seed}: what is believed is what is written");
        }
    }
}
