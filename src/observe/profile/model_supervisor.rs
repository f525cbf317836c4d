//! `model_supervisor`: judges how well the models do.

use super::{BuiltIn, state_file};
use crate::model::Criticality;

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "model_supervisor",
    criticality: Criticality::None,
    depends_on: &["ai_model"],
    build: |context| state_file(context, "model_supervisor"),
    doc: "Age of `data/model_supervisor_state.json`: healthy below 5 minutes, degraded up to 60, critical beyond; \
          unknown when missing.",
};
