//! Heals the workspace inside `run`: at the start, every `heal.every`, after a reload, and when a person asks (WSP-6).
//!
//! In: the settings in force, what was decided, wishes of people. Out: [`Round`]s for the decision task, reports for
//! readers, metrics.
//! **Invariant:** one round at a time in this process, whatever becomes of the task that began it. The work is off the async
//! threads; what it concludes is the decision task's to say. While chiron may not act a round only looks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::clock::Clock;
use crate::base::failpoint;
use crate::journal::Healings;
use crate::model::{HealingReport, HealingTrigger, IssueSource, Name, Severity, Timestamp};
use crate::telemetry::Progress;
use crate::workspace::{Request, Settings};

use super::board::View;
use super::task::{Event, Shared};
use super::tasks;
use super::workspace::Round;

mod caution;
mod desk;

use desk::{Ask, Busy, Failure, Listed, Wish, caught};
pub use desk::{Desk, RealWork, Work};

/// How often the settings and the round in hand are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A round that takes longer does not get on: the supervisor is left to notice it. Nor does another process that heals.
const ROUND_MAX: Duration = Duration::from_secs(600);
/// After a round that could not look, the next one comes sooner than `heal.every`.
const RETRY: Duration = Duration::from_secs(30);
/// The same while another process heals.
const RETRY_BUSY: Duration = Duration::from_secs(5);
/// The same round is not handed to the decision task again before this.
const REMIND: Duration = Duration::from_secs(5);
/// How long a stop waits for the round in hand; less than it waits for everything.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// What a round is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Looks and heals, and the next one comes in its time.
    Heal,
    /// Shows a person what would be done, and nobody else.
    Rehearse,
    /// Says how things stand after something else was done.
    Look,
}

/// The long task. Cloning shares the desk, so that one that is started again goes on where the other ended.
#[derive(Clone)]
pub struct Healer {
    desk: Arc<Desk>,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    progress: Progress,
    ending: CancellationToken,
}

impl Healer {
    /// Over a desk. When chiron is `ending` nothing more is begun, while the round in hand goes on.
    pub fn new(
        desk: Arc<Desk>,
        shared: Arc<Shared>,
        events: mpsc::Sender<Event>,
        progress: Progress,
        ending: CancellationToken,
    ) -> Self {
        Self { desk, shared, events, progress, ending }
    }

