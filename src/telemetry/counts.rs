//! The small vectors: counts by a word from the program's own text, alerts by receiver, and the process itself.
//!
//! As in [`super::tables`], counting in a known row takes no lock and labels are written once.
//! **Invariant:** words are `&'static str` and receivers are bounded, so that nothing outside can add series at will.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::Registry;

use crate::model::{AlertOutcome, AlertStatus, Name};

use super::family::{self, gathered};
use super::tables::OTHER;
use super::text::{Kind, PageFormat, Text, prepare};

/// Receivers with series of their own; beyond that they count under `other`.
const RECEIVERS_MAX: usize = 100;

/// The process is looked at again after this long: reading it costs more than a thousand series.
const PROCESS_AGE_MAX: Duration = Duration::from_secs(1);

/// A counter or gauge with the one label `reason`.
pub(super) struct Reasons {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    rows: ArcSwap<Vec<Arc<ReasonRow>>>,
}

struct ReasonRow {
    reason: &'static str,
    labels: Box<str>,
    value: AtomicU64,
}

impl ReasonRow {
    fn new(reason: &'static str) -> Self {
        Self { reason, labels: prepare(&[("reason", reason)]), value: AtomicU64::new(0) }
    }
}

impl Reasons {
    /// Starts with these reasons at 0; others appear when they occur.
    pub(super) fn new(
        name: &'static str,
        kind: Kind,
        help: &'static str,
        reasons: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let rows: Vec<_> = reasons.into_iter().map(|reason| Arc::new(ReasonRow::new(reason))).collect();
        Self { name, kind, help, rows: ArcSwap::from_pointee(rows) }
    }

    /// Has a series for that reason from now on.
    pub(super) fn expect(&self, reason: &'static str) {
        self.with(reason, |_| ());
    }

    pub(super) fn add(&self, reason: &'static str) {
        self.with(reason, |value| {
            value.fetch_add(1, Relaxed);
        });
    }

    pub(super) fn set(&self, reason: &'static str, value: bool) {
        self.with(reason, |row| row.store(u64::from(value), Relaxed));
    }

    fn with(&self, reason: &'static str, change: impl Fn(&AtomicU64)) {
        let find = |rows: &[Arc<ReasonRow>]| rows.iter().find(|row| row.reason == reason).cloned();
        if let Some(row) = find(&self.rows.load()) {
            return change(&row.value);
        }
        let new = Arc::new(ReasonRow::new(reason));
        self.rows.rcu(|rows| {
            let mut rows = Vec::clone(rows);
            if find(&rows).is_none() {
                rows.push(Arc::clone(&new));
            }
            rows
        });
        change(&find(&self.rows.load()).expect("the row was just added, and none is ever removed").value);
    }

    pub(super) fn render(&self, text: &mut Text<'_>) {
        let mut family = text.family(self.name, self.kind, self.help);
        for row in self.rows.load().iter() {
            family.prepared(&row.labels, row.value.load(Relaxed));
        }
    }
}

/// The groups of routes, as the settings name them.
const GROUPS: [&str; 6] = ["metrics", "probes", "read", "push", "change", "webhook"];

/// Why a request of any group may be refused at the door, and why one that changes something may be besides.
const ANY: [&str; 4] = ["unauthenticated", "forbidden", "address_not_allowed", "rate_limited"];
const CHANGING: [&str; 3] = ["foreign_origin", "foreign_host", "bad_signature"];

/// `chiron_http_requests_refused_total`. A refusal is rare beside an answer: a lock will do.
pub(super) struct Refused(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Default for Refused {
    fn default() -> Self {
        let any = GROUPS.iter().flat_map(|group| ANY.iter().map(move |code| ((*group, *code), 0)));
        let changing = GROUPS[3..].iter().flat_map(|group| CHANGING.iter().map(move |code| ((*group, *code), 0)));
        Self(Mutex::new(any.chain(changing).collect()))
    }
}

impl Refused {
    pub(super) fn add(&self, group: &'static str, code: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((group, code)).or_default() += 1;
    }

    pub(super) fn render(&self, text: &mut Text<'_>) {
        let help = "Requests refused for who asked, from where, how often, or how it was signed.";
        let mut family = text.family("chiron_http_requests_refused_total", Kind::Counter, help);
        for ((group, code), count) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            family.count(&[("group", group), ("code", code)], *count);
        }
    }
}

