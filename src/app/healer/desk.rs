//! What of the healer outlives its task, and what readers and people see of it.
//!
//! **Invariant:** what a diff shows of files goes to whoever asked for a rehearsal, and is kept nowhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::app::tasks::{self, Home};
use crate::base::clock::Clock;
use crate::http::Refusal;
use crate::journal::Healings;
use crate::model::{Caller, FindingState, Healing, HealingReport, Name};
use crate::workspace::{self, Error, ErrorKind, Request, Settings};

/// How long whoever asked waits for the report.
const ANSWER: Duration = Duration::from_secs(30);
/// Healings shown on the page.
const LATEST: usize = 10;
/// Findings shown on the page.
const FINDINGS_SHOWN: usize = 200;

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
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) why: String,
    pub(super) kind: Option<ErrorKind>,
}

impl Failure {
    /// One that no error of the workspace is behind.
    pub(super) fn own(reason: &'static str, why: impl Into<String>) -> Self {
        Self { reason, why: why.into(), kind: None }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.kind == Some(ErrorKind::Busy)
    }
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
            None if failure.reason == OFF => Self::Conflict(why),
            Some(ErrorKind::Workspace | ErrorKind::State) | None => Self::Unavailable(why),
        }
    }
}

/// The reason of a wish that comes too late.
const OFF: &str = "off";

/// What a wish to heal is answered while healing is off.
pub(super) fn is_off() -> Failure {
    Failure::own(OFF, "healing is off; `heal: {enabled: true}` switches it on")
}

/// What a person wants.
pub(super) enum Wish {
    Heal { dry_run: bool },
    Rollback { id: Name, force: bool },
}

pub(super) struct Ask {
    pub(super) wish: Wish,
    pub(super) by: String,
    pub(super) answer: oneshot::Sender<Result<Arc<HealingReport>, Failure>>,
}

