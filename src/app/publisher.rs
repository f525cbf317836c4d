//! Writes what the bot and its operator read: the policy file, the report file, operator alerts.
//!
//! **Invariant:** a policy copy is only as fresh as the decision it comes from; a stalled decision task lets it expire.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::failpoint;
use crate::journal::{JournalStore, StoreError};
use crate::model::{FailurePoint, Health, PointsReport, PolicyDocument, Report, Status, Timestamp};
use crate::publish::{self, OperatorAlert, PointHealing};
use crate::telemetry::Progress;

use super::board::Board;
use super::points_log::{self, Story};
use super::report::report;
use super::task::Shared;
use super::tasks::{Lent, blocking};

/// How often the report file is replaced.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// How often it is looked whether there is something to tell of the failure points.
const POINTS_LOOK: Duration = Duration::from_millis(500);

/// How soon a change of the reasons alone is in the file.
const REASONS_WITHIN: Duration = Duration::from_secs(1);

/// How long the log of healings may wait for the journal in one turn: what the bot reads comes first.
const HISTORY_WITHIN: Duration = Duration::from_secs(1);

/// Where files go.
#[derive(Clone, Debug)]
pub struct Places {
    /// The policy file.
    pub policy: PathBuf,
    /// Where it is while its own folder is not there; it never is in both places for long.
    pub policy_fallback: PathBuf,
    /// The report file.
    pub report: PathBuf,
    /// The log of operator alerts.
    pub operator_alerts: PathBuf,
    /// The files about failure points.
    pub points: PointsPlaces,
}

/// Where it is told how the failure points are (OBS-8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointsPlaces {
    /// A line at every turn.
    pub log: PathBuf,
    /// The latest.
    pub summary: PathBuf,
    /// What was done about what they found (WSP-7).
    pub healing: PathBuf,
    /// How often.
    pub every: Duration,
    /// How many are configured.
    pub configured: usize,
}

/// What is published from.
pub struct Sources {
    /// The policy.
    pub policies: watch::Receiver<Arc<PolicyDocument>>,
    /// The journal, if it can be read at all, and its last entry when this process began.
    pub journal: Option<(Arc<dyn JournalStore>, u64)>,
}

/// The report of what readers see now.
pub fn current_report(board: &Board, now: Timestamp) -> Report {
    report(&board.view_at(now), &board.healths(), &board.points())
}

/// Publishes until told to stop; `wanted` asks for the report file now; the last policy is written before it ends.
pub async fn run(
    places: Arc<arc_swap::ArcSwap<Places>>,
    shared: Arc<Shared>,
    sources: Sources,
    mut alerts: Lent<mpsc::Receiver<OperatorAlert>>,
    mut wanted: Lent<mpsc::Receiver<oneshot::Sender<()>>>,
    progress: Progress,
    stop: CancellationToken,
) {
    let Sources { mut policies, journal } = sources;
    let mut written: Option<Arc<PolicyDocument>> = None;
    let mut healings = Healings::default();
    let mut report_due = tokio::time::interval(REPORT_EVERY);
    report_due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    report_due.reset();
    let mut troubles = Troubles::default();
    let mut points_due = tokio::time::interval(POINTS_LOOK);
    points_due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut monitor = Monitor::default();
    let mut placed = places.load_full();
    loop {
        failpoint::pass_task("publisher.turn").await;
        progress.beat();
        // A reload may have moved them, and a policy that has moved is written anew.
        let now_placed = places.load_full();
        if placed.policy != now_placed.policy {
            written = None;
        }
        placed = now_placed;
        let mut tells = false;
        tokio::select! {
            biased;
            changed = policies.changed() => if changed.is_err() { break },
            Some(alert) = alerts.recv() => {
                let path = placed.operator_alerts.clone();
                let result = blocking(move || publish::operator_alert(&path, &alert)).await;
                troubles.note("operator_alerts", &placed.operator_alerts, result);
            }
            _ = points_due.tick() => {
                let board = shared.board.load();
                let (points, told) = (board.points(), progress.clock().now());
                let configured = Arc::clone(&board.view.load().rules);
                drop(board);
                monitor.turn(&placed.points, &points, &configured.failure_points, told, &mut troubles).await;
                tells = true;
            }
            _ = report_due.tick() => write_report(&placed, &shared, progress.clock().now(), &mut troubles).await,
            Some(asked) = wanted.recv() => {
                write_report(&placed, &shared, progress.clock().now(), &mut troubles).await;
                // Whoever asked may have gone.
                let _ = asked.send(());
            }
            () = stop.cancelled() => break,
        }
        let latest = policies.borrow_and_update().clone();
        if is_due(written.as_deref(), &latest) {
            let (path, document) = (placed.policy.clone(), Arc::clone(&latest));
            let result = blocking(move || publish::policy(&path, &document)).await;
            if result.is_ok() {
                if written.is_none() {
                    let left = sweep_policy(&placed).await;
                    troubles.note("policy_fallback", &placed.policy_fallback, left);
                }
                written = Some(latest);
            }
            troubles.note("policy", &placed.policy, result);
        }
        if let Some((store, from)) = journal.as_ref().filter(|_| tells) {
            let result = healings.turn(&**store, *from, &placed.points, &shared).await;
            troubles.note("failure_point_healing", &placed.points.healing, result);
        }
    }
    while let Ok(alert) = alerts.try_recv() {
        let path = placed.operator_alerts.clone();
        let result = blocking(move || publish::operator_alert(&path, &alert)).await;
        troubles.note("operator_alerts", &placed.operator_alerts, result);
    }
}

