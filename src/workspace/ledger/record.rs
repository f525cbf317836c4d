//! What a healing's file holds: one line for each step, each with its own checksum, so that a torn one is recognised.
//!
//! **Invariant:** pure; a line is taken as it was written or not at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{
    Acceptance, ChangeKind, ChangeRecord, ChangeState, FindingCode, Healing, HealingEnd, HealingTrigger, Name,
    Timestamp,
};
use crate::workspace::layout::RelPath;
use crate::workspace::root::sha256;
use crate::workspace::scan::Version;

/// The format of these files.
pub const FORMAT: u32 = 1;

/// Characters of the checksum before each line: the start of its SHA-256.
const CHECKSUM: usize = 16;

/// A file as it was before a change: everything that a rollback gives back but its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its version, with mode, owner and times.
    pub version: Version,
    /// Its extended attributes, ACLs among them: name to value, base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// A process that is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its id.
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub started_ticks: u64,
}

/// One change as it is planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// What it does.
    pub kind: ChangeKind,
    /// What it heals.
    pub code: FindingCode,
    /// Where; `None` for a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RelPath>,
    /// The process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
    /// What was there; `None` if there was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Kept>,
    /// SHA-256 of what is to be there; `None` if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The command line of a process.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What a file with positions or trades held and will not hold any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

/// A copy that nobody planned: what the bot had written while a change was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// SHA-256 of its content.
    pub sha256: String,
    /// Its size.
    pub len: u64,
}

/// How one change ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Which, by its place in the plan.
    pub n: usize,
    /// How.
    pub state: ChangeState,
    /// Why it was not made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What is there now, if the change has put it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Version>,
    /// Copies that were kept although nobody planned it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<Stray>,
    /// Names beside the file under which something still lies that could neither be put back nor copied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// How a healing begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The format, [`FORMAT`].
    pub format: u32,
    /// Its id.
    pub id: Name,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub trigger: HealingTrigger,
    /// Who asked, if a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The healing that it undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Name>,
    /// Everything it is about to do, in order.
    pub changes: Vec<Planned>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first one. It can be large, so it is boxed.
    Planned(Box<Head>),
    /// Copies of everything that is to be replaced or removed are durable.
    BackedUp {
        /// How many.
        copies: usize,
    },
    /// A change is begun.
    Applying {
        /// Which, by its place in the plan.
        n: usize,
    },
    /// A change has its answer.
    Done(Done),
    /// Every change has.
    Finished {
        /// How the healing ended.
        end: HealingEnd,
        /// When.
        at: Timestamp,
    },
    /// Behind the last one: a person does without what was lost.
    Accepted(Acceptance),
}

/// A line as it is written, with its checksum and line end.
pub fn encode(line: &Line) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(line)?;
    Ok(format!("{} {json}\n", checksum(json.as_bytes())))
}

fn checksum(json: &[u8]) -> String {
    let mut sum = sha256(json);
    sum.truncate(CHECKSUM);
    sum
}

/// The lines of a file that are as they were written, and whether others are there.
pub fn decode(bytes: &[u8]) -> (Vec<Line>, bool) {
    let mut lines = Vec::new();
    let mut torn = false;
    for part in bytes.split(|byte| *byte == b'\n').filter(|part| !part.is_empty()) {
        let whole = part.split_at_checked(CHECKSUM).and_then(|(sum, json)| {
            let json = json.strip_prefix(b" ")?;
            (checksum(json).as_bytes() == sum).then_some(json)
        });
        match whole.and_then(|json| serde_json::from_slice(json).ok()) {
            Some(line) => lines.push(line),
            None => torn = true,
        }
    }
    (lines, torn)
}

/// A change with how far it has come.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredChange {
    /// What was planned.
    pub planned: Planned,
    /// Whether it was begun.
    pub is_begun: bool,
    /// Its answer; `None` while it has none.
    pub done: Option<Done>,
}

impl StoredChange {
    /// How far it has come.
    pub fn state(&self) -> ChangeState {
        self.done.as_ref().map_or(ChangeState::Planned, |done| done.state)
    }

