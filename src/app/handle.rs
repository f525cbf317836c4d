//! What HTTP sees of chiron: reads answer from the board, changes go to the decision task.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::admit::window::Window;
use crate::alerts;
use crate::base::clock::Clock;
use crate::http::{Group, Handle, PageFormat, Refusal, WantedRuns};
use crate::journal::{AuditEntry, Episode, JournalStore, Maintenance, StoreErrorKind};
use crate::model::{Caller, Health, IntakeAlert, Level, Name, PolicyDocument, Pushed, Report, Subsystem, Timestamp};
use crate::observe::inbox::{Inbox, PushError};
use crate::observe::runner::RunnerHandle;
use crate::telemetry::exposition::{Page, render};

use super::approvals::Answer;
use super::cycle::{Command, Refused};
use super::episodes::issue_of;
use super::maintenance::Announcement;
use super::publisher::current_report;
use super::report::recommendation_states;
use super::supervisor::Away;
use super::task::{CommandError, Event, Shared};

/// Accepted alerts not yet taken; beyond this the webhook says 503 and Alertmanager keeps the duty.
const BACKLOG_MAX: u64 = 20_000;
/// How long a forced check may take.
const FORCE_LIMIT: Duration = Duration::from_secs(30);

/// A request to load the settings again.
#[derive(Debug)]
pub struct ReloadRequest {
    /// Who asks; `None` for a signal.
    pub by: Option<String>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// A request to restart the workers, and where the answer goes.
pub struct RestartRequest {
    /// Who.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
    /// The reason if they do not run again.
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// The handle.
pub struct AppHandle {
    /// What the decision task shares.
    pub shared: Arc<Shared>,
    /// The store, if the journal could be opened.
    pub store: Option<Arc<dyn JournalStore>>,
    /// To the decision task.
    pub events: mpsc::Sender<Event>,
    /// To the publisher: the report file is wanted now.
    pub reports: mpsc::Sender<oneshot::Sender<()>>,
    /// To the supervisor.
    pub reloads: mpsc::Sender<ReloadRequest>,
    /// To the supervisor.
    pub restarts: mpsc::Sender<RestartRequest>,
    /// The checks in force.
    pub runner: Arc<arc_swap::ArcSwap<RunnerHandle>>,
    /// What is pushed.
    pub inbox: Arc<Inbox>,
    /// Whether the decision task is away.
    pub away: Away,
    /// The settings in force, for people.
    pub config: Arc<arc_swap::ArcSwap<Value>>,
    /// The bindings, and whether each would work.
    pub readiness: Arc<super::preflight::Readiness>,
    /// The healer's.
    pub healings: Arc<super::healer::Desk>,
    /// The policy as it changes and is renewed.
    pub policies: watch::Receiver<Arc<PolicyDocument>>,
    /// Woken when the Alertmanagers are to be asked now.
    pub poll_now: Notify,
    /// Looks up what is remembered no longer.
    pub past: super::past::Past,
    /// The clock.
    pub clock: Clock,
}

impl AppHandle {
    async fn command(&self, command: Command) -> Result<String, Refusal> {
        let gone = || Refusal::Unavailable("the decision task does not answer".to_owned());
        let (answer, told) = oneshot::channel();
        self.events.send(Event::Command(command, answer)).await.map_err(|_| gone())?;
        match told.await.map_err(|_| gone())? {
            Ok(begun) => Ok(begun),
            Err(CommandError::Refused(Refused::Conflict(why))) => Err(Refusal::Conflict(why)),
            Err(CommandError::Refused(Refused::NotFound(why))) => Err(Refusal::NotFound(why)),
            Err(CommandError::Refused(Refused::Forbidden(why))) => Err(Refusal::Forbidden(why)),
            Err(CommandError::NotDurable(why)) => Err(Refusal::Unavailable(why)),
        }
    }
}

#[async_trait]
impl Handle for AppHandle {
    fn metrics_page(&self, format: PageFormat, out: &mut Vec<u8>) {
        let board = self.shared.board.load();
        let view = board.view_at(self.clock.now());
        let healths = board.healths();
        let points = board.points();
        let criticalities: Vec<_> = view.rules.subsystems.iter().map(|subsystem| subsystem.criticality).collect();
        let recommendations = recommendation_states(&view);
        let now = self.clock.now();
        let windows = view.rules.admit.windows.iter();
        let windows: Vec<(Name, bool)> =
            windows.map(|window| (window.name.clone(), window.open_at(now).is_some())).collect();
        let page = Page {
            stormy: view.stormy,
            windows: &windows,
            announced: view.state.maintenance.len(),
            healths: &healths,
            points: &points,
            criticalities: &criticalities,
            overall: view.overall,
            recommendations: &recommendations,
            policy: &view.policy,
            resources: view.resources.as_deref(),
            forecasts: &view.forecasts,
            dry_run: view.dry_run,
            ready: self.ready().is_ok(),
            open_runs: view.state.runs.len(),
            check_lag_seconds: lag(&healths, &view.rules.intervals, self.clock.now()),
            journal_seq: view.state.seq,
            intake_pending: self.shared.backlog.load(Ordering::Relaxed),
        };
        render(&page, &self.shared.metrics, format, out);
    }

