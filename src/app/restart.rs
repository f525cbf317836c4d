//! What becomes of runs that a crash of ours interrupted (`docs/reliability.md`, invariants 7 and 9).

use std::time::Duration;

use crate::execute::ProbeAnswer;
use crate::journal::{Episode, Record, Run, RungOrigin, State};
use crate::model::{Class, Ending, FailurePoint, Health, IssueSource, Reason, RunKey, RunState, Status, Timestamp};

use super::cycle::{Cycle, Effect, Inquired};
use super::draft::Draft;
use super::world::Asking;

/// A run open across this many crashes is quarantined.
const CRASHES_MAX: u32 = 2;
/// How long a restarted chiron waits for the subsystem's check to say whether an action happened.
const CHECK_PATIENCE: Duration = Duration::from_secs(60);

/// What to do with an interrupted run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// Do it again under the same key.
    Resume,
    /// It happened.
    Happened,
    /// The need for it has passed by itself.
    NotNeeded,
    /// Nobody can tell.
    Indeterminate(&'static str),
    /// Wait for the subsystem's check.
    AskCheck,
}

/// The decision, by class; `needed` is `None` while no check has answered yet.
fn resolve(class: Class, crashes: u32, lowers_risk: bool, probe: ProbeAnswer, needed: Option<bool>) -> Resolution {
    if class == Class::OneShot {
        return Resolution::Indeterminate("interrupted by a crash of chiron; a one_shot is never done again");
    }
    if crashes >= CRASHES_MAX {
        return Resolution::Indeterminate("open across two crashes of chiron; quarantined");
    }
    match (class, probe) {
        (Class::Probeable, ProbeAnswer::Happened) => Resolution::Happened,
        (Class::Probeable, ProbeAnswer::Unknown) => {
            Resolution::Indeterminate("interrupted by a crash of chiron; its probe cannot tell whether it happened")
        }
        _ if lowers_risk => Resolution::Resume,
        _ => match needed {
            None => Resolution::AskCheck,
            Some(true) => Resolution::Resume,
            Some(false) if class == Class::Probeable && probe == ProbeAnswer::AskCheck => Resolution::Happened,
            Some(false) => Resolution::NotNeeded,
        },
    }
}

impl Cycle {
    /// The first decision after the journal was read: interrupted runs are cancelled, inquired about, or verified on.
    /// `instance` says who has taken the journal over.
    pub fn after_restart(
        &mut self,
        state: &State,
        instance: Record,
        now: Timestamp,
    ) -> (Vec<Record>, State, Vec<Effect>) {
        let mut draft = Draft::new(state.clone(), now);
        draft.push(instance);
        // A clock that was set back while chiron was down prolongs nothing; how much time really passed is not known.
        let last = state.last_at;
        if last > now && state.seq > 0 {
            draft.push(Record::ClockSet { millis: now.millis().saturating_sub(last.millis()) });
        }
        let mut effects = Vec::new();
        let runs: Vec<_> = draft.state.runs.values().cloned().collect();
        for run in runs {
            match run.state {
                RunState::Intended => {
                    draft.push(Record::RunCancelled { key: run.key.clone(), reason: Reason::Restart })
                }
                RunState::Started => effects.push(Effect::Inquire(run.key.clone())),
                RunState::Finished => self.begin_verification(&run, now),
                _ => {}
            }
        }
        // A clock that was set back makes no Watchdog fresh.
        self.world.watchdog_at = draft.state.watchdog_at.map(|heard| heard.min(now));
        self.look_at_everything(&draft.state);
        (draft.records, draft.state, effects)
    }

    /// The means, and what was left running, have been asked.
    pub(super) fn take_inquiries(&mut self, draft: &mut Draft, inquiries: &[Inquired], effects: &mut Vec<Effect>) {
        for inquired in inquiries {
            let Some(run) = draft.state.runs.get(&inquired.key).cloned() else { continue };
            // While chiron stops it begins nothing; the next start asks again.
            if run.state == RunState::Started && !self.world.stopping {
                self.settle_interrupted(draft, &run, inquired.probe, draft.now, effects);
            }
        }
    }

