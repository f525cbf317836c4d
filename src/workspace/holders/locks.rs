//! Locks of the kernel on a file: `flock`, `fcntl` of a process or of a descriptor, leases.
//!
//! Three witnesses, from the one that disturbs nobody to the one that might:
//!
//! | witness | sees | disturbs |
//! |---|---|---|
//! | `/proc/locks` | all locks of processes that can be seen, and all `fcntl` locks of descriptors | nobody |
//! | `F_GETLK` | every `fcntl` lock, of other containers and of a server's other clients too | nobody |
//! | a shared `flock` for an instant | an exclusive `flock` of another container | who wants an exclusive one just then |
//!
//! A look asks the first two; the third is asked once, right before a file is removed. A removal itself then holds the
//! exclusive `flock`, which proves the rest. No `fcntl` lock is ever taken: a try would stop a bot that starts just then.
//! **Invariant:** never waits, writes nothing; what cannot be found out is an error, never "free".

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::FileId;
use crate::base::files;
use crate::workspace::layout::RelPath;
use crate::workspace::root::{Root, Trouble};

/// Longer than any sane table of locks: about 200,000 of them.
const LOCKS_BYTES_MAX: u64 = 16 << 20;

/// Whether a lock of the kernel is on the file: the last look before it goes, with the instant's shared `flock`.
pub fn is_locked(root: &Root, path: &RelPath) -> Result<bool, String> {
    let table = Table::read();
    match opened(root, path, &table)? {
        Opened::Held => Ok(true),
        Opened::File(file, id) => Ok(is_shown(&file, id, &table)? || is_flocked(&file)?),
    }
}

/// The same without the third witness: takes no lock.
pub(super) fn is_seen_locked(root: &Root, path: &RelPath, table: &Table) -> Result<bool, String> {
    match opened(root, path, table)? {
        Opened::Held => Ok(true),
        Opened::File(file, id) => is_shown(&file, id, table),
    }
}

enum Opened {
    /// Opening it has shown that somebody has it.
    Held,
    File(File, FileId),
}

fn opened(root: &Root, path: &RelPath, table: &Table) -> Result<Opened, String> {
    let file = match root.open_file(path) {
        Ok(file) => file,
        // Somebody has a lease on it: opening it would have to wait.
        Err(Trouble::System(Errno::AGAIN)) => return Ok(Opened::Held),
        Err(Trouble::System(Errno::ACCESS | Errno::PERM)) => {
            let seen = root.stat(path).map_err(|trouble| trouble.to_string())?;
            return match table.on((seen.version.device, seen.version.inode))?.is_empty() {
                true => Err("it may not be read, so nobody can be asked for locks on it".to_owned()),
                false => Ok(Opened::Held),
            };
        }
        Err(trouble) => return Err(trouble.to_string()),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| errno.to_string())?;
    Ok(Opened::File(file, (stat.st_dev, stat.st_ino)))
}

/// What the two witnesses say that disturb nobody.
pub(super) fn is_shown(file: &File, id: FileId, table: &Table) -> Result<bool, String> {
    // The table comes first: it shows locks of descriptors, whose holder has no id, in every container.
    let listed = table.on(id);
    if listed.as_ref().is_ok_and(|held| !held.is_empty()) {
        return Ok(true);
    }
    // Asks what stands in the way of a lock to write on the whole file; that takes none, and needs no right to write.
    let asked = match fcntl_getlk(file, &Flock::from(FlockType::WriteLock)) {
        Ok(held) => Ok(held.is_some()),
        // The file system knows no such locks.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => Ok(false),
        Err(errno) => Err(errno),
    };
    match (asked, listed) {
        (Ok(true), _) => Ok(true),
        (Ok(false), Ok(_)) => Ok(false),
        (Ok(false), Err(why)) => Err(why),
        (Err(errno), _) => Err(format!("nobody can be asked for locks on it: {}", std::io::Error::from(errno))),
    }
}

/// Takes a shared `flock` for an instant.
pub(super) fn is_flocked(file: &File) -> Result<bool, String> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            // Let go at once, also for a child that was started in this instant and has the descriptor too.
            rustix::fs::flock(file, FlockOperation::Unlock)
                .map(|()| false)
                .map_err(|errno| format!("its lock cannot be let go: {}", std::io::Error::from(errno)))
        }
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOLCK | Errno::NOSYS) => Ok(false),
        Err(errno) => Err(format!("no lock can be tried on it: {}", std::io::Error::from(errno))),
    }
}

/// The kernel's table of locks, read once for many files.
#[derive(Debug)]
pub(super) struct Table(Result<String, String>);

impl Table {
    pub(super) fn read() -> Self {
        let read = files::read_bounded(Path::new("/proc/locks"), LOCKS_BYTES_MAX);
        Self(match read {
            Ok((bytes, _)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(problem) => Err(format!("`/proc/locks`: {problem}")),
        })
    }

    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        Self(Ok(text.to_owned()))
    }

    /// Processes that hold a lock on the file, 0 for one without a process of its own.
    pub(super) fn on(&self, file: FileId) -> Result<Vec<u32>, String> {
        self.0.as_ref().map(|table| listed_in(table, file)).map_err(Clone::clone)
    }

    /// Those with an id.
    pub(super) fn holders(&self, file: FileId) -> BTreeSet<i32> {
        let pids = self.on(file).unwrap_or_default();
        pids.into_iter().filter_map(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0).collect()
    }
}

/// The same from the table's text: `1: POSIX  ADVISORY  WRITE 708 08:01:1234 0 EOF`, `1: -> ...` for one who waits.
fn listed_in(table: &str, (device, inode): FileId) -> Vec<u32> {
    let of = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().skip(1).filter(|word| *word != "->").collect();
        let [_, _, _, pid, file, ..] = *words else { return None };
        let (place, number) = file.rsplit_once(':')?;
        let is_it = number.parse() == Ok(inode) && super::is_on(place, device);
        is_it.then(|| pid.parse().unwrap_or(0))
    };
    table.lines().filter_map(of).collect()
}
