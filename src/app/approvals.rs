//! What waits for a person: asked with exactly what would be done, answered once, in time (`docs/reliability.md`,
//! invariant 13).
//!
//! **Invariant:** an approval is consumed in the transaction that writes `run_started`; what was shown and has changed since
//! is not begun.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::admit::Verdict;
use crate::base::redact;
use crate::journal::{ApprovalEnd, Episode, Question, Record};
use crate::model::{EpisodeId, Level, Name, Outcome, Reason, RunKey, Timestamp};

use super::cycle::{Cycle, Effect, Refused};
use super::draft::Draft;

/// The actor of what nobody answered.
const ITSELF: &str = "chiron";

/// A person's answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `rec_N_` and the id.
    pub recommendation: String,
    /// The digest that was shown.
    pub digest: String,
    /// Who.
    pub by: String,
    /// Why, if they said.
    pub reason: String,
}

impl Cycle {
    /// Asks what recovery wants to ask; whatever was shown under another level is asked anew.
    pub(super) fn ask(&mut self, draft: &mut Draft, level_before: Level) {
        let mut keys = std::mem::take(&mut self.world.asking);
        if draft.state.level() != level_before {
            keys.extend(draft.state.questions.keys().cloned());
        }
        for key in keys {
            if let Some(episode) = draft.state.episodes.get(&key.episode).cloned() {
                self.keep_question(draft, &episode, &key);
            }
        }
    }

    /// Keeps the question of a rung that a person has to approve: asked, asked anew once it has expired or what it shows
    /// has changed.
    fn keep_question(&mut self, draft: &mut Draft, episode: &Episode, key: &RunKey) {
        self.withdraw_questions(draft, &episode.id, Some(key));
        if !self.world.journal_ok {
            return;
        }
        let Some(rung) = episode.ladder.get((key.rung as usize).saturating_sub(1)) else { return };
        let (action, target) = (rung.action.clone(), episode.key.subsystem.clone());
        if let Some(asked) = draft.state.questions.get(key).cloned() {
            let same = asked.digest == self.digest(draft, key, &action, &target, asked.asked_at);
            // A clock that was set back makes no question young.
            let expired = draft.now >= asked.expires_at || draft.now < asked.asked_at;
            if same && !expired {
                self.world.wake(asked.expires_at, &episode.id);
                return;
            }
            let how = if expired { ApprovalEnd::Expired } else { ApprovalEnd::Withdrawn };
            end(draft, key, &asked, how, ITSELF, "");
            if expired {
                self.tell_person(draft, episode, Reason::Expired);
            }
        }
        let expires_at = draft.now.plus(self.rules.admit.approval_valid);
        let digest = self.digest(draft, key, &action, &target, draft.now);
        self.world.wake(expires_at, &episode.id);
        draft.push(Record::ApprovalAsked { key: key.clone(), action, target, digest, expires_at });
    }

    /// Takes back what was asked for an episode, but for one question.
    pub(super) fn withdraw_questions(&self, draft: &mut Draft, id: &EpisodeId, but: Option<&RunKey>) {
        let from = RunKey { episode: id.clone(), rung: 0, attempt: 0 };
        let asked = draft.state.questions.range(from..).take_while(|(key, _)| key.episode == *id);
        let gone: Vec<(RunKey, Question)> =
            asked.filter(|(key, _)| but != Some(*key)).map(|(key, question)| (key.clone(), question.clone())).collect();
        for (key, question) in gone {
            end(draft, &key, &question, ApprovalEnd::Withdrawn, ITSELF, "");
        }
    }

