//! `no_new_trades`: adds no exposure. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy, Level};

/// Adds no exposure.
pub const SPEC: ActionSpec = ActionSpec {
    name: "no_new_trades",
    expected_result: "no new exposure",
    risk: "cannot capitalise",
    autonomy: Autonomy::Automatic,
    containing: true,
    lowers_risk: true,
    raises_risk: false,
    needs_policy: None,
    holds: Some(Level::NoNewTrades),
    reverse: None,
    settle: Duration::ZERO,
    doc: DOC,
};

const DOC: &str = "\
## What it changes

The policy source `action` holds `no_new_trades` until the episode ends: no new positions and no larger ones;
exits, reductions and stop changes go on.

## Preconditions

None. It lowers risk, so it needs no binding, budget, cooldown or approval.

## If interrupted

The level is held from the decision on and survives a crash with the journal. A bound command is treated by
its class.

## Reverse

None of its own: the level is released with the episode.

## Risk

Chances that come while it holds cannot be taken.
";
