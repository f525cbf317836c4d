//! A round of healing, in order: settle what a crash left, scan, find, plan, journal, back up, apply, look again.
//!
//! **Invariant:** every step towards the workspace is durable in the ledger before it is taken. Blocking: keep it off the
//! async threads.

mod memory;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use self::memory::Memory;

use super::apply::Step;
use super::apply::transaction::Transaction;
use super::backup::Backups;
use super::layout::RelPath;
use super::ledger::folder::Folder;
use super::ledger::record::{Line, ProcessId};
use super::ledger::{self, Ledger, retention, settle, unknown};
pub use super::plan::Scope;
use super::plan::{Change, Plan, Remedy};
use super::root::{Kind, Root, Trouble, sha256};
use super::scan::{Entry, Scan};
use super::{Error, ErrorKind, Settings, plan, rollback as undo, scan, validation};
use crate::base::clock::Clock;
use crate::base::redact;
use crate::model::{
    Acceptance, ChangeKind, ChangeRecord, ChangeState, FindingCode, FindingState, Healing, HealingReport, HealingStats,
    HealingTrigger, Mode, Name, Severity, Timestamp, WorkspaceFinding,
};

/// Why a round is made.
#[derive(Clone, Debug)]
pub struct Request {
    /// Why.
    pub trigger: HealingTrigger,
    /// Who asked, if a person did.
    pub by: Option<String>,
    /// Plan only, whatever the settings say.
    pub dry_run: bool,
    /// What the round is about; `None`: everything.
    pub only: Option<Scope>,
    /// Also heals what a person has undone.
    pub again: bool,
}

impl Request {
    /// A round about everything.
    pub const fn new(trigger: HealingTrigger) -> Self {
        Self { trigger, by: None, dry_run: false, only: None, again: false }
    }

    /// Whether nobody stands there: then a configuration file that is broken may be one that somebody is editing.
    const fn is_unattended(&self) -> bool {
        matches!(self.trigger, HealingTrigger::Start | HealingTrigger::Schedule)
    }
}

/// How long a configuration file must have been broken or missing before a round that nobody asked for restores it, if
/// `heal.quiet` is not longer: whoever edits it saves it half done now and then.
pub const CONFIG_REST: Duration = Duration::from_secs(120);

/// A file with positions or trades that is missing from a folder which changed within this time may be on its way to its
/// place: a scheduled round looks twice.
const FRESH: Duration = Duration::from_secs(60);

/// The longest time between those two looks.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// One round.
pub fn heal(settings: &Settings, request: &Request, clock: &Clock) -> Result<HealingReport, Error> {
    Round { settings, clock, planner: &planner(settings), hook: &|_| {} }.heal(request)
}

/// Undoes the healing `id`. With `force`, also what has changed since (it is backed up first).
pub fn rollback(
    settings: &Settings,
    id: &Name,
    force: bool,
    by: Option<String>,
    clock: &Clock,
) -> Result<HealingReport, Error> {
    Round { settings, clock, planner: &planner(settings), hook: &|_| {} }.rollback(id, force, by)
}

/// A person does without the records that the healing `id` could not keep; what it has lost is no finding any more.
pub fn accept_loss(
    settings: &Settings,
    id: &Name,
    by: String,
    reason: String,
    clock: &Clock,
) -> Result<Healing, Error> {
    let settled = |why: &str| Err(Error::new(ErrorKind::Settled, format!("healing `{id}` {why}")));
    let root = Root::open(&settings.workspace)?;
    let round = Round { settings, clock, planner: &planner(settings), hook: &|_| {} };
    let held = round.hold(&root).map_err(|refused| refused.error)?.ok_or_else(|| unknown(id))?;
    let (stored, undone_by) = held.ledger.find(id)?;
    if stored.losses().next().is_none() {
        return settled("has lost no records, so there is nothing to accept");
    }
    if let Some(by) = undone_by {
        return settled(&format!("has been undone by `{by}`, so nothing is lost"));
    }
    if stored.accepted.is_some() {
        return settled("has been accepted already");
    }
    held.ledger.resume(id)?.write(&Line::Accepted(Acceptance { at: clock.now(), by, reason }))?;
    ledger::read(settings, id)
}

