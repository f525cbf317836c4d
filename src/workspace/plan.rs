//! From findings to changes, one for each path, in the order they are made.
//!
//! **Invariant:** pure; no path that a dangerous finding names is changed, nothing is planned twice, and no change of a file
//! that a bot can read makes a dangerous finding.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::findings::{self, Found, configuration, dangerous, order};
use super::layout::{Layout, RelPath};
use super::scan::{Access, Entry, FileSeen, Scan, Version};
use crate::model::{FindingCode, FindingState, Mode, Name, Severity, Timestamp, WorkspaceFinding};

mod diff;
#[cfg(test)]
mod tests;

pub use diff::diff;
pub(super) use diff::members;

/// Changes of one round. A workspace in which more is wrong is better looked at by a person meanwhile.
pub const CHANGES_MAX: usize = 1_000;

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

/// What only part of a round is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Configuration files (WSP-7), and the folders they lie in.
    Configuration,
}

/// What a path holds since a person has undone a healing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// SHA-256 of the content, hex; `None` if nothing is there.
    pub sha256: Option<String>,
    /// The rollback.
    pub by: Name,
}

/// What deciding needs to know besides the layout and the scan.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// Whether money is at stake.
    pub mode: Option<Mode>,
    /// How long a file must have rested to be touched.
    pub quiet: Duration,
    /// How long a configuration file must have been broken or missing; `None`: a person stands there, so `quiet` is enough.
    pub config_rest: Option<Duration>,
    /// When it is.
    pub now: Timestamp,
    /// What the round is about; `None`: everything.
    pub only: Option<Scope>,
    /// Files with positions or trades that had records when they were last seen whole.
    pub had_records: BTreeSet<RelPath>,
    /// What a person has brought back: it is left alone until it changes.
    pub rolled_back: BTreeMap<RelPath, RolledBack>,
    /// When something last came into or went from the folder of a configuration file that is missing, nanoseconds.
    pub gone_since: BTreeMap<RelPath, i128>,
    /// Configuration files beside which an editor keeps a file of its own.
    pub edited: BTreeSet<RelPath>,
}

/// Decides what to do about what a scan shows.
pub fn plan(layout: &Layout, scan: &Scan, at: &Circumstances) -> Plan {
    let mut found = findings::findings(layout, scan, at);
    bound(&mut found);
    let known: BTreeSet<String> = found.iter().map(|found| key(&found.finding)).collect();
    // What the changes bring to light is told in the same round: files that a finding names now are not changed, so every
    // dangerous finding of now is among those of then. What a bot can read as it is is left as it is if a change of it is
    // part of a danger; each turn takes a remedy away, so it ends.
    let new = loop {
        let then = after(scan, &assemble(scan, &found));
        let mut new = dangerous::dangers(layout, &then);
        new.retain(|danger| !known.contains(&key(&danger.finding)));
        let mut is_stable = true;
        for danger in &new {
            for path in danger.files.iter().filter(|path| can_be_read(scan, path)) {
                is_stable &= !leave(&mut found, path, danger.finding.code);
            }
        }
        if is_stable {
            break new;
        }
    };
    found.extend(new.into_iter().map(|danger| Found { finding: danger.finding, remedy: None }));
    only_what_is_lost(scan, &mut found);
    found.sort_by(|one, other| order(&one.finding).cmp(&order(&other.finding)));
    let mut plan = assemble(scan, &found);
    let changed: BTreeSet<&RelPath> = plan.changes.iter().filter_map(|change| change.path.as_ref()).collect();
    let mut keep = configuration::keep(layout, scan, at.quiet, at.now);
    keep.retain(|path| !changed.contains(path));
    plan.keep = keep;
    plan
}

/// Whether a bot can read the file as it is, whatever is wrong with it.
fn can_be_read(scan: &Scan, path: &RelPath) -> bool {
    let Some(Entry::File(FileSeen { content: Some(content), .. })) = scan.entries.get(path) else { return false };
    findings::readable(content).is_some()
}

/// Takes the remedies of a file away, because they would make a danger; whether there were any.
fn leave(found: &mut [Found], path: &RelPath, code: FindingCode) -> bool {
    let mut has_left = false;
    for found in found.iter_mut().filter(|found| found.remedy.is_some() && found.finding.path == path.as_str()) {
        found.remedy = None;
        found.finding.state = FindingState::Standing;
        found.finding.severity = Severity::Critical;
        found.finding.detail =
            format!("left alone: with it put right there would be a `{}`, so a person must look", code.as_str());
        has_left = true;
    }
    has_left
}

/// What stands in a file that is not changed is not lost yet.
fn only_what_is_lost(scan: &Scan, found: &mut Vec<Found>) {
    let planned: BTreeSet<String> =
        found.iter().filter(|found| found.remedy.is_some()).map(|found| found.finding.path.clone()).collect();
    let is_waiting = |found: &&Found| found.finding.state == FindingState::Deferred;
    let waiting: BTreeSet<String> = found.iter().filter(is_waiting).map(|found| found.finding.path.clone()).collect();
    let holds_something = |path: &str| match RelPath::parse(path).ok().and_then(|path| scan.entries.get(&path)) {
        Some(Entry::File(FileSeen { content: Some(content), .. })) => !findings::is_blank(content),
        _ => false,
    };
    found.retain(|Found { finding, .. }| {
        let path = &finding.path;
        let is_kept = planned.contains(path) || !waiting.contains(path) && !holds_something(path);
        finding.code != FindingCode::RecordsLost || is_kept
    });
}

