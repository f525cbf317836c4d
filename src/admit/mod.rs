//! Between stages 3 and 4: may it run now?
//!
//! In: what is to be done, and the ledger of what was done. Out: an [`Admission`], always with a reason.
//! **Invariant:** pure; what lowers risk, or was approved by a person, is never held up by budgets or cooldowns.

mod backoff;
mod budget;
mod cooldown;
pub mod group;
pub mod storm;
pub mod window;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{Autonomy, Name, Reason, Timestamp};

pub use backoff::Backoff;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How far it may go alone.
    pub autonomy: Autonomy,
    /// It lowers risk.
    pub lowers_risk: bool,
    /// It raises risk, and does not merely undo what made things worse.
    pub raises_risk: bool,
    /// It is only rehearsed, whatever else is acted upon.
    pub dry_run: bool,
    /// It has a means, or chiron's own.
    pub bound: bool,
    /// It asks for the check's agreement, which is missing.
    pub unconfirmed: bool,
    /// A person has approved exactly this run.
    pub approved: bool,
}

/// What was done and what holds now, as far as this request is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Ledger<'a> {
    /// chiron is stopping.
    pub stopping: bool,
    /// The journal can be written.
    pub journal_ok: bool,
    /// Every check has been seen since the start.
    pub started_up: bool,
    /// A run is under way on the target.
    pub busy: bool,
    /// Runs under way overall.
    pub running: usize,
    /// A broken subsystem that the target depends on is healed first.
    pub root_broken: bool,
    /// When the last counted run on the target ended.
    pub target_ended_at: Option<Timestamp>,
    /// The same rung was tried before and did not help; until then it is not tried again.
    pub retry_at: Option<Timestamp>,
    /// Starts of counted runs on the target, in the order in which they were made.
    pub target_starts: &'a [Timestamp],
    /// Starts of counted runs overall, in the order in which they were made.
    pub overall_starts: &'a [Timestamp],
    /// The target's health is verified and no issue of it is open.
    pub healthy: bool,
    /// The Watchdog is heard, or none is configured.
    pub watchdog_alive: bool,
    /// The policy in force permits it.
    pub policy_permits: bool,
    /// A maintenance window that does not list the action is on until then.
    pub maintenance_until: Option<Timestamp>,
    /// Too much is broken at once, and the target is no root cause of it.
    pub in_storm: bool,
    /// Another member of the target's group is being acted upon.
    pub group_busy: bool,
    /// Too few other members of the target's group are healthy.
    pub group_unhealthy: bool,
}

/// Whether it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Now.
    Run,
    /// Now, as a rehearsal without effect.
    Rehearse,
    /// Not yet.
    Wait,
    /// A person has to approve it.
    Ask,
    /// Not by chiron.
    No,
}

/// The answer to "may this run now?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The answer.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// When to ask again, if time alone will change the answer.
    pub not_before: Option<Timestamp>,
}