/// What a look is for.
struct Look<'a> {
    now: Timestamp,
    request: &'a Request,
    memory: &'a Memory,
}

/// What a scan shows, and what to do about it.
type Planner<'a> = dyn Fn(&Root, &Look<'_>) -> Result<(Scan, Plan), Error> + 'a;

fn planner(settings: &Settings) -> impl Fn(&Root, &Look<'_>) -> Result<(Scan, Plan), Error> {
    move |root, look| {
        let scanned = scan::scan(root, settings, look.now)?;
        let at = memory::circumstances(root, settings, &scanned, look);
        let plan = plan::plan(&settings.layout, &scanned, &at);
        Ok((scanned, plan))
    }
}

/// A round under way.
struct Round<'a> {
    settings: &'a Settings,
    clock: &'a Clock,
    planner: &'a Planner<'a>,
    /// Called at each step by its name; a test does there what a bot might.
    hook: &'a dyn Fn(&str),
}

/// The folder of healings and copies, open and locked.
struct Held {
    ledger: Ledger,
    backups: Backups,
}

/// Why nothing can be written, or told of earlier healings.
struct Refused {
    error: Error,
    /// What may be wrong without being seen.
    severity: Severity,
}

impl Refused {
    fn high(error: Error) -> Self {
        Self { error, severity: Severity::High }
    }

    fn critical(error: Error) -> Self {
        Self { error, severity: Severity::Critical }
    }

    fn why(&self) -> String {
        let text = match &self.error.source {
            Some(source) => format!("{}: {source}", self.error),
            None => self.error.to_string(),
        };
        redact::line(&text, 400)
    }

    fn finding(&self, settings: &Settings) -> WorkspaceFinding {
        let below = settings.state_dir.strip_prefix(&settings.workspace).unwrap_or(&settings.state_dir);
        WorkspaceFinding {
            code: FindingCode::Inaccessible,
            severity: self.severity,
            path: below.display().to_string(),
            description: format!("chiron's own folder cannot be used: {}", self.why()),
            records: Vec::new(),
            state: FindingState::Standing,
            detail: "without it nothing is changed; it is to belong to the user chiron runs as".to_owned(),
        }
    }
}