/// Removes the policy file from where it was before its own folder was there: nobody renews that one any more.
async fn sweep_policy(places: &Places) -> std::io::Result<()> {
    if places.policy == places.policy_fallback {
        return Ok(());
    }
    let path = places.policy_fallback.clone();
    blocking(move || publish::remove_policy(&path)).await
}

async fn write_report(places: &Places, shared: &Shared, now: Timestamp, troubles: &mut Troubles) {
    let (report, path) = (current_report(&shared.board.load(), now), places.report.clone());
    let result = blocking(move || publish::report(&path, &report)).await;
    troubles.note("report", &places.report, result);
}

/// When the failure points were told of last.
#[derive(Debug, Default)]
struct Monitor {
    begun: Option<Instant>,
    line_at: Option<Instant>,
    told: Option<PointsReport>,
    /// It was seen to that no summary tells of failure points that are no longer configured.
    swept: bool,
}

impl Monitor {
    /// A line when it is due: the first once every configured point was looked at, or a whole turn has passed; then at
    /// every turn. The summary with it, and as soon as a status changes.
    async fn turn(
        &mut self,
        places: &PointsPlaces,
        found: &[Arc<Health>],
        configured: &[FailurePoint],
        now: Timestamp,
        troubles: &mut Troubles,
    ) {
        if places.configured == 0 {
            return self.sweep(places, found, now, troubles).await;
        }
        self.swept = false;
        let points = PointsReport::of(found.iter().map(|health| &**health), configured);
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let looked = found.iter().filter(|health| health.timestamp > Timestamp::EPOCH).count();
        let line_due = match self.line_at {
            Some(at) => at.elapsed() >= places.every,
            None => looked >= places.configured || begun.elapsed() >= places.every,
        };
        let statuses =
            |points: &PointsReport| -> Vec<Status> { points.categories.values().map(|health| health.status).collect() };
        let news = self.told.as_ref().is_some_and(|told| {
            (statuses(told), told.overall_status, &told.configured)
                != (statuses(&points), points.overall_status, &points.configured)
        });
        if !line_due && !news {
            return;
        }
        let record = publish::PointsRecord { timestamp: now, points };
        if line_due {
            self.line_at = Some(Instant::now());
            let (path, line) = (places.log.clone(), record.clone());
            let result = blocking(move || publish::points_line(&path, &line)).await;
            troubles.note("failure_points", &places.log, result);
        }
        let (path, latest) = (places.summary.clone(), record.clone());
        let result = blocking(move || publish::points_summary(&path, &latest)).await;
        troubles.note("failure_points_summary", &places.summary, result);
        self.told = Some(record.points);
    }

    /// Nothing is configured: what a summary of before tells, of this process or another, is no longer so.
    async fn sweep(&mut self, places: &PointsPlaces, found: &[Arc<Health>], now: Timestamp, troubles: &mut Troubles) {
        if self.swept {
            return;
        }
        let all: Vec<Health> = found.iter().map(|health| Health::unknown(health.subsystem.clone())).collect();
        let record = publish::PointsRecord { timestamp: now, points: PointsReport::of(&all, &[]) };
        let path = places.summary.clone();
        let result =
            blocking(move || if publish::is_file(&path) { publish::points_summary(&path, &record) } else { Ok(()) })
                .await;
        *self = Self { swept: result.is_ok(), ..Self::default() };
        troubles.note("failure_points_summary", &places.summary, result);
    }
}

