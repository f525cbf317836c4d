//! `switch_to_safe_profile`: trades on with less risk. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy, Level};

/// Trades on with less risk.
pub const SPEC: ActionSpec = ActionSpec {
    name: "switch_to_safe_profile",
    expected_result: "exposure reduced, system stabilised",
    risk: "reduced profit",
    autonomy: Autonomy::Automatic,
    containing: true,
    lowers_risk: true,
    raises_risk: false,
    needs_policy: None,
    holds: Some(Level::SafeRiskProfile),
    reverse: Some("restore_profile"),
    settle: Duration::ZERO,
    doc: DOC,
};

const DOC: &str = "\
## What it changes

The policy source `action` holds `safe_risk_profile` until the episode ends: leverage at most 5, half sizes,
tighter stops. What is bound besides switches the bot's own profile.

## Preconditions

None. It lowers risk, so it needs no binding, budget, cooldown or approval.

## If interrupted

The level is held from the decision on and survives a crash with the journal. A bound command is treated by
its class.

## Reverse

`restore_profile`, when the episode ends, if it is configured so. The level itself is released with the
episode.

## Risk

Smaller positions earn less.
";
