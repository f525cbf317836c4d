//! The one thread that touches the file: it gathers what is queued into one commit and answers after it.
//!
//! **Invariant:** nobody is told `Ok` before COMMIT has returned; after an input/output error nothing is written again
//! (`docs/reliability.md`, invariants 1, 24, 25).

use std::sync::mpsc::Receiver;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::oneshot;

use crate::base::failpoint;
use crate::journal::{AuditEntry, Entry, Epoch, Recovered, StoreError, StoreErrorKind};
use crate::model::{IntakeAlert, Timestamp};
use crate::store::step::Step;

use super::audit;
use super::errors::{CLOSED, Failure, Phase, Trouble};
use super::open::Lock;
use super::space::Space;
use super::tables::{self, Encoded, Intake};

/// At most so many requests share one commit, so that none waits long for its answer.
const BATCH_MAX: usize = 256;

/// An answer and who waits for it.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A change to be made durable.
#[derive(Debug)]
pub(super) enum Work {
    Accept(Vec<Intake>),
    /// Without an epoch it may only tighten.
    Commit {
        epoch: Option<Epoch>,
        at: Timestamp,
        records: Vec<Encoded>,
    },
    Snapshot {
        epoch: Epoch,
        seq: u64,
        state: Vec<u8>,
        keep: u64,
    },
    Probe(Timestamp),
}

/// What is asked of the thread.
#[derive(Debug)]
pub(super) enum Request {
    /// Answered with the last seq, or 0 where there is none.
    Write(Work, Reply<u64>),
    Acquire(String, Reply<Recovered>),
    Pending(u64, usize, Reply<Vec<(u64, IntakeAlert)>>),
    History(u64, usize, Reply<Vec<Entry>>),
    Audit(u64, usize, Reply<Vec<AuditEntry>>),
}

impl Work {
    /// The failpoints around its commit, without their suffix.
    fn failpoints(&self) -> Vec<&'static str> {
        let records = match self {
            Self::Accept(_) => return vec!["accept"],
            Self::Snapshot { .. } => return vec!["snapshot"],
            Self::Probe(_) => return Vec::new(),
            Self::Commit { records, .. } => records,
        };
        let has = |kinds: &[&str]| records.iter().any(|record| kinds.contains(&record.kind));
        let table = [
            ("plan", &["run_intended", "run_started"][..]),
            ("finish", &["run_finished"]),
            ("verify", &["run_verified"]),
        ];
        table.into_iter().filter(|(_, kinds)| has(kinds)).map(|(name, _)| name).collect()
    }

    /// Whether the ballast may be given up for it.
    fn tightens(&self) -> bool {
        let Self::Commit { records, .. } = self else { return false };
        records.iter().any(|record| matches!(record.step, Step::Hold { .. } | Step::Latch(_)))
    }

    /// About how many bytes it adds to the write-ahead log.
    fn weight(&self) -> usize {
        match self {
            Self::Accept(alerts) => alerts.iter().map(|alert| alert.body.len() + 64).sum(),
            Self::Commit { records, .. } => records.iter().map(|record| record.body.len() + 256).sum(),
            Self::Snapshot { state, .. } => state.len(),
            Self::Probe(_) => 0,
        }
    }
}

/// The owner of the connection.
pub(super) struct Writer {
    conn: Option<Connection>,
    space: Space,
    log_limit: u64,
    /// About how many bytes the write-ahead log has taken since the last checkpoint.
    log: u64,
    /// Dropped last.
    _lock: Lock,
}

type Batch = Vec<(Work, Reply<u64>)>;

impl Writer {
    pub(super) fn new(conn: Connection, lock: Lock, space: Space) -> Self {
        let log_limit = space.log_limit();
        let _ = conn.pragma_update_and_check(None, "journal_size_limit", tables::signed(2 * log_limit), |_| Ok(()));
        space.load_ballast();
        Self { conn: Some(conn), space, log_limit, log: 0, _lock: lock }
    }

