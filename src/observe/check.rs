//! What a check is: an async `read` that asks and a pure `judge` that grades.

use std::any::Any;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::tree::Section;
use crate::model::{Details, Perfdata, Signals, Status, Timestamp};

use super::inbox::Slot;

/// How a reading is graded at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The grade; never `Failed`.
    pub status: Status,
    /// What was found, under fixed keys.
    pub details: Details,
    /// When the same reading will be graded differently, if ever (a file that turns stale), so nothing polls for it.
    pub next_change_at: Option<Timestamp>,
    /// The check could not be run at all; the status is then `Unknown` (OBS-1).
    pub unrunnable: bool,
    /// Numbers for the exporter.
    pub perfdata: Vec<Perfdata>,
    /// What was seen besides, for the rules of detection.
    pub signals: Signals,
}

/// What a check keeps going between its readings: a connection that stays open. It ends only when it is dropped.
pub type Session = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Has the check that holds it looked at now, besides its schedule.
#[derive(Clone)]
pub struct Wake(Arc<dyn Fn() + Send + Sync>);

impl Wake {
    /// A wake that calls `wake`, which must not block.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Look now. What is called often is for the caller to slow down.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wake")
    }
}

/// A check kind with its parameters.
pub trait Check: Send + Sync + 'static {
    /// What `read` brings back; it holds facts, no opinion.
    type Reading: Send + Sync + 'static;
    /// The word after `kind:`.
    const KIND: &'static str;

    /// Asks. Bounded in time by the runner and in memory by itself; never panics on what it finds.
    fn read(&self) -> impl Future<Output = Self::Reading> + Send;

    /// Grades a reading at `now`. Pure.
    fn judge(&self, reading: &Self::Reading, now: Timestamp) -> Judgement;

    /// Whether `read` blocks its thread, as file access does. It then completes in one poll and the runner calls it
    /// from threads of its own.
    fn blocking(&self) -> bool {
        false
    }

    /// Where what is pushed to it goes, if it takes pushes.
    fn slot(&self) -> Option<&Arc<Slot>> {
        None
    }

    /// The issue types that rules tell from what it sees besides its grade, such as vitals.
    fn raises(&self) -> &'static [&'static str] {
        &[]
    }

    /// What it keeps going between its readings, if anything; the runner runs it for as long as it runs the check, and
    /// begins it anew should it end.
    fn session(&self, _wake: Wake) -> Option<Session> {
        None
    }

    /// Files and folders whose change is worth a look at once. They need not exist yet.
    fn watches(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What an operator should know of its settings, which are no mistake all the same.
    fn cautions(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether it verifies the certificate of the server it asks; `None` if it asks none over TLS (SEC-2).
    fn verifies_tls(&self) -> Option<bool> {
        None
    }

    /// Whether a change of this file, below a folder of [`Check::watches`], is worth a look.
    fn heeds(&self, _changed: &Path) -> bool {
        true
    }

    /// The next `read` asks, however young the latest answer is.
    fn ask_anew(&self) {}
}

impl Judgement {
    /// A grade with nothing further.
    pub fn new(status: Status) -> Self {
        Self {
            status,
            details: Details::new(),
            next_change_at: None,
            unrunnable: false,
            perfdata: Vec::new(),
            signals: Signals::default(),
        }
    }

    /// The check could not be run; `error` says why.
    pub fn unrunnable(error: impl Into<String>) -> Self {
        Self { unrunnable: true, ..Self::new(Status::Unknown) }.with("error", error.into())
    }

    /// Adds a detail.
    pub fn with(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// Makes the grade at least as bad as `status`; unknown stays unknown.
    pub fn at_least(mut self, status: Status) -> Self {
        if self.status.rank().is_some_and(|rank| Some(rank) < status.rank()) {
            self.status = status;
        }
        self
    }
}

/// A reading whose type only its own check knows.
pub type AnyReading = Box<dyn Any + Send + Sync>;

/// [`Check`] with its reading's type erased, so that checks of all kinds share a list.
pub trait AnyCheck: Send + Sync + 'static {
    /// The word after `kind:`.
    fn kind(&self) -> &'static str;
    /// See [`Check::read`].
    fn read(&self) -> Pin<Box<dyn Future<Output = AnyReading> + Send + '_>>;
    /// See [`Check::judge`].
    fn judge(&self, reading: &AnyReading, now: Timestamp) -> Judgement;
    /// See [`Check::blocking`].
    fn blocking(&self) -> bool {
        false
    }
    /// See [`Check::slot`].
    fn slot(&self) -> Option<&Arc<Slot>> {
        None
    }
    /// See [`Check::raises`].
    fn raises(&self) -> &'static [&'static str] {
        &[]
    }
    /// See [`Check::session`].
    fn session(&self, _wake: Wake) -> Option<Session> {
        None
    }
    /// See [`Check::watches`].
    fn watches(&self) -> Vec<PathBuf> {
        Vec::new()
    }
    /// See [`Check::cautions`].
    fn cautions(&self) -> Vec<String> {
        Vec::new()
    }
    /// See [`Check::verifies_tls`].
    fn verifies_tls(&self) -> Option<bool> {
        None
    }
    /// See [`Check::heeds`].
    fn heeds(&self, _changed: &Path) -> bool {
        true
    }
    /// See [`Check::ask_anew`].
    fn ask_anew(&self) {}
}

