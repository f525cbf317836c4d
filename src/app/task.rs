//! The decision task: the one writer of the journal. It gathers what happened, lets [`Cycle`] decide, makes the decision
//! durable, and only then acts.
//!
//! **Invariant:** no effect is begun whose `started` is not durable. While the journal cannot be written nothing is
//! begun, and tightening goes on in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::base::clock::Clock;
use crate::base::failpoint;
use crate::journal::{Epoch, JournalStore, Record, State, StoreError, StoreErrorKind};
use crate::model::{IntakeAlert, Name, PolicyDocument, Timestamp};
use crate::observe::Observation;
use crate::observe::runner::RunnerHandle;
use crate::publish::OperatorAlert;
use crate::telemetry::hooks::Row;
use crate::telemetry::metrics::{BLIND_REASONS, Metrics};

use super::account::Step;
use super::board::{Board, View};
use super::cycle::{Answered, Command, Cycle, Decision, Effect, Inputs, Inquired, Prepared, Refused, Rules};
use super::executor::Executor;
use super::hooks::Hooked;
use super::report::policy_document;
use super::tasks::Lent;
use super::workspace::Round;

/// Alerts taken in one step.
const ALERTS_MAX: usize = 512;
/// Commands of people that wait for their turn; one is taken in a step.
const COMMANDS_MAX: usize = 64;
/// After a batch of alerts that began nothing, decisions rest this many times as long as they took: the journal then
/// belongs to those who wait for their alerts to become durable, and the next batch is larger.
const REST_FACTOR: u32 = 4;
/// But never longer than this.
const REST_MAX: Duration = Duration::from_millis(5);
/// Events and batches of observations taken in one step.
const EVENTS_MAX: usize = 1_024;
/// A snapshot is stored after this many entries.
const SNAPSHOT_EVERY: u64 = 5_000;
/// Records kept in memory while the journal cannot be written.
const UNFLUSHED_MAX: usize = 50_000;
/// How often, and how long apart, a decision asks for its place in a full queue of the journal.
const BUSY_TRIES: u32 = 1_000;
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// How often, and how long apart, the journal is read to learn whether an unconfirmed commit is in it.
const SETTLE_TRIES: u32 = 10;
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// Entries kept for people.
const HISTORY_KEEP: u64 = 200_000;
/// How often a journal that nothing else writes is tried.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// A larger step of the wall clock against the time since boot is a jump.
const JUMP_MIN: Duration = Duration::from_secs(2);
/// How long a clock jump keeps chiron careful.
const JUMP_CARE: Duration = Duration::from_secs(60);

/// Something that happened, for the decision task.
#[derive(Debug)]
pub enum Event {
    /// An effect has ended.
    Answered(Answered),
    /// An interrupted run was asked about.
    Inquired(Inquired),
    /// A run that is to be begun was prepared.
    Prepared(Prepared),
    /// A hook of the policy has told the bot, or looked at it.
    Hooked(Hooked),
    /// The workspace was looked at, or could not be.
    Healed(Round),
    /// The intake could not write the journal.
    JournalFailed(StoreError),
    /// A person asks for something; the answer is why it was refused.
    Command(Command, oneshot::Sender<Result<String, CommandError>>),
    /// New settings, with the checks that go with them.
    Reload(Box<Reload>),
    /// Another long task of chiron does not get on, or all do again.
    Stalled(Option<String>),
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// It was refused.
    Refused(Refused),
    /// It could not be made durable.
    NotDurable(String),
}

/// What changes with new settings.
#[derive(Debug)]
pub struct Reload {
    /// The rules.
    pub rules: Rules,
    /// SHA-256 of the file.
    pub digest: String,
    /// Who asked for it.
    pub by: Option<String>,
    /// The new checks.
    pub runner: RunnerHandle,
    /// What they will observe.
    pub observations: mpsc::Receiver<Vec<Observation>>,
    /// The new board that readers get.
    pub done: oneshot::Sender<Arc<Board>>,
}

