//! Whether each binding would work, as it said when it was last asked.
//!
//! **Invariant:** one row for each configured binding, from the start; what has not been asked yet is not ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use arc_swap::ArcSwap;

use crate::model::{Means, Name, Timestamp};

use super::text::{Kind, Text, prepare};

/// All of them. Cheap to call from anywhere.
#[derive(Default)]
pub struct Bindings(ArcSwap<Vec<Arc<Row>>>);

struct Row {
    key: (Name, Name),
    labels: Box<str>,
    ready: AtomicBool,
    /// Milliseconds since the epoch; 0 if never.
    checked_at: AtomicI64,
}

impl Bindings {
    /// Names every configured one: action, subsystem and means. Whatever was said of them before no longer holds, because
    /// their parameters may be others.
    pub fn configure(&self, bindings: impl IntoIterator<Item = (Name, Name, Means)>) {
        let row = |(action, subsystem, means): (Name, Name, Means)| {
            let labels = prepare(&[("action", &action), ("subsystem", &subsystem), ("means", means.as_str())]);
            let key = (action, subsystem);
            Arc::new(Row { key, labels, ready: AtomicBool::new(false), checked_at: AtomicI64::new(0) })
        };
        self.0.store(Arc::new(bindings.into_iter().map(row).collect()));
    }

    /// What one said of itself.
    pub fn checked(&self, action: &Name, subsystem: &Name, ready: bool, at: Timestamp) {
        let rows = self.0.load();
        if let Some(row) = rows.iter().find(|row| row.key.0 == *action && row.key.1 == *subsystem) {
            row.ready.store(ready, Relaxed);
            row.checked_at.store(at.millis(), Relaxed);
        }
    }

    pub(super) fn render(&self, text: &mut Text<'_>) {
        let rows = self.0.load();
        if rows.is_empty() {
            return;
        }
        let help = "Whether a binding found nothing in its way when it was last asked; 0 also before that.";
        let mut family = text.family("chiron_binding_ready", Kind::Gauge, help);
        for row in rows.iter() {
            family.prepared(&row.labels, u64::from(row.ready.load(Relaxed)));
        }
        let help = "When a binding was last asked whether it would work; 0 if never.";
        let mut family = text.family("chiron_binding_checked_timestamp_seconds", Kind::Gauge, help);
        for row in rows.iter() {
            family.suffixed_float("", &row.labels, Timestamp::from_millis(row.checked_at.load(Relaxed)).seconds());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXP-1: a configured binding has its series before it was asked, and what is unknown is not ready.
    #[test]
    fn rows_stand_from_the_start() {
        let bindings = Bindings::default();
        let page = || {
            let mut page = Vec::new();
            bindings.render(&mut Text::new(crate::telemetry::PageFormat::Text, &mut page));
            String::from_utf8(page).unwrap()
        };
        assert_eq!(page(), "");
        let (action, feed, bot) = (Name::from("clear_cache"), Name::from("feed"), Name::from("bot"));
        let both = || [(action.clone(), feed.clone(), Means::Exec), (action.clone(), bot.clone(), Means::Http)];
        bindings.configure(both());
        let labels = "{action=\"clear_cache\",subsystem=\"feed\",means=\"exec\"}";
        assert!(page().contains(&format!("chiron_binding_ready{labels} 0\n")), "{}", page());
        bindings.checked(&action, &feed, true, Timestamp::from_millis(1_763_861_696_000));
        assert!(page().contains(&format!("chiron_binding_ready{labels} 1\n")), "{}", page());
        assert!(page().contains(&format!("chiron_binding_checked_timestamp_seconds{labels} 1763861696\n")));
        assert!(page().contains("chiron_binding_ready{action=\"clear_cache\",subsystem=\"bot\",means=\"http\"} 0\n"));
        bindings.configure(both());
        assert!(page().contains(&format!("chiron_binding_ready{labels} 0\n")), "its parameters may be others");
    }
}
