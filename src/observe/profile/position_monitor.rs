//! `position_monitor`: watches the open positions.

use super::{BuiltIn, state_file};
use crate::model::Criticality;

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "position_monitor",
    criticality: Criticality::Partial,
    depends_on: &["exchange_connection"],
    build: |context| state_file(context, "position_monitor"),
    doc: "Age of `data/position_monitor_state.json`: healthy below 5 minutes, degraded up to 60, critical beyond; \
          unknown when missing.",
};
