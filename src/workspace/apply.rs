//! Makes the changes of a plan, each whole or not at all.
//!
//! A file is written beside the one it replaces, made durable, read again, and then the two names are exchanged. What the
//! exchange has displaced is looked at: if it is not the version that the plan was made for, or if somebody has it open for
//! writing, the exchange is undone and the bot's file stands. Where the file system cannot exchange names (`EINVAL`), the
//! file is looked at once more and then replaced by a rename, so a write in between would be lost to the backup's state;
//! ext4, xfs, btrfs, f2fs and tmpfs can.
//! **Invariant:** a file that is not the version that was looked at is left alone; a crash leaves the old file or the new.

pub(super) mod attributes;
pub(super) mod exchange;
#[cfg(test)]
pub(super) mod fixture;
pub(super) mod process;
#[cfg(test)]
mod tests;
pub(super) mod transaction;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use self::attributes::Attributes;
use super::backup::Backups;
use super::holders;
use super::layout::RelPath;
use super::ledger::record::{Kept, ProcessId};
use super::root::{Kind, Place, Root, Trouble, belong_to, hash_whole, sha256, version_of};
use super::scan::Version;
use crate::base::failpoint;
use crate::model::{ChangeKind, FindingCode, Name};

/// How the names of files that chiron writes beside others begin; whoever looks at a workspace passes them by.
pub const TEMPORARY: &str = ".chiron-heal-";

/// One change, with all that it takes to make it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// What it does.
    pub(super) kind: ChangeKind,
    /// What it heals.
    pub(super) code: FindingCode,
    /// Where; `None` for a process.
    pub(super) path: Option<RelPath>,
    /// The process.
    pub(super) process: Option<ProcessId>,
    /// What the file is to hold.
    pub(super) content: Option<Arc<[u8]>>,
    /// Whether the modification time stays as it was.
    pub(super) keep_times: bool,
    /// A rollback: mode, owner, times and extended attributes are to be these.
    pub(super) restore: Option<Kept>,
    /// The version it was decided on.
    pub(super) before: Option<Version>,
    /// The command line of a process.
    pub(super) detail: String,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Not now: the bot is at it, or a process holds it.
    Deferred(String),
    /// The system said no.
    Failed(String),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Changed => Self::Deferred("it changed while it was looked at".to_owned()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Trouble::from(errno).into()
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Trouble::from(error).into()
    }
}

/// Makes changes.
pub(super) struct Hands<'a> {
    /// The workspace.
    pub(super) root: &'a Root,
    /// Where what is displaced unexpectedly is kept.
    pub(super) backups: &'a Backups,
    /// The healing.
    pub(super) id: &'a Name,
    /// `heal` or `rollback`: how its failpoints begin.
    pub(super) prefix: &'static str,
    /// How long after SIGTERM SIGKILL follows; `None`: no process is ended.
    pub(super) grace: Option<Duration>,
    /// Called at each step, by its name; a test does there what a bot might.
    pub(super) hook: &'a dyn Fn(&str),
}

/// The name of the file that is written beside the one that change `n` is about.
pub(super) fn temporary(id: &Name, n: usize) -> OsString {
    OsString::from(format!("{TEMPORARY}{id}-{n}"))
}

fn gone() -> Stop {
    Stop::Deferred("it is gone since it was looked at".to_owned())
}

fn appeared() -> Stop {
    Stop::Deferred("it has come to be since it was looked at".to_owned())
}

