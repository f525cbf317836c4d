//! The healings of a workspace, durable: planned, backed up, applied, finished; one small file for each.
//!
//! `STATE_DIR/healings/ID.jsonl`, a checksum and a JSON text in each line (`record`). `settle` closes what a crash left
//! open, `retention` removes what is old.
//! **Invariant:** one healing at a time (a lock on the folder); a step is written before it is taken; what a crash left
//! open is settled by looking before anything else is done.

pub mod folder;
pub mod record;
pub mod retention;
pub mod settle;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use self::folder::{Folder, state};
use self::record::{Done, FORMAT, Head, Line, Planned, Stored};
use super::root::{Root, Trouble};
use super::{Error, ErrorKind, Settings};
use crate::model::{Healing, HealingEnd, HealingTrigger, Name, Timestamp};

/// The largest healing that is read; one with a thousand changes takes about a megabyte.
const HEALING_MAX: u64 = 64 << 20;

/// The folder of healings in `STATE_DIR`.
const HEALINGS: &str = "healings";

/// The file in `STATE_DIR` that whoever heals holds locked.
const LOCK: &str = "heal.lock";
/// How often, and how long apart, a lock that somebody has is tried: a command that chiron starts holds a copy of the descriptor
/// until it has become that command.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// Every healing that is kept, oldest first. Needs no lock; one that is being written is told as it stands.
pub fn list(settings: &Settings) -> Result<Vec<Healing>, Error> {
    let root = Root::open(&settings.workspace)?;
    let Some(state) = Folder::open(settings, &root)? else { return Ok(Vec::new()) };
    Ok(told(&stored(&state)?))
}

/// One of them.
pub fn read(settings: &Settings, id: &Name) -> Result<Healing, Error> {
    let found = list(settings)?.into_iter().find(|healing| healing.id == *id);
    found.ok_or_else(|| unknown(id))
}

/// The error for an id under which nothing is kept.
pub(super) fn unknown(id: &Name) -> Error {
    Error::new(ErrorKind::Unknown, format!("no healing `{id}` is kept; `chiron heal --list` names those that are"))
}

/// Healings with who has undone each: the last rollback that was whole and is not itself undone.
pub(super) fn told(stored: &[Stored]) -> Vec<Healing> {
    let mut healings: Vec<Healing> = stored.iter().map(Stored::healing).collect();
    // From the newest on, so that a rollback that is itself undone is known as such when it is looked at.
    for at in (0..stored.len()).rev() {
        let Some(undoes) = stored[at].head.undoes.clone().filter(|_| stored[at].is_whole_rollback()) else { continue };
        if healings[at].undone_by.is_some() {
            continue;
        }
        let by = healings[at].id.clone();
        if let Some(undone) = healings[..at].iter_mut().find(|healing| healing.id == undoes) {
            undone.undone_by.get_or_insert(by);
        }
    }
    healings
}

/// Every healing that can be read, oldest first. A spoiled one is told in the log and left out.
pub(super) fn stored(state_folder: &Folder) -> Result<Vec<Stored>, Error> {
    let Some(folder) = open_healings(state_folder)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (key, name) in files(&folder)? {
        match read_file(&folder, &name) {
            Ok(Some(stored)) => found.push(stored),
            // Removed by the retention of another process meanwhile, or nothing but a torn plan.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(healing = %key, error = %error, "a healing cannot be read and is left out");
            }
        }
    }
    Ok(found)
}

/// The healing of that id, and who has undone it. Needs no lock.
pub(super) fn find(state_folder: &Folder, id: &Name) -> Result<(Stored, Option<Name>), Error> {
    let stored = stored(state_folder)?;
    let told = told(&stored);
    let found = stored.into_iter().zip(told).find(|(stored, _)| stored.head.id == *id);
    found.map(|(stored, told)| (stored, told.undone_by)).ok_or_else(|| unknown(id))
}

