//! Undoing: at once what has made things worse, and, when an issue is over, what was done about it (ACT-1, ACT-4).
//!
//! **Invariant:** nothing is undone that is not bound. What raises risk waits for verified health, a live Watchdog and the
//! policy's permission; only what made things worse is taken back without them.

use std::sync::Arc;

use crate::journal::{Before, Episode, IssueFacts, Record, Run, Rung, RungOrigin, State};
use crate::model::{
    Autonomy, Criticality, EpisodeId, EpisodeKey, HOST, IssueSource, Name, Outcome, PLATFORM, Severity, Status,
    Timestamp,
};

use super::cycle::{Cycle, Effect};
use super::draft::Draft;
use super::recovery::number;

/// The type of the issue that undoes what was done about another.
pub const REVERSE: &str = "reverse";

impl Cycle {
    /// How things stand around a target, for a run that is decided now.
    pub(super) fn how_things_stand(&self, target: &Name) -> Before {
        let broken = self.graph.affected_by(target).iter().filter(|name| self.world.is_broken(name)).cloned().collect();
        Before { status: self.world.status(target), broken }
    }

    /// What is worse than when a run was decided, if anything is: the target itself, or, if that was not broken, something
    /// that depends on it.
    pub(super) fn made_worse(&self, run: &Run) -> Option<String> {
        let before = run.before.as_ref()?;
        // Failed is critical for a long time, not a worse state.
        let grade = |status: Status| status.rank().map(|rank| Some(rank).min(Status::Critical.rank()));
        let now = self.world.status(&run.target);
        if let (Some(was), Some(is)) = (grade(before.status), grade(now))
            && is > was
        {
            return Some(format!("{} was {} and is {now}", run.target, before.status));
        }
        if before.status.is_broken() {
            return None;
        }
        let since = self
            .graph
            .affected_by(&run.target)
            .iter()
            .find(|name| self.world.is_broken(name) && !before.broken.contains(name))?;
        Some(format!("{since}, which depends on {}, has broken since", run.target))
    }

    /// Puts what undoes a run next on its ladder, if that is bound.
    pub(super) fn plan_undo(&mut self, draft: &mut Draft, run: &Run) {
        let Some(episode) = draft.state.episodes.get(&run.key.episode).cloned() else { return };
        let Some(reverse) = self.reverse_of(&run.action, &run.target) else { return };
        let origin = RungOrigin::Undo(run.key.rung);
        if episode.ladder.iter().any(|rung| rung.origin == origin) {
            return;
        }
        let mut ladder = episode.ladder.clone();
        let next = (run.key.rung as usize).min(ladder.len());
        // A rung that was recommended keeps its number.
        let at = if ladder[next..].iter().all(|rung| rung.recommended_at.is_none()) { next } else { ladder.len() };
        // Its effect is all there is to verify: the issue itself goes on.
        ladder.insert(at, self.reversing(&reverse, origin, true));
        let (facts, by_check) = (episode.facts.clone(), episode.by_check);
        self.change(draft, &episode, facts, ladder, by_check);
    }

    /// Opens what undoes, now that an issue is over, all that was done about it and has a reverse that is bound.
    pub(super) fn plan_reverses(&mut self, draft: &mut Draft, episode: &Episode) {
        let target = &episode.key.subsystem;
        if episode.key.kind == *REVERSE || *target != *HOST && !self.world.index.contains_key(target) {
            return;
        }
        let mut rungs: Vec<Rung> = Vec::new();
        // What was done last is undone first.
        for (index, rung) in episode.ladder.iter().enumerate().rev() {
            let done = rung.attempts > 0 && matches!(rung.outcome, Some(Outcome::Verified | Outcome::Unverified));
            let undone = episode.ladder[index + 1..].iter().any(|later| {
                later.origin == RungOrigin::Undo(number(index)) && later.outcome == Some(Outcome::Verified)
            });
            if !done || undone || matches!(rung.origin, RungOrigin::Undo(_)) {
                continue;
            }
            let Some(reverse) = self.reverse_of(&rung.action, target) else { continue };
            let key = crate::model::RunKey { episode: episode.id.clone(), rung: number(index), attempt: rung.attempts };
            let planned = self.reversing(&reverse, RungOrigin::Reverse(key), false);
            // What only a person does is not chiron's to wait for.
            if planned.autonomy != Autonomy::Manual && rungs.iter().all(|other| other.action != reverse) {
                rungs.push(planned);
            }
        }
        if rungs.is_empty() {
            return;
        }
        let key = EpisodeKey { subsystem: target.clone(), symbol: episode.key.symbol.clone(), kind: REVERSE.into() };
        if let Some(open) = draft.state.open.get(&key).and_then(|id| draft.state.episodes.get(id)).cloned() {
            // What waits there already is not asked for twice.
            let waits = |rung: &Rung| open.ladder.iter().any(|old| old.action == rung.action && old.outcome.is_none());
            rungs.retain(|rung| !waits(rung));
            if !rungs.is_empty() {
                let ladder = open.ladder.iter().cloned().chain(rungs).collect();
                self.change(draft, &open, open.facts.clone(), ladder, false);
            }
            return;
        }
        let id = draft.state.new_episode_id(target, draft.now);
        let names: Vec<&str> = rungs.iter().map(|rung| rung.action.as_str()).collect();
        let facts = IssueFacts {
            severity: Severity::Low,
            description: format!("{target} has recovered; to be undone: {}", names.join(", ")),
            symptoms: vec![format!("issue {} is over", episode.id)],
            root_cause: None,
            impacts_trading: false,
            moves_policy: false,
            affects_subsystems: Vec::new(),
            source: IssueSource::Recovery,
        };
        draft.push(Record::EpisodeOpened {
            id: id.clone(),
            key,
            facts,
            ladder: rungs,
            by_check: false,
            began_at: None,
        });
        self.world.dirty_episodes.insert(id);
    }

