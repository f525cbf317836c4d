//! `clear_cache`: drops what can be computed or fetched again. **Invariant:** declares, does nothing.

use std::time::Duration;

use crate::model::{ActionSpec, Autonomy};

/// Drops what can be computed or fetched again.
pub const SPEC: ActionSpec = ActionSpec {
    name: "clear_cache",
    expected_result: "memory freed",
    risk: "slower for a while",
    autonomy: Autonomy::Automatic,
    containing: false,
    lowers_risk: false,
    raises_risk: false,
    needs_policy: None,
    holds: None,
    reverse: None,
    settle: Duration::from_secs(2),
    doc: DOC,
};

const DOC: &str = "\
## What it changes

The caches that the binding names are emptied. State, positions and market data on disk are not touched.

## Preconditions

A binding for the target.

## If interrupted

Some caches may be empty. Emptying them again is harmless, so `natural` usually fits.

## Reverse

None is needed: caches fill again by use.

## Risk

The target is slower until its caches are warm.
";
