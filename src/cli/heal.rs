//! `chiron heal`: looks at a bot's workspace and puts right what may be put right, without a running chiron.
//!
//! In: the settings. Out: a [`HealingReport`], as a table or as JSON.
//! **Invariant:** decides nothing about the workspace; that is `workspace::engine`.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::output::{Console, Output, Tone, clean, count, toned, word};
use super::workspace::{Place, critical, lost, say, score, sentence, what};
use super::{CRITICAL, OK, SettingsArgs, WARNING};
use crate::base::files;
use crate::model::{ChangeState, FindingState, Healing, HealingEnd, HealingReport, HealingTrigger, Name};
use crate::workspace::{Request, accept_loss, heal, ledger, rollback};

/// How much of the list of users is read.
const USERS_MAX: u64 = 1 << 20;

/// Heal a bot's workspace now: folders, files, locks, heartbeats, configuration.
///
/// Without --mode nothing is changed: it only tells what it would do. No running chiron is needed.
///
/// Exit codes: 0 nothing critical and nothing failed, 1 something is deferred or only planned, 2 a critical finding stands
/// or something failed, 3 it could not be looked at, another chiron is at it, or a rollback was refused.
#[derive(Debug, Args)]
pub(super) struct HealArgs {
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
    /// Tell the healings that are kept, latest first; changes nothing.
    #[arg(long, conflicts_with_all = ["rollback", "dry_run"])]
    list: bool,
    /// Also heal what was undone by a rollback and has not changed since.
    #[arg(long, conflicts_with_all = ["list", "rollback"])]
    again: bool,
    /// Do without the records that a healing could not keep: they are no finding any more.
    #[arg(long, value_name = "ID", conflicts_with_all = ["list", "rollback", "again", "dry_run"])]
    accept_loss: Option<String>,
    /// With --accept-loss: why, for whoever asks later.
    #[arg(long, value_name = "TEXT", requires = "accept_loss")]
    reason: Option<String>,
    /// Undo an earlier healing, byte for byte; refused if what it changed has changed since.
    #[arg(long, value_name = "ID", conflicts_with = "dry_run")]
    rollback: Option<String>,
    /// With --rollback: also undo what has changed since; a copy of that is kept first.
    #[arg(long, requires = "rollback")]
    force: bool,
    /// How the answer is shown.
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table")]
    pub(super) output: Output,
}

/// Runs it.
pub(super) fn run(arguments: &HealArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let place = Place::of(&arguments.settings)?;
    if arguments.list {
        let mut healings = ledger::list(&place.heal)?;
        healings.reverse();
        list(&healings, console)?;
        return Ok(OK);
    }
    if let Some(id) = &arguments.rollback {
        let id = Name::from(id.as_str());
        let report =
            place.patiently(console.progress, || rollback(&place.heal, &id, arguments.force, None, &place.clock))?;
        undone(&place, &id, &report, console)?;
        return Ok(verdict_of_changes(&report));
    }
    if let Some(id) = &arguments.accept_loss {
        let id = Name::from(id.as_str());
        let reason = arguments.reason.clone().unwrap_or_default();
        let healing = place
            .patiently(console.progress, || accept_loss(&place.heal, &id, user(), reason.clone(), &place.clock))?;
        if console.output != Output::Table {
            return console.json(&serde_json::to_value(&healing)?).map(|()| OK).map_err(Into::into);
        }
        console.line(&format!("accepted: what healing {} has lost is no finding any more", clean(&id)))?;
        return Ok(OK);
    }
    if place.heal.mode.is_none() {
        say("warning: no mode was given, so nothing is changed; say --mode paper or --mode real to heal");
    }
    let request = Request { dry_run: place.is_dry(), again: arguments.again, ..Request::new(HealingTrigger::Command) };
    let report = place.patiently(console.progress, || heal(&place.heal, &request, &place.clock))?;
    place.tell_operator(&report);
    place.log_configuration(&report);
    told(&place, &report, console)?;
    Ok(verdict(&report))
}

