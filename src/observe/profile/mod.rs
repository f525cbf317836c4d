//! The built-in subsystems.

use std::sync::Arc;

use super::check::{AnyCheck, BuildContext};
use super::checks::Nothing;
use crate::model::Criticality;

/// A built-in subsystem.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// How much trading depends on it.
    pub criticality: Criticality,
    /// What it needs.
    pub depends_on: &'static [&'static str],
    /// Builds its check.
    pub build: fn(&BuildContext) -> Arc<dyn AnyCheck>,
    /// The doc page.
    pub doc: &'static str,
}

fn build(_: &BuildContext) -> Arc<dyn AnyCheck> {
    Arc::new(Nothing)
}

/// Every one, in the order of OBS-3.
pub const SUBSYSTEMS: [&BuiltIn; 13] = [
    &BuiltIn { name: "data_feed", criticality: Criticality::Full, depends_on: &[], build, doc: "" },
    &BuiltIn { name: "exchange_connection", criticality: Criticality::Full, depends_on: &[], build, doc: "" },
    &BuiltIn { name: "ai_model", criticality: Criticality::Partial, depends_on: &[], build, doc: "" },
    &BuiltIn { name: "event_executor", criticality: Criticality::Full, depends_on: &["ai_model"], build, doc: "" },
    &BuiltIn { name: "orchestrator", criticality: Criticality::Partial, depends_on: &[], build, doc: "" },
    &BuiltIn { name: "portfolio_balancer", criticality: Criticality::Partial, depends_on: &[], build, doc: "" },
    &BuiltIn { name: "position_monitor", criticality: Criticality::Partial, depends_on: &[], build, doc: "" },
    &BuiltIn { name: "universe_os", criticality: Criticality::Partial, depends_on: &[], build, doc: "" },
    &BuiltIn { name: "risk_guard", criticality: Criticality::Full, depends_on: &[], build, doc: "" },
    &BuiltIn { name: "model_supervisor", criticality: Criticality::None, depends_on: &["ai_model"], build, doc: "" },
    &BuiltIn { name: "retraining_orchestrator", criticality: Criticality::None, depends_on: &[], build, doc: "" },
    &BuiltIn { name: "database", criticality: Criticality::Partial, depends_on: &[], build, doc: "" },
    &BuiltIn { name: "logging", criticality: Criticality::None, depends_on: &[], build, doc: "" },
];
