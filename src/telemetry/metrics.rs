//! What chiron counts while it works: cheap to call from anywhere, shared by `Arc`.
//!
//! Two halves: the large regular part lives in [`super::tables`], the small vectors in [`super::counts`].
//! **Invariant:** the number of series is bounded by the configuration and by fixed sets, whatever the outside sends.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::base::clock::Clock;
use crate::model::{AlertOutcome, AlertStatus, Name, Outcome, Reason, Severity, Timestamp};

use super::alertmanagers::Alertmanagers;
use super::bindings::Bindings;
use super::bots::Bots;
use super::counts::{Alerts, Process, Reasons, Refused};
use super::hooks::Hooks;
use super::tables::{Tables, decrease};
use super::tasks::{Progress, TaskRows};
use super::text::{Kind, Text};
use super::textfile::Folder;
use super::watching::Watching;
use super::workspace::Workspace;

/// Why chiron may be blind (POL-4); each has its series from the start. Further reasons appear when they occur.
pub const BLIND_REASONS: [&str; 10] = [
    "actuator_panicked",
    "checks_stalled",
    "clock_jump",
    "decider",
    "journal_corrupt",
    "journal_fenced",
    "journal_unavailable",
    "task_stalled",
    "unknown_subsystem",
    "watchdog_absent",
];

/// What the journal may be in trouble with; each has its series from the start.
const JOURNAL_REASONS: [&str; 8] =
    ["fenced", "busy", "unavailable", "ambiguous", "full", "corrupt", "rewound", "conflict"];

/// Admission's ways of saying no or not yet.
const REFUSALS: [Reason; 21] = [
    Reason::Unbound,
    Reason::Manual,
    Reason::ApprovalPending,
    Reason::Unconfirmed,
    Reason::Busy,
    Reason::Cooldown,
    Reason::Budget,
    Reason::Concurrency,
    Reason::Dependency,
    Reason::Startup,
    Reason::Maintenance,
    Reason::Storm,
    Reason::GroupBusy,
    Reason::GroupUnhealthy,
    Reason::Unhealthy,
    Reason::Watchdog,
    Reason::Policy,
    Reason::Stopping,
    Reason::JournalUnavailable,
    Reason::Exhausted,
    Reason::Indeterminate,
];

/// Where an outcome stands among all.
fn place(outcome: Outcome) -> usize {
    Outcome::ALL.iter().position(|one| *one == outcome).expect("ALL has every outcome")
}

/// Every count that outlives a scrape.
pub struct Metrics {
    tables: ArcSwap<Tables>,
    /// Held while a new index is made, so that no row is lost.
    growing: Mutex<()>,
    alerts: Alerts,
    /// The Alertmanagers that are asked and told.
    pub alertmanagers: Alertmanagers,
    /// Whether each binding would work.
    pub bindings: Bindings,
    /// When bots last told of themselves.
    pub bots: Bots,
    /// The policy's hooks.
    pub hooks: Hooks,
    /// Files that are watched.
    pub watching: Watching,
    /// The healing of the bot's workspace.
    pub workspace: Workspace,
    webhook_refused: Reasons,
    requests_refused: Refused,
    /// Whether the web configuration was taken over, and until when our certificate holds; 0 without one.
    web_ok: AtomicBool,
    certificate_until: AtomicI64,
    journal_errors: Reasons,
    admissions_refused: Reasons,
    blind: Reasons,
    reload_ok: AtomicBool,
    /// Milliseconds since the epoch, as `watchdog_at`.
    reload_at: AtomicI64,
    watchdog_at: AtomicI64,
    escalations: AtomicU64,
    tasks: TaskRows,
    process: Process,
    textfiles: ArcSwapOption<Folder>,
    clock: Clock,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Counts from zero, with every series that the configuration names. `bindings` are (action, subsystem); `actions`
    /// are the ones whose histograms and recommendations exist from the start.
    pub fn new(subsystems: &[Name], bindings: &[(Name, Name)], actions: &[Name]) -> Self {
        let counter = Kind::Counter;
        Self {
            tables: ArcSwap::from_pointee(Tables::configured(subsystems, bindings, actions, &Tables::default())),
            growing: Mutex::default(),
            alerts: Alerts::default(),
            alertmanagers: Alertmanagers::default(),
            bindings: Bindings::default(),
            bots: Bots::default(),
            hooks: Hooks::default(),
            watching: Watching::default(),
            workspace: Workspace::default(),
            webhook_refused: Reasons::new(
                "chiron_webhook_refused_total",
                counter,
                "Notifications that the webhook refused.",
                [],
            ),
            requests_refused: Refused::default(),
            web_ok: AtomicBool::new(true),
            certificate_until: AtomicI64::new(0),
            journal_errors: Reasons::new(
                "chiron_journal_errors_total",
                counter,
                "Times the journal was in trouble.",
                JOURNAL_REASONS,
            ),
            admissions_refused: Reasons::new(
                "chiron_admissions_refused_total",
                counter,
                "Times an action was not let run, or not yet.",
                REFUSALS.map(Reason::as_str),
            ),
            blind: Reasons::new(
                "chiron_blind",
                Kind::Gauge,
                "Whether chiron cannot see or cannot remember.",
                BLIND_REASONS,
            ),
            reload_ok: AtomicBool::new(false),
            reload_at: AtomicI64::new(0),
            watchdog_at: AtomicI64::new(0),
            escalations: AtomicU64::new(0),
            tasks: TaskRows::new(),
            process: Process::new(),
            textfiles: ArcSwapOption::empty(),
            clock: Clock::system(),
        }
    }