/// Where the journal stands.
pub enum Journal {
    /// Open, under this epoch.
    Open(Arc<dyn JournalStore>, Epoch),
    /// It cannot be used until chiron is restarted: which blindness, and why.
    Gone(&'static str, String),
}

/// What the task shares with readers.
#[derive(Debug)]
pub struct Shared {
    /// The board of the settings in force.
    pub board: arc_swap::ArcSwap<Board>,
    /// Woken when alerts were accepted.
    pub intake: Notify,
    /// Accepted alerts not yet taken.
    pub backlog: AtomicU64,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// The decision task.
pub struct Decider {
    /// Pure decisions.
    pub cycle: Cycle,
    /// The durable state.
    pub state: State,
    /// The journal.
    pub journal: Journal,
    /// The clock.
    pub clock: Clock,
    /// For readers.
    pub shared: Arc<Shared>,
    /// Carries effects out.
    pub executor: Executor,
    /// Forces checks.
    pub runner: RunnerHandle,
    /// What the checks observe.
    pub observations: mpsc::Receiver<Vec<Observation>>,
    /// Everything else that happens.
    pub events: Lent<mpsc::Receiver<Event>>,
    /// Policy documents for the publisher.
    pub policy: watch::Sender<Arc<PolicyDocument>>,
    /// What a person has to be told.
    pub operator: mpsc::Sender<OperatorAlert>,
    /// The sequence of the last published policy.
    pub sequence: u64,
    /// Who this is, for the journal.
    pub instance: Record,
    /// Volatile.
    pub memory: Memory,
}

/// What the task remembers between steps.
#[derive(Debug, Default)]
pub struct Memory {
    /// Decisions taken in memory while the journal could not be written, oldest first, each with its time.
    unflushed: VecDeque<(Timestamp, Vec<Record>)>,
    /// How many records they are.
    unflushed_records: usize,
    /// Given again after a commit that failed.
    again: Inputs,
    commands: VecDeque<(Command, oneshot::Sender<Result<String, CommandError>>)>,
    wake_at: Option<Timestamp>,
    more_alerts: bool,
    /// No alert is taken before this.
    rest_until: Option<tokio::time::Instant>,
    last_snapshot: u64,
    clocks: Option<(Timestamp, Duration)>,
    jumped: Option<Duration>,
    last_observed: Option<Duration>,
    last_written: Option<Duration>,
    last_policy: Option<Arc<PolicyDocument>>,
    journal_ok: bool,
    /// What an earlier process left under way has been looked into.
    resolved: bool,
    last_tried: Option<Duration>,
    /// An earlier decision task of this process may have known more than the journal: its level is the least that is
    /// held until every check has answered.
    wary: bool,
    /// An actuator panicked: nothing is begun any more.
    halted: bool,
}

impl Memory {
    /// For a decision task in the place of another of the same process; `wary` if that one held more than was journaled.
    pub fn anew(wary: bool) -> Self {
        Self { wary, ..Self::default() }
    }

    /// See [`Memory::anew`].
    pub fn is_wary(&self) -> bool {
        self.wary
    }
}

impl Decider {
    /// Decides until told to stop, and then until what is under way has been journaled or `grace` has passed.
    pub async fn run(mut self, stop: CancellationToken, grace: Duration) {
        let progress = self.shared.metrics.progress("decider", &self.clock);
        progress.beat();
        self.memory.journal_ok = true;
        self.memory.last_observed = Some(self.clock.since_boot());
        self.restore_metrics();
        if let Journal::Gone(condition, why) = &self.journal {
            let (condition, why) = (*condition, why.clone());
            let kind =
                if condition == "journal_corrupt" { StoreErrorKind::Corrupt } else { StoreErrorKind::Unavailable };
            self.shared.metrics.journal_error(kind.as_str());
            self.lose_journal(condition, &why);
        } else {
            self.after_restart().await;
        }
        self.cycle.look_at_everything(&self.state);
        self.step(Inputs::default()).await;
        while !stop.is_cancelled() {
            progress.beat();
            let inputs = self.gather(&stop).await;
            failpoint::pass_task("decider.gathered").await;
            let (begun, took_alerts) = (tokio::time::Instant::now(), !inputs.alerts.is_empty());
            let runs = self.state.totals.runs;
            self.step(inputs).await;
            if took_alerts && self.state.totals.runs == runs {
                let rest = (begun.elapsed() * REST_FACTOR).min(REST_MAX);
                self.memory.rest_until = Some(tokio::time::Instant::now() + rest);
            }
            failpoint::pass_task("decider.decided").await;
        }
        self.executor.close();
        self.cycle.set_stopping();
        self.cycle.set_ending();
        let deadline = self.clock.since_boot() + grace;
        let forced = CancellationToken::new();
        while self.state.executing > 0 && self.clock.since_boot() < deadline {
            progress.beat();
            let inputs = self.gather(&forced).await;
            self.step(inputs).await;
        }
        if self.state.executing > 0 {
            tracing::warn!(
                runs = self.state.executing,
                "stopped while actions were under way; they are resolved at the next start"
            );
        }
        self.snapshot().await;
    }

