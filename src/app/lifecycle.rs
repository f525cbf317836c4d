//! The life of a running chiron: watches its long tasks, starts anew what ended, reloads, restarts, stops in order.
//!
//! **Invariant:** at most one decision task runs; a successor takes the journal over under a new epoch, and what it
//! first publishes is no looser than what was in force.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::journal::{Epoch, Record, State};
use crate::model::{PolicyDocument, Timestamp};
use crate::observe::Observation;

use super::board::Board;
use super::cycle::{Command, Cycle};
use super::handle::RestartRequest;
use super::notify::Notifier;
use super::supervisor::{Ends, Verdict, Watch};
use super::task::{Decider, Event, Journal, Memory, Reload};
use super::tasks::{Spawned, TaskEnd};
use super::wiring::{self, App, Generation};

/// How long a stop waits for actions under way.
const GRACE: Duration = Duration::from_secs(10);
/// What the decision task gets beyond that to end.
const GRACE_MORE: Duration = Duration::from_secs(2);
/// How long the last publications may take after that.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long the decision task may take to answer a reload, or to decide after a restart.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the tasks are looked at.
const TURN: Duration = Duration::from_millis(500);

/// Makes a long task, each time it is started.
type Factory = Box<dyn Fn(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A long task that runs.
struct Running {
    spawned: Spawned,
    stop: CancellationToken,
}

/// What the supervisor remembers.
pub(super) struct Supervision {
    watch: Watch,
    ends: Ends,
    running: BTreeMap<&'static str, Running>,
    factories: BTreeMap<&'static str, Factory>,
    due: Vec<(Instant, &'static str)>,
    /// A task ended too often while something else was waited for.
    failed: Option<TaskEnd>,
    /// What the decision task was told of the others.
    stalled: Option<String>,
    decider_stalled: bool,
    manager: Notifier,
    ready: bool,
}

impl Supervision {
    pub(super) fn new(manager: Notifier) -> Self {
        Self {
            watch: Watch::default(),
            ends: Ends::default(),
            running: BTreeMap::new(),
            factories: BTreeMap::new(),
            due: Vec::new(),
            failed: None,
            stalled: None,
            decider_stalled: false,
            manager,
            ready: false,
        }
    }
}

impl App {
    /// Runs until `stop`; `reload` is told of every SIGHUP. An error is a task that ended by itself too often.
    pub async fn run(mut self, stop: CancellationToken, mut reload: mpsc::Receiver<()>) -> anyhow::Result<()> {
        let turn = self.supervision.manager.watchdog().map_or(TURN, |period| TURN.min(period / 6));
        let mut turns = tokio::time::interval(turn.max(Duration::from_millis(20)));
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut policies = self.keep.policy.subscribe();
        let healings = Arc::clone(&self.keep.healings);
        let failed = loop {
            if let Some(failed) = self.supervision.failed.take() {
                break Some(failed);
            }
            let due = self.supervision.due.iter().map(|(at, _)| *at).min();
            tokio::select! {
                () = stop.cancelled() => break None,
                Some(end) = self.ends.recv() => self.ended(end),
                () = until(due), if due.is_some() => self.start_due().await,
                // A stop waits for neither a reload nor a restart: what they left half done ends with everything else.
                Some(request) = self.reloads.recv() => tokio::select! {
                    () = stop.cancelled() => break None,
                    // Whoever asked may have gone; the log says it too.
                    result = self.reload(request.by) => drop(request.answer.send(result)),
                },
                Some(()) = reload.recv() => tokio::select! {
                    () = stop.cancelled() => break None,
                    result = self.reload(None) => drop(result),
                },
                Some(RestartRequest { by, reason, answer }) = self.restarts.recv() => tokio::select! {
                    () = stop.cancelled() => break None,
                    result = self.restart(&by, &reason) => drop(answer.send(result)),
                },
                Ok(()) = policies.changed() => self.tell_manager(),
                () = healings.folders_changed() => self.place_anew().await,
                _ = turns.tick() => self.look(),
            }
        };
        self.stop().await;
        match failed {
            None => Ok(()),
            Some(end) => anyhow::bail!("task `{}` ended by itself too often", end.name),
        }
    }

    /// Has a long task supervised: started now, and anew whenever it ends by itself.
    pub(super) fn supervise<F>(&mut self, name: &'static str, make: impl Fn(CancellationToken) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.supervision.factories.insert(name, Box::new(move |stop| Box::pin(make(stop))));
        self.start_made(name);
    }

    fn start_made(&mut self, name: &'static str) {
        // The listeners are the last to go, and a restart of the workers leaves them.
        let stop = if name == "http" { self.tasks.stop().clone() } else { CancellationToken::new() };
        let Some(make) = self.supervision.factories.get(name) else { return };
        let task = make(stop.clone());
        self.spawn(name, stop, task);
    }

    /// The task that it replaces under the same name, if any, is no longer noticed.
    fn spawn(
        &mut self,
        name: &'static str,
        stop: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Option<Running> {
        self.supervision.watch.begin(name, self.keep.shared.metrics.progress(name, &self.keep.clock));
        let spawned = self.tasks.spawn(name, task);
        self.supervision.running.insert(name, Running { spawned, stop })
    }

    /// A task has ended. One that nobody waits for any more is no news.
    fn ended(&mut self, end: TaskEnd) {
        if self.supervision.running.get(end.name).is_none_or(|running| running.spawned.id != end.id) {
            return;
        }
        self.supervision.running.remove(end.name);
        if self.tasks.stop().is_cancelled() {
            return;
        }
        tracing::error!(task = end.name, panicked = end.panicked, "a task ended by itself");
        if end.name == "decider" {
            self.decider_away("it ended by itself and is being started anew");
        }
        self.again(end);
    }

    /// Plans the restart of a task, or the end of chiron.
    fn again(&mut self, end: TaskEnd) {
        match self.supervision.ends.note(end.name, self.keep.clock.since_boot()) {
            Verdict::Restart(pause) => self.supervision.due.push((Instant::now() + pause, end.name)),
            Verdict::GiveUp => {
                tracing::error!(task = end.name, "a task ended too often; chiron stops, to be started whole");
                self.supervision.failed = Some(end);
            }
        }
    }

    fn decider_away(&self, why: &str) {
        self.keep.away.set(why);
        self.keep.shared.metrics.blind("decider", true);
    }

    async fn start_due(&mut self) {
        let now = Instant::now();
        let (due, later) = self.supervision.due.iter().partition(|(at, _)| *at <= now);
        self.supervision.due = later;
        let due: Vec<(Instant, &'static str)> = due;
        for (_, name) in due {
            if self.supervision.running.contains_key(name) {
                // It was started another way meanwhile: with its decision task, or by a restart of the workers.
                continue;
            }
            self.keep.shared.metrics.task_restarted(name);
            tracing::warn!(task = name, "a task is started anew");
            match name {
                "decider" => {
                    if let Err(why) = self.start_decider_anew(false).await {
                        tracing::error!("the decision task could not be started anew: {why}");
                        self.again(TaskEnd { name, id: 0, panicked: false });
                    }
                }
                "checks" => self.start_checks_anew(),
                name => self.start_made(name),
            }
        }
    }

    /// The same checks, under the handle and into the channel of those that ended.
    fn start_checks_anew(&mut self) {
        let Generation { settings, runner, observed, .. } = &self.generation;
        let runner = wiring::runner_anew(settings, &self.keep.clock, self.keep.shared.metrics.as_ref(), runner);
        let (out, stop) = (observed.clone(), CancellationToken::new());
        let until = stop.clone();
        self.spawn("checks", stop, async move { runner.run(out, until).await });
    }

    /// Starts the checks of these settings beside those that run; gives those back.
    fn start_checks(
        &mut self,
        settings: config::Settings,
    ) -> (Generation, mpsc::Receiver<Vec<Observation>>, Option<Running>) {
        let (runner, handle) = wiring::runner(&settings, &self.keep.clock, self.keep.shared.metrics.as_ref());
        let (observed, observations) = mpsc::channel(wiring::CHANNEL);
        let (out, stop) = (observed.clone(), CancellationToken::new());
        let until = stop.clone();
        let before = self.spawn("checks", stop, async move { runner.run(out, until).await });
        (Generation { settings, runner: handle, observed }, observations, before)
    }

    /// Starts the checks and the decision task of the generation in force.
    pub(super) fn start_decider(
        &mut self,
        journal: Journal,
        state: State,
        last: Option<&PolicyDocument>,
        memory: Memory,
    ) {
        // The new one is told anew which tasks have stalled.
        self.supervision.stalled = None;
        let (generation, observations, before) = self.start_checks(self.generation.settings.clone());
        if let Some(before) = before {
            before.stop.cancel();
        }
        self.generation = generation;
        self.keep.runner.store(Arc::new(self.generation.runner.clone()));
        self.keep.inbox.replace(wiring::slots(&self.generation.settings));
        let settings = &self.generation.settings;
        let mut cycle = Cycle::new(wiring::rules(settings), self.keep.clock.now());
        cycle.note_config(settings.digest.clone(), None);
        match (&journal, last) {
            (Journal::Gone(..), Some(last)) => cycle.set_blind_floor(last.policy),
            // A journal that was moved aside or restored has forgotten the latch; the policy that was published has not.
            (Journal::Open(..), Some(last)) if last.latched && state.latch.is_none() => cycle.remember_latch(),
            _ => {}
        }
        if let Some(last) = last.filter(|_| memory.is_wary()) {
            cycle.set_blind_floor(last.policy);
            let why = format!("an earlier decision task held {}, which the journal does not know", last.policy);
            cycle.set_blind("decider", Some(why));
        }
        let epoch = match &journal {
            Journal::Open(_, Epoch(epoch)) => *epoch,
            Journal::Gone(..) => 0,
        };
        let decider = Decider {
            cycle,
            state,
            journal,
            clock: self.keep.clock.clone(),
            shared: Arc::clone(&self.keep.shared),
            executor: self.keep.executor.for_epoch(epoch),
            runner: self.generation.runner.clone(),
            observations,
            events: self.keep.events_in.lend().expect("the decision task before has ended"),
            policy: self.keep.policy.clone(),
            operator: self.keep.operator.clone(),
            sequence: self.keep.policy.borrow().sequence,
            instance: Record::InstanceStarted {
                incarnation: self.keep.incarnation.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                dry_run: settings.admit.dry_run,
            },
            memory,
        };
        let stop = CancellationToken::new();
        let until = stop.clone();
        self.spawn("decider", stop, async move { decider.run(until, GRACE).await });
    }

    /// A decision task in the place of one that has ended, from the journal; `without_journal`: also if that cannot be
    /// read, and then it acts on nothing.
    async fn start_decider_anew(&mut self, without_journal: bool) -> Result<(), String> {
        let now = self.keep.clock.now();
        self.keep.incarnation = wiring::incarnation(&self.keep.clock, self.keep.seed);
        let (journal, state) = match &self.keep.store {
            None => (
                Journal::Gone("journal_unavailable", "it could not be opened at the start".to_owned()),
                State::default(),
            ),
            Some(store) => {
                let taken = wiring::take_over(Arc::clone(store), &self.keep.incarnation, now);
                match tokio::time::timeout(PATIENCE, taken).await {
                    Ok(Ok(taken)) => taken,
                    Ok(Err(error)) if without_journal => {
                        (Journal::Gone("journal_unavailable", error.to_string()), State::default())
                    }
                    Ok(Err(error)) => return Err(error.to_string()),
                    Err(_) => return Err(format!("the journal was not read within {} s", PATIENCE.as_secs())),
                }
            }
        };
        let last = self.keep.policy.borrow().clone();
        if let Journal::Open(_, Epoch(epoch)) = &journal {
            let sequence = last.sequence.max(epoch << 32);
            self.keep
                .policy
                .send_modify(|policy| *policy = Arc::new(PolicyDocument { sequence, ..(**policy).clone() }));
        }
        let forgot = matches!(journal, Journal::Open(..)) && state.level() < last.policy;
        // What readers see until it has decided: nothing known, and the policy as it was, which nobody renews.
        let rules = wiring::rules(&self.generation.settings);
        let view = wiring::first_view(&self.generation.settings, &rules, &state, Arc::clone(&last));
        self.keep.shared.board.store(Arc::new(Board::new(view)));
        self.start_decider(journal, state, Some(&last), Memory::anew(forgot));
        self.keep.away.clear();
        Ok(())
    }

    /// Looks at the tasks: says who has stalled, and feeds the service manager's watchdog while nobody has that counts.
    fn look(&mut self) {
        let standing = self.supervision.watch.look();
        let runs = self.supervision.running.contains_key("decider");
        let stalled = standing.decider.filter(|_| runs);
        if let (Some(age), false) = (stalled, self.supervision.decider_stalled) {
            tracing::error!(task = "decider", seconds = age.as_secs(), "a task has stalled");
            self.decider_away("it does not get on");
        } else if stalled.is_none() && self.supervision.decider_stalled && runs {
            tracing::warn!(task = "decider", "a task gets on again");
            self.keep.away.clear();
            self.keep.shared.metrics.blind("decider", false);
        }
        self.supervision.decider_stalled = stalled.is_some();
        let names: Vec<&str> = standing.others.iter().map(|(task, _)| *task).collect();
        let others = (!names.is_empty()).then(|| format!("tasks of chiron that do not get on: {}", names.join(", ")));
        if others != self.supervision.stalled && self.keep.events.try_send(Event::Stalled(others.clone())).is_ok() {
            match &others {
                Some(why) => tracing::error!("{why}"),
                None => tracing::warn!("every task of chiron gets on again"),
            }
            self.supervision.stalled = others;
        }
        self.tell_manager();
        let Supervision { watch, manager, .. } = &mut self.supervision;
        manager.feed(self.keep.clock.since_boot(), |period| watch.is_alive(period));
    }

    /// Ready with the first decision: only then the journal is replayed and a policy stands.
    fn tell_manager(&mut self) {
        if !self.supervision.manager.is_there() {
            return;
        }
        let board = self.keep.shared.board.load();
        let view = board.view.load();
        let mode =
            if view.dry_run { "dry-run" } else { self.generation.settings.mode.map_or("", config::Mode::as_str) };
        let (policy, overall, issues) = (view.policy.policy, view.overall, view.state.episodes.len());
        let line = match self.keep.away.why() {
            Some(why) => format!("{mode}, policy {policy}: the decision task is away: {why}"),
            None => format!("{mode}, policy {policy}, overall {overall}, open issues: {issues}"),
        };
        if !self.supervision.ready && view.at > Timestamp::EPOCH {
            self.supervision.ready = true;
            self.supervision.manager.ready();
        }
        self.supervision.manager.status(line);
    }

    /// Tells a task to end and waits for that; after `limit` it is ended where it waits. False if it still runs then.
    async fn end(&mut self, name: &'static str, limit: Duration) -> bool {
        let Some(Running { spawned, stop }) = self.supervision.running.get(name) else { return true };
        let (id, abort) = (spawned.id, spawned.abort.clone());
        stop.cancel();
        let deadline = Instant::now() + limit;
        let mut turns = tokio::time::interval(Duration::from_millis(100));
        let mut aborted = false;
        loop {
            tokio::select! {
                Some(end) = self.ends.recv() => {
                    if end.name == name && end.id == id {
                        self.supervision.running.remove(name);
                        return true;
                    }
                    self.ended(end);
                }
                _ = turns.tick() => {
                    self.look();
                    if !aborted && Instant::now() >= deadline {
                        tracing::error!(task = name, "a task does not end; it is cut off");
                        abort.abort();
                        aborted = true;
                    } else if aborted && Instant::now() >= deadline + Duration::from_secs(1) {
                        return false;
                    }
                }
            }
        }
    }

    /// Ends the workers in order and starts them anew from the journal; the listeners stay.
    async fn restart(&mut self, by: &str, reason: &str) -> Result<(), String> {
        tracing::warn!(by, reason, "the workers are restarted");
        self.decider_away("chiron's workers are being restarted");
        if !self.end("decider", GRACE + GRACE_MORE).await {
            return Err("the decision task does not end; restart chiron itself".to_owned());
        }
        let workers: Vec<&'static str> =
            self.supervision.factories.keys().copied().filter(|name| *name != "http").collect();
        for name in ["checks"].into_iter().chain(workers.iter().copied()) {
            if !self.end(name, LAST_WORDS).await {
                tracing::error!(task = name, "a task could not be ended; a second one runs beside it");
            }
        }
        workers.iter().for_each(|name| self.start_made(name));
        if let Err(why) = self.start_decider_anew(true).await {
            // Whoever asked is told; chiron goes on trying all the same.
            self.again(TaskEnd { name: "decider", id: 0, panicked: false });
            return Err(why);
        }
        let (answer, noted) = oneshot::channel();
        let note = Command::NoteRestart { by: by.to_owned(), reason: reason.to_owned() };
        // Taken by the new decision task; the audit log then says who asked for it.
        if self.keep.events.send(Event::Command(note, answer)).await.is_err() {
            return Err("the decision task does not answer".to_owned());
        }
        let deadline = Instant::now() + PATIENCE;
        while self.keep.shared.board.load().view.load().at == Timestamp::EPOCH {
            if Instant::now() >= deadline {
                return Err(format!("nothing was decided within {} s after the restart", PATIENCE.as_secs()));
            }
            while let Ok(end) = self.ends.try_recv() {
                self.ended(end);
            }
            self.look();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let board = self.keep.shared.board.load();
        let view = board.view.load();
        if let Some((condition, why)) = view.blind.iter().find(|(condition, _)| condition.starts_with("journal_")) {
            return Err(format!("restarted, but {condition}: {why}"));
        }
        if !matches!(tokio::time::timeout(PATIENCE, noted).await, Ok(Ok(Ok(_)))) {
            return Err("restarted, but who asked for it could not be journaled".to_owned());
        }
        tracing::info!("the workers run again");
        Ok(())
    }

    /// Intake first, then new actions and what is under way, then checks, then the last publication.
    async fn stop(mut self) {
        tracing::info!("stopping");
        self.supervision.manager.stopping();
        self.tasks.stop().cancel();
        self.end("decider", GRACE + GRACE_MORE).await;
        self.supervision.running.values().for_each(|running| running.stop.cancel());
        // A command that still runs is not waited for: what became of it is looked into at the next start.
        if tokio::time::timeout(LAST_WORDS, self.tasks.ended()).await.is_err() {
            tracing::warn!("stopped while commands still run");
        }
        tracing::info!("stopped");
    }

    /// Builds everything new first, then swaps; a bad file changes nothing.
    async fn reload(&mut self, by: Option<String>) -> Result<(), String> {
        self.supervision.manager.reloading();
        let result = self.try_reload(by).await;
        let now = self.keep.clock.now();
        self.keep.shared.metrics.config_reload(result.is_ok(), now);
        match &result {
            Ok(()) => tracing::info!("settings reloaded"),
            Err(why) => tracing::error!("settings not reloaded, the old ones stay: {why}"),
        }
        if self.supervision.ready {
            self.supervision.manager.ready();
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
        let moved = wiring::moved(&self.generation.settings, &settings);
        if !moved.is_empty() {
            return Err(format!("a new {} needs a restart; nothing was changed", moved.join(", ")));
        }
        for fixed in wiring::needs_restart(&self.generation.settings, &settings) {
            tracing::warn!("a new `{fixed}` takes effect at the next start");
        }
        if !self.supervision.running.contains_key("decider") {
            return Err("the decision task is being started anew; try again".to_owned());
        }
        let slots = wiring::slots(&settings);
        self.keep.inbox.hand_on(&slots);
        let (generation, observations, before) = self.start_checks(settings);
        let (done, taken) = oneshot::channel();
        let reload = Reload {
            rules: wiring::rules(&generation.settings),
            digest: generation.settings.digest.clone(),
            by,
            runner: generation.runner.clone(),
            observations,
            done,
        };
        let (names, bindings, actions) = wiring::metric_subjects(&generation.settings);
        self.keep.shared.metrics.reconfigure(&names, &bindings, &actions);
        self.keep.shared.metrics.expect_issues(wiring::issues(&generation.settings));
        self.keep.shared.metrics.bots.expect(wiring::bots(&generation.settings));
        let swapped = async {
            self.keep.events.send(Event::Reload(Box::new(reload))).await.ok()?;
            taken.await.ok()
        };
        if tokio::time::timeout(PATIENCE, swapped).await.ok().flatten().is_none() {
            if let Some(new) = self.supervision.running.remove("checks") {
                new.stop.cancel();
            }
            self.supervision.running.extend(before.map(|before| ("checks", before)));
            return Err("the decision task does not answer".to_owned());
        }
        if let Some(before) = before {
            before.stop.cancel();
        }
        self.generation = generation;
        let asked = super::preflight::asked(&self.generation.settings);
        self.keep.readiness.replace(&asked, self.generation.settings.preflight_every, &self.keep.shared.metrics);
        self.keep.healings.replace(self.generation.settings.heal.clone());
        self.keep.shared.metrics.workspace.configure(self.generation.settings.heal.enabled);
        self.keep.shared.metrics.take_textfiles(self.generation.settings.textfile_dir.as_deref());
        let unverified = wiring::unverified(&self.generation.settings);
        self.keep.shared.metrics.alertmanagers.configure_bindings(unverified);
        self.keep.runner.store(Arc::new(self.generation.runner.clone()));
        self.keep.inbox.replace(slots);
        // What was pushed while the old checks still listened.
        self.keep.inbox.indices().into_iter().for_each(|index| self.generation.runner.force(index));
        let settings = self.generation.settings.clone();
        self.keep.access.replace(&settings.http);
        let mut shown = serde_json::Value::clone(&settings.shown);
        // What takes effect at the next start only is still as it was.
        for key in ["listen_address", "telemetry_path"] {
            shown["settings"]["web"][key] = self.keep.config.load()["settings"]["web"][key].clone();
        }
        self.keep.config.store(Arc::new(shown));
        self.keep.places.store(Arc::new(super::tasks::blocking(move || wiring::places(&settings)).await));
        Ok(())
    }

    /// Folders have come or gone: what is published goes where it belongs now.
    async fn place_anew(&self) {
        let settings = self.generation.settings.clone();
        self.keep.places.store(Arc::new(super::tasks::blocking(move || wiring::places(&settings)).await));
    }
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}
