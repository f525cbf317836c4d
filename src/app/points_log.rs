//! From the journal to the lines of `logs/failure_point_healing.jsonl` (WSP-7).
//!
//! In: entries, in order. Out: at most one line for each entry, which carries the entry's number: a line that is in the log
//! already is known by it, also after a crash.
//! **Invariant:** pure.

use std::collections::{HashMap, HashSet};

use crate::journal::{ApprovalEnd, Entry, Episode, IssueFacts, Record, Rung, State};
use crate::model::{
    Ending, EpisodeId, EpisodeKey, IssueSource, Name, Outcome, PLATFORM, Reason, RunKey, Timestamp, is_forecast,
};
use crate::publish::{HealingStep, LogMark, PointHealing};

use super::recovery::number;

/// The failure point whose end is a release.
const KILL_SWITCH: &str = "kill_switch";
/// The action whose tries are told one by one.
const RETRY: &str = "retry_connection";
/// The action that brings files back.
const RESTORE: &str = "restore_configuration";

/// What is known of the issues of failure points.
#[derive(Debug, Default)]
pub(super) struct Story {
    issues: HashMap<EpisodeId, Known>,
    rehearsed: HashSet<RunKey>,
    /// Proposals that were told, and when they were first: they are held up again and again.
    suggested: HashMap<(EpisodeId, u32), Timestamp>,
}

/// One issue.
#[derive(Debug)]
struct Known {
    key: EpisodeKey,
    description: String,
    rungs: Vec<(Name, bool)>,
    /// An action has helped.
    helped: bool,
}

/// What a line is made of besides its issue.
struct Told {
    step: HealingStep,
    detail: String,
    action: Option<Name>,
    run: Option<RunKey>,
}

impl Story {
    /// What a state knows: the issues that entries from here on, or shortly before, may be about.
    pub(super) fn of(state: &State) -> Self {
        let mut story = Self::default();
        for episode in state.ended_episodes.iter().chain(state.episodes.values()) {
            story.learn(episode);
        }
        for episode in state.episodes.values() {
            for note in episode.notes.iter().filter(|note| is_proposal(note.reason)) {
                let first = story.suggested.entry((episode.id.clone(), note.rung)).or_insert(note.at);
                *first = note.at.min(*first);
            }
        }
        story.rehearsed = state.runs.values().filter(|run| run.dry_run).map(|run| run.key.clone()).collect();
        story
    }

    /// Issues that had ended before what is told now are over.
    pub(super) fn forget_ended(&mut self, state: &State) {
        self.issues.retain(|id, _| state.episodes.contains_key(id));
        self.suggested.retain(|(id, _), _| state.episodes.contains_key(id));
        self.rehearsed.retain(|key| state.episodes.contains_key(&key.episode));
    }

    /// Whether no issue of a failure point is open.
    pub(super) fn is_over(&self) -> bool {
        self.issues.is_empty()
    }

    fn learn(&mut self, episode: &Episode) {
        self.note(&episode.id, &episode.key, &episode.facts, &episode.ladder);
        let helped = |rung: &Rung| rung.outcome == Some(Outcome::Verified) && !rung.containing;
        if let Some(known) = self.issues.get_mut(&episode.id) {
            known.helped = episode.ladder.iter().any(helped);
        }
    }

    fn note(&mut self, id: &EpisodeId, key: &EpisodeKey, facts: &IssueFacts, ladder: &[Rung]) {
        if facts.source != IssueSource::FailurePoint || is_forecast(&key.kind) {
            return;
        }
        let helped = self.issues.get(id).is_some_and(|known| known.helped);
        let rungs = ladder.iter().map(|rung| (rung.action.clone(), rung.containing)).collect();
        let known = Known { key: key.clone(), description: facts.description.clone(), rungs, helped };
        self.issues.insert(id.clone(), known);
    }

