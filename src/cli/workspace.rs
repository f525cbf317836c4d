//! What `heal` and `gate` share: the settings, one patient round of healing, alerts to the operator, and how it is told.
//!
//! **Invariant:** a dry run writes nothing here either; a finding is told to the operator once, for as long as it stands.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SettingsArgs;
use super::output::clean;
use crate::base::clock::Clock;
use crate::base::files;
use crate::config::load;
use crate::model::{
    FindingCode, FindingState, HealingReport, Name, PartScore, Reason, Severity, Timestamp, WORKSPACE, WorkspaceFinding,
};
use crate::publish::{self, HealingStep, OperatorAlert, PointHealing};
use crate::workspace::{Error, ErrorKind, Settings};

/// How long a round waits for another chiron that heals the same workspace at this moment; a round takes
/// milliseconds, or two seconds if it looks twice.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Records that are named on one line for people; JSON has all.
const RECORDS_SHOWN: usize = 10;

/// Largest list of what was told that is read.
const TOLD_MAX: u64 = 4 * 1024 * 1024;

/// What the two commands need of the settings.
pub(super) struct Place {
    /// How the workspace is healed.
    pub(super) heal: Settings,
    /// Where alerts to the operator go.
    log_dir: PathBuf,
    /// The file of the settings, if there is one, to repeat it in a command.
    config_file: Option<PathBuf>,
    /// The clock.
    pub(super) clock: Clock,
}

impl Place {
    /// Reads the settings.
    pub(super) fn of(arguments: &SettingsArgs) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let loaded = load(&arguments.inputs(), clock.clone()).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(lines.join("\n"))
        })?;
        let (heal, log_dir) = (loaded.settings.heal.clone(), loaded.settings.log_dir.clone());
        Ok(Self { heal, log_dir, config_file: arguments.config_file.clone(), clock })
    }

    /// Whether nothing is acted upon.
    pub(super) fn is_dry(&self) -> bool {
        self.heal.dry_run || self.heal.mode.is_none()
    }

    /// `chiron heal ...` for this workspace.
    pub(super) fn command(&self, more: &str) -> String {
        let mut command = "chiron heal".to_owned();
        if let Some(file) = &self.config_file {
            command.push_str(&format!(" --config.file {}", quoted(file)));
        }
        command.push_str(&format!(" --workspace {}", quoted(&self.heal.workspace)));
        if let Some(mode) = self.heal.mode {
            command.push_str(&format!(" --mode {}", mode.as_str()));
        }
        format!("{command} {more}")
    }

    /// Does `work` with this workspace, and again for a moment while another chiron is at it. On a terminal it shows that
    /// it takes its time.
    pub(super) fn patiently<T: Send>(
        &self,
        progress: bool,
        work: impl Fn() -> Result<T, Error> + Sync,
    ) -> Result<T, Error> {
        let begun = self.clock.since_boot();
        let round = || loop {
            match work() {
                Err(error) if error.kind == ErrorKind::Busy && self.clock.since_boot() - begun < PATIENCE => {
                    std::thread::sleep(LOOK);
                }
                other => return other,
            }
        };
        if !progress {
            return round();
        }
        let (done, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                let result = round();
                drop(done);
                result
            });
            let mut shown = false;
            while ended.recv_timeout(Duration::from_millis(500)) == Err(mpsc::RecvTimeoutError::Timeout) {
                shown = true;
                let seconds = (self.clock.since_boot() - begun).as_secs();
                let _ = write!(io::stderr(), "\r\x1b[Klooking at the workspace ... {seconds} s");
                let _ = io::stderr().flush();
            }
            if shown {
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Tells the operator of each critical finding that was not told since it stands. What cannot be written is said.
    pub(super) fn tell_operator(&self, report: &HealingReport) {
        if report.dry_run {
            return;
        }
        let (state, log) = (&self.heal.state_dir, self.log_dir.join("operator_alerts.jsonl"));
        let critical: Vec<_> = critical(report).collect();
        if let Err(error) = tell(&critical, state, &publish::placed(&log, state), report.timestamp) {
            say(&format!("warning: the operator was not told in `{}`: {error}", log.display()));
        }
    }

    /// Logs what became of configuration files (WSP-7). What cannot be written is said.
    pub(super) fn log_configuration(&self, report: &HealingReport) {
        let log = publish::placed(&self.log_dir.join(publish::HEALING_FILES[0]), &self.heal.state_dir);
        let lines = report.findings.iter().filter_map(|finding| restored(finding, report.timestamp));
        for line in lines.filter(|_| !report.dry_run) {
            if let Err(error) = publish::points_healing(&log, &line) {
                say(&format!(
                    "warning: what became of a configuration file was not logged in `{}`: {error}",
                    log.display()
                ));
            }
        }
    }
}

