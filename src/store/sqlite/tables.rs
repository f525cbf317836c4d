//! The work of each request on the tables, inside a transaction that the writer has begun.
//!
//! **Invariant:** guards compare and set in SQL, in the same transaction as the append; nothing here begins, commits or
//! rolls back.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::journal::{Entry, Epoch, Line, Record, StoreError, StoreErrorKind};
use crate::model::{IntakeAlert, Timestamp};
use crate::store::step::{self, Step};

use super::audit;
use super::chain::{self, Digest};
use super::errors::Trouble;

/// An alert ready to be stored.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) body: String,
    pub(super) digest: Digest,
}

/// A record ready to be stored.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) kind: &'static str,
    pub(super) body: String,
    pub(super) step: Step,
    pub(super) line: Option<Line>,
}

/// SQLite's integers are signed.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Back from SQLite's integers; never negative in a sound journal.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// What is stored cannot be trusted.
pub(super) fn corrupt(found: impl std::fmt::Display) -> Trouble {
    let hint = "stop chiron, keep a copy of the file, then restore a backup or move it aside";
    StoreError::new(StoreErrorKind::Corrupt, format!("{found}; {hint}")).into()
}

pub(super) fn meta_number(conn: &Connection, key: &str) -> Result<u64, Trouble> {
    let number = conn.prepare_cached("select value from meta where key = ?1")?.query_row([key], |row| row.get(0))?;
    Ok(unsigned(number))
}

fn meta_digest(conn: &Connection, key: &str) -> Result<Digest, Trouble> {
    let digest = conn.prepare_cached("select value from meta where key = ?1")?.query_row([key], |row| row.get(0))?;
    Ok(digest)
}

pub(super) fn set_meta(conn: &Connection, key: &str, value: impl rusqlite::ToSql) -> Result<(), Trouble> {
    conn.prepare_cached("update meta set value = ?2 where key = ?1")?.execute(params![key, value])?;
    Ok(())
}

fn fence(conn: &Connection, epoch: Epoch) -> Result<u64, Trouble> {
    let current = meta_number(conn, "epoch")?;
    if epoch.0 == current { Ok(current) } else { Err(step::fenced(epoch, current).into()) }
}

/// Stores accepted alerts.
pub(super) fn accept(conn: &Connection, alerts: &[Intake]) -> Result<(), Trouble> {
    let mut insert = conn.prepare_cached("insert into intake (body, digest) values (?1, ?2)")?;
    for alert in alerts {
        insert.execute(params![alert.body, alert.digest])?;
    }
    Ok(())
}

/// Checks the epoch (if there is one) and every guard, and appends. Returns the last seq.
pub(super) fn append(
    conn: &Connection,
    epoch: Option<Epoch>,
    at: Timestamp,
    records: &[Encoded],
) -> Result<u64, Trouble> {
    let current = match epoch {
        Some(epoch) => fence(conn, epoch)?,
        None => meta_number(conn, "epoch")?,
    };
    let mut seq = meta_number(conn, "seq")?;
    if records.is_empty() {
        return Ok(seq);
    }
    let mut digest = meta_digest(conn, "digest")?;
    let mut insert = conn.prepare_cached(
        "insert into journal (seq, epoch, at_ms, kind, body, digest) values (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for record in records {
        seq += 1;
        apply(conn, &record.step, current, seq, epoch.is_none())?;
        digest = chain::entry(&digest, seq, current, at.millis(), record.body.as_bytes());
        let (seq, epoch) = (signed(seq), signed(current));
        insert.execute(params![seq, epoch, at.millis(), record.kind, record.body, digest])?;
    }
    set_meta(conn, "seq", signed(seq))?;
    set_meta(conn, "digest", digest)?;
    audit::append(conn, at, records.iter().filter_map(|record| record.line.as_ref()))?;
    Ok(seq)
}