fn open_healings(state_folder: &Folder) -> Result<Option<Folder>, Error> {
    let context = || format!("`{}` cannot be opened", state_folder.path.join(HEALINGS).display());
    state_folder.folder(HEALINGS).map_err(|trouble| state(context(), &trouble))
}

/// The files of healings in order: the key that orders them, and the name.
pub(super) fn files(folder: &Folder) -> Result<Vec<(Key, String)>, Error> {
    let context = || format!("`{}` cannot be listed", folder.path.display());
    let names = folder.names().map_err(|trouble| state(context(), &trouble))?;
    let mut found: Vec<(Key, String)> = names.into_iter().filter_map(|name| Some((Key::of(&name)?, name))).collect();
    found.sort();
    Ok(found)
}

/// A healing; `None` if its file is gone or holds no whole plan.
pub(super) fn read_file(folder: &Folder, name: &str) -> Result<Option<Stored>, Error> {
    let path = folder.path.join(name);
    let bytes = folder
        .read(name, HEALING_MAX)
        // One that is being written changes while it is read; what stands in it then is enough.
        .or_else(
            |trouble| if matches!(trouble, Trouble::Changed) { folder.read(name, HEALING_MAX) } else { Err(trouble) },
        )
        .map_err(|trouble| state(format!("`{}` cannot be read", path.display()), &trouble))?;
    let Some(bytes) = bytes else { return Ok(None) };
    let (lines, torn) = record::decode(&bytes);
    if lines.is_empty() {
        return Ok(None);
    }
    let spoiled = |what: String| Error::new(ErrorKind::State, format!("`{}` {what}", path.display()));
    let stored = Stored::of(lines).ok_or_else(|| {
        let lines = if torn { "its first line is spoiled" } else { "its first line is no plan" };
        spoiled(format!("is no healing that can be read: {lines}"))
    })?;
    // The id leads to files in the workspace, so one that somebody made up is not believed.
    if name.strip_suffix(".jsonl") != Some(&*stored.head.id) || Key::of(name).is_none() {
        return Err(spoiled(format!("is of healing {:?}, expected the one that its name says", &*stored.head.id)));
    }
    if stored.head.format > FORMAT {
        return Err(spoiled(format!(
            "has format {}, expected at most {FORMAT}; it was written by a newer chiron",
            stored.head.format
        )));
    }
    Ok(Some(stored))
}

/// What orders healings: the time in the id, then its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    time: String,
    number: u64,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:06}", self.time, self.number)
    }
}

impl Key {
    /// The key of a file's name; `None` if it is no healing's.
    fn of(name: &str) -> Option<Self> {
        let (time, number) = name.strip_suffix(".jsonl")?.split_once('-')?;
        let shape = |(at, byte): (usize, u8)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        };
        let is_time = time.len() == 16 && time.bytes().enumerate().all(shape);
        let is_number = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = (is_time && is_number).then(|| number.parse().ok()).flatten()?;
        // Written exactly as it would be written again.
        Some(Self { time: time.to_owned(), number }).filter(|key| key.file() == name)
    }

    /// The next one: never smaller than any before, whatever the clock does.
    fn after(last: Option<&Self>, now: Timestamp) -> Self {
        let time = now.to_datetime().format("%Y%m%dT%H%M%SZ").to_string();
        match last {
            Some(last) => Self { time: time.max(last.time.clone()), number: last.number.saturating_add(1) },
            None => Self { time, number: 1 },
        }
    }

    fn file(&self) -> String {
        format!("{self}.jsonl")
    }

    /// When, as the id says.
    pub(super) fn at(&self) -> Option<Timestamp> {
        let date = chrono::NaiveDateTime::parse_from_str(&self.time, "%Y%m%dT%H%M%SZ").ok()?;
        Some(Timestamp::from(date.and_utc()))
    }
}

/// The healings of a workspace, locked: nobody else heals it.
#[derive(Debug)]
pub struct Ledger {
    /// `STATE_DIR`.
    pub state: Folder,
    healings: Folder,
    /// Held as long as this is.
    _lock: File,
}

