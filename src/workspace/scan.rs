//! What is in a workspace now: one bounded look, as data.
//!
//! In: the layout and the workspace. Out: a [`Scan`].
//!
//! ```text
//!  patterns --> walk: names that match --+
//!  layout: folders and files ------------+--> look: what stands there --> processes of the bot --> holders of old locks
//! ```
//!
//! Links inside the workspace are followed where a path names them: in the layout, in the fixed part of a pattern, and
//! for a file whose name matches. Nothing is walked through a link besides, so no loop can be entered.
//! **Invariant:** reads only; follows no link that leaves the workspace; never waits on a FIFO, device or lock.

mod editors;
mod look;
mod processes;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use self::look::Look;
use super::holders;
use super::layout::{RelPath, Role};
use super::root::Root;
use super::{Error, ErrorKind, Settings, backup};
use crate::base::procfs;
use crate::model::Timestamp;

/// Everything that deciding needs.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// When.
    pub at: Timestamp,
    /// What stands where: every folder and file of the layout, every lock, heartbeat and JSON file that a pattern names, and
    /// every folder above them.
    pub entries: BTreeMap<RelPath, Entry>,
    /// The lock files among them that are old enough to look at, and who holds each.
    pub locks: BTreeMap<RelPath, Holder>,
    /// The heartbeats among them.
    pub heartbeats: Vec<RelPath>,
    /// Files that match `heal.json` and are not in the layout.
    pub json: Vec<RelPath>,
    /// Processes whose command line is the bot's.
    pub processes: Vec<BotProcess>,
    /// The last good copy of each configuration file that does not hold exactly that.
    pub good: BTreeMap<RelPath, Arc<[u8]>>,
    /// Configuration files that somebody has open in an editor, by what editors leave beside them.
    pub edited: BTreeSet<RelPath>,
    /// What chiron may do with the folder of the workspace itself.
    pub root_access: Access,
    /// Names that cannot be handled: not UTF-8, or of a folder that cannot be listed. Path as it can be shown, and why.
    pub refused: Vec<(String, String)>,
    /// Files and folders that were looked at.
    pub visited: u64,
}

/// What stands under a path.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Nothing.
    Missing,
    /// A folder.
    Directory(Access),
    /// A regular file.
    File(FileSeen),
    /// Something else: `a FIFO`, `a socket`, `a device`, `a dangling link to X`, `a link that leaves the workspace`.
    Other(String),
    /// The system says no.
    Unreadable(String),
}

/// What chiron may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Read it, or list it.
    pub read: bool,
    /// Write it, or make files in it.
    pub write: bool,
}

impl Default for Access {
    /// Everything: nothing was found to stand in the way.
    fn default() -> Self {
        Self { read: true, write: true }
    }
}

/// A regular file.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSeen {
    /// Which version of it.
    pub version: Version,
    /// What it holds; `None` if it is larger than allowed, or was not needed.
    pub content: Option<Arc<[u8]>>,
    /// What chiron may do with it.
    pub access: Access,
}

/// One version of a file, so that it can be recognised.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Version {
    /// Its number on its file system.
    pub inode: u64,
    /// The file system.
    pub device: u64,
    /// Bytes.
    pub len: u64,
    /// When its content last changed, nanoseconds since the Unix epoch.
    pub modified_nanos: i128,
    /// When its inode last changed, the same.
    pub changed_nanos: i128,
    /// SHA-256 of the content, hex; empty if it was not read.
    pub sha256: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Version {
    /// When its content last changed.
    pub fn modified(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.modified_nanos.div_euclid(1_000_000)).unwrap_or(i64::MAX))
    }
}

/// Who holds a lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody: no lock of the kernel is on it, no process has it open, and the process it names has ended.
    Nobody,
    /// Somebody: in words for the operator, `process 4711 (its id stands in the file)`.
    Process(String),
    /// That could not be found out, so it counts as held.
    Unknown(String),
}

