//! Opens the one file of the journal, or says exactly why not.
//!
//! A missing file is created whole under another name and then put in place, so that an empty or half-made one is never
//! taken for a first run. **Invariant:** a file that is not a sound journal of ours is not changed, moved or removed.
#![expect(clippy::disallowed_methods, reason = "this inspects and creates the journal's file")]

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, fsync, renameat_with, statfs};

use crate::journal::{StoreError, StoreErrorKind};
use crate::model::Timestamp;

use super::errors::{Failure, Phase};
use super::log::{self, Left};

/// `CHRN`, in the header of every journal.
const APPLICATION_ID: i32 = 0x4348_524e;
/// The steps from an empty file to the present format; `user_version` counts those applied.
const MIGRATIONS: [&str; 2] =
    [include_str!("../migrations/0001_journal.sql"), include_str!("../migrations/0002_audit.sql")];
/// How long another process may take to let go of the file.
const BUSY: Duration = Duration::from_millis(250);
/// How often the lock is asked for meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(10);
/// What every SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// File systems whose locks or syncs cannot be relied on: `f_type` of statfs(2), name.
const REMOTE: [(u32, &str); 14] = [
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x517b, "smb"),
    (0x6573_5546, "fuse"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x00c3_6400, "ceph"),
    (0x0102_1997, "9p"),
    (0x7375_7245, "coda"),
    (0x564c, "ncp"),
    (0x0bd0_0bd0, "lustre"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
];

/// The name of a file system that cannot hold a journal.
fn remote(f_type: u32) -> Option<&'static str> {
    REMOTE.iter().find(|(magic, _)| *magic == f_type).map(|(_, name)| *name)
}

fn io(path: &Path, doing: &str, error: impl Into<std::io::Error>) -> StoreError {
    let error = error.into();
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
        _ => StoreErrorKind::Unavailable,
    };
    let context = format!("{doing} `{}`", path.display());
    StoreError { kind, context, source: Some(Box::new(error)) }
}

fn corrupt(path: &Path, found: &str) -> StoreError {
    let hint = "nothing was changed; restore a backup, or move it aside to begin a new journal";
    StoreError::new(StoreErrorKind::Corrupt, format!("`{}`: found {found}; {hint}", path.display()))
}

fn sql(path: &Path, error: rusqlite::Error) -> StoreError {
    Failure::of(&format!("opening `{}`", path.display()), Phase::Work, error).answer()
}

/// The write-ahead log beside the journal.
pub(super) fn log_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Holds the journal for this process until dropped. SQLite's own locks are not enough: they vanish as soon as any part
/// of the process opens and closes the file, as a look at its size or a copy of it may do.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

fn held(path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    let context = format!(
        "`{}` is held by another process, expected to be the only user; is another chiron running?",
        path.display()
    );
    StoreError { kind: StoreErrorKind::Unavailable, context, source: Some(Box::new(source)) }
}

/// Takes the lock beside the journal. Its file is never removed, so that nobody holds a lock on a name that is gone.
fn lock(path: &Path) -> Result<Lock, StoreError> {
    let name = beside(path, "-lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&name).map_err(|e| io(&name, "opening", e))?;
    let mut tries = BUSY.as_millis() / TRY_EVERY.as_millis();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock(file)),
            // A process that is being started holds a copy of the lock until its program is loaded.
            Err(rustix::io::Errno::WOULDBLOCK) if tries > 0 => std::thread::sleep(TRY_EVERY),
            Err(error @ rustix::io::Errno::WOULDBLOCK) => return Err(held(path, error)),
            Err(error) => return Err(io(&name, "locking", error)),
        }
        tries -= 1;
    }
}

/// Opens the journal at an absolute `path`, creating it and its folder if missing. The connection is exclusive and
/// syncs every commit; `now` is only noted in a new file. The lock is to be dropped after the connection.
pub(super) fn open(path: &Path, now: Timestamp) -> Result<(Connection, Lock), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| io(folder, "creating the folder", e))?;
    let kind = statfs(folder).map_err(|e| io(folder, "asking for the file system of", e))?.f_type;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "every magic number fits 32 bits")]
    if let Some(name) = remote(kind as u32) {
        let context = format!(
            "`{}` is on a network or user-space file system ({name}), expected a local one; change storage.url",
            folder.display()
        );
        return Err(StoreError::new(StoreErrorKind::Unavailable, context));
    }
    let lock = lock(path)?;
    match std::fs::metadata(path) {
        Ok(metadata) => inspect(path, &metadata)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path, folder, now)?,
        Err(error) => return Err(io(path, "looking at", error)),
    }
    Ok((attach(path)?, lock))
}

/// Looks at an existing file without opening it as a database, so that a foreign one stays untouched.
fn inspect(path: &Path, metadata: &Metadata) -> Result<(), StoreError> {
    if metadata.is_dir() {
        return Err(corrupt(path, "a folder, expected a file"));
    }
    if !metadata.is_file() {
        return Err(corrupt(path, "something that is not a regular file"));
    }
    let mut head = Vec::with_capacity(100);
    let file = File::open(path).map_err(|e| io(path, "reading", e))?;
    file.take(100).read_to_end(&mut head).map_err(|e| io(path, "reading", e))?;
    if head.is_empty() {
        return Err(corrupt(path, "an empty file, expected a journal"));
    }
    if head.len() < 100 || !head.starts_with(MAGIC) {
        return Err(corrupt(path, &format!("{} bytes that are no SQLite database", metadata.len())));
    }
    let id = i32::from_be_bytes([head[68], head[69], head[70], head[71]]);
    if id != APPLICATION_ID {
        return Err(corrupt(path, &format!("an SQLite database of another program (application_id {id:#x})")));
    }
    Ok(())
}