/// The line that a finding of a configuration file is worth: it came back, or could not.
fn restored(finding: &WorkspaceFinding, now: Timestamp) -> Option<PointHealing> {
    let is_config = matches!(finding.code, FindingCode::ConfigMissing | FindingCode::ConfigInvalid);
    let step = match finding.state {
        FindingState::Healed => HealingStep::Restored,
        FindingState::Failed => HealingStep::Failed,
        // Nobody has said what would stand there, and the bot does not start without it.
        FindingState::Standing if finding.severity >= Severity::High => HealingStep::Failed,
        FindingState::Standing | FindingState::Planned | FindingState::Deferred => return None,
    };
    is_config.then(|| PointHealing {
        timestamp: now,
        category: Name::from("configuration"),
        symbol: None,
        action: None,
        step,
        detail: format!("{}: {}", finding.path, what(finding)),
        episode: None,
        run: None,
        seq: None,
    })
}

/// What was told to the operator and still stands, in chiron's own folder.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Told {
    told: BTreeSet<String>,
}

fn tell(critical: &[&WorkspaceFinding], state: &Path, log: &Path, now: Timestamp) -> io::Result<()> {
    let path = state.join("operator_alerts_told.json");
    let before: Told = files::read_bounded(&path, TOLD_MAX)
        .ok()
        .and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let mut standing = Told::default();
    for finding in critical {
        let mark = format!("{} {} {}", finding.code.as_str(), finding.path, finding.records.join(","));
        if !standing.told.insert(mark.clone()) || before.told.contains(&mark) {
            continue;
        }
        publish::make_folder(state)?;
        publish::operator_alert(log, &alert(finding, now))?;
    }
    if standing == before {
        return Ok(());
    }
    publish::make_folder(state)?;
    files::write_atomic(&path, &serde_json::to_vec(&standing)?)
}

fn alert(finding: &WorkspaceFinding, now: Timestamp) -> OperatorAlert {
    let moment = now.to_datetime().format("%Y%m%d_%H%M%S");
    OperatorAlert {
        timestamp: now,
        issue_id: Name::from(format!("{WORKSPACE}_{moment}")),
        subsystem: Name::from(WORKSPACE),
        severity: finding.severity,
        description: sentence(finding),
        reason: Reason::Manual,
        advice: if finding.code == FindingCode::RecordsLost {
            "compare the file with its backup and with the exchange; then undo the healing, or accept the loss with \
             `chiron heal --accept-loss`"
                .to_owned()
        } else if finding.code.is_dangerous() {
            "look at these records and put them right by hand; chiron never writes files with such findings".to_owned()
        } else {
            "look at it and put it right by hand; `chiron heal --list` tells what was changed, and a rollback undoes it"
                .to_owned()
        },
    }
}

/// The critical findings of a round.
pub(super) fn critical(report: &HealingReport) -> impl Iterator<Item = &WorkspaceFinding> {
    report.findings.iter().filter(|finding| finding.severity == Severity::Critical)
}

/// `STATE_MISMATCH in logs/positions_futures.json: 2 positions ... (p-1, p-2)`.
pub(super) fn sentence(finding: &WorkspaceFinding) -> String {
    format!("{} in {}: {}", finding.code.as_str().to_uppercase(), finding.path, what(finding))
}

