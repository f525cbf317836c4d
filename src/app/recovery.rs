//! What happens to an open episode in one step: its run is verified, it is resolved, or its next rung is admitted.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::admit::{self, Ledger, Request, Verdict};
use crate::detect::flapping;
use crate::detect::status::Chance;
use crate::execute::Binding;
use crate::journal::{Episode, HoldKey, Record, Run, Rung, RungOrigin, State};
use crate::model::{
    ActionSpec, Autonomy, Class, Ending, EpisodeId, EpisodeKey, IssueSource, Name, Outcome, PLATFORM,
    POLICY_NOT_FOLLOWED, Reason, RecommendationState, RunKey, RunState, Timestamp, is_forecast,
};
use crate::recommend::ladder::{Next, Outlook, RungView, next, outlook};
use crate::verify::{self, Evidence};

use super::cycle::{Answered, Cycle, Effect, Prepared, Rules};
use super::draft::Draft;
use super::episodes::is_to_be_seen_only;
use super::points::policy_permits;
use super::reverse;
use super::storm;
use super::world::{Verifying, Waiting};

/// The binding's id of a run that only holds a level of chiron's own policy.
pub(super) const INTERNAL: &str = "internal";
/// How long an action waits for a person before one is told.
const ASK_AFTER: std::time::Duration = std::time::Duration::from_secs(60);
/// A wait that only the world can end is told to a person after this.
const HELD_LONG: std::time::Duration = std::time::Duration::from_secs(600);
/// How often a target is checked again while its action is verified.
const RECHECK: std::time::Duration = std::time::Duration::from_millis(500);
/// The same for a failure point.
const RECHECK_POINT: std::time::Duration = std::time::Duration::from_secs(5);

impl Cycle {
    /// The means have answered: journal it; what has nothing left to verify is closed at once.
    pub(super) fn take_answers(&mut self, draft: &mut Draft, answers: &[Answered]) {
        for answered in answers {
            let Some(run) = draft.state.runs.get(&answered.key).cloned() else { continue };
            if run.state != RunState::Started {
                continue;
            }
            let answer = &answered.answer;
            draft.push(Record::RunFinished {
                key: run.key.clone(),
                ending: answer.ending,
                detail: answer.detail.clone(),
                output: answer.output.clone(),
                duration_ms: u64::try_from(answered.duration.as_millis()).unwrap_or(u64::MAX),
                changed: answer.changed.clone(),
            });
            self.after_finish(draft, &run, answer.ending, &answer.detail);
        }
    }

    /// What a probe will compare with is known: the run is begun, unless the need for it has passed meanwhile.
    pub(super) fn take_prepared(&mut self, draft: &mut Draft, prepared: &[Prepared], effects: &mut Vec<Effect>) {
        for Prepared { key, evidence } in prepared {
            let Some(run) = draft.state.runs.get(key).filter(|run| run.state == RunState::Intended).cloned() else {
                continue;
            };
            let episode = draft.state.episodes.get(&key.episode);
            let over = episode.is_none_or(|episode| self.is_over(episode));
            // What is over is over, and no longer overdue.
            let gates = if over && !run.lowers_risk { None } else { self.is_barred(draft, &run) };
            let why_not = if self.world.stopping {
                Some(Reason::Stopping)
            } else if !self.world.journal_ok {
                Some(Reason::JournalUnavailable)
            } else if !self.is_bound_as(&run) {
                Some(Reason::Unbound)
            } else if gates.is_some() {
                gates
            } else if over && !run.lowers_risk {
                Some(Reason::Resolved)
            } else {
                run.not_after.is_some_and(|not_after| draft.now > not_after).then_some(Reason::Expired)
            };
            self.world.dirty_episodes.insert(key.episode.clone());
            if let Some(reason) = why_not {
                draft.push(Record::RunCancelled { key: key.clone(), reason });
                self.world.rouse(|reason| matches!(reason, Reason::Busy | Reason::Concurrency | Reason::GroupBusy));
                continue;
            }
            draft.push(Record::RunStarted { key: key.clone(), evidence: evidence.clone() });
            effects.push(Effect::Start(key.clone()));
        }
    }

    /// Whether what is bound to a run's action is still what it was decided with.
    pub(super) fn is_bound_as(&self, run: &Run) -> bool {
        let Some(binding) = self.binding(&run.action, &run.target) else { return false };
        let same = run.bound.as_ref().is_none_or(|bound| *bound == shown(binding));
        binding.id == run.binding && binding.class == run.class && same
    }

