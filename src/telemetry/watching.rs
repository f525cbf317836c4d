//! How much is watched for changes, and what came of it.
//!
//! **Invariant:** fixed series; counting takes no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::text::{Kind, Text};

#[derive(Debug, Default)]
struct Counts {
    folders: AtomicU64,
    unwatched: AtomicU64,
    changes: AtomicU64,
    overflows: AtomicU64,
}

/// Where the watcher of files tells what it does. Cloning shares the place.
#[derive(Clone, Debug, Default)]
pub struct Watching(Arc<Counts>);

impl Watching {
    /// So many folders are watched now, and so many that should be are not.
    pub fn holds(&self, folders: usize, unwatched: usize) {
        self.0.folders.store(folders as u64, Relaxed);
        self.0.unwatched.store(unwatched as u64, Relaxed);
    }

    /// So many changes concerned a check.
    pub fn changed(&self, count: usize) {
        self.0.changes.fetch_add(count as u64, Relaxed);
    }

    /// More happened than the kernel could tell.
    pub fn overflowed(&self) {
        self.0.overflows.fetch_add(1, Relaxed);
    }

    /// Changes that concerned a check so far.
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Relaxed)
    }

    /// Folders that are watched, and those that are not.
    pub fn held(&self) -> (u64, u64) {
        (self.0.folders.load(Relaxed), self.0.unwatched.load(Relaxed))
    }

    pub(super) fn render(&self, text: &mut Text<'_>) {
        for (name, kind, help, count) in [
            ("chiron_watched_folders", Kind::Gauge, "Folders and links watched for changes.", &self.0.folders),
            (
                "chiron_unwatched_folders",
                Kind::Gauge,
                "Folders with files of checks that cannot be watched: their checks run by their schedule alone.",
                &self.0.unwatched,
            ),
            ("chiron_watch_changes_total", Kind::Counter, "Changes of files that concerned a check.", &self.0.changes),
            (
                "chiron_watch_overflows_total",
                Kind::Counter,
                "Times more happened in watched folders than could be told; all of them were then looked at.",
                &self.0.overflows,
            ),
        ] {
            text.family(name, kind, help).count(&[], count.load(Relaxed));
        }
    }
}
