//! `optimize_latency`: lowers the latency of a bot: a longer scan interval, fewer concurrent operations. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Lowers the latency of a bot: a longer scan interval, fewer concurrent operations.
pub const SPEC: ActionSpec = ActionSpec {
    name: "optimize_latency",
    expected_result: "latency lowered",
    risk: "fewer and later decisions",
    autonomy: Autonomy::Automatic,
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

What is bound lengthens the interval at which the target scans its markets and lowers the number of concurrent operations.

## Preconditions

A binding for the target.

## If interrupted

One of the two may be in force. Setting them again is harmless if the binding sets values rather than differences; then
`natural` fits.

## Reverse

None of its own. The values are raised again by hand or by tuning.

## Risk

The target decides less often and may miss an entry.
";