    /// Why a run that was decided earlier may not begin now: dry-run, or what it is for is by right meanwhile, or it raises risk
    /// and what that needs is gone.
    pub(super) fn is_barred(&self, draft: &Draft, run: &Run) -> Option<Reason> {
        let episode = draft.state.episodes.get(&run.key.episode)?;
        let rung = episode.ladder.get((run.key.rung as usize).saturating_sub(1))?;
        let spec = (self.rules.catalog)(&run.action)?;
        let rehearsed = self.rules.admit.dry_run
            || self.rules.admit.dry_run_actions.contains(&run.action)
            || self.binding(&run.action, &run.target).is_some_and(|binding| binding.dry_run);
        if rehearsed && !run.dry_run {
            return Some(Reason::DryRun);
        }
        if let Some(too_early) = self.is_too_early(episode, &run.action) {
            return Some(too_early.reason);
        }
        if !spec.raises_risk || matches!(rung.origin, RungOrigin::Undo(_)) {
            return None;
        }
        if !self.is_verified_healthy(&draft.state, &run.target, &run.key.episode) {
            return Some(Reason::Unhealthy);
        }
        if !self.watchdog_alive(draft) {
            return Some(Reason::Watchdog);
        }
        (!policy_permits(&draft.state, spec, &run.key.episode)).then_some(Reason::Policy)
    }

    /// Whether nothing holds an episode open: neither a check nor an alert, nor something that is to be undone or rehearsed.
    fn is_over(&self, episode: &Episode) -> bool {
        !episode.by_check && episode.alerts.is_empty() && !super::episodes::stands_apart(&episode.key.kind)
    }

    /// A run has finished: verification begins, or is over at once.
    pub(super) fn after_finish(&mut self, draft: &mut Draft, run: &Run, ending: Ending, detail: &str) {
        let verdict = match ending {
            Ending::Ok if !contains(draft, &run.key) => None,
            Ending::Ok => Some((Outcome::Verified, format!("took effect: {detail}"))),
            Ending::DryRun => Some((Outcome::DryRun, detail.to_owned())),
            Ending::Failed | Ending::Timeout | Ending::NotStarted => Some((Outcome::Failed, detail.to_owned())),
        };
        match verdict {
            Some((outcome, detail)) => draft.push(Record::RunVerified { key: run.key.clone(), outcome, detail }),
            None => self.begin_verification(run, draft.now),
        }
        self.world.dirty_episodes.insert(run.key.episode.clone());
        self.world.rouse(|reason| {
            matches!(reason, Reason::Busy | Reason::Concurrency | Reason::Cooldown | Reason::GroupBusy)
        });
    }

    /// Remembers from when checks of the run's target count as proof, and until when.
    pub(super) fn begin_verification(&mut self, run: &Run, now: Timestamp) {
        let (settle, within) = self.verify_settings(run);
        // Counted from now also after a restart, so that an outage of ours is not held against the action.
        let looks_from = now.plus(settle);
        let verifying = Verifying {
            looks_from,
            deadline: now.plus(within.max(settle)),
            next_look: looks_from,
            counted: None,
            healthy: 0,
        };
        self.world.wake(verifying.looks_from, &run.key.episode);
        self.world.wake(verifying.deadline, &run.key.episode);
        self.world.verifying.insert(run.key.clone(), verifying);
    }

    fn verify_settings(&self, run: &Run) -> (std::time::Duration, std::time::Duration) {
        let binding = self.binding(&run.action, &run.target);
        let default = (std::time::Duration::from_secs(1), std::time::Duration::from_secs(60));
        binding.map_or(default, |binding| (binding.verify.settle, binding.verify.within))
    }

    /// A check has spoken: it counts for runs under verification on that target. `kind` narrows it to one issue type, for
    /// what is judged one by one: the host's resources, vitals, failure points. `healthy` tells for an issue's key.
    pub(super) fn note_for_verification(
        &mut self,
        state: &State,
        target: &str,
        kind: Option<&str>,
        began: Timestamp,
        healthy: impl Fn(&EpisodeKey) -> bool,
    ) {
        for (key, verifying) in &mut self.world.verifying {
            let Some(run) = state.runs.get(key) else { continue };
            let Some(episode) = state.episodes.get(&key.episode) else { continue };
            let concerns = run.target == *target
                && match kind {
                    Some(kind) => episode.key.kind == *kind,
                    None => !looked_at_by_itself(&self.rules, &self.world.index, &episode.key),
                };
            if !concerns || began < verifying.looks_from {
                continue;
            }
            // Looks in quick succession are one look: holding down takes time.
            let apart = verifying.counted.is_none_or(|last| began >= last.plus(RECHECK));
            if !healthy(&episode.key) {
                verifying.healthy = 0;
                verifying.counted = None;
            } else if apart {
                verifying.healthy += 1;
                verifying.counted = Some(began);
            }
            self.world.dirty_episodes.insert(key.episode.clone());
        }
    }

