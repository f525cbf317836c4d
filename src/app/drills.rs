//! A rehearsal of a recovery, in staging: the failure is pretended, the bound action is real, and so is the verification
//! (ACT-3).
//!
//! **Invariant:** never where real money is at stake, never beside a real problem, and it moves no policy by itself.

use std::sync::Arc;

use crate::admit::Verdict;
use crate::journal::{IssueFacts, Record, Rung, RungOrigin};
use crate::model::{Autonomy, EpisodeKey, IssueSource, Name, RunKey, Severity, Status};

use super::cycle::{Cycle, Effect, Refused};
use super::draft::Draft;

/// The type of a drill's issue.
pub const DRILL: &str = "drill";

impl Cycle {
    /// Opens a drill's episode and begins its action, or says why not. The id of the episode.
    pub(super) fn drill(
        &mut self,
        draft: &mut Draft,
        subsystem: &str,
        (by, reason): (&str, &str),
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        self.may_drill(draft, subsystem)?;
        let target = Name::from(subsystem);
        let rung = self.drilled(&target)?;
        let action = rung.action.clone();
        let key = EpisodeKey { subsystem: target.clone(), symbol: None, kind: DRILL.into() };
        let id = draft.state.new_episode_id(subsystem, draft.now);
        let facts = IssueFacts {
            severity: Severity::Low,
            description: format!("drill: {action} of {subsystem}"),
            symptoms: vec![format!("{by}: {reason}")],
            root_cause: None,
            impacts_trading: false,
            moves_policy: false,
            affects_subsystems: Vec::new(),
            source: IssueSource::Drill,
        };
        let episode = crate::journal::Episode {
            id: id.clone(),
            key: key.clone(),
            facts: facts.clone(),
            ladder: vec![rung.clone()],
            by_check: false,
            alerts: Vec::new(),
            flapping: false,
            opened_at: draft.now,
            resolved_at: None,
            escalated: None,
            run: None,
            began_at: None,
            notes: Vec::new(),
            replies: Vec::new(),
            told: Vec::new(),
        };
        let admission = self.admission(draft, &episode, 0, false, effects);
        if admission.verdict != Verdict::Run {
            let until = admission.not_before.map_or_else(String::new, |at| format!(" until {at}"));
            let reason = admission.reason.as_str();
            return Err(Refused::Conflict(format!("{action} of {subsystem} cannot begin now: {reason}{until}")));
        }
        let (by, reason) = (by.to_owned(), reason.to_owned());
        draft.push(Record::DrillAsked { episode: id.clone(), by, reason });
        draft.push(Record::EpisodeOpened {
            id: id.clone(),
            key,
            facts,
            ladder: vec![rung],
            by_check: false,
            began_at: None,
        });
        let Some(spec) = (self.rules.catalog)(&action) else {
            return Err(Refused::Conflict(format!("{action} is known no longer")));
        };
        self.start(draft, &Arc::new(episode), 0, spec, false, effects);
        let begun = RunKey { episode: id.clone(), rung: 1, attempt: 1 };
        debug_assert!(draft.state.runs.contains_key(&begun), "a drill has begun its action");
        self.world.dirty_episodes.insert(id.clone());
        Ok(id.to_string())
    }

    fn may_drill(&self, draft: &Draft, subsystem: &str) -> Result<(), Refused> {
        let Some(index) = self.world.index.get(subsystem).copied() else {
            return Err(Refused::NotFound(format!("no subsystem `{subsystem}` is configured and enabled")));
        };
        let conflict = |text: &str| Err(Refused::Conflict(text.to_owned()));
        if self.rules.admit.dry_run {
            return conflict("chiron acts on nothing in dry-run; a drill needs `mode: paper`");
        }
        if self.rules.real_money {
            return Err(Refused::Forbidden(
                "a drill carries the real action out; it is taken with `mode: paper` only".to_owned(),
            ));
        }
        if !self.world.journal_ok {
            return conflict("the journal cannot be written, so nothing may be begun");
        }
        let status = self.world.subsystems[index].health.status;
        if status != Status::Healthy {
            return Err(Refused::Conflict(format!(
                "`{subsystem}` is {status}, expected healthy: a drill proves nothing beside a real problem"
            )));
        }
        if draft.state.open.keys().any(|key| key.subsystem == *subsystem) {
            return Err(Refused::Conflict(format!("`{subsystem}` has an open issue; a drill waits for its end")));
        }
        Ok(())
    }

    /// The first healing rung of a critical ladder that has a means.
    fn drilled(&self, target: &Name) -> Result<Rung, Refused> {
        let kind = crate::detect::rules::SUBSYSTEM_STATUS;
        let ladder = self.ladder(target, kind, Severity::Critical, &[]);
        let healing = ladder.into_iter().find(|rung| !rung.containing && self.binding(&rung.action, target).is_some());
        healing
            .map(|rung| Rung { autonomy: Autonomy::Automatic, origin: RungOrigin::Ladder, ..rung })
            .ok_or_else(|| Refused::Conflict(format!("no healing action is bound to `{target}`; see `bindings`")))
    }
}