/// Who runs chiron.
fn user() -> String {
    let id = rustix::process::getuid().as_raw();
    let users = files::read_start(Path::new("/etc/passwd"), USERS_MAX).map(|(bytes, _)| bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&users).into_owned();
    let name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("user {id}"))
}

/// The exit code of a rollback: what is wrong once it is undone is no fault of it.
fn verdict_of_changes(report: &HealingReport) -> u8 {
    let any = |state| report.changes.iter().any(|change| change.state == state);
    match (any(ChangeState::Failed), any(ChangeState::Deferred)) {
        (true, _) => CRITICAL,
        (false, true) => WARNING,
        (false, false) => OK,
    }
}

/// The exit code of a round.
fn verdict(report: &HealingReport) -> u8 {
    let waits = |state| matches!(state, FindingState::Deferred | FindingState::Planned);
    let change = |state| report.changes.iter().any(|change| change.state == state);
    if !report.success || report.critical > 0 || report.failed > 0 || change(ChangeState::Failed) {
        CRITICAL
    } else if report.findings.iter().any(|finding| waits(finding.state)) || change(ChangeState::Deferred) {
        WARNING
    } else {
        OK
    }
}

/// A round, for people or for programs.
fn told(place: &Place, report: &HealingReport, console: &mut Console<'_>) -> anyhow::Result<()> {
    if console.output != Output::Table {
        return Ok(console.json(&serde_json::to_value(report)?)?);
    }
    let folder = place.heal.workspace.display().to_string();
    let mode = place.heal.mode.map_or("no mode", |mode| mode.as_str());
    let dry = if report.dry_run { ", dry run: nothing was changed" } else { "" };
    let looked = count(usize::try_from(report.visited).unwrap_or(usize::MAX), "entry").replace("entrys", "entries");
    console.line(&clean(&format!("workspace {folder} ({mode}{dry}), {looked} in {} ms", report.duration_ms)))?;
    let of = |state| report.findings.iter().filter(|finding| finding.state == state).count();
    let counts = [
        ("healed", usize::try_from(report.healed).unwrap_or(usize::MAX), Some(Tone::Good)),
        ("planned", of(FindingState::Planned), Some(Tone::Warning)),
        ("deferred", of(FindingState::Deferred), Some(Tone::Warning)),
        ("failed", usize::try_from(report.failed).unwrap_or(usize::MAX), Some(Tone::Bad)),
        ("critical", usize::try_from(report.critical).unwrap_or(usize::MAX), Some(Tone::Worst)),
    ];
    let counts = counts.map(|(what, number, tone)| toned(&format!("{what} {number}"), tone.filter(|_| number > 0)));
    console.line(&format!("found {}: {}", report.findings.len(), counts.join(", ")))?;
    if let Some(id) = &report.id {
        console.line(&format!("healing {id}; to undo it: {}", clean(&place.command(&format!("--rollback {id}")))))?;
    }
    if !report.findings.is_empty() {
        let rows = report.findings.iter().map(|finding| {
            [
                toned(finding.state.as_str(), tone(finding.state)),
                word(finding.severity.as_str()),
                finding.code.as_str().to_owned(),
                clean(&finding.path),
                clean(&what(finding)),
            ]
        });
        console.line("")?;
        console.table(["STATE", "SEVERITY", "FINDING", "WHERE", "WHAT"], rows.collect())?;
    }
    if critical(report).next().is_some() {
        console.line("")?;
        console.line("critical, for a person:")?;
        for finding in critical(report) {
            console.line(&format!("  {}", toned(&clean(&sentence(finding)), Some(Tone::Worst))))?;
        }
    }
    if !report.diff.is_empty() {
        console.line("")?;
        for line in report.diff.lines() {
            let tone = match line.as_bytes() {
                [b'+', ..] => Some(Tone::Good),
                [b'-', ..] => Some(Tone::Bad),
                [b'@', ..] => Some(Tone::Unsure),
                _ => None,
            };
            console.line(&toned(line, tone))?;
        }
    }
    console.line("")?;
    let stats = &report.stats;
    console.line(&format!(
        "files_created {}, files_repaired {}, directories_created {}, heartbeats_reset {}, locks_cleared {}, orphans_killed {}",
        stats.files_created,
        stats.files_repaired,
        stats.directories_created,
        stats.heartbeats_reset,
        stats.locks_cleared,
        stats.orphans_killed
    ))?;
    let validation = &report.validation;
    console.line(&format!("score {}, {}", score(validation.score), word(validation.status.as_str())))?;
    for line in validation.parts.iter().flat_map(lost) {
        console.line(&format!("  {}", clean(&line)))?;
    }
    Ok(())
}

