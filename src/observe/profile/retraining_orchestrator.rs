//! `retraining_orchestrator`: has models trained anew.

use super::{BuiltIn, state_file};
use crate::model::Criticality;

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "retraining_orchestrator",
    criticality: Criticality::None,
    depends_on: &["database"],
    build: |context| state_file(context, "retraining_orchestrator"),
    doc: "Age of `data/retraining_orchestrator_state.json`: healthy below 5 minutes, degraded up to 60, critical \
          beyond; unknown when missing.",
};