    /// Looks at every episode that something happened to.
    pub(super) fn recover(&mut self, draft: &mut Draft, effects: &mut Vec<Effect>) {
        // An episode's end can free a target for another; the order of ids is the order of opening per subsystem.
        while let Some(id) = self.world.dirty_episodes.pop_first() {
            self.look_at(draft, &id, effects);
            // What recovery no longer wants to ask cannot be answered either.
            let from = RunKey { episode: id.clone(), rung: 0, attempt: 0 };
            if self.world.asking.range(from..).next().is_none_or(|key| key.episode != id) {
                self.withdraw_questions(draft, &id, None);
            }
        }
    }

    fn look_at(&mut self, draft: &mut Draft, id: &EpisodeId, effects: &mut Vec<Effect>) {
        let Some(episode) = draft.state.episodes.get(id).cloned() else {
            self.world.waiting.remove(id);
            self.world.recheck.remove(id);
            self.world.asked_since.remove(id);
            return;
        };
        if let Some(key) = &episode.run {
            let Some(run) = draft.state.runs.get(key).cloned() else { return };
            match run.state {
                RunState::Finished => self.verify(draft, &run, effects),
                RunState::Started => self.settle_asked(draft, &run, effects),
                _ => {}
            }
            if draft.state.runs.contains_key(key) {
                self.wait(draft, id, key.rung, RecommendationState::Running, Reason::Running, None);
                return;
            }
        }
        self.drop_stale_wishes(draft, id);
        let Some(episode) = draft.state.episodes.get(id).cloned() else { return };
        if self.resolve_if_over(draft, &episode) {
            return;
        }
        self.next_rung(draft, &episode, effects);
    }

    fn verify(&mut self, draft: &mut Draft, run: &Run, effects: &mut Vec<Effect>) {
        let Some(verifying) = self.world.verifying.get(&run.key).copied() else {
            self.begin_verification(run, draft.now);
            return;
        };
        let hold_down = self.binding(&run.action, &run.target).map_or(1, |binding| binding.verify.hold_down);
        let evidence = Evidence {
            deadline: verifying.deadline,
            hold_down,
            healthy_in_a_row: verifying.healthy,
            worse: self.made_worse(run).is_some(),
        };
        let Some(outcome) = verify::judge(&evidence, draft.now) else {
            if draft.now >= verifying.next_look
                && let Some(index) = self.check_of(draft, run)
            {
                effects.push(Effect::ForceCheck(index));
                // A failure point asks others than the target: an exchange, say, that wants to be asked less and not more.
                let of_point = index >= self.names.len();
                let next_look = draft.now.plus(if of_point { RECHECK_POINT } else { RECHECK });
                self.world.wake(next_look.min(verifying.deadline), &run.key.episode);
                if let Some(verifying) = self.world.verifying.get_mut(&run.key) {
                    verifying.next_look = next_look;
                }
            }
            return;
        };
        let status = self.world.status(&run.target);
        let waited = draft.now.since(run.ended_at.unwrap_or(draft.now)).as_secs_f64();
        let of_itself = draft.state.episodes.get(&run.key.episode).map(|episode| &episode.key);
        let of_itself = of_itself.filter(|key| looked_at_by_itself(&self.rules, &self.world.index, key));
        let detail = match outcome {
            Outcome::Verified if let Some(key) = of_itself => {
                format!("{} no longer shows {} {waited:.1} s after the action", run.target, key.kind)
            }
            Outcome::Unverified if let Some(key) = of_itself => format!(
                "{} still shows {} {waited:.1} s after the action, or tells nothing of it",
                run.target, key.kind
            ),
            Outcome::Verified => format!("{} is healthy {waited:.1} s after the action", run.target),
            Outcome::Failed => {
                let worse = self.made_worse(run).unwrap_or_default();
                format!("it made things worse: {worse} {waited:.1} s after the action")
            }
            _ => format!("{} is still {status} {waited:.1} s after the action", run.target),
        };
        self.world.verifying.remove(&run.key);
        let worse = outcome == Outcome::Failed;
        draft.push(Record::RunVerified { key: run.key.clone(), outcome, detail });
        if worse {
            self.plan_undo(draft, run);
        }
        self.world.rouse(|reason| matches!(reason, Reason::Busy | Reason::Concurrency | Reason::GroupBusy));
    }