/// A process of the bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BotProcess {
    /// Its id.
    pub pid: u32,
    /// Clock ticks from boot to its start; with the id it identifies it.
    pub started_ticks: u64,
    /// When it started.
    pub started: Timestamp,
    /// Its command line, shortened and without secrets.
    pub command: String,
    /// Its working folder, or an argument, lies in this workspace.
    pub in_workspace: bool,
    /// Its parent lives and is neither init nor a reaper of orphans.
    pub has_parent: bool,
    /// A unit, container or other supervisor owns it: in words; `None` if nothing does.
    pub supervisor: Option<String>,
    /// A heartbeat, lock or pid file of the workspace that is young enough names it.
    pub is_named: bool,
}

/// Looks at the workspace.
pub fn scan(root: &Root, settings: &Settings, now: Timestamp) -> Result<Scan, Error> {
    must_be_there(root)?;
    let layout = &*settings.layout;
    let own = Own::of(root, settings);
    let found = walk::walk(root, layout, &own, walk::Limits::default());
    let mut look = Look::new(root, settings.file_max);
    for path in layout.directories.iter().filter(|path| !own.holds(path.as_str())) {
        look.at(path, false);
    }
    for file in layout.files.iter().filter(|file| !own.holds(file.path.as_str())) {
        look.at(&file.path, true);
    }
    let heartbeats: BTreeSet<RelPath> = found.heartbeats.into_iter().collect();
    let is_known = |path: &RelPath| heartbeats.contains(path) || layout.file(path.as_str()).is_some();
    let json: BTreeSet<RelPath> = found.json.into_iter().filter(|path| !is_known(path)).collect();
    for path in heartbeats.iter().chain(&json) {
        look.at(path, true);
    }
    let locks: Vec<RelPath> = found.locks.into_iter().filter(|path| !is_known(path) && !json.contains(path)).collect();
    for path in &locks {
        // Young ones are not read: most locks live for less than that.
        look.file_older(path, now, layout.lock_age);
    }
    look.folders_above();
    let (entries, unread) = (look.entries, look.refused);
    let by_age = Locks::of(&entries, &locks, now, layout.lock_age);
    let mut processes = processes::of_bot(root, settings, now, || {
        let from = (&by_age, &*found.pid_files);
        let within = (&*layout.directories, layout.heartbeat_age);
        processes::named(root, &entries, &heartbeats, from, within, now)
    });
    let beats = heartbeats.iter().any(|path| {
        matches!(entries.get(path), Some(Entry::File(file)) if now.since(file.version.modified()) < layout.heartbeat_age)
    });
    let bot_lives = beats || processes.iter().any(|process| process.in_workspace);
    let held = held(root, settings, &by_age, bot_lives);
    for process in &mut processes {
        let pid = i32::try_from(process.pid).unwrap_or(0);
        process.is_named |= held.values().any(|held| held.pids.contains(&pid));
    }
    let locks = held.into_iter().map(|(path, held)| (path, held.holder)).collect();
    let mut edited = BTreeSet::new();
    let mut good = BTreeMap::new();
    for path in layout.files.iter().filter(|file| file.role == Role::Config).map(|file| &file.path) {
        if editors::is_edited(root, path, now) {
            edited.insert(path.clone());
        }
        let is = |copy: &Arc<[u8]>| matches!(entries.get(path), Some(Entry::File(FileSeen { content: Some(content), .. })) if content == copy);
        good.extend(backup::good(settings, path).filter(|copy| !is(copy)).map(|copy| (path.clone(), copy)));
    }
    let visited = found.visited.saturating_add(entries.len() as u64);
    let refused = found.refused.into_iter().chain(unread).collect();
    let (heartbeats, json) = (heartbeats.into_iter().collect(), json.into_iter().collect());
    let root_access = root_access(root)?;
    Ok(Scan { at: now, entries, locks, heartbeats, json, processes, good, edited, root_access, refused, visited })
}

