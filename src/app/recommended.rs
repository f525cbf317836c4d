//! What makes a rung a recommendation, and what lets it keep its number: `rec_N_ISSUE` is the same one for ever.
//!
//! A rung is a recommendation from the moment it is the next one to be done. One that loses its place ends as `not_needed`
//! and a fresh copy goes behind.
//! **Invariant:** pure; nothing is journaled in a step that has no news, and a ladder grows only so far.

use std::time::Duration;

use crate::journal::{Episode, Record, Rung, RungOrigin};
use crate::model::{EpisodeId, Outcome, Reason, Timestamp};
use crate::recommend::Step;

use super::cycle::Cycle;
use super::draft::Draft;
use super::recovery::number;

/// The same reason for the same rung is journaled again only after this, whatever it alternates with.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Recommendations of one issue that lost their place. Beyond that none is begun by waiting alone, and none gives way, so
/// that no wavering issue makes its ladder grow without end.
const SUPERSEDED_MAX: usize = 20;

impl Cycle {
    /// Journals why a rung does not run now, if that is news.
    pub(super) fn note_held(
        &mut self,
        draft: &mut Draft,
        id: &EpisodeId,
        rung: u32,
        reason: Reason,
        not_before: Option<Timestamp>,
    ) {
        if rung == 0 || matches!(reason, Reason::Running | Reason::DryRun | Reason::Resolved) {
            return;
        }
        let Some(episode) = draft.state.episodes.get(id) else { return };
        if episode.notes.last().is_some_and(|last| (last.rung, last.reason) == (rung, reason)) {
            return;
        }
        let begun = episode.ladder.get(rung as usize - 1).is_some_and(|rung| rung.recommended_at.is_some());
        if !begun && superseded(&episode.ladder) >= SUPERSEDED_MAX {
            return;
        }
        let earlier = episode.notes.iter().rev().find(|note| (note.rung, note.reason) == (rung, reason));
        if let Some(again) = earlier.map(|note| note.at.plus(AGAIN_AFTER)).filter(|again| draft.now < *again) {
            self.world.wake(again, id);
            return;
        }
        draft.push(Record::RecommendationHeld { episode: id.clone(), rung, reason, not_before });
    }

    /// What an alert wished for, and was not begun, goes with the alert (ALR-2); the ladder's own rungs come back.
    pub(super) fn drop_stale_wishes(&mut self, draft: &mut Draft, id: &EpisodeId) {
        let Some(episode) = draft.state.episodes.get(id).cloned() else { return };
        let is_stale = |rung: &Rung| match &rung.origin {
            RungOrigin::Ladder | RungOrigin::Undo(_) | RungOrigin::Reverse(_) => false,
            RungOrigin::Alert(wisher) | RungOrigin::AlertIfConfirmed(wisher) => {
                rung.attempts == 0 && rung.outcome.is_none() && !episode.alerts.contains(wisher)
            }
        };
        // An alert that opens an episode is recorded after it; only one that has been taken can have gone.
        if episode.alerts.is_empty() && !episode.by_check || !episode.ladder.iter().any(is_stale) {
            return;
        }
        let fixed = fixed(&episode.ladder);
        let mut kept = Vec::new();
        for (index, rung) in episode.ladder.iter().enumerate() {
            match is_stale(rung) {
                false => kept.push(rung.clone()),
                true if index < fixed => {
                    kept.push(Rung { outcome: Some(Outcome::NotNeeded), ..rung.clone() });
                    if rung.recommended_at.is_some() {
                        let (episode, rung) = (id.clone(), number(index));
                        let (reason, not_before) = (Reason::Resolved, None);
                        draft.push(Record::RecommendationHeld { episode, rung, reason, not_before });
                    }
                }
                true => {}
            }
        }
        let ladder = self.ladder(&episode.key.subsystem, &episode.key.kind, episode.facts.severity, &kept);
        note_superseded(draft, &episode, &kept, &ladder);
        let (facts, by_check, flapping) = (episode.facts.clone(), episode.by_check, episode.flapping);
        draft.push(Record::EpisodeChanged { id: id.clone(), facts, ladder, by_check, flapping });
    }
}