fn key(finding: &WorkspaceFinding) -> String {
    format!("{} {} {}", finding.code.as_str(), finding.path, finding.description)
}

/// Where a remedy stands in the order of changes: folders parents first, files by path, processes by id; `None` for none.
fn place(found: &Found) -> Option<(u8, String, u32)> {
    let path = || found.finding.path.clone();
    match found.remedy.as_ref()? {
        Remedy::CreateDirectory => Some((0, path(), 0)),
        Remedy::CreateFile(_) | Remedy::ReplaceFile { .. } | Remedy::RemoveFile => Some((1, path(), 0)),
        Remedy::EndProcess { pid, .. } => Some((2, String::new(), *pid)),
    }
}

/// Leaves the remedies that one round makes. What was found of the rest is deferred.
fn bound(found: &mut [Found]) {
    let places: BTreeSet<_> = found.iter().filter_map(place).collect();
    // A path that is to be a folder and a file at once can only be the folder.
    let folders: BTreeSet<String> = places.iter().filter(|place| place.0 == 0).map(|place| place.1.clone()).collect();
    let late: BTreeSet<_> = places.into_iter().skip(CHANGES_MAX).collect();
    for found in found.iter_mut() {
        let Some(place) = place(found) else { continue };
        if late.contains(&place) {
            found.remedy = None;
            found.finding.state = FindingState::Deferred;
            found.finding.detail = format!("a round makes at most {CHANGES_MAX} changes, the next one goes on");
        } else if place.0 == 1 && folders.contains(&place.1) {
            found.remedy = None;
            "the layout names a folder of the same path".clone_into(&mut found.finding.detail);
        }
    }
}

/// One change for each path, in the order they are made.
fn assemble(scan: &Scan, found: &[Found]) -> Plan {
    let mut groups: BTreeMap<(u8, String, u32), Vec<usize>> = BTreeMap::new();
    let mut findings = Vec::new();
    for (index, found) in found.iter().enumerate() {
        let mut finding = found.finding.clone();
        if let Some(place) = place(found) {
            groups.entry(place).or_default().push(index);
            finding.state = FindingState::Planned;
        }
        findings.push(finding);
    }
    let changes = groups.into_values().filter_map(|group| {
        let first = found.get(*group.first()?)?;
        let remedy = first.remedy.clone()?;
        let path = match remedy {
            Remedy::EndProcess { .. } => None,
            _ => RelPath::parse(&first.finding.path).ok(),
        };
        let before = path.as_ref().and_then(|path| match scan.entries.get(path) {
            Some(Entry::File(seen)) => Some(seen.version.clone()),
            _ => None,
        });
        Some(Change { code: first.finding.code, findings: group, path, remedy, before })
    });
    Plan { changes: changes.collect(), findings, keep: Vec::new() }
}

/// The scan as it will be when every change of the plan is made.
pub fn after(scan: &Scan, plan: &Plan) -> Scan {
    let mut scan = scan.clone();
    for change in &plan.changes {
        let Some(path) = &change.path else {
            if let Remedy::EndProcess { pid, started_ticks } = &change.remedy {
                scan.processes.retain(|process| (process.pid, process.started_ticks) != (*pid, *started_ticks));
            }
            continue;
        };
        let entry = match &change.remedy {
            Remedy::CreateDirectory => Entry::Directory(Access { read: true, write: true }),
            Remedy::CreateFile(content) => Entry::File(file(scan.at, content, None, false)),
            Remedy::ReplaceFile { content, keep_times } => {
                let seen = match scan.entries.get(path) {
                    Some(Entry::File(seen)) => Some(seen),
                    _ => None,
                };
                Entry::File(file(scan.at, content, seen, *keep_times))
            }
            Remedy::RemoveFile => {
                scan.locks.remove(path);
                scan.heartbeats.retain(|other| other != path);
                scan.json.retain(|other| other != path);
                Entry::Missing
            }
            Remedy::EndProcess { .. } => continue,
        };
        scan.entries.insert(path.clone(), entry);
    }
    scan
}

/// A file with a content, as it will be seen.
fn file(at: Timestamp, content: &Arc<[u8]>, before: Option<&FileSeen>, keep_times: bool) -> FileSeen {
    let nanos = i128::from(at.millis()) * 1_000_000;
    let old = before.map(|seen| seen.version.clone());
    let version = old.unwrap_or(Version {
        inode: 0,
        device: 0,
        len: 0,
        modified_nanos: nanos,
        changed_nanos: nanos,
        sha256: String::new(),
        mode: 0o600,
        uid: 0,
        gid: 0,
    });
    let version = Version {
        len: content.len() as u64,
        modified_nanos: if keep_times { version.modified_nanos } else { nanos },
        changed_nanos: nanos,
        sha256: Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect(),
        ..version
    };
    let access = before.map_or(Access { read: true, write: true }, |seen| seen.access);
    FileSeen { version, content: Some(Arc::clone(content)), access }
}