    fn metrics_page_waits(&self) -> bool {
        self.shared.metrics.reads_files()
    }

    fn report(&self) -> Arc<Report> {
        Arc::new(current_report(&self.shared.board.load(), self.clock.now()))
    }

    /// From the same place as what is waited for and streamed, so that no bot is told of a change and then asks the gate
    /// about what was before it.
    fn policy(&self) -> Arc<PolicyDocument> {
        Arc::clone(&self.policies.borrow())
    }

    fn policies(&self) -> watch::Receiver<Arc<PolicyDocument>> {
        self.policies.clone()
    }

    fn policy_hooks(&self) -> Vec<Value> {
        let board = self.shared.board.load();
        board.view.load().hooks.iter().map(|hook| json!(hook)).collect()
    }

    fn ended_issues(&self) -> Vec<Value> {
        let board = self.shared.board.load();
        let view = board.view.load();
        let issue = |episode: &Arc<Episode>| {
            let mut value = serde_json::to_value(issue_of(episode, None)).ok()?;
            value["status"] = "resolved".into();
            value["resolved_at"] = json!(episode.resolved_at);
            Some(value)
        };
        view.state.ended_episodes.iter().rev().filter_map(issue).collect()
    }

    fn subsystems(&self) -> Vec<Value> {
        let board = self.shared.board.load();
        let view = board.view.load();
        let mut subsystems: Vec<_> = view.rules.subsystems.iter().zip(board.healths()).collect();
        subsystems.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let one = |(subsystem, health): (&Subsystem, Arc<Health>)| {
            let mut value = serde_json::to_value(&*health).ok()?;
            value["criticality"] = json!(subsystem.criticality);
            value["depends_on"] = json!(subsystem.depends_on);
            Some(value)
        };
        subsystems.into_iter().filter_map(one).collect()
    }

    fn failure_points(&self) -> Vec<Value> {
        let board = self.shared.board.load();
        let view = board.view.load();
        let one = |health: Arc<Health>| {
            let mut value = serde_json::to_value(&*health).ok()?;
            let point = view.rules.failure_points.iter().find(|point| point.category == health.subsystem);
            value["category"] = json!(health.subsystem);
            value["configured"] = json!(point.is_some());
            value["subsystem"] = json!(point.map(|point| &point.subsystem));
            Some(value)
        };
        board.points().into_iter().filter_map(one).collect()
    }

    fn config(&self) -> Arc<Value> {
        self.config.load_full()
    }

    fn turned_away(&self, group: Group, code: &'static str) {
        self.shared.metrics.request_refused(group.as_str(), code);
    }