/// What chiron may do with the folder of the workspace.
fn root_access(root: &Root) -> Result<Access, Error> {
    let may = |wish: rustix::fs::Access| match rustix::fs::accessat(
        &*root.fd,
        ".",
        wish | rustix::fs::Access::EXEC_OK,
        AtFlags::EACCESS,
    ) {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::ROFS | Errno::PERM) => Ok(false),
        Err(errno) => {
            let context = format!("what may be done with `{}` cannot be told", root.path.display());
            Err(Error::io(ErrorKind::Workspace, context, errno.into()))
        }
    };
    Ok(Access { read: may(rustix::fs::Access::READ_OK)?, write: may(rustix::fs::Access::WRITE_OK)? })
}

/// A folder that was removed can still be open, and what is made in it is lost.
fn must_be_there(root: &Root) -> Result<(), Error> {
    let context = |what: &str| format!("`{}` {what}, expected the workspace's folder", root.path.display());
    let stat = rustix::fs::fstat(&*root.fd)
        .map_err(|errno| Error::io(ErrorKind::Workspace, context("cannot be looked at"), errno.into()))?;
    match stat.st_nlink {
        0 => Err(Error::new(ErrorKind::Workspace, context("was removed"))),
        _ => Ok(()),
    }
}

/// The lock files, by age.
#[derive(Debug, Default)]
struct Locks<'a> {
    /// Old enough to look at.
    old: Vec<(&'a RelPath, &'a FileSeen)>,
    /// The others.
    young: Vec<(&'a RelPath, &'a FileSeen)>,
}

impl<'a> Locks<'a> {
    fn of(entries: &'a BTreeMap<RelPath, Entry>, locks: &'a [RelPath], now: Timestamp, age: Duration) -> Self {
        let seen = locks.iter().filter_map(|path| match entries.get(path) {
            Some(Entry::File(file)) => Some((path, file)),
            _ => None,
        });
        let (old, young) = seen.partition(|(_, file)| now.since(file.version.modified()) >= age);
        Self { old, young }
    }
}

/// Who holds each old lock file; `/proc` is walked once for all.
fn held(root: &Root, settings: &Settings, locks: &Locks<'_>, bot_lives: bool) -> BTreeMap<RelPath, holders::Held> {
    if locks.old.is_empty() {
        return BTreeMap::new();
    }
    let files = locks.old.iter().map(|(_, file)| (file.version.device, file.version.inode)).collect();
    let look = holders::Look::at(&files, bot_lives);
    let command = settings.layout.bot.as_ref().map(|bot| bot.command.as_str()).filter(|text| !text.trim().is_empty());
    let is_bot = |pid: i32| command.is_some_and(|command| processes::is_command(&procfs::arguments(pid), command));
    let who = |(path, file): &(&RelPath, &FileSeen)| {
        let held = holders::holder(root, path, (&file.version, file.content.as_deref()), &look, is_bot);
        ((*path).clone(), held)
    };
    locks.old.iter().map(who).collect()
}

/// What chiron itself writes in the workspace.
#[derive(Debug, Default)]
struct Own {
    /// Relative to the workspace.
    files: BTreeSet<String>,
    /// The same.
    folder: Option<String>,
}

impl Own {
    fn of(root: &Root, settings: &Settings) -> Self {
        let roots = workspaces(root, settings);
        let relative = |path: &Path| {
            let below = roots.iter().find_map(|root| path.strip_prefix(root).ok())?;
            below.to_str().filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let files = settings.own_files.iter().filter_map(|path| relative(path)).collect();
        Self { files, folder: relative(&settings.state_dir) }
    }

    /// Whether the path is one of them, or lies in the folder.
    fn holds(&self, path: &str) -> bool {
        let in_folder =
            |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.files.contains(path) || self.folder.as_deref().is_some_and(in_folder)
    }
}

/// The workspace by every name: as it was given, as it was opened, and as the kernel knows it.
fn workspaces(root: &Root, settings: &Settings) -> Vec<PathBuf> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::ffi::OsStringExt as _;
    let mut names = vec![settings.workspace.clone(), root.path.clone()];
    let kernels = rustix::fs::readlink(format!("/proc/self/fd/{}", root.fd.as_raw_fd()), Vec::new());
    names.extend(kernels.ok().map(|name| PathBuf::from(std::ffi::OsString::from_vec(name.into_bytes()))));
    names.dedup();
    names
}
