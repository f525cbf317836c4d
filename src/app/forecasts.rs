//! What is expected if things go on as they do: samples in, episodes out (OBS-10).
//!
//! **Invariant:** a forecast moves no policy, holds up nothing, and wakes nobody.

use crate::detect::{self, Subject, trends};
use crate::model::{HOST, Health, Name, Quantity, Resources, is_forecast};

use super::cycle::Cycle;
use super::draft::Draft;

impl Cycle {
    /// Takes what a check has measured, and what its bot tells of itself where the check did not.
    pub(super) fn follow(&mut self, subsystem: &Name, said: &Health) {
        let own = &said.signals.measures;
        let told = said.signals.vitals.as_ref().map(|vitals| trends::of_vitals(vitals, &self.rules.detect));
        let mut taken: Vec<Quantity> = Vec::new();
        for measure in own.iter().chain(told.iter().flatten()) {
            if taken.contains(&measure.quantity) {
                continue;
            }
            taken.push(measure.quantity);
            if self.world.trends.take(subsystem, Name::from(""), measure, said.timestamp) {
                self.world.dirty_forecasts.insert(subsystem.clone());
            }
        }
    }

    /// Takes what the host has left.
    pub(super) fn follow_host(&mut self, resources: &Resources) {
        let host = Name::from(HOST);
        for (part, measure) in trends::of_host(resources, &self.rules.detect) {
            if self.world.trends.take(&host, part, &measure, resources.timestamp) {
                self.world.dirty_forecasts.insert(host.clone());
            }
        }
    }

    /// Opens, changes and lets go of the episodes of what is expected.
    pub(super) fn detect_forecasts(&mut self, draft: &mut Draft) {
        let silent = self.world.trends.forget_silent(draft.now);
        self.world.dirty_forecasts.extend(silent);
        let learnt = self.world.trends.is_learnt(draft.now);
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