    /// Ends an episode that nothing holds open, after the damping of one that flaps.
    fn resolve_if_over(&mut self, draft: &mut Draft, episode: &Arc<Episode>) -> bool {
        if episode.by_check || !episode.alerts.is_empty() || self.reverse_goes_on(draft, episode) {
            self.world.clear_since.remove(&episode.id);
            return false;
        }
        let since = *self.world.clear_since.entry(episode.id.clone()).or_insert(draft.now);
        let hold = self.rules.detect.flap_hold;
        if !flapping::may_resolve(episode.flapping, since, &self.rules.detect, draft.now) {
            self.world.wake(since.plus(hold), &episode.id);
            self.wait(draft, &episode.id, 0, RecommendationState::Waiting, Reason::Resolved, Some(since.plus(hold)));
            return true;
        }
        self.world.clear_since.remove(&episode.id);
        self.world.waiting.remove(&episode.id);
        self.world.recheck.remove(&episode.id);
        self.world.asked_since.remove(&episode.id);
        self.withdraw_questions(draft, &episode.id, None);
        draft.push(Record::EpisodeResolved { id: episode.id.clone() });
        self.plan_reverses(draft, episode);
        true
    }

    fn next_rung(&mut self, draft: &mut Draft, episode: &Arc<Episode>, effects: &mut Vec<Effect>) {
        if episode.key.kind == *reverse::REVERSE {
            return self.next_reverse(draft, episode, effects);
        }
        if episode.key.kind == *storm::STORM && episode.key.subsystem == *PLATFORM {
            return self.escalate(draft, episode, Reason::Storm);
        }
        loop {
            let Some(episode) = draft.state.episodes.get(&episode.id).cloned() else { return };
            let mut rungs = self.rung_views(&draft.state, &episode);
            self.pass_over_asking(&draft.state, &episode, &mut rungs, draft.now);
            let healthy = self.is_whole(&draft.state, &episode);
            let index = match next(&rungs, self.rules.admit.dry_run, healthy) {
                Next::Rung(index) => index,
                Next::Rehearsed(index) => {
                    let rung = number(index);
                    return self.wait(draft, &episode.id, rung, RecommendationState::Waiting, Reason::DryRun, None);
                }
                Next::Helped => {
                    self.world.waiting.remove(&episode.id);
                    return;
                }
                Next::Exhausted => return self.escalate(draft, &episode, Reason::Exhausted),
                Next::Indeterminate => return self.escalate(draft, &episode, Reason::Indeterminate),
            };
            // A rung that nothing is bound to is left for the next bound one; if there is none, a person sees it.
            let bound_later = rungs[index + 1..].iter().any(|rung| rung.bound && rung.outcome.is_none());
            if !rungs[index].bound && bound_later && !self.rules.admit.dry_run {
                let (rung, outcome) = (number(index), Outcome::Unbound);
                draft.push(Record::RungSkipped { episode: episode.id.clone(), rung, outcome });
                continue;
            }
            return self.admit(draft, &episode, index, effects);
        }
    }

    pub(super) fn admit(&mut self, draft: &mut Draft, episode: &Arc<Episode>, index: usize, effects: &mut Vec<Effect>) {
        let Some(rung) = episode.ladder.get(index) else { return };
        let Some(spec) = (self.rules.catalog)(&rung.action) else { return };
        let admission = self.admission(draft, episode, index, false, effects);
        let state = match admission.verdict {
            Verdict::Run | Verdict::Rehearse => {
                let dry_run = admission.verdict == Verdict::Rehearse;
                self.start(draft, episode, index, spec, dry_run, effects);
                return;
            }
            Verdict::Ask => RecommendationState::Approval,
            Verdict::Wait | Verdict::No => RecommendationState::Waiting,
        };
        if let Some(until) = admission.not_before {
            self.world.wake(until, &episode.id);
        }
        self.wait(draft, &episode.id, number(index), state, admission.reason, admission.not_before);
        match admission.reason {
            reason @ (Reason::Unbound | Reason::GroupUnhealthy) => self.tell_person(draft, episode, reason),
            // Nothing that chiron does by itself is left of what a failure point's ladder has.
            Reason::Manual if episode.facts.source == IssueSource::FailurePoint => {
                self.tell_person(draft, episode, Reason::Manual);
            }
            reason @ (Reason::Storm | Reason::Unhealthy | Reason::Watchdog | Reason::Policy) => {
                self.world.asked_since.remove(&episode.id);
                if spec.raises_risk {
                    // Health, the Watchdog and the policy are looked at again, whatever wakes them.
                    self.world.wake(draft.now.plus(super::cycle::TICK), &episode.id);
                }
                self.tell_if_long(draft, &episode.id, reason);
            }
            Reason::ApprovalPending => {
                let attempt = rung.attempts + 1;
                let key = RunKey { episode: episode.id.clone(), rung: number(index), attempt };
                self.world.asking.insert(key);
                // An alert that asks for the same action is often only seconds away.
                let since = *self.world.asked_since.entry(episode.id.clone()).or_insert(draft.now);
                if draft.now.since(since) >= ASK_AFTER {
                    // Whoever was told that the question expired knows that it is there.
                    if episode.escalated != Some(Reason::Expired) {
                        self.tell_person(draft, episode, Reason::ApprovalPending);
                    }
                } else {
                    self.world.wake(since.plus(ASK_AFTER), &episode.id);
                }
            }
            _ => drop(self.world.asked_since.remove(&episode.id)),
        }
    }