    /// Whether something is still to be undone in an issue of that type.
    pub(super) fn reverse_goes_on(&self, draft: &Draft, episode: &Episode) -> bool {
        let Some(episode) = draft.state.episodes.get(&episode.id) else { return false };
        let target = &episode.key.subsystem;
        let configured = *target == *HOST || self.world.index.contains_key(target);
        episode.key.kind == *REVERSE && configured && (0..episode.ladder.len()).any(|index| goes_on(episode, index))
    }

    /// The next step of undoing. What has failed is tried again only if a person says so.
    pub(super) fn next_reverse(&mut self, draft: &mut Draft, episode: &Arc<Episode>, effects: &mut Vec<Effect>) {
        let next = |index: &usize| goes_on(episode, *index) && !self.is_manual(&episode.ladder[*index]);
        let Some(index) = (0..episode.ladder.len()).find(next) else { return };
        let rung = &episode.ladder[index];
        // Verified health, the Watchdog and the policy are looked at again, whatever wakes them.
        self.world.wake(draft.now.plus(super::cycle::TICK), &episode.id);
        if rung.outcome.is_some() {
            let asked =
                Rung { autonomy: Autonomy::Approval, outcome: None, attempts: 0, recommended_at: None, ..rung.clone() };
            let mut ladder = episode.ladder.clone();
            ladder.push(asked);
            self.tell_person(draft, episode, crate::model::Reason::Exhausted);
            self.change(draft, episode, episode.facts.clone(), ladder, false);
            return;
        }
        if self.binding(&rung.action, &episode.key.subsystem).is_none() {
            let (rung, outcome) = (number(index), Outcome::Unbound);
            draft.push(Record::RungSkipped { episode: episode.id.clone(), rung, outcome });
            self.world.dirty_episodes.insert(episode.id.clone());
            return;
        }
        self.admit(draft, episode, index, effects);
    }

    /// Whether a target has been healthy for as long as a policy is held at least, and nothing else is open about it.
    pub(super) fn is_verified_healthy(&self, state: &State, target: &Name, own: &EpisodeId) -> bool {
        let open = state.episodes.values().any(|episode| {
            let kind = &episode.key.kind;
            let apart = super::episodes::stands_apart(kind) || crate::model::is_forecast(kind);
            // The platform is many things: what is mild of one is not about another.
            let mild = *target == *PLATFORM && episode.facts.severity < Severity::High;
            episode.key.subsystem == *target && episode.id != *own && !apart && !mild
        });
        let healthy = match self.world.index.get(target) {
            Some(index) => self.is_lasting(self.world.subsystems[*index].healthy_since),
            // What is checked no longer is not healthy.
            None if *target == *PLATFORM => self.is_platform_whole(),
            None => *target == *HOST && self.world.resources.is_some(),
        };
        healthy && !open
    }

    /// Whether health since then has lasted as long as a policy is held at least.
    fn is_lasting(&self, since: Option<Timestamp>) -> bool {
        since.is_some_and(|since| self.world.last_seen >= since.plus(self.rules.policy.min_hold))
    }

    /// Whether every check has answered, and all that trading depends on fully has been healthy for as long as any other target
    /// would have to be.
    fn is_platform_whole(&self) -> bool {
        let all = self.rules.subsystems.iter().zip(&self.world.subsystems);
        let mut full = all.filter(|(subsystem, _)| subsystem.criticality == Criticality::Full);
        self.world.unseen == 0
            && !self.is_stormy()
            && self.is_lasting(Some(self.world.started_at))
            && full.all(|(_, seen)| self.is_lasting(seen.healthy_since))
    }

    /// Whether only a person undoes it, by the settings in force.
    fn is_manual(&self, rung: &Rung) -> bool {
        let spec = (self.rules.catalog)(&rung.action);
        spec.is_some_and(|spec| crate::recommend::autonomy(spec, &self.rules.recommend) == Autonomy::Manual)
    }

    /// The action that undoes another on a target, if one exists and is bound.
    fn reverse_of(&self, action: &Name, target: &Name) -> Option<Name> {
        let spec = (self.rules.catalog)(action).filter(|spec| !spec.raises_risk)?;
        let reverse = Name::from(spec.reverse?);
        self.binding(&reverse, target).is_some().then_some(reverse)
    }

    fn reversing(&self, reverse: &Name, origin: RungOrigin, containing: bool) -> Rung {
        let spec = (self.rules.catalog)(reverse);
        let autonomy = spec.map_or(Autonomy::Approval, |spec| crate::recommend::autonomy(spec, &self.rules.recommend));
        Rung { action: reverse.clone(), autonomy, containing, origin, outcome: None, attempts: 0, recommended_at: None }
    }
}

/// Whether a rung of undoing is still to be done: not begun, or failed and nobody was asked since.
fn goes_on(episode: &Episode, index: usize) -> bool {
    let rung = &episode.ladder[index];
    let failed = matches!(
        rung.outcome,
        Some(Outcome::Failed | Outcome::Unverified | Outcome::Indeterminate | Outcome::Cancelled)
    );
    let last = !episode.ladder[index + 1..].iter().any(|later| later.action == rung.action);
    rung.outcome.is_none() || failed && last
}
