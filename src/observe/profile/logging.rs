//! `logging`: does the bot still log?

use std::sync::Arc;

use super::{AgeLimits, BuiltIn};
use crate::model::Criticality;
use crate::observe::age::Missing;
use crate::observe::checks::dir_age::DirAge;
use crate::observe::probes::folder::Filter;

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "logging",
    criticality: Criticality::None,
    depends_on: &[],
    build: |context| {
        Arc::new(DirAge {
            path: context.log_dir.clone(),
            filter: Filter::new(None, &context.own_files).expect("there is no pattern to be wrong"),
            what: "Newest log".to_owned(),
            limits: AgeLimits::live_file(),
            missing: Missing::Degraded,
        })
    },
    doc: "Age of the newest file under `logs/`, chiron's own aside: healthy below 1 minute, degraded up to 5 or \
          without \
          logs, critical beyond.",
};