fn apply(conn: &Connection, step: &Step, epoch: u64, seq: u64, rising: bool) -> Result<(), Trouble> {
    let (epoch, seq) = (signed(epoch), signed(seq));
    match step {
        Step::Free => {}
        Step::NewRun(key) => {
            let mut insert = conn.prepare_cached(
                "insert into runs (key, state, epoch, seq) values (?1, 'intended', ?2, ?3) on conflict do nothing",
            )?;
            if insert.execute(params![key, epoch, seq])? == 0 {
                return Err(step::run_exists(key).into());
            }
        }
        Step::MoveRun(key, to) => {
            let mut update = conn.prepare_cached(
                "update runs set state = ?2, epoch = ?3, seq = ?4 where key = ?1 and instr(?5, '|' || state || '|') > 0",
            )?;
            let from = step::legal_from(*to).fold(String::from("|"), |list, state| list + state.as_str() + "|");
            if update.execute(params![key, to.as_str(), epoch, seq, from])? == 0 {
                let mut find = conn.prepare_cached("select state from runs where key = ?1")?;
                let found: Option<String> = find.query_row([key], |row| row.get(0)).optional()?;
                return Err(step::illegal_move(key, found.as_deref(), *to).into());
            }
        }
        Step::Latch(reason) => {
            conn.prepare_cached("update latch set latched = 1, by = '', reason = ?1")?.execute([reason])?;
        }
        Step::Unlatch(by, reason) => {
            step::must_be_signed(by, reason)?;
            conn.prepare_cached("update latch set latched = 0, by = ?1, reason = ?2")?.execute([by, reason])?;
        }
        Step::Hold { source, subject, rank } => {
            if rising {
                let mut find =
                    conn.prepare_cached("select level_rank from holds where source = ?1 and subject = ?2")?;
                let held = find.query_row([source, subject.as_str()], |row| row.get(0)).optional()?;
                step::must_rise(source, subject, *rank, held)?;
            }
            conn.prepare_cached("insert or replace into holds (source, subject, level_rank) values (?1, ?2, ?3)")?
                .execute(params![source, subject, rank])?;
        }
        Step::EndHold { source, subject } => {
            conn.prepare_cached("delete from holds where source = ?1 and subject = ?2")?
                .execute([source, subject.as_str()])?;
        }
        Step::Taken(id) => {
            conn.prepare_cached("delete from intake where id = ?1")?.execute([signed(*id)])?;
        }
    }
    Ok(())
}

/// Stores a snapshot, keeps the last two, and prunes entries that neither they nor the newest `keep` need.
pub(super) fn snapshot(conn: &Connection, epoch: Epoch, seq: u64, state: &[u8], keep: u64) -> Result<(), Trouble> {
    fence(conn, epoch)?;
    let (last, pruned) = (meta_number(conn, "seq")?, meta_number(conn, "pruned_seq")?);
    let latest: Option<i64> = conn.prepare_cached("select max(seq) from snapshots")?.query_row([], |row| row.get(0))?;
    step::snapshot_fits(seq, pruned, last, latest.map(unsigned))?;
    let at = digest_at(conn, seq, pruned)?;
    conn.prepare_cached("insert or replace into snapshots (seq, body, chain, digest) values (?1, ?2, ?3, ?4)")?
        .execute(params![signed(seq), state, at, chain::snapshot(seq, &at, state)])?;
    conn.prepare_cached(
        "delete from snapshots where seq not in (select seq from snapshots order by seq desc limit 2)",
    )?
    .execute([])?;
    let oldest: i64 = conn.prepare_cached("select min(seq) from snapshots")?.query_row([], |row| row.get(0))?;
    let upto = unsigned(oldest).min(last.saturating_sub(keep));
    if upto <= pruned {
        return Ok(());
    }
    let anchor = digest_at(conn, upto, pruned)?;
    conn.prepare_cached("delete from journal where seq <= ?1")?.execute([signed(upto)])?;
    conn.prepare_cached("delete from runs where seq <= ?1 and state in ('verified', 'cancelled', 'indeterminate')")?
        .execute([signed(upto)])?;
    set_meta(conn, "pruned_seq", signed(upto))?;
    set_meta(conn, "pruned_digest", anchor)
}

/// The digest of the entry at `seq`, which may be the last one pruned.
fn digest_at(conn: &Connection, seq: u64, pruned: u64) -> Result<Digest, Trouble> {
    if seq == pruned {
        return meta_digest(conn, "pruned_digest");
    }
    let mut find = conn.prepare_cached("select digest from journal where seq = ?1")?;
    let found = find.query_row([signed(seq)], |row| row.get(0)).optional()?;
    found.ok_or_else(|| corrupt(format!("journal entry {seq} is missing")))
}

/// Writes a little.
pub(super) fn probe(conn: &Connection, now: Timestamp) -> Result<(), Trouble> {
    set_meta(conn, "probed_at_ms", now.millis())
}

/// What an acquisition reads: the new epoch, the latest snapshot, the entries after it.
pub(super) type Acquired = (u64, Option<(u64, Vec<u8>)>, Vec<Entry>);

