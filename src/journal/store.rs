//! The interface of every store: whole transactions, nothing finer.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::model::{IntakeAlert, Timestamp};

use super::{AuditEntry, Entry, Record};

/// The right to write the journal: rises with every acquisition; a stale holder is told `Fenced`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// What kind of trouble a store is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Another instance has taken over; stop acting.
    Fenced,
    /// Too much at once; nothing was written, and nothing is wrong.
    Busy,
    /// Not now; nothing was written.
    Unavailable,
    /// It may or may not have been written; read again before doing anything.
    Ambiguous,
    /// No space; nothing was written.
    Full,
    /// What is stored cannot be trusted; refuse to act.
    Corrupt,
    /// The store is older than what was already seen of it.
    Rewound,
    /// The record does not fit what is stored: a run that exists, an illegal move. Ours to fix.
    Conflict,
}

impl StoreErrorKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Fenced,
        Self::Busy,
        Self::Unavailable,
        Self::Ambiguous,
        Self::Full,
        Self::Corrupt,
        Self::Rewound,
        Self::Conflict,
    ];

    /// The word used as the label `reason` of `chiron_journal_errors_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Ambiguous => "ambiguous",
            Self::Full => "full",
            Self::Corrupt => "corrupt",
            Self::Rewound => "rewound",
            Self::Conflict => "conflict",
        }
    }
}

/// Trouble of a store.
#[derive(Debug, thiserror::Error)]
#[error("journal {}: {context}", kind.as_str())]
pub struct StoreError {
    /// What kind.
    pub kind: StoreErrorKind,
    /// What was being done and what was found.
    pub context: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// Trouble without a deeper cause.
    pub fn new(kind: StoreErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }
}

/// What an acquisition brings back.
#[derive(Debug)]
pub struct Recovered {
    /// The new right to write.
    pub epoch: Epoch,
    /// The latest snapshot of the state: the seq it stands at, and its JSON.
    pub snapshot: Option<(u64, Vec<u8>)>,
    /// Every entry after the snapshot, in order.
    pub entries: Vec<Entry>,
}

/// A durable journal with an intake of accepted alerts. Cloned by `Arc`; every method is one transaction that is
/// durable when it returns `Ok`, and has written nothing when it returns an error other than `Ambiguous`.
#[async_trait]
pub trait JournalStore: Send + Sync + 'static {
    /// Takes the journal over: raises the epoch and reads everything back, verifying it.
    /// `incarnation` is random per process.
    async fn acquire(&self, incarnation: &str, now: Timestamp) -> Result<Recovered, StoreError>;

    /// Takes alerts in, all or none. Needs no epoch: any instance may.
    async fn accept(&self, alerts: Vec<IntakeAlert>) -> Result<(), StoreError>;

    /// Accepted alerts with a number greater than `after`, oldest first, at most `limit`.
    async fn pending(&self, after: u64, limit: usize) -> Result<Vec<(u64, IntakeAlert)>, StoreError>;

    /// Appends records, all or none, after checking the epoch and each record's [`super::guard`] in the same
    /// transaction. Intake rows named by `AlertTaken` may be dropped. Returns the seq of the last record.
    async fn commit(&self, epoch: Epoch, at: Timestamp, records: Vec<Record>) -> Result<u64, StoreError>;

    /// Like `commit` but without an epoch, and only for records that can only tighten: `HoldSet` above what the
    /// same source and subject holds, and `Latched`. Anything else is a `Conflict`.
    async fn tighten(&self, at: Timestamp, records: Vec<Record>) -> Result<u64, StoreError>;

    /// Stores a snapshot of the state at `seq`, so that later acquisitions replay less. Entries stay for history
    /// until `keep` newest are exceeded.
    async fn snapshot(&self, epoch: Epoch, seq: u64, state: Vec<u8>, keep: u64) -> Result<(), StoreError>;

    /// Entries with a seq greater than `after`, oldest first, at most `limit`; for people.
    async fn history(&self, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// Entries of the audit log with a number greater than `after`, oldest first, at most `limit`. They are appended by
    /// `commit` and `tighten`, in the same transaction, for every record that [`super::Line::of`] speaks of.
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError>;

    /// Writes and syncs a little, to learn whether the store can be written.
    async fn probe(&self, now: Timestamp) -> Result<(), StoreError>;
}
