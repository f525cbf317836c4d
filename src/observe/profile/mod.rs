//! Registry of the built-in subsystems of profile `quantum` (OBS-3): one file each, listed once in [`SUBSYSTEMS`].
//!
//! **Invariant:** the order is that of the specification's table; names it depends on are in the list.

use std::sync::Arc;

use super::age::AgeLimits;
use super::check::{AnyCheck, BuildContext};
use super::checks::file_age::{FileAge, FileAgeParams};
use crate::model::Criticality;

mod ai_model;
mod data_feed;
mod database;
mod event_executor;
mod exchange_connection;
mod logging;
mod model_supervisor;
mod orchestrator;
mod portfolio_balancer;
mod position_monitor;
mod retraining_orchestrator;
mod risk_guard;
mod universe_os;

/// A subsystem that chiron knows without configuration.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// How much trading depends on it.
    pub criticality: Criticality,
    /// What it needs to work.
    pub depends_on: &'static [&'static str],
    /// Makes its check.
    pub build: fn(&BuildContext) -> Arc<dyn AnyCheck>,
    /// What it is and how it is graded, for the catalog.
    pub doc: &'static str,
}

/// Every built-in subsystem, in the table's order.
pub const SUBSYSTEMS: [&BuiltIn; 13] = [
    &data_feed::BUILT_IN,
    &exchange_connection::BUILT_IN,
    &ai_model::BUILT_IN,
    &event_executor::BUILT_IN,
    &orchestrator::BUILT_IN,
    &portfolio_balancer::BUILT_IN,
    &position_monitor::BUILT_IN,
    &universe_os::BUILT_IN,
    &risk_guard::BUILT_IN,
    &model_supervisor::BUILT_IN,
    &retraining_orchestrator::BUILT_IN,
    &database::BUILT_IN,
    &logging::BUILT_IN,
];

/// The age of `data/NAME_state.json` below the data folder: 5 and 60 minutes, `unknown` when missing.
fn state_file(context: &BuildContext, name: &str) -> Arc<dyn AnyCheck> {
    let path = context.data_dir.join(format!("{name}_state.json"));
    let params = FileAgeParams::new(path, "State", AgeLimits::state_file());
    Arc::new(FileAge::new(params, context.clock.clone()))
}

#[cfg(test)]
mod tests;