    /// What may last for ever is told to a person once it has lasted.
    fn tell_if_long(&mut self, draft: &mut Draft, id: &EpisodeId, reason: Reason) {
        let Some(episode) = draft.state.episodes.get(id).cloned() else { return };
        let held = episode.notes.iter().rev().take_while(|note| note.reason == reason).last();
        let since = held.map_or(draft.now, |note| note.at);
        if draft.now >= since.plus(HELD_LONG) {
            self.tell_person(draft, &episode, reason);
        } else {
            self.world.wake(since.plus(HELD_LONG), id);
        }
    }

    /// May a rung run now? `approved` by a person, or by itself.
    pub(super) fn admission(
        &mut self,
        draft: &Draft,
        episode: &Episode,
        index: usize,
        approved: bool,
        effects: &mut Vec<Effect>,
    ) -> admit::Admission {
        let no = admit::Admission { verdict: Verdict::No, reason: Reason::Unbound, not_before: None };
        let Some(rung) = episode.ladder.get(index) else { return no };
        let Some(spec) = (self.rules.catalog)(&rung.action) else { return no };
        let Some(view) = self.rung_views(&draft.state, episode).get(index).copied() else { return no };
        let target = &episode.key.subsystem;
        if let Some(too_early) = self.is_too_early(episode, &rung.action) {
            return too_early;
        }
        let unconfirmed = matches!(rung.origin, RungOrigin::AlertIfConfirmed(_)) && !self.world.is_broken(target);
        let request = Request {
            autonomy: view.autonomy,
            // To take back what made things worse waits for nothing but its target.
            lowers_risk: self.is_free(spec, rung, target),
            raises_risk: spec.raises_risk && !matches!(rung.origin, RungOrigin::Undo(_)),
            dry_run: view.rehearsed_only,
            bound: view.bound,
            unconfirmed,
            approved,
        };
        let has_means = self.binding(&rung.action, target).is_some();
        let root_broken = !approved && self.waits_for_root(draft, episode, effects);
        let touch = draft.state.touches.get(target);
        let starts = starts_and_reserved(draft);
        let (group_busy, group_unhealthy) = self.group_stands(&draft.state, target);
        let ledger = Ledger {
            stopping: self.world.stopping,
            journal_ok: self.world.journal_ok,
            started_up: self.world.unseen == 0,
            // A level of chiron's own policy touches nothing, so it never waits for the target.
            busy: draft.state.is_busy(target) && (!spec.lowers_risk || has_means),
            running: at_work(&draft.state),
            root_broken,
            target_ended_at: touch.and_then(|touch| touch.ended_at),
            retry_at: self.retry_at(&draft.state, episode, index, draft.now),
            target_starts: touch.map_or(&[], |touch| &touch.starts),
            overall_starts: &starts,
            healthy: self.is_verified_healthy(&draft.state, target, &episode.id),
            watchdog_alive: self.watchdog_alive(draft),
            policy_permits: policy_permits(&draft.state, spec, &episode.id),
            maintenance_until: self.maintenance_until(draft, target, &rung.action),
            in_storm: self.is_stormbound(target),
            group_busy,
            group_unhealthy,
        };
        let admission = admit::admit(&request, &ledger, &self.rules.admit, draft.now);
        let pause = self.pause(&draft.state, episode, index, draft.now).filter(|until| draft.now < *until);
        match pause.filter(|_| admission.verdict == Verdict::Run && !approved) {
            Some(until) => {
                admit::Admission { verdict: Verdict::Wait, reason: Reason::Cooldown, not_before: Some(until) }
            }
            None => admission,
        }
    }

    /// Until when a rung that was tried and did not help is not tried again.
    fn retry_at(&self, state: &State, episode: &Episode, index: usize, now: Timestamp) -> Option<Timestamp> {
        let rung = episode.ladder.get(index)?;
        if !matches!(rung.outcome, Some(Outcome::Failed | Outcome::Unverified)) {
            return None;
        }
        let (last, ended) = last_try(state, episode, index, rung.attempts);
        let touched = || state.touches.get(&episode.key.subsystem).and_then(|touch| touch.ended_at);
        Some(self.rules.admit.retry_backoff.until(&last, ended.or_else(touched)?, now))
    }

