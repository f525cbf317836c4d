//! What chiron tells the bot and its operator through files: the policy, the report, operator alerts.
//!
//! In: finished documents. Out: files replaced atomically, and lines appended.
//! **Invariant:** nothing is decided here; a file that cannot be written is said and counted by the caller.
#![expect(clippy::disallowed_methods, reason = "publishing is writing files")]

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::files;
use crate::model::{EpisodeId, Name, PointsReport, PolicyDocument, Reason, Report, Severity, Timestamp};

/// Largest log of operator alerts before it is rotated once.
const OPERATOR_ALERTS_MAX: u64 = 16 * 1024 * 1024;

/// Where a file goes: as configured, or into `fallback` if the configured folder is not there. chiron creates no folders
/// in a bot's workspace just to publish.
pub fn placed(configured: &Path, fallback: &Path) -> PathBuf {
    let has_folder = configured.parent().is_some_and(is_folder);
    match configured.file_name() {
        Some(name) if !has_folder => fallback.join(name),
        _ => configured.to_owned(),
    }
}

/// The usual name of the policy file.
pub const POLICY_FILE: &str = "safety_policy.json";

/// Whether there is such a folder.
pub fn is_folder(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Whether there is such a file.
pub fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file())
}

/// Makes chiron's own folder, for its owner only, if it is not there.
pub fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces the policy file.
pub fn policy(path: &Path, document: &PolicyDocument) -> io::Result<()> {
    json(path, document)
}

/// Replaces the report file.
pub fn report(path: &Path, report: &Report) -> io::Result<()> {
    json(path, report)
}

fn json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    files::write_atomic(path, &bytes)
}

/// The policy that an earlier process published: its sequence is never gone below, and its level is what was in force
/// should the journal be lost.
pub fn last_policy(path: &Path) -> Option<PolicyDocument> {
    let (bytes, _) = files::read_bounded(path, 1024 * 1024).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The files about failure points in the log folder: the log, what it was before it was rotated, and the latest.
pub const POINTS_FILES: [&str; 3] =
    ["failure_point_monitor.jsonl", "failure_point_monitor.jsonl.1", "failure_point_monitor_summary.json"];

/// Largest log of failure points before it is rotated once.
const POINTS_MAX: u64 = 16 * 1024 * 1024;

/// How the failure points are at one time (OBS-8).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointsRecord {
    /// When.
    pub timestamp: Timestamp,
    /// What they are.
    #[serde(flatten)]
    pub points: PointsReport,
}

/// Appends to the log of failure points.
pub fn points_line(path: &Path, record: &PointsRecord) -> io::Result<()> {
    files::append_line(path, &serde_json::to_string(record)?, POINTS_MAX)
}

/// Replaces the summary of failure points.
pub fn points_summary(path: &Path, record: &PointsRecord) -> io::Result<()> {
    json(path, record)
}

/// What a person has to see to (ACT-5); one line of `logs/operator_alerts.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperatorAlert {
    /// When.
    pub timestamp: Timestamp,
    /// The episode.
    pub issue_id: EpisodeId,
    /// The subsystem.
    pub subsystem: Name,
    /// How bad it is.
    pub severity: Severity,
    /// The issue in one line.
    pub description: String,
    /// Why a person is needed.
    pub reason: Reason,
    /// What to do.
    pub advice: String,
}

/// Appends an operator alert.
pub fn operator_alert(path: &Path, alert: &OperatorAlert) -> io::Result<()> {
    files::append_line(path, &serde_json::to_string(alert)?, OPERATOR_ALERTS_MAX)
}
