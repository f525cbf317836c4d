//! What recovery asks of the actions of failure points (WSP-7): not before their time, with their own pauses, and beside what
//! their own issue holds.
//!
//! **Invariant:** pure; a kill switch that is active by right is not touched, whoever asks.

use std::time::Duration;

use crate::admit::{Admission, Verdict};
use crate::journal::{Episode, State};
use crate::model::{EpisodeId, Level, Name, Reason, Timestamp};
use crate::recommend;

use super::cycle::Cycle;
use super::recovery::last_try;

/// The pause before each try of a connection: from when it was to be tried, then from the end of the try before.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];

impl Cycle {
    /// What is for the overdue alone waits while nothing is, also if an alert asks for it or a person has approved it.
    pub(super) fn is_too_early(&self, episode: &Episode, action: &Name) -> Option<Admission> {
        let wrong = recommend::only_overdue(action) && !self.is_overdue(&episode.key.subsystem, &episode.key.kind);
        wrong.then_some(Admission { verdict: Verdict::Wait, reason: Reason::Unconfirmed, not_before: None })
    }
}

/// Until when a rung that only asks waits; `None` for any other.
pub(super) fn pause(state: &State, episode: &Episode, index: usize, now: Timestamp) -> Option<Timestamp> {
    let rung = episode.ladder.get(index).filter(|rung| recommend::only_asks(&rung.action))?;
    let pause = PAUSES[(rung.attempts as usize).min(PAUSES.len() - 1)];
    let from = match rung.attempts {
        0 => rung.recommended_at.unwrap_or(episode.opened_at),
        attempts => last_try(state, episode, index, attempts).1.unwrap_or(episode.opened_at),
    };
    // A clock that was set back prolongs nothing.
    Some(from.min(now).plus(pause))
}

/// The level that is held beside what an episode itself holds.
pub(super) fn level_beside(state: &State, own: &EpisodeId) -> Level {
    let latched = if state.latch.is_some() { Level::EmergencyShutdown } else { Level::AllowAll };
    let others = state.holds.iter().filter(|(key, _)| key.subject != *own);
    others.map(|(_, hold)| hold.level).fold(latched, Level::max)
}
