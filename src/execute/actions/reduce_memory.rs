//! `reduce_memory`: lowers the use of memory: caches first, then fewer concurrent operations. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Lowers the use of memory: caches first, then fewer concurrent operations.
pub const SPEC: ActionSpec = ActionSpec {
    name: "reduce_memory",
    expected_result: "memory use lowered",
    risk: "slower, fewer operations at once",
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

What is bound frees memory, as `clear_cache` does, and then lowers the number of concurrent operations.

## Preconditions

A binding for the target, usually after `clear_cache` was not enough.

## If interrupted

Some of it may be in force. Lowering it again is harmless if the binding sets a value rather than a
difference; then `natural` fits.

## Reverse

None of its own. The number of concurrent operations is raised again by hand or by tuning.

## Risk

The target does less at once and may fall behind.
";