    async fn after_restart(&mut self) {
        let now = self.clock.now();
        let before = self.state.clone();
        let (records, state, effects) = self.cycle.after_restart(&before, self.instance.clone(), now);
        match self.commit(now, records.clone()).await {
            Ok(()) => {
                self.state = state;
                self.memory.resolved = true;
                self.memory.more_alerts = true;
                self.tell(&before, &records, &[], now);
                self.carry_out(effects);
            }
            Err(error) => self.journal_failed(&error),
        }
    }

    /// Waits for something to happen, then takes everything that has.
    async fn gather(&mut self, stop: &CancellationToken) -> Inputs {
        let mut inputs = std::mem::take(&mut self.memory.again);
        let now = self.clock.now();
        let wait = self.memory.wake_at.map_or(super::cycle::TICK, |at| at.since(now)).min(super::cycle::TICK);
        let rest_until = self.memory.rest_until;
        let idle = (!self.memory.more_alerts || rest_until.is_some()) && self.memory.commands.is_empty();
        let mut alerts = self.memory.more_alerts;
        if idle {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                event = self.events.recv() => if let Some(event) = event { self.take_event(event, &mut inputs) },
                () = self.shared.intake.notified(), if rest_until.is_none() => alerts = true,
                () = rested(rest_until), if rest_until.is_some() => alerts = true,
                batch = self.observations.recv() => match batch {
                    Some(batch) => inputs.observations.extend(batch),
                    // The checks have ended; their absence shows as blindness.
                    None => tokio::time::sleep(wait).await,
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
        let rests = rest_until.is_some_and(|until| tokio::time::Instant::now() < until);
        if !rests {
            self.memory.rest_until = None;
        }
        for _ in 0..EVENTS_MAX {
            match self.events.try_recv() {
                Ok(event) => self.take_event(event, &mut inputs),
                Err(_) => break,
            }
        }
        for _ in 0..EVENTS_MAX {
            match self.observations.try_recv() {
                Ok(batch) => inputs.observations.extend(batch),
                Err(_) => break,
            }
        }
        if !rests && (alerts || self.shared.backlog.load(Ordering::Relaxed) > 0) {
            inputs.alerts = self.pending_alerts().await;
        }
        if let Some((command, _)) = self.memory.commands.front() {
            inputs.command = Some(command.clone());
        }
        inputs
    }

    fn take_event(&mut self, event: Event, inputs: &mut Inputs) {
        match event {
            Event::Answered(answered) => {
                if crate::execute::engine::panicked(&answered.answer) {
                    self.halt(&answered);
                }
                inputs.answers.push(answered);
            }
            Event::Inquired(inquired) => inputs.inquiries.push(inquired),
            Event::Prepared(prepared) => inputs.prepared.push(prepared),
            Event::Hooked(hooked) => inputs.hooked.push(hooked),
            Event::Healed(round) => inputs.healed.push(round),
            // Nothing of the intake's is half done in memory: whether it was written or not, it will be sent again.
            Event::JournalFailed(error) if error.kind == StoreErrorKind::Ambiguous => {
                self.journal_failed(&StoreError::new(StoreErrorKind::Unavailable, error.to_string()));
            }
            Event::JournalFailed(error) => self.journal_failed(&error),
            Event::Command(_, answer) if self.memory.commands.len() >= COMMANDS_MAX => {
                // Whoever asked may have gone.
                let _ = answer.send(Err(CommandError::NotDurable("too many commands wait; try again".to_owned())));
            }
            Event::Command(command, answer) => self.memory.commands.push_back((command, answer)),
            // Whoever asked has given it up, and what goes with it.
            Event::Reload(reload) if reload.done.is_closed() => {}
            Event::Stalled(why) => self.cycle.set_blind("task_stalled", why),
            Event::Reload(reload) => {
                // They were observed under the old settings.
                inputs.observations.clear();
                self.reload(*reload);
            }
        }
    }

    /// A means of ours broke an invariant while it acted: nothing more is begun until the workers are restarted.
    fn halt(&mut self, answered: &Answered) {
        let why = format!("{} ended in a panic; nothing is begun until a restart", answered.key);
        tracing::error!("a person is needed: {why}: {}", answered.answer.detail);
        self.memory.halted = true;
        self.executor.close();
        self.cycle.set_stopping();
        self.cycle.set_blind("actuator_panicked", Some(why));
    }

    async fn pending_alerts(&mut self) -> Vec<(u64, IntakeAlert)> {
        self.memory.more_alerts = false;
        let Journal::Open(store, _) = &self.journal else { return Vec::new() };
        if !self.memory.journal_ok {
            return Vec::new();
        }
        match store.pending(self.state.intake, ALERTS_MAX).await {
            Ok(alerts) => {
                self.memory.more_alerts = alerts.len() == ALERTS_MAX;
                if alerts.is_empty() {
                    self.shared.backlog.store(0, Ordering::Relaxed);
                }
                alerts
            }
            Err(error) => {
                self.journal_failed(&error);
                Vec::new()
            }
        }
    }

    async fn step(&mut self, mut inputs: Inputs) {
        let now = self.clock.now();
        self.look_at_clock(now);
        self.look_at_checks(&inputs);
        if self.memory.wary && self.cycle.started_up() {
            self.memory.wary = false;
            self.cycle.set_blind("decider", None);
            self.cycle.set_blind_floor(crate::model::Level::AllowAll);
        }
        if self.memory.journal_ok {
            self.probe_journal(now).await;
        } else {
            self.try_journal(now).await;
        }
        if self.memory.journal_ok && !self.memory.resolved {
            self.after_restart().await;
        }
        if !self.memory.journal_ok {
            // What a crash interrupted is not touched, and no alert is taken, while nothing can be written.
            self.memory.again.inquiries.append(&mut inputs.inquiries);
            inputs.alerts.clear();
        }
        let waiting = self.shared.backlog.load(Ordering::Relaxed);
        self.cycle.set_alerts_waiting(waiting > inputs.alerts.len() as u64);
        let decision = self.cycle.step(&self.state, &inputs, now);
        let committed = if self.memory.journal_ok { self.commit(now, decision.records.clone()).await } else { Ok(()) };
        if committed.is_ok() && self.memory.journal_ok && !decision.records.is_empty() {
            failpoint::pass_task("decider.committed").await;
        }
        match committed {
            Ok(()) => self.adopt(inputs, decision, now),
            Err(error) => {
                self.journal_failed(&error);
                self.cycle.not_durable(&self.state);
                self.memory.again.inquiries.append(&mut inputs.inquiries);
                inputs.alerts.clear();
                // They are known by now; a second telling would count them twice.
                inputs.observations.clear();
                inputs.healed.clear();
                let decision = self.cycle.step(&self.state, &inputs, now);
                self.adopt(inputs, decision, now);
            }
        }
        if self.state.seq.saturating_sub(self.memory.last_snapshot) >= SNAPSHOT_EVERY {
            self.snapshot().await;
        }
    }

    /// The decision holds: durable, or in memory while the journal cannot be written.
    fn adopt(&mut self, inputs: Inputs, decision: Decision, now: Timestamp) {
        let Decision { records, state, effects, wake_at, answer, held_up } = decision;
        held_up.into_iter().for_each(|reason| self.shared.metrics.admission_refused(reason));
        let before = std::mem::replace(&mut self.state, state);
        self.memory.wake_at = Some(wake_at);
        self.tell(&before, &records, &inputs.alerts, now);
        let (hooks, effects): (Vec<Effect>, Vec<Effect>) = effects
            .into_iter()
            .partition(|effect| matches!(effect, Effect::Tell(_) | Effect::Look(_) | Effect::WouldTell { .. }));
        if self.memory.journal_ok {
            self.carry_out(effects);
        } else {
            self.remember(now, records);
            self.carry_out(effects.into_iter().filter(|effect| matches!(effect, Effect::ForceCheck(_))).collect());
        }
        let taken = inputs.alerts.len() as u64;
        let _ = self
            .shared
            .backlog
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |backlog| Some(backlog.saturating_sub(taken)));
        self.publish(&inputs.observations, now);
        // After that, so that a hook tells the sequence of the policy it tells.
        self.tell_bot(hooks);
        if inputs.command.is_some()
            && let Some((_, asker)) = self.memory.commands.pop_front()
        {
            let result = match answer.unwrap_or_else(|| Ok(String::new())) {
                Err(why) => Err(CommandError::Refused(why)),
                Ok(begun) if self.memory.journal_ok => Ok(begun),
                Ok(_) => {
                    Err(CommandError::NotDurable("it holds in memory, but the journal cannot be written".to_owned()))
                }
            };
            // Whoever asked may have gone.
            let _ = asker.send(result);
        }
    }

    /// Keeps what was decided in memory until the journal takes it; a journal that is gone never will.
    fn remember(&mut self, now: Timestamp, records: Vec<Record>) {
        if matches!(self.journal, Journal::Gone(..)) || records.is_empty() {
            return;
        }
        self.memory.unflushed_records += records.len();
        self.memory.unflushed.push_back((now, records));
        if self.memory.unflushed_records > UNFLUSHED_MAX {
            self.lose_journal("journal_unavailable", "too much was decided while it could not be written");
        }
    }

    fn tell(&mut self, before: &State, records: &[Record], alerts: &[(u64, IntakeAlert)], now: Timestamp) {
        let step = Step { before, after: &self.state, records, alerts, now };
        for alert in step.account(&self.shared.metrics) {
            if self.operator.try_send(alert).is_err() {
                tracing::error!("an operator alert was dropped: its log cannot keep up");
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::ForceCheck(index) => self.runner.force(index),
                Effect::Prepare(key) => self.executor.prepare(&self.state, &self.cycle.rules().bindings, &key),
                Effect::Start(key) => self.executor.start(&self.state, &self.cycle.rules().bindings, &key),
                Effect::Inquire(key) => self.executor.inquire(&self.state, &self.cycle.rules().bindings, &key),
                Effect::Tell(_) | Effect::Look(_) | Effect::WouldTell { .. } => {}
            }
        }
    }

    /// Tells the bot of the policy; while the journal cannot be written, only what tightens.
    fn tell_bot(&self, effects: Vec<Effect>) {
        let hooks = &self.cycle.rules().hooks;
        let find = |name: &Name| hooks.iter().find(|hook| hook.rule.name == *name);
        for effect in effects {
            let (telling, tells) = match effect {
                Effect::Tell(telling) if self.memory.journal_ok || telling.tightens() => (telling, true),
                Effect::Look(telling) => (telling, false),
                Effect::WouldTell { hook, level } => {
                    tracing::info!(hook = %hook, policy = level.as_str(), "would have told the bot of the policy");
                    continue;
                }
                _ => continue,
            };
            if let Some(hook) = find(&telling.hook) {
                self.executor.hook(hook, telling, tells.then_some(self.sequence), &self.clock);
            }
        }
    }

    async fn commit(&mut self, now: Timestamp, records: Vec<Record>) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        self.memory.last_written = Some(self.clock.since_boot());
        write(&self.journal, self.state.seq, now, records).await
    }