    /// The line of an entry, if it is a step of healing what a failure point found. `suggestion` is what a failure point
    /// proposes now, by its category.
    pub(super) fn line(&mut self, entry: &Entry, suggestion: impl Fn(&str) -> Option<String>) -> Option<PointHealing> {
        let (id, told) = match &entry.record {
            Record::EpisodeOpened { id, key, facts, ladder, .. } => {
                self.note(id, key, facts, ladder);
                return None;
            }
            Record::EpisodeChanged { id, facts, ladder, .. } => {
                let key = self.issues.get(id)?.key.clone();
                self.note(id, &key, facts, ladder);
                return None;
            }
            Record::EpisodeResolved { id } => {
                let told = self.resolved(id);
                let line = told.and_then(|told| self.finish(entry, id, told));
                self.issues.remove(id);
                self.suggested.retain(|(of, _), _| of != id);
                self.rehearsed.retain(|key| key.episode != *id);
                return line;
            }
            Record::RecommendationHeld { episode, rung, reason, .. } => {
                (episode, self.held(episode, *rung, (*reason, entry.at), &suggestion)?)
            }
            Record::RungSkipped { episode, rung, outcome } => {
                let action = self.action(episode, *rung);
                (
                    episode,
                    Told { step: HealingStep::Suggested, detail: unbound(*outcome).to_owned(), action, run: None },
                )
            }
            Record::ApprovalAsked { key, action, expires_at, .. } => {
                let detail = format!("waits for a person until {expires_at}: {}", self.description(&key.episode));
                let action = Some(action.clone());
                (&key.episode, Told { step: HealingStep::Asked, detail, action, run: Some(key.clone()) })
            }
            Record::ApprovalEnded { key, how: ApprovalEnd::Rejected, by, reason, .. } => {
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                (&key.episode, self.of_run(key, HealingStep::Failed, format!("rejected by {by}{why}")))
            }
            record => {
                let (key, step, detail) = self.of_record(record)?;
                (&key.episode, self.of_run(key, step, detail))
            }
        };
        self.finish(entry, id, told)
    }

    /// The step of a run.
    fn of_record<'r>(&mut self, record: &'r Record) -> Option<(&'r RunKey, HealingStep, String)> {
        Some(match record {
            Record::RunIntended { key, dry_run, .. } => {
                if *dry_run {
                    self.rehearsed.insert(key.clone());
                }
                return None;
            }
            Record::RunStarted { key, .. } if !self.rehearsed.contains(key) => {
                (key, HealingStep::Started, self.description(&key.episode).to_owned())
            }
            Record::RunResumed { key } => (key, HealingStep::Started, "done again after a restart".to_owned()),
            Record::RunFinished { key, ending, detail, changed, .. } if !self.rehearsed.contains(key) => {
                match self.action(&key.episode, key.rung)?.as_str() {
                    RETRY => (key, HealingStep::Retried, detail.clone()),
                    RESTORE if *ending == Ending::Ok => {
                        let told = if changed.is_empty() { detail } else { changed };
                        (key, HealingStep::Restored, told.clone())
                    }
                    _ => return None,
                }
            }
            Record::RunVerified { key, outcome, detail } => {
                self.rehearsed.remove(key);
                let step = match outcome {
                    Outcome::Verified => HealingStep::Verified,
                    Outcome::DryRun => HealingStep::Suggested,
                    _ => HealingStep::Failed,
                };
                let index = (key.rung as usize).saturating_sub(1);
                if let Some(known) = self.issues.get_mut(&key.episode) {
                    let heals = known.rungs.get(index).is_some_and(|(_, containing)| !containing);
                    known.helped |= heals && *outcome == Outcome::Verified;
                }
                let detail = match outcome {
                    Outcome::Unverified => format!("unverified: {detail}"),
                    _ => detail.clone(),
                };
                (key, step, detail)
            }
            Record::RunCancelled { key, reason } => {
                self.rehearsed.remove(key);
                (key, HealingStep::Failed, format!("not begun: {}", reason.as_str()))
            }
            Record::RunIndeterminate { key, detail } => {
                (key, HealingStep::Failed, format!("nobody knows how it ended: {detail}"))
            }
            _ => return None,
        })
    }

    /// The end of an issue: a kill switch is released, whoever did it; what no action has helped is over by itself.
    fn resolved(&self, id: &EpisodeId) -> Option<Told> {
        let known = self.issues.get(id)?;
        let told = |step, detail: String| Some(Told { step, detail, action: None, run: None });
        if known.key.kind == *KILL_SWITCH {
            let how =
                if known.helped { "after its release was approved" } else { "by itself, or by a person in the bot" };
            return told(HealingStep::Released, format!("verified as released, {how}; it was: {}", known.description));
        }
        if known.helped || known.rungs.is_empty() {
            return None;
        }
        told(HealingStep::Verified, format!("over by itself: {}", known.description))
    }

    fn held(
        &mut self,
        id: &EpisodeId,
        rung: u32,
        (reason, at): (Reason, Timestamp),
        suggestion: &impl Fn(&str) -> Option<String>,
    ) -> Option<Told> {
        let known = self.issues.get(id)?;
        let detail = match reason {
            Reason::Manual => suggestion(&known.key.kind).unwrap_or_else(|| known.description.clone()),
            Reason::Unbound => format!("{}: {}", unbound(Outcome::Unbound), known.description),
            _ => return None,
        };
        let proposal = (id.clone(), rung);
        // The first one is itself told if a crash has kept it from the log.
        if self.suggested.get(&proposal).is_some_and(|first| *first < at) {
            return None;
        }
        self.suggested.insert(proposal, at);
        Some(Told { step: HealingStep::Suggested, detail, action: self.action(id, rung), run: None })
    }

    fn of_run(&self, key: &RunKey, step: HealingStep, detail: String) -> Told {
        Told { step, detail, action: self.action(&key.episode, key.rung), run: Some(key.clone()) }
    }

    fn description(&self, id: &EpisodeId) -> &str {
        self.issues.get(id).map_or("", |known| &known.description)
    }

    fn action(&self, id: &EpisodeId, rung: u32) -> Option<Name> {
        let rungs = &self.issues.get(id)?.rungs;
        rungs.iter().enumerate().find(|(index, _)| number(*index) == rung).map(|(_, (action, _))| action.clone())
    }

    fn finish(&self, entry: &Entry, id: &EpisodeId, told: Told) -> Option<PointHealing> {
        let known = self.issues.get(id)?;
        let Told { step, detail, action, run } = told;
        Some(PointHealing {
            timestamp: entry.at,
            category: known.key.kind.clone(),
            symbol: known.key.symbol.clone(),
            action,
            step,
            detail: of_whom(&known.key.subsystem, detail),
            episode: Some(id.clone()),
            run,
            seq: Some(entry.seq),
        })
    }
}

