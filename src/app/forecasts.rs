//! What is expected if things go on as they do: samples in, episodes out (OBS-10).
//!
//! **Invariant:** a forecast moves no policy, holds up nothing, and wakes nobody.

use crate::detect::{self, Subject, trends};
use crate::model::{HOST, Health, Measure, Name, Quantity, Resources, Timestamp, is_forecast};

use super::cycle::{CLOCK_TOLERANCE, Cycle};
use super::draft::Draft;

impl Cycle {
    /// Takes what a check has measured, and what its bot tells of itself where the check did not.
    pub(super) fn follow(&mut self, subsystem: &Name, said: &Health) {
        let own = &said.signals.measures;
        let mut taken: Vec<Quantity> = Vec::new();
        for measure in own {
            if taken.contains(&measure.quantity) {
                continue;
            }
            taken.push(measure.quantity);
            self.follow_one(subsystem, Name::from(""), measure, said.timestamp);
        }
        let Some(vitals) = said.signals.vitals.as_ref() else { return };
        for (part, measure) in trends::of_vitals(vitals, &self.rules.detect) {
            if !taken.contains(&measure.quantity) {
                self.follow_one(subsystem, part, &measure, said.timestamp);
            }
        }
    }

    /// Takes what the host has left.
    pub(super) fn follow_host(&mut self, resources: &Resources, now: Timestamp) {
        if resources.timestamp > now.plus(CLOCK_TOLERANCE) {
            // Read by the clock as it was before it was set back: what comes next would lie before it.
            return;
        }
        let host = Name::from(HOST);
        for (part, measure) in trends::of_host(resources, &self.rules.detect) {
            self.follow_one(&host, part, &measure, resources.timestamp);
        }
    }

    fn follow_one(&mut self, subsystem: &Name, part: Name, measure: &Measure, at: Timestamp) {
        if self.world.trends.take(subsystem, part, measure, at) {
            self.world.dirty_forecasts.insert(subsystem.clone());
        }
    }

    /// Opens, changes and lets go of the episodes of what is expected.
    pub(super) fn detect_forecasts(&mut self, draft: &mut Draft) {
        let silent = self.world.trends.forget_silent(draft.now);
        self.world.dirty_forecasts.extend(silent);
        // Once learnt, it stays so until other settings are taken.
        let learnt = self.world.forecasts_swept == Some(true) || {
            let slowest = self.rules.intervals.iter().max().copied().unwrap_or_default();
            // What is looked at less often than once in a horizon has no trend.
            self.world.trends.is_learnt(slowest.min(self.rules.detect.prediction.horizon), draft.now)
        };
        if self.world.forecasts_swept != Some(learnt) {
            // What a process before this one expected, or other settings, is compared with what is expected now.
            self.world.forecasts_swept = Some(learnt);
            let open = draft.state.open.keys().filter(|key| is_forecast(&key.kind));
            self.world.dirty_forecasts.extend(open.map(|key| key.subsystem.clone()));
        }
        for subsystem in std::mem::take(&mut self.world.dirty_forecasts) {
            if self.criticality(&subsystem).is_none() {
                continue;
            }
            let forecasts = self.world.trends.forecasts(&subsystem);
            let subject = Subject::Forecast { subsystem: &subsystem, forecasts: &forecasts, learnt };
            let found = detect::evaluate(subject, &self.rules.detect, draft.now);
            self.reconcile(draft, &subsystem, found, false, |_| None);
        }
    }
}
