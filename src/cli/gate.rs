//! `chiron gate -- COMMAND`: heals a workspace, asks whether a bot may start in it, and becomes the bot (WSP-5).
//!
//! In: the settings and a [`HealingReport`]. Out: the command in chiron's place, or the reasons why not.
//! **Invariant:** [`decide`] alone opens or closes; a command is never a child: it has chiron's process id, and every signal,
//! descriptor and exit code is its own.
#![expect(clippy::disallowed_methods, reason = "the command takes this process over; it is no child of chiron's")]

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output::{Console, Output, clean};
use super::workspace::{Place, critical, lost, say, score, sentence};
use super::{CRITICAL, OK, SettingsArgs, UNKNOWN};
use crate::base::tree::parse_duration;
use crate::model::{FindingState, HealingReport, HealingTrigger, Mode, Status};
use crate::workspace::{Request, heal};

/// Below this score a bot does not start with real money (WSP-5).
const SCORE_MIN: f64 = 50.0;

/// How often a closed gate is looked at again; a workspace that takes long to look at is looked at less often.
const AGAIN: Duration = Duration::from_secs(1);

/// Longest `--wait`.
const WAIT_MAX: Duration = Duration::from_secs(31 * 86_400);

/// The exit code of a command that is not there, as of a shell.
const NOT_FOUND: u8 = 127;
/// The exit code of a command that cannot be executed, as of a shell.
const NOT_EXECUTABLE: u8 = 126;

/// Start a bot if its workspace is fit for it: heal, validate, then become COMMAND.
///
/// With --mode paper it always opens, and says what is wrong. With --mode real it opens only if the score is at least 50,
/// the status is not critical and no finding is critical. COMMAND takes the place of this process: its process id,
/// signals, exit code, standard streams, folder and environment are the command's own. Without COMMAND it only answers,
/// as the ExecCondition of a systemd unit wants it.
///
/// Exit codes: 0 open (without COMMAND), 2 closed, 3 it could not be looked at, wrong arguments or settings;
/// 126 COMMAND cannot be executed, 127 it is not there; else those of COMMAND. SIGTERM ends the waiting at once (143).
#[derive(Debug, Args)]
pub(super) struct GateArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// While it is closed, heal and look again for so long, such as 30s or 10m.
    #[arg(long, value_name = "DURATION", value_parser = wait)]
    wait: Option<Duration>,
    /// Change nothing: only look.
    #[arg(long)]
    no_heal: bool,
    /// How the answer is shown; on stderr if there is a COMMAND.
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table")]
    pub(super) output: Output,
    /// What to start, with its arguments, after `--`.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn wait(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration such as 30s or 10m, at most 31d";
    parse_duration(text).filter(|span| *span <= WAIT_MAX).ok_or_else(|| expected.to_owned())
}

/// Whether a bot may start.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    is_open: bool,
    /// Why it is closed; in paper mode why it would be with real money.
    reasons: Vec<String>,
    /// What else is wrong.
    notes: Vec<String>,
}

/// The rule of WSP-5.
fn decide(mode: Mode, report: &HealingReport) -> Answer {
    let validation = &report.validation;
    let mut reasons: Vec<String> = critical(report).map(sentence).collect();
    if reasons.is_empty() && report.critical > 0 {
        reasons.push(format!("{} critical findings", report.critical));
    }
    let is_low = validation.score.is_nan() || validation.score < SCORE_MIN;
    if is_low {
        reasons.push(format!("the score is {}, expected at least {}", score(validation.score), score(SCORE_MIN)));
    }
    if matches!(validation.status, Status::Critical | Status::Failed) {
        reasons.push(format!("the status is {}", validation.status.as_str()));
    }
    let is_fit = reasons.is_empty();
    let mut notes: Vec<String> = validation.parts.iter().flat_map(lost).collect();
    let open = |state| matches!(state, FindingState::Failed | FindingState::Deferred | FindingState::Planned);
    let others = report.findings.iter().filter(|finding| open(finding.state));
    let others = others.filter(|one| critical(report).all(|critical| !std::ptr::eq(critical, *one)));
    notes.extend(others.map(|finding| format!("{}: {}", finding.state.as_str(), sentence(finding))));
    Answer { is_open: is_fit || mode == Mode::Paper, reasons, notes }
}