    pub(super) fn start(
        &mut self,
        draft: &mut Draft,
        episode: &Arc<Episode>,
        index: usize,
        spec: &'static ActionSpec,
        dry_run: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(rung) = episode.ladder.get(index) else { return };
        // Whatever was asked about this issue is answered by what is begun.
        self.withdraw_questions(draft, &episode.id, None);
        let target = &episode.key.subsystem;
        let binding = self.binding(&rung.action, target);
        let key = RunKey { episode: episode.id.clone(), rung: number(index), attempt: rung.attempts + 1 };
        let lowers_risk = self.is_free(spec, rung, target);
        let not_after = (!lowers_risk).then(|| draft.now.plus(self.rules.admit.not_after));
        draft.push(Record::RunIntended {
            key: key.clone(),
            action: rung.action.clone(),
            target: target.clone(),
            binding: binding.map_or_else(|| INTERNAL.into(), |binding| binding.id.clone()),
            class: binding.map_or(Class::Natural, |binding| binding.class),
            dry_run,
            lowers_risk,
            not_after,
            before: Some(self.how_things_stand(target)),
            bound: binding.map(|binding| shown(binding)),
        });
        let has_means = binding.is_some();
        // What a probe will compare with is durable before anything is begun.
        let takes_evidence = !dry_run
            && binding.is_some_and(|binding| binding.class == Class::Probeable && binding.actuator.takes_evidence());
        if !takes_evidence {
            draft.push(Record::RunStarted { key: key.clone(), evidence: None });
        }
        if !dry_run && let Some(level) = spec.holds {
            let reason = format!("{} for {}", spec.name, episode.facts.description);
            let key = HoldKey { source: crate::model::PolicySource::Action, subject: episode.id.clone() };
            // A stricter action of the same issue holds on (POL-3).
            if draft.state.holds.get(&key).is_none_or(|held| held.level < level) {
                self.set_hold(draft, key, level, reason, (None, None));
            }
        }
        let Some(run) = draft.state.runs.get(&key).cloned() else { return };
        if has_means && !dry_run {
            effects.push(if takes_evidence { Effect::Prepare(key.clone()) } else { Effect::Start(key.clone()) });
            self.wait(draft, &episode.id, key.rung, RecommendationState::Running, Reason::Running, None);
            return;
        }
        let (ending, detail) = if dry_run {
            let bound = has_means || spec.holds.is_some();
            let nothing = if bound { "nothing was done" } else { "nothing was done, and nothing is bound to it" };
            (Ending::DryRun, format!("dry-run: {nothing}"))
        } else {
            (Ending::Ok, spec.holds.map_or_else(String::new, |level| format!("policy {level} is held")))
        };
        draft.push(Record::RunFinished {
            key,
            ending,
            detail: detail.clone(),
            output: String::new(),
            duration_ms: 0,
            changed: String::new(),
        });
        self.after_finish(draft, &run, ending, &detail);
    }

    /// Nothing more is done by itself: a person is told, once, and the last rung stays in sight with the reason.
    fn escalate(&mut self, draft: &mut Draft, episode: &Arc<Episode>, reason: Reason) {
        let was_tried = |rung: &Rung| rung.outcome.is_some_and(|outcome| outcome != Outcome::NotNeeded);
        let tried = episode.ladder.iter().rposition(was_tried).map_or(0, number);
        self.wait(draft, &episode.id, tried, RecommendationState::Waiting, reason, None);
        self.tell_person(draft, episode, reason);
    }

    /// A person is told once for each reason in a row.
    pub(super) fn tell_person(&self, draft: &mut Draft, episode: &Episode, reason: Reason) {
        // What has not happened yet gets nobody out of bed; an alert of its own tells of it.
        if episode.escalated != Some(reason) && !is_forecast(&episode.key.kind) && !is_to_be_seen_only(episode) {
            draft.push(Record::EpisodeEscalated { id: episode.id.clone(), reason });
        }
    }

    /// The check that says whether a run has helped: the failure point whose issue it is for, else its target's own.
    pub(super) fn check_of(&self, draft: &Draft, run: &Run) -> Option<usize> {
        let kind = draft.state.episodes.get(&run.key.episode).map(|episode| &episode.key.kind);
        let mut points = self.rules.failure_points.iter();
        let point = points.position(|point| kind == Some(&point.category) && point.subsystem == run.target);
        point.map(|index| self.names.len() + index).or_else(|| self.world.index.get(&run.target).copied())
    }

