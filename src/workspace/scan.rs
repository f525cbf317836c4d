//! What is in a workspace now: one bounded look, as data.
//!
//! In: the layout and the workspace. Out: a [`Scan`].
//! **Invariant:** reads only; follows no link that leaves the workspace; never waits on a FIFO, device or lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::layout::RelPath;
use super::root::Root;
use super::{Error, Settings};
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
    /// The last good copy of each configuration file, for those that are missing or broken.
    pub good: BTreeMap<RelPath, Arc<[u8]>>,
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
pub fn scan(_root: &Root, _settings: &Settings, now: Timestamp) -> Result<Scan, Error> {
    Ok(Scan { at: now, ..Scan::default() })
}
