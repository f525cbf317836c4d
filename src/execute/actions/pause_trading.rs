//! `pause_trading`: stops opening and increasing positions; positions stay. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy, Level};

/// Stops opening and increasing positions; positions stay.
pub const SPEC: ActionSpec = ActionSpec {
    name: "pause_trading",
    expected_result: "trading stopped",
    risk: "missed opportunities",
    autonomy: Autonomy::Automatic,
    containing: true,
    lowers_risk: true,
    raises_risk: false,
    needs_policy: None,
    holds: Some(Level::NoNewTrades),
    reverse: Some("resume_trading"),
    settle: Duration::ZERO,
    doc: DOC,
};

const DOC: &str = "\
## What it changes

The policy source `action` holds `no_new_trades` until the episode ends: no position is opened or increased,
positions stay, closing and reducing go on. What is bound besides tells the bot in its own way.

## Preconditions

None. It lowers risk, so it needs no binding, budget, cooldown or approval.

## If interrupted

The level is held from the decision on and survives a crash with the journal. A bound command is treated by
its class.

## Reverse

`resume_trading`, when the episode ends, if it is configured so. The level itself is released with the
episode.

## Risk

Opportunities are missed while it holds.
";