fn tone(state: FindingState) -> Option<Tone> {
    match state {
        FindingState::Healed => Some(Tone::Good),
        FindingState::Planned | FindingState::Deferred => Some(Tone::Warning),
        FindingState::Failed => Some(Tone::Bad),
        FindingState::Standing => None,
    }
}

/// A rollback, for people or for programs.
fn undone(place: &Place, id: &Name, report: &HealingReport, console: &mut Console<'_>) -> anyhow::Result<()> {
    if console.output != Output::Table {
        return Ok(console.json(&serde_json::to_value(report)?)?);
    }
    match &report.id {
        Some(by) => {
            console.line(&format!("undone: {}, by {by}", clean(id)))?;
            console.line(&format!("to heal again: {}", clean(&place.command("--again"))))?;
        }
        None if report.dry_run => console.line("nothing was changed: dry run")?,
        None => console.line(&format!("{}: there was nothing to undo", clean(id)))?,
    }
    if !report.changes.is_empty() {
        let rows = report.changes.iter().map(|change| {
            let state = match change.state {
                ChangeState::Planned => "planned",
                ChangeState::Applied => "applied",
                ChangeState::Deferred => "deferred",
                ChangeState::Failed => "failed",
                ChangeState::Abandoned => "abandoned",
            };
            [change.kind.as_str().to_owned(), state.to_owned(), clean(&change.path), clean(&change.detail)]
        });
        console.line("")?;
        console.table(["CHANGE", "STATE", "WHERE", "WHAT"], rows.collect())?;
    }
    Ok(())
}

/// The healings that are kept, for people or for programs.
fn list(healings: &[Healing], console: &mut Console<'_>) -> anyhow::Result<()> {
    if console.output != Output::Table {
        return Ok(console.json(&json!({ "healings": healings }))?);
    }
    if healings.is_empty() {
        return Ok(console.line("no healing is kept")?);
    }
    let mut rows = Vec::new();
    for healing in healings {
        let state = match (&healing.undone_by, healing.end) {
            (Some(by), _) => format!("undone by {by}"),
            (None, Some(_)) if healing.accepted.is_some() => {
                let by = healing.accepted.as_ref().map_or("", |accepted| accepted.by.as_str());
                format!("losses accepted by {by}")
            }
            (None, Some(HealingEnd::Finished)) => "finished".to_owned(),
            (None, Some(HealingEnd::Interrupted)) => "interrupted".to_owned(),
            (None, None) => "under way".to_owned(),
        };
        let undoes = healing.undoes.as_ref().map_or_else(String::new, |id| format!(" of {id}"));
        let by = healing.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
        let why = format!("{}{undoes}{by}", healing.trigger.as_str());
        let applied = healing.changes.iter().filter(|change| change.state == ChangeState::Applied);
        let paths: Vec<&str> = applied.map(|change| change.path.as_str()).collect();
        let mut what = paths.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        if paths.len() > 3 {
            what.push_str(&format!(" and {} more", paths.len() - 3));
        }
        let when = console.relative(Some(healing.at));
        rows.push([clean(&healing.id), when, clean(&why), clean(&state), clean(&what)]);
    }
    Ok(console.table(["HEALING", "WHEN", "WHY", "STATE", "CHANGED"], rows)?)
}