impl Ledger {
    /// Locks the workspace for healing. Says who does if another process has.
    pub fn lock(state_folder: Folder) -> Result<Self, Error> {
        let path = state_folder.path.join(LOCK);
        let context = || format!("`{}` cannot be opened to be locked", path.display());
        let lock = state_folder.lock_file(LOCK).map_err(|trouble| state(context(), &trouble))?;
        let mut tries = 0;
        let taken = loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if tries < LOCK_TRIES => tries += 1,
                taken => break taken,
            }
            std::thread::sleep(LOCK_PAUSE);
        };
        match taken {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let who = holder(&lock).unwrap_or_else(|| "another process".to_owned());
                let context = format!("{who} heals this workspace just now (it has locked `{}`)", path.display());
                return Err(Error::new(ErrorKind::Busy, context));
            }
            Err(errno) => return Err(state(format!("`{}` cannot be locked", path.display()), &errno.into())),
        }
        let context = || format!("`{}` cannot be made", state_folder.path.join(HEALINGS).display());
        let healings = state_folder.make_folder(HEALINGS).map_err(|trouble| state(context(), &trouble))?;
        Ok(Self { state: state_folder, healings, _lock: lock })
    }

    /// Every healing that can be read, oldest first.
    pub fn stored(&self) -> Result<Vec<Stored>, Error> {
        stored(&self.state)
    }

    /// The healing of that id, and who has undone it.
    pub fn find(&self, id: &Name) -> Result<(Stored, Option<Name>), Error> {
        find(&self.state, id)
    }

    /// Healings without an end, which a crash left open, oldest first. None is older than the newest that has an end, because
    /// nothing begins before that is settled; one that cannot be read hides no older one. A file without a whole plan is
    /// removed: nothing was begun.
    pub fn unfinished(&self) -> Result<Vec<Stored>, Error> {
        let mut open = Vec::new();
        for (_, name) in files(&self.healings)?.into_iter().rev() {
            let context = || format!("`{}` cannot be removed", self.healings.path.join(&name).display());
            match read_file(&self.healings, &name) {
                Ok(Some(stored)) if stored.end.is_some() => break,
                Ok(Some(stored)) => open.push(stored),
                Ok(None) => {
                    let removed = self.healings.remove(&name).and_then(|()| self.healings.sync());
                    removed.map_err(|trouble| state(context(), &trouble))?;
                }
                Err(error) => {
                    tracing::warn!(healing = %name, error = %error, "a healing cannot be read, so it cannot be settled");
                }
            }
        }
        open.reverse();
        Ok(open)
    }

    /// The newest healings that have an end, at most `max` of them.
    pub(super) fn newest_finished(&self, max: usize) -> Result<Vec<Stored>, Error> {
        let names = files(&self.healings)?.into_iter().rev().take(max);
        let read = names.filter_map(|(_, name)| read_file(&self.healings, &name).ok().flatten());
        Ok(read.filter(|stored| stored.end.is_some()).collect())
    }

    /// Begins a healing: its plan is durable when this returns, and there is room for what follows.
    pub fn begin(
        &self,
        now: Timestamp,
        trigger: HealingTrigger,
        by: Option<String>,
        undoes: Option<Name>,
        changes: Vec<Planned>,
    ) -> Result<Writing, Error> {
        let last = files(&self.healings)?.pop().map(|(key, _)| key);
        let key = Key::after(last.as_ref(), now);
        let name = key.file();
        let id = Name::from(key.to_string());
        let path = self.healings.path.join(&name);
        let context = || format!("`{}` cannot be written, so nothing was changed", path.display());
        let room = 4096 + 1024 * changes.len() as u64;
        let head = Head { format: FORMAT, id: id.clone(), at: now, trigger, by, undoes, changes };
        let file = self.healings.make_file(&name).map_err(|trouble| state(context(), &trouble))?;
        let mut writing = Writing { id, name, file, folder: self.healings.clone() };
        let begun = writing.begin(Line::Planned(Box::new(head)), room);
        if let Err(trouble) = begun {
            writing.forget();
            return Err(state(context(), &trouble));
        }
        Ok(writing)
    }

    /// Goes on with a healing that has no end.
    pub fn resume(&self, id: &Name) -> Result<Writing, Error> {
        let name = format!("{id}.jsonl");
        let context = || format!("`{}` cannot be written", self.healings.path.join(&name).display());
        let mut file = self.healings.append(&name).map_err(|trouble| state(context(), &trouble))?;
        // A torn line is ended first, so that it spoils no other.
        file.write_all(b"\n").map_err(|error| state(context(), &error.into()))?;
        Ok(Writing { id: id.clone(), name, file, folder: self.healings.clone() })
    }

    pub(super) fn healings(&self) -> &Folder {
        &self.healings
    }
}

