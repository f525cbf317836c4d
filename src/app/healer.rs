//! Heals the workspace inside `run`: at the start, every `heal.every`, after a reload, and when a person asks (WSP-6).
//!
//! In: the settings in force, wishes of people. Out: [`Round`]s for the decision task, reports for readers, metrics.
//! **Invariant:** one round at a time in this process, whatever becomes of the task that began it. The work is off the async
//! threads; what it concludes is the decision task's to say.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::clock::Clock;
use crate::base::failpoint;
use crate::http::Refusal;
use crate::model::{Caller, Healing, HealingReport, HealingTrigger, Name, Timestamp};
use crate::telemetry::Progress;
use crate::workspace::{self, Error, ErrorKind, Request, Settings};

use super::task::{Event, Shared};
use super::tasks::{self, Home};
use super::workspace::Round;

/// How often the settings and the round in hand are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A round that takes longer does not get on: the supervisor is left to notice it.
const ROUND_MAX: Duration = Duration::from_secs(600);
/// After a round that could not look, the next one comes sooner than `heal.every`.
const RETRY: Duration = Duration::from_secs(30);
/// The same round is not handed to the decision task again before this.
const REMIND: Duration = Duration::from_secs(5);
/// How long whoever asked waits for the report.
const ANSWER: Duration = Duration::from_secs(30);
/// Healings shown on the page.
const LATEST: usize = 10;

/// What the healer does to a workspace: the real thing, or a test's own. Blocking.
pub trait Work: Send + Sync + 'static {
    /// One round.
    fn heal(&self, settings: &Settings, request: &Request, clock: &Clock) -> Result<HealingReport, Error>;
    /// Undoes a healing.
    fn rollback(
        &self,
        settings: &Settings,
        id: &Name,
        force: bool,
        by: Option<String>,
        clock: &Clock,
    ) -> Result<HealingReport, Error>;
    /// Every healing that is kept, oldest first.
    fn list(&self, settings: &Settings) -> Result<Vec<Healing>, Error>;
    /// One of them.
    fn read(&self, settings: &Settings, id: &Name) -> Result<Healing, Error>;
}

/// [`workspace`] itself.
pub struct RealWork;

impl Work for RealWork {
    fn heal(&self, settings: &Settings, request: &Request, clock: &Clock) -> Result<HealingReport, Error> {
        workspace::heal(settings, request, clock)
    }
    fn rollback(
        &self,
        settings: &Settings,
        id: &Name,
        force: bool,
        by: Option<String>,
        clock: &Clock,
    ) -> Result<HealingReport, Error> {
        workspace::rollback(settings, id, force, by, clock)
    }
    fn list(&self, settings: &Settings) -> Result<Vec<Healing>, Error> {
        workspace::ledger::list(settings)
    }
    fn read(&self, settings: &Settings, id: &Name) -> Result<Healing, Error> {
        workspace::ledger::read(settings, id)
    }
}

/// Why something could not be done: for a label, for people, and for whoever asked.
#[derive(Clone, Debug)]
struct Failure {
    reason: &'static str,
    why: String,
    kind: Option<ErrorKind>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let cause = error.source.as_ref().map(|source| format!(": {source}")).unwrap_or_default();
        Self { reason: error.reason(), why: format!("{error}{cause}"), kind: Some(error.kind) }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let why = failure.why;
        match failure.kind {
            Some(ErrorKind::Busy | ErrorKind::Settled) => Self::Conflict(why),
            Some(ErrorKind::Changed) => Self::Changed(why),
            Some(ErrorKind::Unknown) => Self::NotFound(why),
            Some(ErrorKind::Workspace | ErrorKind::State) | None => Self::Unavailable(why),
        }
    }
}

/// What a person wants.
enum Wish {
    Heal { dry_run: bool },
    Rollback { id: Name, force: bool },
}

struct Ask {
    wish: Wish,
    by: String,
    answer: oneshot::Sender<Result<Arc<HealingReport>, Failure>>,
}

