//! Builds everything from the settings and starts it; [`super::lifecycle`] runs it from there on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::alerts::payload::PayloadProblem;
use crate::base::clock::Clock;
use crate::config::{Inputs, Settings};
use crate::execute::actions;
use crate::http;
use crate::journal::{Epoch, JournalStore, State, StoreError, StoreErrorKind};
use crate::model::{
    FindingCode, Name, PolicyDocument, Status, Summary, Timestamp, WORKSPACE, WORKSPACE_UNFIT, WORKSPACE_UNREADABLE,
};
use crate::observe::Observation;
use crate::observe::check::ScheduledCheck;
use crate::observe::inbox::{Inbox, Slots};
use crate::observe::resources::ResourceReader;
use crate::observe::runner::{Runner, RunnerHandle};
use crate::publish::{self, OperatorAlert};
use crate::store;
use crate::telemetry::metrics::Metrics;

use super::board::{Board, View};
use super::builtin;
use super::cycle::Rules;
use super::executor::Executor;
use super::handle::{AppHandle, ReloadRequest, RestartRequest};
use super::healer::{Desk, Healer, RealWork};
use super::lifecycle::Supervision;
use super::notify::Notifier;
use super::preflight::{self, Preflight, Readiness};
use super::publisher::{self, Places, PointsPlaces, Sources};
use super::reconciler::Reconciler;
use super::report::policy_document;
use super::sender::Sender;
use super::supervisor::Away;
use super::task::{Event, Journal, Memory, Shared};
use super::tasks::{Home, TaskEnd, Tasks};

/// Batches of observations and events in flight.
pub(super) const CHANNEL: usize = 1_024;

/// A chiron that is running.
pub struct App {
    pub(super) tasks: Tasks,
    pub(super) ends: mpsc::Receiver<TaskEnd>,
    pub(super) reloads: mpsc::Receiver<ReloadRequest>,
    pub(super) restarts: mpsc::Receiver<RestartRequest>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) generation: Generation,
    pub(super) keep: Keep,
    pub(super) supervision: Supervision,
}

/// What a reload replaces.
pub(super) struct Generation {
    pub(super) settings: Settings,
    pub(super) runner: RunnerHandle,
    /// Where the checks send what they observe; kept, so that checks that are started anew send there too.
    pub(super) observed: mpsc::Sender<Vec<Observation>>,
}

/// What a reload and a restart of the workers keep.
pub(super) struct Keep {
    pub(super) inputs: Inputs,
    pub(super) clock: Clock,
    pub(super) seed: u64,
    pub(super) incarnation: String,
    pub(super) shared: Arc<Shared>,
    pub(super) store: Option<Arc<dyn JournalStore>>,
    pub(super) places: Arc<arc_swap::ArcSwap<Places>>,
    pub(super) runner: Arc<arc_swap::ArcSwap<RunnerHandle>>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) config: Arc<arc_swap::ArcSwap<serde_json::Value>>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) healings: Arc<Desk>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) events_in: Home<mpsc::Receiver<Event>>,
    pub(super) policy: watch::Sender<Arc<PolicyDocument>>,
    pub(super) operator: mpsc::Sender<OperatorAlert>,
    pub(super) executor: Executor,
    pub(super) access: http::AccessControl,
    pub(super) away: Away,
}

/// The rules that settings make.
pub(super) fn rules(settings: &Settings) -> Rules {
    let points = settings.failure_points.iter().map(|point| point.scheduled.interval);
    let shortest = settings.subsystems.iter().map(|subsystem| subsystem.scheduled.interval).chain(points).min();
    let shortest = shortest.unwrap_or_default();
    Rules {
        subsystems: settings.subsystems.iter().map(|subsystem| subsystem.subsystem.clone()).collect(),
        raises: settings.subsystems.iter().map(|subsystem| subsystem.scheduled.check.raises()).collect(),
        failure_points: settings.failure_points.iter().map(|point| point.point.clone()).collect(),
        intervals: settings.subsystems.iter().map(|subsystem| subsystem.scheduled.interval).collect(),
        detect: settings.detect.clone(),
        recommend: settings.recommend.clone(),
        admit: settings.admit.clone(),
        policy: settings.policy.clone(),
        alerts: Arc::new(settings.alerts.clone()),
        hooks: settings.hooks.clone().into(),
        bindings: builtin::bindings(settings)
            .into_iter()
            .map(|binding| ((binding.action.clone(), binding.subsystem.clone()), Arc::new(binding)))
            .collect(),
        // The most frequent check sets the pace: three of its intervals, and its time limit, without a word is a stall.
        stalled_after: (shortest * 3).max(Duration::from_secs(15)),
        heals: settings.heal.enabled,
        money_files: money_files(settings),
        real_money: settings.mode == Some(crate::config::Mode::Real),
        catalog: actions::action,
    }
}