/// Verifies everything stored and raises the epoch.
pub(super) fn acquire(conn: &Connection, incarnation: &str) -> Result<Acquired, Trouble> {
    let snapshot = latest_snapshot(conn)?;
    let after = snapshot.as_ref().map_or(0, |(seq, ..)| *seq);
    let (mut seq, mut digest) = (meta_number(conn, "pruned_seq")?, meta_digest(conn, "pruned_digest")?);
    if seq > after {
        return Err(corrupt(format!("journal entries up to {seq} were pruned, but no snapshot stands at or after it")));
    }
    let fits = |seq: u64, digest: &Digest| match &snapshot {
        Some((at, _, chain)) if *at == seq && chain != digest => {
            Err(corrupt(format!("the snapshot at {seq} belongs to another journal than entry {seq}")))
        }
        _ => Ok(()),
    };
    fits(seq, &digest)?;
    let mut entries = Vec::new();
    let mut select = conn.prepare("select seq, epoch, at_ms, kind, body, digest from journal order by seq")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let row = Row::read(row)?;
        seq += 1;
        if row.seq != seq {
            return Err(corrupt(format!("journal entry {seq} is missing: found {} after {}", row.seq, seq - 1)));
        }
        digest = chain::entry(&digest, seq, row.epoch, row.at.millis(), &row.body);
        if digest != row.digest {
            return Err(corrupt(format!("journal entry {seq} does not match its digest, some bits have changed")));
        }
        fits(seq, &digest)?;
        if seq > after {
            entries.push(row.decode()?);
        }
    }
    let (last, head) = (meta_number(conn, "seq")?, meta_digest(conn, "digest")?);
    if last != seq || head != digest {
        return Err(corrupt(format!("the journal ends at entry {seq}, expected entry {last} to be the last")));
    }
    if after > last {
        return Err(corrupt(format!("the snapshot stands at entry {after}, but the journal ends at {last}")));
    }
    audit::verify(conn)?;
    let epoch = meta_number(conn, "epoch")? + 1;
    set_meta(conn, "epoch", signed(epoch))?;
    set_meta(conn, "incarnation", incarnation)?;
    Ok((epoch, snapshot.map(|(seq, body, _)| (seq, body)), entries))
}

fn latest_snapshot(conn: &Connection) -> Result<Option<(u64, Vec<u8>, Digest)>, Trouble> {
    let mut select = conn.prepare("select seq, body, chain, digest from snapshots order by seq desc limit 1")?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let found: Option<(i64, Vec<u8>, Digest, Digest)> = select.query_row([], read).optional()?;
    let Some((seq, body, chain, digest)) = found else { return Ok(None) };
    let seq = unsigned(seq);
    if chain::snapshot(seq, &chain, &body) != digest {
        return Err(corrupt(format!("the snapshot at entry {seq} does not match its digest, some bits have changed")));
    }
    Ok(Some((seq, body, chain)))
}

/// A row of the journal.
struct Row {
    seq: u64,
    epoch: u64,
    at: Timestamp,
    kind: Vec<u8>,
    body: Vec<u8>,
    digest: Digest,
}

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> Result<Self, Trouble> {
        let seq = unsigned(row.get(0)?);
        let wrong = |error: rusqlite::Error| corrupt(format!("journal entry {seq} cannot be read ({error})"));
        let bytes = |column| -> Result<Vec<u8>, Trouble> {
            let value = row.get_ref(column).map_err(wrong)?;
            let bytes = value.as_bytes().map_err(|error| wrong(error.into()))?;
            Ok(bytes.to_vec())
        };
        Ok(Self {
            seq,
            epoch: unsigned(row.get(1).map_err(wrong)?),
            at: Timestamp::from_millis(row.get(2).map_err(wrong)?),
            kind: bytes(3)?,
            body: bytes(4)?,
            digest: row.get(5).map_err(wrong)?,
        })
    }

    fn decode(self) -> Result<Entry, Trouble> {
        let seq = self.seq;
        let record: Record = serde_json::from_slice(&self.body)
            .map_err(|error| corrupt(format!("journal entry {seq} is no record of this version ({error})")))?;
        if self.kind != record.kind().as_bytes() {
            return Err(corrupt(format!("journal entry {seq} is marked as another kind than `{}`", record.kind())));
        }
        Ok(Entry { seq, at: self.at, record })
    }
}

/// Entries after `after`, at most `limit`.
pub(super) fn history(conn: &Connection, after: u64, limit: usize) -> Result<Vec<Entry>, Trouble> {
    let mut select = conn.prepare_cached(
        "select seq, epoch, at_ms, kind, body, digest from journal where seq > ?1 order by seq limit ?2",
    )?;
    let mut rows = select.query([signed(after), i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(Row::read(row)?.decode()?);
    }
    Ok(entries)
}

/// Accepted alerts after `after`, at most `limit`.
pub(super) fn pending(conn: &Connection, after: u64, limit: usize) -> Result<Vec<(u64, IntakeAlert)>, Trouble> {
    let mut select = conn.prepare_cached("select id, body, digest from intake where id > ?1 order by id limit ?2")?;
    let mut rows = select.query([signed(after), i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut alerts = Vec::new();
    while let Some(row) = rows.next()? {
        let id = unsigned(row.get(0)?);
        let wrong = |found: String| corrupt(format!("accepted alert {id} {found}"));
        let body = row.get_ref(1)?.as_bytes().map_err(|error| wrong(format!("cannot be read ({error})")))?;
        let digest: Digest = row.get(2)?;
        if chain::alert(body) != digest {
            return Err(wrong("does not match its digest, some bits have changed".to_owned()));
        }
        let alert =
            serde_json::from_slice(body).map_err(|error| wrong(format!("is none of this version ({error})")))?;
        alerts.push((id, alert));
    }
    Ok(alerts)
}
