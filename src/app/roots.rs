//! Roots first: what a target depends on is healed before the target, and the target is checked again after that (OBS-6).
//!
//! **Invariant:** a dependency whose check is older than the target's trouble proves nothing; it is asked for and waited
//! for, but never for longer than [`PATIENCE`].

use std::time::Duration;

use crate::journal::Episode;
use crate::model::Timestamp;

use super::cycle::{Cycle, Effect};
use super::draft::Draft;

/// How long the checks of what a target depends on are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

impl Cycle {
    /// Whether a broken subsystem that the target depends on is healed first; or might be broken, because its check has not
    /// spoken since the target broke; or has been healed, and the target's own check has not spoken since.
    pub(super) fn waits_for_root(&mut self, draft: &Draft, episode: &Episode, effects: &mut Vec<Effect>) -> bool {
        let (id, target) = (&episode.id, &episode.key.subsystem);
        if self.graph.root_cause(target, |name| self.world.is_broken(name)).is_some() {
            self.world.recheck.insert(id.clone(), None);
            return true;
        }
        if self.waits_for_news(draft.now, episode, effects) {
            return true;
        }
        let Some(whole_since) = self.world.recheck.get_mut(id) else { return false };
        let Some(index) = self.world.index.get(target).copied() else { return false };
        let since = *whole_since.get_or_insert_with(|| {
            effects.push(Effect::ForceCheck(index));
            draft.now
        });
        if self.world.subsystems[index].health.timestamp < since {
            return true;
        }
        self.world.recheck.remove(id);
        false
    }

    /// Everything breaks at once, but checks see it one after the other: the dependant may well be seen first.
    fn waits_for_news(&mut self, now: Timestamp, episode: &Episode, effects: &mut Vec<Effect>) -> bool {
        let target = &episode.key.subsystem;
        let status_since = self.world.index.get(target).map(|index| self.world.subsystems[*index].status_since);
        // Of an issue that was opened before the clock was set back, only the check's own time is of use.
        let opened_at = if episode.opened_at > now { Timestamp::EPOCH } else { episode.opened_at };
        let since = status_since.map_or(opened_at, |since| since.max(opened_at));
        let until = since.plus(PATIENCE);
        if now >= until {
            return false;
        }
        let mut waits = false;
        for name in self.graph.needed_by(target) {
            let Some(index) = self.world.index.get(name).copied() else { continue };
            if self.world.subsystems[index].health.timestamp < since {
                waits = true;
                // Asked for once; whoever else waits for it hears of it as well.
                let waiting = self.world.news.entry(index).or_default();
                if waiting.is_empty() {
                    effects.push(Effect::ForceCheck(index));
                }
                waiting.insert(episode.id.clone());
            }
        }
        if waits {
            self.world.wake(until, &episode.id);
        }
        waits
    }
}
