//! What recovery asks of the actions of failure points (WSP-7): not before their time, with their own pauses, and beside what
//! their own issue holds.
//!
//! **Invariant:** pure; a kill switch that is active by right is not touched, whoever asks.

use std::time::Duration;

use crate::admit::{Admission, Verdict};
use crate::journal::{Episode, Rung, RungOrigin, State};
use crate::model::{
    ActionSpec, Autonomy, EpisodeId, Level, Means, Name, Outcome, PolicySource, Reason, Severity, Timestamp,
};
use crate::recommend::ladder::RungView;
use crate::recommend::{self, Step};

use super::cycle::Cycle;
use super::recovery::last_try;

/// The pause before each try of a connection: from when it was to be tried, then from the end of the try before.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];
/// A target is asked anew so often within this time, however often it comes and goes.
const ASKED_MAX: usize = 12;
const ASKED_WITHIN: Duration = Duration::from_secs(3_600);

impl Cycle {
    /// What is for the overdue alone waits while nothing is, also if an alert asks for it or a person has approved it.
    pub(super) fn is_too_early(&self, episode: &Episode, action: &Name) -> Option<Admission> {
        let wrong = recommend::only_overdue(action) && !self.is_overdue(&episode.key.subsystem, &episode.key.kind);
        wrong.then_some(Admission { verdict: Verdict::Wait, reason: Reason::Unconfirmed, not_before: None })
    }

    /// Whether an action on a target only asks anew, by the means that chiron has built in. What is bound in the settings is an
    /// action as any other: nobody knows what it does.
    fn only_asks(&self, action: &Name, target: &Name) -> bool {
        let is_built_in = || self.binding(action, target).is_some_and(|own| own.actuator.means() == Means::Internal);
        recommend::only_asks(action) && is_built_in()
    }

    /// Whether neither budgets nor cooldowns are about a rung: it lowers risk, it only asks, or it takes back what made things
    /// worse, which is as urgent.
    pub(super) fn is_free(&self, spec: &ActionSpec, rung: &Rung, target: &Name) -> bool {
        spec.lowers_risk || self.only_asks(&rung.action, target) || matches!(rung.origin, RungOrigin::Undo(_))
    }

    /// Until when a rung that only asks waits; `None` for any other.
    pub(super) fn pause(&self, state: &State, episode: &Episode, index: usize, now: Timestamp) -> Option<Timestamp> {
        let target = &episode.key.subsystem;
        let rung = episode.ladder.get(index).filter(|rung| self.only_asks(&rung.action, target))?;
        let pause = PAUSES[(rung.attempts as usize).min(PAUSES.len() - 1)];
        let from = match rung.attempts {
            0 => rung.recommended_at.unwrap_or(episode.opened_at),
            attempts => last_try(state, episode, index, attempts).1.unwrap_or(episode.opened_at),
        };
        // A clock that was set back prolongs nothing.
        Some(from.min(now).plus(pause))
    }

    /// Passes over rungs that only ask where the target was asked often enough, and makes no further try of them while something
    /// that helps for certain could be done about a critical issue.
    pub(super) fn pass_over_asking(&self, state: &State, episode: &Episode, rungs: &mut [RungView], now: Timestamp) {
        let target = &episode.key.subsystem;
        for (index, rung) in episode.ladder.iter().enumerate() {
            if !self.only_asks(&rung.action, target) || index >= rungs.len() {
                continue;
            }
            let is_spent = asked_lately(state, &rung.action, target, now) >= ASKED_MAX;
            let ready = |view: &RungView| view.outcome.is_none() && view.bound && view.autonomy == Autonomy::Automatic;
            let is_urgent = episode.facts.severity == Severity::Critical && rungs[index + 1..].iter().any(ready);
            let view = &mut rungs[index];
            if is_spent || is_urgent {
                view.retries_left = 0;
            }
            if is_spent && matches!(view.outcome, None | Some(Outcome::Cancelled)) {
                view.outcome = Some(Outcome::NotNeeded);
            }
        }
    }

    /// A backup that is bound and waits for nobody is used at once for what is critical; else what is lost is asked anew first.
    /// The operator's own ladder stays as it is.
    pub(super) fn backup_first(&self, subsystem: &str, kind: &str, severity: Severity, steps: &mut [Step]) {
        let is_own = recommend::own_ladder(subsystem, kind, severity, &self.rules.recommend).is_some();
        let is_backup = |step: &Step| step.action == *"fallback_to_backup";
        let (Some(asks), Some(backup)) =
            (steps.iter().position(|step| recommend::only_asks(&step.action)), steps.iter().position(is_backup))
        else {
            return;
        };
        let is_ready = steps[backup].autonomy == Autonomy::Automatic
            && self.binding(&steps[backup].action, &subsystem.into()).is_some();
        if severity == Severity::Critical && !is_own && is_ready && asks < backup {
            steps[asks..=backup].rotate_right(1);
        }
    }
}

/// How often a target was asked anew lately.
fn asked_lately(state: &State, action: &Name, target: &Name, now: Timestamp) -> usize {
    let runs = state.runs.values().chain(&state.ended_runs);
    let of_it = runs.filter(|run| run.action == *action && run.target == *target && !run.dry_run);
    of_it.filter(|run| run.started_at.is_some_and(|at| now.since(at) < ASKED_WITHIN)).count()
}

/// Whether the policy in force permits what an action does. What is for the overdue alone is what ends its own issue, so what
/// that issue holds for being as bad as it is does not count; what an action of it holds does.
pub(super) fn policy_permits(state: &State, spec: &ActionSpec, own: &EpisodeId) -> bool {
    let Some(needed) = spec.needs_policy else { return true };
    if !recommend::only_overdue(spec.name) {
        return state.level() <= needed;
    }
    let latched = if state.latch.is_some() { Level::EmergencyShutdown } else { Level::AllowAll };
    let is_own = |source, subject: &Name| source == PolicySource::Evaluation && *subject == **own;
    let others = state.holds.iter().filter(|(key, _)| !is_own(key.source, &key.subject));
    others.map(|(_, hold)| hold.level).fold(latched, Level::max) <= needed
}