    fn settle_interrupted(
        &mut self,
        draft: &mut Draft,
        run: &Run,
        probe: ProbeAnswer,
        since: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let needed = self.is_needed(draft, run, since);
        let key = run.key.clone();
        let resolution = resolve(run.class, run.crashes, run.lowers_risk, probe, needed);
        if self.is_raising(draft, run) && resolution != Resolution::Happened {
            return self.settle_raising(draft, run, probe);
        }
        match resolution {
            Resolution::Resume if self.rules.admit.dry_run => {
                self.give_up(draft, key, "interrupted by a crash of chiron, which is in dry-run now");
            }
            Resolution::Resume if run.not_after.is_some_and(|not_after| draft.now > not_after) => {
                self.give_up(draft, key, "interrupted by a crash of chiron, too long ago to be done again");
            }
            Resolution::Resume if !self.is_bound_as(run) => {
                self.give_up(
                    draft,
                    key,
                    "interrupted by a crash of chiron; what was bound to it is configured no longer",
                );
            }
            Resolution::Resume => {
                draft.push(Record::RunResumed { key: key.clone() });
                effects.push(Effect::Start(key));
            }
            Resolution::Happened => self.finish_interrupted(draft, run, "found done after a restart of chiron"),
            Resolution::NotNeeded => {
                self.finish_interrupted(draft, run, "no longer needed after a restart of chiron; not done again");
            }
            Resolution::Indeterminate(detail) => self.give_up(draft, key, detail),
            Resolution::AskCheck => {
                let deadline = draft.now.plus(CHECK_PATIENCE);
                self.world.asking_check.entry(key.clone()).or_insert(Asking { since, deadline, probe });
                self.world.wake(deadline, &key.episode);
                effects.extend(self.check_of(draft, run).map(Effect::ForceCheck));
            }
        }
        self.world.dirty_episodes.insert(run.key.episode.clone());
    }

    /// Whether a run raises risk by what it does, and does not merely take back what made things worse.
    fn is_raising(&self, draft: &Draft, run: &Run) -> bool {
        let raises = (self.rules.catalog)(&run.action).is_some_and(|spec| spec.raises_risk);
        let episode = draft.state.episodes.get(&run.key.episode);
        let rung = episode.and_then(|episode| episode.ladder.get((run.key.rung as usize).saturating_sub(1)));
        raises && !rung.is_some_and(|rung| matches!(rung.origin, RungOrigin::Undo(_)))
    }

    /// What raises risk is never done again by itself: health is no proof that it happened, and trouble no reason to do it.
    /// If it certainly did not happen, it is decided anew, by all that is asked then.
    fn settle_raising(&mut self, draft: &mut Draft, run: &Run, probe: ProbeAnswer) {
        let key = run.key.clone();
        if run.class == Class::Probeable && probe == ProbeAnswer::DidNotHappen {
            draft.push(Record::RunCancelled { key, reason: Reason::Restart });
            self.world.rouse(|reason| matches!(reason, Reason::Busy | Reason::Concurrency | Reason::GroupBusy));
        } else {
            let detail =
                "interrupted by a crash of chiron; it raises risk, so a person decides whether it is done again";
            self.give_up(draft, key, detail);
        }
        self.world.dirty_episodes.insert(run.key.episode.clone());
    }

    /// A person decides; whoever waited for the target or for a place may go on.
    fn give_up(&mut self, draft: &mut Draft, key: RunKey, detail: &str) {
        draft.push(Record::RunIndeterminate { key, detail: detail.to_owned() });
        self.world.rouse(|reason| matches!(reason, Reason::Busy | Reason::Concurrency | Reason::GroupBusy));
    }

    fn finish_interrupted(&mut self, draft: &mut Draft, run: &Run, detail: &str) {
        draft.push(Record::RunFinished {
            key: run.key.clone(),
            ending: Ending::Ok,
            detail: detail.to_owned(),
            output: String::new(),
            duration_ms: 0,
            changed: String::new(),
        });
        self.after_finish(draft, run, Ending::Ok, detail);
    }