fn money_files(settings: &Settings) -> Arc<[String]> {
    let files = settings.heal.layout.files.iter().filter(|file| file.role.holds_money());
    files.map(|file| file.path.to_string()).collect()
}

pub(super) fn metric_subjects(settings: &Settings) -> (Vec<Name>, Vec<(Name, Name)>, Vec<Name>) {
    let names = settings.subsystems.iter().map(|subsystem| subsystem.subsystem.name.clone()).collect();
    let bindings = builtin::bindings(settings).into_iter().map(|binding| (binding.action, binding.subsystem)).collect();
    (names, bindings, actions::ACTIONS.iter().map(|spec| spec.name.into()).collect())
}

/// The issues that checks may raise besides a subsystem's status, those of failure points, and those of the workspace.
pub(super) fn issues(settings: &Settings) -> Vec<(Name, Name)> {
    let checks = settings.subsystems.iter().map(|subsystem| &subsystem.scheduled);
    let of_checks = checks.flat_map(|scheduled| {
        scheduled.check.raises().iter().map(|kind| (scheduled.subsystem.clone(), Name::from(*kind)))
    });
    let points = settings.failure_points.iter().map(|point| &point.point);
    let found = FindingCode::ALL.map(FindingCode::as_str).into_iter().chain([WORKSPACE_UNFIT, WORKSPACE_UNREADABLE]);
    let of_workspace = found.filter(|_| settings.heal.enabled).map(|kind| (Name::from(WORKSPACE), Name::from(kind)));
    of_checks.chain(points.map(|point| (point.subsystem.clone(), point.category.clone()))).chain(of_workspace).collect()
}

/// The subsystems whose checks can see vitals, which is what issues of a check's own come from.
pub(super) fn bots(settings: &Settings) -> Vec<Name> {
    let checks = settings.subsystems.iter().map(|subsystem| &subsystem.scheduled);
    let bots = checks.filter(|scheduled| !scheduled.check.raises().is_empty());
    bots.map(|scheduled| scheduled.subsystem.clone()).collect()
}

/// The bindings, hooks and checks that speak TLS, and whether their server's certificate is not verified.
pub(super) fn unverified(settings: &Settings) -> Vec<(Name, bool)> {
    let means = preflight::asked(settings).into_iter();
    let means = means.filter_map(|binding| Some((binding.id, !binding.actuator.verifies_tls()?)));
    let checks = settings.subsystems.iter().map(|subsystem| &subsystem.scheduled);
    let checks = checks.filter_map(|scheduled| {
        Some((format!("check:{}", scheduled.subsystem).into(), !scheduled.check.verifies_tls()?))
    });
    means.chain(checks).collect()
}

/// A runner of the checks of these settings.
pub(super) fn runner(settings: &Settings, clock: &Clock, metrics: &Metrics) -> (Runner, RunnerHandle) {
    let (checks, host) = checks(settings);
    let (runner, handle) = Runner::new(checks, host, settings.check_interval, clock.clone(), seed(clock));
    (equipped(runner, settings, clock, metrics), handle)
}

/// The same in the place of one that has ended.
pub(super) fn runner_anew(settings: &Settings, clock: &Clock, metrics: &Metrics, handle: &RunnerHandle) -> Runner {
    let (checks, host) = checks(settings);
    let runner = Runner::anew(checks, host, settings.check_interval, clock.clone(), seed(clock), handle);
    equipped(runner, settings, clock, metrics)
}

fn equipped(runner: Runner, settings: &Settings, clock: &Clock, metrics: &Metrics) -> Runner {
    let watching = metrics.watching.clone();
    runner.with_progress(metrics.progress("checks", clock)).with_watching(Arc::clone(&settings.own_files), watching)
}

fn checks(settings: &Settings) -> (Vec<ScheduledCheck>, ResourceReader) {
    // Failure points stand behind the subsystems: that is how their observations are told apart.
    let points = settings.failure_points.iter().map(|point| point.scheduled.clone());
    let checks = settings.subsystems.iter().map(|subsystem| subsystem.scheduled.clone()).chain(points).collect();
    (checks, ResourceReader::new(settings.disk_paths.clone()))
}