    fn web_config(&self, ok: bool, certificate_until: Option<Timestamp>) {
        self.shared.metrics.web_config(ok, certificate_until);
    }

    fn push(&self, pushed: Pushed) -> Result<(), Refusal> {
        let refusal = |error: PushError| match error {
            PushError::Unknown { .. } => Refusal::NotFound(error.to_string()),
            PushError::Invalid(_) => Refusal::Invalid(error.to_string()),
        };
        if let Some(index) = self.inbox.push(pushed).map_err(refusal)? {
            self.runner.load().force(index);
        }
        Ok(())
    }

    fn vitals(&self) -> Value {
        self.inbox.tell()
    }

    fn active_alerts(&self) -> Vec<Value> {
        let board = self.shared.board.load();
        let view = board.view.load();
        view.state
            .alerts
            .values()
            .map(|alert| {
                json!({
                    "fingerprint": alert.fingerprint,
                    "labels": alert.labels,
                    "starts_at": alert.starts_at,
                    "since": alert.since,
                    "policy": alert.policy,
                    "issue_id": alert.episode,
                    "resolved_unproven_since": alert.unproven,
                })
            })
            .collect()
    }

    fn runs(&self, wanted: &WantedRuns<'_>) -> Vec<Value> {
        super::ledger::actions(super::ledger::Facts::of(&self.shared.board.load().view.load()), wanted)
    }

    fn workspace(&self) -> Value {
        self.healings.tell()
    }

    fn workspace_shortly(&self) -> Value {
        self.healings.tell_shortly()
    }

    async fn healings(&self) -> Result<Vec<Value>, Refusal> {
        self.healings.healings().await
    }

    async fn healing(&self, id: String) -> Result<Value, Refusal> {
        self.healings.healing(id).await
    }

    async fn heal(&self, dry_run: bool, by: Caller) -> Result<Option<Value>, Refusal> {
        self.healings.heal(dry_run, by).await
    }

    async fn undo_healing(&self, id: String, force: bool, by: Caller) -> Result<Option<Value>, Refusal> {
        self.healings.rollback(id, force, by).await
    }

    async fn story(&self, id: String) -> Result<Value, Refusal> {
        let known = super::ledger::Id::parse(&id).ok_or_else(|| {
            let short: String = id.chars().take(100).collect();
            let expected = "expected the key of a run (ISSUE/RUNG/ATTEMPT) or a recommendation (rec_N_ISSUE)";
            Refusal::NotFound(format!("`{short}` is no action; {expected}"))
        })?;
        let view = self.shared.board.load().view.load_full();
        if let Some(story) = super::ledger::story(super::ledger::Facts::of(&view), &known) {
            return Ok(story);
        }
        let past = match &self.store {
            Some(store) => self.past.state(&**store, &known, view.state.seq).await?,
            None => None,
        };
        let story = past.and_then(|state| super::ledger::story(super::ledger::Facts::past(&state, &view), &known));
        story.ok_or_else(|| {
            let list = "/api/v1/actions lists what is remembered, /api/v1/journal has all that is kept";
            Refusal::NotFound(format!("there is no action `{id}`, or it is too long ago; {list}"))
        })
    }

    fn bindings(&self) -> Vec<Value> {
        self.readiness.tell()
    }

    fn ready(&self) -> Result<(), String> {
        if let Some(why) = self.away.why() {
            return Err(format!("the decision task is away: {why}"));
        }
        let board = self.shared.board.load();
        let view = board.view.load();
        if view.at == Timestamp::EPOCH {
            return Err("the journal is being read".to_owned());
        }
        if let Some(trouble) = journal_trouble(&view) {
            return Err(trouble);
        }
        if !view.started_up {
            return Err("not every check has answered since the start".to_owned());
        }
        Ok(())
    }

    fn dry_run(&self) -> bool {
        self.shared.board.load().view.load().dry_run
    }

    fn webhook_settings(&self) -> Arc<alerts::Settings> {
        Arc::clone(&self.shared.board.load().view.load().rules.alerts)
    }