/// What outlives the task, and what readers see of it.
pub struct Desk {
    settings: ArcSwap<Settings>,
    work: Arc<dyn Work>,
    asks: mpsc::Sender<Ask>,
    asked: Home<mpsc::Receiver<Ask>>,
    /// A round is at work; its thread clears it.
    busy: Arc<AtomicBool>,
    /// The latest look that was no rehearsal.
    report: ArcSwapOption<HealingReport>,
    /// Why none has been made since, if one was tried.
    trouble: ArcSwapOption<Value>,
    /// The latest healings, latest first.
    latest: ArcSwap<Vec<Value>>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// When the next round is due; `None` is now.
    next: Option<Instant>,
    /// A round was made or tried.
    begun: bool,
    /// Rounds in a row that could not look.
    errors: u32,
    /// When the latest report was handed to the decision task.
    handed: Option<Instant>,
    /// The list of healings could not be read, which was told.
    unlisted: bool,
}

impl Desk {
    /// Over a workspace.
    pub fn new(settings: Settings, work: Arc<dyn Work>) -> Self {
        let (asks, asked) = mpsc::channel(1);
        Self {
            settings: ArcSwap::from_pointee(settings),
            work,
            asks,
            asked: Home::new(asked),
            busy: Arc::default(),
            report: ArcSwapOption::empty(),
            trouble: ArcSwapOption::empty(),
            latest: ArcSwap::default(),
            memory: Mutex::default(),
        }
    }

    /// The settings are others now: a round is due.
    pub fn replace(&self, settings: Settings) {
        if !settings.enabled {
            self.report.store(None);
            self.trouble.store(None);
        }
        self.settings.store(Arc::new(settings));
        self.memory().next = None;
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For people: the latest look and the latest healings.
    pub fn tell(&self) -> Value {
        let settings = self.settings.load();
        json!({
            "enabled": settings.enabled,
            "busy": self.busy.load(Ordering::Relaxed),
            "report": self.report.load_full(),
            "error": self.trouble.load_full(),
            "latest_healings": *self.latest.load_full(),
        })
    }

    /// Every healing that is kept, without its changes.
    pub async fn healings(&self) -> Result<Vec<Value>, Refusal> {
        let (settings, work) = (self.settings.load_full(), Arc::clone(&self.work));
        let list = tasks::blocking(move || work.list(&settings)).await.map_err(Failure::from)?;
        Ok(list.iter().map(summary).collect())
    }

    /// One of them, with its changes.
    pub async fn healing(&self, id: String) -> Result<Value, Refusal> {
        let (settings, work) = (self.settings.load_full(), Arc::clone(&self.work));
        let read = tasks::blocking(move || work.read(&settings, &id.as_str().into())).await;
        Ok(json!(read.map_err(Failure::from)?))
    }

    /// A round now; `None` if it takes longer than whoever asks can wait.
    pub async fn heal(&self, dry_run: bool, by: Caller) -> Result<Option<Value>, Refusal> {
        self.ask(Wish::Heal { dry_run }, by).await
    }

    /// Undoes a healing; `None` as above.
    pub async fn rollback(&self, id: String, force: bool, by: Caller) -> Result<Option<Value>, Refusal> {
        self.ask(Wish::Rollback { id: id.as_str().into(), force }, by).await
    }

    async fn ask(&self, wish: Wish, by: Caller) -> Result<Option<Value>, Refusal> {
        if !self.settings.load().enabled {
            return Err(Refusal::Conflict("healing is off; `heal: {enabled: true}` switches it on".to_owned()));
        }
        let busy = || Refusal::Conflict("the workspace is being healed already; ask again".to_owned());
        if self.busy.load(Ordering::Relaxed) {
            return Err(busy());
        }
        let (answer, told) = oneshot::channel();
        self.asks.try_send(Ask { wish, by: by.name, answer }).map_err(|_| busy())?;
        match tokio::time::timeout(ANSWER, told).await {
            Ok(Ok(result)) => Ok(Some(json!(*result?))),
            Ok(Err(_)) => Err(Refusal::Unavailable("the healer has ended and is being started anew".to_owned())),
            Err(_) => Ok(None),
        }
    }
}

/// A healing without its changes.
fn summary(healing: &Healing) -> Value {
    let mut value = json!(healing);
    value["changes"] = healing.changes.len().into();
    for key in ["by", "undoes", "undone_by"] {
        if value.get(key).is_none() {
            value[key] = Value::Null;
        }
    }
    value
}

/// The mark that a round is at work; it is taken away when the work has ended, not when the task has.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// The long task. Cloning shares the desk, so that one that is started again goes on where the other ended.
#[derive(Clone)]
pub struct Healer {
    desk: Arc<Desk>,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    progress: Progress,
}

impl Healer {
    /// Over a desk.
    pub fn new(desk: Arc<Desk>, shared: Arc<Shared>, events: mpsc::Sender<Event>, progress: Progress) -> Self {
        Self { desk, shared, events, progress }
    }

