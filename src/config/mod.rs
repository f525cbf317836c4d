//! Settings: one file and the flags, checked whole, into [`Settings`]; every mistake at once.
//!
//! Flow: text -> `base::tree` -> each part takes its own keys -> [`Settings`], or every [`Problem`](crate::model::Problem).
//! **Invariant:** nothing here acts or keeps state; the same text, flags and files give the same settings.

mod actions;
mod alertmanagers;
mod alerts;
mod bindings;
mod excerpt;
mod failure_points;
mod graph;
mod heal;
mod hooks;
mod intake;
mod limits;
mod load;
mod maintenance;
mod read;
mod schema;
mod secret;
mod show;
mod subsystems;
#[cfg(test)]
mod tests;
mod web;

pub use excerpt::excerpt;
pub use hooks::{Confirm, PolicyHook};
pub use load::{Inputs, Loaded, load, load_text};
pub use read::read_config;
pub use schema::SCHEMA;
pub use show::span;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use crate::model::Mode;
use crate::model::{FailurePoint, Name, Subsystem};
use crate::observe::check::ScheduledCheck;
use crate::{admit, detect, execute, http, policy, recommend, store};

/// One enabled subsystem and its check, in the order of the profile's table, then of the file.
#[derive(Clone, Debug)]
pub struct SubsystemSettings {
    /// Name, criticality, dependencies.
    pub subsystem: Subsystem,
    /// Its check and schedule.
    pub scheduled: ScheduledCheck,
}

/// One configured failure point and what looks at it, in the order of the registry.
#[derive(Clone, Debug)]
pub struct PointSettings {
    /// Its category, and whose issues its findings are.
    pub point: FailurePoint,
    /// Its check and schedule; the name there is the category.
    pub scheduled: ScheduledCheck,
}

/// Everything chiron needs to know, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file they came from, if any.
    pub file: Option<PathBuf>,
    /// SHA-256 of that file, hex; of nothing without one.
    pub digest: String,
    /// `quantum` or `none`.
    pub profile: Name,
    /// The bot's workspace, absolute.
    pub workspace: PathBuf,
    /// The bot's data folder, absolute.
    pub data_dir: PathBuf,
    /// The bot's log folder, absolute.
    pub log_dir: PathBuf,
    /// chiron's own state folder, absolute: `.chiron` below the workspace unless the storage URL names another.
    pub state_dir: PathBuf,
    /// `None` if not given; then nothing is acted upon.
    pub mode: Option<Mode>,
    /// Enabled subsystems.
    pub subsystems: Vec<SubsystemSettings>,
    /// Failure points that are looked at.
    pub failure_points: Vec<PointSettings>,
    /// How often; default 60 s.
    pub failure_points_every: Duration,
    /// Paths whose disks are watched; default the workspace.
    pub disk_paths: Vec<PathBuf>,
    /// Files that chiron itself writes, absolute.
    pub own_files: Arc<Vec<PathBuf>>,
    /// `check_interval`; default 30 s.
    pub check_interval: Duration,
    /// `critical_check_interval`; default 5 s.
    pub critical_check_interval: Duration,
    /// The policy file; default `safety_policy.json` in the data folder.
    pub policy_file: PathBuf,
    /// The report file; default `self_healing_report.json` in the data folder.
    pub report_file: PathBuf,
    /// Detection.
    pub detect: detect::Settings,
    /// Recommendation.
    pub recommend: recommend::Settings,
    /// Admission.
    pub admit: admit::Settings,
    /// Policy.
    pub policy: policy::Settings,
    /// Alerts.
    pub alerts: crate::alerts::Settings,
    /// `recovery.preflight_every`: how often every binding is asked whether it would work; default 5 min.
    pub preflight_every: Duration,
    /// Bindings, checked against the known actions and the configured subsystems.
    pub bindings: Vec<execute::Binding>,
    /// How the bot is told of the policy.
    pub hooks: Vec<Arc<PolicyHook>>,
    /// Storage.
    pub storage: store::Settings,
    /// Healing of the workspace.
    pub heal: crate::workspace::Settings,
    /// HTTP.
    pub http: http::Settings,
    /// `metrics.textfile_dir`, absolute: a folder of `*.prom` files that the metrics page takes up; none by default.
    pub textfile_dir: Option<PathBuf>,
    /// All of it for people, in the shape of the file and without secrets.
    pub shown: Arc<serde_json::Value>,
}