    fn journal_failed(&mut self, error: &StoreError) {
        self.shared.metrics.journal_error(error.kind.as_str());
        match error.kind {
            StoreErrorKind::Unavailable | StoreErrorKind::Full | StoreErrorKind::Ambiguous => {
                if self.memory.journal_ok {
                    let cause = error.source.as_ref().map(ToString::to_string).unwrap_or_default();
                    tracing::error!(
                        reason = error.kind.as_str(),
                        cause,
                        "the journal cannot be written; nothing is begun: {error}"
                    );
                }
                self.memory.journal_ok = false;
                self.memory.more_alerts = false;
                self.cycle.set_journal_ok(false);
                self.cycle.set_blind("journal_unavailable", Some(error.to_string()));
                if error.kind == StoreErrorKind::Ambiguous {
                    self.lose_journal("journal_unavailable", &error.to_string());
                }
            }
            StoreErrorKind::Busy => {}
            StoreErrorKind::Fenced => self.lose_journal("journal_fenced", &error.to_string()),
            StoreErrorKind::Corrupt | StoreErrorKind::Rewound | StoreErrorKind::Conflict => {
                self.lose_journal("journal_corrupt", &error.to_string());
            }
        }
    }

    /// Nothing is begun until chiron is restarted; exporting and tightening go on.
    fn lose_journal(&mut self, condition: &'static str, why: &str) {
        tracing::error!(condition, "chiron refuses to act until it is restarted: {why}");
        self.memory.journal_ok = false;
        self.memory.more_alerts = false;
        self.memory.unflushed = VecDeque::new();
        self.memory.unflushed_records = 0;
        self.cycle.set_journal_ok(false);
        self.cycle.set_blind(condition, Some(why.to_owned()));
        self.journal = Journal::Gone(condition, why.to_owned());
    }