/// Journals which recommendations of `old` have lost their place in `new`.
pub(super) fn note_superseded(draft: &mut Draft, episode: &Episode, old: &[Rung], new: &[Rung]) {
    for (index, (was, is)) in old.iter().zip(new).enumerate() {
        let ends = was.outcome.is_none() && is.outcome == Some(Outcome::NotNeeded);
        if ends && was.recommended_at.is_some() {
            let (episode, rung) = (episode.id.clone(), number(index));
            let (reason, not_before) = (Reason::Superseded, None);
            draft.push(Record::RecommendationHeld { episode, rung, reason, not_before });
        }
    }
}

/// How many rungs, from the first on, keep their number whatever happens.
pub(super) fn fixed(ladder: &[Rung]) -> usize {
    let told = |rung: &Rung| rung.recommended_at.is_some() || rung.attempts > 0 || rung.outcome.is_some();
    ladder.iter().rposition(told).map_or(0, |last| last + 1)
}

/// Whether a rung waits for its first try.
fn waits(rung: &Rung) -> bool {
    rung.attempts == 0 && rung.outcome.is_none()
}

fn superseded(ladder: &[Rung]) -> usize {
    ladder.iter().filter(|rung| rung.outcome == Some(Outcome::NotNeeded)).count()
}

/// The rung of a step of a ladder.
fn rung_of(step: Step) -> Rung {
    Rung {
        action: step.action,
        autonomy: step.autonomy,
        containing: step.containing,
        origin: RungOrigin::Ladder,
        outcome: None,
        attempts: 0,
        recommended_at: None,
    }
}

/// The ladder of `steps` behind what `old` has to keep: what was told of keeps its number, what was wished for stays. Of
/// the steps only those are added that have not been tried as often as the ladder has them, so that a wavering severity
/// repeats nothing. What waits and is wanted no longer, or only after something else, ends as not needed.
pub(super) fn merged(old: &[Rung], steps: Vec<Step>) -> Vec<Rung> {
    let fixed = fixed(old);
    let wished = |rung: &&Rung| rung.origin != RungOrigin::Ladder;
    let mut ladder: Vec<Rung> = old[..fixed].iter().chain(old[fixed..].iter().filter(wished)).cloned().collect();
    let room = superseded(old) < SUPERSEDED_MAX;
    let own = |rung: &Rung| waits(rung) && rung.origin == RungOrigin::Ladder;
    // Rungs that no step has been held against yet.
    let mut free: Vec<usize> =
        (0..ladder.len()).filter(|index| ladder[*index].outcome != Some(Outcome::NotNeeded)).collect();
    let mut added = Vec::new();
    for step in steps {
        let found = free.iter().position(|index| ladder[*index].action == step.action);
        match found.map(|place| free.remove(place)) {
            // It would come before what is milder.
            Some(index) if own(&ladder[index]) && !added.is_empty() && room => {
                ladder[index].outcome = Some(Outcome::NotNeeded);
                added.push(rung_of(step));
            }
            Some(index) if own(&ladder[index]) => ladder[index].autonomy = step.autonomy,
            Some(_) => {}
            None => added.push(rung_of(step)),
        }
    }
    for index in free {
        if own(&ladder[index]) {
            ladder[index].outcome = Some(Outcome::NotNeeded);
        }
    }
    ladder.append(&mut added);
    ladder
}