/// What outlives the task, and what readers see of it.
pub struct Desk {
    pub(super) settings: ArcSwap<Settings>,
    pub(super) work: Arc<dyn Work>,
    asks: mpsc::Sender<Ask>,
    pub(super) asked: Home<mpsc::Receiver<Ask>>,
    /// A round is at work; its thread clears it.
    pub(super) busy: Arc<AtomicBool>,
    /// The latest look that was no rehearsal.
    pub(super) report: ArcSwapOption<HealingReport>,
    /// Why none has been made since, if one was tried.
    pub(super) trouble: ArcSwapOption<Value>,
    /// Why rounds only look at present.
    pub(super) held_back: ArcSwapOption<String>,
    /// The latest healings, latest first.
    pub(super) latest: ArcSwap<Vec<Value>>,
    /// Folders were made or removed, so what is published may belong elsewhere.
    pub(super) folders: Notify,
    /// One list or healing is read at a time; whoever reads holds it to the end.
    reading: Arc<Semaphore>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
pub(super) struct Memory {
    /// When the next round is due; `None` is now.
    pub(super) next: Option<Instant>,
    /// A round was made or tried.
    pub(super) begun: bool,
    /// Rounds in a row that could not look.
    pub(super) errors: u32,
    /// Since when another process heals.
    pub(super) busy_since: Option<Instant>,
    /// When the latest report was made.
    pub(super) looked: Option<Instant>,
    /// When something was handed to the decision task last.
    pub(super) handed: Option<Instant>,
    /// The latest failure was handed again already.
    pub(super) reminded: bool,
    /// The list of healings could not be read, which was told.
    pub(super) unlisted: bool,
    /// Healings are older than those that are told, which was told.
    pub(super) rewound: bool,
    /// It was told what stays although healing is off.
    pub(super) told_off: bool,
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
            held_back: ArcSwapOption::empty(),
            latest: ArcSwap::default(),
            folders: Notify::new(),
            reading: Arc::new(Semaphore::new(1)),
            memory: Mutex::default(),
        }
    }

    /// The settings are others now: a round is due.
    pub fn replace(&self, settings: Settings) {
        if !settings.enabled {
            self.report.store(None);
            self.trouble.store(None);
            self.held_back.store(None);
        }
        self.settings.store(Arc::new(settings));
        let mut memory = self.memory();
        (memory.next, memory.told_off) = (None, false);
    }

    /// Waits until folders of the workspace were made or removed.
    pub async fn folders_changed(&self) {
        self.folders.notified().await;
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For people: the latest look and the latest healings.
    pub fn tell(&self) -> Value {
        let settings = self.settings.load();
        json!({
            "enabled": settings.enabled,
            "busy": self.busy.load(Ordering::Relaxed),
            "held_back": self.held_back.load_full(),
            "report": self.report.load_full(),
            "error": self.trouble.load_full(),
            "latest_healings": *self.latest.load_full(),
        })
    }

    /// The same, as far as the operator's page shows it.
    pub fn tell_shortly(&self) -> Value {
        let stands = |state: FindingState| matches!(state, FindingState::Standing | FindingState::Failed);
        let report = self.report.load_full().map(|report| {
            let findings = report.findings.iter().filter(|finding| stands(finding.state)).take(FINDINGS_SHOWN);
            json!({
                "timestamp": report.timestamp,
                "dry_run": report.dry_run,
                "healed": report.healed,
                "failed": report.failed,
                "critical": report.critical,
                "validation": {"status": report.validation.status, "score": report.validation.score},
                "findings": findings.collect::<Vec<_>>(),
            })
        });
        json!({
            "enabled": self.settings.load().enabled,
            "held_back": self.held_back.load_full(),
            "report": report,
            "error": self.trouble.load_full(),
            "latest_healings": *self.latest.load_full(),
        })
    }

    /// Every healing that is kept, without its changes.
    pub async fn healings(&self) -> Result<Vec<Value>, Refusal> {
        let list = self.read(|settings, work| work.list(settings)).await?;
        Ok(list.iter().map(summary).collect())
    }

    /// One of them, with its changes.
    pub async fn healing(&self, id: String) -> Result<Value, Refusal> {
        Ok(json!(self.read(move |settings, work| work.read(settings, &id.as_str().into())).await?))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Settings, &dyn Work) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = Arc::clone(&self.reading).acquire_owned().await;
        let turn = turn.map_err(|_| Refusal::Unavailable("chiron is stopping".to_owned()))?;
        let (settings, work) = (self.settings.load_full(), Arc::clone(&self.work));
        let found = tasks::blocking(move || {
            let _turn = turn;
            caught(|| read(&settings, &*work))
        });
        Ok(found.await?)
    }

    /// A round now; `None` if it takes longer than whoever asks can wait.
    pub async fn heal(&self, dry_run: bool, by: Caller) -> Result<Option<Value>, Refusal> {
        if !self.settings.load().enabled {
            return Err(is_off().into());
        }
        self.ask(Wish::Heal { dry_run }, by).await
    }

    /// Undoes a healing, also while healing is off; `None` as above.
    pub async fn rollback(&self, id: String, force: bool, by: Caller) -> Result<Option<Value>, Refusal> {
        self.ask(Wish::Rollback { id: id.as_str().into(), force }, by).await
    }

    async fn ask(&self, wish: Wish, by: Caller) -> Result<Option<Value>, Refusal> {
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
pub(super) struct Busy(pub(super) Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// The healings that are kept, as far as they matter.
pub(super) struct Listed {
    /// Those that the journal may not have.
    pub(super) healings: Vec<Healing>,
    /// The latest, latest first.
    pub(super) latest: Vec<Value>,
    pub(super) newest: Option<Name>,
    pub(super) trouble: Option<String>,
}

impl Listed {
    pub(super) fn of(work: &dyn Work, settings: &Settings, known: &Healings) -> Self {
        match caught(|| work.list(settings)) {
            Ok(list) => {
                let latest = list.iter().rev().take(LATEST).map(summary).collect();
                let newest = list.last().map(|healing| healing.id.clone());
                // One that is under way is told when it has ended; one that never will be keeps no other from being told.
                let new = |healing: &Healing| healing.end.is_some() && !known.knows(&healing.id);
                Self { healings: list.into_iter().filter(new).collect(), latest, newest, trouble: None }
            }
            Err(failure) => Self { healings: Vec::new(), latest: Vec::new(), newest: None, trouble: Some(failure.why) },
        }
    }
}

/// What was done, or why not; a panic is a reason too.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(Failure::from),
        Err(_) => Err(Failure::own(
            "panicked",
            "healing met a broken invariant of chiron's own; the log of the service has where",
        )),
    }
}
