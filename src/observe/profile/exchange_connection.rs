//! `exchange_connection`: do trades still come back from the exchange?

use std::sync::Arc;

use super::{AgeLimits, BuiltIn, FileAge, FileAgeParams};
use crate::model::Criticality;

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "exchange_connection",
    criticality: Criticality::Full,
    depends_on: &[],
    build: |context| {
        let path = context.data_dir.join("recent_trades.json");
        let params = FileAgeParams::new(path, "Recent trades", AgeLimits::state_file());
        Arc::new(FileAge::new(params, context.clock.clone()))
    },
    doc: "Age of `data/recent_trades.json`: healthy below 5 minutes, degraded up to 60, critical beyond; unknown when \
          missing.",
};