    /// Whether the target of an episode is healthy by its own check; for the host, and for what is looked at by itself,
    /// whether this issue is not raised.
    fn is_whole(&self, state: &State, episode: &Episode) -> bool {
        // What a subsystem's check says is no proof that the bot follows the policy.
        let by_check = episode.key.kind != *POLICY_NOT_FOLLOWED
            && !looked_at_by_itself(&self.rules, &self.world.index, &episode.key);
        match self.world.index.get(&episode.key.subsystem) {
            // What has helped is not doubted before the check has spoken since the start.
            Some(index) if by_check => {
                let seen = &self.world.subsystems[*index];
                // What rules of their own raise is not this issue.
                let status = seen.health.signals.own_status.unwrap_or(seen.health.status);
                !seen.seen || status == crate::model::Status::Healthy
            }
            _ => state.episodes.get(&episode.id).is_some_and(|episode| !episode.by_check),
        }
    }

    /// Why an episode's next rung does not run now. From the first time on it is a recommendation, and each change of the
    /// reason is journaled.
    pub(super) fn wait(
        &mut self,
        draft: &mut Draft,
        id: &EpisodeId,
        rung: u32,
        state: RecommendationState,
        reason: Reason,
        not_before: Option<Timestamp>,
    ) {
        let before = self.world.waiting.insert(id.clone(), Waiting { rung, state, reason, not_before });
        let news = before.is_none_or(|before| before.reason != reason || before.rung != rung);
        if news && !matches!(reason, Reason::Running | Reason::DryRun | Reason::Resolved) {
            self.world.held_up.push(reason);
        }
        self.note_held(draft, id, rung, reason, not_before);
    }

    pub(super) fn binding(&self, action: &Name, target: &Name) -> Option<&Arc<Binding>> {
        self.rules.bindings.get(&(action.clone(), target.clone()))
    }

    /// The rungs of an episode as the ladder's logic sees them.
    pub(super) fn rung_views(&self, state: &State, episode: &Episode) -> Vec<RungView> {
        let rejected = super::approvals::was_rejected(episode);
        episode
            .ladder
            .iter()
            .enumerate()
            .map(|(index, rung)| {
                let binding = self.binding(&rung.action, &episode.key.subsystem);
                let holds = (self.rules.catalog)(&rung.action).is_some_and(|spec| spec.holds.is_some());
                let used = rung.attempts.saturating_sub(1);
                let left = binding.map_or(0, |binding| binding.retries.saturating_sub(used));
                // What a later recommendation has followed is over.
                // And what made things worse is not repeated.
                let undone = episode.ladder.iter().any(|later| later.origin == RungOrigin::Undo(number(index)));
                let left = if undone || episode.is_behind(index) { 0 } else { left };
                let too_early = self.is_too_early(episode, &rung.action).is_some();
                let retryable = left > 0 && !too_early && self.may_retry(state, episode, index, rung.attempts, binding);
                // What nothing is to be done about yet holds up nothing that is, whoever has put it there.
                let passed = too_early && matches!(rung.outcome, None | Some(Outcome::Cancelled | Outcome::DryRun));
                // After a person's no, only what lowers risk goes on by itself.
                let autonomy = self.autonomy_now(episode, rung);
                let asks = rejected
                    && autonomy == Autonomy::Automatic
                    && !(self.rules.catalog)(&rung.action).is_some_and(|spec| spec.lowers_risk);
                RungView {
                    autonomy: if asks { Autonomy::Approval } else { autonomy },
                    rehearsed_only: binding.is_some_and(|binding| binding.dry_run)
                        || self.rules.admit.dry_run_actions.contains(&rung.action),
                    // Taking back what made things worse is not passed over while a person is asked.
                    containing: rung.containing && !matches!(rung.origin, RungOrigin::Undo(_)),
                    bound: binding.is_some() || holds,
                    outcome: if passed { Some(Outcome::NotNeeded) } else { rung.outcome },
                    attempts: rung.attempts,
                    retries_left: if retryable { left } else { 0 },
                }
            })
            .collect()
    }

    /// How far a rung may go alone under the settings in force: never further than when it was put on the ladder, but for
    /// what a drill or an alert's route has granted. What raises risk, closes every position, or has a word of the
    /// operator's of its own is granted by nobody else.
    fn autonomy_now(&self, episode: &Episode, rung: &Rung) -> Autonomy {
        let Some(spec) = (self.rules.catalog)(&rung.action) else { return rung.autonomy };
        let settings = &self.rules.recommend;
        let granted = matches!(rung.origin, RungOrigin::Alert(_) | RungOrigin::AlertIfConfirmed(_));
        let strict =
            spec.raises_risk || spec.name == "close_all_positions" || settings.autonomy.contains_key(spec.name);
        let strict = strict || crate::recommend::furthest(spec.name) > Autonomy::Automatic;
        if episode.key.kind == *super::drills::DRILL || granted && !strict {
            return rung.autonomy;
        }
        rung.autonomy.max(crate::recommend::autonomy(spec, settings))
    }

