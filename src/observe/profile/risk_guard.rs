//! `risk_guard`: refuses what is too risky.

use super::{BuiltIn, state_file};
use crate::model::Criticality;

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "risk_guard",
    criticality: Criticality::Full,
    depends_on: &["position_monitor"],
    build: |context| state_file(context, "risk_guard"),
    doc: "Age of `data/risk_guard_state.json`: healthy below 5 minutes, degraded up to 60, critical beyond; unknown \
          when missing.",
};