    /// Heals until told to stop; the round in hand is brought to its end, if that comes soon.
    pub async fn run(self, stop: CancellationToken) {
        let mut asked = self.desk.asked.lend().expect("the healer before has ended");
        // What has changed while nobody looked is looked at at once.
        self.desk.memory().next = None;
        loop {
            self.progress.beat();
            failpoint::pass_task("healer.turn").await;
            let settings = self.desk.settings.load_full();
            let view = self.view();
            let held_back = self.note_caution(&settings, &view);
            let next = self.desk.memory().next.unwrap_or_else(Instant::now);
            // Before the first decision nobody knows whether chiron may act.
            let is_due = settings.enabled && view.at > Timestamp::EPOCH;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.ending.cancelled() => return,
                Some(ask) = asked.recv() => self.answer(ask, settings, &stop).await,
                () = tokio::time::sleep_until(next), if is_due => {
                    let trigger = match std::mem::replace(&mut self.desk.memory().begun, true) {
                        false => HealingTrigger::Start,
                        true => HealingTrigger::Schedule,
                    };
                    let request = Request { dry_run: held_back, ..Request::new(trigger) };
                    // Why there is no report was told already.
                    drop(self.round(settings, request, Purpose::Heal, &stop).await);
                }
                () = tokio::time::sleep(LOOK) => self.remind(&stop).await,
            }
        }
    }

    fn view(&self) -> Arc<View> {
        self.shared.board.load().view.load_full()
    }

    /// Whether rounds that come by themselves only look; tells when that begins and ends.
    fn note_caution(&self, settings: &Settings, view: &View) -> bool {
        if !settings.enabled {
            self.tell_what_stays(view);
            return false;
        }
        let now = self.progress.clock().now();
        let why = caution::may_not_act(view).or_else(|| caution::maintained(view, now));
        // A decision task that is being started anew is no news.
        let is_news = view.at > Timestamp::EPOCH && why.as_ref() != self.desk.held_back.load().as_deref();
        if is_news {
            match &why {
                Some(why) => tracing::warn!(reason = why, "workspace is only looked at"),
                None => {
                    tracing::info!("workspace is healed again");
                    self.desk.memory().next = None;
                }
            }
            self.desk.held_back.store(why.clone().map(Arc::new));
        }
        why.is_some()
    }

    /// Healing was switched off over critical issues: they stay, and nobody would know why.
    fn tell_what_stays(&self, view: &View) {
        if view.at == Timestamp::EPOCH || std::mem::replace(&mut self.desk.memory().told_off, true) {
            return;
        }
        let of_workspace = view.state.episodes.values().filter(|episode| {
            (episode.facts.source, episode.facts.severity) == (IssueSource::Workspace, Severity::Critical)
        });
        let kinds: Vec<&str> = of_workspace.map(|episode| episode.key.kind.as_str()).collect();
        if !kinds.is_empty() {
            let issues = kinds.join(", ");
            tracing::warn!(
                issues,
                "healing is off, and critical issues of the workspace stay open with what they hold"
            );
        }
    }

    async fn answer(&self, ask: Ask, settings: Arc<Settings>, stop: &CancellationToken) {
        let Ask { wish, by, answer } = ask;
        match wish {
            // It was switched off while the wish waited.
            Wish::Heal { .. } if !settings.enabled => drop(answer.send(Err(desk::is_off()))),
            Wish::Heal { dry_run } => {
                let purpose = if dry_run { Purpose::Rehearse } else { Purpose::Heal };
                // A person may heal during maintenance, but not while chiron may not act.
                let dry_run = dry_run || caution::may_not_act(&self.view()).is_some();
                let request = Request { by: Some(by), dry_run, ..Request::new(HealingTrigger::Request) };
                let result = self.round(settings, request, purpose, stop).await;
                // Whoever asked may have gone.
                let _ = answer.send(result);
            }
            Wish::Rollback { id, force } => {
                let is_enabled = settings.enabled;
                let result = self.roll_back(Arc::clone(&settings), id, force, by, stop).await;
                let is_done = result.is_ok();
                let _ = answer.send(result);
                if is_done && is_enabled {
                    // What came back may be dangerous.
                    let request = Request { dry_run: true, ..Request::new(HealingTrigger::Request) };
                    drop(self.round(settings, request, Purpose::Look, stop).await);
                }
            }
        }
    }

    /// One round: look and heal, tell readers, hand everything to the decision task.
    async fn round(
        &self,
        settings: Arc<Settings>,
        request: Request,
        purpose: Purpose,
        stop: &CancellationToken,
    ) -> Result<Arc<HealingReport>, Failure> {
        let every = settings.every;
        let known = self.known();
        let wanted = (Arc::clone(&settings), known.clone());
        let done = self.off_thread(stop, move |work, clock| {
            let (settings, known) = wanted;
            let mut looked = caught(|| work.heal(&settings, &request, clock));
            if let (Ok(report), false) = (&mut looked, purpose == Purpose::Rehearse) {
                report.diff = String::new();
            }
            (looked.map(Arc::new), Listed::of(work, &settings, &known))
        });
        let (looked, new) = done.await?;
        self.note_list(&new, &known);
        if let Ok(report) = &looked
            && report.stats.directories_created > 0
        {
            self.desk.folders.notify_one();
        }
        // What was found under settings that are replaced is old; the new ones want a round of their own.
        let is_current = Arc::ptr_eq(&settings, &self.desk.settings.load());
        if purpose == Purpose::Rehearse || !is_current || self.is_not_tried(&looked) {
            if purpose == Purpose::Heal {
                self.desk.memory().next = is_current.then(|| Instant::now() + RETRY_BUSY);
            }
            self.hand(Round { look: None, healings: new.healings }, stop).await;
            return looked;
        }
        let at = self.progress.clock().now();
        match &looked {
            Ok(report) => self.note_look(report, at),
            Err(failure) => self.note_failure(failure, at),
        }
        {
            let mut memory = self.desk.memory();
            let pause = if looked.is_ok() { every } else { every.min(RETRY) };
            if purpose == Purpose::Heal {
                memory.next = Some(Instant::now() + pause);
            }
            (memory.handed, memory.reminded) = (Some(Instant::now()), false);
        }
        let look = looked.clone().map_err(|failure| failure.why);
        self.hand(Round { look: Some(look), healings: new.healings }, stop).await;
        looked
    }

    /// Whether another process healed, which is no failure of this one, unless it never ends.
    fn is_not_tried(&self, looked: &Result<Arc<HealingReport>, Failure>) -> bool {
        let mut memory = self.desk.memory();
        if !looked.as_ref().is_err_and(Failure::is_busy) {
            memory.busy_since = None;
            return false;
        }
        memory.busy_since.get_or_insert_with(Instant::now).elapsed() < ROUND_MAX
    }

    async fn roll_back(
        &self,
        settings: Arc<Settings>,
        id: Name,
        force: bool,
        by: String,
        stop: &CancellationToken,
    ) -> Result<Arc<HealingReport>, Failure> {
        if let Some(why) = caution::may_not_act(&self.view()) {
            return Err(Failure::own("held_back", why));
        }
        let known = self.known();
        let before = known.clone();
        let done = self.off_thread(stop, move |work, clock| {
            let done = caught(|| work.rollback(&settings, &id, force, Some(by), clock));
            (done.map(Arc::new), Listed::of(work, &settings, &before))
        });
        let (done, new) = done.await?;
        self.note_list(&new, &known);
        if done.is_ok() {
            self.desk.folders.notify_one();
        }
        self.hand(Round { look: None, healings: new.healings }, stop).await;
        done
    }

    /// The healings that the journal has.
    fn known(&self) -> Healings {
        self.view().state.healings.clone()
    }

    /// Works off the async threads, one at a time, and tells meanwhile that it gets on, as long as that is likely. A stop
    /// does not wait for what hangs; its thread, if it ever goes on, still keeps others from working beside it.
    async fn off_thread<T: Send + 'static>(
        &self,
        stop: &CancellationToken,
        work: impl FnOnce(&dyn Work, &Clock) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let beat = || {
            if begun.elapsed() < ROUND_MAX {
                self.progress.beat();
            }
        };
        let stopping = || Failure::own("stopping", "chiron is stopping");
        while self.desk.busy.swap(true, Ordering::SeqCst) {
            // A healer before this one was cut off, and its work goes on.
            beat();
            tokio::select! {
                () = stop.cancelled() => return Err(stopping()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        let (busy, means) = (Busy(Arc::clone(&self.desk.busy)), Arc::clone(&self.desk.work));
        let clock = self.progress.clock().clone();
        let mut done = std::pin::pin!(tasks::blocking(move || {
            let _busy = busy;
            work(&*means, &clock)
        }));
        let mut overdue = std::pin::pin!(async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_WAIT).await;
        });
        loop {
            tokio::select! {
                biased;
                done = &mut done => return Ok(done),
                () = &mut overdue => {
                    tracing::warn!("stopped while the workspace is still being looked at");
                    return Err(stopping());
                }
                () = tokio::time::sleep(LOOK) => beat(),
            }
        }
    }

    fn note_look(&self, report: &Arc<HealingReport>, at: Timestamp) {
        self.desk.report.store(Some(Arc::clone(report)));
        self.desk.trouble.store(None);
        self.desk.memory().looked = Some(Instant::now());
        if std::mem::take(&mut self.desk.memory().errors) > 0 {
            tracing::info!("workspace can be looked at again");
        }
        self.shared.metrics.workspace.looked(report, at);
        let HealingReport { healed, failed, critical, dry_run, .. } = **report;
        let (id, trigger) = (report.id.as_deref().unwrap_or_default(), report.trigger.as_str());
        let (findings, seconds) = (report.findings.len(), Duration::from_millis(report.duration_ms).as_secs_f64());
        let news = !id.is_empty() || failed > 0;
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    healing = id,
                    trigger,
                    healed,
                    failed,
                    critical,
                    findings,
                    dry_run,
                    seconds,
                    "workspace healed"
                )
            };
        }
        if news { say!(info) } else { say!(debug) }
    }

    fn note_failure(&self, failure: &Failure, at: Timestamp) {
        let Failure { reason, why, .. } = failure;
        self.desk.trouble.store(Some(Arc::new(json!({ "at": at, "reason": reason, "detail": why }))));
        self.shared.metrics.workspace.failed(reason, at);
        let mut memory = self.desk.memory();
        memory.errors = memory.errors.saturating_add(1);
        let in_a_row = memory.errors;
        tracing::warn!(reason, in_a_row, error = why, "workspace could not be looked at");
    }

    /// Keeps the latest healings for readers; trouble with the list is told when it begins.
    fn note_list(&self, listed: &Listed, known: &Healings) {
        let before = std::mem::replace(&mut self.desk.memory().unlisted, listed.trouble.is_some());
        match &listed.trouble {
            None => self.desk.latest.store(Arc::new(listed.latest.clone())),
            Some(error) if !before => tracing::warn!(error, "healings of the workspace could not be read"),
            Some(_) => {}
        }
        if let (Some(newest), Some(last)) = (&listed.newest, &known.last) {
            let is_rewound = newest < last;
            if is_rewound && !std::mem::replace(&mut self.desk.memory().rewound, is_rewound) {
                let (newest, told) = (newest.as_str(), last.as_str());
                tracing::warn!(newest, told, "healings of the workspace are older than those that were told");
            }
        }
    }

    async fn hand(&self, round: Round, stop: &CancellationToken) {
        if round.look.is_none() && round.healings.is_empty() {
            return;
        }
        // What is not taken any more is read again at the next start.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = self.events.send(Event::Healed(round)) => {}
        }
    }

    /// A decision task that was started anew knows nothing of the workspace: it is told again what the latest round came to.
    /// A report that is too old is none.
    async fn remind(&self, stop: &CancellationToken) {
        let view = self.view();
        if view.at == Timestamp::EPOCH || view.workspace_seen {
            return;
        }
        let settings = self.desk.settings.load();
        let look = {
            let mut memory = self.desk.memory();
            if memory.handed.is_none_or(|handed| handed.elapsed() < REMIND) {
                return;
            }
            let is_young = memory.looked.is_some_and(|looked| looked.elapsed() <= settings.every * 2);
            match (self.desk.trouble.load_full(), self.desk.report.load_full()) {
                // Each failure once: it is one round that failed, however often it is told.
                (Some(trouble), _) => {
                    if std::mem::replace(&mut memory.reminded, true) {
                        return;
                    }
                    Err(trouble["detail"].as_str().unwrap_or_default().to_owned())
                }
                (None, Some(report)) if is_young => Ok(report),
                (None, _) => {
                    memory.next = None;
                    return;
                }
            }
        };
        self.desk.memory().handed = Some(Instant::now());
        self.hand(Round { look: Some(look), healings: Vec::new() }, stop).await;
    }
}
