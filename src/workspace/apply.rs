//! Makes the changes of a plan, each whole or not at all.
//!
//! A file is written beside the one it replaces, made durable, read again, and then the two names are exchanged. What the
//! exchange has displaced is looked at: if it is not the version that the plan was made for, or if somebody has it open for
//! writing, the exchange is undone and the bot's file stands. Where the file system cannot exchange names (`EINVAL`), the
//! old file gets a second name before the new one takes its place, and is looked at there; where that cannot be done either,
//! nothing that may hold positions or trades is replaced. ext4, xfs, btrfs, f2fs and tmpfs can exchange.
//! **Invariant:** a file that is not the version that was looked at is left alone; a crash leaves the old file or the new;
//! what is made counts as made, also if something after it went wrong.

pub(super) mod aside;
pub(super) mod attributes;
pub(super) mod exchange;
#[cfg(test)]
pub(super) mod fixture;
pub(super) mod process;
#[cfg(test)]
mod tests;
pub(super) mod transaction;

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use self::aside::{Aside, Known, unproven};
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

/// The modification time of a file of the bot that chiron has made, nanoseconds since the Unix epoch: older than any limit.
const NEVER: i128 = 0;

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
    /// What a file with positions or trades held and will not hold any more.
    pub(super) lost: Vec<String>,
}

impl Step {
    /// Whether it is about what the bot writes, not about what people write.
    fn is_bots(&self) -> bool {
        !matches!(self.code, FindingCode::ConfigMissing | FindingCode::ConfigInvalid)
    }

    /// Whether the file may hold positions or trades.
    fn may_hold_records(&self) -> bool {
        self.is_bots() && self.code != FindingCode::HeartbeatStale
    }
}

