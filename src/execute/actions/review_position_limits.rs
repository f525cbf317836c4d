//! `review_position_limits`: proposes what to close, or which limit to raise. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Proposes what to close, or which limit to raise.
pub const SPEC: ActionSpec = ActionSpec {
    name: "review_position_limits",
    expected_result: "room below the limits",
    risk: "none",
    autonomy: Autonomy::Manual,
    containing: false,
    lowers_risk: false,
    raises_risk: false,
    needs_policy: None,
    holds: None,
    reverse: None,
    settle: Duration::ZERO,
    doc: DOC,
};

const DOC: &str = "\
## What it changes

Nothing. A person is shown how many positions are open of how many, by symbol, and what to close or raise. The proposal is in
`logs/failure_point_healing.jsonl` and in the details of the failure point `position_limits`.

## Preconditions

It is only ever shown: nothing can be bound to it, and no setting lets it run by itself.

## If interrupted

There is nothing to interrupt.

## Reverse

None is needed.

## Risk

None: a person decides about positions.
";