    /// After a reload: series of removed subjects vanish, new ones start at zero, the others keep their counts.
    pub fn reconfigure(&self, subsystems: &[Name], bindings: &[(Name, Name)], actions: &[Name]) {
        self.grow(|tables| *tables = Tables::configured(subsystems, bindings, actions, tables));
    }

    /// The subsystems and issue types that may come, besides a subsystem's status: each has its series from now on, until the next [`Metrics::reconfigure`].
    pub fn expect_issues(&self, raised: impl IntoIterator<Item = (Name, Name)>) {
        let raised: Vec<_> = raised.into_iter().collect();
        self.grow(|tables| tables.expect_issues(&raised));
    }

    /// The codes that the webhook refuses with: each has its series from now on.
    pub fn expect_refusals(&self, codes: impl IntoIterator<Item = &'static str>) {
        codes.into_iter().for_each(|code| self.webhook_refused.expect(code));
    }

    /// From now on the page has the series of the `*.prom` files in that folder.
    pub fn take_textfiles(&self, folder: Option<&Path>) {
        if self.textfiles.load().as_ref().map(|old| old.path()) != folder {
            self.textfiles.store(folder.map(|folder| Arc::new(Folder::new(folder, self.clock.clone()))));
        }
    }

    /// Whether writing a page may wait for files.
    pub fn reads_files(&self) -> bool {
        self.textfiles.load().is_some()
    }

    /// An episode began.
    pub fn issue_opened(&self, subsystem: &Name, kind: &Name, severity: Severity) {
        self.issue(subsystem, kind, |row| {
            row.open[severity as usize].fetch_add(1, Relaxed);
            row.opened[severity as usize].fetch_add(1, Relaxed);
        });
    }

    /// An episode of an earlier process is still open: it counts as open, not as opened again.
    pub fn issue_restored(&self, subsystem: &Name, kind: &Name, severity: Severity) {
        self.issue(subsystem, kind, |row| {
            row.open[severity as usize].fetch_add(1, Relaxed);
        });
    }

    /// An episode ended, with the severity it had last.
    pub fn issue_resolved(&self, subsystem: &Name, kind: &Name, severity: Severity) {
        if self.known_or_counted(subsystem, kind) {
            self.issue(subsystem, kind, |row| {
                decrease(&row.open[severity as usize]);
                row.resolved[severity as usize].fetch_add(1, Relaxed);
            });
        }
    }

    /// An open episode changed its severity.
    pub fn issue_moved(&self, subsystem: &Name, kind: &Name, from: Severity, to: Severity) {
        if self.known_or_counted(subsystem, kind) {
            self.issue(subsystem, kind, |row| {
                decrease(&row.open[from as usize]);
                row.open[to as usize].fetch_add(1, Relaxed);
            });
        }
    }

