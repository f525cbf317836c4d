//! A round of healing, in order: settle what a crash left, scan, find, plan, journal, back up, apply, look again.
//!
//! **Invariant:** every step towards the workspace is durable in the ledger before it is taken. Blocking: keep it off the
//! async threads.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::apply::Step;
use super::apply::transaction::Transaction;
use super::backup::Backups;
use super::ledger::folder::Folder;
use super::ledger::record::ProcessId;
use super::ledger::{Ledger, retention, settle, unknown};
use super::plan::{Change, Plan, Remedy};
use super::root::{Root, sha256};
use super::scan::{Entry, Scan};
use super::{Error, ErrorKind, Settings, plan, rollback as undo, scan, validation};
use crate::base::clock::Clock;
use crate::model::{
    ChangeKind, ChangeRecord, ChangeState, FindingCode, FindingState, HealingReport, HealingStats, HealingTrigger,
    Mode, Name, Severity, Timestamp, WorkspaceFinding,
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
}

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

/// What a scan shows, and what to do about it.
type Planner<'a> = dyn Fn(&Root, Timestamp) -> Result<(Scan, Plan), Error> + 'a;

fn planner(settings: &Settings) -> impl Fn(&Root, Timestamp) -> Result<(Scan, Plan), Error> {
    move |root, now| {
        let scanned = scan::scan(root, settings, now)?;
        let plan = plan::plan(&settings.layout, &scanned, settings.mode, settings.quiet, now);
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

impl Round<'_> {
    fn heal(&self, request: &Request) -> Result<HealingReport, Error> {
        let begun = self.clock.since_boot();
        let now = self.clock.now();
        let root = Root::open(&self.settings.workspace)?;
        let dry_run = request.dry_run || self.settings.dry_run || self.settings.mode.is_none();
        // A folder of healings that cannot be used matters only if there is something to write into it.
        let held = if dry_run { Ok(None) } else { self.hold(&root) };
        let held = match held {
            Err(error) if error.kind == ErrorKind::Busy => return Err(error),
            held => held,
        };
        let (mut scanned, mut plan) = (self.planner)(&root, now)?;
        let mut report = self.blank(request.trigger, dry_run, now);
        if dry_run {
            report.diff = plan::diff(&plan, &scanned);
            report.changes = plan.changes.iter().map(planned_record).collect();
        } else {
            let held = match held {
                Err(error) if !plan.changes.is_empty() => return Err(error),
                Err(error) => {
                    tracing::warn!(error = %error, "good copies of configuration files cannot be kept");
                    None
                }
                Ok(None) if !plan.changes.is_empty() || !plan.keep.is_empty() => {
                    Some(self.hold_new(&root).map_err(|error| (error, plan.changes.is_empty())))
                        .transpose()
                        .or_else(|(error, is_idle)| if is_idle { Ok(None) } else { Err(error) })?
                }
                Ok(held) => held,
            };
            if let Some(held) = &held {
                self.keep_good(held, &plan, &scanned);
                if plan.changes.is_empty() {
                    self.expire(held, now, false)?;
                } else {
                    let outcome = self.apply(&root, held, request, &plan)?;
                    report.stats = stats(&outcome.changes);
                    settle_findings(&mut plan, &outcome.changes);
                    report.id = Some(outcome.id);
                    report.changes = outcome.changes;
                    let (again, fresh) = (self.planner)(&root, self.clock.now())?;
                    // What was restored or repaired may be good by now.
                    self.keep_good(held, &fresh, &again);
                    join(&mut plan.findings, fresh.findings);
                    let visited = scanned.visited;
                    scanned = again;
                    scanned.visited = scanned.visited.max(visited);
                    self.expire(held, now, true)?;
                }
            }
        }
        self.fill(&mut report, plan.findings, &scanned);
        report.success = report.critical == 0 && report.failed == 0;
        report.duration_ms = millis(self.clock.since_boot().saturating_sub(begun));
        Ok(report)
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
            let held = self.hold(&root)?.ok_or_else(|| unknown(id))?;
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
        let (scanned, plan) = (self.planner)(&root, self.clock.now())?;
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
    fn hold(&self, root: &Root) -> Result<Option<Held>, Error> {
        match Folder::open(self.settings, root)? {
            Some(_) => self.hold_new(root).map(Some),
            None => Ok(None),
        }
    }

    fn hold_new(&self, root: &Root) -> Result<Held, Error> {
        let folder = Folder::create(self.settings, root)?;
        let ledger = Ledger::lock(folder)?;
        let backups = Backups::create(&ledger.state)?;
        settle::settle(root, &ledger, &backups, self.clock.now())?;
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
        transaction.run(plan.changes.iter().map(step).collect())
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

    fn expire(&self, held: &Held, now: Timestamp, has_written: bool) -> Result<(), Error> {
        let limits = &self.settings.retention;
        if has_written || retention::is_due(&held.ledger, limits, now)? {
            let gone = retention::expire(&held.ledger, &held.backups, limits, now);
            if let Err(error) = gone {
                // What is kept too long is no harm yet; the next round tries again.
                tracing::warn!(error = %error, "old healings cannot be removed");
            }
        }
        Ok(())
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
fn settle_findings(plan: &mut Plan, records: &[ChangeRecord]) {
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