/// Runs it; returns only if the command does not take over.
pub(super) fn run(arguments: &GateArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let place = Place::of(&arguments.settings)?;
    let Some(mode) = place.heal.mode else {
        anyhow::bail!(
            "no mode was given, expected --mode paper or --mode real (or `mode:` in the settings): without it nobody knows whether money is at stake"
        );
    };
    let dry_run = arguments.no_heal || place.is_dry();
    let request = Request { dry_run, ..Request::new(HealingTrigger::Gate) };
    let begun = place.clock.since_boot();
    let mut said = None;
    loop {
        let looked = place.clock.since_boot();
        let result = place.patiently(console.progress, || heal(&place.heal, &request, &place.clock));
        let code = match &result {
            Ok(report) => {
                place.tell_operator(report);
                let answer = decide(mode, report);
                if said.as_ref() != Some(&answer) {
                    tell(&answer, mode, report, arguments, console)?;
                }
                let open = answer.is_open;
                said = Some(answer);
                if open { OK } else { CRITICAL }
            }
            Err(error) => {
                let error = error_line(error);
                let open = mode == Mode::Paper;
                let answer = Answer { is_open: open, reasons: vec![error.clone()], notes: Vec::new() };
                if said.as_ref() != Some(&answer) {
                    let is = if open { "open all the same, in mode paper" } else { "closed, in mode real" };
                    say(&format!("gate {is}: the workspace could not be looked at: {error}"));
                }
                said = Some(answer);
                if open { OK } else { UNKNOWN }
            }
        };
        if code == OK {
            return start(arguments, console);
        }
        let passed = place.clock.since_boot().saturating_sub(begun);
        let Some(left) = arguments.wait.unwrap_or_default().checked_sub(passed).filter(|left| !left.is_zero()) else {
            return Ok(code);
        };
        let took = place.clock.since_boot().saturating_sub(looked);
        std::thread::sleep(AGAIN.max(took * 4).min(left));
    }
}