    /// Heals until told to stop; the round in hand is brought to its end.
    pub async fn run(self, stop: CancellationToken) {
        let mut asked = self.desk.asked.lend().expect("the healer before has ended");
        // What has changed while nobody looked is looked at at once.
        self.desk.memory().next = None;
        loop {
            self.progress.beat();
            failpoint::pass_task("healer.turn").await;
            let settings = self.desk.settings.load_full();
            let next = self.desk.memory().next.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(ask) = asked.recv() => self.answer(ask, settings, &stop).await,
                () = tokio::time::sleep_until(next), if settings.enabled => {
                    let trigger = match std::mem::replace(&mut self.desk.memory().begun, true) {
                        false => HealingTrigger::Start,
                        true => HealingTrigger::Schedule,
                    };
                    // Why there is no report was told already.
                    drop(self.round(settings, Request::new(trigger), &stop).await);
                }
                () = tokio::time::sleep(LOOK) => self.remind(&stop).await,
            }
        }
    }

    async fn answer(&self, ask: Ask, settings: Arc<Settings>, stop: &CancellationToken) {
        let Ask { wish, by, answer } = ask;
        let result = match wish {
            Wish::Heal { dry_run } => {
                let request = Request { by: Some(by), dry_run, ..Request::new(HealingTrigger::Request) };
                self.round(settings, request, stop).await
            }
            Wish::Rollback { id, force } => self.roll_back(settings, id, force, by, stop).await,
        };
        // Whoever asked may have gone.
        let _ = answer.send(result);
    }

    /// One round: look and heal, tell readers, hand everything to the decision task.
    async fn round(
        &self,
        settings: Arc<Settings>,
        request: Request,
        stop: &CancellationToken,
    ) -> Result<Arc<HealingReport>, Failure> {
        let every = settings.every;
        let known = self.known();
        let wanted = (Arc::clone(&settings), request.clone());
        let (looked, new) = self
            .off_thread(move |work, clock| {
                let (settings, request) = wanted;
                let looked = caught(|| work.heal(&settings, &request, clock));
                (looked.map(Arc::new), Listed::of(work, &settings, known.as_ref()))
            })
            .await;
        self.note_list(&new);
        let rehearsed = request.dry_run;
        if rehearsed {
            self.hand(Round { look: None, healings: new.healings }, stop).await;
            return looked;
        }
        // Settings that came meanwhile want a round of their own.
        let same = Arc::ptr_eq(&settings, &self.desk.settings.load());
        let at = self.progress.clock().now();
        match &looked {
            Ok(report) => self.note_look(report, at),
            Err(failure) => self.note_failure(failure, at),
        }
        {
            let mut memory = self.desk.memory();
            let pause = if looked.is_ok() { every } else { every.min(RETRY) };
            memory.next = same.then(|| Instant::now() + pause);
            memory.handed = Some(Instant::now());
        }
        let look = looked.clone().map_err(|failure| failure.why);
        self.hand(Round { look: Some(look), healings: new.healings }, stop).await;
        looked
    }

