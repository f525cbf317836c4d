//! Whether a resolved alert may be believed (ALR-2, `docs/reliability.md` invariant 11).

use crate::journal::Record;
use crate::model::{Fingerprint, HOST, Status};

use super::cycle::Cycle;
use super::draft::Draft;

impl Cycle {
    /// The Watchdog, where one is configured, has been seen lately; and chiron's own check is healthy, where it has one.
    pub(super) fn is_proven(&self, draft: &Draft, subsystem: &str) -> bool {
        self.watchdog_alive(draft) && self.own_check_agrees(draft, subsystem)
    }

    pub(super) fn watchdog_alive(&self, draft: &Draft) -> bool {
        let Some(watchdog) = &self.rules.alerts.watchdog else { return true };
        self.world.watchdog_at.is_some_and(|last| draft.now.since(last) < watchdog.absent_after)
    }

    fn own_check_agrees(&self, draft: &Draft, subsystem: &str) -> bool {
        if subsystem == HOST {
            return !draft.state.episodes.values().any(|episode| {
                let now = episode.by_check && !crate::model::is_forecast(&episode.key.kind);
                episode.key.subsystem == *HOST && now
            });
        }
        // A subsystem that is configured no longer has no check of its own.
        !self.world.index.contains_key(subsystem) || self.world.status(subsystem) == Status::Healthy
    }

    /// Believes alerts that said resolved earlier, now that the proof is there.
    pub(super) fn believe(&mut self, draft: &mut Draft) {
        let unproven: Vec<Fingerprint> = self.world.unproven.iter().cloned().collect();
        for fingerprint in unproven {
            let Some(alert) = draft.state.alerts.get(&fingerprint).cloned() else {
                self.world.unproven.remove(&fingerprint);
                continue;
            };
            let subsystem = draft.state.episodes.get(&alert.episode).map(|episode| episode.key.subsystem.clone());
            if subsystem.as_ref().is_none_or(|subsystem| self.is_proven(draft, subsystem)) {
                self.world.unproven.remove(&fingerprint);
                self.world.dirty_episodes.insert(alert.episode.clone());
                let index = subsystem.and_then(|subsystem| self.world.index.get(&subsystem).copied());
                self.world.dirty_subsystems.extend(index);
                draft.push(Record::AlertBelieved { fingerprint, episode: alert.episode.clone() });
            }
        }
    }
}