    /// A run, or a rung that had none, came to its outcome. `duration` is how long its means took, if it was begun and has
    /// answered; what did not run has none.
    pub fn action_ended(&self, action: &Name, subsystem: &Name, outcome: Outcome, duration: Option<Duration>) {
        let index = place(outcome);
        let tables = self.tables.load();
        match tables.action(action, subsystem) {
            Some(row) => row.ended[index].fetch_add(1, Relaxed),
            None => self.grow(|tables| tables.action_or_insert(action, subsystem)).ended[index].fetch_add(1, Relaxed),
        };
        if let Some(duration) = duration {
            self.of_action(action, |row| row.run.observe(duration));
        }
    }

    /// The same by the type of the issue that it was for.
    pub fn issue_action_ended(&self, kind: &Name, action: &Name, outcome: Outcome) {
        self.of_kind_action(kind, action, |row| _ = row.ended[place(outcome)].fetch_add(1, Relaxed));
    }

    /// A recommendation came to its one outcome.
    pub fn recommendation_ended(&self, action: &Name, outcome: Outcome) {
        self.of_action(action, |row| _ = row.recommended[place(outcome)].fetch_add(1, Relaxed));
    }

    /// An issue was opened, `duration` after the trouble began at the earliest.
    pub fn detected(&self, kind: &Name, duration: Duration) {
        self.of_kind(kind, |row| row.detection.observe(duration));
    }

    /// An action was begun, `duration` after its issue was opened.
    pub fn reacted(&self, kind: &Name, action: &Name, duration: Duration) {
        self.of_kind_action(kind, action, |row| row.reaction.observe(duration));
    }

    /// An issue was resolved, `duration` after it was opened.
    pub fn issue_over(&self, kind: &Name, duration: Duration) {
        self.of_kind(kind, |row| row.recovery.observe(duration));
    }

    /// A subsystem was verified healthy, `duration` after its issue was opened.
    pub fn recovered(&self, action: &Name, duration: Duration) {
        self.of_action(action, |row| row.recovery.observe(duration));
    }

    /// An accepted alert found its outcome.
    pub fn alert_received(&self, receiver: &Name, status: AlertStatus, outcome: AlertOutcome) {
        self.alerts.add(receiver, status, outcome);
    }

    /// The webhook refused a notification.
    pub fn webhook_refused(&self, reason: &'static str) {
        self.webhook_refused.add(reason);
    }

    /// A request was refused at the door.
    pub fn request_refused(&self, group: &'static str, code: &'static str) {
        self.requests_refused.add(group, code);
    }

    /// The web configuration was taken over, with a certificate that holds until then; or it could not be.
    pub fn web_config(&self, ok: bool, certificate_until: Option<Timestamp>) {
        self.web_ok.store(ok, Relaxed);
        if ok {
            self.certificate_until.store(certificate_until.map_or(0, Timestamp::millis), Relaxed);
        }
    }

    /// The journal was in trouble.
    pub fn journal_error(&self, reason: &'static str) {
        self.journal_errors.add(reason);
    }

    /// chiron became blind for that reason, or sees again.
    pub fn blind(&self, reason: &'static str, blind: bool) {
        self.blind.set(reason, blind);
    }

    /// The configuration was loaded, or could not be.
    pub fn config_reload(&self, ok: bool, at: Timestamp) {
        self.reload_ok.store(ok, Relaxed);
        if ok {
            self.reload_at.store(at.millis(), Relaxed);
        }
    }

    /// The Watchdog alert arrived.
    pub fn watchdog_seen(&self, at: Timestamp) {
        self.watchdog_at.store(at.millis(), Relaxed);
    }

    /// An issue was handed to a person (ACT-5).
    pub fn escalation(&self) {
        self.escalations.fetch_add(1, Relaxed);
    }

    /// Where a long task tells that it gets on.
    pub fn progress(&self, task: &'static str, clock: &Clock) -> Progress {
        self.tasks.progress(task, clock)
    }

    /// A long task was started anew.
    pub fn task_restarted(&self, task: &'static str) {
        self.tasks.restarted(task);
    }

    /// Every open issue is about to be told of again, by a decision task that was started anew.
    pub fn issues_forgotten(&self) {
        self.tables.load().close_all();
    }

    /// Admission said no, or not yet.
    pub fn admission_refused(&self, reason: Reason) {
        self.admissions_refused.add(reason.as_str());
    }