    /// Writes what was decided in memory, as soon as the journal takes it; and acts again once it has room to spare.
    async fn try_journal(&mut self, now: Timestamp) {
        let boot = self.clock.since_boot();
        if self.memory.last_tried.is_some_and(|last| boot.saturating_sub(last) < super::cycle::TICK) {
            return;
        }
        self.memory.last_tried = Some(boot);
        let Journal::Open(store, _) = &self.journal else { return };
        let flushed = self.memory.unflushed_records;
        while let Some((at, records)) = self.memory.unflushed.front().cloned() {
            let durable = self.state.seq - self.memory.unflushed_records as u64;
            let count = records.len();
            if let Err(error) = write(&self.journal, durable, at, records).await {
                return self.journal_failed(&error);
            }
            self.memory.unflushed.pop_front();
            self.memory.unflushed_records -= count;
        }
        if let Err(error) = probe(store, now).await {
            return self.journal_failed(&error);
        }
        tracing::info!(records = flushed, "the journal can be written again");
        self.memory.journal_ok = true;
        self.memory.more_alerts = true;
        self.cycle.set_blind("journal_unavailable", None);
        self.cycle.set_journal_ok(true);
    }

    /// A journal that is seldom written is tried all the same, so that trouble is known before it is needed.
    async fn probe_journal(&mut self, now: Timestamp) {
        let boot = self.clock.since_boot();
        if self.memory.last_written.is_some_and(|last| boot.saturating_sub(last) < PROBE_EVERY) {
            return;
        }
        self.memory.last_written = Some(boot);
        let Journal::Open(store, _) = &self.journal else { return };
        if let Err(error) = probe(store, now).await {
            self.journal_failed(&error);
        }
    }

