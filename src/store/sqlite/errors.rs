//! What an SQLite error means to a caller of the journal.
//!
//! **Invariant:** pure; an input/output error always asks for the store to be closed, because after a lost sync
//! SQLite goes on reporting success (`docs/reliability.md`, invariant 24).

use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::journal::{StoreError, StoreErrorKind};

/// What every call is told once the store has been closed.
pub(super) const CLOSED: &str = "closed after a sync error; restart chiron after checking the disk";

/// When the error struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before COMMIT was asked for: nothing is written.
    Work,
    /// During COMMIT.
    Commit,
}

/// Trouble of a whole transaction; cloned to everybody who took part in it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: StoreErrorKind,
    pub(super) context: String,
    /// Nothing may be written through this connection again.
    pub(super) closes: bool,
    source: Option<Arc<rusqlite::Error>>,
}

impl Failure {
    pub(super) fn new(kind: StoreErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), closes: false, source: None }
    }

    /// What an error of SQLite during `phase` of `doing` means.
    pub(super) fn of(doing: &str, phase: Phase, error: rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        let closes = code == Some(ErrorCode::SystemIoFailure);
        let (kind, found) = match code {
            Some(ErrorCode::DiskFull) => (StoreErrorKind::Full, "no space is left"),
            Some(ErrorCode::SystemIoFailure) if phase == Phase::Commit => (StoreErrorKind::Ambiguous, CLOSED),
            Some(ErrorCode::SystemIoFailure) => (StoreErrorKind::Unavailable, CLOSED),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
                StoreErrorKind::Corrupt,
                "the file is damaged; stop chiron, keep a copy of it, then restore a backup or move it aside",
            ),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (StoreErrorKind::Unavailable, "another process has the file open")
            }
            Some(ErrorCode::ConstraintViolation) => (StoreErrorKind::Conflict, "a rule of the store forbids it"),
            None => (StoreErrorKind::Corrupt, "a value of the wrong type was found"),
            Some(_) if phase == Phase::Commit => (StoreErrorKind::Ambiguous, "the commit was not confirmed"),
            Some(_) => (StoreErrorKind::Unavailable, "nothing was written"),
        };
        Self { kind, context: format!("{doing}: {found}"), closes, source: Some(Arc::new(error)) }
    }

    /// As an answer.
    pub(super) fn answer(&self) -> StoreError {
        let source = self.source.clone().map(|source| Box::new(source) as Box<dyn std::error::Error + Send + Sync>);
        StoreError { kind: self.kind, context: self.context.clone(), source }
    }
}

/// How one piece of work inside a transaction ended badly.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A guard refused it; the transaction around it is sound.
    Refused(StoreError),
    /// SQLite failed; the whole transaction is lost.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    /// `docs/reliability.md`, invariants 1 and 24: an unconfirmed commit is ambiguous, an I/O error closes the store.
    #[test]
    fn every_code_has_its_kind() {
        use StoreErrorKind::{Ambiguous, Conflict, Corrupt, Full, Unavailable};
        let cases = [
            (ffi::SQLITE_FULL, Phase::Work, Full, false),
            (ffi::SQLITE_FULL, Phase::Commit, Full, false),
            (ffi::SQLITE_IOERR_FSYNC, Phase::Commit, Ambiguous, true),
            (ffi::SQLITE_IOERR_WRITE, Phase::Commit, Ambiguous, true),
            (ffi::SQLITE_IOERR_READ, Phase::Work, Unavailable, true),
            (ffi::SQLITE_CORRUPT, Phase::Work, Corrupt, false),
            (ffi::SQLITE_NOTADB, Phase::Work, Corrupt, false),
            (ffi::SQLITE_BUSY, Phase::Work, Unavailable, false),
            (ffi::SQLITE_LOCKED, Phase::Commit, Unavailable, false),
            (ffi::SQLITE_CONSTRAINT_TRIGGER, Phase::Work, Conflict, false),
            (ffi::SQLITE_NOMEM, Phase::Work, Unavailable, false),
            (ffi::SQLITE_NOMEM, Phase::Commit, Ambiguous, false),
        ];
        for (code, phase, kind, closes) in cases {
            let failure = Failure::of("test", phase, rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            assert_eq!((failure.kind, failure.closes), (kind, closes), "{code} in {phase:?}");
        }
    }
}
