//! Builds everything from the settings, runs it, reloads it, and takes it down in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::base::clock::Clock;
use crate::config::{self, Inputs, Settings};
use crate::execute::actions;
use crate::http;
use crate::journal::{Epoch, JournalStore, Record, State, StoreErrorKind};
use crate::model::{Name, PolicyDocument, Status, Summary, Timestamp};
use crate::observe::Observation;
use crate::observe::resources::ResourceReader;
use crate::observe::runner::{Runner, RunnerHandle};
use crate::publish;
use crate::store;
use crate::telemetry::metrics::Metrics;

use super::board::{Board, View};
use super::cycle::{Cycle, Rules};
use super::executor::Executor;
use super::handle::{AppHandle, ReloadRequest};
use super::publisher::{self, Places};
use super::report::policy_document;
use super::task::{Decider, Event, Journal, Memory, Reload, Shared};
use super::tasks::{TaskEnd, Tasks};

/// How long a stop waits for actions under way.
const GRACE: Duration = Duration::from_secs(10);
/// How long the last publications may take after that.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Batches of observations and events in flight.
const CHANNEL: usize = 1_024;

/// A chiron that is running.
pub struct App {
    tasks: Tasks,
    ends: mpsc::Receiver<TaskEnd>,
    reloads: mpsc::Receiver<ReloadRequest>,
    addresses: Vec<SocketAddr>,
    generation: Generation,
    keep: Keep,
}

/// What a reload replaces.
struct Generation {
    settings: Settings,
    stop_checks: CancellationToken,
}

/// What a reload keeps.
struct Keep {
    inputs: Inputs,
    clock: Clock,
    shared: Arc<Shared>,
    places: Arc<arc_swap::ArcSwap<Places>>,
    runner: Arc<arc_swap::ArcSwap<RunnerHandle>>,
    events: mpsc::Sender<Event>,
    access: http::AccessControl,
    stop_decider: CancellationToken,
    stop_publisher: CancellationToken,
}

/// The rules that settings make.
fn rules(settings: &Settings) -> Rules {
    let shortest = settings.subsystems.iter().map(|subsystem| subsystem.scheduled.interval).min().unwrap_or_default();
    Rules {
        subsystems: settings.subsystems.iter().map(|subsystem| subsystem.subsystem.clone()).collect(),
        intervals: settings.subsystems.iter().map(|subsystem| subsystem.scheduled.interval).collect(),
        detect: settings.detect.clone(),
        recommend: settings.recommend.clone(),
        admit: settings.admit.clone(),
        policy: settings.policy.clone(),
        alerts: Arc::new(settings.alerts.clone()),
        bindings: settings
            .bindings
            .iter()
            .map(|binding| ((binding.action.clone(), binding.subsystem.clone()), Arc::new(binding.clone())))
            .collect(),
        // The most frequent check sets the pace: three of its intervals, and its time limit, without a word is a stall.
        stalled_after: (shortest * 3).max(Duration::from_secs(15)),
        real_money: settings.mode == Some(config::Mode::Real),
        catalog: actions::action,
    }
}

fn metric_subjects(settings: &Settings) -> (Vec<Name>, Vec<(Name, Name)>, Vec<Name>) {
    let names = settings.subsystems.iter().map(|subsystem| subsystem.subsystem.name.clone()).collect();
    let bindings =
        settings.bindings.iter().map(|binding| (binding.action.clone(), binding.subsystem.clone())).collect();
    (names, bindings, actions::ACTIONS.iter().map(|spec| spec.name.into()).collect())
}

fn start_checks(
    settings: &Settings,
    clock: &Clock,
    seed: u64,
    tasks: &Tasks,
) -> (RunnerHandle, mpsc::Receiver<Vec<Observation>>, CancellationToken) {
    let checks = settings.subsystems.iter().map(|subsystem| subsystem.scheduled.clone()).collect();
    let resources = ResourceReader::new(settings.disk_paths.clone());
    let (runner, handle) = Runner::new(checks, resources, settings.check_interval, clock.clone(), seed);
    let (out, observations) = mpsc::channel(CHANNEL);
    let stop = CancellationToken::new();
    let until = stop.clone();
    // A runner that a reload has replaced ends quietly; its successor is noticed under the same name.
    tasks.spawn("checks", async move { runner.run(out, until).await });
    (handle, observations, stop)
}

