//! `orchestrator`: decides what is traded next.

use super::{BuiltIn, state_file};
use crate::model::Criticality;

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "orchestrator",
    criticality: Criticality::Partial,
    depends_on: &["universe_os"],
    build: |context| state_file(context, "orchestrator"),
    doc: "Age of `data/orchestrator_state.json`: healthy below 5 minutes, degraded up to 60, critical beyond; unknown \
          when missing.",
};
