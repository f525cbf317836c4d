//! An SQLite database that somebody else is using: what it is, who locks it, and whether it is sound.
//!
//! **Why it is safe for the bot.** Three habits of SQLite could hurt a live bot: a reader of a database with a rollback
//! journal makes the bot's commits wait (`SQLITE_BUSY`), a connection to one in WAL mode makes `-wal` and `-shm` or
//! takes them down, and the shared memory is mapped, so that who truncates it kills every reader. So [`verify`] reads
//! the file as `immutable`: SQLite then takes no lock, opens neither journal nor WAL, maps nothing and writes nothing.
//!
//! **Why the answer can be believed.** Without locks a reader may see half of a commit. Therefore an answer counts only
//! if nothing was written meanwhile: same file, size, time of change and change counter before and after, no journal of
//! a transaction under way, no lock of a writer. What is left are files that are torn and stay so, though sound: with a
//! rollback journal after a crash (the hot journal shows it), and in WAL mode after a checkpoint that a crash has cut
//! short. So damage must be seen twice, and where there is a WAL, the second time through it: by a reader that may not
//! write (`readonly_shm`), which never stops a writer, for it holds back only the reset of the WAL, and only while it
//! runs. What cannot be believed is [`Verdict::Unclear`], never damage. In WAL mode what a checkpoint has not
//! yet moved into the file is not looked at; SQLite guards it with checksums of its own.
//!
//! POSIX drops all locks of a process on a file when it closes any descriptor of it. The only ones of ours here are
//! those of the second look; should they go, the worst is that damage is told for one that a closing bot has torn.
//! Chiron's own journal must never be looked at this way: its lock would be lost. The check refuses it.
//!
//! **Invariant:** no file appears, changes or is locked against a writer; reading stops when `give_up` says so.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use super::peer::line;
use crate::base::files::{self, FileProblem};

/// The first bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The length of its header.
const HEADER: u64 = 100;
/// The first bytes of a rollback journal that is needed; the header of one that is not is gone or zeroed.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// Where the locks of a database are: pending, reserved, and the range of the shared ones.
const LOCKS: (u64, u64) = (0x4000_0000, 512);
/// Where the lock of the one writer is in the shared memory of a WAL.
const WAL_WRITE_LOCK: (u64, u64) = (120, 1);
/// How often a file that is written to meanwhile is read again.
const TRIES: usize = 3;
/// Steps of SQLite's machine between two questions whether to give up; some microseconds.
const STEPS: i32 = 1000;

/// Which version of a file this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified_nanos: i128,
}

impl Version {
    fn of(path: &Path) -> Option<Self> {
        let meta = files::stat(path).ok().filter(|meta| !meta.is_dir)?;
        let files::FileMeta { device, inode, len: size, modified_nanos, .. } = meta;
        Some(Self { device, inode, size, modified_nanos })
    }
}

/// What of a database changes with every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    file: Version,
    counter: [u8; 4],
    wal: Option<Version>,
    journal: Option<Version>,
}

impl Stamp {
    /// Whether the file itself was exchanged for another.
    pub fn is_of_another_file(&self, other: &Self) -> bool {
        (self.file.device, self.file.inode) != (other.file.device, other.file.inode)
    }
}

/// Who keeps others from writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A process holds a lock; its id, if the system tells it.
    Lock(Option<i32>),
    /// Nobody holds a lock, but the journal of a transaction that did not end is there.
    Journal,
}

/// A database as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Changes with every write.
    pub stamp: Stamp,
    /// Bytes.
    pub size: u64,
    /// Bytes of its WAL, if there is one.
    pub wal_size: Option<u64>,
    /// Whether it begins as a database does.
    pub is_database: bool,
    /// Whether it is in WAL mode.
    pub wal_mode: bool,
    /// Who keeps others from writing.
    pub held: Option<Held>,
}

/// What SQLite's own check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Sound,
    /// SQLite's first message.
    Damaged(String),
    /// It was given up.
    Unfinished,
    /// Nothing can be said; the sentence says why.
    Unclear(String),
}

/// Says whether to give up.
pub type GiveUp = Arc<dyn Fn() -> bool + Send + Sync>;

/// Looks at a database without opening it as one: a handful of system calls.
pub fn look(path: &Path) -> Result<Look, FileProblem> {
    let (start, meta) = files::read_start(path, HEADER)?;
    let file = Version { device: meta.device, inode: meta.inode, size: meta.len, modified_nanos: meta.modified_nanos };
    let counter = start.get(24..28).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    let (wal, journal) = (Version::of(&beside(path, "-wal")), Version::of(&beside(path, "-journal")));
    let is_database = start.starts_with(MAGIC);
    let wal_mode = is_database && start.get(18..20).is_some_and(|versions| versions.contains(&2));
    Ok(Look {
        stamp: Stamp { file, counter, wal, journal },
        size: meta.len,
        wal_size: wal.map(|wal| wal.size),
        is_database,
        wal_mode,
        held: if is_database { held(path, wal_mode) } else { None },
    })
}