    /// The tables as they stand.
    pub(super) fn tables(&self) -> arc_swap::Guard<Arc<Tables>> {
        self.tables.load()
    }

    /// The time since boot.
    pub(super) fn since_boot(&self) -> Duration {
        self.clock.since_boot()
    }

    /// What of the page is counted here, by itself.
    #[cfg(test)]
    pub fn page(&self, format: super::PageFormat, out: &mut Vec<u8>) {
        self.render(&mut Text::new(format, out));
    }

    /// Writes every family of this module, and what the textfile folder has.
    pub(super) fn render(&self, text: &mut Text<'_>) {
        self.tables.load().render(text);
        self.alerts.render(text);
        self.alertmanagers.render(text);
        self.bindings.render(text);
        self.hooks.render(text);
        self.workspace.render(text);
        for reasons in [&self.webhook_refused, &self.journal_errors, &self.admissions_refused, &self.blind] {
            reasons.render(text);
        }
        self.requests_refused.render(text);
        let help = "Whether the web configuration file could be taken over when it last changed; 1 without one.";
        text.family("chiron_web_config_last_reload_successful", Kind::Gauge, help).flag(&[], self.web_ok.load(Relaxed));
        let until = self.certificate_until.load(Relaxed);
        if until != 0 {
            let help = "Until when the server's own certificate holds.";
            text.family("chiron_web_certificate_not_after_timestamp_seconds", Kind::Gauge, help)
                .float(&[], Timestamp::from_millis(until).seconds());
        }
        let help = "Whether the last configuration load succeeded.";
        text.family("chiron_config_last_reload_successful", Kind::Gauge, help).flag(&[], self.reload_ok.load(Relaxed));
        for (name, help, at) in [
            (
                "chiron_config_last_reload_success_timestamp_seconds",
                "When the configuration was last loaded successfully.",
                &self.reload_at,
            ),
            (
                "chiron_watchdog_last_seen_timestamp_seconds",
                "When the Watchdog alert last arrived; 0 if never.",
                &self.watchdog_at,
            ),
        ] {
            let seconds = Timestamp::from_millis(at.load(Relaxed)).seconds();
            text.family(name, Kind::Gauge, help).float(&[], seconds);
        }
        text.family("chiron_escalations_total", Kind::Counter, "Issues handed to a person.")
            .count(&[], self.escalations.load(Relaxed));
        self.tasks.render(text);
        self.watching.render(text);
        self.process.render(self.clock.since_boot(), text);
        if let Some(folder) = &*self.textfiles.load() {
            text.prepared(folder.read().in_format(text.format()));
        }
    }

    /// Whether the end of that issue still has a series to be counted in: its subject may have been removed.
    fn known_or_counted(&self, subsystem: &Name, kind: &Name) -> bool {
        let tables = self.tables.load();
        tables.knows(subsystem) || tables.issue(subsystem, kind).is_some()
    }

    fn issue(&self, subsystem: &Name, kind: &Name, count: impl Fn(&super::tables::IssueRow)) {
        match self.tables.load().issue(subsystem, kind) {
            Some(row) => count(row),
            None => count(&self.grow(|tables| tables.issue_or_insert(subsystem, kind))),
        }
    }

    fn of_action(&self, action: &Name, count: impl Fn(&super::tables::DurationRow)) {
        match self.tables.load().duration(action) {
            Some(row) => count(row),
            None => count(&self.grow(|tables| tables.duration_or_insert(action))),
        }
    }

    fn of_kind(&self, kind: &Name, count: impl Fn(&super::tables::KindRow)) {
        match self.tables.load().kind(kind) {
            Some(row) => count(row),
            None => count(&self.grow(|tables| tables.kind_or_insert(kind))),
        }
    }

    fn of_kind_action(&self, kind: &Name, action: &Name, count: impl Fn(&super::tables::KindActionRow)) {
        match self.tables.load().kind_action(kind, action) {
            Some(row) => count(row),
            None => count(&self.grow(|tables| tables.kind_action_or_insert(kind, action))),
        }
    }

    /// Makes a new index from the present one. Rows are shared, so a count in between is not lost.
    fn grow<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        let _one_at_a_time = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tables = Tables::clone(&self.tables.load());
        let result = change(&mut tables);
        self.tables.store(Arc::new(tables));
        result
    }
}