    /// Serves requests until every sender is gone, then closes the file.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let mut next = Some(first);
            let mut batch = Batch::new();
            while let Some(request) = next.take() {
                match request {
                    Request::Write(work, reply) => batch.push((work, reply)),
                    read => {
                        self.commit(&mut batch);
                        self.read(read);
                    }
                }
                if batch.len() < BATCH_MAX {
                    next = requests.try_recv().ok();
                }
            }
            self.commit(&mut batch);
            if self.log >= self.log_limit {
                self.checkpoint();
            }
        }
        if let Some(Err((_, error))) = self.conn.take().map(Connection::close) {
            tracing::warn!(%error, "closing the journal");
        }
    }

    fn closed() -> Failure {
        Failure::new(StoreErrorKind::Unavailable, CLOSED)
    }

    /// Takes note of a failure; closes the file for good if it asks for that.
    fn note(&mut self, failure: &Failure) {
        if !failure.closes {
            return;
        }
        tracing::error!(context = %failure.context, "the journal is closed");
        if let Some(conn) = self.conn.take() {
            // Closing must not write: the log is read again, and checked, at the next start.
            let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            drop(conn);
        }
    }

    /// Makes a batch durable in one commit and answers everybody; if that fails as a whole, each alone.
    fn commit(&mut self, batch: &mut Batch) {
        let batch = std::mem::take(batch);
        if batch.is_empty() {
            return;
        }
        let works: Vec<&Work> = batch.iter().map(|(work, _)| work).collect();
        let answers = match self.attempt(&works) {
            Ok(answers) => answers,
            Err(failure) if failure.closes || self.conn.is_none() || failure.kind == StoreErrorKind::Ambiguous => {
                works.iter().map(|_| Err(failure.answer())).collect()
            }
            Err(failure) if works.len() == 1 => vec![self.again(works[0], &failure)],
            Err(_) => works.iter().map(|work| self.alone(work)).collect(),
        };
        for ((_, reply), answer) in batch.into_iter().zip(answers) {
            let _ = reply.send(answer);
        }
    }

    fn alone(&mut self, work: &Work) -> Result<u64, StoreError> {
        match self.attempt(&[work]) {
            Ok(answers) => one(answers),
            Err(failure) => self.again(work, &failure),
        }
    }

    /// After a single piece of work met `failure`: on a full disk room is made and it is tried once more.
    fn again(&mut self, work: &Work, failure: &Failure) -> Result<u64, StoreError> {
        if failure.kind != StoreErrorKind::Full || self.conn.is_none() {
            return Err(failure.answer());
        }
        let mut room = self.log > 0 && self.checkpoint();
        if work.tightens() {
            room |= self.space.drop_ballast();
        }
        if !room {
            return Err(failure.answer());
        }
        self.attempt(&[work]).map_or_else(|failure| Err(failure.answer()), one)
    }

    /// One transaction over all the work. `Err` means that nothing of it was kept, unless the kind is ambiguous.
    fn attempt(&mut self, works: &[&Work]) -> Result<Vec<Result<u64, StoreError>>, Failure> {
        let outcome = self.transact(works);
        if let Err(failure) = &outcome {
            self.note(failure);
        }
        outcome
    }

    fn transact(&mut self, works: &[&Work]) -> Result<Vec<Result<u64, StoreError>>, Failure> {
        let Some(conn) = &self.conn else { return Err(Self::closed()) };
        let during = |error| Failure::of("writing the journal", Phase::Work, error);
        run(conn, "begin immediate").map_err(during)?;
        let mut answers = Vec::with_capacity(works.len());
        let shared = works.len() > 1;
        for work in works {
            if shared && let Err(error) = run(conn, "savepoint request") {
                return Err(abandon(conn, during(error)));
            }
            let answer = match perform(conn, &mut self.space, work) {
                Ok(_) if strikes(work, "before_commit") => {
                    Err(StoreError::new(StoreErrorKind::Unavailable, "a failpoint struck before the commit"))
                }
                Ok(seq) => Ok(seq),
                Err(Trouble::Refused(refusal)) => Err(refusal),
                Err(Trouble::Sqlite(error)) => return Err(abandon(conn, during(error))),
            };
            if shared {
                let undone = if answer.is_err() { run(conn, "rollback to request") } else { Ok(()) };
                if let Err(error) = undone.and_then(|()| run(conn, "release request")) {
                    return Err(abandon(conn, during(error)));
                }
            }
            answers.push(answer);
        }
        if answers.iter().all(Result::is_err) {
            run(conn, "rollback").map_err(during)?;
            return Ok(answers);
        }
        if let Err(error) = run(conn, "commit") {
            return Err(abandon(conn, Failure::of("committing to the journal", Phase::Commit, error)));
        }
        self.log += works.iter().map(|work| work.weight() as u64).sum::<u64>() + 4 * 4096;
        for (work, answer) in works.iter().zip(&mut answers) {
            if answer.is_ok() && strikes(work, "after_commit") {
                *answer = Err(StoreError::new(StoreErrorKind::Ambiguous, "a failpoint struck after the commit"));
            }
        }
        Ok(answers)
    }

    /// Moves the write-ahead log into the file. Returns whether it can be used from its beginning again.
    fn checkpoint(&mut self) -> bool {
        let Some(conn) = &self.conn else { return false };
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        match conn.query_row("pragma wal_checkpoint(passive)", [], read) {
            Ok((0, pages, moved)) if pages == moved => {
                self.log = 0;
                true
            }
            Ok(_) => false,
            Err(error) => {
                let failure = Failure::of("checkpointing the journal", Phase::Work, error);
                tracing::warn!(error = %failure.answer(), "the write-ahead log grows on");
                self.note(&failure);
                false
            }
        }
    }

    fn read(&mut self, request: Request) {
        match request {
            Request::Acquire(incarnation, reply) => {
                let answer = self.inside(|conn| tables::acquire(conn, &incarnation));
                let recovered = |(epoch, snapshot, entries)| Recovered { epoch: Epoch(epoch), snapshot, entries };
                let _ = reply.send(answer.map(recovered));
            }
            Request::Pending(after, limit, reply) => {
                let _ = reply.send(self.inside(|conn| tables::pending(conn, after, limit)));
            }
            Request::History(after, limit, reply) => {
                let _ = reply.send(self.inside(|conn| tables::history(conn, after, limit)));
            }
            Request::Audit(after, limit, reply) => {
                let _ = reply.send(self.inside(|conn| audit::read(conn, after, limit)));
            }
            Request::Write(work, reply) => self.commit(&mut vec![(work, reply)]),
        }
    }

    /// A transaction of its own, for what reads much; one that has changed nothing costs no sync.
    fn inside<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T, StoreError> {
        let Some(conn) = &self.conn else { return Err(Self::closed().answer()) };
        let during = |error| Failure::of("reading the journal", Phase::Work, error);
        let outcome = match run(conn, "begin immediate") {
            Err(error) => Err(during(error)),
            Ok(()) => match work(conn) {
                Ok(answer) => run(conn, "commit")
                    .map(|()| Ok(answer))
                    .map_err(|error| abandon(conn, Failure::of("committing to the journal", Phase::Commit, error))),
                Err(Trouble::Refused(refusal)) => run(conn, "rollback").map(|()| Err(refusal)).map_err(during),
                Err(Trouble::Sqlite(error)) => Err(abandon(conn, during(error))),
            },
        };
        outcome.unwrap_or_else(|failure| {
            self.note(&failure);
            Err(failure.answer())
        })
    }
}