/// Whether a rung that is held up for that is a proposal to a person.
fn is_proposal(reason: Reason) -> bool {
    matches!(reason, Reason::Manual | Reason::Unbound)
}

/// Where the log goes on: behind its latest line, if that is of this journal; `last` is the journal's last entry at the start
/// and `at` the time of the entry that the line names.
pub(super) fn goes_on_after(line: Option<&LogMark>, at: Option<Timestamp>, last: u64) -> u64 {
    let seq = line.filter(|line| at == Some(line.timestamp)).map_or(last, |line| line.seq);
    // A crash loses the lines of a moment; more is not read for it.
    seq.min(last).max(last.saturating_sub(GAP_MAX))
}

/// Entries that are looked through for lines that a crash has lost.
const GAP_MAX: u64 = 10_000;

fn unbound(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unbound => "nothing is bound to it",
        _ => "it was passed over",
    }
}

/// The platform is nobody in particular.
fn of_whom(subsystem: &Name, detail: String) -> String {
    if *subsystem == *PLATFORM || detail.contains(subsystem.as_str()) {
        return detail;
    }
    format!("{subsystem}: {detail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WSP-7: the log goes on where it stopped, and behind the present if it is another journal's.
    #[test]
    fn where_it_goes_on() {
        let at = Timestamp::from_millis(5_000);
        let line = |seq| LogMark { seq, timestamp: at };
        assert_eq!(goes_on_after(None, None, 40), 40);
        assert_eq!(goes_on_after(Some(&line(30)), Some(at), 40), 30);
        assert_eq!(goes_on_after(Some(&line(30)), Some(Timestamp::from_millis(5_001)), 40), 40, "another journal's");
        assert_eq!(goes_on_after(Some(&line(50)), None, 40), 40, "another journal's, which was longer");
        assert_eq!(goes_on_after(Some(&line(30)), Some(at), 40_000), 30_000, "bounded");
    }
}