    /// The run, what would do it, the policy in force and the settings, as one number; the time keeps questions apart. For what
    /// raises risk also the issue in its words: a yes to one kill switch is none to the next.
    fn digest(&self, draft: &Draft, key: &RunKey, action: &Name, target: &Name, asked_at: Timestamp) -> String {
        let (episode, key, means) = (key.episode.clone(), key.to_string(), self.means(action, target));
        let (level, generation) = (draft.state.level(), draft.state.config_generation);
        let raises_risk = (self.rules.catalog)(action).is_some_and(|spec| spec.raises_risk);
        let about =
            draft.state.episodes.get(&episode).filter(|_| raises_risk).map(|episode| &episode.facts.description);
        let shown = (key, action, target, means, level, generation, asked_at.millis(), about);
        let text = serde_json::to_vec(&shown).expect("text and numbers are JSON");
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What would be done, in one line for people.
    pub(super) fn means(&self, action: &Name, target: &Name) -> String {
        means(&self.rules, action, target)
    }

    /// Begins what a person has approved, or says why not.
    pub(super) fn approve(
        &mut self,
        draft: &mut Draft,
        answer: &Answer,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        let (key, question, episode) = self.answered(draft, answer)?;
        let index = (key.rung as usize).saturating_sub(1);
        let admission = self.admission(draft, &episode, index, true, effects);
        let dry_run = match admission.verdict {
            Verdict::Run => false,
            Verdict::Rehearse => true,
            Verdict::Wait | Verdict::Ask | Verdict::No => {
                let reason = admission.reason.as_str();
                return Err(Refused::Conflict(format!("it cannot begin now ({reason}); the question stays open")));
            }
        };
        let spec = episode.ladder.get(index).and_then(|rung| (self.rules.catalog)(&rung.action));
        let Some(spec) = spec else { return Err(Refused::Conflict("its action is known no longer".to_owned())) };
        end(draft, &key, &question, ApprovalEnd::Approved, &answer.by, &answer.reason);
        self.start(draft, &episode, index, spec, dry_run, effects);
        self.world.dirty_episodes.insert(episode.id.clone());
        Ok(key.to_string())
    }

    /// Settles a rung that a person does not want; what comes after it waits for a person as well.
    pub(super) fn reject(&mut self, draft: &mut Draft, answer: &Answer) -> Result<String, Refused> {
        let (key, question, episode) = self.answered(draft, answer)?;
        end(draft, &key, &question, ApprovalEnd::Rejected, &answer.by, &answer.reason);
        self.world.dirty_episodes.insert(episode.id.clone());
        Ok(key.to_string())
    }

    /// The question that an answer is to, if it is open and still shows what was shown.
    fn answered(&self, draft: &Draft, answer: &Answer) -> Result<(RunKey, Question, Arc<Episode>), Refused> {
        let named = &answer.recommendation;
        let parts = named.strip_prefix("rec_").and_then(|rest| rest.split_once('_'));
        let (rung, id) = parts
            .and_then(|(rung, id)| Some((rung.parse::<u32>().ok()?, EpisodeId::from(id))))
            .ok_or_else(|| Refused::NotFound(format!("`{named}` is no recommendation, expected rec_N_ISSUE")))?;
        let Some(episode) = draft.state.episodes.get(&id).cloned() else {
            return Err(Refused::NotFound(format!("issue `{id}` is not open")));
        };
        let from = RunKey { episode: id.clone(), rung, attempt: 0 };
        let asked = draft.state.questions.range(from..).next();
        let Some((key, question)) = asked.filter(|(key, _)| key.episode == id && key.rung == rung) else {
            return Err(Refused::Conflict(format!("`{named}` does not wait for an approval")));
        };
        if self.world.blind.contains_key("clock_jump") {
            return Err(Refused::Conflict("the clock was just set; ask again in a minute".to_owned()));
        }
        if !self.world.journal_ok {
            return Err(Refused::Conflict("the journal cannot be written, so nothing may be begun".to_owned()));
        }
        if self.world.unseen > 0 {
            let why = "not every check has answered since the start; what was shown may be over";
            return Err(Refused::Conflict(why.to_owned()));
        }
        // The ladder may have changed under the question: the rung is then another one, or tried already.
        let same = episode.ladder.get((rung as usize).saturating_sub(1));
        let same = same.filter(|now| now.action == question.action && now.attempts + 1 == key.attempt);
        let shown = self.digest(draft, key, &question.action, &question.target, question.asked_at);
        if same.is_none() || question.digest != answer.digest || question.digest != shown {
            let what = "what was shown has changed, or was answered or asked anew";
            return Err(Refused::Conflict(format!("{what}; look at the recommendation again")));
        }
        if draft.now >= question.expires_at || draft.now < question.asked_at {
            return Err(Refused::Conflict(format!("the question expired at {}; look again", question.expires_at)));
        }
        Ok((key.clone(), question.clone(), episode))
    }
}

/// What would be done, in one line for people.
pub(super) fn means(rules: &super::cycle::Rules, action: &Name, target: &Name) -> String {
    match rules.bindings.get(&(action.clone(), target.clone())) {
        // Its arguments may hold what nobody is to see.
        Some(binding) => redact::text(&binding.actuator.describe()).into_owned(),
        None => match (rules.catalog)(action).and_then(|spec| spec.holds) {
            Some(level) => format!("policy {level} is held"),
            None => "nothing is bound to it".to_owned(),
        },
    }
}

/// Whether a person said no to a rung: nothing on the ladder runs by itself any more.
pub(super) fn was_rejected(episode: &Episode) -> bool {
    episode.ladder.iter().any(|rung| rung.outcome == Some(Outcome::Rejected))
}

fn end(draft: &mut Draft, key: &RunKey, question: &Question, how: ApprovalEnd, by: &str, reason: &str) {
    draft.push(Record::ApprovalEnded {
        key: key.clone(),
        digest: question.digest.clone(),
        how,
        by: by.to_owned(),
        reason: reason.to_owned(),
    });
}