    fn refused(&self, code: &'static str) {
        self.shared.metrics.webhook_refused(code);
    }

    async fn accept(&self, alerts: Vec<IntakeAlert>, truncated: u64) -> Result<(), Refusal> {
        if truncated > 0 {
            // What was left out is asked for.
            self.poll_now.notify_one();
        }
        let Some(store) = &self.store else {
            return Err(Refusal::Unavailable("the journal cannot be used; see chiron_blind".to_owned()));
        };
        let board = self.shared.board.load_full();
        if let Some(trouble) = journal_trouble(&board.view.load()) {
            return Err(Refusal::Unavailable(trouble));
        }
        let backlog = self.shared.backlog.load(Ordering::Relaxed);
        if backlog > BACKLOG_MAX {
            return Err(Refusal::Unavailable(format!("{backlog} accepted alerts wait to be taken")));
        }
        let count = alerts.len() as u64;
        self.shared.backlog.fetch_add(count, Ordering::Relaxed);
        match store.accept(alerts).await {
            Ok(()) => {
                self.shared.intake.notify_one();
                Ok(())
            }
            Err(error) => {
                let undo = |backlog: u64| Some(backlog.saturating_sub(count));
                let _ = self.shared.backlog.fetch_update(Ordering::Relaxed, Ordering::Relaxed, undo);
                let refusal = Refusal::Unavailable(error.to_string());
                // The decision task counts it, and tightens unless it is mere back-pressure. If it cannot be told, it is behind
                // with worse.
                let _ = self.events.try_send(Event::JournalFailed(error));
                Err(refusal)
            }
        }
    }

