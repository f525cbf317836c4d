//! Stores that implement `journal::JournalStore`: memory and SQLite.

use std::path::PathBuf;

/// Where the journal is kept (`storage.url`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// `memory:`; for tests and rehearsals, forgets everything.
    Memory,
    /// `sqlite:PATH`.
    Sqlite(PathBuf),
}
