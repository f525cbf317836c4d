//! What chiron counts while it works: cheap to call from anywhere, shared by `Arc`.
//!
//! Two halves: the large regular part lives in [`super::tables`]; the small vectors live in a `prometheus` registry.
//! **Invariant:** the number of series is bounded by the configuration and by fixed sets, whatever the outside sends.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::core::Collector;
use prometheus::{Encoder, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::model::{AlertOutcome, AlertStatus, Name, Outcome, Reason, Severity, Timestamp};

use super::tables::{OTHER, Tables, decrease};
use super::text::Text;

/// Receivers with series of their own; beyond that they count under `other`.
const RECEIVERS_MAX: usize = 100;

/// Why chiron may be blind (POL-4); each has its series from the start. Further reasons appear when they occur.
pub const BLIND_REASONS: [&str; 5] = ["watchdog", "journal", "clock", "checks", "unknown"];

/// Why the webhook refuses (section 13); each has its series from the start. The payload's own codes appear when they
/// occur.
pub const WEBHOOK_REASONS: [&str; 6] =
    ["unauthenticated", "forbidden", "too_large", "too_slow", "unreadable", "unavailable"];

/// What the journal may be in trouble with; each has its series from the start.
const JOURNAL_REASONS: [&str; 7] = ["fenced", "unavailable", "ambiguous", "full", "corrupt", "rewound", "conflict"];

/// Admission's ways of saying no or not yet.
const REFUSALS: [Reason; 13] = [
    Reason::Unbound,
    Reason::Manual,
    Reason::ApprovalPending,
    Reason::Busy,
    Reason::Cooldown,
    Reason::Budget,
    Reason::Concurrency,
    Reason::Dependency,
    Reason::Startup,
    Reason::JournalUnavailable,
    Reason::Exhausted,
    Reason::Expired,
    Reason::Indeterminate,
];

/// Every count that outlives a scrape.
pub struct Metrics {
    tables: ArcSwap<Tables>,
    /// Held while a new index is made, so that no row is lost.
    growing: Mutex<()>,
    registry: Registry,
    alerts: IntCounterVec,
    receivers: Mutex<HashSet<Name>>,
    webhook_refused: IntCounterVec,
    journal_errors: IntCounterVec,
    blind: IntGaugeVec,
    reload_ok: IntGauge,
    reload_at: Gauge,
    watchdog_at: Gauge,
    escalations: IntCounter,
    check_timeouts: IntCounter,
    admissions_refused: IntCounterVec,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Counts from zero, with every series that the configuration names. `bindings` are (action, subsystem), chiron's
    /// own included; their actions are the ones whose histograms and recommendations exist from the start.
    pub fn new(subsystems: &[Name], bindings: &[(Name, Name)]) -> Self {
        let registry = Registry::new();
        let registry = &registry;
        let metrics = Self {
            tables: ArcSwap::from_pointee(Tables::configured(subsystems, bindings, &Tables::default())),
            growing: Mutex::default(),
            alerts: counters(
                registry,
                "chiron_alerts_received_total",
                "Alerts received, by what became of them.",
                &["receiver", "status", "outcome"],
            ),
            receivers: Mutex::default(),
            webhook_refused: counters(
                registry,
                "chiron_webhook_refused_total",
                "Notifications that the webhook refused.",
                &["reason"],
            ),
            journal_errors: counters(
                registry,
                "chiron_journal_errors_total",
                "Times the journal was in trouble.",
                &["reason"],
            ),
            blind: register(
                registry,
                IntGaugeVec::new(
                    Opts::new("chiron_blind", "Whether chiron cannot see or cannot remember."),
                    &["reason"],
                ),
            ),
            reload_ok: register(
                registry,
                IntGauge::new("chiron_config_last_reload_successful", "Whether the last configuration load succeeded."),
            ),
            reload_at: register(
                registry,
                Gauge::new(
                    "chiron_config_last_reload_success_timestamp_seconds",
                    "When the configuration was last loaded successfully.",
                ),
            ),
            watchdog_at: register(
                registry,
                Gauge::new(
                    "chiron_watchdog_last_seen_timestamp_seconds",
                    "When the Watchdog alert last arrived; 0 if never.",
                ),
            ),
            escalations: register(registry, IntCounter::new("chiron_escalations_total", "Issues handed to a person.")),
            check_timeouts: register(
                registry,
                IntCounter::new("chiron_check_timeouts_total", "Checks that were given up on."),
            ),
            admissions_refused: counters(
                registry,
                "chiron_admissions_refused_total",
                "Times an action was not let run, or not yet.",
                &["reason"],
            ),
            registry: registry.clone(),
        };
        for (vector, reasons) in
            [(&metrics.webhook_refused, &WEBHOOK_REASONS[..]), (&metrics.journal_errors, &JOURNAL_REASONS[..])]
        {
            for reason in reasons {
                vector.with_label_values(&[reason]);
            }
        }
        for reason in BLIND_REASONS {
            metrics.blind.with_label_values(&[reason]);
        }
        for reason in REFUSALS {
            metrics.admissions_refused.with_label_values(&[reason.as_str()]);
        }
        #[cfg(target_os = "linux")]
        register_process(registry);
        metrics
    }

    /// After a reload: series of removed subjects vanish, new ones start at zero, the others keep their counts.
    pub fn reconfigure(&self, subsystems: &[Name], bindings: &[(Name, Name)]) {
        self.grow(|tables| *tables = Tables::configured(subsystems, bindings, tables));
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

    /// A run came to its outcome, `duration` after its means was begun.
    pub fn action_ended(&self, action: &Name, subsystem: &Name, outcome: Outcome, duration: Duration) {
        let index = Outcome::ALL.iter().position(|one| *one == outcome).expect("ALL has every outcome");
        let tables = self.tables.load();
        match tables.action(action, subsystem) {
            Some(row) => row.ended[index].fetch_add(1, Relaxed),
            None => self.grow(|tables| tables.action_or_insert(action, subsystem)).ended[index].fetch_add(1, Relaxed),
        };
        match tables.duration(action) {
            Some(row) => row.run.observe(duration),
            None => self.grow(|tables| tables.duration_or_insert(action)).run.observe(duration),
        }
    }

    /// A subsystem was verified healthy, `duration` after its issue was opened.
    pub fn recovered(&self, action: &Name, duration: Duration) {
        match self.tables.load().duration(action) {
            Some(row) => row.recovery.observe(duration),
            None => self.grow(|tables| tables.duration_or_insert(action)).recovery.observe(duration),
        }
    }

    /// An accepted alert found its outcome.
    pub fn alert_received(&self, receiver: &Name, status: AlertStatus, outcome: AlertOutcome) {
        let receiver = {
            let mut known = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
            if known.contains(receiver) {
                receiver.as_str()
            } else if known.len() < RECEIVERS_MAX {
                known.insert(receiver.clone());
                for status in [AlertStatus::Firing, AlertStatus::Resolved] {
                    for outcome in AlertOutcome::ALL {
                        self.alerts.with_label_values(&[receiver.as_str(), status.as_str(), outcome.as_str()]);
                    }
                }
                receiver.as_str()
            } else {
                OTHER
            }
        };
        self.alerts.with_label_values(&[receiver, status.as_str(), outcome.as_str()]).inc();
    }

    /// The webhook refused a notification.
    pub fn webhook_refused(&self, reason: &'static str) {
        self.webhook_refused.with_label_values(&[reason]).inc();
    }

    /// The journal was in trouble.
    pub fn journal_error(&self, reason: &'static str) {
        self.journal_errors.with_label_values(&[reason]).inc();
    }

    /// chiron became blind for that reason, or sees again.
    pub fn blind(&self, reason: &'static str, blind: bool) {
        self.blind.with_label_values(&[reason]).set(i64::from(blind));
    }

    /// The configuration was loaded, or could not be.
    pub fn config_reload(&self, ok: bool, at: Timestamp) {
        self.reload_ok.set(i64::from(ok));
        if ok {
            self.reload_at.set(at.seconds());
        }
    }

    /// The Watchdog alert arrived.
    pub fn watchdog_seen(&self, at: Timestamp) {
        self.watchdog_at.set(at.seconds());
    }

    /// An issue was handed to a person (ACT-5).
    pub fn escalation(&self) {
        self.escalations.inc();
    }

    /// A check was given up on.
    pub fn check_timeout(&self) {
        self.check_timeouts.inc();
    }

    /// Admission said no, or not yet.
    pub fn admission_refused(&self, reason: Reason) {
        self.admissions_refused.with_label_values(&[reason.as_str()]).inc();
    }

    /// The tables as they stand.
    pub(super) fn tables(&self) -> arc_swap::Guard<Arc<Tables>> {
        self.tables.load()
    }

    /// Appends every family of this module.
    pub(super) fn render(&self, out: &mut Vec<u8>) {
        self.tables.load().render(&mut Text::new(out));
        let whole = out.len();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), out) {
            out.truncate(whole);
            tracing::error!(%error, "the registry could not be written to the metrics page");
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

    /// Makes a new index from the present one. Rows are shared, so a count in between is not lost.
    fn grow<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        let _one_at_a_time = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tables = Tables::clone(&self.tables.load());
        let result = change(&mut tables);
        self.tables.store(Arc::new(tables));
        result
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels of our own metrics are valid");
    registry.register(Box::new(collector.clone())).expect("each of our own metrics is declared once");
    collector
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

#[cfg(target_os = "linux")]
fn register_process(registry: &Registry) {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process)).expect("each of our own metrics is declared once");
}
