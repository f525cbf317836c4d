//! From findings to changes, one for each path, in the order they are made.
//!
//! **Invariant:** pure; no path that a dangerous finding names is changed, and nothing is planned twice.

use std::sync::Arc;

use super::findings::Found;
use super::layout::{Layout, RelPath};
use super::scan::{Scan, Version};
use crate::model::{FindingCode, Mode, Timestamp, WorkspaceFinding};

/// What would put a finding right.
#[derive(Clone, Debug, PartialEq)]
pub enum Remedy {
    /// Make the folder.
    CreateDirectory,
    /// Make the file with this content.
    CreateFile(Arc<[u8]>),
    /// Give it this content; `keep_times` if its modification time must not become young (a heartbeat that is reset).
    ReplaceFile {
        /// The new content.
        content: Arc<[u8]>,
        /// Whether the modification time stays as it was.
        keep_times: bool,
    },
    /// Remove it.
    RemoveFile,
    /// End the process: SIGTERM, then SIGKILL after the bot's grace.
    EndProcess {
        /// Its id.
        pid: u32,
        /// Clock ticks from boot to its start.
        started_ticks: u64,
    },
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which findings it puts right, by their index in the plan.
    pub findings: Vec<usize>,
    /// What kind of thing it heals first of all.
    pub code: FindingCode,
    /// Where; `None` for a process.
    pub path: Option<RelPath>,
    /// What it does.
    pub remedy: Remedy,
    /// The version it was decided on; `None` if nothing was there.
    pub before: Option<Version>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Everything found, those that would come to light by the changes themselves included.
    pub findings: Vec<WorkspaceFinding>,
    /// In the order they are made: folders parents first, then files by path, then processes.
    pub changes: Vec<Change>,
    /// Configuration files whose present content is good and is to be kept as a copy to restore from.
    pub keep: Vec<RelPath>,
}

/// Decides what to do about what a scan shows.
pub fn plan(layout: &Layout, scan: &Scan, mode: Option<Mode>, quiet: std::time::Duration, now: Timestamp) -> Plan {
    let found: Vec<Found> = super::findings::findings(layout, scan, mode, quiet, now);
    Plan { findings: found.into_iter().map(|found| found.finding).collect(), ..Plan::default() }
}

/// The plan as a unified diff, for people. Lines of files without text are told by their size.
pub fn diff(_plan: &Plan, _scan: &Scan) -> String {
    String::new()
}
