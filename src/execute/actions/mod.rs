//! The registry of actions; one file per verb.
//!
//! What it answers: which verbs exist, what each promises and costs, and how far it may go by itself.
//! **Invariant:** the list is explicit and ordered, and every file of this folder is in it. Nothing here acts.

use crate::model::ActionSpec;

mod clear_cache;
mod close_all_positions;
mod defensive_exit;
mod disable_module;
mod enable_module;
mod fallback_to_backup;
mod no_new_trades;
mod optimize_latency;
mod pause_trading;
mod recover_rate_limit;
mod reduce_memory;
mod refresh_intelligence;
mod refresh_subscriptions;
mod release_kill_switch;
mod reload_config;
mod repair_websocket;
mod restart_subsystem;
mod restore_configuration;
mod restore_primary;
mod restore_profile;
mod resume_trading;
mod retry_connection;
mod review_position_limits;
mod switch_to_safe_profile;

/// Every action, in the order of SPEC 6, then those of the vitals procedures (REC-1), those of the failure points (WSP-7), then
/// the reverses.
pub const ACTIONS: [&ActionSpec; 24] = [
    &restart_subsystem::SPEC,
    &pause_trading::SPEC,
    &switch_to_safe_profile::SPEC,
    &disable_module::SPEC,
    &fallback_to_backup::SPEC,
    &close_all_positions::SPEC,
    &no_new_trades::SPEC,
    &defensive_exit::SPEC,
    &reload_config::SPEC,
    &clear_cache::SPEC,
    &reduce_memory::SPEC,
    &repair_websocket::SPEC,
    &refresh_subscriptions::SPEC,
    &recover_rate_limit::SPEC,
    &optimize_latency::SPEC,
    &refresh_intelligence::SPEC,
    &restore_configuration::SPEC,
    &release_kill_switch::SPEC,
    &retry_connection::SPEC,
    &review_position_limits::SPEC,
    &resume_trading::SPEC,
    &enable_module::SPEC,
    &restore_profile::SPEC,
    &restore_primary::SPEC,
];

/// The headings of an action's page, in order.
pub const HEADINGS: [&str; 5] = ["What it changes", "Preconditions", "If interrupted", "Reverse", "Risk"];

/// The action of that name.
pub fn action(name: &str) -> Option<&'static ActionSpec> {
    ACTIONS.into_iter().find(|spec| spec.name == name)
}

#[cfg(test)]
mod tests;