    async fn force_check(&self) -> Result<Arc<Report>, Refusal> {
        let runner = self.runner.load_full();
        let started = self.clock.now();
        let all = async {
            runner.force_all().await;
            // The observations are sent; the decision that takes them publishes a view that is newer than they are.
            loop {
                let board = self.shared.board.load_full();
                let seen = board.healths.iter().all(|slot| slot.load().timestamp >= started);
                if seen && board.view.load().at >= started && board.view.load().started_up {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(FORCE_LIMIT, all).await.is_err() {
            return Err(Refusal::Unavailable(format!("not every check answered within {} s", FORCE_LIMIT.as_secs())));
        }
        let view = self.shared.board.load().view.load_full();
        super::account::check_complete(view.overall, &view, true);
        let (answer, written) = oneshot::channel();
        if self.reports.send(answer).await.is_ok() {
            // An error means that chiron is stopping.
            let _ = written.await;
        }
        Ok(self.report())
    }

    async fn restart(&self, by: Caller, reason: String) -> Result<(), Refusal> {
        let (answer, told) = oneshot::channel();
        let request = RestartRequest { by: by.name, reason, answer };
        let busy = |_| Refusal::Conflict("a restart is asked for already, or chiron is stopping".to_owned());
        self.restarts.try_send(request).map_err(busy)?;
        let gone = |_| Refusal::Unavailable("chiron is stopping".to_owned());
        told.await.map_err(gone)?.map_err(Refusal::Unavailable)
    }

    async fn approve(
        &self,
        recommendation: String,
        digest: String,
        by: Caller,
        reason: String,
    ) -> Result<Value, Refusal> {
        let answer = Answer { recommendation: recommendation.clone(), digest, by: by.name, reason };
        let run = self.command(Command::Approve(answer)).await?;
        Ok(json!({ "recommendation_id": recommendation, "run": run }))
    }

    async fn reject(&self, recommendation: String, digest: String, by: Caller, reason: String) -> Result<(), Refusal> {
        self.command(Command::Reject(Answer { recommendation, digest, by: by.name, reason })).await.map(drop)
    }

    async fn drill(&self, subsystem: String, by: Caller, reason: String) -> Result<String, Refusal> {
        self.command(Command::Drill { subsystem, by: by.name, reason }).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, Refusal> {
        let Some(store) = &self.store else {
            return Err(Refusal::Unavailable("the journal cannot be used".to_owned()));
        };
        store.audit(after, limit).await.map_err(|error| Refusal::Unavailable(error.to_string()))
    }

    async fn reload(&self, by: Caller) -> Result<(), String> {
        let (answer, told) = oneshot::channel();
        let gone = |_| "chiron is stopping".to_owned();
        self.reloads
            .send(ReloadRequest { by: Some(by.name), answer })
            .await
            .map_err(|_| "chiron is stopping".to_owned())?;
        told.await.map_err(gone)?
    }

    async fn set_policy(
        &self,
        level: Level,
        reason: String,
        by: Caller,
        until: Option<Timestamp>,
    ) -> Result<(), Refusal> {
        self.command(Command::SetPolicy { level, reason, by, until }).await.map(drop)
    }

    async fn release_policy(&self, by: Caller, reason: String) -> Result<(), Refusal> {
        self.command(Command::ReleasePolicy { by: by.name, reason }).await.map(drop)
    }

    fn maintenance(&self) -> Value {
        let view = self.shared.board.load().view.load_full();
        let now = self.clock.now();
        let window = |window: &Window| {
            let open = window.open_at(now);
            json!({
                "name": window.name,
                "cron": window.plan.text(),
                "timezone": window.plan.zone(),
                "duration": crate::config::span(window.duration),
                "subsystems": window.subsystems,
                "actions": window.actions,
                "open": open.is_some(),
                "since": open.map(|(from, _)| from),
                "until": open.map(|(_, until)| until),
                "next": window.plan.after(now),
            })
        };
        let announced = |(id, one): (&Name, &Maintenance)| {
            json!({
                "id": id,
                "subsystems": one.subsystems,
                "actions": one.actions,
                "since": one.since,
                "until": one.until,
                "by": one.by,
                "reason": one.reason,
            })
        };
        let windows: Vec<Value> = view.rules.admit.windows.iter().map(window).collect();
        let announced: Vec<Value> = view.state.maintenance.iter().map(announced).collect();
        json!({ "windows": windows, "announced": announced })
    }

    async fn announce(
        &self,
        subsystems: Vec<String>,
        actions: Vec<String>,
        until: Timestamp,
        by: Caller,
        reason: String,
    ) -> Result<String, Refusal> {
        self.command(Command::SetMaintenance(Announcement { subsystems, actions, until, by, reason })).await
    }

    async fn end_maintenance(&self, id: String, by: Caller, reason: String) -> Result<(), Refusal> {
        self.command(Command::EndMaintenance { id, by: by.name, reason }).await.map(drop)
    }

    async fn history(&self, after: u64, limit: usize) -> Result<Value, Refusal> {
        let Some(store) = &self.store else {
            return Err(Refusal::Unavailable("the journal cannot be used".to_owned()));
        };
        let entries = store.history(after, limit).await.map_err(|error| match error.kind {
            StoreErrorKind::Conflict => Refusal::Invalid(error.to_string()),
            _ => Refusal::Unavailable(error.to_string()),
        })?;
        serde_json::to_value(json!({ "entries": entries })).map_err(|error| Refusal::Unavailable(error.to_string()))
    }
}

/// Why nothing can be journaled now, if nothing can.
fn journal_trouble(view: &super::board::View) -> Option<String> {
    let (condition, why) = view.blind.iter().find(|(condition, _)| condition.starts_with("journal_"))?;
    Some(format!("{condition}: {why}"))
}

/// How far the latest check is behind its schedule, in seconds; 0 if none is.
fn lag(healths: &[Arc<crate::model::Health>], intervals: &[Duration], now: Timestamp) -> f64 {
    healths
        .iter()
        .zip(intervals)
        .filter(|(health, _)| health.timestamp > Timestamp::EPOCH)
        .map(|(health, interval)| now.since(health.timestamp.plus(*interval)).as_secs_f64())
        .fold(0.0, f64::max)
}
