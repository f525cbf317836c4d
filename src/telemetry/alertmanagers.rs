//! What is counted of the Alertmanagers that chiron asks and tells, one row for each configured one.
//!
//! **Invariant:** rows come from the settings alone, at most as many as those allow; a row that stays keeps its counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;

use crate::model::{Name, Timestamp};

use super::text::{Kind, Text, prepare};

/// Why a poll failed; each has its series from the start.
pub const POLL_REASONS: [&str; 5] = ["unreachable", "timeout", "status", "too_large", "malformed"];
/// What became of an alert posted.
const SENT: [&str; 2] = ["sent", "failed"];

/// All of them. Cheap to call from anywhere.
#[derive(Default)]
pub struct Alertmanagers {
    rows: ArcSwap<Vec<Arc<Row>>>,
    wanted: AtomicU64,
    /// Bindings that speak TLS, and whether their server's certificate is not verified.
    bindings: ArcSwap<Vec<(Name, bool)>>,
}

struct Row {
    name: Name,
    unverified: AtomicBool,
    up: AtomicBool,
    polled_at: AtomicI64,
    labels: Box<str>,
    errors: [(Box<str>, AtomicU64); POLL_REASONS.len()],
    sent: [(Box<str>, AtomicU64); SENT.len()],
}

impl Row {
    fn new(name: &Name) -> Self {
        let with = |label, value| (prepare(&[("alertmanager", name), (label, value)]), AtomicU64::new(0));
        Self {
            name: name.clone(),
            unverified: AtomicBool::new(false),
            up: AtomicBool::new(false),
            polled_at: AtomicI64::new(0),
            labels: prepare(&[("alertmanager", name)]),
            errors: POLL_REASONS.map(|reason| with("reason", reason)),
            sent: SENT.map(|outcome| with("outcome", outcome)),
        }
    }
}

impl Alertmanagers {
    /// Names every configured one, and whether its certificate is not verified.
    pub fn configure(&self, targets: &[(Name, bool)]) {
        let old = self.rows.load();
        let rows = targets.iter().map(|(name, unverified)| {
            let kept = old.iter().find(|row| row.name == *name).cloned();
            let row = kept.unwrap_or_else(|| Arc::new(Row::new(name)));
            row.unverified.store(*unverified, Relaxed);
            row
        });
        self.rows.store(Arc::new(rows.collect()));
    }

    /// Names every binding that speaks TLS, and whether its server's certificate is not verified (SEC-2).
    pub fn configure_bindings(&self, bindings: Vec<(Name, bool)>) {
        self.bindings.store(Arc::new(bindings));
    }

    /// It was asked, and has answered or not.
    pub fn polled(&self, name: &Name, result: Result<Timestamp, &'static str>) {
        self.with(name, |row| {
            row.up.store(result.is_ok(), Relaxed);
            match result {
                Ok(at) => row.polled_at.store(at.millis(), Relaxed),
                Err(reason) => {
                    if let Some(index) = POLL_REASONS.iter().position(|known| *known == reason) {
                        row.errors[index].1.fetch_add(1, Relaxed);
                    }
                }
            }
        });
    }

    /// So many alerts were posted to it.
    pub fn sent(&self, name: &Name, alerts: usize, ok: bool) {
        self.with(name, |row| {
            row.sent[usize::from(!ok)].1.fetch_add(alerts as u64, Relaxed);
        });
    }

    /// So many alerts of chiron's own are wanted now.
    pub fn wanted(&self, alerts: usize) {
        self.wanted.store(alerts as u64, Relaxed);
    }

    fn with(&self, name: &Name, change: impl FnOnce(&Row)) {
        if let Some(row) = self.rows.load().iter().find(|row| row.name == *name) {
            change(row);
        }
    }

    pub(super) fn render(&self, text: &mut Text<'_>) {
        let rows = self.rows.load();
        let bindings = self.bindings.load();
        if !rows.is_empty() {
            self.render_rows(&rows, text);
        }
        if rows.is_empty() && bindings.is_empty() {
            return;
        }
        let help = "Whether the certificate of a target is not verified.";
        let mut family = text.family("chiron_tls_verification_disabled", Kind::Gauge, help);
        for row in rows.iter() {
            family.flag(&[("target", &row.name)], row.unverified.load(Relaxed));
        }
        for (binding, unverified) in bindings.iter() {
            family.flag(&[("target", binding)], *unverified);
        }
    }

    fn render_rows(&self, rows: &[Arc<Row>], text: &mut Text<'_>) {
        let help = "Whether an Alertmanager answered the latest poll.";
        let mut family = text.family("chiron_alertmanager_up", Kind::Gauge, help);
        for row in rows.iter() {
            family.prepared(&row.labels, u64::from(row.up.load(Relaxed)));
        }
        let help = "When an Alertmanager last answered a poll; 0 if never.";
        let mut family = text.family("chiron_alertmanager_last_poll_timestamp_seconds", Kind::Gauge, help);
        for row in rows.iter() {
            let at = Timestamp::from_millis(row.polled_at.load(Relaxed));
            family.float(&[("alertmanager", &row.name)], at.seconds());
        }
        let help = "Polls of an Alertmanager that failed.";
        let mut family = text.family("chiron_alertmanager_poll_errors_total", Kind::Counter, help);
        for (labels, count) in rows.iter().flat_map(|row| &row.errors) {
            family.prepared(labels, count.load(Relaxed));
        }
        let help = "Alerts of chiron's own posted to an Alertmanager, each repetition included.";
        let mut family = text.family("chiron_alerts_sent_total", Kind::Counter, help);
        for (labels, count) in rows.iter().flat_map(|row| &row.sent) {
            family.prepared(labels, count.load(Relaxed));
        }
        text.family("chiron_alerts_wanted", Kind::Gauge, "Alerts of chiron's own that fire now.")
            .count(&[], self.wanted.load(Relaxed));
    }
}