    /// ACT-3: a one-shot is retried only if it provably never started; what is recognised by its key or its probe, and a
    /// further try has another key and no probe, only if it is certain how it ended.
    fn may_retry(
        &self,
        state: &State,
        episode: &Episode,
        index: usize,
        attempt: u32,
        binding: Option<&Arc<Binding>>,
    ) -> bool {
        let Some(binding) = binding else { return false };
        let key = RunKey { episode: episode.id.clone(), rung: number(index), attempt };
        let Some(last) = state.ended_runs.iter().rev().find(|run| run.key == key) else {
            return binding.class == Class::Natural;
        };
        match (binding.class, last.ending) {
            (Class::Natural, _) | (_, Some(Ending::NotStarted)) => true,
            (Class::OneShot, _) | (_, Some(Ending::Timeout) | None) => false,
            // A request that got no whole answer has failed too.
            (_, Some(Ending::Failed)) => binding.actuator.means() != crate::model::Means::Http,
            (_, Some(_)) => true,
        }
    }

    /// What recovery can still do for a critical subsystem (OBS-1).
    pub(super) fn chance(&self, state: &State, index: usize) -> Chance {
        if self.rules.admit.dry_run {
            return Chance::DryRun;
        }
        let open = super::episodes::open_of(state, &self.names[index]);
        // What makes the subsystem critical: its status, or what a rule of its own tells of its vitals.
        let mut chances = open
            .iter()
            .filter_map(|(key, id)| state.episodes.get(id).map(|episode| (key, episode)))
            .filter(|(key, episode)| {
                key.kind == *crate::detect::rules::SUBSYSTEM_STATUS
                    || episode.by_check && crate::detect::rules::breaks_a_subsystem(&key.kind)
            })
            .map(|(_, episode)| {
                if episode.run.is_some() {
                    return Chance::Open;
                }
                match outlook(&self.rung_views(state, episode)) {
                    Outlook::Open => Chance::Open,
                    Outlook::Spent => Chance::Spent,
                    Outlook::Nobody => Chance::Nobody,
                }
            });
        let Some(first) = chances.next() else { return Chance::Open };
        chances.fold(first, |worst, next| match (worst, next) {
            (Chance::Open, _) | (_, Chance::Open) => Chance::Open,
            (Chance::Spent, _) | (_, Chance::Spent) => Chance::Spent,
            _ => Chance::Nobody,
        })
    }
}

/// Whether an issue is cleared by a look of its own and not by its subsystem's grade.
fn looked_at_by_itself(rules: &Rules, index: &HashMap<Name, usize>, key: &EpisodeKey) -> bool {
    let raised = index.get(&key.subsystem).and_then(|index| rules.raises.get(*index)).copied().unwrap_or_default();
    raised.iter().any(|kind| key.kind == **kind)
        || is_forecast(&key.kind)
        || rules.failure_points.iter().any(|point| point.category == key.kind && point.subsystem == key.subsystem)
}

/// The latest try of a rung, and when it ended, if that is remembered.
pub(super) fn last_try(state: &State, episode: &Episode, index: usize, attempt: u32) -> (RunKey, Option<Timestamp>) {
    let key = RunKey { episode: episode.id.clone(), rung: number(index), attempt };
    let ended = state.ended_runs.iter().rev().find(|run| run.key == key).and_then(|run| run.ended_at);
    (key, ended)
}

/// The 1-based number of a rung.
pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

/// Whether a run is verified by its effect: it only contains, or its trouble has not happened yet, so that no check could
/// tell whether it was averted.
fn contains(draft: &Draft, key: &RunKey) -> bool {
    let episode = draft.state.episodes.get(&key.episode);
    let rung = episode.and_then(|episode| episode.ladder.get((key.rung as usize).saturating_sub(1)));
    rung.is_some_and(|rung| rung.containing) || episode.is_some_and(|episode| is_forecast(&episode.key.kind))
}

/// Starts of counted runs overall, and one now for each run that is decided and whose evidence is still being gathered: it
/// has its token already.
fn starts_and_reserved(draft: &Draft) -> Cow<'_, [Timestamp]> {
    let decided = |run: &&Arc<Run>| run.state == RunState::Intended && !run.lowers_risk && !run.dry_run;
    let reserved = draft.state.runs.values().filter(decided).count();
    if reserved == 0 {
        return Cow::Borrowed(&draft.state.starts);
    }
    draft.state.starts.iter().copied().chain(std::iter::repeat_n(draft.now, reserved)).collect()
}

/// Runs that are begun, or are about to be.
fn at_work(state: &State) -> usize {
    state.runs.values().filter(|run| matches!(run.state, RunState::Intended | RunState::Started)).count()
}

/// What a binding does, for the journal and for people.
pub(super) fn shown(binding: &Binding) -> String {
    let mut text = binding.actuator.describe();
    crate::base::redact::string(&mut text);
    text
}
