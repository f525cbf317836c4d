//! `universe_os`: chooses the symbols.

use super::{BuiltIn, state_file};
use crate::model::Criticality;

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "universe_os",
    criticality: Criticality::Partial,
    depends_on: &["data_feed"],
    build: |context| state_file(context, "universe_os"),
    doc: "Age of `data/universe_os_state.json`: healthy below 5 minutes, degraded up to 60, critical beyond; unknown \
          when missing.",
};