/// Has SQLite check the database: all of it with `thorough`, else all but the order and number of entries of indexes.
pub fn verify(path: &Path, thorough: bool, give_up: &GiveUp) -> Verdict {
    for _ in 0..TRIES {
        let before = match look(path) {
            Ok(before) => before,
            Err(problem) => return Verdict::Unclear(problem.to_string()),
        };
        if is_under_way(&before) {
            return match before.held {
                Some(Held::Journal) => Verdict::Unclear("a write was interrupted and not yet undone".to_owned()),
                _ => Verdict::Unclear("it is being written".to_owned()),
            };
        }
        let mut verdict = check(path, "immutable=1", thorough, give_up);
        if let Verdict::Damaged(_) = verdict {
            let through_wal = before.wal_size.is_some_and(|size| size > 0);
            let means = if through_wal { "mode=ro&readonly_shm=1" } else { "immutable=1" };
            verdict = check(path, means, thorough, give_up);
            if through_wal {
                // This reader sees one moment of the database, whoever writes.
                return verdict;
            }
        }
        if matches!(verdict, Verdict::Unfinished) {
            return verdict;
        }
        // A WAL may grow meanwhile: the file itself has not changed.
        let same = |after: Look| after.stamp.file == before.stamp.file && after.stamp.counter == before.stamp.counter;
        match look(path) {
            Ok(after) if same(after) && !is_under_way(&after) => return verdict,
            Err(problem) => return Verdict::Unclear(problem.to_string()),
            Ok(_) => {}
        }
    }
    Verdict::Unclear(format!("it was written to during each of {TRIES} looks"))
}

/// Whether a transaction may have changed a part of the file. In WAL mode only a checkpoint does, which changes its date.
fn is_under_way(look: &Look) -> bool {
    look.held == Some(Held::Journal) || (!look.wal_mode && look.held.is_some())
}

/// Asks SQLite. `means` are parameters of its URI.
fn check(path: &Path, means: &str, thorough: bool, give_up: &GiveUp) -> Verdict {
    let asked = || -> rusqlite::Result<String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(uri(path, means), flags)?;
        let give_up = Arc::clone(give_up);
        connection.progress_handler(STEPS, Some(move || give_up()))?;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        // Nothing on disk, nothing mapped, no function that the file itself names; its own CHECKs are not damage.
        connection.execute_batch(
            "PRAGMA query_only = 1; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0; PRAGMA trusted_schema = 0; \
             PRAGMA ignore_check_constraints = 1;",
        )?;
        let pragma = if thorough { "PRAGMA integrity_check(1)" } else { "PRAGMA quick_check(1)" };
        connection.query_row(pragma, [], |row| row.get(0))
    };
    match asked() {
        Ok(answer) if answer == "ok" => Verdict::Sound,
        // Several findings may come as one text of many lines.
        Ok(answer) => {
            let mut lines = answer.lines().filter(|line| !line.starts_with("***")).map(str::trim);
            Verdict::Damaged(line(lines.next().unwrap_or(&answer)))
        }
        Err(error) => judge_error(&error),
    }
}

fn judge_error(error: &rusqlite::Error) -> Verdict {
    let text = match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => line(text),
        error => line(&error.to_string()),
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => Verdict::Unfinished,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SystemIoFailure) => {
            Verdict::Damaged(text)
        }
        _ => Verdict::Unclear(text),
    }
}

/// `file:` with every byte of the path that could mean something else written as `%XX`.
fn uri(path: &Path, means: &str) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = String::from("file:");
    for byte in absolute.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => uri.push(char::from(*byte)),
            _ => drop(write!(uri, "%{byte:02X}")),
        }
    }
    format!("{uri}?{means}")
}

/// A file that belongs to the database. SQLite follows links to the database before it names them.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
    name.push(ending);
    PathBuf::from(name)
}

fn held(path: &Path, wal_mode: bool) -> Option<Held> {
    let locked =
        || locked(path, LOCKS).or_else(|| if wal_mode { locked(&beside(path, "-shm"), WAL_WRITE_LOCK) } else { None });
    locked().or_else(|| {
        // A writer locks before it begins its journal and unlocks after it has ended it.
        let hot = || is_hot(&beside(path, "-journal"));
        if !hot() {
            return None;
        }
        locked().or_else(|| hot().then_some(Held::Journal))
    })
}

/// Which other process holds a lock to write there. Asking takes no lock.
fn locked(path: &Path, (start, length): (u64, u64)) -> Option<Held> {
    let (file, _) = files::open(path).ok()?;
    let wanted = Flock { start, length, pid: None, typ: FlockType::ReadLock, offset_type: FlockOffsetType::Set };
    let found = fcntl_getlk(&file, &wanted).ok()??;
    Some(Held::Lock(found.pid.map(|pid| pid.as_raw_nonzero().get()).filter(|pid| *pid > 0)))
}

fn is_hot(journal: &Path) -> bool {
    files::read_start(journal, JOURNAL_MAGIC.len() as u64).is_ok_and(|(start, _)| start == JOURNAL_MAGIC)
}

#[cfg(test)]
mod tests;