/// The file of a healing that is under way.
#[derive(Debug)]
pub struct Writing {
    /// Its id.
    pub id: Name,
    name: String,
    file: File,
    folder: Folder,
}

impl Writing {
    fn begin(&mut self, line: Line, room: u64) -> Result<(), Trouble> {
        let text = record::encode(&line).map_err(|error| Trouble::from(std::io::Error::from(error)))?;
        // What comes later must not find the disk full. File systems that cannot promise it are taken at their word.
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, text.len() as u64 + room) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()?;
        self.folder.sync()
    }

    /// Writes a line, durable when this returns.
    pub fn write(&mut self, line: &Line) -> Result<(), Error> {
        let text = record::encode(line).map_err(std::io::Error::from);
        let written = text.and_then(|text| self.file.write_all(text.as_bytes())).and_then(|()| self.file.sync_data());
        written.map_err(|error| {
            let context = format!("`{}` cannot be written on", self.folder.path.join(&self.name).display());
            Error::io(ErrorKind::State, context, error)
        })
    }

    /// Every copy that is needed is durable.
    pub fn backed_up(&mut self, copies: usize) -> Result<(), Error> {
        self.write(&Line::BackedUp { copies })
    }

    /// A change is begun.
    pub fn applying(&mut self, n: usize) -> Result<(), Error> {
        self.write(&Line::Applying { n })
    }

    /// A change has its answer.
    pub fn done(&mut self, done: Done) -> Result<(), Error> {
        self.write(&Line::Done(done))
    }

    /// The healing is over.
    pub fn finish(mut self, end: HealingEnd, at: Timestamp) -> Result<(), Error> {
        self.write(&Line::Finished { end, at })?;
        // Gives back the room that was not needed; no harm if it stays.
        if let Ok(stat) = rustix::fs::fstat(&self.file) {
            let _ = rustix::fs::ftruncate(&self.file, u64::try_from(stat.st_size).unwrap_or(0));
        }
        Ok(())
    }

    /// Removes the file, as nothing was changed and nothing will be.
    pub fn forget(self) {
        // What cannot be removed is settled by the next round.
        let _ = self.folder.remove(&self.name);
        let _ = self.folder.sync();
    }
}

/// Who has locked an open file, as the kernel's list of locks says.
fn holder(lock: &File) -> Option<String> {
    let stat = rustix::fs::fstat(lock).ok()?;
    let (device, inode) = (stat.st_dev, stat.st_ino);
    let wanted = format!("{:02x}:{:02x}:{inode}", rustix::fs::major(device), rustix::fs::minor(device));
    let (bytes, _) = crate::base::files::read_start(Path::new("/proc/locks"), 1 << 20).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let line = text.lines().find(|line| line.split_whitespace().any(|word| word == wanted))?;
    // `1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF`
    let pid: u32 = line.split_whitespace().nth(4)?.parse().ok()?;
    let (name, _) = crate::base::files::read_start(Path::new(&format!("/proc/{pid}/comm")), 64).ok()?;
    Some(format!("process {pid} ({})", String::from_utf8_lossy(&name).trim_end()))
}
