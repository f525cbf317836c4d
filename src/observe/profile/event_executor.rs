//! `event_executor`: does the trading loop still turn?

use std::sync::Arc;

use super::{AgeLimits, BuiltIn};
use crate::model::Criticality;
use crate::observe::checks::json::{Json, JsonParams};

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "event_executor",
    criticality: Criticality::Full,
    depends_on: &["ai_model", "data_feed", "exchange_connection"],
    build: |context| {
        let path = context.data_dir.join("event_executor_state.json");
        let params = JsonParams { limits: AgeLimits::live_file(), ..JsonParams::new(path, "Last cycle") };
        Arc::new(Json::new(params, context.clock.clone()))
    },
    doc: "Last cycle in `data/event_executor_state.json`: healthy below 1 minute, degraded up to 5, critical beyond \
          or when \
          the file is no JSON; unknown when missing.",
};