/// Opens the journal and reads it back. A journal that is corrupt is not an error here: chiron then refuses to act, and
/// exports. One that another process holds is.
async fn open_journal(settings: &Settings, clock: &Clock, incarnation: &str) -> anyhow::Result<(Journal, State)> {
    let opened = match store::open(&settings.storage).await {
        Ok(store) => store.acquire(incarnation, clock.now()).await.map(|recovered| (store, recovered)),
        Err(error) => Err(error),
    };
    match opened {
        Ok((store, recovered)) => match replay(&recovered.snapshot, &recovered.entries) {
            Ok(state) => Ok((Journal::Open(store, recovered.epoch), state)),
            Err(why) => Ok((Journal::Gone("journal_corrupt", why), State::default())),
        },
        Err(error) if matches!(error.kind, StoreErrorKind::Corrupt | StoreErrorKind::Rewound) => {
            Ok((Journal::Gone("journal_corrupt", error.to_string()), State::default()))
        }
        Err(error) if matches!(error.kind, StoreErrorKind::Full | StoreErrorKind::Ambiguous) => {
            Ok((Journal::Gone("journal_unavailable", error.to_string()), State::default()))
        }
        Err(error) => Err(error).context("the journal could not be opened"),
    }
}

fn replay(snapshot: &Option<(u64, Vec<u8>)>, entries: &[crate::journal::Entry]) -> Result<State, String> {
    let state = match snapshot {
        None => State::default(),
        Some((seq, bytes)) => {
            let state: State = serde_json::from_slice(bytes).map_err(|error| format!("snapshot at {seq}: {error}"))?;
            if state.seq != *seq {
                return Err(format!("snapshot at {seq}: it says {} of itself", state.seq));
            }
            state
        }
    };
    state.replay(entries).map_err(|illegal| illegal.to_string())
}