/// Makes an empty journal under another name and puts it in place, unless somebody else was quicker.
fn create(path: &Path, folder: &Path, now: Timestamp) -> Result<(), StoreError> {
    let log = log_of(path);
    if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        let found = format!("no file, but its write-ahead log `{}`", log.display());
        return Err(corrupt(path, &found));
    }
    let fresh = beside(path, ".new");
    let made = fill(&fresh, now).and_then(|()| {
        match renameat_with(CWD, &fresh, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Ok(()),
            Err(error) => return Err(io(path, "putting in place", error)),
        }
        let folder_file = File::open(folder).map_err(|e| io(folder, "syncing the folder", e))?;
        fsync(&folder_file).map_err(|e| io(folder, "syncing the folder", e))
    });
    let _ = std::fs::remove_file(&fresh);
    made
}

/// Writes the header and tables of an empty journal into a new file and syncs it.
fn fill(fresh: &Path, now: Timestamp) -> Result<(), StoreError> {
    let _ = std::fs::remove_file(fresh);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(fresh).map_err(|e| io(fresh, "creating", e))?;
    let work = || -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(fresh, flags)?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "application_id", APPLICATION_ID)?;
        migrate(&mut conn, 0)?;
        conn.execute("update meta set value = ?1 where key = 'created_at_ms'", [now.millis()])?;
        conn.close().map_err(|(_, error)| error)
    };
    work().map_err(|error| sql(fresh, error))
}

/// Applies the migrations after `version`, each with its new version in one transaction.
fn migrate(conn: &mut Connection, version: usize) -> rusqlite::Result<()> {
    for (number, text) in MIGRATIONS.iter().enumerate().skip(version) {
        let transaction = conn.transaction()?;
        transaction.execute_batch(text)?;
        transaction.pragma_update(None, "user_version", i64::try_from(number + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(())
}

/// Opens an existing journal: takes the lock, checks version and soundness, sets what makes commits durable.
fn attach(path: &Path) -> Result<Connection, StoreError> {
    let at = |error| sql(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(at)?;
    // Until all is found sound, closing must leave the log as it is.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(at)?;
    conn.busy_timeout(BUSY).map_err(at)?;
    conn.set_prepared_statement_cache_capacity(64);
    // Plans do not depend on what is bound, or every read of the intake would be planned anew.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(at)?;
    let take = |conn: &Connection| -> rusqlite::Result<()> {
        conn.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.execute_batch("begin immediate; commit")
    };
    take(&conn).map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => held(path, error),
        _ => sql(path, error),
    })?;
    let taken: i64 = conn.query_row("pragma wal_checkpoint(noop)", [], |row| row.get(1)).map_err(at)?;
    let log = log_of(path);
    match log::left(&log, u64::try_from(taken).unwrap_or(0)).map_err(|e| io(&log, "reading", e))? {
        Left::Nothing => {}
        Left::Header => return Err(corrupt(&log, "a damaged header, expected that of a write-ahead log")),
        Left::Commits(lost) => {
            let found = format!("{lost} commits behind damage after frame {taken}, some were answered");
            return Err(corrupt(&log, &found));
        }
    }
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(at)?;
    let known = MIGRATIONS.len();
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > known || version == 0 {
        let found = format!("a journal of format {version}, expected 1 to {known}; use the chiron that wrote it");
        return Err(corrupt(path, &found));
    }
    let sound: String = conn.query_row("pragma quick_check(1)", [], |row| row.get(0)).map_err(at)?;
    if sound != "ok" {
        return Err(corrupt(path, &format!("damage (`{sound}`)")));
    }
    migrate(&mut conn, version).map_err(at)?;
    let settings = |conn: &Connection| -> rusqlite::Result<()> {
        conn.pragma_update(None, "foreign_keys", true)?;
        conn.pragma_update(None, "trusted_schema", false)?;
        conn.pragma_update(None, "cell_size_check", true)?;
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        // Checkpoints are asked for by the writer: an automatic one swallows its errors, even that of a sync.
        conn.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        // The log begins anew, so that a torn commit at its end is never counted twice.
        conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop)
    };
    settings(&conn).map_err(at)?;
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/reliability.md`, invariant 26: file systems with unreliable locks are refused by name.
    #[test]
    fn remote_file_systems_are_known() {
        assert_eq!(remote(0x6969), Some("nfs"));
        assert_eq!(remote(0xff53_4d42), Some("cifs"));
        assert_eq!(remote(0x6573_5546), Some("fuse"));
        for local in [0xef53, 0x0102_1994, 0x5846_5342, 0x9123_683e] {
            assert_eq!(remote(local), None, "{local:#x}");
        }
    }
}
