//! The registry of actions; one file per verb.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy, Level};

const fn spec(name: &'static str, autonomy: Autonomy, holds: Option<Level>) -> ActionSpec {
    ActionSpec {
        name,
        expected_result: "",
        risk: "",
        autonomy,
        containing: false,
        lowers_risk: false,
        holds,
        reverse: None,
        settle: Duration::ZERO,
        doc: "",
    }
}

/// Every action, in the order of SPEC 6.
pub const ACTIONS: [&ActionSpec; 10] = [
    &spec("restart_subsystem", Autonomy::Automatic, None),
    &spec("pause_trading", Autonomy::Automatic, Some(Level::NoNewTrades)),
    &spec("switch_to_safe_profile", Autonomy::Automatic, Some(Level::SafeRiskProfile)),
    &spec("disable_module", Autonomy::Automatic, None),
    &spec("fallback_to_backup", Autonomy::Automatic, None),
    &spec("close_all_positions", Autonomy::Approval, None),
    &spec("no_new_trades", Autonomy::Automatic, Some(Level::NoNewTrades)),
    &spec("defensive_exit", Autonomy::Approval, Some(Level::DefensiveExit)),
    &spec("reload_config", Autonomy::Manual, None),
    &spec("clear_cache", Autonomy::Automatic, None),
];

/// The action of that name.
pub fn action(name: &str) -> Option<&'static ActionSpec> {
    ACTIONS.into_iter().find(|spec| spec.name == name)
}
