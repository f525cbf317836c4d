//! What a look at the bot's workspace found, and what was done about it (WSP-1 to WSP-7).

use serde::{Deserialize, Serialize};

use super::{Name, Severity, Timestamp};

/// The name under which issues of the workspace are opened; no subsystem may have it.
pub const WORKSPACE: &str = "workspace";

/// The type of the issue that the workspace could not be looked at for several rounds.
pub const WORKSPACE_UNREADABLE: &str = "workspace_unreadable";

/// The type of the issue that no bot may start in the workspace as it is.
pub const WORKSPACE_UNFIT: &str = "workspace_unfit";

/// What kind of thing was found in a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingCode {
    /// A folder of the layout is not there (WSP-1).
    DirectoryMissing,
    /// A file of the layout is not there (WSP-1).
    FileMissing,
    /// A file of the layout has no bytes, or is `{}` (WSP-1).
    FileEmpty,
    /// A JSON file lacks keys that the layout requires (WSP-1).
    KeysMissing,
    /// A file that should hold JSON does not (WSP-2).
    JsonCorrupt,
    /// A lock file that nobody holds is older than allowed (WSP-2).
    LockStale,
    /// A heartbeat is older than allowed (WSP-2); it stays a finding until the bot itself writes it again.
    HeartbeatStale,
    /// A process of the bot runs on without parent, supervisor or heartbeat (WSP-2).
    OrphanProcess,
    /// The positions do not match the portfolio (WSP-3).
    StateMismatch,
    /// A trade is marked filled, but not in the size of its order (WSP-3).
    PartialFill,
    /// Two positions have the same symbol and direction (WSP-3).
    PositionConflict,
    /// An entry price or size is not above zero, or no number (WSP-3).
    DataIntegrity,
    /// What was broken in a file with positions or trades could not be kept whole: a person must look (WSP-2).
    RecordsLost,
    /// A configuration file is not there (WSP-7).
    ConfigMissing,
    /// A configuration file is no JSON, or breaks its schema (WSP-7).
    ConfigInvalid,
    /// Something else stands where a file or folder should be, or a link leaves the workspace; never touched.
    Misplaced,
    /// It may not be read or written, is too large to be read, or the system said no.
    Inaccessible,
}

impl FindingCode {
    /// Every code, in the order of the specification.
    pub const ALL: [Self; 17] = [
        Self::DirectoryMissing,
        Self::FileMissing,
        Self::FileEmpty,
        Self::KeysMissing,
        Self::JsonCorrupt,
        Self::LockStale,
        Self::HeartbeatStale,
        Self::OrphanProcess,
        Self::StateMismatch,
        Self::PartialFill,
        Self::PositionConflict,
        Self::DataIntegrity,
        Self::RecordsLost,
        Self::ConfigMissing,
        Self::ConfigInvalid,
        Self::Misplaced,
        Self::Inaccessible,
    ];

    /// The word used as a label and as the type of its issue.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DirectoryMissing => "directory_missing",
            Self::FileMissing => "file_missing",
            Self::FileEmpty => "file_empty",
            Self::KeysMissing => "keys_missing",
            Self::JsonCorrupt => "json_corrupt",
            Self::LockStale => "lock_stale",
            Self::HeartbeatStale => "heartbeat_stale",
            Self::OrphanProcess => "orphan_process",
            Self::StateMismatch => "state_mismatch",
            Self::PartialFill => "partial_fill",
            Self::PositionConflict => "position_conflict",
            Self::DataIntegrity => "data_integrity",
            Self::RecordsLost => "records_lost",
            Self::ConfigMissing => "config_missing",
            Self::ConfigInvalid => "config_invalid",
            Self::Misplaced => "misplaced",
            Self::Inaccessible => "inaccessible",
        }
    }

    /// Whether it is one of those that only a person may touch (WSP-3): files that it names are never written.
    pub const fn is_dangerous(self) -> bool {
        matches!(self, Self::StateMismatch | Self::PartialFill | Self::PositionConflict | Self::DataIntegrity)
    }
}

/// What became of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingState {
    /// It was put right.
    Healed,
    /// It would be put right, but nothing is acted upon.
    Planned,
    /// Not now: the bot is at it, or a process holds it. The next round looks again.
    Deferred,
    /// It was tried and did not work.
    Failed,
    /// It is for a person.
    Standing,
}

impl FindingState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Healed, Self::Planned, Self::Deferred, Self::Failed, Self::Standing];

    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::Planned => "planned",
            Self::Deferred => "deferred",
            Self::Failed => "failed",
            Self::Standing => "standing",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceFinding {
    /// What kind of thing.
    pub code: FindingCode,
    /// How bad it is. `critical` closes the gate in real mode (WSP-5).
    pub severity: Severity,
    /// Where: relative to the workspace, `/` between the parts; the process id for a process.
    pub path: String,
    /// What was found and what was expected, one sentence in lower case.
    pub description: String,
    /// The records it is about, by their ids or symbols; at most [`RECORDS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
    /// What became of it.
    pub state: FindingState,
    /// Why it was deferred, why it failed, or what was lost; empty if there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Records named in one finding; the description tells how many there are.
pub const RECORDS_MAX: usize = 100;

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Makes a folder.
    CreateDirectory,
    /// Makes a file.
    CreateFile,
    /// Replaces what a file holds.
    ReplaceFile,
    /// Removes a file.
    RemoveFile,
    /// Removes a folder that is empty; by a rollback only.
    RemoveDirectory,
    /// Ends a process.
    EndProcess,
}

