//! The audit log in its table: appended with what it tells of, read in pages, verified at each acquisition.
//!
//! **Invariant:** like `tables`, inside a transaction that the writer has begun.

use rusqlite::{Connection, params};

use crate::journal::audit::{AuditEntry, Line, follow};
use crate::model::Timestamp;

use super::errors::Trouble;
use super::tables::{corrupt, meta_number, set_meta, signed, unsigned};

/// Lines verified at once.
const PAGE: usize = 1_000;

fn head(conn: &Connection) -> Result<(u64, String), Trouble> {
    let digest =
        conn.prepare_cached("select value from meta where key = 'audit_digest'")?.query_row([], |row| row.get(0))?;
    Ok((meta_number(conn, "audit_number")?, digest))
}

/// Appends lines behind the last one.
pub(super) fn append<'a>(
    conn: &Connection,
    at: Timestamp,
    lines: impl IntoIterator<Item = &'a Line>,
) -> Result<(), Trouble> {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        return Ok(());
    }
    let (mut number, mut digest) = head(conn)?;
    let mut insert = conn.prepare_cached(
        "insert into audit (number, at_ms, actor, event, subject, detail, previous, digest) \
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for line in lines {
        let entry = line.clone().after(number, &digest, at);
        let detail = serde_json::to_string(&entry.detail).map_err(corrupt)?;
        insert.execute(params![
            signed(entry.number),
            at.millis(),
            entry.actor,
            entry.event,
            entry.subject,
            detail,
            entry.previous,
            entry.digest
        ])?;
        (number, digest) = (entry.number, entry.digest);
    }
    set_meta(conn, "audit_number", signed(number))?;
    set_meta(conn, "audit_digest", digest)
}

/// Lines after `after`, at most `limit`.
pub(super) fn read(conn: &Connection, after: u64, limit: usize) -> Result<Vec<AuditEntry>, Trouble> {
    let mut select = conn.prepare_cached(
        "select number, at_ms, actor, event, subject, detail, previous, digest from audit \
         where number > ?1 order by number limit ?2",
    )?;
    let mut rows = select.query([signed(after), i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let number = unsigned(row.get(0)?);
        let wrong = |found: &dyn std::fmt::Display| corrupt(format!("audit line {number} cannot be read ({found})"));
        let text = |column| row.get::<_, String>(column).map_err(|error| wrong(&error));
        entries.push(AuditEntry {
            number,
            at: Timestamp::from_millis(row.get(1).map_err(|error| wrong(&error))?),
            actor: text(2)?,
            event: text(3)?,
            subject: text(4)?,
            detail: serde_json::from_str(&text(5)?).map_err(|error| wrong(&error))?,
            previous: text(6)?,
            digest: text(7)?,
        });
    }
    Ok(entries)
}

/// Verifies the whole chain, its end included.
pub(super) fn verify(conn: &Connection) -> Result<(), Trouble> {
    let mut at = (0, AuditEntry::START.to_owned());
    loop {
        let page = read(conn, at.0, PAGE)?;
        if page.is_empty() {
            break;
        }
        at = follow(at, &page).map_err(corrupt)?;
    }
    let head = head(conn)?;
    if at == head {
        return Ok(());
    }
    Err(corrupt(format!("the audit log ends at line {}, expected line {} to be the last", at.0, head.0)))
}