impl<C: Check> AnyCheck for C {
    fn kind(&self) -> &'static str {
        C::KIND
    }

    fn read(&self) -> Pin<Box<dyn Future<Output = AnyReading> + Send + '_>> {
        Box::pin(async move { Box::new(Check::read(self).await) as AnyReading })
    }

    fn judge(&self, reading: &AnyReading, now: Timestamp) -> Judgement {
        let reading = reading.downcast_ref::<C::Reading>().expect("a check judges only its own readings");
        Check::judge(self, reading, now)
    }

    fn blocking(&self) -> bool {
        Check::blocking(self)
    }

    fn slot(&self) -> Option<&Arc<Slot>> {
        Check::slot(self)
    }

    fn raises(&self) -> &'static [&'static str] {
        Check::raises(self)
    }

    fn session(&self, wake: Wake) -> Option<Session> {
        Check::session(self, wake)
    }

    fn watches(&self) -> Vec<PathBuf> {
        Check::watches(self)
    }

    fn cautions(&self) -> Vec<String> {
        Check::cautions(self)
    }

    fn verifies_tls(&self) -> Option<bool> {
        Check::verifies_tls(self)
    }

    fn heeds(&self, changed: &Path) -> bool {
        Check::heeds(self, changed)
    }

    fn ask_anew(&self) {
        Check::ask_anew(self);
    }
}

/// What a check may need when it is built from its settings.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// Relative paths are below it.
    pub workspace: PathBuf,
    /// Relative paths of files with secrets and certificates are below it: the folder of the settings file.
    pub folder: PathBuf,
    /// `data_dir`, or `data` below the workspace.
    pub data_dir: PathBuf,
    /// `log_dir`, or `logs` below the workspace.
    pub log_dir: PathBuf,
    /// `thresholds.stale_data_seconds`; applies to `data_feed`.
    pub stale_after: Duration,
    /// Files that chiron itself writes; they never count as the bot's (OBS-3).
    pub own_files: Arc<Vec<PathBuf>>,
    /// The clock.
    pub clock: Clock,
    /// The shared HTTP client; no redirects, no proxy from the environment.
    pub http: reqwest::Client,
    /// `thresholds.max_error_rate`, 0 to 1: from here on a check that counts failed requests is degraded.
    pub max_error_rate: f64,
    /// `thresholds.max_latency`: beyond it a ping of a WebSocket is an issue of its own.
    pub max_latency: Duration,
}

/// A check kind as the registry lists it.
#[derive(Clone, Copy, Debug)]
pub struct CheckSpec {
    /// The word after `kind:`.
    pub kind: &'static str,
    /// The doc page, under the fixed headings What it asks / Why it matters / Failure reasons / Parameters.
    pub doc: &'static str,
    /// Builds a check from its settings; mistakes go to the section's problems and give `None`.
    /// The caller calls `finish` on the section afterwards.
    pub build: fn(&mut Section<'_>, &BuildContext) -> Option<Arc<dyn AnyCheck>>,
}

/// A subsystem's check with its schedule, as the runner wants it.
#[derive(Clone)]
pub struct ScheduledCheck {
    /// Whose check it is.
    pub subsystem: crate::model::Name,
    /// What to do.
    pub check: Arc<dyn AnyCheck>,
    /// How often.
    pub interval: Duration,
    /// When to give up on one reading.
    pub timeout: Duration,
}

impl std::fmt::Debug for ScheduledCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScheduledCheck")
            .field("subsystem", &self.subsystem)
            .field("kind", &self.check.kind())
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}