/// A change that was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Made {
    /// The version that is there now, if the change has put one there.
    pub(super) now: Option<Version>,
    /// What is not right with it; empty if all is.
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

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Deferred(why) | Self::Failed(why)) = self;
        f.write_str(why)
    }
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
    /// What the change that is being made leaves besides.
    pub(super) aside: RefCell<Aside>,
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

    /// Removes one of chiron's own names beside a place, or tells that it stays.
    fn clear(&self, place: &Place, name: &OsStr, known: Option<Known<'_>>) {
        self.aside.borrow_mut().clear(self.backups, place, name, known);
    }

    /// Makes change `n`.
    pub(super) fn make(&self, n: usize, step: &Step) -> Result<Made, Stop> {
        match (step.kind, &step.path) {
            (ChangeKind::EndProcess, _) => self.end_process(step).map(|()| Made::default()),
            (_, None) => Err(Stop::Failed("it names no path".to_owned())),
            (ChangeKind::CreateDirectory, Some(path)) => self.create_dir(path, step),
            (ChangeKind::RemoveDirectory, Some(path)) => self.remove_dir(path),
            (ChangeKind::CreateFile, Some(path)) => self.create(n, path, step),
            (ChangeKind::ReplaceFile, Some(path)) => self.replace(n, path, step),
            (ChangeKind::RemoveFile, Some(path)) => self.remove(n, path, step),
        }
    }

    fn create_dir(&self, path: &RelPath, step: &Step) -> Result<Made, Stop> {
        self.point("write.before")?;
        let finished = match self.root.create_dir(path) {
            Ok(finished) => finished,
            Err(Trouble::System(Errno::EXIST)) => return Err(appeared()),
            Err(trouble) => return Err(trouble.into()),
        };
        let mut detail = unproven(finished);
        if let Some(kept) = &step.restore {
            let made = self.root.open_folder(Some(path)).map_err(Stop::from);
            if let Err(stop) = made.and_then(|made| Attributes::of_kept(kept).give(&made)) {
                detail = stop.to_string();
            }
        }
        // It is made; a step that is struck here can only kill.
        let _ = self.point("write.after");
        Ok(Made { now: None, detail })
    }

    fn remove_dir(&self, path: &RelPath) -> Result<Made, Stop> {
        self.point("write.before")?;
        let synced = match self.root.remove_dir(path) {
            Ok(synced) => synced,
            Err(Trouble::System(Errno::NOTEMPTY | Errno::EXIST)) => {
                return Err(Stop::Deferred("it is not empty by now, so it stays".to_owned()));
            }
            Err(Trouble::Missing) => return Err(gone()),
            Err(trouble) => return Err(trouble.into()),
        };
        let _ = self.point("write.after");
        Ok(Made { now: None, detail: unproven(synced) })
    }

    fn create(&self, n: usize, path: &RelPath, step: &Step) -> Result<Made, Stop> {
        let content = step.content.as_deref().ok_or_else(|| Stop::Failed("it has no content".to_owned()))?;
        let place = Place { folder: self.root.open_folder(path.parent().as_ref())?, name: path.name().into() };
        if place.stat().is_ok() {
            return Err(appeared());
        }
        let attributes = step.restore.as_ref().map(Attributes::of_kept);
        let beside = temporary(self.id, n);
        // The bot has never written it, so no check may take it for the bot's work.
        let times = (step.is_bots() && step.restore.is_none()).then_some(NEVER);
        let written = self.write_beside(&place, &beside, content, attributes.as_ref(), times)?;
        let named = self.point("exchange.before").and_then(|()| give_name(&place, &beside));
        self.clear(&place, &beside, Some(Known::file(&written)));
        named?;
        // It is made; a step that is struck here can only kill.
        let _ = self.point("exchange.after").and_then(|()| self.point("checked"));
        Ok(Made { now: Some(written), detail: unproven(place.sync()) })
    }

    fn replace(&self, n: usize, path: &RelPath, step: &Step) -> Result<Made, Stop> {
        let content = step.content.as_deref().ok_or_else(|| Stop::Failed("it has no content".to_owned()))?;
        let before = step.before.as_ref().ok_or_else(|| Stop::Failed("it names no version".to_owned()))?;
        let place = match self.root.place(path) {
            Err(Trouble::Missing | Trouble::Dangling(_)) => return Err(gone()),
            place => place?,
        };
        let old = open_again(&place)?;
        self.must_rest(&old, before, true, step)?;
        let attributes = match &step.restore {
            Some(kept) => Attributes::of_kept(kept),
            None => Attributes::read(&old)?,
        };
        // A healing is no sign of life of the bot.
        let keep_times = step.keep_times || step.is_bots();
        let times = (keep_times && step.restore.is_none()).then_some(before.modified_nanos);
        let beside = temporary(self.id, n);
        let written = self.write_beside(&place, &beside, content, Some(&attributes), times)?;
        let exchanged = self.point("exchange.before").and_then(|()| {
            // Looked at again right before, so that an exchange seldom has to be undone.
            self.must_rest(&open_again(&place)?, before, true, step)?;
            self.exchange(&place, &beside, step, before, &written)
        });
        // What an undone exchange has left there is told already.
        if exchanged.is_err() && self.aside.borrow().left.is_empty() {
            self.clear(&place, &beside, Some(Known::file(&written)));
        }
        exchanged
    }

    /// Refuses to go on unless the file is exactly that version and nobody is writing it.
    pub(super) fn must_rest(&self, file: &File, before: &Version, with_ctime: bool, step: &Step) -> Result<(), Stop> {
        // Whoever writes is asked for first: once nobody can write, what is read afterwards stays.
        match holders::writers(before.device, before.inode) {
            Ok(writers) => {
                if let Some(writer) = writers.first() {
                    return Err(Stop::Deferred(format!("{writer} has it open for writing")));
                }
            }
            Err(why) if step.is_bots() => {
                return Err(Stop::Deferred(format!("whether a process is writing it cannot be told: {why}")));
            }
            // What people write is seldom open, and never for long.
            Err(_) => {}
        }
        let now = hash_whole(file)?;
        if !is_same(&now, before, with_ctime) {
            return Err(Stop::Deferred("it has changed since it was looked at".to_owned()));
        }
        Ok(())
    }

    /// Refuses to go on if a process has the lock file open at all: it may be about to lock it, which needs no writing.
    fn must_be_closed(&self, before: &Version, step: &Step) -> Result<(), Stop> {
        if step.code != FindingCode::LockStale {
            return Ok(());
        }
        match holders::openers(before.device, before.inode) {
            Ok(openers) => match openers.first() {
                Some(opener) => Err(Stop::Deferred(format!("{opener} has it open"))),
                None => Ok(()),
            },
            Err(why) => Err(Stop::Deferred(format!("whether a process has it open cannot be told: {why}"))),
        }
    }

    /// Writes a file beside another, durable and read again, with its attributes.
    fn write_beside(
        &self,
        place: &Place,
        beside: &OsStr,
        content: &[u8],
        attributes: Option<&Attributes>,
        times: Option<i128>,
    ) -> Result<Version, Stop> {
        self.point("write.before")?;
        let written = write_new(place, beside, content, attributes, times)?;
        let passed = self.point("write.after");
        if passed.is_err() {
            self.clear(place, beside, Some(Known::file(&written)));
        }
        passed.map(|()| written)
    }

    /// Removes a file: its name is taken away first, then what was behind it is looked at, then it goes or comes back.
    fn remove(&self, n: usize, path: &RelPath, step: &Step) -> Result<Made, Stop> {
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
        self.must_be_closed(before, step)?;
        self.must_rest(&old, before, true, step)?;
        self.point("write.before")?;
        self.point("write.after")?;
        self.point("exchange.before")?;
        let beside = temporary(self.id, n);
        let taken = place.beside(&beside)?;
        match renameat_with(&place.folder, &place.name, &place.folder, &beside, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::renameat(&place.folder, &place.name, &place.folder, &beside)?
            }
            Err(Errno::NOENT) => return Err(gone()),
            Err(errno) => return Err(errno.into()),
        }
        let checked = self.point("exchange.after").and_then(|()| {
            // Nobody can open it by its name any more; who was faster is seen.
            self.must_be_closed(before, step)?;
            self.must_rest(&open_again(&taken)?, before, false, step)?;
            self.point("checked")
        });
        if let Err(stop) = checked {
            let back = put_back(&mut self.aside.borrow_mut(), self.backups, &place, &beside);
            return match back {
                Ok(()) => Err(stop),
                Err(why) => Ok(Made { now: None, detail: format!("{stop}, but it cannot be put back: {why}") }),
            };
        }
        let detail = unproven(place.sync());
        self.clear(&place, &beside, Some(Known::file(before)));
        let _ = place.sync();
        Ok(Made { now: None, detail })
    }
}