/// What was done about failure points, told from the journal: each entry once, also over a crash (WSP-7).
#[derive(Default)]
struct Healings {
    /// The last entry that is told, and what is known of the issues; `None` before the log was looked at.
    told: Option<(u64, Story)>,
    /// A line that could not be written yet.
    unwritten: Option<PointHealing>,
}

/// Entries read at once, and in one turn.
const ENTRIES_PAGE: usize = 500;
const PAGES_MAX: usize = 20;

impl Healings {
    /// Tells what has been journaled since. What cannot be written is tried again with the next turn, from where it stopped.
    async fn turn(
        &mut self,
        store: &dyn JournalStore,
        from: u64,
        places: &PointsPlaces,
        shared: &Shared,
    ) -> std::io::Result<()> {
        let path = &places.healing;
        let view = shared.board.load().view.load_full();
        let read = |error: StoreError| std::io::Error::other(error.to_string());
        let deadline = Instant::now() + HISTORY_WITHIN;
        // A file is waited for, so that no line is written twice; the journal is not.
        let history = async |after: u64, limit: usize| {
            let late =
                |_| std::io::Error::other(format!("the journal did not answer within {} s", HISTORY_WITHIN.as_secs()));
            tokio::time::timeout_at(deadline, store.history(after, limit)).await.map_err(late)?.map_err(read)
        };
        if self.told.is_none() {
            let log = path.to_owned();
            let last = blocking(move || publish::last_healing(&log)).await;
            let before = last.map(|mark| mark.seq.saturating_sub(1));
            let named = match before {
                Some(before) => history(before, 1).await?.first().map(|entry| entry.at),
                None => None,
            };
            self.told = Some((points_log::goes_on_after(last.as_ref(), named, from), Story::of(&view.state)));
        }
        self.write(path).await?;
        let Some((seq, story)) = &mut self.told else { return Ok(()) };
        // Only a state of exactly then knows which issues are open.
        if *seq == view.state.seq {
            story.forget_ended(&view.state);
        }
        if places.configured == 0 && story.is_over() {
            *seq = view.state.seq.max(*seq);
            return Ok(());
        }
        for _ in 0..PAGES_MAX {
            let Some((seq, _)) = &self.told else { return Ok(()) };
            // A journal that cannot be written now holds less than was decided.
            if *seq >= view.state.seq {
                return Ok(());
            }
            let entries = history(*seq, ENTRIES_PAGE).await?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                let points = shared.board.load().points();
                let suggestion = |category: &str| {
                    let point = points.iter().find(|health| health.subsystem == *category)?;
                    point.details.get("suggestion")?.as_str().map(str::to_owned)
                };
                let Some((seq, story)) = &mut self.told else { return Ok(()) };
                self.unwritten = story.line(&entry, suggestion);
                *seq = entry.seq;
                self.write(path).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, path: &std::path::Path) -> std::io::Result<()> {
        if let Some(line) = self.unwritten.clone() {
            let path = path.to_owned();
            blocking(move || publish::points_healing(&path, &line)).await?;
            self.unwritten = None;
        }
        Ok(())
    }
}

/// A change of what the bot may do is written at once; other reasons for the same within a second; the same policy again
/// when a third of its validity has gone.
fn is_due(written: Option<&PolicyDocument>, latest: &PolicyDocument) -> bool {
    written.is_none_or(|written| {
        let says = |document: &PolicyDocument| (document.policy, document.restrictions, document.latched);
        let age = latest.issued_at.since(written.issued_at);
        says(written) != says(latest)
            || written.sequence != latest.sequence && age >= REASONS_WITHIN
            || age * 3 >= latest.valid_until.since(latest.issued_at)
            // A clock that was set back makes no copy young.
            || latest.issued_at < written.issued_at
    })
}

/// Files that could not be written last time, so that trouble is logged when it begins and when it ends.
#[derive(Debug, Default)]
struct Troubles(std::collections::BTreeSet<&'static str>);

impl Troubles {
    fn note(&mut self, what: &'static str, path: &std::path::Path, result: std::io::Result<()>) {
        match result {
            Ok(()) => {
                if self.0.remove(what) {
                    tracing::info!(what, path = %path.display(), "file can be written again");
                }
            }
            Err(error) => {
                if self.0.insert(what) {
                    tracing::error!(what, path = %path.display(), "file cannot be written: {error}");
                }
            }
        }
    }
}