impl App {
    /// Builds and starts everything. Errors are the operator's to mend: an address in use, a journal held elsewhere.
    pub async fn start(settings: Settings, inputs: Inputs, clock: Clock, seed: u64) -> anyhow::Result<Self> {
        let workspace = settings.workspace.clone();
        if !super::tasks::blocking(move || publish::is_folder(&workspace)).await {
            anyhow::bail!(
                "the workspace `{}` is no folder; make it, or name another with --workspace or `workspace`",
                settings.workspace.display()
            );
        }
        let incarnation = format!("{:x}-{seed:016x}", clock.now().millis());
        let (journal, state) = open_journal(&settings, &clock, &incarnation).await?;
        // The journal makes its own folder; without one, what cannot go to the workspace still needs a place.
        let state_dir = settings.state_dir.clone();
        super::tasks::blocking(move || publish::make_folder(&state_dir))
            .await
            .with_context(|| format!("the state folder `{}` could not be made", settings.state_dir.display()))?;
        let (tasks, ends) = Tasks::new(CancellationToken::new());
        let wanted = settings.clone();
        let (places, last) = super::tasks::blocking(move || {
            let places = places(&wanted);
            let last = publish::last_policy(&places.policy);
            (places, last)
        })
        .await;
        let places = Arc::new(arc_swap::ArcSwap::from_pointee(places));
        let (store, epoch): (Option<Arc<dyn JournalStore>>, u64) = match &journal {
            Journal::Open(store, Epoch(epoch)) => (Some(Arc::clone(store)), *epoch),
            Journal::Gone(..) => (None, 0),
        };
        // The file survives what the journal may not: the sequence never goes below what a bot has seen.
        let sequence = last.as_ref().map_or(0, |last| last.sequence).max(epoch << 32);
        let rules = rules(&settings);
        let (names, bindings, actions) = metric_subjects(&settings);
        let shared = Arc::new(Shared {
            board: arc_swap::ArcSwap::from_pointee(first_board(&settings, &rules, &state, sequence, &clock)),
            intake: Notify::new(),
            backlog: AtomicU64::new(0),
            metrics: Arc::new(Metrics::new(&names, &bindings, &actions)),
        });
        shared.metrics.config_reload(true, clock.now());
        let (events, events_in) = mpsc::channel(CHANNEL);
        let (reloads, reloads_in) = mpsc::channel(8);
        let (reports, reports_in) = mpsc::channel(8);
        let (runner, observations, stop_checks) = start_checks(&settings, &clock, seed, &tasks);
        let runner_slot = Arc::new(arc_swap::ArcSwap::from_pointee(runner.clone()));
        let first = shared.board.load().view.load().policy.clone();
        let (policy, policies) = watch::channel(first);
        let handle = Arc::new(AppHandle {
            shared: Arc::clone(&shared),
            store,
            events: events.clone(),
            reports,
            reloads,
            runner: Arc::clone(&runner_slot),
            policies: policies.clone(),
            clock: clock.clone(),
        });
        let server = http::bind(&settings.http, handle, clock.clone()).await?;
        let (addresses, access) = (server.addresses(), server.access());
        let (operator, operator_alerts) = mpsc::channel(CHANNEL);
        let mut cycle = Cycle::new(rules, clock.now());
        cycle.note_config(settings.digest.clone(), None);
        match (&journal, last) {
            (Journal::Gone(..), Some(last)) => cycle.set_blind_floor(last.policy),
            // A journal that was moved aside or restored has forgotten the latch; the policy that was published has not.
            (Journal::Open(..), Some(last)) if last.latched && state.latch.is_none() => cycle.remember_latch(),
            _ => {}
        }
        let decider = Decider {
            cycle,
            state,
            journal,
            clock: clock.clone(),
            shared: Arc::clone(&shared),
            executor: Executor::new(tasks.clone(), events.clone(), epoch),
            runner,
            observations,
            events: events_in,
            policy,
            operator,
            sequence,
            instance: Record::InstanceStarted {
                incarnation,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                dry_run: settings.admit.dry_run,
            },
            memory: Memory::default(),
        };
        let (stop_decider, stop_publisher) = (CancellationToken::new(), CancellationToken::new());
        let until = stop_publisher.clone();
        let publishing =
            publisher::run(Arc::clone(&places), Arc::clone(&shared), policies, operator_alerts, reports_in, until);
        tasks.spawn("publisher", publishing);
        let until = stop_decider.clone();
        tasks.spawn("decider", async move { decider.run(until, GRACE).await });
        let until = tasks.stop().clone();
        tasks.spawn("http", async move { server.run(until).await });
        let keep =
            Keep { inputs, clock, shared, places, runner: runner_slot, events, access, stop_decider, stop_publisher };
        let generation = Generation { settings, stop_checks };
        Ok(Self { tasks, ends, reloads: reloads_in, addresses, generation, keep })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Runs until `stop`; `reload` is told of every SIGHUP. An error is a task that ended by itself.
    pub async fn run(mut self, stop: CancellationToken, mut reload: mpsc::Receiver<()>) -> anyhow::Result<()> {
        let failed = loop {
            tokio::select! {
                () = stop.cancelled() => break None,
                Some(request) = self.reloads.recv() => {
                    // Whoever asked may have gone; the log says it too.
                    let _ = request.answer.send(self.reload(request.by).await);
                }
                Some(()) = reload.recv() => drop(self.reload(None).await),
                Some(end) = self.ends.recv() => {
                    if end.name == "checks" && !end.panicked {
                        continue;
                    }
                    tracing::error!(task = end.name, panicked = end.panicked, "a task ended by itself; chiron stops");
                    break Some(end);
                }
            }
        };
        self.stop(failed.as_ref().is_some_and(|end| end.name == "decider")).await;
        match failed {
            None => Ok(()),
            Some(end) => anyhow::bail!("task `{}` ended by itself", end.name),
        }
    }

    /// Intake first, then new actions and what is under way, then checks, then the last publication.
    async fn stop(self, decider_ended: bool) {
        tracing::info!("stopping");
        self.tasks.stop().cancel();
        self.keep.stop_decider.cancel();
        let mut ends = self.ends;
        let mut decider_ended = decider_ended;
        while !decider_ended {
            decider_ended = ends.recv().await.is_none_or(|end| end.name == "decider");
        }
        self.generation.stop_checks.cancel();
        self.keep.stop_publisher.cancel();
        // A command that still runs is not waited for: what became of it is looked into at the next start.
        if tokio::time::timeout(LAST_WORDS, self.tasks.ended()).await.is_err() {
            tracing::warn!("stopped while commands still run");
        }
        tracing::info!("stopped");
    }

    /// Builds everything new first, then swaps; a bad file changes nothing.
    async fn reload(&mut self, by: Option<String>) -> Result<(), String> {
        let result = self.try_reload(by).await;
        let now = self.keep.clock.now();
        self.keep.shared.metrics.config_reload(result.is_ok(), now);
        match &result {
            Ok(()) => tracing::info!("settings reloaded"),
            Err(why) => tracing::error!("settings not reloaded, the old ones stay: {why}"),
        }
        result
    }

    async fn try_reload(&mut self, by: Option<String>) -> Result<(), String> {
        let (inputs, clock) = (self.keep.inputs.clone(), self.keep.clock.clone());
        let loaded = super::tasks::blocking(move || config::load(&inputs, clock))
            .await
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let settings = loaded.settings;
        let moved = moved(&self.generation.settings, &settings);
        if !moved.is_empty() {
            return Err(format!("a new {} needs a restart; nothing was changed", moved.join(", ")));
        }
        for fixed in needs_restart(&self.generation.settings, &settings) {
            tracing::warn!("a new `{fixed}` takes effect at the next start");
        }
        let seed = u64::try_from(self.keep.clock.now().millis()).unwrap_or_default();
        let (runner, observations, stop_checks) = start_checks(&settings, &self.keep.clock, seed, &self.tasks);
        let (done, taken) = oneshot::channel();
        let reload = Reload {
            rules: rules(&settings),
            digest: settings.digest.clone(),
            by,
            runner: runner.clone(),
            observations,
            done,
        };
        let (names, bindings, actions) = metric_subjects(&settings);
        self.keep.shared.metrics.reconfigure(&names, &bindings, &actions);
        let gone = "the decision task does not answer".to_owned();
        if self.keep.events.send(Event::Reload(Box::new(reload))).await.is_err() || taken.await.is_err() {
            stop_checks.cancel();
            return Err(gone);
        }
        self.keep.runner.store(Arc::new(runner));
        self.keep.access.replace(&settings.http);
        let wanted = settings.clone();
        self.keep.places.store(Arc::new(super::tasks::blocking(move || places(&wanted)).await));
        std::mem::replace(&mut self.generation, Generation { settings, stop_checks }).stop_checks.cancel();
        Ok(())
    }
}

/// Where files go. In dry-run a bot is told nothing: its policy file is left alone, unless the settings name one.
fn places(settings: &Settings) -> Places {
    let usual = settings.policy_file == settings.data_dir.join(publish::POLICY_FILE);
    let policy = if settings.admit.dry_run && usual {
        settings.state_dir.join(publish::POLICY_FILE)
    } else {
        publish::placed(&settings.policy_file, &settings.state_dir)
    };
    let operator_alerts = settings.log_dir.join("operator_alerts.jsonl");
    Places {
        policy,
        report: publish::placed(&settings.report_file, &settings.state_dir),
        operator_alerts: publish::placed(&operator_alerts, &settings.state_dir),
    }
}

/// Keys that say where things are: half of chiron would follow them and half not, so a reload refuses to change them.
fn moved(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let places = [
        ("workspace", old.workspace != new.workspace),
        ("data_dir", old.data_dir != new.data_dir),
        ("log_dir", old.log_dir != new.log_dir),
        ("state_dir", old.state_dir != new.state_dir),
        ("storage.url", old.storage != new.storage),
    ];
    places.into_iter().filter(|(_, moved)| *moved).map(|(key, _)| key).collect()
}

/// Further keys whose change takes effect at the next start only.
fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let mut keys = Vec::new();
    if old.http.listen != new.http.listen {
        keys.push("web.listen_address");
    }
    if old.http.telemetry_path != new.http.telemetry_path {
        keys.push("web.telemetry_path");
    }
    keys
}

/// What readers see before the first decision: nothing known, nothing new allowed.
fn first_board(settings: &Settings, rules: &Rules, state: &State, sequence: u64, clock: &Clock) -> Board {
    let mut document: PolicyDocument = policy_document(state, rules, sequence, clock.now());
    let startup = crate::model::SourceHold {
        source: crate::model::PolicySource::Startup,
        subject: "first_checks".to_owned(),
        level: crate::model::Level::NoNewTrades,
        reason: "chiron has just started".to_owned(),
        since: clock.now(),
        until: None,
    };
    document.policy = document.policy.max(startup.level);
    document.restrictions = document.restrictions.join(startup.level.restrictions());
    document.reasons.push(startup);
    let subsystems = rules.subsystems.len();
    Board::new(View {
        at: Timestamp::EPOCH,
        state: state.clone(),
        rules: Arc::new(rules.clone()),
        overall: Status::Unknown,
        summary: Summary { unknown: subsystems, ..Summary::default() },
        started_up: false,
        resources: None,
        waiting: imbl::OrdMap::new(),
        policy: Arc::new(document),
        blind: Vec::new(),
        dry_run: settings.admit.dry_run,
    })
}