    async fn snapshot(&mut self) {
        let Journal::Open(store, epoch) = &self.journal else { return };
        if !self.memory.journal_ok || self.state.seq == self.memory.last_snapshot {
            return;
        }
        let state = self.state.clone();
        let Ok(bytes) = super::tasks::blocking(move || serde_json::to_vec(&state)).await else { return };
        self.memory.last_snapshot = self.state.seq;
        if let Err(error) = store.snapshot(*epoch, self.state.seq, bytes, HISTORY_KEEP).await {
            tracing::warn!("snapshot not stored; the next start replays more: {error}");
        }
    }

    /// A wall clock that jumps against the time since boot: no hold relaxes on time that may not have passed (POL-4).
    fn look_at_clock(&mut self, now: Timestamp) {
        let boot = self.clock.since_boot();
        if let Some((wall_before, boot_before)) = self.memory.clocks.replace((now, boot)) {
            let expected = wall_before.plus(boot.saturating_sub(boot_before));
            let off = now.millis().saturating_sub(expected.millis());
            if Duration::from_millis(off.unsigned_abs()) > JUMP_MIN {
                let why = format!("the clock was set by {off} ms");
                tracing::warn!("{why}");
                self.cycle.shift_clock(off);
                self.cycle.set_blind("clock_jump", Some(why));
                self.memory.jumped = Some(boot);
            }
        }
        if self.memory.jumped.is_some_and(|jumped| boot.saturating_sub(jumped) >= JUMP_CARE) {
            self.memory.jumped = None;
            self.cycle.set_blind("clock_jump", None);
        }
    }