fn one(answers: Vec<Result<u64, StoreError>>) -> Result<u64, StoreError> {
    let lost = || Err(StoreError::new(StoreErrorKind::Ambiguous, "a request without an answer"));
    answers.into_iter().next().unwrap_or_else(lost)
}

fn run(conn: &Connection, statement: &str) -> rusqlite::Result<()> {
    conn.prepare_cached(statement)?.raw_execute().map(drop)
}

/// Leaves a failed transaction. One that cannot be left closes the store.
fn abandon(conn: &Connection, mut failure: Failure) -> Failure {
    if !conn.is_autocommit() && run(conn, "rollback").is_err() && !conn.is_autocommit() {
        failure.closes = true;
    }
    failure
}

fn strikes(work: &Work, place: &str) -> bool {
    let pass = |name: &&str| failpoint::pass(&format!("{name}.{place}"));
    // Every name is passed, so that each counts its passings whether or not another struck.
    work.failpoints().into_iter().filter(pass).count() > 0
}

/// What is kept free on the disk is for decisions; nothing new is taken in on it.
fn keep_reserve(space: &mut Space) -> Result<(), Trouble> {
    let Some(missing) = space.missing() else { return Ok(()) };
    let reserve = space.reserve;
    let context = format!("{missing} bytes short of the {reserve} kept free on the disk; free some space");
    Err(StoreError::new(StoreErrorKind::Full, context).into())
}

fn perform(conn: &Connection, space: &mut Space, work: &Work) -> Result<u64, Trouble> {
    match work {
        Work::Accept(alerts) => {
            keep_reserve(space)?;
            tables::accept(conn, alerts).map(|()| 0)
        }
        Work::Commit { epoch, at, records } => tables::append(conn, *epoch, *at, records),
        Work::Snapshot { epoch, seq, state, keep } => tables::snapshot(conn, *epoch, *seq, state, *keep).map(|()| 0),
        Work::Probe(now) => {
            keep_reserve(space)?;
            space.load_ballast();
            tables::probe(conn, *now).map(|()| 0)
        }
    }
}