fn error_line(error: &crate::workspace::Error) -> String {
    match &error.source {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Tells what was decided: on stdout, or on stderr if stdout is the command's.
fn tell(
    answer: &Answer,
    mode: Mode,
    report: &HealingReport,
    arguments: &GateArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    if arguments.output == Output::Table {
        let (score, status) = (score(report.validation.score), report.validation.status.as_str());
        let word = match (answer.is_open, answer.reasons.is_empty()) {
            (true, true) => "open",
            (true, false) => "open, but real money would not be let in",
            (false, _) => "closed",
        };
        let mode = mode.as_str();
        lines.push(format!("gate {word}: mode {mode}, score {score}, {status}, healed {}", report.healed));
        lines.extend(answer.reasons.iter().map(|reason| format!("  because {reason}")));
        lines.extend(answer.notes.iter().map(|note| format!("  {note}")));
    } else {
        let document = json!({
            "open": answer.is_open,
            "mode": mode.as_str(),
            "reasons": answer.reasons,
            "healing": report,
        });
        lines.push(serde_json::to_string(&document)?);
    }
    for line in lines {
        if arguments.command.is_empty() {
            console.line(&clean(&line))?;
        } else {
            writeln!(io::stderr(), "{}", clean(&line))?;
        }
    }
    Ok(())
}

/// Becomes the command. Descriptors of chiron's own close by themselves, and the signals are as they were found.
fn start(arguments: &GateArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let Some((program, rest)) = arguments.command.split_first() else { return Ok(OK) };
    console.out.flush()?;
    let error = Command::new(program).args(rest).exec();
    let (code, why) = refused(Path::new(program), &error);
    say(&why);
    Ok(code)
}

/// Why a command did not start, and its exit code.
fn refused(program: &Path, error: &io::Error) -> (u8, String) {
    let name = program.display();
    let has_folder = program.components().count() > 1;
    match error.kind() {
        io::ErrorKind::NotFound if has_folder && program.exists() => (
            NOT_EXECUTABLE,
            format!("`{name}` cannot be executed: the interpreter of its first line, or its loader, is missing"),
        ),
        io::ErrorKind::NotFound if has_folder => {
            (NOT_FOUND, format!("`{name}` is not there, expected a command to start"))
        }
        io::ErrorKind::NotFound => {
            (NOT_FOUND, format!("`{name}` was found in no folder of PATH, expected a command to start"))
        }
        _ => (NOT_EXECUTABLE, format!("`{name}` cannot be executed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        FindingCode, HealingStats, PartScore, Severity, Timestamp, Validation, ValidationPart, WorkspaceFinding,
    };

    fn report(score: f64, status: Status, findings: &[(FindingCode, Severity, FindingState)]) -> HealingReport {
        let findings: Vec<WorkspaceFinding> = findings
            .iter()
            .map(|(code, severity, state)| WorkspaceFinding {
                code: *code,
                severity: *severity,
                path: "logs/x.json".to_owned(),
                description: "found".to_owned(),
                records: vec!["p-1".to_owned()],
                state: *state,
                detail: String::new(),
            })
            .collect();
        HealingReport {
            id: None,
            timestamp: Timestamp::EPOCH,
            trigger: HealingTrigger::Gate,
            dry_run: false,
            success: true,
            healed: 0,
            failed: 0,
            critical: findings.iter().filter(|finding| finding.severity == Severity::Critical).count() as u64,
            stats: HealingStats::default(),
            findings,
            changes: Vec::new(),
            diff: String::new(),
            validation: Validation {
                score,
                status,
                parts: vec![PartScore {
                    part: ValidationPart::Structure,
                    score,
                    critical: false,
                    problems: if score < 100.0 { vec!["no `x`".to_owned()] } else { Vec::new() },
                }],
            },
            visited: 0,
            duration_ms: 0,
        }
    }

    /// WSP-5: paper always; real only with a score of at least 50, a status that is not critical, and nothing critical.
    #[test]
    fn who_may_start() {
        use FindingCode::{FileMissing, PositionConflict};
        use FindingState::{Failed, Healed, Standing};
        let critical = (PositionConflict, Severity::Critical, Standing);
        let table: [(f64, Status, &[_], bool); 10] = [
            (100.0, Status::Healthy, &[], true),
            (50.0, Status::Degraded, &[], true),
            (49.99, Status::Degraded, &[], false),
            (f64::NAN, Status::Degraded, &[], false),
            (100.0, Status::Critical, &[], false),
            (100.0, Status::Failed, &[], false),
            (100.0, Status::Healthy, &[critical], false),
            (100.0, Status::Healthy, &[(FileMissing, Severity::Critical, Failed)], false),
            (80.0, Status::Degraded, &[(FileMissing, Severity::High, Healed)], true),
            (80.0, Status::Degraded, &[(FileMissing, Severity::High, Failed)], true),
        ];
        for (score, status, findings, expected) in table {
            let report = report(score, status, findings);
            let real = decide(Mode::Real, &report);
            assert_eq!(real.is_open, expected, "{score} {status:?} {findings:?}: {real:?}");
            assert_eq!(real.is_open, real.reasons.is_empty());
            assert!(decide(Mode::Paper, &report).is_open);
        }
        let closed = decide(Mode::Real, &report(20.0, Status::Critical, &[critical]));
        assert_eq!(
            closed.reasons,
            [
                "POSITION_CONFLICT in logs/x.json: found (p-1)",
                "the score is 20, expected at least 50",
                "the status is critical"
            ]
        );
        assert_eq!(closed.notes, ["structure 20: no `x`"]);
    }

    #[test]
    fn a_wait_is_a_duration() {
        assert_eq!(wait("90s"), Ok(Duration::from_secs(90)));
        assert!(wait("32d").is_err() && wait("soon").is_err());
    }
}