    /// Checks that no longer answer are blindness, not health (POL-4).
    fn look_at_checks(&mut self, inputs: &Inputs) {
        let boot = self.clock.since_boot();
        if !inputs.observations.is_empty() || self.runner.checks_total() == 0 {
            self.memory.last_observed = Some(boot);
        }
        let silent = boot.saturating_sub(self.memory.last_observed.unwrap_or(boot));
        let limit = self.cycle.rules().stalled_after;
        let stalled = silent > limit;
        self.cycle.set_blind(
            "checks_stalled",
            stalled.then(|| format!("no check has answered for more than {} s", limit.as_secs())),
        );
    }

    /// Puts the new picture where readers find it.
    fn publish(&mut self, observed: &[Observation], now: Timestamp) {
        let board = self.shared.board.load();
        for observation in observed {
            let Observation::Health { index, .. } = observation else { continue };
            match index.checked_sub(board.healths.len()) {
                None => {
                    let health = self.cycle.health(*index);
                    self.shared.metrics.bots.saw(&health);
                    board.healths[*index].store(health);
                }
                Some(point) => self.publish_point(&board, point),
            }
        }
        let document = policy_document(&self.state, self.cycle.rules(), self.sequence, now);
        let changed = self.memory.last_policy.as_ref().is_none_or(|last| {
            (last.policy, last.restrictions, last.latched, &last.reasons)
                != (document.policy, document.restrictions, document.latched, &document.reasons)
        });
        if changed {
            self.sequence += 1;
        }
        let document = Arc::new(PolicyDocument { sequence: self.sequence, ..document });
        self.memory.last_policy = Some(Arc::clone(&document));
        self.policy.send_replace(Arc::clone(&document));
        let previous = board.view.load();
        let view = View {
            at: now,
            state: self.state.clone(),
            rules: Arc::clone(&previous.rules),
            overall: self.cycle.overall(),
            summary: self.cycle.counts().summary(),
            started_up: self.cycle.started_up(),
            resources: self.cycle.resources().cloned().map(Arc::new),
            forecasts: self.cycle.forecasts(),
            waiting: self.cycle.waiting(),
            policy: document,
            blind: self.cycle.blind().map(|(name, why)| (name.to_string(), why.to_owned())).collect(),
            dry_run: self.cycle.rules().admit.dry_run,
            stormy: self.cycle.is_stormy(),
            hooks: self.cycle.hook_views(&self.state),
            workspace_seen: self.cycle.workspace_seen(),
        };
        super::account::storm(previous.stormy, &view);
        self.shared.metrics.hooks.show(view.hooks.iter().map(|hook| Row {
            hook: &hook.hook,
            proof: hook.proof,
            followed: hook.followed_at.is_some(),
            late: hook.late,
            told_at: hook.told_at,
        }));
        if !observed.is_empty() || previous.overall != view.overall {
            super::account::check_complete(previous.overall, &view, false);
        }
        board.view.store(Arc::new(view));
        for reason in BLIND_REASONS {
            let held = self
                .state
                .holds
                .keys()
                .any(|key| key.source == crate::model::PolicySource::Blindness && key.subject == *reason);
            let blind = held || self.cycle.blind().any(|(name, _)| *name == *reason);
            self.shared.metrics.blind(reason, blind);
        }
    }