/// How checks spread: different at each start.
fn seed(clock: &Clock) -> u64 {
    u64::try_from(clock.now().millis()).unwrap_or_default()
}

/// Where the `push` checks of these settings listen.
pub(super) fn slots(settings: &Settings) -> Slots {
    let checks = settings.subsystems.iter().map(|subsystem| &subsystem.scheduled).enumerate();
    checks
        .filter_map(|(index, scheduled)| {
            Some((scheduled.subsystem.clone(), index, Arc::clone(scheduled.check.slot()?)))
        })
        .collect()
}

/// Different at each taking over, so that no two share their runs.
pub(super) fn incarnation(clock: &Clock, seed: u64) -> String {
    format!("{:x}-{seed:016x}", clock.now().millis())
}

/// Opens the journal and reads it back. A journal that is corrupt is not an error here: chiron then refuses to act, and
/// exports. One that another process holds is.
async fn open_journal(
    settings: &Settings,
    clock: &Clock,
    incarnation: &str,
) -> anyhow::Result<(Option<Arc<dyn JournalStore>>, Journal, State)> {
    let opened = match store::open(&settings.storage).await {
        Ok(store) => {
            let taken = take_over(Arc::clone(&store), incarnation, clock.now()).await;
            taken.map(|(journal, state)| (Some(store), journal, state))
        }
        Err(error) => gone(error).map(|(journal, state)| (None, journal, state)),
    };
    opened.context("the journal could not be opened")
}

/// Takes the journal over under a new epoch and replays it. One that cannot be trusted is no error here, see
/// [`open_journal`].
pub(super) async fn take_over(
    store: Arc<dyn JournalStore>,
    incarnation: &str,
    now: Timestamp,
) -> Result<(Journal, State), StoreError> {
    match store.acquire(incarnation, now).await {
        Ok(recovered) => match replay(&recovered.snapshot, &recovered.entries) {
            Ok(state) => Ok((Journal::Open(store, recovered.epoch), state)),
            Err(why) => Ok((Journal::Gone("journal_corrupt", why), State::default())),
        },
        Err(error) => gone(error),
    }
}

