//! What chiron tells the bot and its operator through files: the policy, the report, operator alerts.
//!
//! In: finished documents. Out: files replaced atomically, and lines appended.
//! **Invariant:** nothing is decided here; a file that cannot be written is said and counted by the caller.
#![expect(clippy::disallowed_methods, reason = "publishing is writing files")]

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::{files, redact, tree};
use crate::model::{EpisodeId, Name, PointsReport, PolicyDocument, Reason, Report, RunKey, Severity, Timestamp};

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

/// Removes a policy file, if there is one; anything else of that name stays.
pub fn remove_policy(path: &Path) -> io::Result<()> {
    if last_policy(path).is_some() { std::fs::remove_file(path) } else { Ok(()) }
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

/// The log of what was done about failure points (WSP-7) in the log folder, what it was before it was rotated, and how far it
/// has come.
pub const HEALING_FILES: [&str; 3] =
    ["failure_point_healing.jsonl", "failure_point_healing.jsonl.1", "failure_point_healing.jsonl.mark"];

/// A step of healing what a failure point found (WSP-7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealingStep {
    /// An action is proposed that nobody but a person begins, or nothing is bound to, or is only rehearsed.
    Suggested,
    /// A person is asked to approve it.
    Asked,
    /// It has begun.
    Started,
    /// A connection was tried again.
    Retried,
    /// Files were brought back.
    Restored,
    /// The failure point no longer finds what it had found.
    Verified,
    /// The kill switch is seen released.
    Released,
    /// It did not help, was not begun, or nobody knows.
    Failed,
}

/// One line of `logs/failure_point_healing.jsonl` (WSP-7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointHealing {
    /// When.
    pub timestamp: Timestamp,
    /// Which failure point.
    pub category: Name,
    /// The symbol, if it is about one only.
    pub symbol: Option<Name>,
    /// The action, if the step is one's.
    pub action: Option<Name>,
    /// What has happened.
    pub step: HealingStep,
    /// One sentence.
    pub detail: String,
    /// The issue, if there is one.
    pub episode: Option<EpisodeId>,
    /// The run, if there is one.
    pub run: Option<RunKey>,
    /// The journal's entry that the line is made from, if it is from one: by it no line is written twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// The entry of the journal that a line was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMark {
    /// Its number.
    pub seq: u64,
    /// Its time, which tells one journal from another.
    pub timestamp: Timestamp,
}

/// Appends to the log of what was done about failure points; then notes beside it how far it has come, for when somebody else
/// moves the log away.
pub fn points_healing(path: &Path, line: &PointHealing) -> io::Result<()> {
    let line = PointHealing { detail: tree::redact(&redact::text(&line.detail)), ..line.clone() };
    files::append_line(path, &serde_json::to_string(&line)?, POINTS_MAX)?;
    if let Some(seq) = line.seq
        && let Err(error) = json(&beside(path, ".mark"), &LogMark { seq, timestamp: line.timestamp })
    {
        // The line itself says it as well, and would be told twice if this failed.
        tracing::debug!(path = %path.display(), "how far the log has come cannot be noted: {error}");
    }
    Ok(())
}

/// How far that log has come: by its latest line that was made from the journal, or, where none is left, by what was noted.
pub fn last_healing(path: &Path) -> Option<LogMark> {
    let of_log = [path.to_owned(), beside(path, ".1")].iter().find_map(|path| {
        let (bytes, _) = files::read_bounded(path, POINTS_MAX * 2).ok()?;
        let lines = bytes.rsplit(|byte| *byte == b'\n');
        let mut marks = lines.filter_map(|line| serde_json::from_slice::<PointHealing>(line).ok());
        marks.find_map(|line| Some(LogMark { seq: line.seq?, timestamp: line.timestamp }))
    });
    let noted = || {
        let (bytes, _) = files::read_bounded(&beside(path, ".mark"), POINTS_MAX).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    of_log.or_else(noted)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: Option<u64>, detail: &str) -> PointHealing {
        PointHealing {
            timestamp: Timestamp::from_millis(1_763_861_696_000),
            category: "network".into(),
            symbol: None,
            action: Some("retry_connection".into()),
            step: HealingStep::Retried,
            detail: detail.to_owned(),
            episode: Some("platform_20251123_013456".into()),
            run: "platform_20251123_013456/1/2".parse().ok(),
            seq,
        }
    }

    /// WSP-7: the shape of a line, which other people's scripts read; no secret gets into it.
    #[test]
    fn a_line_of_the_healing_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(HEALING_FILES[0]);
        points_healing(&path, &line(Some(7), "https://user:hunter2@host/x does not answer")).unwrap();
        points_healing(&path, &line(None, "two\nlines")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(
            lines[1],
            serde_json::json!({
                "timestamp": "2025-11-23T01:34:56Z", "category": "network", "symbol": null,
                "action": "retry_connection", "step": "retried", "detail": "two\nlines",
                "episode": "platform_20251123_013456", "run": "platform_20251123_013456/1/2",
            })
        );
    }

    /// WSP-7: the latest line from the journal is found behind others, behind a torn one, and in the file before rotation.
    #[test]
    fn where_the_log_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(HEALING_FILES[0]);
        assert_eq!(last_healing(&path), None);
        points_healing(&path, &line(None, "by a command")).unwrap();
        assert_eq!(last_healing(&path), None);
        for seq in [3, 9] {
            points_healing(&path, &line(Some(seq), "")).unwrap();
        }
        points_healing(&path, &line(None, "by a command")).unwrap();
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend(b"{\"timestamp\": \"20");
        std::fs::write(&path, torn).unwrap();
        assert_eq!(last_healing(&path).map(|mark| mark.seq), Some(9));
        std::fs::rename(&path, dir.path().join(HEALING_FILES[1])).unwrap();
        points_healing(&path, &line(None, "by a command")).unwrap();
        assert_eq!(last_healing(&path).map(|mark| mark.seq), Some(9));
        std::fs::remove_file(dir.path().join(HEALING_FILES[1])).unwrap();
        let noted = LogMark { seq: 9, timestamp: line(None, "").timestamp };
        assert_eq!(last_healing(&path), Some(noted), "somebody else has moved the log away");
    }
}
