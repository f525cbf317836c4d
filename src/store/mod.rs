//! Stores that implement `journal::JournalStore`: memory and SQLite.
//!
//! In: whole transactions from the decision task and the webhook. Out: what was stored, verified.
//! **Invariant:** nothing is reported as stored before it is durable; one suite (`conformance`) holds for every store.

mod memory;
mod sqlite;
mod step;

#[cfg(test)]
mod conformance;

use std::path::PathBuf;
use std::sync::Arc;

use crate::journal::{JournalStore, StoreError};

pub use memory::MemoryStore;
pub use sqlite::{Options, SqliteStore};

/// Where the journal is kept (`storage.url`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// `memory:`; for tests and rehearsals, forgets everything.
    Memory,
    /// `sqlite:PATH`.
    Sqlite(PathBuf),
}

/// Opens the store of the settings; a missing SQLite file is created, a damaged or foreign one is refused.
pub async fn open(settings: &Settings) -> Result<Arc<dyn JournalStore>, StoreError> {
    match settings {
        Settings::Memory => Ok(Arc::new(MemoryStore::new())),
        Settings::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path).await?)),
    }
}