    /// A run that waits for the check: has it spoken, or has it had its time?
    pub(super) fn settle_asked(&mut self, draft: &mut Draft, run: &Run, effects: &mut Vec<Effect>) {
        let Some(Asking { since, deadline, probe }) = self.world.asking_check.get(&run.key).copied() else { return };
        if !self.world.journal_ok || self.world.stopping {
            return;
        }
        if self.is_needed(draft, run, since).is_some() {
            self.world.asking_check.remove(&run.key);
            self.settle_interrupted(draft, run, probe, since, effects);
        } else if draft.now >= deadline {
            self.world.asking_check.remove(&run.key);
            let detail = "interrupted by a crash of chiron; the check does not say whether it happened";
            self.give_up(draft, run.key.clone(), detail);
        }
    }

    /// Whether the failure point whose issue an episode is has found the same since `since`, if it has spoken; `None` if it is
    /// no failure point's.
    fn is_still_found(&self, episode: &Episode, since: Timestamp) -> Option<Option<bool>> {
        if episode.facts.source != IssueSource::FailurePoint {
            return None;
        }
        let mut points = self.rules.failure_points.iter().zip(&self.world.points);
        let is_it =
            |point: &FailurePoint| point.category == episode.key.kind && point.subsystem == episode.key.subsystem;
        let (_, health) = points.find(|(point, _)| is_it(point))?;
        let spoke = health.as_ref().filter(|health| health.timestamp >= since && health.status != Status::Unknown);
        let finds = |health: &Health| health.signals.findings.iter().any(|one| one.symbol == episode.key.symbol);
        Some(spoke.map(|health| finds(health)))
    }

    /// Whether the action is still called for: an alert fires, or the check is not healthy. `None` if nobody has said
    /// since `since`.
    fn is_needed(&self, draft: &Draft, run: &Run, since: Timestamp) -> Option<bool> {
        let episode = draft.state.episodes.get(&run.key.episode)?;
        if let Some(still) = self.is_still_found(episode, since) {
            return still;
        }
        let fires = episode
            .alerts
            .iter()
            .any(|alert| draft.state.alerts.get(alert).is_some_and(|alert| alert.unproven.is_none()));
        let index = self.world.index.get(&run.target);
        let said = index
            .map(|index| &self.world.subsystems[*index])
            .filter(|seen| seen.seen && seen.health.timestamp >= since)
            .map(|seen| seen.health.status);
        match said {
            // A probeable run asks whether it happened: a healthy target is the answer, whatever an alert still says.
            Some(Status::Healthy) if run.class == Class::Probeable => Some(false),
            // An alert of before an outage is no news: what does not lower risk waits for the check to speak.
            _ if fires && (said.is_some() || index.is_none() || run.lowers_risk) => Some(true),
            Some(Status::Healthy) => Some(false),
            Some(Status::Degraded | Status::Critical | Status::Failed) => Some(true),
            Some(Status::Unknown) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ACT-3 and invariant 7, as a table.
    #[test]
    fn by_class() {
        use ProbeAnswer::{AskCheck, DidNotHappen, Happened, Unknown};
        let of = |class, crashes, probe, needed| resolve(class, crashes, false, probe, needed);
        for needed in [None, Some(true), Some(false)] {
            for probe in [Happened, DidNotHappen, Unknown, AskCheck] {
                assert!(matches!(of(Class::OneShot, 1, probe, needed), Resolution::Indeterminate(_)), "never again");
                assert!(matches!(of(Class::Natural, 2, probe, needed), Resolution::Indeterminate(_)), "quarantined");
            }
        }
        assert_eq!(of(Class::Natural, 1, AskCheck, Some(true)), Resolution::Resume);
        assert_eq!(of(Class::Keyed, 1, AskCheck, Some(false)), Resolution::NotNeeded);
        assert_eq!(of(Class::Natural, 1, AskCheck, None), Resolution::AskCheck);
        assert_eq!(of(Class::Probeable, 1, Happened, Some(true)), Resolution::Happened);
        assert_eq!(of(Class::Probeable, 1, DidNotHappen, Some(true)), Resolution::Resume);
        assert_eq!(of(Class::Probeable, 1, DidNotHappen, Some(false)), Resolution::NotNeeded);
        assert!(matches!(of(Class::Probeable, 1, Unknown, Some(true)), Resolution::Indeterminate(_)));
        assert_eq!(of(Class::Probeable, 1, AskCheck, Some(false)), Resolution::Happened);
        assert_eq!(resolve(Class::Natural, 1, true, AskCheck, None), Resolution::Resume, "lowering risk never waits");
    }
}