impl Round<'_> {
    fn heal(&self, request: &Request) -> Result<HealingReport, Error> {
        let begun = self.clock.since_boot();
        let now = self.clock.now();
        let root = Root::open(&self.settings.workspace)?;
        let dry_run = request.dry_run || self.settings.dry_run || self.settings.mode.is_none();
        let mut refused = None;
        let mut held = None;
        if !dry_run {
            match self.hold(&root) {
                Ok(found) => held = found,
                Err(busy) if busy.error.kind == ErrorKind::Busy => return Err(busy.error),
                Err(other) => refused = Some(other),
            }
        }
        let memory = Memory::read(self.settings, &root).unwrap_or_else(|error| {
            // What earlier healings have lost is not known then, so it is not known that nothing is.
            refused = Some(Refused::critical(error));
            Memory::default()
        });
        let look = Look { now, request, memory: &memory };
        let (mut scanned, mut plan) = (self.planner)(&root, &look)?;
        if !dry_run && request.trigger == HealingTrigger::Schedule && self.is_fresh(&root, &plan, now) {
            (self.hook)("second_look");
            std::thread::sleep(self.settings.quiet.min(SECOND_LOOK));
            (scanned, plan) = (self.planner)(&root, &look)?;
        }
        let mut report = self.blank(request.trigger, dry_run, now);
        let mut losses = memory.losses();
        if dry_run {
            report.diff = plan::diff(&plan, &scanned);
            report.changes = plan.changes.iter().map(planned_record).collect();
        } else {
            let layout = &self.settings.layout;
            let has_notes = !plan.keep.is_empty() || memory.had_records(layout, &scanned) != memory.had_records;
            if held.is_none() && refused.is_none() && (has_notes || !plan.changes.is_empty()) {
                match self.hold_new(&root) {
                    Ok(made) => held = Some(made),
                    Err(busy) if busy.error.kind == ErrorKind::Busy => return Err(busy.error),
                    Err(other) => refused = Some(other),
                }
            }
            if let Some(held) = &held {
                self.keep_good(held, &plan, &scanned);
            }
            let applied = match &held {
                Some(held) if !plan.changes.is_empty() => match self.apply(&root, held, request, &plan) {
                    Ok(outcome) => {
                        report.id = Some(outcome.id);
                        Some(outcome.changes)
                    }
                    Err(error) => {
                        refused = Some(Refused::high(error));
                        None
                    }
                },
                _ => None,
            };
            if !plan.changes.is_empty() {
                let why = refused.as_ref().map(Refused::why).unwrap_or_default();
                report.changes =
                    applied.unwrap_or_else(|| plan.changes.iter().map(|it| found_out(&root, it, &why)).collect());
                report.stats = stats(&report.changes);
                settle_findings(&mut plan, &report.changes, report.id.as_ref());
                let memory = Memory::read(self.settings, &root).unwrap_or_default();
                let look = Look { now: self.clock.now(), request, memory: &memory };
                let (again, mut fresh) = (self.planner)(&root, &look)?;
                // What was restored or repaired may be good by now.
                if let Some(held) = &held {
                    self.keep_good(held, &fresh, &again);
                }
                // What is lost by a change is told by the ledger from now on, and what was not changed is not lost.
                let changed: BTreeSet<&str> = report.changes.iter().map(|change| change.path.as_str()).collect();
                let stays = |finding: &WorkspaceFinding| {
                    finding.code != FindingCode::RecordsLost || !changed.contains(finding.path.as_str())
                };
                plan.findings.retain(stays);
                fresh.findings.retain(stays);
                losses = memory.losses();
                join(&mut plan.findings, fresh.findings);
                let visited = scanned.visited;
                scanned = again;
                scanned.visited = scanned.visited.max(visited);
            }
            if let Some(held) = &held {
                let seen = memory.had_records(layout, &scanned);
                if seen != memory.had_records {
                    memory::note(&held.ledger.state, &seen);
                }
                self.expire(held, now, !plan.changes.is_empty());
            }
        }
        add_losses(&mut plan.findings, losses);
        plan.findings.extend(refused.map(|refused| refused.finding(self.settings)));
        self.fill(&mut report, plan.findings, &scanned);
        report.success = report.critical == 0 && report.failed == 0;
        report.duration_ms = millis(self.clock.since_boot().saturating_sub(begun));
        Ok(report)
    }

    /// Whether a file with positions or trades is to be made from nothing in a folder that changed just now: the bot may be
    /// about to put it there.
    fn is_fresh(&self, root: &Root, plan: &Plan, now: Timestamp) -> bool {
        let is_money =
            |path: &RelPath| self.settings.layout.file(path.as_str()).is_some_and(|spec| spec.role.holds_money());
        let made = plan.changes.iter().filter(|change| matches!(change.remedy, Remedy::CreateFile(_)));
        let mut since =
            made.filter_map(|change| change.path.as_ref()).filter(|path| is_money(path)).filter_map(|path| {
                let changed = memory::folder_changed(root, path.parent().as_ref())?;
                Some(i128::from(now.millis()) * 1_000_000 - changed)
            });
        let fresh = i128::try_from(FRESH.as_nanos()).unwrap_or(i128::MAX);
        since.any(|rested| rested < fresh)
    }

    fn rollback(&self, id: &Name, force: bool, by: Option<String>) -> Result<HealingReport, Error> {
        let begun = self.clock.since_boot();
        let now = self.clock.now();
        let root = Root::open(&self.settings.workspace)?;
        let dry_run = self.settings.dry_run;
        let mut report = self.blank(HealingTrigger::Rollback, dry_run, now);
        let undoing;
        if dry_run {
            undoing = undo::look_only(self.settings, &root, id, force)?;
            report.changes = undoing.steps.iter().map(step_record).collect();
        } else {
            let held = self.hold(&root).map_err(|refused| refused.error)?.ok_or_else(|| unknown(id))?;
            let (stored, undone_by) = held.ledger.find(id)?;
            undoing = undo::undoing(&root, &held.backups, &stored, undone_by, force)?;
            let transaction = Transaction {
                root: &root,
                ledger: &held.ledger,
                backups: &held.backups,
                clock: self.clock,
                trigger: HealingTrigger::Rollback,
                by,
                undoes: Some(id.clone()),
                grace: None,
                hook: self.hook,
            };
            let outcome = transaction.run(undoing.steps.clone())?;
            report.id = Some(outcome.id);
            report.changes = outcome.changes;
        }
        report.changes.extend(undoing.told);
        let memory = Memory::read(self.settings, &root)?;
        let request = Request::new(HealingTrigger::Rollback);
        let look = Look { now: self.clock.now(), request: &request, memory: &memory };
        let (scanned, mut plan) = (self.planner)(&root, &look)?;
        add_losses(&mut plan.findings, memory.losses());
        self.fill(&mut report, plan.findings, &scanned);
        // What a rollback cannot do by its nature is told, and does not make it fail.
        let is_beyond = |change: &ChangeRecord| {
            matches!(change.kind, ChangeKind::EndProcess | ChangeKind::RemoveDirectory) || dry_run
        };
        report.success = report.changes.iter().all(|change| change.state == ChangeState::Applied || is_beyond(change));
        report.duration_ms = millis(self.clock.since_boot().saturating_sub(begun));
        Ok(report)
    }

    /// Opens and locks what is there, and settles what a crash has left; `None` if nothing is there.
    fn hold(&self, root: &Root) -> Result<Option<Held>, Refused> {
        match Folder::open(self.settings, root).map_err(Refused::critical)? {
            Some(_) => self.hold_new(root).map(Some),
            None => Ok(None),
        }
    }

    fn hold_new(&self, root: &Root) -> Result<Held, Refused> {
        let folder = Folder::create(self.settings, root).map_err(Refused::high)?;
        let ledger = Ledger::lock(folder).map_err(Refused::high)?;
        let backups = Backups::create(&ledger.state).map_err(Refused::high)?;
        // What was changed and what was not is not known until then.
        settle::settle(root, &ledger, &backups, self.clock.now()).map_err(Refused::critical)?;
        Ok(Held { ledger, backups })
    }

    fn apply(
        &self,
        root: &Root,
        held: &Held,
        request: &Request,
        plan: &Plan,
    ) -> Result<super::apply::transaction::Outcome, Error> {
        let grace = self.settings.layout.bot.as_ref().map(|bot| bot.grace);
        let transaction = Transaction {
            root,
            ledger: &held.ledger,
            backups: &held.backups,
            clock: self.clock,
            trigger: request.trigger,
            by: request.by.clone(),
            undoes: None,
            // Asked here once more, whatever the plan says: processes are ended in paper mode only.
            grace: grace.filter(|_| self.settings.mode == Some(Mode::Paper)),
            hook: self.hook,
        };
        let steps = plan.changes.iter().map(|change| Step { lost: lost(plan, change), ..step(change) });
        transaction.run(steps.collect())
    }

    /// Keeps good configuration files as copies. It is a convenience for later, so its failure stops nothing.
    fn keep_good(&self, held: &Held, plan: &Plan, scanned: &Scan) {
        for path in &plan.keep {
            let Some(Entry::File(file)) = scanned.entries.get(path) else { continue };
            let Some(content) = &file.content else { continue };
            if let Err(error) = held.backups.keep(path, content, self.clock.now()) {
                tracing::warn!(path = %path, error = %error, "no good copy of a configuration file could be kept");
            }
        }
    }

    fn expire(&self, held: &Held, now: Timestamp, has_written: bool) {
        let limits = &self.settings.retention;
        let is_due = if has_written { Ok(true) } else { retention::is_due(&held.ledger, limits, now) };
        let gone = is_due.and_then(|is_due| match is_due {
            true => retention::expire(&held.ledger, &held.backups, limits, now),
            false => Ok(0),
        });
        if let Err(error) = gone {
            // What is kept too long is no harm yet; the next round tries again.
            tracing::warn!(error = %error, "old healings cannot be removed");
        }
    }

    fn blank(&self, trigger: HealingTrigger, dry_run: bool, now: Timestamp) -> HealingReport {
        HealingReport {
            id: None,
            timestamp: now,
            trigger,
            dry_run,
            success: false,
            healed: 0,
            failed: 0,
            critical: 0,
            stats: HealingStats::default(),
            findings: Vec::new(),
            changes: Vec::new(),
            diff: String::new(),
            validation: validation::validate(&self.settings.layout, &Scan::default(), None),
            visited: 0,
            duration_ms: 0,
        }
    }

    /// Counts the findings and grades what the scan shows.
    fn fill(&self, report: &mut HealingReport, findings: Vec<WorkspaceFinding>, scanned: &Scan) {
        let slot = self.settings.slot.as_ref().map(validation::look_at_slot);
        report.validation = validation::validate(&self.settings.layout, scanned, slot.as_ref());
        report.visited = scanned.visited;
        let count = |state| findings.iter().filter(|finding| finding.state == state).count() as u64;
        report.healed = count(FindingState::Healed);
        report.failed = count(FindingState::Failed);
        let stands = |finding: &&WorkspaceFinding| {
            finding.severity == Severity::Critical && finding.state != FindingState::Healed
        };
        report.critical = findings.iter().filter(stands).count() as u64;
        report.findings = findings;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A planned change as the hands take it.
pub(super) fn step(change: &Change) -> Step {
    let mut step = Step {
        kind: ChangeKind::CreateDirectory,
        code: change.code,
        path: change.path.clone(),
        process: None,
        content: None,
        keep_times: false,
        restore: None,
        before: change.before.clone(),
        detail: String::new(),
        lost: Vec::new(),
    };
    match &change.remedy {
        Remedy::CreateDirectory => {}
        Remedy::CreateFile(content) => {
            step.kind = ChangeKind::CreateFile;
            step.content = Some(content.clone());
        }
        Remedy::ReplaceFile { content, keep_times } => {
            step.kind = ChangeKind::ReplaceFile;
            step.content = Some(content.clone());
            step.keep_times = *keep_times;
        }
        Remedy::RemoveFile => step.kind = ChangeKind::RemoveFile,
        Remedy::EndProcess { pid, started_ticks } => {
            step.kind = ChangeKind::EndProcess;
            step.process = Some(ProcessId { pid: *pid, started_ticks: *started_ticks });
        }
    }
    step
}

/// What the file of a change held and will not hold any more, if it is one with positions or trades.
fn lost(plan: &Plan, change: &Change) -> Vec<String> {
    let Some(path) = &change.path else { return Vec::new() };
    let of_it = |finding: &&WorkspaceFinding| finding.code == FindingCode::RecordsLost && finding.path == path.as_str();
    plan.findings.iter().find(of_it).map(|finding| finding.records.clone()).unwrap_or_default()
}

/// What became of a change whose journal could not be written to its end: found out by looking.
fn found_out(root: &Root, change: &Change, why: &str) -> ChangeRecord {
    let mut record = planned_record(change);
    let is_made = match (&change.path, record.kind) {
        (Some(path), ChangeKind::CreateDirectory) => root.stat(path).is_ok_and(|seen| seen.kind == Kind::Directory),
        (Some(path), ChangeKind::RemoveFile) => matches!(root.stat(path), Err(Trouble::Missing)),
        (Some(path), _) => root.hash(path).is_ok_and(|version| Some(version.sha256) == record.after),
        (None, _) => false,
    };
    if is_made {
        record.state = ChangeState::Applied;
    } else {
        record.state = ChangeState::Failed;
        why.clone_into(&mut record.detail);
    }
    record
}

/// Adds what earlier healings have lost; one finding for each file.
fn add_losses(findings: &mut Vec<WorkspaceFinding>, losses: Vec<WorkspaceFinding>) {
    for loss in losses {
        let known = findings.iter_mut().find(|finding| (finding.code, &finding.path) == (loss.code, &loss.path));
        match known {
            Some(known) => known.detail = loss.detail,
            None => findings.push(loss),
        }
    }
}

fn planned_record(change: &Change) -> ChangeRecord {
    step_record(&step(change))
}

fn step_record(step: &Step) -> ChangeRecord {
    let process = step.process.map(|process| process.pid.to_string());
    ChangeRecord {
        kind: step.kind,
        code: step.code,
        path: step.path.as_ref().map(ToString::to_string).or(process).unwrap_or_default(),
        state: ChangeState::Planned,
        before: step.before.as_ref().map(|version| version.sha256.clone()).filter(|sha| !sha.is_empty()),
        after: step.content.as_deref().map(sha256),
        detail: step.detail.clone(),
    }
}

/// What was really done, counted.
fn stats(changes: &[ChangeRecord]) -> HealingStats {
    let mut stats = HealingStats::default();
    for change in changes.iter().filter(|change| change.state == ChangeState::Applied) {
        match (change.kind, change.code) {
            (ChangeKind::CreateDirectory, _) => stats.directories_created += 1,
            (ChangeKind::CreateFile, _) => stats.files_created += 1,
            (ChangeKind::ReplaceFile, FindingCode::HeartbeatStale) => stats.heartbeats_reset += 1,
            (ChangeKind::ReplaceFile, _) => stats.files_repaired += 1,
            (ChangeKind::RemoveFile, FindingCode::LockStale) => stats.locks_cleared += 1,
            (ChangeKind::EndProcess, _) => stats.orphans_killed += 1,
            (ChangeKind::RemoveFile | ChangeKind::RemoveDirectory, _) => {}
        }
    }
    stats
}

/// How bad an answer is for a finding that several changes serve.
fn rank(state: FindingState) -> u8 {
    match state {
        FindingState::Healed => 0,
        FindingState::Planned => 1,
        FindingState::Standing => 2,
        FindingState::Deferred => 3,
        FindingState::Failed => 4,
    }
}

/// Tells each finding what became of its changes.
fn settle_findings(plan: &mut Plan, records: &[ChangeRecord], id: Option<&Name>) {
    let mut answers: Vec<Option<(FindingState, String)>> = vec![None; plan.findings.len()];
    for (change, record) in plan.changes.iter().zip(records) {
        let state = match record.state {
            ChangeState::Applied => FindingState::Healed,
            ChangeState::Deferred => FindingState::Deferred,
            ChangeState::Failed | ChangeState::Abandoned | ChangeState::Planned => FindingState::Failed,
        };
        for at in change.findings.iter().copied() {
            let Some(answer) = answers.get_mut(at) else { continue };
            if answer.as_ref().is_none_or(|(worst, _)| rank(*worst) < rank(state)) {
                let why = if state == FindingState::Healed { String::new() } else { record.detail.clone() };
                *answer = Some((state, why));
            }
        }
    }
    for (finding, answer) in plan.findings.iter_mut().zip(answers) {
        let Some((state, why)) = answer else { continue };
        // Only the bot can say that it lives: a heartbeat that was reset stays a finding.
        let is_heartbeat = finding.code == FindingCode::HeartbeatStale;
        finding.state = match state {
            FindingState::Healed if is_heartbeat => FindingState::Standing,
            state => state,
        };
        if !why.is_empty() {
            finding.detail = why;
        }
        // Whoever has edited the file wants to know where it is now.
        let is_config = matches!(finding.code, FindingCode::ConfigMissing | FindingCode::ConfigInvalid);
        if let Some(id) = id.filter(|_| is_config && finding.state == FindingState::Healed) {
            finding.detail.push_str(&format!("; to undo it: `chiron heal --rollback {id}`"));
        }
    }
}

/// Joins what was found before the changes with what the second look shows.
fn join(findings: &mut Vec<WorkspaceFinding>, fresh: Vec<WorkspaceFinding>) {
    for seen in fresh {
        let known = findings.iter_mut().find(|finding| (finding.code, &finding.path) == (seen.code, &seen.path));
        match known {
            Some(finding) if finding.state == FindingState::Healed => {
                finding.state = FindingState::Failed;
                finding.detail = "it is still there after the change".to_owned();
            }
            // It was not to be changed, or was not: the first look tells more.
            Some(_) => {}
            None => {
                let mut new = seen;
                if matches!(new.state, FindingState::Planned) {
                    new.state = FindingState::Deferred;
                    new.detail = "it came to light after the changes; the next round looks again".to_owned();
                }
                findings.push(new);
            }
        }
    }
}