/// Puts a rung before all that waits. What was told of keeps its number: it ends as not needed, and a copy goes behind.
pub(super) fn put_next(ladder: &mut Vec<Rung>, rung: Rung) {
    let fixed = fixed(ladder);
    let next = ladder.iter().position(waits).unwrap_or(ladder.len());
    if next >= fixed {
        ladder.insert(next, rung);
        return;
    }
    let mut behind = vec![rung];
    if superseded(ladder) < SUPERSEDED_MAX {
        for waiting in ladder[next..fixed].iter_mut().filter(|rung| waits(rung)) {
            behind.push(Rung { recommended_at: None, ..waiting.clone() });
            waiting.outcome = Some(Outcome::NotNeeded);
        }
    }
    ladder.splice(fixed..fixed, behind);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Autonomy;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn step(action: &str) -> Step {
        Step { action: action.into(), autonomy: Autonomy::Automatic, containing: false }
    }

    fn rung(action: &str) -> Rung {
        rung_of(step(action))
    }

    fn told(action: &str) -> Rung {
        Rung { recommended_at: Some(NOW), ..rung(action) }
    }

    fn tried(action: &str) -> Rung {
        Rung { attempts: 1, outcome: Some(Outcome::Failed), ..told(action) }
    }

    /// `a` waits, `a!` was recommended, `a+` was tried, `a-` is not needed.
    fn shown(ladder: &[Rung]) -> String {
        let one = |rung: &Rung| {
            let mark = match (rung.outcome, rung.recommended_at) {
                (Some(Outcome::NotNeeded), _) => "-",
                (Some(_), _) => "+",
                (None, Some(_)) => "!",
                (None, None) => "",
            };
            format!("{}{mark}", rung.action)
        };
        ladder.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// REC-2: a recommendation keeps its number; what is not wanted any more ends, and what is wanted goes behind.
    #[test]
    fn severities() {
        let wish = Rung { origin: RungOrigin::Alert("fp".into()), ..rung("w") };
        for (old, steps, expected) in [
            (vec![rung("a"), rung("b")], vec!["c", "d"], "c d"),
            (vec![told("a"), rung("b")], vec!["c", "d"], "a- c d"),
            (vec![told("a"), rung("b")], vec!["a", "b"], "a! b"),
            (vec![told("a"), rung("b")], vec!["b", "a"], "a- b a"),
            (vec![tried("a"), told("a")], vec!["a", "a"], "a+ a!"),
            (vec![tried("a"), told("a")], vec!["c"], "a+ a- c"),
            (vec![rung("p"), tried("a")], vec!["c"], "p- a+ c"),
            (vec![rung("p"), tried("a")], vec!["p", "a", "b"], "p a+ b"),
            (vec![tried("a"), wish.clone(), rung("b")], vec!["b"], "a+ w b"),
            (vec![wish, told("a")], vec!["c"], "w a- c"),
        ] {
            let merged = merged(&old, steps.into_iter().map(step).collect());
            assert_eq!(shown(&merged), expected, "{}", shown(&old));
        }
    }

    /// REC-2: the wish of an alert comes next without taking the number of another.
    #[test]
    fn wishes() {
        for (old, expected) in [
            (vec![], "w"),
            (vec![rung("a"), rung("b")], "w a b"),
            (vec![told("a"), rung("b")], "a- w a b"),
            (vec![tried("a"), rung("b")], "a+ w b"),
            (vec![rung("p"), tried("a"), told("b"), rung("c")], "p- a+ b- w p b c"),
        ] {
            let mut ladder = old.clone();
            put_next(&mut ladder, rung("w"));
            assert_eq!(shown(&ladder), expected, "{}", shown(&old));
        }
    }

    /// A severity that wavers, or an alert that comes and goes, makes no ladder grow without end.
    #[test]
    fn growth_is_bounded() {
        let mut ladder = vec![rung("a"), rung("b")];
        for round in 0..1_000 {
            let begins = superseded(&ladder) < SUPERSEDED_MAX;
            if let Some(next) = ladder.iter_mut().find(|rung| waits(rung)).filter(|_| begins) {
                next.recommended_at = Some(NOW);
            }
            let steps = if round % 2 == 0 { ["c", "d"] } else { ["a", "b"] };
            ladder = merged(&ladder, steps.map(step).to_vec());
            let before = ladder.len();
            put_next(&mut ladder, rung("w"));
            ladder.retain(|rung| rung.action != *"w" || rung.outcome.is_some());
            assert!(before <= SUPERSEDED_MAX + 8, "{}", shown(&ladder));
        }
    }
}
