//! How chiron's own long tasks fare: when each last got on with its work, and how often it was started anew.
//!
//! **Invariant:** a beat is told by the work itself, never by a timer beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::base::clock::Clock;
use crate::model::Timestamp;

use super::text::{Kind, Text, prepare};

/// The long tasks; each has its series from the start. Others appear when they are first started.
pub const TASKS: [&str; 8] = ["bindings", "checks", "decider", "healer", "http", "publisher", "reconciler", "sender"];

#[derive(Debug)]
struct Row {
    task: &'static str,
    labels: Box<str>,
    restarts: AtomicU64,
    /// Milliseconds of the wall clock, for people.
    seen_at: AtomicI64,
    /// Milliseconds since boot, for the supervisor.
    seen: AtomicU64,
}

/// Where a task tells that it gets on. Cloning shares the place.
#[derive(Clone, Debug)]
pub struct Progress {
    row: Arc<Row>,
    clock: Clock,
}

impl Progress {
    /// The work went on.
    pub fn beat(&self) {
        self.row.seen_at.store(self.clock.now().millis(), Relaxed);
        self.row.seen.store(millis(self.clock.since_boot()), Relaxed);
    }

    /// The clock it is told by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How long ago that was last told.
    pub fn age(&self) -> Duration {
        Duration::from_millis(millis(self.clock.since_boot()).saturating_sub(self.row.seen.load(Relaxed)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One row per task.
pub(super) struct TaskRows(ArcSwap<Vec<Arc<Row>>>);

impl TaskRows {
    pub(super) fn new() -> Self {
        Self(ArcSwap::from_pointee(TASKS.into_iter().map(row).collect()))
    }

    pub(super) fn progress(&self, task: &'static str, clock: &Clock) -> Progress {
        Progress { row: self.row(task), clock: clock.clone() }
    }

    pub(super) fn restarted(&self, task: &'static str) {
        self.row(task).restarts.fetch_add(1, Relaxed);
    }

    fn row(&self, task: &'static str) -> Arc<Row> {
        let find = |rows: &[Arc<Row>]| rows.iter().find(|row| row.task == task).cloned();
        if let Some(row) = find(&self.0.load()) {
            return row;
        }
        let new = row(task);
        self.0.rcu(|rows| {
            let mut rows = Vec::clone(rows);
            if find(&rows).is_none() {
                rows.push(Arc::clone(&new));
            }
            rows
        });
        find(&self.0.load()).expect("the row was just added, and none is ever removed")
    }

    pub(super) fn render(&self, text: &mut Text<'_>) {
        let rows = self.0.load();
        let help = "Times a long task of chiron ended by itself and was started anew.";
        let mut family = text.family("chiron_task_restarts_total", Kind::Counter, help);
        for row in rows.iter() {
            family.prepared(&row.labels, row.restarts.load(Relaxed));
        }
        let help = "When a long task of chiron last got on with its work; 0 if never.";
        let mut family = text.family("chiron_task_last_progress_timestamp_seconds", Kind::Gauge, help);
        for row in rows.iter() {
            let seconds = Timestamp::from_millis(row.seen_at.load(Relaxed)).seconds();
            family.float(&[("task", row.task)], seconds);
        }
    }
}

fn row(task: &'static str) -> Arc<Row> {
    let labels = prepare(&[("task", task)]);
    Arc::new(Row { task, labels, restarts: AtomicU64::new(0), seen_at: AtomicI64::new(0), seen: AtomicU64::new(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXP-1: known tasks have their series at once, further ones when they begin; a beat is told with its time, and its
    /// age does not follow the wall clock.
    #[test]
    fn beats_are_told() {
        let clock = Clock::manual(Timestamp::from_millis(1_763_861_696_000));
        let rows = TaskRows::new();
        let progress = rows.progress("another", &clock);
        assert!(progress.age() > Duration::ZERO, "never told");
        progress.beat();
        clock.advance(Duration::from_secs(3));
        clock.jump(-60_000);
        assert_eq!(progress.age(), Duration::from_secs(3));
        rows.restarted("decider");
        let mut page = Vec::new();
        rows.render(&mut Text::new(crate::telemetry::PageFormat::Text, &mut page));
        let page = String::from_utf8(page).unwrap();
        for line in [
            "chiron_task_restarts_total{task=\"decider\"} 1\n",
            "chiron_task_restarts_total{task=\"http\"} 0\n",
            "chiron_task_last_progress_timestamp_seconds{task=\"publisher\"} 0\n",
            "chiron_task_last_progress_timestamp_seconds{task=\"another\"} 1763861696\n",
        ] {
            assert!(page.contains(line), "{line}: {page}");
        }
    }
}