impl Hands<'_> {
    /// Passes a step of this healing.
    pub(super) fn point(&self, name: &str) -> Result<(), Stop> {
        (self.hook)(name);
        if failpoint::pass(&format!("{}.{name}", self.prefix)) {
            return Err(Stop::Failed(format!("failpoint `{name}`")));
        }
        Ok(())
    }

    /// Makes change `n`. Returns the version that is there now, if it has put one there.
    pub(super) fn make(&self, n: usize, step: &Step) -> Result<Option<Version>, Stop> {
        match (step.kind, &step.path) {
            (ChangeKind::EndProcess, _) => self.end_process(step).map(|()| None),
            (_, None) => Err(Stop::Failed("it names no path".to_owned())),
            (ChangeKind::CreateDirectory, Some(path)) => self.create_dir(path, step).map(|()| None),
            (ChangeKind::RemoveDirectory, Some(path)) => self.remove_dir(path).map(|()| None),
            (ChangeKind::CreateFile, Some(path)) => self.create(n, path, step).map(Some),
            (ChangeKind::ReplaceFile, Some(path)) => self.replace(n, path, step).map(Some),
            (ChangeKind::RemoveFile, Some(path)) => self.remove(n, path, step).map(|()| None),
        }
    }

    fn create_dir(&self, path: &RelPath, step: &Step) -> Result<(), Stop> {
        self.point("write.before")?;
        match self.root.create_dir(path) {
            Ok(()) => {}
            Err(Trouble::System(Errno::EXIST)) => return Err(appeared()),
            Err(trouble) => return Err(trouble.into()),
        }
        if let Some(kept) = &step.restore {
            let made = self.root.open_folder(Some(path))?;
            Attributes::of_kept(kept).give(&made)?;
        }
        // It is made; a step that is struck here can only kill.
        let _ = self.point("write.after");
        Ok(())
    }

    fn remove_dir(&self, path: &RelPath) -> Result<(), Stop> {
        self.point("write.before")?;
        match self.root.remove_dir(path) {
            Ok(()) => {}
            Err(Trouble::System(Errno::NOTEMPTY | Errno::EXIST)) => {
                return Err(Stop::Deferred("it is not empty by now, so it stays".to_owned()));
            }
            Err(Trouble::Missing) => return Err(gone()),
            Err(trouble) => return Err(trouble.into()),
        }
        let _ = self.point("write.after");
        Ok(())
    }

    fn create(&self, n: usize, path: &RelPath, step: &Step) -> Result<Version, Stop> {
        let content = step.content.as_deref().ok_or_else(|| Stop::Failed("it has no content".to_owned()))?;
        let place = Place { folder: self.root.open_folder(path.parent().as_ref())?, name: path.name().into() };
        if place.stat().is_ok() {
            return Err(appeared());
        }
        let attributes = step.restore.as_ref().map(Attributes::of_kept);
        let beside = temporary(self.id, n);
        let written = self.write_beside(&place, &beside, content, attributes.as_ref(), None)?;
        let named = self.point("exchange.before").and_then(|()| give_name(&place, &beside));
        if named.is_err() {
            unlink(&place, &beside);
        }
        named?;
        // It is made; a step that is struck here can only kill.
        let _ = self.point("exchange.after").and_then(|()| self.point("checked"));
        place.sync()?;
        Ok(written)
    }

    fn replace(&self, n: usize, path: &RelPath, step: &Step) -> Result<Version, Stop> {
        let content = step.content.as_deref().ok_or_else(|| Stop::Failed("it has no content".to_owned()))?;
        let before = step.before.as_ref().ok_or_else(|| Stop::Failed("it names no version".to_owned()))?;
        let place = match self.root.place(path) {
            Err(Trouble::Missing | Trouble::Dangling(_)) => return Err(gone()),
            place => place?,
        };
        let old = open_again(&place)?;
        self.must_rest(&old, before, true)?;
        let attributes = match &step.restore {
            Some(kept) => Attributes::of_kept(kept),
            None => Attributes::read(&old)?,
        };
        let times = (step.keep_times && step.restore.is_none()).then_some(before.modified_nanos);
        let beside = temporary(self.id, n);
        let written = self.write_beside(&place, &beside, content, Some(&attributes), times)?;
        let exchanged = self.point("exchange.before").and_then(|()| {
            // Looked at again right before, so that an exchange seldom has to be undone.
            self.must_rest(&open_again(&place)?, before, true)?;
            self.exchange(&place, &beside, before, &written)
        });
        if exchanged.is_err() {
            exchange::clear_up(self.backups, &place, &beside, &written);
        }
        exchanged?;
        Ok(written)
    }

    /// Refuses to go on unless the file is exactly that version and nobody is writing it.
    pub(super) fn must_rest(&self, file: &File, before: &Version, with_ctime: bool) -> Result<(), Stop> {
        // Whoever writes is asked for first: once nobody can write, what is read afterwards stays.
        if let Some(writer) = holders::writers(before.device, before.inode).first() {
            return Err(Stop::Deferred(format!("{writer} has it open for writing")));
        }
        let now = hash_whole(file)?;
        if !is_same(&now, before, with_ctime) {
            return Err(Stop::Deferred("it has changed since it was looked at".to_owned()));
        }
        Ok(())
    }

    /// Writes a file beside another, durable and read again, with its attributes.
    fn write_beside(
        &self,
        place: &Place,
        beside: &OsString,
        content: &[u8],
        attributes: Option<&Attributes>,
        times: Option<i128>,
    ) -> Result<Version, Stop> {
        self.point("write.before")?;
        let written = write_new(place, beside, content, attributes, times);
        if written.is_err() {
            unlink(place, beside);
        }
        let written = written?;
        let passed = self.point("write.after");
        if passed.is_err() {
            unlink(place, beside);
        }
        passed?;
        Ok(written)
    }

    /// Removes a file: its name is taken away first, then what was behind it is looked at, then it goes or comes back.
    fn remove(&self, n: usize, path: &RelPath, step: &Step) -> Result<(), Stop> {
        let before = step.before.as_ref().ok_or_else(|| Stop::Failed("it names no version".to_owned()))?;
        let place = Place { folder: self.root.open_folder(path.parent().as_ref())?, name: path.name().into() };
        if place.stat().is_ok_and(|seen| seen.kind == Kind::Link) {
            return Err(Stop::Deferred("it is a link by now".to_owned()));
        }
        let old = open_again(&place)?;
        match holders::is_locked(self.root, path) {
            Ok(false) => {}
            Ok(true) => return Err(Stop::Deferred("a process holds a lock on it".to_owned())),
            Err(why) => return Err(Stop::Deferred(format!("whether it is locked cannot be told: {why}"))),
        }
        // Held until it is gone, so that nobody takes the lock meanwhile. File systems without such locks have no holders.
        match rustix::fs::flock(&old, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOLCK) => {}
            Err(Errno::WOULDBLOCK) => return Err(Stop::Deferred("a process holds a lock on it".to_owned())),
            Err(errno) => return Err(errno.into()),
        }
        self.must_rest(&old, before, true)?;
        self.point("write.before")?;
        self.point("write.after")?;
        self.point("exchange.before")?;
        let beside = temporary(self.id, n);
        match renameat_with(&place.folder, &place.name, &place.folder, &beside, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::renameat(&place.folder, &place.name, &place.folder, &beside)?
            }
            Err(Errno::NOENT) => return Err(gone()),
            Err(errno) => return Err(errno.into()),
        }
        let taken = Place { folder: place.folder.as_fd().try_clone_to_owned()?, name: beside.clone() };
        let checked = self.point("exchange.after").and_then(|()| {
            self.must_rest(&open_again(&taken)?, before, false)?;
            self.point("checked")
        });
        if checked.is_err() {
            put_back(&place, &beside)?;
        }
        checked?;
        place.sync()?;
        rustix::fs::unlinkat(&place.folder, &beside, AtFlags::empty())?;
        place.sync()?;
        Ok(())
    }
}

