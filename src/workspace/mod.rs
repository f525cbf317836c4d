//! The bot's workspace heals itself: what is expected there, what is found, what is done about it, and how it is undone.
//!
//! ```text
//!  layout (settings) --+
//!  scan   (shell) -----+--> findings --> plan --> ledger: planned --> backup --> apply --> ledger: applied, finished
//!                                         |                                        |
//!                                      dry run: a diff                        rollback ID
//! ```
//!
//! In: [`Settings`] and the time. Out: a [`HealingReport`](crate::model::HealingReport).
//! `engine` is the only place that knows the order. Decisions are functions of a [`Scan`](scan::Scan); reading is `scan`,
//! writing is `apply` and `rollback`, all through [`Root`](root::Root), which never leaves the workspace.
//! **Invariant:** nothing is written before the plan and the backups of what it changes are durable; what a live bot has
//! changed since it was looked at is left alone; files that a dangerous finding names are never written.

pub mod apply;
pub mod backup;
pub mod edit;
pub mod engine;
pub mod findings;
pub mod holders;
pub mod layout;
pub mod ledger;
pub mod plan;
pub mod rollback;
pub mod root;
pub mod salvage;
pub mod scan;
pub mod validation;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use engine::{Request, Scope, accept_loss, heal, rollback};
pub use layout::Layout;

use crate::model::Mode;

/// Everything that healing a workspace needs to know (`heal` in the settings).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether chiron heals by itself: `heal.enabled`; by default if the profile is `quantum` or there is a `heal` section.
    pub enabled: bool,
    /// How often inside `run`: `heal.every`, default 10 min.
    pub every: Duration,
    /// The workspace, absolute.
    pub workspace: PathBuf,
    /// Where chiron keeps the healings and backups of this workspace: `.chiron` below it, whatever the storage is.
    pub state_dir: PathBuf,
    /// `None` if not given; then nothing is acted upon.
    pub mode: Option<Mode>,
    /// Plans only.
    pub dry_run: bool,
    /// What is expected in the workspace.
    pub layout: Arc<Layout>,
    /// Files that chiron itself writes, absolute: never healed, never evidence.
    pub own_files: Arc<Vec<PathBuf>>,
    /// The release folder that is about to run, if there are such.
    pub slot: Option<SlotSettings>,
    /// How long backups and healings are kept.
    pub retention: Retention,
    /// A file that changed within this time is left to the bot; default 2 s.
    pub quiet: Duration,
    /// Largest file that is read whole; default 64 MiB.
    pub file_max: u64,
}

/// How long backups are kept; what still can be rolled back within it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `heal.backups.keep`, default 30 days.
    pub keep: Duration,
    /// `heal.backups.max_bytes`, default 1 GiB: beyond it the oldest go first.
    pub bytes_max: u64,
    /// `heal.backups.healings`, default 1,000.
    pub healings_max: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep: Duration::from_secs(30 * 86_400), bytes_max: 1 << 30, healings_max: 1_000 }
    }
}

/// Where releases of the bot lie (`heal.slot`), as in a blue-green deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSettings {
    /// The release folder, absolute; a link to it is followed.
    pub path: PathBuf,
    /// Its manifest, below it; default `slot_manifest.json`: `slot`, `version`, `active`, `files` (path to `sha256:HEX`).
    pub manifest: PathBuf,
}

/// Why a workspace could not be looked at or healed at all.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct Error {
    /// What was found, what was expected, and where.
    pub context: String,
    /// Which kind.
    pub kind: ErrorKind,
    /// What the system said.
    #[source]
    pub source: Option<std::io::Error>,
}

/// Kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The workspace itself is not there, is no folder, or may not be read.
    Workspace,
    /// Another chiron is healing it.
    Busy,
    /// The folder of healings and backups cannot be written, so nothing was changed.
    State,
    /// There is no such healing.
    Unknown,
    /// The rollback would overwrite what has changed since; nothing was changed.
    Changed,
    /// That healing cannot be undone, or has been already.
    Settled,
}

impl Error {
    /// An error without a cause below it.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { context: context.into(), kind, source: None }
    }

    /// An error of the system.
    pub fn io(kind: ErrorKind, context: impl Into<String>, source: std::io::Error) -> Self {
        Self { context: context.into(), kind, source: Some(source) }
    }

    /// A label.
    pub const fn reason(&self) -> &'static str {
        match self.kind {
            ErrorKind::Workspace => "workspace",
            ErrorKind::Busy => "busy",
            ErrorKind::State => "state",
            ErrorKind::Unknown => "unknown_healing",
            ErrorKind::Changed => "changed_since",
            ErrorKind::Settled => "settled",
        }
    }
}