/// What was found, why it is as it is now, and the records it is about.
pub(super) fn what(finding: &WorkspaceFinding) -> String {
    let mut text = finding.description.clone();
    if !finding.detail.is_empty() {
        text.push_str(&format!("; {}", finding.detail));
    }
    let (shown, more) = finding.records.split_at(finding.records.len().min(RECORDS_SHOWN));
    if !shown.is_empty() {
        text.push_str(&format!(" ({}", shown.join(", ")));
        if !more.is_empty() {
            text.push_str(&format!(" and {} more", more.len()));
        }
        text.push(')');
    }
    text
}

/// The score in as few digits as tell it.
pub(super) fn score(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// What a part of the validation has lost, a line for each problem.
pub(super) fn lost(part: &PartScore) -> Vec<String> {
    let begins = format!("{} {}", part.part.as_str(), score(part.score));
    if part.problems.is_empty() {
        return if part.score < 100.0 || part.critical { vec![begins] } else { Vec::new() };
    }
    part.problems.iter().map(|problem| format!("{begins}: {problem}")).collect()
}

/// One line on stderr.
pub(super) fn say(text: &str) {
    eprintln!("chiron: {}", clean(text));
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(code: FindingCode, records: &[&str]) -> WorkspaceFinding {
        WorkspaceFinding {
            code,
            severity: Severity::Critical,
            path: "logs/positions_futures.json".to_owned(),
            description: "found something".to_owned(),
            records: records.iter().map(|record| (*record).to_owned()).collect(),
            state: FindingState::Standing,
            detail: String::new(),
        }
    }

    /// WSP-3: a critical finding is told once for as long as it stands, and anew once it has come back; told again after
    /// nothing changed, not a byte is written.
    #[test]
    fn the_operator_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let (state, log) = (folder.path().join(".chiron"), folder.path().join("operator_alerts.jsonl"));
        let lines =
            || files::read_bounded(&log, 1 << 20).map_or(0, |(bytes, _)| bytes.split(|b| *b == b'\n').count() - 1);
        let conflict = finding(FindingCode::PositionConflict, &["p-1", "p-2"]);
        let other = finding(FindingCode::PositionConflict, &["p-1", "p-3"]);
        let timeline: [(&[&WorkspaceFinding], usize); 7] = [
            (&[], 0),
            (&[&conflict], 1),
            (&[&conflict], 1),
            (&[&conflict, &other], 2),
            (&[&other], 2),
            (&[&conflict, &other], 3),
            (&[], 3),
        ];
        for (found, expected) in timeline {
            tell(found, &state, &log, Timestamp::from_millis(1_763_861_696_000)).expect("it is written");
            assert_eq!(lines(), expected, "{found:?}");
        }
        let (bytes, _) = files::read_bounded(&log, 1 << 20).expect("it is there");
        let first: serde_json::Value =
            serde_json::Deserializer::from_slice(&bytes).into_iter().next().expect("a line").expect("JSON");
        assert_eq!(
            first["description"],
            "POSITION_CONFLICT in logs/positions_futures.json: found something (p-1, p-2)"
        );
        assert_eq!((&first["subsystem"], &first["severity"]), (&"workspace".into(), &"critical".into()));
        assert_eq!(first["issue_id"], "workspace_20251123_013456");
    }

    #[test]
    fn what_is_told_fits_a_line_and_a_shell() {
        let records: Vec<String> = (0..12).map(|number| format!("p-{number}")).collect();
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        assert!(what(&finding(FindingCode::DataIntegrity, &records)).ends_with("p-8, p-9 and 2 more)"));
        assert_eq!([score(100.0), score(87.25), score(0.0)], ["100", "87.2", "0"]);
        let paths = [("/srv/bot", "/srv/bot"), ("/srv/my bot", "'/srv/my bot'"), ("/a'b", r"'/a'\''b'")];
        for (path, expected) in paths {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
