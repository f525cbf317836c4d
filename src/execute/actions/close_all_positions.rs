//! `close_all_positions`: closes every position at the market. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Closes every position at the market.
pub const SPEC: ActionSpec = ActionSpec {
    name: "close_all_positions",
    expected_result: "flat",
    risk: "realised losses",
    autonomy: Autonomy::Approval,
    containing: false,
    lowers_risk: false,
    raises_risk: false,
    needs_policy: None,
    holds: None,
    reverse: None,
    settle: Duration::from_secs(5),
    doc: DOC,
};

const DOC: &str = "\
## What it changes

Every open position is closed by what the binding calls. The policy is not changed by it; bots are told
through `defensive_exit` and `emergency_shutdown`.

## Preconditions

A binding, and a person's approval, unless the configuration has given it beforehand.

## If interrupted

Some positions may be closed and others not. It is never done again by itself unless its class says that doing
it twice is harmless; a person decides.

## Reverse

None. What was closed has to be opened again as a new decision.

## Risk

Losses become real, and closing everything at once moves the price.
";