    /// As the model tells it.
    pub fn record(&self) -> ChangeRecord {
        let planned = &self.planned;
        let answer = self.done.as_ref().map(|done| done.detail.as_str()).filter(|detail| !detail.is_empty());
        ChangeRecord {
            kind: planned.kind,
            code: planned.code,
            path: planned.place(),
            state: self.state(),
            before: planned.before.as_ref().map(|kept| kept.version.sha256.clone()).filter(|sha| !sha.is_empty()),
            after: planned.after.clone(),
            detail: answer.unwrap_or(&planned.detail).to_owned(),
        }
    }
}

impl Planned {
    /// Where, for people: the path, or the process id.
    pub fn place(&self) -> String {
        match (&self.path, self.process) {
            (Some(path), _) => path.to_string(),
            (None, Some(process)) => process.pid.to_string(),
            (None, None) => String::new(),
        }
    }
}

/// A healing as its file tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// How it began.
    pub head: Head,
    /// Its changes.
    pub changes: Vec<StoredChange>,
    /// How it ended; `None` while it is under way.
    pub end: Option<HealingEnd>,
    /// Who does without what it lost.
    pub accepted: Option<Acceptance>,
}

impl Stored {
    /// Puts the lines of a file together; `None` if the plan is not among them.
    pub fn of(lines: Vec<Line>) -> Option<Self> {
        let mut lines = lines.into_iter();
        let head = match lines.next()? {
            Line::Planned(head) => *head,
            _ => return None,
        };
        let changes = head.changes.iter().cloned();
        let changes = changes.map(|planned| StoredChange { planned, is_begun: false, done: None }).collect();
        let mut stored = Self { head, changes, end: None, accepted: None };
        for line in lines {
            match line {
                Line::Planned(_) | Line::BackedUp { .. } => {}
                Line::Applying { n } => {
                    if let Some(change) = stored.changes.get_mut(n) {
                        change.is_begun = true;
                    }
                }
                Line::Done(done) => {
                    if let Some(change) = stored.changes.get_mut(done.n) {
                        change.done = Some(done);
                    }
                }
                Line::Finished { end, .. } => stored.end = Some(end),
                Line::Accepted(acceptance) => stored.accepted = Some(acceptance),
            }
        }
        Some(stored)
    }

    /// As the model tells it; who has undone it is not known here.
    pub fn healing(&self) -> Healing {
        Healing {
            id: self.head.id.clone(),
            at: self.head.at,
            trigger: self.head.trigger,
            by: self.head.by.clone(),
            undoes: self.head.undoes.clone(),
            end: self.end,
            undone_by: None,
            accepted: self.accepted.clone(),
            changes: self.changes.iter().map(StoredChange::record).collect(),
        }
    }

    /// The changes that were made and lost records of a file with positions or trades.
    pub fn losses(&self) -> impl Iterator<Item = &Planned> {
        let made = self.changes.iter().filter(|change| change.state() == ChangeState::Applied);
        made.map(|change| &change.planned).filter(|planned| !planned.lost.is_empty())
    }

    /// Whether it has lost records and nobody has accepted that: until then it, and a rollback of it, must be kept.
    pub fn needs_person(&self) -> bool {
        self.accepted.is_none() && self.losses().next().is_some()
    }

    /// Whether something of it still lies beside a file of the workspace.
    pub fn has_left(&self) -> bool {
        self.changes.iter().filter_map(|change| change.done.as_ref()).any(|done| !done.left.is_empty())
    }

    /// Whether it has undone everything of the healing that it undoes: nothing was deferred or failed but what no rollback
    /// can do, removing a folder that others use by now and starting processes again.
    pub fn is_whole_rollback(&self) -> bool {
        let settled = |change: &StoredChange| {
            let beyond = matches!(change.planned.kind, ChangeKind::RemoveDirectory | ChangeKind::EndProcess);
            change.state() == ChangeState::Applied || beyond
        };
        self.head.undoes.is_some() && self.end.is_some() && self.changes.iter().all(settled)
    }
}
