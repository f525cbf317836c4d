//! `portfolio_balancer`: keeps the weights of the portfolio.

use super::{BuiltIn, state_file};
use crate::model::Criticality;

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "portfolio_balancer",
    criticality: Criticality::Partial,
    depends_on: &["position_monitor"],
    build: |context| state_file(context, "portfolio_balancer"),
    doc: "Age of `data/portfolio_balancer_state.json`: healthy below 5 minutes, degraded up to 60, critical beyond; \
          unknown when missing.",
};