/// Gives a file that was taken away its name back, unless the bot has made another under it meanwhile; then it is kept as a
/// copy.
pub(super) fn put_back(aside: &mut Aside, backups: &Backups, place: &Place, beside: &OsStr) -> Result<(), Stop> {
    match give_name(place, beside) {
        // One that has both names now loses the other.
        Ok(()) | Err(Stop::Deferred(_)) => aside.clear(backups, place, beside, None),
        Err(stop) => {
            aside.leave(beside, "it could not be put back");
            return Err(stop);
        }
    }
    // Should it not be durable, it is put back again when the healing is settled.
    let _ = place.sync();
    Ok(())
}

/// Renames `beside` to the place's own name if nothing stands there. It may have both names then.
fn give_name(place: &Place, beside: &OsStr) -> Result<(), Stop> {
    match renameat_with(&place.folder, beside, &place.folder, &place.name, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(appeared()),
        // Without that rename a second name for the file says as surely whether the first is free.
        Err(Errno::INVAL | Errno::NOSYS) => {
            match rustix::fs::linkat(&place.folder, beside, &place.folder, &place.name, AtFlags::empty()) {
                Ok(()) => Ok(()),
                Err(Errno::EXIST) => Err(appeared()),
                Err(errno) => Err(errno.into()),
            }
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

fn write_new(
    place: &Place,
    name: &OsStr,
    content: &[u8],
    attributes: Option<&Attributes>,
    times: Option<i128>,
) -> Result<Version, Stop> {
    let again = place.beside(name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = match rustix::fs::openat(&place.folder, name, flags, Mode::from_raw_mode(0o600)) {
        // The names of healings are never used twice, so whatever it is, it is not of this one.
        Err(Errno::EXIST) => {
            let name = name.to_string_lossy();
            return Err(Stop::Failed(format!("`{name}` is there already, expected no file of that name beside it")));
        }
        opened => File::from(opened?),
    };
    let written = fill_new(&mut file, place, content, attributes, times).and_then(|expected| {
        let written = hash_whole(&again.open()?)?;
        if written.sha256 != sha256(content) || written.inode != expected.inode {
            return Err(Stop::Failed("what was written reads back differently".to_owned()));
        }
        Ok(written)
    });
    // Half written, it is of no use to anybody; it goes if it is still the very file that was made here.
    if written.is_err()
        && let (Ok(made), Ok(stands)) = (version_of(&file), again.stat())
        && (made.device, made.inode) == (stands.version.device, stands.version.inode)
    {
        // What cannot be removed has a name that everybody passes by, and is told when the healing is settled.
        let _ = rustix::fs::unlinkat(&again.folder, &again.name, AtFlags::empty());
    }
    written
}

fn fill_new(
    file: &mut File,
    place: &Place,
    content: &[u8],
    attributes: Option<&Attributes>,
    times: Option<i128>,
) -> Result<Version, Stop> {
    file.write_all(content)?;
    match attributes {
        Some(attributes) => attributes.give(&*file)?,
        None => {
            belong_to(&*file, &place.folder)?;
            rustix::fs::fchmod(&*file, Mode::from_raw_mode(0o644))?;
        }
    }
    if let Some(nanos) = times.or_else(|| attributes.and_then(|attributes| attributes.modified_nanos)) {
        attributes::set_modified(&*file, nanos)?;
    }
    file.sync_all()?;
    Ok(version_of(&*file)?)
}
