//! Who can tell of itself, and when it last did: what stays on the page when a bot falls silent.
//!
//! **Invariant:** every bot that the configuration names has its row from the start; no other has one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::model::{Health, Name, Timestamp};

use super::text::{Kind, Text};

/// By subsystem, when its latest vitals were true, in milliseconds since the epoch; 0 if it never told any.
#[derive(Debug, Default)]
pub struct Bots(Mutex<BTreeMap<Name, AtomicI64>>);

impl Bots {
    /// These can tell of themselves; of those that could before, what they told last is kept.
    pub fn expect(&self, subsystems: impl IntoIterator<Item = Name>) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *rows);
        rows.extend(subsystems.into_iter().map(|name| {
            let row = before.remove(&name).unwrap_or_default();
            (name, row)
        }));
    }

    /// What a check saw of one.
    pub fn saw(&self, health: &Health) {
        let Some(vitals) = &health.signals.vitals else { return };
        if let Some(row) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&health.subsystem) {
            row.store(vitals.at.millis(), Relaxed);
        }
    }

    /// Writes when each told last.
    pub(super) fn render(&self, text: &mut Text<'_>) {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.is_empty() {
            return;
        }
        let help = "When what a bot told of itself last was true; 0 if it never told anything.";
        let mut family = text.family("chiron_vitals_timestamp_seconds", Kind::Gauge, help);
        for (subsystem, at) in rows.iter() {
            family.float(&[("subsystem", subsystem)], Timestamp::from_millis(at.load(Relaxed)).seconds());
        }
    }
}
