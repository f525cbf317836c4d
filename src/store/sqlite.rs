//! The journal in one SQLite file, owned by one thread and one process.
//!
//! ```text
//! caller: encode -> bounded queue -> writer thread: BEGIN, each request in a savepoint, COMMIT -> answers
//! ```
//!
//! **Invariant:** `Ok` means synced to the disk; a damaged or foreign file is refused and never changed.

mod audit;
mod chain;
mod errors;
mod log;
mod open;
mod space;
mod tables;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::base::clock::Clock;
use crate::journal::{AuditEntry, Entry, Epoch, JournalStore, Line, Record, Recovered, StoreError, StoreErrorKind};
use crate::model::{IntakeAlert, Timestamp};

use super::step::{self, Step};
use space::Space;
use tables::{Encoded, Intake};
use writer::{Reply, Request, Work, Writer};

/// What can be chosen about a store; the defaults suit production.
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests that may wait; one more is told `Unavailable`. Default 4096.
    pub queue: usize,
    /// Bytes to keep free on the file system: below them `accept` is told `Full`. Default 16 MiB or a hundredth of the
    /// file system, whichever is less.
    pub reserve: Option<u64>,
    /// Size in bytes of the ballast file beside the journal, given up when a tightening meets a full disk; 0 for none.
    /// Default 256 KiB.
    pub ballast: u64,
    /// Most pages of 4 KiB that the file may have; `None` for no limit.
    pub pages_max: Option<u32>,
    /// The clock by which the free space is looked at again.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self { queue: 4096, reserve: None, ballast: 256 << 10, pages_max: None, clock: Clock::system() }
    }
}

/// A journal in an SQLite file. Dropping it finishes what is queued and closes the file.
#[derive(Debug)]
pub struct SqliteStore {
    queue: Option<SyncSender<Request>>,
    writer: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens the journal at `path`, creating it (mode 0600) and its folder (0700) if missing.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, Options::default()).await
    }

    /// Opens the journal at `path` with `options`.
    pub async fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let unavailable = |context: String, error: std::io::Error| StoreError {
            kind: StoreErrorKind::Unavailable,
            context,
            source: Some(Box::new(error)),
        };
        // An absolute path is never mistaken by SQLite for a URI or for `:memory:`.
        let path = std::path::absolute(path)
            .map_err(|error| unavailable(format!("`{}` is no path to a file", path.display()), error))?;
        let (queue, requests) = sync_channel(options.queue.max(1));
        let (opened, answer) = oneshot::channel();
        let file = path.clone();
        let body = move || match begin(&file, &options) {
            Ok(writer) => {
                if opened.send(Ok(())).is_ok() {
                    writer.run(&requests);
                }
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        };
        let writer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(body)
            .map_err(|error| unavailable("starting the journal's thread".into(), error))?;
        let store = Self { queue: Some(queue), writer: Some(writer), path };
        match answer.await {
            Ok(Ok(())) => Ok(store),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(store.ended(StoreErrorKind::Unavailable)),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn ended(&self, kind: StoreErrorKind) -> StoreError {
        StoreError::new(kind, format!("the thread that owns `{}` has ended; restart chiron", self.path.display()))
    }

    /// Queues a request and waits for its answer. Once queued, a lost answer may hide a write.
    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let Some(queue) = &self.queue else { return Err(self.ended(StoreErrorKind::Unavailable)) };
        match queue.try_send(request(reply)) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(self.ended(StoreErrorKind::Ambiguous))),
            Err(TrySendError::Full(_)) => {
                let context = "its queue is full, the disk does not keep up; try again";
                Err(StoreError::new(StoreErrorKind::Busy, context))
            }
            Err(TrySendError::Disconnected(_)) => Err(self.ended(StoreErrorKind::Unavailable)),
        }
    }

    async fn write(&self, work: Work) -> Result<u64, StoreError> {
        self.ask(|reply| Request::Write(work, reply)).await
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the journal's thread panicked");
        }
    }
}

fn begin(path: &Path, options: &Options) -> Result<Writer, StoreError> {
    let (conn, lock) = open::open(path, options.clock.now())?;
    if let Some(pages) = options.pages_max {
        conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .map_err(|error| errors::Failure::of("limiting the journal", errors::Phase::Work, error).answer())?;
    }
    let space = Space::around(path, options.reserve, options.ballast, options.clock.clone());
    Ok(Writer::new(conn, lock, space))
}

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError {
        kind: StoreErrorKind::Conflict,
        context: "a value that cannot be written as JSON".into(),
        source: Some(Box::new(error)),
    })
}

fn encode(records: &[Record]) -> Result<Vec<Encoded>, StoreError> {
    let one = |record| {
        Ok(Encoded { kind: Record::kind(record), body: json(record)?, step: Step::of(record), line: Line::of(record) })
    };
    records.iter().map(one).collect()
}

#[async_trait]
impl JournalStore for SqliteStore {
    async fn acquire(&self, incarnation: &str, _now: Timestamp) -> Result<Recovered, StoreError> {
        self.ask(|reply| Request::Acquire(incarnation.to_owned(), reply)).await
    }

    async fn accept(&self, alerts: Vec<IntakeAlert>) -> Result<(), StoreError> {
        if alerts.is_empty() {
            return Ok(());
        }
        let one = |alert| {
            let body = json(alert)?;
            Ok(Intake { digest: chain::alert(body.as_bytes()), body })
        };
        let alerts = alerts.iter().map(one).collect::<Result<_, StoreError>>()?;
        self.write(Work::Accept(alerts)).await.map(drop)
    }

    async fn pending(&self, after: u64, limit: usize) -> Result<Vec<(u64, IntakeAlert)>, StoreError> {
        self.ask(|reply| Request::Pending(after, limit, reply)).await
    }

    async fn commit(&self, epoch: Epoch, at: Timestamp, records: Vec<Record>) -> Result<u64, StoreError> {
        self.write(Work::Commit { epoch: Some(epoch), at, records: encode(&records)? }).await
    }

    async fn tighten(&self, at: Timestamp, records: Vec<Record>) -> Result<u64, StoreError> {
        records.iter().try_for_each(step::may_tighten)?;
        self.write(Work::Commit { epoch: None, at, records: encode(&records)? }).await
    }

    async fn snapshot(&self, epoch: Epoch, seq: u64, state: Vec<u8>, keep: u64) -> Result<(), StoreError> {
        self.write(Work::Snapshot { epoch, seq, state, keep }).await.map(drop)
    }

    async fn history(&self, after: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.ask(|reply| Request::History(after, limit, reply)).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.ask(|reply| Request::Audit(after, limit, reply)).await
    }

    async fn probe(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(Work::Probe(now)).await.map(drop)
    }
}