/// May it run now? Every concern must agree; the first that does not gives the reason.
pub fn admit(request: &Request, ledger: &Ledger<'_>, settings: &Settings, now: Timestamp) -> Admission {
    let answer = |verdict, reason| Admission { verdict, reason, not_before: None };
    if request.autonomy == Autonomy::Manual {
        return answer(Verdict::No, Reason::Manual);
    }
    // A rehearsal shows what is not bound; a person is not asked to allow what cannot be done.
    if !request.bound && (!(settings.dry_run || request.dry_run) || request.autonomy == Autonomy::Approval) {
        return answer(Verdict::No, Reason::Unbound);
    }
    // What raises risk needs all of these, and then a person where one is asked for.
    if request.raises_risk && !ledger.healthy {
        return answer(Verdict::Wait, Reason::Unhealthy);
    }
    if request.raises_risk && !ledger.watchdog_alive {
        return answer(Verdict::Wait, Reason::Watchdog);
    }
    if request.raises_risk && !ledger.policy_permits {
        return answer(Verdict::Wait, Reason::Policy);
    }
    if request.autonomy == Autonomy::Approval && !request.approved {
        return answer(Verdict::Ask, Reason::ApprovalPending);
    }
    if ledger.stopping {
        return answer(Verdict::Wait, Reason::Stopping);
    }
    if !ledger.journal_ok {
        return answer(Verdict::Wait, Reason::JournalUnavailable);
    }
    if request.unconfirmed && !request.approved {
        return answer(Verdict::Wait, Reason::Unconfirmed);
    }
    if ledger.busy {
        return answer(Verdict::Wait, Reason::Busy);
    }
    if settings.dry_run || request.dry_run {
        return answer(Verdict::Rehearse, Reason::DryRun);
    }
    // What a person has approved in sight of all this is not held up by what keeps chiron itself from hasty acts.
    if request.lowers_risk || request.approved {
        return answer(Verdict::Run, Reason::Admitted);
    }
    if !ledger.started_up {
        return answer(Verdict::Wait, Reason::Startup);
    }
    if ledger.root_broken {
        return answer(Verdict::Wait, Reason::Dependency);
    }
    if let Some(until) = ledger.maintenance_until {
        return Admission { verdict: Verdict::Wait, reason: Reason::Maintenance, not_before: Some(until) };
    }
    if ledger.in_storm {
        return answer(Verdict::Wait, Reason::Storm);
    }
    if ledger.group_busy {
        return answer(Verdict::Wait, Reason::GroupBusy);
    }
    if ledger.group_unhealthy {
        return answer(Verdict::Wait, Reason::GroupUnhealthy);
    }
    let retry = ledger.retry_at.filter(|until| now < *until);
    if let Some(until) = cooldown::until(ledger.target_ended_at, settings, now).max(retry) {
        return Admission { verdict: Verdict::Wait, reason: Reason::Cooldown, not_before: Some(until) };
    }
    if let Some(until) = budget::until(ledger, settings, now) {
        return Admission { verdict: Verdict::Wait, reason: Reason::Budget, not_before: Some(until) };
    }
    if ledger.running >= settings.concurrency {
        return answer(Verdict::Wait, Reason::Concurrency);
    }
    answer(Verdict::Run, Reason::Admitted)
}

/// Limits of admission (ACT-3).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Act on nothing. True unless `mode` is given, and with `--dry-run`.
    pub dry_run: bool,
    /// Actions that are only rehearsed, whatever else is acted upon.
    pub dry_run_actions: BTreeSet<Name>,
    /// Pause before the same target is touched again, from the end of the last action; default 60 s.
    pub cooldown: Duration,
    /// Pause between the tries of one rung.
    pub retry_backoff: Backoff,
    /// Tokens in a target's bucket; default 3.
    pub target_budget: u32,
    /// In which an empty one fills up; default 15 min.
    pub target_window: Duration,
    /// Tokens in the bucket of all targets; default 10.
    pub overall_budget: u32,
    /// In which an empty one fills up; default 10 min.
    pub overall_window: Duration,
    /// Runs under way at once; default 4.
    pub concurrency: usize,
    /// A restorative run that a crash of chiron interrupted is not done again this long after its decision; default 5 min.
    pub not_after: Duration,
    /// What a person is asked to approve is asked anew after this; default 10 min.
    pub approval_valid: Duration,
    /// When only root causes are acted upon.
    pub storm: storm::Settings,
    /// Groups of like targets; no member is in two.
    pub groups: Vec<group::Group>,
    /// Maintenance windows, by their plan.
    pub windows: Vec<window::Window>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dry_run: true,
            dry_run_actions: BTreeSet::new(),
            cooldown: Duration::from_secs(60),
            retry_backoff: Backoff::default(),
            target_budget: 3,
            target_window: Duration::from_secs(900),
            overall_budget: 10,
            overall_window: Duration::from_secs(600),
            concurrency: 4,
            not_after: Duration::from_secs(300),
            approval_valid: Duration::from_secs(600),
            storm: storm::Settings::default(),
            groups: Vec::new(),
            windows: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