const STATUSES: [AlertStatus; 2] = [AlertStatus::Firing, AlertStatus::Resolved];

/// `chiron_alerts_received_total`
#[derive(Default)]
pub(super) struct Alerts(ArcSwap<Vec<Arc<ReceiverRow>>>);

struct ReceiverRow {
    receiver: Name,
    /// Labels and count, by status and outcome.
    cells: [[(Box<str>, AtomicU64); AlertOutcome::ALL.len()]; STATUSES.len()],
}

impl ReceiverRow {
    fn new(receiver: Name) -> Self {
        let labels = |status: AlertStatus, outcome: AlertOutcome| {
            prepare(&[("receiver", &receiver), ("status", status.as_str()), ("outcome", outcome.as_str())])
        };
        let cells =
            STATUSES.map(|status| AlertOutcome::ALL.map(|outcome| (labels(status, outcome), AtomicU64::new(0))));
        Self { receiver, cells }
    }
}

impl Alerts {
    pub(super) fn add(&self, receiver: &Name, status: AlertStatus, outcome: AlertOutcome) {
        let row = self.row(receiver);
        row.cells[status as usize][outcome as usize].1.fetch_add(1, Relaxed);
    }

    fn row(&self, receiver: &Name) -> Arc<ReceiverRow> {
        let find = |rows: &[Arc<ReceiverRow>], name: &str| rows.iter().find(|row| row.receiver == *name).cloned();
        if let Some(row) = find(&self.0.load(), receiver) {
            return row;
        }
        self.0.rcu(|rows| {
            let mut rows = Vec::clone(rows);
            let name = if rows.len() < RECEIVERS_MAX { receiver.clone() } else { OTHER.into() };
            if find(&rows, &name).is_none() {
                rows.push(Arc::new(ReceiverRow::new(name)));
            }
            rows
        });
        let rows = self.0.load();
        find(&rows, receiver).or_else(|| find(&rows, OTHER)).expect("one of both was just added")
    }

    pub(super) fn render(&self, text: &mut Text<'_>) {
        let rows = self.0.load();
        if rows.is_empty() {
            return;
        }
        let help = "Alerts received, by what became of them.";
        let mut family = text.family("chiron_alerts_received_total", Kind::Counter, help);
        for (labels, count) in rows.iter().flat_map(|row| row.cells.iter().flatten()) {
            family.prepared(labels, count.load(Relaxed));
        }
    }
}

/// `process_*`, from the `prometheus` crate, at most a second old.
pub(super) struct Process {
    registry: Registry,
    seen: Mutex<Option<Seen>>,
}

/// What was gathered, written in both formats.
struct Seen {
    at: Duration,
    text: Vec<u8>,
    openmetrics: Vec<u8>,
}

impl Process {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("an empty registry takes any collector");
        Self { registry, seen: Mutex::default() }
    }

    pub(super) fn render(&self, now: Duration, text: &mut Text<'_>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|seen| now.saturating_sub(seen.at) >= PROCESS_AGE_MAX) {
            let families = gathered(&self.registry.gather());
            let written = |format| {
                let mut out = Vec::new();
                let mut text = Text::new(format, &mut out);
                for one in &families {
                    let help = one.help.as_deref().unwrap_or_default();
                    family::family(&mut text, &one.name, one.kind, help, &[&one.samples]);
                }
                out
            };
            *seen =
                Some(Seen { at: now, text: written(PageFormat::Text), openmetrics: written(PageFormat::OpenMetrics) });
        }
        if let Some(seen) = &*seen {
            let part = match text.format() {
                PageFormat::Text => &seen.text,
                PageFormat::OpenMetrics => &seen.openmetrics,
            };
            text.prepared(part);
        }
    }
}
