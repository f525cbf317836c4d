//! When a recommendation has come to its one end, and what an episode remembers for its story.
//!
//! **Invariant:** pure; an end never changes again, and every recommendation has one once its episode is over.

use serde::{Deserialize, Serialize};

use crate::model::{Fingerprint, Outcome, Reason, Timestamp};

use super::{ApprovalEnd, Episode, Note};

impl Episode {
    /// The outcome that the recommendation of a rung (0-based) has ended in, if it has: it never changes again.
    ///
    /// A failed one may be tried again until a later one is recommended; a rehearsed or cancelled one until the issue is over.
    pub fn ended(&self, index: usize) -> Option<Outcome> {
        let rung = self.ladder.get(index).filter(|rung| rung.recommended_at.is_some())?;
        let outcome = rung.outcome?;
        let over = match outcome {
            Outcome::Verified | Outcome::Rejected | Outcome::NotNeeded | Outcome::Unbound | Outcome::Indeterminate => {
                true
            }
            Outcome::Failed | Outcome::Unverified => self.is_behind(index),
            Outcome::Cancelled | Outcome::DryRun => false,
        };
        (over || self.resolved_at.is_some()).then_some(outcome)
    }

    /// Whether a later rung has been recommended, so that this one (0-based) is not tried again.
    pub fn is_behind(&self, index: usize) -> bool {
        self.ladder.iter().skip(index + 1).any(|later| later.recommended_at.is_some())
    }

    /// Why the recommendation of a rung (1-based) waited last.
    pub fn last_note(&self, rung: u32) -> Option<&Note> {
        self.notes.iter().rev().find(|note| note.rung == rung)
    }

    /// It is over: every recommendation that has no outcome yet gets its one.
    pub(super) fn settle(&mut self, at: Timestamp) {
        self.resolved_at = Some(at);
        for index in 0..self.ladder.len() {
            let unbound = self.last_note(index as u32 + 1).is_some_and(|note| note.reason == Reason::Unbound);
            let rung = &mut self.ladder[index];
            if rung.recommended_at.is_some() && rung.outcome.is_none() {
                rung.outcome = Some(if unbound { Outcome::Unbound } else { Outcome::NotNeeded });
            }
        }
    }
}

/// What became of a question to a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When it was settled.
    pub at: Timestamp,
    /// 1-based.
    pub rung: u32,
    /// 1-based number of the try that it would be.
    pub attempt: u32,
    /// How.
    pub how: ApprovalEnd,
    /// Who.
    pub by: String,
    /// Why, if they said.
    pub reason: String,
}

/// An alert that an episode took in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldAlert {
    /// Since when.
    pub at: Timestamp,
    /// Our identity of it.
    pub fingerprint: Fingerprint,
    /// Its name, for people.
    pub alertname: String,
}