impl ChangeKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::CreateDirectory,
        Self::CreateFile,
        Self::ReplaceFile,
        Self::RemoveFile,
        Self::RemoveDirectory,
        Self::EndProcess,
    ];

    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateDirectory => "create_directory",
            Self::CreateFile => "create_file",
            Self::ReplaceFile => "replace_file",
            Self::RemoveFile => "remove_file",
            Self::RemoveDirectory => "remove_directory",
            Self::EndProcess => "end_process",
        }
    }
}

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeState {
    /// It was planned and not begun.
    Planned,
    /// It was made.
    Applied,
    /// It was not made: the file had changed since it was looked at, or a process holds it.
    Deferred,
    /// It was not made: the system said no.
    Failed,
    /// chiron ended in its middle, and it was not made.
    Abandoned,
}

impl ChangeState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Planned, Self::Applied, Self::Deferred, Self::Failed, Self::Abandoned];

    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Applied => "applied",
            Self::Deferred => "deferred",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// One change of a workspace, as the healing's own journal and the audit log keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// What it does.
    pub kind: ChangeKind,
    /// What it heals.
    pub code: FindingCode,
    /// Where: relative to the workspace; the process id for a process.
    pub path: String,
    /// How far it has come.
    pub state: ChangeState,
    /// SHA-256 of what was there before, hex; `None` if there was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// SHA-256 of what is there after, hex; `None` if there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Why it was not made, or the command line of a process; empty if there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Why the workspace was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealingTrigger {
    /// chiron has started.
    Start,
    /// Its time had come (`heal.every`).
    Schedule,
    /// A person asked for it.
    Request,
    /// `chiron heal`.
    Command,
    /// `chiron gate`.
    Gate,
    /// A person wants an earlier healing undone.
    Rollback,
    /// A recovery action of a failure point (WSP-7).
    Action,
}

impl HealingTrigger {
    /// The word used in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Schedule => "schedule",
            Self::Request => "request",
            Self::Command => "command",
            Self::Gate => "gate",
            Self::Rollback => "rollback",
            Self::Action => "action",
        }
    }
}

/// How a healing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealingEnd {
    /// Every planned change has its answer.
    Finished,
    /// chiron ended in its middle; what was applied and what was not is known.
    Interrupted,
}

/// A person has looked at what a healing could not keep, and does without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why, if it was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// One transaction on a workspace, as its own journal keeps it: planned, backed up, applied, finished (WSP-6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Healing {
    /// Unique in the workspace and rising: `20251123T013456Z-000012`.
    pub id: Name,
    /// When it was planned.
    pub at: Timestamp,
    /// Why.
    pub trigger: HealingTrigger,
    /// Who asked for it, if a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The healing that it undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<Name>,
    /// `None` while it is under way.
    pub end: Option<HealingEnd>,
    /// The healing that has undone it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<Name>,
    /// Who does without the records that it lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
    /// Its changes, in the order they are made.
    pub changes: Vec<ChangeRecord>,
}

/// What was done, counted (WSP-4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealingStats {
    /// Files made.
    pub files_created: u64,
    /// Files whose content was put right.
    pub files_repaired: u64,
    /// Folders made.
    pub directories_created: u64,
    /// Heartbeats set back.
    pub heartbeats_reset: u64,
    /// Lock files removed.
    pub locks_cleared: u64,
    /// Processes ended.
    pub orphans_killed: u64,
}

/// What start-up validation looks at (WSP-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidationPart {
    /// The release folder that is about to run: there, complete against its manifest, the active one.
    Slot,
    /// Folders and files of the layout are there and readable as what they are.
    Structure,
    /// They may be read and written.
    Permissions,
    /// Configuration files are there, are JSON, and keep to their schemas.
    Configuration,
}

impl ValidationPart {
    /// Every part.
    pub const ALL: [Self; 4] = [Self::Slot, Self::Structure, Self::Permissions, Self::Configuration];

    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slot => "slot",
            Self::Structure => "structure",
            Self::Permissions => "permissions",
            Self::Configuration => "configuration",
        }
    }
}

/// One part of a validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartScore {
    /// Which.
    pub part: ValidationPart,
    /// 0 to 100.
    pub score: f64,
    /// Whether what is wrong there is critical.
    pub critical: bool,
    /// What is wrong there, one sentence each; at most [`RECORDS_MAX`].
    pub problems: Vec<String>,
}

/// Whether the workspace is fit for a bot to start in (WSP-5). The formula of the score stands in `docs/workspace.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// 0 to 100.
    pub score: f64,
    /// `healthy`, `degraded` or `critical`.
    pub status: super::Status,
    /// The parts that were looked at.
    pub parts: Vec<PartScore>,
}

/// What a round of healing came to (WSP-4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealingReport {
    /// The transaction, if anything was changed.
    pub id: Option<Name>,
    /// When it began.
    pub timestamp: Timestamp,
    /// Why.
    pub trigger: HealingTrigger,
    /// Whether nothing was to be acted upon.
    pub dry_run: bool,
    /// No finding is critical, and none failed.
    pub success: bool,
    /// Findings that were put right.
    pub healed: u64,
    /// Findings that were tried in vain.
    pub failed: u64,
    /// Critical findings that stand.
    pub critical: u64,
    /// What was done, counted.
    pub stats: HealingStats,
    /// Everything found.
    pub findings: Vec<WorkspaceFinding>,
    /// Every change, made or not.
    pub changes: Vec<ChangeRecord>,
    /// In a dry run, what would change, as a unified diff; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub diff: String,
    /// Whether the workspace is fit for a bot to start in, as it is now.
    pub validation: Validation,
    /// Files and folders that were looked at.
    pub visited: u64,
    /// How long it took.
    pub duration_ms: u64,
}