    fn publish_point(&self, board: &Board, index: usize) {
        if let (Some(slot), Some(Some(health))) = (board.points.get(index), self.cycle.points().get(index)) {
            slot.store(Arc::clone(health));
        }
    }

    fn restore_metrics(&self) {
        self.shared.metrics.issues_forgotten();
        for episode in self.state.episodes.values() {
            self.shared.metrics.issue_restored(&episode.key.subsystem, &episode.key.kind, episode.facts.severity);
        }
        if let Some(at) = self.state.watchdog_at {
            self.shared.metrics.watchdog_seen(at);
        }
    }

    fn reload(&mut self, reload: Reload) {
        let Reload { rules, digest, by, runner, observations, done } = reload;
        let now = self.clock.now();
        self.cycle.reconfigure(rules, &self.state, now);
        if self.memory.halted {
            self.cycle.set_stopping();
        }
        self.runner = runner;
        self.observations = observations;
        self.memory.last_observed = Some(self.clock.since_boot());
        let previous = self.shared.board.load().view.load_full();
        let rules = Arc::new(self.cycle.rules().clone());
        let dry_run = rules.admit.dry_run;
        let board = Board::new(View { rules, dry_run, ..(*previous).clone() });
        for (index, slot) in board.healths.iter().enumerate() {
            slot.store(self.cycle.health(index));
        }
        (0..board.points.len()).for_each(|index| self.publish_point(&board, index));
        let board = Arc::new(board);
        self.shared.board.store(Arc::clone(&board));
        self.cycle.note_config(digest, by);
        // Whoever asked may have gone; the settings are in force all the same.
        let _ = done.send(board);
    }
}

/// Appends records after entry `durable`. An ambiguous answer is settled by reading the journal again: it holds either
/// all of them or none.
async fn write(journal: &Journal, durable: u64, now: Timestamp, records: Vec<Record>) -> Result<(), StoreError> {
    let (store, epoch) = match journal {
        Journal::Open(store, epoch) => (store, *epoch),
        Journal::Gone(_, why) => return Err(StoreError::new(StoreErrorKind::Unavailable, why.clone())),
    };
    let mut tries = 0;
    let error = loop {
        match store.commit(epoch, now, records.clone()).await {
            Ok(_) => return Ok(()),
            // Decisions are few and alerts are many: a decision waits for its place in the queue.
            Err(error) if error.kind == StoreErrorKind::Busy && tries < BUSY_TRIES => {
                tries += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(error) if error.kind == StoreErrorKind::Busy => {
                return Err(StoreError::new(StoreErrorKind::Unavailable, error.to_string()));
            }
            Err(error) => break error,
        }
    };
    if error.kind != StoreErrorKind::Ambiguous {
        return Err(error);
    }
    let mut tries = 0;
    let entries = loop {
        match store.history(durable, records.len() + 1).await {
            Ok(entries) => break entries,
            Err(_) if tries < SETTLE_TRIES => {
                tries += 1;
                tokio::time::sleep(SETTLE_PAUSE).await;
            }
            Err(_) => return Err(error),
        }
    };
    let written: Vec<&Record> = entries.iter().map(|entry| &entry.record).collect();
    if written.is_empty() {
        return Err(StoreError::new(StoreErrorKind::Unavailable, format!("{error}; nothing was written")));
    }
    if written.into_iter().eq(&records) {
        return Ok(());
    }
    Err(StoreError::new(StoreErrorKind::Corrupt, format!("{error}; other entries were found in its place")))
}

/// Whether the journal can be written. Whether the probe itself was written is nobody's concern.
async fn probe(store: &Arc<dyn JournalStore>, now: Timestamp) -> Result<(), StoreError> {
    store.probe(now).await.map_err(|error| match error.kind {
        StoreErrorKind::Ambiguous => StoreError::new(StoreErrorKind::Unavailable, error.to_string()),
        _ => error,
    })
}

/// Ends when a rest does.
async fn rested(until: Option<tokio::time::Instant>) {
    if let Some(until) = until {
        tokio::time::sleep_until(until).await;
    }
}