    async fn roll_back(
        &self,
        settings: Arc<Settings>,
        id: Name,
        force: bool,
        by: String,
        stop: &CancellationToken,
    ) -> Result<Arc<HealingReport>, Failure> {
        let known = self.known();
        let (done, new) = self
            .off_thread(move |work, clock| {
                let done = caught(|| work.rollback(&settings, &id, force, Some(by), clock));
                (done.map(Arc::new), Listed::of(work, &settings, known.as_ref()))
            })
            .await;
        self.note_list(&new);
        // What it found is no look at the whole workspace; the next round says how things stand.
        self.hand(Round { look: None, healings: new.healings }, stop).await;
        done
    }

    /// The latest healing that the journal has.
    fn known(&self) -> Option<Name> {
        self.shared.board.load().view.load().state.healings.last.clone()
    }

    /// Works off the async threads, one at a time, and tells meanwhile that it gets on, as long as that is likely.
    async fn off_thread<T: Send + 'static>(&self, work: impl FnOnce(&dyn Work, &Clock) -> T + Send + 'static) -> T {
        let begun = Instant::now();
        let beat = || {
            if begun.elapsed() < ROUND_MAX {
                self.progress.beat();
            }
        };
        while self.desk.busy.swap(true, Ordering::SeqCst) {
            // A healer before this one was cut off, and its work goes on.
            beat();
            tokio::time::sleep(LOOK).await;
        }
        let (busy, means) = (Busy(Arc::clone(&self.desk.busy)), Arc::clone(&self.desk.work));
        let clock = self.progress.clock().clone();
        let mut done = std::pin::pin!(tasks::blocking(move || {
            let _busy = busy;
            work(&*means, &clock)
        }));
        loop {
            tokio::select! {
                biased;
                done = &mut done => return done,
                () = tokio::time::sleep(LOOK) => beat(),
            }
        }
    }

    fn note_look(&self, report: &Arc<HealingReport>, at: Timestamp) {
        self.desk.report.store(Some(Arc::clone(report)));
        self.desk.trouble.store(None);
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
    fn note_list(&self, listed: &Listed) {
        let before = std::mem::replace(&mut self.desk.memory().unlisted, listed.trouble.is_some());
        match &listed.trouble {
            None => self.desk.latest.store(Arc::new(listed.latest.clone())),
            Some(error) if !before => tracing::warn!(error, "healings of the workspace could not be read"),
            Some(_) => {}
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

    /// A decision task that was started anew knows nothing of the workspace: it gets the latest look again.
    async fn remind(&self, stop: &CancellationToken) {
        let view = self.shared.board.load().view.load_full();
        let Some(report) = self.desk.report.load_full() else { return };
        if view.at == Timestamp::EPOCH || view.workspace_seen {
            return;
        }
        let waits = |handed: Instant| handed.elapsed() < REMIND;
        if self.desk.memory().handed.is_some_and(waits) {
            return;
        }
        self.desk.memory().handed = Some(Instant::now());
        self.hand(Round { look: Some(Ok(report)), healings: Vec::new() }, stop).await;
    }
}

/// The healings that are kept, as far as they matter.
struct Listed {
    /// Those that the journal may not have.
    healings: Vec<Healing>,
    /// The latest, latest first.
    latest: Vec<Value>,
    trouble: Option<String>,
}

impl Listed {
    fn of(work: &dyn Work, settings: &Settings, known: Option<&Name>) -> Self {
        match caught(|| work.list(settings)) {
            Ok(list) => {
                let latest = list.iter().rev().take(LATEST).map(summary).collect();
                let is_new = |healing: &Healing| known.is_none_or(|known| healing.id > *known);
                // One that is under way comes last; it is told when it has ended.
                let ended = list.into_iter().take_while(|healing| healing.end.is_some());
                Self { healings: ended.filter(is_new).collect(), latest, trouble: None }
            }
            Err(failure) => Self { healings: Vec::new(), latest: Vec::new(), trouble: Some(failure.why) },
        }
    }
}

/// What was done, or why not; a panic is a reason too.
fn caught<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(Failure::from),
        Err(_) => Err(Failure {
            reason: "panicked",
            why: "healing met a broken invariant of chiron's own; the log of the service has where".to_owned(),
            kind: None,
        }),
    }
}