fn gone(error: StoreError) -> Result<(Journal, State), StoreError> {
    let condition = match error.kind {
        StoreErrorKind::Corrupt | StoreErrorKind::Rewound => "journal_corrupt",
        StoreErrorKind::Full | StoreErrorKind::Ambiguous => "journal_unavailable",
        _ => return Err(error),
    };
    Ok((Journal::Gone(condition, error.to_string()), State::default()))
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
        let incarnation = incarnation(&clock, seed);
        let (store, journal, state) = open_journal(&settings, &clock, &incarnation).await?;
        // The journal makes its own folder; without one, what cannot go to the workspace still needs a place.
        let state_dir = settings.state_dir.clone();
        super::tasks::blocking(move || publish::make_folder(&state_dir))
            .await
            .with_context(|| format!("the state folder `{}` could not be made", settings.state_dir.display()))?;
        let (tasks, ends) = Tasks::new(CancellationToken::new());
        let wanted = settings.clone();
        let (places, last) = super::tasks::blocking(move || {
            let places = places(&wanted);
            // It may lie where it went before its own folder was there.
            let last = publish::last_policy(&places.policy).or_else(|| publish::last_policy(&places.policy_fallback));
            (places, last)
        })
        .await;
        let places = Arc::new(arc_swap::ArcSwap::from_pointee(places));
        let epoch = match &journal {
            Journal::Open(_, Epoch(epoch)) => *epoch,
            Journal::Gone(..) => 0,
        };
        // The file survives what the journal may not: the sequence never goes below what a bot has seen.
        let sequence = last.as_ref().map_or(0, |last| last.sequence).max(epoch << 32);
        let rules = rules(&settings);
        let (names, bindings, actions) = metric_subjects(&settings);
        let first = Arc::new(first_policy(&rules, &state, sequence, &clock));
        let view = first_view(&settings, &rules, &state, Arc::clone(&first));
        let shared = Arc::new(Shared {
            board: arc_swap::ArcSwap::from_pointee(Board::new(view)),
            intake: Notify::new(),
            backlog: AtomicU64::new(0),
            metrics: Arc::new(Metrics::new(&names, &bindings, &actions)),
        });
        shared.metrics.expect_refusals(http::REFUSALS.into_iter().chain(PayloadProblem::CODES));
        shared.metrics.expect_issues(issues(&settings));
        shared.metrics.bots.expect(bots(&settings));
        shared.metrics.take_textfiles(settings.textfile_dir.as_deref());
        shared.metrics.alertmanagers.configure_bindings(unverified(&settings));
        shared.metrics.config_reload(true, clock.now());
        let (events, events_in) = mpsc::channel(CHANNEL);
        let (reloads, reloads_in) = mpsc::channel(8);
        let (restarts, restarts_in) = mpsc::channel(1);
        let (reports, reports_in) = mpsc::channel(8);
        let (operator, operator_alerts) = mpsc::channel(CHANNEL);
        // Replaced as soon as the checks begin.
        let (_, runner) = self::runner(&settings, &clock, &shared.metrics);
        let (observed, _) = mpsc::channel(1);
        let runner_slot = Arc::new(arc_swap::ArcSwap::from_pointee(runner.clone()));
        let inbox = Arc::new(Inbox::default());
        inbox.replace(slots(&settings));
        let config = Arc::new(arc_swap::ArcSwap::new(Arc::clone(&settings.shown)));
        let readiness =
            Arc::new(Readiness::new(&preflight::asked(&settings), settings.preflight_every, &shared.metrics));
        let healings = Arc::new(Desk::new(settings.heal.clone(), Arc::new(RealWork)));
        shared.metrics.workspace.configure(settings.heal.enabled);
        let (policy, policies) = watch::channel(first);
        let away = Away::default();
        let handle = Arc::new(AppHandle {
            shared: Arc::clone(&shared),
            store: store.clone(),
            events: events.clone(),
            reports,
            reloads,
            restarts,
            runner: Arc::clone(&runner_slot),
            inbox: Arc::clone(&inbox),
            away: away.clone(),
            config: Arc::clone(&config),
            readiness: Arc::clone(&readiness),
            healings: Arc::clone(&healings),
            policies: policies.clone(),
            poll_now: Notify::new(),
            past: super::past::Past::default(),
            clock: clock.clone(),
        });
        let server = http::bind(&settings.http, Arc::clone(&handle) as Arc<_>, clock.clone()).await?;
        let server = server.with_progress(shared.metrics.progress("http", &clock));
        let (addresses, access) = (server.addresses(), server.access());
        let executor = Executor::new(tasks.clone(), events.clone(), epoch);
        let keep = Keep {
            inputs,
            clock,
            seed,
            incarnation,
            shared,
            store,
            places,
            runner: runner_slot,
            inbox,
            config,
            readiness,
            healings,
            events,
            events_in: Home::new(events_in),
            policy,
            operator,
            executor,
            access,
            away,
        };
        let mut app = Self {
            tasks,
            ends,
            reloads: reloads_in,
            restarts: restarts_in,
            addresses,
            generation: Generation { settings, runner, observed },
            keep,
            supervision: Supervision::new(Notifier::from_environment()),
        };
        app.supervise_publisher(policies, Home::new(operator_alerts), Home::new(reports_in));
        app.start_decider(journal, state, last.as_ref(), Memory::default());
        app.supervise("http", move |until| server.clone().run(until));
        app.supervise_alertmanagers(&handle);
        app.supervise_bindings();
        app.supervise_healer();
        Ok(app)
    }

    fn supervise_alertmanagers(&mut self, handle: &Arc<AppHandle>) {
        let metrics = Arc::clone(&self.keep.shared.metrics);
        let progress = metrics.progress("reconciler", &self.keep.clock);
        let reconciler = Reconciler::new(Arc::clone(handle), progress);
        self.supervise("reconciler", move |until| reconciler.clone().run(until));
        let progress = metrics.progress("sender", &self.keep.clock);
        let sender = Sender::new(Arc::clone(handle), (self.scheme(), &self.addresses), progress);
        self.supervise("sender", move |until| sender.clone().run(until));
    }

    fn supervise_bindings(&mut self) {
        let metrics = Arc::clone(&self.keep.shared.metrics);
        let progress = metrics.progress("bindings", &self.keep.clock);
        let preflight = Preflight::new(Arc::clone(&self.keep.readiness), metrics, self.tasks.clone(), progress);
        self.supervise("bindings", move |until| preflight.clone().run(until));
    }

    fn supervise_healer(&mut self) {
        let (shared, events) = (Arc::clone(&self.keep.shared), self.keep.events.clone());
        let progress = shared.metrics.progress("healer", &self.keep.clock);
        let (desk, ending) = (Arc::clone(&self.keep.healings), self.tasks.stop().clone());
        let healer = Healer::new(desk, shared, events, progress, ending);
        self.supervise("healer", move |until| healer.clone().run(until));
    }

    fn supervise_publisher(
        &mut self,
        policies: watch::Receiver<Arc<PolicyDocument>>,
        alerts: Home<mpsc::Receiver<OperatorAlert>>,
        reports: Home<mpsc::Receiver<oneshot::Sender<()>>>,
    ) {
        let (places, shared) = (Arc::clone(&self.keep.places), Arc::clone(&self.keep.shared));
        let from = shared.board.load().view.load().state.seq;
        let journal = self.keep.store.clone().map(|store| (store, from));
        let progress = shared.metrics.progress("publisher", &self.keep.clock);
        self.supervise("publisher", move |until| {
            let back = "the publisher before has ended";
            let (alerts, reports) = (alerts.lend().expect(back), reports.lend().expect(back));
            let (places, shared) = (Arc::clone(&places), Arc::clone(&shared));
            let sources = Sources { policies: policies.clone(), journal: journal.clone() };
            publisher::run(places, shared, sources, alerts, reports, progress.clone(), until)
        });
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// `https` if it speaks TLS now, else `http`.
    pub fn scheme(&self) -> &'static str {
        if self.keep.access.is_tls() { "https" } else { "http" }
    }
}

