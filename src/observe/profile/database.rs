//! `database`: is the SQLite file there, and is it sound?

use std::sync::Arc;
use std::time::Duration;

use super::BuiltIn;
use crate::model::Criticality;
use crate::observe::age::Missing;
use crate::observe::checks::sqlite::{Sqlite, SqliteParams};

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "database",
    criticality: Criticality::Partial,
    depends_on: &[],
    build: |context| {
        let path = context.workspace.join("backend").join("data").join("quantum_trader.db");
        let params = SqliteParams {
            missing: Missing::Critical,
            degraded_latency: Some(Duration::from_secs(1)),
            ..SqliteParams::new(path)
        };
        Arc::new(Sqlite::new(params, context.clock.clone()))
    },
    doc: "`backend/data/quantum_trader.db`: healthy if it is an SQLite database that its own check (`quick_check`, every \
          10 min) finds sound; degraded if looking at it takes 1 s or one program locks it for 15 s without writing; \
          critical if it is missing, something else, or damaged. For PostgreSQL or Redis, give it a `check` of that kind.",
};