/// Gives a file that was taken away its name back, unless the bot has made another under it meanwhile.
pub(super) fn put_back(place: &Place, beside: &OsString) -> Result<(), Stop> {
    match give_name(place, beside) {
        Err(Stop::Deferred(_)) => unlink(place, beside),
        given => given?,
    }
    Ok(place.sync()?)
}

/// Renames `beside` to the place's own name if nothing stands there.
fn give_name(place: &Place, beside: &OsString) -> Result<(), Stop> {
    match renameat_with(&place.folder, beside, &place.folder, &place.name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(appeared()),
        // Without that rename a second name for the file says as surely whether the first is free.
        Err(Errno::INVAL | Errno::NOSYS) => {
            match rustix::fs::linkat(&place.folder, beside, &place.folder, &place.name, AtFlags::empty()) {
                Ok(()) => unlink(place, beside),
                Err(Errno::EXIST) => return Err(appeared()),
                Err(errno) => return Err(errno.into()),
            }
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

fn open_again(place: &Place) -> Result<File, Stop> {
    match place.open() {
        Ok(file) => Ok(file),
        Err(Trouble::Missing) => Err(gone()),
        Err(Trouble::Other { found, .. }) => Err(Stop::Deferred(format!("it is {} by now", found.name()))),
        Err(trouble) => Err(trouble.into()),
    }
}

/// Whether two looks saw the same version; names that chiron itself gave and took change the inode's own time.
pub(super) fn is_same(now: &Version, before: &Version, with_ctime: bool) -> bool {
    let inode_time = if with_ctime { before.changed_nanos } else { now.changed_nanos };
    *now == Version { changed_nanos: inode_time, ..before.clone() }
}

pub(super) fn unlink(place: &Place, name: &OsString) {
    // What cannot be removed has a name that everybody passes by, and is removed when the healing is settled.
    let _ = rustix::fs::unlinkat(&place.folder, name, AtFlags::empty());
}

fn write_new(
    place: &Place,
    name: &OsString,
    content: &[u8],
    attributes: Option<&Attributes>,
    times: Option<i128>,
) -> Result<Version, Stop> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(&place.folder, name, flags, Mode::from_raw_mode(0o600));
    let mut file = match open() {
        // The names of healings are never used twice, so this is what a crash has left.
        Err(Errno::EXIST) => {
            unlink(place, name);
            File::from(open()?)
        }
        opened => File::from(opened?),
    };
    file.write_all(content)?;
    match attributes {
        Some(attributes) => attributes.give(&file)?,
        None => {
            belong_to(&file, &place.folder)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        }
    }
    if let Some(nanos) = times.or_else(|| attributes.and_then(|attributes| attributes.modified_nanos)) {
        attributes::set_modified(&file, nanos)?;
    }
    file.sync_all()?;
    let expected = version_of(&file)?;
    drop(file);
    let again = Place { folder: place.folder.as_fd().try_clone_to_owned()?, name: name.clone() };
    let written = hash_whole(&again.open()?)?;
    if written.sha256 != sha256(content) || written.inode != expected.inode {
        return Err(Stop::Failed("what was written reads back differently".to_owned()));
    }
    Ok(written)
}