/// Where files go. In dry-run a bot is told nothing: its policy file is left alone, unless the settings name one.
pub(super) fn places(settings: &Settings) -> Places {
    let usual = settings.policy_file == settings.data_dir.join(publish::POLICY_FILE);
    let policy = if settings.admit.dry_run && usual {
        settings.state_dir.join(publish::POLICY_FILE)
    } else {
        publish::placed(&settings.policy_file, &settings.state_dir)
    };
    let operator_alerts = settings.log_dir.join("operator_alerts.jsonl");
    let [log, _, summary] = publish::POINTS_FILES;
    let name = settings.policy_file.file_name().unwrap_or(publish::POLICY_FILE.as_ref());
    Places {
        policy,
        policy_fallback: settings.state_dir.join(name),
        report: publish::placed(&settings.report_file, &settings.state_dir),
        operator_alerts: publish::placed(&operator_alerts, &settings.state_dir),
        points: PointsPlaces {
            log: publish::placed(&settings.log_dir.join(log), &settings.state_dir),
            summary: publish::placed(&settings.log_dir.join(summary), &settings.state_dir),
            healing: publish::placed(&settings.log_dir.join(publish::HEALING_FILES[0]), &settings.state_dir),
            every: settings.failure_points_every,
            configured: settings.failure_points.len(),
        },
    }
}

/// Keys that say where things are: half of chiron would follow them and half not, so a reload refuses to change them.
pub(super) fn moved(old: &Settings, new: &Settings) -> Vec<&'static str> {
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
pub(super) fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let mut keys = Vec::new();
    if old.http.listen != new.http.listen {
        keys.push("web.listen_address");
    }
    if old.http.telemetry_path != new.http.telemetry_path {
        keys.push("web.telemetry_path");
    }
    let limits = |http: &http::Settings| (http.body_max, http.connections_max, http.connections_per_address_max);
    if limits(&old.http) != limits(&new.http) {
        keys.push("web.body_max, web.connections_max, web.connections_per_address_max");
    }
    keys
}

/// The policy before the first decision: what is held, and nothing new allowed.
fn first_policy(rules: &Rules, state: &State, sequence: u64, clock: &Clock) -> PolicyDocument {
    let mut document = policy_document(state, rules, sequence, clock.now());
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
    document
}

/// What readers see before the first decision: nothing known but the policy.
pub(super) fn first_view(settings: &Settings, rules: &Rules, state: &State, policy: Arc<PolicyDocument>) -> View {
    let subsystems = rules.subsystems.len();
    View {
        at: Timestamp::EPOCH,
        state: state.clone(),
        rules: Arc::new(rules.clone()),
        overall: Status::Unknown,
        summary: Summary { unknown: subsystems, ..Summary::default() },
        started_up: false,
        resources: None,
        forecasts: crate::model::Forecasts::new(),
        waiting: imbl::OrdMap::new(),
        policy,
        blind: Vec::new(),
        dry_run: settings.admit.dry_run,
        stormy: false,
        hooks: Vec::new(),
        workspace_seen: false,
    }
}
